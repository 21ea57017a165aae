//! Faults on demand: what AWS does on a bad day.

use std::sync::Mutex;
use std::time::Duration;

/// How an invocation of a function is called here, beside the operations of AWS.
pub(super) const INVOKE: &str = "Invoke";

/// A fault that the gateway makes when its time has come.
///
/// ```
/// use serin_local::gateway::{Effect, Fault};
///
/// // The second UpdateRoute of the function shift-weight is throttled.
/// let fault = Fault::on("UpdateRoute").by("shift-weight").nth(2).with(Effect::Refuse {
///     status: 429,
///     error: "TooManyRequestsException".to_owned(),
///     message: "slow down".to_owned(),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Option<String>,
    by: By,
    first: u32,
    every: u32,
    times: u32,
    effects: Vec<Effect>,
    seen: u32,
    made: u32,
}

/// Whose calls a fault meets.
#[derive(Debug, Clone)]
enum By {
    Anybody,
    AnyFunction,
    Function(String),
}

/// What happens to the call that a fault meets.
#[derive(Debug, Clone)]
pub enum Effect {
    /// The call is answered with an error and never reaches the service. An invocation of a function is answered with a
    /// function error of that name.
    Refuse {
        /// The HTTP status.
        status: u16,
        /// The error's name, such as `ThrottlingException`.
        error: String,
        /// The error's text.
        message: String,
    },
    /// The call is carried out, but its answer is lost: the caller gets a 503.
    LoseAnswer,
    /// The call is carried out after a while.
    Delay(Duration),
    /// The connection is closed in the caller's face, and the call never reaches the service.
    Close,
    /// The call never reaches the service, and the caller waits for an answer for as long as it likes.
    Silence,
    /// The call is carried out, and before its answer is there the process of the function that made it is killed. On an
    /// invocation, the process is killed when it has answered and nobody has heard it yet.
    Kill,
}

impl Effect {
    /// A 500 `InternalServerError`.
    pub fn internal_error() -> Self {
        Self::Refuse {
            status: 500,
            error: "InternalServerError".to_owned(),
            message: "a fault of the local cloud".to_owned(),
        }
    }
}

impl Fault {
    /// A fault on the next call of an operation (`UpdateRoute`), or on the next invocation of a function (`Invoke`). It
    /// refuses with a 500 `InternalServerError` unless told otherwise.
    pub fn on(operation: &str) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            by: By::Anybody,
            first: 1,
            every: 1,
            times: 1,
            effects: vec![Effect::internal_error()],
            seen: 0,
            made: 0,
        }
    }

    /// A fault on the next call that a function makes, whatever it asks for.
    pub fn on_any_call() -> Self {
        Self {
            operation: None,
            by: By::AnyFunction,
            ..Self::on("")
        }
    }

    /// Only calls made by this function, or invocations of it.
    #[must_use]
    pub fn by(mut self, function: &str) -> Self {
        self.by = By::Function(function.to_owned());
        self
    }

    /// Only from the n-th such call on; the first is 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.first = n.max(1);
        self
    }

    /// Every n-th such call, for as long as the cloud is up: the n-th, the 2n-th, and so on.
    #[must_use]
    pub fn every(mut self, n: u32) -> Self {
        self.every = n.max(1);
        self.first = self.every;
        self.times = u32::MAX;
        self
    }

    /// So many calls in a row.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// What happens.
    #[must_use]
    pub fn with(self, effect: Effect) -> Self {
        self.with_in_turn([effect])
    }

    /// What happens to the first call, to the second, and so on, and then from the beginning.
    ///
    /// # Panics
    ///
    /// When nothing is to happen.
    #[must_use]
    pub fn with_in_turn(mut self, effects: impl IntoIterator<Item = Effect>) -> Self {
        self.effects = effects.into_iter().collect();
        assert!(!self.effects.is_empty(), "a fault does something");
        self
    }

    fn meets(&self, operation: &str, function: Option<&str>) -> bool {
        let asked = match &self.operation {
            Some(this) => this == operation,
            None => operation != INVOKE,
        };
        let by = match &self.by {
            By::Anybody => true,
            By::AnyFunction => function.is_some(),
            By::Function(this) => Some(this.as_str()) == function,
        };
        asked && by
    }

    /// What happens to the next call that it meets.
    fn next(&mut self) -> Option<Effect> {
        self.seen += 1;
        if self.seen < self.first || !(self.seen - self.first).is_multiple_of(self.every) {
            return None;
        }
        let effect = &self.effects[self.made as usize % self.effects.len()];
        self.made += 1;
        Some(effect.clone())
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// Makes no more faults.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// What happens to this call, if anything does.
    pub(crate) fn meet(&self, operation: &str, function: Option<&str>) -> Option<Effect> {
        self.lock()
            .iter_mut()
            .filter(|fault| fault.made < fault.times && fault.meets(operation, function))
            .find_map(Fault::next)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Fault, Faults};

    #[test]
    fn a_fault_meets_the_call_it_was_made_for_and_no_other() {
        let faults = Faults::default();
        faults.add(
            Fault::on("UpdateRoute")
                .by("shift-weight")
                .nth(2)
                .with(Effect::LoseAnswer),
        );
        assert!(faults.meet("UpdateRoute", Some("rollback")).is_none());
        assert!(faults.meet("UpdateRoute", Some("shift-weight")).is_none());
        assert!(faults.meet("DescribeRoute", Some("shift-weight")).is_none());
        assert!(matches!(
            faults.meet("UpdateRoute", Some("shift-weight")),
            Some(Effect::LoseAnswer)
        ));
        assert!(faults.meet("UpdateRoute", Some("shift-weight")).is_none());
    }

    #[test]
    fn every_third_call_of_a_function_meets_the_effects_in_turn() {
        let faults = Faults::default();
        faults.add(
            Fault::on_any_call()
                .every(3)
                .with_in_turn([Effect::Close, Effect::Silence]),
        );
        let call = |function| match faults.meet("DescribeServices", function) {
            None => '-',
            Some(Effect::Close) => 'c',
            Some(_) => 's',
        };
        assert_eq!(call(None), '-', "a person's calls are not met");
        let met: String = (0..12).map(|_| call(Some("rollback"))).collect();
        assert_eq!(met, "--c--s--c--s");
        assert!(faults.meet(super::INVOKE, Some("rollback")).is_none());
        faults.clear();
        assert!((0..3).all(|_| faults.meet("DescribeServices", Some("rollback")).is_none()));
    }
}

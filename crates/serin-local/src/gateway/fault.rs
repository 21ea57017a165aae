//! Faults on demand: what AWS does on a bad day.

use std::sync::Mutex;
use std::time::Duration;

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
    operation: String,
    function: Option<String>,
    skip: u32,
    times: u32,
    effect: Effect,
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
}

impl Fault {
    /// A fault on the next call of an operation (`UpdateRoute`), or on the next invocation of a function (`Invoke`). It
    /// refuses with a 500 `InternalServerError` unless told otherwise.
    pub fn on(operation: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            function: None,
            skip: 0,
            times: 1,
            effect: Effect::Refuse {
                status: 500,
                error: "InternalServerError".to_owned(),
                message: "a fault of the local cloud".to_owned(),
            },
        }
    }

    /// Only calls made by this function, or invocations of it.
    #[must_use]
    pub fn by(mut self, function: &str) -> Self {
        self.function = Some(function.to_owned());
        self
    }

    /// Only from the n-th such call on; the first is 1.
    #[must_use]
    pub fn nth(mut self, n: u32) -> Self {
        self.skip = n.saturating_sub(1);
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
    pub fn with(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    fn meets(&self, operation: &str, function: Option<&str>) -> bool {
        self.operation == operation
            && (self.function.is_none() || self.function.as_deref() == function)
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// What happens to this call, if anything does.
    pub(crate) fn meet(&self, operation: &str, function: Option<&str>) -> Option<Effect> {
        let mut faults = self.lock();
        let fault = faults
            .iter_mut()
            .find(|fault| fault.times > 0 && fault.meets(operation, function))?;
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        fault.times -= 1;
        Some(fault.effect.clone())
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
}

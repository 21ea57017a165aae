//! Why executions were stopped. AWS keeps the error and the cause that `StopExecution` gives, moto forgets them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use serde_json::Value;

/// What was said when an execution was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The error's name.
    pub(crate) error: Option<String>,
    /// The cause.
    pub(crate) cause: Option<String>,
}

/// Every stop so far, by the execution's ARN.
#[derive(Debug, Default)]
pub(super) struct Stops(Mutex<BTreeMap<String, Stop>>);

impl Stops {
    /// Keeps what a `StopExecution` says; of several, the first has stopped it.
    pub(super) fn hear(&self, request: &Value) {
        let text = |member: &str| request[member].as_str().map(ToOwned::to_owned);
        let stop = Stop {
            error: text("error"),
            cause: text("cause"),
        };
        if let Some(execution) = text("executionArn") {
            self.lock().entry(execution).or_insert(stop);
        }
    }

    pub(super) fn of(&self, execution: &str) -> Option<Stop> {
        self.lock().get(execution).cloned()
    }

    /// Adds to the answer of a `DescribeExecution` why the execution was stopped, if it was.
    pub(super) fn complete(&self, answer: &mut Value) {
        let execution = answer["executionArn"].as_str().unwrap_or_default();
        let stop = self.of(execution).filter(|_| answer["status"] == "ABORTED");
        let Stop { error, cause } = stop.unwrap_or_default();
        for (member, said) in [("error", error), ("cause", cause)] {
            if let Some(said) = said {
                answer[member] = said.into();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stop>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Stops;

    #[test]
    fn an_execution_that_was_stopped_says_why_and_one_that_had_ended_by_itself_does_not() {
        let stops = Stops::default();
        for cause in ["a newer one", "too late"] {
            let request = json!({"executionArn": "first", "error": "Superseded", "cause": cause});
            stops.hear(&request);
        }
        let described = |execution: &str, status: &str| {
            let mut answer = json!({"executionArn": execution, "status": status});
            stops.complete(&mut answer);
            answer
        };
        assert_eq!(
            described("first", "ABORTED"),
            json!({
                "executionArn": "first", "status": "ABORTED", "error": "Superseded", "cause": "a newer one",
            })
        );
        for (execution, status) in [("first", "SUCCEEDED"), ("second", "ABORTED")] {
            let as_it_was = json!({"executionArn": execution, "status": status});
            assert_eq!(described(execution, status), as_it_was);
        }
    }
}

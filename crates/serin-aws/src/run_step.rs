//! How a step becomes a Lambda.

use jiff::Timestamp;
use lambda_runtime::tracing::{self, Instrument};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin::verdict::cut;

use crate::adapters::Adapters;
use crate::error::chain;
use crate::tell::tell;

/// How many characters of an error's message travel on. An execution's cause has room for 32,768, of which the list of what is
/// left may take half, and a message full of quotes grows fourfold when it is put into JSON twice.
const LONGEST_MESSAGE: usize = 3500;

/// Why an invocation failed, on its way to Step Functions.
#[derive(Debug)]
pub enum Failed<E> {
    /// The payload is not the step's input; the state machine and the function do not fit together.
    MalformedInput(serde_json::Error),
    /// The step's own error. The name of its variant is the error name that the state machine catches.
    Step(E),
}

impl<E: std::error::Error + Into<&'static str>> From<Failed<E>> for Diagnostic {
    fn from(failed: Failed<E>) -> Self {
        match failed {
            Failed::MalformedInput(error) => Self {
                error_type: "MalformedInput".to_owned(),
                error_message: format!("the payload is not this step's input: {error}"),
            },
            Failed::Step(error) => {
                let error_message = cut(&chain(&error), LONGEST_MESSAGE);
                let name: &'static str = error.into();
                Self {
                    error_type: name.to_owned(),
                    error_message,
                }
            }
        }
    }
}

/// Runs a step as a Lambda: builds the adapters once, and answers each invocation with the step's output, or with its
/// error under the name of the error's variant.
///
/// # Errors
/// When the environment lacks something or the Lambda runtime ends.
pub async fn run_step<I, O, E, F>(name: &'static str, step: F) -> Result<(), lambda_runtime::Error>
where
    I: DeserializeOwned,
    O: Serialize,
    E: std::error::Error + Into<&'static str>,
    F: AsyncFn(&Adapters, I) -> Result<O, E>,
{
    tracing::init_default_subscriber();
    let adapters = Adapters::from_environment(name).await.map_err(|error| {
        tracing::error!(step = name, %error, "cannot start");
        // As text, because the error that `main` returns is printed in its debug form.
        error.to_string()
    })?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let execution = event
            .payload
            .get("execution")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let span = tracing::info_span!("step", step = name, execution);
        let answering = async {
            let payload = with_invocation(event.payload, &event.context.request_id);
            let answer = answer(&adapters, &step, payload.clone()).await;
            let answer = answer.map_err(Diagnostic::from);
            Box::pin(tell(&adapters, name, &payload, answer.as_ref())).await;
            answer
        };
        answering.instrument(span).await
    }))
    .await
}

/// The payload with the invocation that brought it, over whatever the caller said of that: its id, by which `CloudTrail` knows it, and
/// when it came. Only functions that no state machine calls have a use for it.
fn with_invocation(mut payload: Value, request_id: &str) -> Value {
    if let Value::Object(fields) = &mut payload {
        let invocation = serde_json::json!({ "requestId": request_id, "at": Timestamp::now() });
        fields.insert("invocation".to_owned(), invocation);
    }
    payload
}

async fn answer<I, O, E, F>(
    adapters: &Adapters,
    step: &F,
    payload: Value,
) -> Result<Value, Failed<E>>
where
    I: DeserializeOwned,
    O: Serialize,
    E: std::error::Error,
    F: AsyncFn(&Adapters, I) -> Result<O, E>,
{
    let input = serde_json::from_value(payload).map_err(|error| {
        tracing::error!(%error, "malformed input");
        Failed::MalformedInput(error)
    })?;
    // Boxed, because a step's future holds all of the SDK's within it: too deep for the compiler to lay out in one piece.
    match Box::pin(step(adapters, input)).await {
        Ok(output) => {
            tracing::info!("answered");
            Ok(serde_json::to_value(output).expect("an answer has string keys only"))
        }
        Err(error) => {
            tracing::warn!(error = chain(&error), "failed");
            Err(Failed::Step(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum StepError {
        #[error("the canary did not start")]
        CanaryNotStarting(#[source] std::num::ParseIntError),
    }

    impl From<StepError> for &'static str {
        fn from(error: StepError) -> Self {
            match error {
                StepError::CanaryNotStarting(_) => "CanaryNotStarting",
            }
        }
    }

    #[test]
    fn the_error_name_is_the_variant_and_the_message_has_the_whole_chain() {
        let source = "x".parse::<u8>().unwrap_err();
        let diagnostic = Diagnostic::from(Failed::Step(StepError::CanaryNotStarting(source)));
        assert_eq!(diagnostic.error_type, "CanaryNotStarting");
        assert_eq!(
            diagnostic.error_message,
            "the canary did not start: invalid digit found in string"
        );
    }

    #[test]
    fn nobody_can_say_that_a_call_came_by_another_invocation() {
        let payload = with_invocation(serde_json::json!({"invocation": "forged", "a": 1}), "r-1");
        assert_eq!(payload["invocation"]["requestId"], "r-1");
        assert_eq!(payload["a"], 1);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Long(String);

    impl From<Long> for &'static str {
        fn from(_: Long) -> Self {
            "Long"
        }
    }

    #[test]
    fn the_longest_message_leaves_room_for_the_list_in_an_executions_cause() {
        let diagnostic = Diagnostic::from(Failed::Step(Long("\"".repeat(100_000))));
        let lambda = serde_json::json!({ "errorMessage": diagnostic.error_message }).to_string();
        let cause = serde_json::json!({ "why": lambda }).to_string();
        let room = serin::report::CAUSE_LIMIT - serin::report::LONGEST_LIST;
        assert!(cause.len() < room, "{}", cause.len());
    }

    #[test]
    fn a_payload_that_is_no_input_has_a_name_of_its_own() {
        let error = serde_json::from_str::<u8>("\"five\"").unwrap_err();
        let diagnostic = Diagnostic::from(Failed::<StepError>::MalformedInput(error));
        assert_eq!(diagnostic.error_type, "MalformedInput");
        assert!(
            diagnostic
                .error_message
                .starts_with("the payload is not this step's input: invalid type")
        );
    }
}

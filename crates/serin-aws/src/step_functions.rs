//! Executions, started and stopped; the recovery is one of a state machine of its own.

use serde_json::Value;
use serin::ports::Recoveries;
use serin::{ExecutionArn, PortError};

use crate::error::{failed, has_code, refused};

const START: &str = "Step Functions StartExecution";

/// How many characters the cause of a stopped execution may have.
const LONGEST_CAUSE: usize = 1000;

/// Starts executions of the state machine that repairs what a dead execution has left.
#[derive(Debug, Clone)]
pub struct StepFunctionsRecoveries {
    step_functions: aws_sdk_sfn::Client,
    state_machine: Option<String>,
}

impl StepFunctionsRecoveries {
    pub(crate) fn new(step_functions: aws_sdk_sfn::Client) -> Self {
        Self {
            step_functions,
            state_machine: None,
        }
    }

    pub(crate) fn of(self, state_machine: Option<String>) -> Self {
        Self {
            state_machine,
            ..self
        }
    }
}

impl Recoveries for StepFunctionsRecoveries {
    async fn start(&self, deployment: &ExecutionArn, name: &str) -> Result<(), PortError> {
        let Some(machine) = &self.state_machine else {
            return Err(refused(
                START,
                "the function's environment names no state machine".to_owned(),
            ));
        };
        let input = serde_json::json!({ "recover": deployment });
        start(&self.step_functions, machine, name, &input).await
    }
}

/// Starts an execution; does nothing if one of that name has run already.
pub(crate) async fn start(
    step_functions: &aws_sdk_sfn::Client,
    machine: &str,
    name: &str,
    input: &Value,
) -> Result<(), PortError> {
    let request = step_functions
        .start_execution()
        .state_machine_arn(machine)
        .name(name)
        .input(input.to_string());
    match request.send().await {
        Err(error) if has_code(&error, "ExecutionAlreadyExists") => Ok(()),
        answer => answer.map(drop).map_err(failed(START)),
    }
}

/// Stops an execution; does nothing if it is forgotten.
pub(crate) async fn stop(
    step_functions: &aws_sdk_sfn::Client,
    execution: &ExecutionArn,
    error: &str,
    why: &str,
) -> Result<(), PortError> {
    let request = step_functions
        .stop_execution()
        .execution_arn(execution.as_str())
        .error(error)
        .cause(serin::verdict::cut(why, LONGEST_CAUSE));
    match request.send().await {
        Err(error) if has_code(&error, "ExecutionDoesNotExist") => Ok(()),
        answer => answer
            .map(drop)
            .map_err(failed("Step Functions StopExecution")),
    }
}

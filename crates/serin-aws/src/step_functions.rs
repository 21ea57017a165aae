//! The recovery, as executions of a state machine of its own.

use serin::ports::Recoveries;
use serin::{ExecutionArn, PortError};

use crate::error::{failed, has_code, refused};

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
        const CALL: &str = "Step Functions StartExecution";
        let Some(machine) = &self.state_machine else {
            return Err(refused(
                CALL,
                "the function's environment names no state machine".to_owned(),
            ));
        };
        let request = self
            .step_functions
            .start_execution()
            .state_machine_arn(machine)
            .name(name)
            .input(serde_json::json!({ "recover": deployment }).to_string());
        match request.send().await {
            // One of that name has run already.
            Err(error) if has_code(&error, "ExecutionAlreadyExists") => Ok(()),
            answer => answer.map(drop).map_err(failed(CALL)),
        }
    }
}

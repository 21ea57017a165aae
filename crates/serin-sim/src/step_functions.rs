//! AWS Step Functions: executions, as far as a test says that there are some.

use std::collections::BTreeMap;

use aws_sdk_sfn::operation::describe_execution::{DescribeExecutionInput, DescribeExecutionOutput};
use aws_sdk_sfn::types::ExecutionStatus;
use aws_smithy_types::DateTime;

use crate::wire::Refusal;
use crate::world::World;

/// The executions of the account: status by ARN.
#[derive(Debug, Default)]
pub(crate) struct StepFunctions {
    pub(crate) executions: BTreeMap<String, (ExecutionStatus, i64)>,
}

pub(crate) fn describe_execution(
    world: &mut World,
    input: &DescribeExecutionInput,
) -> Result<DescribeExecutionOutput, Refusal> {
    let arn = input.execution_arn().unwrap_or_default();
    let parts: Vec<&str> = arn.split(':').collect();
    let [_, _, "states", region, account, "execution", machine, name] = parts.as_slice() else {
        return Err(Refusal::new("InvalidArn", format!("Invalid Arn: '{arn}'")));
    };
    let (status, started) = world
        .step_functions
        .executions
        .get(arn)
        .cloned()
        .ok_or_else(|| {
            Refusal::new(
                "ExecutionDoesNotExist",
                format!("Execution Does Not Exist: '{arn}'"),
            )
        })?;
    let stopped = (status != ExecutionStatus::Running).then(|| DateTime::from_secs(world.now()));
    Ok(DescribeExecutionOutput::builder()
        .execution_arn(arn)
        .state_machine_arn(format!(
            "arn:aws:states:{region}:{account}:stateMachine:{machine}"
        ))
        .name(*name)
        .status(status)
        .start_date(DateTime::from_secs(started))
        .set_stop_date(stopped)
        .build()
        .expect("all members are set"))
}

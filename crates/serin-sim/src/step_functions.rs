//! AWS Step Functions: executions, as far as a test says that there are some.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sfn::operation::describe_execution::{DescribeExecutionInput, DescribeExecutionOutput};
use aws_sdk_sfn::operation::send_task_success::{SendTaskSuccessInput, SendTaskSuccessOutput};
use aws_sdk_sfn::operation::start_execution::{StartExecutionInput, StartExecutionOutput};
use aws_sdk_sfn::operation::stop_execution::{StopExecutionInput, StopExecutionOutput};
use aws_sdk_sfn::types::ExecutionStatus;
use aws_smithy_types::DateTime;

use crate::wire::Refusal;
use crate::world::World;

/// The executions of the account: status by ARN.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepFunctions {
    pub(crate) executions: BTreeMap<String, (ExecutionStatus, i64)>,
    /// Those that a call has started and that nobody runs yet.
    pub(crate) started: Vec<Started>,
    /// The inputs of all that calls have started, by ARN.
    inputs: BTreeMap<String, String>,
    /// The tasks that wait for an answer, by their tokens.
    pub(crate) waiting: BTreeSet<String>,
    /// The answers that were sent to them, in order.
    pub(crate) answers: Vec<String>,
}

/// An execution that a call has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its ARN.
    pub execution: String,
    /// Its input.
    pub input: String,
}

pub(crate) fn start_execution(
    world: &mut World,
    input: &StartExecutionInput,
) -> Result<StartExecutionOutput, Refusal> {
    let machine = input.state_machine_arn().unwrap_or_default();
    let name = input
        .name()
        .expect("whoever starts an execution twice must give it a name");
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_+!@.()=,'".contains(letter);
    if name.is_empty() || name.len() > 80 || !name.chars().all(legal) {
        return Err(Refusal::new(
            "InvalidName",
            format!("Invalid Name: '{name}'"),
        ));
    }
    let execution = format!(
        "{}:{name}",
        machine.replacen(":stateMachine:", ":execution:", 1)
    );
    let text = input.input().unwrap_or("{}").to_owned();
    let now = world.now();
    let functions = &mut world.step_functions;
    match functions.executions.get(&execution) {
        // The same name and input while it runs is the same execution.
        Some((ExecutionStatus::Running, _)) if functions.inputs.get(&execution) == Some(&text) => {}
        Some(_) => {
            return Err(Refusal::new(
                "ExecutionAlreadyExists",
                format!("Execution Already Exists: '{execution}'"),
            ));
        }
        None => {
            functions
                .executions
                .insert(execution.clone(), (ExecutionStatus::Running, now));
            functions.inputs.insert(execution.clone(), text.clone());
            functions.started.push(Started {
                execution: execution.clone(),
                input: text,
            });
        }
    }
    let (_, started) = functions.executions[&execution];
    Ok(StartExecutionOutput::builder()
        .execution_arn(execution)
        .start_date(DateTime::from_secs(started))
        .build()
        .expect("all members are set"))
}

/// An error's name and its cause have a limit each.
const LONGEST: (usize, usize) = (256, 32_768);

/// An execution that has ended stays as it is.
pub(crate) fn stop_execution(
    world: &mut World,
    input: &StopExecutionInput,
) -> Result<StopExecutionOutput, Refusal> {
    let length = |text: Option<&str>| text.unwrap_or_default().len();
    if length(input.error()) > LONGEST.0 || length(input.cause()) > LONGEST.1 {
        return Err(Refusal::new(
            "ValidationException",
            "error or cause is too long",
        ));
    }
    let arn = input.execution_arn().unwrap_or_default();
    let now = world.now();
    let (status, _) = world
        .step_functions
        .executions
        .get_mut(arn)
        .ok_or_else(|| {
            Refusal::new(
                "ExecutionDoesNotExist",
                format!("Execution Does Not Exist: '{arn}'"),
            )
        })?;
    if *status == ExecutionStatus::Running {
        *status = ExecutionStatus::Aborted;
    }
    Ok(StopExecutionOutput::builder()
        .stop_date(DateTime::from_secs(now))
        .build()
        .expect("all members are set"))
}

pub(crate) fn send_task_success(
    world: &mut World,
    input: &SendTaskSuccessInput,
) -> Result<SendTaskSuccessOutput, Refusal> {
    let functions = &mut world.step_functions;
    let output = input.output().unwrap_or_default();
    if serde_json::from_str::<serde_json::Value>(output).is_err() {
        return Err(Refusal::new(
            "InvalidOutput",
            "the output is not valid JSON",
        ));
    }
    if !functions
        .waiting
        .remove(input.task_token().unwrap_or_default())
    {
        return Err(Refusal::new("TaskTimedOut", "Task Timed Out"));
    }
    functions.answers.push(output.to_owned());
    Ok(SendTaskSuccessOutput::builder().build())
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

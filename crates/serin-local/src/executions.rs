//! Executions of the state machine: started, followed to their end, and read.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::moto::{Moto, MotoError, Service};

/// How often an execution is looked at while it runs.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The state in which a recovery ends that found nothing to do.
const NOTHING_TO_RECOVER: &str = "Nothing to recover";

/// One execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Its ARN, by which it is known to the ledger too.
    pub arn: String,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The new version is the stable one. The only ending with which an execution succeeds.
    Promoted,
    /// Everything is as it was.
    RolledBack,
    /// Something is left for a person, or the execution was stopped or timed out.
    NeedsAttention,
    /// Nothing was begun: the request or the world did not allow it.
    Refused,
}

/// A state that was entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntered {
    /// The state's name, a sentence.
    pub name: String,
    /// When it was entered.
    pub at: Timestamp,
}

/// What is known of an execution while it runs.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The states entered so far, oldest first.
    pub states: Vec<StateEntered>,
    /// The newest verdict, as the health check wrote it.
    pub verdict: Option<Value>,
}

impl Progress {
    /// The state in which the execution is.
    pub fn state(&self) -> Option<&str> {
        self.states.last().map(|state| state.name.as_str())
    }

    /// Whether a state of this name has been entered.
    pub fn has_entered(&self, name: &str) -> bool {
        self.states.iter().any(|state| state.name == name)
    }

    /// The newest verdict's sentence.
    pub fn verdict_sentence(&self) -> Option<&str> {
        self.verdict.as_ref()?["sentence"].as_str()
    }
}

/// What came of an execution.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The execution.
    pub execution: Execution,
    /// Step Functions' status: SUCCEEDED, FAILED, ABORTED, `TIMED_OUT`.
    pub status: String,
    /// The error's name, if it failed.
    pub error: Option<String>,
    /// The cause as it was written, if it failed.
    pub cause: Option<String>,
    /// The output, if it succeeded.
    pub output: Option<Value>,
    /// The states entered, oldest first.
    pub states: Vec<StateEntered>,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

impl Outcome {
    /// How the deployment ended.
    pub fn ending(&self) -> Ending {
        match (self.status.as_str(), self.error.as_deref()) {
            ("SUCCEEDED", _) => Ending::Promoted,
            (_, Some("CanaryRolledBack")) => Ending::RolledBack,
            ("FAILED", Some(_)) if self.last_state() == Some("Refused") => Ending::Refused,
            _ => Ending::NeedsAttention,
        }
    }

    /// Of a recovery: whether it found anything to do.
    pub fn has_recovered(&self) -> bool {
        !self.path().contains(&NOTHING_TO_RECOVER)
    }

    /// Of a recovery that found something to do: what the deployment came to.
    pub fn recovered_to(&self) -> Ending {
        let ending = self.report().unwrap_or_default()["ending"].take();
        match (self.status.as_str(), ending.as_str()) {
            ("SUCCEEDED", Some("promoted")) => Ending::Promoted,
            ("SUCCEEDED", Some("rolledBack")) => Ending::RolledBack,
            _ => Ending::NeedsAttention,
        }
    }

    /// The report with which the deployment ended: from the output of one that succeeded, from the cause of one that
    /// failed.
    pub fn report(&self) -> Option<Value> {
        let whole = match &self.output {
            Some(output) => output.clone(),
            None => serde_json::from_str(self.cause.as_deref()?).ok()?,
        };
        match whole.get("report") {
            Some(report) => Some(report.clone()),
            None => whole.is_object().then_some(whole),
        }
    }

    /// Why it ended so, as one sentence.
    pub fn why(&self) -> String {
        let report = self.report().unwrap_or_default();
        let said = ["why", "errorMessage"]
            .iter()
            .find_map(|member| report[*member].as_str());
        match (said, &self.cause) {
            (Some(said), _) => said.to_owned(),
            (None, Some(cause)) => cause.clone(),
            (None, None) => format!("the execution ended as {}", self.status),
        }
    }

    /// Every verdict, oldest first, as the execution reports them.
    pub fn verdicts(&self) -> Vec<Value> {
        let report = self.report().unwrap_or_default();
        report["verdicts"].as_array().cloned().unwrap_or_default()
    }

    /// How many state transitions AWS would charge for.
    pub fn transitions(&self) -> usize {
        self.states.len()
    }

    /// The names of the states entered, oldest first.
    pub fn path(&self) -> Vec<&str> {
        self.states
            .iter()
            .map(|state| state.name.as_str())
            .collect()
    }

    fn last_state(&self) -> Option<&str> {
        self.states.last().map(|state| state.name.as_str())
    }
}

/// One look at an execution.
#[derive(Debug, Clone)]
pub struct Look {
    /// How far it has come.
    pub progress: Progress,
    /// What came of it, once it has ended.
    pub outcome: Option<Outcome>,
}

/// Starts an execution with the input.
pub(crate) async fn start(
    moto: &Moto,
    state_machine: &str,
    input: &Value,
) -> Result<Execution, MotoError> {
    let service = input["service"].as_str().unwrap_or("deployment");
    // Names of executions may be used once in ninety days.
    let name: String = format!("{service}-{}", Timestamp::now().as_millisecond())
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || "-_".contains(letter) {
                letter
            } else {
                '-'
            }
        })
        .collect();
    let request =
        json!({"stateMachineArn": state_machine, "name": name, "input": input.to_string()});
    let started = moto
        .call(Service::StepFunctions, "StartExecution", &request)
        .await?;
    Ok(Execution {
        arn: started["executionArn"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    })
}

/// Stops an execution. No Catch runs, as on AWS.
pub(crate) async fn stop(moto: &Moto, execution: &Execution) -> Result<(), MotoError> {
    let request =
        json!({"executionArn": execution.arn, "error": "Stopped", "cause": "stopped by a person"});
    moto.call(Service::StepFunctions, "StopExecution", &request)
        .await?;
    Ok(())
}

/// Follows an execution to its end and tells what it does whenever it is looked at.
pub(crate) async fn follow(
    moto: &Moto,
    execution: &Execution,
    mut observe: impl FnMut(&Progress),
) -> Result<Outcome, MotoError> {
    loop {
        let look = look(moto, execution).await?;
        observe(&look.progress);
        if let Some(outcome) = look.outcome {
            return Ok(outcome);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Looks at an execution once.
pub(crate) async fn look(moto: &Moto, execution: &Execution) -> Result<Look, MotoError> {
    // First the status, so that the history of one that has ended is complete.
    let described = describe(moto, execution).await?;
    let progress = progress(moto, execution).await?;
    let status = described["status"].as_str().unwrap_or_default();
    let text = |member: &str| described[member].as_str().map(ToOwned::to_owned);
    let outcome = (status != "RUNNING").then(|| Outcome {
        execution: execution.clone(),
        status: status.to_owned(),
        error: text("error"),
        cause: text("cause"),
        output: text("output").and_then(|output| serde_json::from_str(&output).ok()),
        states: progress.states.clone(),
        started: moment(&described["startDate"]),
        ended: moment(&described["stopDate"]),
    });
    Ok(Look { progress, outcome })
}

async fn describe(moto: &Moto, execution: &Execution) -> Result<Value, MotoError> {
    let request = json!({"executionArn": execution.arn});
    moto.call(Service::StepFunctions, "DescribeExecution", &request)
        .await
}

/// Reads how far an execution has come.
async fn progress(moto: &Moto, execution: &Execution) -> Result<Progress, MotoError> {
    let request = json!({"executionArn": execution.arn, "maxResults": 1000});
    let history = moto
        .call(Service::StepFunctions, "GetExecutionHistory", &request)
        .await?;
    let mut progress = Progress::default();
    for event in history["events"].as_array().into_iter().flatten() {
        if let Some(name) = event["stateEnteredEventDetails"]["name"].as_str() {
            progress.states.push(StateEntered {
                name: name.to_owned(),
                at: moment(&event["timestamp"]),
            });
        }
        if let Some(output) = event["stateExitedEventDetails"]["output"].as_str()
            && let Some(verdict) = newest_verdict(output)
        {
            progress.verdict = Some(verdict);
        }
    }
    Ok(progress)
}

/// The last verdict in a state's output.
fn newest_verdict(output: &str) -> Option<Value> {
    let state: Value = serde_json::from_str(output).ok()?;
    state["progress"]["verdicts"].as_array()?.last().cloned()
}

/// A moment as moto writes it: seconds, or text.
pub(crate) fn moment(value: &Value) -> Timestamp {
    let parsed = match value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "milliseconds since 1970 fit"
        )]
        Value::Number(number) => number
            .as_f64()
            .and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    parsed.unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(status: &str, error: Option<&str>, cause: Option<&str>) -> Outcome {
        Outcome {
            execution: Execution {
                arn: "arn".to_owned(),
            },
            status: status.to_owned(),
            error: error.map(ToOwned::to_owned),
            cause: cause.map(ToOwned::to_owned),
            output: (status == "SUCCEEDED")
                .then(|| json!({"report": {"why": "all steps were healthy", "verdicts": [1]}})),
            states: vec![StateEntered {
                name: "Refused".to_owned(),
                at: Timestamp::UNIX_EPOCH,
            }],
            started: Timestamp::UNIX_EPOCH,
            ended: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_outcome_is_read_from_output_and_from_cause() {
        let promoted = outcome("SUCCEEDED", None, None);
        assert_eq!(
            (promoted.ending(), promoted.why().as_str()),
            (Ending::Promoted, "all steps were healthy")
        );
        assert_eq!(promoted.verdicts(), [json!(1)]);
        let rolled_back = outcome(
            "FAILED",
            Some("CanaryRolledBack"),
            Some(r#"{"why": "too many errors"}"#),
        );
        assert_eq!(
            (rolled_back.ending(), rolled_back.why().as_str()),
            (Ending::RolledBack, "too many errors")
        );
        let refused = outcome(
            "FAILED",
            Some("InvalidRequest"),
            Some(r#"{"errorType": "InvalidRequest", "errorMessage": "no"}"#),
        );
        assert_eq!(
            (refused.ending(), refused.why().as_str()),
            (Ending::Refused, "no")
        );
        assert_eq!(
            outcome("ABORTED", None, None).ending(),
            Ending::NeedsAttention
        );
    }
}

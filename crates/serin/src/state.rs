//! What travels between the states of the state machine. Every step takes it whole and returns it whole, so that the state
//! machine neither computes nor edits data.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::name::{ExecutionArn, ServiceKey, VersionId};
use crate::notice::Versions;
use crate::progress::Progress;
use crate::report::{Ending, Report};
use crate::request::Decision;

/// The state machine's state between two steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The resolved deployment.
    pub deployment: Deployment,
    /// How far it is.
    #[serde(default)]
    pub progress: Progress,
    /// Whether the step that returned this has reached its goal. If not, the state machine waits and calls it again.
    #[serde(default)]
    pub done: bool,
    /// How long to wait before the next call, in seconds.
    #[serde(default)]
    pub wait_seconds: u32,
    /// What a check calls for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// What a frozen deployment asks, while it is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// What was decided about a frozen deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// There when nobody decided in time: the error that ended the waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<Unanswered>,
    /// The error that a state caught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the deployment ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The whole story for the reader of the execution, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// The report as text, because a `Fail` state's cause is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// What travels in the state's place while a deployment waits for its turn: there is nothing of it yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Never: the state machine waits and calls the planner again.
    pub done: bool,
    /// How long to wait before the next call, in seconds.
    pub wait_seconds: u32,
    /// What is waited for.
    pub waiting: Turn,
    /// The execution's input as it came.
    pub request: serde_json::Value,
}

/// What a deployment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// The service that is to be deployed.
    pub service: ServiceKey,
    /// What kind of thing it is.
    pub waits_for: WaitsFor,
    /// The sentence that says why.
    pub why: String,
    /// The execution that has to end first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<ExecutionArn>,
    /// When its change window opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
    /// When the deployment is refused if it has not begun by then.
    pub until: Timestamp,
    /// What it is to deploy, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
}

/// The kinds of things that a deployment waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum WaitsFor {
    /// Another deployment of the service.
    Deployment,
    /// Its own change window.
    Window,
}

impl Waiting {
    /// Calls of the planner come at most so often, in seconds.
    const SHORTEST: i64 = 15;
    /// And at least so often.
    const LONGEST: i64 = 3600;

    /// The answer of the planner when it is not the deployment's turn yet. Who has waited for long looks less often, so that a wait of
    /// six days has room in an execution's history; when the window opens, or the time is over, is never missed.
    pub fn new(
        turn: Turn,
        request: serde_json::Value,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Self {
        let waited = now.as_second() - started_at.as_second();
        let usual = (waited / 10).clamp(Self::SHORTEST, Self::LONGEST);
        let ends = [turn.opens_at, Some(turn.until)];
        let nearest = ends
            .iter()
            .flatten()
            .map(|end| end.as_second() - now.as_second())
            .filter(|left| *left > 0)
            .fold(usual, i64::min);
        Self {
            done: false,
            wait_seconds: u32::try_from(nearest.max(1)).expect("at most an hour"),
            waiting: turn,
            request,
        }
    }
}

/// What a check calls for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Next {
    /// Wait and check again.
    Wait,
    /// Stable has grown: give the canary the tasks for the weight that it has.
    Resize,
    /// Go to the plan's next step.
    Advance,
    /// The last step was healthy: make the new version the stable one.
    Promote,
    /// Put everything back.
    RollBack,
    /// Hold the weight and ask a person.
    Freeze,
}

/// What a frozen deployment asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Its name among the notices of the execution.
    #[serde(default)]
    pub id: String,
    /// The sentence that says why.
    pub why: String,
    /// How long the decision is waited for, in seconds.
    pub for_seconds: u32,
    /// What happens when nobody has decided by then.
    pub then: Decision,
    /// What is deployed, for whoever is asked.
    #[serde(default)]
    pub versions: Versions,
    /// The command for each decision, with `{}` in the place of the task's token, which only the state machine knows.
    pub commands: DecisionCommands,
}

/// The command for each decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionCommands {
    /// To put everything back.
    pub roll_back: String,
    /// To begin the step anew.
    pub resume: String,
    /// To make the new version the stable one.
    pub promote: String,
}

impl Question {
    /// Asks why the deployment should not be rolled back after the check of this number.
    pub fn new(deployment: &Deployment, check: u32, why: String, now: Timestamp) -> Self {
        let left = deployment.deadline_at.as_second() - now.as_second();
        let command = |decision: Decision| {
            format!(
                r#"aws stepfunctions send-task-success --task-token {{}} --task-output '"{decision}"'"#
            )
        };
        Self {
            id: format!("frozen-{check}"),
            why,
            for_seconds: u32::try_from(left)
                .unwrap_or(1)
                .clamp(1, deployment.freeze.for_seconds),
            then: deployment.freeze.then,
            versions: Versions::of(deployment),
            commands: DecisionCommands {
                roll_back: command(Decision::RollBack),
                resume: command(Decision::Resume),
                promote: command(Decision::Promote),
            },
        }
    }
}

/// That nobody decided in time. It has no field that is needed: Step Functions may leave out the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// `States.Timeout`.
    #[serde(rename = "Error", default)]
    pub error: String,
}

/// What a `Catch` of the state machine recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error's name: a variant of a step's error enum, or one of Step Functions' own.
    #[serde(rename = "Error")]
    pub error: String,
    /// What the error said; for a Lambda the JSON of its answer.
    #[serde(rename = "Cause", default)]
    pub cause: String,
}

impl Failure {
    /// The sentence in the cause: a Lambda's `errorMessage`, or the cause as it is.
    pub fn sentence(&self) -> String {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct LambdaError {
            error_message: String,
        }
        serde_json::from_str::<LambdaError>(&self.cause)
            .map_or_else(|_| self.cause.clone(), |error| error.error_message)
    }
}

/// What the state machine gives a step: who runs, when it is, and the state. Steps have no clock of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepInput<S = State> {
    /// `$$.Execution.Id`.
    pub execution: ExecutionArn,
    /// `$$.Execution.StartTime`.
    pub started_at: Timestamp,
    /// `$$.State.EnteredTime`.
    pub now: Timestamp,
    /// `$`.
    pub state: S,
}

impl State {
    /// The state right after planning.
    pub fn planned(deployment: Deployment) -> Self {
        Self {
            deployment,
            progress: Progress::default(),
            done: true,
            wait_seconds: 0,
            next: None,
            question: None,
            decision: None,
            unanswered: None,
            failure: None,
            ending: None,
            report: None,
            cause: None,
        }
    }

    /// Not there yet: wait and call the step again.
    #[must_use]
    pub fn again_in(mut self, seconds: u32) -> Self {
        self.done = false;
        self.wait_seconds = seconds.max(1);
        self
    }

    /// The deployment has ended, as `report` says.
    #[must_use]
    pub fn ended(mut self, report: Report) -> Self {
        self.done = true;
        self.ending = Some(report.ending);
        self.cause = Some(report.to_cause());
        // They are in the report now; twice they could be more than an execution's state holds.
        self.progress.verdicts = Vec::new();
        self.progress.timeline = Vec::new();
        self.report = Some(report);
        self
    }

    /// The step has reached its goal; `seconds` is how long to wait before what follows, where something waits.
    #[must_use]
    pub fn done_then_wait(mut self, seconds: u32) -> Self {
        self.done = true;
        self.wait_seconds = seconds.max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_days_of_waiting_have_room_in_an_executions_history() {
        let started_at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let until = started_at + jiff::SignedDuration::from_secs(518_400);
        let (mut now, mut calls) = (started_at, 0);
        while now < until {
            let turn = Turn {
                service: ServiceKey {
                    cluster: crate::ClusterName::new("prod"),
                    service: crate::ServiceName::new("checkout"),
                },
                waits_for: WaitsFor::Deployment,
                why: String::new(),
                behind: None,
                opens_at: None,
                until,
                version: None,
            };
            let waiting = Waiting::new(turn, serde_json::json!({}), started_at, now);
            now += jiff::SignedDuration::from_secs(waiting.wait_seconds.into());
            calls += 1;
        }
        assert_eq!(now, until);
        // A call, a choice and a wait are nine events; a request leaves room for 2,000 of them.
        assert!(calls * 9 < 2_000, "{calls} calls");
    }

    #[test]
    fn the_sentence_of_a_lambda_error_is_its_message() {
        let failure = Failure {
            error: "CanaryNotStarting".into(),
            cause: r#"{"errorType":"CanaryNotStarting","errorMessage":"exit code 1"}"#.into(),
        };
        assert_eq!(failure.sentence(), "exit code 1");
        let failure = Failure {
            error: "States.Timeout".into(),
            cause: "timed out".into(),
        };
        assert_eq!(failure.sentence(), "timed out");
    }
}

//! What is told about a deployment, each time it gets into another phase of its life: to whoever subscribes, and to its history.
//!
//! A notice follows from what a step got and what it answered, and from nothing else. So a step that is called again tells the
//! same notice under the same [`id`](Notice::id), and telling it twice is telling it once.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deployment::Deployment;
use crate::name::{ClusterName, ExecutionArn, ServiceKey, ServiceName};
use crate::report::{Ending, Leftover, Report, at_most};
use crate::state::{DecisionCommands, Next, State, StepInput, Turn, Waiting, WaitsFor};
use crate::verdict::{Outcome, Verdict, cut};
use crate::weight::Weight;

/// The version of the shape. It changes when a field goes or gets another meaning, not when one comes.
pub const VERSION: &str = "1";

/// How much of a list of what is left a notice has, in bytes. A deployment has at most a dozen notices of this size, and the
/// ledger keeps them in one item of 400 KB; an event may have 256 KB.
const LONGEST_LIST: usize = 16_384;
/// How much of a sentence a notice has, in characters.
const LONGEST_SENTENCE: usize = 1_000;
/// How many notes of the plan a notice has.
const NOTES: usize = 20;

/// One thing that is told about a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The version of this shape: `1`.
    pub version: String,
    /// Its name among the notices of the execution. The same notice may come twice; it has the same name then.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The execution of the deployment.
    pub execution: ExecutionArn,
    /// The execution that did it, where another one did: a recovery, or a person's rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<ExecutionArn>,
    /// The cluster, and the service's name; absent when a refused request does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceKey>,
    /// What is deployed; absent when the request was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<Versions>,
    /// The canary's share of the traffic now, in percent.
    pub weight_percent: Weight,
    /// What happened, as a sentence without its full stop.
    pub sentence: String,
    /// The phase, and what belongs to it.
    #[serde(flatten)]
    pub phase: NoticePhase,
}

/// The two versions of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    /// The task definition of stable.
    pub stable: String,
    /// What the canary runs: its images that are not stable's, or the task definition that it copies.
    pub canary: Vec<String>,
}

/// The phase that a deployment has got into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
#[serde(
    tag = "phase",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
#[strum(serialize_all = "camelCase")]
pub enum NoticePhase {
    /// The request was refused, or its planning failed; nothing was created.
    Refused {
        /// The name of the error.
        error: String,
    },
    /// It is not the deployment's turn yet; nothing was created.
    Waiting {
        /// What it waits for.
        waits_for: WaitsFor,
        /// The execution that has to end first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        behind: Option<ExecutionArn>,
        /// When its change window opens.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opens_at: Option<Timestamp>,
        /// When it is refused if it has not begun by then.
        until: Timestamp,
    },
    /// The plan is resolved.
    Planned {
        /// The weight of each step, in percent.
        steps: Vec<NoticeStep>,
        /// When the deployment is rolled back if it is not promoted by then.
        deadline_at: Timestamp,
        /// What a person should know about how the plan was resolved.
        notes: Vec<String>,
    },
    /// The canary's tasks run and can be reached; it has no traffic yet.
    CanaryUp {
        /// The canary's ECS service.
        canary: String,
    },
    /// The canary has another weight.
    Weight {
        /// The number of the step, counted from one.
        step: usize,
        /// How many steps the plan has.
        of: usize,
        /// The weight before.
        from_percent: Weight,
        /// Whether somebody decided that the frozen deployment goes on, and how.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decided: Option<Decided>,
    },
    /// A check decided something, or found the canary unhealthy, or no longer so.
    Verdict {
        /// What it found, with its numbers.
        verdict: Box<Verdict>,
        /// What it calls for: `wait`, `resize`, `advance`, `promote`, `rollBack` or `freeze`.
        next: String,
    },
    /// The deployment holds its weight and asks a person.
    Frozen {
        /// How long it waits for the decision, in seconds.
        waits_for_seconds: u32,
        /// What happens when nobody has decided by then.
        then: String,
        /// The task token, with which the decision is sent; only in the event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The command for each decision; only in the event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commands: Option<DecisionCommands>,
    },
    /// Stable has all the traffic again; what was created is being removed.
    RollingBack,
    /// The new version is the stable one.
    Promoted,
    /// Everything is as it was.
    RolledBack {
        /// The name of the error that led here; absent after a verdict or a decision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A person must finish it.
    NeedsAttention {
        /// The name of the error that led here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// What is left, and the command for each.
        left: Vec<Leftover>,
    },
}

/// One step of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoticeStep {
    /// The canary's weight.
    pub weight_percent: Weight,
    /// How long it is held, in seconds.
    pub hold_seconds: u32,
}

/// A decision about a frozen deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Decided {
    /// A person decided.
    ByAPerson,
    /// Nobody did in time, and the request's default holds.
    ByDefault,
}

/// What is to be told of a step's call: what it got, and what came of it, the name of an error and its sentence otherwise.
pub fn notice(step: &str, payload: &Value, answer: Result<&Value, (&str, &str)>) -> Option<Notice> {
    let input: StepInput<Value> = StepInput::deserialize(payload).ok()?;
    let before = State::deserialize(&input.state).ok();
    let call = Call {
        step,
        execution: &input.execution,
        now: input.now,
        before: before.as_ref(),
    };
    let refused =
        |error: &str, sentence: &str| call.refused(named_in(&input.state), error, sentence);
    match answer {
        Ok(answer) => match State::deserialize(answer) {
            Ok(after) => call.notice(&after),
            Err(_) if step == "plan-deployment" => {
                let waiting = Waiting::deserialize(answer).ok()?.waiting;
                let earlier = Waiting::deserialize(&input.state).ok();
                let told =
                    earlier.is_some_and(|earlier| earlier.waiting.waits_for == waiting.waits_for);
                (!told).then(|| call.waiting(waiting))
            }
            // The planning itself broke off, and there was nothing to undo.
            Err(_) if before.is_none() && input.state.get("failure").is_some() => {
                let report = Report::deserialize(answer.get("report")?).ok()?;
                Some(refused(
                    report.error.as_deref().unwrap_or_default(),
                    &report.why,
                ))
            }
            Err(_) => None,
        },
        Err((error, sentence)) if step == "plan-deployment" && is_refusal(error) => {
            Some(refused(error, sentence))
        }
        Err(_) => None,
    }
}

/// The request as it came, when a step's call has it.
pub fn request<'a>(step: &str, payload: &'a Value) -> Option<&'a Value> {
    let request = payload.get("state")?;
    // After a failure, and in every later step, it is a state.
    (step == "plan-deployment" && request.get("deployment").is_none()).then_some(request)
}

/// Whether the planning ends with this error. The others are tried again, or lead to the rollback step.
fn is_refusal(error: &str) -> bool {
    let goes_on = ["LeftoversBeingRemoved", "MalformedInput"];
    !error.starts_with("Aws") && !goes_on.contains(&error)
}

/// The service that a request names, which may be wrong in everything else.
fn named_in(request: &Value) -> Option<ServiceKey> {
    let request = match request.get("request") {
        Some(within) if request.get("waiting").is_some() => within,
        _ => request,
    };
    let request = match request.get("detail") {
        Some(detail) if request.get("detail-type").is_some() => detail,
        _ => request,
    };
    let text = |names: [&str; 3]| names.iter().find_map(|name| request.get(name)?.as_str());
    Some(ServiceKey {
        cluster: ClusterName::new(text(["cluster", "cluster_name", "EnvironmentName"])?),
        service: ServiceName::new(text(["service", "microservice_name", "MicroserviceName"])?),
    })
}

impl Notice {
    /// Its place in the history of its deployment, to sort by: the time, and for what happened in the same instant the order of a
    /// deployment's life.
    pub fn place(&self) -> (Timestamp, u8) {
        let rank = match self.phase {
            NoticePhase::Waiting { .. } => 0,
            NoticePhase::Refused { .. } | NoticePhase::Planned { .. } => 1,
            NoticePhase::CanaryUp { .. } => 2,
            NoticePhase::Verdict { .. } => 3,
            NoticePhase::Frozen { .. } => 4,
            NoticePhase::Weight { .. } => 5,
            NoticePhase::RollingBack => 6,
            NoticePhase::Promoted
            | NoticePhase::RolledBack { .. }
            | NoticePhase::NeedsAttention { .. } => 7,
        };
        (self.at, rank)
    }
}

/// A step's call, from which a notice follows.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    step: &'a str,
    execution: &'a ExecutionArn,
    now: Timestamp,
    /// What it got, where that was a whole state.
    before: Option<&'a State>,
}

impl Call<'_> {
    /// What is to be told after the step has answered with this.
    fn notice(&self, after: &State) -> Option<Notice> {
        let (phase, id, sentence) = match self.step {
            "plan-deployment" => planned(&after.deployment),
            "create-canary" if after.done => canary_up(after),
            "shift-weight" if after.done => self.shifted(after)?,
            "health-check" => self.checked(after)?,
            "cleanup" | "rollback" => match &after.report {
                Some(report) => ended(report),
                None if self.gave_traffic_back(after) => rolling_back(after),
                None => return None,
            },
            _ => return None,
        };
        let deployment = &after.deployment;
        Some(Notice {
            version: VERSION.to_owned(),
            id,
            at: self.now,
            execution: deployment.execution.clone(),
            by: (*self.execution != deployment.execution).then(|| self.execution.clone()),
            service: Some(deployment.service.clone()),
            versions: Some(Versions::of(deployment)),
            weight_percent: after.progress.weight_percent,
            sentence: cut(&sentence, LONGEST_SENTENCE),
            phase,
        })
    }

    /// What is to be told when the planning has refused the request, or could not be done.
    fn refused(&self, service: Option<ServiceKey>, error: &str, sentence: &str) -> Notice {
        Notice {
            version: VERSION.to_owned(),
            id: "refused".to_owned(),
            at: self.now,
            execution: self.execution.clone(),
            by: None,
            service,
            versions: None,
            weight_percent: Weight::ZERO,
            sentence: cut(sentence, LONGEST_SENTENCE),
            phase: NoticePhase::Refused {
                error: error.to_owned(),
            },
        }
    }

    /// What is to be told when the deployment has to wait for its turn.
    fn waiting(&self, turn: Turn) -> Notice {
        Notice {
            version: VERSION.to_owned(),
            id: format!("waiting-{}", turn.waits_for),
            at: self.now,
            execution: self.execution.clone(),
            by: None,
            service: Some(turn.service),
            versions: None,
            weight_percent: Weight::ZERO,
            sentence: cut(&turn.why, LONGEST_SENTENCE),
            phase: NoticePhase::Waiting {
                waits_for: turn.waits_for,
                behind: turn.behind,
                opens_at: turn.opens_at,
                until: turn.until,
            },
        }
    }

    fn shifted(&self, after: &State) -> Option<Told> {
        let before = self.before?;
        if let Some(question) = after.question.as_ref() {
            let phase = NoticePhase::Frozen {
                waits_for_seconds: question.for_seconds,
                then: question.then.to_string(),
                token: None,
                commands: None,
            };
            return Some((phase, question.id.clone(), question.why.clone()));
        }
        if before.next == Some(Next::Resize) {
            return None;
        }
        let step = after.progress.step? + 1;
        let of = after.deployment.plan.steps().len();
        let weight = after.progress.weight_percent;
        let decided = before.question.as_ref().map(|_| match before.unanswered {
            Some(_) => Decided::ByDefault,
            None => Decided::ByAPerson,
        });
        let phase = NoticePhase::Weight {
            step,
            of,
            from_percent: before.progress.weight_percent,
            decided,
        };
        // A step may begin anew after a person's decision; some check lies between.
        let id = format!("weight-{step}-{}", after.progress.checks);
        let sentence =
            format!("step {step} of {of}: the canary has {weight} percent of the traffic");
        Some((phase, id, sentence))
    }

    fn checked(&self, after: &State) -> Option<Told> {
        let verdict = after.progress.verdicts.last()?;
        let earlier = self.before?.progress.verdicts.last();
        let is_bad = verdict.outcome == Outcome::Unhealthy;
        let was_bad = earlier.is_some_and(|earlier| earlier.outcome == Outcome::Unhealthy);
        let is_news = is_bad != was_bad;
        let next = after.next?;
        if matches!(next, Next::Wait | Next::Resize) && !is_news {
            return None;
        }
        let mut brief = verdict.clone();
        brief.brief();
        let phase = NoticePhase::Verdict {
            verdict: Box::new(brief),
            next: next.to_string(),
        };
        let id = format!("verdict-{}", after.progress.checks);
        Some((phase, id, verdict.sentence.clone()))
    }

    fn gave_traffic_back(&self, after: &State) -> bool {
        let before = self
            .before
            .and_then(|state| state.progress.rollback.as_ref());
        self.step == "rollback" && after.progress.rollback.is_some() && before.is_none()
    }
}

type Told = (NoticePhase, String, String);

impl Versions {
    /// The versions of a deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let canary = &deployment.canary;
        Self {
            stable: deployment.stable.task_definition.to_string(),
            canary: if canary.images.is_empty() {
                vec![canary.source.to_string()]
            } else {
                canary.images.values().cloned().collect()
            },
        }
    }
}

fn planned(deployment: &Deployment) -> Told {
    let steps = deployment.plan.steps().iter();
    let steps: Vec<_> = steps
        .map(|step| NoticeStep {
            weight_percent: step.weight_percent,
            hold_seconds: step.hold_seconds,
        })
        .collect();
    let sentence = format!(
        "a canary of {} is planned: {} steps to {} percent",
        deployment.service,
        steps.len(),
        steps
            .last()
            .map_or(Weight::ZERO, |step| step.weight_percent),
    );
    let phase = NoticePhase::Planned {
        steps,
        deadline_at: deployment.deadline_at,
        notes: deployment.notes.iter().take(NOTES).cloned().collect(),
    };
    (phase, "planned".to_owned(), sentence)
}

fn canary_up(after: &State) -> Told {
    let canary = &after.deployment.canary.service;
    let phase = NoticePhase::CanaryUp {
        canary: canary.to_string(),
    };
    let sentence = format!("the canary {canary} is up, and has no traffic yet");
    (phase, "canary-up".to_owned(), sentence)
}

fn rolling_back(after: &State) -> Told {
    let why = match (&after.failure, after.progress.verdicts.last()) {
        (Some(failure), _) => format!("{}: {}", failure.error, failure.sentence()),
        (None, Some(verdict)) => verdict.sentence.clone(),
        (None, None) => "somebody wanted it".to_owned(),
    };
    let sentence = format!("stable has all the traffic again: {why}");
    (
        NoticePhase::RollingBack,
        "rolling-back".to_owned(),
        sentence,
    )
}

fn ended(report: &Report) -> Told {
    let error = report.error.clone();
    let (phase, id) = match report.ending {
        Ending::Promoted => (NoticePhase::Promoted, "promoted"),
        Ending::RolledBack => (NoticePhase::RolledBack { error }, "rolled-back"),
        Ending::NeedsAttention => {
            let left = at_most(report.left.clone(), LONGEST_LIST);
            (
                NoticePhase::NeedsAttention { error, left },
                "needs-attention",
            )
        }
    };
    (phase, id.to_owned(), report.why.clone())
}

#[cfg(test)]
mod tests {
    use schemars::schema_for;

    use super::*;

    #[test]
    fn the_committed_schema_of_notices_is_the_one_that_the_types_generate() {
        let schema = schema_for!(Notice).to_value();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../notice.schema.json");
        if std::env::var_os("SERIN_WRITE_SCHEMA").is_some() {
            std::fs::write(path, format!("{schema:#}\n")).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let committed: Value = serde_json::from_str(&committed).unwrap_or_default();
        assert!(
            committed == schema,
            "notice.schema.json is not current; `cargo xtask schema` writes it"
        );
    }
}

//! What came of the scenarios, as text for a person and as JSON for a program.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serin::verdict::{Verdict, table};

use crate::data_plane::{ClientKind, KindStats};
use crate::executions::{Ending, Outcome};
use crate::gateway::Record;
use crate::scenario::{Happened, Scenario};

/// The operations by which a deployment changes who answers.
const CHANGES: [&str; 10] = [
    "appmesh:DeleteVirtualNode",
    "appmesh:UpdateRoute",
    "appmesh:UpdateVirtualNode",
    "ecs:CreateService",
    "ecs:DeleteService",
    "ecs:UpdateService",
    "elasticloadbalancing:DeleteRule",
    "elasticloadbalancing:DeleteTargetGroup",
    "elasticloadbalancing:ModifyListener",
    "elasticloadbalancing:ModifyRule",
];

/// What `--json` writes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One entry for each scenario, in the order in which they ran.
    pub scenarios: Vec<ScenarioReport>,
}

/// What came of one scenario.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScenarioReport {
    /// The scenario's name.
    pub name: &'static str,
    /// The router through which the traffic went.
    pub router: &'static str,
    /// How the deployment ended.
    pub ending: Ending,
    /// Why, as one sentence.
    pub why: String,
    /// How many requests the load sent.
    pub requests: u64,
    /// How many of them failed.
    pub failed_requests: FailedRequests,
    /// What each kind of client got.
    pub load: BTreeMap<ClientKind, KindStats>,
    /// How many slow requests were under way at each change of who answers.
    pub slow_under_way: Vec<SlowUnderWay>,
    /// How often the functions called each operation of AWS, such as `ecs:UpdateService`.
    pub aws_calls: BTreeMap<String, u64>,
    /// How many states were entered.
    pub state_transitions: usize,
    /// How often a function was invoked.
    pub lambda_invocations: usize,
    /// How long the longest invocation took, and of which function. Only for a person.
    #[serde(skip)]
    pub longest_lambda: Option<LongestLambda>,
    /// How long the deployment took.
    pub seconds: f64,
    /// From the end of an execution that died until its recovery had given stable all the traffic again.
    pub seconds_from_end_to_stable: Option<f64>,
    /// From the end of an execution that died until its recovery was over.
    pub seconds_of_recovery: Option<f64>,
    /// How many calls of AWS were met by a fault.
    pub faults: usize,
    /// From the first datapoint with a 5xx answer of the canary until stable had all the traffic again.
    pub seconds_from_first_bad_datapoint_to_stable: Option<f64>,
    /// What is left in the world that was not there before, or has changed.
    pub trace_left: Vec<String>,
    /// Every verdict, as the execution reports it.
    pub verdicts: Vec<Value>,
    /// What every check found, as the ledger keeps it.
    pub evidence: Vec<Verdict>,
    /// What is not as this scenario has to be; empty when all is well. Only for a person: a program judges by the rest.
    #[serde(skip)]
    pub unexpected: Vec<String>,
    #[serde(skip)]
    scenario: Scenario,
}

/// The requests that failed, by whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRequests {
    /// The new version answered with 5xx: what a canary is for.
    pub by_canary: u64,
    /// The old version did, which a canary cannot help.
    pub by_stable: u64,
    /// Refused, reset, timed out, or not answered by any version: what must not happen.
    pub by_deployment: u64,
}

/// The slow requests that a change met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowUnderWay {
    /// The operation, such as `elasticloadbalancing:ModifyRule`.
    pub change: String,
    /// When it was called.
    pub at: Timestamp,
    /// How many slow requests were under way.
    pub requests: usize,
}

/// The longest invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct LongestLambda {
    /// The function.
    pub function: String,
    /// How long it took.
    pub seconds: f64,
}

impl ScenarioReport {
    /// Reports what happened.
    pub fn of(happened: &Happened) -> Self {
        let (outcome, last) = (&happened.outcome, happened.last());
        let recovered = happened.seconds_from_end_to_stable.is_some();
        let seconds = |from: Timestamp| tenths(last.ended.duration_since(from).as_secs_f64());
        let by_canary = happened.load.failed_by(&happened.version);
        Self {
            name: happened.scenario.name(),
            router: happened.router.name(),
            ending: happened.ending(),
            why: last.why(),
            requests: happened.load.requests,
            failed_requests: FailedRequests {
                by_canary,
                by_stable: happened.load.failed_by_versions - by_canary,
                by_deployment: happened.load.failed_by_deployment,
            },
            load: happened.load.by_kind.clone(),
            slow_under_way: slow_under_way(&happened.record, |at| happened.load.slow_under_way(at)),
            aws_calls: happened.record.calls_by_operation(),
            state_transitions: outcome.transitions()
                + happened.recovery.as_ref().map_or(0, Outcome::transitions),
            lambda_invocations: happened.record.invocations.len(),
            longest_lambda: happened
                .record
                .longest_invocation()
                .map(|longest| LongestLambda {
                    function: longest.function.clone(),
                    seconds: (longest.duration.as_secs_f64() * 1000.0).round() / 1000.0,
                }),
            seconds: seconds(outcome.started),
            seconds_from_end_to_stable: happened.seconds_from_end_to_stable.map(tenths),
            seconds_of_recovery: recovered.then(|| seconds(outcome.ended)),
            faults: happened
                .record
                .calls
                .iter()
                .filter(|call| call.injected)
                .count(),
            seconds_from_first_bad_datapoint_to_stable: happened.seconds_to_stable.map(tenths),
            trace_left: happened.trace_left.clone(),
            verdicts: last.verdicts(),
            evidence: happened.evidence.clone(),
            unexpected: unexpected(happened),
            scenario: happened.scenario,
        }
    }

    /// The summary for a person.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let ending = match self.ending {
            Ending::Promoted => "Promoted",
            Ending::RolledBack => "Rolled back",
            Ending::NeedsAttention => "Needs attention",
            Ending::Refused => "Refused",
        };
        let mut line = |label: &str, value: &str| {
            let _ = writeln!(text, "  {label:<20} {value}");
        };
        line("deployed", self.scenario.sentence());
        line("ending", &format!("{ending} after {} s", self.seconds));
        line("why", &self.why);
        line(
            "failed requests",
            &format!(
                "{} by the canary, {} by stable, {} by the deployment, of {}",
                self.failed_requests.by_canary,
                self.failed_requests.by_stable,
                self.failed_requests.by_deployment,
                self.requests
            ),
        );
        for (kind, stats) in &self.load {
            line(&format!("  {}", kind.in_words()), &of_kind(stats));
        }
        if let Some(changes) = least_and_most(&self.slow_under_way) {
            line("  at each change", &changes);
        }
        if let Some(seconds) = self.seconds_from_first_bad_datapoint_to_stable {
            line(
                "back on stable",
                &format!("{seconds} s after the first bad datapoint"),
            );
        }
        if let (Some(stable), Some(over)) =
            (self.seconds_from_end_to_stable, self.seconds_of_recovery)
        {
            line(
                "recovery",
                &format!(
                    "back on stable {stable} s after the execution's end, all put back after {over} s"
                ),
            );
        }
        let calls: u64 = self.aws_calls.values().sum();
        line(
            "AWS calls",
            &format!("{calls}{}", most_frequent(&self.aws_calls)),
        );
        if self.faults > 0 {
            line("  met by a fault", &self.faults.to_string());
        }
        line("state transitions", &self.state_transitions.to_string());
        if let Some(longest) = &self.longest_lambda {
            line(
                "longest Lambda",
                &format!("{} s ({})", longest.seconds, longest.function),
            );
        }
        line(
            "trace left",
            if self.trace_left.is_empty() {
                "none"
            } else {
                ""
            },
        );
        for (trace, mark) in self
            .trace_left
            .iter()
            .map(|trace| (trace, "-"))
            .chain(self.unexpected.iter().map(|fault| (fault, "!")))
        {
            let _ = writeln!(text, "    {mark} {trace}");
        }
        if !self.evidence.is_empty() {
            let _ = writeln!(text, "\n{}", table(&self.evidence));
        }
        text
    }
}

/// The slow requests at each change that a function made and that worked.
fn slow_under_way(record: &Record, at: impl Fn(Timestamp) -> usize) -> Vec<SlowUnderWay> {
    let mut changes: Vec<SlowUnderWay> = record
        .calls
        .iter()
        .filter(|call| call.function.is_some() && call.succeeded())
        .map(|call| SlowUnderWay {
            change: format!("{}:{}", call.service, call.operation),
            at: call.at,
            requests: at(call.at),
        })
        .filter(|change| CHANGES.contains(&change.change.as_str()))
        .collect();
    changes.sort_by_key(|change| change.at);
    changes
}

/// What one kind of client got, in a line.
fn of_kind(stats: &KindStats) -> String {
    let lost: u64 = stats.failed_by_deployment.values().sum();
    let how = stats
        .failed_by_deployment
        .iter()
        .map(|(cause, count)| format!("{count} {cause:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let listed = |counts: &BTreeMap<String, u64>| {
        let counts = counts
            .iter()
            .map(|(version, count)| format!("{version} {count}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let failed = match listed(&stats.failed_by_version) {
        none if none.is_empty() => "0".to_owned(),
        some => some,
    };
    format!(
        "{} requests ({}), failed: {failed} by a version, {lost} by the deployment{}",
        stats.requests,
        listed(&stats.by_version),
        if how.is_empty() {
            String::new()
        } else {
            format!(" ({how})")
        },
    )
}

/// How many slow requests the changes met, in a line.
fn least_and_most(changes: &[SlowUnderWay]) -> Option<String> {
    let least = changes.iter().map(|change| change.requests).min()?;
    let most = changes.iter().map(|change| change.requests).max()?;
    Some(format!(
        "{least} to {most} slow requests under way at each of {} changes",
        changes.len()
    ))
}

/// What is not as it has to be.
fn unexpected(happened: &Happened) -> Vec<String> {
    let mut faults = Vec::new();
    let (ending, expected) = (happened.ending(), happened.scenario.expected());
    if !expected.contains(&ending) {
        faults.push(format!(
            "the deployment ended as {ending:?} and not as one of {expected:?}"
        ));
    }
    let failed = happened.outcome.status != "SUCCEEDED";
    if failed && happened.recovery.is_none() {
        faults.push("nobody has started a recovery".to_owned());
    }
    if happened.load.failed_by_deployment > 0 {
        faults.push(format!(
            "{} requests failed because of the deployment: {}",
            happened.load.failed_by_deployment,
            happened.load.examples.join("; ")
        ));
    }
    if !happened.trace_left.is_empty() {
        faults.push("the world is not as it has to be".to_owned());
    }
    if happened.scenario == Scenario::Second {
        let error = happened
            .second
            .as_ref()
            .and_then(|second| second.error.as_deref());
        if error != Some("AnotherDeploymentInProgress") {
            faults.push(format!(
                "the second deployment ended with {}",
                error.unwrap_or("no error")
            ));
        }
    }
    faults
}

/// The operations that were called most, for one line.
fn most_frequent(calls: &BTreeMap<String, u64>) -> String {
    const SHOWN: usize = 4;
    if calls.is_empty() {
        return String::new();
    }
    let mut calls: Vec<(&String, &u64)> = calls.iter().collect();
    calls.sort_by(|(_, left), (_, right)| right.cmp(left));
    let shown: Vec<String> = calls
        .iter()
        .take(SHOWN)
        .map(|(operation, count)| format!("{count} {operation}"))
        .collect();
    let more = if calls.len() > SHOWN { ", ..." } else { "" };
    format!(" ({}{more})", shown.join(", "))
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

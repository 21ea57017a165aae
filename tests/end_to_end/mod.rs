//! The same deployments in the local cloud: the real Lambdas behind a real runtime API, the real state machine in moto's
//! interpreter, a real Envoy with real traffic.
//!
//! Each test has a cloud of its own. What a deployment must leave behind, and what it must not do to a request, is said in
//! `serin-local`'s scenario reports; here it is asked of every scenario, and its path through the states is held against the
//! simulation's.

mod pushes;

use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use serin::verdict::{Finding, Outcome as Found, Verdict};
use serin_local::cloud::{CloudOptions, LocalCloud};
use serin_local::executions::{Ending, Outcome};
use serin_local::report::ScenarioReport;
use serin_local::scenario::{self, Happened, Scenario};
use serin_local::{Effect, Fault, LocalRouter};
use tokio::sync::Semaphore;

use crate::receiver::Receiver;
use crate::simulation::{On, path_of, shortened};

/// How many clouds run at once: each has a dozen processes.
static CLOUDS: Semaphore = Semaphore::const_new(2);

/// How long the notices may take that are on the bus when a deployment ends.
const TOLD_WITHIN: Duration = Duration::from_mins(1);

/// Runs a scenario in a cloud of its own, whose notices are told to a server that is down at first; gives also what it says of the
/// deployment in the end.
async fn run_and_tell(on: On, scenario: Scenario) -> (Happened, ScenarioReport, String) {
    let receiver = Receiver::start().await;
    let options = CloudOptions {
        notice_channels: Some(receiver.channels()),
        ..CloudOptions::default()
    };
    let (happened, report) = run_with(on, scenario, options, Vec::new()).await;
    let notices = receiver.webhooks();
    assert_eq!(receiver.cards(), notices.len());
    let latest = receiver.thread(notices.len());
    (happened, report, latest)
}

/// Runs a scenario in a cloud of its own and asks for what every scenario has to fulfil.
async fn run(on: On, scenario: Scenario) -> (Happened, ScenarioReport) {
    run_with(on, scenario, CloudOptions::default(), Vec::new()).await
}

/// The same, with more faults than the scenario has.
async fn run_with(
    on: On,
    scenario: Scenario,
    options: CloudOptions,
    faults: Vec<Fault>,
) -> (Happened, ScenarioReport) {
    let _room = CLOUDS.acquire().await.unwrap();
    let options = CloudOptions {
        router: match on {
            On::AppMesh => LocalRouter::AppMesh,
            On::Alb => LocalRouter::Alb,
        },
        keep_logs: false,
        ..options
    };
    let is_told = options.notice_channels.is_some();
    let cloud = LocalCloud::start(options)
        .await
        .expect("a local cloud; `cargo xtask test` installs and builds what it needs");
    for fault in faults {
        cloud.inject(fault);
    }
    let happened = scenario::run(&cloud, scenario, |_| {}).await;
    assert!(!is_told || cloud.until_told(TOLD_WITHIN).await);
    cloud.stop().await;
    let happened = happened.unwrap();
    let report = ScenarioReport::of(&happened);
    assert_eq!(
        report.unexpected,
        Vec::<String>::new(),
        "{}",
        report.summary()
    );
    assert_eq!(report.trace_left, Vec::<String>::new());
    assert_eq!(
        report.failed_requests.by_deployment, 0,
        "{:?}",
        happened.load
    );
    if scenario != Scenario::Idle {
        assert_every_kind_of_client_was_there(&report);
    }
    if !matches!(
        scenario,
        Scenario::Worse | Scenario::Baseline | Scenario::Outage
    ) {
        assert_eq!(report.failed_requests.by_stable, 0, "{:?}", report.load);
    }
    if matches!(
        happened.outcome.ending(),
        Ending::RolledBack | Ending::Refused
    ) {
        assert_nothing_to_recover(happened.recovery.as_ref());
    }
    assert_nothing_to_recover(happened.second_recovery.as_ref());
    (happened, report)
}

/// A keep-alive client, an HTTP/2 client and slow requests, some of which were under way at every change of who answers.
#[track_caller]
fn assert_every_kind_of_client_was_there(report: &ScenarioReport) {
    assert_eq!(report.load.len(), 3, "{:?}", report.load);
    for (kind, load) in &report.load {
        assert!(load.requests > 0, "{kind:?}");
        assert!(
            load.failed_by_deployment.is_empty(),
            "{kind:?}: {:?}",
            load.failed_by_deployment
        );
    }
    let requests: u64 = report.load.values().map(|load| load.requests).sum();
    #[expect(clippy::cast_precision_loss, reason = "some thousands of requests")]
    let rate = requests as f64 / report.seconds;
    assert!(rate > 150.0, "{rate} requests per second");
    if report.ending == Ending::Promoted || report.failed_requests.by_canary > 0 {
        assert!(!report.slow_under_way.is_empty(), "nothing changed");
    }
    for change in &report.slow_under_way {
        assert!(change.requests > 0, "none at {change:?}");
    }
}

/// A recovery is started after every execution that failed; after a clean ending it finds nothing to do.
#[track_caller]
fn assert_nothing_to_recover(recovery: Option<&Outcome>) {
    if let Some(recovery) = recovery {
        assert_eq!(recovery.status, "SUCCEEDED", "{}", recovery.why());
        assert!(!recovery.has_recovered(), "{:?}", recovery.path());
    }
}

/// The states of the deployment, and those that the same request takes with this image in the simulation.
async fn paths(on: On, happened: &Happened, tag: &str) -> (Vec<String>, Vec<String>) {
    let mut more = happened.scenario.request().unwrap();
    let request = more.as_object_mut().unwrap();
    request.retain(|field, _| !matches!(field.as_str(), "cluster" | "service" | "image"));
    // The simulation's data take twenty seconds longer than a period, and without the newest nothing is enough.
    request["checks"]["dataDelaySeconds"] = Value::from(30);
    let local: Vec<_> = happened
        .outcome
        .path()
        .into_iter()
        .map(str::to_owned)
        .collect();
    (shortened(&local), path_of(on, tag, more).await)
}

/// The verdicts of a report, as sentences.
fn sentences(verdicts: &[Value]) -> Vec<&str> {
    verdicts
        .iter()
        .map(|verdict| verdict["sentence"].as_str().unwrap())
        .collect()
}

/// The last verdict of a deployment, with all its sentences and evidence.
fn last_verdict(happened: &Happened) -> Verdict {
    let report = happened.outcome.report().unwrap();
    serde_json::from_value(report["verdict"].clone()).unwrap()
}

/// What a verdict says of one thing that was looked at, if it was.
fn finding<'a>(verdict: &'a Verdict, name: &str) -> Option<&'a Finding> {
    verdict.findings.iter().find(|finding| finding.name == name)
}

/// A verdict found by the limit, by the comparison with stable or by both that the canary fails a tenth of its requests and
/// stable none. Its own sentences are in `why`.
#[track_caller]
fn assert_found_bad(verdict: &Verdict, why: &str) {
    assert_eq!(verdict.outcome, Found::Unhealthy, "{why}");
    let findings = verdict.findings.iter();
    let bad: Vec<_> = findings
        .filter(|finding| finding.outcome == Found::Unhealthy)
        .collect();
    assert!(!bad.is_empty(), "{verdict:?}");
    for finding in bad {
        let said = finding.sentence.as_str();
        let above = said.contains("above the limit of 1 percent");
        let often = said.contains("times as often, and by chance less often than once in");
        match finding.name.as_str() {
            "errorRatePercent" => assert!(above, "{said}"),
            "comparison.errors" => assert!(above || often, "{said}"),
            other => panic!("{other}: {said}"),
        }
        assert!(why.contains(said), "{said} is missing in {why}");
        assert_fails_a_tenth(finding);
    }
}

#[track_caller]
fn assert_fails_a_tenth(finding: &Finding) {
    let rates = finding.value.zip(finding.stable);
    assert!(
        rates.is_some_and(|(canary, stable)| (7.0..13.0).contains(&canary) && stable <= 0.0),
        "{finding:?}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_is_promoted_without_a_failed_request_on_the_path_of_the_simulation(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report, told) = run_and_tell(on, Scenario::Good).await;
    assert!(told.contains("promoted"), "{told}");
    let (local, simulated) = paths(on, &happened, "2.0.0").await;
    assert_eq!(local, simulated);
    assert_eq!(happened.outcome.status, "SUCCEEDED");
    assert_eq!(report.failed_requests.by_canary, 0);
    assert_eq!(
        report.verdicts.len(),
        3,
        "{:?}",
        sentences(&report.verdicts)
    );
    for verdict in &report.verdicts {
        assert_eq!(verdict["outcome"], "healthy");
        let rate = verdict["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["name"] == "errorRatePercent")
            .unwrap();
        assert_eq!(rate["value"], 0.0);
        assert!(rate["samples"].as_u64().unwrap() >= 50, "{rate}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_version_is_rolled_back_without_a_trace_on_the_path_of_the_simulation(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report, told) = run_and_tell(on, Scenario::Bad).await;
    assert!(told.contains("rolled back"), "{told}");
    let (local, simulated) = paths(on, &happened, "2.0.0-bad").await;
    assert_eq!(local, simulated);
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    assert_found_bad(&last_verdict(&happened), &report.why);
    let cause: Value = serde_json::from_str(happened.outcome.cause.as_deref().unwrap()).unwrap();
    assert_eq!(cause["verdicts"].as_array(), Some(&report.verdicts));
    assert_eq!(cause["left"], Value::Array(vec![]));
    assert!(
        report.failed_requests.by_canary > 0,
        "the canary got real traffic"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_crash_loops_is_rolled_back_with_its_exit_code_before_it_gets_traffic(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::CrashLoop).await;
    let (local, simulated) = paths(on, &happened, "2.0.0-crash").await;
    assert_eq!(local, simulated);
    assert!(report.why.contains("exited with code 1"), "{}", report.why);
    assert_eq!(report.failed_requests.by_canary, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_fall_silent_are_never_health(#[values(On::AppMesh, On::Alb)] on: On) {
    let (happened, report) = run(on, Scenario::NoData).await;
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    assert_eq!(
        report.verdicts.last().unwrap()["outcome"],
        "inconclusive",
        "{:?}",
        sentences(&report.verdicts)
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_deployment_is_refused_and_told_which_one_runs(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, _) = run(on, Scenario::Second).await;
    let second = happened.second.unwrap();
    assert_eq!(
        (second.ending(), second.error.as_deref()),
        (Ending::Refused, Some("AnotherDeploymentInProgress"))
    );
    let cause = second.cause.unwrap();
    assert!(
        cause.contains(&happened.outcome.execution.arn) && cause.contains("RUNNING"),
        "{cause}"
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_replaces_the_old_one(#[values(On::AppMesh, On::Alb)] on: On) {
    let (happened, report) = run(on, Scenario::Replace).await;
    let (local, simulated) = paths(on, &happened, "2.0.0").await;
    assert_eq!(local, simulated);
    assert_eq!(report.failed_requests.by_canary, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_is_stopped_at_25_percent_is_recovered_by_itself_without_a_trace(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Stopped).await;
    assert_eq!(happened.outcome.status, "ABORTED");
    let recovery = happened.recovery.unwrap();
    assert_eq!(
        (recovery.status.as_str(), recovery.path().last().copied()),
        ("SUCCEEDED", Some("Recovered"))
    );
    assert!(
        report.why.contains("the execution is ABORTED"),
        "{}",
        report.why
    );
    assert_eq!(report.failed_requests.by_canary, 0);
    let back = report.seconds_from_end_to_stable.unwrap();
    assert!(back < 15.0, "stable had all the traffic after {back} s");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_of_whose_end_nobody_is_told_is_found_by_the_sweep(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let options = CloudOptions {
        tells_of_ends: false,
        sweep_every: Duration::from_secs(15),
        ..CloudOptions::default()
    };
    let (happened, _) = run_with(on, Scenario::Stopped, options, Vec::new()).await;
    let recovery = happened.recovery.unwrap();
    let name = recovery.execution.arn.rsplit(':').next().unwrap();
    assert!(name.starts_with("sweep-"), "{name}");
    let swept = happened.record.invocations.iter();
    assert!(
        swept
            .filter(|one| one.function == "sweep")
            .all(|one| one.error.is_none())
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_killed_in_the_middle_of_a_shift_and_a_promotion_are_called_again(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Killed).await;
    assert_eq!(
        killed(&happened),
        ["shift-weight", "shift-weight", "cleanup"]
    );
    assert_eq!(report.failed_requests.by_canary, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_killed_at_its_first_write_and_at_its_last_comes_to_its_end(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (first, last) = match on {
        On::AppMesh => ("UpdateRoute", "DeleteVirtualNode"),
        On::Alb => ("ModifyRule", "DeleteTargetGroup"),
    };
    let kill = |operation| Fault::on(operation).by("rollback").with(Effect::Kill);
    let faults = vec![kill(first), kill(last)];
    let (happened, _) = run_with(on, Scenario::Bad, CloudOptions::default(), faults).await;
    assert_eq!(killed(&happened), ["rollback", "rollback"]);
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn when_every_third_call_fails_or_is_not_answered_the_deployment_ends_in_order(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Faulty).await;
    let calls = happened.record.calls.iter();
    let calls = calls.filter(|call| call.function.is_some()).count();
    assert!(report.faults * 4 > calls, "{} of {calls}", report.faults);
    assert_eq!(report.failed_requests.by_canary, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_deployment_goes_on_as_the_printed_command_says_and_asks_again(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Frozen).await;
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    let weights: Vec<_> = happened
        .questions
        .iter()
        .map(|question| question.detail["weightPercent"].clone())
        .collect();
    assert_eq!(weights, [25.0, 25.0], "asked again, and never went on");
    for question in &happened.questions {
        let why = question.detail["sentence"].as_str().unwrap();
        let above = why.contains("above the limit of 1 percent");
        let often = why.contains("times as often, and by chance less often than once in");
        assert!(above || often, "{why}");
    }
    assert_found_bad(&last_verdict(&happened), &report.why);
    let found = report.evidence.iter();
    let bad: Vec<_> = found
        .filter(|verdict| verdict.outcome == Found::Unhealthy)
        .collect();
    assert_eq!(bad.len(), 2, "{}", report.summary());
    for verdict in bad {
        let finding = verdict
            .findings
            .iter()
            .find(|finding| finding.outcome == Found::Unhealthy);
        assert_fails_a_tenth(finding.unwrap());
    }
    assert!(report.failed_requests.by_canary > 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_three_times_the_errors_below_the_limit_is_found_beside_stable_and_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Worse).await;
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    let last = last_verdict(&happened);
    let found = finding(&last, "comparison.errors").unwrap();
    assert_eq!(found.outcome, Found::Unhealthy, "{}", found.sentence);
    let evidence = found.comparison.unwrap();
    let ratio = evidence.ratio.unwrap();
    assert!((2.0..4.5).contains(&ratio), "{evidence:?}");
    assert!(evidence.ratio_from.unwrap() > 1.25, "{evidence:?}");
    assert!(report.why.contains(&found.sentence), "{}", report.why);
    for errors in [
        format!("the canary failed {} of ", evidence.canary_errors),
        format!("stable {} of ", evidence.stable_errors),
    ] {
        assert!(report.why.contains(&errors), "{}", report.why);
    }
    let kept = report.evidence.last().unwrap();
    assert_eq!(kept.comparison(), Some(&evidence), "the ledger has it too");
    for verdict in report.evidence.iter().chain([&last]) {
        let limit = finding(verdict, "errorRatePercent");
        assert!(
            limit.is_none_or(|limit| limit.outcome != Found::Unhealthy),
            "{verdict:?}"
        );
    }
    assert!(report.failed_requests.by_stable > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_takes_longer_is_found_beside_stable_and_rolled_back() {
    let (happened, report) = run(On::Alb, Scenario::Slower).await;
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    let last = last_verdict(&happened);
    let slow = last.findings.iter().find(|found| {
        found.name.starts_with("comparison.over") && found.outcome == Found::Unhealthy
    });
    let slow = slow.unwrap();
    let evidence = slow.comparison.unwrap();
    assert!(evidence.slower_than_ms.unwrap() < 300.0, "{evidence:?}");
    assert!(
        evidence.canary_errors * 2 > evidence.canary_requests,
        "{evidence:?}"
    );
    // By chance once in hundreds of deployments. The interval of the ratio is wide, it rests on a minute or less.
    assert!(evidence.log_e > 5.0, "{evidence:?}");
    assert!(evidence.ratio.unwrap() > 3.0, "{evidence:?}");
    assert!(report.why.contains(&slow.sentence), "{}", report.why);
    let kept: Vec<_> = report.evidence.last().unwrap().slow_comparisons().collect();
    assert!(kept.contains(&&evidence), "the ledger has it too");
    assert_eq!(report.failed_requests.by_canary, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_worse_than_a_fresh_copy_of_stable_is_rolled_back_with_it(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Baseline).await;
    let last = last_verdict(&happened);
    let found = finding(&last, "comparison.errors").unwrap();
    assert_eq!(found.outcome, Found::Unhealthy, "{}", found.sentence);
    assert!(
        found.sentence.contains("the baseline "),
        "{}",
        found.sentence
    );
    let evidence = found.comparison.unwrap();
    // Both have a quarter of the traffic, and stable the rest.
    let (canary, baseline) = (evidence.canary_requests, evidence.stable_requests);
    assert!(canary.abs_diff(baseline) < canary / 4, "{evidence:?}");
    assert!(report.why.contains(&found.sentence), "{}", report.why);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_that_both_versions_share_is_not_the_canarys_and_it_is_promoted_when_that_is_over(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Outage).await;
    assert_eq!(happened.outcome.status, "SUCCEEDED");
    let failed = &report.failed_requests;
    assert!(failed.by_canary > 0 && failed.by_stable > 0, "{failed:?}");
    for verdict in &report.evidence {
        assert_ne!(verdict.outcome, Found::Unhealthy, "{}", report.summary());
    }
    let (load, above) = (&happened.load, |rate: Option<f64>| rate > Some(1.0));
    let in_outage = |verdict: &&Verdict| {
        load.first_failure_at <= Some(verdict.at) && Some(verdict.at) <= load.last_failure_at
    };
    let meanwhile: Vec<_> = report.evidence.iter().filter(in_outage).collect();
    assert!(!meanwhile.is_empty(), "{}", report.summary());
    for verdict in &meanwhile {
        assert_eq!(verdict.outcome, Found::Inconclusive, "{verdict:?}");
    }
    let left_open = |verdict: &&Verdict| {
        finding(verdict, "errorRatePercent").is_some_and(|limit| {
            limit.outcome == Found::Inconclusive && above(limit.value) && above(limit.stable)
        })
    };
    assert!(
        meanwhile.iter().any(left_open),
        "{}: nothing was above the limit",
        report.summary()
    );
    // No step was left before enough was known, the one that met the outage neither.
    let ends = report.verdicts.iter().map(|verdict| &verdict["outcome"]);
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, ["healthy"; 3], "{}", report.summary());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_nobody_calls_is_never_healthy_and_is_rolled_back_at_the_deadline(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Idle).await;
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    assert!(report.why.contains("deadline has passed"), "{}", report.why);
    let asked = happened.load.by_version.get(&happened.version);
    assert_eq!(asked, None, "nobody called the canary");
    assert!(report.evidence.len() > 1, "{}", report.summary());
    for verdict in &report.evidence {
        assert_eq!(verdict.outcome, Found::Inconclusive, "{verdict:?}");
    }
}

/// The functions whose processes ended while they worked, in order.
fn killed(happened: &Happened) -> Vec<&str> {
    let invocations = happened.record.invocations.iter();
    invocations
        .filter(|one| one.error.as_deref() == Some("Runtime.ExitError"))
        .map(|one| one.function.as_str())
        .collect()
}

//! The same deployments in the local cloud: the real Lambdas behind a real runtime API, the real state machine in moto's
//! interpreter, a real Envoy with real traffic.
//!
//! Each test has a cloud of its own. What a deployment must leave behind, and what it must not do to a request, is said in
//! `serin-local`'s scenario reports; here it is asked of every scenario, and its path through the states is held against the
//! simulation's.

use std::time::Duration;

use rstest::rstest;
use serde_json::Value;
use serin_local::cloud::{CloudOptions, LocalCloud};
use serin_local::executions::{Ending, Outcome};
use serin_local::report::ScenarioReport;
use serin_local::scenario::{self, Happened, Scenario};
use serin_local::{Effect, Fault, LocalRouter};
use tokio::sync::Semaphore;

use crate::simulation::{On, path_of, shortened};

/// How many clouds run at once: each has a dozen processes.
static CLOUDS: Semaphore = Semaphore::const_new(2);

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
    let cloud = LocalCloud::start(options)
        .await
        .expect("a local cloud; `cargo xtask test` installs and builds what it needs");
    for fault in faults {
        cloud.inject(fault);
    }
    let happened = scenario::run(&cloud, scenario, |_| {}).await;
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
    assert_every_kind_of_client_was_there(&report);
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

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_is_promoted_without_a_failed_request_on_the_path_of_the_simulation(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (happened, report) = run(on, Scenario::Good).await;
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
    let (happened, report) = run(on, Scenario::Bad).await;
    let (local, simulated) = paths(on, &happened, "2.0.0-bad").await;
    assert_eq!(local, simulated);
    assert_eq!(happened.outcome.error.as_deref(), Some("CanaryRolledBack"));
    assert!(
        report.why.contains("above the limit of 1 percent"),
        "{}",
        report.why
    );
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
        let why = question.detail["why"].as_str().unwrap();
        assert!(why.contains("above the limit of 1 percent"), "{why}");
    }
    assert!(report.failed_requests.by_canary > 0);
}

/// The functions whose processes ended while they worked, in order.
fn killed(happened: &Happened) -> Vec<&str> {
    let invocations = happened.record.invocations.iter();
    invocations
        .filter(|one| one.error.as_deref() == Some("Runtime.ExitError"))
        .map(|one| one.function.as_str())
        .collect()
}

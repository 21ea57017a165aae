//! The comparison of slow requests, in whole deployments behind a load balancer.

use serde_json::{Value, json};
use serin::verdict::Comparison;
use serin::{Outcome, Verdict};
use serin_sim::{TrimmedCounts, world};

use super::judge::{kept, notes};
use super::{On, Simulation, arn, request};

/// A world behind a load balancer, in which stable answers most requests in so many seconds, and so does the new version.
fn world_where(stable: f64, canary: f64) -> Simulation {
    let simulation = Simulation::new(On::Alb);
    simulation.account.settings(|settings| {
        settings.latencies = vec![("1.0.0".into(), stable), ("2.0.0".into(), canary)];
    });
    // The pre-flight looks at stable's last ten minutes.
    simulation.account.clock().advance(1200);
    simulation.begun_anew()
}

/// The thresholds of the plan, from the record of the ledger.
fn thresholds(simulation: &Simulation) -> Vec<(f64, f64)> {
    let id = format!("deployment#{}", arn("first"));
    let document: Value = simulation.account.look(|world| {
        let item = world.item(world::LEDGER_TABLE, &id).unwrap();
        serde_json::from_str(item["document"].as_s().unwrap()).unwrap()
    });
    let thresholds = document["slowThresholds"].as_array();
    let number = |threshold: &Value, name: &str| threshold[name].as_f64().unwrap();
    thresholds
        .into_iter()
        .flatten()
        .map(|of| (number(of, "percentile"), number(of, "ms")))
        .collect()
}

fn slow(verdict: &Verdict) -> Vec<Comparison> {
    verdict.slow_comparisons().copied().collect()
}

#[tokio::test]
async fn a_canary_that_takes_twice_as_long_is_rolled_back_with_the_evidence() {
    let simulation = world_where(0.1, 0.2);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed
        .assert_rolled_back("requests in more than 260 ms (")
        .assert_rolled_back("times as often, and by chance less often than once in")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    assert_eq!(thresholds(&simulation), [(90.0, 160.0), (99.0, 200.0)]);
    let told = notes(&simulation).join(" ");
    assert!(
        told.contains("Latency is compared by the requests slower than 160 ms and 200 ms"),
        "{told}"
    );
    let report = deployed.report();
    let verdict = report.verdict.unwrap();
    let finding = verdict
        .findings
        .iter()
        .find(|finding| finding.name == "comparison.over200ms")
        .unwrap();
    assert_eq!(finding.outcome, Outcome::Unhealthy);
    let evidence = finding.comparison.unwrap();
    assert_eq!(evidence.slower_than_ms, Some(200.0));
    assert!(evidence.ratio_from.unwrap() > 2.0, "{evidence:?}");
    let tenth = slow(&verdict)[0];
    assert_eq!(tenth.slower_than_ms, Some(160.0));
    assert!((5.0..6.0).contains(&tenth.ratio.unwrap()), "{tenth:?}");
    assert_eq!(verdict.comparison().unwrap().canary_errors, 0);
    let checks = kept(&simulation);
    let table = serin::verdict::table(&checks);
    assert!(
        table.contains("over 160 ms, e-value") && table.contains("45.00 % to 8.00 %"),
        "{table}"
    );
    assert_eq!(table.lines().count(), checks.len() + 1, "{table}");
}

#[tokio::test]
async fn a_canary_whose_slowest_requests_are_slower_is_rolled_back_although_most_are_not() {
    let simulation = world_where(0.1, 0.1);
    simulation
        .account
        .settings(|settings| settings.tails = vec![("2.0.0".into(), 0.05)]);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed
        .assert_rolled_back("requests in more than 260 ms")
        .assert_stable_has_all_traffic();
    let verdict = deployed.report().verdict.unwrap();
    let median = slow(&verdict)[0];
    assert!(median.ratio.unwrap() < 2.0, "{median:?}");
}

#[tokio::test]
async fn a_canary_that_is_as_fast_as_stable_is_promoted_with_both_sides_shown() {
    let simulation = world_where(0.1, 0.1);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let checks = kept(&simulation);
    let last = checks.iter().rfind(|verdict| verdict.step == 2).unwrap();
    for of in slow(last) {
        // Its requests are held against what is three tenths longer.
        assert!(of.ratio.unwrap() < 1.1, "{of:?}");
        assert!(of.log_e < 1.0, "{of:?}");
    }
    assert_eq!(slow(last).len(), 2);
}

#[tokio::test]
async fn slowness_that_both_share_rolls_nothing_back() {
    let simulation = world_where(0.1, 0.1);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Has the traffic shifted?")
        .await;
    simulation.account.settings(|settings| {
        settings.latencies = vec![("checkout".into(), 0.5)];
    });
    simulation.finish(execution).await.assert_promoted();
    let checks = kept(&simulation);
    let last = checks.iter().rfind(|verdict| verdict.step == 2).unwrap();
    let of = slow(last)[0];
    assert!(of.stable_errors * 2 > of.stable_requests, "{of:?}");
}

#[tokio::test]
async fn the_thresholds_are_those_of_the_plan_however_slow_stable_becomes() {
    let simulation = world_where(0.1, 0.1);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    let planned = thresholds(&simulation);
    simulation
        .account
        .settings(|settings| settings.latencies = vec![("checkout".into(), 0.3)]);
    simulation.finish(execution).await.assert_promoted();
    assert_eq!(planned, [(90.0, 160.0), (99.0, 200.0)]);
    for verdict in kept(&simulation) {
        let compared = slow(&verdict);
        let compared: Vec<_> = compared.iter().filter_map(|of| of.slower_than_ms).collect();
        assert!(compared.is_empty() || compared == [160.0, 200.0]);
    }
}

#[tokio::test]
async fn latency_that_falls_silent_neither_rolls_back_nor_holds_nor_promotes() {
    let simulation = world_where(0.1, 0.1);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Has the traffic shifted?")
        .await;
    simulation
        .account
        .settings(|settings| settings.trimmed_counts = TrimmedCounts::Silent);
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted();
    let first = &kept(&simulation)[1];
    assert!(
        slow(first)
            .iter()
            .all(|of| of.canary_requests == 0 && of.log_e.abs() < 1e-9),
        "{first:?}"
    );

    // The errors of a canary that is silent about everything are waited for as ever.
    let simulation = world_where(0.1, 0.1);
    let more = json!({ "deadlineSeconds": 3600 });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation
        .run_until(&mut execution, "Has the traffic shifted?")
        .await;
    simulation
        .account
        .settings(|settings| settings.requests_per_second = 0.0);
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("the deployment's deadline has passed");
}

#[tokio::test]
async fn a_store_that_does_not_count_leaves_a_note_and_the_errors_decide_alone() {
    for (trimmed_counts, why) in [
        (
            TrimmedCounts::Refused,
            "The value TC(0.16:) for parameter Stat is not supported",
        ),
        (
            TrimmedCounts::Silent,
            "CloudWatch counts 0 above 160 ms and 0 up to it, which are not all",
        ),
    ] {
        let simulation = world_where(0.1, 0.4);
        simulation
            .account
            .settings(|settings| settings.trimmed_counts = trimmed_counts);
        let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
        deployed.assert_promoted();
        assert_eq!(thresholds(&simulation), []);
        let told = notes(&simulation).join(" ");
        assert!(told.contains("Latency is not compared: "), "{told}");
        assert!(told.contains(why), "{told}");
        assert!(
            kept(&simulation)
                .iter()
                .all(|verdict| slow(verdict).is_empty())
        );
    }
}

#[tokio::test]
async fn whoever_does_not_want_latency_compared_says_so() {
    let simulation = world_where(0.1, 0.4);
    let more = json!({ "checks": { "judge": { "latency": false } } });
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed.assert_promoted();
    let told = notes(&simulation).join(" ");
    assert!(!told.contains("Latency"), "{told}");
}

#[tokio::test]
async fn a_service_with_few_requests_has_no_threshold_in_the_tail() {
    let simulation = world_where(0.1, 0.1);
    simulation
        .account
        .settings(|settings| settings.requests_per_second = 0.5);
    simulation.account.clock().advance(1200);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    assert_eq!(thresholds(&simulation), [(90.0, 160.0)]);
    let told = notes(&simulation).join(" ");
    assert!(told.contains("requests are too few for its p99"), "{told}");
}

#[tokio::test]
async fn the_latency_of_a_mesh_is_not_compared_and_the_plan_says_why() {
    let simulation = Simulation::new(On::AppMesh);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_promoted();
    let told = notes(&simulation).join(" ");
    assert!(
        told.contains("Latency is not compared: App Mesh has no latency percentiles"),
        "{told}"
    );
}

#[tokio::test]
async fn data_that_always_come_a_minute_late_do_not_hold_the_last_step_and_later_ones_are_told() {
    // A minute's data are given out so long after its end; the request expects them after 120 seconds.
    for (delay, promoted) in [(150, true), (280, false)] {
        let simulation = world_where(0.1, 0.1);
        simulation
            .account
            .settings(|settings| settings.metric_delay = delay);
        let more = json!({ "deadlineSeconds": 7200 });
        let deployed = simulation.deploy(request("2.0.0", more)).await;
        if promoted {
            deployed.assert_promoted();
        } else {
            deployed.assert_rolled_back("to checks.dataDelaySeconds");
        }
    }
}

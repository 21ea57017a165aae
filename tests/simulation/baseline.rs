//! The canary is compared with a fresh copy of stable: `checks.judge.baseline`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde_json::{Value, json};
use serin::{Finding, Verdict};
use serin_sim::world::Options;
use serin_sim::{World, world};

use super::{On, Simulation, arn, request};

/// A deployment with a baseline, and more wishes.
fn with_baseline(tag: &str, more: &Value) -> Value {
    let mut all = json!({
        "checks": { "judge": { "baseline": true } },
        "plan": { "steps": [
            { "weightPercent": 10, "holdSeconds": 600 }, { "weightPercent": 40, "holdSeconds": 300 },
            { "weightPercent": 50, "holdSeconds": 300 }, { "weightPercent": 100, "holdSeconds": 120 }] },
    });
    for (field, value) in more.as_object().unwrap() {
        all[field] = value.clone();
    }
    request(tag, all)
}

/// A world in which an image, or whatever has this text in its family, fails this share of the requests.
fn world_where(on: On, rates: &[(&str, f64)]) -> Simulation {
    let options = Options {
        tasks: 10,
        ..on.options()
    };
    let simulation = Simulation::with(on, &options);
    simulation.account.settings(|settings| {
        let rates = rates.iter();
        settings.error_rates = rates.map(|(text, rate)| ((*text).into(), *rate)).collect();
        settings.requests_per_second = 100.0;
    });
    // The pre-flight looks at stable's last ten minutes.
    simulation.account.clock().advance(1200);
    simulation.begun_anew()
}

/// The service whose name has this in it, with its desired tasks.
fn tasks_of(world: &World, copy: &str) -> Option<i32> {
    let services = world.services(world::CLUSTER);
    let name = services.into_iter().find(|name| name.contains(copy))?;
    Some(world.service(world::CLUSTER, &name)?.desired_count)
}

/// Nothing in the account bears a baseline's name.
fn assert_nothing_of_a_baseline(simulation: &Simulation) {
    let now = simulation.account.look(World::snapshot);
    let text = format!(
        "{:?}{:?}{:?}{:?}",
        now.services, now.nodes, now.registries, now.target_groups
    );
    let found = text.find("-baseline-");
    assert_eq!(found.map(|at| &text[at.saturating_sub(60)..at + 40]), None);
}

/// Somebody deletes the baseline's service, so that its weight goes to nothing until the deployment has noticed.
fn kill_the_baseline(simulation: &Simulation) {
    let baseline = simulation.account.look(|world| {
        let mut services = world.services(world::CLUSTER).into_iter();
        services.find(|name| name.contains("-baseline-")).unwrap()
    });
    simulation
        .account
        .delete_service_by_hand(world::CLUSTER, &baseline);
    simulation.watch.excuse("rule 3", "-baseline-");
}

/// The checks that the ledger has kept, in order.
fn checks(simulation: &Simulation) -> Vec<Verdict> {
    let id = format!("evidence#{}#0", arn("first"));
    let item = simulation
        .account
        .look(|world| world.item(world::LEDGER_TABLE, &id).cloned());
    let mut checks: Vec<Verdict> = Vec::from_iter(item.unwrap())
        .into_iter()
        .filter(|(name, _)| name.starts_with("check"))
        .map(|(_, check)| serde_json::from_str(check.as_s().unwrap()).unwrap())
        .collect();
    checks.sort_by_key(|check| check.at);
    checks
}

#[rstest]
#[tokio::test]
async fn the_baseline_has_the_canarys_tasks_and_weight_until_the_canary_has_half_of_the_traffic(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, &[]);
    let found = Arc::new(Mutex::new(Vec::new()));
    let hand = found.clone();
    simulation.account.on_call(move |world, call| {
        if call.operation == on.write() || call.operation == "ModifyListener" {
            let tasks = (tasks_of(world, "-canary-"), tasks_of(world, "-baseline-"));
            hand.lock().unwrap().push((world.stable_percent(), tasks));
        }
    });
    let deployed = simulation.deploy(with_baseline("2.0.0", &json!({}))).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let found = found.lock().unwrap().clone();
    // Of several rules the last one that is written has what all of them have then.
    let mut shifts = BTreeMap::new();
    for (stable, tasks) in found.into_iter().filter(|(stable, _)| *stable < 99.0) {
        shifts.insert(tasks, stable.round().to_string());
    }
    let at = |canary, baseline, stable: &str| ((Some(canary), Some(baseline)), stable.to_owned());
    let expected = [
        at(1, 1, "80"),
        at(4, 4, "20"),
        at(5, 4, "50"),
        at(10, 4, "0"),
    ];
    assert_eq!(Vec::from_iter(shifts), expected);
    assert_nothing_of_a_baseline(&simulation);
    for check in checks(&simulation) {
        let share = |finding: &&Finding| finding.name == "sharePercent";
        let share = check.findings.iter().find(share);
        let expected = check.weight_percent.percent();
        if check.window.is_some() && expected < 100.0 {
            let share = share.unwrap().value.unwrap();
            assert!((share - expected).abs() < 1.0, "{share} of {expected}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_canary_that_fails_no_more_than_a_fresh_copy_of_stable_is_promoted(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    // Whatever is young fails three times as often here.
    let rates = [("-baseline ", 0.006), ("2.0.0", 0.006), ("1.0.0", 0.002)];
    let plan = json!({ "steps": [{ "weightPercent": 30, "holdSeconds": 1800 }, { "weightPercent": 100, "holdSeconds": 120 }] });
    let simulation = world_where(on, &rates);
    simulation
        .deploy(with_baseline("2.0.0", &json!({ "plan": plan })))
        .await
        .assert_promoted();
    let beside_baseline = |check: &Verdict| check.sentence.contains(", the baseline ");
    assert!(checks(&simulation).iter().any(beside_baseline));

    let simulation = world_where(on, &rates);
    simulation
        .deploy(request("2.0.0", json!({ "plan": plan })))
        .await
        .assert_rolled_back("times as often, and by chance less often than once in");
}

#[rstest]
#[tokio::test]
async fn a_canary_that_is_worse_than_the_baseline_is_rolled_back_and_both_leave_no_trace(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, &[("2.0.0", 0.008), ("1.0.0", 0.001)]);
    simulation
        .deploy(with_baseline("2.0.0", &json!({})))
        .await
        .assert_rolled_back(", the baseline ")
        .assert_rolled_back("times as often, and by chance less often than once in")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn the_baseline_goes_too_when_the_canary_takes_stables_place(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, &[]);
    let more = json!({ "finish": { "mode": "replace" } });
    simulation
        .deploy(with_baseline("2.0.0", &more))
        .await
        .assert_promoted();
    assert_nothing_of_a_baseline(&simulation);
}

#[rstest]
#[tokio::test]
async fn a_stopped_deployment_is_recovered_with_its_baseline(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(
        "Is the canary ready?",
        "Has the traffic shifted?",
        "Wait before the next check"
    )]
    at: &str,
) {
    let simulation = world_where(on, &[]);
    let mut execution = simulation.start("first", with_baseline("2.0.0", &json!({})));
    simulation.run_until(&mut execution, at).await;
    simulation.abort(&mut execution, "first");
    simulation.recover("first").await.assert_recovered();
    assert_eq!(simulation.traces(), Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn a_baseline_that_dies_ends_the_deployment(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = world_where(on, &[]);
    let mut execution = simulation.start("first", with_baseline("2.0.0", &json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    kill_the_baseline(&simulation);
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("the baseline's service no longer exists");
}

#[tokio::test]
async fn a_baseline_that_no_step_would_give_traffic_is_refused() {
    let simulation = Simulation::new(On::Alb);
    let plan = json!({ "steps": [{ "weightPercent": 50, "holdSeconds": 120 }, { "weightPercent": 100, "holdSeconds": 120 }] });
    simulation
        .deploy(with_baseline("2.0.0", &json!({ "plan": plan })))
        .await
        .assert_refused(
            "InvalidRequest",
            "checks.judge.baseline: true, but the baseline would get no traffic",
        );
}

#[rstest]
#[tokio::test]
async fn a_dead_baseline_gets_no_traffic_while_a_person_is_asked(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("currentStep", "lastHealthyStep")] hold_at: &str,
) {
    let simulation = world_where(on, &[]);
    let freeze = json!({ "holdAt": hold_at, "forSeconds": 3600, "then": "rollBack" });
    let more = json!({ "onUnhealthy": "freeze", "freeze": freeze });
    let mut execution = simulation.start("first", with_baseline("2.0.0", &more));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    kill_the_baseline(&simulation);
    simulation.run_until(&mut execution, "Ask a person").await;
    let stable = simulation.account.look(World::stable_percent);
    assert!(stable > 99.9, "{stable}");
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("the baseline's service no longer exists");
}

#[tokio::test]
async fn a_baseline_behind_a_sticky_rule_is_refused() {
    let options = Options {
        forward_stickiness: Some(600),
        ..On::Alb.options()
    };
    let simulation = Simulation::with(On::Alb, &options);
    simulation
        .deploy(with_baseline("2.0.0", &json!({})))
        .await
        .assert_refused(
            "ServiceNotSupported",
            "a baseline would keep its clients when it loses its weight",
        );
}

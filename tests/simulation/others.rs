//! Other people, and other things, in the same account.

use rstest::rstest;
use serde_json::json;
use serin_sim::state_machine::Execution;
use serin_sim::world;

use super::{On, Simulation, arn, request};

#[rstest]
#[tokio::test]
async fn a_route_that_somebody_edits_is_reported_and_the_edit_stays(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation.edit_something_else();
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    assert_eq!(
        deployed.report().error.as_deref(),
        Some("RouteChangedByOthers")
    );
    assert!(
        simulation.has_something_else(),
        "the other person's edit stays"
    );
    simulation.watch.assert_safe();
}

#[rstest]
#[tokio::test]
async fn weights_that_somebody_sets_by_hand_are_not_overwritten_on_the_way_forward(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    simulation.give_all_to_stable_by_hand();
    let deployed = simulation.finish(execution).await;
    assert_eq!(
        deployed.report().error.as_deref(),
        Some("RouteChangedByOthers")
    );
    deployed
        .assert_rolled_back("")
        .assert_stable_has_all_traffic();
}

#[rstest]
#[tokio::test]
async fn an_alarm_that_goes_off_rolls_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation
        .account
        .set_alarm("checkout-5xx", "OK".into(), "quiet");
    let checks =
        json!({ "checks": { "errorRatePercent": { "max": 1.0 }, "alarms": ["checkout-5xx"] } });
    let mut execution = simulation.start("first", request("2.0.0", checks));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation.account.set_alarm(
        "checkout-5xx",
        "ALARM".into(),
        "three datapoints were above 5",
    );
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("checkout-5xx")
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_canary_that_somebody_removes_is_not_given_more_traffic(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    let canary = simulation
        .account
        .look(|world| world.services(world::CLUSTER))
        .into_iter()
        .find(|name| name.contains("-canary-"));
    simulation
        .account
        .scale_by_hand(world::CLUSTER, &canary.unwrap(), 0);
    let deployed = simulation.finish(execution).await;
    // The step asks for the tasks again; what somebody else does meanwhile costs time, not requests.
    deployed.assert_promoted().assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_route_of_every_protocol_is_shifted(#[values(On::AppMesh, On::Alb)] on: On) {
    let options = world::Options {
        routes: vec![
            world::RouteKind::Http,
            world::RouteKind::Http2,
            world::RouteKind::Grpc,
            world::RouteKind::Tcp,
        ],
        ..on.options()
    };
    let simulation = Simulation::with(on, &options);
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    let simulation = Simulation::with(on, &options);
    simulation
        .deploy(request("2.0.0-bad", json!({})))
        .await
        .assert_rolled_back("")
        .assert_no_request_was_lost();
}

/// Goes on until `is_settled` says so of the state, then puts the route back as it was at the beginning of the step that
/// settled the traffic, as somebody would who rolls back by hand.
async fn put_the_route_back(
    simulation: &Simulation,
    execution: &mut Execution,
    is_settled: impl Fn(&serde_json::Value) -> bool,
) {
    let mut before = simulation.route();
    while !is_settled(&execution.data()["progress"]) {
        assert!(execution.is_running(), "{:?}", execution.status);
        before = simulation.route();
        simulation.step(execution).await;
    }
    assert_ne!(
        before,
        simulation.route(),
        "the step has settled the traffic"
    );
    simulation.put_route(&before);
}

#[rstest]
#[tokio::test]
async fn nothing_that_somebody_gave_its_traffic_back_to_is_removed_while_it_has_any(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let is_settled = |progress: &serde_json::Value| {
        progress["cleanup"]["trafficSettledAt"].is_string() || progress["rollback"].is_object()
    };
    for (tag, mode) in [
        ("2.0.0", "promote"),
        ("2.0.0", "replace"),
        ("2.0.0-bad", "promote"),
    ] {
        let simulation = Simulation::new(on);
        let more = json!({ "finish": { "mode": mode } });
        let mut execution = simulation.start("first", request(tag, more));
        put_the_route_back(&simulation, &mut execution, is_settled).await;
        let deployed = simulation.finish(execution).await;
        if tag == "2.0.0" {
            deployed.assert_promoted();
        } else {
            deployed.assert_rolled_back("percent");
        }
        if mode == "promote" {
            deployed.assert_stable_has_all_traffic();
        }
        deployed.assert_no_request_was_lost();
        let settled = deployed
            .report()
            .done
            .iter()
            .filter(|event| event.what.starts_with("gave all the traffic to"))
            .count();
        assert_eq!(settled, 2, "{tag}, {mode}: {:#?}", deployed.report().done);
    }
}

/// A lock as `first` takes it, in another account.
async fn lock_of_the_first(on: On) -> serin_sim::Item {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    simulation
        .account
        .item(world::LEDGER_TABLE, LOCK)
        .expect("it is locked")
}

const LOCK: &str = "service#prod/checkout";

#[rstest]
#[tokio::test]
async fn the_lock_of_an_execution_that_ended_before_it_had_planned_anything_is_taken_over(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let lock = lock_of_the_first(on).await;
    // The last is one that Step Functions has forgotten.
    for status in ["ABORTED", "TIMED_OUT", "FAILED", ""] {
        let simulation = Simulation::new(on);
        simulation
            .account
            .put_item(world::LEDGER_TABLE, LOCK, lock.clone());
        if !status.is_empty() {
            simulation
                .account
                .set_execution(&arn("first"), status.into());
        }
        let second = simulation.start("second", request("2.0.0", json!({})));
        simulation
            .finish(second)
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
        assert_eq!(simulation.account.snapshot().locks.len(), 0, "{status}");
    }
}

#[rstest]
#[tokio::test]
async fn the_lock_of_an_execution_that_still_plans_or_that_left_something_is_not_taken_over(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let lock = lock_of_the_first(on).await;
    simulation
        .account
        .put_item(world::LEDGER_TABLE, LOCK, lock.clone());
    simulation
        .account
        .set_execution(&arn("first"), "RUNNING".into());
    let second = simulation.start("second", request("2.0.0", json!({})));
    simulation
        .finish(second)
        .await
        .assert_refused("AnotherDeploymentInProgress", "RUNNING");
    assert_eq!(
        simulation.account.item(world::LEDGER_TABLE, LOCK),
        Some(lock)
    );

    let simulation = Simulation::new(on);
    let mut first = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut first, "Wait before the next check")
        .await;
    first.abort();
    simulation
        .account
        .set_execution(&arn("first"), "ABORTED".into());
    let second = simulation.start("second", request("2.0.0", json!({})));
    simulation
        .finish(second)
        .await
        .assert_refused("AnotherDeploymentInProgress", "ABORTED");
}

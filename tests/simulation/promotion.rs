//! The new version on its way to be the stable one, and what can go wrong there.

use rstest::rstest;
use serde_json::json;
use serin_sim::{Fault, FaultKind, Which, World, world};

use super::{On, Simulation, request};

#[rstest]
#[tokio::test]
async fn the_canary_takes_the_place_of_the_old_version_and_can_be_replaced_in_its_turn(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let replace = json!({ "finish": { "mode": "replace" } });
    let deployed = simulation.deploy(request("2.0.0", replace.clone())).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let second = bearer(&simulation);

    // The same request with the next image: the ledger knows which service bears the name now.
    simulation.account.clock().advance(3600);
    let node = simulation.only_node();
    let simulation = simulation.before_the_next(&second, &node);
    let deployed = simulation
        .finish(simulation.start("second", request("3.0.0", replace)))
        .await;
    deployed.assert_promoted().assert_no_request_was_lost();
    assert_ne!(bearer(&simulation), second);
}

#[rstest]
#[tokio::test]
async fn a_promotion_that_somebody_crosses_leaves_the_traffic_on_the_canary_and_calls_a_person(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait for the clean-up")
        .await;
    // Neither what stable ran before, nor what it is to run.
    let definitions = simulation.account.snapshot().task_definitions;
    let third = definitions
        .iter()
        .find(|definition| definition.starts_with("checkout-canary"));
    simulation
        .account
        .deploy_by_hand(world::CLUSTER, world::SERVICE, third.unwrap());
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_needs_attention("stable could not be updated to the new version")
        .assert_no_request_was_lost();
    let percent = simulation.account.look(World::stable_percent);
    assert!(
        percent.abs() < f64::EPSILON,
        "stable has {percent} percent although nobody knows whether it works"
    );
}

#[rstest]
#[tokio::test]
async fn a_promotion_that_somebody_takes_back_is_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait for the clean-up")
        .await;
    simulation
        .account
        .deploy_by_hand(world::CLUSTER, world::SERVICE, "checkout:1");
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("went to")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_promotion_that_cannot_begin_is_rolled_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    let kind = FaultKind::Refused("InvalidParameterException", "not now");
    simulation.account.inject(Fault {
        operation: "UpdateService",
        which: Which::Nth(1),
        kind,
    });
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("not now")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_call_that_is_refused_once_after_stable_was_updated_is_tried_again(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for operation in ["DescribeServices", on.write(), on.delete()] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0", json!({})));
        simulation
            .run_until(&mut execution, "Clean up behind the new version")
            .await;
        simulation
            .run_until(&mut execution, "Wait for the clean-up")
            .await;
        simulation.account.inject(Fault {
            operation,
            which: Which::Nth(1),
            kind: FaultKind::Denied,
        });
        let deployed = simulation.finish(execution).await;
        deployed.assert_promoted().assert_no_request_was_lost();
        let rolled_back = deployed
            .execution
            .path
            .iter()
            .any(|state| state == "Roll back to stable");
        assert!(!rolled_back, "{operation}: {:?}", deployed.execution.path);
    }
}

#[rstest]
#[tokio::test]
async fn a_promotion_whose_end_was_recorded_just_before_an_error_gives_the_lock_back_all_the_same(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let whole = Simulation::new(on);
    whole.deploy(request("2.0.0", json!({}))).await;
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "UpdateItem",
        // The last one gives the lock back.
        which: Which::Nth(whole.account.count_calls("UpdateItem")),
        kind: FaultKind::Denied,
    });
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_promoted();
    let lock = simulation
        .account
        .item(world::LEDGER_TABLE, "service#prod/checkout")
        .unwrap();
    assert!(!lock.contains_key("execution"), "{lock:?}");
}

#[rstest]
#[tokio::test]
async fn a_clean_up_that_breaks_off_after_the_promotion_is_finished_and_told(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    simulation.account.heal();
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_promoted()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let report = deployed.report();
    assert!(
        report.why.contains("broke off") && report.error.as_deref() == Some("AwsDenied"),
        "{report:?}"
    );
    let stable = simulation.account.snapshot().services["prod/checkout"]
        .task_definition
        .clone();
    assert!(stable.ends_with("checkout:2"), "{stable}");
    assert!(
        simulation
            .traces()
            .iter()
            .all(|trace| !trace.contains("-canary")),
        "{:?}",
        simulation.traces()
    );
}

/// The one service that is left of those that were named `checkout`.
#[track_caller]
fn bearer(simulation: &Simulation) -> String {
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let mut ours = services
        .into_iter()
        .filter(|name| name.starts_with(world::SERVICE));
    let bearer = ours.next().expect("somebody bears the name");
    assert_eq!(ours.next(), None, "beside {bearer}");
    assert!(bearer.starts_with("checkout-canary-"), "{bearer}");
    bearer
}

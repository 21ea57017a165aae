//! Other people, and other things, in the same account.

use serde_json::json;
use serin_sim::{targets_mut, world};

use super::{Simulation, request};

#[tokio::test]
async fn a_route_that_somebody_edits_is_reported_and_the_edit_stays() {
    let simulation = Simulation::new();
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| spec.priority = Some(7));
    simulation.watch.change(|subject| {
        for (_, spec) in subject
            .before
            .routes
            .iter_mut()
            .filter(|(path, _)| path.ends_with(world::ROUTE))
        {
            spec.priority = Some(7);
        }
    });
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    assert_eq!(
        deployed.report().error.as_deref(),
        Some("RouteChangedByOthers")
    );
    let route = simulation
        .account
        .look(|world| world.route(world::ROUTER, world::ROUTE).clone());
    assert_eq!(
        route.spec.unwrap().priority,
        Some(7),
        "the other person's edit stays"
    );
    simulation.watch.assert_safe();
}

#[tokio::test]
async fn weights_that_somebody_sets_by_hand_are_not_overwritten_on_the_way_forward() {
    let simulation = Simulation::new();
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
            for target in targets_mut(spec).unwrap() {
                target.weight = i32::from(target.virtual_node == world::NODE);
            }
        });
    let deployed = simulation.finish(execution).await;
    assert_eq!(
        deployed.report().error.as_deref(),
        Some("RouteChangedByOthers")
    );
    deployed
        .assert_rolled_back("")
        .assert_stable_has_all_traffic();
}

#[tokio::test]
async fn an_alarm_that_goes_off_rolls_back() {
    let simulation = Simulation::new();
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

#[tokio::test]
async fn a_canary_that_somebody_removes_is_not_given_more_traffic() {
    let simulation = Simulation::new();
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

#[tokio::test]
async fn a_route_of_every_protocol_is_shifted() {
    let options = world::Options {
        routes: vec![
            world::RouteKind::Http,
            world::RouteKind::Http2,
            world::RouteKind::Grpc,
            world::RouteKind::Tcp,
        ],
        ..world::Options::default()
    };
    let simulation = Simulation::with(&options);
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    let simulation = Simulation::with(&options);
    simulation
        .deploy(request("2.0.0-bad", json!({})))
        .await
        .assert_rolled_back("")
        .assert_no_request_was_lost();
}

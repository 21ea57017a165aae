//! Before what cannot be taken back, and before a deployment is called over, there is a last look.

use rstest::rstest;
use serde_json::json;
use serin_sim::world;

use super::{On, Simulation, request};

#[rstest]
#[tokio::test]
async fn what_somebody_edits_right_before_the_promotion_stops_it(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let simulation = Simulation::new(on);
    let more = json!({ "finish": { "mode": mode } });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    simulation.give_all_to_stable_by_hand();
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let error = deployed.report().error;
    assert_eq!(error.as_deref(), Some("RouteChangedByOthers"));
}

#[rstest]
#[tokio::test]
async fn a_canary_that_never_goes_is_no_deployment_without_a_trace(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    // Its tasks never stop.
    simulation
        .account
        .settings(|settings| settings.stop_seconds = 1_000_000);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_needs_attention("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let canary = services.iter().find(|name| name.contains("-canary-"));
    let canary = canary.expect("it is still there");
    let left = deployed.report().left;
    assert!(
        left.iter().any(|left| left.command.contains(canary)),
        "{left:#?}"
    );
    assert_eq!(simulation.account.snapshot().locks.len(), 1);
}

//! What a careless change would break and no other test would notice; `cargo xtask mutate` makes the changes.

use rstest::rstest;
use serde_json::json;
use serin_sim::{Fault, FaultKind, Which, world};

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

#[rstest]
#[tokio::test]
async fn a_weight_that_somebody_undoes_at_once_is_written_again_before_the_step_begins(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    simulation.account.inject(Fault {
        operation: on.write(),
        which: Which::Nth(1),
        kind: FaultKind::Undone,
    });
    let writes = simulation.account.count_calls(on.write());
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    let percent = simulation.account.look(serin_sim::World::stable_percent);
    assert!((percent - 90.0).abs() < 0.1, "stable has {percent} percent");
    assert!(simulation.account.count_calls(on.write()) - writes >= 2);
    simulation
        .finish(execution)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_canary_that_is_created_late_or_once_more_is_not_made_a_second_time(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    let state = execution.data().clone();
    for _ in 0..2 {
        let again = simulation.invoke("create-canary", "first", state.clone());
        again.await.unwrap();
    }
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    for made in ["RegisterTaskDefinition", "CreateService"] {
        let calls = simulation.account.calls().into_iter();
        let ecs =
            calls.filter(|call| call.operation == made && call.service == serin_sim::Service::Ecs);
        assert_eq!(ecs.count(), 1, "{made}");
    }
    while execution.is_running() {
        simulation.step(&mut execution).await;
        let between = simulation.account.snapshot();
        let late = simulation.invoke("create-canary", "first", state.clone());
        assert_eq!(late.await.unwrap_err().error, "DeploymentFenced");
        let changed = simulation.account.differences_since(&between);
        assert_eq!(changed, Vec::<String>::new());
    }
    simulation.watch.assert_safe();
}

#[rstest]
#[tokio::test]
async fn what_has_lost_its_traffic_drains_first_however_soon_the_function_is_called_again(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(("2.0.0", "cleanup"), ("2.0.0-bad", "rollback"))] case: (&str, &str),
) {
    let (tag, function) = case;
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request(tag, json!({})));
    let is_settled = |progress: &serde_json::Value| {
        progress["cleanup"]["trafficSettledAt"].is_string() || progress["rollback"].is_object()
    };
    while !is_settled(&execution.data()["progress"]) {
        simulation.step(&mut execution).await;
    }
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let canary = services.iter().find(|name| name.contains("-canary-"));
    let canary = canary.unwrap();
    let state = execution.data().clone();
    simulation.account.clock().advance(5);
    simulation.invoke(function, "first", state).await.unwrap();
    let tasks = simulation.account.look(|world| {
        let service = world.service(world::CLUSTER, canary);
        service.map_or(0, |service| service.desired_count)
    });
    assert!(tasks > 0, "it is going already");
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

//! The canary's tasks follow its weight and stable, and stable keeps the tasks that a rollback needs.

use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde_json::{Value, json};
use serin::{Leftover, Report};
use serin_sim::state_machine::Execution;
use serin_sim::world::Options;
use serin_sim::{Fault, FaultKind, SuspendedState, Which, World, world};

use super::{On, Simulation, arn, request};

/// The name of the canary's service, when it is there.
fn canary(world: &World) -> Option<String> {
    let services = world.services(world::CLUSTER);
    services.into_iter().find(|name| name.contains("-canary-"))
}

fn desired(world: &World, service: &str) -> i32 {
    world
        .service(world::CLUSTER, service)
        .map_or(0, |service| service.desired_count)
}

/// The service with so many tasks, scaled by load between these bounds.
fn scaled(on: On, tasks: i32, bounds: (i32, i32)) -> Options {
    Options {
        tasks,
        scaling: Some(bounds),
        ..on.options()
    }
}

fn suspended(simulation: &Simulation) -> Option<SuspendedState> {
    simulation.account.look(|world| {
        let target = world.scalable_target(world::SCALABLE_TARGET);
        target.and_then(|target| target.suspended_state.clone())
    })
}

fn state(inwards: bool, outwards: bool, scheduled: bool) -> SuspendedState {
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(inwards)
        .dynamic_scaling_out_suspended(outwards)
        .scheduled_scaling_suspended(scheduled)
        .build()
}

/// A long last hold, in which something can happen.
fn long_hold() -> Value {
    json!({ "plan": { "steps": [{ "weightPercent": 30, "holdSeconds": 600 }, { "weightPercent": 100, "holdSeconds": 300 }] } })
}

/// Goes on into the middle of the first hold.
async fn into_the_hold(simulation: &Simulation, execution: &mut Execution) {
    simulation
        .run_until(execution, "Wait before the next check")
        .await;
    let since = simulation.account.look(World::now);
    while simulation.account.look(World::now) < since + 120 {
        simulation.step(execution).await;
    }
}

#[rstest]
#[tokio::test]
async fn no_weight_rises_before_the_canary_has_the_tasks_for_it(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(json!("matchWeight"), json!("full"), json!({ "tasks": 3 }))] capacity: Value,
) {
    let options = Options {
        tasks: 7,
        ..on.options()
    };
    let simulation = Simulation::with(on, &options);
    let found = Arc::new(Mutex::new(Vec::new()));
    let hand = found.clone();
    simulation.account.on_call(move |world, call| {
        let Some(canary) = canary(world) else { return };
        if call.operation == on.write() || call.operation == "ModifyListener" {
            let (_, healthy) = world.running_and_healthy(&canary);
            let percent = 100.0 - world.stable_percent();
            hand.lock()
                .unwrap()
                .push((percent, desired(world, &canary), healthy));
        }
    });
    let more = json!({ "capacity": capacity, "plan": { "steps": [
        { "weightPercent": 5, "holdSeconds": 120 }, { "weightPercent": 15, "holdSeconds": 120 },
        { "weightPercent": 60, "holdSeconds": 120 }, { "weightPercent": 100, "holdSeconds": 120 }] } });
    simulation
        .deploy(request("2.0.0", more))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    let found = found.lock().unwrap().clone();
    let rising: Vec<_> = found
        .iter()
        .filter(|(percent, ..)| *percent > 0.0)
        .collect();
    for (percent, desired, healthy) in &rising {
        #[expect(clippy::cast_possible_truncation, reason = "a few tasks")]
        let least = match capacity.as_str() {
            Some("matchWeight") => (7.0 * percent / 100.0 - 0.01).ceil() as i32,
            Some(_) => 7,
            None => 3,
        };
        assert!(*desired >= least, "{desired} tasks at {percent} percent");
        assert!(
            i32::try_from(*healthy).unwrap() >= least,
            "{healthy} healthy at {percent} percent"
        );
    }
    if capacity == "matchWeight" {
        assert_eq!(rising[0].1, 1, "no more than are needed: {rising:?}");
    }
    assert!(
        rising.iter().any(|(percent, ..)| *percent > 99.0),
        "{rising:?}"
    );
}

#[rstest]
#[tokio::test]
async fn when_somebody_gives_stable_more_tasks_the_canary_follows_and_the_checks_go_on(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(false, true)] every_function_runs_twice: bool,
) {
    let simulation = Simulation::new(on);
    if every_function_runs_twice {
        simulation.lambdas.lose_every_first_answer();
    }
    let mut execution = simulation.start("first", request("2.0.0", long_hold()));
    into_the_hold(&simulation, &mut execution).await;
    assert_eq!(
        simulation
            .account
            .look(|world| desired(world, &canary(world).unwrap())),
        2
    );
    simulation
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 12);
    simulation.watch.change(|subject| {
        let stable = subject.before.services.get_mut("prod/checkout").unwrap();
        stable.desired = 12;
    });
    let scaled_at = simulation.account.look(World::now);
    let mut last_check = scaled_at;
    while execution.data()["progress"]["step"] == 0 {
        let next = execution.next_state().to_owned();
        simulation.step(&mut execution).await;
        let now = simulation.account.look(World::now);
        if next == "Check the canary's health" {
            assert!(
                now - last_check <= 90,
                "no check for {} seconds",
                now - last_check
            );
            last_check = now;
        }
    }
    assert!(
        simulation
            .account
            .look(|world| desired(world, &canary(world).unwrap()))
            >= 4,
        "30 percent of 12"
    );
    let told = execution.data()["progress"]["timeline"].to_string();
    assert!(
        told.contains("stable has grown, and the canary follows"),
        "{told}"
    );
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    assert_eq!(
        simulation
            .account
            .look(|world| desired(world, world::SERVICE)),
        12
    );
}

/// Runs a deployment while the autoscaler is on; gives the fewest tasks that stable should have had before its update.
async fn fewest_of_stable(on: On, bounds: (i32, i32), hold_scale_in: bool, tag: &str) -> i32 {
    let simulation = Simulation::with(on, &scaled(on, 8, bounds));
    // A mesh's route has 100 requests per second, and the two rules of the load balancer have 200.
    let each = if on == On::Alb { 25.0 } else { 12.5 };
    simulation
        .account
        .settings(|settings| settings.requests_per_task = Some(each));
    let fewest = Arc::new(Mutex::new(i32::MAX));
    let hand = fewest.clone();
    simulation.account.on_call(move |world, _| {
        let stable = world.service(world::CLUSTER, world::SERVICE).unwrap();
        if stable
            .task_definition()
            .is_some_and(|definition| definition.ends_with("checkout:1"))
        {
            let mut fewest = hand.lock().unwrap();
            *fewest = stable.desired_count.min(*fewest);
        }
    });
    let mut execution = simulation.start("first", request(tag, long_hold()));
    while execution.is_running() {
        simulation.step(&mut execution).await;
        if !hold_scale_in {
            simulation
                .account
                .suspend_scaling_by_hand(world::SCALABLE_TARGET, state(false, false, false));
        }
    }
    let fewest = *fewest.lock().unwrap();
    if hold_scale_in {
        let deployed = simulation.finish(execution).await;
        if tag == "2.0.0" {
            deployed.assert_promoted();
        } else {
            deployed.assert_ended("CanaryRolledBack", "Rolled back");
        }
        deployed.assert_no_request_was_lost();
        assert_eq!(suspended(&simulation), Some(state(false, false, false)));
    }
    fewest
}

#[rstest]
#[tokio::test]
async fn stable_keeps_its_tasks_although_the_canary_takes_its_load_and_would_lose_them_otherwise(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for tag in ["2.0.0", "2.0.0-bad"] {
        assert_eq!(fewest_of_stable(on, (2, 20), true, tag).await, 8, "{tag}");
    }
    let fewest = fewest_of_stable(on, (2, 20), false, "2.0.0").await;
    assert!(fewest < 8, "the autoscaler would have left {fewest} tasks");
}

#[rstest]
#[tokio::test]
async fn when_the_load_grows_stable_is_scaled_out_and_the_canary_follows(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::with(on, &scaled(on, 8, (2, 20)));
    let each = if on == On::Alb { 25.0 } else { 12.5 };
    simulation
        .account
        .settings(|settings| settings.requests_per_task = Some(each));
    let mut execution = simulation.start("first", request("2.0.0", long_hold()));
    into_the_hold(&simulation, &mut execution).await;
    simulation
        .account
        .settings(|settings| settings.requests_per_second *= 2.0);
    while execution.data()["progress"]["step"] == 0 {
        simulation.step(&mut execution).await;
    }
    let grown = simulation
        .account
        .look(|world| desired(world, world::SERVICE));
    assert!(grown > 8, "{grown}");
    let told = execution.data()["progress"]["timeline"].to_string();
    assert!(
        told.contains("stable has grown, and the canary follows"),
        "{told}"
    );
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    let at_full = simulation
        .account
        .look(|world| desired(world, &canary(world).unwrap()));
    assert!(at_full >= grown, "{at_full} beside {grown}");
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let after = simulation
        .account
        .look(|world| desired(world, world::SERVICE));
    assert!((at_full..=20).contains(&after), "{after}");
}

#[rstest]
#[tokio::test]
async fn after_a_promotion_a_scaled_service_has_what_the_canary_had_but_never_more_than_its_maximum(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for (bounds, tasks, expected) in [((2, 20), 9, 9), ((2, 6), 9, 6), ((2, 20), 3, 4)] {
        let simulation = Simulation::with(on, &scaled(on, 4, bounds));
        let more = json!({ "capacity": { "tasks": tasks } });
        simulation
            .deploy(request("2.0.0", more))
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
        let after = simulation
            .account
            .look(|world| desired(world, world::SERVICE));
        assert_eq!(after, expected, "{bounds:?}, {tasks}");
    }
}

#[rstest]
#[tokio::test]
async fn what_a_person_had_suspended_stays_so_after_every_ending(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
    #[values(false, true)] replaces: bool,
) {
    for before in [
        state(false, false, false),
        state(true, false, false),
        state(false, true, true),
        state(true, true, false),
    ] {
        let simulation = Simulation::with(on, &scaled(on, 4, (2, 10)));
        simulation
            .account
            .settings(|settings| settings.suspended_state_replaces = replaces);
        simulation
            .account
            .suspend_scaling_by_hand(world::SCALABLE_TARGET, before.clone());
        let simulation = simulation.begun_anew();
        let mut execution = simulation.start("first", request(tag, json!({})));
        simulation
            .run_until(&mut execution, "Check the canary's health")
            .await;
        let mut during = before.clone();
        during.dynamic_scaling_in_suspended = Some(true);
        assert_eq!(suspended(&simulation), Some(during));
        let deployed = simulation.finish(execution).await;
        if tag == "2.0.0" {
            deployed.assert_promoted();
        } else {
            deployed.assert_rolled_back("percent");
        }
        assert_eq!(suspended(&simulation), Some(before));
    }
}

#[rstest]
#[tokio::test]
async fn what_somebody_suspends_meanwhile_stays_suspended(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
) {
    let simulation = Simulation::with(on, &scaled(on, 4, (2, 10)));
    simulation
        .account
        .settings(|settings| settings.suspended_state_replaces = true);
    let mut execution = simulation.start("first", request(tag, json!({})));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation
        .account
        .suspend_scaling_by_hand(world::SCALABLE_TARGET, state(true, true, true));
    simulation.watch.change(|subject| {
        let target = subject
            .before
            .scalable_targets
            .get_mut(world::SCALABLE_TARGET);
        target.unwrap().suspended_state = Some(state(false, true, true));
    });
    simulation
        .finish(execution)
        .await
        .assert_no_request_was_lost();
    assert_eq!(suspended(&simulation), Some(state(false, true, true)));
    simulation.watch.assert_safe();
}

#[rstest]
#[tokio::test]
async fn a_rollback_by_hand_after_an_abort_lets_stable_be_scaled_in_again(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::with(on, &scaled(on, 4, (2, 10)));
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    execution.abort();
    assert_eq!(suspended(&simulation), Some(state(true, false, false)));
    let by_hand = simulation.start("by-hand", json!({ "rollBack": arn("first") }));
    simulation
        .finish(by_hand)
        .await
        .assert_rolled_back("a person asked for it");
    assert_eq!(suspended(&simulation), Some(state(false, false, false)));
}

#[rstest]
#[tokio::test]
async fn whoever_must_finish_a_deployment_is_told_that_scaling_in_is_still_suspended(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for (operation, kind) in [
        (on.delete(), FaultKind::Denied),
        (on.delete(), FaultKind::ServerError),
        (on.write(), FaultKind::Denied),
    ] {
        let simulation = Simulation::with(on, &scaled(on, 4, (2, 10)));
        let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
        simulation
            .run_until(&mut execution, "Roll back to stable")
            .await;
        simulation.account.inject(Fault {
            operation,
            which: Which::Always,
            kind: kind.clone(),
        });
        let deployed = simulation.finish(execution).await;
        deployed.assert_needs_attention("");
        assert_eq!(suspended(&simulation), Some(state(true, false, false)));
        if kind == FaultKind::Denied {
            assert_names_held_scaling(&deployed.report());
        } else {
            // The state machine itself knows no more than what there may be.
            let left = deployed.report().left;
            let scaling = |left: &Leftover| left.what.contains("scaling in of checkout may still");
            assert!(left.iter().any(scaling), "{left:?}");
        }
        simulation.account.heal();
        let by_hand = simulation.start("by-hand", json!({ "rollBack": arn("first") }));
        simulation.finish(by_hand).await.assert_rolled_back("");
    }
}

#[track_caller]
fn assert_names_held_scaling(report: &Report) {
    let named = report.left.iter().filter(|left| {
        left.command.contains("DynamicScalingInSuspended=false")
            && left.command.contains(world::SCALABLE_TARGET)
    });
    assert_eq!(named.count(), 1, "{:#?}", report.left);
}

#[rstest]
#[tokio::test]
async fn a_scalable_target_that_somebody_removes_meanwhile_is_no_hindrance(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::with(on, &scaled(on, 4, (2, 10)));
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    simulation
        .account
        .remove_scaling_by_hand(world::SCALABLE_TARGET);
    simulation.finish(execution).await.assert_promoted();
}

#[rstest]
#[tokio::test]
async fn a_stable_that_somebody_scaled_to_nothing_gets_tasks_before_it_gets_the_traffic_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("Check the canary's health", "Wait for the clean-up")] when: &str,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    while simulation.account.look(World::stable_percent) > 0.0 || execution.next_state() != when {
        simulation.step(&mut execution).await;
    }
    simulation.account.clock().advance(10); // so that the router has followed
    simulation
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 0);
    simulation.watch.change(|subject| {
        let stable = subject.before.services.get_mut("prod/checkout").unwrap();
        stable.desired = 0;
    });
    if when == "Wait for the clean-up" {
        // It was about to get the traffic back; it is waited for, until somebody gives it tasks again.
        for _ in 0..20 {
            simulation.step(&mut execution).await;
        }
        simulation
            .account
            .scale_by_hand(world::CLUSTER, world::SERVICE, 4);
    }
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_promoted()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let tasks = simulation
        .account
        .look(|world| desired(world, world::SERVICE));
    assert_eq!(tasks, 4, "as many as serve the traffic");
}

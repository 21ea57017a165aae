//! The ten faults that were found while the two tools ran, by their numbers.

use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde_json::json;
use serin_sim::state_machine::Status;
use serin_sim::{FaultKind, Which, World, world};

use super::super::{On, Simulation, arn, request};
use super::{LASTING, Struck, TRIES, creations, look, through};

/// Found 1: after a success, a second deployment whose canary cannot be made rolled back with the first one's handles and
/// deleted the live service.
#[rstest]
#[tokio::test]
async fn a_live_service_is_never_deleted_by_a_rollback_after_an_earlier_success(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
    #[values("RegisterTaskDefinition", "ECS CreateService")] operation: &'static str,
) {
    let more = json!({ "finish": { "mode": mode } });
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0", more.clone()))
        .await
        .assert_promoted();
    simulation.account.clock().advance(600);
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let live = services
        .into_iter()
        .find(|name| name.starts_with(world::SERVICE))
        .unwrap();
    let node = simulation.only_node();
    let simulation = simulation.before_the_next(&live, &node);
    let quota = FaultKind::Refused("ClientException", "the limit has been reached");
    simulation.strike(operation, Which::Always, &quota);
    let second = simulation.start("second", request("3.0.0", more));
    simulation
        .finish(second)
        .await
        .assert_rolled_back("the limit has been reached")
        .assert_no_request_was_lost();
    let (running, healthy) = simulation
        .account
        .look(|world| world.running_and_healthy(&live));
    assert_eq!((running, healthy), (4, 4));
}

/// Found 2: in 9 of 12 failing runs the bad canary got its next weight on the tick that failed it.
#[rstest]
#[tokio::test]
async fn a_canary_that_was_found_bad_never_gets_more_weight(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for offset in (0..60).step_by(7) {
        let simulation = Simulation::new(on);
        simulation.account.clock().advance(offset);
        let seen = Arc::new(Mutex::new(0.0_f64));
        let hand = seen.clone();
        simulation.account.on_call(move |world, _| {
            let mut most = hand.lock().unwrap();
            *most = most.max(100.0 - world.stable_percent());
        });
        simulation
            .deploy(request("2.0.0-bad", through(40.0)))
            .await
            .assert_rolled_back("percent");
        let most = *seen.lock().unwrap();
        assert!((most - 10.0).abs() < 0.1, "{most} percent");
    }
}

/// Found 2: a shift that was slow landed after the rollback: stuck at 40/60, while the screen had said 100/0. Here it is
/// called again after every step of the rollback.
#[rstest]
#[tokio::test]
async fn a_shift_that_is_called_after_the_rollback_has_begun_moves_nothing(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0-bad", through(60.0)));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    let state = execution.data().clone();
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    while execution.is_running() {
        simulation.step(&mut execution).await;
        let route = simulation.route();
        let late = simulation
            .invoke("shift-weight", "first", state.clone())
            .await;
        assert_eq!(late.unwrap_err().error, "DeploymentFenced");
        assert_eq!(simulation.route(), route);
    }
    simulation.watch.allow_percent(0.0);
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

/// Found 2, when the shift's write is on the wire already: it lands, and is undone before anything is removed.
#[rstest]
#[tokio::test]
async fn a_shift_that_lands_after_the_rollback_is_undone(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(0, 10, 29)] seconds_later: u64,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0-bad", through(60.0)));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    let shifted = simulation.route();
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    simulation.step(&mut execution).await;
    simulation.account.clock().advance(seconds_later);
    simulation.put_route(&shifted);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let done = deployed.report().done;
    let returned = done
        .iter()
        .filter(|event| event.what.starts_with("gave all the traffic to stable"));
    assert_eq!(returned.count(), 2, "{done:#?}");
}

/// Found 3: one failing look at the canary's targets ended the whole tool.
#[rstest]
#[tokio::test]
async fn a_look_at_the_targets_that_fails_three_times_does_not_end_the_deployment(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    simulation.strike(look(on), Which::Next(3), &FaultKind::ServerError);
    simulation
        .finish(execution)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    simulation.assert_only_the_version_is_new();
}

/// Found 3, for good: nobody can say that the canary can be reached, so it gets nothing.
#[rstest]
#[tokio::test]
async fn a_look_at_the_targets_that_always_fails_puts_everything_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for kind in LASTING {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0", json!({})));
        simulation
            .run_until(&mut execution, "Create the canary")
            .await;
        let which = match (on, &kind) {
            (On::AppMesh, _) => Which::Always,
            // The rollback looks too: what drains keeps its place in the rules.
            (On::Alb, FaultKind::Denied) => Which::Nth(1),
            (On::Alb, _) => Which::Next(TRIES),
        };
        simulation.strike(look(on), which, &kind);
        simulation
            .finish(execution)
            .await
            .assert_rolled_back(look(on))
            .assert_no_request_was_lost();
    }
}

/// Found 4: the old version cannot be deleted after the success; the tool died and told nobody.
#[rstest]
#[tokio::test]
async fn an_old_version_that_cannot_be_deleted_is_named_and_the_new_one_serves(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let simulation = Simulation::new(on);
    simulation.strike("DeleteService", Which::Always, &FaultKind::Denied);
    let more = json!({ "finish": { "mode": mode } });
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed
        .assert_needs_attention("DeleteService is not allowed")
        .assert_no_request_was_lost();
    let percent = if mode == "promote" { 100.0 } else { 0.0 };
    let found = simulation.account.look(World::stable_percent);
    assert!((found - percent).abs() < 0.1, "{found}");
    let left = deployed.report().left;
    let old = simulation.canary().unwrap();
    let old = if mode == "promote" {
        &old
    } else {
        world::SERVICE
    };
    assert!(
        left.iter().any(|left| left.command.contains(old)),
        "{left:?}"
    );
    // When it is allowed, the last of the commands finishes it.
    simulation.account.heal();
    let deployed = simulation.roll_back_by_hand().await;
    deployed.assert_no_request_was_lost();
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    assert!(!services.iter().any(|name| name == old), "{services:?}");
}

/// Found 5: a step of "abc" or -20 percent was answered with 200, and a whole canary built before it failed.
#[rstest]
#[tokio::test]
async fn a_step_that_is_no_percentage_is_refused_before_anything_is_built(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for percent in [json!("abc"), json!(-20), json!(null), json!([50])] {
        let simulation = Simulation::new(on);
        let plan = json!({ "plan": { "stepPercent": percent, "intervalSeconds": 120 } });
        simulation
            .deploy(request("2.0.0", plan))
            .await
            .assert_refused("InvalidRequest", "stepPercent");
        simulation.assert_nothing_has_changed();
        let calls = simulation.account.calls().into_iter();
        // The request is kept as it came, and that it was refused is kept and told.
        let others = ["GetItem", "UpdateItem", "PutEvents"];
        let wrote: Vec<_> = calls
            .filter(|call| {
                !call.operation.starts_with("Describe") && !others.contains(&call.operation)
            })
            .collect();
        assert!(wrote.is_empty(), "{wrote:?}");
    }
}

/// Found 6: the status existed only on an open stream of events. Here it is the execution's own, and whoever asks again
/// weeks later gets the same answer.
#[rstest]
#[tokio::test]
async fn whoever_asks_after_the_end_gets_the_whole_story(#[values(On::AppMesh, On::Alb)] on: On) {
    for tag in ["2.0.0", "2.0.0-bad"] {
        let simulation = Simulation::new(on);
        let deployed = simulation.deploy(request(tag, json!({}))).await;
        let report = deployed.report();
        assert!(!report.why.is_empty() && !report.verdicts.is_empty());
        let told: Vec<_> = report
            .done
            .iter()
            .map(|event| event.what.as_str())
            .collect();
        for word in [
            "created the canary",
            "shifted 10 percent",
            "gave all the traffic to",
        ] {
            assert!(
                told.iter().any(|event| event.contains(word)),
                "no {word} in {told:#?}"
            );
        }
        assert!(report.done.is_sorted_by_key(|event| event.at), "in order");
        simulation.account.clock().advance(14 * 86_400);
        let between = simulation.account.snapshot();
        let asked = simulation.start("asked", json!({ "rollBack": arn("first") }));
        let again = simulation.finish(asked).await;
        let Status::Failed { cause, .. } = &again.execution.status else {
            panic!("only a promotion succeeds")
        };
        let ended = if tag == "2.0.0" {
            "promoted"
        } else {
            "rolledBack"
        };
        assert!(cause.contains(ended), "{cause}");
        let changed = simulation.account.differences_since(&between);
        assert_eq!(changed, Vec::<String>::new());
    }
}

/// Found 7: when the template was invalid, the workflow went on without a canary, in the worst case to 100 percent of
/// nothing. Here no object of the canary can be made, or each is said to be made and is not.
#[rstest]
#[tokio::test]
async fn a_canary_that_was_never_created_gets_no_traffic(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(
        FaultKind::Refused("InvalidParameterException", "no"),
        FaultKind::NeverSent
    )]
    kind: FaultKind,
) {
    for operation in creations(on) {
        let simulation = Simulation::new(on);
        simulation.account.on_call(|world, call| {
            let percent = world.stable_percent();
            assert!(percent > 99.9, "{percent} after {}", call.operation);
        });
        simulation.strike(operation, Which::Always, &kind);
        let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
        let name = operation.rsplit(' ').next().unwrap();
        deployed
            .assert_rolled_back(name)
            .assert_no_request_was_lost();
        assert!(deployed.report().verdicts.is_empty());
    }
}

/// Found 8: the whole template travelled in the execution's input and was copied into every state's history. Here the
/// names of things travel, and none of their contents.
#[rstest]
#[tokio::test]
async fn what_travels_through_the_states_is_small_and_holds_no_definition(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let (definition, variable) = simulation.account.look(|world| {
        let (definition, _) = world.task_definition("checkout").unwrap();
        let containers = definition.container_definitions();
        let variables = containers
            .iter()
            .flat_map(|container| container.environment().iter());
        let longest = variables
            .filter_map(|variable| variable.name())
            .max_by_key(|name| name.len());
        (format!("{definition:?}"), longest.unwrap().to_owned())
    });
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    let mut largest = 0;
    while execution.is_running() {
        let text = execution.data().to_string();
        largest = largest.max(text.len());
        assert!(!text.contains(&variable), "{text}");
        simulation.step(&mut execution).await;
    }
    simulation.finish(execution).await.assert_promoted();
    assert!(definition.len() > 1000);
    assert!(largest < 24_576, "{largest} bytes");
}

/// Found 9: the removal of the old version fails in a way whose name the workflow does not know, and leaves two versions.
/// Here the clean-up dies every time that it removes something, for as long as it is tried.
#[rstest]
#[tokio::test]
async fn a_clean_up_that_dies_every_time_is_finished_by_the_rollback_step_and_told(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
    #[values(FaultKind::KilledBefore, FaultKind::KilledAfter)] kind: FaultKind,
) {
    // As often as the clean-up's state is tried.
    const TRIES: usize = 31;
    let simulation = Simulation::new(on);
    let more = json!({ "finish": { "mode": mode } });
    let mut execution = simulation.start("first", request("2.0.0", more));
    // Before that, only a person could say which version is the good one.
    while !execution.data()["progress"]["cleanup"]["trafficSettledAt"].is_string() {
        simulation.step(&mut execution).await;
    }
    simulation.strike("DescribeServices", Which::Next(TRIES), &kind);
    let deployed = simulation.finish(execution).await;
    deployed.assert_no_request_was_lost();
    let why = deployed.report().why;
    assert!(
        why.contains("the new version is the stable one and nothing else is left"),
        "{why}"
    );
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let ours = services.iter().filter(|name| name.starts_with("checkout"));
    assert_eq!(ours.count(), 1, "{services:?}");
    simulation.watch.assert_safe();
}

/// Found 10: a rollback that breaks off half-way ended with whatever had been applied so far. Here it dies once after each
/// of its calls, one by one, or that call is not answered.
#[rstest]
#[tokio::test]
async fn a_rollback_that_breaks_off_after_any_of_its_calls_goes_on_where_it_was(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(FaultKind::KilledAfter, FaultKind::AnswerLost)] kind: FaultKind,
) {
    for number in 1.. {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
        simulation
            .run_until(&mut execution, "Roll back to stable")
            .await;
        let before = simulation.account.calls().len();
        simulation.strike("*", Which::Nth(number), &kind);
        let deployed = simulation.finish(execution).await;
        deployed
            .assert_rolled_back("percent")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
        if simulation.account.calls().len() - before < number {
            break;
        }
    }
}

//! An execution that did not come to its end, and who repairs what it has left.

use rstest::rstest;
use serde_json::json;
use serin_driver::leftovers::unnamed;
use serin_sim::state_machine::Status;
use serin_sim::{Fault, FaultKind, Which, World, world};

use super::{On, Simulation, arn, request};

/// A deployment of a good version whose execution is stopped before this state.
async fn stopped_in(on: On, state: &str) -> Simulation {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation.run_until(&mut execution, state).await;
    simulation.abort(&mut execution, "first");
    simulation
}

#[rstest]
#[tokio::test]
async fn an_execution_that_is_stopped_in_any_state_is_recovered_without_a_trace(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
) {
    for states in 0.. {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request(tag, json!({})));
        for _ in 0..states {
            simulation.step(&mut execution).await;
        }
        let last = execution.path.last().cloned().unwrap_or_default();
        if !execution.is_running() || last == "Clean up behind the new version" {
            break;
        }
        simulation.abort(&mut execution, "first");
        let recovered = simulation.recover("first").await;
        let was_over = execution.data()["ending"].is_string();
        if states < 2 || was_over {
            recovered.assert_nothing_to_recover();
        } else {
            recovered.assert_recovered();
        }
        recovered
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
        simulation
            .recover("first")
            .await
            .assert_nothing_to_recover();
        assert!(simulation.sweep().await.is_empty(), "after {last}");
    }
}

#[rstest]
#[tokio::test]
async fn after_every_ordinary_ending_the_recovery_does_nothing_any_number_of_times(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for tag in ["2.0.0", "2.0.0-bad"] {
        let simulation = Simulation::new(on);
        let deployed = simulation.deploy(request(tag, json!({}))).await;
        let status = if deployed.execution.status == Status::Succeeded {
            "SUCCEEDED"
        } else {
            "FAILED"
        };
        simulation
            .account
            .set_execution(&arn("first"), status.into());
        let after = simulation.account.snapshot();
        for _ in 0..3 {
            simulation
                .recover("first")
                .await
                .assert_nothing_to_recover();
            assert!(simulation.sweep().await.is_empty());
        }
        assert_eq!(
            simulation.account.differences_since(&after),
            Vec::<String>::new()
        );
    }
}

#[rstest]
#[tokio::test]
async fn when_the_event_of_its_end_is_lost_the_sweep_finds_it(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    assert!(simulation.sweep().await.is_empty(), "it runs");
    simulation.abort(&mut execution, "first");
    let recovered = simulation.sweep().await;
    assert_eq!(recovered.len(), 1);
    recovered[0].assert_recovered().assert_no_request_was_lost();
    assert!(simulation.sweep().await.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_recovery_that_fails_for_hours_succeeds_when_the_ledger_answers_again(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = stopped_in(on, "Wait before the next check").await;
    simulation.account.inject(Fault {
        operation: "GetItem",
        which: Which::Always,
        kind: FaultKind::ServerError,
    });
    let failed = simulation.recover("first").await;
    failed.assert_needs_attention("did not answer");
    simulation.account.heal();
    simulation.account.clock().advance(7200);
    let recovered = simulation.sweep().await;
    recovered[0].assert_recovered();
}

#[rstest]
#[tokio::test]
async fn a_recovery_that_may_not_remove_the_canary_names_what_is_left_once_and_the_sweep_does_not_nag(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = stopped_in(on, "Wait before the next check").await;
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let told = simulation.recover("first").await;
    told.assert_needs_attention("the rollback cannot go on")
        .assert_stable_has_all_traffic();
    for left in told.report().left {
        assert!(left.arn.starts_with("arn:aws:"), "{left:?}");
    }
    assert!(simulation.sweep().await.is_empty());
    simulation
        .recover("first")
        .await
        .assert_nothing_to_recover();
}

#[rstest]
#[tokio::test]
async fn an_execution_that_is_redriven_after_its_recovery_notices_it_and_stops(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for state in [
        "Create the canary",
        "Shift traffic to the next weight",
        "Check the canary's health",
        "Clean up behind the new version",
    ] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0", json!({})));
        simulation.run_until(&mut execution, state).await;
        let redriven = execution.clone();
        simulation.abort(&mut execution, "first");
        simulation.recover("first").await.assert_recovered();
        simulation
            .account
            .set_execution(&arn("first"), "RUNNING".into());
        let deployed = simulation.finish(redriven).await;
        deployed
            .assert_rolled_back("")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

#[rstest]
#[tokio::test]
async fn an_execution_that_runs_again_is_not_recovered(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    simulation
        .recover("first")
        .await
        .assert_nothing_to_recover();
    simulation
        .finish(execution)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_promotion_that_is_stopped_while_stable_is_updated_leaves_the_traffic_on_the_canary_and_calls_a_person(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = stopped_in(on, "Wait for the clean-up").await;
    let recovered = simulation.recover("first").await;
    recovered
        .assert_needs_attention("the execution is ABORTED")
        .assert_no_request_was_lost();
    let percent = simulation.account.look(World::stable_percent);
    assert!(percent.abs() < f64::EPSILON, "stable has {percent} percent");
    let left = recovered.report().left;
    assert!(
        left[0].command.contains("--task-definition")
            && left[0].arn.ends_with("service/prod/checkout"),
        "{left:?}"
    );
    assert_eq!(unnamed(simulation.traces(), &left), Vec::<String>::new());
    let others = &left[1..];
    assert!(
        others
            .iter()
            .all(|other| other.command.contains("rollBack")),
        "the canary serves, so no command may take it away: {others:#?}"
    );
}

#[rstest]
#[tokio::test]
async fn what_may_not_even_be_read_is_named_by_its_name(#[values(On::AppMesh, On::Alb)] on: On) {
    let (operation, name) = match on {
        On::AppMesh => ("ListServices", "service/*"),
        On::Alb => ("DescribeTargetGroups", "targetgroup/checkout-tg-canary-"),
    };
    let simulation = stopped_in(on, "Wait before the next check").await;
    simulation.account.inject(Fault {
        operation,
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let told = simulation.recover("first").await;
    told.assert_needs_attention(operation);
    let left = told.report().left;
    assert_eq!(unnamed(simulation.traces(), &left), Vec::<String>::new());
    let by_name = left.iter().find(|left| left.arn.contains(name)).unwrap();
    assert!(
        by_name.arn.ends_with("/*") && by_name.what.contains("could not be seen"),
        "{by_name:?}"
    );
}

#[rstest]
#[tokio::test]
async fn a_removal_behind_the_promotion_that_is_not_allowed_names_only_what_is_to_go(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let finish = json!({ "capacity": "full", "finish": { "mode": mode } });
    let deployed = simulation.deploy(request("2.0.0", finish)).await;
    deployed
        .assert_needs_attention(on.delete())
        .assert_no_request_was_lost();
    let left = deployed.report().left;
    let (last, gone) = left.split_last().unwrap();
    assert!(
        !gone.is_empty() && last.command.contains("rollBack"),
        "{left:?}"
    );
    for left in gone {
        let of_the_canary = left.what.contains("-canary");
        assert_eq!(of_the_canary, mode == "promote", "{left:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_promotion_that_is_stopped_before_it_has_updated_stable_is_put_back_once_stable_is_steady(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(true, false)] steady: bool,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    // The function dies right after it has told the ledger.
    simulation.account.inject(Fault {
        operation: "UpdateItem",
        which: Which::Nth(1),
        kind: FaultKind::KilledAfter,
    });
    let killed = simulation
        .invoke("cleanup", "first", execution.data().clone())
        .await;
    assert!(killed.is_err());
    simulation.abort(&mut execution, "first");
    if !steady {
        simulation
            .account
            .change(|world| world.kill_tasks(world::SERVICE));
    }
    simulation
        .recover("first")
        .await
        .assert_recovered()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_clean_up_that_is_stopped_after_the_traffic_is_where_it_stays_is_finished(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let simulation = Simulation::new(on);
    let more = json!({ "finish": { "mode": mode } });
    let mut execution = simulation.start("first", request("2.0.0", more));
    loop {
        simulation
            .run_until(&mut execution, "Wait for the clean-up")
            .await;
        let settled = execution.data()["progress"]["cleanup"]["trafficSettledAt"].is_string();
        if settled {
            break;
        }
        simulation.step(&mut execution).await;
    }
    simulation.abort(&mut execution, "first");
    let recovered = simulation.recover("first").await;
    recovered
        .assert_promoted_by_recovery()
        .assert_no_request_was_lost();
    let services = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    assert_eq!(
        services
            .iter()
            .filter(|name| name.starts_with(world::SERVICE))
            .count(),
        1,
        "{services:?}"
    );
}

/// A deployment that is stopped when the canary has all the traffic.
async fn stopped_at_full_weight(on: On) -> Simulation {
    let simulation = Simulation::new(on);
    let all_at_once =
        json!({ "plan": { "steps": [{ "weightPercent": 100, "holdSeconds": 120 }] } });
    let mut execution = simulation.start("first", request("2.0.0", all_at_once));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation.abort(&mut execution, "first");
    simulation
}

/// A person sets stable's number of tasks, which from now on is how it has to stay.
fn scale_stable(simulation: &Simulation, tasks: i32) {
    simulation
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, tasks);
    simulation.watch.change(|subject| {
        let stable = format!("{}/{}", world::CLUSTER, world::SERVICE);
        subject
            .before
            .services
            .get_mut(&stable)
            .expect("stable was there before")
            .desired = tasks;
    });
    simulation.account.clock().advance(300);
}

#[rstest]
#[tokio::test]
async fn a_stable_whose_tasks_have_just_died_gets_the_traffic_back_as_soon_as_one_can_serve(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = stopped_at_full_weight(on).await;
    simulation
        .account
        .change(|world| world.kill_tasks(world::SERVICE));
    let recovered = simulation.recover("first").await;
    recovered
        .assert_recovered()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_stable_that_does_not_come_back_leaves_the_traffic_on_the_canary_and_what_the_report_says_mends_it(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = stopped_at_full_weight(on).await;
    scale_stable(&simulation, 0);
    let recovered = simulation.recover("first").await;
    recovered
        .assert_needs_attention("no task that can serve")
        .assert_no_request_was_lost();
    let percent = simulation.account.look(World::stable_percent);
    assert!(percent.abs() < f64::EPSILON, "stable has {percent} percent");
    let left = recovered.report().left;
    assert!(left[0].command.ends_with("--desired-count 4"), "{left:?}");

    scale_stable(&simulation, 4);
    let by_hand = simulation.start("by-hand", json!({ "rollBack": arn("first") }));
    simulation
        .finish(by_hand)
        .await
        .assert_rolled_back("a person asked for it")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn not_being_allowed_to_look_at_stable_does_not_keep_the_traffic_on_a_bad_canary(
    #[values(On::AppMesh, On::Alb)] on: On,
    // The first look is at stable; the canary may be seen then.
    #[values(Which::Nth(1), Which::Always)] which: Which,
) {
    let simulation = stopped_in(on, "Wait before the next check").await;
    simulation.account.inject(Fault {
        operation: "DescribeServices",
        which,
        kind: FaultKind::Denied,
    });
    let recovery = simulation.start_recovery("at-once", json!({ "recover": arn("first") }));
    let before = simulation.account.clock().now();
    let mut recovery = recovery;
    simulation.step(&mut recovery).await;
    let seconds = simulation.account.clock().now().as_second() - before.as_second();
    let percent = simulation.account.look(World::stable_percent);
    assert!(
        (percent - 100.0).abs() < f64::EPSILON && seconds < 10,
        "{percent} percent after {seconds} s"
    );
}

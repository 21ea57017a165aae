//! The twenty faults that both tools were run under, by their numbers.

use rstest::rstest;
use serde_json::{Value, json};
use serin::Outcome;
use serin_sim::{AlarmStateValue, FaultKind, Which, World, world};

use super::super::{On, Simulation, arn, request};
use super::{LASTING, Struck, TRIES, through};

/// Fault 1: a health call that always fails. The others stayed at 60/40 and 80/20 without a status.
#[rstest]
#[tokio::test]
async fn a_health_call_that_fails_for_good_puts_everything_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("GetMetricData", "DescribeAlarms")] operation: &'static str,
) {
    for kind in LASTING {
        let simulation = Simulation::new(on);
        let quiet = AlarmStateValue::Ok;
        simulation.account.set_alarm("errors", quiet, "quiet");
        let checks =
            json!({ "checks": { "errorRatePercent": { "max": 1.0 }, "alarms": ["errors"] } });
        let mut execution = simulation.start("first", request("2.0.0", checks));
        simulation.run_until_percent(&mut execution, 10.0).await;
        simulation.strike(operation, Which::Always, &kind);
        simulation
            .finish(execution)
            .await
            .assert_rolled_back(operation)
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

/// Fault 1, once and not retryable: a canary that could not be judged gets no more traffic.
#[rstest]
#[tokio::test]
async fn a_health_call_that_is_refused_once_puts_everything_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation.run_until_percent(&mut execution, 10.0).await;
    let refused = FaultKind::Refused("InvalidParameterValue", "not this query");
    simulation.strike("GetMetricData", Which::Nth(1), &refused);
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("not this query")
        .assert_no_request_was_lost();
}

/// Fault 2: a shift that is throttled as long as it is tried. The others stayed at 60/40.
#[rstest]
#[tokio::test]
async fn a_shift_that_is_throttled_for_good_puts_everything_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(0.0, 10.0)] percent: f64,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(40.0)));
    if percent > 0.0 {
        simulation.run_until_percent(&mut execution, percent).await;
    }
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    // One of a load balancer's two rules is enough.
    simulation.strike(on.write(), Which::Next(TRIES), &FaultKind::Throttled);
    simulation
        .finish(execution)
        .await
        .assert_rolled_back(on.write())
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

/// Fault 2, and no route can be written for hours, so that nobody can put anything back: then both versions go on serving,
/// the status says so, and the command that it gives puts everything back later.
#[rstest]
#[tokio::test]
async fn a_router_that_can_no_longer_be_written_leaves_both_versions_serving_and_names_the_command(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for kind in [FaultKind::Throttled, FaultKind::Denied] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0", through(40.0)));
        simulation.run_until_percent(&mut execution, 10.0).await;
        simulation.strike(on.write(), Which::Always, &kind);
        simulation
            .finish(execution)
            .await
            .assert_needs_attention(on.write())
            .assert_no_request_was_lost();
        simulation.account.heal();
        simulation
            .roll_back_by_hand()
            .await
            .assert_rolled_back("")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

/// Fault 3: the answer of a good shift is lost, here of every shift.
#[rstest]
#[tokio::test]
async fn a_good_shift_whose_answer_is_always_lost_is_found_to_be_done(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(FaultKind::AnswerLost, FaultKind::DoneThenServerError)] kind: FaultKind,
) {
    let simulation = Simulation::new(on);
    simulation.strike(on.write(), Which::Always, &kind);
    simulation
        .deploy(request("2.0.0", through(40.0)))
        .await
        .assert_promoted()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    simulation.assert_only_the_version_is_new();
}

/// Fault 4: stopped by hand at 25 percent. The state machine of the one stayed at 75/25.
#[rstest]
#[tokio::test]
async fn a_deployment_that_is_stopped_at_25_percent_is_put_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(25.0)));
    simulation.run_until_percent(&mut execution, 25.0).await;
    simulation.stop(&mut execution, "ABORTED");
    simulation
        .recover("first")
        .await
        .assert_recovered()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

/// Fault 4, while the canary is being built: the other tool answered 200 and went on to 100 percent.
#[rstest]
#[tokio::test]
async fn a_deployment_that_is_stopped_while_its_canary_is_built_goes_no_further(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait for the canary")
        .await;
    simulation.stop(&mut execution, "ABORTED");
    let deployed = simulation.recover("first").await;
    deployed.assert_recovered().assert_no_request_was_lost();
    assert!(
        deployed
            .report()
            .done
            .iter()
            .all(|event| !event.what.contains("shifted")),
        "{:?}",
        deployed.report().done
    );
}

/// Fault 5: what runs the deployment dies at 50 percent. Both others stayed at 50/50.
#[rstest]
#[tokio::test]
async fn a_deployment_whose_execution_dies_at_50_percent_is_put_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("FAILED", "TIMED_OUT")] status: &str,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(50.0)));
    simulation.run_until_percent(&mut execution, 50.0).await;
    simulation.stop(&mut execution, status);
    simulation
        .recover("first")
        .await
        .assert_recovered()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

/// Fault 5, a function dies instead: each time that it runs, before and after its calls.
#[rstest]
#[tokio::test]
async fn a_function_that_dies_every_time_at_50_percent_puts_everything_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(FaultKind::KilledBefore, FaultKind::KilledAfter)] kind: FaultKind,
) {
    for dies_in_the_shift in [false, true] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0", through(50.0)));
        simulation.run_until_percent(&mut execution, 50.0).await;
        if dies_in_the_shift {
            // Its first act is to ask the ledger.
            simulation
                .run_until(&mut execution, "Shift traffic to the next weight")
                .await;
            simulation.strike("GetItem", Which::Next(TRIES), &kind);
        } else {
            simulation.strike("GetMetricData", Which::Always, &kind);
        }
        simulation
            .finish(execution)
            .await
            .assert_rolled_back("killed")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

/// Fault 6: a bad canary, and no metric data at all. Both others called it a success.
#[rstest]
#[tokio::test]
async fn a_bad_canary_without_metric_data_is_never_called_healthy(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let more = json!({ "deadlineSeconds": 3600 });
    let mut execution = simulation.start("first", request("2.0.0-bad", more));
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    simulation
        .account
        .settings(|settings| settings.metrics_silent = true);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("the deployment's deadline has passed")
        .assert_stable_has_all_traffic();
    let verdicts = deployed.report().verdicts;
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.outcome == Outcome::Inconclusive
                && verdict.weight_percent.tenths() == 100),
        "{verdicts:?}"
    );
}

/// Fault 7: the data of a bad canary come three minutes late. One of the others never saw them, the other at 80 percent.
#[rstest]
#[tokio::test]
async fn a_bad_canary_whose_data_come_three_minutes_late_gets_no_further_than_its_first_step(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0-bad", through(40.0)));
    simulation
        .run_until(&mut execution, "Shift traffic to the next weight")
        .await;
    simulation
        .account
        .settings(|settings| settings.metric_delay = 180);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic();
    let verdict = deployed.report().verdict.unwrap();
    assert_eq!(
        (verdict.outcome, verdict.weight_percent.tenths()),
        (Outcome::Unhealthy, 100)
    );
}

/// Fault 8: only the old version fails.
#[rstest]
#[tokio::test]
async fn a_good_canary_beside_a_failing_old_version_is_promoted(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation
        .account
        .settings(|settings| settings.error_rates = vec![("1.0.0".to_owned(), 0.1)]);
    simulation.account.clock().advance(600);
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    simulation.assert_only_the_version_is_new();
}

/// Fault 9: the canary fails only when it has all the traffic. Neither of the others looks then.
#[rstest]
#[tokio::test]
async fn a_canary_that_fails_only_at_100_percent_is_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let simulation = Simulation::new(on);
    let more = json!({ "finish": { "mode": mode } });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation.run_until_percent(&mut execution, 100.0).await;
    simulation
        .account
        .settings(|settings| settings.error_rates = vec![("2.0.0".to_owned(), 0.1)]);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let verdict = deployed.report().verdict.unwrap();
    assert_eq!(verdict.weight_percent.tenths(), 1000);
}

/// Fault 10: one step of 100 percent, in a second deployment. One of the others did not look at all, the other died.
#[rstest]
#[tokio::test]
async fn a_second_deployment_that_goes_straight_to_100_percent_is_judged_before_it_is_promoted(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let at_once = json!({ "plan": { "steps": [{ "weightPercent": 100, "holdSeconds": 120 }] } });
    for tag in ["3.0.0", "3.0.0-bad"] {
        let simulation = Simulation::new(on);
        simulation
            .deploy(request("2.0.0", at_once.clone()))
            .await
            .assert_promoted();
        simulation.account.clock().advance(600);
        let simulation = simulation.before_the_next(world::SERVICE, world::NODE);
        let second = simulation.start("second", request(tag, at_once.clone()));
        let deployed = simulation.finish(second).await;
        deployed
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
        let verdict = deployed.report().verdict.unwrap();
        assert_eq!(verdict.weight_percent.tenths(), 1000);
        if tag == "3.0.0" {
            deployed.assert_promoted();
            assert_eq!(verdict.outcome, Outcome::Healthy);
            simulation.assert_only_the_version_is_new();
        } else {
            deployed.assert_rolled_back("percent");
        }
    }
}

/// Fault 11: steps of 0 and 101 percent. The others looped for ever, took 101 for 100, or failed and left a stack.
#[rstest]
#[tokio::test]
async fn steps_of_0_and_of_101_percent_are_refused_before_anything_is_created(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for percent in [0, 101] {
        for plan in [
            json!({ "stepPercent": percent, "intervalSeconds": 120 }),
            json!({ "steps": [{ "weightPercent": percent, "holdSeconds": 120 }] }),
        ] {
            let simulation = Simulation::new(on);
            let deployed = simulation
                .deploy(request("2.0.0", json!({ "plan": plan })))
                .await;
            deployed.assert_refused("InvalidRequest", "plan");
            simulation.assert_nothing_has_changed();
        }
    }
}

/// Fault 11: steps of 33 percent end at exactly 100.
#[rstest]
#[tokio::test]
async fn steps_of_33_percent_end_at_exactly_100(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let plan = json!({ "plan": { "stepPercent": 33, "intervalSeconds": 120 } });
    let deployed = simulation.deploy(request("2.0.0", plan)).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let verdicts = deployed.report().verdicts.into_iter();
    let weights: Vec<_> = verdicts
        .map(|verdict| verdict.weight_percent.tenths())
        .collect();
    assert_eq!(weights, [330, 660, 990, 1000]);
}

/// Fault 12: the same version twice. One of the others tried to delete the live one.
#[rstest]
#[tokio::test]
async fn the_same_version_twice_never_touches_the_live_one(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("promote", "replace")] mode: &str,
) {
    let more = json!({ "finish": { "mode": mode } });
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0", more.clone()))
        .await
        .assert_promoted();
    simulation.account.clock().advance(600);
    let live = simulation
        .account
        .look(|world| world.services(world::CLUSTER))
        .into_iter()
        .find(|name| name.starts_with(world::SERVICE))
        .unwrap();
    let node = simulation.only_node();
    let simulation = simulation.before_the_next(&live, &node);
    let mut second = simulation.start("second", request("2.0.0", more));
    while simulation.canary_percent() < 0.1 && second.is_running() {
        simulation.step(&mut second).await;
        let (running, healthy) = simulation
            .account
            .look(|world| world.running_and_healthy(&live));
        assert_eq!((running, healthy), (4, 4));
        if mode == "replace" && second.next_state() == "Check the canary's health" {
            break;
        }
    }
    simulation
        .finish(second)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

/// Fault 13: two at once. The weights of the one flipped to and fro; in the other the second left its stack.
#[rstest]
#[tokio::test]
async fn a_second_deployment_at_any_moment_of_the_first_is_refused_and_changes_nothing(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
) {
    let simulation = Simulation::new(on);
    let mut first = simulation.start("first", request(tag, json!({})));
    simulation.run_until(&mut first, "Create the canary").await;
    for number in 0.. {
        simulation.step(&mut first).await;
        if !first.is_running()
            || first.next_state() == "Promoted"
            || first.next_state() == "Rolled back"
        {
            break;
        }
        if first.data()["done"] == true && first.data()["report"].is_object() {
            continue; // the lock has been given back
        }
        let between = simulation.account.snapshot();
        let second = simulation.start(&format!("second-{number}"), request("3.0.0", json!({})));
        simulation
            .finish(second)
            .await
            .assert_refused("AnotherDeploymentInProgress", &arn("first"));
        let changed = simulation.account.differences_since(&between);
        assert_eq!(changed, Vec::<String>::new());
    }
    let deployed = simulation.finish(first).await;
    deployed.assert_no_request_was_lost();
    if tag == "2.0.0" {
        deployed.assert_promoted();
        simulation.assert_only_the_version_is_new();
    } else {
        deployed.assert_rolled_back("percent");
    }
}

/// Fault 14: a rich route. The one that shifts by a template lost header matches, priority, time limits and retries.
#[rstest]
#[tokio::test]
async fn a_rich_route_is_the_same_afterwards(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
) {
    let options = world::Options {
        routes: vec![
            world::RouteKind::Http,
            world::RouteKind::Http2,
            world::RouteKind::Grpc,
        ],
        stable_weight: 40,
        other_weight: Some(20),
        second_router: on == On::AppMesh,
        forward_stickiness: (on == On::Alb).then_some(600),
        ..on.options()
    };
    let simulation = Simulation::with(on, &options);
    let deployed = simulation.deploy(request(tag, json!({}))).await;
    deployed.assert_no_request_was_lost();
    if tag == "2.0.0" {
        deployed.assert_promoted();
        simulation.assert_only_the_version_is_new();
    } else {
        deployed.assert_rolled_back("percent");
    }
}

/// Fault 15: a bad canary behind TCP, where only an alarm can know it; behind a load balancer it is a Network Load Balancer.
/// One of the others could neither shift nor roll back, the other stayed at 80/20.
#[rstest]
#[tokio::test]
async fn a_bad_canary_behind_tcp_is_rolled_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let options = match on {
        On::AppMesh => world::Options {
            routes: vec![world::RouteKind::Tcp],
            ..on.options()
        },
        On::Alb => world::Options::nlb(),
    };
    let simulation = Simulation::with(on, &options);
    let quiet = AlarmStateValue::Ok;
    simulation.account.set_alarm("errors", quiet, "quiet");
    let checks = json!({ "checks": { "errorRatePercent": null, "alarms": ["errors"] } });
    let mut execution = simulation.start("first", request("2.0.0-bad", checks));
    simulation.run_until_percent(&mut execution, 50.0).await;
    let firing = AlarmStateValue::Alarm;
    simulation.account.set_alarm("errors", firing, "too many");
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("errors")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

/// Fault 16: the rollback's first write fails once and is not retryable, or three times with a fault of AWS's. One of the
/// others stayed at 40/60 on the bad canary, the other deleted the version that had 20 percent of the traffic.
#[rstest]
#[tokio::test]
async fn a_rollback_whose_first_write_fails_goes_on_until_stable_has_everything(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for (which, kind) in [
        (
            Which::Nth(1),
            FaultKind::Refused("BadRequestException", "not now"),
        ),
        (Which::Nth(1), FaultKind::Denied),
        (Which::Next(3), FaultKind::ServerError),
    ] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0-bad", through(60.0)));
        simulation
            .run_until(&mut execution, "Roll back to stable")
            .await;
        simulation.strike(on.write(), which, &kind);
        simulation
            .finish(execution)
            .await
            .assert_rolled_back("percent")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

/// Fault 17: the canary of a run that was killed is still there. Nobody mentioned it, or the next run stayed at 75/25.
#[rstest]
#[tokio::test]
async fn a_canary_that_a_killed_run_left_is_named_and_put_away_before_the_next_begins(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "3.0.0")] next: &str,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(25.0)));
    simulation.run_until_percent(&mut execution, 25.0).await;
    simulation.stop(&mut execution, "ABORTED");
    let between = simulation.account.snapshot();
    let early = simulation.start("early", request(next, json!({})));
    simulation
        .finish(early)
        .await
        .assert_refused("AnotherDeploymentInProgress", &arn("first"));
    let changed = simulation.account.differences_since(&between);
    assert_eq!(changed, Vec::<String>::new());
    simulation.recover("first").await.assert_recovered();
    let second = simulation.start("second", request(next, json!({})));
    simulation
        .finish(second)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    simulation.assert_only_the_version_is_new();
}

/// Fault 18: the canary never becomes healthy. One of the others asked for ever, the other left its stack.
#[rstest]
#[tokio::test]
async fn a_canary_that_never_becomes_healthy_is_rolled_back_in_time_and_gets_no_traffic(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let began = simulation.account.look(World::now);
    let more = json!({ "readyWithinSeconds": 600 });
    let deployed = simulation
        .deploy(request("2.0.0-never-healthy", more))
        .await;
    deployed.assert_rolled_back("").assert_no_request_was_lost();
    let seconds = simulation.account.look(World::now) - began;
    assert!(seconds < 1200, "{seconds}");
    assert!(deployed.report().verdicts.is_empty());
}

/// Fault 19: somebody edits the route at 40 percent, its weights and another setting. The others overwrote one or both. When
/// nothing is left for the canary in the middle of a hold, there is nothing to judge either, and the deadline ends it.
#[rstest]
#[case::in_the_hold("Wait before the next check", "DeadlineExceeded")]
#[case::before_the_shift("Shift traffic to the next weight", "RouteChangedByOthers")]
#[tokio::test]
async fn what_somebody_edits_at_40_percent_stays_and_stops_the_deployment(
    #[case] when: &str,
    #[case] why: &str,
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(40.0)));
    simulation.run_until_percent(&mut execution, 40.0).await;
    simulation.run_until(&mut execution, when).await;
    simulation.give_all_to_stable_by_hand();
    simulation.edit_something_else();
    let writes = simulation.account.count_calls(on.write());
    while execution.next_state() != "Roll back to stable" {
        simulation.step(&mut execution).await;
    }
    assert_eq!(simulation.account.count_calls(on.write()), writes);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    assert_eq!(deployed.report().error.as_deref(), Some(why));
    assert!(simulation.has_something_else());
    assert_eq!(simulation.canary(), None);
    simulation.watch.assert_safe();
}

/// Fault 20: the canary's tasks die and none starts again. Both others ended with 100 percent of the traffic on nothing.
#[rstest]
#[tokio::test]
async fn a_canary_whose_tasks_have_died_loses_its_weight_at_the_next_check(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(10.0, 50.0, 100.0)] percent: f64,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", through(50.0)));
    simulation.run_until_percent(&mut execution, percent).await;
    let canary = simulation.canary().unwrap();
    simulation
        .account
        .settings(|settings| settings.start_seconds_of = vec![("2.0.0".to_owned(), 100_000)]);
    let died_at = simulation.account.look(World::now);
    simulation.account.change(|world| world.kill_tasks(&canary));
    let watched: Value = execution.data()["waitSeconds"].clone();
    while simulation.canary_percent() > 0.0 {
        simulation.step(&mut execution).await;
        assert!(execution.is_running(), "{:?}", execution.status);
    }
    let seconds = simulation.account.look(World::now) - died_at;
    assert!(
        seconds <= watched.as_i64().unwrap() + 5,
        "{seconds} seconds, and {watched} until the next check"
    );
    let deployed = simulation.finish(execution).await;
    assert_eq!(simulation.traces(), Vec::<String>::new());
    let error = deployed.report().why;
    assert!(error.contains("task"), "{error}");
}

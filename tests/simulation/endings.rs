//! From start to each of the endings.

use rstest::rstest;
use serde_json::{Value, json};
use serin_driver::leftovers::unnamed;
use serin_sim::{Fault, FaultKind, Settings, Which};

use super::{On, Simulation, arn, path_of, request, shortened};

const HAPPY_PATH: [&str; 4] = [
    "Is this a new deployment?",
    "Plan the deployment",
    "Is it this deployment's turn?",
    "Create the canary",
];
const STEP: [&str; 4] = [
    "Shift traffic to the next weight",
    "Has the traffic shifted?",
    "Check the canary's health",
    "What does the verdict call for?",
];
pub(crate) const ROLLED_BACK: [&str; 4] = [
    "Roll back to stable",
    "Is the rollback finished?",
    "Is a trace left?",
    "Rolled back",
];

#[rstest]
#[tokio::test]
async fn a_good_version_is_promoted_and_no_request_is_lost(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed
        .assert_promoted()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let mut expected = simulation.before.clone();
    let stable = expected.services.get_mut("prod/checkout").unwrap();
    stable.task_definition = stable.task_definition.replace("checkout:1", "checkout:2");
    expected.task_definitions.push("checkout:2".to_owned());
    assert_eq!(
        expected.differences(&simulation.account.snapshot()),
        Vec::<String>::new(),
        "only stable's definition is another"
    );
    assert_eq!(
        deployed.report().verdicts.len(),
        3,
        "one verdict for each step"
    );
}

/// The plan and the checks of the demo: two quick steps.
fn quick() -> Value {
    json!({
        "plan": { "steps": [{ "weightPercent": 20, "holdSeconds": 20 }, { "weightPercent": 100, "holdSeconds": 20 }] },
        "checks": { "intervalSeconds": 10, "periodSeconds": 10, "settleSeconds": 5, "errorRatePercent": { "max": 1.0 },
                    "judge": { "warmUpSeconds": 10 } },
        "deadlineSeconds": 9000,
    })
}

#[rstest]
#[tokio::test]
async fn the_path_of_a_promotion(#[values(On::AppMesh, On::Alb)] on: On) {
    let end = [
        "Clean up behind the new version",
        "Is the clean-up finished?",
        "Promoted",
    ];
    let expected = [
        &HAPPY_PATH[..],
        &["Is the canary ready?"],
        &STEP,
        &STEP,
        &end,
    ]
    .concat();
    assert_eq!(path_of(on, "2.0.0", quick()).await, expected);
}

#[rstest]
#[tokio::test]
async fn the_path_of_a_bad_version(#[values(On::AppMesh, On::Alb)] on: On) {
    let expected = [
        &HAPPY_PATH[..],
        &["Is the canary ready?"],
        &STEP,
        &ROLLED_BACK,
    ]
    .concat();
    assert_eq!(path_of(on, "2.0.0-bad", quick()).await, expected);
}

#[rstest]
#[tokio::test]
async fn the_path_of_a_version_that_does_not_start(#[values(On::AppMesh, On::Alb)] on: On) {
    let expected = [
        &HAPPY_PATH[..],
        &["Is the canary ready?", "Create the canary"],
        &ROLLED_BACK,
    ]
    .concat();
    assert_eq!(path_of(on, "2.0.0-crash", quick()).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_bad_version_is_rolled_back_and_leaves_no_trace(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let deployed = simulation.deploy(request("2.0.0-bad", json!({}))).await;
    deployed
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let report = deployed.report();
    let verdict = report.verdict.expect("the verdict that led here");
    assert_eq!(verdict.outcome, serin::Outcome::Unhealthy);
    assert!(
        verdict
            .findings
            .iter()
            .any(|finding| finding.value.is_some()
                && (finding.limit.is_some() || finding.comparison.is_some())),
        "with numbers"
    );
}

#[rstest]
#[tokio::test]
async fn a_version_that_crashes_is_rolled_back_with_its_exit_code_long_before_any_time_is_over(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let deployed = simulation.deploy(request("2.0.0-crash", json!({}))).await;
    deployed
        .assert_rolled_back("exited with code")
        .assert_no_request_was_lost();
    assert_eq!(
        deployed.report().error.as_deref(),
        Some("CanaryNotStarting")
    );
    let seconds =
        simulation.account.look(serin_sim::World::now) - serin_seconds("2026-11-21T13:00:00Z");
    assert!(seconds < 300, "{seconds} seconds");
}

#[rstest]
#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_rolled_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0-unpullable", json!({})))
        .await
        .assert_rolled_back("the canary does not start");
}

#[rstest]
#[tokio::test]
async fn a_version_that_never_becomes_healthy_is_rolled_back_when_its_time_to_be_ready_is_over(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let deployed = simulation
        .deploy(request(
            "2.0.0-never-healthy",
            json!({ "readyWithinSeconds": 300 }),
        ))
        .await;
    deployed.assert_rolled_back(match on {
        On::AppMesh => "was not ready within 300 seconds",
        // ECS stops tasks that fail the load balancer's health check, which is known before the time is over.
        On::Alb => "Task failed ELB health checks",
    });
}

#[rstest]
#[tokio::test]
async fn without_data_a_deployment_waits_until_its_deadline_and_is_never_called_healthy(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start(
        "first",
        request("2.0.0", json!({ "deadlineSeconds": 3600 })),
    );
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    simulation
        .account
        .settings(|settings| settings.metrics_silent = true);
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("the deployment's deadline has passed");
    assert!(
        deployed
            .report()
            .verdicts
            .iter()
            .all(|verdict| verdict.outcome == serin::Outcome::Inconclusive)
    );
}

#[rstest]
#[tokio::test]
async fn without_data_a_deployment_may_also_be_rolled_back_at_once(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let checks =
        json!({ "checks": { "errorRatePercent": { "max": 1.0 }, "onTooLittleData": "rollBack" } });
    let mut execution = simulation.start("first", request("2.0.0", checks));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    simulation
        .account
        .settings(|settings| settings.metrics_silent = true);
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("");
    assert_eq!(
        deployed.report().verdict.unwrap().outcome,
        serin::Outcome::Inconclusive
    );
}

#[rstest]
#[tokio::test]
async fn a_call_that_is_denied_on_the_way_forward_rolls_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "ECS CreateService",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_rolled_back("ECS CreateService is not allowed");
    assert_eq!(deployed.report().error.as_deref(), Some("AwsDenied"));
}

#[rstest]
#[tokio::test]
async fn throttling_that_passes_changes_nothing(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    for operation in [on.write(), "DescribeServices", "GetMetricData"] {
        simulation.account.inject(Fault {
            operation,
            which: Which::Next(3),
            kind: FaultKind::Throttled,
        });
    }
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn every_function_may_run_twice(#[values(On::AppMesh, On::Alb)] on: On) {
    for finish in ["promote", "replace"] {
        let simulation = Simulation::new(on);
        simulation.lambdas.lose_every_first_answer();
        let more = json!({ "finish": { "mode": finish } });
        simulation
            .deploy(request("2.0.0", more.clone()))
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
        let simulation = Simulation::new(on);
        simulation.lambdas.lose_every_first_answer();
        simulation
            .deploy(request("2.0.0-bad", more))
            .await
            .assert_rolled_back("")
            .assert_no_request_was_lost();
    }
}

#[rstest]
#[tokio::test]
async fn as_many_checks_as_a_request_may_ask_for_do_not_fill_the_history(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    // One second more would be refused.
    const LONGEST: u32 = 24_449;
    let simulation = Simulation::new(on);
    simulation
        .account
        .settings(|settings| settings.metric_period = 10);
    simulation.account.clock().advance(600);
    let more = |deadline| {
        let checks = json!({ "errorRatePercent": { "max": 1.0 }, "intervalSeconds": 10, "periodSeconds": 10, "judge": null });
        json!({ "deadlineSeconds": deadline, "checks": checks })
    };
    simulation
        .deploy(request("2.0.0", more(LONGEST + 1)))
        .await
        .assert_refused("InvalidRequest", "at least 11 is needed");
    let mut execution = simulation.start("second", request("2.0.0", more(LONGEST)));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    simulation
        .account
        .settings(|settings| settings.metrics_silent = true);
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("the deployment's deadline has passed");
    assert!(
        (20_000..25_000).contains(&deployed.execution.events),
        "{}",
        deployed.execution.events
    );
}

#[rstest]
#[tokio::test]
async fn a_request_with_faults_is_refused_with_all_of_them(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let faults =
        json!({ "plan": { "steps": [{ "weightPercent": 101, "holdSeconds": 60 }] }, "chekcs": {} });
    let deployed = simulation.deploy(request("2.0.0", faults)).await;
    deployed
        .assert_refused("InvalidRequest", "101")
        .assert_refused("InvalidRequest", "chekcs");
    assert_eq!(simulation.traces(), Vec::<String>::new());
    assert_eq!(
        shortened(&deployed.execution.path),
        [
            "Is this a new deployment?",
            "Plan the deployment",
            "Refused"
        ]
    );
}

#[rstest]
#[tokio::test]
async fn a_service_that_is_not_there_is_refused_and_its_lock_given_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let deployed = simulation
        .deploy(request("2.0.0", json!({ "service": "chekcout" })))
        .await;
    deployed.assert_refused("ServiceNotFound", "chekcout");
    assert_eq!(simulation.traces(), Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn a_second_deployment_of_the_same_service_is_told_which_one_is_running(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut first = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut first, "Wait before the next check")
        .await;
    let second = simulation.start("second", request("3.0.0", json!({})));
    simulation
        .finish(second)
        .await
        .assert_refused("AnotherDeploymentInProgress", &arn("first"));
    simulation.finish(first).await.assert_promoted();
}

#[rstest]
#[tokio::test]
async fn a_planning_that_breaks_off_gives_the_lock_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "GetMetricData",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_rolled_back("nothing had been created");
}

#[rstest]
#[tokio::test]
async fn a_rollback_that_may_not_remove_the_canary_says_what_is_left(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let deployed = simulation.deploy(request("2.0.0-bad", json!({}))).await;
    deployed
        .assert_needs_attention(&format!("{} is not allowed", on.delete()))
        .assert_stable_has_all_traffic();
    assert_eq!(
        deployed.execution.path[deployed.execution.path.len() - 3..],
        [
            "Is the rollback finished?",
            "Is a trace left?",
            "Needs attention"
        ]
    );
    let left = deployed.report().left;
    let made = left
        .iter()
        .find(|left| left.command.contains(on.commands()[1]));
    assert!(
        made.is_some_and(|made| made.command.contains("-canary-")),
        "{left:?}"
    );
    assert!(!simulation.traces().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_rollback_that_may_not_move_the_traffic_tells_a_person_everything(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for kind in [
        FaultKind::Denied,
        FaultKind::Refused("BadRequestException", "not this route"),
    ] {
        let simulation = Simulation::new(on);
        let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
        simulation
            .run_until(&mut execution, "Roll back to stable")
            .await;
        simulation.account.inject(Fault {
            operation: on.write(),
            which: Which::Always,
            kind,
        });
        let deployed = simulation.finish(execution).await;
        // Both why the rollback was called for and why it did not get further.
        deployed
            .assert_needs_attention(on.write())
            .assert_needs_attention("percent")
            .assert_no_request_was_lost();
        let report = deployed.report();
        let commands: Vec<_> = report
            .left
            .iter()
            .map(|left| left.command.as_str())
            .collect();
        let [update, delete] = on.commands();
        for part in [update, "aws ecs delete-service", delete, "start-execution"] {
            assert!(
                commands.iter().any(|command| command.contains(part)),
                "no {part} in {commands:#?}"
            );
        }
        assert!(!report.verdicts.is_empty(), "{report:?}");
        assert!(!report.done.is_empty(), "{report:?}");
        // When the permission is there, the last command does what it says.
        simulation.account.heal();
        let by_hand = simulation.start("by-hand", json!({ "rollBack": arn("first") }));
        simulation.finish(by_hand).await.assert_rolled_back("");
    }
}

#[rstest]
#[tokio::test]
async fn when_the_rollback_step_itself_fails_the_state_machine_says_what_is_left(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::ServerError,
    });
    let deployed = simulation.deploy(request("2.0.0-bad", json!({}))).await;
    deployed
        .assert_needs_attention(on.delete())
        .assert_stable_has_all_traffic();
    assert_eq!(
        deployed.execution.path[deployed.execution.path.len() - 3..],
        [
            "Name what may be left",
            "Write it into the cause",
            "Needs attention"
        ]
    );
    let left = deployed.report().left;
    assert_eq!(unnamed(simulation.traces(), &left), Vec::<String>::new());
    let (last, others) = left.split_last().unwrap();
    assert!(
        others.iter().all(|other| other.command == last.command),
        "nobody has looked, so no command may take anything away by itself"
    );
}

#[rstest]
#[tokio::test]
async fn an_input_that_is_no_json_object_is_refused(#[values(On::AppMesh, On::Alb)] on: On) {
    for input in [json!([]), json!("x"), json!(5), Value::Null] {
        let simulation = Simulation::new(on);
        simulation
            .deploy(input)
            .await
            .assert_refused("InvalidRequest", "object");
        assert_eq!(simulation.traces(), Vec::<String>::new());
    }
}

#[rstest]
#[tokio::test]
async fn metrics_that_fall_silent_in_the_last_hold_never_promote(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    // From then on nothing arrives any more, or not even what had arrived is given out.
    let silences: [fn(&mut Settings); 2] = [
        |settings| settings.metric_delay = 1_000_000,
        |settings| settings.metrics_silent = true,
    ];
    for silence in silences {
        let simulation = Simulation::new(on);
        // A hold with several checks.
        let more = json!({
            "plan": { "steps": [{ "weightPercent": 50, "holdSeconds": 120 }, { "weightPercent": 100, "holdSeconds": 600 }] },
            "deadlineSeconds": 7200,
        });
        let mut execution = simulation.start("first", request("2.0.0", more));
        while execution.data()["progress"]["step"] != 1 {
            simulation.step(&mut execution).await;
        }
        let shifted_at = simulation.account.look(serin_sim::World::now);
        while simulation.account.look(serin_sim::World::now) < shifted_at + 300 {
            simulation.step(&mut execution).await;
            assert!(execution.is_running(), "{:?}", execution.status);
        }
        simulation.account.settings(silence);
        let deployed = simulation.finish(execution).await;
        deployed
            .assert_rolled_back("the deployment's deadline has passed")
            .assert_no_request_was_lost();
    }
}

#[rstest]
#[tokio::test]
async fn a_router_that_is_given_an_hour_to_settle_is_waited_for(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for (tag, mode) in [
        ("2.0.0", "promote"),
        ("2.0.0", "replace"),
        ("2.0.0-bad", "promote"),
    ] {
        let simulation = Simulation::new(on);
        let more = json!({
            "checks": { "errorRatePercent": { "max": 1.0 }, "settleSeconds": 3600 },
            "plan": { "steps": [{ "weightPercent": 100, "holdSeconds": 3720 }] },
            "finish": { "mode": mode },
        });
        let deployed = simulation.deploy(request(tag, more)).await;
        if tag == "2.0.0" {
            deployed.assert_promoted();
        } else {
            deployed.assert_rolled_back("percent");
        }
        deployed.assert_no_request_was_lost();
    }
}

#[rstest]
#[tokio::test]
async fn ecs_may_describe_a_new_service_late(#[values(On::AppMesh, On::Alb)] on: On) {
    for lag in [10, 40] {
        let late = |tag| async move {
            let simulation = Simulation::new(on);
            simulation
                .account
                .settings(|settings| settings.service_lag_seconds = lag);
            let execution = simulation.start("first", request(tag, json!({})));
            (simulation, execution)
        };
        let (simulation, execution) = late("2.0.0").await;
        simulation
            .finish(execution)
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
        let (simulation, execution) = late("2.0.0-bad").await;
        simulation
            .finish(execution)
            .await
            .assert_rolled_back("percent")
            .assert_no_request_was_lost();
    }
}

fn serin_seconds(time: &str) -> i64 {
    time.parse::<jiff::Timestamp>().unwrap().as_second()
}

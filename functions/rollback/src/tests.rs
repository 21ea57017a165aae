//! The rollback on the account in memory.

use create_canary::create_canary;
use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::ports::Phase;
use serin::report::{Ending, Report};
use serin::{Ledger, State};
use serin_sim::{Fault, FaultKind, Snapshot, Stage, Which, targets_mut, world};
use shift_weight::shift_weight;

use crate::{Found, RollbackError, rollback};

async fn planned(stage: &Stage) -> State {
    planned_with(stage, json!({"capacity": "full"})).await
}

async fn planned_with(stage: &Stage, more: Value) -> State {
    let aws = &stage.aws;
    let input = stage.input(RawRequest(stage.request(more)));
    plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap()
}

/// A deployment at `steps` of its plan's steps.
async fn shifted(stage: &Stage, steps: usize) -> State {
    shifted_with(stage, steps, json!({"capacity": "full"})).await
}

async fn shifted_with(stage: &Stage, steps: usize, more: Value) -> State {
    let aws = &stage.aws;
    let mut state = planned_with(stage, more).await;
    loop {
        state = create_canary(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
        stage.wait(u64::from(state.wait_seconds));
        if state.done {
            break;
        }
    }
    for _ in 0..steps {
        state = shift_weight(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
        assert!(state.done);
    }
    state
}

async fn roll_back_once(stage: &Stage, state: &Value) -> Result<Value, RollbackError> {
    let found: Found = serde_json::from_value(state.clone()).unwrap();
    let undone = rollback(
        &stage.aws.fleet,
        &stage.aws.router,
        &stage.aws.ledger,
        stage.input(found),
    )
    .await?;
    Ok(serde_json::to_value(undone).unwrap())
}

/// Calls the step as the state machine does, with retries, until it is done.
async fn roll_back(stage: &Stage, state: impl serde::Serialize) -> Report {
    let mut state = serde_json::to_value(state).unwrap();
    for _ in 0..300 {
        match roll_back_once(stage, &state).await {
            Ok(next) => state = next,
            Err(RollbackError::AwsUnavailable(_) | RollbackError::AwsThrottled(_)) => continue,
            Err(error) => panic!("{error}"),
        }
        if state["done"] == json!(true) {
            return serde_json::from_value(state["report"].clone()).unwrap();
        }
        stage.wait(state["waitSeconds"].as_u64().unwrap());
    }
    panic!("the step never comes to an end: {state:#}");
}

#[track_caller]
fn assert_no_trace(stage: &Stage, before: &Snapshot) {
    assert_eq!(
        stage.account.differences_since(before),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn after_a_rollback_from_any_step_everything_is_as_it_was() {
    for steps in 0..=4 {
        let stage = Stage::default();
        let before = stage.account.snapshot();
        let state = shifted(&stage, steps).await;
        let report = roll_back(&stage, state).await;
        assert_eq!((report.ending, report.left), (Ending::RolledBack, vec![]));
        assert_no_trace(&stage, &before);
    }
}

#[tokio::test]
async fn the_traffic_comes_first() {
    let stage = Stage::default();
    let state = shifted(&stage, 2).await;
    let calls = stage.account.calls().len();
    let state = roll_back_once(&stage, &serde_json::to_value(state).unwrap())
        .await
        .unwrap();
    assert_eq!(state["done"], json!(false));
    let made: Vec<_> = stage
        .account
        .calls()
        .split_off(calls)
        .into_iter()
        .map(|call| call.operation)
        .collect();
    assert!(made.contains(&"UpdateRoute"), "{made:?}");
    assert!(
        made.iter()
            .all(|operation| !operation.starts_with("Delete")),
        "{made:?}"
    );
    assert_eq!(
        stage
            .account
            .look(|world| world.weights(world::ROUTER, world::ROUTE)),
        [(world::NODE.to_owned(), 1)].into()
    );
}

#[tokio::test]
async fn a_canary_that_was_half_created_is_removed_too() {
    for operation in [
        "Cloud Map CreateService",
        "CreateVirtualNode",
        "RegisterTaskDefinition",
        "ECS CreateService",
    ] {
        for kind in [FaultKind::Denied, FaultKind::AnswerLost] {
            let stage = Stage::default();
            let before = stage.account.snapshot();
            let state = planned(&stage).await;
            stage.account.inject(Fault {
                operation,
                which: Which::Nth(1),
                kind,
            });
            create_canary(
                &stage.aws.fleet,
                &stage.aws.router,
                &stage.aws.ledger,
                stage.input(state.clone()),
            )
            .await
            .unwrap_err();
            let report = roll_back(&stage, state).await;
            assert_eq!(report.ending, Ending::RolledBack, "{operation}");
            assert_no_trace(&stage, &before);
        }
    }
}

#[tokio::test]
async fn every_call_of_the_rollback_may_lose_its_answer_once() {
    let operations = {
        let stage = Stage::default();
        let state = shifted(&stage, 2).await;
        let calls = stage.account.calls().len();
        roll_back(&stage, state).await;
        stage.account.calls().split_off(calls)
    };
    assert!(operations.len() > 10);
    for index in 1..=operations.len() {
        let stage = Stage::default();
        let before = stage.account.snapshot();
        let state = shifted(&stage, 2).await;
        stage.account.inject(Fault {
            operation: "*",
            which: Which::Nth(index),
            kind: FaultKind::AnswerLost,
        });
        let report = roll_back(&stage, state).await;
        assert_eq!(
            report.ending,
            Ending::RolledBack,
            "answer {index} lost: {}",
            operations[index - 1].operation
        );
        assert_no_trace(&stage, &before);
    }
}

#[tokio::test]
async fn another_persons_edit_is_kept_and_only_the_canarys_share_moves() {
    let stage = Stage::default();
    let state = shifted(&stage, 2).await;
    stage
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
            // Somebody lowers the canary's share in a hurry.
            for target in targets_mut(spec).unwrap() {
                target.weight = if target.virtual_node() == world::NODE {
                    60
                } else {
                    3
                };
            }
        });
    let version = |stage: &Stage| {
        stage
            .account
            .look(|world| world.targets(world::ROUTER, world::ROUTE).to_vec())
    };
    assert_eq!(version(&stage).len(), 2);
    let report = roll_back(&stage, state).await;
    assert_eq!(
        stage
            .account
            .look(|world| world.weights(world::ROUTER, world::ROUTE)),
        [(world::NODE.to_owned(), 63)].into()
    );
    assert!(
        report.done.iter().any(|event| event.what.contains("route")),
        "{:?}",
        report.done
    );
}

#[tokio::test]
async fn a_deployment_that_was_never_planned_gives_its_lock_back() {
    let stage = Stage::default();
    let before = stage.account.snapshot();
    let planned = planned(&stage).await;
    stage
        .aws
        .ledger
        .close(
            &planned.deployment,
            Ending::RolledBack,
            None,
            stage.account.clock().now(),
        )
        .await
        .unwrap();
    let stage = stage.in_execution("second");
    stage
        .aws
        .ledger
        .lock(
            &planned.deployment.service,
            &stage.execution(),
            stage.account.clock().now(),
            stage.account.clock().now(),
        )
        .await
        .unwrap();
    let mut request = stage.request(json!({}));
    request["failure"] = json!({"Error": "AwsDenied", "Cause": "{\"errorMessage\": \"no\"}"});
    let event = json!({"detail-type": "Release", "source": "my.pipeline", "detail": request, "failure": request["failure"]});
    let report = roll_back(&stage, event).await;
    assert_eq!(
        (report.ending, report.error.as_deref(), report.why.as_str()),
        (
            Ending::RolledBack,
            Some("AwsDenied"),
            "nothing had been created: no"
        )
    );
    assert_no_trace(&stage, &before);
}

#[tokio::test]
async fn a_person_rolls_back_a_deployment_whose_execution_was_stopped() {
    let stage = Stage::default();
    let before = stage.account.snapshot();
    let stopped = shifted(&stage, 3).await.deployment.execution;
    let stage = stage.in_execution("by-hand");
    let report = roll_back(&stage, json!({"rollBack": stopped})).await;
    assert_eq!(
        (report.ending, report.why.as_str()),
        (Ending::RolledBack, "a person asked for it")
    );
    assert_no_trace(&stage, &before);
    let error = roll_back_once(
        &stage,
        &json!({"rollBack": "arn:aws:states:eu-west-1:1:execution:serin:none"}),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, RollbackError::DeploymentUnknown(_)));
}

#[tokio::test]
async fn a_stable_whose_update_has_begun_does_not_get_the_traffic_back() {
    let stage = Stage::default();
    let state = shifted(&stage, 4).await;
    let deployment = &state.deployment;
    stage
        .aws
        .ledger
        .enter(&deployment.execution, Phase::Promoting)
        .await
        .unwrap()
        .unwrap();
    let definition = serin::Fleet::ensure_promoted_definition(&stage.aws.fleet, deployment)
        .await
        .unwrap();
    serin::Fleet::update_stable(&stage.aws.fleet, deployment, &definition, 0)
        .await
        .unwrap();
    let weights = stage
        .account
        .look(|world| world.weights(world::ROUTER, world::ROUTE));
    let report = roll_back(&stage, state.clone()).await;
    assert_eq!(report.ending, Ending::NeedsAttention);
    assert!(
        report.left[0].command.contains("aws ecs update-service")
            && report.left[0].command.contains("checkout:1"),
        "{:?}",
        report.left
    );
    assert_eq!(
        stage
            .account
            .look(|world| world.weights(world::ROUTER, world::ROUTE)),
        weights
    );

    // What the report says works: the old version back, then the command.
    stage
        .account
        .deploy_by_hand(world::CLUSTER, world::SERVICE, "checkout:1");
    stage.wait(120);
    let report = roll_back(
        &stage.in_execution("by-hand"),
        json!({"rollBack": state.deployment.execution}),
    )
    .await;
    assert_eq!(report.ending, Ending::RolledBack);
}

#[tokio::test]
async fn what_cannot_be_removed_is_named_with_the_command_that_does_and_the_lock_stays() {
    let stage = Stage::default();
    let state = shifted(&stage, 1).await;
    let deployment = state.deployment.clone();
    stage.account.inject(Fault {
        operation: "DeregisterTaskDefinition",
        which: Which::Always,
        kind: FaultKind::Refused("ClientException", "not today"),
    });
    let report = roll_back(&stage, state).await;
    assert_eq!(
        (report.ending, report.error.as_deref()),
        (Ending::NeedsAttention, Some("AwsRefused"))
    );
    assert!(report.why.contains("not today"), "{}", report.why);
    assert!(
        report
            .left
            .iter()
            .any(|left| left.command.contains("deregister-task-definition")),
        "{:?}",
        report.left
    );
    assert!(report.left.last().unwrap().command.contains("rollBack"));
    let again = stage.in_execution("second");
    let aws = &again.aws;
    let lock = aws
        .ledger
        .lock(
            &deployment.service,
            &again.execution(),
            again.account.clock().now(),
            again.account.clock().now(),
        )
        .await
        .unwrap();
    assert!(
        matches!(lock, serin::ports::Lock::Held(_)),
        "the lock stays"
    );
    stage.account.look(|world| {
        assert_eq!(
            world.weights(world::ROUTER, world::ROUTE).len(),
            1,
            "the traffic is back all the same"
        );
    });
}

#[tokio::test]
async fn no_command_is_ever_given_that_removes_a_canary_which_has_become_the_stable_version() {
    let stage = Stage::default();
    let state = shifted_with(
        &stage,
        4,
        json!({"capacity": "full", "finish": {"mode": "replace"}}),
    )
    .await;
    let ledger = &stage.aws.ledger;
    ledger
        .enter(&state.deployment.execution, Phase::CleaningUp)
        .await
        .unwrap()
        .unwrap();
    stage.account.inject(Fault {
        operation: "DeleteVirtualNode",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let report = roll_back(&stage, &state).await;
    assert_eq!(
        (report.ending, report.error.as_deref()),
        (Ending::NeedsAttention, Some("AwsDenied"))
    );
    for left in &report.left {
        let canary = state.deployment.canary.service.as_str();
        assert!(
            !left.command.contains(canary) && !left.command.contains("update-route"),
            "{left:?}"
        );
    }
    assert!(report.left.last().unwrap().command.contains("rollBack"));
}

#[tokio::test]
async fn a_replacement_whose_record_is_lost_keeps_the_traffic_on_the_version_that_stays() {
    let stage = Stage::default();
    let replace = json!({"capacity": "full", "finish": {"mode": "replace"}});
    let mut state = shifted_with(&stage, 4, replace).await;
    let now = stage.account.clock().now();
    state.progress.cleanup = Some(serin::progress::CleanupProgress {
        traffic_settled_at: Some(now),
        ..Default::default()
    });
    state.deployment.execution = stage.in_execution("unrecorded").execution();
    let report = roll_back(&stage, state).await;
    assert_eq!(report.ending, Ending::Promoted, "{}", report.why);
    stage.account.look(|world| {
        let percent = world.percent(world::ROUTER, world::ROUTE, world::NODE);
        assert!(percent.abs() < f64::EPSILON, "{percent}");
        assert!(!world.nodes().contains(&world::NODE.to_owned()));
    });
}

#[tokio::test]
async fn a_removal_that_never_ends_is_not_reported_as_done() {
    let stage = Stage::default();
    let state = shifted(&stage, 4).await;
    let ledger = &stage.aws.ledger;
    ledger
        .enter(&state.deployment.execution, Phase::CleaningUp)
        .await
        .unwrap()
        .unwrap();
    // The canary's tasks never stop.
    stage
        .account
        .settings(|settings| settings.stop_seconds = 1_000_000);
    let report = roll_back(&stage, &state).await;
    assert_eq!(report.ending, Ending::NeedsAttention);
    assert!(report.why.contains("still waiting for"), "{}", report.why);
    assert!(
        !report.left.is_empty() && !report.why.contains("nothing is left"),
        "{report:?}"
    );
    let record = ledger
        .find(&state.deployment.execution)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (record.phase, record.ending),
        (Phase::CleaningUp, Some(Ending::NeedsAttention)),
        "and the lock stays"
    );
}

#[test]
fn the_lock_of_a_request_in_the_aws_samples_form_is_found_too() {
    for request in [
        json!({"cluster_name": "prod", "microservice_name": "checkout"}),
        json!({"EnvironmentName": "prod", "MicroserviceName": "checkout"}),
    ] {
        let found: Found = serde_json::from_value(request).unwrap();
        assert_eq!(
            (found.cluster, found.service),
            (Some("prod".into()), Some("checkout".into()))
        );
    }
}

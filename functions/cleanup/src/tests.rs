//! Promotion and replacement on the account in memory.

use create_canary::create_canary;
use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::State;
use serin::report::Ending;
use serin_sim::{Fault, FaultKind, Stage, Which, targets_mut, world};
use shift_weight::shift_weight;

use crate::{CleanupError, cleanup};

/// A deployment whose last step, all the traffic, is in force.
async fn at_the_last_step(stage: &Stage, more: Value) -> State {
    let aws = &stage.aws;
    let mut more = more;
    more["plan"] = json!({"preset": "ECSAllAtOnce"});
    let input = stage.input(RawRequest(stage.request(more)));
    let mut state = plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap();
    loop {
        state = create_canary(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
        stage.wait(u64::from(state.wait_seconds));
        if state.done {
            break;
        }
    }
    loop {
        state = shift_weight(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
        stage.wait(u64::from(state.wait_seconds));
        if state.done {
            return state;
        }
    }
}

async fn clean_up(stage: &Stage, state: State) -> Result<State, CleanupError> {
    cleanup(
        &stage.aws.fleet,
        &stage.aws.router,
        &stage.aws.ledger,
        stage.input(state),
    )
    .await
}

async fn clean_up_until_done(stage: &Stage, mut state: State) -> Result<State, CleanupError> {
    for _ in 0..300 {
        state = clean_up(stage, state).await?;
        if state.done {
            return Ok(state);
        }
        stage.wait(u64::from(state.wait_seconds));
    }
    panic!(
        "the step never comes to an end: {:?}",
        state.progress.timeline
    );
}

#[tokio::test]
async fn after_promote_the_world_is_the_one_before_but_for_stables_task_definition() {
    let stage = Stage::default();
    let before = stage.account.snapshot();
    let state = at_the_last_step(&stage, json!({})).await;
    let state = clean_up_until_done(&stage, state).await.unwrap();
    assert_eq!(state.ending, Some(Ending::Promoted));
    let differences = stage.account.differences_since(&before);
    assert!(
        !differences.is_empty() && differences.iter().all(|line| line.contains("checkout:")),
        "{differences:#?}"
    );
    stage.account.look(|world| {
        let service = world.service(world::CLUSTER, world::SERVICE).unwrap();
        let (definition, _) = world
            .task_definition(service.task_definition().unwrap())
            .unwrap();
        let app = definition
            .container_definitions()
            .iter()
            .find(|container| container.name() == Some("app"))
            .unwrap();
        assert_eq!(
            app.image(),
            state
                .deployment
                .canary
                .images
                .values()
                .next()
                .map(String::as_str)
        );
        assert_eq!(world.running_and_healthy(world::SERVICE), (4, 4));
    });
}

#[tokio::test]
async fn traffic_returns_to_stable_only_when_it_runs_the_new_version_and_can_be_reached() {
    let stage = Stage::default();
    let mut state = at_the_last_step(&stage, json!({})).await;
    let canary = state.deployment.canary.service.to_string();
    loop {
        state = clean_up(&stage, state).await.unwrap();
        let returned = state
            .progress
            .cleanup
            .as_ref()
            .unwrap()
            .traffic_settled_at
            .is_some();
        stage.account.look(|world| {
            let on_canary = world.weights(world::ROUTER, world::ROUTE).get(world::NODE) == Some(&0);
            assert_eq!(on_canary, !returned);
            assert!(world.running_and_healthy(&canary).1 >= 4 || returned);
            if returned {
                assert_eq!(world.running_and_healthy(world::SERVICE), (4, 4));
            }
        });
        if returned {
            break;
        }
        stage.wait(u64::from(state.wait_seconds));
    }
}

#[tokio::test]
async fn after_replace_the_canarys_objects_stand_in_the_place_of_the_old_ones_and_it_can_be_done_again()
 {
    let stage = Stage::default();
    let mut bearer = world::SERVICE.to_owned();
    for tag in ["2.0.0", "3.0.0"] {
        let stage = stage.in_execution(tag);
        stage.wait(3600); // Until the metrics of a new stable answer.
        let state = at_the_last_step(
            &stage,
            json!({"image": world::app_image(tag), "finish": {"mode": "replace"}}),
        )
        .await;
        assert_eq!(state.deployment.stable.service.as_str(), bearer);
        let state = clean_up_until_done(&stage, state).await.unwrap();
        assert_eq!(state.ending, Some(Ending::Promoted));
        bearer = state.deployment.canary.service.to_string();
        stage.account.look(|world| {
            assert_eq!(world.running_and_healthy(&bearer), (4, 4));
            let node = format!("checkout-node-canary-{}", state.deployment.id);
            assert_eq!(
                world.weights(world::ROUTER, world::ROUTE),
                [(node, 1)].into()
            );
            assert_eq!(
                world.services(world::CLUSTER).len(),
                1,
                "{:?}",
                world.services(world::CLUSTER)
            );
            assert_eq!(world.registries().len(), 1, "{:?}", world.registries());
        });
    }
}

#[tokio::test]
async fn cleaning_up_goes_on_where_a_lost_answer_left_it() {
    for operation in [
        "RegisterTaskDefinition",
        "UpdateService",
        "UpdateRoute",
        "DeleteService",
        "DeleteVirtualNode",
        "DeregisterTaskDefinition",
        "UpdateItem",
    ] {
        for mode in ["promote", "replace"] {
            let stage = Stage::default();
            let before = stage.account.snapshot();
            let mut state = at_the_last_step(&stage, json!({"finish": {"mode": mode}})).await;
            stage.account.inject(Fault {
                operation,
                which: Which::Next(2),
                kind: FaultKind::DoneThenServerError,
            });
            let mut lost = 0;
            while !state.done || state.ending.is_none() {
                match clean_up(&stage, state.clone()).await {
                    Ok(next) => {
                        state = next;
                        stage.wait(u64::from(state.wait_seconds));
                    }
                    Err(CleanupError::AwsUnavailable(_)) => lost += 1,
                    Err(error) => panic!("{operation} in {mode}: {error}"),
                }
            }
            assert_eq!(
                state.ending,
                Some(Ending::Promoted),
                "{operation} in {mode}"
            );
            if mode == "promote" {
                assert!(lost > 0, "{operation} is never called");
                let differences = stage.account.differences_since(&before);
                assert!(
                    differences.iter().all(|line| line.contains("checkout:")),
                    "{operation}: {differences:#?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_route_edited_by_hand_is_noticed_before_stable_is_touched() {
    let stage = Stage::default();
    let state = at_the_last_step(&stage, json!({})).await;
    stage
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
            targets_mut(spec)
                .unwrap()
                .retain(|target| target.virtual_node() == world::NODE);
        });
    let error = clean_up(&stage, state).await.unwrap_err();
    assert!(
        matches!(error, CleanupError::RouteChangedByOthers(_)),
        "{error}"
    );
    stage.account.look(|world| {
        let service = world.service(world::CLUSTER, world::SERVICE).unwrap();
        assert!(service.task_definition().unwrap().ends_with("checkout:1"));
    });
}

#[tokio::test]
async fn a_stable_that_somebody_else_updates_meanwhile_keeps_the_traffic_on_the_canary() {
    let stage = Stage::default();
    let state = at_the_last_step(&stage, json!({})).await;
    let state = clean_up(&stage, state).await.unwrap();
    stage
        .account
        .deploy_by_hand(world::CLUSTER, world::SERVICE, "checkout:1");
    stage.wait(60);
    let error = clean_up(&stage, state).await.unwrap_err();
    assert!(
        matches!(&error, CleanupError::PromotionFailed(why) if why.contains("checkout:1")),
        "{error}"
    );
    stage
        .account
        .look(|world| assert_eq!(world.weights(world::ROUTER, world::ROUTE)[world::NODE], 0));
}

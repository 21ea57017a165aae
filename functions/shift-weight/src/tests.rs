//! Shifting on the account in memory.

use create_canary::create_canary;
use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::State;
use serin_sim::world::{self, Options, RouteKind};
use serin_sim::{Fault, FaultKind, Stage, Which, targets_mut};

use crate::{ShiftWeightError, shift_weight};

/// A deployment whose canary is ready.
async fn ready(stage: &Stage, more: Value) -> State {
    let aws = &stage.aws;
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
        if state.done {
            return state;
        }
        stage.wait(u64::from(state.wait_seconds));
    }
}

async fn shift(stage: &Stage, state: State) -> Result<State, ShiftWeightError> {
    shift_weight(
        &stage.aws.fleet,
        &stage.aws.router,
        &stage.aws.ledger,
        stage.input(state),
    )
    .await
}

async fn shift_until_done(stage: &Stage, mut state: State) -> Result<State, ShiftWeightError> {
    for _ in 0..100 {
        state = shift(stage, state).await?;
        if state.done {
            return Ok(state);
        }
        stage.wait(u64::from(state.wait_seconds));
    }
    panic!("the step never comes to an end");
}

fn percent(stage: &Stage, state: &State, route: &str) -> f64 {
    stage.account.look(|world| {
        world.percent(
            world::ROUTER,
            route,
            &format!("checkout-node-canary-{}", state.deployment.id),
        )
    })
}

#[tokio::test]
async fn the_plans_steps_follow_one_another() {
    let stage = Stage::default();
    let mut state = ready(&stage, json!({})).await;
    for expected in [5.0, 25.0, 50.0, 100.0] {
        state = shift_until_done(&stage, state).await.unwrap();
        assert!((percent(&stage, &state, world::ROUTE) - expected).abs() < 1e-9);
    }
    assert!(matches!(
        shift(&stage, state).await,
        Err(ShiftWeightError::PlanExhausted(4))
    ));
}

#[tokio::test]
async fn shifting_twice_with_the_same_input_shifts_once() {
    let stage = Stage::default();
    let ready = ready(&stage, json!({})).await;
    let first = shift_until_done(&stage, ready.clone()).await.unwrap();
    let updates = stage.account.count_calls("UpdateRoute");
    let second = shift(&stage, ready).await.unwrap();
    assert_eq!(
        first.progress.weight_percent,
        second.progress.weight_percent
    );
    assert_eq!(stage.account.count_calls("UpdateRoute"), updates);
}

#[tokio::test]
async fn a_shift_whose_answer_was_lost_is_found_to_be_done() {
    let stage = Stage::default();
    let ready = ready(&stage, json!({})).await;
    stage.account.inject(Fault {
        operation: "UpdateRoute",
        which: Which::Nth(1),
        kind: FaultKind::AnswerLost,
    });
    let error = shift_until_done(&stage, ready.clone()).await.unwrap_err();
    assert!(
        matches!(error, ShiftWeightError::AwsUnavailable(_)),
        "{error}"
    );
    let state = shift_until_done(&stage, ready).await.unwrap();
    assert!((percent(&stage, &state, world::ROUTE) - 5.0).abs() < 1e-9);
    assert_eq!(stage.account.count_calls("UpdateRoute"), 1);
}

#[tokio::test]
async fn every_route_is_shifted_and_nothing_in_it_but_the_weights_changes() {
    let routes = vec![
        RouteKind::Http,
        RouteKind::Http2,
        RouteKind::Grpc,
        RouteKind::Tcp,
    ];
    let stage = Stage::with(&Options {
        routes,
        ..Options::default()
    });
    let ready = ready(&stage, json!({})).await;
    let blank = |stage: &Stage| -> Vec<String> {
        stage.account.look(|world| {
            let specs = world
                .routes()
                .into_iter()
                .map(|route| route.spec.clone().unwrap());
            specs
                .map(|mut spec| {
                    targets_mut(&mut spec).unwrap().clear();
                    format!("{spec:?}")
                })
                .collect()
        })
    };
    let before = blank(&stage);
    let state = shift_until_done(&stage, ready).await.unwrap();
    assert_eq!(blank(&stage), before);
    for route in [
        "checkout-route",
        "checkout-route-2",
        "checkout-route-3",
        "checkout-route-4",
    ] {
        assert!(
            (percent(&stage, &state, route) - 5.0).abs() < 1e-9,
            "{route}"
        );
    }
}

#[tokio::test]
async fn a_third_target_keeps_its_weight() {
    let stage = Stage::with(&Options {
        stable_weight: 80,
        other_weight: Some(20),
        ..Options::default()
    });
    let ready = ready(&stage, json!({})).await;
    let state = shift_until_done(&stage, ready).await.unwrap();
    let weights = stage
        .account
        .look(|world| world.weights(world::ROUTER, world::ROUTE));
    assert_eq!(weights["other-node"], 20);
    assert_eq!(weights[world::NODE], 76);
    assert_eq!(
        weights[&format!("checkout-node-canary-{}", state.deployment.id)],
        4
    );
}

#[tokio::test]
async fn a_route_edited_by_hand_is_reported_with_both_versions_and_not_overwritten() {
    let stage = Stage::with(&Options {
        routes: vec![RouteKind::Http, RouteKind::Http2],
        ..Options::default()
    });
    let ready = ready(&stage, json!({})).await;
    let state = shift_until_done(&stage, ready).await.unwrap();
    stage
        .account
        .edit_route_by_hand(world::ROUTER, "checkout-route-2", |spec| {
            let targets = targets_mut(spec).unwrap();
            targets.retain(|target| target.virtual_node() == world::NODE);
        });
    let before = stage.account.snapshot();
    let error = shift_until_done(&stage, state).await.unwrap_err();
    let ShiftWeightError::RouteChangedByOthers(sentence) = error else {
        panic!("{error}")
    };
    assert!(
        sentence.contains("checkout-route-2")
            && sentence.contains("95")
            && sentence.contains("version"),
        "{sentence}"
    );
    let after = stage.account.snapshot();
    let routes = |differences: Vec<String>| {
        differences
            .into_iter()
            .filter(|line| line.contains("route"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        routes(before.differences(&after)),
        Vec::<String>::new(),
        "no route was written, not even the untouched one"
    );
}

#[tokio::test]
async fn the_canary_gets_its_tasks_before_it_gets_the_weight() {
    let stage = Stage::default();
    let ready = ready(&stage, json!({"capacity": "matchWeight"})).await;
    let canary = ready.deployment.canary.service.to_string();
    let mut state = shift_until_done(&stage, ready).await.unwrap();
    assert_eq!(
        stage
            .account
            .look(|world| world.running_and_healthy(&canary))
            .1,
        1,
        "5 percent of 4 tasks"
    );
    state = shift_until_done(&stage, state).await.unwrap();
    let waiting = shift(&stage, state.clone()).await.unwrap();
    assert!(!waiting.done);
    assert!(
        (percent(&stage, &waiting, world::ROUTE) - 25.0).abs() < 1e-9,
        "50 percent needs a second task first"
    );
    state = shift_until_done(&stage, waiting).await.unwrap();
    assert_eq!(
        stage
            .account
            .look(|world| world.running_and_healthy(&canary))
            .1,
        2
    );
    assert!((percent(&stage, &state, world::ROUTE) - 50.0).abs() < 1e-9);
}

#[tokio::test]
async fn no_weight_goes_to_a_canary_whose_tasks_have_died() {
    let stage = Stage::default();
    let ready = ready(&stage, json!({"capacity": "full"})).await;
    let canary = ready.deployment.canary.service.to_string();
    stage.account.change(|world| world.kill_tasks(&canary));
    let state = shift(&stage, ready).await.unwrap();
    assert!(!state.done);
    assert_eq!(stage.account.count_calls("UpdateRoute"), 0);
}

#[tokio::test]
async fn the_step_begins_when_the_route_was_written_and_not_when_the_first_attempt_began() {
    let stage = Stage::default();
    let ready = ready(&stage, json!({})).await;
    let first_attempt = stage.input(ready);
    stage.wait(90);
    let aws = &stage.aws;
    let state = shift_weight(&aws.fleet, &aws.router, &aws.ledger, first_attempt)
        .await
        .unwrap();
    assert_eq!(state.progress.shifted_at, Some(stage.account.clock().now()));
}

#[tokio::test]
async fn a_canary_follows_a_stable_that_grows_without_another_weight_and_without_waiting() {
    let stage = Stage::default();
    let state = ready(&stage, json!({"plan": {"steps": [{"weightPercent": 50, "holdSeconds": 600}, {"weightPercent": 100, "holdSeconds": 300}]}})).await;
    let mut state = shift_until_done(&stage, state).await.unwrap();
    let canary = state.deployment.canary.service.clone();
    let tasks = || {
        stage.account.look(|world| {
            world
                .service(world::CLUSTER, canary.as_str())
                .unwrap()
                .desired_count
        })
    };
    assert_eq!(tasks(), 2, "half of stable's four");
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 7);
    let writes = stage.account.count_calls("UpdateRoute");
    state.next = Some(serin::state::Next::Resize);
    state.wait_seconds = 60;
    let before = state.progress.clone();
    let state = shift(&stage, state).await.unwrap();
    assert_eq!(tasks(), 4, "half of seven, rounded up");
    assert_eq!(stage.account.count_calls("UpdateRoute"), writes);
    let told = serin::Progress {
        new_tasks_at: vec![stage.account.clock().now() + jiff::SignedDuration::from_secs(60)],
        ..before
    };
    assert_eq!(state.progress, told, "nothing but that some are not warm");
    assert_eq!(
        (state.done, state.wait_seconds, state.next),
        (true, 60, None)
    );

    // A stable that shrinks takes nothing from a canary that serves.
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 2);
    let mut state = state;
    state.next = Some(serin::state::Next::Resize);
    shift(&stage, state).await.unwrap();
    assert_eq!(tasks(), 4);
}

#[tokio::test]
async fn the_next_weight_asks_for_its_share_of_what_stable_has_now() {
    let stage = Stage::default();
    let state = ready(&stage, json!({"plan": {"preset": "ECSAllAtOnce"}})).await;
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 6);
    let state = shift_until_done(&stage, state).await.unwrap();
    let canary = state.deployment.canary.service;
    let tasks = stage
        .account
        .look(|world| world.running_and_healthy(canary.as_str()));
    assert_eq!(tasks, (6, 6));
}

#[tokio::test]
async fn a_resize_that_comes_after_the_rollback_has_begun_changes_nothing() {
    use serin::{Ledger, ports::Phase};
    let stage = Stage::default();
    let state = ready(&stage, json!({})).await;
    let mut state = shift_until_done(&stage, state).await.unwrap();
    let ledger = &stage.aws.ledger;
    ledger
        .enter(&stage.execution(), Phase::RollingBack)
        .await
        .unwrap()
        .unwrap();
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 80);
    state.next = Some(serin::state::Next::Resize);
    let error = shift(&stage, state).await.unwrap_err();
    assert!(
        matches!(error, ShiftWeightError::DeploymentFenced),
        "{error:?}"
    );
}

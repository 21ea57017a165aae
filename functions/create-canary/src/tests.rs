//! The canary's creation on the account in memory.

use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::State;
use serin_sim::world;
use serin_sim::{Fault, FaultKind, Stage, Which};

use crate::{CreateCanaryError, create_canary};

async fn planned(stage: &Stage, more: Value) -> State {
    let aws = &stage.aws;
    let input = stage.input(RawRequest(stage.request(more)));
    plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap()
}

async fn create(stage: &Stage, state: State) -> Result<State, CreateCanaryError> {
    create_canary(
        &stage.aws.fleet,
        &stage.aws.router,
        &stage.aws.ledger,
        stage.input(state),
    )
    .await
}

/// Calls the step as the state machine does, until it is done or fails.
async fn create_until_done(stage: &Stage, mut state: State) -> Result<State, CreateCanaryError> {
    for _ in 0..200 {
        state = create(stage, state).await?;
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

fn canary_of(state: &State) -> &str {
    state.deployment.canary.service.as_str()
}

#[tokio::test]
async fn the_canary_is_ready_when_its_tasks_run_and_can_be_reached_and_it_gets_no_traffic() {
    let stage = Stage::default();
    let state = create_until_done(&stage, planned(&stage, json!({"capacity": "full"})).await)
        .await
        .unwrap();
    stage.account.look(|world| {
        assert_eq!(world.running_and_healthy(canary_of(&state)), (4, 4));
        assert_eq!(
            world.weights(world::ROUTER, world::ROUTE).len(),
            1,
            "only stable is in the route"
        );
    });
}

#[tokio::test]
async fn the_canary_is_a_copy_of_stable_but_for_its_image_proxy_identity_family_and_registry() {
    let stage = Stage::default();
    let state = create_until_done(&stage, planned(&stage, json!({})).await)
        .await
        .unwrap();
    stage.account.look(|world| {
        let (stable, _) = world.task_definition(world::FAMILY).unwrap();
        let (canary, tags) = world.task_definition("checkout-canary").unwrap();
        let mut differing: Vec<_> = std::iter::zip(
            stable.container_definitions(),
            canary.container_definitions(),
        )
        .filter(|(stable, canary)| stable != canary)
        .map(|(stable, _)| stable.name().unwrap())
        .collect();
        differing.sort_unstable();
        assert_eq!(differing, ["app", "envoy"]);
        assert_eq!(stable.proxy_configuration(), canary.proxy_configuration());
        assert!(
            tags.iter().any(|tag| tag.key() == Some("serin:execution")),
            "{tags:?}"
        );
        let service = |name: &str| world.service(world::CLUSTER, name).unwrap();
        let (stable, canary) = (service(world::SERVICE), service(canary_of(&state)));
        assert_ne!(
            stable.service_registries()[0].registry_arn(),
            canary.service_registries()[0].registry_arn()
        );
        assert_eq!(
            stable.network_configuration(),
            canary.network_configuration()
        );
    });
}

#[tokio::test]
async fn creating_twice_creates_once_even_when_every_first_answer_is_lost() {
    let stage = Stage::default();
    let planned = planned(&stage, json!({})).await;
    for operation in [
        "Cloud Map CreateService",
        "CreateVirtualNode",
        "RegisterTaskDefinition",
        "ECS CreateService",
    ] {
        stage.account.inject(Fault {
            operation,
            which: Which::Nth(1),
            kind: FaultKind::AnswerLost,
        });
    }
    let mut lost = 0;
    let state = loop {
        match create_until_done(&stage, planned.clone()).await {
            Ok(state) => break state,
            Err(CreateCanaryError::AwsUnavailable(_)) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(lost, 4);
    let again = create(&stage, planned).await.unwrap();
    let made = |state: &State| {
        let canary = state.progress.canary.clone().unwrap();
        (
            canary.task_definition,
            canary.service_arn,
            canary.attachment,
        )
    };
    assert_eq!(made(&again), made(&state));
    stage.account.look(|world| {
        assert_eq!(
            world
                .services(world::CLUSTER)
                .iter()
                .filter(|name| name.contains("-canary-"))
                .count(),
            1
        );
        assert_eq!(
            world
                .nodes()
                .iter()
                .filter(|name| name.contains("-canary-"))
                .count(),
            1
        );
        assert_eq!(
            world
                .active_task_definitions()
                .iter()
                .filter(|name| name.contains("checkout-canary"))
                .count(),
            1
        );
    });
}

#[tokio::test]
async fn a_crash_loop_is_recognised_after_two_failed_starts_with_its_reason_and_exit_code() {
    let stage = Stage::default();
    let began = stage.account.clock().now();
    let planned = planned(&stage, json!({"image": world::app_image("2.0.0-crash")})).await;
    let error = create_until_done(&stage, planned).await.unwrap_err();
    let CreateCanaryError::CanaryNotStarting(sentence) = error else {
        panic!("{error}")
    };
    assert!(
        sentence.contains("Essential container in task exited")
            && sentence.contains("exited with code 1"),
        "{sentence}"
    );
    assert!(
        stage.account.clock().now().as_second() - began.as_second() < 60,
        "long before any time-out"
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_says_so() {
    let stage = Stage::default();
    let planned = planned(
        &stage,
        json!({"image": world::app_image("2.0.0-unpullable")}),
    )
    .await;
    let error = create_until_done(&stage, planned)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("CannotPullContainer"), "{error}");
}

#[tokio::test]
async fn a_canary_that_is_never_healthy_is_given_up_in_time_saying_what_it_lacks() {
    let stage = Stage::default();
    let planned = planned(
        &stage,
        json!({"image": world::app_image("2.0.0-never-healthy"), "readyWithinSeconds": 120}),
    )
    .await;
    let error = create_until_done(&stage, with_start(&stage, planned))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CreateCanaryError::CanaryNotReady { seconds: 120, .. }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("can be reached") || error.to_string().contains("tasks run"),
        "{error}"
    );
}

/// The state of a deployment that has just been started.
fn with_start(stage: &Stage, mut state: State) -> State {
    state.deployment.started_at = stage.account.clock().now();
    state
}

#[tokio::test]
async fn a_deployment_that_is_being_rolled_back_creates_nothing_more() {
    use serin::Ledger;
    use serin::ports::Phase;

    let stage = Stage::default();
    let planned = planned(&stage, json!({})).await;
    stage
        .aws
        .ledger
        .enter(&stage.execution(), Phase::RollingBack)
        .await
        .unwrap()
        .unwrap();
    let error = create(&stage, planned).await.unwrap_err();
    assert!(matches!(error, CreateCanaryError::DeploymentFenced));
    assert_eq!(stage.account.count_calls("CreateVirtualNode"), 0);
}

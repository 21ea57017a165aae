use serin::ports::{Fleet, ImagePin, Observation, Removal, Rollout, Side, TrafficRouter};
use serin::{ClusterName, Family, PortError, ServiceName};
use serin_sim::{Fault, FaultKind, Which, world};

use crate::{Scene, all_traces, arn, cluster, described, plan, refusal, removed};

fn stable() -> ServiceName {
    ServiceName::new(world::SERVICE)
}

#[tokio::test]
async fn a_service_is_described_with_its_defaults() {
    let scene = Scene::new().await;
    let (service, definition) = described(&scene.aws).await;
    assert_eq!(
        (
            service.controller.as_str(),
            service.strategy.as_str(),
            service.scheduling.as_str()
        ),
        ("ECS", "ROLLING", "REPLICA")
    );
    assert_eq!(
        (
            service.status.as_str(),
            service.desired_count,
            service.running_count,
            service.deployments
        ),
        ("ACTIVE", 4, 4, 1)
    );
    assert_eq!(service.registries.len(), 1);
    assert!(!service.managed_by_ecs && !service.service_connect_server);
    assert_eq!(definition.family, Family::new(world::FAMILY));
    assert_eq!(definition.proxy_container.as_deref(), Some("envoy"));
}

#[tokio::test]
async fn what_is_not_there_is_none_and_no_error() {
    let scene = Scene::new().await;
    let fleet = &scene.aws.fleet;
    assert_eq!(
        fleet
            .service(&cluster(), &ServiceName::new("nothing"))
            .await,
        Ok(None)
    );
    assert_eq!(
        fleet.service(&ClusterName::new("nowhere"), &stable()).await,
        Ok(None)
    );
    assert_eq!(fleet.task_definition("nothing:1").await, Ok(None));
    assert_eq!(
        fleet
            .observe(&cluster(), &ServiceName::new("nothing"))
            .await,
        Ok(Observation::Absent)
    );
    assert_eq!(
        fleet
            .stopped_tasks(&cluster(), &ServiceName::new("nothing"))
            .await,
        Ok(vec![])
    );
    assert_eq!(
        fleet
            .stopped_tasks(&ClusterName::new("nowhere"), &stable())
            .await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn an_image_is_named_by_its_digest_where_ecr_knows_it() {
    let scene = Scene::new().await;
    let fleet = &scene.aws.fleet;
    let ImagePin::Pinned(pinned) = fleet.pin_image(&world::app_image("2.0.0")).await.unwrap()
    else {
        panic!("not pinned")
    };
    assert!(
        pinned.starts_with("123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout@sha256:"),
        "{pinned}"
    );
    assert_eq!(
        fleet.pin_image(&pinned).await,
        Ok(ImagePin::Pinned(pinned.clone()))
    );
    assert_eq!(
        fleet.pin_image(&world::app_image("9.9.9")).await,
        Ok(ImagePin::Missing)
    );
    let elsewhere = world::app_image("2.0.0").replace("/checkout", "/nothing");
    assert_eq!(fleet.pin_image(&elsewhere).await, Ok(ImagePin::Missing));
}

#[tokio::test]
async fn an_image_that_cannot_be_looked_up_stays_as_it_is_named() {
    let scene = Scene::new().await;
    let fleet = &scene.aws.fleet;
    assert!(matches!(
        fleet.pin_image("nginx:1.27").await,
        Ok(ImagePin::Unknown(_))
    ));
    let other_region = world::app_image("2.0.0").replace("eu-west-1", "us-east-1");
    assert!(
        matches!(fleet.pin_image(&other_region).await, Ok(ImagePin::Unknown(why)) if why.contains("us-east-1"))
    );
    assert_eq!(scene.account.count_calls("DescribeImages"), 0);
    scene.account.inject(Fault {
        operation: "DescribeImages",
        which: Which::Nth(1),
        kind: FaultKind::Denied,
    });
    assert!(
        matches!(fleet.pin_image(&world::app_image("2.0.0")).await, Ok(ImagePin::Unknown(why)) if why.contains("not authorized"))
    );
    scene.account.heal();
    scene.account.inject(Fault {
        operation: "DescribeImages",
        which: Which::Nth(1),
        kind: FaultKind::ServerError,
    });
    assert!(matches!(
        fleet.pin_image(&world::app_image("2.0.0")).await,
        Err(PortError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn creating_the_canary_twice_creates_it_once() {
    let scene = Scene::new().await;
    scene.created(2).await;
    let before = scene.account.snapshot();
    scene.created(2).await;
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    assert_eq!(scene.account.count_calls("RegisterTaskDefinition"), 1);
    let observed = scene
        .aws
        .fleet
        .observe(&cluster(), &scene.deployment.canary.service)
        .await
        .unwrap();
    let Observation::Active(canary) = observed else {
        panic!("{observed:?}")
    };
    assert!(canary.is_steady() && canary.running_new == 2, "{canary:?}");
}

#[tokio::test]
async fn a_canary_that_was_made_although_the_answer_was_lost_is_adopted() {
    let scene = Scene::new().await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    for operation in ["RegisterTaskDefinition", "ECS CreateService"] {
        scene.account.inject(Fault {
            operation,
            which: Which::Nth(1),
            kind: FaultKind::AnswerLost,
        });
    }
    let attachment = scene.aws.router.prepare(deployment).await.unwrap();
    let error = fleet
        .ensure_canary_definition(deployment, &attachment)
        .await
        .unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error:?}");
    let definition = fleet
        .ensure_canary_definition(deployment, &attachment)
        .await
        .unwrap();
    assert!(
        definition.as_str().ends_with("/checkout-canary:1"),
        "{definition}"
    );
    fleet
        .ensure_canary_service(deployment, &definition, &attachment, 1)
        .await
        .unwrap_err();
    let service = fleet
        .ensure_canary_service(deployment, &definition, &attachment, 1)
        .await
        .unwrap();
    assert!(
        service.ends_with(deployment.canary.service.as_str()),
        "{service}"
    );
}

#[tokio::test]
async fn a_new_service_that_ecs_does_not_describe_yet_is_not_created_twice() {
    let scene = Scene::new().await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    scene
        .account
        .settings(|settings| settings.service_lag_seconds = 5);
    let attachment = scene.aws.router.prepare(deployment).await.unwrap();
    let definition = fleet
        .ensure_canary_definition(deployment, &attachment)
        .await
        .unwrap();
    let first = fleet
        .ensure_canary_service(deployment, &definition, &attachment, 1)
        .await
        .unwrap();
    // The token tells ECS that it is the same request.
    assert_eq!(
        fleet
            .ensure_canary_service(deployment, &definition, &attachment, 1)
            .await,
        Ok(first)
    );
}

#[tokio::test]
async fn a_crashing_canary_shows_its_reason_and_exit_code() {
    let mut scene = Scene::new().await;
    scene.deployment.canary.images = [(
        serin::ContainerName::new("app"),
        world::app_image("2.0.0-crash"),
    )]
    .into();
    scene.created(1).await;
    let stopped = scene
        .aws
        .fleet
        .stopped_tasks(&cluster(), &scene.deployment.canary.service)
        .await
        .unwrap();
    assert!(stopped.len() >= 2, "{stopped:?}");
    assert!(stopped.is_sorted_by_key(|task| task.stopped_at));
    assert!(stopped[0].failed_by_itself());
    assert!(
        stopped[0].to_string().contains("exited with code 1"),
        "{}",
        stopped[0]
    );
    assert!(
        scene.account.count_calls("ListTasks") > 1,
        "the list has pages"
    );
}

#[tokio::test]
async fn the_canary_goes_to_no_tasks_before_it_goes() {
    let scene = Scene::new().await;
    let before = scene.account.snapshot();
    scene.created(2).await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    let first = fleet
        .remove_service(deployment, Side::Canary)
        .await
        .unwrap();
    assert!(
        matches!(&first, Removal::Going(what) if what.contains("2 tasks")),
        "{first:?}"
    );
    assert_eq!(scene.account.count_calls("DeleteService"), 0);
    removed(&scene.account, async || {
        fleet.remove_service(deployment, Side::Canary).await
    })
    .await;
    fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
    removed(&scene.account, async || {
        scene.aws.router.tear_down(deployment, Side::Canary).await
    })
    .await;
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    assert_eq!(all_traces(fleet, deployment).await, vec![]);
    // Once more, with nothing left.
    assert_eq!(
        fleet.remove_service(deployment, Side::Canary).await,
        Ok(Removal::Gone)
    );
    fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_service_of_the_canarys_name_that_is_not_ours_is_left_alone() {
    let scene = Scene::new().await;
    scene.created(1).await;
    let mut other = plan(&scene.account, &scene.aws).await;
    other.execution =
        serin::ExecutionArn::new("arn:aws:states:eu-west-1:123456789012:execution:serin:other");
    let sentence = refusal(scene.aws.fleet.remove_service(&other, Side::Canary).await);
    assert!(
        sentence.contains("was not created by this deployment"),
        "{sentence}"
    );
    assert_eq!(scene.account.count_calls("UpdateService"), 0);
}

#[tokio::test]
async fn what_is_left_of_a_canary_is_named_with_the_command_that_removes_it() {
    let scene = Scene::new().await;
    scene.created(1).await;
    let traces = all_traces(&scene.aws.fleet, &scene.deployment).await;
    let commands: Vec<_> = traces
        .iter()
        .map(|trace| trace.command.replace(scene.deployment.id.as_str(), "ID"))
        .collect();
    assert_eq!(
        commands,
        [
            "aws ecs delete-service --cluster prod --service checkout-canary-ID --force",
            "aws ecs deregister-task-definition --task-definition arn:aws:ecs:eu-west-1:123456789012:task-definition/checkout-canary:1",
        ]
    );
}

#[tokio::test]
async fn a_lost_answer_leaves_no_second_revision_behind() {
    let scene = Scene::new().await;
    let before = scene.account.snapshot();
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    let attachment = serin::progress::Attachment::default();
    fleet
        .ensure_canary_definition(deployment, &attachment)
        .await
        .unwrap();
    // As if the description had come too early: the same execution registers again.
    scene.account.inject(Fault {
        operation: "DescribeTaskDefinition",
        which: Which::Nth(1),
        kind: FaultKind::Refused("ClientException", "Unable to describe task definition."),
    });
    let second = fleet
        .ensure_canary_definition(deployment, &attachment)
        .await
        .unwrap();
    assert!(second.as_str().ends_with(":2"), "{second}");
    scene.account.heal();
    fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn the_promoted_definition_is_stables_own_with_the_new_image() {
    let scene = Scene::new().await;
    let (fleet, deployment) = (&scene.aws.fleet, &scene.deployment);
    let promoted = fleet.ensure_promoted_definition(deployment).await.unwrap();
    assert_eq!(
        fleet.ensure_promoted_definition(deployment).await,
        Ok(promoted.clone())
    );
    assert!(promoted.as_str().ends_with("/checkout:2"), "{promoted}");
    let (before, after) = (
        described(&scene.aws).await.1,
        fleet
            .task_definition(promoted.as_str())
            .await
            .unwrap()
            .unwrap(),
    );
    let container = |definition: &serin::ports::TaskDefinitionDescription, name: &str| {
        definition
            .containers
            .iter()
            .find(|container| container.name == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(container(&after, "envoy"), container(&before, "envoy"));
    assert_eq!(container(&after, "app").image, world::app_image("2.0.0"));

    fleet.update_stable(deployment, &promoted, 0).await.unwrap();
    fleet.update_stable(deployment, &promoted, 0).await.unwrap();
    assert_eq!(scene.account.count_calls("UpdateService"), 1);
    let observed = fleet.observe(&cluster(), &stable()).await.unwrap();
    assert!(
        matches!(&observed, Observation::Active(tasks) if tasks.task_definition == promoted && tasks.rollout == Rollout::InProgress)
    );
    // In use: it must not be taken away.
    fleet.retire_promoted_definition(deployment).await.unwrap();
    assert_eq!(scene.account.count_calls("DeregisterTaskDefinition"), 0);
    let traces = all_traces(fleet, deployment).await;
    assert!(
        traces[0].what.contains("runs") && traces[0].command.ends_with(":1"),
        "{traces:?}"
    );
}

#[tokio::test]
async fn a_promoted_definition_that_is_not_in_use_is_retired() {
    let scene = Scene::new().await;
    let before = scene.account.snapshot();
    scene
        .aws
        .fleet
        .ensure_promoted_definition(&scene.deployment)
        .await
        .unwrap();
    scene
        .aws
        .fleet
        .retire_promoted_definition(&scene.deployment)
        .await
        .unwrap();
    scene
        .aws
        .fleet
        .retire_promoted_definition(&scene.deployment)
        .await
        .unwrap();
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_task_definition_that_the_request_named_is_promoted_itself() {
    let mut scene = Scene::new().await;
    scene.deployment.canary.images.clear();
    scene.deployment.canary.source =
        arn("arn:aws:ecs:eu-west-1:123456789012:task-definition/checkout:57");
    let promoted = scene
        .aws
        .fleet
        .ensure_promoted_definition(&scene.deployment)
        .await
        .unwrap();
    assert_eq!(promoted, scene.deployment.canary.source);
    assert_eq!(scene.account.count_calls("RegisterTaskDefinition"), 0);
}

#[tokio::test]
async fn each_kind_of_failure_arrives_as_its_kind() {
    let scene = Scene::new().await;
    let ask = async |kind| {
        scene.account.heal();
        scene.account.inject(Fault {
            operation: "DescribeServices",
            which: Which::Always,
            kind,
        });
        scene
            .aws
            .fleet
            .service(&cluster(), &stable())
            .await
            .unwrap_err()
    };
    assert!(
        matches!(ask(FaultKind::Throttled).await, PortError::Throttled { call, .. } if call == "ECS DescribeServices")
    );
    assert!(matches!(
        ask(FaultKind::ServerError).await,
        PortError::Unavailable { .. }
    ));
    assert!(matches!(
        ask(FaultKind::AnswerLost).await,
        PortError::Unavailable { .. }
    ));
    assert!(matches!(
        ask(FaultKind::Denied).await,
        PortError::Denied { .. }
    ));
    let refused = ask(FaultKind::Refused(
        "InvalidParameterException",
        "no such thing",
    ))
    .await;
    assert_eq!(
        refused.to_string(),
        "ECS DescribeServices was refused: InvalidParameterException: no such thing"
    );
}

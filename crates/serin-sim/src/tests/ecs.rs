use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::operation::create_service::builders::CreateServiceFluentBuilder;
use aws_sdk_ecs::types::{
    ContainerDefinition, DeploymentRolloutState, DesiredStatus, Service, TaskStopCode,
};
use serin_aws::Clients;

use super::account;
use crate::{Account, World, world};

async fn describe(clients: &Clients, name: &str) -> Service {
    let output = clients
        .ecs
        .describe_services()
        .cluster("prod")
        .services(name)
        .send()
        .await
        .unwrap();
    output.services().first().cloned().unwrap()
}

async fn register(clients: &Clients, family: &str, image: &str) -> String {
    let container = ContainerDefinition::builder()
        .name("app")
        .image(image)
        .build();
    let output = clients
        .ecs
        .register_task_definition()
        .family(family)
        .container_definitions(container)
        .send()
        .await
        .unwrap();
    output.task_definition.unwrap().task_definition_arn.unwrap()
}

fn canary(clients: &Clients, definition: &str) -> CreateServiceFluentBuilder {
    clients
        .ecs
        .create_service()
        .cluster("prod")
        .service_name("canary")
        .task_definition(definition)
        .desired_count(1)
        .client_token("t")
}

/// An account with a service `canary` that runs the image.
async fn with_canary(image: &str) -> (Account, Clients) {
    let account = account();
    let clients = account.clients();
    let definition = register(&clients, "canary", &world::app_image(image)).await;
    canary(&clients, &definition).send().await.unwrap();
    (account, clients)
}

#[tokio::test]
async fn the_users_service_is_steady_from_the_first_call() {
    let account = account();
    let service = describe(&account.clients(), "checkout").await;
    assert_eq!(
        (
            service.desired_count,
            service.running_count,
            service.pending_count
        ),
        (4, 4, 0)
    );
    assert_eq!(service.deployments().len(), 1);
    assert_eq!(
        service.deployments()[0].rollout_state(),
        Some(&DeploymentRolloutState::Completed)
    );
    assert_eq!(service.tags, None);
    assert_eq!(
        account.look(|world| world.healthy_tasks_of_node("prod", world::NODE)),
        4
    );
    assert!(
        account.look(World::lost_requests) < 2_000.0,
        "requests are lost only before the first task was healthy"
    );
}

#[tokio::test]
async fn tasks_take_their_time() {
    let (account, clients) = with_canary("2.0.0").await;
    account.clock().advance(4);
    assert_eq!(describe(&clients, "canary").await.pending_count, 1);
    account.clock().advance(3);
    let service = describe(&clients, "canary").await;
    assert_eq!((service.running_count, service.pending_count), (1, 0));
    assert_eq!(
        service.deployments()[0].rollout_state(),
        Some(&DeploymentRolloutState::InProgress)
    );
    account.clock().advance(5);
    let service = describe(&clients, "canary").await;
    assert_eq!(
        service.deployments()[0].rollout_state(),
        Some(&DeploymentRolloutState::Completed)
    );
}

#[tokio::test]
async fn a_crashing_image_leaves_stopped_tasks_that_say_why() {
    let (account, clients) = with_canary("2.0.0-crash").await;
    account.clock().advance(30);
    let service = describe(&clients, "canary").await;
    assert!(service.deployments()[0].failed_tasks >= 2);
    let list = || {
        clients
            .ecs
            .list_tasks()
            .cluster("prod")
            .service_name("canary")
            .desired_status(DesiredStatus::Stopped)
    };
    let arns = list().send().await.unwrap();
    let described = clients
        .ecs
        .describe_tasks()
        .cluster("prod")
        .set_tasks(arns.task_arns)
        .send()
        .await
        .unwrap();
    let task = &described.tasks()[0];
    assert_eq!(
        task.stop_code(),
        Some(&TaskStopCode::EssentialContainerExited)
    );
    assert_eq!(
        task.stopped_reason(),
        Some("Essential container in task exited")
    );
    assert_eq!(task.containers()[0].exit_code(), Some(1));
    account.clock().advance(2 * 3600);
    let late = list().send().await.unwrap();
    assert!(
        late.task_arns()
            .iter()
            .all(|arn| arn != task.task_arn().unwrap()),
        "stopped tasks are forgotten after an hour"
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_never_runs() {
    let (account, clients) = with_canary("2.0.0-unpullable").await;
    account.clock().advance(20);
    let arns = clients
        .ecs
        .list_tasks()
        .cluster("prod")
        .service_name("canary")
        .desired_status(DesiredStatus::Stopped)
        .send()
        .await
        .unwrap();
    let described = clients
        .ecs
        .describe_tasks()
        .cluster("prod")
        .set_tasks(arns.task_arns)
        .send()
        .await
        .unwrap();
    assert_eq!(
        described.tasks()[0].stop_code(),
        Some(&TaskStopCode::TaskFailedToStart)
    );
    assert!(
        described.tasks()[0]
            .stopped_reason()
            .unwrap()
            .starts_with("CannotPullContainerError")
    );
    assert_eq!(described.tasks()[0].containers()[0].exit_code(), None);
}

#[tokio::test]
async fn a_deleted_service_drains_and_its_name_is_taken_until_it_is_inactive() {
    let (account, clients) = with_canary("2.0.0").await;
    account.clock().advance(20);
    let definition = describe(&clients, "canary").await.task_definition.unwrap();
    let delete = || {
        clients
            .ecs
            .delete_service()
            .cluster("prod")
            .service("canary")
    };
    let error = delete().send().await.unwrap_err().into_service_error();
    assert!(error.is_invalid_parameter_exception(), "{error:?}");
    delete().force(true).send().await.unwrap();
    assert_eq!(
        describe(&clients, "canary").await.status(),
        Some("DRAINING")
    );
    let error = canary(&clients, &definition)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(
        error.message(),
        Some("Creation of service was not idempotent.")
    );
    let error = clients
        .ecs
        .update_service()
        .cluster("prod")
        .service("canary")
        .desired_count(2)
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_service_not_active_exception());
    account.clock().advance(10);
    assert_eq!(
        describe(&clients, "canary").await.status(),
        Some("INACTIVE")
    );
    canary(&clients, &definition).send().await.unwrap();
    assert_eq!(describe(&clients, "canary").await.status(), Some("ACTIVE"));
}

#[tokio::test]
async fn an_inactive_service_is_forgotten_after_a_while() {
    let (account, clients) = with_canary("2.0.0").await;
    clients
        .ecs
        .delete_service()
        .cluster("prod")
        .service("canary")
        .force(true)
        .send()
        .await
        .unwrap();
    account.clock().advance(2 * 3600);
    let output = clients
        .ecs
        .describe_services()
        .cluster("prod")
        .services("canary")
        .send()
        .await
        .unwrap();
    assert_eq!(output.failures()[0].reason(), Some("MISSING"));
    let error = clients
        .ecs
        .update_service()
        .cluster("prod")
        .service("canary")
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_service_not_found_exception());
}

#[tokio::test]
async fn creating_a_service_twice_is_creating_it_once_if_nothing_differs() {
    let (account, clients) = with_canary("2.0.0").await;
    let definition = describe(&clients, "canary").await.task_definition.unwrap();
    let again = canary(&clients, &definition)
        .send()
        .await
        .unwrap()
        .service
        .unwrap();
    assert_eq!(again.service_name(), Some("canary"));
    let error = canary(&clients, &definition)
        .desired_count(2)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.code(), Some("InvalidParameterException"));
    let error = clients
        .ecs
        .describe_services()
        .cluster("none")
        .services("x")
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_cluster_not_found_exception());
    assert_eq!(account.count_calls("CreateService"), 3);
}

#[tokio::test]
async fn a_roll_out_keeps_the_old_tasks_until_the_new_ones_are_healthy() {
    let account = account();
    let clients = account.clients();
    let definition = register(&clients, "checkout", &world::app_image("2.0.0")).await;
    clients
        .ecs
        .update_service()
        .cluster("prod")
        .service("checkout")
        .task_definition(&definition)
        .send()
        .await
        .unwrap();
    let lost = account.look(World::lost_requests);
    for _ in 0..30 {
        account.clock().advance(1);
        assert!(account.look(|world| world.running_and_healthy("checkout").1) >= 4);
    }
    let service = describe(&clients, "checkout").await;
    assert_eq!(
        (service.deployments().len(), service.task_definition()),
        (1, Some(definition.as_str()))
    );
    assert!((account.look(World::lost_requests) - lost).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_roll_out_of_a_crashing_image_keeps_the_old_tasks() {
    let account = account();
    let clients = account.clients();
    let definition = register(&clients, "checkout", &world::app_image("2.0.0-crash")).await;
    clients
        .ecs
        .update_service()
        .cluster("prod")
        .service("checkout")
        .task_definition(&definition)
        .send()
        .await
        .unwrap();
    account.clock().advance(3600);
    let service = describe(&clients, "checkout").await;
    assert_eq!(
        service.deployments()[0].rollout_state(),
        Some(&DeploymentRolloutState::Failed)
    );
    assert_eq!(
        account.look(|world| world.healthy_tasks_of_node("prod", world::NODE)),
        4
    );
}

#[tokio::test]
async fn only_the_number_of_tasks_starts_no_deployment() {
    let account = account();
    let clients = account.clients();
    clients
        .ecs
        .update_service()
        .cluster("prod")
        .service("checkout")
        .desired_count(6)
        .send()
        .await
        .unwrap();
    account.clock().advance(20);
    let service = describe(&clients, "checkout").await;
    assert_eq!((service.running_count, service.deployments().len()), (6, 1));
}

#[tokio::test]
async fn task_definitions_have_revisions_and_tags_only_on_request() {
    let account = account();
    let clients = account.clients();
    let plain = clients
        .ecs
        .describe_task_definition()
        .task_definition("checkout")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (plain.tags, plain.task_definition.as_ref().unwrap().revision),
        (None, 1)
    );
    let tagged = clients
        .ecs
        .describe_task_definition()
        .task_definition("checkout:1");
    let tagged = tagged
        .include(aws_sdk_ecs::types::TaskDefinitionField::Tags)
        .send()
        .await
        .unwrap();
    assert_eq!(tagged.tags().len(), 2);
    let second = register(&clients, "checkout", "image").await;
    assert!(second.ends_with("task-definition/checkout:2"));
    clients
        .ecs
        .deregister_task_definition()
        .task_definition(&second)
        .send()
        .await
        .unwrap();
    let newest = clients
        .ecs
        .describe_task_definition()
        .task_definition("checkout")
        .send()
        .await
        .unwrap();
    assert_eq!(newest.task_definition.unwrap().revision, 1);
    let error = canary(&clients, &second)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.message(), Some("TaskDefinition is inactive"));
    let error = clients
        .ecs
        .describe_task_definition()
        .task_definition("none")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        error.into_service_error().message(),
        Some("Unable to describe task definition.")
    );
}

#[tokio::test]
async fn a_task_whose_envoy_has_no_virtual_node_never_gets_healthy() {
    let account = account();
    let clients = account.clients();
    let mut definition = clients
        .ecs
        .describe_task_definition()
        .task_definition("checkout")
        .send()
        .await
        .unwrap()
        .task_definition
        .unwrap();
    let containers = definition
        .container_definitions
        .take()
        .unwrap()
        .into_iter()
        .map(|mut container| {
            for pair in container.environment.iter_mut().flatten() {
                pair.value = pair
                    .value
                    .take()
                    .map(|value| value.replace("checkout-node", "no-such-node"));
            }
            container
        });
    let registered = clients
        .ecs
        .register_task_definition()
        .family("lost")
        .set_container_definitions(Some(containers.collect()))
        .send()
        .await
        .unwrap();
    canary(
        &clients,
        registered
            .task_definition()
            .unwrap()
            .task_definition_arn()
            .unwrap(),
    )
    .send()
    .await
    .unwrap();
    account.clock().advance(60);
    assert_eq!(
        account.look(|world| world.running_and_healthy("canary")),
        (1, 0)
    );
}

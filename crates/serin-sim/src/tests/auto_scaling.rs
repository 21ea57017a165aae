use aws_sdk_applicationautoscaling::error::ProvideErrorMetadata;
use aws_sdk_applicationautoscaling::operation::register_scalable_target::builders::RegisterScalableTargetFluentBuilder;
use aws_sdk_applicationautoscaling::types::{
    ScalableDimension, ScalableTarget, ServiceNamespace, SuspendedState,
};
use serin_aws::Clients;

use super::account_with;
use crate::Account;
use crate::world::{self, Options};

fn scaled() -> (Account, Clients) {
    let account = account_with(&Options {
        scaling: Some((2, 8)),
        ..Options::alb()
    });
    let clients = account.clients();
    (account, clients)
}

fn register(clients: &Clients, resource: &str) -> RegisterScalableTargetFluentBuilder {
    clients
        .auto_scaling
        .register_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .resource_id(resource)
}

async fn described(clients: &Clients) -> ScalableTarget {
    let output = clients
        .auto_scaling
        .describe_scalable_targets()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .resource_ids(world::SCALABLE_TARGET)
        .send()
        .await
        .unwrap();
    output.scalable_targets()[0].clone()
}

fn scale_in(suspended: bool) -> SuspendedState {
    SuspendedState::builder()
        .dynamic_scaling_in_suspended(suspended)
        .build()
}

fn desired(account: &Account) -> i32 {
    account.look(|world| world.service("prod", "checkout").unwrap().desired_count)
}

#[tokio::test]
async fn only_what_is_given_of_a_scalable_target_changes() {
    let (account, clients) = scaled();
    let out = SuspendedState::builder()
        .dynamic_scaling_out_suspended(true)
        .build();
    let call = register(&clients, world::SCALABLE_TARGET);
    call.suspended_state(out).send().await.unwrap();
    let call = register(&clients, world::SCALABLE_TARGET);
    call.suspended_state(scale_in(true)).send().await.unwrap();
    let target = described(&clients).await;
    assert_eq!((target.min_capacity, target.max_capacity), (2, 8));
    let state = target.suspended_state().unwrap();
    assert_eq!(state.dynamic_scaling_in_suspended(), Some(true));
    assert_eq!(state.dynamic_scaling_out_suspended(), Some(true));
    assert_eq!(state.scheduled_scaling_suspended(), Some(false));
    account.settings(|settings| settings.suspended_state_replaces = true);
    let call = register(&clients, world::SCALABLE_TARGET);
    call.suspended_state(scale_in(true)).send().await.unwrap();
    let target = described(&clients).await;
    let state = target.suspended_state().unwrap();
    assert_eq!(state.dynamic_scaling_out_suspended(), Some(false));
}

#[tokio::test]
async fn a_new_scalable_target_needs_limits_and_a_service() {
    let account = account_with(&Options::alb());
    let clients = account.clients();
    let call = register(&clients, world::SCALABLE_TARGET);
    let error = call
        .suspended_state(scale_in(true))
        .send()
        .await
        .unwrap_err();
    assert!(error.into_service_error().is_validation_exception());
    let call = register(&clients, "service/prod/nobody");
    let error = call
        .min_capacity(1)
        .max_capacity(2)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    assert_eq!(desired(&account), 4);
    let call = register(&clients, world::SCALABLE_TARGET);
    call.min_capacity(6).max_capacity(9).send().await.unwrap();
    assert_eq!(
        desired(&account),
        6,
        "the capacity is moved into the limits"
    );
}

#[tokio::test]
async fn a_scalable_target_takes_its_policies_with_it() {
    let (_, clients) = scaled();
    let policies = || {
        clients
            .auto_scaling
            .describe_scaling_policies()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(world::SCALABLE_TARGET)
            .send()
    };
    let found = policies().await.unwrap();
    let label = found.scaling_policies()[0]
        .target_tracking_scaling_policy_configuration()
        .and_then(|config| config.predefined_metric_specification())
        .and_then(|metric| metric.resource_label())
        .unwrap();
    assert!(label.starts_with("app/checkout-alb/"), "{label}");
    assert!(label.contains("/targetgroup/checkout-tg/"), "{label}");
    let deregister = || {
        clients
            .auto_scaling
            .deregister_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .resource_id(world::SCALABLE_TARGET)
            .send()
    };
    deregister().await.unwrap();
    assert!(policies().await.unwrap().scaling_policies().is_empty());
    let error = deregister().await.unwrap_err().into_service_error();
    assert!(error.is_object_not_found_exception(), "{error:?}");
}

#[tokio::test]
async fn the_autoscaler_follows_the_requests_unless_it_is_suspended() {
    let (account, clients) = scaled();
    // Two rules of 100 requests per second each.
    account.settings(|settings| settings.requests_per_task = Some(50.0));
    account.clock().advance(300);
    assert_eq!(desired(&account), 4);
    let call = register(&clients, world::SCALABLE_TARGET);
    call.suspended_state(scale_in(true)).send().await.unwrap();
    account.settings(|settings| settings.requests_per_second = 60.0);
    account.clock().advance(300);
    assert_eq!(desired(&account), 4, "it may not shrink");
    let call = register(&clients, world::SCALABLE_TARGET);
    call.suspended_state(scale_in(false)).send().await.unwrap();
    account.clock().advance(120);
    assert_eq!(desired(&account), 3);
    account.settings(|settings| settings.requests_per_second = 1000.0);
    account.clock().advance(120);
    assert_eq!(desired(&account), 8, "never above the maximum");
}

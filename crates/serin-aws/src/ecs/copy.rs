//! The canary as an almost exact copy of stable: requests built from what was described. No call is made here.
//!
//! What a copy carries and what it leaves out is written down twice: in the code, and in the lists of the tests, which fail
//! when the SDK's types gain a member that is in neither list.

use std::collections::BTreeMap;

use aws_sdk_ecs::operation::create_service::builders::CreateServiceInputBuilder;
use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionInputBuilder;
use aws_sdk_ecs::types::{
    ContainerDefinition, Deployment as EcsDeployment, DeploymentCircuitBreaker,
    DeploymentConfiguration, DeploymentController, DeploymentControllerType, DeploymentStrategy,
    KeyValuePair, LoadBalancer, SchedulingStrategy, Service, ServiceConnectConfiguration,
    ServiceRegistry, Tag, TaskDefinition,
};
use serin::progress::{Attachment, EnvironmentChange};
use serin::{ContainerName, Deployment, Family, TaskDefinitionArn};

use crate::ownership;

/// What differs between a task definition and its copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DefinitionChange<'a> {
    /// The copy's family.
    pub(crate) family: &'a Family,
    /// The images that differ, by container.
    pub(crate) images: &'a BTreeMap<ContainerName, String>,
    /// The environment variables that differ.
    pub(crate) environment: &'a [EnvironmentChange],
}

/// The request that registers a copy of `source`; the sentence says which container a change names in vain.
///
/// Left out are the members that ECS writes itself (ARN, revision, status, requiresAttributes, compatibilities,
/// registeredAt, registeredBy, deregisteredAt, deleteRequestedAt) and inferenceAccelerators, which AWS no longer has.
pub(crate) fn task_definition(
    source: &TaskDefinition,
    tags: &[Tag],
    change: DefinitionChange<'_>,
    deployment: &Deployment,
) -> Result<RegisterTaskDefinitionInputBuilder, String> {
    let mut containers = source.container_definitions().to_vec();
    for (name, image) in change.images {
        container(&mut containers, name.as_str(), source)?.image = Some(image.clone());
    }
    for change in change.environment {
        set_variable(
            container(&mut containers, &change.container, source)?,
            &change.variable,
            &change.value,
        );
    }
    let request = RegisterTaskDefinitionInputBuilder::default()
        .family(change.family.as_str())
        .set_container_definitions(Some(containers))
        .set_task_role_arn(source.task_role_arn.clone())
        .set_execution_role_arn(source.execution_role_arn.clone())
        .set_network_mode(source.network_mode.clone())
        .set_volumes(source.volumes.clone())
        .set_placement_constraints(source.placement_constraints.clone())
        .set_requires_compatibilities(source.requires_compatibilities.clone())
        .set_cpu(source.cpu.clone())
        .set_memory(source.memory.clone())
        .set_pid_mode(source.pid_mode.clone())
        .set_ipc_mode(source.ipc_mode.clone())
        .set_proxy_configuration(source.proxy_configuration.clone())
        .set_ephemeral_storage(source.ephemeral_storage.clone())
        .set_runtime_platform(source.runtime_platform.clone())
        .set_enable_fault_injection(source.enable_fault_injection)
        .set_tags(Some(copied_tags(tags, deployment)));
    Ok(request)
}

/// The request that creates the canary's service beside `stable`; the sentence says why there can be none.
///
/// Left out, besides what ECS writes itself:
/// - stable's own `loadBalancers`, `serviceRegistries` and `vpcLatticeConfigurations`: they would put the canary's tasks among
///   stable's, where they get traffic at weight 0. It has what the router made for it, and nothing else.
/// - `role`: it is for load balancers without the service-linked role, which ECS makes by itself today.
/// - `healthCheckGracePeriodSeconds` without a load balancer, for which ECS refuses it.
/// - `gatewayConnectors`, `monitoring`: only `DescribeServiceRevisions` shows them; the first is a way in for traffic, the
///   second the resolution of metrics that nothing here reads.
/// - the deployment's strategy, hooks and alarms: there is nothing to shift inside the canary and nothing to roll back to.
pub(crate) fn service(
    stable: &Service,
    deployment: &Deployment,
    definition: &TaskDefinitionArn,
    attachment: &Attachment,
    tasks: i32,
) -> Result<CreateServiceInputBuilder, String> {
    let primary = primary(stable);
    // One excludes the other; a service reports only the one that it was created with.
    let strategy = stable
        .capacity_provider_strategy
        .clone()
        .filter(|list| !list.is_empty());
    let launch_type = if strategy.is_some() {
        None
    } else {
        stable.launch_type.clone()
    };
    let request = CreateServiceInputBuilder::default()
        .cluster(deployment.cluster().as_str())
        .service_name(deployment.canary.service.as_str())
        .task_definition(definition.as_str())
        .desired_count(tasks)
        .client_token(format!("serin-{}", deployment.id))
        .scheduling_strategy(SchedulingStrategy::Replica)
        .deployment_controller(rolling_controller())
        .deployment_configuration(rolling(stable.deployment_configuration.as_ref()))
        .set_launch_type(launch_type)
        .set_capacity_provider_strategy(strategy)
        .set_platform_version(stable.platform_version.clone())
        .set_network_configuration(stable.network_configuration.clone())
        .set_placement_constraints(
            stable
                .placement_constraints
                .clone()
                .filter(|list| !list.is_empty()),
        )
        .set_placement_strategy(
            stable
                .placement_strategy
                .clone()
                .filter(|list| !list.is_empty()),
        )
        .set_availability_zone_rebalancing(stable.availability_zone_rebalancing.clone())
        .set_health_check_grace_period_seconds(
            stable
                .health_check_grace_period_seconds
                .filter(|_| !attachment.target_groups.is_empty()),
        )
        .set_propagate_tags(stable.propagate_tags.clone())
        .enable_ecs_managed_tags(stable.enable_ecs_managed_tags)
        .enable_execute_command(stable.enable_execute_command)
        .set_service_registries(registries(stable, attachment.registry_arn.as_deref())?)
        .set_load_balancers(load_balancers(attachment))
        .set_service_connect_configuration(
            primary
                .and_then(|primary| primary.service_connect_configuration.clone())
                .map(client_only),
        )
        .set_volume_configurations(
            primary
                .and_then(|primary| primary.volume_configurations.clone())
                .filter(|list| !list.is_empty()),
        )
        .set_tags(Some(copied_tags(stable.tags(), deployment)));
    Ok(request)
}

/// The deployment that a service is moving to, or has moved to.
pub(crate) fn primary(service: &Service) -> Option<&EcsDeployment> {
    service
        .deployments()
        .iter()
        .find(|deployment| deployment.status() == Some("PRIMARY"))
}

/// Stable's tags that may be copied, and our own.
fn copied_tags(tags: &[Tag], deployment: &Deployment) -> Vec<Tag> {
    let copied = tags
        .iter()
        .filter(|tag| ownership::is_copied(tag.key().unwrap_or_default()))
        .cloned();
    let ours = ownership::tags(deployment)
        .into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build());
    copied.chain(ours).collect()
}

fn container<'a>(
    containers: &'a mut [ContainerDefinition],
    name: &str,
    source: &TaskDefinition,
) -> Result<&'a mut ContainerDefinition, String> {
    containers
        .iter_mut()
        .find(|container| container.name() == Some(name))
        .ok_or_else(|| {
            format!(
                "task definition {} has no container {name}",
                source.task_definition_arn().unwrap_or("without a name")
            )
        })
}

/// Sets a variable in its place, or adds it: a proxy without it would take itself for stable's.
fn set_variable(container: &mut ContainerDefinition, name: &str, value: &str) {
    let variables = container.environment.get_or_insert_default();
    match variables.iter_mut().find(|pair| pair.name() == Some(name)) {
        Some(pair) => pair.value = Some(value.to_owned()),
        None => variables.push(KeyValuePair::builder().name(name).value(value).build()),
    }
}

fn rolling_controller() -> DeploymentController {
    DeploymentController::builder()
        .r#type(DeploymentControllerType::Ecs)
        .build()
        .expect("the type is given")
}

/// A plain rolling deployment that stops starting tasks when none of them stays up. It does not roll back: a new service has
/// nothing to roll back to.
fn rolling(stable: Option<&DeploymentConfiguration>) -> DeploymentConfiguration {
    DeploymentConfiguration::builder()
        .strategy(DeploymentStrategy::Rolling)
        .deployment_circuit_breaker(
            DeploymentCircuitBreaker::builder()
                .enable(true)
                .rollback(false)
                .build(),
        )
        .set_maximum_percent(stable.and_then(DeploymentConfiguration::maximum_percent))
        .set_minimum_healthy_percent(
            stable.and_then(DeploymentConfiguration::minimum_healthy_percent),
        )
        .build()
}

/// Stable's registry entry, with the canary's own Cloud Map service in it: in stable's, the canary's tasks would be in the
/// stable pool as soon as they ran.
fn registries(
    stable: &Service,
    registry_arn: Option<&str>,
) -> Result<Option<Vec<ServiceRegistry>>, String> {
    match (stable.service_registries(), registry_arn) {
        (_, None) => Ok(None),
        ([registry], Some(arn)) => {
            let mut registry = registry.clone();
            registry.registry_arn = Some(arn.to_owned());
            Ok(Some(vec![registry]))
        }
        (registries, Some(_)) => Err(format!(
            "stable has {} service registries and the router made one for the canary",
            registries.len()
        )),
    }
}

/// The target groups that the router made for the canary, with the containers and ports that stable has in its own.
fn load_balancers(attachment: &Attachment) -> Option<Vec<LoadBalancer>> {
    let balancers: Vec<_> = attachment
        .target_groups
        .iter()
        .map(|group| {
            LoadBalancer::builder()
                .target_group_arn(&group.target_group_arn)
                .container_name(&group.container)
                .container_port(i32::from(group.port))
                .build()
        })
        .collect();
    (!balancers.is_empty()).then_some(balancers)
}

/// Service Connect as a client: a discovery name exists once in a namespace, so a second server cannot have it.
fn client_only(mut configuration: ServiceConnectConfiguration) -> ServiceConnectConfiguration {
    configuration.services = None;
    configuration
}

#[cfg(test)]
mod tests;

//! Task definitions: families, revisions, ACTIVE and INACTIVE.

use aws_sdk_ecs::operation::deregister_task_definition::{
    DeregisterTaskDefinitionInput, DeregisterTaskDefinitionOutput,
};
use aws_sdk_ecs::operation::describe_task_definition::{
    DescribeTaskDefinitionInput, DescribeTaskDefinitionOutput,
};
use aws_sdk_ecs::operation::register_task_definition::{
    RegisterTaskDefinitionInput, RegisterTaskDefinitionOutput,
};
use aws_sdk_ecs::types::{
    Attribute, Compatibility, ContainerDefinition, TaskDefinition, TaskDefinitionField,
    TaskDefinitionStatus,
};
use aws_smithy_types::DateTime;

use super::{Definition, Ecs, arn, check_tags, client};
use crate::account::ACCOUNT;
use crate::wire::Refusal;
use crate::world::World;

impl Ecs {
    /// The definition that `family`, `family:revision` or an ARN names; a family alone names its newest ACTIVE revision.
    pub(super) fn named_definition(&self, name: &str) -> Option<&Definition> {
        let short = name.rsplit("task-definition/").next().unwrap_or(name);
        if let Some((family, revision)) = short.split_once(':') {
            let revision: i32 = revision.parse().ok()?;
            return self.definitions.iter().find(|found| {
                found.data.family() == Some(family) && found.data.revision == revision
            });
        }
        self.definitions
            .iter()
            .filter(|found| found.data.family() == Some(short) && found.is_active())
            .max_by_key(|found| found.data.revision)
    }

    /// The definition for a service to run: it must be ACTIVE.
    pub(super) fn runnable_definition(&self, name: Option<&str>) -> Result<&Definition, Refusal> {
        let name = name.ok_or_else(|| client("TaskDefinition can not be blank."))?;
        let found = self
            .named_definition(name)
            .ok_or_else(|| client("TaskDefinition not found."))?;
        if found.is_active() {
            Ok(found)
        } else {
            Err(client("TaskDefinition is inactive"))
        }
    }
}

impl Definition {
    pub(crate) fn is_active(&self) -> bool {
        self.data.status() == Some(&TaskDefinitionStatus::Active)
    }
}

pub(crate) fn register_task_definition(
    world: &mut World,
    input: &RegisterTaskDefinitionInput,
) -> Result<RegisterTaskDefinitionOutput, Refusal> {
    let now = world.now();
    let family = input
        .family()
        .ok_or_else(|| client("Family should not be null or empty."))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=255).contains(&family.len()) || !family.bytes().all(allowed) {
        return Err(client(format!("Invalid family {family:?}.")));
    }
    check_containers(input.container_definitions())?;
    if let Some(proxy) = input.proxy_configuration() {
        let named = |container: &ContainerDefinition| {
            container.name() == Some(proxy.container_name.as_str())
        };
        if !input.container_definitions().iter().any(named) {
            return Err(client(format!(
                "The proxy container {} is not in the task definition.",
                proxy.container_name
            )));
        }
    }
    check_tags(input.tags())?;
    if input.tags.as_ref().is_some_and(Vec::is_empty) {
        return Err(super::invalid("Tags can not be empty."));
    }
    let of_family = world
        .ecs
        .definitions
        .iter()
        .filter(|found| found.data.family() == Some(family));
    let revision = of_family
        .map(|found| found.data.revision)
        .max()
        .unwrap_or(0)
        + 1;
    let data = TaskDefinition::builder()
        .task_definition_arn(arn(&format!("task-definition/{family}:{revision}")))
        .family(family)
        .revision(revision)
        .status(TaskDefinitionStatus::Active)
        .set_container_definitions(Some(
            input
                .container_definitions()
                .iter()
                .map(normalised)
                .collect(),
        ))
        .set_task_role_arn(input.task_role_arn.clone())
        .set_execution_role_arn(input.execution_role_arn.clone())
        .set_network_mode(input.network_mode.clone())
        .set_volumes(Some(input.volumes().to_vec()))
        .set_placement_constraints(Some(input.placement_constraints().to_vec()))
        .set_requires_compatibilities(input.requires_compatibilities.clone())
        .set_cpu(input.cpu.clone())
        .set_memory(input.memory.clone())
        .set_pid_mode(input.pid_mode.clone())
        .set_ipc_mode(input.ipc_mode.clone())
        .set_proxy_configuration(input.proxy_configuration.clone())
        .set_ephemeral_storage(input.ephemeral_storage.clone())
        .set_runtime_platform(input.runtime_platform.clone())
        .set_enable_fault_injection(input.enable_fault_injection)
        .requires_attributes(
            Attribute::builder()
                .name("com.amazonaws.ecs.capability.docker-remote-api.1.18")
                .build()
                .expect("it has a name"),
        )
        .compatibilities(Compatibility::Ec2)
        .compatibilities(Compatibility::Fargate)
        .registered_at(DateTime::from_secs(now))
        .registered_by(format!("arn:aws:iam::{ACCOUNT}:role/deployer"))
        .build();
    let tags = input.tags().to_vec();
    world.ecs.definitions.push(Definition {
        data: data.clone(),
        tags: tags.clone(),
    });
    let tags = (!tags.is_empty()).then_some(tags);
    Ok(RegisterTaskDefinitionOutput::builder()
        .task_definition(data)
        .set_tags(tags)
        .build())
}

fn check_containers(containers: &[ContainerDefinition]) -> Result<(), Refusal> {
    if containers.is_empty() {
        return Err(client("Container list cannot be empty."));
    }
    if !containers
        .iter()
        .any(|container| container.essential.unwrap_or(true))
    {
        return Err(client(
            "Task definition does not have any essential containers.",
        ));
    }
    for container in containers {
        if container.name().is_none_or(str::is_empty) {
            return Err(client("Container.name should not be null or empty."));
        }
        if container.image().is_none_or(str::is_empty) {
            return Err(client("Container.image should not be null or empty."));
        }
        if containers
            .iter()
            .filter(|other| other.name() == container.name())
            .count()
            > 1
        {
            return Err(client(format!(
                "Duplicate container name {:?}.",
                container.name()
            )));
        }
        for dependency in container.depends_on() {
            if !containers
                .iter()
                .any(|other| other.name() == Some(dependency.container_name.as_str()))
            {
                return Err(client(format!(
                    "The container {} of dependsOn is not there.",
                    dependency.container_name
                )));
            }
        }
    }
    Ok(())
}

/// As ECS gives a container back: lists that were left out come back empty.
fn normalised(container: &ContainerDefinition) -> ContainerDefinition {
    let mut container = container.clone();
    container.essential = Some(container.essential.unwrap_or(true));
    container.environment.get_or_insert_default();
    container.mount_points.get_or_insert_default();
    container.volumes_from.get_or_insert_default();
    container.port_mappings.get_or_insert_default();
    container.system_controls.get_or_insert_default();
    container
}

pub(crate) fn describe_task_definition(
    world: &mut World,
    input: &DescribeTaskDefinitionInput,
) -> Result<DescribeTaskDefinitionOutput, Refusal> {
    let name = input
        .task_definition()
        .ok_or_else(|| client("taskDefinition is required"))?;
    let found = world
        .ecs
        .named_definition(name)
        .ok_or_else(|| client("Unable to describe task definition."))?;
    let tags = input
        .include()
        .contains(&TaskDefinitionField::Tags)
        .then(|| found.tags.clone());
    Ok(DescribeTaskDefinitionOutput::builder()
        .task_definition(found.data.clone())
        .set_tags(tags)
        .build())
}

pub(crate) fn deregister_task_definition(
    world: &mut World,
    input: &DeregisterTaskDefinitionInput,
) -> Result<DeregisterTaskDefinitionOutput, Refusal> {
    let now = world.now();
    let name = input
        .task_definition()
        .ok_or_else(|| client("taskDefinition is required"))?;
    if !name.rsplit('/').next().unwrap_or(name).contains(':') {
        return Err(client("A revision is required: family:revision."));
    }
    let arn = world
        .ecs
        .named_definition(name)
        .and_then(|found| found.data.task_definition_arn.clone())
        .ok_or_else(|| client("The specified task definition does not exist."))?;
    let found = world
        .ecs
        .definitions
        .iter_mut()
        .find(|found| found.data.task_definition_arn() == Some(&arn))
        .expect("just found");
    if found.is_active() {
        found.data.status = Some(TaskDefinitionStatus::Inactive);
        found.data.deregistered_at = Some(DateTime::from_secs(now));
    }
    Ok(DeregisterTaskDefinitionOutput::builder()
        .task_definition(found.data.clone())
        .build())
}

use std::collections::BTreeSet;

use aws_sdk_ecs::operation::create_service::CreateServiceInput;
use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use aws_sdk_ecs::types::{
    AssignPublicIp, AvailabilityZoneRebalancing, AwsVpcConfiguration, CapacityProviderStrategyItem,
    Compatibility, DeploymentAlarms, EphemeralStorage, IpcMode, LaunchType, NetworkConfiguration,
    NetworkMode, OsFamily, PidMode, PlacementStrategy, PlacementStrategyType, PropagateTags,
    ProxyConfiguration, RuntimePlatform, ServiceConnectService, ServiceVolumeConfiguration,
    TaskDefinitionPlacementConstraint, TaskDefinitionStatus, Volume,
};

use serin::progress::TargetGroupUse;

use super::*;
use crate::fixture::deployment;

/// The members of a value of the SDK in which none is set, read from its debug text.
fn members(debug: &str) -> BTreeSet<String> {
    let (_, inside) = debug.split_once('{').unwrap();
    let inside = inside.trim_end().strip_suffix('}').unwrap();
    inside
        .split(',')
        .filter_map(|member| member.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

fn listed(lists: &[&[&str]]) -> BTreeSet<String> {
    let names: Vec<_> = lists
        .iter()
        .copied()
        .flatten()
        .map(|name| (*name).to_owned())
        .collect();
    let set: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "a member is listed twice");
    set
}

/// What both the task definition and the request to register one have.
const DEFINITION_COPIED: &[&str] = &[
    "container_definitions",
    "task_role_arn",
    "execution_role_arn",
    "network_mode",
    "volumes",
    "placement_constraints",
    "requires_compatibilities",
    "cpu",
    "memory",
    "pid_mode",
    "ipc_mode",
    "proxy_configuration",
    "ephemeral_storage",
    "runtime_platform",
    "enable_fault_injection",
];
const DEFINITION_GIVEN: &[&str] = &["family"];
const DEFINITION_COPIED_FROM_BESIDE: &[&str] = &["tags"];
const DEFINITION_LEFT_OUT: &[&str] = &["inference_accelerators"];
const DEFINITION_WRITTEN_BY_ECS: &[&str] = &[
    "task_definition_arn",
    "revision",
    "status",
    "requires_attributes",
    "compatibilities",
    "registered_at",
    "registered_by",
    "deregistered_at",
    "delete_requested_at",
];

const SERVICE_COPIED: &[&str] = &[
    "launch_type",
    "capacity_provider_strategy",
    "platform_version",
    "network_configuration",
    "placement_constraints",
    "placement_strategy",
    "availability_zone_rebalancing",
    "health_check_grace_period_seconds",
    "propagate_tags",
    "enable_ecs_managed_tags",
    "enable_execute_command",
    "service_registries",
    "deployment_configuration",
    "tags",
];
const SERVICE_GIVEN: &[&str] = &[
    "service_name",
    "task_definition",
    "desired_count",
    "scheduling_strategy",
    "deployment_controller",
    "load_balancers",
];
const SERVICE_GIVEN_BESIDE: &[&str] = &["cluster", "client_token"];
const SERVICE_COPIED_FROM_PRIMARY: &[&str] =
    &["service_connect_configuration", "volume_configurations"];
const SERVICE_LEFT_OUT_BESIDE: &[&str] = &[
    "role",
    "vpc_lattice_configurations",
    "gateway_connectors",
    "monitoring",
];
const SERVICE_WRITTEN_BY_ECS: &[&str] = &[
    "service_arn",
    "cluster_arn",
    "status",
    "running_count",
    "pending_count",
    "platform_family",
    "task_sets",
    "deployments",
    "role_arn",
    "events",
    "created_at",
    "created_by",
    "current_service_deployment",
    "current_service_revisions",
    "resource_management_type",
];

const PRIMARY_NOT_NEEDED: &[&str] = &[
    "id",
    "status",
    "task_definition",
    "desired_count",
    "pending_count",
    "running_count",
    "failed_tasks",
    "created_at",
    "updated_at",
    "rollout_state",
    "rollout_state_reason",
    // The service has these as well.
    "capacity_provider_strategy",
    "launch_type",
    "platform_version",
    "platform_family",
    "network_configuration",
    // What ECS made of the configuration.
    "service_connect_resources",
    // Reported from the task definition.
    "fargate_ephemeral_storage",
    "vpc_lattice_configurations",
];

#[test]
fn every_member_of_a_task_definition_and_of_its_registration_is_known() {
    let request = format!(
        "{:?}",
        RegisterTaskDefinitionInput::builder().build().unwrap()
    );
    let expected = [
        DEFINITION_COPIED,
        DEFINITION_GIVEN,
        DEFINITION_COPIED_FROM_BESIDE,
        DEFINITION_LEFT_OUT,
    ];
    assert_eq!(members(&request), listed(&expected));
    let described = format!("{:?}", TaskDefinition::builder().build());
    let expected = [
        DEFINITION_COPIED,
        DEFINITION_GIVEN,
        DEFINITION_LEFT_OUT,
        DEFINITION_WRITTEN_BY_ECS,
    ];
    assert_eq!(members(&described), listed(&expected));
}

#[test]
fn every_member_of_a_service_and_of_its_creation_is_known() {
    let request = format!("{:?}", CreateServiceInput::builder().build().unwrap());
    let expected = [
        SERVICE_COPIED,
        SERVICE_GIVEN,
        SERVICE_GIVEN_BESIDE,
        SERVICE_COPIED_FROM_PRIMARY,
        SERVICE_LEFT_OUT_BESIDE,
    ];
    assert_eq!(members(&request), listed(&expected));
    let described = format!("{:?}", Service::builder().build());
    assert_eq!(
        members(&described),
        listed(&[SERVICE_COPIED, SERVICE_GIVEN, SERVICE_WRITTEN_BY_ECS])
    );
    let primary = format!("{:?}", EcsDeployment::builder().build());
    assert_eq!(
        members(&primary),
        listed(&[SERVICE_COPIED_FROM_PRIMARY, PRIMARY_NOT_NEEDED])
    );
}

fn pair(name: &str, value: &str) -> KeyValuePair {
    KeyValuePair::builder().name(name).value(value).build()
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// A task definition in which every member has a value.
fn full_definition() -> TaskDefinition {
    let app = ContainerDefinition::builder()
        .name("app")
        .image("checkout:1")
        .environment(pair("COLOUR", "red"))
        .cpu(128)
        .build();
    let envoy = ContainerDefinition::builder()
        .name("envoy")
        .image("envoy:1")
        .environment(pair("APPMESH_RESOURCE_ARN", "stable"))
        .build();
    TaskDefinition::builder()
        .task_definition_arn("arn:aws:ecs:eu-west-1:1:task-definition/checkout:7")
        .family("checkout")
        .revision(7)
        .status(TaskDefinitionStatus::Active)
        .registered_by("somebody")
        .compatibilities(Compatibility::Ec2)
        .container_definitions(app)
        .container_definitions(envoy)
        .task_role_arn("task")
        .execution_role_arn("execution")
        .network_mode(NetworkMode::Awsvpc)
        .volumes(Volume::builder().name("scratch").build())
        .placement_constraints(
            TaskDefinitionPlacementConstraint::builder()
                .expression("x")
                .build(),
        )
        .requires_compatibilities(Compatibility::Fargate)
        .cpu("256")
        .memory("512")
        .pid_mode(PidMode::Task)
        .ipc_mode(IpcMode::Task)
        .proxy_configuration(
            ProxyConfiguration::builder()
                .container_name("envoy")
                .build()
                .unwrap(),
        )
        .ephemeral_storage(EphemeralStorage::builder().size_in_gib(30).build())
        .runtime_platform(
            RuntimePlatform::builder()
                .operating_system_family(OsFamily::Linux)
                .build(),
        )
        .enable_fault_injection(true)
        .build()
}

fn change<'a>(
    deployment: &'a Deployment,
    environment: &'a [EnvironmentChange],
) -> DefinitionChange<'a> {
    DefinitionChange {
        family: &deployment.canary.family,
        images: &deployment.canary.images,
        environment,
    }
}

fn identity(container: &str, variable: &str) -> [EnvironmentChange; 1] {
    [EnvironmentChange {
        container: container.into(),
        variable: variable.into(),
        value: "canary".into(),
    }]
}

#[test]
fn only_family_image_and_proxy_identity_of_a_task_definition_change() {
    let (source, deployment) = (full_definition(), deployment());
    let tags = [
        tag("team", "shop"),
        tag("aws:cloudformation:stack-name", "shop"),
        tag("serin:execution", "an earlier one"),
    ];
    let environment = identity("envoy", "APPMESH_RESOURCE_ARN");
    let copy = task_definition(
        &source,
        &tags,
        change(&deployment, &environment),
        &deployment,
    )
    .unwrap()
    .build()
    .unwrap();

    assert_eq!(copy.family(), Some("checkout-canary"));
    let mut containers = source.container_definitions().to_vec();
    containers[0].image = Some("checkout:2".into());
    containers[1].environment = Some(vec![pair("APPMESH_RESOURCE_ARN", "canary")]);
    assert_eq!(copy.container_definitions(), containers);
    assert_eq!(
        copy.tags(),
        [
            tag("team", "shop"),
            tag(
                "serin:execution",
                "arn:aws:states:eu-west-1:1:execution:serin:one"
            ),
            tag("serin:service", "prod/checkout"),
        ]
    );

    // The rest of DEFINITION_COPIED is equal, and every member of the source has a value.
    assert_eq!(copy.volumes(), source.volumes());
    assert_eq!(copy.placement_constraints(), source.placement_constraints());
    assert_eq!(
        copy.requires_compatibilities(),
        source.requires_compatibilities()
    );
    assert_eq!(copy.proxy_configuration(), source.proxy_configuration());
    assert_eq!(copy.runtime_platform(), source.runtime_platform());
    assert_eq!(copy.ephemeral_storage(), source.ephemeral_storage());
    assert_eq!(
        (copy.task_role_arn(), copy.execution_role_arn()),
        (Some("task"), Some("execution"))
    );
    assert!(
        !copy.volumes().is_empty()
            && !copy.placement_constraints().is_empty()
            && !copy.requires_compatibilities().is_empty()
    );
    assert!(
        copy.proxy_configuration().is_some()
            && copy.runtime_platform().is_some()
            && copy.ephemeral_storage().is_some()
    );
    assert_eq!((copy.cpu(), copy.memory()), (Some("256"), Some("512")));
    assert_eq!(
        (copy.pid_mode(), copy.ipc_mode()),
        (Some(&PidMode::Task), Some(&IpcMode::Task))
    );
    assert_eq!(
        (copy.network_mode(), copy.enable_fault_injection()),
        (Some(&NetworkMode::Awsvpc), Some(true))
    );
}

#[test]
fn a_proxy_that_has_no_identity_yet_gets_one() {
    let (source, deployment) = (full_definition(), deployment());
    let environment = identity("envoy", "APPMESH_VIRTUAL_NODE_NAME");
    let copy = task_definition(&source, &[], change(&deployment, &environment), &deployment)
        .unwrap()
        .build()
        .unwrap();
    let expected = [
        pair("APPMESH_RESOURCE_ARN", "stable"),
        pair("APPMESH_VIRTUAL_NODE_NAME", "canary"),
    ];
    assert_eq!(copy.container_definitions()[1].environment(), expected);
}

#[test]
fn a_container_that_is_not_there_is_named() {
    let (source, deployment) = (full_definition(), deployment());
    let environment = identity("sidecar", "X");
    let sentence =
        task_definition(&source, &[], change(&deployment, &environment), &deployment).unwrap_err();
    assert_eq!(
        sentence,
        "task definition arn:aws:ecs:eu-west-1:1:task-definition/checkout:7 has no container sidecar"
    );
}

/// A service in which every member that a copy carries has a value.
fn full_service() -> aws_sdk_ecs::types::builders::ServiceBuilder {
    let network = AwsVpcConfiguration::builder()
        .subnets("subnet-1")
        .assign_public_ip(AssignPublicIp::Disabled)
        .build()
        .unwrap();
    let connect = ServiceConnectConfiguration::builder()
        .enabled(true)
        .namespace("shop")
        .services(
            ServiceConnectService::builder()
                .port_name("http")
                .discovery_name("checkout")
                .build()
                .unwrap(),
        )
        .build();
    let volume = ServiceVolumeConfiguration::builder()
        .name("scratch")
        .build()
        .unwrap();
    let primary = EcsDeployment::builder()
        .status("PRIMARY")
        .service_connect_configuration(connect)
        .volume_configurations(volume);
    Service::builder()
        .service_name("checkout")
        .desired_count(4)
        .launch_type(LaunchType::Fargate)
        .platform_version("1.4.0")
        .network_configuration(
            NetworkConfiguration::builder()
                .awsvpc_configuration(network)
                .build(),
        )
        .placement_strategy(
            PlacementStrategy::builder()
                .r#type(PlacementStrategyType::Spread)
                .build(),
        )
        .availability_zone_rebalancing(AvailabilityZoneRebalancing::Enabled)
        .health_check_grace_period_seconds(30)
        .propagate_tags(PropagateTags::Service)
        .enable_ecs_managed_tags(true)
        .enable_execute_command(true)
        .service_registries(
            ServiceRegistry::builder()
                .registry_arn("stable")
                .container_name("app")
                .container_port(80)
                .build(),
        )
        .deployment_configuration(
            DeploymentConfiguration::builder()
                .strategy(DeploymentStrategy::Linear)
                .bake_time_in_minutes(5)
                .maximum_percent(150)
                .minimum_healthy_percent(50)
                .alarms(
                    DeploymentAlarms::builder()
                        .enable(true)
                        .rollback(true)
                        .alarm_names("a")
                        .build()
                        .unwrap(),
                )
                .build(),
        )
        .deployments(EcsDeployment::builder().status("ACTIVE").build())
        .deployments(primary.build())
        .tags(tag("team", "shop"))
        .tags(tag("aws:ecs:x", "y"))
}

fn in_the_mesh() -> Attachment {
    Attachment {
        registry_arn: Some("canary".into()),
        ..Attachment::default()
    }
}

fn behind_a_load_balancer() -> Attachment {
    Attachment {
        target_groups: vec![TargetGroupUse {
            target_group_arn: "canary".into(),
            container: "app".into(),
            port: 8080,
        }],
        ..Attachment::default()
    }
}

fn copied(stable: &Service) -> CreateServiceInput {
    let definition = TaskDefinitionArn::new("checkout-canary:1");
    service(stable, &deployment(), &definition, &in_the_mesh(), 2)
        .unwrap()
        .build()
        .unwrap()
}

#[test]
fn a_canarys_service_is_stables_but_for_name_registry_and_strategy() {
    let stable = full_service().build();
    let copy = copied(&stable);
    let id = deployment().id;
    assert_eq!(copy.cluster(), Some("prod"));
    assert_eq!(
        copy.service_name(),
        Some(format!("checkout-canary-{id}").as_str())
    );
    assert_eq!(
        (copy.task_definition(), copy.desired_count()),
        (Some("checkout-canary:1"), Some(2))
    );
    assert!(copy.client_token().unwrap().len() <= 36);
    assert_eq!(copy.network_configuration(), stable.network_configuration());
    assert_eq!(copy.placement_strategy(), stable.placement_strategy());
    assert_eq!(copy.platform_version(), Some("1.4.0"));
    assert_eq!(
        copy.availability_zone_rebalancing(),
        Some(&AvailabilityZoneRebalancing::Enabled)
    );
    assert_eq!(copy.propagate_tags(), Some(&PropagateTags::Service));
    assert_eq!(
        (
            copy.enable_ecs_managed_tags(),
            copy.enable_execute_command()
        ),
        (Some(true), Some(true))
    );
    assert_eq!(
        copy.service_registries(),
        [ServiceRegistry::builder()
            .registry_arn("canary")
            .container_name("app")
            .container_port(80)
            .build()]
    );
    assert_eq!(copy.volume_configurations().len(), 1);
    assert_eq!(
        copy.tags().iter().filter_map(Tag::key).collect::<Vec<_>>(),
        ["team", "serin:execution", "serin:service"]
    );
    assert!(copy.load_balancers().is_empty() && copy.vpc_lattice_configurations().is_empty());
}

#[test]
fn a_canary_is_rolled_out_plainly_whatever_stables_strategy_is() {
    let copy = copied(&full_service().build());
    let expected = DeploymentConfiguration::builder()
        .strategy(DeploymentStrategy::Rolling)
        .deployment_circuit_breaker(
            DeploymentCircuitBreaker::builder()
                .enable(true)
                .rollback(false)
                .build(),
        )
        .maximum_percent(150)
        .minimum_healthy_percent(50)
        .build();
    assert_eq!(copy.deployment_configuration(), Some(&expected));
    assert_eq!(
        copy.deployment_controller()
            .map(|controller| controller.r#type().clone()),
        Some(DeploymentControllerType::Ecs)
    );
    assert_eq!(
        copy.scheduling_strategy(),
        Some(&SchedulingStrategy::Replica)
    );
}

#[test]
fn a_canary_is_only_a_client_in_service_connect() {
    let copy = copied(&full_service().build());
    let connect = copy.service_connect_configuration().unwrap();
    assert!(connect.enabled() && connect.services().is_empty());
    assert_eq!(connect.namespace(), Some("shop"));
}

#[test]
fn a_launch_type_and_capacity_providers_exclude_each_other() {
    let item = CapacityProviderStrategyItem::builder()
        .capacity_provider("FARGATE_SPOT")
        .weight(1)
        .build()
        .unwrap();
    let with_providers = copied(
        &full_service()
            .capacity_provider_strategy(item.clone())
            .build(),
    );
    assert_eq!(
        (
            with_providers.launch_type(),
            with_providers.capacity_provider_strategy()
        ),
        (None, &[item][..])
    );
    let without = copied(
        &full_service()
            .set_capacity_provider_strategy(Some(vec![]))
            .build(),
    );
    assert_eq!(
        (
            without.launch_type(),
            without.capacity_provider_strategy.as_ref()
        ),
        (Some(&LaunchType::Fargate), None)
    );
}

#[test]
fn a_registry_that_cannot_be_exchanged_one_for_one_is_refused() {
    let definition = TaskDefinitionArn::new("checkout-canary:1");
    let stable = full_service().set_service_registries(None).build();
    let sentence = service(&stable, &deployment(), &definition, &in_the_mesh(), 1).unwrap_err();
    assert_eq!(
        sentence,
        "stable has 0 service registries and the router made one for the canary"
    );
}

#[test]
fn behind_a_load_balancer_the_canary_has_its_own_target_groups_and_nothing_of_stables_pools() {
    let definition = TaskDefinitionArn::new("checkout-canary:1");
    let stable = full_service().build();
    let attachment = behind_a_load_balancer();
    let copy = service(&stable, &deployment(), &definition, &attachment, 1)
        .unwrap()
        .build()
        .unwrap();
    let [balancer] = copy.load_balancers() else {
        panic!("{:?}", copy.load_balancers())
    };
    assert_eq!(balancer.target_group_arn(), Some("canary"));
    assert_eq!(
        (balancer.container_name(), balancer.container_port()),
        (Some("app"), Some(8080))
    );
    assert_eq!(balancer.advanced_configuration(), None);
    assert!(copy.service_registries().is_empty() && copy.vpc_lattice_configurations().is_empty());
    assert_eq!(copy.health_check_grace_period_seconds(), Some(30));
}

#[test]
fn a_grace_period_is_left_out_where_ecs_would_refuse_it() {
    let copy = copied(&full_service().build());
    assert_eq!(copy.health_check_grace_period_seconds(), None);
}

//! ECS services: the calls.

use aws_sdk_ecs::operation::create_service::{CreateServiceInput, CreateServiceOutput};
use aws_sdk_ecs::operation::delete_service::{DeleteServiceInput, DeleteServiceOutput};
use aws_sdk_ecs::operation::describe_services::{DescribeServicesInput, DescribeServicesOutput};
use aws_sdk_ecs::operation::update_service::{UpdateServiceInput, UpdateServiceOutput};
use aws_sdk_ecs::types::{
    AvailabilityZoneRebalancing, Deployment, DeploymentConfiguration, DeploymentController,
    DeploymentControllerType, DeploymentRolloutState, DeploymentStrategy, Failure, LoadBalancer,
    NetworkMode, PropagateTags, ResourceManagementType, SchedulingStrategy, Service, ServiceEvent,
    ServiceField, Tag, TaskDefinition,
};
use aws_sdk_elasticloadbalancingv2::types::TargetTypeEnum;
use aws_smithy_types::DateTime;

use super::{Phase, Rollout, RolloutState, ServiceState, ServiceStatus, arn, check_tags, invalid};
use crate::account::ACCOUNT;
use crate::wire::Refusal;
use crate::world::World;

fn not_found() -> Refusal {
    Refusal::new("ServiceNotFoundException", "Service not found.")
}

pub(crate) fn describe_services(
    world: &mut World,
    input: &DescribeServicesInput,
) -> Result<DescribeServicesOutput, Refusal> {
    let cluster = world.ecs.cluster(input.cluster())?;
    if !(1..=10).contains(&input.services().len()) {
        return Err(invalid("Services must have 1 to 10 members."));
    }
    let tags = input.include().contains(&ServiceField::Tags);
    let mut output = DescribeServicesOutput::builder()
        .set_services(Some(Vec::new()))
        .set_failures(Some(Vec::new()));
    for name in input.services() {
        let lag = i64::try_from(world.settings.service_lag_seconds).expect("it is short");
        let seen = |service: &&ServiceState| service.created_at + lag <= world.now();
        output = if let Some(service) = world.ecs.service(&cluster, name).filter(seen) {
            output.services(world.describe(service, tags))
        } else {
            let name = name.rsplit('/').next().unwrap_or(name);
            let missing = arn(&format!("service/{cluster}/{name}"));
            output.failures(Failure::builder().arn(missing).reason("MISSING").build())
        };
    }
    Ok(output.build())
}

impl World {
    /// A service as ECS describes it now.
    pub(crate) fn describe(&self, service: &ServiceState, tags: bool) -> Service {
        let tasks = || {
            self.ecs
                .tasks
                .iter()
                .filter(|task| task.service == service.id)
        };
        let count = |number: usize| i32::try_from(number).expect("few tasks");
        let running = |rollout: Option<&str>| {
            count(
                tasks()
                    .filter(|task| {
                        task.runs() && rollout.is_none_or(|rollout| rollout == task.rollout)
                    })
                    .count(),
            )
        };
        let pending = |rollout: Option<&str>| {
            let waits = |phase| matches!(phase, Phase::Pending { .. });
            count(
                tasks()
                    .filter(|task| {
                        waits(task.phase) && rollout.is_none_or(|rollout| rollout == task.rollout)
                    })
                    .count(),
            )
        };
        let mut data = service.data.clone();
        if !tags {
            data.tags = None;
        }
        data.status = Some(
            match service.status {
                ServiceStatus::Active => "ACTIVE",
                ServiceStatus::Draining => "DRAINING",
                ServiceStatus::Inactive { .. } => "INACTIVE",
            }
            .to_owned(),
        );
        data.desired_count = service.desired;
        data.running_count = running(None);
        data.pending_count = pending(None);
        let deployments = service.rollouts.iter().enumerate().map(|(index, rollout)| {
            let live = running(Some(&rollout.id));
            Deployment::builder()
                .id(&rollout.id)
                .status(if index == 0 { "PRIMARY" } else { "ACTIVE" })
                .task_definition(&rollout.definition)
                .desired_count(if index == 0 { service.desired } else { live })
                .running_count(live)
                .pending_count(pending(Some(&rollout.id)))
                .failed_tasks(rollout.failed)
                .created_at(DateTime::from_secs(rollout.created_at))
                .updated_at(DateTime::from_secs(rollout.updated_at))
                .set_launch_type(data.launch_type.clone())
                .set_platform_version(data.platform_version.clone())
                .set_platform_family(data.platform_family.clone())
                .set_network_configuration(data.network_configuration.clone())
                .rollout_state(match rollout.state {
                    RolloutState::InProgress => DeploymentRolloutState::InProgress,
                    RolloutState::Completed => DeploymentRolloutState::Completed,
                    RolloutState::Failed => DeploymentRolloutState::Failed,
                })
                .rollout_state_reason(match rollout.state {
                    RolloutState::InProgress => {
                        format!("ECS deployment {} in progress.", rollout.id)
                    }
                    RolloutState::Completed => format!("ECS deployment {} completed.", rollout.id),
                    RolloutState::Failed => {
                        "ECS deployment circuit breaker: tasks failed to start.".to_owned()
                    }
                })
                .set_service_connect_configuration(rollout.service_connect.clone())
                .set_volume_configurations(
                    (!rollout.volumes.is_empty()).then(|| rollout.volumes.clone()),
                )
                .set_vpc_lattice_configurations(
                    (!rollout.vpc_lattice.is_empty()).then(|| rollout.vpc_lattice.clone()),
                )
                .build()
        });
        data.deployments = Some(deployments.collect());
        if let Some(primary) = service.rollouts.first() {
            data.task_definition = Some(primary.definition.clone());
        }
        let event = |(at, text): &(i64, String)| {
            ServiceEvent::builder()
                .created_at(DateTime::from_secs(*at))
                .message(text)
                .build()
        };
        data.events = Some(service.events.iter().map(event).collect());
        data
    }
}

fn check_create(input: &CreateServiceInput) -> Result<&str, Refusal> {
    let name = input
        .service_name()
        .ok_or_else(|| invalid("Service name is required."))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=255).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(invalid(format!("Invalid service name {name:?}.")));
    }
    if input
        .client_token()
        .is_some_and(|token| token.len() > 36 || !token.is_ascii())
    {
        return Err(invalid(
            "clientToken must have at most 36 ASCII characters.",
        ));
    }
    let daemon = input.scheduling_strategy() == Some(&SchedulingStrategy::Daemon);
    match input.desired_count() {
        None if !daemon => {
            return Err(invalid(
                "desiredCount is required for the REPLICA strategy.",
            ));
        }
        Some(_) if daemon => {
            return Err(invalid(
                "desiredCount is not allowed for the DAEMON strategy.",
            ));
        }
        Some(count) if !(0..=5000).contains(&count) => {
            return Err(invalid(format!("desiredCount {count}")));
        }
        _ => {}
    }
    if input.launch_type().is_some() && !input.capacity_provider_strategy().is_empty() {
        return Err(invalid(
            "Specifying both a launch type and capacity provider strategy is not supported.",
        ));
    }
    if input.service_registries().len() > 1 {
        return Err(invalid("Service registries may have at most one member."));
    }
    check_tags(input.tags())?;
    Ok(name)
}

pub(crate) fn create_service(
    world: &mut World,
    input: &CreateServiceInput,
) -> Result<CreateServiceOutput, Refusal> {
    let now = world.now();
    let cluster = world.ecs.cluster(input.cluster())?;
    let name = check_create(input)?.to_owned();
    if let Some(existing) = world.ecs.service(&cluster, &name) {
        match existing.status {
            ServiceStatus::Active if existing.request == *input => {
                return Ok(CreateServiceOutput::builder()
                    .service(world.describe(existing, true))
                    .build());
            }
            ServiceStatus::Active | ServiceStatus::Draining => {
                return Err(invalid("Creation of service was not idempotent."));
            }
            ServiceStatus::Inactive { .. } => {}
        }
    }
    let definition = world.ecs.runnable_definition(input.task_definition())?;
    if definition.data.network_mode() == Some(&NetworkMode::Awsvpc)
        && input.network_configuration().is_none()
    {
        return Err(invalid(
            "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ));
    }
    let definition = definition
        .data
        .task_definition_arn
        .clone()
        .expect("every definition has an ARN");
    for registry in input.service_registries() {
        let named = registry.registry_arn().unwrap_or_default();
        if world.cloud_map.id_of(named).is_none() {
            return Err(invalid(format!(
                "The service registry {named} does not exist."
            )));
        }
    }
    let running = world
        .ecs
        .definition(&definition)
        .expect("it was found above")
        .data
        .clone();
    world.check_load_balancers(input.load_balancers(), &running)?;
    if input.health_check_grace_period_seconds.is_some() && input.load_balancers().is_empty() {
        return Err(invalid(
            "Health check grace period is only valid for services configured to use load balancers",
        ));
    }
    let id = world.ecs.next_id();
    let mut service = ServiceState {
        id,
        cluster: cluster.clone(),
        name: name.clone(),
        status: ServiceStatus::Active,
        desired: input.desired_count().unwrap_or(1),
        created_at: now,
        data: template(input, &cluster, &name, now),
        rollouts: Vec::new(),
        request: input.clone(),
        events: Vec::new(),
    };
    let mut rollout = Rollout::new(world.ecs.next_id(), definition, now);
    rollout
        .service_connect
        .clone_from(&input.service_connect_configuration);
    rollout.volumes = input.volume_configurations().to_vec();
    rollout.vpc_lattice = input.vpc_lattice_configurations().to_vec();
    service.rollouts.push(rollout);
    let output = world.describe(&service, true);
    world.ecs.services.push(service);
    Ok(CreateServiceOutput::builder().service(output).build())
}

impl World {
    /// Whether a service that runs this definition may have these load balancers from now on.
    fn check_new_load_balancers(
        &self,
        given: &[LoadBalancer],
        definition: Option<&String>,
    ) -> Result<(), Refusal> {
        let definition = definition
            .and_then(|arn| self.ecs.definition(arn))
            .expect("an ACTIVE service has a definition, and definitions are never deleted");
        self.check_load_balancers(given, &definition.data)
    }

    /// Whether a service may have these load balancers.
    fn check_load_balancers(
        &self,
        given: &[LoadBalancer],
        definition: &TaskDefinition,
    ) -> Result<(), Refusal> {
        if given.len() > 5 {
            return Err(invalid("A service can have at most 5 target groups."));
        }
        for wanted in given {
            let arn = wanted.target_group_arn().unwrap_or_default();
            let Some(group) = self.load_balancing.group(arn) else {
                return Err(invalid(format!(
                    "The target group with targetGroupArn {arn} does not exist."
                )));
            };
            if self.load_balancing.balancer_of(arn).is_none() {
                return Err(invalid(format!(
                    "The target group with targetGroupArn {arn} does not have an associated load balancer."
                )));
            }
            let awsvpc = definition.network_mode() == Some(&NetworkMode::Awsvpc);
            if awsvpc && group.data.target_type() != Some(&TargetTypeEnum::Ip) {
                return Err(invalid(format!(
                    "The provided target group {arn} has a target type that is incompatible with the awsvpc network mode specified in the task definition."
                )));
            }
            let named = definition
                .container_definitions()
                .iter()
                .find(|container| container.name() == wanted.container_name());
            let Some(container) = named else {
                return Err(invalid(format!(
                    "The container {:?} does not exist in the task definition.",
                    wanted.container_name()
                )));
            };
            let has_port = container
                .port_mappings()
                .iter()
                .any(|mapping| mapping.container_port() == wanted.container_port());
            if !has_port {
                return Err(invalid(format!(
                    "The container {:?} did not have a container port {:?} defined.",
                    wanted.container_name(),
                    wanted.container_port()
                )));
            }
        }
        Ok(())
    }
}

impl Rollout {
    fn new(number: u64, definition: String, now: i64) -> Self {
        Self {
            id: format!("ecs-svc/{number:019}"),
            definition,
            created_at: now,
            updated_at: now,
            failed: 0,
            state: RolloutState::InProgress,
            next_start: now,
            service_connect: None,
            volumes: Vec::new(),
            vpc_lattice: Vec::new(),
        }
    }
}

/// What of a service does not change by itself, with the defaults that AWS fills in.
fn template(input: &CreateServiceInput, cluster: &str, name: &str, now: i64) -> Service {
    let fargate = input
        .launch_type()
        .is_some_and(|launch| launch.as_str() == "FARGATE");
    let mut configuration = input
        .deployment_configuration
        .clone()
        .unwrap_or_else(|| DeploymentConfiguration::builder().build());
    configuration.maximum_percent.get_or_insert(200);
    configuration.minimum_healthy_percent.get_or_insert(100);
    configuration
        .strategy
        .get_or_insert(DeploymentStrategy::Rolling);
    let controller = input.deployment_controller.clone().unwrap_or_else(|| {
        DeploymentController::builder()
            .r#type(DeploymentControllerType::Ecs)
            .build()
            .expect("its type is set")
    });
    let tags: Option<Vec<Tag>> = (!input.tags().is_empty()).then(|| input.tags().to_vec());
    Service::builder()
        .service_arn(arn(&format!("service/{cluster}/{name}")))
        .service_name(name)
        .cluster_arn(arn(&format!("cluster/{cluster}")))
        .set_load_balancers(Some(input.load_balancers().to_vec()))
        .set_service_registries(Some(input.service_registries().to_vec()))
        .set_launch_type(input.launch_type.clone())
        .set_capacity_provider_strategy(input.capacity_provider_strategy.clone())
        .set_platform_version(
            fargate.then(|| input.platform_version().unwrap_or("LATEST").to_owned()),
        )
        .set_platform_family(fargate.then(|| "Linux".to_owned()))
        .deployment_configuration(configuration)
        .role_arn(format!(
            "arn:aws:iam::{ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
        ))
        .created_at(DateTime::from_secs(now))
        .set_placement_constraints(Some(input.placement_constraints().to_vec()))
        .set_placement_strategy(Some(input.placement_strategy().to_vec()))
        .set_network_configuration(input.network_configuration.clone())
        .set_health_check_grace_period_seconds(
            input
                .health_check_grace_period_seconds
                .or((!input.load_balancers().is_empty()).then_some(0)),
        )
        .scheduling_strategy(
            input
                .scheduling_strategy
                .clone()
                .unwrap_or(SchedulingStrategy::Replica),
        )
        .deployment_controller(controller)
        .set_tags(tags)
        .created_by(format!("arn:aws:iam::{ACCOUNT}:role/deployer"))
        .enable_ecs_managed_tags(input.enable_ecs_managed_tags.unwrap_or(false))
        .propagate_tags(input.propagate_tags.clone().unwrap_or(PropagateTags::None))
        .enable_execute_command(input.enable_execute_command.unwrap_or(false))
        .availability_zone_rebalancing(
            input
                .availability_zone_rebalancing
                .clone()
                .unwrap_or(AvailabilityZoneRebalancing::Enabled),
        )
        .resource_management_type(ResourceManagementType::Customer)
        .build()
}

pub(crate) fn update_service(
    world: &mut World,
    input: &UpdateServiceInput,
) -> Result<UpdateServiceOutput, Refusal> {
    let now = world.now();
    let cluster = world.ecs.cluster(input.cluster())?;
    let name = input
        .service()
        .ok_or_else(|| invalid("service is required"))?;
    let service = world.ecs.service(&cluster, name).ok_or_else(not_found)?;
    if service.status != ServiceStatus::Active {
        return Err(Refusal::new(
            "ServiceNotActiveException",
            "Service was not ACTIVE.",
        ));
    }
    let definition = match input.task_definition() {
        None => None,
        given => world
            .ecs
            .runnable_definition(given)?
            .data
            .task_definition_arn
            .clone(),
    };
    if let Some(given) = &input.load_balancers {
        let runs = service.rollouts.first().map(|rollout| &rollout.definition);
        let definition = definition.as_ref().or(runs);
        world.check_new_load_balancers(given, definition)?;
    }
    let number = world.ecs.next_id();
    let service = world
        .ecs
        .service_mut(&cluster, name)
        .expect("it was found above");
    let primary = service
        .rollouts
        .first()
        .expect("an ACTIVE service has a deployment")
        .clone();
    if let Some(count) = input.desired_count() {
        if count < 0 {
            return Err(invalid(format!("desiredCount {count}")));
        }
        service.desired = count;
    }
    let data = &mut service.data;
    let mut rolls = input.force_new_deployment() == Some(true)
        || definition
            .as_ref()
            .is_some_and(|new| *new != primary.definition);
    /// Sets a member that is given; the second form starts a new deployment.
    macro_rules! set {
        ($($member:ident),*) => { $(if input.$member.is_some() { data.$member.clone_from(&input.$member); })* };
    }
    set!(
        health_check_grace_period_seconds,
        placement_constraints,
        placement_strategy,
        propagate_tags
    );
    if let Some(enable) = input.enable_execute_command {
        data.enable_execute_command = enable;
    }
    if let Some(enable) = input.enable_ecs_managed_tags {
        data.enable_ecs_managed_tags = enable;
    }
    set!(
        availability_zone_rebalancing,
        deployment_configuration,
        deployment_controller
    );
    rolls |= starts_a_deployment(input);
    set!(
        load_balancers,
        service_registries,
        network_configuration,
        platform_version,
        capacity_provider_strategy
    );
    if rolls {
        let mut rollout = Rollout::new(number, definition.unwrap_or(primary.definition), now);
        rollout.service_connect = input
            .service_connect_configuration
            .clone()
            .or(primary.service_connect);
        rollout.volumes = input
            .volume_configurations
            .clone()
            .unwrap_or(primary.volumes);
        rollout.vpc_lattice = input
            .vpc_lattice_configurations
            .clone()
            .unwrap_or(primary.vpc_lattice);
        service.rollouts.insert(0, rollout);
    }
    let service = world
        .ecs
        .service(&cluster, name)
        .expect("it was found above");
    Ok(UpdateServiceOutput::builder()
        .service(world.describe(service, true))
        .build())
}

/// Whether an update has a member, other than the task definition, that starts a new deployment.
fn starts_a_deployment(input: &UpdateServiceInput) -> bool {
    input.load_balancers.is_some()
        || input.service_registries.is_some()
        || input.network_configuration.is_some()
        || input.service_connect_configuration.is_some()
        || input.vpc_lattice_configurations.is_some()
        || input.volume_configurations.is_some()
        || input.platform_version.is_some()
        || input.capacity_provider_strategy.is_some()
}

pub(crate) fn delete_service(
    world: &mut World,
    input: &DeleteServiceInput,
) -> Result<DeleteServiceOutput, Refusal> {
    let cluster = world.ecs.cluster(input.cluster())?;
    let name = input
        .service()
        .ok_or_else(|| invalid("service is required"))?;
    let service = world
        .ecs
        .service_mut(&cluster, name)
        .ok_or_else(not_found)?;
    match service.status {
        ServiceStatus::Inactive { .. } => return Err(not_found()),
        ServiceStatus::Draining => {}
        ServiceStatus::Active => {
            if service.desired > 0 && input.force() != Some(true) {
                return Err(invalid(
                    "The service cannot be stopped while it is scaled above 0.",
                ));
            }
            service.status = ServiceStatus::Draining;
            service.desired = 0;
        }
    }
    let service = world
        .ecs
        .service(&cluster, name)
        .expect("it was found above");
    Ok(DeleteServiceOutput::builder()
        .service(world.describe(service, true))
        .build())
}

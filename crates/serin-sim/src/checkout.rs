//! A user's world: the service `checkout` in the mesh `prod` or behind a load balancer, steady for a while.

mod balancer;
mod scaling;

use aws_sdk_appmesh::types as mesh;
use aws_sdk_ecs::operation::create_service::CreateServiceInput;
use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use aws_sdk_ecs::types as ecs_types;
use aws_sdk_servicediscovery::operation::create_service::CreateServiceInput as CreateRegistryInput;
use aws_sdk_servicediscovery::types as map_types;

use crate::account::{ACCOUNT, Account, REGION};
use crate::world::World;
use crate::{cloud_map, ecs};

/// The cluster.
pub const CLUSTER: &str = "prod";
/// The ECS service.
pub const SERVICE: &str = "checkout";
/// Its task definition's family.
pub const FAMILY: &str = "checkout";
/// The mesh.
pub const MESH: &str = "prod";
/// The virtual router.
pub const ROUTER: &str = "checkout-router";
/// Its first route.
pub const ROUTE: &str = "checkout-route";
/// The virtual node.
pub const NODE: &str = "checkout-node";
/// The Cloud Map namespace.
pub const NAMESPACE: &str = "prod.local";
/// The Cloud Map service.
pub const REGISTRY: &str = "checkout";
/// The ledger.
pub const LEDGER_TABLE: &str = "serin-ledger";
/// The state machine of the recovery.
pub const RECOVERY: &str = "arn:aws:states:eu-west-1:123456789012:stateMachine:serin-recovery";
/// The image that the service runs.
pub const APP_IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout:1.0.0";

/// The load balancer.
pub const LOAD_BALANCER: &str = "checkout-alb";
/// Stable's first target group; a second is `checkout-tg-2`.
pub const TARGET_GROUP: &str = "checkout-tg";
/// Stable's second target group.
pub const TARGET_GROUP_2: &str = "checkout-tg-2";
/// The target group of the service `other`.
pub const OTHER_TARGET_GROUP: &str = "other-tg";
/// The first rule that forwards to stable.
pub const RULE: &str = "checkout-alb:443/10";
/// The first rule that forwards to stable's second target group.
pub const RULE_2: &str = "checkout-alb:443/11";
/// The default rule that forwards to stable.
pub const DEFAULT_RULE: &str = "checkout-alb:8443/default";
/// The default rule of the first listener, which answers 404.
pub const CLOSED_RULE: &str = "checkout-alb:443/default";
/// The listener of a Network Load Balancer, whose default action forwards to stable.
pub const NETWORK_RULE: &str = "checkout-alb:8443/default";
/// The scalable target.
pub const SCALABLE_TARGET: &str = "service/prod/checkout";
/// The VPC.
pub const VPC: &str = "vpc-0123456789abcdef0";

/// The tags in the repository `checkout`; an image does what its tag says.
const TAGS: &[&str] = &[
    "1.0.0",
    "2.0.0",
    "2.0.0-bad",
    "2.0.0-crash",
    "2.0.0-unpullable",
    "2.0.0-never-healthy",
    "2.0.0-hangs",
    "2.0.0-refuses",
    "2.0.0-slow",
    "3.0.0",
    "3.0.0-bad",
    "4.0.0",
];

/// An image of the repository `checkout`.
pub fn app_image(tag: &str) -> String {
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/checkout:{tag}")
}

/// A route's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// TCP.
    Tcp,
}

/// How the virtual node finds its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// By Cloud Map, without an attribute filter.
    CloudMap,
    /// By Cloud Map, and only tasks of the ECS service.
    CloudMapOfService,
    /// By DNS.
    Dns,
}

/// What brings the users' requests to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routers {
    /// App Mesh.
    Mesh,
    /// A load balancer.
    LoadBalancer,
    /// Both at once.
    Both,
    /// Nothing that divides requests.
    Neither,
}

/// What is different in a user's world.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a variation that a test chooses on its own"
)]
pub struct Options {
    /// What brings the requests: the mesh, a load balancer, both.
    pub routers: Routers,
    /// The routes of the virtual router: the first is `checkout-route`, the others `checkout-route-2`, ... A load balancer
    /// has as many rules that forward to stable, with the priorities 10, 20, ...
    pub routes: Vec<RouteKind>,
    /// Stable's weight in every route and rule.
    pub stable_weight: i32,
    /// Another virtual node or target group with this weight in every route or rule; it has a service of its own.
    pub other_weight: Option<i32>,
    /// Whether the ECS service registers its tasks in Cloud Map.
    pub registry: bool,
    /// Whether the Cloud Map service knows the health of its instances.
    pub registry_checks: bool,
    /// How the virtual node finds its tasks.
    pub discovery: Discovery,
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: &'static str,
    /// Whether the service's strategy is DAEMON.
    pub daemon: bool,
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR` or `CANARY`.
    pub strategy: &'static str,
    /// How many tasks the service has.
    pub tasks: i32,
    /// The requests per second on each route.
    pub requests_per_second: f64,
    /// The variable that names the virtual node: `APPMESH_RESOURCE_ARN` or `APPMESH_VIRTUAL_NODE_NAME`.
    pub proxy_variable: &'static str,
    /// Whether there is a second essential container, `worker`, that might be the app.
    pub second_app: bool,
    /// The account that owns the mesh, when it is shared.
    pub mesh_owner: Option<&'static str>,
    /// The image of the app.
    pub image: String,
    /// Whether the Cloud Map namespace is only for API calls, so that its services have no DNS records.
    pub http_namespace: bool,
    /// Whether a second virtual router, `checkout-router-2`, has a route to the node as well.
    pub second_router: bool,
    /// How many target groups the service has: the second is for the port 9090, with rules of its own (11, 21, ...).
    pub target_groups: usize,
    /// How long the rules' forward actions bind a client to a target group, in seconds; without it they do not.
    pub forward_stickiness: Option<i32>,
    /// The attributes of stable's target groups that are not default.
    pub group_attributes: Vec<(&'static str, &'static str)>,
    /// The type of stable's target groups: `ip`, `instance` or `lambda`.
    pub target_type: &'static str,
    /// Whether it is a Network Load Balancer: one TCP listener on 8443 and no rules.
    pub network: bool,
    /// Whether the rules authenticate the user before they forward.
    pub authenticate: bool,
    /// Whether the second listener's default action forwards to stable; without it every listener has a fixed response.
    pub default_forwards: bool,
    /// Whether somebody else's target is registered in stable's target group.
    pub foreign_target: bool,
    /// The scalable target's minimum and maximum; it has a policy that tracks the requests per target.
    pub scaling: Option<(i32, i32)>,
    /// The health check's grace period, in seconds.
    pub grace_seconds: Option<i32>,
}

impl Options {
    /// The service behind an Application Load Balancer, without a mesh and without Cloud Map.
    pub fn alb() -> Self {
        Self {
            routers: Routers::LoadBalancer,
            registry: false,
            ..Self::default()
        }
    }

    /// The same behind a Network Load Balancer.
    pub fn nlb() -> Self {
        Self {
            network: true,
            ..Self::alb()
        }
    }

    fn has_mesh(&self) -> bool {
        matches!(self.routers, Routers::Mesh | Routers::Both)
    }

    fn has_balancer(&self) -> bool {
        matches!(self.routers, Routers::LoadBalancer | Routers::Both)
    }

    fn ports(&self) -> &'static [i32] {
        if self.has_balancer() && self.target_groups > 1 {
            &[8080, 9090]
        } else {
            &[8080]
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            routers: Routers::Mesh,
            routes: vec![RouteKind::Http],
            stable_weight: 1,
            other_weight: None,
            registry: true,
            registry_checks: true,
            discovery: Discovery::CloudMap,
            controller: "ECS",
            daemon: false,
            strategy: "ROLLING",
            tasks: 4,
            requests_per_second: 100.0,
            proxy_variable: "APPMESH_RESOURCE_ARN",
            second_app: false,
            mesh_owner: None,
            image: APP_IMAGE.to_owned(),
            http_namespace: false,
            second_router: false,
            target_groups: 1,
            forward_stickiness: None,
            group_attributes: vec![
                ("deregistration_delay.timeout_seconds", "30"),
                ("load_balancing.cross_zone.enabled", "true"),
            ],
            target_type: "ip",
            network: false,
            authenticate: true,
            default_forwards: true,
            foreign_target: false,
            scaling: None,
            grace_seconds: None,
        }
    }
}

/// Puts the service `checkout` and all that it needs into the account; when the first call is made, it is steady.
pub fn checkout(account: &Account) {
    checkout_with(account, &Options::default());
}

/// The same with variations.
pub fn checkout_with(account: &Account, options: &Options) {
    account.build(|world| build(world, options));
}

fn build(world: &mut World, options: &Options) {
    world.settings.requests_per_second = options.requests_per_second;
    world
        .dynamo_db
        .tables
        .entry(LEDGER_TABLE.to_owned())
        .or_default();
    for tag in TAGS {
        world.ecr.push("checkout", tag, tag);
    }
    world.ecs.clusters.insert(CLUSTER.to_owned());
    let kind = if options.http_namespace {
        map_types::NamespaceType::Http
    } else {
        map_types::NamespaceType::DnsPrivate
    };
    let namespace = world.cloud_map.add_namespace(NAMESPACE, kind, world.now());
    if options.has_mesh() {
        build_mesh(world, options);
    }
    if options.has_balancer() {
        balancer::build(world, options);
    }
    build_service(world, options, &namespace, SERVICE, NODE);
    if options.other_weight.is_some() {
        let steady = Options {
            controller: "ECS",
            daemon: false,
            strategy: "ROLLING",
            ..options.clone()
        };
        build_service(world, &steady, &namespace, "other", "other-node");
    }
    if options.has_balancer() {
        balancer::finish(world, options);
    }
    if let Some((least, most)) = options.scaling {
        scaling::build(world, least, most);
    }
}

fn build_mesh(world: &mut World, options: &Options) {
    let now = world.now();
    world
        .app_mesh
        .add_mesh(MESH, options.mesh_owner.unwrap_or(ACCOUNT));
    let tags = vec![
        mesh::TagRef::builder()
            .key("team")
            .value("payments")
            .build()
            .expect("both are set"),
    ];
    world
        .app_mesh
        .add_node(MESH, NODE, node_spec(options, SERVICE), tags.clone(), now);
    world.app_mesh.add_node(
        MESH,
        "front-node",
        node_spec(options, "front"),
        tags.clone(),
        now,
    );
    world
        .app_mesh
        .add_node(MESH, "other-node", node_spec(options, "other"), tags, now);
    // Routers that a search must page through and pass by.
    for router in ["account-router", ROUTER, "front-router"] {
        world.app_mesh.add_router(MESH, router, now);
    }
    world.app_mesh.add_route(
        MESH,
        "front-router",
        "front-route",
        route_spec(RouteKind::Tcp, &[("front-node", 1)]),
        now,
    );
    let mut targets = vec![(NODE, options.stable_weight)];
    targets.extend(options.other_weight.map(|weight| ("other-node", weight)));
    for (index, kind) in options.routes.iter().enumerate() {
        let name = if index == 0 {
            ROUTE.to_owned()
        } else {
            format!("{ROUTE}-{}", index + 1)
        };
        world
            .app_mesh
            .add_route(MESH, ROUTER, &name, route_spec(*kind, &targets), now);
        world.stable_routes.push((ROUTER.to_owned(), name));
    }
    if options.second_router {
        world.app_mesh.add_router(MESH, "checkout-router-2", now);
        world.app_mesh.add_route(
            MESH,
            "checkout-router-2",
            ROUTE,
            route_spec(RouteKind::Http, &targets),
            now,
        );
        let second = ("checkout-router-2".to_owned(), ROUTE.to_owned());
        world.stable_routes.push(second);
    }
}

fn node_spec(options: &Options, service: &str) -> mesh::VirtualNodeSpec {
    let by_cloud_map = || {
        mesh::AwsCloudMapServiceDiscovery::builder()
            .namespace_name(NAMESPACE)
            .service_name(service)
    };
    let discovery = match options.discovery {
        Discovery::CloudMap => {
            mesh::ServiceDiscovery::AwsCloudMap(by_cloud_map().build().expect("both are set"))
        }
        Discovery::CloudMapOfService => {
            let attribute = mesh::AwsCloudMapInstanceAttribute::builder()
                .key("ECS_SERVICE_NAME")
                .value(service);
            let discovery = by_cloud_map().attributes(attribute.build().expect("both are set"));
            mesh::ServiceDiscovery::AwsCloudMap(discovery.build().expect("both are set"))
        }
        Discovery::Dns => {
            let discovery =
                mesh::DnsServiceDiscovery::builder().hostname(format!("{service}.{NAMESPACE}"));
            mesh::ServiceDiscovery::Dns(discovery.build().expect("the name is set"))
        }
    };
    let port = mesh::PortMapping::builder()
        .port(8080)
        .protocol(mesh::PortProtocol::Http)
        .build()
        .expect("both are set");
    let check = mesh::HealthCheckPolicy::builder()
        .protocol(mesh::PortProtocol::Http)
        .path("/health")
        .healthy_threshold(2)
        .unhealthy_threshold(3)
        .timeout_millis(2000)
        .interval_millis(5000)
        .build()
        .expect("all are set");
    let backend = mesh::VirtualServiceBackend::builder()
        .virtual_service_name(format!("payments.{NAMESPACE}"));
    let logging = mesh::FileAccessLog::builder()
        .path("/dev/stdout")
        .build()
        .expect("the path is set");
    mesh::VirtualNodeSpec::builder()
        .service_discovery(discovery)
        .listeners(
            mesh::Listener::builder()
                .port_mapping(port)
                .health_check(check)
                .build(),
        )
        .backends(mesh::Backend::VirtualService(
            backend.build().expect("the name is set"),
        ))
        .logging(
            mesh::Logging::builder()
                .access_log(mesh::AccessLog::File(logging))
                .build(),
        )
        .build()
}

/// A route with everything in it that must survive a change of the weights.
fn route_spec(kind: RouteKind, targets: &[(&str, i32)]) -> mesh::RouteSpec {
    let targets: Vec<mesh::WeightedTarget> = targets
        .iter()
        .map(|(node, weight)| {
            mesh::WeightedTarget::builder()
                .virtual_node(*node)
                .weight(*weight)
                .port(8080)
                .build()
                .expect("both are set")
        })
        .collect();
    let seconds = |value| {
        mesh::Duration::builder()
            .unit(mesh::DurationUnit::S)
            .value(value)
            .build()
    };
    let spec = mesh::RouteSpec::builder().priority(10);
    match kind {
        RouteKind::Http | RouteKind::Http2 => {
            let header = mesh::HttpRouteHeader::builder()
                .name("x-tenant")
                .invert(true)
                .r#match(mesh::HeaderMatchMethod::Prefix("internal-".to_owned()))
                .build()
                .expect("the name is set");
            let retries = mesh::HttpRetryPolicy::builder()
                .max_retries(2)
                .per_retry_timeout(seconds(2))
                .http_retry_events("server-error")
                .tcp_retry_events(mesh::TcpRetryPolicyEvent::ConnectionError)
                .build()
                .expect("all are set");
            let action = mesh::HttpRouteAction::builder()
                .set_weighted_targets(Some(targets))
                .build()
                .expect("targets are set");
            let route = mesh::HttpRoute::builder()
                .r#match(
                    mesh::HttpRouteMatch::builder()
                        .prefix("/")
                        .headers(header)
                        .method(mesh::HttpMethod::Get)
                        .build(),
                )
                .retry_policy(retries)
                .timeout(
                    mesh::HttpTimeout::builder()
                        .per_request(seconds(20))
                        .idle(seconds(60))
                        .build(),
                )
                .action(action)
                .build();
            if kind == RouteKind::Http {
                spec.http_route(route).build()
            } else {
                spec.http2_route(route).build()
            }
        }
        RouteKind::Grpc => {
            let action = mesh::GrpcRouteAction::builder()
                .set_weighted_targets(Some(targets))
                .build()
                .expect("targets are set");
            let matched = mesh::GrpcRouteMatch::builder()
                .service_name("shop.Checkout")
                .method_name("Pay")
                .build();
            let timeout = mesh::GrpcTimeout::builder()
                .per_request(seconds(20))
                .build();
            spec.grpc_route(
                mesh::GrpcRoute::builder()
                    .r#match(matched)
                    .timeout(timeout)
                    .action(action)
                    .build(),
            )
            .build()
        }
        RouteKind::Tcp => {
            let action = mesh::TcpRouteAction::builder()
                .set_weighted_targets(Some(targets))
                .build()
                .expect("targets are set");
            let timeout = mesh::TcpTimeout::builder().idle(seconds(60)).build();
            spec.tcp_route(
                mesh::TcpRoute::builder()
                    .timeout(timeout)
                    .action(action)
                    .build(),
            )
            .build()
        }
    }
}

fn build_registry(
    world: &mut World,
    options: &Options,
    namespace: &str,
    service: &str,
) -> Option<String> {
    let record = map_types::DnsRecord::builder()
        .r#type(map_types::RecordType::A)
        .ttl(10)
        .build()
        .expect("both are set");
    let dns = map_types::DnsConfig::builder()
        .dns_records(record)
        .build()
        .expect("records are set");
    let registry = CreateRegistryInput::builder()
        .name(service)
        .namespace_id(namespace)
        .description("made by the platform team")
        .set_dns_config((!options.http_namespace).then_some(dns))
        .set_health_check_custom_config(
            options
                .registry_checks
                .then(|| map_types::HealthCheckCustomConfig::builder().build()),
        )
        .tags(
            map_types::Tag::builder()
                .key("team")
                .value("payments")
                .build()
                .expect("both are set"),
        )
        .build()
        .expect("the name is set");
    cloud_map::create_service(world, &registry)
        .expect("the registry is valid")
        .service
        .and_then(|service| service.arn)
}

fn build_service(world: &mut World, options: &Options, namespace: &str, service: &str, node: &str) {
    let registry = (options.has_mesh() || options.registry)
        .then(|| build_registry(world, options, namespace, service))
        .flatten();
    let definition = definition(world, options, service, node);
    ecs::register_task_definition(world, &definition).expect("the definition is valid");
    let registry = options.registry.then(|| {
        vec![
            ecs_types::ServiceRegistry::builder()
                .set_registry_arn(registry)
                .build(),
        ]
    });
    let mut input = service_input(options, service, registry);
    if options.has_balancer() {
        input.load_balancers = Some(balancer::of_service(world, options, service));
        input.health_check_grace_period_seconds = options.grace_seconds;
    }
    ecs::create_service(world, &input).expect("the service is valid");
}

fn tag(key: &str, value: &str) -> ecs_types::Tag {
    ecs_types::Tag::builder().key(key).value(value).build()
}

fn variable(name: &str, value: &str) -> ecs_types::KeyValuePair {
    ecs_types::KeyValuePair::builder()
        .name(name)
        .value(value)
        .build()
}

fn logs(container: &str) -> ecs_types::LogConfiguration {
    ecs_types::LogConfiguration::builder()
        .log_driver(ecs_types::LogDriver::Awslogs)
        .options("awslogs-group", "/ecs/checkout")
        .options("awslogs-region", REGION)
        .options("awslogs-stream-prefix", container)
        .build()
        .expect("the driver is set")
}

#[expect(
    clippy::too_many_lines,
    reason = "one description of one task definition and its service"
)]
fn definition(
    world: &World,
    options: &Options,
    family: &str,
    node: &str,
) -> RegisterTaskDefinitionInput {
    let identity = if !options.has_mesh() {
        String::new()
    } else if options.proxy_variable == "APPMESH_RESOURCE_ARN" {
        world
            .node(node)
            .and_then(|node| node.metadata.as_ref())
            .expect("the node was made before")
            .arn
            .clone()
    } else {
        format!("mesh/{MESH}/virtualNode/{node}")
    };
    let secret = ecs_types::Secret::builder()
        .name("DATABASE_PASSWORD")
        .value_from(format!(
            "arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:checkout-AbCdEf"
        ))
        .build()
        .expect("both are set");
    let envoy_first = ecs_types::ContainerDependency::builder()
        .container_name("envoy")
        .condition(ecs_types::ContainerCondition::Healthy)
        .build()
        .expect("both are set");
    let app = ecs_types::ContainerDefinition::builder()
        .name("app")
        .image(&options.image)
        .essential(true)
        .cpu(256)
        .memory(512)
        .set_port_mappings(Some(
            options
                .ports()
                .iter()
                .map(|port| {
                    ecs_types::PortMapping::builder()
                        .container_port(*port)
                        .protocol(ecs_types::TransportProtocol::Tcp)
                        .build()
                })
                .collect(),
        ))
        .environment(variable("LOG_LEVEL", "info"))
        .secrets(secret)
        .set_depends_on(options.has_mesh().then(|| vec![envoy_first]))
        .log_configuration(logs("app"))
        .docker_labels("com.example.team", "payments")
        .build();
    let ready = ecs_types::HealthCheck::builder()
        .command("CMD-SHELL")
        .command("curl -s http://localhost:9901/server_info | grep state | grep -q LIVE")
        .interval(5)
        .timeout(2)
        .retries(3)
        .start_period(10)
        .build()
        .expect("the command is set");
    let envoy = ecs_types::ContainerDefinition::builder()
        .name("envoy")
        .image(format!(
            "840364872350.dkr.ecr.{REGION}.amazonaws.com/aws-appmesh-envoy:v1.29.12.1-prod"
        ))
        .essential(true)
        .user("1337")
        .environment(variable(options.proxy_variable, &identity))
        .environment(variable("ENABLE_ENVOY_STATS_TAGS", "1"))
        .health_check(ready)
        .log_configuration(logs("envoy"))
        .build();
    let agent = ecs_types::ContainerDefinition::builder()
        .name("cwagent")
        .image("public.ecr.aws/cloudwatch-agent/cloudwatch-agent:1.300066.1b1374")
        .essential(false)
        .log_configuration(logs("cwagent"))
        .build();
    let worker = options.second_app.then(|| {
        ecs_types::ContainerDefinition::builder()
            .name("worker")
            .image(app_image("1.0.0"))
            .essential(true)
            .build()
    });
    let proxy = ecs_types::ProxyConfiguration::builder()
        .r#type(ecs_types::ProxyConfigurationType::Appmesh)
        .container_name("envoy")
        .properties(variable("IgnoredUID", "1337"))
        .properties(variable("AppPorts", "8080"))
        .properties(variable("ProxyIngressPort", "15000"))
        .properties(variable("ProxyEgressPort", "15001"))
        .properties(variable(
            "EgressIgnoredIPs",
            "169.254.170.2,169.254.169.254",
        ))
        .build()
        .expect("the name is set");
    let mut input = RegisterTaskDefinitionInput::builder()
        .family(family)
        .task_role_arn(format!("arn:aws:iam::{ACCOUNT}:role/checkout-task"))
        .execution_role_arn(format!("arn:aws:iam::{ACCOUNT}:role/checkout-execution"))
        .network_mode(ecs_types::NetworkMode::Awsvpc)
        .requires_compatibilities(ecs_types::Compatibility::Fargate)
        .cpu("512")
        .memory("1024")
        .set_container_definitions(Some(
            options
                .has_mesh()
                .then_some(envoy)
                .into_iter()
                .chain([app, agent])
                .collect(),
        ))
        .set_proxy_configuration(options.has_mesh().then_some(proxy))
        .tags(tag("team", "payments"))
        .tags(tag("cost-centre", "42"));
    if let Some(worker) = worker {
        input = input.container_definitions(worker);
    }
    input.build().expect("nothing is required by the type")
}

fn service_input(
    options: &Options,
    service: &str,
    registry: Option<Vec<ecs_types::ServiceRegistry>>,
) -> CreateServiceInput {
    let vpc = ecs_types::AwsVpcConfiguration::builder()
        .subnets("subnet-0a1b2c3d")
        .subnets("subnet-4e5f6a7b")
        .security_groups("sg-0123456789abcdef0")
        .assign_public_ip(ecs_types::AssignPublicIp::Disabled)
        .build()
        .expect("subnets are set");
    let breaker = ecs_types::DeploymentCircuitBreaker::builder()
        .enable(true)
        .rollback(true)
        .build();
    let configuration = ecs_types::DeploymentConfiguration::builder()
        .maximum_percent(200)
        .minimum_healthy_percent(100)
        .deployment_circuit_breaker(breaker)
        .strategy(ecs_types::DeploymentStrategy::from(options.strategy))
        .build();
    let controller = ecs_types::DeploymentController::builder().r#type(
        ecs_types::DeploymentControllerType::from(options.controller),
    );
    let strategy = if options.daemon {
        ecs_types::SchedulingStrategy::Daemon
    } else {
        ecs_types::SchedulingStrategy::Replica
    };
    CreateServiceInput::builder()
        .cluster(CLUSTER)
        .service_name(service)
        .task_definition(service)
        .set_desired_count((!options.daemon).then_some(options.tasks))
        .scheduling_strategy(strategy)
        .launch_type(if options.daemon {
            ecs_types::LaunchType::Ec2
        } else {
            ecs_types::LaunchType::Fargate
        })
        .network_configuration(
            ecs_types::NetworkConfiguration::builder()
                .awsvpc_configuration(vpc)
                .build(),
        )
        .deployment_configuration(configuration)
        .deployment_controller(controller.build().expect("the type is set"))
        .set_service_registries(registry)
        .enable_ecs_managed_tags(true)
        .propagate_tags(ecs_types::PropagateTags::Service)
        .enable_execute_command(true)
        .tags(tag("team", "payments"))
        .tags(tag("environment", "production"))
        .build()
        .expect("nothing is required by the type")
}

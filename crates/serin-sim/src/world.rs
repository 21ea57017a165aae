//! The simulated world: everything in the account, and the passing of time.
//!
//! Time passes lazily: before every call, the world is brought up to the clock, second by second. Seconds in which nothing can
//! happen but more of the same traffic pass at once.

use std::collections::BTreeMap;

use aws_sdk_applicationautoscaling::types::ScalableTarget;
use aws_sdk_appmesh::types::{RouteData, ServiceDiscovery, VirtualNodeData, WeightedTarget};
use aws_sdk_ecs::types::{Service, Tag, TaskDefinition, TaskStopCode};
use aws_sdk_elasticloadbalancingv2::types::{Rule, TargetGroup};

use crate::app_mesh::{self, AppMesh};
use crate::auto_scaling::AutoScaling;
use crate::channels::Channels;
use crate::cloud_map::CloudMap;
use crate::cloud_watch::CloudWatch;
use crate::dynamo_db::{DynamoDb, Item};
use crate::ecr::Ecr;
use crate::ecs::{Ecs, ServiceStatus, TaskState};
use crate::event_bridge::EventBridge;
use crate::load_balancing::{BalancerTraffic, Group, LoadBalancing, Target};
use crate::settings::Settings;
use crate::step_functions::StepFunctions;
use crate::traffic::Traffic;

pub use crate::checkout::{
    APP_IMAGE, CLOSED_RULE, CLUSTER, DEFAULT_RULE, Discovery, FAMILY, LEDGER_TABLE, LOAD_BALANCER,
    MESH, NAMESPACE, NETWORK_RULE, NODE, OTHER_TARGET_GROUP, Options, RECOVERY, REGISTRY, ROUTE,
    ROUTER, RULE, RULE_2, RouteKind, Routers, SCALABLE_TARGET, SERVICE, TARGET_GROUP,
    TARGET_GROUP_2, VPC, app_image, checkout, checkout_with,
};

/// Everything in the account.
#[derive(Debug, Clone)]
pub struct World {
    now: i64,
    fresh: bool,
    /// Counts what happened by itself: a second that leaves it as it was is followed by others like it.
    pub(crate) changes: u64,
    /// Differs whenever the world may have changed since it was looked at.
    pub(crate) version: u64,
    pub(crate) settings: Settings,
    pub(crate) ecs: Ecs,
    pub(crate) app_mesh: AppMesh,
    pub(crate) cloud_map: CloudMap,
    pub(crate) cloud_watch: CloudWatch,
    pub(crate) dynamo_db: DynamoDb,
    pub(crate) ecr: Ecr,
    pub(crate) step_functions: StepFunctions,
    pub(crate) event_bridge: EventBridge,
    pub(crate) channels: Channels,
    pub(crate) traffic: Traffic,
    pub(crate) load_balancing: LoadBalancing,
    pub(crate) balancer_traffic: BalancerTraffic,
    pub(crate) auto_scaling: AutoScaling,
    /// The paths of the rules, and the routes with their routers, that stable had at the beginning.
    pub(crate) stable_rules: Vec<String>,
    pub(crate) stable_routes: Vec<(String, String)>,
}

impl World {
    /// How long the world had existed when the clock was handed over.
    pub(crate) const SECONDS_BEFORE_THE_FIRST_CALL: i64 = 900;

    pub(crate) fn new(now: i64) -> Self {
        Self {
            now,
            fresh: true,
            changes: 0,
            version: 0,
            settings: Settings::default(),
            ecs: Ecs::default(),
            app_mesh: AppMesh::default(),
            cloud_map: CloudMap::default(),
            cloud_watch: CloudWatch::default(),
            dynamo_db: DynamoDb::default(),
            ecr: Ecr::default(),
            step_functions: StepFunctions::default(),
            event_bridge: EventBridge::default(),
            channels: Channels::default(),
            traffic: Traffic::default(),
            load_balancing: LoadBalancing::default(),
            balancer_traffic: BalancerTraffic::default(),
            auto_scaling: AutoScaling::default(),
            stable_rules: Vec::new(),
            stable_routes: Vec::new(),
        }
    }

    /// The world's time, in seconds since the epoch.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Whether no time has passed yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(crate) fn advance_to(&mut self, now: i64) {
        self.fresh = false;
        while self.now < now {
            self.now += 1;
            let changes = self.changes;
            self.run_ecs();
            self.run_targets();
            self.run_traffic();
            self.run_balancers();
            self.run_auto_scaling();
            if self.changes == changes {
                let quiet = self.next_event().min(now + 1) - self.now - 1;
                self.pass_quietly(quiet);
            } else {
                self.version += 1;
            }
        }
    }

    /// The next second in which something can happen by itself, after one in which nothing did.
    fn next_event(&self) -> i64 {
        let events = [
            self.next_event_in_ecs(),
            self.next_event_at_targets(),
            self.next_event_in_the_mesh(),
            self.next_event_at_balancers(),
            self.next_multiple(60, 0), // auto scaling
        ];
        events
            .into_iter()
            .min()
            .expect("there are some")
            .max(self.now + 1)
    }

    /// The next second that is so many seconds after a multiple of the period.
    pub(crate) fn next_multiple(&self, period: i64, offset: i64) -> i64 {
        self.now + period - (self.now - offset).rem_euclid(period)
    }

    /// Seconds in which nothing happens: only the traffic goes on.
    fn pass_quietly(&mut self, seconds: i64) {
        if seconds <= 0 {
            return;
        }
        self.now += seconds;
        self.leave_unused_targets();
        #[expect(clippy::cast_precision_loss, reason = "less than a minute")]
        let times = seconds as f64;
        self.carry_traffic(times);
        self.carry_balanced_traffic(times);
    }

    /// Every route of every mesh.
    pub fn routes(&self) -> Vec<&RouteData> {
        self.app_mesh.routes().collect()
    }

    /// A route.
    pub fn route(&self, router: &str, route: &str) -> &RouteData {
        self.app_mesh
            .route(router, route)
            .unwrap_or_else(|| panic!("there is no route {route} of virtual router {router}"))
    }

    /// The weighted targets of a route.
    pub fn targets(&self, router: &str, route: &str) -> &[WeightedTarget] {
        self.route(router, route)
            .spec
            .as_ref()
            .and_then(app_mesh::targets)
            .expect("a route has targets")
    }

    /// The weights of a route, by virtual node.
    pub fn weights(&self, router: &str, route: &str) -> BTreeMap<String, i32> {
        self.targets(router, route)
            .iter()
            .map(|target| (target.virtual_node.clone(), target.weight))
            .collect()
    }

    /// The share of a virtual node in a route, in percent of all its weights.
    pub fn percent(&self, router: &str, route: &str, node: &str) -> f64 {
        let weights = self.weights(router, route);
        let total: i32 = weights.values().sum();
        f64::from(*weights.get(node).unwrap_or(&0)) * 100.0 / f64::from(total.max(1))
    }

    /// The names of the virtual nodes.
    pub fn nodes(&self) -> Vec<String> {
        self.app_mesh
            .meshes
            .values()
            .flat_map(|mesh| mesh.nodes.keys().cloned())
            .collect()
    }

    /// A virtual node.
    pub fn node(&self, name: &str) -> Option<&VirtualNodeData> {
        self.app_mesh
            .meshes
            .values()
            .find_map(|mesh| mesh.nodes.get(name))
            .map(|(node, _)| node)
    }

    /// The tags of a virtual node.
    pub fn node_tags(&self, name: &str) -> BTreeMap<String, String> {
        let found = self
            .app_mesh
            .meshes
            .values()
            .find_map(|mesh| mesh.nodes.get(name));
        found
            .into_iter()
            .flat_map(|(_, tags)| tags)
            .map(|tag| (tag.key.clone(), tag.value.clone()))
            .collect()
    }

    /// How many healthy tasks get the traffic of a virtual node.
    pub fn healthy_tasks_of_node(&self, mesh: &str, node: &str) -> usize {
        self.tasks_of_node(mesh, node).len()
    }

    /// The healthy tasks behind a virtual node: by Cloud Map's instances, or by DNS the service of that name.
    pub(crate) fn tasks_of_node(&self, mesh: &str, node: &str) -> Vec<&TaskState> {
        let found = self
            .app_mesh
            .meshes
            .get(mesh)
            .and_then(|mesh| mesh.nodes.get(node));
        let discovery = found
            .and_then(|(data, _)| data.spec.as_ref())
            .and_then(|spec| spec.service_discovery.as_ref());
        match discovery {
            Some(ServiceDiscovery::AwsCloudMap(discovery)) => {
                let Some(registry) = self
                    .cloud_map
                    .named(&discovery.namespace_name, &discovery.service_name)
                else {
                    return Vec::new();
                };
                let matches = |task: &&TaskState| {
                    registry.instances.get(&task.id).is_some_and(|instance| {
                        let wanted = |name: &str, value: &str| {
                            instance
                                .attributes
                                .get(name)
                                .is_some_and(|had| had == value)
                        };
                        discovery
                            .attributes()
                            .iter()
                            .all(|attribute| wanted(&attribute.key, &attribute.value))
                    })
                };
                self.ecs
                    .tasks
                    .iter()
                    .filter(|task| task.healthy)
                    .filter(matches)
                    .collect()
            }
            Some(ServiceDiscovery::Dns(discovery)) => {
                let name = discovery.hostname.split('.').next().unwrap_or_default();
                self.ecs
                    .tasks
                    .iter()
                    .filter(|task| task.healthy && task.service_name == name)
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// A service as `DescribeServices` gives it, with its tags, unless it is INACTIVE.
    pub fn service(&self, cluster: &str, name: &str) -> Option<Service> {
        let found = self.ecs.service(cluster, name)?;
        (!matches!(found.status, ServiceStatus::Inactive { .. }))
            .then(|| self.describe(found, true))
    }

    /// The names of a cluster's services that are not INACTIVE.
    pub fn services(&self, cluster: &str) -> Vec<String> {
        let live = self
            .ecs
            .services
            .iter()
            .filter(|service| !matches!(service.status, ServiceStatus::Inactive { .. }));
        live.filter(|service| service.cluster == cluster)
            .map(|service| service.name.clone())
            .collect()
    }

    /// A task definition by ARN, `family:revision` or family, with its tags.
    pub fn task_definition(&self, name: &str) -> Option<(&TaskDefinition, &[Tag])> {
        let short = name.rsplit("task-definition/").next().unwrap_or(name);
        let fits = |definition: &TaskDefinition| {
            let family = definition.family().unwrap_or_default();
            family == short || format!("{family}:{}", definition.revision) == short
        };
        let found = self
            .ecs
            .definitions
            .iter()
            .rev()
            .find(|found| fits(&found.data) && (short.contains(':') || found.is_active()));
        found.map(|found| (&found.data, found.tags.as_slice()))
    }

    /// The `family:revision` of every ACTIVE task definition.
    pub fn active_task_definitions(&self) -> Vec<String> {
        let active = self
            .ecs
            .definitions
            .iter()
            .filter(|found| found.is_active());
        active
            .map(|found| {
                format!(
                    "{}:{}",
                    found.data.family().unwrap_or_default(),
                    found.data.revision
                )
            })
            .collect()
    }

    /// How many tasks of a service run now, and how many of them are healthy.
    pub fn running_and_healthy(&self, service: &str) -> (usize, usize) {
        let running = || {
            self.ecs
                .tasks
                .iter()
                .filter(|task| task.service_name == service && task.runs())
        };
        (
            running().count(),
            running().filter(|task| self.is_ready(task)).count(),
        )
    }

    /// The names of the Cloud Map services, as `service.namespace`.
    pub fn registries(&self) -> Vec<String> {
        let name = |id: Option<&str>| {
            id.and_then(|id| self.cloud_map.namespaces.get(id))
                .and_then(|found| found.name())
                .unwrap_or("?")
        };
        let services = self
            .cloud_map
            .services
            .values()
            .map(|registry| &registry.service);
        services
            .map(|service| {
                format!(
                    "{}.{}",
                    service.name().unwrap_or("?"),
                    name(service.namespace_id())
                )
            })
            .collect()
    }

    /// The tags of the Cloud Map service of that name.
    pub fn registry_tags(&self, name: &str) -> BTreeMap<String, String> {
        let found = self
            .cloud_map
            .services
            .values()
            .find(|registry| registry.service.name() == Some(name));
        found
            .into_iter()
            .flat_map(|registry| &registry.tags)
            .map(|tag| (tag.key.clone(), tag.value.clone()))
            .collect()
    }

    /// How many metrics `GetMetricData` was asked for so far, which is what CloudWatch charges for.
    pub fn metrics_requested(&self) -> u64 {
        self.cloud_watch.metrics_requested
    }

    /// The events that were put on the default bus, in order.
    pub fn events(&self) -> &[crate::Event] {
        &self.event_bridge.events
    }

    /// The messages that were published to topics, in order.
    pub fn mails(&self) -> &[crate::Mail] {
        &self.channels.mails
    }

    /// Keeps a secret under a name.
    pub fn keep_secret(&mut self, name: &str, text: &str) {
        self.channels
            .secrets
            .insert(name.to_owned(), text.to_owned());
    }

    /// An item of a table.
    pub fn item(&self, table: &str, id: &str) -> Option<&Item> {
        self.dynamo_db.tables.get(table)?.get(id)
    }

    /// The paths of all rules, default ones included, as `checkout-alb:443/10` and `checkout-alb:8443/default`.
    pub fn rule_paths(&self) -> Vec<String> {
        self.load_balancing
            .places()
            .map(|place| place.path())
            .collect()
    }

    /// A rule by its path, as `DescribeRules` gives it; a Network Load Balancer's default action in the same form.
    pub fn rule(&self, path: &str) -> Rule {
        self.load_balancing
            .place(path)
            .unwrap_or_else(|| panic!("there is no rule {path}"))
            .describe()
    }

    /// The weights of a rule, by the target groups' names.
    pub fn rule_weights(&self, path: &str) -> BTreeMap<String, i32> {
        self.load_balancing.weights(self.rule(path).actions())
    }

    /// The share of a target group in a rule, in percent of all its weights.
    pub fn rule_percent(&self, path: &str, group: &str) -> f64 {
        let weights = self.rule_weights(path);
        let total: i32 = weights.values().sum();
        f64::from(*weights.get(group).unwrap_or(&0)) * 100.0 / f64::from(total.max(1))
    }

    /// The smallest share that stable has in a route or rule that forwarded to it at the beginning, in percent of all its
    /// weights, whatever the router is.
    pub fn stable_percent(&self) -> f64 {
        let routes = self
            .stable_routes
            .iter()
            .map(|(router, route)| self.percent(router, route, crate::checkout::NODE));
        let rules = self.stable_rules.iter().map(|path| {
            let first = self.rule_percent(path, crate::checkout::TARGET_GROUP);
            first.max(self.rule_percent(path, crate::checkout::TARGET_GROUP_2))
        });
        routes.chain(rules).fold(100.0, f64::min)
    }

    /// The names of the target groups.
    pub fn target_groups(&self) -> Vec<String> {
        let groups = self.load_balancing.groups.iter();
        groups.map(|group| group.name().to_owned()).collect()
    }

    /// A target group by its name, as `DescribeTargetGroups` gives it.
    pub fn target_group(&self, name: &str) -> Option<TargetGroup> {
        let group = self.load_balancing.group_named(name)?;
        Some(self.load_balancing.describe_group(group))
    }

    /// The attributes of a target group; empty when it is not there.
    pub fn target_group_attributes(&self, name: &str) -> BTreeMap<String, String> {
        let group = self.load_balancing.group_named(name);
        group
            .map(|group| group.attributes.clone())
            .unwrap_or_default()
    }

    /// The tags of a target group; empty when it is not there.
    pub fn target_group_tags(&self, name: &str) -> BTreeMap<String, String> {
        let group = self.load_balancing.group_named(name);
        group
            .and_then(|group| self.load_balancing.tags.get(group.arn()))
            .cloned()
            .unwrap_or_default()
    }

    /// How many healthy targets a target group has; none when it is not there.
    pub fn healthy_targets(&self, name: &str) -> usize {
        let group = self.load_balancing.group_named(name);
        group.map_or(0, Group::healthy_targets)
    }

    /// How many targets of a target group drain.
    pub fn draining_targets(&self, name: &str) -> usize {
        let group = self.load_balancing.group_named(name);
        let targets = group.map(|group| group.targets.as_slice());
        let drains = |target: &&Target| target.drains();
        targets.unwrap_or_default().iter().filter(drains).count()
    }

    /// A scalable target, by its resource id.
    pub fn scalable_target(&self, resource: &str) -> Option<&ScalableTarget> {
        self.auto_scaling.targets.get(resource)
    }

    /// How many requests found no healthy task since the beginning, in the mesh or behind a load balancer: those that a
    /// deployment made fail. What a bad version answers, or leaves unanswered, is not among them.
    pub fn lost_requests(&self) -> f64 {
        self.traffic.lost
    }

    /// How many requests the tasks of a family served since the beginning.
    pub fn served_requests(&self, family: &str) -> f64 {
        self.traffic.served.get(family).copied().unwrap_or(0.0)
    }

    /// When CloudWatch first showed an error of a version that is on trial.
    pub fn first_shown_error(&self) -> Option<i64> {
        self.cloud_watch
            .first_error
            .filter(|shown| *shown <= self.now)
    }

    /// Kills every living task of a service, as a failing host would; ECS starts others.
    pub fn kill_tasks(&mut self, service: &str) {
        for index in 0..self.ecs.tasks.len() {
            if self.ecs.tasks[index].service_name == service && self.ecs.tasks[index].lives() {
                self.stop_task(index, TaskStopCode::InfrastructureHealth, "The host failed");
            }
        }
    }
}

//! All that matters of the account, to be compared: the meaning of "no trace".

use std::collections::BTreeMap;

use aws_sdk_applicationautoscaling::types::{ScalableTarget, ScalingPolicy};
use aws_sdk_appmesh::types::{RouteSpec, VirtualNodeSpec};
use aws_sdk_elasticloadbalancingv2::types::{Listener, Rule, TargetGroup};
use aws_sdk_servicediscovery::types::Service as Registry;

use crate::account::Account;
use crate::dynamo_db::Item;
use crate::ecs::ServiceStatus;
use crate::world::World;

/// All that matters of the account. Versions, dates, and what happens by itself are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The routes, as `mesh/router/route`.
    pub routes: BTreeMap<String, RouteSpec>,
    /// The virtual nodes, as `mesh/node`.
    pub nodes: BTreeMap<String, VirtualNodeSpec>,
    /// The rules of load balancers, default ones included, as `load-balancer:port/priority`.
    pub rules: BTreeMap<String, Rule>,
    /// The listeners of load balancers, as `load-balancer:port`.
    pub listeners: BTreeMap<String, Listener>,
    /// The target groups, by ARN.
    pub target_groups: BTreeMap<String, TargetGroupShape>,
    /// The tags of load balancers, listeners and rules, by ARN.
    pub balancer_tags: BTreeMap<String, BTreeMap<String, String>>,
    /// The scalable targets, by resource id.
    pub scalable_targets: BTreeMap<String, ScalableTarget>,
    /// The scaling policies, by ARN.
    pub scaling_policies: BTreeMap<String, ScalingPolicy>,
    /// The Cloud Map services, by id.
    pub registries: BTreeMap<String, Registry>,
    /// The ECS services that are not INACTIVE, as `cluster/service`.
    pub services: BTreeMap<String, ServiceShape>,
    /// The ACTIVE task definitions, as `family:revision`.
    pub task_definitions: Vec<String>,
    /// The items of every table whose id begins with `service#` and that say something: who holds which lock, or bears
    /// which name. A lock that was given back leaves an item with nothing but its id and who had it last, which is left out.
    pub locks: BTreeMap<String, Item>,
}

/// What of a target group does not change by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetGroupShape {
    /// As `DescribeTargetGroups` gives it.
    pub data: TargetGroup,
    /// All attributes.
    pub attributes: BTreeMap<String, String>,
    /// All tags.
    pub tags: BTreeMap<String, String>,
}

/// What of an ECS service does not change by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceShape {
    /// `Active` or `Draining`.
    pub status: String,
    /// The PRIMARY deployment's task definition.
    pub task_definition: String,
    /// How many tasks it should have.
    pub desired: i32,
    /// Everything else that somebody has set.
    pub settings: aws_sdk_ecs::types::Service,
}

impl World {
    /// All that matters of the account now.
    pub fn snapshot(&self) -> Snapshot {
        let routes = self.app_mesh.routes().map(|route| {
            let path = format!(
                "{}/{}/{}",
                route.mesh_name, route.virtual_router_name, route.route_name
            );
            (path, route.spec.clone().expect("a route has a spec"))
        });
        let nodes = self
            .app_mesh
            .meshes
            .values()
            .flat_map(|mesh| mesh.nodes.values())
            .map(|(node, _)| {
                let path = format!("{}/{}", node.mesh_name, node.virtual_node_name);
                (path, node.spec.clone().expect("a node has a spec"))
            });
        let live = self
            .ecs
            .services
            .iter()
            .filter(|service| !matches!(service.status, ServiceStatus::Inactive { .. }));
        let services = live.map(|service| {
            let shape = ServiceShape {
                status: format!("{:?}", service.status),
                task_definition: service
                    .rollouts
                    .first()
                    .map(|rollout| rollout.definition.clone())
                    .unwrap_or_default(),
                desired: service.desired,
                settings: service.data.clone(),
            };
            (format!("{}/{}", service.cluster, service.name), shape)
        });
        let balancing = &self.load_balancing;
        let listeners = balancing.places().filter(|place| place.rule.is_none());
        let listeners = listeners.map(|place| {
            let path = place.path();
            let path = path.trim_end_matches("/default").to_owned();
            (path, place.listener.clone())
        });
        let groups = balancing.groups.iter().map(|group| {
            let shape = TargetGroupShape {
                data: balancing.describe_group(group),
                attributes: group.attributes.clone(),
                tags: balancing.tags.get(group.arn()).cloned().unwrap_or_default(),
            };
            (group.arn().to_owned(), shape)
        });
        let tags = balancing
            .tags
            .iter()
            .filter(|(arn, tags)| !tags.is_empty() && !arn.contains(":targetgroup/"));
        let policies = self
            .auto_scaling
            .policies
            .iter()
            .map(|policy| (policy.policy_arn.clone(), policy.clone()));
        let items = self.dynamo_db.tables.values().flatten();
        Snapshot {
            routes: routes.collect(),
            nodes: nodes.collect(),
            rules: balancing
                .places()
                .map(|place| (place.path(), place.describe()))
                .collect(),
            listeners: listeners.collect(),
            target_groups: groups.collect(),
            balancer_tags: tags
                .map(|(arn, tags)| (arn.clone(), tags.clone()))
                .collect(),
            scalable_targets: self.auto_scaling.targets.clone(),
            scaling_policies: policies.collect(),
            registries: self
                .cloud_map
                .services
                .iter()
                .map(|(id, registry)| (id.clone(), registry.service.clone()))
                .collect(),
            services: services.collect(),
            task_definitions: self.active_task_definitions(),
            locks: items
                .filter(|(id, _)| id.starts_with("service#"))
                .map(|(id, item)| (id.clone(), without_memory(item)))
                .filter(|(_, item)| item.len() > 1)
                .collect(),
        }
    }
}

/// The item of a lock without who had it last, which stays for good: it says who is newer than whom.
fn without_memory(item: &Item) -> Item {
    let mut item = item.clone();
    item.retain(|name, _| !name.starts_with("last"));
    item
}

impl Snapshot {
    /// What is different in `after`, as sentences; empty when there is no trace.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        compare("route", &self.routes, &after.routes, &mut differences);
        compare("virtual node", &self.nodes, &after.nodes, &mut differences);
        compare("rule", &self.rules, &after.rules, &mut differences);
        compare(
            "listener",
            &self.listeners,
            &after.listeners,
            &mut differences,
        );
        compare(
            "target group",
            &self.target_groups,
            &after.target_groups,
            &mut differences,
        );
        compare(
            "tags of",
            &self.balancer_tags,
            &after.balancer_tags,
            &mut differences,
        );
        compare(
            "scalable target",
            &self.scalable_targets,
            &after.scalable_targets,
            &mut differences,
        );
        compare(
            "scaling policy",
            &self.scaling_policies,
            &after.scaling_policies,
            &mut differences,
        );
        compare(
            "Cloud Map service",
            &by_name(&self.registries),
            &by_name(&after.registries),
            &mut differences,
        );
        compare(
            "ECS service",
            &self.services,
            &after.services,
            &mut differences,
        );
        compare("lock", &self.locks, &after.locks, &mut differences);
        let gone = self
            .task_definitions
            .iter()
            .filter(|definition| !after.task_definitions.contains(definition));
        differences.extend(
            gone.map(|definition| format!("task definition {definition} is no longer ACTIVE")),
        );
        let new = after
            .task_definitions
            .iter()
            .filter(|definition| !self.task_definitions.contains(definition));
        differences.extend(new.map(|definition| format!("task definition {definition} is new")));
        differences
    }
}

/// The Cloud Map services with their names, which is what people know them by.
fn by_name(registries: &BTreeMap<String, Registry>) -> BTreeMap<String, &Registry> {
    registries
        .iter()
        .map(|(id, registry)| {
            let name = registry.name().unwrap_or_default();
            (format!("{name} ({id})"), registry)
        })
        .collect()
}

fn compare<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    differences: &mut Vec<String>,
) {
    for (name, was) in before {
        match after.get(name) {
            None => differences.push(format!("{kind} {name} is gone")),
            Some(is) if is != was => {
                differences.push(format!("{kind} {name} was {was:?} and is {is:?}"));
            }
            Some(_) => {}
        }
    }
    let new = after.keys().filter(|name| !before.contains_key(*name));
    differences.extend(new.map(|name| format!("{kind} {name} is new")));
}

impl Account {
    /// All that matters of the account now.
    pub fn snapshot(&self) -> Snapshot {
        self.look(World::snapshot)
    }

    /// What differs from an earlier snapshot.
    pub fn differences_since(&self, before: &Snapshot) -> Vec<String> {
        before.differences(&self.snapshot())
    }
}

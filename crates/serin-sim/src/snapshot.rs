//! All that matters of the account, to be compared: the meaning of "no trace".

use std::collections::BTreeMap;

use aws_sdk_appmesh::types::{RouteSpec, VirtualNodeSpec};
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
    /// The Cloud Map services, by id.
    pub registries: BTreeMap<String, Registry>,
    /// The ECS services that are not INACTIVE, as `cluster/service`.
    pub services: BTreeMap<String, ServiceShape>,
    /// The ACTIVE task definitions, as `family:revision`.
    pub task_definitions: Vec<String>,
    /// The items of every table whose id begins with `service#` and that say something: who holds which lock, or bears
    /// which name. A lock that was given back leaves an item with nothing but its id.
    pub locks: BTreeMap<String, Item>,
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
        let items = self.dynamo_db.tables.values().flatten();
        Snapshot {
            routes: routes.collect(),
            nodes: nodes.collect(),
            registries: self
                .cloud_map
                .services
                .iter()
                .map(|(id, registry)| (id.clone(), registry.service.clone()))
                .collect(),
            services: services.collect(),
            task_definitions: self.active_task_definitions(),
            locks: items
                .filter(|(id, item)| id.starts_with("service#") && item.len() > 1)
                .map(|(id, item)| (id.clone(), item.clone()))
                .collect(),
        }
    }
}

impl Snapshot {
    /// What is different in `after`, as sentences; empty when there is no trace.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        compare("route", &self.routes, &after.routes, &mut differences);
        compare("virtual node", &self.nodes, &after.nodes, &mut differences);
        compare(
            "Cloud Map service",
            &self.registries,
            &after.registries,
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

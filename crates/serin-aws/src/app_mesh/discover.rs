//! Finds the mesh's objects behind a service. Changes nothing.

use aws_sdk_appmesh::types::{ServiceDiscovery, VirtualNodeData};
use serin::name::{DeploymentId, baseline_name, canary_name, is_another_canary_of};
use serin::ports::{DiscoveryError, ServiceDescription, TaskDefinitionDescription};
use serin::request::{RouteName, RouterWish};
use serin::routing::{AppMeshRecord, CloudMapService, MOST_TARGETS, MeshNames, RouteRecord};

use super::{AppMeshRouter, identity, registries, routes};
use crate::error::{failed, is_not_found};

/// App Mesh's limit on a virtual node's name.
const LONGEST_NODE_NAME: usize = 255;
/// DNS's limit on a label. Cloud Map allows more only in HTTP namespaces; one rule for both is easier to know.
const LONGEST_REGISTRY_NAME: usize = 63;

impl AppMeshRouter {
    pub(super) async fn find(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        definition: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<AppMeshRecord, DiscoveryError> {
        let proxy = identity::proxy(
            definition,
            wish.and_then(|wish| wish.proxy_container.as_deref()),
        )?;
        let name = identity::parse(&proxy, identity::account_of(&service.arn))?;
        let node = self
            .describe_node(&name.mesh, name.mesh_owner.as_deref(), &name.node)
            .await?;
        let Some(node) = node else {
            return Err(DiscoveryError::Unsupported(format!(
                "mesh {} has no virtual node {}, which container {} names in {}",
                name.mesh, name.node, proxy.container, proxy.variable
            )));
        };
        let mesh_owner = node
            .metadata()
            .filter(|data| data.mesh_owner != data.resource_owner)
            .map(|data| data.mesh_owner.clone());
        let stable_registry = self.stable_registry(service, &node).await?;
        let mut record = AppMeshRecord {
            mesh: name.mesh,
            mesh_owner: mesh_owner.or(name.mesh_owner),
            canary_node: canary_name(&name.node, id, LONGEST_NODE_NAME),
            baseline: MeshNames {
                node: baseline_name(&name.node, id, LONGEST_NODE_NAME),
                registry_name: baseline_name(&stable_registry.name, id, LONGEST_REGISTRY_NAME),
            },
            stable_node: name.node,
            proxy,
            canary_registry_name: canary_name(&stable_registry.name, id, LONGEST_REGISTRY_NAME),
            stable_registry,
            routes: Vec::new(),
            left_out: Vec::new(),
        };
        let routes = self.routes_to(&record).await?;
        let wished = wish.and_then(|wish| wish.routes.as_deref());
        let (chosen, left_out) = choose(routes, wished, &record)?;
        record.left_out = left_out.iter().map(routes::name).collect();
        record.routes = chosen;
        for route in &record.routes {
            check(route, &record)?;
        }
        Ok(record)
    }

    /// The Cloud Map service in which stable's tasks are registered, after making sure that the node finds its tasks there.
    async fn stable_registry(
        &self,
        service: &ServiceDescription,
        node: &VirtualNodeData,
    ) -> Result<CloudMapService, DiscoveryError> {
        let unsupported = |sentence: String| Err(DiscoveryError::Unsupported(sentence));
        let name = &node.virtual_node_name;
        let discovery = node.spec().and_then(|spec| spec.service_discovery());
        let Some(discovery @ (ServiceDiscovery::AwsCloudMap(_) | ServiceDiscovery::Dns(_))) =
            discovery
        else {
            return unsupported(format!(
                "virtual node {name} has no service discovery, so nothing sends traffic to it"
            ));
        };
        let [registry] = service.registries.as_slice() else {
            return unsupported(format!(
                "service {} has {} service registries and a canary needs exactly one: it is by a Cloud Map service of its own that the \
                 canary's tasks are told from stable's",
                service.service,
                service.registries.len()
            ));
        };
        let id = registries::id_of(registry);
        let described = match self.cloud_map.get_service().id(id).send().await {
            Err(error) if is_not_found(&error) => None,
            answer => answer.map_err(failed("Cloud Map GetService"))?.service,
        };
        let Some(described) = described else {
            return unsupported(format!(
                "service {} is registered in {registry}, which does not exist",
                service.service
            ));
        };
        let stable = CloudMapService {
            namespace_id: described.namespace_id.unwrap_or_default(),
            id: id.to_owned(),
            arn: registry.clone(),
            name: described.name.unwrap_or_default(),
        };
        let namespace = self.namespace_name(&stable.namespace_id).await?;
        let registered = format!("{}.{namespace}", stable.name);
        let looked_up = match discovery {
            ServiceDiscovery::AwsCloudMap(cloud_map) => {
                format!("{}.{}", cloud_map.service_name, cloud_map.namespace_name)
            }
            ServiceDiscovery::Dns(dns) => dns.hostname.trim_end_matches('.').to_owned(),
            _ => String::new(),
        };
        if !looked_up.eq_ignore_ascii_case(&registered) {
            return unsupported(format!(
                "virtual node {name} finds its tasks at {looked_up}, but service {} registers them at {registered}; a canary beside it \
                 could not be reached in the same way",
                service.service
            ));
        }
        Ok(stable)
    }

    async fn namespace_name(&self, id: &str) -> Result<String, DiscoveryError> {
        let answer = self
            .cloud_map
            .get_namespace()
            .id(id)
            .send()
            .await
            .map_err(failed("Cloud Map GetNamespace"))?;
        Ok(answer
            .namespace
            .and_then(|namespace| namespace.name)
            .unwrap_or_default())
    }

    /// Every route of every virtual router of the mesh that names stable's node.
    async fn routes_to(&self, record: &AppMeshRecord) -> Result<Vec<RouteRecord>, DiscoveryError> {
        let (mesh, owner) = (&record.mesh, &record.mesh_owner);
        let mut routers = self
            .app_mesh
            .list_virtual_routers()
            .mesh_name(mesh)
            .set_mesh_owner(owner.clone())
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while let Some(router) = routers.next().await {
            let router = router
                .map_err(failed("App Mesh ListVirtualRouters"))?
                .virtual_router_name;
            let request = self
                .app_mesh
                .list_routes()
                .mesh_name(mesh)
                .set_mesh_owner(owner.clone())
                .virtual_router_name(&router);
            let mut names = request.into_paginator().items().send();
            while let Some(route) = names.next().await {
                let route = route.map_err(failed("App Mesh ListRoutes"))?.route_name;
                // A route that went away since the list was made names nobody.
                let Some(live) = self.describe_route(record, &router, &route).await? else {
                    continue;
                };
                if let Some(stable_target) = live
                    .targets
                    .iter()
                    .position(|target| target.node == record.stable_node)
                {
                    found.push(RouteRecord {
                        virtual_router: router.clone(),
                        route,
                        protocol: live.protocol.to_owned(),
                        version: live.version,
                        fingerprint: live.fingerprint(),
                        targets: live.targets,
                        stable_target,
                    });
                }
            }
        }
        Ok(found)
    }
}

/// The routes that the request names, or all that name stable's node; and those that it leaves out.
fn choose(
    routes: Vec<RouteRecord>,
    wish: Option<&[RouteName]>,
    record: &AppMeshRecord,
) -> Result<(Vec<RouteRecord>, Vec<RouteRecord>), DiscoveryError> {
    let node = &record.stable_node;
    if routes.is_empty() {
        return Err(DiscoveryError::Unsupported(format!(
            "no route of mesh {} names virtual node {node}, so there is no weight to shift; a virtual service reaches a canary through a \
             virtual router with a route",
            record.mesh
        )));
    }
    let Some(wish) = wish else {
        return Ok((routes, Vec::new()));
    };
    let is = |route: &RouteRecord, name: &RouteName| {
        route.virtual_router == name.virtual_router && route.route == name.route
    };
    if let Some(unknown) = wish
        .iter()
        .find(|name| !routes.iter().any(|route| is(route, name)))
    {
        let known: Vec<_> = routes
            .iter()
            .map(|route| format!("{}/{}", route.virtual_router, route.route))
            .collect();
        return Err(DiscoveryError::Unsupported(format!(
            "router.routes names {}/{}, which is no route of mesh {} to virtual node {node}; these are: {}",
            unknown.virtual_router,
            unknown.route,
            record.mesh,
            known.join(", ")
        )));
    }
    Ok(routes
        .into_iter()
        .partition(|route| wish.iter().any(|name| is(route, name))))
}

/// Whether the canary can be put into the route, and nothing else is in the way.
fn check(route: &RouteRecord, record: &AppMeshRecord) -> Result<(), DiscoveryError> {
    let node = &record.stable_node;
    let problem = if let Some(other) = route.targets.iter().find(|target| {
        target.node != *node && is_another_canary_of(&target.node, &record.canary_node)
    }) {
        Some(format!(
            "already sends traffic to {}, the canary of another deployment; it must be taken out first",
            other.node
        ))
    } else if route
        .targets
        .iter()
        .filter(|target| target.node == *node)
        .count()
        > 1
    {
        Some(format!(
            "names virtual node {node} more than once, so its share is not one number"
        ))
    } else if route.targets.iter().all(|target| target.weight == 0) {
        Some("gives every target the weight 0, so it has no traffic to share".to_owned())
    } else if route.targets.len() >= MOST_TARGETS {
        Some(format!(
            "has {} targets, and App Mesh allows no more for the canary",
            route.targets.len()
        ))
    } else {
        None
    };
    match problem {
        Some(problem) => Err(DiscoveryError::Unsupported(format!(
            "{} {problem}",
            routes::name(route)
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serin::routing::{ProxyIdentity, WeightedTarget};

    fn route(name: &str, targets: &[(&str, u32)]) -> RouteRecord {
        RouteRecord {
            virtual_router: "checkout".into(),
            route: name.into(),
            protocol: "http".into(),
            version: 1,
            fingerprint: String::new(),
            targets: targets
                .iter()
                .map(|(node, weight)| WeightedTarget {
                    node: (*node).into(),
                    weight: *weight,
                    port: None,
                })
                .collect(),
            stable_target: 0,
        }
    }

    fn record(stable: &str) -> AppMeshRecord {
        AppMeshRecord {
            mesh: "prod".into(),
            mesh_owner: None,
            stable_node: stable.into(),
            canary_node: "checkout-canary-00000000".into(),
            proxy: ProxyIdentity {
                container: String::new(),
                variable: String::new(),
                stable_value: String::new(),
            },
            stable_registry: CloudMapService {
                namespace_id: String::new(),
                id: String::new(),
                arn: String::new(),
                name: String::new(),
            },
            canary_registry_name: String::new(),
            baseline: MeshNames::default(),
            routes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn a_leftover_canary_in_a_route_is_refused_but_a_stable_that_was_one_is_not() {
        let leftover = route("main", &[("checkout", 95), ("checkout-canary-1a2b3c4d", 5)]);
        let error = check(&leftover, &record("checkout"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("route main of virtual router checkout already sends traffic to checkout-canary-1a2b3c4d"), "{error}");
        let replaced = route("main", &[("checkout-canary-1a2b3c4d", 100)]);
        assert_eq!(
            check(&replaced, &record("checkout-canary-1a2b3c4d")),
            Ok(())
        );
        let named_so = route("main", &[("checkout", 95), ("checkout-canary-two", 5)]);
        assert_eq!(check(&named_so, &record("checkout")), Ok(()));
    }

    #[test]
    fn a_route_that_cannot_take_a_canary_is_refused() {
        let sentence = |targets: &[(&str, u32)]| {
            check(&route("main", targets), &record("a"))
                .unwrap_err()
                .to_string()
        };
        assert!(sentence(&[("a", 50), ("a", 50)]).contains("more than once"));
        assert!(sentence(&[("a", 0), ("b", 0)]).contains("weight 0"));
        assert!(
            sentence(&[
                ("a", 10),
                ("b", 1),
                ("c", 1),
                ("d", 1),
                ("e", 1),
                ("f", 1),
                ("g", 1),
                ("h", 1),
                ("i", 1),
                ("j", 1)
            ])
            .contains("has 10 targets")
        );
    }

    #[test]
    fn a_wished_route_that_is_none_is_refused_with_the_list_of_those_that_are() {
        let wish = |route: &str| {
            [RouteName {
                virtual_router: "checkout".into(),
                route: route.into(),
            }]
        };
        let routes = || {
            vec![
                route("main", &[("checkout", 1)]),
                route("beta", &[("checkout", 1)]),
            ]
        };
        let error = choose(routes(), Some(&wish("mian")), &record("checkout"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("checkout/mian")
                && error.ends_with("these are: checkout/main, checkout/beta"),
            "{error}"
        );
        let (chosen, left_out) =
            choose(routes(), Some(&wish("beta")), &record("checkout")).unwrap();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].route, "beta");
        assert_eq!(left_out[0].route, "main");
        assert_eq!(
            choose(routes(), None, &record("checkout")).unwrap().0.len(),
            2
        );
        assert!(
            choose(Vec::new(), None, &record("checkout"))
                .unwrap_err()
                .to_string()
                .contains("no route of mesh prod")
        );
    }
}

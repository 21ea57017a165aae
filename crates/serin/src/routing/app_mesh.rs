//! What the App Mesh router remembers, and the weights that a route must have.

use serde::{Deserialize, Serialize};

use crate::ports::Side;
use crate::weight::{Split, Weight};

/// The most weighted targets of a route (App Mesh quotas).
pub const MOST_TARGETS: usize = 10;

/// What the App Mesh router remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshRecord {
    /// The mesh's name.
    pub mesh: String,
    /// The account that owns the mesh, when it is shared with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh_owner: Option<String>,
    /// Stable's virtual node.
    pub stable_node: String,
    /// The canary's virtual node: `<stable>-canary-<deployment>`.
    pub canary_node: String,
    /// The Envoy container of the task, and the environment variable that names its virtual node.
    pub proxy: ProxyIdentity,
    /// Where stable's tasks are registered.
    pub stable_registry: CloudMapService,
    /// The name of the canary's own Cloud Map service, in the same namespace.
    pub canary_registry_name: String,
    /// The same two of the baseline, which are there only when the request wants one.
    #[serde(default)]
    pub baseline: MeshNames,
    /// Every route that names stable's node, or those that the request names, as they were.
    pub routes: Vec<RouteRecord>,
    /// The routes that name stable's node and that the request left out, as sentences name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// How a copy of stable is found in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshNames {
    /// Its virtual node.
    pub node: String,
    /// The name of its Cloud Map service, in stable's namespace.
    pub registry_name: String,
}

impl AppMeshRecord {
    /// The record with the baseline in the canary's place.
    pub(super) fn of_baseline(&self) -> Self {
        Self {
            canary_node: self.baseline.node.clone(),
            canary_registry_name: self.baseline.registry_name.clone(),
            ..self.clone()
        }
    }

    /// Why there can be no baseline beside the canary; `None` if there can.
    pub(super) fn refuses_baseline(&self) -> Option<String> {
        let mut routes = self.routes.iter();
        let full = routes.find(|route| route.targets.len() + 2 > MOST_TARGETS)?;
        Some(format!(
            "route {} of virtual router {} has {} targets, and App Mesh allows {MOST_TARGETS}: there is no room for the canary's and the baseline's",
            full.route,
            full.virtual_router,
            full.targets.len()
        ))
    }

    /// A side's virtual node.
    pub fn node(&self, side: Side) -> &str {
        match side {
            Side::Stable => &self.stable_node,
            Side::Canary => &self.canary_node,
        }
    }

    /// The name of a side's Cloud Map service.
    pub fn registry_name(&self, side: Side) -> &str {
        match side {
            Side::Stable => &self.stable_registry.name,
            Side::Canary => &self.canary_registry_name,
        }
    }
}

/// How a task tells App Mesh which virtual node it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyIdentity {
    /// The Envoy container's name.
    pub container: String,
    /// `APPMESH_RESOURCE_ARN`, or `APPMESH_VIRTUAL_NODE_NAME` with Envoy images before 1.15.
    pub variable: String,
    /// Its value in stable.
    pub stable_value: String,
}

/// A Cloud Map service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudMapService {
    /// The namespace's id.
    pub namespace_id: String,
    /// The service's id.
    pub id: String,
    /// The service's ARN, as an ECS service's registry names it.
    pub arn: String,
    /// The service's name.
    pub name: String,
}

/// One route as it was when the deployment was planned, and so as it must be afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRecord {
    /// The virtual router's name.
    pub virtual_router: String,
    /// The route's name.
    pub route: String,
    /// `http`, `http2`, `grpc` or `tcp`.
    pub protocol: String,
    /// App Mesh's version of the route, which every update raises by one.
    pub version: i64,
    /// A digest of everything in the route but the weighted targets.
    pub fingerprint: String,
    /// The weighted targets, in order.
    pub targets: Vec<WeightedTarget>,
    /// The index of stable's target in `targets`.
    pub stable_target: usize,
}

/// One target of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedTarget {
    /// The virtual node's name.
    pub node: String,
    /// App Mesh's weight, 0 to 100, relative to the sum of the route's weights.
    pub weight: u32,
    /// The node's port, when the route names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl RouteRecord {
    /// What stable and canary share between them, in App Mesh's units: 100 when stable is the only target that gets
    /// traffic, so that percents are exact; otherwise stable's own weight, so that the others keep theirs.
    pub fn shared_weight(&self) -> u32 {
        let others: u32 = self
            .targets
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != self.stable_target)
            .map(|(_, target)| target.weight)
            .sum();
        if others == 0 {
            100
        } else {
            self.targets[self.stable_target].weight
        }
    }

    /// The targets that this route must have at this split: computed from the snapshot, never from what the route has now.
    ///
    /// At zero these are exactly the original ones, without the canary; nor is a baseline named that has no weight.
    /// `None` when App Mesh cannot express the weight in whole numbers.
    pub fn targets_at(&self, split: Split, record: &AppMeshRecord) -> Option<Vec<WeightedTarget>> {
        if split.canary == Weight::ZERO {
            return Some(self.targets.clone());
        }
        let shared = self.shared_weight();
        let canary = split.canary.exact_part_of(shared)?;
        let baseline = split.of_baseline().exact_part_of(shared)?;
        let mut targets = self.targets.clone();
        let stable = targets.get_mut(self.stable_target)?;
        let port = stable.port;
        stable.weight = shared - canary - baseline;
        let mut add = |node: &str, weight| {
            targets.push(WeightedTarget {
                node: node.to_owned(),
                weight,
                port,
            });
        };
        add(&record.canary_node, canary);
        if baseline > 0 {
            add(&record.baseline.node, baseline);
        }
        Some(targets)
    }

    pub(super) fn cannot_express(&self, split: Split) -> Option<String> {
        // The baseline's weight is the canary's, or none.
        let (weight, shared) = (split.canary, self.shared_weight());
        if weight.exact_part_of(shared).is_some() {
            return None;
        }
        let nearest = weight
            .nearest_part_of(shared)
            .map_or_else(String::new, |nearest| {
                format!("; the nearest that it can is {nearest}")
            });
        Some(format!(
            "route {} of virtual router {} divides {shared} whole parts and cannot express {weight} percent{nearest}",
            self.route, self.virtual_router
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(node: &str, weight: u32) -> WeightedTarget {
        WeightedTarget {
            node: node.into(),
            weight,
            port: None,
        }
    }

    fn route(targets: Vec<WeightedTarget>) -> RouteRecord {
        RouteRecord {
            virtual_router: "checkout".into(),
            route: "checkout".into(),
            protocol: "http".into(),
            version: 1,
            fingerprint: String::new(),
            targets,
            stable_target: 0,
        }
    }

    fn split(percent: f64) -> Split {
        Split::between_two(Weight::from_percent(percent).unwrap())
    }

    fn record() -> AppMeshRecord {
        AppMeshRecord {
            mesh: "prod".into(),
            mesh_owner: None,
            stable_node: "stable".into(),
            canary_node: "canary".into(),
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
            baseline: MeshNames {
                node: "baseline".into(),
                registry_name: String::new(),
            },
            routes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    #[test]
    fn a_baseline_has_the_canarys_weight_and_leaves_the_route_when_it_has_none() {
        let route = route(vec![target("stable", 80), target("other", 20)]);
        let targets = |percent| -> Vec<_> {
            let weight = Weight::from_percent(percent).unwrap();
            let targets = route.targets_at(Split::with_baseline(weight), &record());
            let targets = targets.unwrap().into_iter();
            targets.map(|target| (target.node, target.weight)).collect()
        };
        let named = |targets: &[(&str, u32)]| -> Vec<_> {
            let targets = targets.iter();
            targets
                .map(|(node, weight)| ((*node).to_owned(), *weight))
                .collect()
        };
        assert_eq!(
            targets(25.0),
            named(&[
                ("stable", 40),
                ("other", 20),
                ("canary", 20),
                ("baseline", 20)
            ])
        );
        assert_eq!(
            targets(50.0),
            named(&[("stable", 40), ("other", 20), ("canary", 40)])
        );
    }

    proptest! {
        #[test]
        fn the_sum_of_the_weights_never_changes_and_the_others_keep_theirs(
            percent in 1_u16..=100, stable in 1_u32..=80, other in 0_u32..=20,
        ) {
            let route = route(vec![target("stable", stable), target("other", other)]);
            let weight = Weight::from_tenths(percent * 10).unwrap();
            let Some(targets) = route.targets_at(Split::between_two(weight), &record()) else { return Ok(()) };
            let sum: u32 = targets.iter().map(|target| target.weight).sum();
            prop_assert_eq!(sum, route.shared_weight() + other);
            prop_assert!(sum <= 100);
            prop_assert_eq!(targets[1].weight, other);
        }
    }

    #[test]
    fn a_route_with_one_target_expresses_every_whole_percent() {
        let route = route(vec![target("stable", 1)]);
        let weights = |percent| -> Vec<u32> {
            let weight = Weight::from_percent(percent).unwrap();
            route
                .targets_at(Split::between_two(weight), &record())
                .unwrap()
                .iter()
                .map(|target| target.weight)
                .collect()
        };
        assert_eq!(weights(5.0), [95, 5]);
        assert_eq!(weights(100.0), [0, 100]);
        assert_eq!(weights(0.0), [1]);
    }

    #[test]
    fn a_weight_that_app_mesh_cannot_express_is_refused_with_the_nearest() {
        let alone = route(vec![target("stable", 100)]);
        let sentence = alone.cannot_express(split(2.5)).unwrap();
        assert!(
            sentence.ends_with("cannot express 2.5 percent; the nearest that it can is 2"),
            "{sentence}"
        );

        let beside_another = route(vec![target("stable", 80), target("other", 20)]);
        assert_eq!(beside_another.cannot_express(split(10.0)), None);
        let sentence = beside_another.cannot_express(split(1.0)).unwrap();
        assert!(
            sentence.contains("80 whole parts") && sentence.ends_with("is 2.5"),
            "{sentence}"
        );
    }
}

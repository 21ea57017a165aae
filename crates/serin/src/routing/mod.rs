//! What a router must remember of a deployment: a snapshot small enough to travel in the execution.

mod alb;
mod app_mesh;

use serde::{Deserialize, Serialize};

pub use alb::{
    AlbRecord, Group, GroupPair, GroupWeight, LoadBalancerKind, MOST_GROUPS, RuleRecord,
};
pub use app_mesh::{
    AppMeshRecord, CloudMapService, MOST_TARGETS, MeshNames, ProxyIdentity, RouteRecord,
    WeightedTarget,
};

use crate::ports::ServiceDescription;
use crate::progress::Attachment;
use crate::request::Checks;
use crate::weight::Split;

/// The router of a deployment and all that it needs to shift, restore and tear down. One variant per router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[expect(
    clippy::large_enum_variant,
    reason = "a deployment has one, and never a list of them"
)]
pub enum RouterRecord {
    /// AWS App Mesh.
    AppMesh(AppMeshRecord),
    /// A load balancer of Elastic Load Balancing.
    Alb(AlbRecord),
}

impl RouterRecord {
    /// How the router knows whether stable's tasks can be reached, in the form that it has for the canary.
    pub fn stable_attachment(&self) -> Attachment {
        match self {
            Self::AppMesh(record) => Attachment {
                registry_arn: Some(record.stable_registry.arn.clone()),
                ..Attachment::default()
            },
            Self::Alb(record) => Attachment {
                target_groups: record.stable_groups(),
                ..Attachment::default()
            },
        }
    }

    /// Why this router has no latency percentiles of its own; `None` if it has.
    pub const fn no_latency_because(&self) -> Option<&'static str> {
        match self {
            Self::AppMesh(_) => Some(
                "App Mesh has no latency percentiles: Envoy's are histograms, which the stock CloudWatch agent drops; use checks.queries with a metric of your own",
            ),
            Self::Alb(record) => record.no_requests_because(),
        }
    }

    /// Why this router does not count a version's requests; `None` if it does.
    pub const fn no_requests_because(&self) -> Option<&'static str> {
        match self {
            Self::AppMesh(_) => None,
            Self::Alb(record) => record.no_requests_because(),
        }
    }

    /// Whether the router's own health checks of a version's targets are measured, whatever a request limits.
    pub const fn watches_targets(&self) -> bool {
        match self {
            Self::AppMesh(_) => false,
            Self::Alb(_) => true,
        }
    }

    /// Whether a version without requests has no datapoints at all, instead of zeros.
    pub const fn is_silent_when_idle(&self) -> bool {
        match self {
            Self::AppMesh(_) => false,
            Self::Alb(_) => true,
        }
    }

    /// How long the router itself may take to drain a target that is taken out, in seconds.
    pub fn longest_drain_seconds(&self) -> u32 {
        match self {
            Self::AppMesh(_) => 0,
            Self::Alb(record) => record.deregistration_delay_seconds(),
        }
    }

    /// How long what has lost its traffic must be left alone before it is removed, because the router drains nothing then, in
    /// seconds.
    pub fn shortest_drain_seconds(&self) -> u32 {
        match self {
            Self::AppMesh(_) => 0,
            Self::Alb(record) => record.shortest_drain_seconds(),
        }
    }

    /// The ways to the service that this router does not shift, in words: what comes by them stays with stable.
    pub fn other_ways_in(&self, service: &ServiceDescription) -> Vec<String> {
        let mut ways = match self {
            Self::AppMesh(record) => record.left_out.clone(),
            Self::Alb(record) => record.left_out.clone(),
        };
        match self {
            Self::AppMesh(_) => {
                if !service.target_groups.is_empty() || service.classic_load_balancers > 0 {
                    ways.push("its load balancer".to_owned());
                }
            }
            Self::Alb(_) => {
                if !service.registries.is_empty() {
                    ways.push("Cloud Map".to_owned());
                }
                if service.classic_load_balancers > 0 {
                    ways.push("its Classic Load Balancer".to_owned());
                }
            }
        }
        if service.service_connect_server {
            ways.push("Service Connect".to_owned());
        }
        ways
    }

    /// What a person should know before the traffic is shifted by this router.
    pub fn notes(&self, checks: &Checks) -> Vec<String> {
        match self {
            Self::AppMesh(_) => Vec::new(),
            Self::Alb(record) => record.notes(checks),
        }
    }

    /// The placeholders that a query's texts may have, for this router.
    pub const fn placeholders(&self) -> &'static [&'static str] {
        match self {
            Self::AppMesh(_) => &[
                "clusterName",
                "canaryFamily",
                "canaryService",
                "virtualNode",
            ],
            Self::Alb(_) => &[
                "clusterName",
                "canaryFamily",
                "canaryService",
                "targetGroup",
                "loadBalancer",
            ],
        }
    }

    /// Why this router cannot express `split` on every one of its routes, with the nearest that it can; `None` if it can.
    pub fn cannot_express(&self, split: Split) -> Option<String> {
        match self {
            Self::AppMesh(record) => record
                .routes
                .iter()
                .find_map(|route| route.cannot_express(split)),
            Self::Alb(record) => record
                .rules
                .iter()
                .find_map(|rule| rule.cannot_express(split)),
        }
    }

    /// The record with the baseline in the canary's place.
    #[must_use]
    pub fn of_baseline(&self) -> Self {
        match self {
            Self::AppMesh(record) => Self::AppMesh(record.of_baseline()),
            Self::Alb(record) => Self::Alb(record.of_baseline()),
        }
    }

    /// Why one of its routes cannot have a baseline beside the canary; `None` if all can.
    pub fn refuses_baseline(&self) -> Option<String> {
        match self {
            Self::AppMesh(record) => record.refuses_baseline(),
            Self::Alb(record) => record.refuses_baseline(),
        }
    }
}

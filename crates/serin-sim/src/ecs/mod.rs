//! Amazon ECS: task definitions, services that start and stop tasks, tasks that take time.

mod definitions;
mod scheduler;
mod services;
mod tasks;

use std::collections::BTreeSet;

use aws_sdk_ecs::operation::create_service::CreateServiceInput;
use aws_sdk_ecs::types::{
    Service, ServiceConnectConfiguration, ServiceVolumeConfiguration, Tag, TaskDefinition,
    VpcLatticeConfiguration,
};

pub(crate) use definitions::{
    deregister_task_definition, describe_task_definition, register_task_definition,
};
pub(crate) use services::{create_service, delete_service, describe_services, update_service};
pub(crate) use tasks::{describe_tasks, list_tasks};

use crate::account::{ACCOUNT, REGION};
use crate::wire::Refusal;

/// What the account has in ECS.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ecs {
    pub(crate) clusters: BTreeSet<String>,
    pub(crate) definitions: Vec<Definition>,
    pub(crate) services: Vec<ServiceState>,
    pub(crate) tasks: Vec<TaskState>,
    next_id: u64,
}

/// A task definition, beside which its tags stand.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) data: TaskDefinition,
    pub(crate) tags: Vec<Tag>,
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceStatus {
    Active,
    Draining,
    Inactive { since: i64 },
}

/// A service: what was asked for, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct ServiceState {
    pub(crate) id: u64,
    pub(crate) cluster: String,
    pub(crate) name: String,
    pub(crate) status: ServiceStatus,
    pub(crate) desired: i32,
    created_at: i64,
    /// What does not change by itself.
    pub(crate) data: Service,
    /// The newest, PRIMARY, first.
    pub(crate) rollouts: Vec<Rollout>,
    /// What it was created with.
    request: CreateServiceInput,
    events: Vec<(i64, String)>,
}

/// What ECS calls a deployment of a service.
#[derive(Debug, Clone)]
pub(crate) struct Rollout {
    pub(crate) id: String,
    pub(crate) definition: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) failed: i32,
    pub(crate) state: RolloutState,
    /// When the scheduler tries again, after a failure.
    next_start: i64,
    service_connect: Option<ServiceConnectConfiguration>,
    volumes: Vec<ServiceVolumeConfiguration>,
    vpc_lattice: Vec<VpcLatticeConfiguration>,
}

/// How far a roll-out is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

/// What will become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Runs,
    Crashes,
    CannotBePulled,
    NeverHealthy,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending {
        runs_at: i64,
    },
    Running {
        since: i64,
    },
    /// It was told to stop and still runs: its targets drain at the load balancer.
    Draining,
    Stopping {
        stops_at: i64,
    },
    Stopped {
        at: i64,
    },
}

/// A task.
#[derive(Debug, Clone)]
pub(crate) struct TaskState {
    pub(crate) id: String,
    pub(crate) arn: String,
    pub(crate) cluster: String,
    pub(crate) service: u64,
    pub(crate) service_name: String,
    pub(crate) rollout: String,
    pub(crate) definition: String,
    pub(crate) family: String,
    /// The images of its containers, with the tags of those that are named by digest.
    pub(crate) images: String,
    pub(crate) phase: Phase,
    pub(crate) healthy: bool,
    pub(crate) fate: Fate,
    pub(crate) created_at: i64,
    pub(crate) started_at: Option<i64>,
    pub(crate) stop: Option<Stop>,
}

/// Why a task was stopped.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    code: aws_sdk_ecs::types::TaskStopCode,
    reason: String,
    exit_code: Option<i32>,
    container_reason: Option<String>,
    ordered_at: i64,
}

impl TaskState {
    /// Whether it runs or will run.
    pub(crate) fn lives(&self) -> bool {
        matches!(self.phase, Phase::Pending { .. } | Phase::Running { .. })
    }

    pub(crate) fn runs(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Draining)
    }

    /// Its address in the VPC.
    pub(crate) fn address(&self) -> String {
        let number = u32::from_str_radix(&self.id, 16).unwrap_or_default();
        format!("10.0.{}.{}", number / 250 % 250, number % 250)
    }

    fn stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped { .. })
    }
}

impl Ecs {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The cluster's name, from a name or an ARN.
    fn cluster(&self, name: Option<&str>) -> Result<String, Refusal> {
        let name = name.unwrap_or("default");
        let name = name.rsplit('/').next().unwrap_or(name);
        match self.clusters.get(name) {
            Some(name) => Ok(name.clone()),
            None => Err(Refusal::new(
                "ClusterNotFoundException",
                "Cluster not found.",
            )),
        }
    }

    /// The service of that name or ARN: the living one, or the latest that was deleted.
    pub(crate) fn service(&self, cluster: &str, name: &str) -> Option<&ServiceState> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let named = self
            .services
            .iter()
            .filter(|service| service.cluster == cluster && service.name == name);
        named.max_by_key(|service| {
            (
                !matches!(service.status, ServiceStatus::Inactive { .. }),
                service.id,
            )
        })
    }

    fn service_mut(&mut self, cluster: &str, name: &str) -> Option<&mut ServiceState> {
        let id = self.service(cluster, name)?.id;
        self.services.iter_mut().find(|service| service.id == id)
    }

    pub(crate) fn definition(&self, arn: &str) -> Option<&Definition> {
        self.definitions
            .iter()
            .find(|definition| definition.data.task_definition_arn() == Some(arn))
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

fn client(message: impl Into<String>) -> Refusal {
    Refusal::new("ClientException", message)
}

fn arn(rest: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{rest}")
}

fn check_tags(tags: &[Tag]) -> Result<(), Refusal> {
    if tags.len() > 50 {
        return Err(invalid("Too many tags."));
    }
    for tag in tags {
        let key = tag.key().unwrap_or_default();
        if key.is_empty()
            || key.len() > 128
            || key.to_lowercase().starts_with("aws:")
            || tag.value().unwrap_or_default().len() > 256
        {
            return Err(invalid(format!("The tag {key:?} is not allowed.")));
        }
    }
    Ok(())
}

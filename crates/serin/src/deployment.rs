//! The resolved deployment: all that was discovered and decided before anything was created.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{ClusterName, ContainerName, DeploymentId, ExecutionArn, Family, ServiceKey, ServiceName, TaskDefinitionArn};
use crate::plan::Plan;
use crate::request::{Capacity, Checks, Finish, OnUnhealthy};
use crate::routing::RouterRecord;
use crate::weight::Weight;

/// One run of the state machine for one service, fully resolved. The state "Plan the deployment" returns it, so that
/// nothing is implicit, and the ledger keeps it, so that anybody can finish or undo the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Eight digits for the names of what the deployment creates.
    pub id: DeploymentId,
    /// The execution that runs it.
    pub execution: ExecutionArn,
    /// When the execution started.
    pub started_at: Timestamp,
    /// When the deployment is rolled back if it is not promoted by then.
    pub deadline_at: Timestamp,
    /// The cluster and the name by which people know the service.
    pub service: ServiceKey,
    /// The version that serves now.
    pub stable: StableVersion,
    /// The version on trial.
    pub canary: CanaryVersion,
    /// The router and its snapshot.
    pub router: RouterRecord,
    /// The steps.
    pub plan: Plan,
    /// How many tasks the canary gets.
    pub capacity: Capacity,
    /// How the canary is judged.
    pub checks: Checks,
    /// What happens after the last step.
    pub finish: Finish,
    /// What happens on an unhealthy verdict.
    pub on_unhealthy: OnUnhealthy,
    /// What a person should know about how the plan was resolved.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The version that serves now, as it was when the deployment was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StableVersion {
    /// The ECS service that bears the name now; another one than people say after a `replace`.
    pub service: ServiceName,
    /// Its ARN.
    pub service_arn: String,
    /// Its task definition.
    pub task_definition: TaskDefinitionArn,
    /// The family of the task definition.
    pub family: Family,
    /// How many tasks it should have.
    pub desired_count: u32,
}

/// The version on trial, by name, before it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryVersion {
    /// Its ECS service.
    pub service: ServiceName,
    /// Its task-definition family.
    pub family: Family,
    /// The task definition that it copies: stable's, or the one that the request names.
    pub source: TaskDefinitionArn,
    /// The images that differ from the source, by container.
    pub images: BTreeMap<ContainerName, String>,
}

impl Deployment {
    /// The cluster's name.
    pub fn cluster(&self) -> &ClusterName {
        &self.service.cluster
    }

    /// How many tasks the canary needs before it may get `weight`: never zero, and never fewer at a higher weight.
    pub fn tasks_at(&self, weight: Weight) -> u32 {
        match self.capacity {
            Capacity::Full => self.stable.desired_count.max(1),
            Capacity::Tasks(tasks) => tasks,
            Capacity::MatchWeight => {
                let tenths = u64::from(self.stable.desired_count) * u64::from(weight.tenths());
                u32::try_from(tenths.div_ceil(1000)).expect("at most the desired count").max(1)
            }
        }
    }

    /// Whether `now` is past the deadline.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        now >= self.deadline_at
    }
}

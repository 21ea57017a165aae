//! The half of ECS that moto lacks: tasks, deployments and what they come to.
//!
//! Moto keeps the configuration of services; this module keeps what runs. The fleet agent works off its orders and
//! reports to it, and the gateway has it complete the answers that moto gives to ECS calls. Nothing here waits or does
//! I/O, so the gateway may ask at any moment.

mod answer;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::state::{Rollout, ServiceStatus, State, TaskStatus};
use super::task_definition::TaskDefinition;
use crate::load_balancing::group_name;

/// What runs, for the gateway to tell and the fleet agent to bring about.
#[derive(Debug)]
pub struct EcsRuntime {
    region: String,
    account: String,
    state: Mutex<State>,
    changed: Notify,
}

/// A service's place: the names of its cluster and its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceKey {
    pub(crate) cluster: String,
    pub(crate) service: String,
}

/// How a container of a task ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerExit {
    pub(crate) code: Option<i32>,
    pub(crate) reason: Option<String>,
}

/// Why a task came to its end, in ECS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopCode {
    EssentialContainerExited,
    ServiceSchedulerInitiated,
    TaskFailedToStart,
}

impl StopCode {
    fn name(self) -> &'static str {
        match self {
            Self::EssentialContainerExited => "EssentialContainerExited",
            Self::ServiceSchedulerInitiated => "ServiceSchedulerInitiated",
            Self::TaskFailedToStart => "TaskFailedToStart",
        }
    }
}

/// What the fleet agent is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Read a task definition, of which tasks are to be started.
    Read {
        /// The definition's ARN.
        definition: String,
    },
    /// Start a task, which already counts as pending.
    Start {
        /// The task's id.
        task: String,
        /// What it runs.
        definition: Box<TaskDefinition>,
        /// Whose it is.
        key: ServiceKey,
        /// Where it is to be found, if the service has a registry.
        registry_arn: Option<String>,
        /// The target groups in which it is to be registered.
        target_groups: Vec<String>,
    },
    /// Take a task out of the traffic and stop it.
    Stop {
        /// The task's id.
        task: String,
    },
}

/// A sidecar whose counters can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScrapeTarget {
    pub(crate) task: String,
    pub(crate) cluster: String,
    pub(crate) family: String,
    pub(crate) admin_port: u16,
}

/// The tasks that run behind a virtual node or a target group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TargetTasks {
    pub(crate) running: usize,
    pub(crate) versions: BTreeSet<String>,
}

impl EcsRuntime {
    pub(crate) fn new(region: &str, account: &str) -> Self {
        Self {
            region: region.to_owned(),
            account: account.to_owned(),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Completes what moto answered to `DescribeServices`, `CreateService`, `UpdateService` or `DeleteService` with
    /// what really runs. Any other answer, and one that is an error, is left as it is.
    pub fn overlay(&self, operation: &str, request: &Value, response: &mut Value) {
        let mut state = self.state();
        match operation {
            "DescribeServices" => {
                let services = response.get_mut("services").and_then(Value::as_array_mut);
                for service in services.into_iter().flatten() {
                    let Some(key) = ServiceKey::of(service) else {
                        continue;
                    };
                    // A service that is known is not read from this answer: it may be older than the last change.
                    if !state.services.contains_key(&key) {
                        state.observe(&key, service, self);
                    }
                    state.complete(&key, service);
                }
            }
            "CreateService" | "UpdateService" | "DeleteService" => {
                let Some(service) = response.get_mut("service") else {
                    return;
                };
                let Some(key) = ServiceKey::of(service) else {
                    return;
                };
                state.revision += 1;
                state.observe(&key, service, self);
                if operation != "DeleteService" {
                    state.remember(&key, request, operation == "CreateService");
                }
                state.settle();
                state.complete(&key, service);
                drop(state);
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    /// Answers `ListTasks` and `DescribeTasks`, of which moto knows nothing. `None` for all other operations.
    pub fn answer(&self, operation: &str, request: &Value) -> Option<Value> {
        let state = self.state();
        match operation {
            "ListTasks" => Some(state.list_tasks(request, self)),
            "DescribeTasks" => Some(state.describe_tasks(request, self)),
            _ => None,
        }
    }

    /// Completes when something was changed through the gateway since the last time.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The number of changes so far, to be given to [`Self::observe`].
    pub(crate) fn revision(&self) -> u64 {
        self.state().revision
    }

    /// Takes in what moto says of all services. `revision` is the number of changes before moto was asked: if there
    /// was another since, the answer may be older than it and is not used.
    pub(crate) fn observe(&self, revision: u64, services: &[Value]) {
        let mut state = self.state();
        if state.revision != revision {
            return;
        }
        let mut seen = BTreeSet::new();
        for service in services {
            if let Some(key) = ServiceKey::of(service) {
                state.observe(&key, service, self);
                seen.insert(key);
            }
        }
        for (key, service) in &mut state.services {
            if !seen.contains(key) && service.status == ServiceStatus::Active {
                service.status = ServiceStatus::Draining;
            }
        }
        state.settle();
    }

    /// What is to be done now so that what runs becomes what is wanted. `definitions` are those already read.
    pub(crate) fn orders(&self, definitions: &HashMap<String, TaskDefinition>) -> Vec<Order> {
        let mut state = self.state();
        state.settle();
        state.orders(definitions, Instant::now())
    }

    /// A task was placed: its processes start.
    pub(crate) fn task_placed(&self, task: &str, version: &str, admin_port: Option<u16>) {
        if let Some(task) = self.state().tasks.get_mut(task) {
            task.version = Some(version.to_owned());
            task.admin_port = admin_port;
        }
    }

    /// A task answers its health checks and can be discovered. One that no load balancer has to find healthy serves.
    pub(crate) fn task_running(&self, task: &str) {
        let mut state = self.state();
        if let Some(task) = state.tasks.get_mut(task) {
            task.status = TaskStatus::Running;
            task.serving = task.target_groups.is_empty();
            task.started = Some(Timestamp::now());
        }
        state.settle();
    }

    /// A running task is healthy in every target group in which it is registered.
    pub(crate) fn task_serving(&self, task: &str) {
        let mut state = self.state();
        if let Some(task) = state.tasks.get_mut(task) {
            task.serving = true;
        }
        state.settle();
    }

    /// A task has been taken out of the traffic and finishes what is in flight.
    pub(crate) fn task_stopping(&self, task: &str) {
        if let Some(task) = self.state().tasks.get_mut(task) {
            task.unwanted = true;
            task.serving = false;
            task.status = TaskStatus::Stopping;
            task.stopping.get_or_insert_with(Timestamp::now);
        }
    }

    /// A task has ended.
    pub(crate) fn task_stopped(
        &self,
        id: &str,
        code: StopCode,
        reason: &str,
        exits: BTreeMap<String, ContainerExit>,
    ) {
        let now = Timestamp::now();
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(id) else {
            return;
        };
        task.status = TaskStatus::Stopped;
        task.serving = false;
        task.admin_port = None;
        task.stopping.get_or_insert(now);
        task.stopped = Some(now);
        task.exits = exits;
        let by_itself = code != StopCode::ServiceSchedulerInitiated;
        if by_itself || task.stop_code.is_none() {
            task.stop_code = Some(code.name());
            task.stopped_reason = Some(reason.to_owned());
        }
        let unwanted = std::mem::replace(&mut task.unwanted, true);
        let (key, deployment) = (task.key.clone(), task.deployment.clone());
        if let Some(service) = state.services.get_mut(&key) {
            service.note(&key, &format!("has stopped 1 running tasks: (task {id})."));
            let deployment = service
                .deployments
                .iter_mut()
                .find(|each| each.id == deployment);
            if let Some(deployment) = deployment
                && by_itself
                && !unwanted
            {
                deployment.failed(now);
            }
        }
        state.settle();
    }

    /// The sidecars whose counters can be read now.
    pub(crate) fn scrape_targets(&self) -> Vec<ScrapeTarget> {
        self.state()
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.status, TaskStatus::Running | TaskStatus::Stopping))
            .filter_map(|(id, task)| {
                Some(ScrapeTarget {
                    task: id.clone(),
                    cluster: task.key.cluster.clone(),
                    family: task.definition.family.clone(),
                    admin_port: task.admin_port?,
                })
            })
            .collect()
    }

    /// The running tasks behind each virtual node or target group, by its name. One of which only stopped tasks are
    /// known has none.
    pub(crate) fn tasks_by_target(&self) -> BTreeMap<String, TargetTasks> {
        let mut targets: BTreeMap<String, TargetTasks> = BTreeMap::new();
        for task in self.state().tasks.values() {
            let node = task.definition.virtual_node.as_deref().map(last_segment);
            let groups = task.target_groups.iter().map(|arn| group_name(arn));
            for name in node.into_iter().chain(groups) {
                let tasks = targets.entry(name.to_owned()).or_default();
                if matches!(task.status, TaskStatus::Pending | TaskStatus::Running) {
                    tasks.running += usize::from(task.status == TaskStatus::Running);
                    tasks.versions.extend(task.version.clone());
                }
            }
        }
        targets
    }

    /// Whether every service that moto knows is steady: its deployment completed, and nothing on its way in or out.
    pub(crate) fn steady(&self) -> bool {
        let state = self.state();
        state.services.values().all(|service| match service.status {
            ServiceStatus::Active => {
                service.deployments.len() == 1
                    && service.deployments[0].rollout == Rollout::Completed
            }
            ServiceStatus::Draining => false,
            ServiceStatus::Inactive => true,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nobody panics while holding the runtime's state")
    }

    /// Moto repeats a task definition as it was named in the request; ECS always answers with its ARN.
    fn definition_arn(&self, named: &str) -> String {
        if named.starts_with("arn:") {
            named.to_owned()
        } else {
            format!(
                "arn:aws:ecs:{}:{}:task-definition/{named}",
                self.region, self.account
            )
        }
    }

    fn task_arn(&self, key: &ServiceKey, task: &str) -> String {
        format!(
            "arn:aws:ecs:{}:{}:task/{}/{task}",
            self.region, self.account, key.cluster
        )
    }

    fn cluster_arn(&self, cluster: &str) -> String {
        format!(
            "arn:aws:ecs:{}:{}:cluster/{cluster}",
            self.region, self.account
        )
    }
}

impl ServiceKey {
    /// The place of a service as ECS and moto describe it.
    pub(super) fn of(service: &Value) -> Option<Self> {
        Some(Self {
            cluster: last_segment(service["clusterArn"].as_str()?).to_owned(),
            service: service["serviceName"].as_str()?.to_owned(),
        })
    }
}

fn last_segment(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

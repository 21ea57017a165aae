//! The services, their deployments and their tasks, and the rules by which ECS moves them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::{DEPLOYMENT_MEMBERS, REMEMBERED_MEMBERS, epoch};
use super::{ContainerExit, EcsRuntime, Order, ServiceKey, StopCode};
use crate::data_plane::task_definition::TaskDefinition;

/// How long a stopped task can still be described, as on ECS.
const STOPPED_TASKS_ARE_KEPT: Duration = Duration::from_hours(1);

/// The longest wait before a task that keeps ending is started again.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);

/// How many events of a service are kept, as on ECS.
const EVENTS_KEPT: usize = 100;

#[derive(Debug, Default)]
pub(super) struct State {
    /// Counts the changes that came through the gateway, so that an older look at moto is not believed over them.
    pub(super) revision: u64,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    pub(super) tasks: BTreeMap<String, Task>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceStatus {
    Active,
    Draining,
    Inactive,
}

impl ServiceStatus {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Inactive => "INACTIVE",
        }
    }
}

#[derive(Debug)]
pub(super) struct Service {
    pub(super) status: ServiceStatus,
    pub(super) desired: usize,
    /// The first is the primary one; the others are on their way out.
    pub(super) deployments: Vec<Deployment>,
    pub(super) registry_arn: Option<String>,
    /// The target groups in which its tasks are registered.
    pub(super) target_groups: Vec<String>,
    /// The id that moto gave to the service's deployment. It changes when the service is created anew or a new
    /// deployment is forced.
    pub(super) moto_deployment: String,
    pub(super) members: Map<String, Value>,
    pub(super) events: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rollout {
    InProgress,
    Completed,
    Failed,
}

impl Rollout {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::InProgress => "in progress",
            Self::Completed => "completed",
            Self::Failed => "failed: tasks failed to start",
        }
    }
}

#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) task_definition: String,
    pub(super) rollout: Rollout,
    /// How many tasks a deployment that was replaced after its completion keeps up until the new one has taken over.
    pub(super) held: usize,
    pub(super) failed_tasks: usize,
    pub(super) failures_in_a_row: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskStatus {
    Pending,
    Running,
    Stopping,
    Stopped,
}

impl TaskStatus {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
        }
    }
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) key: ServiceKey,
    pub(super) deployment: String,
    pub(super) definition: TaskDefinition,
    pub(super) status: TaskStatus,
    /// Whether it gets requests: it runs, and every load balancer that should know it finds it healthy.
    pub(super) serving: bool,
    pub(super) target_groups: Vec<String>,
    /// Set as soon as somebody wants the task gone, or it has gone by itself.
    pub(super) unwanted: bool,
    pub(super) version: Option<String>,
    pub(super) admin_port: Option<u16>,
    pub(super) created: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) stopping: Option<Timestamp>,
    pub(super) stopped: Option<Timestamp>,
    pub(super) stop_code: Option<&'static str>,
    pub(super) stopped_reason: Option<String>,
    pub(super) exits: BTreeMap<String, ContainerExit>,
}

impl State {
    /// Takes in what moto says of one service.
    pub(super) fn observe(&mut self, key: &ServiceKey, moto: &Value, runtime: &EcsRuntime) {
        let now = Timestamp::now();
        let definition =
            runtime.definition_arn(moto["taskDefinition"].as_str().unwrap_or_default());
        let moto_deployment = moto["deployments"][0]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let active = moto["status"].as_str() == Some("ACTIVE");
        let desired = moto["desiredCount"]
            .as_u64()
            .and_then(|count| usize::try_from(count).ok());
        let registry_arn = moto["serviceRegistries"][0]["registryArn"]
            .as_str()
            .map(ToOwned::to_owned);

        let target_groups = moto["loadBalancers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|each| each["targetGroupArn"].as_str().map(ToOwned::to_owned))
            .collect();

        let service = self.services.entry(key.clone()).or_insert_with(|| Service {
            status: ServiceStatus::Inactive,
            desired: 0,
            deployments: Vec::new(),
            registry_arn: None,
            target_groups: Vec::new(),
            moto_deployment: String::new(),
            members: Map::new(),
            events: Vec::new(),
        });
        if !active {
            if service.status == ServiceStatus::Active {
                service.status = ServiceStatus::Draining;
            }
            return;
        }
        let desired = desired.unwrap_or(0);
        let anew = service.status != ServiceStatus::Active;
        service.status = ServiceStatus::Active;
        service.registry_arn = registry_arn;
        service.target_groups = target_groups;
        let new_deployment = anew
            || service.moto_deployment != moto_deployment
            || service
                .deployments
                .first()
                .is_none_or(|primary| primary.task_definition != definition);
        if new_deployment {
            if anew {
                service.members.clear();
            }
            if let Some(replaced) = service.deployments.first_mut() {
                replaced.updated = now;
                replaced.held = if replaced.rollout == Rollout::Completed && !anew {
                    service.desired
                } else {
                    0
                };
            }
            let id = if service.moto_deployment == moto_deployment {
                format!("ecs-svc/{:019}", random() % 10_u64.pow(19))
            } else {
                moto_deployment.clone()
            };
            service.deployments.insert(
                0,
                Deployment {
                    id,
                    task_definition: definition,
                    rollout: Rollout::InProgress,
                    held: 0,
                    failed_tasks: 0,
                    failures_in_a_row: 0,
                    not_before: None,
                    created: now,
                    updated: now,
                },
            );
            service.moto_deployment = moto_deployment;
        }
        service.desired = desired;
    }

    /// Keeps the members of a request that ECS would keep.
    pub(super) fn remember(&mut self, key: &ServiceKey, request: &Value, anew: bool) {
        let Some(service) = self.services.get_mut(key) else {
            return;
        };
        if anew {
            service.members.clear();
        }
        for name in REMEMBERED_MEMBERS.iter().chain(&DEPLOYMENT_MEMBERS) {
            if let Some(value) = request.get(*name).filter(|value| !value.is_null()) {
                service.members.insert((*name).to_owned(), value.clone());
            }
        }
    }

    /// Draws the conclusions from what has happened: deployments that are over, completed or failed, and services that
    /// are gone.
    pub(super) fn settle(&mut self) {
        let now = Timestamp::now();
        self.tasks.retain(|_, task| {
            task.stopped.is_none_or(|stopped| {
                now.duration_since(stopped).unsigned_abs() < STOPPED_TASKS_ARE_KEPT
            })
        });
        let tasks = &self.tasks;
        for (key, service) in &mut self.services {
            if service.status != ServiceStatus::Active {
                if !tasks
                    .values()
                    .any(|task| task.key == *key && task.status != TaskStatus::Stopped)
                {
                    service.status = ServiceStatus::Inactive;
                    service.deployments.clear();
                }
                continue;
            }
            let Some(primary) = service.deployments.first() else {
                continue;
            };
            let primary_id = primary.id.clone();
            let (_, running) = count(tasks, &primary_id);
            let taken_over = running >= service.desired;
            service.deployments.retain(|deployment| {
                deployment.id == primary_id
                    || (deployment.held > 0 && !taken_over)
                    || tasks.values().any(|task| {
                        task.deployment == deployment.id && task.status != TaskStatus::Stopped
                    })
            });
            let alone = service.deployments.len() == 1;
            let failure_limit = failure_limit(&service.members, service.desired);
            let Some(primary) = service.deployments.first_mut() else {
                continue;
            };
            if primary.rollout == Rollout::InProgress {
                if taken_over && alone {
                    primary.rollout = Rollout::Completed;
                    primary.failures_in_a_row = 0;
                    primary.updated = now;
                    service.note(key, "has reached a steady state.");
                } else if failure_limit.is_some_and(|limit| primary.failed_tasks >= limit) {
                    primary.rollout = Rollout::Failed;
                    primary.updated = now;
                }
            }
        }
    }

    /// What is to be done now. What is ordered counts as begun.
    pub(super) fn orders(
        &mut self,
        definitions: &HashMap<String, TaskDefinition>,
        now: Instant,
    ) -> Vec<Order> {
        let mut orders = Vec::new();
        for (task, why) in self.surplus() {
            if let Some(record) = self.tasks.get_mut(&task) {
                record.unwanted = true;
                record.stop_code = Some(StopCode::ServiceSchedulerInitiated.name());
                record.stopped_reason = Some(why);
                orders.push(Order::Stop { task });
            }
        }
        for (key, service) in &self.services {
            for (deployment, missing) in service.missing(&self.tasks, now) {
                let Some(definition) = definitions.get(&deployment.task_definition) else {
                    orders.push(Order::Read {
                        definition: deployment.task_definition.clone(),
                    });
                    continue;
                };
                for _ in 0..missing {
                    let task = format!("{:016x}{:016x}", random(), random());
                    let mut record =
                        Task::new(key.clone(), deployment.id.clone(), definition.clone());
                    record.target_groups.clone_from(&service.target_groups);
                    self.tasks.insert(task.clone(), record);
                    orders.push(Order::Start {
                        task,
                        definition: Box::new(definition.clone()),
                        key: key.clone(),
                        registry_arn: service.registry_arn.clone(),
                        target_groups: service.target_groups.clone(),
                    });
                }
            }
        }
        for order in &orders {
            if let Order::Start { task, key, .. } = order
                && let Some(service) = self.services.get_mut(key)
            {
                service.note(key, &format!("has started 1 tasks: (task {task})."));
            }
        }
        orders
    }

    /// The tasks that nobody wants any more, each with the reason.
    fn surplus(&self) -> Vec<(String, String)> {
        let mut surplus = Vec::new();
        for (key, service) in &self.services {
            let mut by_deployment: BTreeMap<&str, Vec<(&String, &Task)>> = BTreeMap::new();
            for (id, task) in &self.tasks {
                if task.key == *key && !task.unwanted {
                    by_deployment
                        .entry(&task.deployment)
                        .or_default()
                        .push((id, task));
                }
            }
            for (deployment, mut tasks) in by_deployment {
                // A deployment that is not kept belongs to a service that was deleted.
                let wanted = service.wanted(&self.tasks, deployment);
                let number = tasks.len().saturating_sub(wanted.unwrap_or(0));
                let why = match (wanted, service.deployments.first()) {
                    (Some(_), Some(primary)) => format!("(deployment {})", primary.id),
                    _ => "the deletion of the service".to_owned(),
                };
                // Those that do not serve yet go first, then the youngest.
                tasks.sort_by_key(|(_, task)| (task.serving, Reverse(task.created)));
                for (id, _) in tasks.into_iter().take(number) {
                    surplus.push((id.clone(), format!("Scaling activity initiated by {why}")));
                }
            }
        }
        surplus
    }
}

impl Service {
    /// How many tasks a deployment should have; `None` if it is not one of this service's.
    fn wanted(&self, tasks: &BTreeMap<String, Task>, id: &str) -> Option<usize> {
        if self.status != ServiceStatus::Active {
            return None;
        }
        let primary = self.deployments.first()?;
        let deployment = self.deployments.iter().find(|each| each.id == id)?;
        let (live, serving) = count(tasks, id);
        let taken_over = count(tasks, &primary.id).1 >= self.desired;
        Some(if deployment.id == primary.id {
            // One that was given up starts no more tasks.
            let limit = if deployment.rollout == Rollout::Failed {
                live
            } else {
                self.desired
            };
            limit.min(self.desired)
        } else if taken_over {
            0
        } else if deployment.held > 0 {
            deployment.held.min(self.desired)
        } else {
            // It was replaced before it was complete: what serves may go on until the new one does.
            serving
        })
    }

    /// The deployments that may start tasks now, each with the number that it lacks.
    fn missing(&self, tasks: &BTreeMap<String, Task>, now: Instant) -> Vec<(&Deployment, usize)> {
        self.deployments
            .iter()
            .filter(|deployment| deployment.not_before.is_none_or(|moment| now >= moment))
            .filter_map(|deployment| {
                let (live, _) = count(tasks, &deployment.id);
                let missing = self.wanted(tasks, &deployment.id)?.saturating_sub(live);
                (missing > 0).then_some((deployment, missing))
            })
            .collect()
    }

    pub(super) fn note(&mut self, key: &ServiceKey, what: &str) {
        let event = json!({
            "id": format!("{:08x}-{:016x}", random() >> 32, random()),
            "createdAt": epoch(Timestamp::now()),
            "message": format!("(service {}) {what}", key.service),
        });
        self.events.insert(0, event);
        self.events.truncate(EVENTS_KEPT);
    }
}

impl Deployment {
    /// Counts a task that ended by itself and puts the next start off: 1 s, 2 s, 4 s and so on. Tasks that were started
    /// together and end together put it off once.
    pub(super) fn failed(&mut self, now: Timestamp) {
        if self.rollout == Rollout::InProgress {
            self.failed_tasks += 1;
        }
        self.updated = now;
        if self
            .not_before
            .is_some_and(|moment| Instant::now() < moment)
        {
            return;
        }
        let back_off =
            Duration::from_secs(1 << self.failures_in_a_row.min(10)).min(LONGEST_BACK_OFF);
        self.failures_in_a_row += 1;
        self.not_before = Some(Instant::now() + back_off);
    }
}

impl Task {
    pub(super) fn new(key: ServiceKey, deployment: String, definition: TaskDefinition) -> Self {
        Self {
            key,
            deployment,
            definition,
            status: TaskStatus::Pending,
            serving: false,
            target_groups: Vec::new(),
            unwanted: false,
            version: None,
            admin_port: None,
            created: Timestamp::now(),
            started: None,
            stopping: None,
            stopped: None,
            stop_code: None,
            stopped_reason: None,
            exits: BTreeMap::new(),
        }
    }
}

/// The tasks of a deployment that are wanted, and how many of them serve.
fn count(tasks: &BTreeMap<String, Task>, deployment: &str) -> (usize, usize) {
    let live = tasks
        .values()
        .filter(|task| task.deployment == deployment && !task.unwanted);
    live.fold((0, 0), |(live, running), task| {
        (
            live + 1,
            running + usize::from(task.status == TaskStatus::Running && task.serving),
        )
    })
}

/// After how many failed tasks ECS's circuit breaker gives a deployment up; `None` if it is not switched on. (It does
/// not go back to the last deployment here, even if told to: the local cloud cannot change what moto keeps.)
fn failure_limit(members: &Map<String, Value>, desired: usize) -> Option<usize> {
    let breaker = members
        .get("deploymentConfiguration")?
        .get("deploymentCircuitBreaker")?;
    if breaker["enable"].as_bool() != Some(true) {
        return None;
    }
    let threshold = &breaker["thresholdConfiguration"];
    let value = threshold["value"]
        .as_u64()
        .and_then(|value| usize::try_from(value).ok())
        .unwrap_or(50);
    Some(match threshold["type"].as_str() {
        Some("COUNT") => value,
        Some("UNBOUNDED_PERCENT") => (desired * value).div_ceil(100),
        _ => (desired * value).div_ceil(100).clamp(10, 200),
    })
}

/// A number that nobody can foresee, for identifiers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

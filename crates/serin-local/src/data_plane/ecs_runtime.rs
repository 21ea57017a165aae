//! The half of ECS that moto lacks: tasks, deployments and what they come to.
//!
//! Moto keeps the configuration of services; this module keeps what runs. The fleet agent works off its orders and
//! reports to it, and the gateway has it complete the answers that moto gives to ECS calls. Nothing here waits or does
//! I/O, so the gateway may ask at any moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::task_definition::TaskDefinition;

/// How long a stopped task can still be described, as on ECS.
const STOPPED_TASKS_ARE_KEPT: Duration = Duration::from_hours(1);

/// The longest wait before a task that keeps ending is started again.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);

/// How many events of a service are kept, as on ECS.
const EVENTS_KEPT: usize = 100;

/// The members of a service that ECS keeps and moto drops or keeps only sometimes.
const REMEMBERED_MEMBERS: [&str; 15] = [
    "availabilityZoneRebalancing",
    "capacityProviderStrategy",
    "deploymentConfiguration",
    "deploymentController",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "loadBalancers",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "platformVersion",
    "propagateTags",
    "schedulingStrategy",
    "serviceRegistries",
];

/// The members that ECS shows on each deployment instead of on the service.
const DEPLOYMENT_MEMBERS: [&str; 6] = [
    "capacityProviderStrategy",
    "networkConfiguration",
    "platformVersion",
    "serviceConnectConfiguration",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
];

/// What runs, for the gateway to tell and the fleet agent to bring about.
#[derive(Debug)]
pub struct EcsRuntime {
    region: String,
    account: String,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the changes that came through the gateway, so that an older look at moto is not believed over them.
    revision: u64,
    services: BTreeMap<ServiceKey, Service>,
    tasks: BTreeMap<String, Task>,
}

/// A service's place: the names of its cluster and its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceKey {
    pub(crate) cluster: String,
    pub(crate) service: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServiceStatus {
    Active,
    Draining,
    Inactive,
}

impl ServiceStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
            Self::Inactive => "INACTIVE",
        }
    }
}

#[derive(Debug)]
struct Service {
    status: ServiceStatus,
    desired: usize,
    /// The first is the primary one; the others are on their way out.
    deployments: Vec<Deployment>,
    registry_arn: Option<String>,
    /// The id that moto gave to the service's deployment. It changes when the service is created anew or a new
    /// deployment is forced.
    moto_deployment: String,
    members: Map<String, Value>,
    events: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rollout {
    InProgress,
    Completed,
    Failed,
}

impl Rollout {
    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::InProgress => "in progress",
            Self::Completed => "completed",
            Self::Failed => "failed: tasks failed to start",
        }
    }
}

#[derive(Debug)]
struct Deployment {
    id: String,
    task_definition: String,
    rollout: Rollout,
    /// How many tasks a deployment that was replaced after its completion keeps up until the new one has taken over.
    held: usize,
    failed_tasks: usize,
    failures_in_a_row: u32,
    not_before: Option<Instant>,
    created: Timestamp,
    updated: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TaskStatus {
    Pending,
    Running,
    Stopping,
    Stopped,
}

impl TaskStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
        }
    }
}

#[derive(Debug)]
struct Task {
    key: ServiceKey,
    deployment: String,
    definition: TaskDefinition,
    status: TaskStatus,
    /// Set as soon as somebody wants the task gone, or it has gone by itself.
    unwanted: bool,
    version: Option<String>,
    admin_port: Option<u16>,
    created: Timestamp,
    started: Option<Timestamp>,
    stopping: Option<Timestamp>,
    stopped: Option<Timestamp>,
    stop_code: Option<&'static str>,
    stopped_reason: Option<String>,
    exits: BTreeMap<String, ContainerExit>,
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

/// The tasks that run for a virtual node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeTasks {
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
                for service in response["services"].as_array_mut().into_iter().flatten() {
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
    pub(crate) fn task_placed(&self, task: &str, version: &str, admin_port: u16) {
        if let Some(task) = self.state().tasks.get_mut(task) {
            task.version = Some(version.to_owned());
            task.admin_port = Some(admin_port);
        }
    }

    /// A task answers its health checks and can be discovered.
    pub(crate) fn task_running(&self, task: &str) {
        let mut state = self.state();
        if let Some(task) = state.tasks.get_mut(task) {
            task.status = TaskStatus::Running;
            task.started = Some(Timestamp::now());
        }
        state.settle();
    }

    /// A task has been taken out of the traffic and finishes what is in flight.
    pub(crate) fn task_stopping(&self, task: &str) {
        if let Some(task) = self.state().tasks.get_mut(task) {
            task.unwanted = true;
            task.status = TaskStatus::Stopping;
            task.stopping.get_or_insert_with(Timestamp::now);
        }
    }

    /// A task has ended.
    pub(crate) fn task_stopped(&self, id: &str, code: StopCode, reason: &str, exits: BTreeMap<String, ContainerExit>) {
        let now = Timestamp::now();
        let mut state = self.state();
        let Some(task) = state.tasks.get_mut(id) else {
            return;
        };
        task.status = TaskStatus::Stopped;
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
            let deployment = service.deployments.iter_mut().find(|each| each.id == deployment);
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

    /// The running tasks of each virtual node (`mesh/node`). A node of which only stopped tasks are known has none.
    pub(crate) fn tasks_by_node(&self) -> BTreeMap<String, NodeTasks> {
        let mut nodes: BTreeMap<String, NodeTasks> = BTreeMap::new();
        for task in self.state().tasks.values() {
            let Some(node) = &task.definition.virtual_node else {
                continue;
            };
            let tasks = nodes.entry(node.clone()).or_default();
            if matches!(task.status, TaskStatus::Pending | TaskStatus::Running) {
                tasks.running += usize::from(task.status == TaskStatus::Running);
                tasks.versions.extend(task.version.clone());
            }
        }
        nodes
    }

    /// Whether every service that moto knows is steady: its deployment completed, and nothing on its way in or out.
    pub(crate) fn steady(&self) -> bool {
        let state = self.state();
        state.services.values().all(|service| match service.status {
            ServiceStatus::Active => {
                service.deployments.len() == 1 && service.deployments[0].rollout == Rollout::Completed
            }
            ServiceStatus::Draining => false,
            ServiceStatus::Inactive => true,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the runtime's state")
    }

    /// Moto repeats a task definition as it was named in the request; ECS always answers with its ARN.
    fn definition_arn(&self, named: &str) -> String {
        if named.starts_with("arn:") {
            named.to_owned()
        } else {
            format!("arn:aws:ecs:{}:{}:task-definition/{named}", self.region, self.account)
        }
    }

    fn task_arn(&self, key: &ServiceKey, task: &str) -> String {
        format!("arn:aws:ecs:{}:{}:task/{}/{task}", self.region, self.account, key.cluster)
    }

    fn cluster_arn(&self, cluster: &str) -> String {
        format!("arn:aws:ecs:{}:{}:cluster/{cluster}", self.region, self.account)
    }
}

impl State {
    /// Takes in what moto says of one service.
    fn observe(&mut self, key: &ServiceKey, moto: &Value, runtime: &EcsRuntime) {
        let now = Timestamp::now();
        let definition = runtime.definition_arn(moto["taskDefinition"].as_str().unwrap_or_default());
        let moto_deployment = moto["deployments"][0]["id"].as_str().unwrap_or_default().to_owned();
        let active = moto["status"].as_str() == Some("ACTIVE");
        let desired = moto["desiredCount"].as_u64().and_then(|count| usize::try_from(count).ok());
        let registry_arn = moto["serviceRegistries"][0]["registryArn"].as_str().map(ToOwned::to_owned);

        let service = self.services.entry(key.clone()).or_insert_with(|| Service {
            status: ServiceStatus::Inactive,
            desired: 0,
            deployments: Vec::new(),
            registry_arn: None,
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
        let new_deployment = anew
            || service.moto_deployment != moto_deployment
            || service.deployments.first().is_none_or(|primary| primary.task_definition != definition);
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
    fn remember(&mut self, key: &ServiceKey, request: &Value, anew: bool) {
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
    fn settle(&mut self) {
        let now = Timestamp::now();
        self.tasks.retain(|_, task| {
            task.stopped
                .is_none_or(|stopped| now.duration_since(stopped).unsigned_abs() < STOPPED_TASKS_ARE_KEPT)
        });
        let tasks = &self.tasks;
        for (key, service) in &mut self.services {
            if service.status != ServiceStatus::Active {
                if !tasks.values().any(|task| task.key == *key && task.status != TaskStatus::Stopped) {
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
                    || tasks
                        .values()
                        .any(|task| task.deployment == deployment.id && task.status != TaskStatus::Stopped)
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

    fn orders(&mut self, definitions: &HashMap<String, TaskDefinition>, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        let mut starts: Vec<(ServiceKey, String, TaskDefinition, Option<String>)> = Vec::new();
        let mut stops: Vec<(String, String)> = Vec::new();
        for (key, service) in &self.services {
            let tasks = &self.tasks;
            let mut stop = |deployment: Option<&str>, number: usize, why: &str| {
                let mut candidates: Vec<(&String, &Task)> = tasks
                    .iter()
                    .filter(|(_, task)| task.key == *key && !task.unwanted)
                    .filter(|(_, task)| deployment.is_none_or(|id| task.deployment == id))
                    .collect();
                // Those that do not serve yet go first, then the youngest.
                candidates.sort_by_key(|(_, task)| {
                    (task.status == TaskStatus::Running, std::cmp::Reverse(task.created))
                });
                for (id, _) in candidates.into_iter().take(number) {
                    stops.push((id.clone(), why.to_owned()));
                }
            };
            if service.status != ServiceStatus::Active {
                stop(None, usize::MAX, "Scaling activity initiated by the deletion of the service");
                continue;
            }
            // Tasks of deployments that are no longer kept belong to an earlier service of the same name.
            let orphans: BTreeSet<&str> = tasks
                .values()
                .filter(|task| task.key == *key && !task.unwanted)
                .map(|task| task.deployment.as_str())
                .filter(|id| !service.deployments.iter().any(|deployment| deployment.id == *id))
                .collect();
            for orphan in orphans {
                stop(Some(orphan), usize::MAX, "Scaling activity initiated by the deletion of the service");
            }
            let Some(primary) = service.deployments.first() else {
                continue;
            };
            let why = format!("Scaling activity initiated by (deployment {})", primary.id);
            let (_, running) = count(tasks, &primary.id);
            for (index, deployment) in service.deployments.iter().enumerate() {
                let (live, serving) = count(tasks, &deployment.id);
                let wanted = if index == 0 {
                    if deployment.rollout == Rollout::Failed { live.min(service.desired) } else { service.desired }
                } else if running >= service.desired {
                    0
                } else if deployment.held > 0 {
                    deployment.held.min(service.desired)
                } else {
                    // It was replaced before it was complete: what serves may go on until the new one does.
                    serving
                };
                if live > wanted {
                    stop(Some(&deployment.id), live - wanted, &why);
                }
                if live < wanted && deployment.not_before.is_none_or(|moment| now >= moment) {
                    match definitions.get(&deployment.task_definition) {
                        Some(definition) => {
                            for _ in live..wanted {
                                starts.push((
                                    key.clone(),
                                    deployment.id.clone(),
                                    definition.clone(),
                                    service.registry_arn.clone(),
                                ));
                            }
                        }
                        None => orders.push(Order::Read {
                            definition: deployment.task_definition.clone(),
                        }),
                    }
                }
            }
        }
        for (id, why) in stops {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.unwanted = true;
                task.stop_code = Some(StopCode::ServiceSchedulerInitiated.name());
                task.stopped_reason = Some(why);
                orders.push(Order::Stop { task: id });
            }
        }
        for (key, deployment, definition, registry_arn) in starts {
            let id = format!("{:016x}{:016x}", random(), random());
            if let Some(service) = self.services.get_mut(&key) {
                service.note(&key, &format!("has started 1 tasks: (task {id})."));
            }
            self.tasks.insert(id.clone(), Task::new(key.clone(), deployment, definition.clone()));
            orders.push(Order::Start {
                task: id,
                definition: Box::new(definition),
                key,
                registry_arn,
            });
        }
        orders
    }

    /// Puts what runs into moto's answer.
    fn complete(&self, key: &ServiceKey, answer: &mut Value) {
        let (Some(service), Some(answer)) = (self.services.get(key), answer.as_object_mut()) else {
            return;
        };
        let template = answer
            .get("deployments")
            .and_then(|deployments| deployments.get(0))
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let desired = if service.status == ServiceStatus::Active { service.desired } else { 0 };
        let mut running = 0;
        let mut pending = 0;
        for task in self.tasks.values().filter(|task| task.key == *key) {
            running += usize::from(task.status == TaskStatus::Running);
            pending += usize::from(task.status == TaskStatus::Pending);
        }
        answer.insert("status".to_owned(), json!(service.status.name()));
        answer.insert("desiredCount".to_owned(), json!(desired));
        answer.insert("runningCount".to_owned(), json!(running));
        answer.insert("pendingCount".to_owned(), json!(pending));
        if let Some(primary) = service.deployments.first() {
            answer.insert("taskDefinition".to_owned(), json!(primary.task_definition));
        }
        let deployments: Vec<Value> = service
            .deployments
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                let wanted = if index == 0 { desired } else { deployment.held.min(desired) };
                self.deployment(service, deployment, index == 0, wanted, &template)
            })
            .collect();
        answer.insert("deployments".to_owned(), Value::Array(deployments));
        answer.insert("events".to_owned(), Value::Array(service.events.clone()));
        complete_members(service, answer);
    }

    fn deployment(
        &self,
        service: &Service,
        deployment: &Deployment,
        primary: bool,
        desired: usize,
        template: &Map<String, Value>,
    ) -> Value {
        let mut running = 0;
        let mut pending = 0;
        for task in self.tasks.values().filter(|task| task.deployment == deployment.id) {
            running += usize::from(task.status == TaskStatus::Running);
            pending += usize::from(task.status == TaskStatus::Pending);
        }
        let mut shown = template.clone();
        for name in DEPLOYMENT_MEMBERS {
            if let Some(value) = service.members.get(name) {
                shown.insert(name.to_owned(), value.clone());
            }
        }
        if service.members.contains_key("capacityProviderStrategy") {
            shown.remove("launchType");
        }
        let reason = format!("ECS deployment {} {}.", deployment.id, deployment.rollout.in_words());
        for (name, value) in [
            ("id", json!(deployment.id)),
            ("status", json!(if primary { "PRIMARY" } else { "ACTIVE" })),
            ("taskDefinition", json!(deployment.task_definition)),
            ("desiredCount", json!(desired)),
            ("runningCount", json!(running)),
            ("pendingCount", json!(pending)),
            ("failedTasks", json!(deployment.failed_tasks)),
            ("rolloutState", json!(deployment.rollout.name())),
            ("rolloutStateReason", json!(reason)),
            ("createdAt", epoch(deployment.created)),
            ("updatedAt", epoch(deployment.updated)),
        ] {
            shown.insert(name.to_owned(), value);
        }
        Value::Object(shown)
    }

    fn list_tasks(&self, request: &Value, runtime: &EcsRuntime) -> Value {
        let cluster = request["cluster"].as_str().map_or("default", last_segment);
        let service = request["serviceName"].as_str().map(last_segment);
        let family = request["family"].as_str();
        let started_by = request["startedBy"].as_str();
        let stopped = request["desiredStatus"].as_str() == Some("STOPPED");
        let mut found: Vec<(&String, &Task)> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.key.cluster == cluster && task.unwanted == stopped)
            .filter(|(_, task)| service.is_none_or(|name| task.key.service == name))
            .filter(|(_, task)| family.is_none_or(|name| task.definition.family == name))
            .filter(|(_, task)| started_by.is_none_or(|id| task.deployment == id))
            .collect();
        found.sort_by_key(|(_, task)| std::cmp::Reverse(task.created));
        let arns: Vec<String> = found.into_iter().map(|(id, task)| runtime.task_arn(&task.key, id)).collect();
        json!({"taskArns": arns})
    }

    fn describe_tasks(&self, request: &Value, runtime: &EcsRuntime) -> Value {
        let cluster = request["cluster"].as_str().map_or("default", last_segment);
        let mut tasks = Vec::new();
        let mut failures = Vec::new();
        for named in request["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let id = last_segment(named);
            match self.tasks.get(id).filter(|task| task.key.cluster == cluster) {
                Some(task) => tasks.push(task.describe(id, runtime)),
                None => failures.push(json!({"arn": named, "reason": "MISSING"})),
            }
        }
        json!({"tasks": tasks, "failures": failures})
    }
}

impl ServiceKey {
    /// The place of a service as ECS and moto describe it.
    fn of(service: &Value) -> Option<Self> {
        Some(Self {
            cluster: last_segment(service["clusterArn"].as_str()?).to_owned(),
            service: service["serviceName"].as_str()?.to_owned(),
        })
    }
}

impl Service {
    fn note(&mut self, key: &ServiceKey, what: &str) {
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
    fn failed(&mut self, now: Timestamp) {
        if self.rollout == Rollout::InProgress {
            self.failed_tasks += 1;
        }
        self.updated = now;
        if self.not_before.is_some_and(|moment| Instant::now() < moment) {
            return;
        }
        let back_off = Duration::from_secs(1 << self.failures_in_a_row.min(10)).min(LONGEST_BACK_OFF);
        self.failures_in_a_row += 1;
        self.not_before = Some(Instant::now() + back_off);
    }
}

impl Task {
    fn new(key: ServiceKey, deployment: String, definition: TaskDefinition) -> Self {
        Self {
            key,
            deployment,
            definition,
            status: TaskStatus::Pending,
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

    fn describe(&self, id: &str, runtime: &EcsRuntime) -> Value {
        let arn = runtime.task_arn(&self.key, id);
        let healthy = self.status == TaskStatus::Running;
        let health = if healthy { "HEALTHY" } else { "UNKNOWN" };
        let containers: Vec<Value> = self
            .definition
            .containers
            .iter()
            .map(|container| {
                let mut shown = json!({
                    "containerArn": format!("{}/{}", arn.replacen(":task/", ":container/", 1), container.name),
                    "taskArn": arn,
                    "name": container.name,
                    "image": container.image,
                    "lastStatus": self.status.name(),
                    "healthStatus": health,
                    "networkInterfaces": [],
                });
                if let Some(exit) = self.exits.get(&container.name) {
                    if let Some(code) = exit.code {
                        shown["exitCode"] = json!(code);
                    }
                    if let Some(reason) = &exit.reason {
                        shown["reason"] = json!(reason);
                    }
                }
                shown
            })
            .collect();
        let mut shown = json!({
            "taskArn": arn,
            "clusterArn": runtime.cluster_arn(&self.key.cluster),
            "taskDefinitionArn": self.definition.arn,
            "group": format!("service:{}", self.key.service),
            "startedBy": self.deployment,
            "lastStatus": self.status.name(),
            "desiredStatus": if self.unwanted { "STOPPED" } else { "RUNNING" },
            "healthStatus": health,
            "launchType": "FARGATE",
            "platformFamily": "Linux",
            "platformVersion": "1.4.0",
            "availabilityZone": format!("{}a", runtime.region),
            "attachments": [],
            "attributes": [],
            "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
            "tags": [],
            "version": 1,
            "createdAt": epoch(self.created),
            "containers": containers,
        });
        for (name, value) in [("cpu", &self.definition.cpu), ("memory", &self.definition.memory)] {
            if let Some(value) = value {
                shown[name] = json!(value);
            }
        }
        for (name, moment) in [
            ("startedAt", self.started),
            ("stoppingAt", self.stopping),
            ("stoppedAt", self.stopped),
        ] {
            if let Some(moment) = moment {
                shown[name] = epoch(moment);
            }
        }
        if let Some(code) = self.stop_code {
            shown["stopCode"] = json!(code);
        }
        if let Some(reason) = &self.stopped_reason {
            shown["stoppedReason"] = json!(reason);
        }
        shown
    }
}

/// The members of a service that are no matter of what runs.
fn complete_members(service: &Service, answer: &mut Map<String, Value>) {
    for name in REMEMBERED_MEMBERS {
        if let Some(value) = service.members.get(name) {
            answer.insert(name.to_owned(), value.clone());
        }
    }
    for (name, value) in [
        ("enableECSManagedTags", json!(false)),
        ("enableExecuteCommand", json!(false)),
        ("placementConstraints", json!([])),
        ("placementStrategy", json!([])),
        ("propagateTags", json!("NONE")),
    ] {
        answer.entry(name).or_insert(value);
    }
    if service.members.contains_key("capacityProviderStrategy") {
        answer.remove("launchType");
    }
    if answer.get("networkConfiguration").is_some_and(|value| *value == json!({})) {
        answer.remove("networkConfiguration");
    }
    if answer.get("deploymentController").is_none_or(|controller| controller["type"] == "ECS") {
        let given = answer.get("deploymentConfiguration").cloned().unwrap_or_default();
        let mut whole = json!({
            "deploymentCircuitBreaker": {"enable": false, "rollback": false},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "strategy": "ROLLING",
        });
        for (name, value) in given.as_object().into_iter().flatten() {
            whole[name] = value.clone();
        }
        answer.insert("deploymentConfiguration".to_owned(), whole);
    }
}

/// The tasks of a deployment that are wanted, and how many of them serve.
fn count(tasks: &BTreeMap<String, Task>, deployment: &str) -> (usize, usize) {
    let live = tasks.values().filter(|task| task.deployment == deployment && !task.unwanted);
    live.fold((0, 0), |(live, running), task| {
        (live + 1, running + usize::from(task.status == TaskStatus::Running))
    })
}

/// After how many failed tasks ECS's circuit breaker gives a deployment up; `None` if it is not switched on. (It does
/// not go back to the last deployment here, even if told to: the local cloud cannot change what moto keeps.)
fn failure_limit(members: &Map<String, Value>, desired: usize) -> Option<usize> {
    let breaker = members.get("deploymentConfiguration")?.get("deploymentCircuitBreaker")?;
    if breaker["enable"].as_bool() != Some(true) {
        return None;
    }
    let threshold = &breaker["thresholdConfiguration"];
    let value = threshold["value"].as_u64().and_then(|value| usize::try_from(value).ok()).unwrap_or(50);
    Some(match threshold["type"].as_str() {
        Some("COUNT") => value,
        Some("UNBOUNDED_PERCENT") => (desired * value).div_ceil(100),
        _ => (desired * value).div_ceil(100).clamp(10, 200),
    })
}

fn last_segment(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// Seconds since 1970 with milliseconds, as AWS's JSON protocols write a moment.
fn epoch(moment: Timestamp) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age have 41 bits, a f64 holds 53")]
    let seconds = moment.as_millisecond() as f64 / 1000.0;
    json!(seconds)
}

/// A number that nobody can foresee, for identifiers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

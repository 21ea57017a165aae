//! What ECS does by itself, second by second: starts and stops tasks, registers them, rolls out, drains.

use std::collections::HashMap;

use aws_sdk_ecs::types::{ContainerDefinition, TaskStopCode};

use super::{
    Fate, Phase, Rollout, RolloutState, ServiceState, ServiceStatus, Stop, TaskState, arn,
};
use crate::account::REGION;
use crate::cloud_map::Instance;
use crate::load_balancing::{Target, TargetState};
use crate::world::World;

/// How long a stopped task is still described.
const STOPPED_TASKS_ARE_KEPT: i64 = 3600;
/// How long a task that crashes runs.
const SECONDS_TO_CRASH: i64 = 1;

impl World {
    /// One second of ECS's life.
    pub(crate) fn run_ecs(&mut self) {
        let now = self.now();
        let kept = |task: &TaskState| !matches!(task.phase, Phase::Stopped { at } if now - at > STOPPED_TASKS_ARE_KEPT);
        self.ecs.tasks.retain(kept);
        for index in 0..self.ecs.tasks.len() {
            self.run_task(index);
        }
        for index in 0..self.ecs.services.len() {
            match self.ecs.services[index].status {
                ServiceStatus::Active => {
                    self.stop_unhealthy_targets(index);
                    self.run_service(index);
                }
                ServiceStatus::Draining => self.drain_service(index),
                ServiceStatus::Inactive { .. } => {}
            }
        }
        let kept = seconds(self.settings.inactive_seconds);
        self.ecs.services.retain(|service| !matches!(service.status, ServiceStatus::Inactive { since } if now - since > kept));
    }

    /// The next second in which a task or a service changes by itself.
    pub(crate) fn next_event_in_ecs(&self) -> i64 {
        let now = self.now();
        let settings = &self.settings;
        let inactive = seconds(settings.inactive_seconds);
        let services = self.ecs.services.iter();
        let services = services.flat_map(|service| {
            let grace = service
                .data
                .health_check_grace_period_seconds()
                .unwrap_or(0);
            let gone = match service.status {
                ServiceStatus::Inactive { since } => Some(since + inactive + 1),
                ServiceStatus::Active | ServiceStatus::Draining => None,
            };
            let tries = service.rollouts.first().map(|rollout| rollout.next_start);
            let of_service = self
                .ecs
                .tasks
                .iter()
                .filter(|task| task.service == service.id);
            let graced = of_service.filter_map(move |task| match task.phase {
                Phase::Running { since } => Some(since + i64::from(grace)),
                _ => None,
            });
            gone.into_iter().chain(tries).chain(graced)
        });
        let healthy = seconds(settings.healthy_seconds);
        let tasks = self.ecs.tasks.iter().flat_map(|task| {
            let (first, second) = match task.phase {
                Phase::Pending { runs_at } => (Some(runs_at), None),
                Phase::Running { since } => (Some(since + healthy), Some(since + SECONDS_TO_CRASH)),
                Phase::Draining => (None, None), // what its targets do is looked at there
                Phase::Stopping { stops_at } => (Some(stops_at), None),
                Phase::Stopped { at } => (Some(at + STOPPED_TASKS_ARE_KEPT + 1), None),
            };
            first.into_iter().chain(second)
        });
        let events = services.chain(tasks).filter(|event| *event > now);
        events.min().unwrap_or(i64::MAX)
    }

    fn run_task(&mut self, index: usize) {
        let now = self.now();
        let healthy_seconds = seconds(self.settings.healthy_seconds);
        let task = &self.ecs.tasks[index];
        let (phase, fate) = (task.phase, task.fate);
        match phase {
            Phase::Pending { runs_at } if runs_at <= now && fate == Fate::CannotBePulled => {
                let reason = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
                self.ecs.tasks[index].stop = Some(Stop {
                    code: TaskStopCode::TaskFailedToStart,
                    reason: reason.to_owned(),
                    exit_code: None,
                    container_reason: Some(reason.to_owned()),
                    ordered_at: now,
                });
                self.fail_task(index);
            }
            Phase::Pending { runs_at } if runs_at <= now => {
                self.changes += 1;
                let task = &mut self.ecs.tasks[index];
                task.phase = Phase::Running { since: now };
                task.started_at = Some(now);
                self.register(index);
                self.register_targets(index);
            }
            Phase::Running { since }
                if fate == Fate::Crashes && now - since >= SECONDS_TO_CRASH =>
            {
                self.ecs.tasks[index].stop = Some(Stop {
                    code: TaskStopCode::EssentialContainerExited,
                    reason: "Essential container in task exited".to_owned(),
                    exit_code: Some(1),
                    container_reason: None,
                    ordered_at: now,
                });
                self.deregister(index);
                self.fail_task(index);
            }
            Phase::Running { since }
                if fate == Fate::Runs
                    && !task.healthy
                    && now - since >= healthy_seconds
                    && self.has_its_node(index) =>
            {
                self.changes += 1;
                self.ecs.tasks[index].healthy = true;
                self.register(index);
            }
            Phase::Draining if self.load_balancing.targets_of(&task.id).next().is_none() => {
                self.changes += 1;
                let stops_at = now + seconds(self.settings.stop_seconds);
                self.ecs.tasks[index].phase = Phase::Stopping { stops_at };
            }
            Phase::Stopping { stops_at } if stops_at <= now => {
                self.changes += 1;
                self.ecs.tasks[index].phase = Phase::Stopped { at: now };
            }
            _ => {}
        }
    }

    /// Whether the task's Envoy gets a configuration: the virtual node that it says it is must exist.
    fn has_its_node(&self, index: usize) -> bool {
        let Some(definition) = self.ecs.definition(&self.ecs.tasks[index].definition) else {
            return true;
        };
        let containers = definition.data.container_definitions().iter();
        let identity = containers
            .flat_map(ContainerDefinition::environment)
            .find_map(|pair| match pair.name() {
                Some("APPMESH_RESOURCE_ARN" | "APPMESH_VIRTUAL_NODE_NAME") => pair.value(),
                _ => None,
            });
        let Some(identity) = identity else {
            return true;
        };
        let path = identity
            .rsplit_once("mesh/")
            .map_or(identity, |(_, path)| path);
        let Some((mesh, node)) = path.split_once("/virtualNode/") else {
            return false;
        };
        self.app_mesh
            .meshes
            .get(mesh)
            .is_some_and(|mesh| mesh.nodes.contains_key(node))
    }

    /// Marks a task as stopped by its own fault.
    fn fail_task(&mut self, index: usize) {
        self.changes += 1;
        let now = self.now();
        let task = &mut self.ecs.tasks[index];
        task.phase = Phase::Stopped { at: now };
        task.healthy = false;
        self.count_failure(index);
    }

    /// Counts a failed task of a roll-out, and has the scheduler wait before it starts another.
    fn count_failure(&mut self, index: usize) {
        self.changes += 1;
        let now = self.now();
        let restart = seconds(self.settings.restart_seconds);
        let task = &self.ecs.tasks[index];
        let rollout = self
            .ecs
            .services
            .iter_mut()
            .filter(|service| service.id == task.service)
            .flat_map(|service| service.rollouts.iter_mut())
            .find(|rollout| rollout.id == task.rollout);
        if let Some(rollout) = rollout {
            rollout.failed += 1;
            rollout.updated_at = now;
            let doublings = rollout.failed.clamp(1, 5) - 1;
            rollout.next_start = now + (restart << doublings).min(60);
        }
    }

    /// Writes the task and its health into the service's registry.
    fn register(&mut self, index: usize) {
        let task = &self.ecs.tasks[index];
        let Some(service) = self
            .ecs
            .services
            .iter()
            .find(|service| service.id == task.service)
        else {
            return;
        };
        for registry in service.data.service_registries() {
            let Some(id) = self
                .cloud_map
                .id_of(registry.registry_arn().unwrap_or_default())
                .map(str::to_owned)
            else {
                continue;
            };
            let attributes = [
                ("AWS_INSTANCE_IPV4", task.address()),
                ("AVAILABILITY_ZONE", format!("{REGION}a")),
                ("REGION", REGION.to_owned()),
                ("ECS_SERVICE_NAME", task.service_name.clone()),
                ("ECS_CLUSTER_NAME", task.cluster.clone()),
                ("ECS_TASK_DEFINITION_FAMILY", task.family.clone()),
            ];
            let attributes: HashMap<String, String> = attributes
                .map(|(name, value)| (name.to_owned(), value))
                .into();
            let found = self
                .cloud_map
                .services
                .get_mut(&id)
                .expect("the id was just found");
            found.instances.insert(
                task.id.clone(),
                Instance {
                    attributes,
                    healthy: task.healthy,
                },
            );
        }
    }

    fn deregister(&mut self, index: usize) {
        let id = &self.ecs.tasks[index].id;
        for registry in self.cloud_map.services.values_mut() {
            registry.instances.remove(id);
        }
        let id = id.clone();
        let now = self.now();
        self.load_balancing.deregister(&id, now);
    }

    /// Makes the task a target of every target group of its service.
    fn register_targets(&mut self, index: usize) {
        let now = self.now();
        let task = &self.ecs.tasks[index];
        let service = self
            .ecs
            .services
            .iter()
            .find(|service| service.id == task.service);
        for wanted in service
            .into_iter()
            .flat_map(|service| service.data.load_balancers())
        {
            let arn = wanted.target_group_arn().unwrap_or_default();
            let port = wanted.container_port().unwrap_or_default();
            if let Some(group) = self.load_balancing.group_mut(arn) {
                let id = Some(task.id.clone());
                group
                    .targets
                    .push(Target::new(task.address(), port, id, now));
            }
        }
    }

    /// Whether a task answers the health checks of a load balancer.
    pub(crate) fn answers_health_checks(&self, id: &str) -> bool {
        let warm = seconds(self.settings.healthy_seconds);
        let now = self.now();
        let task = self.ecs.tasks.iter().find(|task| task.id == id);
        task.is_some_and(|task| {
            task.fate == Fate::Runs
                && matches!(task.phase, Phase::Running { since } if now - since >= warm)
        })
    }

    /// Whether a task is healthy for itself and for every load balancer.
    pub(crate) fn is_ready(&self, task: &TaskState) -> bool {
        task.healthy
            && self
                .load_balancing
                .targets_of(&task.id)
                .all(|(_, target)| target.state == TargetState::Healthy)
    }

    /// Stops the tasks that a load balancer finds unhealthy, once their grace period is over.
    fn stop_unhealthy_targets(&mut self, service: usize) {
        let now = self.now();
        let service = &self.ecs.services[service];
        if service.data.load_balancers().is_empty() {
            return;
        }
        let id = service.id;
        let grace = i64::from(
            service
                .data
                .health_check_grace_period_seconds()
                .unwrap_or(0),
        );
        for index in 0..self.ecs.tasks.len() {
            let task = &self.ecs.tasks[index];
            let due = matches!(task.phase, Phase::Running { since } if now - since >= grace);
            if task.service != id || !due {
                continue;
            }
            let failing = self
                .load_balancing
                .targets_of(&task.id)
                .find(|(_, target)| target.state == TargetState::Unhealthy)
                .map(|(group, _)| group.arn().to_owned());
            if let Some(group) = failing {
                let reason = format!("Task failed ELB health checks in (target-group {group})");
                self.count_failure(index);
                self.stop_task(index, TaskStopCode::ServiceSchedulerInitiated, &reason);
            }
        }
    }

    /// Orders a task to stop: it leaves the registry at once, and drains at the load balancers, if its host still lives.
    pub(crate) fn stop_task(&mut self, index: usize, code: TaskStopCode, reason: &str) {
        self.changes += 1;
        let now = self.now();
        let stop_seconds = seconds(self.settings.stop_seconds);
        self.deregister(index);
        let task = &mut self.ecs.tasks[index];
        task.healthy = false;
        let drains = code != TaskStopCode::InfrastructureHealth
            && self
                .load_balancing
                .targets_of(&task.id)
                .any(|(_, target)| target.drains());
        task.phase = if drains {
            Phase::Draining
        } else {
            Phase::Stopping {
                stops_at: now + stop_seconds,
            }
        };
        task.stop = Some(Stop {
            code,
            reason: reason.to_owned(),
            exit_code: Some(0),
            container_reason: None,
            ordered_at: now,
        });
    }

    fn run_service(&mut self, index: usize) {
        let now = self.now();
        let service = &self.ecs.services[index];
        let desired = usize::try_from(service.desired).unwrap_or(0);
        let Some(primary) = service.rollouts.first().cloned() else {
            return;
        };
        let of_service: Vec<usize> = (0..self.ecs.tasks.len())
            .filter(|&task| {
                self.ecs.tasks[task].service == service.id && !self.ecs.tasks[task].stopped()
            })
            .collect();
        let (new, old): (Vec<usize>, Vec<usize>) = of_service
            .iter()
            .partition(|&&task| self.ecs.tasks[task].rollout == primary.id);
        let living = |tasks: &[usize]| -> Vec<usize> {
            tasks
                .iter()
                .copied()
                .filter(|&task| self.ecs.tasks[task].lives())
                .collect()
        };
        let (new_living, old_living) = (living(&new), living(&old));
        let healthy = new_living
            .iter()
            .filter(|&&task| self.is_ready(&self.ecs.tasks[task]))
            .count();
        let missing = desired.saturating_sub(new_living.len());
        let starts = if primary.state == RolloutState::Failed || now < primary.next_start {
            0
        } else {
            missing
        };
        let reason = format!("Scaling activity initiated by (deployment {})", primary.id);
        // The youngest and the unhealthy go first.
        let mut surplus = new_living.clone();
        surplus.sort_by_key(|&task| (self.ecs.tasks[task].healthy, std::cmp::Reverse(task)));
        surplus.truncate(new_living.len().saturating_sub(desired));
        // Each old task stays until a new one is healthy in its place.
        let mut replaced = old_living.clone();
        replaced.truncate(
            old_living
                .len()
                .saturating_sub(desired.saturating_sub(healthy)),
        );
        let complete = healthy >= desired && old.is_empty();
        for &task in surplus.iter().chain(&replaced) {
            self.stop_task(task, TaskStopCode::ServiceSchedulerInitiated, &reason);
        }
        for _ in 0..starts {
            self.start_task(index, &primary);
        }
        let service = &mut self.ecs.services[index];
        let breaks = service.breaks_the_circuit();
        let first = service.rollouts.first_mut().expect("it was found above");
        if complete && first.state == RolloutState::InProgress {
            self.changes += 1;
            first.state = RolloutState::Completed;
            first.updated_at = now;
            service.rollouts.truncate(1);
            service.say(now, "has reached a steady state.");
        } else if breaks && first.state == RolloutState::InProgress {
            self.changes += 1;
            first.state = RolloutState::Failed;
            first.updated_at = now;
            service.say(now, "deployment failed: tasks failed to start.");
        }
    }

    fn start_task(&mut self, service: usize, rollout: &Rollout) {
        self.changes += 1;
        let now = self.now();
        let number = self.ecs.next_id();
        let definition = self
            .ecs
            .definition(&rollout.definition)
            .expect("definitions are never deleted");
        let family = definition.data.family().unwrap_or_default().to_owned();
        let images: Vec<String> = definition
            .data
            .container_definitions()
            .iter()
            .map(|container| self.name_of_image(container.image().unwrap_or_default()))
            .collect();
        let images = images.join(" ");
        let fate = match &images {
            images if images.contains("unpullable") => Fate::CannotBePulled,
            images if images.contains("crash") => Fate::Crashes,
            images if images.contains("never-healthy") => Fate::NeverHealthy,
            _ => Fate::Runs,
        };
        let service = &self.ecs.services[service];
        let id = format!("{number:032x}");
        let task = TaskState {
            arn: arn(&format!("task/{}/{id}", service.cluster)),
            id,
            cluster: service.cluster.clone(),
            service: service.id,
            service_name: service.name.clone(),
            rollout: rollout.id.clone(),
            definition: rollout.definition.clone(),
            family,
            phase: Phase::Pending {
                runs_at: now + seconds(self.settings.start_seconds(&images)),
            },
            images,
            healthy: false,
            fate,
            created_at: now,
            started_at: None,
            stop: None,
        };
        self.ecs.tasks.push(task);
    }

    fn drain_service(&mut self, index: usize) {
        let now = self.now();
        let id = self.ecs.services[index].id;
        let tasks: Vec<usize> = (0..self.ecs.tasks.len())
            .filter(|&task| self.ecs.tasks[task].service == id)
            .collect();
        for &task in &tasks {
            if self.ecs.tasks[task].lives() {
                self.stop_task(
                    task,
                    TaskStopCode::ServiceSchedulerInitiated,
                    "Service was deleted",
                );
            }
        }
        if tasks.iter().all(|&task| self.ecs.tasks[task].stopped()) {
            self.changes += 1;
            let service = &mut self.ecs.services[index];
            service.status = ServiceStatus::Inactive { since: now };
            service.rollouts.clear();
        }
    }
}

impl ServiceState {
    /// Whether the circuit breaker stops the roll-out.
    fn breaks_the_circuit(&self) -> bool {
        let Some(breaker) = self
            .data
            .deployment_configuration()
            .and_then(|config| config.deployment_circuit_breaker())
        else {
            return false;
        };
        let given = breaker
            .threshold_configuration()
            .map(|threshold| threshold.value);
        let threshold = given.unwrap_or_else(|| ((self.desired + 1) / 2).clamp(10, 200));
        breaker.enable
            && self
                .rollouts
                .first()
                .is_some_and(|rollout| rollout.failed >= threshold)
    }

    pub(super) fn say(&mut self, now: i64, text: &str) {
        self.events
            .insert(0, (now, format!("(service {}) {text}", self.name)));
        self.events.truncate(100);
    }
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).expect("a setting is a short time")
}

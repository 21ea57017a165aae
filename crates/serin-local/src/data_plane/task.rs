//! One task's life: an application and its sidecar, from the first process to the last.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ecs_runtime::{ContainerExit, EcsRuntime, ServiceKey, StopCode};
use super::envoy_admin::EnvoyAdmin;
use super::envoy_config::{self, TaskPorts};
use super::journal::Journal;
use super::mesh::MeshStatus;
use super::targets::{Target, TargetRuntime};
use super::task_definition::{Container, TaskDefinition};
use crate::moto::{Moto, MotoError, Service};
use crate::ports::free_port;
use crate::process::{Process, Undertaker};

/// How long a task may take until it is healthy.
const HEALTHY_WITHIN: Duration = Duration::from_mins(1);

/// How often a starting task is asked whether it is healthy.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How long the mesh certainly gets to follow before a deregistered task stops.
const MESH_FOLLOWS_WITHIN: Duration = Duration::from_secs(2);

/// A task that leaves is stopped when it has had no request for this long,
const QUIET_FOR: Duration = Duration::from_secs(1);

/// and after this long even if somebody still calls it.
const LEAVES_WITHIN: Duration = Duration::from_secs(15);

/// How long a process may take to end when it is asked to.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What every task needs from the world.
#[derive(Debug)]
pub(crate) struct TaskWorld {
    pub(crate) moto: Moto,
    pub(crate) runtime: Arc<EcsRuntime>,
    pub(crate) targets: Arc<TargetRuntime>,
    /// What the mesh knows, if there is one.
    pub(crate) mesh: Option<Arc<MeshStatus>>,
    pub(crate) undertaker: Arc<Undertaker>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) http: reqwest::Client,
    pub(crate) directory: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) sample_service: PathBuf,
    /// The file that tells every version how what it needs is doing.
    pub(crate) dependency: PathBuf,
}

/// What a task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskOrder {
    /// Live.
    Run,
    /// Leave the traffic, finish, end.
    Leave,
    /// End at once: the world is coming to its end.
    Halt,
}

/// A task to be run.
#[derive(Debug)]
pub(crate) struct TaskLife {
    pub(crate) world: Arc<TaskWorld>,
    pub(crate) id: String,
    pub(crate) key: ServiceKey,
    pub(crate) definition: TaskDefinition,
    pub(crate) registry_arn: Option<String>,
    /// The target groups in which it is to be registered.
    pub(crate) target_groups: Vec<String>,
    /// What it is in them, as soon as it is registered.
    pub(crate) target: Option<Target>,
    pub(crate) order: watch::Receiver<TaskOrder>,
}

/// The processes of a task: an application and, if its definition has one, a sidecar.
struct Pair {
    application: Process,
    sidecar: Option<Process>,
    ports: TaskPorts,
}

impl Pair {
    /// Where requests are taken.
    fn entrance(&self) -> u16 {
        match self.sidecar {
            Some(_) => self.ports.ingress,
            None => self.ports.application,
        }
    }

    /// Where probes are taken.
    fn probe(&self) -> u16 {
        match self.sidecar {
            Some(_) => self.ports.health,
            None => self.ports.application,
        }
    }
}

/// Completes when a sidecar ends by itself; never if there is none.
async fn sidecar_ended(sidecar: &mut Option<Process>) -> Option<ExitStatus> {
    match sidecar {
        Some(sidecar) => sidecar.ended().await.ok(),
        None => std::future::pending().await,
    }
}

async fn stop_sidecar(sidecar: &mut Option<Process>, grace: Duration) -> Option<ExitStatus> {
    sidecar.as_mut()?.stop(grace).await
}

/// What ended a phase of a task's life.
enum Turn {
    /// The phase is over: go on to the next.
    Next,
    /// The task was told to leave or to halt.
    Told,
    /// A process ended by itself.
    Died(Death),
    /// The task did not become healthy in time.
    Unhealthy,
    /// A load balancer found the task unhealthy in this target group.
    FailedChecks(String),
}

/// A process that ended by itself.
struct Death {
    of_application: bool,
    status: Option<ExitStatus>,
}

impl TaskLife {
    /// Lives the whole life.
    pub(crate) async fn run(mut self) {
        let Some(container) = self.definition.application().cloned() else {
            self.failed_to_start("the task definition has no container but the sidecar");
            return;
        };
        let version = match self.version(&container.image).await {
            Ok(version) => version,
            Err(reason) => {
                self.failed_to_start(&reason);
                return;
            }
        };
        let mut pair = match self.start_processes(&container, &version) {
            Ok(pair) => pair,
            Err(problem) => {
                self.failed_to_start(&format!("CannotStartContainerError: {problem}"));
                return;
            }
        };
        self.world.runtime.task_placed(
            &self.id,
            &version,
            pair.sidecar.as_ref().map(|_| pair.ports.admin),
        );
        let entrance = pair.entrance();
        self.note(&format!("{version} starts, takes requests on {entrance}"));

        let mut registered = false;
        let turn = match self.until_healthy(&mut pair).await {
            Turn::Next => match self
                .until_registered(&mut pair, entrance, &mut registered)
                .await
            {
                Turn::Next => {
                    self.world.runtime.task_running(&self.id);
                    self.note("runs");
                    match self.until_balanced(&mut pair, entrance).await {
                        Turn::Next => self.until_told(&mut pair).await,
                        other => other,
                    }
                }
                other => other,
            },
            other => other,
        };
        if let Some(target) = &self.target {
            for group in &self.target_groups {
                self.world.targets.deregister(group, target);
            }
        }
        if registered {
            self.deregister().await;
        }
        match turn {
            Turn::FailedChecks(group) => {
                let why = format!("Task failed ELB health checks in (target-group {group})");
                self.note(&why);
                self.end_told(pair, registered, &why).await;
            }
            Turn::Died(death) => self.end_dead(pair, death).await,
            Turn::Unhealthy => self.end_unhealthy(pair).await,
            Turn::Next | Turn::Told => {
                let why = "Scaling activity initiated by the service scheduler";
                self.end_told(pair, registered, why).await;
            }
        }
    }

    /// Reads the version from the image: its tag, or the tag that the registry knows for its digest.
    async fn version(&self, image: &str) -> Result<String, String> {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        let path = name.rsplit('/').next().unwrap_or(name);
        if let Some((_, tag)) = path.split_once(':') {
            return Ok(tag.to_owned());
        }
        let Some(digest) = digest else {
            return Ok("latest".to_owned());
        };
        // What stands before the first slash is the registry if it looks like a host.
        let repository = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) => rest,
            _ => name,
        };
        let request = json!({"repositoryName": repository, "imageIds": [{"imageDigest": digest}]});
        let pull_error = |why: &str| format!("CannotPullContainerError: {image}: {why}");
        let found = self
            .world
            .moto
            .call(Service::Ecr, "DescribeImages", &request)
            .await
            .map_err(|problem| pull_error(&problem.to_string()))?;
        found["imageDetails"][0]["imageTags"]
            .as_array()
            .and_then(|tags| tags.last()?.as_str())
            .map(ToOwned::to_owned)
            .ok_or_else(|| pull_error("the image has no tag, so nobody knows how it behaves"))
    }

    fn start_processes(&self, container: &Container, version: &str) -> std::io::Result<Pair> {
        let ports = TaskPorts {
            application: free_port()?,
            ingress: free_port()?,
            health: free_port()?,
            admin: free_port()?,
        };
        let directory = self.world.directory.join(format!(
            "{}-{}",
            self.key.service,
            self.id.get(..8).unwrap_or(&self.id)
        ));
        std::fs::create_dir_all(&directory)?;

        let mut application = Command::new(&self.world.sample_service);
        application
            .envs(
                container
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env("VERSION", version)
            .env("PORT", ports.application.to_string())
            .env("BEHAVIOUR", behaviour(version))
            .env("DEPENDENCY", &self.world.dependency);
        Ok(Pair {
            application: self
                .world
                .undertaker
                .spawn(application, &directory.join("application.log"))?,
            sidecar: match self.definition.sidecar {
                Some(_) => Some(self.start_sidecar(&directory, ports)?),
                None => None,
            },
            ports,
        })
    }

    fn start_sidecar(&self, directory: &Path, ports: TaskPorts) -> std::io::Result<Process> {
        let configuration = directory.join("envoy.json");
        std::fs::write(
            &configuration,
            envoy_config::task_sidecar(ports).to_string(),
        )?;
        let command = envoy_config::envoy(&self.world.envoy, &configuration);
        self.world
            .undertaker
            .spawn(command, &directory.join("envoy.log"))
    }

    async fn until_healthy(&mut self, pair: &mut Pair) -> Turn {
        let probe = {
            let http = self.world.http.clone();
            let url = format!("http://127.0.0.1:{}/health", pair.probe());
            async move {
                let until = Instant::now() + HEALTHY_WITHIN;
                while Instant::now() < until {
                    let asked = http.get(&url).timeout(Duration::from_secs(1)).send().await;
                    if asked.is_ok_and(|answer| answer.status().is_success()) {
                        return true;
                    }
                    tokio::time::sleep(PROBE_EVERY).await;
                }
                false
            }
        };
        self.unless_over(pair, probe).await
    }

    /// Makes the task known to the mesh. Only a task that is healthy is registered: Cloud Map takes a new instance to
    /// be healthy until it is told otherwise, and the mesh would send requests to it in between.
    async fn until_registered(
        &mut self,
        pair: &mut Pair,
        ingress: u16,
        registered: &mut bool,
    ) -> Turn {
        let Some(registry) = self.registry() else {
            return Turn::Next;
        };
        // A registration that is cut off may have reached moto all the same.
        *registered = true;
        let moto = self.world.moto.clone();
        let journal = Arc::clone(&self.world.journal);
        let id = self.id.clone();
        let request = json!({
            "ServiceId": registry,
            "InstanceId": id,
            "CreatorRequestId": id,
            "Attributes": {
                "AWS_INSTANCE_IPV4": "127.0.0.1",
                "AWS_INSTANCE_PORT": ingress.to_string(),
                "AWS_INIT_HEALTH_STATUS": "HEALTHY",
                "ECS_SERVICE_NAME": self.key.service,
                "ECS_CLUSTER_NAME": self.key.cluster,
                "ECS_TASK_DEFINITION_FAMILY": self.definition.family,
            },
        });
        let health = json!({"ServiceId": registry, "InstanceId": id, "Status": "HEALTHY"});
        let register = async move {
            loop {
                let done = async {
                    moto.call(Service::CloudMap, "RegisterInstance", &request)
                        .await?;
                    moto.call(
                        Service::CloudMap,
                        "UpdateInstanceCustomHealthStatus",
                        &health,
                    )
                    .await
                };
                match done.await {
                    Ok(_) => return true,
                    Err(problem) => journal.note(format!("task {id}: {problem}")),
                }
                // Moto would keep a second registration beside the first.
                let _ = deregister(&moto, &registry, &id).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        self.unless_over(pair, register).await
    }

    /// Registers the task in its target groups and waits until it is healthy in all of them.
    async fn until_balanced(&mut self, pair: &mut Pair, entrance: u16) -> Turn {
        if self.target_groups.is_empty() {
            return Turn::Next;
        }
        let target = Target {
            address: "127.0.0.1".to_owned(),
            port: entrance,
        };
        for group in &self.target_groups {
            self.world.targets.register(group, &target);
        }
        self.target = Some(target.clone());
        let (world, groups) = (Arc::clone(&self.world), self.target_groups.clone());
        let healthy = async move {
            world.targets.healthy(&groups, &target).await;
            true
        };
        let unhealthy = self.found_unhealthy();
        let turn = tokio::select! {
            turn = self.unless_over(pair, healthy) => turn,
            group = unhealthy => Turn::FailedChecks(group),
        };
        if matches!(turn, Turn::Next) {
            self.world.runtime.task_serving(&self.id);
            self.note("serves");
        }
        turn
    }

    async fn until_told(&mut self, pair: &mut Pair) -> Turn {
        let unhealthy = self.found_unhealthy();
        tokio::select! {
            turn = self.unless_over(pair, std::future::pending()) => turn,
            group = unhealthy => Turn::FailedChecks(group),
        }
    }

    /// Completes with the target group in which the task is found unhealthy; never if it is in none.
    fn found_unhealthy(&self) -> impl Future<Output = String> + use<> {
        let (world, groups) = (Arc::clone(&self.world), self.target_groups.clone());
        let target = self.target.clone();
        async move {
            match target {
                Some(target) => world.targets.unhealthy(&groups, &target).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Does something that comes out well or not, unless the task ends or is told to end before.
    async fn unless_over(&mut self, pair: &mut Pair, work: impl Future<Output = bool>) -> Turn {
        tokio::select! {
            status = pair.application.ended() => Turn::Died(Death { of_application: true, status: status.ok() }),
            status = sidecar_ended(&mut pair.sidecar) => Turn::Died(Death { of_application: false, status }),
            // If nobody is left to give orders, the world is gone.
            _ = self.order.wait_for(|order| *order != TaskOrder::Run) => Turn::Told,
            well = work => if well { Turn::Next } else { Turn::Unhealthy },
        }
    }

    async fn end_dead(&self, mut pair: Pair, death: Death) {
        let text = death
            .status
            .map_or("unknown".to_owned(), |status| status.to_string());
        let (name, application, sidecar) = if death.of_application {
            let sidecar = stop_sidecar(&mut pair.sidecar, STOP_GRACE).await;
            (&self.definition.application, death.status, sidecar)
        } else {
            let application = pair.application.stop(STOP_GRACE).await;
            (&self.definition.sidecar, application, death.status)
        };
        self.note(&format!(
            "{} ended by itself: {text}",
            name.as_deref().unwrap_or("a process")
        ));
        self.world.runtime.task_stopped(
            &self.id,
            StopCode::EssentialContainerExited,
            "Essential container in task exited",
            self.exits(application, sidecar),
        );
    }

    async fn end_unhealthy(&self, mut pair: Pair) {
        pair.application.stop(STOP_GRACE).await;
        stop_sidecar(&mut pair.sidecar, STOP_GRACE).await;
        self.failed_to_start("Task failed container health checks");
    }

    async fn end_told(&mut self, mut pair: Pair, served: bool, why: &str) {
        self.world.runtime.task_stopping(&self.id);
        let halted = |order: &TaskOrder| *order == TaskOrder::Halt;
        if let Some(target) = self.target.clone() {
            let targets = Arc::clone(&self.world.targets);
            let groups = self.target_groups.clone();
            tokio::select! {
                () = targets.drained(&groups, &target) => {}
                _ = self.order.wait_for(halted) => {}
            }
        } else if served && pair.sidecar.is_some() {
            let admin = EnvoyAdmin::new(&self.world.http, pair.ports.admin);
            let mesh = self.world.mesh.clone();
            let ingress = pair.ports.ingress;
            let sends = move || mesh.as_ref().is_some_and(|mesh| mesh.sends_to(ingress));
            tokio::select! {
                () = quiet(&admin, &sends) => {}
                _ = self.order.wait_for(halted) => {}
            }
        }
        let grace = if halted(&self.order.borrow()) || self.order.has_changed().is_err() {
            Duration::from_secs(1)
        } else {
            STOP_GRACE
        };
        let application = pair.application.stop(grace).await;
        let sidecar = stop_sidecar(&mut pair.sidecar, grace).await;
        self.note("stopped");
        self.world.runtime.task_stopped(
            &self.id,
            StopCode::ServiceSchedulerInitiated,
            why,
            self.exits(application, sidecar),
        );
    }

    /// How both containers ended. One that a signal killed has 128 and the signal's number, as in every container.
    fn exits(
        &self,
        application: Option<ExitStatus>,
        sidecar: Option<ExitStatus>,
    ) -> BTreeMap<String, ContainerExit> {
        let mut exits = BTreeMap::new();
        for (name, status) in [
            (&self.definition.application, application),
            (&self.definition.sidecar, sidecar),
        ] {
            if let (Some(name), Some(status)) = (name, status) {
                let code = status
                    .code()
                    .or_else(|| status.signal().map(|signal| 128 + signal));
                exits.insert(name.clone(), ContainerExit { code, reason: None });
            }
        }
        exits
    }

    fn failed_to_start(&self, reason: &str) {
        self.note(reason);
        let exits = self
            .definition
            .application
            .iter()
            .map(|name| {
                let exit = ContainerExit {
                    code: None,
                    reason: Some(reason.to_owned()),
                };
                (name.clone(), exit)
            })
            .collect();
        self.world
            .runtime
            .task_stopped(&self.id, StopCode::TaskFailedToStart, reason, exits);
    }

    /// Takes the task out of Cloud Map; until that has happened it must go on serving.
    async fn deregister(&mut self) {
        let Some(registry) = self.registry() else {
            return;
        };
        while *self.order.borrow() != TaskOrder::Halt {
            match deregister(&self.world.moto, &registry, &self.id).await {
                Ok(()) => return,
                Err(problem) => self.note(&problem.to_string()),
            }
            if self.order.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(PROBE_EVERY * 5).await;
        }
    }

    /// The id of the Cloud Map service that the ECS service names.
    fn registry(&self) -> Option<String> {
        let arn = self.registry_arn.as_deref()?;
        arn.rsplit('/').next().map(ToOwned::to_owned)
    }

    fn note(&self, what: &str) {
        self.world.journal.note(format!(
            "task {} of {}/{}: {what}",
            self.id, self.key.cluster, self.key.service
        ));
    }
}

async fn deregister(moto: &Moto, registry: &str, id: &str) -> Result<(), MotoError> {
    let request = json!({"ServiceId": registry, "InstanceId": id});
    match moto
        .call(Service::CloudMap, "DeregisterInstance", &request)
        .await
    {
        Ok(_) => Ok(()),
        Err(problem) if problem.is_not_found() => Ok(()),
        Err(problem) => Err(problem),
    }
}

/// Completes when the mesh has certainly followed and nobody has called for a while. `sends` tells whether a caller may
/// still call.
async fn quiet(admin: &EnvoyAdmin, sends: &impl Fn() -> bool) {
    let began = Instant::now();
    let mut last = None;
    let mut quiet_since = began;
    while began.elapsed() < LEAVES_WITHIN {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let Ok((total, active)) = admin.ingress_requests().await else {
            continue;
        };
        if last != Some(total) || active > 0 || sends() {
            last = Some(total);
            quiet_since = Instant::now();
        }
        if began.elapsed() >= MESH_FOLLOWS_WITHIN && quiet_since.elapsed() >= QUIET_FOR {
            return;
        }
    }
}

/// How a version behaves follows from how its tag begins.
fn behaviour(version: &str) -> &'static str {
    ["worse", "bad", "slow", "crash"]
        .into_iter()
        .find(|name| version.starts_with(name))
        .unwrap_or("good")
}

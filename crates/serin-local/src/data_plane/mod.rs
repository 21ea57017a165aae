//! What a user's AWS account does at run time, with real processes: tasks, a mesh, metrics and load.
//!
//! Moto keeps what was configured; the agents in here make it happen, as ECS, App Mesh and the CloudWatch agent would.
//!
//! - the **fleet agent** runs one application, and an Envoy if it has a sidecar, for every desired task and registers it
//!   in Cloud Map or in target groups;
//! - on a mesh the **mesh agent** programs the caller's Envoy from routes, virtual nodes and Cloud Map, and the
//!   **metrics agent** publishes what the tasks' Envoys count;
//! - with a load balancer its **agent** programs the one Envoy that plays it from listeners, rules and targets, and
//!   another publishes what that Envoy saw;
//! - [`EcsRuntime`] and [`TargetRuntime`] tell the gateway what runs, so that calls get the answers that moto cannot
//!   give;
//! - [`LoadGenerator`] is the caller.
//!
//! All of it acts as the world in which Serin works, so nothing in here knows Serin.

mod access_log;
mod alb;
mod alb_config;
mod alb_metrics;
mod ecs_runtime;
mod envoy_admin;
mod envoy_config;
mod fleet;
mod journal;
mod load;
mod mesh;
mod metrics;
mod targets;
mod task;
mod task_definition;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::access_log::ResponseTimes;
pub use self::ecs_runtime::EcsRuntime;
pub use self::load::{
    ClientKind, FailureCause, KindStats, LoadGenerator, LoadOptions, LoadStats, VersionCount,
};
pub use self::targets::TargetRuntime;

use self::access_log::SeenRequests;
use self::alb::{AlbAgent, AlbFiles, AlbStatus};
use self::alb_metrics::AlbMetricsAgent;
use self::envoy_admin::EnvoyAdmin;
use self::fleet::FleetAgent;
use self::journal::Journal;
use self::mesh::{MeshAgent, MeshFiles, MeshStatus, NodeCount};
use self::metrics::MetricsAgent;
use self::task::TaskWorld;
use crate::moto::Moto;
use crate::ports::free_port;
use crate::process::{Process, Undertaker};

/// What sends the callers' requests to the versions.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "camelCase")]
#[clap(rename_all = "camelCase")]
pub enum LocalRouter {
    /// An Application Load Balancer.
    #[default]
    Alb,
    /// App Mesh.
    AppMesh,
}

impl LocalRouter {
    /// The router's name, as the request's `router.kind` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alb => "alb",
            Self::AppMesh => "appMesh",
        }
    }
}

impl FromStr for LocalRouter {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        <Self as clap::ValueEnum>::from_str(name, false)
    }
}

/// What a data plane is made of.
#[derive(Debug, Clone)]
pub struct DataPlaneConfig {
    /// Where moto answers, such as `http://127.0.0.1:5000`. The agents ask it directly and not through the gateway.
    pub moto: String,
    /// A folder for configuration files and logs. It is created if it is missing.
    pub work_dir: PathBuf,
    /// The Envoy program.
    pub envoy: PathBuf,
    /// The sample service's program.
    pub sample_service: PathBuf,
    /// What sends the requests.
    pub router: LocalRouter,
    /// How often metrics are published.
    pub metric_period: Duration,
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs.
    pub account: String,
}

/// Why a data plane could not be started or does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DataPlaneError {
    /// The work folder or a file in it could not be written.
    #[error("cannot write to the work folder {}", path.display())]
    WorkDir {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Program {
        /// The program.
        program: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// No free port was found.
    #[error("no free port")]
    NoPort(#[source] std::io::Error),
    /// No HTTP client could be made.
    #[error("cannot make an HTTP client")]
    HttpClient(#[source] reqwest::Error),
    /// The router has no route, or a route has no healthy target.
    #[error("the router does not serve after {} s; see {}", waited.as_secs(), log.display())]
    NotServing {
        /// How long was waited.
        waited: Duration,
        /// The data plane's journal.
        log: PathBuf,
    },
}

/// A virtual node or a target group, what runs behind it and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStats {
    /// The name of the virtual node or of the target group.
    pub target: String,
    /// The image tags of its tasks, more than one during a rolling update; empty when nothing runs.
    pub versions: Vec<String>,
    /// How many of its tasks serve.
    pub tasks_running: usize,
    /// How many requests the router sent to it since the data plane started.
    pub requests: u64,
    /// How many of them were answered with 5xx.
    pub errors: u64,
}

/// The running data plane.
///
/// Dropping it kills all its processes; [`DataPlane::stop`] lets them end in order.
#[derive(Debug)]
pub struct DataPlane {
    runtime: Arc<EcsRuntime>,
    targets: Arc<TargetRuntime>,
    response_times: Arc<ResponseTimes>,
    router: RunningRouter,
    journal_path: PathBuf,
    dependency: PathBuf,
    metrics_paused: Arc<AtomicBool>,
    halt: watch::Sender<bool>,
    fleet: Option<JoinHandle<()>>,
    agents: Vec<JoinHandle<()>>,
    envoy: Option<Process>,
}

/// What is known of the running router.
#[derive(Debug)]
enum RunningRouter {
    Mesh {
        status: Arc<MeshStatus>,
        entry_port: u16,
    },
    Alb {
        status: Arc<AlbStatus>,
        seen: Arc<SeenRequests>,
    },
}

impl RunningRouter {
    fn serving(&self) -> bool {
        match self {
            Self::Mesh { status, .. } => status.serving(),
            Self::Alb { status, .. } => status.serving(),
        }
    }

    fn entry_ports(&self) -> Vec<u16> {
        match self {
            Self::Mesh { entry_port, .. } => vec![*entry_port],
            Self::Alb { status, .. } => status.ports(),
        }
    }

    /// What each virtual node or target group answered, by its name.
    fn counts(&self) -> BTreeMap<String, NodeCount> {
        match self {
            Self::Mesh { status, .. } => status.counts(),
            Self::Alb { seen, .. } => seen.totals(),
        }
    }
}

/// What the parts of a router are started with.
struct Parts<'a> {
    config: &'a DataPlaneConfig,
    work_dir: &'a Path,
    moto: Moto,
    journal: Arc<Journal>,
    http: reqwest::Client,
    undertaker: Arc<Undertaker>,
    runtime: Arc<EcsRuntime>,
    targets: Arc<TargetRuntime>,
    response_times: Arc<ResponseTimes>,
    metrics_paused: Arc<AtomicBool>,
}

/// A router that was started, with its Envoy and its agents.
type Started = (RunningRouter, Process, Vec<JoinHandle<()>>);

impl Parts<'_> {
    fn start(self) -> Result<Started, DataPlaneError> {
        match self.config.router {
            LocalRouter::AppMesh => self.start_mesh(),
            LocalRouter::Alb => self.start_load_balancer(),
        }
    }

    fn start_mesh(self) -> Result<Started, DataPlaneError> {
        let directory = self.work_dir.join("mesh");
        let files = MeshFiles::create(&directory).map_err(|error| self.in_work_dir(error))?;
        let entry_port = free_port().map_err(DataPlaneError::NoPort)?;
        let admin_port = free_port().map_err(DataPlaneError::NoPort)?;
        let configuration = envoy_config::caller_sidecar(
            entry_port,
            admin_port,
            &files.clusters(),
            &files.routes(),
        );
        let envoy = self.start_envoy(&directory, &configuration)?;
        let status = Arc::new(MeshStatus::default());
        let mesh_agent = MeshAgent::new(
            self.moto.clone(),
            Arc::clone(&self.journal),
            files,
            EnvoyAdmin::new(&self.http, admin_port),
            Arc::clone(&status),
        );
        let metrics_agent = MetricsAgent {
            moto: self.moto,
            runtime: self.runtime,
            journal: self.journal,
            http: self.http,
            period: self.config.metric_period,
            paused: self.metrics_paused,
        };
        let agents = vec![
            tokio::spawn(mesh_agent.run()),
            tokio::spawn(metrics_agent.run()),
        ];
        Ok((RunningRouter::Mesh { status, entry_port }, envoy, agents))
    }

    fn start_load_balancer(self) -> Result<Started, DataPlaneError> {
        let directory = self.work_dir.join("load-balancer");
        let files = AlbFiles::create(&directory).map_err(|error| self.in_work_dir(error))?;
        let admin_port = free_port().map_err(DataPlaneError::NoPort)?;
        let configuration =
            alb_config::load_balancer(admin_port, &files.listeners(), &files.clusters());
        let envoy = self.start_envoy(&directory, &configuration)?;
        let status = Arc::new(AlbStatus::default());
        let period = i64::try_from(self.config.metric_period.as_secs().max(1)).unwrap_or(60);
        let seen = SeenRequests::new(period);
        let (reading, read) = watch::channel(0);
        let log = access_log::follow(files.access_log(), Arc::clone(&seen), reading);
        let agent = AlbAgent::new(
            self.moto.clone(),
            Arc::clone(&self.journal),
            files,
            EnvoyAdmin::new(&self.http, admin_port),
            Arc::clone(&self.targets),
            Arc::clone(&status),
        )
        .map_err(DataPlaneError::HttpClient)?;
        let metrics_agent = AlbMetricsAgent {
            moto: self.moto,
            journal: self.journal,
            seen: Arc::clone(&seen),
            read,
            status: Arc::clone(&status),
            targets: self.targets,
            response_times: self.response_times,
            paused: self.metrics_paused,
        };
        let agents = vec![
            tokio::spawn(agent.run()),
            tokio::spawn(log),
            tokio::spawn(metrics_agent.run()),
        ];
        Ok((RunningRouter::Alb { status, seen }, envoy, agents))
    }

    fn start_envoy(
        &self,
        directory: &Path,
        configuration: &serde_json::Value,
    ) -> Result<Process, DataPlaneError> {
        let file = directory.join("envoy.json");
        std::fs::write(&file, configuration.to_string())
            .map_err(|error| self.in_work_dir(error))?;
        self.undertaker
            .spawn(
                envoy_config::envoy(&self.config.envoy, &file),
                &directory.join("envoy.log"),
            )
            .map_err(|source| DataPlaneError::Program {
                program: self.config.envoy.display().to_string(),
                source,
            })
    }

    fn in_work_dir(&self, source: std::io::Error) -> DataPlaneError {
        DataPlaneError::WorkDir {
            path: self.config.work_dir.clone(),
            source,
        }
    }
}

impl DataPlane {
    /// Starts the router and the agents, which then follow whatever moto is told. Must be called inside a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// A [`DataPlaneError`] when a file cannot be written, a program not started or no port found.
    pub fn start(config: &DataPlaneConfig) -> Result<Self, DataPlaneError> {
        let in_work_dir = |source| DataPlaneError::WorkDir {
            path: config.work_dir.clone(),
            source,
        };
        std::fs::create_dir_all(&config.work_dir).map_err(in_work_dir)?;
        // Envoy would look for a relative path somewhere else.
        let work_dir = config.work_dir.canonicalize().map_err(in_work_dir)?;
        let journal_path = work_dir.join("data-plane.log");
        let journal = Arc::new(Journal::create(&journal_path).map_err(in_work_dir)?);
        let moto = Moto::new(&config.moto, &config.region).map_err(DataPlaneError::HttpClient)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            // Ports are used again by other processes; a kept connection could lead to the wrong one.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(DataPlaneError::HttpClient)?;
        let undertaker = Undertaker::start().map_err(|source| DataPlaneError::Program {
            program: "sh".to_owned(),
            source,
        })?;
        let runtime = Arc::new(EcsRuntime::new(&config.region, &config.account));
        let targets = Arc::new(TargetRuntime::default());
        let response_times = Arc::new(ResponseTimes::default());
        let metrics_paused = Arc::new(AtomicBool::new(false));

        let (router, envoy, agents) = Parts {
            config,
            work_dir: &work_dir,
            moto: moto.clone(),
            journal: Arc::clone(&journal),
            http: http.clone(),
            undertaker: Arc::clone(&undertaker),
            runtime: Arc::clone(&runtime),
            targets: Arc::clone(&targets),
            response_times: Arc::clone(&response_times),
            metrics_paused: Arc::clone(&metrics_paused),
        }
        .start()?;

        let dependency = work_dir.join("dependency");
        let (halt, halted) = watch::channel(false);
        let world = TaskWorld {
            moto,
            runtime: Arc::clone(&runtime),
            targets: Arc::clone(&targets),
            mesh: match &router {
                RunningRouter::Mesh { status, .. } => Some(Arc::clone(status)),
                RunningRouter::Alb { .. } => None,
            },
            undertaker,
            journal,
            http,
            directory: work_dir.join("tasks"),
            envoy: config.envoy.clone(),
            sample_service: config.sample_service.clone(),
            dependency: dependency.clone(),
        };
        let fleet = tokio::spawn(FleetAgent::new(Arc::new(world), halted).run());
        Ok(Self {
            runtime,
            targets,
            response_times,
            router,
            journal_path,
            dependency,
            metrics_paused,
            halt,
            fleet: Some(fleet),
            agents,
            envoy: Some(envoy),
        })
    }

    /// What runs, for the gateway.
    pub fn runtime(&self) -> Arc<EcsRuntime> {
        Arc::clone(&self.runtime)
    }

    /// How it stands with the targets of load balancers, for the gateway.
    pub fn targets(&self) -> Arc<TargetRuntime> {
        Arc::clone(&self.targets)
    }

    /// The response times that load balancers published, for the gateway.
    pub fn response_times(&self) -> Arc<ResponseTimes> {
        Arc::clone(&self.response_times)
    }

    /// Where a caller reaches the versions: the mesh's entry, or each listener of the load balancer. Empty until the
    /// router [serves](Self::wait_until_serving).
    pub fn entry_urls(&self) -> Vec<String> {
        let ports = self.router.entry_ports().into_iter();
        ports
            .map(|port| format!("http://127.0.0.1:{port}/"))
            .collect()
    }

    /// Stops publishing metrics, or goes on with it, as if the agent had been away.
    pub fn pause_metrics(&self, paused: bool) {
        self.metrics_paused.store(paused, Ordering::Relaxed);
    }

    /// Makes one of so many requests fail in every version, by the fault of something that all of them need; or none.
    ///
    /// # Errors
    ///
    /// When the file that tells the versions cannot be written.
    pub fn fail_dependency(&self, one_in: Option<u64>) -> std::io::Result<()> {
        let text = one_in.map_or_else(String::new, |one_in| one_in.to_string());
        // Nobody reads half a number.
        let draft = self.dependency.with_extension("draft");
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, &self.dependency)
    }

    /// The virtual nodes or target groups for which tasks ran or that answered requests, in the order of their names.
    pub fn versions(&self) -> Vec<VersionStats> {
        let mut tasks = self.runtime.tasks_by_target();
        let counts = self.router.counts();
        for name in counts.keys() {
            tasks.entry(name.clone()).or_default();
        }
        tasks
            .into_iter()
            .map(|(target, running)| {
                let count = counts.get(&target).copied().unwrap_or_default();
                VersionStats {
                    target,
                    versions: running.versions.into_iter().collect(),
                    tasks_running: running.running,
                    requests: count.requests,
                    errors: count.errors,
                }
            })
            .collect()
    }

    /// Waits until every service is steady and every target that has weight can answer.
    ///
    /// # Errors
    ///
    /// [`DataPlaneError::NotServing`] when that has not come about after `limit`.
    pub async fn wait_until_serving(&self, limit: Duration) -> Result<(), DataPlaneError> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.router.serving() && self.runtime.steady() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(DataPlaneError::NotServing {
            waited: limit,
            log: self.journal_path.clone(),
        })
    }

    /// Ends every process that was started and waits until none is left.
    pub async fn stop(mut self) {
        self.halt.send_replace(true);
        for agent in self.agents.drain(..) {
            agent.abort();
        }
        if let Some(fleet) = self.fleet.take() {
            let _ = fleet.await;
        }
        if let Some(mut envoy) = self.envoy.take() {
            envoy.stop(Duration::from_secs(2)).await;
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        for agent in self.agents.drain(..) {
            agent.abort();
        }
        // The fleet and its tasks see that the sender of the halt is gone and end; the processes of those that do not
        // get that far are killed when they are dropped.
    }
}

//! What a user's AWS account does at run time, with real processes: tasks, a mesh, metrics and load.
//!
//! Moto keeps what was configured; the agents in here make it happen, as ECS, App Mesh and the CloudWatch agent would.
//!
//! - the **fleet agent** runs one application and one Envoy for every desired task and registers it in Cloud Map;
//! - the **mesh agent** programs the caller's Envoy from routes, virtual nodes and Cloud Map;
//! - the **metrics agent** publishes what the tasks' Envoys count;
//! - [`EcsRuntime`] tells the gateway what runs, so that ECS calls get the answers that moto cannot give;
//! - [`LoadGenerator`] is the caller.
//!
//! All of it acts as the world in which Serin works, so nothing in here knows Serin.

mod ecs_runtime;
mod envoy_admin;
mod envoy_config;
mod fleet;
mod journal;
mod load;
mod mesh;
mod metrics;
mod task;
mod task_definition;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::ecs_runtime::EcsRuntime;
pub use self::load::{LoadGenerator, LoadStats, VersionCount};

use self::envoy_admin::EnvoyAdmin;
use self::fleet::FleetAgent;
use self::journal::Journal;
use self::mesh::{MeshAgent, MeshFiles, MeshStatus};
use self::metrics::MetricsAgent;
use self::task::TaskWorld;
use crate::moto::Moto;
use crate::ports::free_port;
use crate::process::{Process, Undertaker};

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
    /// The caller's sidecar has no route, or a route has no healthy target.
    #[error("the mesh does not serve after {} s; see {}", waited.as_secs(), log.display())]
    NotServing {
        /// How long was waited.
        waited: Duration,
        /// The data plane's journal.
        log: PathBuf,
    },
}

/// A virtual node, what runs for it and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStats {
    /// The mesh.
    pub mesh: String,
    /// The virtual node.
    pub virtual_node: String,
    /// The image tags of its tasks, more than one during a rolling update; empty when nothing runs.
    pub versions: Vec<String>,
    /// How many of its tasks serve.
    pub tasks_running: usize,
    /// How many requests the caller's sidecar sent to it since the data plane started.
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
    mesh: Arc<MeshStatus>,
    entry_port: u16,
    journal_path: PathBuf,
    metrics_paused: Arc<AtomicBool>,
    halt: watch::Sender<bool>,
    fleet: Option<JoinHandle<()>>,
    agents: Vec<JoinHandle<()>>,
    caller: Option<Process>,
}

impl DataPlane {
    /// Starts the caller's sidecar and the agents, which then follow whatever moto is told. Must be called inside a
    /// Tokio runtime.
    ///
    /// # Errors
    ///
    /// A [`DataPlaneError`] when a file cannot be written, a program not started or no port found.
    pub fn start(config: DataPlaneConfig) -> Result<Self, DataPlaneError> {
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

        let mesh_dir = work_dir.join("mesh");
        let files = MeshFiles::create(&mesh_dir).map_err(in_work_dir)?;
        let entry_port = free_port().map_err(DataPlaneError::NoPort)?;
        let admin_port = free_port().map_err(DataPlaneError::NoPort)?;
        let configuration = mesh_dir.join("caller.json");
        let caller = envoy_config::caller_sidecar(
            entry_port,
            admin_port,
            &files.clusters(),
            &files.routes(),
        );
        std::fs::write(&configuration, caller.to_string()).map_err(in_work_dir)?;
        let mut caller = Command::new(&config.envoy);
        caller.arg("--config-path").arg(&configuration).args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]);
        let caller = undertaker
            .spawn(caller, &mesh_dir.join("envoy.log"))
            .map_err(|source| DataPlaneError::Program {
                program: config.envoy.display().to_string(),
                source,
            })?;

        let runtime = Arc::new(EcsRuntime::new(&config.region, &config.account));
        let (halt, halted) = watch::channel(false);
        let world = TaskWorld {
            moto: moto.clone(),
            runtime: Arc::clone(&runtime),
            undertaker,
            journal: Arc::clone(&journal),
            http: http.clone(),
            directory: work_dir.join("tasks"),
            envoy: config.envoy,
            sample_service: config.sample_service,
        };
        let fleet = tokio::spawn(FleetAgent::new(Arc::new(world), halted).run());

        let mesh = Arc::new(MeshStatus::default());
        let mesh_agent = MeshAgent::new(
            moto.clone(),
            Arc::clone(&journal),
            files,
            EnvoyAdmin::new(&http, admin_port),
            Arc::clone(&mesh),
        );
        let metrics_paused = Arc::new(AtomicBool::new(false));
        let metrics_agent = MetricsAgent {
            moto,
            runtime: Arc::clone(&runtime),
            journal,
            http,
            period: config.metric_period,
            paused: Arc::clone(&metrics_paused),
        };
        Ok(Self {
            runtime,
            mesh,
            entry_port,
            journal_path,
            metrics_paused,
            halt,
            fleet: Some(fleet),
            agents: vec![
                tokio::spawn(mesh_agent.run()),
                tokio::spawn(metrics_agent.run()),
            ],
            caller: Some(caller),
        })
    }

    /// What runs, for the gateway.
    pub fn runtime(&self) -> Arc<EcsRuntime> {
        Arc::clone(&self.runtime)
    }

    /// Where a caller enters the mesh.
    pub fn entry_url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.entry_port)
    }

    /// Stops publishing metrics, or goes on with it, as if the agent had been away.
    pub fn pause_metrics(&self, paused: bool) {
        self.metrics_paused.store(paused, Ordering::Relaxed);
    }

    /// The virtual nodes for which tasks ran or that answered requests, in the order of their names.
    pub fn versions(&self) -> Vec<VersionStats> {
        let mut tasks = self.runtime.tasks_by_node();
        let counts = self.mesh.counts();
        for node in counts.keys() {
            tasks.entry(node.clone()).or_default();
        }
        tasks
            .into_iter()
            .map(|(name, running)| {
                let (mesh, virtual_node) = name.split_once('/').unwrap_or(("", &name));
                let count = counts.get(&name).copied().unwrap_or_default();
                VersionStats {
                    mesh: mesh.to_owned(),
                    virtual_node: virtual_node.to_owned(),
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
            if self.mesh.serving() && self.runtime.steady() {
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
        if let Some(mut caller) = self.caller.take() {
            caller.stop(Duration::from_secs(2)).await;
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

//! A whole local cloud: moto, the gateway, the stack, the user's world, its traffic, and the functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aws_cli::{self, CommandError};
use crate::checkout::Checkout;
use crate::data_plane::{
    DataPlane, DataPlaneConfig, DataPlaneError, LoadGenerator, LoadOptions, LoadStats, LocalRouter,
    VersionStats,
};
use crate::event_bridge::{self, EventBridge};
use crate::executions::{self, Execution, Look, Outcome, Progress};
use crate::functions::{FunctionProcesses, FunctionsConfig, FunctionsError};
use crate::gateway::{Event, Fault, Gateway, Record};
use crate::load_balancing::{group_name, list};
use crate::moto::{Moto, MotoError, Service};
use crate::ports::free_port;
use crate::process::{Process, Undertaker};
use crate::stack::{ACCOUNT, LEDGER_TABLE, REGION, StackError, StateMachines};
use crate::world::WorldSnapshot;
use crate::{stack, world};

/// How long moto may take to answer.
const MOTO_UP_WITHIN: Duration = Duration::from_mins(1);

/// How long the user's service may take to serve.
const SERVING_WITHIN: Duration = Duration::from_mins(1);

/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// What a local cloud is like.
#[derive(Debug, Clone)]
pub struct CloudOptions {
    /// What sends the callers' requests to the versions.
    pub router: LocalRouter,
    /// How many requests a second are sent to the user's service, by all kinds of clients together; 0 for none.
    pub requests_per_second: u32,
    /// How many of them are slow ones, which take three seconds each.
    pub slow_requests_per_second: u32,
    /// How often metrics are published.
    pub metric_period: Duration,
    /// Whether [`LocalCloud::start`] waits until the user's service has metrics, as one that has run for long would.
    pub wait_for_metrics: bool,
    /// Whether the logs stay when the cloud is stopped.
    pub keep_logs: bool,
    /// Whether EventBridge tells of executions that have ended. Without it only the sweep notices one that has died.
    pub tells_of_ends: bool,
    /// How often the sweep runs.
    pub sweep_every: Duration,
    /// The notice channels, as a user's secret has them. Without them nothing is told.
    pub notice_channels: Option<Value>,
}

impl Default for CloudOptions {
    /// A load balancer, two hundred requests a second, metrics every ten seconds, logs kept.
    fn default() -> Self {
        Self {
            router: LocalRouter::Alb,
            requests_per_second: 200,
            slow_requests_per_second: 4,
            metric_period: Duration::from_secs(10),
            wait_for_metrics: true,
            keep_logs: true,
            tells_of_ends: true,
            sweep_every: Duration::from_mins(5),
            notice_channels: None,
        }
    }
}

/// Why a local cloud could not be started.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// A program that `cargo xtask` installs is missing.
    #[error("{} is missing; `cargo xtask local`, `demo` and `test` install it", .0.display())]
    NotInstalled(PathBuf),
    /// A folder, port or process could not be had.
    #[error("cannot start {what}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// Moto did not answer in time.
    #[error("moto does not answer; see {}", .0.display())]
    MotoDown(PathBuf),
    /// The stack could not be made.
    #[error("cannot make the stack")]
    Stack(#[from] StackError),
    /// Moto refused something.
    #[error("moto refused something")]
    Moto(#[from] MotoError),
    /// The user's service does not run.
    #[error("the user's service does not run")]
    DataPlane(#[from] DataPlaneError),
    /// The functions do not run.
    #[error("the functions do not run")]
    Functions(#[from] FunctionsError),
    /// No metrics of the user's service have appeared.
    #[error("the user's service has no metrics after {} s", .0.as_secs())]
    NoMetrics(Duration),
}

/// A running local cloud.
///
/// Several can run at once. Dropping one kills its processes; [`LocalCloud::stop`] ends them in order.
#[derive(Debug)]
pub struct LocalCloud {
    moto: Moto,
    /// The same APIs as a user sees them.
    api: Moto,
    gateway: Gateway,
    functions: Arc<FunctionProcesses>,
    data_plane: DataPlane,
    load: Option<LoadGenerator>,
    moto_process: Process,
    machines: StateMachines,
    /// Ended with the cloud.
    event_bridge: EventBridge,
    logs: PathBuf,
    options: CloudOptions,
}

impl LocalCloud {
    /// Starts everything on free ports and returns when the user's service serves.
    ///
    /// # Errors
    ///
    /// A [`CloudError`] that says which part did not start; everything that did has then been stopped.
    pub async fn start(options: CloudOptions) -> Result<Self, CloudError> {
        let checkout = Checkout::of_this_build();
        let programs = Programs::find(&checkout)?;
        let starting = |what| move |source| CloudError::Start { what, source };
        let logs = new_run(&checkout.runs()).map_err(starting("a folder for logs"))?;
        let undertaker = Undertaker::start().map_err(starting("sh"))?;

        let gateway_port = free_port().map_err(starting("the gateway"))?;
        let moto_port = free_port().map_err(starting("moto"))?;
        let moto_url = format!("http://127.0.0.1:{moto_port}");
        let gateway = Gateway::start(gateway_port, &moto_url)
            .await
            .map_err(starting("the gateway"))?;
        let mut command = Command::new(&programs.moto);
        command
            .args(["-H", "127.0.0.1", "-p", &moto_port.to_string()])
            // Its state machines call Lambda here.
            .env("MOTO_PORT", gateway_port.to_string())
            // It writes local time into answers.
            .env("TZ", "UTC");
        let moto_log = logs.join("moto.log");
        let moto_process = undertaker
            .spawn(command, &moto_log)
            .map_err(starting("moto"))?;
        let client = |url: &str| {
            Moto::new(url, REGION).map_err(|source| CloudError::Start {
                what: "an HTTP client",
                source: std::io::Error::other(source),
            })
        };
        let moto = client(&moto_url)?;
        let api = client(&gateway.endpoint())?;
        // The functions' processes start while moto does.
        let (up, functions) = tokio::join!(
            wait_for_moto(&moto, &moto_log),
            FunctionProcesses::start(
                &undertaker,
                FunctionsConfig {
                    cargo_lambda: &programs.cargo_lambda,
                    workspace: checkout.root(),
                    binaries: checkout.binaries(),
                    logs: &logs,
                    environment: function_environment(&gateway.endpoint()),
                },
            ),
        );
        up?;
        let functions = Arc::new(functions?);
        gateway.invoke_with(Arc::clone(&functions));

        let machines = stack::create(&moto, &checkout).await?;
        if let Some(channels) = &options.notice_channels {
            stack::create_channels(&moto, channels).await?;
        }
        world::create(&moto, options.router).await?;
        let data_plane = DataPlane::start(&DataPlaneConfig {
            moto: moto_url,
            work_dir: logs.join("data-plane"),
            envoy: programs.envoy,
            sample_service: checkout.binaries().join("sample-service"),
            router: options.router,
            metric_period: options.metric_period,
            region: REGION.to_owned(),
            account: ACCOUNT.to_owned(),
        })?;
        gateway.complete_ecs_with(data_plane.runtime());
        gateway.complete_targets_with(data_plane.targets());
        gateway.complete_metrics_with(data_plane.response_times());
        data_plane.wait_until_serving(SERVING_WITHIN).await?;
        let load = (options.requests_per_second > 0).then(|| {
            let rates = LoadOptions {
                requests_per_second: options.requests_per_second,
                slow_requests_per_second: options.slow_requests_per_second,
            };
            LoadGenerator::start(&data_plane.entry_urls(), rates)
        });
        let event_bridge = EventBridge::start(
            &moto,
            &machines,
            gateway.endpoint(),
            options.tells_of_ends,
            options.sweep_every,
            options.notice_channels.is_some().then(|| gateway.bus()),
        );
        let cloud = Self {
            moto,
            api,
            gateway,
            functions,
            data_plane,
            load,
            moto_process,
            machines,
            event_bridge,
            logs,
            options,
        };
        if cloud.load.is_some() && cloud.options.wait_for_metrics {
            cloud.wait_for_metrics().await?;
        }
        Ok(cloud)
    }

    /// Where AWS's APIs are, for `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        self.gateway.endpoint()
    }

    /// Where a caller reaches the user's service; with a load balancer, its first listener.
    pub fn entry_url(&self) -> String {
        let urls = self.data_plane.entry_urls();
        urls.into_iter().next().unwrap_or_default()
    }

    /// What sends the callers' requests to the versions.
    pub fn router(&self) -> LocalRouter {
        self.options.router
    }

    /// The ARN of the state machine that deploys.
    pub fn state_machine(&self) -> &str {
        &self.machines.deployment
    }

    /// The folder of the logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts a deployment.
    ///
    /// # Errors
    ///
    /// When moto refuses to start the execution.
    pub async fn deploy(&self, request: &Value) -> Result<Execution, MotoError> {
        executions::start(&self.moto, &self.machines.deployment, request).await
    }

    /// Follows a deployment to its end and tells `observe` about it twice a second.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn follow(
        &self,
        execution: &Execution,
        observe: impl FnMut(&Progress),
    ) -> Result<Outcome, MotoError> {
        let outcome = executions::follow(&self.moto, execution, observe).await?;
        Ok(self.with_stop(outcome))
    }

    /// Starts a deployment and waits for its end.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn run(&self, request: &Value) -> Result<Outcome, MotoError> {
        let execution = self.deploy(request).await?;
        self.follow(&execution, |_| ()).await
    }

    /// Stops a deployment's execution, as a person may in the console.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn stop_execution(&self, execution: &Execution) -> Result<(), MotoError> {
        executions::stop(&self.moto, execution).await
    }

    /// Looks at a deployment once.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn look(&self, execution: &Execution) -> Result<Look, MotoError> {
        let mut look = executions::look(&self.moto, execution).await?;
        look.outcome = look.outcome.map(|outcome| self.with_stop(outcome));
        Ok(look)
    }

    /// Waits until a deployment enters a state; gives whether it has before its end.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn until_entered(
        &self,
        execution: &Execution,
        state: &str,
    ) -> Result<bool, MotoError> {
        loop {
            let look = self.look(execution).await?;
            let entered = look.progress.has_entered(state);
            if entered || look.outcome.is_some() {
                return Ok(entered);
            }
            tokio::time::sleep(executions::LOOK_EVERY).await;
        }
    }

    /// The outcome of an execution that a function has stopped, with what it said then; moto is asked directly, and has forgotten.
    fn with_stop(&self, mut outcome: Outcome) -> Outcome {
        let stop = self.gateway.stop_of(&outcome.execution.arn);
        if let Some(stop) = stop.filter(|_| outcome.status == "ABORTED") {
            outcome.error = stop.error;
            outcome.cause = stop.cause;
        }
        outcome
    }

    /// Waits until somebody starts the recovery of a deployment, and then for its end; nothing if nobody has started it
    /// within this time.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn recovery_of(
        &self,
        deployment: &Execution,
        within: Duration,
    ) -> Result<Option<Outcome>, MotoError> {
        let since = Instant::now();
        loop {
            let started =
                event_bridge::recovery_of(&self.moto, &self.machines.recovery, deployment).await?;
            if let Some(recovery) = started {
                return self.follow(&recovery, |_| ()).await.map(Some);
            }
            if since.elapsed() > within {
                return Ok(None);
            }
            tokio::time::sleep(executions::LOOK_EVERY).await;
        }
    }

    /// Carries out a command of the AWS CLI that Serin has printed.
    ///
    /// # Errors
    ///
    /// When a shell or the AWS CLI would not understand it, or moto refuses it.
    pub async fn carry_out(&self, command: &str) -> Result<(), CommandError> {
        aws_cli::run(&self.api, command).await.map(drop)
    }

    /// The digest of the image with a tag, as the event of its push has it.
    ///
    /// # Errors
    ///
    /// When there is no such image, or moto does not answer.
    pub async fn digest_of(&self, tag: &str) -> Result<String, MotoError> {
        world::digest_of(&self.moto, tag).await
    }

    /// What has been put on EventBridge's bus so far.
    pub fn events(&self) -> Vec<Event> {
        self.gateway.events()
    }

    /// Waits until every notice that is on the bus has been given to the function that tells it, or could not be; gives whether
    /// that was so within this time.
    pub async fn until_told(&self, within: Duration) -> bool {
        let since = Instant::now();
        while self.event_bridge.told() < self.events().len() {
            if since.elapsed() > within {
                return false;
            }
            tokio::time::sleep(executions::LOOK_EVERY).await;
        }
        true
    }

    /// Every API call and every invocation so far.
    pub fn calls(&self) -> Record {
        self.gateway.record()
    }

    /// Makes a fault when its time comes.
    pub fn inject(&self, fault: Fault) {
        self.gateway.inject(fault);
    }

    /// Makes no more faults.
    pub fn mend(&self) {
        self.gateway.mend();
    }

    /// What the world looks like now.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn world_snapshot(&self) -> Result<WorldSnapshot, MotoError> {
        WorldSnapshot::take(&self.api, self.options.router).await
    }

    /// Takes the scaling of the user's service away, if it has any.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn remove_scaling(&self) -> Result<(), MotoError> {
        world::remove_scaling(&self.moto).await
    }

    /// The share of the traffic that each virtual node or target group gets, in the router's own weights.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn split(&self) -> Result<Vec<(String, u32)>, MotoError> {
        world::split(&self.moto, self.options.router).await
    }

    /// Every item of the ledger, as DynamoDB writes it.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn ledger(&self) -> Result<Vec<Value>, MotoError> {
        stack::ledger(&self.moto).await
    }

    /// What the load has got so far; nothing when the cloud has no load.
    pub fn load(&self) -> LoadStats {
        self.load
            .as_ref()
            .map(LoadGenerator::stats)
            .unwrap_or_default()
    }

    /// What the load has got when every request that is under way now is over.
    pub async fn load_so_far(&self) -> LoadStats {
        let now = Timestamp::now();
        loop {
            let load = self.load();
            if !load.is_waiting_since(now) {
                return load;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The versions that run or ran, with their requests and errors.
    pub fn versions(&self) -> Vec<VersionStats> {
        self.data_plane.versions()
    }

    /// Stops publishing metrics, or goes on with it.
    pub fn pause_metrics(&self, paused: bool) {
        self.data_plane.pause_metrics(paused);
    }

    /// Makes one of so many requests fail in every version, by the fault of something that all of them need; or none.
    ///
    /// # Errors
    ///
    /// When the versions cannot be told.
    pub fn fail_dependency(&self, one_in: Option<u64>) -> std::io::Result<()> {
        self.data_plane.fail_dependency(one_in)
    }

    /// Sends no more requests, or goes on with it.
    pub fn pause_load(&self, paused: bool) {
        if let Some(load) = &self.load {
            load.pause(paused);
        }
    }

    /// The moment of the first metric datapoint since `since` in which a version has 5xx answers. On a mesh `family` is
    /// its task-definition family, on a load balancer how the name of its target group begins.
    ///
    /// # Errors
    ///
    /// When moto does not answer.
    pub async fn first_bad_datapoint(
        &self,
        family: &str,
        since: Timestamp,
    ) -> Result<Option<Timestamp>, MotoError> {
        let answers = self.answers(family, "5", since).await?;
        Ok(answers
            .into_iter()
            .filter(|(_, count)| *count > 0.0)
            .map(|(at, _)| at)
            .min())
    }

    /// Stops everything and waits until nothing is left.
    pub async fn stop(mut self) {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
        self.functions.stop().await;
        self.data_plane.stop().await;
        self.moto_process.stop(GRACE).await;
        if !self.options.keep_logs {
            let _ = std::fs::remove_dir_all(&self.logs);
        }
    }

    /// Waits until the metrics agent has published what stable answered, as it would have long ago in an account.
    async fn wait_for_metrics(&self) -> Result<(), CloudError> {
        let started = Instant::now();
        let limit = self.options.metric_period * 8 + Duration::from_secs(10);
        let since = Timestamp::now();
        while started.elapsed() < limit {
            let datapoints = self.answers(world::SERVICE, "2", since).await?;
            // A check looks only at what is old enough to be complete.
            let complete = Timestamp::now() - self.options.metric_period * 2;
            if datapoints.iter().any(|(at, _)| *at <= complete) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Err(CloudError::NoMetrics(limit))
    }

    /// The datapoints of a version's answers of one class of codes. On a mesh a version is a task-definition family, on
    /// a load balancer the target groups whose names begin with it.
    async fn answers(
        &self,
        version: &str,
        class: &str,
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, f64)>, MotoError> {
        match self.options.router {
            LocalRouter::AppMesh => {
                let dimensions = [
                    ("ClusterName", world::CLUSTER),
                    ("TaskDefinitionFamily", version),
                    ("envoy_http_conn_manager_prefix", "ingress"),
                    ("envoy_response_code_class", class),
                ];
                let metric = (
                    "ECS/ContainerInsights/Prometheus",
                    "envoy_http_downstream_rq_xx",
                );
                self.sums(metric, &dimensions, since).await
            }
            LocalRouter::Alb => {
                let name = format!("HTTPCode_Target_{class}XX_Count");
                let metric = ("AWS/ApplicationELB", name.as_str());
                let mut all = Vec::new();
                for (group, balancer) in self.series_of(version, &name).await? {
                    let dimensions = [("TargetGroup", &*group), ("LoadBalancer", &*balancer)];
                    all.extend(self.sums(metric, &dimensions, since).await?);
                }
                Ok(all)
            }
        }
    }

    /// The series of a metric of target groups whose names begin with a version's; those that are gone have left theirs.
    async fn series_of(
        &self,
        version: &str,
        metric: &str,
    ) -> Result<Vec<(String, String)>, MotoError> {
        let request = json!({"Namespace": "AWS/ApplicationELB", "MetricName": metric});
        let listed = self
            .moto
            .call(Service::CloudWatch, "ListMetrics", &request)
            .await?;
        let dimension = |metric: &Value, name: &str| {
            list(&metric["Dimensions"])
                .find(|each| each["Name"] == name)
                .and_then(|each| each["Value"].as_str().map(ToOwned::to_owned))
        };
        let mut series: Vec<(String, String)> = list(&listed["Metrics"])
            .filter_map(|metric| {
                Some((
                    dimension(metric, "TargetGroup")?,
                    dimension(metric, "LoadBalancer")?,
                ))
            })
            .filter(|(group, _)| group_name(group).starts_with(version))
            .collect();
        series.sort();
        series.dedup();
        Ok(series)
    }

    /// The sums of one series, each with its moment.
    async fn sums(
        &self,
        (namespace, metric): (&str, &str),
        dimensions: &[(&str, &str)],
        since: Timestamp,
    ) -> Result<Vec<(Timestamp, f64)>, MotoError> {
        let period = i64::try_from(self.options.metric_period.as_secs().max(1)).unwrap_or(60);
        // Datapoints are stamped with the beginning of their period, which moto counts from the beginning of the window.
        let begin = since.as_second() / period * period - period;
        let dimensions: Vec<Value> = dimensions
            .iter()
            .map(|(name, value)| json!({"Name": name, "Value": value}))
            .collect();
        let request = json!({
            "StartTime": begin,
            "EndTime": Timestamp::now().as_second() + 60,
            "MetricDataQueries": [{"Id": "answers", "ReturnData": true, "MetricStat": {
                "Stat": "Sum",
                "Period": period,
                "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions},
            }}],
        });
        let answer = self
            .moto
            .call(Service::CloudWatch, "GetMetricData", &request)
            .await?;
        let result = &answer["MetricDataResults"][0];
        let moments = result["Timestamps"].as_array().into_iter().flatten();
        let values = result["Values"].as_array().into_iter().flatten();
        Ok(moments
            .map(executions::moment)
            .zip(values.map(|value| value.as_f64().unwrap_or_default()))
            .collect())
    }
}

/// The programs that `cargo xtask` installed.
struct Programs {
    moto: PathBuf,
    cargo_lambda: PathBuf,
    envoy: PathBuf,
}

impl Programs {
    fn find(checkout: &Checkout) -> Result<Self, CloudError> {
        let installed = |name: &str| {
            let path = checkout.program(name);
            if path.exists() {
                Ok(path)
            } else {
                Err(CloudError::NotInstalled(path))
            }
        };
        Ok(Self {
            moto: installed("moto_server")?,
            cargo_lambda: installed("cargo-lambda")?,
            envoy: installed("envoy")?,
        })
    }
}

/// What the template and Lambda give to every function, with credentials that open nothing.
fn function_environment(endpoint: &str) -> BTreeMap<String, String> {
    let recovery = stack::recovery();
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("SERIN_LEDGER_TABLE", LEDGER_TABLE),
        ("SERIN_RECOVERY", &recovery),
        ("SERIN_NOTICE_CHANNELS", stack::CHANNELS),
        ("SERIN_STATUS", &stack::function("status")),
        ("SERIN_DECIDE", &stack::function("decide")),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn wait_for_moto(moto: &Moto, log: &Path) -> Result<(), CloudError> {
    let up = async {
        while !moto.is_up().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(MOTO_UP_WITHIN, up)
        .await
        .map_err(|_| CloudError::MotoDown(log.to_owned()))
}

/// A folder of its own for each cloud.
fn new_run(runs: &Path) -> std::io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let run = runs.join(format!(
        "{}-{}-{count}",
        Timestamp::now().as_second(),
        std::process::id()
    ));
    std::fs::create_dir_all(&run)?;
    Ok(run)
}

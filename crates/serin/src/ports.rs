//! The four ports: what a deployment needs from the world, cut by need and not by AWS service.
//!
//! Native `async fn`, no `dyn`, no mocks. Every method that changes something is written as *ensure*: called again it finds
//! its work done and changes nothing more. Adapters translate and decide nothing; there are no retry loops in them (the SDK
//! retries briefly, the state machine patiently).
#![expect(
    async_fn_in_trait,
    reason = "the adapters and the steps live in one workspace; Send follows from the concrete types"
)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deployment::{Deployment, Scaling};
use crate::history::{Story, Summary, Wish};
use crate::name::{
    ClusterName, DeploymentId, ExecutionArn, Family, ServiceKey, ServiceName, TaskDefinitionArn,
    VersionId,
};
use crate::notice::Notice;
use crate::progress::{Attachment, TargetGroupUse};
use crate::report::{Ending, Leftover};
use crate::request::{Decision, RouterWish};
use crate::routing::RouterRecord;
use crate::verdict::{Verdict, Window};
use crate::weight::Weight;

/// A call to the world that did not succeed, in as many kinds as somebody acts on differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Too many calls; trying later helps.
    #[error("{call} was throttled: {message}")]
    Throttled {
        /// The operation, as `ECS DescribeServices`.
        call: String,
        /// What was answered.
        message: String,
    },
    /// No answer, or a fault on the other side; whether the call took effect is not known. Trying again helps.
    #[error("{call} did not answer: {message}")]
    Unavailable {
        /// The operation.
        call: String,
        /// What happened.
        message: String,
    },
    /// The function's role may not make this call.
    #[error("{call} is not allowed: {message}")]
    Denied {
        /// The operation.
        call: String,
        /// What was answered.
        message: String,
    },
    /// Understood and refused; trying again does not help.
    #[error("{call} was refused: {message}")]
    Refused {
        /// The operation.
        call: String,
        /// What was answered.
        message: String,
    },
}

/// Gives a step's error enum the four variants' conversion: `AwsThrottled`, `AwsUnavailable`, `AwsDenied`, `AwsRefused`,
/// each holding the sentence.
#[macro_export]
macro_rules! step_error_from_port_error {
    ($error:ident) => {
        impl From<$crate::ports::PortError> for $error {
            fn from(error: $crate::ports::PortError) -> Self {
                use $crate::ports::PortError;
                let sentence = error.to_string();
                match error {
                    PortError::Throttled { .. } => Self::AwsThrottled(sentence),
                    PortError::Unavailable { .. } => Self::AwsUnavailable(sentence),
                    PortError::Denied { .. } => Self::AwsDenied(sentence),
                    PortError::Refused { .. } => Self::AwsRefused(sentence),
                }
            }
        }
    };
}

/// Gives a step's error enum the conversion from [`ShiftError`]: `RouteChangedByOthers` and `WeightNotReadBack`.
#[macro_export]
macro_rules! step_error_from_shift_error {
    ($error:ident) => {
        impl From<$crate::ports::ShiftError> for $error {
            fn from(error: $crate::ports::ShiftError) -> Self {
                use $crate::ports::ShiftError;
                match error {
                    ShiftError::Port(error) => error.into(),
                    ShiftError::ChangedByOthers(sentence) => Self::RouteChangedByOthers(sentence),
                    ShiftError::NotReadBack(sentence) => Self::WeightNotReadBack(sentence),
                }
            }
        }
    };
}

/// Which of the two versions is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Side {
    /// The version that serves now.
    Stable,
    /// The version on trial.
    Canary,
}

/// How far a removal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Nothing is left of it.
    Gone,
    /// It takes time; call again. The text says what is waited for.
    Going(String),
}

/// What was found where a deployment may have left something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Traces(Vec<Trace>);

/// One place where a deployment may have left something, and where something is, or nobody could look.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trace {
    Seen(Leftover),
    Unread { by_name: Leftover, error: PortError },
}

impl Traces {
    /// Adds what a look into one place has found: something, nothing, or that it cannot be looked at, where `by_name` says what
    /// may be there.
    pub fn look(&mut self, by_name: Leftover, found: Result<Option<Leftover>, PortError>) {
        match found {
            Ok(found) => self.0.extend(found.map(Trace::Seen)),
            Err(error) => self.0.push(Trace::Unread { by_name, error }),
        }
    }

    /// The same for a place where there may be several things.
    pub fn look_at_all(&mut self, by_name: Leftover, found: Result<Vec<Leftover>, PortError>) {
        match found {
            Ok(found) => self.0.extend(found.into_iter().map(Trace::Seen)),
            Err(error) => self.0.push(Trace::Unread { by_name, error }),
        }
    }

    /// The same for a place where there is nothing else to say of what is there than its name.
    pub fn look_for(&mut self, by_name: Leftover, there: Result<bool, PortError>) {
        let found = there.map(|there| there.then(|| by_name.clone()));
        self.look(by_name, found);
    }

    /// Adds all that was found elsewhere, and is not known yet.
    pub fn extend(&mut self, others: Self) {
        for other in others.0 {
            if !self.0.contains(&other) {
                self.0.push(other);
            }
        }
    }

    /// What is there.
    ///
    /// # Errors
    /// The first [`PortError`], when it was not possible to look everywhere.
    pub fn certain(self) -> Result<Vec<Leftover>, PortError> {
        let trace = |trace| match trace {
            Trace::Seen(leftover) => Ok(leftover),
            Trace::Unread { error, .. } => Err(error),
        };
        self.0.into_iter().map(trace).collect()
    }

    /// What is there, and what may be where it was not possible to look.
    pub fn at_worst(self) -> Vec<Leftover> {
        let trace = |trace| match trace {
            Trace::Seen(leftover) => leftover,
            Trace::Unread { by_name, error } => Leftover {
                what: format!(
                    "unless it is in order, which could not be seen ({error}): {}",
                    by_name.what
                ),
                ..by_name
            },
        };
        self.0.into_iter().map(trace).collect()
    }
}

// ---------------------------------------------------------------------------------------------------------------- fleet

/// An ECS service as the planner must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDescription {
    /// Its name.
    pub service: ServiceName,
    /// Its ARN.
    pub arn: String,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// `ECS`, `CODE_DEPLOY` or `EXTERNAL`.
    pub controller: String,
    /// `ROLLING`, `BLUE_GREEN`, `LINEAR` or `CANARY`.
    pub strategy: String,
    /// `REPLICA` or `DAEMON`.
    pub scheduling: String,
    /// Whether ECS manages the whole service (ECS Express).
    pub managed_by_ecs: bool,
    /// How many tasks it should have.
    pub desired_count: u32,
    /// How many tasks run.
    pub running_count: u32,
    /// How many ECS deployments are in flight; one when the service is steady.
    pub deployments: usize,
    /// The task definition of the primary deployment.
    pub task_definition: TaskDefinitionArn,
    /// The ARNs of the Cloud Map services in which its tasks are registered.
    pub registries: Vec<String>,
    /// Whether Service Connect gives it a name in the namespace, which a copy cannot share.
    pub service_connect_server: bool,
    /// The service in whose name Serin created it (`cluster/service`), for a canary or a former one.
    pub created_for: Option<String>,
    /// The load balancers' target groups in which its tasks are registered.
    pub target_groups: Vec<TargetGroupUse>,
    /// How many Classic Load Balancers its tasks are registered at.
    pub classic_load_balancers: usize,
    /// What changes its number of tasks by itself.
    pub scaling: Option<Scaling>,
}

/// A task definition as the planner must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDefinitionDescription {
    /// Its ARN.
    pub arn: TaskDefinitionArn,
    /// Its family.
    pub family: Family,
    /// Whether it may still be given to a service; one that was deregistered may not.
    pub active: bool,
    /// Its containers, in order.
    pub containers: Vec<ContainerDescription>,
    /// The container named by `proxyConfiguration`.
    pub proxy_container: Option<String>,
}

/// A container as the planner must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDescription {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whether the task ends with it.
    pub essential: bool,
    /// Its plain environment variables.
    pub environment: BTreeMap<String, String>,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePin {
    /// Named by its digest: `repository@sha256:...`.
    Pinned(String),
    /// Not in Amazon ECR, or in a registry that may not be read; the text says which. The image stays as it was named.
    Unknown(String),
    /// ECR says that there is no such image.
    Missing,
}

/// What a version's ECS service looks like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// There is no such service, or only the record of a deleted one.
    Absent,
    /// It is being deleted.
    Draining {
        /// Tasks that still run.
        running: u32,
    },
    /// It is there.
    Active(Running),
}

impl Observation {
    /// How many tasks it should have; `None` if it is not there, or no longer.
    pub const fn desired(&self) -> Option<u32> {
        match self {
            Self::Active(running) => Some(running.desired),
            Self::Absent | Self::Draining { .. } => None,
        }
    }
}

/// A service that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Tasks that should run.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks of the primary deployment that run.
    pub running_new: u32,
    /// The task definition of the primary deployment.
    pub task_definition: TaskDefinitionArn,
    /// How far the roll-out of the primary deployment is.
    pub rollout: Rollout,
    /// How many ECS deployments are in flight; one when the service is steady.
    pub deployments: usize,
}

impl Running {
    /// Whether every wanted task runs, all of them of the newest task definition, and ECS says that it is finished.
    pub fn is_steady(&self) -> bool {
        self.rollout == Rollout::Completed && self.deployments == 1 && self.running >= self.desired
    }
}

/// How far ECS is with a roll-out (`rolloutState`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// Tasks are being started or stopped.
    InProgress,
    /// All tasks are of the new definition.
    Completed,
    /// ECS gave up; the text is its reason.
    Failed(String),
}

/// A task that has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedTask {
    /// `EssentialContainerExited`, `TaskFailedToStart`, `ServiceSchedulerInitiated`, ...
    pub stop_code: String,
    /// ECS's own words.
    pub reason: String,
    /// The containers that ended with an exit code or a reason.
    pub containers: Vec<StoppedContainer>,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
}

/// A container of a task that has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedContainer {
    /// Its name.
    pub name: String,
    /// Its exit code, when it got as far as running.
    pub exit_code: Option<i32>,
    /// Why it did not start or was killed, when ECS says so.
    pub reason: String,
}

impl StoppedTask {
    /// Whether the task stopped by its own fault, not because ECS or a person wanted it so.
    ///
    /// ECS stops a task that fails its health checks in its scheduler's name; only the reason tells.
    pub fn failed_by_itself(&self) -> bool {
        self.reason.contains("health check")
            || matches!(
                self.stop_code.as_str(),
                "EssentialContainerExited" | "TaskFailedToStart"
            )
    }
}

/// How many of a canary's tasks may fail by themselves before it counts as crashing in a loop. ECS's own circuit breaker
/// waits for ten.
const CRASHES_ALLOWED: usize = 1;

/// What a crash loop looks like in the tasks that stopped: how many failed by themselves, and the first of them with its
/// reason and exit code. `None` while it could still be an accident.
pub fn crash_loop(stopped: &[StoppedTask]) -> Option<String> {
    let mut crashed = stopped.iter().filter(|task| task.failed_by_itself());
    let first = crashed.next()?;
    let crashes = 1 + crashed.count();
    (crashes > CRASHES_ALLOWED).then(|| format!("{crashes} tasks failed; the first: {first}"))
}

impl std::fmt::Display for StoppedTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.reason)?;
        // The container that failed comes first: the others only ended with it.
        let (with_it, failed): (Vec<_>, Vec<_>) = self
            .containers
            .iter()
            .partition(|container| container.exit_code == Some(0));
        for container in failed.into_iter().chain(with_it) {
            write!(f, "; container {}", container.name)?;
            if let Some(code) = container.exit_code {
                write!(f, " exited with code {code}")?;
            }
            if !container.reason.is_empty() {
                write!(f, ": {}", container.reason)?;
            }
        }
        Ok(())
    }
}

/// The tasks of the versions.
pub trait Fleet {
    /// The service, or `None` if the cluster has none of that name (or has no such cluster).
    async fn service(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Option<ServiceDescription>, PortError>;

    /// A task definition by ARN, by `family:revision`, or by family (its newest active revision).
    async fn task_definition(
        &self,
        name: &str,
    ) -> Result<Option<TaskDefinitionDescription>, PortError>;

    /// Names the image by its digest where ECR allows.
    async fn pin_image(&self, image: &str) -> Result<ImagePin, PortError>;

    /// Ensures that nothing takes tasks from stable while the canary has some of its traffic; the number may still grow.
    async fn hold_scale_in(&self, deployment: &Deployment) -> Result<(), PortError>;

    /// Ensures that stable may be scaled in again, if it might before the deployment.
    async fn release_scale_in(&self, deployment: &Deployment) -> Result<(), PortError>;

    /// Ensures the canary's task definition; gives its ARN.
    async fn ensure_canary_definition(
        &self,
        deployment: &Deployment,
        attachment: &Attachment,
    ) -> Result<TaskDefinitionArn, PortError>;

    /// Ensures the canary's ECS service with `tasks` tasks; gives its ARN.
    async fn ensure_canary_service(
        &self,
        deployment: &Deployment,
        definition: &TaskDefinitionArn,
        attachment: &Attachment,
        tasks: u32,
    ) -> Result<String, PortError>;

    /// What a service looks like now.
    async fn observe(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Observation, PortError>;

    /// The tasks of a service that stopped lately (ECS keeps them for about an hour), oldest first.
    async fn stopped_tasks(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
    ) -> Result<Vec<StoppedTask>, PortError>;

    /// Sets how many tasks a service should have.
    async fn resize(
        &self,
        cluster: &ClusterName,
        service: &ServiceName,
        tasks: u32,
    ) -> Result<(), PortError>;

    /// Ensures the revision of stable's family that carries the new version; gives its ARN.
    async fn ensure_promoted_definition(
        &self,
        deployment: &Deployment,
    ) -> Result<TaskDefinitionArn, PortError>;

    /// Tells stable's service to run `definition` with at least `tasks` tasks; changes nothing if it runs it.
    async fn update_stable(
        &self,
        deployment: &Deployment,
        definition: &TaskDefinitionArn,
        tasks: u32,
    ) -> Result<(), PortError>;

    /// Removes the ECS service of one side, its tasks drained first.
    async fn remove_service(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<Removal, PortError>;

    /// Deregisters the task definition of one side: the canary's own, or the one that stable had.
    async fn retire_definition(&self, deployment: &Deployment, side: Side)
    -> Result<(), PortError>;

    /// Deregisters the revision that [`Fleet::ensure_promoted_definition`] made, if stable does not run it.
    async fn retire_promoted_definition(&self, deployment: &Deployment) -> Result<(), PortError>;

    /// What of stable is not as the snapshot says: what its service runs, and the revision that was made for it. The number of its
    /// tasks is not compared: an autoscaler may have changed it with good reason.
    async fn changes(&self, deployment: &Deployment) -> Traces;

    /// What there still is of a side that is to go: its service, its task definition, the suspended scaling in.
    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces;

    /// All that the deployment may leave or change, by name. Makes no call.
    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover>;
}

// --------------------------------------------------------------------------------------------------------------- router

/// Why discovery came to no single answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The call failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// This service cannot be deployed with a canary, and why.
    #[error("{0}")]
    Unsupported(String),
    /// Two answers are possible; the sentence lists them and says which field of the request decides.
    #[error("{0}")]
    Ambiguous(String),
}

/// Why traffic was not shifted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShiftError {
    /// The call failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Somebody else changed a route; nothing was written to it. The sentence has both versions.
    #[error("{0}")]
    ChangedByOthers(String),
    /// The route did not have the weights that had just been written.
    #[error("{0}")]
    NotReadBack(String),
}

/// What giving all the traffic to one side came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// Whether any route had to be written: then what lost its traffic still has to drain.
    pub wrote: bool,
    /// A sentence about each route that others have changed.
    pub edited: Vec<String>,
}

/// Where the traffic goes.
pub trait TrafficRouter {
    /// Finds the router's objects behind stable and takes the snapshot. Changes nothing.
    async fn discover(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        definition: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<RouterRecord, DiscoveryError>;

    /// Ensures the objects that the canary needs to be reached, without giving it traffic.
    async fn prepare(&self, deployment: &Deployment) -> Result<Attachment, ShiftError>;

    /// How many of the canary's tasks the router could send traffic to now.
    async fn healthy_targets(
        &self,
        deployment: &Deployment,
        attachment: &Attachment,
    ) -> Result<u32, PortError>;

    /// How many of a side's tasks the router could send traffic to now, for whoever knows nothing but the plan; none, too,
    /// when that side is not there.
    async fn healthy_targets_of(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<u32, PortError>;

    /// Moves every route from `from` to `to` and reads each back.
    ///
    /// A route that already is at `to` is left alone; one that is at neither was changed by somebody else, and then no route
    /// is written. Gives when the last route got its weights, if the router says: a step that is repeated after a lost answer
    /// would otherwise take its own, earlier or later, time for it.
    async fn shift(
        &self,
        deployment: &Deployment,
        from: Weight,
        to: Weight,
    ) -> Result<Option<Timestamp>, ShiftError>;

    /// Proves that every route still is at `weight`, as it was last written.
    async fn verify(&self, deployment: &Deployment, weight: Weight) -> Result<(), ShiftError>;

    /// Gives all the traffic of both sides to one, for good; writes only to routes that are not so yet.
    ///
    /// The edits of others stay, only the other side's share is moved.
    async fn settle(&self, deployment: &Deployment, on: Side) -> Result<Settled, PortError>;

    /// Removes the router's objects of one side, which has no traffic any more.
    async fn tear_down(&self, deployment: &Deployment, side: Side) -> Result<Removal, PortError>;

    /// What there still is of a side that is to go: the routes that name it, and the objects by which it is reached.
    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces;

    /// All that the deployment may leave or change, by name. Makes no call.
    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover>;
}

// -------------------------------------------------------------------------------------------------------------- signals

/// What an answer of the metrics store said.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Data, complete for the window.
    Value {
        /// The sum of a count, or the worst datapoint of a query.
        value: f64,
        /// On how many datapoints it rests.
        datapoints: usize,
    },
    /// The series has nothing in the window.
    NoData,
    /// The answer is not the whole one: the store says so with a status, or the series stops before the window's end. A
    /// counter that is read regularly has a point in every period, a zero if need be.
    Incomplete(String),
}

/// A reading, and what was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The answer.
    pub reading: Reading,
    /// What was asked, in words that can be pasted into the console.
    pub query: String,
}

/// How many requests a version served and how many of them failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestCounts {
    /// All requests.
    pub requests: Measured,
    /// The failed ones.
    pub errors: Measured,
}

/// How many requests a side served in one interval, and how many of them failed, or were slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// All requests, as the store's sum.
    pub requests: f64,
    /// The failed ones, or the slow ones.
    pub errors: f64,
}

impl Counts {
    /// How many of so many requests were slow, from how many took longer than a threshold and how many did not. A count that is
    /// missing is a zero only where the other one is all of them. `None` when the three do not agree: then the store does not count
    /// what it was asked for, or an answer is missing.
    pub fn of_times(samples: f64, above: Option<f64>, up_to: Option<f64>) -> Option<Self> {
        let all = |count: f64| (count - samples).abs() < 0.5;
        let (above, up_to) = match (above, up_to) {
            (Some(above), Some(up_to)) => (above, up_to),
            (None, Some(up_to)) if all(up_to) => (0.0, up_to),
            (Some(above), None) if all(above) => (above, 0.0),
            _ => return None,
        };
        let agree = (above + up_to - samples).abs() <= (samples * AGREEMENT).max(0.5);
        (samples > 0.0 && agree).then(|| Self {
            requests: samples,
            errors: above.min(samples),
        })
    }
}

/// By which part counts of the same requests may differ. The store keeps times in classes, and may round.
const AGREEMENT: f64 = 0.02;

/// One interval of both sides. `None` is an interval without data, which is not one without errors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// The canary's counts.
    pub canary: Option<Counts>,
    /// Stable's.
    pub stable: Option<Counts>,
    /// The baseline's, when there is one.
    pub baseline: Option<Counts>,
}

/// Both sides' counts over the time in which they are compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Series {
    /// Every interval from the window's start to its end, none left out.
    Intervals(Vec<Interval>),
    /// The answer is not the whole one; the text says why.
    Incomplete(String),
}

/// One metric's values on both sides, each from the start of the time that was asked for, with NaN for gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSeries {
    /// The metric's name.
    pub name: String,
    /// The time from one value to the next, in seconds.
    pub period_seconds: u32,
    /// The canary's values; `None` when there is no such series at all.
    pub canary: Option<Vec<f64>>,
    /// Stable's.
    pub stable: Option<Vec<f64>>,
}

/// The values of several metrics.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesOfMetrics {
    /// All of them, in the order of the configuration.
    Whole(Vec<MetricSeries>),
    /// An answer is not the whole one; the text says whose and why.
    Incomplete(String),
}

/// The times that a check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The step's window, which limits are held against; `None` while there is none.
    pub window: Option<Window>,
    /// The time in which both sides are compared; `None` when they are not.
    pub compared: Option<Window>,
}

impl Times {
    /// Only limits, over this window.
    pub const fn only(window: Window) -> Self {
        Self {
            window: Some(window),
            compared: None,
        }
    }

    /// Whether anything is asked for.
    pub const fn any(self) -> bool {
        self.window.is_some() || self.compared.is_some()
    }
}

/// How the copies that are measured are attached.
#[derive(Debug, Clone, Copy)]
pub struct Copies<'a> {
    /// The canary.
    pub canary: &'a Attachment,
    /// The baseline, when there is one.
    pub baseline: Option<&'a Attachment>,
}

impl<'a> From<&'a Attachment> for Copies<'a> {
    /// The canary alone.
    fn from(canary: &'a Attachment) -> Self {
        Self {
            canary,
            baseline: None,
        }
    }
}

/// What one check measured, with one call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measurements {
    /// The measured side's requests; `None` when the plan has no limit on them.
    pub requests: Option<RequestCounts>,
    /// Stable's requests in the same window, when the canary was measured.
    pub stable_requests: Option<RequestCounts>,
    /// The baseline's requests in the same window, when there is one.
    pub baseline_requests: Option<RequestCounts>,
    /// The latencies of the request's limits, in its order, in milliseconds.
    pub latency: Vec<Measured>,
    /// Stable's in the same window, for the limits with a margin; of the others nothing. Empty when stable itself is measured.
    pub stable_latency: Vec<Measured>,
    /// How many of the measured side's targets fail the router's own health check and go on failing it; `None` if the router says
    /// nothing of it.
    pub unhealthy_targets: Option<Measured>,
    /// The same of the baseline, while it has some traffic.
    pub baseline_unhealthy_targets: Option<Measured>,
    /// The queries of the request, in its order.
    pub queries: Vec<Measured>,
    /// Stable's answers to them, as of its latency.
    pub stable_queries: Vec<Measured>,
    /// Both sides' counts over the time in which they are compared.
    pub compared: Option<Series>,
    /// The same of requests slower than each of the deployment's thresholds, in its order.
    pub slow: Vec<Series>,
    /// The metrics of the request's Kayenta configuration over that time.
    pub kayenta: Option<SeriesOfMetrics>,
}

/// What an alarm says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmReading {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: AlarmState,
    /// CloudWatch's own words.
    pub reason: String,
}

/// An alarm's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmState {
    /// Within its threshold.
    Ok,
    /// Beyond its threshold.
    Alarm,
    /// Not enough data to say.
    InsufficientData,
    /// There is no alarm of that name.
    Missing,
}

/// What is asked of a version's response times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ResponseTimes {
    /// How many were measured.
    Samples,
    /// The time in milliseconds that so many percent of them did not exceed.
    Percentile(f64),
    /// How many exceeded so many milliseconds.
    Above(f64),
    /// How many did not.
    UpTo(f64),
}

/// What can be measured.
pub trait HealthSignals {
    /// Measures the canary and those beside it, or stable, before there is a canary (the pre-flight). One call
    /// counts requests; percentiles and the request's queries are only of the step's window and need a second one, unless
    /// nothing is compared.
    async fn measure(
        &self,
        deployment: &Deployment,
        copies: Option<Copies<'_>>,
        times: Times,
    ) -> Result<Measurements, PortError>;

    /// What stable's response times were in this window, in the order of the questions.
    async fn response_times(
        &self,
        deployment: &Deployment,
        asked: &[ResponseTimes],
        window: Window,
    ) -> Result<Vec<Measured>, PortError>;

    /// The state of the alarms, in the order of the names.
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmReading>, PortError>;
}

// --------------------------------------------------------------------------------------------------------------- ledger

/// What a deployment is doing, as far as others must know.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Phase {
    /// On trial: stable is untouched and can take all the traffic back.
    Running,
    /// Stable is being updated: until that is done, the canary is the only copy known to be healthy.
    Promoting,
    /// The update of stable broke off, and nobody goes on with it: it is put back, or a person decides.
    PromotionStopped,
    /// The new version is the stable one: the traffic goes to where it stays, the rest is removed. There is no way back.
    CleaningUp,
    /// Everything is being put back.
    RollingBack,
    /// Over.
    Ended,
}

impl Phase {
    /// The legal moves. Staying is always legal, since every Lambda may run twice.
    pub fn may_become(self, next: Self) -> bool {
        use Phase::{CleaningUp, Ended, Promoting, PromotionStopped, RollingBack, Running};
        self == next
            || matches!(
                (self, next),
                (Running, Promoting | CleaningUp | RollingBack)
                    | (Promoting, CleaningUp | PromotionStopped)
                    | (PromotionStopped, RollingBack)
                    | (CleaningUp | RollingBack, Ended)
            )
    }
}

/// Who holds a service's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The execution that runs the deployment.
    pub execution: ExecutionArn,
    /// Since when.
    pub since: Timestamp,
}

/// What came of asking for a service's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// It is ours. `bearer` is the ECS service that bears the name now, when a `replace` has changed it.
    Taken {
        /// The ECS service that bears the name.
        bearer: Option<ServiceName>,
    },
    /// Another deployment has it.
    Held(LockHolder),
    /// Nobody has it, but it is not ours to take: another execution waits for it, or a newer one has had it.
    Reserved,
}

/// An execution that deploys a service, or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// The execution.
    pub execution: ExecutionArn,
    /// When it started, which says who is newer.
    pub started_at: Timestamp,
    /// What it deploys, where that is known.
    pub version: Option<VersionId>,
}

impl Contender {
    /// Whether this one came later. Of two that started in the same millisecond one is newer all the same.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let rank = |one: &Self| (one.started_at.as_millisecond(), one.execution.clone());
        rank(self) > rank(other)
    }
}

/// Who deploys a service, and who waits to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Turns {
    /// Who has the lock.
    pub holder: Option<LockHolder>,
    /// Who had the lock last, or has it.
    pub last: Option<Contender>,
    /// Who waits for it.
    pub waiter: Option<Contender>,
}

/// A deployment as the ledger knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerRecord {
    /// The resolved deployment.
    pub deployment: Deployment,
    /// What it is doing.
    pub phase: Phase,
    /// How it ended, once it has. One that needs a person has this ending, and still its phase and its lock.
    pub ending: Option<Ending>,
    /// What a person has to put in order.
    pub left: Vec<Leftover>,
    /// The newer execution for which it had to make room.
    pub superseded_by: Option<ExecutionArn>,
}

/// What Step Functions says of an execution.
#[derive(Debug, Clone, PartialEq, Eq, strum::Display)]
pub enum ExecutionStatus {
    /// It goes on by itself, now or when its redrive begins.
    #[strum(to_string = "RUNNING")]
    Running,
    /// It has ended, in Step Functions' own word: `SUCCEEDED`, `FAILED`, `TIMED_OUT` or `ABORTED`.
    #[strum(to_string = "{0}")]
    Over(String),
    /// It is no longer known; Step Functions forgets after 90 days.
    #[strum(to_string = "no longer known")]
    Forgotten,
}

/// A lock that some execution holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The service.
    pub service: ServiceKey,
    /// Who has it.
    pub holder: LockHolder,
}

/// The durable record of each deployment, and the lock of its service.
pub trait Ledger {
    /// Takes the service's lock for this execution, or says who has it. Taking it twice is taking it once. Nobody gets it while
    /// another waits for it, nor after one that started later.
    async fn lock(
        &self,
        service: &ServiceKey,
        execution: &ExecutionArn,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Result<Lock, PortError>;

    /// Who has the service's lock, and who waits for it.
    async fn turns(&self, service: &ServiceKey) -> Result<Turns, PortError>;

    /// Takes the place of the one execution that waits for the service's lock, also from one that started earlier; gives whether
    /// it did. Taking it twice is taking it once.
    async fn wait(&self, service: &ServiceKey, waiter: &Contender) -> Result<bool, PortError>;

    /// Gives that place back if it is this execution's.
    async fn leave(&self, service: &ServiceKey, execution: &ExecutionArn) -> Result<(), PortError>;

    /// Gives the lock back if it is this execution's.
    async fn unlock(&self, service: &ServiceKey, execution: &ExecutionArn)
    -> Result<(), PortError>;

    /// Records a planned deployment, in [`Phase::Running`]; changes nothing if it is recorded.
    async fn record(&self, deployment: &Deployment) -> Result<(), PortError>;

    /// The record of a deployment; `None` if it never got as far as being planned.
    async fn find(&self, execution: &ExecutionArn) -> Result<Option<LedgerRecord>, PortError>;

    /// What a deployment is doing; `None` if it never got as far as being planned.
    async fn phase(&self, execution: &ExecutionArn) -> Result<Option<Phase>, PortError> {
        Ok(self.find(execution).await?.map(|record| record.phase))
    }

    /// Moves a deployment to `phase`, if [`Phase::may_become`] allows it; otherwise gives the phase that it is in.
    async fn enter(
        &self,
        execution: &ExecutionArn,
        phase: Phase,
    ) -> Result<Result<(), Phase>, PortError>;

    /// Moves a deployment to [`Phase::RollingBack`] because a newer one wants its place, if it is on trial still; gives the phase that
    /// it is in otherwise. Doing it twice is doing it once.
    async fn supersede(
        &self,
        execution: &ExecutionArn,
        by: &ExecutionArn,
    ) -> Result<Result<(), Phase>, PortError>;

    /// Keeps what the check of this number found, for whoever looks later; keeping it twice is keeping it once.
    async fn keep_check(
        &self,
        execution: &ExecutionArn,
        number: u32,
        verdict: &Verdict,
    ) -> Result<(), PortError>;

    /// What a person last wished of a running deployment, for its checks to carry out.
    async fn order(&self, execution: &ExecutionArn) -> Result<Option<Wish>, PortError>;

    /// Keeps a notice in the history of its deployment; keeping it twice is keeping it once.
    async fn keep_notice(&self, notice: &Notice) -> Result<(), PortError>;

    /// Records that a person must finish the deployment, and what is left. It keeps its phase and its lock until somebody has.
    async fn call_a_person(
        &self,
        deployment: &Deployment,
        left: &[Leftover],
        now: Timestamp,
    ) -> Result<(), PortError>;

    /// Takes back that a person must finish the deployment, so that it is recovered again; only once for the same `by`. Gives
    /// whether it did.
    async fn reopen(&self, deployment: &ExecutionArn, by: &ExecutionArn)
    -> Result<bool, PortError>;

    /// Ends a deployment, as promoted or rolled back, and gives the lock back. `bearer` is the ECS service that bears the name
    /// from now on, after a `replace`.
    async fn close(
        &self,
        deployment: &Deployment,
        ending: Ending,
        bearer: Option<&ServiceName>,
        now: Timestamp,
    ) -> Result<(), PortError>;

    /// Every lock that is held now. One that was taken a moment ago may be missing.
    async fn held(&self) -> Result<Vec<HeldLock>, PortError>;

    /// What Step Functions says of an execution.
    async fn execution_status(
        &self,
        execution: &ExecutionArn,
    ) -> Result<ExecutionStatus, PortError>;

    /// Stops an execution, and tells its readers why; does nothing if it has ended.
    async fn stop_execution(&self, execution: &ExecutionArn, why: &str) -> Result<(), PortError>;
}

// ------------------------------------------------------------------------------------------------------------- recovery

/// Who repairs what a dead execution has left.
pub trait Recoveries {
    /// Starts the recovery of a deployment under this name; does nothing if one of that name was started before.
    async fn start(&self, deployment: &ExecutionArn, name: &str) -> Result<(), PortError>;
}

// -------------------------------------------------------------------------------------------------------------- notices

/// Who tells others about a deployment.
pub trait Notices {
    /// Tells a notice to whoever subscribes. Telling it twice is no fault: it has a name.
    async fn tell(&self, notice: &Notice) -> Result<(), PortError>;
}

/// What one channel has had of a deployment's notices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// The notices that it has had, by their names.
    pub had: BTreeSet<String>,
    /// The message that the deployment's others are put under, where the channel has threads.
    pub thread: Option<String>,
    /// The notices that this message has shown.
    pub shown: BTreeSet<String>,
}

/// What a channel got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// The notice, as a message.
    Had,
    /// The notice, as the first message of a thread.
    Opened(&'a str),
    /// The notice's state, in the first message of the thread.
    Shown,
}

/// What the channels have had, so that none has a notice twice because another could not be reached.
pub trait Deliveries {
    /// What a channel has had of a deployment.
    async fn delivered(
        &self,
        execution: &ExecutionArn,
        channel: &str,
    ) -> Result<Delivered, PortError>;

    /// Keeps what the channel got of the notice.
    async fn keep_delivery(
        &self,
        notice: &Notice,
        channel: &str,
        delivery: Delivery<'_>,
    ) -> Result<(), PortError>;

    /// Lets this notice open the deployment's thread in the channel, and no other; gives whether it may.
    async fn open_thread(&self, notice: &Notice, channel: &str) -> Result<bool, PortError>;

    /// Lets another notice open the thread, if this one was to and could not.
    async fn leave_thread(&self, notice: &Notice, channel: &str) -> Result<(), PortError>;

    /// Lets the thread's first message show this notice, unless it is to show a later one; gives whether it may.
    async fn show_in_thread(&self, notice: &Notice, channel: &str) -> Result<bool, PortError>;
}

/// Text that nobody may read but its owner. It is printed as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// This text, from now on a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(...)")
    }
}

/// Where the notice channels are kept, with what opens them.
pub trait ChannelSecret {
    /// The text of the secret.
    async fn read(&self) -> Result<Secret, PortError>;
}

/// Who sends mail, and whatever else subscribes to a topic.
pub trait Topics {
    /// Publishes a message under a subject.
    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), PortError>;
}

// -------------------------------------------------------------------------------------------------------------- history

/// What is kept of every deployment for whoever looks at it later.
pub trait History {
    /// The deployments that began last, the newest first, at most so many.
    async fn recent(&self, most: u16) -> Result<Vec<Summary>, PortError>;

    /// All that was kept of a deployment; empty if nothing was.
    async fn story(&self, execution: &ExecutionArn) -> Result<Story, PortError>;

    /// Keeps the request of an execution as it came; keeping it twice is keeping it once.
    async fn keep_request(
        &self,
        execution: &ExecutionArn,
        request: &Value,
        now: Timestamp,
    ) -> Result<(), PortError>;

    /// Keeps what somebody wished of a deployment; keeping it twice is keeping it once.
    async fn keep_wish(&self, execution: &ExecutionArn, wish: &Wish) -> Result<(), PortError>;
}

// ------------------------------------------------------------------------------------------------------------ decisions

/// How the decision of a person reaches a deployment.
pub trait Decisions {
    /// Keeps the question of a frozen deployment with the token that answers it; a newer question replaces an older one.
    async fn keep_question(&self, question: &Notice) -> Result<(), PortError>;

    /// Answers the question of a frozen deployment; gives whether it was still waiting for an answer.
    async fn answer(&self, execution: &ExecutionArn, decision: Decision)
    -> Result<bool, PortError>;

    /// Leaves what somebody wishes of a running deployment, for its checks to carry out; a newer wish replaces an older one.
    async fn leave_order(&self, execution: &ExecutionArn, wish: &Wish) -> Result<(), PortError>;

    /// Stops an execution, whose end then starts the recovery; does nothing if it has ended.
    async fn stop(&self, execution: &ExecutionArn, why: &str) -> Result<(), PortError>;

    /// Starts an execution under this name that rolls back what a deployment has left; does nothing if one of that name was
    /// started before.
    async fn roll_back(&self, execution: &ExecutionArn, name: &str) -> Result<(), PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_that_failed_is_named_before_those_that_ended_with_it() {
        let container = |name: &str, code| StoppedContainer {
            name: name.into(),
            exit_code: Some(code),
            reason: String::new(),
        };
        let task = StoppedTask {
            stop_code: "EssentialContainerExited".into(),
            reason: "Essential container in task exited".into(),
            containers: vec![container("envoy", 0), container("app", 137)],
            stopped_at: None,
        };
        let sentence = "Essential container in task exited; container app exited with code 137; container envoy exited with code 0";
        assert_eq!(task.to_string(), sentence);
        assert_eq!(
            crash_loop(std::slice::from_ref(&task)),
            None,
            "one may be an accident"
        );
        assert_eq!(
            crash_loop(&[task.clone(), task]),
            Some(format!("2 tasks failed; the first: {sentence}"))
        );
    }

    #[test]
    fn what_could_not_be_looked_at_is_no_certainty_but_is_told_by_its_name() {
        let named = |arn: &str| Leftover {
            arn: arn.into(),
            what: "it is there".into(),
            command: "aws".into(),
        };
        let error = PortError::Denied {
            call: "Cloud Map ListServices".into(),
            message: "no".into(),
        };
        let mut traces = Traces::default();
        traces.look_for(named("gone"), Ok(false));
        traces.look_for(named("there"), Ok(true));
        assert_eq!(traces.clone().certain(), Ok(vec![named("there")]));
        traces.look(named("unread"), Err(error.clone()));
        assert_eq!(traces.clone().certain(), Err(error));
        let told = traces.at_worst();
        assert_eq!(
            told.iter()
                .map(|left| left.arn.as_str())
                .collect::<Vec<_>>(),
            ["there", "unread"]
        );
        assert!(
            told[1].what.contains("ListServices is not allowed"),
            "{}",
            told[1].what
        );
    }

    #[test]
    fn once_the_traffic_is_where_it_stays_there_is_no_way_back() {
        assert!(Phase::Running.may_become(Phase::RollingBack));
        assert!(Phase::PromotionStopped.may_become(Phase::RollingBack));
        assert!(!Phase::CleaningUp.may_become(Phase::RollingBack));
        assert!(!Phase::RollingBack.may_become(Phase::Promoting));
        assert!(!Phase::Ended.may_become(Phase::Running));
    }

    #[test]
    fn a_promotion_is_stopped_before_it_is_taken_back_and_does_not_go_on_then() {
        assert!(!Phase::Promoting.may_become(Phase::RollingBack));
        assert!(Phase::Promoting.may_become(Phase::PromotionStopped));
        assert!(!Phase::PromotionStopped.may_become(Phase::Promoting));
        assert!(!Phase::PromotionStopped.may_become(Phase::CleaningUp));
    }
}

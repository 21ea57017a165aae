//! Validates the request, takes the service's lock, discovers what runs, makes the pre-flight checks and returns the
//! resolved plan. It changes nothing but the ledger, and stops an execution that is superseded; a refused request leaves nothing
//! there either.

mod container;
mod latency;
mod preflight;
mod turn;

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serin::deployment::{Baseline, CanaryVersion, StableVersion};
use serin::name::{baseline_family, baseline_name, canary_family, canary_name};
use serin::ports::{
    DiscoveryError, Fleet, HealthSignals, ImagePin, Ledger, Phase, ServiceDescription, Side,
    TaskDefinitionDescription, TrafficRouter,
};
use serin::report::{self, Leftover};
use serin::request::{self, Faults, IfUnchanged, NewVersion, Request};
use serin::state::Waiting;
use serin::{
    ContainerName, Deployment, DeploymentId, ExecutionArn, ServiceKey, ServiceName, State,
    StepInput, TaskDefinitionArn, step_error_from_port_error,
};

/// Why a request was refused, before anything was created. The names are the state machine's.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum PlanDeploymentError {
    /// The request has faults; the sentence has all of them, each with its path.
    #[error("{0}")]
    InvalidRequest(String),
    /// Another deployment has the service's lock.
    #[error("{0}")]
    AnotherDeploymentInProgress(String),
    /// Another deployment of the service, that runs or waits, deploys the same.
    #[error("{0}")]
    AlreadyDeploying(String),
    /// A newer deployment of the service has taken this one's place.
    #[error("{0}")]
    Superseded(String),
    /// The change window is closed, and the request does not wish to wait, or may not wait so long.
    #[error("{0}")]
    OutsideWindow(String),
    /// It has waited as long as it may.
    #[error("{0}")]
    WaitedTooLong(String),
    /// Stable runs this version already, and the request wishes to be refused then.
    #[error("{0}")]
    NothingChanged(String),
    /// An earlier deployment has left something that a person should have put in order; the sentence lists it.
    #[error("{0}")]
    LeftoversFound(String),
    /// The request wants what an earlier deployment has left removed first, and that is under way; trying again helps.
    #[error("{0}")]
    LeftoversBeingRemoved(String),
    /// The cluster has no such service.
    #[error("{0}")]
    ServiceNotFound(String),
    /// The service is not in a state from which a deployment may start.
    #[error("{0}")]
    ServiceNotSteady(String),
    /// This service cannot be deployed with a canary, and why.
    #[error("{0}")]
    ServiceNotSupported(String),
    /// Discovery found two answers; the sentence lists them and says which field decides.
    #[error("{0}")]
    AmbiguousDiscovery(String),
    /// There is no such image or task definition.
    #[error("{0}")]
    ImageNotFound(String),
    /// The router cannot express a weight of the plan; the sentence has the nearest that it can.
    #[error("{0}")]
    WeightNotExpressible(String),
    /// Stable's own metrics, or a query, answered nothing: the canary's would not either.
    #[error("{0}")]
    MetricsNotFound(String),
    /// An alarm that is to guard the deployment does not exist.
    #[error("{0}")]
    AlarmNotFound(String),
    /// An alarm that is to guard the deployment is in ALARM before it has begun.
    #[error("{0}")]
    AlarmAlreadyFiring(String),
    /// Too many calls.
    #[error("{0}")]
    AwsThrottled(String),
    /// No answer.
    #[error("{0}")]
    AwsUnavailable(String),
    /// The function's role lacks a permission.
    #[error("{0}")]
    AwsDenied(String),
    /// A call was understood and refused.
    #[error("{0}")]
    AwsRefused(String),
}

step_error_from_port_error!(PlanDeploymentError);

impl From<Faults> for PlanDeploymentError {
    fn from(faults: Faults) -> Self {
        Self::InvalidRequest(faults.to_string())
    }
}

impl From<DiscoveryError> for PlanDeploymentError {
    fn from(error: DiscoveryError) -> Self {
        match error {
            DiscoveryError::Port(error) => error.into(),
            DiscoveryError::Unsupported(sentence) => Self::ServiceNotSupported(sentence),
            DiscoveryError::Ambiguous(sentence) => Self::AmbiguousDiscovery(sentence),
        }
    }
}

/// The execution's input as it came, which [`Request::parse`] reads and reports every fault of; or what the planner itself answered
/// when the deployment had to wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawRequest(pub serde_json::Value);

impl RawRequest {
    /// What the planner answered when it was called before.
    fn waiting(&self) -> Option<Waiting> {
        Waiting::deserialize(&self.0).ok()
    }

    /// The request: the input itself, or the `detail` of the EventBridge event that a rule without a transformer hands over.
    fn request(&self) -> Cow<'_, serde_json::Value> {
        match serde_json::from_value::<EventBridgeEvent<serde_json::Value>>(self.0.clone()) {
            Ok(event) => Cow::Owned(event.detail),
            Err(_) => Cow::Borrowed(&self.0),
        }
    }
}

/// What the planner answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Planned {
    /// The deployment begins.
    Begins(Box<State>),
    /// It is not its turn yet; the planner is to be called again.
    Waits(Box<Waiting>),
}

impl Planned {
    /// The state of a deployment that begins.
    pub fn state(self) -> Option<State> {
        match self {
            Self::Begins(state) => Some(*state),
            Self::Waits(_) => None,
        }
    }

    fn begins(deployment: Deployment) -> Self {
        Self::Begins(Box::new(State::planned(deployment)))
    }
}

/// Resolves the request, when it is the deployment's turn.
///
/// # Errors
/// [`PlanDeploymentError`]; after each, nothing is left in the ledger.
pub async fn plan_deployment(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    signals: &impl HealthSignals,
    ledger: &impl Ledger,
    input: StepInput<RawRequest>,
) -> Result<Planned, PlanDeploymentError> {
    let StepInput {
        execution,
        started_at,
        now,
        state,
    } = input;
    let waiting = state.waiting();
    let state = waiting
        .as_ref()
        .map_or(state, |waiting| RawRequest(waiting.request.clone()));
    let request::Read {
        request,
        notes: mut told,
    } = request::read(&state.request())?;
    let key = ServiceKey {
        cluster: request.cluster.clone(),
        service: request.service.clone(),
    };

    // A repetition answers what the ledger keeps, whatever has changed since: there is one snapshot for all steps.
    let planned = ledger.find(&execution).await?;
    if let Some(record) = planned
        .as_ref()
        .filter(|planned| planned.phase != Phase::Running)
    {
        // It has been rolled back meanwhile; the next step finds that too, and does nothing.
        return Ok(Planned::begins(record.deployment.clone()));
    }
    let turns = turn::Turns {
        fleet,
        ledger,
        request: &request,
        key: &key,
        execution: &execution,
        started_at,
        now,
        waited: waiting.as_ref().map(|waiting| &waiting.waiting),
        planned: planned.is_some(),
    };
    let bearer = match turns.take().await? {
        turn::Taken::Now { bearer } => bearer.unwrap_or_else(|| request.service.clone()),
        turn::Taken::Later(turn) => {
            let waiting = Waiting::new(*turn, state.0, started_at, now);
            tracing::info!(service = %key, seconds = waiting.wait_seconds, "waits for {}", waiting.waiting.waits_for);
            return Ok(Planned::Waits(Box::new(waiting)));
        }
    };
    if let Some(record) = planned {
        return Ok(Planned::begins(record.deployment));
    }
    told.extend(turns.note_of_the_override());
    let planner = Planner {
        fleet,
        router,
        signals,
        request: &request,
        told,
        now,
    };
    // The time that it had to wait is not the deployment's own.
    let begins_at = if waiting.is_some() { now } else { started_at };
    match planner
        .resolve(&execution, begins_at, key.clone(), bearer)
        .await
    {
        Ok(deployment) => {
            ledger.record(&deployment).await?;
            tracing::info!(service = %key, canary = %deployment.canary.service, steps = deployment.plan.steps().len(), "planned");
            Ok(Planned::begins(deployment))
        }
        Err(refusal) => {
            // The lock is given back with the refusal; if that fails too, the state machine's rollback tries again.
            ledger.unlock(&key, &execution).await?;
            Err(refusal)
        }
    }
}

struct Planner<'a, F, R, S> {
    fleet: &'a F,
    router: &'a R,
    signals: &'a S,
    request: &'a Request,
    /// What there is to tell of how it was read, and why it may begin.
    told: Vec<String>,
    now: Timestamp,
}

impl<F: Fleet, R: TrafficRouter, S: HealthSignals> Planner<'_, F, R, S> {
    async fn resolve(
        &self,
        execution: &ExecutionArn,
        started_at: Timestamp,
        key: ServiceKey,
        bearer: ServiceName,
    ) -> Result<Deployment, PlanDeploymentError> {
        let request = self.request;
        let service = self.service(&key, &bearer).await?;
        let bearer = service.service.clone();
        let running = self.definition(service.task_definition.as_str()).await?;
        let (source, images, mut notes) = self.new_version(&running).await?;
        self.refuse_unchanged(&running, &source, &images)?;
        let id = DeploymentId::of(execution);
        let router = self
            .router
            .discover(request.router.as_ref(), &service, &running, &id)
            .await?;

        preflight::refuse_replacing(&service, &router, request.finish.mode)?;
        let baseline = request
            .checks
            .judge
            .as_ref()
            .is_some_and(|judge| judge.baseline);
        notes.extend(self.told.iter().cloned());
        let by_tag = running
            .containers
            .iter()
            .filter(|container| !container.image.contains("@sha256:"));
        notes.extend(by_tag.filter(|_| baseline).map(|container| {
            format!(
                "The baseline starts from stable's task definition, whose container {} names the image {} by its tag: if that was pushed again since stable's tasks started, the baseline is not what stable runs.",
                container.name, container.image
            )
        }));
        notes.extend(request.notes());
        notes.extend(router.notes(&request.checks));
        notes.extend(router.other_ways_in(&service).iter().map(|way| {
            format!("What reaches stable through {way} is not shifted; it stays with stable.")
        }));
        let deployment = Deployment {
            canary: CanaryVersion {
                service: ServiceName::new(canary_name(bearer.as_str(), &id, LONGEST_SERVICE_NAME)),
                family: canary_family(&running.family),
                source,
                images,
            },
            baseline: baseline.then(|| Baseline {
                service: ServiceName::new(baseline_name(
                    bearer.as_str(),
                    &id,
                    LONGEST_SERVICE_NAME,
                )),
                family: baseline_family(&running.family),
            }),
            id,
            execution: execution.clone(),
            started_at,
            deadline_at: started_at
                + SignedDuration::from_secs(i64::from(request.deadline_seconds)),
            service: key,
            stable: StableVersion {
                service: bearer,
                service_arn: service.arn,
                task_definition: running.arn,
                family: running.family,
                desired_count: service.desired_count,
                scaling: service.scaling,
            },
            router,
            plan: request.resolve_plan(),
            capacity: request.capacity,
            checks: request.checks.clone(),
            finish: request.finish,
            on_unhealthy: request.on_unhealthy,
            freeze: request.freeze,
            ready_within_seconds: request.ready_within_seconds,
            notes,
            stable_exceeds_limit: false,
            slow_thresholds: Vec::new(),
            may_leave: Vec::new(),
        };
        let deployment = self.with_what_it_may_leave(deployment);
        preflight::refuse_too_large(&deployment)?;
        self.preflight(deployment).await
    }

    /// For the state machine, which can look at nothing: everything by name, and for each the one command that is right whatever has
    /// become of it.
    fn with_what_it_may_leave(&self, mut deployment: Deployment) -> Deployment {
        let mut may_leave: Vec<Leftover> = Vec::new();
        for (deployment, _) in deployment.going_with(Side::Canary) {
            let mut more = self.router.possible_traces(&deployment);
            more.extend(self.fleet.possible_traces(&deployment));
            // What is stable's is named once.
            more.retain(|left| may_leave.iter().all(|known| known.arn != left.arn));
            may_leave.extend(more);
        }
        for left in &mut may_leave {
            left.what = format!("unless it is in order: {}", left.what);
            left.command = deployment.roll_back_command();
        }
        may_leave.push(deployment.unfinished());
        deployment.may_leave = report::at_most(may_leave, report::LONGEST_LIST);
        deployment
    }

    async fn service(
        &self,
        key: &ServiceKey,
        bearer: &ServiceName,
    ) -> Result<ServiceDescription, PlanDeploymentError> {
        let mut service = self.fleet.service(&key.cluster, bearer).await?;
        if service.is_none() && *bearer != key.service {
            // Somebody removed the service that a `replace` had left, and perhaps made one of the old name again.
            service = self.fleet.service(&key.cluster, &key.service).await?;
        }
        let service = service.ok_or_else(|| {
            PlanDeploymentError::ServiceNotFound(format!(
                "cluster {} has no service {bearer}, or there is no such cluster",
                key.cluster
            ))
        })?;
        preflight::refuse_unsupported(&service, key)?;
        preflight::refuse_unsteady(&service)?;
        Ok(service)
    }

    async fn definition(
        &self,
        name: &str,
    ) -> Result<TaskDefinitionDescription, PlanDeploymentError> {
        let definition = self.fleet.task_definition(name).await?;
        definition.ok_or_else(|| {
            PlanDeploymentError::ImageNotFound(format!("there is no task definition {name}"))
        })
    }

    /// A start that no person has thought about may come for what stable runs already. Only digests tell: what a tag meant when
    /// stable's tasks started, it need not mean now.
    fn refuse_unchanged(
        &self,
        running: &TaskDefinitionDescription,
        source: &TaskDefinitionArn,
        images: &BTreeMap<ContainerName, String>,
    ) -> Result<(), PlanDeploymentError> {
        let runs = |(container, image): (&ContainerName, &String)| {
            image.contains("@sha256:")
                && running
                    .containers
                    .iter()
                    .any(|one| one.name == container.as_str() && one.image == *image)
        };
        let unchanged = *source == running.arn && images.iter().all(runs);
        if self.request.if_unchanged == IfUnchanged::Deploy || !unchanged {
            return Ok(());
        }
        Err(PlanDeploymentError::NothingChanged(format!(
            "stable, {}, is this version already; ifUnchanged: deploy deploys it again",
            running.arn
        )))
    }

    /// What the canary copies, and the images that differ from it, each named by its digest where that is possible.
    async fn new_version(
        &self,
        running: &TaskDefinitionDescription,
    ) -> Result<
        (
            TaskDefinitionArn,
            BTreeMap<ContainerName, String>,
            Vec<String>,
        ),
        PlanDeploymentError,
    > {
        let request = self.request;
        let wished = match request.new_version() {
            NewVersion::TaskDefinition(name) => {
                let source = self.definition(&name).await?;
                if !source.active {
                    return Err(PlanDeploymentError::ImageNotFound(format!(
                        "taskDefinition: {} was deregistered; no service can be updated to it",
                        source.arn
                    )));
                }
                container::same_sidecars(running, &source)?;
                return Ok((source.arn, BTreeMap::new(), Vec::new()));
            }
            NewVersion::Image(image) => {
                let wish = request
                    .router
                    .as_ref()
                    .and_then(|router| router.proxy_container.as_deref());
                BTreeMap::from([(
                    container::choose(running, request.container.as_ref(), wish)?,
                    image,
                )])
            }
            NewVersion::Images(images) => {
                container::all_exist(running, images.keys())?;
                images
            }
        };
        let (mut images, mut notes) = (BTreeMap::new(), Vec::new());
        for (container, image) in wished {
            let pinned = match self.fleet.pin_image(&image).await? {
                ImagePin::Pinned(pinned) => pinned,
                ImagePin::Unknown(reason) => {
                    notes.push(format!(
                        "Image {image} is not named by its digest: {reason}."
                    ));
                    image
                }
                ImagePin::Missing => {
                    return Err(PlanDeploymentError::ImageNotFound(format!(
                        "Amazon ECR has no image {image}"
                    )));
                }
            };
            images.insert(container, pinned);
        }
        Ok((running.arn.clone(), images, notes))
    }
}

/// The longest name of an ECS service.
const LONGEST_SERVICE_NAME: usize = 255;

#[cfg(test)]
mod tests;

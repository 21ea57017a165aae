//! Starts the canary beside stable and waits, by being called again, until it is ready.
//!
//! The canary is ready when its roll-out is complete, all its tasks run and the router could send traffic to each of them.
//! A crash loop is recognised from the stopped tasks, after two failed starts, and not from a time-out.

use jiff::Timestamp;
use serin::ports::{
    Fleet, Ledger, Observation, Phase, Rollout, Running, StoppedTask, TrafficRouter, crash_loop,
};
use serin::progress::CreatedCanary;
use serin::{
    Deployment, State, StepInput, step_error_from_port_error, step_error_from_shift_error,
};

/// How long ECS may take until its reads show what was written, in seconds.
const READS_LAG_SECONDS: i64 = 60;

/// Why the canary could not be created. The names are the state machine's.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum CreateCanaryError {
    /// Somebody else changed a route since the deployment was planned.
    #[error("{0}")]
    RouteChangedByOthers(String),
    /// A route did not yet show the canary that had been put into it without traffic; reading again helps.
    #[error("{0}")]
    WeightNotReadBack(String),
    /// Its tasks, or the baseline's, stop by themselves, or ECS gave up.
    #[error("{0}")]
    CanaryNotStarting(String),
    /// It was not ready in the time that the request gives it, or the baseline was not.
    #[error("the canary was not ready within {seconds} seconds: {lacking}")]
    CanaryNotReady {
        /// `readyWithinSeconds`.
        seconds: u32,
        /// What it lacks.
        lacking: String,
    },
    /// Somebody removed it.
    #[error("service {0} is gone: somebody else removed it")]
    CanaryGone(String),
    /// The deployment took too long.
    #[error("the deployment's deadline has passed")]
    DeadlineExceeded,
    /// The ledger says that this deployment is over, or being rolled back: this call came too late.
    #[error("the deployment no longer runs")]
    DeploymentFenced,
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

step_error_from_port_error!(CreateCanaryError);
step_error_from_shift_error!(CreateCanaryError);

impl CreateCanaryError {
    /// The same, with the copy that does not start.
    fn of(self, copy: &str) -> Self {
        match self {
            Self::CanaryNotStarting(why) => {
                Self::CanaryNotStarting(format!("the {copy} does not start: {why}"))
            }
            other => other,
        }
    }
}

/// Ensures the canary and reports whether it is ready.
///
/// # Errors
/// [`CreateCanaryError`]; each leads to the rollback.
pub async fn create_canary(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    ledger: &impl Ledger,
    input: StepInput,
) -> Result<State, CreateCanaryError> {
    let StepInput {
        execution,
        now,
        mut state,
        ..
    } = input;
    if ledger.phase(&execution).await? != Some(Phase::Running) {
        return Err(CreateCanaryError::DeploymentFenced);
    }
    if state.progress.canary.is_none() {
        fleet.hold_scale_in(&state.deployment).await?;
        let canary = create(fleet, router, &state.deployment, now).await?;
        state.progress.canary = Some(canary);
        let canary = &state.deployment.canary.service;
        let sentence = format!("created the canary {canary}");
        state.progress.note(now, sentence);
    }
    let baseline = state.deployment.of_baseline();
    if let (Some(baseline), None) = (&baseline, &state.progress.baseline) {
        let created = create(fleet, router, baseline, now).await?;
        state.progress.baseline = Some(created);
        let sentence = format!("created the baseline {}", baseline.canary.service);
        state.progress.note(now, sentence);
    }

    let mut lacks = None;
    let (canary, fresh) = (&state.progress.canary, &state.progress.baseline);
    let copies = [
        ("canary", Some(&state.deployment), canary),
        ("baseline", baseline.as_ref(), fresh),
    ];
    for (copy, deployment, created) in copies {
        if let Some((deployment, created)) = deployment.zip(created.as_ref()) {
            let lacking = observed(fleet, router, deployment, created, now).await;
            let lacking = lacking.map_err(|error| error.of(copy))?;
            lacks = lacks.or(lacking.map(|lacking| match copy {
                "canary" => lacking,
                _ => format!("the {copy}: {lacking}"),
            }));
        }
    }
    tracing::info!(lacks, "canary observed");
    match lacks {
        None => {
            state
                .progress
                .note(now, "the canary is ready: all tasks run and can be reached");
            Ok(state.done_then_wait(1))
        }
        Some(lacking) => {
            refuse_lateness(&state.deployment, now, lacking)?;
            let seconds = state
                .deployment
                .poll_seconds(state.deployment.started_at, now);
            Ok(state.again_in(seconds))
        }
    }
}

/// What the canary, or the baseline in its place, lacks to be ready; `None` if it is.
async fn observed(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    deployment: &Deployment,
    created: &CreatedCanary,
    now: Timestamp,
) -> Result<Option<String>, CreateCanaryError> {
    let (cluster, service) = (deployment.cluster(), &deployment.canary.service);
    match fleet.observe(cluster, service).await? {
        Observation::Active(tasks) => {
            let stopped = if tasks.is_steady() {
                Vec::new()
            } else {
                fleet.stopped_tasks(cluster, service).await?
            };
            refuse_a_crash_loop(&tasks, &stopped)?;
            let reachable = router
                .healthy_targets(deployment, &created.attachment)
                .await?;
            Ok(lacking(&tasks, reachable))
        }
        // ECS's reads lag behind its writes: a service that has just been created may not be shown yet.
        Observation::Absent
            if now.as_second() - created.created_at.as_second() < READS_LAG_SECONDS =>
        {
            Ok(Some("ECS does not show it yet".to_owned()))
        }
        Observation::Absent | Observation::Draining { .. } => {
            Err(CreateCanaryError::CanaryGone(service.to_string()))
        }
    }
}

/// Makes the canary, or the baseline in its place. The router's objects come before the service: the tasks must never register
/// where stable's do.
async fn create(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<CreatedCanary, CreateCanaryError> {
    let first = deployment.plan.steps()[0].weight_percent;
    let tasks = deployment.tasks_at(first, deployment.stable.desired_count);
    let attachment = router.prepare(deployment).await?;
    let task_definition = fleet
        .ensure_canary_definition(deployment, &attachment)
        .await?;
    let service_arn = fleet
        .ensure_canary_service(deployment, &task_definition, &attachment, tasks)
        .await?;
    Ok(CreatedCanary {
        task_definition,
        service_arn,
        attachment,
        created_at: now,
    })
}

/// What the canary lacks to be ready; `None` if it is.
fn lacking(tasks: &Running, reachable: u32) -> Option<String> {
    if tasks.running < tasks.desired {
        return Some(format!("{} of {} tasks run", tasks.running, tasks.desired));
    }
    if reachable < tasks.desired {
        return Some(format!(
            "all {} tasks run, but only {reachable} can be reached",
            tasks.desired
        ));
    }
    (!tasks.is_steady()).then(|| "all tasks run, but ECS has not completed the roll-out".to_owned())
}

fn refuse_a_crash_loop(tasks: &Running, stopped: &[StoppedTask]) -> Result<(), CreateCanaryError> {
    if let Some(crashes) = crash_loop(stopped) {
        return Err(CreateCanaryError::CanaryNotStarting(crashes));
    }
    match &tasks.rollout {
        Rollout::Failed(reason) => {
            let first = stopped.iter().find(|task| task.failed_by_itself());
            let first = first.map_or_else(String::new, |task| {
                format!("; the first failed task: {task}")
            });
            Err(CreateCanaryError::CanaryNotStarting(format!(
                "ECS gave up: {reason}{first}"
            )))
        }
        Rollout::InProgress | Rollout::Completed => Ok(()),
    }
}

fn refuse_lateness(
    deployment: &Deployment,
    now: Timestamp,
    lacking: String,
) -> Result<(), CreateCanaryError> {
    if deployment.is_overdue(now) {
        return Err(CreateCanaryError::DeadlineExceeded);
    }
    let seconds = deployment.ready_within_seconds;
    if now.as_second() - deployment.started_at.as_second() >= i64::from(seconds) {
        return Err(CreateCanaryError::CanaryNotReady { seconds, lacking });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

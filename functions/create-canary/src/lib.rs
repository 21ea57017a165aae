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
    /// Its tasks stop by themselves, or ECS gave up.
    #[error("the canary does not start: {0}")]
    CanaryNotStarting(String),
    /// It was not ready in the time that the request gives it.
    #[error("the canary was not ready within {seconds} seconds: {lacking}")]
    CanaryNotReady {
        /// `readyWithinSeconds`.
        seconds: u32,
        /// What it lacks.
        lacking: String,
    },
    /// Somebody removed it.
    #[error("the canary's service {0} is gone: somebody else removed it")]
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
    let canary = match state.progress.canary.clone() {
        Some(canary) => canary,
        None => create(fleet, router, &state.deployment, now).await?,
    };
    if state.progress.canary.is_none() {
        state.progress.note(
            now,
            format!("created the canary {}", state.deployment.canary.service),
        );
    }

    let deployment = &state.deployment;
    let lacking = match fleet
        .observe(deployment.cluster(), &deployment.canary.service)
        .await?
    {
        Observation::Active(tasks) => {
            let stopped = if tasks.is_steady() {
                Vec::new()
            } else {
                fleet
                    .stopped_tasks(deployment.cluster(), &deployment.canary.service)
                    .await?
            };
            refuse_a_crash_loop(&tasks, &stopped)?;
            let reachable = router
                .healthy_targets(deployment, &canary.attachment)
                .await?;
            lacking(&tasks, reachable)
        }
        // ECS's reads lag behind its writes: a service that has just been created may not be shown yet.
        Observation::Absent
            if now.as_second() - canary.created_at.as_second() < READS_LAG_SECONDS =>
        {
            Some("ECS does not show the canary's service yet".to_owned())
        }
        Observation::Absent | Observation::Draining { .. } => {
            let service = deployment.canary.service.to_string();
            return Err(CreateCanaryError::CanaryGone(service));
        }
    };
    state.progress.canary = Some(canary);
    tracing::info!(lacking, "canary observed");
    match lacking {
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

/// Stable is kept from shrinking first. The router's objects come before the service: the canary's tasks must never register
/// where stable's do.
async fn create(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<CreatedCanary, CreateCanaryError> {
    let first = deployment.plan.steps()[0].weight_percent;
    let tasks = deployment.tasks_at(first, deployment.stable.desired_count);
    fleet.hold_scale_in(deployment).await?;
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

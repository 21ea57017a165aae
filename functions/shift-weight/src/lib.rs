//! Moves the traffic to the weight of the plan's next step.
//!
//! First it makes sure that the canary has the tasks for that weight. The weight is computed from the step, never from the
//! weight that the route has now, so that running twice shifts once. When a check has found that stable has grown, only the
//! tasks follow, and the weight stays.

use jiff::{SignedDuration, Timestamp};
use serin::ports::{Fleet, Ledger, Observation, Phase, TrafficRouter, crash_loop};
use serin::progress::CreatedCanary;
use serin::request::{Decision, HoldAt};
use serin::state::Next;
use serin::verdict::Outcome;
use serin::{
    Deployment, PortError, State, StepInput, Weight, step_error_from_port_error,
    step_error_from_shift_error,
};
use serin_judge::StepTimes;

/// About how long a new task takes until it serves, in seconds; nothing waits for it, only the comparison takes it for cold.
const START_SECONDS: i64 = 60;

/// Why the traffic was not shifted. The names are the state machine's.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum ShiftWeightError {
    /// Somebody else changed a route since it was last written.
    #[error("{0}")]
    RouteChangedByOthers(String),
    /// A route did not yet have the weights that had been written; reading again helps.
    #[error("{0}")]
    WeightNotReadBack(String),
    /// The canary's service does not exist.
    #[error("service {0} is gone")]
    CanaryGone(String),
    /// The tasks that the next weight needs stop by themselves.
    #[error("{0}")]
    CanaryNotStarting(String),
    /// The canary did not get the tasks for the next weight in the time that the request gives it.
    #[error("{copies} did not get {tasks} tasks that can be reached within {seconds} seconds")]
    CanaryNotReady {
        /// The canary, or it and its baseline.
        copies: &'static str,
        /// How many it needs.
        tasks: u32,
        /// `readyWithinSeconds`.
        seconds: u32,
    },
    /// There is no next step.
    #[error("the plan has no step after step {0}")]
    PlanExhausted(usize),
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

step_error_from_port_error!(ShiftWeightError);
step_error_from_shift_error!(ShiftWeightError);

/// Shifts to the plan's next step, or reports that the canary does not have the tasks for it yet.
///
/// # Errors
/// [`ShiftWeightError`]; each leads to the rollback, the retryable ones after some retries.
pub async fn shift_weight(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    ledger: &impl Ledger,
    input: StepInput,
) -> Result<State, ShiftWeightError> {
    let StepInput {
        execution,
        now,
        mut state,
        ..
    } = input;
    if ledger.phase(&execution).await? != Some(Phase::Running) {
        return Err(ShiftWeightError::DeploymentFenced);
    }
    let deployment = &state.deployment;
    if deployment.is_overdue(now) {
        return Err(ShiftWeightError::DeadlineExceeded);
    }
    if state.next == Some(Next::Resize) {
        return follow_stable(fleet, state, now).await;
    }
    if state.question.is_some() && state.decision.is_none() {
        return hold(router, state, now).await;
    }
    let index = match (state.decision, state.progress.step) {
        (Some(Decision::Promote), Some(_)) => deployment.plan.steps().len() - 1,
        (Some(Decision::Resume), Some(step)) => step,
        (_, step) => step.map_or(0, |step| step + 1),
    };
    let step = *deployment
        .plan
        .step(index)
        .ok_or(ShiftWeightError::PlanExhausted(index))?;

    let tasks = tasks_at(fleet, deployment, step.weight_percent).await?;
    if !copies_have_tasks(fleet, router, &state, step.weight_percent, tasks).await? {
        let since = *state.progress.lacking_since.get_or_insert(now);
        let seconds = state.deployment.ready_within_seconds;
        if now.as_second() - since.as_second() >= i64::from(seconds) {
            let copies = match state.deployment.baseline {
                Some(_) => "the canary, or its baseline,",
                None => "the canary",
            };
            return Err(ShiftWeightError::CanaryNotReady {
                copies,
                tasks,
                seconds,
            });
        }
        let seconds = state.deployment.poll_seconds(since, now);
        return Ok(state.again_in(seconds));
    }
    let written_at = router
        .shift(
            deployment,
            state.progress.weight_percent,
            step.weight_percent,
        )
        .await?;

    tracing::info!(from = %state.progress.weight_percent, to = %step.weight_percent, "weight shifted");
    // A retry runs with the time of the first attempt; the traffic moved when the route was written.
    let shifted_at = written_at.map_or(now, |written_at| written_at.max(now));
    let times = StepTimes {
        shifted_at,
        hold_seconds: step.hold_seconds,
    };
    let seconds = times.next_check_in(&deployment.checks, now);
    let began_anew = state.decision == Some(Decision::Resume);
    let period = state.deployment.checks.period_seconds;
    let baseline = state.deployment.split_at(step.weight_percent).baseline;
    state
        .progress
        .compare(shifted_at, began_anew, period, baseline);
    if let Some(decision) = state.decision {
        let by = if state.unanswered.is_some() {
            "nobody decided in time, so the request's default holds"
        } else {
            "a person decided"
        };
        state.progress.note(now, format!("{by}: {decision}"));
        state.progress.unhealthy_checks = 0;
        state.progress.unhealthy_in_a_row = 0;
        state.question = None;
        state.unanswered = None;
        // The next check promotes without looking; a step that begins anew is judged like any other.
        state.decision = state
            .decision
            .filter(|decision| *decision == Decision::Promote);
    }
    state.progress.lacking_since = None;
    state.progress.step = Some(index);
    state.progress.weight_percent = step.weight_percent;
    state.progress.shifted_at = Some(shifted_at);
    state.progress.note(
        now,
        format!(
            "shifted {} percent of the traffic to the canary",
            step.weight_percent
        ),
    );
    Ok(state.done_then_wait(seconds))
}

/// Holds the frozen canary at the weight that the request wants, which may be a lower one, until somebody has decided.
async fn hold(
    router: &impl TrafficRouter,
    mut state: State,
    now: Timestamp,
) -> Result<State, ShiftWeightError> {
    let deployment = &state.deployment;
    let from = state.progress.weight_percent;
    let wanted = match deployment.freeze.hold_at {
        HoldAt::CurrentStep => from,
        HoldAt::LastHealthyStep => state
            .progress
            .verdicts
            .iter()
            .rev()
            .find(|verdict| verdict.outcome == Outcome::Healthy)
            .map_or(Weight::ZERO, |verdict| verdict.weight_percent),
    };
    // A baseline without tasks must get nothing, and nobody is compared meanwhile: the canary waits without traffic.
    let to = if baseline_may_serve(router, &state, wanted).await? {
        wanted
    } else {
        Weight::ZERO
    };
    if to < from {
        router.shift(deployment, from, to).await?;
        state.progress.weight_percent = to;
    }
    let at = state.progress.weight_percent;
    tracing::info!(%at, "frozen");
    state.progress.note(
        now,
        format!("frozen at {at} percent until somebody decides"),
    );
    Ok(state.done_then_wait(1))
}

/// Whether a baseline that gets traffic at `weight` has a task for it; it may have died.
async fn baseline_may_serve(
    router: &impl TrafficRouter,
    state: &State,
    weight: Weight,
) -> Result<bool, PortError> {
    let gets_traffic = state.deployment.split_at(weight).of_baseline() > Weight::ZERO;
    let baseline = state.deployment.of_baseline().filter(|_| gets_traffic);
    match baseline.zip(state.progress.baseline.as_ref()) {
        None => Ok(true),
        Some((baseline, created)) => {
            let healthy = router
                .healthy_targets(&baseline, &created.attachment)
                .await?;
            Ok(healthy > 0)
        }
    }
}

/// How many tasks the canary needs at `weight`, beside as many as stable should have now.
async fn tasks_at(
    fleet: &impl Fleet,
    deployment: &Deployment,
    weight: Weight,
) -> Result<u32, PortError> {
    let stable = &deployment.stable;
    let observed = fleet.observe(deployment.cluster(), &stable.service).await?;
    let stable_tasks = observed.desired().unwrap_or(stable.desired_count);
    Ok(deployment.tasks_at(weight, stable_tasks))
}

/// Gives the canary the tasks for the weight that it has, and does not wait for them: the check goes on meanwhile.
async fn follow_stable(
    fleet: &impl Fleet,
    mut state: State,
    now: Timestamp,
) -> Result<State, ShiftWeightError> {
    let deployment = &state.deployment;
    let tasks = tasks_at(fleet, deployment, state.progress.weight_percent).await?;
    let (cluster, canary) = (deployment.cluster(), &deployment.canary.service);
    if let Observation::Active(running) = fleet.observe(cluster, canary).await?
        && running.desired < tasks
    {
        fleet.resize(cluster, canary, tasks).await?;
        tracing::info!(tasks, "the canary follows stable");
    }
    if let Some(baseline) = deployment.of_baseline()
        && deployment
            .split_at(state.progress.weight_percent)
            .of_baseline()
            > Weight::ZERO
        && let Observation::Active(running) =
            fleet.observe(cluster, &baseline.canary.service).await?
        && running.desired < tasks
    {
        fleet
            .resize(cluster, &baseline.canary.service, tasks)
            .await?;
    }
    // Also when they had been asked for before, and the answer was lost.
    let serve = now + SignedDuration::from_secs(START_SECONDS);
    state.progress.new_tasks_at.push(serve);
    state.next = None;
    // The check that called for this has said how long to wait for the next one.
    let seconds = state.wait_seconds;
    Ok(state.done_then_wait(seconds))
}

/// Whether all that is to get traffic has `tasks` tasks that can be reached; asks for them where it does not.
async fn copies_have_tasks(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    state: &State,
    weight: Weight,
    tasks: u32,
) -> Result<bool, ShiftWeightError> {
    let (deployment, progress) = (&state.deployment, &state.progress);
    let mut ready = has_tasks(fleet, router, deployment, progress.canary.as_ref(), tasks).await?;
    if let Some(baseline) = deployment.of_baseline()
        && deployment.split_at(weight).of_baseline() > Weight::ZERO
    {
        ready &= has_tasks(fleet, router, &baseline, progress.baseline.as_ref(), tasks).await?;
    }
    Ok(ready)
}

/// Whether the canary, or the baseline in its place, has `tasks` tasks that can be reached; asks for them if it does not.
///
/// No weight goes to a target that has no healthy task, so this is looked at before every shift, not only before the first.
async fn has_tasks(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    deployment: &Deployment,
    created: Option<&CreatedCanary>,
    tasks: u32,
) -> Result<bool, ShiftWeightError> {
    let service = &deployment.canary.service;
    let gone = || ShiftWeightError::CanaryGone(service.to_string());
    let canary = created.ok_or_else(gone)?;
    let Observation::Active(running) = fleet.observe(deployment.cluster(), service).await? else {
        return Err(gone());
    };
    if running.desired < tasks {
        fleet.resize(deployment.cluster(), service, tasks).await?;
        return Ok(false);
    }
    if running.running < tasks {
        let stopped = fleet.stopped_tasks(deployment.cluster(), service).await?;
        return crash_loop(&stopped).map_or(Ok(false), |crashes| {
            Err(ShiftWeightError::CanaryNotStarting(format!(
                "{service} does not start: {crashes}"
            )))
        });
    }
    Ok(router
        .healthy_targets(deployment, &canary.attachment)
        .await?
        >= tasks)
}

#[cfg(test)]
mod tests;

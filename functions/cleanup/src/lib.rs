//! After success: makes the new version the stable one and removes what is no longer needed.
//!
//! `promote` updates the original service while the canary carries the traffic, gives the traffic back and removes the
//! canary. `replace` lets the canary stay and removes the original. Both go step by step, by being called again.
//!
//! From the moment stable is touched, the canary is the only copy that is known to be healthy: an error from here on never
//! takes its traffic away. The rollback step learns that from the ledger's phase.

use jiff::Timestamp;
use serin::ports::{Fleet, Ledger, Observation, Phase, Removal, Rollout, Side, TrafficRouter};
use serin::progress::{Attachment, CleanupProgress};
use serin::report::{Ending, Report};
use serin::request::FinishMode;
use serin::weight::Weight;
use serin::{
    Deployment, State, StepInput, step_error_from_port_error, step_error_from_shift_error,
};

/// How long ECS may take until its reads show what was written, in seconds.
const READS_LAG_SECONDS: i64 = 60;
/// How long the update of stable may take at least, in seconds; longer if the request gives the canary longer, and by what
/// the router drains.
const LONGEST_UPDATE_SECONDS: i64 = 3600;

/// Why the clean-up did not succeed. The names are the state machine's.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum CleanupError {
    /// Somebody else changed a route since it was last written; stable was not touched.
    #[error("{0}")]
    RouteChangedByOthers(String),
    /// A route could not be read as it had been written; reading again helps.
    #[error("{0}")]
    WeightNotReadBack(String),
    /// Stable could not be updated to the new version; the canary keeps the traffic.
    #[error("stable could not be updated to the new version: {0}")]
    PromotionFailed(String),
    /// The canary did not get as many tasks as stable has in the time that the request gives it; stable was not touched.
    #[error("the canary did not get {tasks} tasks that can be reached within {seconds} seconds")]
    CanaryNotReady {
        /// How many it needs.
        tasks: u32,
        /// `readyWithinSeconds`.
        seconds: u32,
    },
    /// The canary's service does not exist.
    #[error("the canary's service {0} is gone")]
    CanaryGone(String),
    /// The traffic is where it stays, but something that is no longer needed does not go away.
    #[error("the traffic is where it stays, but a removal takes too long: {0}")]
    RemovalStuck(String),
    /// The deployment took too long; stable was not touched.
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

step_error_from_port_error!(CleanupError);
step_error_from_shift_error!(CleanupError);

/// One call's way through the clean-up; the next part that is not done yet decides.
///
/// # Errors
/// [`CleanupError`]; each leads to the rollback step, which puts everything back only if stable was not touched.
pub async fn cleanup(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    ledger: &impl Ledger,
    input: StepInput,
) -> Result<State, CleanupError> {
    let StepInput { now, state, .. } = input;
    let step = Cleanup {
        fleet,
        router,
        ledger,
        now,
    };
    let before = state.clone();
    let cleanup = state.progress.cleanup.clone().unwrap_or_default();
    let done = match (state.deployment.finish.mode, cleanup.traffic_settled_at) {
        (_, Some(settled_at)) => step.remove_what_is_not_needed(state, settled_at).await,
        (FinishMode::Promote, None) => match cleanup.promoted {
            None => step.update_stable(state).await,
            Some(_) => step.give_traffic_back(state).await,
        },
        (FinishMode::Replace, None) => step.give_traffic_to_canary(state).await,
    };
    match done {
        Err(error @ (CleanupError::AwsDenied(_) | CleanupError::AwsRefused(_))) => {
            step.try_again(before, error)
        }
        done => {
            let mut state = done?;
            if let Some(cleanup) = &mut state.progress.cleanup {
                cleanup.refused_since = None;
            }
            Ok(state)
        }
    }
}

struct Cleanup<'a, F, R, L> {
    fleet: &'a F,
    router: &'a R,
    ledger: &'a L,
    now: Timestamp,
}

impl<F: Fleet, R: TrafficRouter, L: Ledger> Cleanup<'_, F, R, L> {
    /// Once stable has been touched there is no safe way back, so what is refused is tried again for a while.
    fn try_again(&self, mut state: State, error: CleanupError) -> Result<State, CleanupError> {
        let Some(cleanup) = &mut state.progress.cleanup else {
            return Err(error);
        };
        let since = *cleanup.refused_since.get_or_insert(self.now);
        let Some(seconds) = state.deployment.try_again_in(since, self.now) else {
            return Err(error);
        };
        tracing::warn!(%error, "refused, and tried again");
        Ok(state.again_in(seconds))
    }

    /// Promote, part one: the last look at the routes before stable is touched, then the update.
    async fn update_stable(&self, mut state: State) -> Result<State, CleanupError> {
        let deployment = &state.deployment;
        if self.ledger.phase(&deployment.execution).await? == Some(Phase::Running) {
            if deployment.is_overdue(self.now) {
                return Err(CleanupError::DeadlineExceeded);
            }
            self.router
                .verify(deployment, state.progress.weight_percent)
                .await?;
        }
        let tasks = self.tasks_to_promote(&state).await?;
        self.enter(&state, Phase::Promoting).await?;
        let promoted = self.fleet.ensure_promoted_definition(deployment).await?;
        self.fleet
            .update_stable(deployment, &promoted, tasks)
            .await?;

        state.progress.note(
            self.now,
            format!("updated {} to {promoted}", deployment.stable.service),
        );
        state.progress.cleanup = Some(CleanupProgress {
            promoted: Some(promoted),
            updated_at: Some(self.now),
            ..CleanupProgress::default()
        });
        let seconds = state.deployment.poll_seconds(self.now, self.now);
        Ok(state.again_in(seconds))
    }

    /// How many tasks stable needs, so that the traffic that comes back finds no fewer than serve it now.
    async fn tasks_to_promote(&self, state: &State) -> Result<u32, CleanupError> {
        let deployment = &state.deployment;
        let (stable, canary) = (&deployment.stable, &deployment.canary.service);
        let cluster = deployment.cluster();
        let stable_now = self.fleet.observe(cluster, &stable.service).await?;
        let canary_now = self.fleet.observe(cluster, canary).await?;
        Ok(deployment.tasks_to_promote(
            stable_now.desired().unwrap_or(stable.desired_count),
            canary_now.desired().unwrap_or(0),
        ))
    }

    /// Promote, part two: as soon as stable runs the new version and can be reached, it gets all the traffic.
    async fn give_traffic_back(&self, mut state: State) -> Result<State, CleanupError> {
        let deployment = &state.deployment;
        let stable = &deployment.stable.service;
        let cleanup = state.progress.cleanup.clone().unwrap_or_default();
        let updated_at = cleanup.updated_at.unwrap_or(self.now);
        let updating = self.now.as_second() - updated_at.as_second();
        let tasks = match self.fleet.observe(deployment.cluster(), stable).await? {
            Observation::Active(tasks) => tasks,
            Observation::Absent | Observation::Draining { .. } => {
                return Err(CleanupError::PromotionFailed(format!(
                    "service {stable} is gone"
                )));
            }
        };
        if Some(&tasks.task_definition) != cleanup.promoted.as_ref() {
            // ECS's reads lag behind its writes: the old definition may be an old answer.
            if tasks.task_definition == deployment.stable.task_definition
                && updating < READS_LAG_SECONDS
            {
                let seconds = deployment.poll_seconds(updated_at, self.now);
                return Ok(state.again_in(seconds));
            }
            let now_runs = format!("service {stable} went to {}", tasks.task_definition);
            return Err(CleanupError::PromotionFailed(now_runs));
        }
        if let Rollout::Failed(reason) = &tasks.rollout {
            return Err(CleanupError::PromotionFailed(reason.clone()));
        }
        if !tasks.is_steady()
            || !self
                .can_be_reached(
                    &state,
                    &deployment.router.stable_attachment(),
                    // Whoever scales it to nothing now must not get it the traffic.
                    tasks.desired.max(1),
                )
                .await?
        {
            // Not the deadline: a healthy new version just before it must not become a half-updated stable.
            // ECS's update is over when the old tasks have gone, and these drain first.
            let longest = LONGEST_UPDATE_SECONDS.max(i64::from(deployment.ready_within_seconds))
                + i64::from(deployment.router.longest_drain_seconds());
            if updating >= longest {
                let so_far = format!(
                    "{} of {} tasks run the new version after {updating} seconds",
                    tasks.running_new, tasks.desired
                );
                return Err(CleanupError::PromotionFailed(so_far));
            }
            let seconds = deployment.poll_seconds(updated_at, self.now);
            return Ok(state.again_in(seconds));
        }
        self.settle(&mut state, Side::Stable).await?;
        let seconds = state.deployment.drain_seconds();
        Ok(state.again_in(seconds))
    }

    /// Replace: the canary gets as many tasks as stable has, then all the traffic, for good.
    async fn give_traffic_to_canary(&self, mut state: State) -> Result<State, CleanupError> {
        let deployment = &state.deployment;
        let canary = &deployment.canary.service;
        let gone = || CleanupError::CanaryGone(canary.to_string());
        let phase = self.ledger.phase(&deployment.execution).await?;
        if phase == Some(Phase::Running) {
            if deployment.is_overdue(self.now) {
                return Err(CleanupError::DeadlineExceeded);
            }
            let attachment = state
                .progress
                .canary
                .as_ref()
                .map(|canary| canary.attachment.clone())
                .ok_or_else(gone)?;
            let Observation::Active(tasks) =
                self.fleet.observe(deployment.cluster(), canary).await?
            else {
                return Err(gone());
            };
            let stable = &deployment.stable;
            let stable_now = self
                .fleet
                .observe(deployment.cluster(), &stable.service)
                .await?;
            let stable_tasks = stable_now.desired().unwrap_or(stable.desired_count);
            let needed = deployment
                .tasks_at(Weight::FULL, stable_tasks)
                .max(stable_tasks);
            if tasks.desired < needed {
                self.fleet
                    .resize(deployment.cluster(), canary, needed)
                    .await?;
            }
            if tasks.running < needed || !self.can_be_reached(&state, &attachment, needed).await? {
                let seconds = deployment.ready_within_seconds;
                let since = *state.progress.lacking_since.get_or_insert(self.now);
                if self.now.as_second() - since.as_second() >= i64::from(seconds) {
                    return Err(CleanupError::CanaryNotReady {
                        tasks: needed,
                        seconds,
                    });
                }
                let seconds = state.deployment.poll_seconds(since, self.now);
                return Ok(state.again_in(seconds));
            }
            self.router
                .verify(deployment, state.progress.weight_percent)
                .await?;
        }
        self.settle(&mut state, Side::Canary).await?;
        let seconds = state.deployment.drain_seconds();
        Ok(state.again_in(seconds))
    }

    /// The side that has lost its traffic goes, once Envoys have heard of it and requests in flight have ended.
    async fn remove_what_is_not_needed(
        &self,
        mut state: State,
        settled_at: Timestamp,
    ) -> Result<State, CleanupError> {
        let deployment = &state.deployment;
        match self.ledger.phase(&deployment.execution).await? {
            Some(Phase::CleaningUp) => {}
            // A recovery has finished it, or this is the repetition of the last call, whose end may have been recorded without the
            // lock being given back: nothing else of what comes now is ours to touch.
            Some(Phase::Ended) => {
                self.close(deployment).await?;
                return Ok(promoted(state));
            }
            _ => return Err(CleanupError::DeploymentFenced),
        }
        let drained_at = settled_at.as_second() + i64::from(deployment.drain_seconds());
        if let Ok(seconds @ 1..) = u32::try_from(drained_at - self.now.as_second()) {
            return Ok(state.again_in(seconds));
        }
        let side = match deployment.finish.mode {
            FinishMode::Promote => Side::Canary,
            FinishMode::Replace => Side::Stable,
        };
        // A route that somebody else, or a late call, gave back to this side meanwhile would otherwise send its traffic to nothing.
        let keep = match side {
            Side::Canary => Side::Stable,
            Side::Stable => Side::Canary,
        };
        let settled = self.router.settle(deployment, keep).await?;
        if settled.wrote {
            self.settled(&mut state, keep, settled.edited);
            let seconds = state.deployment.drain_seconds();
            return Ok(state.again_in(seconds));
        }
        let mut removals = Removal::Gone;
        for (deployment, side) in deployment.going_with(side) {
            let mut one = self.fleet.remove_service(&deployment, side).await?;
            if one == Removal::Gone {
                one = self.router.tear_down(&deployment, side).await?;
            }
            if removals == Removal::Gone {
                removals = one;
            }
        }
        if let Removal::Going(what) = removals {
            if deployment.is_removal_stuck(settled_at, self.now) {
                return Err(CleanupError::RemovalStuck(what));
            }
            let seconds = deployment.poll_seconds(settled_at, self.now);
            return Ok(state.again_in(seconds));
        }
        for (deployment, side) in deployment.going_with(side) {
            self.fleet.retire_definition(&deployment, side).await?;
        }
        if let Some(seconds) = deployment.hold_scale_in_for(settled_at, self.now) {
            return Ok(state.again_in(seconds));
        }
        self.fleet.release_scale_in(deployment).await?;
        self.close(deployment).await?;
        state
            .progress
            .note(self.now, format!("removed what the {side} had"));
        Ok(promoted(state))
    }

    async fn close(&self, deployment: &Deployment) -> Result<(), CleanupError> {
        let bearer = deployment.bearer_after(Ending::Promoted);
        let closed = self
            .ledger
            .close(deployment, Ending::Promoted, bearer, self.now)
            .await;
        Ok(closed?)
    }

    /// The ledger first: a rollback that comes in between finishes this, and does not give the traffic back.
    async fn settle(&self, state: &mut State, on: Side) -> Result<(), CleanupError> {
        self.enter(state, Phase::CleaningUp).await?;
        let settled = self.router.settle(&state.deployment, on).await?;
        tracing::info!(%on, edited = settled.edited.len(), "traffic settled");
        self.settled(state, on, settled.edited);
        Ok(())
    }

    fn settled(&self, state: &mut State, on: Side, edited: Vec<String>) {
        state.progress.note(
            self.now,
            format!("gave all the traffic to the {on} side, for good"),
        );
        for sentence in edited {
            state.progress.note(self.now, sentence);
        }
        let cleanup = state.progress.cleanup.get_or_insert_default();
        cleanup.traffic_settled_at = Some(self.now);
    }

    async fn can_be_reached(
        &self,
        state: &State,
        attachment: &Attachment,
        tasks: u32,
    ) -> Result<bool, CleanupError> {
        Ok(self
            .router
            .healthy_targets(&state.deployment, attachment)
            .await?
            >= tasks)
    }

    async fn enter(&self, state: &State, phase: Phase) -> Result<(), CleanupError> {
        self.ledger
            .enter(&state.deployment.execution, phase)
            .await?
            .map_err(|_| CleanupError::DeploymentFenced)
    }
}

fn promoted(state: State) -> State {
    let deployment = &state.deployment;
    let (stable, canary) = (&deployment.stable.service, &deployment.canary.service);
    let why = match deployment.finish.mode {
        FinishMode::Promote => {
            format!("every step was judged; {stable} runs the new version")
        }
        FinishMode::Replace => {
            format!("every step was judged; {canary} has replaced {stable}")
        }
    };
    let report = Report::of(&state.progress, Ending::Promoted, why);
    state.ended(report)
}

#[cfg(test)]
mod tests;

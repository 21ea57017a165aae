//! After failure: gives stable all the traffic, then removes the canary and proves that no trace is left.
//!
//! The traffic comes first, in one call; then Envoys get time to hear of it; then what was created is removed, newest
//! first. Everything may already be missing. When stable can no longer take the traffic, because its update had begun, the
//! canary keeps it and a person is called; when the new version already is the stable one, only the removal is finished.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serin::ports::{
    Fleet, Ledger, LedgerRecord, Observation, Phase, Removal, Settled, Side, TrafficRouter,
};
use serin::progress::RollbackProgress;
use serin::report::{Ending, Leftover, Report};
use serin::request::FinishMode;
use serin::state::{Failure, Next};
use serin::weight::Weight;
use serin::{
    ClusterName, Deployment, ExecutionArn, Progress, ServiceKey, ServiceName, State, StepInput,
    step_error_from_port_error,
};

/// Why the rollback did not get further. The names are the state machine's; a rollback that fails for good needs a person.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum RollbackError {
    /// Nothing is known of the deployment that is to be rolled back.
    #[error(
        "the ledger knows no deployment of the execution {0}; a lock that it may have left is taken over by the next deployment of the service"
    )]
    DeploymentUnknown(ExecutionArn),
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

step_error_from_port_error!(RollbackError);

/// The state as the rollback finds it: whole, or the bare request when the planning itself broke off, or the wish of a person
/// to roll back a deployment whose execution has ended. Unlike elsewhere, unknown fields are no fault here: a rollback must
/// not fail over its input.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Found {
    /// The resolved deployment.
    pub deployment: Option<Deployment>,
    /// How far it was.
    pub progress: Option<Progress>,
    /// What the last check called for.
    pub next: Option<Next>,
    /// The error that led here.
    pub failure: Option<Failure>,
    /// The execution that a person wants rolled back.
    pub roll_back: Option<ExecutionArn>,
    /// The request, when it came within an EventBridge event.
    pub detail: Option<serde_json::Value>,
    /// The request's cluster.
    pub cluster: Option<serde_json::Value>,
    /// The request's service.
    pub service: Option<serde_json::Value>,
}

/// What the state machine gets back.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Undone {
    /// The state of a deployment that was planned.
    Planned(Box<State>),
    /// There was no deployment yet.
    #[serde(rename_all = "camelCase")]
    Nothing {
        /// Always true.
        done: bool,
        /// Always rolled back: nothing had been created.
        ending: Ending,
        /// The report as text.
        cause: String,
        /// The whole story.
        report: Box<Report>,
    },
}

/// One call's way through the rollback; the next part that is not done yet decides.
///
/// # Errors
/// [`RollbackError`], retried for long by the state machine.
pub async fn rollback(
    fleet: &impl Fleet,
    router: &impl TrafficRouter,
    ledger: &impl Ledger,
    input: StepInput<Found>,
) -> Result<Undone, RollbackError> {
    let StepInput {
        execution,
        now,
        state: found,
        ..
    } = input;
    let planned = found
        .deployment
        .as_ref()
        .map(|deployment| deployment.execution.clone());
    let wanted = found.roll_back.clone().or(planned).unwrap_or(execution);
    let recorded = ledger.find(&wanted).await?;
    let step = Rollback {
        fleet,
        router,
        ledger,
        now,
        recorded: recorded.is_some(),
        by_hand: found.progress.is_none(),
    };
    let Some(record) = recorded.or_else(|| unrecorded(&found)) else {
        return nothing_was_planned(ledger, wanted, &found).await;
    };
    let state = State {
        progress: found.progress.unwrap_or_default(),
        failure: found.failure,
        next: found.next,
        ..State::planned(record.deployment)
    };
    let undone = match record.phase {
        Phase::Running | Phase::RollingBack => step.put_everything_back(state.clone()).await,
        Phase::Promoting => step.put_back_if_stable_is_untouched(state.clone()).await,
        Phase::CleaningUp => step.finish_cleaning_up(state.clone()).await,
        Phase::Ended => step.close_again(state.clone(), record.ending).await,
    };
    let state = match undone {
        // Trying again does not help: a person has to, and is told all that is known.
        Err(error @ (RollbackError::AwsDenied(_) | RollbackError::AwsRefused(_))) => {
            step.give_up(state, record.phase, error).await
        }
        undone => undone?,
    };
    Ok(Undone::Planned(Box::new(state)))
}

struct Rollback<'a, F, R, L> {
    fleet: &'a F,
    router: &'a R,
    ledger: &'a L,
    now: Timestamp,
    /// Whether the ledger knows the deployment.
    recorded: bool,
    /// Whether a person started this, so that nothing is known of how far the deployment was.
    by_hand: bool,
}

impl<F: Fleet, R: TrafficRouter, L: Ledger> Rollback<'_, F, R, L> {
    async fn put_everything_back(&self, state: State) -> Result<State, RollbackError> {
        match state.progress.rollback.clone() {
            None => self.give_traffic_back(state).await,
            Some(rollback) => {
                self.remove_the_canary(state, rollback.traffic_returned_at)
                    .await
            }
        }
    }

    async fn put_back_if_stable_is_untouched(&self, state: State) -> Result<State, RollbackError> {
        if self.stable_is_as_it_was(&state.deployment).await? {
            self.put_everything_back(state).await
        } else {
            Ok(leave_stable_to_a_person(state))
        }
    }

    async fn give_traffic_back(&self, state: State) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        // The ledger is told first, so that a shift that still runs somewhere finds the deployment fenced; that costs one
        // call before the traffic.
        let entered = self
            .ledger
            .enter(&deployment.execution, Phase::RollingBack)
            .await?;
        if let (Err(phase), true) = (entered, self.recorded) {
            let sentence = format!("the deployment went on to {phase} meanwhile");
            return Err(RollbackError::AwsUnavailable(sentence));
        }
        let carries_traffic = self.by_hand || state.progress.weight_percent > Weight::ZERO;
        if carries_traffic
            && self
                .stable_is_dead_and_the_canary_is_not(deployment)
                .await?
        {
            let left = self.router.commands_to_stable(deployment);
            let why = format!(
                "stable has no running task, so the canary keeps its traffic ({})",
                why(&state)
            );
            return Ok(needs_attention(state, why, left));
        }
        self.settle(state, Side::Stable).await
    }

    async fn settle(&self, state: State, on: Side) -> Result<State, RollbackError> {
        let settled = self.router.settle(&state.deployment, on).await?;
        Ok(self.settled(state, on, settled))
    }

    fn settled(&self, mut state: State, on: Side, settled: Settled) -> State {
        tracing::info!(%on, edited = settled.edited.len(), "traffic settled");
        state
            .progress
            .note(self.now, format!("gave all the traffic to {on}"));
        for sentence in settled.edited {
            state.progress.note(self.now, sentence);
        }
        if on == Side::Stable {
            state.progress.weight_percent = Weight::ZERO;
        }
        state.progress.rollback = Some(RollbackProgress {
            traffic_returned_at: self.now,
        });
        let seconds = state.deployment.drain_seconds();
        state.again_in(seconds)
    }

    /// Whether what has lost its traffic has been going for so long that a person must look.
    fn is_stuck(&self, state: &State) -> bool {
        let since = state.progress.rollback.as_ref();
        since.is_some_and(|since| {
            state
                .deployment
                .is_removal_stuck(since.traffic_returned_at, self.now)
        })
    }

    /// Newest first: the service, then its task definition, then what the router made for it.
    async fn remove_the_canary(
        &self,
        state: State,
        since: Timestamp,
    ) -> Result<State, RollbackError> {
        let (state, going) = self.remove(state, Side::Canary, since).await?;
        if going.is_some() && !self.is_stuck(&state) {
            return Ok(state);
        }
        let deployment = &state.deployment;
        self.fleet.retire_promoted_definition(deployment).await?;
        if going.is_none()
            && let Some(seconds) = deployment.hold_scale_in_for(since, self.now)
        {
            return Ok(state.again_in(seconds));
        }
        self.fleet.release_scale_in(deployment).await?;
        let mut left = self.router.traces(deployment).await?;
        left.extend(self.fleet.traces(deployment).await?);
        let why = why(&state);
        if !left.is_empty() {
            return Ok(needs_attention(state, why, left));
        }
        self.ledger
            .close(deployment, Ending::RolledBack, None, self.now)
            .await?;
        let mut state = state;
        state
            .progress
            .note(self.now, "removed the canary; everything is as it was");
        let report = Report {
            error: error_of(&state),
            ..Report::of(&state.progress, Ending::RolledBack, why)
        };
        Ok(state.ended(report))
    }

    /// The new version is the stable one already; what is left is to give it the traffic and to remove the other side.
    async fn finish_cleaning_up(&self, state: State) -> Result<State, RollbackError> {
        let (keep, drop) = match state.deployment.finish.mode {
            FinishMode::Promote => (Side::Stable, Side::Canary),
            FinishMode::Replace => (Side::Canary, Side::Stable),
        };
        let Some(RollbackProgress {
            traffic_returned_at,
        }) = state.progress.rollback.clone()
        else {
            return self.settle(state, keep).await;
        };
        let (state, going) = self.remove(state, drop, traffic_returned_at).await?;
        if let Some(what) = going {
            if self.is_stuck(&state) {
                let why = format!("still waiting for {what} ({})", why(&state));
                return Ok(leave_removal_to_a_person(state, why));
            }
            return Ok(state);
        }
        let deployment = &state.deployment;
        let bearer = (drop == Side::Stable).then(|| deployment.canary.service.clone());
        if let Some(seconds) = deployment.hold_scale_in_for(traffic_returned_at, self.now) {
            return Ok(state.again_in(seconds));
        }
        self.fleet.release_scale_in(deployment).await?;
        self.ledger
            .close(deployment, Ending::Promoted, bearer.as_ref(), self.now)
            .await?;
        let why = format!(
            "the new version is the stable one and nothing is left, but its clean-up first failed: {}",
            why(&state)
        );
        let report = Report {
            error: error_of(&state),
            ..Report::of(&state.progress, Ending::NeedsAttention, why)
        };
        Ok(state.ended(report))
    }

    /// Removes a side that has no traffic any more; gives what is still waited for. A side that has got traffic again
    /// meanwhile, by a late call or by somebody else, loses it first and drains anew.
    async fn remove(
        &self,
        state: State,
        side: Side,
        since: Timestamp,
    ) -> Result<(State, Option<String>), RollbackError> {
        let deployment = &state.deployment;
        let drained_at = since.as_second() + i64::from(deployment.drain_seconds());
        if let Ok(seconds @ 1..) = u32::try_from(drained_at - self.now.as_second()) {
            return Ok((
                state.again_in(seconds),
                Some("requests in flight".to_owned()),
            ));
        }
        let keep = match side {
            Side::Canary => Side::Stable,
            Side::Stable => Side::Canary,
        };
        let settled = self.router.settle(deployment, keep).await?;
        if settled.wrote {
            let state = self.settled(state, keep, settled);
            return Ok((state, Some("requests in flight".to_owned())));
        }
        let mut removal = self.fleet.remove_service(deployment, side).await?;
        if removal == Removal::Gone {
            self.fleet.retire_definition(deployment, side).await?;
            removal = self.router.tear_down(deployment, side).await?;
        }
        match removal {
            Removal::Going(what) => {
                let seconds = deployment.poll_seconds(since, self.now);
                let mut state = state;
                state
                    .progress
                    .note_once(self.now, format!("waiting: {what}"));
                Ok((state.again_in(seconds), Some(what)))
            }
            Removal::Gone => Ok((state, None)),
        }
    }

    /// Tells a person everything: the error, what led here, and what is left. What that is depends on which version is to
    /// stay: a command that removes the canary must never be given for one that has become the stable version.
    async fn give_up(&self, mut state: State, phase: Phase, error: RollbackError) -> State {
        let why = format!(
            "the rollback cannot go on: {error} (it was called for because: {})",
            why(&state)
        );
        let name: &'static str = error.into();
        state.failure = Some(Failure {
            error: name.to_owned(),
            cause: why.clone(),
        });
        match phase {
            Phase::Promoting => leave_stable_to_a_person(state),
            Phase::CleaningUp | Phase::Ended => leave_removal_to_a_person(state, why),
            Phase::Running | Phase::RollingBack => {
                let deployment = &state.deployment;
                let mut left = match self.router.traces(deployment).await {
                    Ok(left) => left,
                    Err(_) => self.router.commands_to_stable(deployment),
                };
                left.extend(self.fleet.traces(deployment).await.unwrap_or_default());
                needs_attention(state, why, left)
            }
        }
    }

    /// Whether stable could not take the traffic, and the canary can.
    async fn stable_is_dead_and_the_canary_is_not(
        &self,
        deployment: &Deployment,
    ) -> Result<bool, RollbackError> {
        let runs = |observed: &Observation| matches!(observed, Observation::Active(tasks) if tasks.running > 0);
        let stable = self
            .fleet
            .observe(deployment.cluster(), &deployment.stable.service)
            .await?;
        if runs(&stable) {
            return Ok(false);
        }
        let canary = self
            .fleet
            .observe(deployment.cluster(), &deployment.canary.service)
            .await?;
        Ok(runs(&canary))
    }

    /// The end was recorded, but its answer was lost, perhaps before the lock was given back.
    async fn close_again(
        &self,
        state: State,
        ending: Option<Ending>,
    ) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        if let Some(ending) = ending {
            let replaced =
                ending == Ending::Promoted && deployment.finish.mode == FinishMode::Replace;
            let bearer = replaced.then(|| deployment.canary.service.clone());
            self.ledger
                .close(deployment, ending, bearer.as_ref(), self.now)
                .await?;
        }
        Ok(already_over(state, ending))
    }

    /// Whether stable runs exactly what it ran before its update: then it can take the traffic back.
    async fn stable_is_as_it_was(&self, deployment: &Deployment) -> Result<bool, RollbackError> {
        let stable = self
            .fleet
            .observe(deployment.cluster(), &deployment.stable.service)
            .await?;
        Ok(match stable {
            Observation::Active(tasks) => {
                tasks.is_steady() && tasks.task_definition == deployment.stable.task_definition
            }
            Observation::Absent | Observation::Draining { .. } => false,
        })
    }
}

/// A deployment that the ledger does not know although it was planned: its record is lost, the state machine's copy is not.
fn unrecorded(found: &Found) -> Option<LedgerRecord> {
    let deployment = found.deployment.clone()?;
    Some(LedgerRecord {
        deployment,
        phase: Phase::Running,
        ending: None,
    })
}

/// The planning itself broke off: at most the lock is to be given back.
async fn nothing_was_planned(
    ledger: &impl Ledger,
    execution: ExecutionArn,
    found: &Found,
) -> Result<Undone, RollbackError> {
    if found.roll_back.is_some() {
        return Err(RollbackError::DeploymentUnknown(execution));
    }
    let within = |field: &str| {
        found
            .detail
            .as_ref()
            .and_then(|request| request.get(field))
            .cloned()
    };
    let name = |value: Option<serde_json::Value>, field| {
        value.or_else(|| within(field))?.as_str().map(str::to_owned)
    };
    let (cluster, service) = (
        name(found.cluster.clone(), "cluster"),
        name(found.service.clone(), "service"),
    );
    if let (Some(cluster), Some(service)) = (cluster, service) {
        let key = ServiceKey {
            cluster: ClusterName::new(cluster),
            service: ServiceName::new(service),
        };
        ledger.unlock(&key, &execution).await?;
    }
    let sentence = found
        .failure
        .as_ref()
        .map_or_else(|| "the planning broke off".to_owned(), Failure::sentence);
    let report = Report {
        error: found.failure.as_ref().map(|failure| failure.error.clone()),
        ..Report::of(
            &Progress::default(),
            Ending::RolledBack,
            format!("nothing had been created: {sentence}"),
        )
    };
    Ok(Undone::Nothing {
        done: true,
        ending: report.ending,
        cause: report.to_cause(),
        report: Box::new(report),
    })
}

/// Why the rollback was called for: an error, or the last verdict, or a person.
fn why(state: &State) -> String {
    match (&state.failure, state.progress.verdicts.last()) {
        (Some(failure), _) => failure.sentence(),
        (None, Some(verdict)) if state.next == Some(Next::RollBack) => verdict.sentence.clone(),
        _ => "a person asked for it".to_owned(),
    }
}

fn error_of(state: &State) -> Option<String> {
    state.failure.as_ref().map(|failure| failure.error.clone())
}

/// Stable is neither what it was nor known to run the new version: the canary keeps the traffic.
fn leave_stable_to_a_person(state: State) -> State {
    let deployment = &state.deployment;
    let (cluster, stable) = (deployment.cluster(), &deployment.stable);
    let left = vec![Leftover {
        what: format!(
            "{} was being updated when this happened; the canary {} keeps the traffic; this puts the old version back",
            stable.service, deployment.canary.service
        ),
        command: format!(
            "aws ecs update-service --cluster {cluster} --service {} --task-definition {} && aws ecs wait services-stable --cluster {cluster} --services {}",
            stable.service, stable.task_definition, stable.service
        ),
    }];
    let why = why(&state);
    needs_attention(state, why, left)
}

/// The new version is the stable one; the removal of the other side did not come to its end.
fn leave_removal_to_a_person(state: State, why: String) -> State {
    let deployment = &state.deployment;
    let service = match deployment.finish.mode {
        FinishMode::Promote => &deployment.canary.service,
        FinishMode::Replace => &deployment.stable.service,
    };
    let left = vec![Leftover {
        what: format!(
            "the new version is the stable one, but service {service}, its task definition and what the router had for it may still exist; this shows the service, and the next command removes what is left"
        ),
        command: format!(
            "aws ecs describe-services --cluster {} --services {service}",
            deployment.cluster()
        ),
    }];
    needs_attention(state, why, left)
}

/// A person must finish it; the last command is the one that rolls back what is left.
fn needs_attention(state: State, why: String, mut left: Vec<Leftover>) -> State {
    let held = state.deployment.held_scale_in();
    left.extend(held.filter(|held| left.iter().all(|left| left.command != held.command)));
    left.push(roll_back_again(&state.deployment));
    let report = Report {
        error: error_of(&state),
        left,
        ..Report::of(&state.progress, Ending::NeedsAttention, why)
    };
    state.ended(report)
}

fn roll_back_again(deployment: &Deployment) -> Leftover {
    Leftover {
        what: "the deployment keeps its lock; when the above is in order, this rolls back what is left".into(),
        command: deployment.roll_back_command(),
    }
}

fn already_over(state: State, ending: Option<Ending>) -> State {
    let (ending, what) = match ending {
        Some(Ending::RolledBack) => (Ending::RolledBack, why(&state)),
        Some(Ending::Promoted) => (
            Ending::NeedsAttention,
            "the deployment had already been promoted and cleaned up; nothing is left to do".into(),
        ),
        Some(Ending::NeedsAttention) | None => (
            Ending::NeedsAttention,
            "the deployment had already ended".into(),
        ),
    };
    let report = Report {
        error: error_of(&state),
        ..Report::of(&state.progress, ending, what)
    };
    state.ended(report)
}

#[cfg(test)]
mod tests;

//! After failure: gives stable all the traffic, then removes the canary and proves that no trace is left.
//!
//! The ledger comes first, so that no function that runs late goes on; then the traffic, in one call; then the data plane gets
//! time to hear of it and late functions time to end; then what was created is removed, newest first. Everything may already
//! be missing. When stable can no longer take the traffic, because its update had begun, the canary keeps it and a person is
//! called; when the new version already is the stable one, only the removal is finished.
//!
//! The recovery is the same, called for an execution that was stopped, ran out of time or broke off.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serin::deployment::LATE_SECONDS;
use serin::ports::{
    ExecutionStatus, Fleet, Ledger, LedgerRecord, Observation, Phase, PortError, Removal, Settled,
    Side, Traces, TrafficRouter,
};
use serin::progress::RollbackProgress;
use serin::report::{Ending, Leftover, Report};
use serin::request::FinishMode;
use serin::state::{Failure, Next, Question, Turn, Unanswered};
use serin::weight::Weight;
use serin::{
    ClusterName, Deployment, ExecutionArn, Progress, ServiceKey, ServiceName, State, StepInput,
    step_error_from_port_error,
};

/// How long a stable that runs its old version may take to be steady again after its update broke off, in seconds.
const LONGEST_SETTLING_SECONDS: i64 = 1800;
/// How long a rollback waits for a stable that has no task to serve with while the canary has, in seconds. ECS replaces a task
/// that died within a minute or two; what takes longer does not come back by itself.
const LONGEST_WAIT_FOR_STABLE_SECONDS: i64 = 300;

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
    /// What the frozen deployment asked.
    pub question: Option<Question>,
    /// There when nobody decided in time.
    pub unanswered: Option<Unanswered>,
    /// The execution that a person wants rolled back.
    pub roll_back: Option<ExecutionArn>,
    /// The execution that has ended and whose deployment is to be recovered, if it needs to be.
    pub recover: Option<ExecutionArn>,
    /// What a deployment waited for when its planning broke off.
    pub waiting: Option<serde_json::Value>,
    /// The request, when it came within an EventBridge event.
    pub detail: Option<serde_json::Value>,
    /// The request's cluster, by any of the names that [`serin::request::read`] knows.
    #[serde(alias = "cluster_name", alias = "EnvironmentName")]
    pub cluster: Option<serde_json::Value>,
    /// The request's service.
    #[serde(alias = "microservice_name", alias = "MicroserviceName")]
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
    /// A recovery found nothing to do.
    #[serde(rename_all = "camelCase")]
    NothingToRecover {
        /// Always true.
        done: bool,
        /// Why.
        nothing_to_recover: String,
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
        state: mut found,
        ..
    } = input;
    if let Some(dead) = found.recover.clone() {
        match whether_to_recover(ledger, &dead).await? {
            Recovery::Needless(why) => {
                return Ok(Undone::NothingToRecover {
                    done: true,
                    nothing_to_recover: why.to_owned(),
                });
            }
            Recovery::Needed(failure) => found.failure = Some(failure),
        }
    }
    let planned = found
        .deployment
        .as_ref()
        .map(|deployment| deployment.execution.clone());
    let named = found.roll_back.clone().or_else(|| found.recover.clone());
    let wanted = named.or(planned).unwrap_or(execution);
    let recorded = ledger.find(&wanted).await?;
    let step = Rollback {
        fleet,
        router,
        ledger,
        now,
        recorded: recorded.is_some(),
        asked: found.roll_back.is_some(),
    };
    let Some(record) = recorded.or_else(|| unrecorded(&found)) else {
        return nothing_was_planned(ledger, wanted, &found).await;
    };
    let state = State {
        // Of a deployment that another execution began nobody knows here how much traffic the canary has: it may be all.
        progress: found.progress.unwrap_or_else(|| Progress {
            weight_percent: Weight::FULL,
            ..Progress::default()
        }),
        failure: found.failure,
        next: found.next,
        question: found.question,
        unanswered: found.unanswered,
        ..State::planned(record.deployment)
    };
    let undone = match record.phase {
        Phase::Running | Phase::RollingBack => step.put_everything_back(state.clone()).await,
        Phase::Promoting | Phase::PromotionStopped => {
            step.put_back_if_stable_is_untouched(state.clone()).await
        }
        Phase::CleaningUp => step.finish_cleaning_up(state.clone()).await,
        Phase::Ended => step.close_again(state.clone(), record.ending).await,
    };
    let state = match undone {
        Err(error @ (RollbackError::AwsDenied(_) | RollbackError::AwsRefused(_))) => {
            step.try_again_or_give_up(state, record.phase, error)
                .await?
        }
        undone => {
            let mut state = undone?;
            state.progress.refused_since = None;
            state
        }
    };
    Ok(Undone::Planned(Box::new(state)))
}

/// What stable is found to run after its update broke off.
enum StableNow {
    /// What it ran before: it can take the traffic back.
    AsItWas,
    /// The same, but not on all its tasks yet.
    NotSteady,
    /// Something else, or nothing.
    Other,
}

struct Rollback<'a, F, R, L> {
    fleet: &'a F,
    router: &'a R,
    ledger: &'a L,
    now: Timestamp,
    /// Whether the ledger knows the deployment.
    recorded: bool,
    /// Whether a person asks for the old version in this very call.
    asked: bool,
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

    /// A function that began before may still be updating stable: first nobody goes on, then it is waited out, and only then does
    /// looking at stable tell anything. The canary is healthy and carries the traffic meanwhile.
    async fn put_back_if_stable_is_untouched(
        &self,
        mut state: State,
    ) -> Result<State, RollbackError> {
        let Some(stopped_at) = state.progress.promotion_stopped_at else {
            self.enter(&state, Phase::PromotionStopped).await?;
            state.progress.promotion_stopped_at = Some(self.now);
            state.progress.note(
                self.now,
                "stopped the promotion; the canary keeps the traffic while its last call may still be under way",
            );
            return Ok(state.again_in(LATE_SECONDS));
        };
        let waited = self.now.as_second() - stopped_at.as_second();
        match self.look_at_stable(&state.deployment).await? {
            StableNow::AsItWas => self.put_everything_back(state).await,
            StableNow::NotSteady if waited < LONGEST_SETTLING_SECONDS => {
                let seconds = state.deployment.poll_seconds(stopped_at, self.now);
                Ok(state.again_in(seconds))
            }
            StableNow::NotSteady | StableNow::Other => self.leave_stable_to_a_person(state).await,
        }
    }

    /// A stable whose tasks have just died gets its traffic as soon as one is back. Until then the canary, bad as it may be,
    /// serves more than nothing does.
    async fn give_traffic_back(&self, mut state: State) -> Result<State, RollbackError> {
        // That costs one call before the traffic.
        self.enter(&state, Phase::RollingBack).await?;
        let carries_traffic = state.progress.weight_percent > Weight::ZERO;
        if !carries_traffic || !self.only_the_canary_serves(&state.deployment).await {
            return self.settle(state, Side::Stable).await;
        }
        let since = *state.progress.stable_missed_since.get_or_insert(self.now);
        if self.now.as_second() - since.as_second() < LONGEST_WAIT_FOR_STABLE_SECONDS {
            let sentence =
                "stable has no task that can serve; the canary keeps the traffic until it has one";
            state.progress.note_once(self.now, sentence);
            let seconds = state.deployment.poll_seconds(since, self.now);
            return Ok(state.again_in(seconds));
        }
        let (cluster, stable) = (state.deployment.cluster(), &state.deployment.stable);
        let dead = Leftover {
            arn: stable.service_arn.clone(),
            what: format!(
                "{} has no task that can serve; this gives it those that it had",
                stable.service
            ),
            command: format!(
                "aws ecs update-service --cluster {cluster} --service {} --desired-count {}",
                stable.service,
                stable.desired_count.max(1)
            ),
        };
        let why = format!(
            "stable has had no task that can serve for {LONGEST_WAIT_FOR_STABLE_SECONDS} s, so the canary keeps its traffic ({})",
            why(&state)
        );
        self.keep_the_canary(state, why, dead).await
    }

    /// Forbids every step that would go on to change anything: each looks into the ledger before it does.
    async fn enter(&self, state: &State, phase: Phase) -> Result<(), RollbackError> {
        let entered = self
            .ledger
            .enter(&state.deployment.execution, phase)
            .await?;
        match entered {
            Err(other) if self.recorded => Err(RollbackError::AwsUnavailable(format!(
                "the deployment went on to {other} meanwhile"
            ))),
            Ok(()) | Err(_) => Ok(()),
        }
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
        let seconds = state.deployment.quiet_seconds();
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
        let left = self.traces(deployment).await.certain()?;
        let why = why(&state);
        if !left.is_empty() {
            return self.needs_attention(state, why, left).await;
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
        let (keep, drop) = sides(&state.deployment);
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
                return self.leave_removal_to_a_person(state, why).await;
            }
            return Ok(state);
        }
        let deployment = &state.deployment;
        if let Some(seconds) = deployment.hold_scale_in_for(traffic_returned_at, self.now) {
            return Ok(state.again_in(seconds));
        }
        self.fleet.release_scale_in(deployment).await?;
        self.ledger
            .close(
                deployment,
                Ending::Promoted,
                deployment.bearer_after(Ending::Promoted),
                self.now,
            )
            .await?;
        let why = format!(
            "the new version is the stable one and nothing else is left; its clean-up broke off once and was finished: {}",
            why(&state)
        );
        let report = Report {
            error: error_of(&state),
            ..Report::of(&state.progress, Ending::Promoted, why)
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
        let drained_at = since.as_second() + i64::from(deployment.quiet_seconds());
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
        let mut removal = Removal::Gone;
        for (deployment, side) in deployment.going_with(side) {
            let mut one = self.fleet.remove_service(&deployment, side).await?;
            if one == Removal::Gone {
                self.fleet.retire_definition(&deployment, side).await?;
                one = self.router.tear_down(&deployment, side).await?;
            }
            if removal == Removal::Gone {
                removal = one;
            }
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

    /// Stable may still lack its traffic, so a person is called only when a refusal has lasted.
    async fn try_again_or_give_up(
        &self,
        mut state: State,
        phase: Phase,
        error: RollbackError,
    ) -> Result<State, RollbackError> {
        let since = *state.progress.refused_since.get_or_insert(self.now);
        let Some(seconds) = state.deployment.try_again_in(since, self.now) else {
            return self.give_up(state, phase, error).await;
        };
        tracing::warn!(%error, "refused, and tried again");
        let sentence = format!("trying again, because this was refused: {error}");
        state.progress.note_once(self.now, sentence);
        Ok(state.again_in(seconds))
    }

    /// Tells a person everything: the error, what led here, and what is left. What that is depends on which version is to
    /// stay: a command that removes the canary must never be given for one that has become the stable version.
    async fn give_up(
        &self,
        mut state: State,
        phase: Phase,
        error: RollbackError,
    ) -> Result<State, RollbackError> {
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
            Phase::Promoting | Phase::PromotionStopped => {
                self.leave_stable_to_a_person(state).await
            }
            Phase::CleaningUp | Phase::Ended => self.leave_removal_to_a_person(state, why).await,
            Phase::Running | Phase::RollingBack => {
                let left = self.traces(&state.deployment).await.at_worst();
                self.needs_attention(state, why, left).await
            }
        }
    }

    /// Stable is neither what it was nor known to run the new version: the canary keeps the traffic.
    async fn leave_stable_to_a_person(&self, state: State) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        let (cluster, stable) = (deployment.cluster(), &deployment.stable);
        let updated = Leftover {
            arn: stable.service_arn.clone(),
            what: format!(
                "{} was being updated when this happened; the canary {} keeps the traffic; this puts the old version back",
                stable.service, deployment.canary.service
            ),
            command: format!(
                "aws ecs update-service --cluster {cluster} --service {} --task-definition {} && aws ecs wait services-stable --cluster {cluster} --services {}",
                stable.service, stable.task_definition, stable.service
            ),
        };
        let why = why(&state);
        self.keep_the_canary(state, why, updated).await
    }

    /// A person puts stable in order first, as `first` says. All else is the rollback's to take away after that: until then it
    /// serves the traffic.
    async fn keep_the_canary(
        &self,
        state: State,
        why: String,
        first: Leftover,
    ) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        let others = self.traces(deployment).await.at_worst().into_iter();
        let others = others
            .filter(|left| left.arn != first.arn)
            .chain(deployment.held_scale_in())
            .map(|left| Leftover {
                what: format!(
                    "{}; it is needed until stable is in order, and then this puts everything back",
                    left.what
                ),
                command: deployment.roll_back_command(),
                ..left
            })
            .collect::<Vec<_>>();
        let left = std::iter::once(first).chain(others).collect();
        self.needs_attention(state, why, left).await
    }

    /// All that is not as it was.
    async fn traces(&self, deployment: &Deployment) -> Traces {
        let mut traces = self.remains(deployment, Side::Canary).await;
        traces.extend(self.fleet.changes(deployment).await);
        traces
    }

    /// What there still is of a side that is to go.
    async fn remains(&self, deployment: &Deployment, side: Side) -> Traces {
        let mut remains = Traces::default();
        for (deployment, side) in deployment.going_with(side) {
            remains.extend(self.router.traces(&deployment, side).await);
            remains.extend(self.fleet.traces(&deployment, side).await);
        }
        remains
    }

    /// The new version is the stable one; the removal of the other side did not come to its end.
    async fn leave_removal_to_a_person(
        &self,
        state: State,
        why: String,
    ) -> Result<State, RollbackError> {
        let (_, drop) = sides(&state.deployment);
        let left = self.remains(&state.deployment, drop).await.at_worst();
        self.needs_attention(state, why, left).await
    }

    /// A person must finish it; the last command is the one that rolls back what is left. The ledger keeps the list, for whoever
    /// starts the next deployment of the service.
    async fn needs_attention(
        &self,
        state: State,
        why: String,
        mut left: Vec<Leftover>,
    ) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        left.push(deployment.unfinished());
        let told = self.ledger.call_a_person(deployment, &left, self.now).await;
        match told.map_err(RollbackError::from) {
            // Not even that is allowed: the report is all that is left to tell it.
            Ok(()) | Err(RollbackError::AwsDenied(_) | RollbackError::AwsRefused(_)) => {}
            Err(passing) => return Err(passing),
        }
        let report = Report {
            error: error_of(&state),
            left,
            ..Report::of(&state.progress, Ending::NeedsAttention, why)
        };
        Ok(state.ended(report))
    }

    /// Whether stable could not take the traffic, and the canary can. What cannot be seen is taken to be in order: a look that
    /// fails must not keep the traffic on a bad canary.
    async fn only_the_canary_serves(&self, deployment: &Deployment) -> bool {
        let stable = self.can_serve(deployment, Side::Stable).await;
        if let Err(error) = &stable {
            tracing::warn!(%error, "not known whether stable can serve; taken for granted");
        }
        !stable.unwrap_or(true)
            && self
                .can_serve(deployment, Side::Canary)
                .await
                .unwrap_or(false)
    }

    async fn can_serve(&self, deployment: &Deployment, side: Side) -> Result<bool, PortError> {
        let observed = self
            .fleet
            .observe(deployment.cluster(), deployment.service_of(side))
            .await?;
        let runs = matches!(observed, Observation::Active(tasks) if tasks.running > 0);
        Ok(runs && self.router.healthy_targets_of(deployment, side).await? > 0)
    }

    /// The end was recorded, but its answer was lost, perhaps before the lock was given back.
    async fn close_again(
        &self,
        state: State,
        ending: Option<Ending>,
    ) -> Result<State, RollbackError> {
        let deployment = &state.deployment;
        if let Some(ending) = ending {
            self.ledger
                .close(
                    deployment,
                    ending,
                    deployment.bearer_after(ending),
                    self.now,
                )
                .await?;
        }
        Ok(already_over(state, ending, self.asked))
    }

    async fn look_at_stable(&self, deployment: &Deployment) -> Result<StableNow, RollbackError> {
        let stable = self
            .fleet
            .observe(deployment.cluster(), &deployment.stable.service)
            .await?;
        Ok(match stable {
            Observation::Active(tasks)
                if tasks.task_definition == deployment.stable.task_definition =>
            {
                if tasks.is_steady() {
                    StableNow::AsItWas
                } else {
                    StableNow::NotSteady
                }
            }
            Observation::Active(_) | Observation::Absent | Observation::Draining { .. } => {
                StableNow::Other
            }
        })
    }
}

/// A deployment that the ledger does not know although it was planned: its record is lost, the state machine's copy is not.
fn unrecorded(found: &Found) -> Option<LedgerRecord> {
    let deployment = found.deployment.clone()?;
    // What the clean-up had done says how far it was: stable, or the canary, may be gone for good.
    let cleanup = found
        .progress
        .as_ref()
        .and_then(|progress| progress.cleanup.as_ref());
    let phase = match cleanup {
        Some(cleanup) if cleanup.traffic_settled_at.is_some() => Phase::CleaningUp,
        Some(_) => Phase::Promoting,
        None => Phase::Running,
    };
    Some(LedgerRecord {
        deployment,
        phase,
        ending: None,
        left: Vec::new(),
        superseded_by: None,
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
    let turn = found.waiting.clone().map(serde_json::from_value::<Turn>);
    if let Some(Ok(turn)) = turn {
        ledger.leave(&turn.service, &execution).await?;
        ledger.unlock(&turn.service, &execution).await?;
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

/// What a recovery finds.
enum Recovery {
    /// There is nothing to do, and why.
    Needless(&'static str),
    /// The execution is dead and its deployment is not over.
    Needed(Failure),
}

/// Whether the deployment of an execution that has ended still needs somebody. An execution that ends in the ordinary way has
/// told the ledger before.
async fn whether_to_recover(
    ledger: &impl Ledger,
    dead: &ExecutionArn,
) -> Result<Recovery, RollbackError> {
    let status = ledger.execution_status(dead).await?;
    if status == ExecutionStatus::Running {
        return Ok(Recovery::Needless(
            "the execution runs; it puts everything in order itself",
        ));
    }
    let Some(record) = ledger.find(dead).await? else {
        return Ok(Recovery::Needless("nothing had been planned"));
    };
    Ok(match record.ending {
        Some(Ending::NeedsAttention) => Recovery::Needless("a person has been told what is left"),
        Some(_) => Recovery::Needless("the deployment had ended"),
        None => Recovery::Needed(match record.superseded_by {
            Some(newer) => Failure {
                error: "Superseded".to_owned(),
                cause: format!("it had to make room for {newer}, which is newer"),
            },
            None => Failure {
                error: "ExecutionDied".to_owned(),
                cause: format!("the execution is {status}, and its deployment was not over"),
            },
        }),
    })
}

/// Why the rollback was called for: an error, or the last verdict, or a person.
fn why(state: &State) -> String {
    match (&state.failure, state.progress.verdicts.last()) {
        (Some(failure), _) => failure.sentence(),
        (None, Some(verdict)) if state.question.is_some() => {
            let by = if state.unanswered.is_some() {
                "nobody decided in time"
            } else {
                "a person decided so"
            };
            format!("frozen, and {by}: {}", verdict.sentence)
        }
        (None, Some(verdict)) if state.next == Some(Next::RollBack) => verdict.sentence.clone(),
        _ => "a person asked for it".to_owned(),
    }
}

fn error_of(state: &State) -> Option<String> {
    state.failure.as_ref().map(|failure| failure.error.clone())
}

/// Which side stays after a promotion, and which goes.
fn sides(deployment: &Deployment) -> (Side, Side) {
    match deployment.finish.mode {
        FinishMode::Promote => (Side::Stable, Side::Canary),
        FinishMode::Replace => (Side::Canary, Side::Stable),
    }
}

fn already_over(state: State, ending: Option<Ending>, asked: bool) -> State {
    let (ending, what) = match ending {
        Some(Ending::RolledBack) => (Ending::RolledBack, why(&state)),
        Some(Ending::Promoted) if !asked => (
            Ending::Promoted,
            "the deployment had been promoted and cleaned up meanwhile".into(),
        ),
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

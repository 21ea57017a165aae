//! Measures the canary over a window that began after the shift had settled and ends where data can exist, gives a verdict
//! and says what comes next.

use jiff::Timestamp;
use serin::history::{Order, Wish};
use serin::ports::{Copies, Fleet, HealthSignals, Ledger, Measurements, Observation, Times};
use serin::request::{Decision, OnTooLittleData, OnUnhealthy};
use serin::state::{Next, Question};
use serin::verdict::{Finding, Outcome, Verdict};
use serin::{Deployment, Progress, State, StepInput, Weight, step_error_from_port_error};
use serin_judge::{
    Calm, Measurable, StepTimes, calm, comparable, judge_alarm, judge_baseline,
    judge_baseline_targets, judge_beside_stable, judge_error_rate, judge_latency, judge_query,
    judge_share, judge_targets, judge_tasks, unless_stable_too, verdict,
};

/// Why there is no verdict. The names are the state machine's. An unhealthy canary is a verdict, not an error.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum HealthCheckError {
    /// The check was called before the first shift.
    #[error("no step is in force")]
    NoStepInForce,
    /// The state says nothing of a canary.
    #[error("there is no canary to check")]
    NoCanary,
    /// The deployment took too long; the sentence says what the last check lacked.
    #[error("the deployment's deadline has passed{0}")]
    DeadlineExceeded(String),
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

step_error_from_port_error!(HealthCheckError);

/// Makes one check.
///
/// # Errors
/// [`HealthCheckError`]; each leads to the rollback: an API that does not answer is not health.
pub async fn health_check(
    fleet: &impl Fleet,
    signals: &impl HealthSignals,
    ledger: &impl Ledger,
    input: StepInput,
) -> Result<State, HealthCheckError> {
    let StepInput { now, mut state, .. } = input;
    let (index, times) = step_in_force(&state)?;
    if state.deployment.is_overdue(now) {
        let last = state
            .progress
            .verdicts
            .last()
            .map_or_else(String::new, |last| {
                format!("; the last check: {}", last.sentence)
            });
        return Err(HealthCheckError::DeadlineExceeded(last));
    }
    if state.decision == Some(Decision::Promote) {
        state
            .progress
            .note(now, "promoted without another check, as was decided");
        state.next = Some(Next::Promote);
        return Ok(state.done_then_wait(1));
    }
    let measurable = times.measurable(&state.deployment.checks, now);
    let (cluster, service) = (state.deployment.cluster(), &state.deployment.canary.service);
    let canary = fleet.observe(cluster, service).await?;
    let findings = look(fleet, signals, &state, &canary, measurable, now).await?;
    let verdict = verdict(
        now,
        index + 1,
        state.progress.weight_percent,
        measurable.window,
        findings,
    );

    match verdict.outcome {
        Outcome::Unhealthy => {
            state.progress.unhealthy_checks += 1;
            state.progress.unhealthy_in_a_row += 1;
        }
        Outcome::Healthy => state.progress.unhealthy_in_a_row = 0,
        // It says neither that the canary has recovered nor that it has not.
        Outcome::Inconclusive => {}
    }
    let mut next = decide(
        &state.deployment,
        &state.progress,
        &verdict,
        measurable.covers_hold,
        index,
    );
    if next == Next::Wait && stable_has_grown(fleet, &state, &canary).await? {
        next = Next::Resize;
    }
    tracing::info!(step = index + 1, outcome = %verdict.outcome, %next, why = verdict.sentence, "verdict");
    if next == Next::Resize {
        state
            .progress
            .note_once(now, "stable has grown, and the canary follows");
    } else if next != Next::Wait {
        state.progress.note(
            now,
            format!(
                "step {}: {}, {}",
                index + 1,
                verdict.outcome,
                verdict.sentence
            ),
        );
    }
    let mut why = verdict.sentence.clone();
    // A rollback waits for nobody, and not for the ledger either.
    if next != Next::RollBack
        && let Some(wish) = ledger.order(&state.deployment.execution).await?
    {
        (next, why) = follow(&mut state, &wish, &verdict, next, why);
    }
    if next == Next::Freeze {
        let check = state.progress.checks;
        state.question = Some(Question::new(&state.deployment, check, why, now));
    }
    let kept = ledger
        .keep_check(&state.deployment.execution, state.progress.checks, &verdict)
        .await;
    if let Err(error) = kept {
        // It is for whoever looks later; the check was made, and its verdict stands.
        tracing::warn!(%error, "the evidence was not kept");
    }
    state.progress.keep(verdict);
    state.next = Some(next);
    let seconds = times.next_check_in(&state.deployment.checks, now);
    Ok(state.done_then_wait(seconds))
}

/// The step in force and its times; the last one is watched longer by what the request wants the old version kept.
fn step_in_force(state: &State) -> Result<(usize, StepTimes), HealthCheckError> {
    let plan = &state.deployment.plan;
    let index = state.progress.step.ok_or(HealthCheckError::NoStepInForce)?;
    let (step, shifted_at) = plan
        .step(index)
        .zip(state.progress.shifted_at)
        .ok_or(HealthCheckError::NoStepInForce)?;
    let kept = if plan.is_last(index) {
        state.deployment.finish.keep_canary_seconds
    } else {
        0
    };
    Ok((
        index,
        StepTimes {
            shifted_at,
            hold_seconds: step.hold_seconds + kept,
        },
    ))
}

/// Looks at everything that the plan wants looked at: tasks and alarms at once, metrics as soon as data can exist.
async fn look(
    fleet: &impl Fleet,
    signals: &impl HealthSignals,
    state: &State,
    canary: &Observation,
    measurable: Measurable,
    now: Timestamp,
) -> Result<Vec<Finding>, HealthCheckError> {
    let deployment = &state.deployment;
    let (cluster, service) = (deployment.cluster(), &deployment.canary.service);
    let short = matches!(canary, Observation::Active(tasks) if tasks.running < tasks.desired);
    let stopped = if short {
        fleet.stopped_tasks(cluster, service).await?
    } else {
        Vec::new()
    };
    let mut findings = vec![judge_tasks(canary, &stopped)];
    let split = deployment.split_at(state.progress.weight_percent);
    if let Some(baseline) = &deployment.baseline
        && split.of_baseline() > Weight::ZERO
    {
        // What is broken here takes as much traffic as the canary does.
        let observed = fleet.observe(cluster, &baseline.service).await?;
        findings.push(judge_baseline(&observed));
    }

    let checks = &deployment.checks;
    if !checks.alarms.is_empty() {
        findings.extend(
            signals
                .alarms(&checks.alarms)
                .await?
                .iter()
                .map(judge_alarm),
        );
    }
    let times = Times {
        window: measurable.window,
        compared: comparable(deployment, &state.progress, now),
    };
    if times.window.is_none() {
        findings.push(too_early());
    }
    if deployment.is_measured() && times.any() {
        // Without it nothing could be measured, and the tasks alone would pass for health.
        let canary = state.progress.canary.as_ref();
        let copies = Copies {
            canary: &canary.ok_or(HealthCheckError::NoCanary)?.attachment,
            baseline: state
                .progress
                .baseline
                .as_ref()
                .map(|baseline| &baseline.attachment),
        };
        let measured = signals.measure(deployment, Some(copies), times).await?;
        if times.window.is_some() {
            let calm = calm(deployment, &state.progress, times, &measured);
            findings.extend(judge(
                deployment,
                &measured,
                state.progress.weight_percent,
                calm,
            ));
        }
        let compared = times
            .compared
            .map(|compared| judge_beside_stable(deployment, &state.progress, compared, &measured));
        findings.extend(compared.into_iter().flatten());
    }
    Ok(findings)
}

/// Holds what was measured against the request's limits.
fn judge(
    deployment: &Deployment,
    measured: &Measurements,
    weight: Weight,
    calm: Option<Calm>,
) -> Vec<Finding> {
    let checks = &deployment.checks;
    let (canary, stable) = (
        measured.requests.as_ref(),
        measured.stable_requests.as_ref(),
    );
    let mut findings = Vec::new();
    if let (Some(limit), Some(counts)) = (checks.error_rate_percent, canary) {
        findings.push(judge_error_rate(
            counts,
            stable,
            limit,
            checks.min_requests,
            calm,
        ));
    }
    let latency = checks.latency_ms.iter().zip(&measured.latency).enumerate();
    findings.extend(latency.map(|(place, (limit, own))| {
        let found = judge_latency(limit, own, canary, checks.min_requests);
        unless_stable_too(found, limit.margin, measured.stable_latency.get(place))
    }));
    findings.extend(measured.unhealthy_targets.as_ref().map(judge_targets));
    let beside = deployment.split_at(weight).of_baseline() > Weight::ZERO;
    let of_baseline = measured.baseline_unhealthy_targets.as_ref();
    findings.extend(of_baseline.filter(|_| beside).map(judge_baseline_targets));
    let queries = checks.queries.iter().zip(&measured.queries).enumerate();
    findings.extend(queries.map(|(place, (query, own))| {
        let stable = measured.stable_queries.get(place);
        unless_stable_too(judge_query(query, own), query.margin, stable)
    }));
    findings.extend(canary.zip(stable).and_then(|(canary, stable)| {
        let others = std::iter::once(stable).chain(&measured.baseline_requests);
        judge_share(canary, others, weight)
    }));
    findings
}

/// Whether stable should have so many tasks now that the canary has too few for its weight.
async fn stable_has_grown(
    fleet: &impl Fleet,
    state: &State,
    canary: &Observation,
) -> Result<bool, HealthCheckError> {
    let deployment = &state.deployment;
    let stable = &deployment.stable.service;
    let stable = fleet.observe(deployment.cluster(), stable).await?;
    let both = stable.desired().zip(canary.desired());
    Ok(both.is_some_and(|(stable, canary)| {
        canary < deployment.tasks_at(state.progress.weight_percent, stable)
    }))
}

fn too_early() -> Finding {
    Finding::new(
        "window",
        Outcome::Inconclusive,
        "the shift has not settled long enough for data to exist",
    )
}

/// What a verdict calls for. `progress` already counts it.
fn decide(
    deployment: &Deployment,
    progress: &Progress,
    verdict: &Verdict,
    covers_hold: bool,
    index: usize,
) -> Next {
    let onward = if deployment.plan.is_last(index) {
        Next::Promote
    } else {
        Next::Advance
    };
    let back = match deployment.on_unhealthy {
        OnUnhealthy::RollBack => Next::RollBack,
        OnUnhealthy::Freeze => Next::Freeze,
    };
    match verdict.outcome {
        Outcome::Unhealthy
            if too_many_failures(deployment, progress) || is_proved_worse(verdict) =>
        {
            back
        }
        Outcome::Healthy if covers_hold => onward,
        Outcome::Inconclusive if covers_hold => match deployment.checks.on_too_little_data {
            OnTooLittleData::Wait => Next::Wait,
            OnTooLittleData::RollBack => Next::RollBack,
            OnTooLittleData::Proceed => onward,
        },
        Outcome::Healthy | Outcome::Inconclusive | Outcome::Unhealthy => Next::Wait,
    }
}

/// Carries out what a person wished of the running deployment, once, unless the check has found a reason to roll back or to ask:
/// nobody knew of that when it was wished. Gives what comes next, and why.
fn follow(
    state: &mut State,
    wish: &Wish,
    verdict: &Verdict,
    next: Next,
    why: String,
) -> (Next, String) {
    let is_new = state.progress.last_wish.as_ref() != Some(&wish.request_id);
    let has_seen_nothing_bad = verdict.window.is_some() && verdict.outcome != Outcome::Unhealthy;
    if wish.order == Order::Promote && next == Next::Wait && !has_seen_nothing_bad {
        // Not yet: a check that can have data is waited for, and whether an unhealthy canary recovers.
        return (next, why);
    }
    state.progress.last_wish = Some(wish.request_id.clone());
    if !is_new || matches!(next, Next::RollBack | Next::Freeze) {
        return (next, why);
    }
    let now = verdict.at;
    let decided = format!("{} decided to {}", wish.by, wish.order.in_words());
    match wish.order {
        Order::Freeze => {
            state.progress.note(now, decided.as_str());
            (Next::Freeze, format!("{decided}; the last check: {why}"))
        }
        Order::Promote => {
            state.progress.note(now, decided);
            state.decision = Some(Decision::Promote);
            (Next::Advance, why)
        }
        // The one stops the execution; the other is only said to a frozen deployment, and here takes back what was wished before.
        Order::RollBack | Order::Resume => (next, why),
    }
}

/// Whether more checks were unhealthy than the request allows, in all or in a row.
fn too_many_failures(deployment: &Deployment, progress: &Progress) -> bool {
    let checks = &deployment.checks;
    let row = checks.failures_in_a_row;
    progress.unhealthy_checks > checks.failures_allowed
        || row.is_some_and(|row| progress.unhealthy_in_a_row >= row)
}

/// Whether the comparison is sure. It has counted chance in, and what it has seen does not go away: another check would only
/// let the canary serve for longer.
fn is_proved_worse(verdict: &Verdict) -> bool {
    let mut findings = verdict.findings.iter();
    findings.any(|finding| finding.comparison.is_some() && finding.outcome == Outcome::Unhealthy)
}

#[cfg(test)]
mod tests;

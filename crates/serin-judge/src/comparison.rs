//! The comparison of a deployment: from what was measured of both sides to a finding with its evidence.

use jiff::Timestamp;
use serin::ports::{Counts, Interval, Series};
use serin::request::{self, Checks, Extend, Judge};
use serin::verdict::{Comparison, Finding, Outcome, Window};
use serin::{Deployment, Plan, Progress, Step, Weight};

use crate::sequential::{
    Detect, Evidence, Judgement, Metric, Minute, Settings, Tally, compare, is_doubtful,
};
use crate::window::{floor, window};

/// How long new tasks take to warm up, in seconds.
const WARM_UP_SECONDS: u32 = 120;

/// CloudWatch keeps datapoints below a minute for three hours; less some time for waiting.
const LONGEST_HIGH_RESOLUTION: i64 = 9000;

/// What is compared, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Compared<'a> {
    /// The request's checks.
    pub checks: &'a Checks,
    /// Their comparison.
    pub judge: &'a Judge,
    /// The time that was measured.
    pub window: Window,
    /// What was measured in it.
    pub series: &'a Series,
    /// When new tasks of the canary began to serve.
    pub new_tasks_at: &'a [Timestamp],
    /// For how long both sides are planned to serve, in seconds.
    pub planned_seconds: u64,
    /// What the step in force asks of the comparison.
    pub asked: Asked,
}

/// What a step asks of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// That nothing speaks against the canary in the data since then, of which there must be some.
    NothingBadSince(Timestamp),
    /// That a regression would have been seen.
    Enough,
    /// Nothing but what it has seen: stable has no traffic any more, and enough was asked for before that.
    WhatWasSeen,
}

/// The time in which both sides can be compared now; `None` while there is none, and when nothing is compared.
pub fn comparable(deployment: &Deployment, progress: &Progress, now: Timestamp) -> Option<Window> {
    let checks = &deployment.checks;
    checks
        .judge
        .filter(|_| compared_steps(&deployment.plan).next().is_some())?;
    let period = checks.compared_period();
    let newest = now.as_second() - i64::from(checks.data_delay());
    let end = if progress.weight_percent == Weight::FULL {
        newest.min(progress.shifted_at?.as_second())
    } else {
        newest
    };
    let end = floor(end, period);
    let mut start = floor(progress.compared_since?.as_second(), period);
    if checks.period_seconds < period {
        start = start.max(floor(end - LONGEST_HIGH_RESOLUTION, period));
    }
    (end > start).then(|| window(start, end))
}

/// The steps at which stable has traffic to compare with.
fn compared_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    let steps = plan.steps().iter();
    steps.filter(|step| step.weight_percent < Weight::FULL)
}

/// For how long both sides are planned to serve, in seconds.
pub fn planned_seconds(plan: &Plan) -> u64 {
    compared_steps(plan)
        .map(|step| u64::from(step.hold_seconds))
        .sum()
}

impl<'a> Compared<'a> {
    /// What there is to compare; `None` when the request wants nothing compared, or no step is in force.
    pub fn of(
        deployment: &'a Deployment,
        progress: &'a Progress,
        window: Window,
        series: &'a Series,
    ) -> Option<Self> {
        let judge = deployment.checks.judge.as_ref()?;
        let (step, shifted_at) = progress.step.zip(progress.shifted_at)?;
        let last = compared_steps(&deployment.plan).count() <= step + 1;
        let asked = match judge.extend {
            _ if progress.weight_percent == Weight::FULL => Asked::WhatWasSeen,
            Extend::LastStep if !last => Asked::NothingBadSince(shifted_at),
            Extend::LastStep | Extend::EveryStep => Asked::Enough,
        };
        Some(Self {
            checks: &deployment.checks,
            judge,
            window,
            series,
            new_tasks_at: &progress.new_tasks_at,
            planned_seconds: planned_seconds(&deployment.plan),
            asked,
        })
    }
}

/// What the comparison says now: unhealthy when the canary is worse; inconclusive without data, while it looks worse but may
/// not be, and before enough has been seen in a step that waits for it; otherwise healthy.
pub fn judge_comparison(compared: &Compared<'_>) -> Finding {
    let finding = |outcome, sentence: String| Finding::new("comparison.errors", outcome, sentence);
    let intervals = match compared.series {
        Series::Intervals(intervals) => intervals,
        Series::Incomplete(why) => {
            let sentence = format!("the data of the comparison is not whole: {why}");
            return finding(Outcome::Inconclusive, sentence);
        }
    };
    let minutes: Vec<_> = intervals.iter().map(minute).collect();
    let judgement = judged(compared, &minutes);
    let Some(evidence) = judgement.metrics.first() else {
        return finding(Outcome::Inconclusive, judgement.sentence);
    };
    let outcome = outcome(compared, &judgement, &minutes);
    Finding {
        value: evidence.canary_rate.map(|rate| rate * 100.0),
        stable: evidence.stable_rate.map(|rate| rate * 100.0),
        samples: Some(evidence.totals.canary.requests),
        comparison: Some(shown(evidence, compared.window.end)),
        ..finding(outcome, judgement.sentence)
    }
}

/// The settings of a deployment's comparison.
pub fn settings(checks: &Checks, judge: &Judge, planned_seconds: u64) -> Settings {
    let period = checks.compared_period();
    let limit = checks.error_rate_percent.map(|limit| limit.max / 100.0);
    Settings {
        false_alarm: judge.false_alarm,
        margin: judge.margin,
        detect: match judge.detect {
            request::Detect::Ratio(ratio) => Detect::Ratio(ratio),
            request::Detect::Points(points) => Detect::Points(points),
        },
        minutes: u32::try_from(planned_seconds / u64::from(period))
            .unwrap_or(u32::MAX)
            .max(1),
        warm_up: WARM_UP_SECONDS.div_ceil(period),
        disaster: Settings::default().disaster.max(judge.margin * 1.5),
        limit: limit.filter(|limit| *limit > 0.0 && *limit < 1.0),
        ..Settings::default()
    }
}

fn judged(compared: &Compared<'_>, minutes: &[Minute]) -> Judgement {
    let period = i64::from(compared.checks.compared_period());
    let start = compared.window.start.as_second();
    let place = |at: &Timestamp| usize::try_from((at.as_second() - start).div_euclid(period)).ok();
    let new_tasks: Vec<_> = compared.new_tasks_at.iter().filter_map(place).collect();
    let metric = Metric {
        new_tasks: &new_tasks,
        ..Metric::errors(minutes)
    };
    let settings = settings(compared.checks, compared.judge, compared.planned_seconds);
    compare(&[metric], &settings)
}

fn outcome(compared: &Compared<'_>, judgement: &Judgement, minutes: &[Minute]) -> Outcome {
    let healthy = match compared.asked {
        _ if judgement.outcome != Outcome::Inconclusive => return judgement.outcome,
        Asked::Enough => false,
        Asked::WhatWasSeen => true,
        Asked::NothingBadSince(shifted_at) => {
            let period = i64::from(compared.checks.compared_period());
            let since = shifted_at.as_second() - compared.window.start.as_second();
            let place = usize::try_from(since.div_euclid(period)).unwrap_or(0);
            let known = |minute: &Minute| minute.canary.is_some() && minute.stable.is_some();
            minutes.iter().skip(place).any(known)
                && !is_doubtful(judgement, compared.judge.false_alarm)
        }
    };
    if healthy {
        Outcome::Healthy
    } else {
        Outcome::Inconclusive
    }
}

fn minute(interval: &Interval) -> Minute {
    let tally = |counts: Option<Counts>| {
        let counts = counts?;
        Tally::from_sums(Some(counts.requests), Some(counts.errors))
    };
    Minute {
        canary: tally(interval.canary),
        stable: tally(interval.stable),
    }
}

fn shown(evidence: &Evidence, until: Timestamp) -> Comparison {
    let totals = &evidence.totals;
    Comparison {
        until,
        canary_requests: totals.canary.requests,
        canary_errors: totals.canary.errors,
        stable_requests: totals.stable.requests,
        stable_errors: totals.stable.errors,
        ratio: evidence.ratio,
        ratio_from: evidence.ratio_from,
        ratio_to: evidence.ratio_to,
        log_e: evidence.log_e,
        seen: evidence.seen,
    }
}

//! The comparison of a deployment: from what was measured of both sides to a finding with its evidence.

use jiff::{SignedDuration, Timestamp};
use serin::ports::{Counts, Interval, Measurements, Series, Times};
use serin::request::{self, Checks, Extend, Judge};
use serin::verdict::{Comparison, Finding, Outcome, Window};
use serin::{Deployment, Plan, Progress, SlowThreshold, Split, Step, Weight};

use crate::kayenta::{Judging, judge_kayenta};
use crate::limits::Calm;
use crate::sequential::{
    Counted, Detect, Evidence, Judgement, Metric, Minute, Noise, Past, Settings, Tally, compare,
};
use crate::window::{ceil, floor, window};

/// What is compared, and what for.
#[derive(Debug, Clone, Copy)]
struct Compared<'a> {
    /// The request's checks.
    checks: &'a Checks,
    /// Their comparison.
    judge: &'a Judge,
    /// The time that was measured.
    window: Window,
    /// What was measured in it.
    series: &'a Series,
    /// What a slow request is.
    slow_thresholds: &'a [SlowThreshold],
    /// How many there were, for each of these thresholds.
    slow: &'a [Series],
    /// When the canary began to serve what is compared.
    since: Timestamp,
    /// When new tasks of the canary began to serve after that.
    new_tasks_at: &'a [Timestamp],
    /// Until when the baseline had traffic; nobody knows yet when it is the second side now.
    baseline_until: Option<Timestamp>,
    /// For how long both sides are planned to serve, in seconds.
    planned_seconds: u64,
    /// What the step in force asks of the comparison.
    asked: Asked,
}

/// What a step asks of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// That nothing speaks against the canary in the data since then, of which there must be some.
    NothingBadSince(Timestamp),
    /// That a regression would have been seen.
    Enough,
    /// Nothing but what it has seen: stable has no traffic any more, and enough was asked for before that.
    WhatWasSeen,
}

impl Asked {
    /// What the step in force asks; `None` when no step is.
    fn now(deployment: &Deployment, progress: &Progress, judge: &Judge) -> Option<Self> {
        let (step, shifted_at) = progress.step.zip(progress.shifted_at)?;
        let last = compared_steps(&deployment.plan, judge).count() <= step + 1;
        Some(match judge.extend {
            _ if !is_compared(judge, progress.weight_percent) => Self::WhatWasSeen,
            Extend::LastStep if !last => Self::NothingBadSince(shifted_at),
            Extend::LastStep | Extend::EveryStep => Self::Enough,
        })
    }
}

/// What the comparison with stable says of these measurements, in the time `window` that was asked for; nothing when the
/// request wants nothing compared. Errors come first, then slow requests.
pub fn judge_beside_stable(
    deployment: &Deployment,
    progress: &Progress,
    window: Window,
    measured: &Measurements,
) -> Vec<Finding> {
    let by_kayenta = |judge: &Judge| {
        Some(judge_kayenta(&Judging {
            kayenta: judge.kayenta.as_ref()?,
            window,
            series: measured.kayenta.as_ref()?,
            warm_up_seconds: judge.warm_up_seconds,
            planned_seconds: planned_seconds(&deployment.plan, &deployment.checks),
            asked: Asked::now(deployment, progress, judge)?,
        }))
    };
    let Some(judge) = &deployment.checks.judge else {
        return Vec::new();
    };
    let compared = Compared::of(deployment, progress, window, measured);
    let compared = compared.filter(|_| judge.compares_errors());
    let mut findings = compared.map_or_else(Vec::new, |compared| judge_comparison(&compared));
    findings.extend(by_kayenta(judge));
    findings
}

/// The canary's counts in the intervals of the step's window in which stable was within the limit, as far as both were measured;
/// `None` where there is nothing to compare with: no comparison of errors, or a weight that leaves stable no traffic.
pub fn calm(
    deployment: &Deployment,
    progress: &Progress,
    times: Times,
    measured: &Measurements,
) -> Option<Calm> {
    let limit = deployment.checks.error_rate_percent?.max / 100.0;
    let (window, compared) = times.window.zip(times.compared)?;
    let Series::Intervals(intervals) = measured.compared.as_ref()? else {
        return None;
    };
    if progress.weight_percent == Weight::FULL || deployment.stable_exceeds_limit {
        return None;
    }
    let period = i64::from(deployment.checks.period_seconds);
    let before = (window.start.as_second() - compared.start.as_second()).div_euclid(period);
    let minutes = intervals.iter().map(minute);
    let mut calm = Calm::default();
    for minute in minutes.skip(usize::try_from(before).unwrap_or(0)) {
        if let (Some(canary), Some(stable)) = (minute.canary, minute.stable)
            && within(stable, limit)
        {
            calm.requests += canary.requests;
            calm.errors += canary.errors;
        }
    }
    Some(calm)
}

/// The time in which both sides can be compared now; `None` while there is none, and when nothing is compared.
pub fn comparable(deployment: &Deployment, progress: &Progress, now: Timestamp) -> Option<Window> {
    let checks = &deployment.checks;
    let judge = checks.judge.as_ref()?;
    compared_steps(&deployment.plan, judge).next()?;
    let period = checks.period_seconds;
    let newest = now.as_second() - i64::from(checks.data_delay());
    let end = if is_compared(judge, progress.weight_percent) {
        newest
    } else {
        let baseline_until = progress.baseline_until.filter(|_| judge.kayenta.is_some());
        let until = baseline_until.or(progress.shifted_at)?;
        newest.min(until.as_second())
    };
    let end = floor(end, period);
    let start = floor(progress.compared_since?.as_second(), period);
    (end > start).then(|| window(start, end))
}

/// The steps at which there is traffic to compare with.
fn compared_steps<'a>(plan: &'a Plan, judge: &Judge) -> impl Iterator<Item = &'a Step> {
    let steps = plan.steps().iter();
    steps.filter(|step| is_compared(judge, step.weight_percent))
}

/// Whether there is traffic to compare with at this weight: stable's, but the baseline's only for Kayenta, whose judgement of a
/// series cannot change sides.
fn is_compared(judge: &Judge, weight: Weight) -> bool {
    if judge.baseline && judge.kayenta.is_some() {
        Split::with_baseline(weight).of_baseline() > Weight::ZERO
    } else {
        weight < Weight::FULL
    }
}

/// For how long both sides are planned to serve, in seconds: a step lasts until its hold could be measured.
pub fn planned_seconds(plan: &Plan, checks: &Checks) -> u64 {
    let Some(judge) = &checks.judge else {
        return 0;
    };
    compared_steps(plan, judge)
        .map(|step| u64::from(lasts(*step, checks)))
        .sum()
}

fn lasts(step: Step, checks: &Checks) -> u32 {
    let measured = step
        .hold_seconds
        .max(checks.settle_seconds + checks.period_seconds);
    measured.saturating_add(checks.data_delay())
}

impl<'a> Compared<'a> {
    /// How many intervals pass until tasks that began to serve then are warm for a whole interval.
    fn warm_up(&self, began: Timestamp) -> u32 {
        let start = self.window.start.as_second();
        let warm = began.as_second() + i64::from(self.judge.warm_up_seconds);
        let intervals =
            ceil(warm - start, self.checks.period_seconds) / i64::from(self.checks.period_seconds);
        u32::try_from(intervals).unwrap_or(0)
    }

    /// The interval of this number with the baseline in stable's place, while the baseline had traffic for the whole of it.
    fn control(&self, place: usize, interval: &Interval) -> Interval {
        let end = i64::try_from(place + 1).unwrap_or(i64::MAX);
        let end = self.window.start.as_second()
            + end.saturating_mul(i64::from(self.checks.period_seconds));
        let served = self
            .baseline_until
            .is_none_or(|until| end <= until.as_second());
        Interval {
            stable: if self.judge.baseline && served {
                interval.baseline
            } else {
                interval.stable
            },
            ..*interval
        }
    }

    /// What is compared in each interval.
    fn minutes(&self, intervals: &[Interval]) -> Vec<Minute> {
        let intervals = intervals.iter().enumerate();
        intervals
            .map(|(place, interval)| minute(&self.control(place, interval)))
            .collect()
    }

    /// A sentence about the two sides that says who the second one is.
    fn named(&self, sentence: &str) -> String {
        match self.baseline_until {
            _ if !self.judge.baseline => sentence.to_owned(),
            None => sentence.replace("stable", "the baseline"),
            Some(_) => sentence.replace("stable", "the baseline and then stable"),
        }
    }

    /// What there is to compare; `None` when the request wants nothing compared, or no step is in force.
    fn of(
        deployment: &'a Deployment,
        progress: &'a Progress,
        window: Window,
        measured: &'a Measurements,
    ) -> Option<Self> {
        let judge = deployment.checks.judge.as_ref()?;
        let asked = Asked::now(deployment, progress, judge)?;
        Some(Self {
            checks: &deployment.checks,
            judge,
            window,
            series: measured.compared.as_ref()?,
            slow_thresholds: &deployment.slow_thresholds,
            slow: &measured.slow,
            since: progress.compared_since?,
            new_tasks_at: &progress.new_tasks_at,
            baseline_until: progress.baseline_until,
            planned_seconds: planned_seconds(&deployment.plan, &deployment.checks),
            asked,
        })
    }
}

/// The part of the false alarms that errors may cause where slow requests are compared too; the thresholds share the rest.
const ERRORS: f64 = 0.8;

/// The errors' part of the false alarms: the whole, when nothing else is compared.
fn errors_weight(slow_thresholds: usize) -> f64 {
    if slow_thresholds == 0 { 1.0 } else { ERRORS }
}

/// What the comparison says now, of errors first and then of slow requests.
///
/// Of errors: unhealthy when the canary is worse; inconclusive without data, while it looks worse but may not be, and before
/// enough has been seen in a step that waits for it; otherwise healthy. Slow requests only speak against a canary: nothing waits
/// for them, and their silence says nothing.
fn judge_comparison(compared: &Compared<'_>) -> Vec<Finding> {
    let finding = |outcome, sentence: String| Finding::new("comparison.errors", outcome, sentence);
    let intervals = match compared.series {
        Series::Intervals(intervals) => intervals,
        Series::Incomplete(why) => {
            let sentence = format!("the data of the comparison is not whole: {why}");
            return vec![finding(Outcome::Inconclusive, sentence)];
        }
    };
    let mut errors = compared.minutes(intervals);
    let late = unknown_at_the_end(&errors);
    if late == 1 && errors.len() > 1 {
        // The newest may lag by one: it is judged when it has come.
        errors.pop();
    }
    let slow = compared.slow_minutes(errors.len());
    let judgement = compared.judged(&errors, &slow);
    let Some(evidence) = judgement.metrics.first() else {
        let sentence = compared.named(&judgement.sentence);
        return vec![finding(Outcome::Inconclusive, sentence)];
    };
    let accused = accused(compared, &judgement, &errors, &slow);
    let outcome = accused[0].unwrap_or_else(|| outcome(compared, evidence, &errors));
    let mut sentence = evidence.sentence.clone();
    if outcome == Outcome::Inconclusive {
        sentence.push_str(&said_of_late_data(compared, late, errors.len()));
    }
    let mut findings = vec![finding(outcome, sentence)];
    let metrics = judgement.metrics.iter().zip(&accused).skip(1);
    let metrics = metrics.zip(compared.slow_thresholds).zip(&slow);
    findings.extend(metrics.map(|(((evidence, accused), threshold), minutes)| {
        let ms = threshold.ms;
        let (outcome, sentence) = if let Some(outcome) = accused {
            (*outcome, evidence.sentence.clone())
        } else {
            let sentence = said_of_slow(evidence, *threshold, minutes);
            (Outcome::Healthy, sentence)
        };
        Finding::new(format!("comparison.over{ms}ms"), outcome, sentence)
    }));
    let period = SignedDuration::from_secs(compared.checks.period_seconds.into());
    let judged = i32::try_from(errors.len()).unwrap_or(i32::MAX);
    let until = compared.window.start + period * judged;
    let shown = findings.into_iter().zip(&judgement.metrics).zip(0..);
    let shown = shown.map(|((finding, evidence), at)| {
        let slower_than = (at > 0).then(|| compared.slow_thresholds[at - 1].ms);
        Finding {
            value: evidence.canary_rate.map(|rate| rate * 100.0),
            stable: evidence.stable_rate.map(|rate| rate * 100.0),
            samples: Some(evidence.totals.canary.requests),
            comparison: Some(comparison(evidence, until, slower_than)),
            // The tests know two sides, and call the second one stable.
            sentence: compared.named(&finding.sentence),
            ..finding
        }
    });
    shown.collect()
}

/// What speaks against the canary, metric by metric: what has enough evidence by itself, or the most where it takes all of it
/// together; and the most, too, where it only points there.
fn accused(
    compared: &Compared<'_>,
    judgement: &Judgement,
    errors: &[Minute],
    slow: &[Vec<Minute>],
) -> Vec<Option<Outcome>> {
    let parts = judgement.metrics.iter().enumerate();
    let parts: Vec<_> = parts
        .map(|(at, evidence)| evidence.log_e + compared.weight(at).ln())
        .collect();
    let most = (0..parts.len()).max_by(|one, other| parts[*one].total_cmp(&parts[*other]));
    let against = |outcome, is: &dyn Fn(usize) -> bool| {
        let metrics = 0..parts.len();
        metrics.map(|at| is(at).then_some(outcome)).collect()
    };
    if judgement.outcome == Outcome::Unhealthy {
        // What is not the evidence's doing is the limit's, which is one on errors.
        let enough =
            settings(compared.checks, compared.judge, compared.planned_seconds).threshold();
        let highest = judgement.log_e.iter().copied();
        let by_evidence = highest.fold(f64::NEG_INFINITY, f64::max) >= enough;
        return against(Outcome::Unhealthy, &|at| {
            parts[at] >= enough
                || if by_evidence {
                    Some(at) == most
                } else {
                    at == 0
                }
        });
    }
    let is_silent = |slow: &[Vec<Minute>]| {
        // A doubt that no further data can remove would hold the deployment until its deadline.
        let spoken: Vec<_> = slow.iter().map(|minutes| spoken(minutes)).collect();
        spoken != slow && !compared.judged(errors, &spoken).doubtful
    };
    let doubtful = judgement.doubtful
        && compared.asked != Asked::WhatWasSeen
        && (most == Some(0) || !is_silent(slow));
    against(Outcome::Inconclusive, &|at| doubtful && Some(at) == most)
}

/// The minutes of a metric that still has data; none of one that has fallen silent.
fn spoken(minutes: &[Minute]) -> Vec<Minute> {
    if unknown_at_the_end(minutes) > 1 {
        return Vec::new();
    }
    minutes.to_vec()
}

/// How many of the newest minutes lack data of either side.
fn unknown_at_the_end(minutes: &[Minute]) -> usize {
    let newest = minutes.iter().rev();
    newest.take_while(|minute| !is_known(minute)).count()
}

/// What to do about data that come later than the request says, when they do: otherwise the newest are never there, and a step
/// that waits for them waits for ever.
fn said_of_late_data(compared: &Compared<'_>, late: usize, all: usize) -> String {
    if late < 2 || late >= all {
        return String::new();
    }
    let late = u32::try_from(late).unwrap_or(u32::MAX);
    let late = late.saturating_mul(compared.checks.period_seconds);
    format!(
        "; both versions' newest data are {late} seconds older than they should be: if they always come so late, add that to checks.dataDelaySeconds ({})",
        compared.checks.data_delay()
    )
}

/// What there is to say of slow requests while they do not speak against the canary.
fn said_of_slow(evidence: &Evidence, threshold: SlowThreshold, minutes: &[Minute]) -> String {
    if !minutes.iter().any(is_known) {
        return format!(
            "nothing is known of the requests slower than {} ms",
            threshold.ms
        );
    }
    evidence.counts(slower(threshold))
}

fn slower(threshold: SlowThreshold) -> Counted {
    Counted::Slower {
        canary: threshold.canary_ms(),
        stable: threshold.ms,
    }
}

/// The settings of a deployment's comparison.
fn settings(checks: &Checks, judge: &Judge, planned_seconds: u64) -> Settings {
    let period = checks.period_seconds;
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
        warm_up: judge.warm_up_seconds.div_ceil(period),
        noise: noise(period),
        intervals_per_minute: (60 / period).max(1),
        disaster: Settings::default().disaster.max(judge.margin * 1.5),
        limit: limit.filter(|limit| *limit > 0.0 && *limit < 1.0),
        ..Settings::default()
    }
}

/// The noise to assume of intervals of so many seconds. Below a minute it cannot be learned from neighbours, because what moves
/// a rate mostly lasts longer; and the intervals of a minute together may not say more than the minute.
fn noise(period: u32) -> Noise {
    if period >= 60 {
        return Noise::UNKNOWN;
    }
    Noise {
        start: Noise::UNKNOWN.start * (60.0 / f64::from(period)).sqrt(),
        minutes: f64::INFINITY,
        ..Noise::UNKNOWN
    }
}

impl Compared<'_> {
    /// Errors and slow requests, of so many intervals, together.
    fn judged(&self, errors: &[Minute], slow: &[Vec<Minute>]) -> Judgement {
        let warm_up = self.warm_up(self.since);
        // Where new tasks begin, so that as many intervals later they have been warm for a whole one.
        let place = |at: &Timestamp| {
            let warm = usize::try_from(self.warm_up(*at)).ok()?;
            warm.checked_sub(usize::try_from(warm_up).ok()?)
        };
        let new_tasks: Vec<_> = self.new_tasks_at.iter().filter_map(place).collect();
        let errors = Metric {
            new_tasks: &new_tasks,
            weight: self.weight(0),
            ..Metric::errors(errors)
        };
        let slow = slow.iter().zip(self.slow_thresholds).zip(1..);
        let slow = slow.map(|((minutes, threshold), at)| Metric {
            name: "slow requests",
            counted: slower(*threshold),
            minutes,
            weight: self.weight(at),
            past: Some(self.latency()),
            ..errors
        });
        let metrics: Vec<_> = std::iter::once(errors.clone()).chain(slow).collect();
        let settings = Settings {
            warm_up,
            ..settings(self.checks, self.judge, self.planned_seconds)
        };
        compare(&metrics, &settings)
    }

    /// How far two sides of the same version may be apart in their slow requests.
    fn latency(&self) -> Past {
        let margin = self.judge.margin;
        // The margin is exponential in the spread.
        let unknown = Past::UNKNOWN;
        Past {
            noise: noise(self.checks.period_seconds),
            spread: unknown.spread * margin.ln() / unknown.margin().ln(),
        }
    }

    /// The part of the false alarms that a metric may cause: errors are 0, then come the thresholds. It is the same at every
    /// check, whatever data there are.
    fn weight(&self, at: usize) -> f64 {
        let errors = errors_weight(self.slow_thresholds.len());
        if at == 0 {
            return errors;
        }
        let all = u32::try_from(self.slow_thresholds.len()).unwrap_or(u32::MAX);
        (1.0 - errors) / f64::from(all)
    }

    /// The minutes of each threshold, as many as there are of errors; none where the data are not whole.
    fn slow_minutes(&self, number: usize) -> Vec<Vec<Minute>> {
        let minutes = |at| match self.slow.get(at) {
            Some(Series::Intervals(intervals)) => {
                let mut minutes = self.minutes(intervals);
                minutes.truncate(number);
                minutes
            }
            Some(Series::Incomplete(_)) | None => Vec::new(),
        };
        (0..self.slow_thresholds.len()).map(minutes).collect()
    }
}

/// What is to be said of errors that do not speak against the canary.
fn outcome(compared: &Compared<'_>, evidence: &Evidence, minutes: &[Minute]) -> Outcome {
    let healthy = match compared.asked {
        Asked::Enough => evidence.seen >= 1.0 && minutes.last().is_some_and(is_known),
        Asked::WhatWasSeen => minutes.iter().any(is_known),
        Asked::NothingBadSince(shifted_at) => {
            let period = i64::from(compared.checks.period_seconds);
            let since = shifted_at.as_second() - compared.window.start.as_second();
            // The interval of the shift has data of the weight before.
            let place = usize::try_from((since + period - 1).div_euclid(period)).unwrap_or(0);
            minutes.iter().skip(place).any(is_known)
        }
    };
    if healthy {
        Outcome::Healthy
    } else {
        Outcome::Inconclusive
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
fn within(tally: Tally, limit: f64) -> bool {
    tally.errors as f64 <= limit * tally.requests as f64
}

fn is_known(minute: &Minute) -> bool {
    minute.canary.is_some() && minute.stable.is_some()
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

fn comparison(evidence: &Evidence, until: Timestamp, slower_than_ms: Option<f64>) -> Comparison {
    let totals = &evidence.totals;
    Comparison {
        until,
        slower_than_ms,
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

/// How long it takes until the comparison has seen enough, at the traffic that stable has now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// About how many of the canary's requests.
    pub canary_requests: f64,
    /// About how many minutes beside stable.
    pub minutes: f64,
    /// How many minutes the plan has beside stable.
    pub planned_minutes: f64,
}

/// What the comparison will take when stable's traffic and its rate of errors, a fraction, stay as they are. `None` when it
/// would take more than a week, and when stable has no traffic. `slow_thresholds` is how many there are.
pub fn forecast(
    checks: &Checks,
    judge: &Judge,
    plan: &Plan,
    requests_per_minute: f64,
    error_rate: f64,
    slow_thresholds: usize,
) -> Option<Forecast> {
    let planned = planned_seconds(plan, checks);
    let weight = errors_weight(slow_thresholds);
    let settings = settings(checks, judge, planned);
    let period = f64::from(checks.period_seconds) / 60.0;
    let warm_up = f64::from(settings.warm_up) * period;
    let (mut seen, mut minutes, mut canary_requests) = (0.0, 0.0, 0.0);
    let mut steps = compared_steps(plan, judge).peekable();
    while let Some(step) = steps.next() {
        let split = Split::at(step.weight_percent, judge.baseline);
        let of = |weight: Weight| requests_per_minute * weight.percent() / 100.0;
        let canary = of(split.canary);
        // What the canary is compared with.
        let stable = match of(split.of_baseline()) {
            baseline if baseline > 0.0 => baseline,
            _ => requests_per_minute - canary,
        };
        // New tasks are not judged while they are cold.
        let held = (f64::from(lasts(*step, checks)) / 60.0 - warm_up).max(0.0);
        let needed = settings.exposure(canary * period, stable * period, error_rate, weight);
        let needed = needed.map(|needed| f64::from(needed.minutes) * period - warm_up);
        let left = needed.map(|needed| needed * (1.0 - seen));
        match left {
            Some(left) if left <= held || steps.peek().is_none() => {
                return Some(Forecast {
                    canary_requests: canary_requests + canary * (left + warm_up),
                    minutes: minutes + left + warm_up,
                    planned_minutes: minutes_of(planned),
                });
            }
            _ => {}
        }
        seen += needed.map_or(0.0, |needed| held / needed);
        minutes += held + warm_up;
        canary_requests += canary * (held + warm_up);
    }
    None
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a plan's seconds are far below 2^53"
)]
fn minutes_of(seconds: u64) -> f64 {
    seconds as f64 / 60.0
}

#[cfg(test)]
mod tests {
    use rand_distr::{Binomial, Distribution as _, StandardNormal};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;
    use serin::plan::Step;
    use serin::request::Detect as Wanted;
    use statrs::distribution::ContinuousCDF as _;

    use super::*;

    const JUDGE: Judge = Judge {
        false_alarm: 0.01,
        margin: 1.25,
        detect: Wanted::Points(1.0),
        warm_up_seconds: 120,
        extend: Extend::LastStep,
        baseline: false,
        latency: true,
        kayenta: None,
    };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).unwrap()
    }

    fn series(minutes: usize, canary: (f64, f64), stable: (f64, f64)) -> Series {
        let counts = |(requests, errors)| Some(Counts { requests, errors });
        let interval = Interval {
            canary: counts(canary),
            stable: counts(stable),
            ..Interval::default()
        };
        Series::Intervals(vec![interval; minutes])
    }

    fn judged(series: &Series, asked: Asked) -> Finding {
        let minutes = match series {
            Series::Intervals(intervals) => i64::try_from(intervals.len()).unwrap(),
            Series::Incomplete(_) => 10,
        };
        judge_comparison(&Compared {
            checks: &Checks::default(),
            judge: &JUDGE,
            window: Window {
                start: at(0),
                end: at(minutes),
            },
            series,
            slow_thresholds: &[],
            slow: &[],
            since: at(0),
            baseline_until: None,
            new_tasks_at: &[],
            planned_seconds: 3600,
            asked,
        })
        .remove(0)
    }

    const ANYTHING: Asked = Asked::NothingBadSince(Timestamp::UNIX_EPOCH);

    #[test]
    fn a_canary_with_three_times_the_errors_is_found_below_every_fixed_limit() {
        let finding = judged(&series(12, (3000.0, 18.0), (27_000.0, 54.0)), ANYTHING);
        assert_eq!(finding.outcome, Outcome::Unhealthy, "{}", finding.sentence);
        assert_eq!(finding.value, Some(0.6));
        let evidence = finding.comparison.unwrap();
        assert!(evidence.ratio_from.unwrap() > 1.25 && evidence.log_e >= 100_f64.ln());
    }

    #[test]
    fn an_outage_that_both_share_is_nobodys_fault() {
        let finding = judged(&series(12, (3000.0, 900.0), (27_000.0, 8100.0)), ANYTHING);
        assert_eq!(finding.outcome, Outcome::Healthy, "{}", finding.sentence);
    }

    #[test]
    fn an_outage_that_both_share_does_not_make_the_comparison_wait_for_more() {
        let minutes = |number, rate: f64| {
            let counts = |requests: f64| (requests, (requests * rate).round());
            match series(number, counts(100.0), counts(900.0)) {
                Series::Intervals(intervals) => intervals,
                Series::Incomplete(_) => unreachable!("it is made of intervals"),
            }
        };
        let enough = |in_outage: f64| {
            let mut intervals = minutes(4, 0.001);
            intervals.extend(minutes(3, in_outage));
            intervals.extend(minutes(100, 0.001));
            (7..intervals.len()).find(|until| {
                let so_far = Series::Intervals(intervals[..*until].to_vec());
                judged(&so_far, Asked::Enough).outcome == Outcome::Healthy
            })
        };
        let without = enough(0.001).unwrap();
        for in_outage in [0.02, 0.05, 0.1, 0.3, 0.9] {
            let with = enough(in_outage).unwrap();
            // The minutes of the outage say less than others, and no more than that is lost.
            assert!(with <= without + 3, "{in_outage}: {with} after {without}");
        }
    }

    #[test]
    fn only_a_step_that_waits_for_it_needs_enough() {
        let few = series(3, (60.0, 0.0), (540.0, 0.0));
        assert_eq!(judged(&few, ANYTHING).outcome, Outcome::Healthy);
        assert_eq!(judged(&few, Asked::WhatWasSeen).outcome, Outcome::Healthy);
        let finding = judged(&few, Asked::Enough);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert!(finding.sentence.contains("more of the canary's requests"));
        let many = series(30, (600.0, 0.0), (5400.0, 0.0));
        assert_eq!(judged(&many, Asked::Enough).outcome, Outcome::Healthy);
    }

    #[test]
    fn no_data_never_passes_while_stable_has_traffic() {
        let silent = Series::Intervals(vec![Interval::default(); 10]);
        for asked in [ANYTHING, Asked::Enough] {
            assert_eq!(judged(&silent, asked).outcome, Outcome::Inconclusive);
        }
        let partial = Series::Incomplete("PartialData".into());
        assert_eq!(judged(&partial, ANYTHING).outcome, Outcome::Inconclusive);
        let Series::Intervals(mut intervals) = series(10, (600.0, 0.0), (5400.0, 0.0)) else {
            unreachable!("it is made of intervals")
        };
        intervals.extend(vec![Interval::default(); 5]);
        let since = Asked::NothingBadSince(at(10));
        let finding = judged(&Series::Intervals(intervals), since);
        assert_eq!(
            finding.outcome,
            Outcome::Inconclusive,
            "nothing of this step"
        );
    }

    #[test]
    fn where_stable_itself_fails_a_tenth_a_canary_that_does_not_has_been_seen_enough() {
        let finding = judged(&series(30, (600.0, 0.0), (5400.0, 540.0)), Asked::Enough);
        assert_eq!(finding.outcome, Outcome::Healthy, "{}", finding.sentence);
        assert!(
            finding
                .sentence
                .contains("1.5 times as many errors would have been seen"),
            "{}",
            finding.sentence
        );
    }

    fn plan(steps: &[(f64, u32)]) -> Plan {
        let step = |(percent, hold_seconds): &(f64, u32)| Step {
            weight_percent: Weight::from_percent(*percent).unwrap(),
            hold_seconds: *hold_seconds,
        };
        Plan::new(steps.iter().map(step).collect()).unwrap()
    }

    #[test]
    fn a_few_errors_at_first_are_not_held_against_a_canary_that_has_no_more_of_them() {
        let Series::Intervals(mut intervals) = series(200, (100.0, 0.0), (900.0, 0.0)) else {
            unreachable!("it is made of intervals")
        };
        if let Some(canary) = &mut intervals[4].canary {
            canary.errors = 3.0;
        }
        let early = Series::Intervals(intervals[..6].to_vec());
        assert_eq!(judged(&early, ANYTHING).outcome, Outcome::Inconclusive);
        let finding = judged(&Series::Intervals(intervals), Asked::Enough);
        assert_eq!(finding.outcome, Outcome::Healthy, "{}", finding.sentence);
    }

    #[test]
    fn new_tasks_are_cold_for_as_long_as_the_request_says_wherever_in_a_minute_they_begin() {
        let cold = series(3, (60_000.0, 300.0), (540_000.0, 540.0));
        let checks = Checks::default();
        let compared = |second| Compared {
            checks: &checks,
            judge: &JUDGE,
            window: Window {
                start: at(0),
                end: at(3),
            },
            series: &cold,
            slow_thresholds: &[],
            slow: &[],
            since: Timestamp::from_second(second).unwrap(),
            baseline_until: None,
            new_tasks_at: &[],
            planned_seconds: 3600,
            asked: ANYTHING,
        };
        assert_eq!(compared(0).warm_up(at(0)), 2);
        for second in [1, 30, 59] {
            let compared = compared(second);
            assert_eq!(compared.warm_up(compared.since), 3);
            let finding = judge_comparison(&compared).remove(0);
            assert_ne!(finding.outcome, Outcome::Unhealthy, "{}", finding.sentence);
        }
    }

    #[test]
    fn the_intervals_of_a_minute_say_no_more_than_the_minute() {
        // What lasts a minute is not six times as likely because it was measured six times.
        let log_e = |period: u32| {
            let checks = Checks {
                period_seconds: period,
                ..Checks::default()
            };
            let share = f64::from(period) / 60.0;
            let minute = |rate: f64| {
                let counts = |requests: f64, rate: f64| {
                    Some(Counts {
                        requests: (requests * share).round(),
                        errors: (requests * share * rate).round(),
                    })
                };
                let interval = Interval {
                    canary: counts(60_000.0, rate),
                    stable: counts(540_000.0, 0.01),
                    ..Interval::default()
                };
                vec![interval; usize::try_from(60 / period).unwrap()]
            };
            let rates = [
                0.01, 0.008, 0.012, 0.022, 0.02, 0.006, 0.005, 0.021, 0.008, 0.019,
            ];
            let series = Series::Intervals(rates.into_iter().flat_map(minute).collect());
            let finding = judge_comparison(&Compared {
                checks: &checks,
                judge: &JUDGE,
                window: Window {
                    start: at(0),
                    end: at(10),
                },
                series: &series,
                slow_thresholds: &[],
                slow: &[],
                since: at(0),
                baseline_until: None,
                new_tasks_at: &[],
                planned_seconds: 3600,
                asked: ANYTHING,
            })
            .remove(0);
            assert_ne!(finding.outcome, Outcome::Unhealthy, "{}", finding.sentence);
            finding.comparison.unwrap().log_e
        };
        assert!(log_e(10) < log_e(60) + 1.0, "{} {}", log_e(10), log_e(60));
    }

    const THRESHOLDS: [SlowThreshold; 2] = [
        SlowThreshold {
            percentile: 90.0,
            ms: 182.0,
        },
        SlowThreshold {
            percentile: 99.0,
            ms: 950.0,
        },
    ];

    /// Errors, requests above the first threshold and above the second.
    fn judged_beside(errors: &Series, slow: &[Series], asked: Asked) -> Vec<Finding> {
        let minutes = match errors {
            Series::Intervals(intervals) => i64::try_from(intervals.len()).unwrap(),
            Series::Incomplete(_) => 10,
        };
        judge_comparison(&Compared {
            checks: &Checks::default(),
            judge: &JUDGE,
            window: Window {
                start: at(0),
                end: at(minutes),
            },
            series: errors,
            slow_thresholds: &THRESHOLDS,
            slow,
            since: at(0),
            baseline_until: None,
            new_tasks_at: &[],
            planned_seconds: 3600,
            asked,
        })
    }

    fn outcomes(findings: &[Finding]) -> Vec<Outcome> {
        findings.iter().map(|finding| finding.outcome).collect()
    }

    const ALIKE: (f64, f64) = (27_000.0, 0.0);

    #[test]
    fn a_slower_canary_is_found_by_the_threshold_that_sees_it() {
        use Outcome::{Healthy, Unhealthy};
        let errors = series(12, (3000.0, 0.0), ALIKE);
        let same = |part: f64| series(12, (3000.0, 3000.0 * part), (27_000.0, 27_000.0 * part));
        let slower = series(12, (3000.0, 1350.0), (27_000.0, 2700.0));
        let findings = judged_beside(&errors, &[slower, same(0.01)], ANYTHING);
        assert_eq!(outcomes(&findings), [Healthy, Unhealthy, Healthy]);
        assert_eq!(findings[1].name, "comparison.over182ms");
        assert!(
            findings[1]
                .sentence
                .contains("requests in more than 237 ms (45 percent), stable 5,400 of 54,000 in more than 182 ms (10 percent)"),
            "{}",
            findings[1].sentence
        );
        assert!(
            findings[2]
                .sentence
                .contains("requests in more than 1240 ms (1 percent), stable ")
                && findings[2]
                    .sentence
                    .ends_with(" in more than 950 ms (1 percent)"),
            "{}",
            findings[2].sentence
        );
        let tail = series(12, (3000.0, 150.0), (27_000.0, 270.0));
        let findings = judged_beside(&errors, &[same(0.1), tail], ANYTHING);
        assert_eq!(outcomes(&findings), [Healthy, Healthy, Unhealthy]);
    }

    #[test]
    fn the_limit_on_errors_is_none_on_slow_requests() {
        // A tenth is slow on both sides, and the limit on errors is one percent.
        let errors = series(40, (3000.0, 0.0), ALIKE);
        let slow = [
            series(40, (3000.0, 330.0), (27_000.0, 2700.0)),
            series(40, (3000.0, 60.0), (27_000.0, 540.0)),
        ];
        let findings = judged_beside(&errors, &slow, Asked::Enough);
        assert_eq!(outcomes(&findings), [Outcome::Healthy; 3], "{findings:?}");
    }

    #[test]
    fn errors_above_the_limit_are_the_errors_fault_whatever_the_latency() {
        let errors = series(40, (3000.0, 35.0), (27_000.0, 230.0));
        let slow = [
            series(40, (3000.0, 300.0), (27_000.0, 2700.0)),
            series(40, (3000.0, 30.0), (27_000.0, 270.0)),
        ];
        let findings = judged_beside(&errors, &slow, ANYTHING);
        assert_eq!(findings[0].outcome, Outcome::Unhealthy, "{findings:?}");
    }

    #[test]
    fn nothing_waits_for_latency_and_its_silence_says_nothing() {
        let errors = series(30, (600.0, 0.0), (5400.0, 0.0));
        let silent = || Series::Intervals(vec![Interval::default(); 30]);
        let partial = || Series::Incomplete("PartialData".into());
        for slow in [
            vec![silent(), silent()],
            vec![partial(), silent()],
            vec![series(1, (1.0, 0.0), (9.0, 0.0)), silent()],
            Vec::new(),
        ] {
            let findings = judged_beside(&errors, &slow, Asked::Enough);
            assert_eq!(outcomes(&findings), [Outcome::Healthy; 3], "{findings:?}");
        }
        let plenty = || series(3, (60_000.0, 6000.0), (540_000.0, 54_000.0));
        let few = series(3, (60.0, 0.0), (540.0, 0.0));
        let findings = judged_beside(&few, &[plenty(), plenty()], Asked::Enough);
        assert_eq!(
            findings[0].outcome,
            Outcome::Inconclusive,
            "not promoted by it"
        );
    }

    #[test]
    fn doubt_about_latency_holds_a_step_until_its_data_stop() {
        let errors = series(60, (600.0, 0.0), (5400.0, 0.0));
        // About as far from stable as it takes to be in doubt.
        let doubtful = (0..300).find_map(|slow| {
            let few = series(8, (600.0, 120.0 + f64::from(slow)), (5400.0, 540.0));
            let errors = series(8, (600.0, 0.0), (5400.0, 0.0));
            let findings = judged_beside(&errors, &[few], ANYTHING);
            (findings[1].outcome == Outcome::Inconclusive).then_some(120.0 + f64::from(slow))
        });
        let slow = doubtful.unwrap();
        let Series::Intervals(mut intervals) = series(8, (600.0, slow), (5400.0, 540.0)) else {
            unreachable!("it is made of intervals")
        };
        intervals.resize(60, Interval::default());
        let findings = judged_beside(&errors, &[Series::Intervals(intervals)], Asked::Enough);
        assert_eq!(outcomes(&findings), [Outcome::Healthy; 3], "{findings:?}");
    }

    /// A service whose times are log-normal, and a canary with a tenth of its requests.
    #[derive(Clone, Copy)]
    struct Times {
        /// How far the logarithms are spread.
        sigma: f64,
        /// By how much each side wanders, for about ten minutes.
        wander: f64,
        /// How many times as long the canary takes.
        factor: f64,
        /// The parts of stable's and of the canary's requests that take eight times as long.
        tails: [f64; 2],
    }

    const USUAL: Times = Times {
        sigma: 0.5,
        wander: 0.05,
        factor: 1.0,
        tails: [0.0; 2],
    };

    impl Times {
        /// The part of the requests above a threshold; both as logarithms.
        fn above(self, threshold: f64, level: f64, tail: f64) -> f64 {
            let normal = statrs::distribution::Normal::standard();
            let part = |level: f64| normal.cdf((level - threshold) / self.sigma);
            (1.0 - tail) * part(level) + tail * part(level + 8_f64.ln())
        }

        fn threshold(self, part: f64) -> f64 {
            let (mut low, mut high) = (-10.0, 10.0);
            for _ in 0..60 {
                let middle = f64::midpoint(low, high);
                if self.above(middle, 0.0, self.tails[0]) > part {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            low
        }

        /// How many of 100 hours are rolled back, and the median minute.
        fn rolled_back(self, requests_per_second: u32) -> (usize, usize) {
            let memory = 0.9_f64;
            let thresholds = [0.1, 0.01].map(|part| self.threshold(part));
            let (few, many) = (requests_per_second * 6, requests_per_second * 54);
            let errors = |minutes| series(minutes, (few.into(), 0.0), (many.into(), 0.0));
            let mut found = Vec::new();
            for seed in 0..100 {
                let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
                let mut gauss = || -> f64 { StandardNormal.sample(&mut dice) };
                let mut off = [0.0; 2].map(|_: f64| self.wander * gauss());
                let mut step = |_| {
                    for off in &mut off {
                        let news = self.wander * (1.0 - memory * memory).sqrt();
                        *off = memory * *off + news * gauss();
                    }
                    [off[0] + self.factor.ln(), off[1]]
                };
                let levels: Vec<_> = (0..60).map(&mut step).collect();
                let mut drawn =
                    |number: u64, part: f64| Binomial::new(number, part).unwrap().sample(&mut dice);
                // What is slower than the second threshold is slower than the first, too.
                let mut counts = |requests: u32, longer: f64, level: f64, tail: f64| {
                    let parts =
                        thresholds.map(|threshold| self.above(threshold + longer, level, tail));
                    let slow = drawn(requests.into(), parts[0]);
                    let slowest = drawn(slow, parts[1] / parts[0]);
                    [slow, slowest].map(|errors| {
                        Some(Counts {
                            requests: requests.into(),
                            errors: f64::from(u32::try_from(errors).unwrap()),
                        })
                    })
                };
                let mut slow = [const { Vec::new() }; 2];
                for [canary, stable] in &levels {
                    let canary = counts(few, 1.3_f64.ln(), *canary, self.tails[1]);
                    let stable = counts(many, 0.0, *stable, self.tails[0]);
                    for (place, slow) in slow.iter_mut().enumerate() {
                        slow.push(Interval {
                            canary: canary[place],
                            stable: stable[place],
                            baseline: None,
                        });
                    }
                }
                let is_found = |minutes: usize| {
                    let slow = slow
                        .each_ref()
                        .map(|slow| Series::Intervals(slow[..minutes].to_vec()));
                    let findings = judged_beside(&errors(minutes), &slow, ANYTHING);
                    outcomes(&findings).contains(&Outcome::Unhealthy)
                };
                if is_found(60) {
                    let minutes: Vec<_> = (1..=60).collect();
                    found.push(1 + minutes.partition_point(|minutes| !is_found(*minutes)));
                }
            }
            found.sort_unstable();
            let median = found.get(found.len() / 2);
            (found.len(), median.copied().unwrap_or(0))
        }
    }

    #[test]
    fn two_sides_whose_times_wander_apart_are_not_rolled_back_and_a_slower_canary_is() {
        for requests_per_second in [10, 100, 1000] {
            let (false_alarms, _) = USUAL.rolled_back(requests_per_second);
            assert!(false_alarms <= 2, "{requests_per_second}: {false_alarms}");
            for (factor, least, within) in [(1.5, 75, 32), (2.0, 99, 5)] {
                let slower = Times { factor, ..USUAL };
                let (found, minutes) = slower.rolled_back(requests_per_second);
                assert!(
                    found >= least && minutes <= within,
                    "{found} after {minutes}"
                );
            }
        }
    }

    #[test]
    #[ignore = "it prints the table of the README, which takes a minute"]
    #[expect(clippy::print_stdout, reason = "that is what it is for")]
    fn the_table_of_latency() {
        let tail = |canary| Times {
            tails: [0.01, canary],
            ..USUAL
        };
        let cases = [
            ("alike, 5 percent apart for minutes", USUAL),
            (
                "alike, narrow times",
                Times {
                    sigma: 0.3,
                    ..USUAL
                },
            ),
            (
                "alike, wide times",
                Times {
                    sigma: 1.0,
                    ..USUAL
                },
            ),
            (
                "alike, 10 percent apart",
                Times {
                    wander: 0.1,
                    ..USUAL
                },
            ),
            (
                "all 10 percent slower",
                Times {
                    factor: 1.1,
                    ..USUAL
                },
            ),
            (
                "all 25 percent slower",
                Times {
                    factor: 1.25,
                    ..USUAL
                },
            ),
            (
                "all 50 percent slower",
                Times {
                    factor: 1.5,
                    ..USUAL
                },
            ),
            (
                "the same, wide times",
                Times {
                    factor: 1.5,
                    sigma: 1.0,
                    ..USUAL
                },
            ),
            (
                "all twice as slow",
                Times {
                    factor: 2.0,
                    ..USUAL
                },
            ),
            ("3 instead of 1 percent 8 times slower", tail(0.03)),
            ("11 instead of 1 percent", tail(0.11)),
        ];
        for (name, times) in cases {
            let cells = [10, 100, 1000].map(|requests| {
                let (found, minutes) = times.rolled_back(requests);
                match found {
                    0 => "0".to_owned(),
                    _ => format!("{found}, {minutes}'"),
                }
            });
            println!("| {name} | {} |", cells.join(" | "));
        }
    }

    #[test]
    fn the_weights_do_not_depend_on_what_data_there_are() {
        let errors = series(12, (3000.0, 9.0), (27_000.0, 54.0));
        let alike = || series(12, (3000.0, 300.0), (27_000.0, 2700.0));
        let log_e = |slow: &[Series]| {
            let findings = judged_beside(&errors, slow, ANYTHING);
            findings[0].comparison.unwrap().log_e
        };
        assert!((log_e(&[]) - log_e(&[alike(), alike()])).abs() < 1e-9);
    }

    #[test]
    fn the_newest_interval_may_lag_by_one_and_what_comes_later_is_told() {
        let findings = |late: usize| {
            let Series::Intervals(mut intervals) = series(30, (600.0, 0.0), (5400.0, 0.0)) else {
                unreachable!("it is made of intervals")
            };
            let known = intervals.len() - late;
            intervals[known..].fill(Interval::default());
            judged(&Series::Intervals(intervals), Asked::Enough)
        };
        assert_eq!(findings(0).outcome, Outcome::Healthy);
        let one = findings(1);
        assert_eq!(one.outcome, Outcome::Healthy, "{}", one.sentence);
        assert_eq!(one.comparison.unwrap().until, at(29));
        let three = findings(3);
        assert_eq!(three.outcome, Outcome::Inconclusive);
        assert!(
            three.sentence.ends_with("180 seconds older than they should be: if they always come so late, add that to checks.dataDelaySeconds (120)"),
            "{}",
            three.sentence
        );
        assert!(!findings(30).sentence.contains("dataDelaySeconds"));
    }

    #[test]
    fn what_the_comparison_takes_is_told_beforehand() {
        let told = |requests_per_minute| {
            let plan = plan(&[(10.0, 600), (50.0, 600), (100.0, 600)]);
            let checks = Checks::default();
            forecast(&checks, &JUDGE, &plan, requests_per_minute, 0.001, 0)
        };
        let busy = told(60_000.0).unwrap();
        assert!(
            busy.minutes < 5.0 && busy.planned_minutes > 19.9,
            "{busy:?}"
        );
        let quiet = told(60.0).unwrap();
        assert!(quiet.minutes > quiet.planned_minutes, "{quiet:?}");
        assert!(
            (500.0..5000.0).contains(&quiet.canary_requests),
            "{quiet:?}"
        );
        assert_eq!(told(0.0), None);
    }

    #[test]
    fn a_plan_without_a_step_beside_stable_compares_nothing() {
        assert_eq!(
            planned_seconds(&plan(&[(100.0, 600)]), &Checks::default()),
            0
        );
        let steps = plan(&[(5.0, 300), (50.0, 60), (100.0, 600)]);
        assert_eq!(
            planned_seconds(&steps, &Checks::default()),
            (300 + 120) + (120 + 120),
            "each until its data are there"
        );
    }
}

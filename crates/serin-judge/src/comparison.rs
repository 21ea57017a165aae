//! The comparison of a deployment: from what was measured of both sides to a finding with its evidence.

use jiff::Timestamp;
use serin::ports::{Counts, Interval, Measurements, Series, Times};
use serin::request::{self, Checks, Extend, Judge};
use serin::verdict::{Comparison, Finding, Outcome, Window};
use serin::{Deployment, Plan, Progress, Step, Weight};

use crate::kayenta::{Judging, judge_kayenta};
use crate::limits::Calm;
use crate::sequential::{
    Detect, Evidence, Judgement, Metric, Minute, Noise, Settings, Tally, compare,
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
    /// When the canary began to serve what is compared.
    since: Timestamp,
    /// When new tasks of the canary began to serve after that.
    new_tasks_at: &'a [Timestamp],
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
        let last = compared_steps(&deployment.plan).count() <= step + 1;
        Some(match judge.extend {
            _ if progress.weight_percent == Weight::FULL => Self::WhatWasSeen,
            Extend::LastStep if !last => Self::NothingBadSince(shifted_at),
            Extend::LastStep | Extend::EveryStep => Self::Enough,
        })
    }
}

/// What the comparison with stable says of these measurements, in the time `window` that was asked for; nothing when the
/// request wants nothing compared.
pub fn judge_beside_stable(
    deployment: &Deployment,
    progress: &Progress,
    window: Window,
    measured: &Measurements,
) -> Option<Finding> {
    let judge = deployment.checks.judge.as_ref()?;
    let Some(kayenta) = &judge.kayenta else {
        let series = measured.compared.as_ref()?;
        let compared = Compared::of(deployment, progress, window, series)?;
        return Some(judge_comparison(&compared));
    };
    Some(judge_kayenta(&Judging {
        kayenta,
        window,
        series: measured.kayenta.as_ref()?,
        warm_up_seconds: judge.warm_up_seconds,
        planned_seconds: planned_seconds(&deployment.plan, &deployment.checks),
        asked: Asked::now(deployment, progress, judge)?,
    }))
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
    compared_steps(&deployment.plan)
        .next()
        .filter(|_| checks.judge.is_some())?;
    let period = checks.period_seconds;
    let newest = now.as_second() - i64::from(checks.data_delay());
    let end = if progress.weight_percent == Weight::FULL {
        newest.min(progress.shifted_at?.as_second())
    } else {
        newest
    };
    let end = floor(end, period);
    let start = floor(progress.compared_since?.as_second(), period);
    (end > start).then(|| window(start, end))
}

/// The steps at which stable has traffic to compare with.
fn compared_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    let steps = plan.steps().iter();
    steps.filter(|step| step.weight_percent < Weight::FULL)
}

/// For how long both sides are planned to serve, in seconds: a step lasts until its hold could be measured.
pub fn planned_seconds(plan: &Plan, checks: &Checks) -> u64 {
    compared_steps(plan)
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

    /// What there is to compare; `None` when the request wants nothing compared, or no step is in force.
    fn of(
        deployment: &'a Deployment,
        progress: &'a Progress,
        window: Window,
        series: &'a Series,
    ) -> Option<Self> {
        let judge = deployment.checks.judge.as_ref()?;
        let asked = Asked::now(deployment, progress, judge)?;
        Some(Self {
            checks: &deployment.checks,
            judge,
            window,
            series,
            since: progress.compared_since?,
            new_tasks_at: &progress.new_tasks_at,
            planned_seconds: planned_seconds(&deployment.plan, &deployment.checks),
            asked,
        })
    }
}

/// What the comparison says now: unhealthy when the canary is worse; inconclusive without data, while it looks worse but may
/// not be, and before enough has been seen in a step that waits for it; otherwise healthy.
fn judge_comparison(compared: &Compared<'_>) -> Finding {
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

fn judged(compared: &Compared<'_>, minutes: &[Minute]) -> Judgement {
    let warm_up = compared.warm_up(compared.since);
    // Where new tasks begin, so that as many intervals later they have been warm for a whole one.
    let place = |at: &Timestamp| {
        let warm = usize::try_from(compared.warm_up(*at)).ok()?;
        warm.checked_sub(usize::try_from(warm_up).ok()?)
    };
    let new_tasks: Vec<_> = compared.new_tasks_at.iter().filter_map(place).collect();
    let metric = Metric {
        new_tasks: &new_tasks,
        ..Metric::errors(minutes)
    };
    let settings = Settings {
        warm_up,
        ..settings(compared.checks, compared.judge, compared.planned_seconds)
    };
    compare(&[metric], &settings)
}

fn outcome(compared: &Compared<'_>, judgement: &Judgement, minutes: &[Minute]) -> Outcome {
    let healthy = match compared.asked {
        _ if judgement.outcome != Outcome::Inconclusive => return judgement.outcome,
        Asked::Enough => false,
        Asked::WhatWasSeen => minutes.iter().any(is_known),
        Asked::NothingBadSince(shifted_at) => {
            let period = i64::from(compared.checks.period_seconds);
            let since = shifted_at.as_second() - compared.window.start.as_second();
            // The interval of the shift has data of the weight before.
            let place = usize::try_from((since + period - 1).div_euclid(period)).unwrap_or(0);
            minutes.iter().skip(place).any(is_known) && !judgement.doubtful
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
/// would take more than a week, and when stable has no traffic.
pub fn forecast(
    checks: &Checks,
    judge: &Judge,
    plan: &Plan,
    requests_per_minute: f64,
    error_rate: f64,
) -> Option<Forecast> {
    let planned = planned_seconds(plan, checks);
    let settings = settings(checks, judge, planned);
    let period = f64::from(checks.period_seconds) / 60.0;
    let warm_up = f64::from(settings.warm_up) * period;
    let (mut seen, mut minutes, mut canary_requests) = (0.0, 0.0, 0.0);
    let mut steps = compared_steps(plan).peekable();
    while let Some(step) = steps.next() {
        let share = step.weight_percent.percent() / 100.0;
        let canary = requests_per_minute * share;
        let stable = requests_per_minute - canary;
        // New tasks are not judged while they are cold.
        let held = (f64::from(lasts(*step, checks)) / 60.0 - warm_up).max(0.0);
        let needed = settings.exposure(canary * period, stable * period, error_rate, 1.0);
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
    use serin::plan::Step;
    use serin::request::Detect as Wanted;

    use super::*;

    const JUDGE: Judge = Judge {
        false_alarm: 0.01,
        margin: 1.25,
        detect: Wanted::Points(1.0),
        warm_up_seconds: 120,
        extend: Extend::LastStep,
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
            since: at(0),
            new_tasks_at: &[],
            planned_seconds: 3600,
            asked,
        })
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
            since: Timestamp::from_second(second).unwrap(),
            new_tasks_at: &[],
            planned_seconds: 3600,
            asked: ANYTHING,
        };
        assert_eq!(compared(0).warm_up(at(0)), 2);
        for second in [1, 30, 59] {
            let compared = compared(second);
            assert_eq!(compared.warm_up(compared.since), 3);
            let finding = judge_comparison(&compared);
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
                since: at(0),
                new_tasks_at: &[],
                planned_seconds: 3600,
                asked: ANYTHING,
            });
            assert_ne!(finding.outcome, Outcome::Unhealthy, "{}", finding.sentence);
            finding.comparison.unwrap().log_e
        };
        assert!(log_e(10) < log_e(60) + 1.0, "{} {}", log_e(10), log_e(60));
    }

    #[test]
    fn what_the_comparison_takes_is_told_beforehand() {
        let told = |requests_per_minute| {
            let plan = plan(&[(10.0, 600), (50.0, 600), (100.0, 600)]);
            let checks = Checks::default();
            forecast(&checks, &JUDGE, &plan, requests_per_minute, 0.001)
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

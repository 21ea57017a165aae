//! The rules that are compared. Each says after which minute it rolls back, counted from 1.

use serin_judge::sequential::{Counted, Metric, Minute, Past, Settings, Tally, first_roll_back};

/// A way to judge a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// More than ten errors in a minute.
    Count,
    /// Less than 99 percent good requests in five minutes altogether.
    SuccessRate,
    /// Kayenta's judge on the error rates against stable, every five minutes.
    Kayenta,
    /// The sequential comparison with its defaults.
    Ours,
    /// The same, knowing three days of the service's past.
    OursWithPast,
}

pub(crate) const RULES: [Rule; 5] = [
    Rule::Count,
    Rule::SuccessRate,
    Rule::Kayenta,
    Rule::Ours,
    Rule::OursWithPast,
];

impl Rule {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::SuccessRate => "success rate",
            Self::Kayenta => "Kayenta",
            Self::Ours => "ours",
            Self::OursWithPast => "ours with past",
        }
    }

    /// Rules that need so much time that fewer runs have to do.
    pub(crate) const fn slow(self) -> bool {
        matches!(self, Self::Kayenta | Self::OursWithPast)
    }

    pub(crate) fn judge(self, minutes: &[Minute], past: Option<Past>) -> Option<usize> {
        match self {
            Self::Count => count(minutes),
            Self::SuccessRate => success_rate(minutes),
            Self::Kayenta => kayenta(minutes),
            Self::Ours | Self::OursWithPast => ours(minutes, past),
        }
    }
}

/// Chimera's rule: more than this many errors in the last minute. No baseline, and silence is health.
fn count(minutes: &[Minute]) -> Option<usize> {
    const MOST: u64 = 10;
    let over = |minute: &Minute| minute.canary.is_some_and(|tally| tally.errors > MOST);
    minutes.iter().position(over).map(|at| at + 1)
}

/// Flagger's rule with the figures of its documentation: a success rate of 99 percent, five failed checks.
fn success_rate(minutes: &[Minute]) -> Option<usize> {
    const LEAST: f64 = 0.99;
    const CHECKS: usize = 5;
    let failed = |minute: &Minute| {
        minute
            .canary
            .and_then(rate)
            .is_none_or(|rate| 1.0 - rate < LEAST)
    };
    let mut checks = minutes
        .iter()
        .enumerate()
        .filter(|(_, minute)| failed(minute));
    checks.nth(CHECKS - 1).map(|(at, _)| at + 1)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn rate(tally: Tally) -> Option<f64> {
    (tally.requests > 0).then(|| tally.errors as f64 / tally.requests as f64)
}

/// Kayenta's rule for a metric that may not increase: the 98 percent interval of the Mann-Whitney shift, against a quarter
/// of its estimate. Ties and degenerate series are treated as Kayenta does; the interval's ends are order statistics of
/// the pairwise differences here, where Kayenta searches a zero.
fn kayenta(minutes: &[Minute]) -> Option<usize> {
    const EVERY: usize = 5;
    (EVERY..=minutes.len()).step_by(EVERY).find(|until| {
        let side = |side: fn(&Minute) -> Option<Tally>| -> Vec<f64> {
            minutes[..*until]
                .iter()
                .filter_map(|minute| rate(side(minute)?))
                .collect()
        };
        high(&side(|minute| minute.canary), &side(|minute| minute.stable))
    })
}

fn high(canary: &[f64], stable: &[f64]) -> bool {
    const QUANTILE: f64 = 2.326_347_874_040_840_8;
    const TOLERANCE: f64 = 0.25;
    if canary.is_empty() || stable.is_empty() {
        return false;
    }
    let first = canary[0];
    if canary
        .iter()
        .chain(stable)
        .all(|value| value.to_bits() == first.to_bits())
    {
        return false;
    }
    let mut differences: Vec<f64> = canary
        .iter()
        .flat_map(|canary| stable.iter().map(move |stable| canary - stable))
        .collect();
    let (m, n) = (length(canary), length(stable));
    let mut all: Vec<f64> = canary.iter().chain(stable).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|a, b| a.to_bits() == b.to_bits())
        .map(|group| length(group).powi(3) - length(group))
        .sum();
    let variance = m * n / 12.0 * (m + n + 1.0 - ties / ((m + n) * (m + n - 1.0)));
    // The shift at which the statistic, corrected by a half, is still QUANTILE deviations above its mean: about this many
    // differences lie below it.
    let below = m * n / 2.0 - 0.5 - QUANTILE * variance.sqrt();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position among the differences"
    )]
    let below = below.max(0.0).floor() as usize;
    let middle = differences.len() / 2;
    let (_, lower, _) = differences.select_nth_unstable_by(below, f64::total_cmp);
    let lower = *lower;
    let (_, estimate, _) = differences.select_nth_unstable_by(middle, f64::total_cmp);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / length(values);
    lower > TOLERANCE * estimate.abs() && mean(canary) >= mean(stable)
}

#[expect(clippy::cast_precision_loss, reason = "at most an hour of minutes")]
fn length(values: &[f64]) -> f64 {
    values.len() as f64
}

pub(crate) fn metric(minutes: &[Minute], past: Option<Past>) -> Metric<'_> {
    Metric {
        name: "errors",
        counted: Counted::Errors,
        minutes,
        new_tasks: &[],
        weight: 1.0,
        past,
    }
}

fn ours(minutes: &[Minute], past: Option<Past>) -> Option<usize> {
    first_roll_back(&[metric(minutes, past)], &Settings::default()).map(|at| at + 1)
}

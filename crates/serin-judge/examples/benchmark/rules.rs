//! The rules that are compared. Each says after which minute it rolls back, counted from 1.

use serin_judge::kayenta::{Classifier, Direction, Label, MetricSettings};
use serin_judge::sequential::{Metric, Minute, Past, Settings, Tally, first_roll_back};

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
    /// The same with the past of a service without noise and without lasting differences, which need not be this one's.
    OursWithQuietPast,
}

pub(crate) const RULES: [Rule; 6] = [
    Rule::Count,
    Rule::SuccessRate,
    Rule::Kayenta,
    Rule::Ours,
    Rule::OursWithPast,
    Rule::OursWithQuietPast,
];

impl Rule {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::SuccessRate => "success rate",
            Self::Kayenta => "Kayenta",
            Self::Ours => "ours",
            Self::OursWithPast => "ours with past",
            Self::OursWithQuietPast => "ours with a quiet past",
        }
    }

    /// Rules that need so much time that fewer runs have to do.
    pub(crate) const fn slow(self) -> bool {
        matches!(
            self,
            Self::Kayenta | Self::OursWithPast | Self::OursWithQuietPast
        )
    }

    pub(crate) fn judge(self, minutes: &[Minute], past: Option<Past>) -> Option<usize> {
        match self {
            Self::Count => count(minutes),
            Self::SuccessRate => success_rate(minutes),
            Self::Kayenta => kayenta(minutes),
            Self::Ours | Self::OursWithPast | Self::OursWithQuietPast => ours(minutes, past),
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

/// Kayenta's judge every five minutes on all minutes so far; High rolls back.
fn kayenta(minutes: &[Minute]) -> Option<usize> {
    const EVERY: usize = 5;
    (EVERY..=minutes.len())
        .step_by(EVERY)
        .find(|until| label(&minutes[..*until]) == Label::High)
}

/// The percentages of failed requests of stable and of the canary, minute by minute.
pub(crate) fn percentages(minutes: &[Minute]) -> (Vec<f64>, Vec<f64>) {
    let percent = |side: fn(&Minute) -> Option<Tally>| -> Vec<f64> {
        let rates = minutes.iter().map(|minute| side(minute).and_then(rate));
        rates
            .map(|rate| rate.map_or(f64::NAN, |rate| rate * 100.0))
            .collect()
    };
    (
        percent(|minute| minute.stable),
        percent(|minute| minute.canary),
    )
}

/// What Kayenta's judge says of the error percentages, which may not increase.
pub(crate) fn label(minutes: &[Minute]) -> Label {
    let settings = MetricSettings {
        direction: Direction::Increase,
        ..MetricSettings::default()
    };
    let (control, experiment) = percentages(minutes);
    Classifier::default()
        .judge(&control, &experiment, &settings)
        .label
}

pub(crate) fn metric(minutes: &[Minute], past: Option<Past>) -> Metric<'_> {
    Metric {
        past,
        ..Metric::errors(minutes)
    }
}

/// What a deployment is compared by when its request says nothing: its limit on the error rate, 1 percent, counts too.
pub(crate) fn deployed() -> Settings {
    Settings {
        limit: Some(0.01),
        ..Settings::default()
    }
}

fn ours(minutes: &[Minute], past: Option<Past>) -> Option<usize> {
    first_roll_back(&[metric(minutes, past)], &deployed()).map(|at| at + 1)
}

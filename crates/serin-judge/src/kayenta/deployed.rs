//! Kayenta's judge in a deployment: which judgement is due, over which time, and what its score calls for.

use serin::ports::{MetricSeries, SeriesOfMetrics};
use serin::request::Kayenta;
use serin::verdict::{Finding, Limit, Outcome, Window};

use super::Classifier;
use super::config::CanaryConfig;
use super::run::{self, Pair, Report, Schedule, Span, ends_early};
use super::score::{Thresholds, Zero};
use crate::comparison::Asked;

/// What is judged, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judging<'a> {
    /// How the request wants it.
    pub(crate) kayenta: &'a Kayenta,
    /// The time that was measured.
    pub(crate) window: Window,
    /// What was measured in it.
    pub(crate) series: &'a SeriesOfMetrics,
    /// How long nothing counts, in seconds.
    pub(crate) warm_up_seconds: u32,
    /// For how long both sides are planned to serve, in seconds.
    pub(crate) planned_seconds: u64,
    /// What the step in force asks.
    pub(crate) asked: Asked,
}

/// What the newest judgement that is due says.
///
/// A score that is marginal or less is unhealthy, as it ends a run of Kayenta's at once. Before the first judgement nothing is
/// known. A step that waits for enough waits for the last judgement, which must pass.
pub(crate) fn judge_kayenta(judging: &Judging<'_>) -> Finding {
    let finding = |outcome, sentence: String| Finding::new("kayenta.score", outcome, sentence);
    let metrics = match judging.series {
        SeriesOfMetrics::Whole(metrics) => metrics,
        SeriesOfMetrics::Incomplete(why) => {
            let sentence = format!("the data for Kayenta's judge are not whole: {why}");
            return finding(Outcome::Inconclusive, sentence);
        }
    };
    let schedule = schedule(judging);
    let last = schedule.judgements().max(1);
    let Some(index) = newest(judging, &schedule) else {
        let first = schedule.experiment(1).end - judging.window.start.as_second();
        let sentence = format!(
            "Kayenta's first judgement comes when both versions have served for {first} seconds"
        );
        return finding(Outcome::Inconclusive, sentence);
    };
    let report = match report(judging, metrics, schedule.experiment(index)) {
        Ok(report) => report,
        Err(why) => return finding(Outcome::Inconclusive, why),
    };
    let Kayenta { pass, marginal, .. } = *judging.kayenta;
    let score = report.scores.summary;
    let is_last = index >= last;
    let outcome = if ends_early(score, Some(marginal)) || (is_last && score < pass) {
        Outcome::Unhealthy
    } else if is_last || judging.asked != Asked::Enough {
        Outcome::Healthy
    } else {
        Outcome::Inconclusive
    };
    Finding {
        value: Some(score),
        limit: Some(Limit::Min(if is_last { pass } else { marginal })),
        samples: Some(values(&report)),
        ..finding(outcome, said(&report, index, last, judging.kayenta))
    }
}

/// The judgements that are planned beside stable; a step that is extended goes on with more.
fn schedule(judging: &Judging<'_>) -> Schedule {
    let warm_up = i64::from(judging.warm_up_seconds);
    let planned = i64::try_from(judging.planned_seconds).unwrap_or(i64::MAX);
    let interval = i64::from(judging.kayenta.interval_seconds);
    Schedule {
        start: judging.window.start.as_second(),
        warm_up,
        lifetime: (planned - warm_up).max(interval),
        interval: Some(interval),
        look_back: judging.kayenta.look_back_seconds.map(i64::from),
        explicit_end: false,
        control_offset: 0,
    }
}

/// The number of the newest judgement whose time is over.
fn newest(judging: &Judging<'_>, schedule: &Schedule) -> Option<i64> {
    let since = judging.window.seconds() - schedule.warm_up;
    let index = since.div_euclid(schedule.interval());
    (index >= 1).then_some(index)
}

fn report(judging: &Judging<'_>, metrics: &[MetricSeries], span: Span) -> Result<Report, String> {
    let config =
        CanaryConfig::from_value(&judging.kayenta.config).map_err(|faults| faults.to_string())?;
    let start = judging.window.start.as_second();
    let pairs: Vec<_> = metrics
        .iter()
        .map(|metric| {
            let within = |values: &'_ Option<Vec<f64>>| {
                values
                    .as_ref()
                    .map(|values| part(values, metric.period_seconds, start, span).to_vec())
            };
            (
                metric.name.as_str(),
                within(&metric.stable),
                within(&metric.canary),
            )
        })
        .collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, control, experiment)| Pair {
            name,
            control: control.as_deref(),
            experiment: experiment.as_deref(),
        })
        .collect();
    let classifier = Classifier {
        repairs: judging.kayenta.repairs,
        ..Classifier::default()
    };
    let thresholds = Thresholds {
        pass: judging.kayenta.pass,
        marginal: judging.kayenta.marginal,
    };
    run::judge(&config, &classifier, &thresholds, &pairs).map_err(|aborted| aborted.to_string())
}

/// The values of a span, of a series that begins at `start`.
fn part(values: &[f64], period_seconds: u32, start: i64, span: Span) -> &[f64] {
    let period = i64::from(period_seconds);
    let place = |at: i64| usize::try_from(at.div_euclid(period)).unwrap_or(0);
    let end = place(span.end - start).min(values.len());
    let first = place(span.start - start + period - 1).min(end);
    &values[first..end]
}

fn values(report: &Report) -> u64 {
    let counts = report
        .metrics
        .iter()
        .map(|(_, judged)| judged.experiment.count);
    counts.sum::<usize>() as u64
}

fn said(report: &Report, index: i64, last: i64, kayenta: &Kayenta) -> String {
    let labels: Vec<_> = report
        .metrics
        .iter()
        .map(|(name, judged)| {
            let ratio = judged
                .deviation
                .filter(|ratio| ratio.is_finite() && judged.interval.is_some());
            let ratio =
                ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2} times stable)"));
            format!("{name} {}{ratio}", judged.label)
        })
        .collect();
    let why = match &report.scores.zero {
        Some(Zero::Critical(metric)) => format!(", because {metric} is critical"),
        Some(Zero::NoData) => ", because half of the metrics have no data".to_owned(),
        None => String::new(),
    };
    format!(
        "Kayenta's score is {} in judgement {index} of {last}{why} (pass {}, marginal {}): {}",
        report.scores.summary,
        kayenta.pass,
        kayenta.marginal,
        labels.join(", ")
    )
}

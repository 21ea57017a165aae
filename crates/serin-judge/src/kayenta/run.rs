//! One judgement of all metrics, and several in a row, as Kayenta's standalone analysis makes them.

use super::classify::{Classifier, Judged};
use super::config::{CanaryConfig, MetricConfig};
use super::score::{Grade, Scored, Scores, Thresholds, score};

/// A span of time. All times here are whole numbers of one unit, whichever: seconds, minutes, ...
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its begin.
    pub start: i64,
    /// Its end.
    pub end: i64,
}

/// When a run judges, and over which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Schedule {
    /// When the canary began to serve.
    pub start: i64,
    /// How long after that nothing counts. Without meaning when the end was given.
    pub warm_up: i64,
    /// How long it is watched, without the warm-up.
    pub lifetime: i64,
    /// How long from one judgement to the next; `None`, nothing, and more than the lifetime mean one judgement at its end.
    pub interval: Option<i64>,
    /// How far back each judgement looks; `None` and nothing mean to the start.
    pub look_back: Option<i64>,
    /// Whether the end of the whole was given, so that past data are judged.
    pub explicit_end: bool,
    /// How much earlier the baseline's time is than the canary's.
    pub control_offset: i64,
}

impl Schedule {
    /// The time from one judgement to the next.
    pub fn interval(&self) -> i64 {
        self.interval
            .filter(|interval| (1..=self.lifetime).contains(interval))
            .unwrap_or(self.lifetime)
    }

    /// How many judgements there are.
    pub fn judgements(&self) -> i64 {
        match self.interval() {
            interval if interval > 0 => self.lifetime / interval,
            _ => 0,
        }
    }

    /// The canary's time that the `index`-th judgement is about; they count from 1.
    pub fn experiment(&self, index: i64) -> Span {
        self.window(index, self.interval())
    }

    /// The baseline's.
    pub fn control(&self, index: i64) -> Span {
        let Span { start, end } = self.experiment(index);
        Span {
            start: start.saturating_sub(self.control_offset),
            end: end.saturating_sub(self.control_offset),
        }
    }

    /// The canary's time of the `index`-th judgement at this interval, whatever the lifetime.
    pub fn window(&self, index: i64, interval: i64) -> Span {
        let warm_up = if self.explicit_end { 0 } else { self.warm_up };
        let start = self.start.saturating_add(warm_up);
        let end = start.saturating_add(index.saturating_mul(interval));
        match self.look_back {
            Some(look_back) if look_back > 0 => Span {
                start: end.saturating_sub(look_back),
                end,
            },
            _ => Span { start, end },
        }
    }
}

/// How many points a series of this span should have, at one every `step`.
pub fn expected_points(span: Span, step: i64) -> usize {
    let points = span
        .end
        .checked_sub(span.start)
        .and_then(|length| length.checked_div(step));
    points
        .and_then(|points| usize::try_from(points).ok())
        .unwrap_or(0)
}

/// The series with gaps at its end up to the expected number of points. A longer one stays as it is.
pub fn padded(series: &[f64], expected: usize) -> Vec<f64> {
    let mut series = series.to_vec();
    if series.len() < expected {
        series.resize(expected, f64::NAN);
    }
    series
}

/// One metric's values, each side in the order of time, with NaN for gaps.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The metric's name, as in the configuration.
    pub name: &'a str,
    /// The baseline's values; `None` when the query returned no series at all.
    pub control: Option<&'a [f64]>,
    /// The canary's.
    pub experiment: Option<&'a [f64]>,
}

/// What one judgement says.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every metric, muted ones too, in the order of the values.
    pub metrics: Vec<(String, Judged)>,
    /// The score.
    pub scores: Scores,
    /// What the score is worth.
    pub grade: Grade,
    /// The metrics with fewer than fifty values on a side, gaps and outliers not counted. Kayenta warns of them and judges them
    /// all the same.
    pub sparse: Vec<String>,
}

/// How many values are few enough for a warning.
const SPARSE: usize = 50;

/// Why nothing could be judged. Kayenta's run ends here too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Aborted {
    /// A metric has values and no settings.
    #[error("the canary configuration has no metric {0:?}")]
    UnknownMetric(String),
    /// A query returned no series at all.
    #[error("metric {metric:?}: no series of the {side}")]
    NoSeries {
        /// The metric.
        metric: String,
        /// `canary` or `baseline`.
        side: &'static str,
    },
}

/// Judges all metrics and scores them.
///
/// # Errors
/// `UnknownMetric`; `NoSeries` when a side of a metric has no series, which is another thing than a series of gaps.
pub fn judge(
    config: &CanaryConfig,
    classifier: &Classifier,
    thresholds: &Thresholds,
    pairs: &[Pair],
) -> Result<Report, Aborted> {
    let mut judged: Vec<(&MetricConfig, Judged)> = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let metric = config
            .metric(pair.name)
            .ok_or_else(|| Aborted::UnknownMetric(pair.name.to_owned()))?;
        let series = |values: Option<_>, side| {
            values.ok_or_else(|| Aborted::NoSeries {
                metric: pair.name.to_owned(),
                side,
            })
        };
        let control = series(pair.control, "baseline")?;
        let experiment = series(pair.experiment, "canary")?;
        judged.push((
            metric,
            classifier.judge(control, experiment, &metric.settings),
        ));
    }
    let scored: Vec<Scored> = judged
        .iter()
        .map(|(metric, judged)| Scored {
            name: &metric.name,
            label: judged.label,
            critical: judged.critical,
            groups: &metric.groups,
            muted: metric.settings.muted,
            must_have_data: metric.settings.must_have_data,
        })
        .collect();
    let scores = score(&scored, &config.group_weights, classifier.repairs);
    Ok(Report {
        grade: thresholds.grade(scores.summary),
        scores,
        sparse: judged
            .iter()
            .filter(|(_, judged)| judged.control.count.min(judged.experiment.count) < SPARSE)
            .map(|(metric, _)| metric.name.clone())
            .collect(),
        metrics: judged
            .into_iter()
            .map(|(metric, judged)| (metric.name.clone(), judged))
            .collect(),
    })
}

/// Whether a run ends as failed at once, after a judgement that is not its last one. A score that is exactly marginal ends it,
/// although a report calls it marginal. Without a threshold, none does.
pub fn ends_early(score: f64, marginal: Option<f64>) -> bool {
    marginal.is_some_and(|marginal| score <= marginal)
}

/// Whether a run has passed, by its last score alone. A missing threshold is skipped.
pub fn passed(last_score: f64, marginal: Option<f64>, pass: Option<f64>) -> bool {
    !ends_early(last_score, marginal) && pass.is_none_or(|pass| last_score >= pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Schedule = Schedule {
        start: 0,
        warm_up: 5,
        lifetime: 60,
        interval: Some(25),
        look_back: None,
        explicit_end: false,
        control_offset: 0,
    };

    #[test]
    fn a_run_has_as_many_judgements_as_whole_intervals_fit() {
        assert_eq!(HOUR.judgements(), 2);
        for interval in [None, Some(0), Some(61)] {
            let schedule = Schedule { interval, ..HOUR };
            assert_eq!((schedule.judgements(), schedule.interval()), (1, 60));
        }
        assert_eq!(Schedule::default().judgements(), 0);
    }

    #[test]
    fn windows_grow_from_the_end_of_the_warm_up() {
        assert_eq!(HOUR.experiment(1), Span { start: 5, end: 30 });
        assert_eq!(HOUR.experiment(2), Span { start: 5, end: 55 });
    }

    #[test]
    fn windows_with_a_look_back_slide() {
        let schedule = Schedule {
            look_back: Some(10),
            ..HOUR
        };
        assert_eq!(schedule.experiment(2), Span { start: 45, end: 55 });
    }

    #[test]
    fn a_control_offset_moves_the_baseline_alone() {
        let schedule = Schedule {
            control_offset: 100,
            ..HOUR
        };
        assert_eq!(schedule.experiment(1), HOUR.experiment(1));
        let control = schedule.control(1);
        assert_eq!((control.start, control.end), (-95, -70));
    }

    #[test]
    fn a_series_is_padded_with_gaps_to_what_it_should_have() {
        let span = Span { start: 0, end: 250 };
        assert_eq!(expected_points(span, 60), 4);
        assert_eq!(expected_points(span, 0), 0);
        assert_eq!(expected_points(Span { start: 9, end: 1 }, 2), 0);
        let series = padded(&[1.0], 3);
        assert!(series.len() == 3 && series[2].is_nan());
        assert_eq!(padded(&[1.0, 2.0], 1), [1.0, 2.0]);
    }

    #[test]
    fn a_score_that_is_exactly_marginal_fails_the_run() {
        assert!(ends_early(75.0, Some(75.0)));
        assert!(!passed(75.0, Some(75.0), Some(75.0)));
        assert!(passed(95.0, Some(75.0), Some(95.0)));
        assert!(!passed(94.0, Some(75.0), Some(95.0)));
        assert!(passed(0.0, None, None));
    }

    #[test]
    fn a_metric_without_a_series_aborts_and_one_of_gaps_does_not() {
        let config = serde_json::json!({
            "name": "canary",
            "metrics": [{
                "name": "latency", "groups": ["all"],
                "query": {"type": "cloudwatch", "metricDataQueries": [{"Id": "a", "Expression": "1"}]}
            }]
        });
        let config = CanaryConfig::from_value(&config).unwrap();
        let (classifier, thresholds) = (Classifier::default(), Thresholds::default());
        let gaps = [f64::NAN; 3];
        let pair = |experiment| Pair {
            name: "latency",
            control: Some(gaps.as_slice()),
            experiment,
        };
        let aborted = judge(&config, &classifier, &thresholds, &[pair(None)]).unwrap_err();
        assert_eq!(
            aborted.to_string(),
            "metric \"latency\": no series of the canary"
        );
        let report = judge(&config, &classifier, &thresholds, &[pair(Some(&gaps))]).unwrap();
        assert_eq!(report.grade, Grade::Fail);
        assert_eq!(report.sparse, ["latency"]);
        assert_eq!(report.scores.zero, Some(super::super::score::Zero::NoData));
    }
}

//! From the metrics' labels to one score, 0 to 100.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::classify::{Label, Repairs};

/// From which share of metrics without data on, in percent, the score is 0.
const TOO_MANY_WITHOUT_DATA: f64 = 50.0;

/// What the score needs to know of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// Its label.
    pub label: Label,
    /// Whether it alone makes the score 0, unless it passed.
    pub critical: bool,
    /// Its groups. It counts once in each; without any, it does not count.
    pub groups: &'a [String],
    /// Whether it is left out.
    pub muted: bool,
    /// Whether it must have data; matters to [`Repairs::errors_fail`] alone.
    pub must_have_data: bool,
}

/// The score and what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// The weighted sum of the groups, rounded to two decimals; 0 for one of the reasons in `zero`. Weights that do not add up
    /// to 100 can take it beyond 0 to 100.
    pub summary: f64,
    /// Why it is 0 whatever the groups say.
    pub zero: Option<Zero>,
    /// The groups, by name.
    pub groups: BTreeMap<String, GroupScore>,
}

/// Why a score is 0 whatever the groups say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Zero {
    /// This critical metric did not pass; the first of them.
    Critical(String),
    /// At least half of the metrics have no data.
    NoData,
}

/// One group of metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupScore {
    /// The share of its metrics that passed, in percent; 0 when none could be judged.
    pub score: f64,
    /// Whether none could be judged. Then the group counts as 100.
    pub no_data: bool,
    /// What the group counts in the sum, in percent.
    pub weight: f64,
    /// How many metrics it has.
    pub metrics: usize,
}

/// What a score is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Below marginal.
    Fail,
    /// At least marginal.
    Marginal,
    /// At least pass.
    Pass,
}

/// The two scores that a run is held against, 0 to 100. Kayenta takes them with each run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thresholds {
    /// At least this is a pass.
    pub pass: f64,
    /// At least this, and less than `pass`, is marginal.
    pub marginal: f64,
}

impl Default for Thresholds {
    /// The usual ones.
    fn default() -> Self {
        Self {
            pass: 95.0,
            marginal: 75.0,
        }
    }
}

impl Thresholds {
    /// What a report calls this score. What ends a run is [`super::run::ends_early`], which is harder on a score that is exactly
    /// marginal.
    pub fn grade(&self, score: f64) -> Grade {
        if score >= self.pass {
            Grade::Pass
        } else if score >= self.marginal {
            Grade::Marginal
        } else {
            Grade::Fail
        }
    }
}

/// Scores the metrics. `weights` are the groups' in percent; groups that are not in it share evenly what is left of 100.
pub fn score(metrics: &[Scored], weights: &BTreeMap<String, f64>, repairs: Repairs) -> Scores {
    let counted: Vec<&Scored> = metrics.iter().filter(|metric| !metric.muted).collect();
    let groups = group_scores(&counted, weights, repairs);

    let failed_critical = counted
        .iter()
        .find(|metric| metric.critical && metric.label != Label::Pass);
    let without_data = counted
        .iter()
        .filter(|metric| metric.label == Label::Nodata);
    // No metric at all makes this NaN, which is no reason.
    let share_without_data = as_f64(without_data.count()) / as_f64(counted.len()) * 100.0;
    let zero = if let Some(metric) = failed_critical {
        Some(Zero::Critical(metric.name.to_owned()))
    } else if share_without_data >= TOO_MANY_WITHOUT_DATA {
        Some(Zero::NoData)
    } else {
        None
    };
    let sum = groups.values().fold(0.0, |sum, group| {
        let score = if group.no_data { 100.0 } else { group.score };
        sum + score * (group.weight / 100.0)
    });
    Scores {
        summary: if zero.is_some() { 0.0 } else { rounded(sum) },
        zero,
        groups,
    }
}

fn group_scores(
    metrics: &[&Scored],
    weights: &BTreeMap<String, f64>,
    repairs: Repairs,
) -> BTreeMap<String, GroupScore> {
    let mut members: BTreeMap<&str, Vec<&Scored>> = BTreeMap::new();
    for metric in metrics {
        for group in metric.groups {
            members.entry(group).or_default().push(metric);
        }
    }
    let unlisted = members.keys().filter(|name| !weights.contains_key(**name));
    let weight_of_unlisted = (100.0 - weights.values().sum::<f64>()) / as_f64(unlisted.count());
    members
        .into_iter()
        .map(|(name, metrics)| {
            let passed = metrics.iter().filter(|metric| metric.label == Label::Pass);
            let passed = as_f64(passed.count());
            let judged = metrics.iter().filter(|metric| match metric.label {
                Label::Pass | Label::High | Label::Low | Label::NodataFailMetric => true,
                Label::Error => repairs.errors_fail && metric.must_have_data,
                Label::Nodata => false,
            });
            let judged = judged.count();
            let group = GroupScore {
                score: if judged == 0 {
                    0.0
                } else {
                    passed / as_f64(judged) * 100.0
                },
                no_data: judged == 0,
                weight: weights.get(name).copied().unwrap_or(weight_of_unlisted),
                metrics: metrics.len(),
            };
            (name.to_owned(), group)
        })
        .collect()
}

/// Two decimals, the half away from 0, by the shortest decimal digits that stand for the number, as Java rounds through
/// `BigDecimal`: 0.285 becomes 0.29, although the number itself is a little less.
fn rounded(value: f64) -> f64 {
    let digits = value.abs().to_string();
    let Some((whole, decimals)) = digits.split_once('.') else {
        return value; // whole already, or not finite
    };
    if decimals.len() <= 2 {
        return value;
    }
    let hundredths = format!("{whole}{}", &decimals[..2]);
    let up = decimals.as_bytes()[2] >= b'5';
    // A number with decimals is below 2^53, so its hundredths fit.
    let Ok(hundredths) = hundredths
        .parse::<u64>()
        .map(|number| number + u64::from(up))
    else {
        return value;
    };
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let rounded = text.parse().unwrap_or(value.abs());
    f64::copysign(rounded, value)
}

#[expect(clippy::cast_precision_loss, reason = "a number of metrics")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(groups: &[&str]) -> Vec<String> {
        groups.iter().map(|name| (*name).to_owned()).collect()
    }

    fn metric(label: Label, groups: &[String]) -> Scored<'_> {
        Scored {
            name: "metric",
            label,
            critical: false,
            groups,
            muted: false,
            must_have_data: false,
        }
    }

    fn weights(weights: &[(&str, f64)]) -> BTreeMap<String, f64> {
        weights
            .iter()
            .map(|(name, weight)| ((*name).to_owned(), *weight))
            .collect()
    }

    fn summary(metrics: &[Scored], of_groups: &[(&str, f64)]) -> f64 {
        score(metrics, &weights(of_groups), Repairs::default()).summary
    }

    fn assert_same(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-12, "{left} is not {right}");
    }

    #[test]
    fn a_score_is_rounded_as_it_is_written() {
        for (value, expected) in [
            (0.285, 0.29),
            (66.666_666_666_666_66, 66.67),
            (33.333_333_333_333_33, 33.33),
            (99.995, 100.0),
            (-1.005, -1.01),
            (50.0, 50.0),
            (12.5, 12.5),
            (1e-9, 0.0),
        ] {
            assert_same(rounded(value), expected);
        }
        assert!(rounded(f64::NAN).is_nan() && rounded(f64::INFINITY).is_infinite());
    }

    #[test]
    fn groups_that_have_no_weight_share_what_is_left() {
        let (a, b, c) = (names(&["a"]), names(&["b"]), names(&["c"]));
        let metrics = [
            metric(Label::Pass, &a),
            metric(Label::High, &b),
            metric(Label::Pass, &c),
        ];
        assert_same(summary(&metrics, &[("a", 50.0)]), 75.0);
        assert_same(summary(&metrics, &[]), 66.67);
    }

    #[test]
    fn the_weight_of_a_group_without_metrics_is_lost() {
        let a = names(&["a"]);
        let metrics = [metric(Label::Pass, &a)];
        assert_same(summary(&metrics, &[("a", 60.0), ("gone", 40.0)]), 60.0);
    }

    #[test]
    fn a_metric_in_two_groups_counts_in_both_and_one_in_none_nowhere() {
        let both = names(&["a", "b"]);
        let metrics = [metric(Label::High, &both), metric(Label::Pass, &[])];
        assert_same(summary(&metrics, &[]), 0.0);
        assert_same(summary(&[metric(Label::Pass, &[])], &[]), 0.0);
        assert_same(summary(&[], &[]), 0.0);
    }

    #[test]
    fn a_critical_metric_that_did_not_pass_makes_the_score_zero_and_is_named() {
        let a = names(&["a"]);
        let critical = Scored {
            name: "errors",
            critical: true,
            ..metric(Label::Nodata, &a)
        };
        let metrics = [metric(Label::Pass, &a), metric(Label::Pass, &a), critical];
        let scores = score(&metrics, &BTreeMap::new(), Repairs::default());
        assert_same(scores.summary, 0.0);
        assert_eq!(scores.zero, Some(Zero::Critical("errors".to_owned())));
        let muted = Scored {
            muted: true,
            ..critical
        };
        assert_same(summary(&[metric(Label::Pass, &a), muted], &[]), 100.0);
    }

    #[test]
    fn half_of_the_metrics_without_data_make_the_score_zero() {
        let a = names(&["a"]);
        let metrics = [metric(Label::Pass, &a), metric(Label::Nodata, &a)];
        let scores = score(&metrics, &BTreeMap::new(), Repairs::default());
        assert_eq!((scores.summary, scores.zero), (0.0, Some(Zero::NoData)));
        let failing = [metric(Label::Pass, &a), metric(Label::NodataFailMetric, &a)];
        assert_same(summary(&failing, &[]), 50.0);
    }

    #[test]
    fn an_error_counts_as_nothing_unless_that_is_repaired() {
        let a = names(&["a"]);
        let error = Scored {
            must_have_data: true,
            ..metric(Label::Error, &a)
        };
        let metrics = [metric(Label::Pass, &a), error];
        assert_same(summary(&metrics, &[]), 100.0);
        let repairs = Repairs {
            errors_fail: true,
            ..Repairs::default()
        };
        assert_same(score(&metrics, &BTreeMap::new(), repairs).summary, 50.0);
        let optional = [metric(Label::Pass, &a), metric(Label::Error, &a)];
        assert_same(score(&optional, &BTreeMap::new(), repairs).summary, 100.0);
    }

    #[test]
    fn a_score_on_a_threshold_has_reached_it() {
        let thresholds = Thresholds::default();
        assert_eq!(thresholds.grade(95.0), Grade::Pass);
        assert_eq!(thresholds.grade(94.99), Grade::Marginal);
        assert_eq!(thresholds.grade(75.0), Grade::Marginal);
        assert_eq!(thresholds.grade(74.99), Grade::Fail);
        assert_eq!(thresholds.grade(f64::NAN), Grade::Fail);
    }
}

//! One side's values before they are compared: gaps, outliers, and what a report tells of them.
//!
//! Kayenta leaves these to commons-math 3.6.1, whose order of operations is kept: a value on a fence stays or goes by the
//! last bit.

use serde::{Deserialize, Serialize};

/// What becomes of a gap, which comes as NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NanStrategy {
    /// It is left out.
    #[default]
    Remove,
    /// It counts as 0: silence means that nothing happened, as with errors.
    Replace,
}

impl NanStrategy {
    /// As a canary configuration spells it. What Kayenta does not know, it takes for `remove`.
    pub fn from_kayenta(text: &str) -> Self {
        match text {
            "replace" => Self::Replace,
            _ => Self::Remove,
        }
    }

    /// The values without gaps, in their order.
    pub fn apply(self, values: &[f64]) -> Vec<f64> {
        match self {
            Self::Remove => values
                .iter()
                .copied()
                .filter(|value| !value.is_nan())
                .collect(),
            Self::Replace => values
                .iter()
                .map(|value| if value.is_nan() { 0.0 } else { *value })
                .collect(),
        }
    }
}

/// Whether outliers are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutlierStrategy {
    /// They count like every value.
    #[default]
    Keep,
    /// They are left out.
    Remove,
}

impl OutlierStrategy {
    /// As a canary configuration spells it. What Kayenta does not know, it takes for `keep`.
    pub fn from_kayenta(text: &str) -> Self {
        match text {
            "remove" => Self::Remove,
            _ => Self::Keep,
        }
    }
}

/// The range outside of which a value is an outlier; a value on a fence is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fences {
    /// The lowest value that is none. NaN when there is no value at all.
    pub low: f64,
    /// The highest value that is none.
    pub high: f64,
}

impl Fences {
    /// Tukey's: `factor` times the distance between the quartiles beyond each quartile.
    pub fn of_quartiles(values: &[f64], factor: f64) -> Self {
        let sorted = sorted(values);
        let lower = percentile_of_sorted(&sorted, 25.0);
        let upper = percentile_of_sorted(&sorted, 75.0);
        let range = upper - lower;
        Self {
            low: lower - factor * range,
            high: upper + factor * range,
        }
    }

    /// The judge's: Tukey's, moved outwards so that nothing between the 1st and the 99th percentile is an outlier.
    pub fn of_judge(values: &[f64], factor: f64) -> Self {
        let tukey = Self::of_quartiles(values, factor);
        let sorted = sorted(values);
        // Java's min and max keep a NaN; here both sides are NaN together, when there is no value.
        Self {
            low: percentile_of_sorted(&sorted, 1.0).min(tukey.low),
            high: percentile_of_sorted(&sorted, 99.0).max(tukey.high),
        }
    }

    /// Whether the value is an outlier.
    pub fn exclude(&self, value: f64) -> bool {
        value > self.high || value < self.low
    }
}

/// Which values are further from the mean than `k` standard deviations of the population. Kayenta has this rule, and its
/// judge does not use it.
pub fn outliers_by_sigma(values: &[f64], k: f64) -> Vec<bool> {
    let mean = mean(values);
    let deviation = variance(values, count(values)).sqrt();
    values
        .iter()
        .map(|value| (value - mean).abs() > deviation * k)
        .collect()
}

/// The percentile `p`, 0 to 100, by R's seventh rule: on a straight line between the two values beside it. NaN when there is
/// no value.
pub fn percentile(values: &[f64], p: f64) -> f64 {
    percentile_of_sorted(&sorted(values), p)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position between 1 and the number of values"
)]
fn percentile_of_sorted(sorted: &[f64], p: f64) -> f64 {
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else {
        return f64::NAN;
    };
    // Positions count from 1. The percentile is made a share first, as commons-math does.
    let position = 1.0 + (count(sorted) - 1.0) * (p / 100.0);
    if position < 1.0 {
        return *first;
    }
    if position >= count(sorted) {
        return *last;
    }
    let below = position.floor();
    let (lower, upper) = (sorted[below as usize - 1], sorted[below as usize]);
    lower + (position - below) * (upper - lower)
}

/// The values that are numbers, from the lowest.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values: Vec<f64> = NanStrategy::Remove.apply(values);
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The mean in two passes: the second adds what rounding took from the first. NaN when there is no value.
pub fn mean(values: &[f64]) -> f64 {
    let rough = values.iter().sum::<f64>() / count(values);
    let missed: f64 = values.iter().map(|value| value - rough).sum();
    rough + missed / count(values)
}

/// The squared deviations from the mean over `divisor`, corrected for what rounding left of the deviations' sum.
fn variance(values: &[f64], divisor: f64) -> f64 {
    let mean = mean(values);
    let (mut squares, mut rest) = (0.0, 0.0);
    for value in values {
        let deviation = value - mean;
        squares += deviation * deviation;
        rest += deviation;
    }
    (squares - rest * rest / count(values)) / divisor
}

/// What a report tells of one side, after gaps and outliers have been seen to.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The lowest value; 0, as all of these, when there is none.
    pub min: f64,
    /// The highest value.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a sample (over n - 1), 0 for one value.
    pub std: f64,
    /// How many values there are.
    pub count: usize,
}

impl Summary {
    /// Of these values.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: mean(values),
            std: if values.len() == 1 {
                0.0
            } else {
                variance(values, count(values) - 1.0).sqrt()
            },
            count: values.len(),
        }
    }
}

/// Whether there is exactly one distinct value; 0 and -0 are one.
pub(super) fn is_constant(values: impl IntoIterator<Item = f64>) -> bool {
    let mut values = values.into_iter();
    #[expect(clippy::float_cmp, reason = "the same value, not a near one")]
    values
        .next()
        .is_some_and(|first| values.all(|value| value == first))
}

/// The lag-1 autocorrelation of both series together, each around its own mean, from 0 to 0.99. What is negative counts as
/// 0: it would make the test bolder.
///
/// Two values are neighbours when nothing but gaps and outliers lies between them.
pub(super) fn autocorrelation(series: [&[f64]; 2]) -> f64 {
    let (mut together, mut squares) = (0.0, 0.0);
    for values in series {
        let mean = mean(values);
        for pair in values.windows(2) {
            together += (pair[0] - mean) * (pair[1] - mean);
        }
        squares += values
            .iter()
            .map(|value| (value - mean) * (value - mean))
            .sum::<f64>();
    }
    let lag_one = together / squares;
    if lag_one.is_nan() {
        0.0
    } else {
        lag_one.clamp(0.0, 0.99)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a number of values is far below 2^53"
)]
pub(super) fn count(values: &[f64]) -> f64 {
    values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_left_out_or_counts_as_zero() {
        let values = [1.0, f64::NAN, 3.0];
        assert_eq!(NanStrategy::Remove.apply(&values), [1.0, 3.0]);
        assert_eq!(NanStrategy::Replace.apply(&values), [1.0, 0.0, 3.0]);
    }

    #[test]
    fn what_kayenta_does_not_know_is_its_default() {
        assert_eq!(NanStrategy::from_kayenta("none"), NanStrategy::Remove);
        assert_eq!(OutlierStrategy::from_kayenta("drop"), OutlierStrategy::Keep);
    }

    #[test]
    fn a_percentile_lies_on_the_line_between_its_neighbours() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert!((percentile(&values, 50.0) - 2.5).abs() < 1e-15);
        assert!((percentile(&values, 0.0) - 1.0).abs() < 1e-15);
        assert!((percentile(&values, 100.0) - 4.0).abs() < 1e-15);
        assert!((percentile(&[7.0], 33.0) - 7.0).abs() < 1e-15);
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn no_value_between_the_first_and_the_last_percentile_is_an_outlier() {
        // The quartiles are both 0, so Tukey's fences are too.
        let values: Vec<f64> = (0..10).map(|i| if i < 8 { 0.0 } else { 5.0 }).collect();
        assert!(Fences::of_quartiles(&values, 3.0).exclude(5.0));
        assert!(!Fences::of_judge(&values, 3.0).exclude(5.0));
    }

    #[test]
    fn fences_of_nothing_exclude_nothing() {
        assert!(!Fences::of_judge(&[], 3.0).exclude(1e300));
        assert!(outliers_by_sigma(&[], 3.0).is_empty());
    }

    #[test]
    fn the_summary_of_one_value_has_no_spread_and_that_of_none_is_all_zero() {
        let one = Summary::of(&[5.0]);
        assert_eq!((one.min, one.max, one.mean), (5.0, 5.0, 5.0));
        assert_eq!((one.std, one.count), (0.0, 1));
        assert_eq!(Summary::of(&[]), Summary::default());
    }

    #[test]
    fn the_standard_deviation_is_that_of_a_sample() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0]);
        assert!((summary.std - (5.0_f64 / 3.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn what_wanders_is_autocorrelated_and_what_alternates_counts_as_not() {
        let ramp: Vec<f64> = (0..50).map(f64::from).collect();
        assert!(autocorrelation([&ramp, &ramp]) > 0.9);
        let alternating: Vec<f64> = (0..50).map(|i| f64::from(i % 2)).collect();
        assert!(autocorrelation([&alternating, &alternating]).abs() < f64::EPSILON);
        assert!(autocorrelation([&[], &[]]).abs() < f64::EPSILON);
    }
}

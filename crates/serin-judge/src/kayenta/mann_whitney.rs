//! The rank test of Mann and Whitney, as an interval for how far the canary's values are shifted against the baseline's.
//!
//! The interval is that of R's `wilcox.test(exact = FALSE, correct = TRUE, conf.int = TRUE)`. The estimate is not R's: here
//! the continuity correction stays on for it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::brent;

/// How closely Kayenta looks for the ends of an interval, in the metric's own unit.
const TOLERANCE: f64 = 1e-4;

/// How far the canary is shifted against the baseline, in the metric's unit; above 0 is higher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// The least shift that the data admit.
    pub low: f64,
    /// The greatest shift that they admit.
    pub high: f64,
    /// The shift that they speak for.
    pub estimate: f64,
}

/// All values are the same once shifted, so there is nothing to rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all values are tied, so they cannot be ranked")]
pub struct AllTied;

/// How closely the ends of an interval are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Closeness {
    /// To 1e-4 of the metric's unit, as Kayenta does, whatever the unit.
    #[default]
    Kayenta,
    /// To 1e-4 of the width in which they are looked for.
    ScaleFree,
}

/// The two sides, ready to be ranked at any shift.
#[derive(Debug, Clone)]
pub struct RankTest {
    /// The canary's distinct values from the lowest, each with how often it occurs.
    experiment: Vec<(f64, u64)>,
    /// The baseline's, as `order` numbers them.
    control: Vec<(i64, u64)>,
    m: f64,
    n: f64,
    low: f64,
    high: f64,
    deflation: f64,
    closeness: Closeness,
}

/// What ranking gives at one shift.
struct Ranks {
    /// Twice the sum of the canary's ranks; ties have the average of theirs, which may be a half.
    doubled_sum: u64,
    /// The sum of t^3 - t over all groups of t equal values.
    ties: f64,
}

impl RankTest {
    /// Of these values; `None` when a side has none.
    pub fn new(experiment: &[f64], control: &[f64]) -> Option<Self> {
        let (experiment, control) = (sorted(experiment), sorted(control));
        let low = experiment.first()? - control.last()?;
        let high = experiment.last()? - control.first()?;
        Some(Self {
            m: super::samples::count(&experiment),
            n: super::samples::count(&control),
            experiment: runs(&experiment),
            control: runs(&control)
                .into_iter()
                .map(|(value, times)| (order(value), times))
                .collect(),
            low,
            high,
            deflation: 1.0,
            closeness: Closeness::Kayenta,
        })
    }

    /// The same with every statistic divided by `factor`, at least 1: for values that say less than as many independent ones.
    #[must_use]
    pub fn deflated(self, factor: f64) -> Self {
        Self {
            deflation: factor,
            ..self
        }
    }

    /// The same with ends looked for so closely.
    #[must_use]
    pub fn to(self, closeness: Closeness) -> Self {
        Self { closeness, ..self }
    }

    /// Between which shifts all else lies: at the lower one no canary value is below a baseline value, at the higher one none
    /// above.
    pub fn bracket(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// How many standard deviations the canary's rank sum is from its mean, once `shift` is taken from every canary value; with
    /// the continuity correction. It falls in steps as the shift grows.
    ///
    /// # Errors
    /// `AllTied`.
    pub fn z(&self, shift: f64) -> Result<f64, AllTied> {
        let (m, n) = (self.m, self.n);
        let ranks = self.ranks(shift);
        let distance = to_f64(ranks.doubled_sum) / 2.0 - m * (m + 1.0) / 2.0 - m * n / 2.0;
        let correction = if distance > 0.0 {
            0.5
        } else if distance < 0.0 {
            -0.5
        } else {
            0.0
        };
        let variance = (m * n / 12.0) * ((m + n + 1.0) - ranks.ties / ((m + n) * (m + n - 1.0)));
        let sigma = variance.sqrt();
        if sigma == 0.0 {
            return Err(AllTied);
        }
        Ok((distance - correction) / sigma / self.deflation)
    }

    /// The probability that a canary value is above a baseline value, a tie counting half: the "common language effect size".
    pub fn common_language_effect_size(&self) -> f64 {
        let (m, n) = (self.m, self.n);
        (to_f64(self.ranks(0.0).doubled_sum) - m * (m + 1.0)) / (2.0 * m * n)
    }

    /// The shift at which `z` passes `quantile`, looked for in the bracket; at one of its ends when it passes there.
    ///
    /// # Errors
    /// `AllTied`.
    pub fn root(&self, quantile: f64) -> Result<f64, AllTied> {
        if self.z(self.low)? - quantile <= 0.0 {
            Ok(self.low)
        } else if self.z(self.high)? - quantile >= 0.0 {
            Ok(self.high)
        } else {
            self.root_inside(quantile)
        }
    }

    /// The same without a look at the ends of the bracket.
    ///
    /// # Errors
    /// `AllTied`.
    pub fn root_inside(&self, quantile: f64) -> Result<f64, AllTied> {
        let tolerance = match self.closeness {
            Closeness::Kayenta => TOLERANCE,
            Closeness::ScaleFree => TOLERANCE * (self.high - self.low),
        };
        brent::zero(
            |shift| Ok(self.z(shift)? - quantile),
            (self.low, self.z(self.low)? - quantile),
            (self.high, self.z(self.high)? - quantile),
            tolerance,
        )
    }

    /// The interval that holds the shift with the probability `confidence`, between 0 and 1, and the estimate.
    ///
    /// # Errors
    /// `AllTied`.
    pub fn interval(&self, confidence: f64) -> Result<Interval, AllTied> {
        let quantile = lower_quantile(confidence);
        Ok(Interval {
            low: self.root(-quantile)?,
            high: self.root(quantile)?,
            estimate: self.root_inside(0.0)?,
        })
    }

    /// Ranks all values at one shift. Both sides are sorted, and taking the same number from each value keeps its order, so one
    /// walk over both is enough. Values that were different may be equal once shifted.
    fn ranks(&self, shift: f64) -> Ranks {
        const NONE: i64 = i64::MAX; // above the order of infinity
        let experiment = |index: usize| {
            self.experiment
                .get(index)
                .map_or(NONE, |(value, _)| order(value - shift))
        };
        let control = |index: usize| self.control.get(index).map_or(NONE, |(order, _)| *order);
        let (mut x, mut y) = (0, 0);
        let (mut next_x, mut next_y) = (experiment(x), control(y));
        let (mut doubled_sum, mut ties, mut placed) = (0, 0.0, 0);
        loop {
            let next = next_x.min(next_y);
            if next == NONE {
                return Ranks { doubled_sum, ties };
            }
            let (mut of_experiment, mut together) = (0, 0);
            while next_x == next {
                of_experiment += self.experiment[x].1;
                x += 1;
                next_x = experiment(x);
            }
            while next_y == next {
                together += self.control[y].1;
                y += 1;
                next_y = control(y);
            }
            together += of_experiment;
            // The group has the ranks placed + 1 to placed + together; this is twice their average.
            doubled_sum += of_experiment * (2 * placed + together + 1);
            placed += together;
            if together > 1 {
                let t = to_f64(together);
                ties += t * t * t - t;
            }
        }
    }
}

/// The quantile of the standard normal distribution below which half of what `confidence` leaves lies: negative.
pub fn lower_quantile(confidence: f64) -> f64 {
    normal_quantile((1.0 - confidence) / 2.0)
}

/// The quantile of the standard normal distribution: the value below which it lies with probability `p`, 0 to 1. NaN when `p`
/// is no probability.
pub fn normal_quantile(p: f64) -> f64 {
    if (0.0..=1.0).contains(&p) {
        Normal::standard().inverse_cdf(p)
    } else {
        f64::NAN
    }
}

/// From the lowest. NaN ranks as infinity, and is one here.
fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values: Vec<f64> = values
        .iter()
        .map(|value| {
            if value.is_nan() {
                f64::INFINITY
            } else {
                *value
            }
        })
        .collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// Neighbours of the same bits as one, with how many they are; 0 and -0 are two.
fn runs(sorted: &[f64]) -> Vec<(f64, u64)> {
    let mut runs: Vec<(f64, u64)> = Vec::with_capacity(sorted.len());
    for value in sorted {
        match runs.last_mut() {
            Some((last, times)) if last.to_bits() == value.to_bits() => *times += 1,
            _ => runs.push((*value, 1)),
        }
    }
    runs
}

/// Numbers a value so that the numbers order as Java's `Double.compare` does: -0 is below 0. NaN is as infinity.
fn order(value: f64) -> i64 {
    let value = if value.is_nan() { f64::INFINITY } else { value };
    let bits = value.to_bits().cast_signed();
    // The bits of negative values fall as the values rise; all but the sign are turned over.
    bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ranks of so many values that it mattered would take days"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test(experiment: &[f64], control: &[f64]) -> RankTest {
        RankTest::new(experiment, control).unwrap()
    }

    #[test]
    fn the_normal_quantile_is_right_to_its_last_digits() {
        // Kayenta's own, from commons-math, then R's qnorm.
        assert!((lower_quantile(0.98) - -2.326_347_874_040_840_8).abs() < 1e-15);
        for (p, expected) in [
            (0.5, 0.0),
            (0.3, -0.524_400_512_708_040_9),
            (0.1, -1.281_551_565_544_600_4),
            (0.05, -1.644_853_626_951_472_7),
            (0.025, -1.959_963_984_540_054),
            (0.005, -2.575_829_303_548_900_4),
            (1e-10, -6.361_340_902_404_056),
            (0.99, 2.326_347_874_040_841),
        ] {
            let quantile = normal_quantile(p);
            let error = (quantile - expected).abs();
            assert!(
                error <= 1e-15 * expected.abs().max(1.0) * 2.0,
                "{p}: {quantile}"
            );
        }
        assert!(normal_quantile(0.0).is_infinite() && normal_quantile(1.0).is_infinite());
        assert!(normal_quantile(-0.1).is_nan() && normal_quantile(f64::NAN).is_nan());
    }

    #[test]
    fn values_are_ordered_as_java_orders_them() {
        let values = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1e-300, 2.0, f64::MAX];
        assert!(values.map(order).is_sorted_by(|a, b| a < b));
        assert_eq!(order(f64::NAN), order(f64::INFINITY));
        assert_eq!(order(-f64::NAN), order(f64::INFINITY));
    }

    #[test]
    fn the_statistic_is_that_of_ranks_counted_by_hand() {
        // Ranks of 3 5 5 among 1 3 5 and themselves: 2.5, 5, 5; mean 10.5, so the distance is 2.
        let z = test(&[3.0, 5.0, 5.0], &[1.0, 3.0, 5.0]).z(0.0).unwrap();
        let variance: f64 = 9.0 / 12.0 * (7.0 - (6.0 + 24.0) / 30.0);
        assert!((z - 1.5 / variance.sqrt()).abs() < 1e-15, "{z}");
    }

    #[test]
    fn a_statistic_is_never_more_than_before_at_a_greater_shift() {
        let test = test(&[1.0, 2.0, 2.0, 7.5], &[0.0, 2.0, 3.0]);
        let z: Vec<f64> = (-50..100)
            .map(|shift| test.z(f64::from(shift) / 10.0).unwrap())
            .collect();
        assert!(z.is_sorted_by(|a, b| a >= b), "{z:?}");
    }

    #[test]
    fn nothing_can_be_ranked_when_all_is_tied() {
        assert_eq!(test(&[1.0, 1.0], &[1.0]).interval(0.98), Err(AllTied));
        assert!(RankTest::new(&[], &[1.0]).is_none());
    }

    #[test]
    fn the_effect_size_is_the_share_of_pairs_in_which_the_canary_is_higher() {
        let half = test(&[1.0, 2.0], &[1.0, 2.0]).common_language_effect_size();
        assert!((half - 0.5).abs() < f64::EPSILON);
        let all = test(&[3.0, 4.0], &[1.0, 2.0]).common_language_effect_size();
        assert!((all - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn deflating_widens_the_interval_and_leaves_the_estimate() {
        let experiment: Vec<f64> = (0..30).map(|i| 5.0 + f64::from(i * 7 % 30)).collect();
        let control: Vec<f64> = (0..30).map(|i| f64::from(i * 11 % 30)).collect();
        let plain = test(&experiment, &control).interval(0.98).unwrap();
        let deflated = test(&experiment, &control).deflated(2.0);
        let deflated = deflated.interval(0.98).unwrap();
        assert!(deflated.low < plain.low && deflated.high > plain.high);
        assert!((deflated.estimate - plain.estimate).abs() < 1e-12);
    }

    #[test]
    fn values_beyond_all_bounds_do_not_stop_the_test() {
        for values in [
            [f64::INFINITY, 1.0],
            [f64::NEG_INFINITY, 1.0],
            [f64::NAN, 1.0],
            [f64::MAX, -f64::MAX],
        ] {
            let _ = test(&values, &[0.0, 1.0]).interval(0.98);
            let _ = test(&[0.0, 1.0], &values).interval(0.98);
        }
    }

    /// The statistic as its definition has it: all values in one list, sorted anew at each shift.
    fn z_by_definition(experiment: &[f64], control: &[f64], shift: f64) -> Result<f64, AllTied> {
        let shifted = experiment.iter().map(|value| (value - shift, true));
        let mut all: Vec<(f64, bool)> = shifted
            .chain(control.iter().map(|value| (*value, false)))
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (m, n) = (
            super::super::samples::count(experiment),
            super::super::samples::count(control),
        );
        let (mut sum, mut ties, mut place) = (0.0, 0.0, 1.0);
        for group in all.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
            let t = to_f64(group.len() as u64);
            for (_, is_experiment) in group {
                sum += if *is_experiment {
                    place + (t - 1.0) / 2.0
                } else {
                    0.0
                };
            }
            ties += t.powi(3) - t;
            place += t;
        }
        let distance = sum - m * (m + 1.0) / 2.0 - m * n / 2.0;
        let sign = if distance == 0.0 {
            0.0
        } else {
            distance.signum()
        };
        let spread = ((m * n / 12.0) * ((m + n + 1.0) - ties / ((m + n) * (m + n - 1.0)))).sqrt();
        if spread == 0.0 {
            return Err(AllTied);
        }
        Ok((distance - 0.5 * sign) / spread)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn walking_over_sorted_sides_gives_what_sorting_anew_gives(
            experiment in prop::collection::vec((-30..30_i32).prop_map(|v| f64::from(v) * 0.1), 1..25),
            control in prop::collection::vec((-30..30_i32).prop_map(|v| f64::from(v) * 0.1), 1..25),
            shift in (-60..60_i32).prop_map(|v| f64::from(v) * 0.1),
        ) {
            let walked = test(&experiment, &control).z(shift);
            prop_assert_eq!(walked, z_by_definition(&experiment, &control, shift));
        }
    }
}

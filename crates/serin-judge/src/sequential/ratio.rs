//! The rate-ratio test: is the canary's rate of errors more than `margin` times stable's?
//!
//! Given that an error happens in a minute in which the canary served `c` requests and stable `b`, it falls to the canary
//! with probability `q(r) = r c / (r c + b)` when the canary's rate is `r` times stable's, whatever the rate itself is at
//! that time (Lindon and Malek 2022, arXiv 2011.03567). A minute with `x` errors of the canary and `y` of stable
//! multiplies the evidence for ratio `r` against ratio `m` by
//!
//! ```text
//! (q(r) / q(m))^x  ((1 - q(r)) / (1 - q(m)))^y
//! ```
//!
//! The product over the minutes, averaged over a grid of ratios above `m`, is an e-value: its mean is at most 1 while the
//! canary's rate is at most `m` times stable's, so the chance that it ever reaches `1 / alpha` is at most `alpha`
//! (Ville's inequality). It may therefore be looked at after every minute.
//!
//! Why the mean is at most 1: at ratio `m` the share is binomial and every factor has mean 1. For smaller ratios a factor
//! grows with `x`, so its mean is smaller. For requests that fail independently with one common probability, `x` given
//! `x + y` is hypergeometric, and a convex function's mean is then at most the binomial one (Hoeffding 1963). Only the
//! counts of each minute enter, so the canary's share of the traffic may change at any time. With `margin` above 1 and
//! rates above about 10 percent the bound is approximate.

/// Ratios that the test looks for, with the weight of each. Weights sum to 1, so that the average is an e-value.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternatives {
    /// Ratios over the margin, above 1, with the natural logarithm of their weight.
    points: Vec<(f64, f64)>,
}

impl Alternatives {
    /// `count` ratios of equal weight, evenly spaced on a logarithmic scale from `from` to `to`.
    pub fn even(from: f64, to: f64, count: u32) -> Self {
        let steps = f64::from(count.max(2) - 1);
        let step = (to / from).ln() / steps;
        Self::weighted((0..count).map(|point| (from * (step * f64::from(point)).exp(), 1.0)))
    }

    /// Ratios over the margin with weights that need not sum to 1.
    pub fn weighted(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<(f64, f64)> = points.into_iter().collect();
        let sum: f64 = points.iter().map(|point| point.1).sum();
        for point in &mut points {
            point.1 = (point.1 / sum).ln();
        }
        Self { points }
    }

    /// Ratio over the margin and logarithm of the weight, in the order given.
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// `ln(sum(exp(values)))` without overflow.
pub(super) fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    // What is e^-40 of the largest does not change an f64.
    let sum: f64 = values
        .map(|value| value - largest)
        .filter(|below| *below > -40.0)
        .map(f64::exp)
        .sum();
    largest + sum.ln()
}

/// `ln(exp(a) + exp(b))` without overflow.
pub(super) fn log_add(a: f64, b: f64) -> f64 {
    let (more, less) = if a > b { (a, b) } else { (b, a) };
    // Also where both are minus infinity, whose difference is no number.
    if less == f64::NEG_INFINITY {
        return more;
    }
    more + (less - more).exp().ln_1p()
}

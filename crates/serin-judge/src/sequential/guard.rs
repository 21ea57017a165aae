//! A rate that the canary may not exceed, whatever stable does.
//!
//! The likelihood ratio of the canary's rate being `p` against its being the limit `l`, averaged over a grid of `p` above
//! `l`, is an e-value while the rate is at most `l`: `(p/l)^x ((1-p)/(1-l))^(n-x)`. Alone it would roll back a canary for an
//! outage that stable has too. So it counts only when the canary is also worse than stable: the comparison has evidence
//! for that, or stable is within the limit beyond doubt. A second condition can only make false alarms rarer.

use statrs::function::beta::ln_beta;

use super::counts::{Pair, number};
use super::ratio::log_sum;

/// The logarithm of the comparison's evidence that counts as "also worse": 10 to 1.
const ALSO_WORSE: f64 = std::f64::consts::LN_10;
/// The doubt that is left when stable is called within the limit, and the canary beyond it.
const DOUBT: f64 = 0.05;
/// Rates on the grid, evenly spread up to 1.
const RATES: u32 = 12;
/// Rates just above the limit, as multiples of it: what is only a little too much shows with many requests.
const NEAR: [f64; 4] = [1.02, 1.05, 1.1, 1.2];

#[derive(Debug, Clone)]
pub(super) struct Guard {
    limit: f64,
    canary: (f64, f64),
    stable: (f64, f64),
}

/// Whether so many errors among so many requests refute a rate of at most `limit`, a fraction: by an e-value of 20, so by
/// chance in at most one of twenty steps, however often one looks.
pub fn refutes(requests: u64, errors: u64, limit: f64) -> bool {
    if limit <= 0.0 {
        return errors > 0;
    }
    if limit >= 1.0 {
        return false;
    }
    let mut guard = Guard::new(limit);
    guard.canary = (number(requests), number(errors.min(requests)));
    guard.log_e() >= -DOUBT.ln()
}

impl Guard {
    /// For a limit above 0 and below 1, as a fraction.
    pub(super) fn new(limit: f64) -> Self {
        Self {
            limit,
            canary: (0.0, 0.0),
            stable: (0.0, 0.0),
        }
    }

    pub(super) fn add(&mut self, pair: &Pair) {
        self.canary.0 += pair.canary;
        // Two metrics' minutes may not quite meet; more errors than requests would be no rate.
        self.canary.1 += pair.canary_errors.min(pair.canary);
        // Stable as if it had the canary's requests: an outage in a minute in which the canary has more of the traffic than
        // before would otherwise look like the canary's own.
        self.stable.0 += pair.canary;
        self.stable.1 += pair.stable_alike().min(pair.canary);
    }

    /// Logarithm of the e-value against a rate of at most the limit.
    pub(super) fn log_e(&self) -> f64 {
        let (requests, errors) = self.canary;
        let step = (0.999 / self.limit).powf(f64::from(RATES).recip());
        let far = (1..=RATES).map(|k| self.limit * step.powf(f64::from(k)));
        let near = NEAR.iter().map(|ratio| self.limit * ratio);
        let rates = near.chain(far).filter(|rate| *rate < 1.0);
        let equal = -(f64::from(RATES) + 4.0).ln();
        let terms = rates.map(|rate| {
            let errors_part = errors * (rate / self.limit).ln();
            let rest = (requests - errors) * ((1.0 - rate) / (1.0 - self.limit)).ln();
            equal + errors_part + rest
        });
        log_sum(terms)
    }

    /// Whether the canary is beyond the limit, and worse than stable, whose comparison has this logarithmic e-value.
    pub(super) fn beyond(&self, alpha: f64, comparison: f64) -> bool {
        self.log_e() >= -alpha.ln() && (comparison >= ALSO_WORSE || self.stable_within())
    }

    fn stable_within(&self) -> bool {
        let (requests, errors) = self.stable;
        stays_below(requests, errors, self.limit)
    }
}

/// Whether a limit is above the confidence sequence of a rate: the rates that a Beta(1/2, 1/2) average does not refute (Howard
/// and others 2021, arXiv 1810.08240).
pub(super) fn stays_below(requests: f64, errors: f64, limit: f64) -> bool {
    if requests <= 0.0 || errors / requests >= limit || limit >= 1.0 {
        return false;
    }
    let at_limit = ln_beta(0.5 + errors, 0.5 + requests - errors)
        - ln_beta(0.5, 0.5)
        - errors * limit.ln()
        - (requests - errors) * (-limit).ln_1p();
    at_limit >= -DOUBT.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_a_little_above_the_limit_is_refuted_by_enough_requests() {
        assert!(refutes(10_000_000, 110_000, 0.01));
        assert!(refutes(1_000_000, 10_500, 0.01));
        assert!(!refutes(10_000_000, 100_000, 0.01));
        assert!(!refutes(20, 1, 0.01));
    }

    #[test]
    fn an_outage_that_both_share_is_not_the_canarys_because_it_has_more_traffic_by_then() {
        let mut guard = Guard::new(0.01);
        let mut add = |canary: f64, stable: f64, rate: f64| {
            guard.add(&Pair {
                canary,
                stable,
                canary_errors: canary * rate,
                stable_errors: stable * rate,
            });
        };
        for _ in 0..5 {
            add(300.0, 5700.0, 0.001);
        }
        add(1500.0, 4500.0, 0.05);
        assert!(guard.log_e() > 7.0 && !guard.beyond(0.001, 0.0));
    }
}

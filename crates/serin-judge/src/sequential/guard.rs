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
/// Rates on the grid.
const RATES: u32 = 12;

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
        self.stable.0 += pair.stable;
        self.stable.1 += pair.stable_errors.min(pair.stable);
    }

    /// Logarithm of the e-value against a rate of at most the limit.
    pub(super) fn log_e(&self) -> f64 {
        let (requests, errors) = self.canary;
        let step = (0.999 / self.limit).powf(f64::from(RATES).recip());
        let equal = f64::from(RATES).recip().ln();
        let terms = (1..=RATES).map(|k| {
            let rate = self.limit * step.powf(f64::from(k));
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

    /// Whether the limit is above stable's confidence sequence: the rates that a Beta(1/2, 1/2) average does not refute
    /// (Howard and others 2021, arXiv 1810.08240).
    fn stable_within(&self) -> bool {
        let (requests, errors) = self.stable;
        if requests <= 0.0 || errors / requests >= self.limit {
            return false;
        }
        let at_limit = ln_beta(0.5 + errors, 0.5 + requests - errors)
            - ln_beta(0.5, 0.5)
            - errors * self.limit.ln()
            - (requests - errors) * (-self.limit).ln_1p();
        at_limit >= -DOUBT.ln()
    }
}

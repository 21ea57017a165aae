//! A rate that the canary may not exceed, whatever stable does.
//!
//! The likelihood ratio of the canary's rate being `p` against its being the limit `l`, averaged over a grid of `p` above
//! `l`, is an e-value while the rate is at most `l`: `(p/l)^x ((1-p)/(1-l))^(n-x)`. Alone it would roll back a canary for an
//! outage that stable has too. So it counts only when the canary is also worse than stable: the comparison has evidence
//! for that, or stable is within the limit beyond doubt. A second condition can only make false alarms rarer.
//!
//! A rate that is noisy from minute to minute is above its own average half of the time, and with many requests beyond
//! doubt. So each minute's counts are divided by what noise adds to their variance, as in the comparison: an e-value's power
//! between 0 and 1 is one too.
//!
//! In an outage of both sides the rate is above the limit, and then only the comparison's evidence protects a good canary. Less of
//! it is asked for than rolls back by itself, so in that case the bound is wider than elsewhere: `falseAlarm` to the power of
//! 0.8 in place of `falseAlarm`. The benchmark has such deployments.

use statrs::function::beta::ln_beta;

use super::counts::{Pair, number};
use super::ratio::log_sum;

/// The part of the way to a roll-back, as a power, from which on the comparison's evidence counts as "also worse": 40 to 1 for a
/// metric that is alone.
pub(super) const ALSO_WORSE: f64 = 0.8;
/// The doubt that is left when stable is called within the limit, and the canary beyond it.
const DOUBT: f64 = 0.05;
/// Rates on the grid, evenly spread up to 1.
const RATES: u32 = 12;
/// Rates just above the limit, as multiples of it: what is only a little too much shows with many requests.
const NEAR: [f64; 4] = [1.02, 1.05, 1.1, 1.2];

#[derive(Debug, Clone)]
pub(super) struct Guard {
    limit: f64,
    /// For each rate on the grid, what an error and a good request say for it.
    terms: Vec<(f64, f64)>,
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
        let step = (0.999 / limit).powf(f64::from(RATES).recip());
        let far = (1..=RATES).map(|k| limit * step.powf(f64::from(k)));
        let near = NEAR.iter().map(|ratio| limit * ratio);
        let rates = near.chain(far).filter(|rate| *rate < 1.0);
        let term = |rate: f64| ((rate / limit).ln(), ((1.0 - rate) / (1.0 - limit)).ln());
        Self {
            limit,
            terms: rates.map(term).collect(),
            canary: (0.0, 0.0),
            stable: (0.0, 0.0),
        }
    }

    /// Takes a minute in whose noise has this variance.
    pub(super) fn add(&mut self, pair: &Pair, variance: f64) {
        // At the limit, so that it depends on nothing that happened in the minute but its requests.
        let worth = (1.0 + pair.canary * self.limit * variance).recip();
        let mut add = |side: fn(&mut Self) -> &mut (f64, f64), errors: f64| {
            let (requests, bad) = side(self);
            *requests += worth * pair.canary;
            // Two metrics' minutes may not quite meet; more errors than requests would be no rate.
            *bad += worth * errors.min(pair.canary);
        };
        add(|guard| &mut guard.canary, pair.canary_errors);
        // Stable as if it had the canary's requests: an outage in a minute in which the canary has more of the traffic than
        // before would otherwise look like the canary's own.
        add(|guard| &mut guard.stable, pair.stable_alike());
    }

    /// What each rate on the grid has for it, as a logarithm. All weigh the same.
    fn evidence(&self) -> impl Iterator<Item = f64> + Clone {
        let (requests, errors) = self.canary;
        let good = requests - errors;
        let terms = self.terms.iter();
        terms.map(move |(of_error, of_good)| errors * of_error + good * of_good)
    }

    /// Logarithm of the e-value against a rate of at most the limit.
    pub(super) fn log_e(&self) -> f64 {
        log_sum(self.evidence()) - (f64::from(RATES) + 4.0).ln()
    }

    /// Whether the canary is beyond the limit, by an e-value whose logarithm is `least`, and worse than stable: by the comparison's
    /// evidence, `worse`, or because stable is within the limit.
    pub(super) fn beyond(&self, least: f64, worse: bool) -> bool {
        // The average is never more than the largest; and no canary within the limit has evidence against it.
        let (requests, errors) = self.canary;
        errors > self.limit * requests
            && self.evidence().any(|evidence| evidence >= least)
            && self.log_e() >= least
            && (worse || self.stable_within())
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
            let pair = Pair {
                canary,
                stable,
                canary_errors: canary * rate,
                stable_errors: stable * rate,
            };
            guard.add(&pair, 0.0);
        };
        for _ in 0..5 {
            add(300.0, 5700.0, 0.001);
        }
        add(1500.0, 4500.0, 0.05);
        assert!(guard.log_e() > 7.0 && !guard.beyond(7.0, false));
    }
}

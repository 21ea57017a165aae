//! How much traffic it takes until a regression would have been seen.
//!
//! When the canary's rate really is `R` times stable's, every error adds on average the relative entropy of the share of
//! errors under `R` to that under the margin. No test that keeps its false alarms can do with much less than
//! `ln(1 / alpha)` in all (Wald 1945), and the mixture here needs little more.

use serin::request::LEAST_SEEN;

use super::counts::{Pair, Totals, number};

/// The regression that the user cares about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detect {
    /// So many times stable's rate, above the margin: 2 is twice the errors.
    Ratio(f64),
    /// So many percentage points above stable's rate, above 0.
    Points(f64),
}

impl Detect {
    /// The canary's rate at that regression, for a stable rate; both fractions.
    pub fn rate(self, stable: f64) -> f64 {
        match self {
            Self::Ratio(ratio) => (stable * ratio).min(1.0),
            Self::Points(points) => (stable + points / 100.0).min(1.0),
        }
    }
}

impl std::fmt::Display for Detect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "{ratio} times as many"),
            Self::Points(points) => write!(f, "{points} percentage points more"),
        }
    }
}

/// What the weight of the start and of the nearest alternative cost, as a logarithm: 1/2 and about 1/5.
const MIXTURE: f64 = 2.3;
/// The normal quantile of the probability with which the regression would have been seen: 0.9.
const POWER: f64 = 1.28;

/// The expected evidence that is needed at a false-alarm probability: the threshold, and as much again as chance may hide
/// in one of ten cases. The evidence's variance is about twice its mean.
pub(super) fn needed(false_alarm: f64) -> f64 {
    let threshold = MIXTURE - false_alarm.ln();
    let root = f64::midpoint(
        POWER * 2_f64.sqrt(),
        (2.0 * POWER * POWER + 4.0 * threshold).sqrt(),
    );
    root * root
}

/// Stable's rate, off zero: after many requests without an error it is most likely below half of one.
pub(super) fn stable_rate(totals: &Totals) -> f64 {
    (number(totals.stable.errors).max(0.5) / number(totals.stable.requests).max(1.0)).min(1.0)
}

/// Errors after which a stretch of minutes tells a rate.
const TELLING: f64 = 5.0;

/// Stable's usual rate: the median over its requests of the rates of short stretches, each as long as it takes to see five
/// errors. An outage of both sides, however bad, does not move it as long as most requests came without one; the rate of
/// all requests together would rise so much that one percentage point more would hide in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Usual {
    /// Rate and requests of each stretch, by the rate.
    stretches: Vec<(f64, f64)>,
    /// Requests of all stretches.
    requests: f64,
    /// Errors and requests of the stretch that is not over.
    open: (f64, f64),
}

impl Usual {
    pub(super) fn add(&mut self, pair: &Pair) {
        self.open.0 += pair.stable_errors;
        self.open.1 += pair.stable;
        let (errors, requests) = self.open;
        if errors >= TELLING {
            let rate = errors / requests;
            let at = self.stretches.partition_point(|other| other.0 < rate);
            self.stretches.insert(at, (rate, requests));
            self.requests += requests;
            self.open = (0.0, 0.0);
        }
    }

    /// 0 when nothing is known.
    pub(super) fn rate(&self) -> f64 {
        let (errors, requests) = self.open;
        let open = (errors / requests.max(1.0), requests);
        let at = self.stretches.partition_point(|other| other.0 < open.0);
        let (below, above) = self.stretches.split_at(at);
        let half = f64::midpoint(self.requests, requests);
        let mut so_far = 0.0;
        let mut by_rate = below.iter().chain([&open]).chain(above);
        let median = by_rate.find(|stretch| {
            so_far += stretch.1;
            so_far >= half
        });
        median.map_or(0.0, |stretch| stretch.0)
    }
}

/// The least ratio of the rates that a comparison with this margin can be asked to see.
pub(super) fn least_seen(margin: f64) -> f64 {
    margin * LEAST_SEEN
}

/// The canary's rate that is looked for beside this rate of stable's: the regression's, or, where that hides within the
/// margin, the least that does not.
pub(super) fn looked_for(detect: Detect, rate: f64, margin: f64) -> f64 {
    detect.rate(rate).max(rate * least_seen(margin)).min(1.0)
}

/// The evidence to expect from requests of both sides when the canary has the regression: the Poisson relative entropy.
pub(super) fn expected(canary: f64, stable: f64, rate: f64, detect: Detect, margin: f64) -> f64 {
    let bad = looked_for(detect, rate, margin);
    let ratio = bad / rate;
    if ratio <= margin || canary <= 0.0 || stable <= 0.0 {
        return 0.0;
    }
    let quotient = (ratio * canary + stable) / (margin * canary + stable);
    let (x, y) = (canary * bad, stable * rate);
    x * (ratio / margin).ln() - (x + y) * quotient.ln()
}

/// What a comparison takes, told beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// Minutes, the warm-up among them.
    pub minutes: u32,
    /// The canary's requests in them.
    pub canary_requests: u64,
}

/// Longer than this nobody waits: a week.
const LONGEST: f64 = 7.0 * 24.0 * 60.0;

impl super::Settings {
    /// About how many minutes and requests it takes until the regression of `detect` would have been seen, at so many
    /// requests a minute on each side and stable's rate as a fraction; `weight` is the metric's share of the false alarms.
    /// `None` when it would take more than a week.
    pub fn exposure(
        &self,
        canary_per_minute: f64,
        stable_per_minute: f64,
        stable_rate: f64,
        weight: f64,
    ) -> Option<Exposure> {
        let rate = stable_rate.max(1e-9);
        let pair = Pair {
            canary: canary_per_minute,
            stable: stable_per_minute,
            canary_errors: canary_per_minute * looked_for(self.detect, rate, self.margin),
            stable_errors: stable_per_minute * rate,
        };
        let variance = self.noise.start * self.noise.start;
        let gain = expected(pair.canary, pair.stable, rate, self.detect, self.margin)
            / super::noise::tempering(&pair, self.margin, variance);
        let minutes =
            (needed(self.false_alarm * weight) / gain).ceil().max(1.0) + f64::from(self.warm_up);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "both are positive and below a week's minutes and requests"
        )]
        (gain > 0.0 && minutes <= LONGEST).then(|| Exposure {
            minutes: minutes as u32,
            canary_requests: (minutes * canary_per_minute).round() as u64,
        })
    }
}

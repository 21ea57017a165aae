//! What the comparison of one deployment is told.

use serin::request::LEAST_SEEN;

use super::exposure::Detect;
use super::noise::{Noise, Past};
use super::null::Null;
use super::ratio::Alternatives;
use super::robust::{Robust, Starts};

/// The settings of the comparison; the default is what a deployment gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The probability that a good version is rolled back by any metric at any time, above 0 and below 1.
    pub false_alarm: f64,
    /// The largest ratio of the canary's rate to stable's that is no reason to roll back, at least 1.
    pub margin: f64,
    /// The regression that the comparison must have been able to see before it says that it has seen enough.
    pub detect: Detect,
    /// For how many minutes the deployment is planned, at least 1; the comparison may go on for longer.
    pub minutes: u32,
    /// How many minutes after new tasks have started only a disaster counts.
    pub warm_up: u32,
    /// Into how many intervals each minute is divided: what is called a minute here is one of them. 1 or more.
    pub intervals_per_minute: u32,
    /// The minute noise that is assumed, and how fast it is learned.
    pub noise: Noise,
    /// How lasting ratios up to the margin are described; [`Null::Within`] is the default.
    pub null: Null,
    /// The ratio from which on the canary is a disaster, in the warm-up too; above `margin`.
    pub disaster: f64,
    /// A rate that the canary may not exceed, as a fraction of its requests, provided that it is also worse than stable.
    pub limit: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            false_alarm: 0.01,
            margin: 1.25,
            detect: Detect::Points(1.0),
            minutes: 60,
            warm_up: 2,
            intervals_per_minute: 1,
            noise: Noise::UNKNOWN,
            null: Null::Within,
            disaster: 6.0,
            limit: None,
        }
    }
}

/// The part of the false alarms that the disaster test may cause.
const DISASTER: f64 = 0.1;
/// The part of the false alarms that the limit may cause, when there is one.
pub(super) const LIMIT: f64 = 0.1;

/// The most evidence of one minute, as a logarithm, for a metric that is alone: at a false-alarm probability of 0.01 one
/// wild minute is just enough if it is as wild as can be. What is worse than that is the disaster test's.
const MOST_PER_MINUTE: f64 = 7.0;

/// From about 1.4 standard deviations on, a minute's evidence grows with its deviation and not with the deviation's square.
/// Bursts multiply a rate, so on the scale of counts a large one is likelier than a normal distribution has it.
const TAIL: f64 = 2.0;

/// What the robust test looks for: ratios over the margin, with weights; the least is [`serin::request::LEAST_SEEN`]. Most of
/// the weight is where evidence is slow to come; a large regression gives so much that its weight does not matter.
const ALTERNATIVES: [(f64, f64); 9] = [
    (LEAST_SEEN, 0.14),
    (1.45, 0.22),
    (1.8, 0.18),
    (2.5, 0.12),
    (3.6, 0.10),
    (5.5, 0.08),
    (9.0, 0.07),
    (20.0, 0.05),
    (60.0, 0.04),
];

/// What the disaster test looks for: ratios over its margin.
const DISASTERS: [(f64, f64); 6] = [
    (1.3, 0.2),
    (1.8, 0.3),
    (3.0, 0.2),
    (8.0, 0.1),
    (30.0, 0.1),
    (150.0, 0.1),
];

impl Settings {
    /// The same settings for a service whose past is known: its noise and its margin replace the assumed ones.
    #[must_use]
    pub fn with_past(mut self, past: &Past) -> Self {
        self.noise = past.noise;
        self.margin = past.margin().max(1.0);
        self.disaster = self.disaster.max(self.margin * 1.5);
        self
    }

    /// The logarithm of the e-value that rolls back: what the limit may cause is left to it.
    pub(crate) fn threshold(&self) -> f64 {
        let limits = self.limit.map_or(0.0, |_| LIMIT);
        -(self.false_alarm * (1.0 - limits)).ln()
    }

    /// The tests that the settings stand for.
    ///
    /// A metric of little weight is judged at a small probability, and so by the far tail of its noise, where services are
    /// noisier than a normal distribution. Such a metric gets more noise and less evidence per minute. Neither touches
    /// the guarantee under the ideal model; both are set so that twenty metrics at once keep it on bursty services.
    pub(super) fn tests(&self, weight: f64) -> Tests {
        let caution = 1.0 - 0.1 * weight.ln();
        Tests {
            robust: Robust {
                margin: self.margin,
                alternatives: Alternatives::weighted(ALTERNATIVES),
                null: self.null,
                noise: Some(Noise {
                    start: self.noise.start * caution,
                    ..self.noise
                }),
                skip: 0,
                most_per_minute: MOST_PER_MINUTE * weight.powf(0.1)
                    / f64::from(self.intervals_per_minute),
                // Per interval, so that the intervals of a minute are bent as the minute would be.
                tail: TAIL / f64::from(self.intervals_per_minute),
                starts: Starts::planned(self.minutes),
            },
            disaster: Robust {
                margin: self.disaster,
                alternatives: Alternatives::weighted(DISASTERS),
                null: Null::Bound,
                noise: None,
                skip: 0,
                most_per_minute: f64::INFINITY,
                tail: f64::INFINITY,
                starts: Starts::planned(self.minutes),
            },
            log_shares: ((1.0 - DISASTER).ln(), DISASTER.ln()),
        }
    }
}

/// The tests of one metric, and how the evidence of the two is averaged.
#[derive(Debug, Clone)]
pub(super) struct Tests {
    pub(super) robust: Robust,
    pub(super) disaster: Robust,
    pub(super) log_shares: (f64, f64),
}

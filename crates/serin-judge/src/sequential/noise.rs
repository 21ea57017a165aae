//! How much the ratio of two rates moves from minute to minute by more than counting explains.

use super::counts::{Minute, Pair};

/// The assumed unexplained minute noise: a standard deviation of `ln(canary rate / stable rate)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The standard deviation assumed before anything is measured, above 0.
    pub start: f64,
    /// How many measured minutes weigh as much as that assumption. Infinity keeps it as it is.
    pub minutes: f64,
    /// The least standard deviation that is ever assumed.
    pub floor: f64,
}

impl Noise {
    /// A service about which nothing is known: 0.3, worth ten minutes.
    pub const UNKNOWN: Self = Self {
        start: 0.3,
        minutes: 10.0,
        floor: 0.05,
    };
}

/// Errors that each side must have in a minute before the minute says something about noise.
const ENOUGH: f64 = 5.0;

/// Learns the noise from minutes that are past.
///
/// Half the squared difference of two successive logarithmic ratios is the variance of one, of which counting explains
/// `1/(x + 1/2) + 1/(y + 1/2)`. Differences of neighbours, because a lasting difference is no noise.
#[derive(Debug, Clone)]
pub(super) struct Learned {
    sum: f64,
    weight: f64,
    floor: f64,
    last: Option<(f64, f64)>,
}

impl Learned {
    pub(super) fn new(noise: &Noise) -> Self {
        let fixed = noise.minutes.is_infinite();
        Self {
            sum: noise.start * noise.start * if fixed { 1.0 } else { noise.minutes },
            weight: if fixed { f64::INFINITY } else { noise.minutes },
            floor: noise.floor,
            last: None,
        }
    }

    /// The variance to assume for the next minute.
    pub(super) fn variance(&self) -> f64 {
        if self.weight.is_infinite() {
            return self.sum;
        }
        (self.sum / self.weight).max(self.floor * self.floor)
    }

    /// Takes a minute in, after it was judged: what a minute says about noise may only bear on later ones.
    pub(super) fn learn(&mut self, pair: Option<&Pair>) {
        let now = pair
            .filter(|pair| pair.canary_errors >= ENOUGH && pair.stable_errors >= ENOUGH)
            .map(log_ratio);
        if let (Some((now, counting)), Some((last, last_counting))) = (now, self.last)
            && self.weight.is_finite()
        {
            let difference = now - last;
            self.sum += difference * difference / 2.0 - f64::midpoint(counting, last_counting);
            self.weight += 1.0;
        }
        self.last = now;
    }
}

/// The logarithm of the ratio of the two rates, and the variance that counting gives it.
pub(super) fn log_ratio(pair: &Pair) -> (f64, f64) {
    let (x, y) = (pair.canary_errors + 0.5, pair.stable_errors + 0.5);
    let ratio = (x * pair.stable / (y * pair.canary)).ln();
    (ratio, x.recip() + y.recip())
}

/// By how much to divide a minute's evidence so that noise of this variance does not count as evidence.
///
/// It depends on the sum of the errors alone, not on which side had them. An e-value's power between 0 and 1 has a mean
/// of at most 1 (Jensen's inequality), so dividing its logarithm keeps the test valid whatever the noise is; when counts
/// are large and the noise is as assumed, it makes the test exact. With few errors it is about 1: no power is lost where
/// power is scarce.
pub(super) fn tempering(pair: &Pair, margin: f64, variance: f64) -> f64 {
    let share = pair.share(margin);
    1.0 + pair.errors() * share * (1.0 - share) * variance
}

/// What earlier comparisons of two groups of the same version say about a service.
///
/// Each period is one such comparison: stable's tasks in two halves (by zone, or two target groups), or the canary and
/// stable of an earlier deployment that went well. The smaller half stands in the place of the canary. The test then
/// rests on the assumption that this deployment's two sides differ no more than those did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// Minute noise, as the past shows it.
    pub noise: Noise,
    /// Standard deviation of the lasting logarithmic ratio of two sides that run the same version.
    pub spread: f64,
}

impl Past {
    /// A service about which nothing is known.
    pub const UNKNOWN: Self = Self {
        noise: Noise::UNKNOWN,
        spread: 0.1,
    };
    /// Minutes of one sample of the lasting difference.
    const HOUR: usize = 60;
    /// How many hours the assumption about the lasting difference weighs as much as.
    const HOURS: f64 = 2.0;
    /// However long the past is, this many minutes of the present may outweigh it.
    const LONGEST: f64 = 30.0;

    /// Learns from past periods.
    pub fn learn<'a>(periods: impl IntoIterator<Item = &'a [Minute]> + Clone) -> Self {
        let unknown = Self::UNKNOWN;
        let mut learned = Learned::new(&unknown.noise);
        for period in periods.clone() {
            learned.last = None;
            for minute in period {
                learned.learn(minute.pair().as_ref());
            }
        }
        let noise = Noise {
            start: learned.variance().sqrt(),
            minutes: learned.weight.min(Self::LONGEST),
            ..unknown.noise
        };
        let assumed = unknown.spread * unknown.spread;
        let (mut sum, mut weight) = (assumed * Self::HOURS, Self::HOURS);
        for hour in periods.into_iter().flat_map(|p| p.chunks(Self::HOUR)) {
            let mut total: Option<Pair> = None;
            let mut minutes = 0.0;
            for pair in hour.iter().filter_map(Minute::pair) {
                minutes += 1.0;
                let so_far = total.get_or_insert(Pair {
                    canary: 0.0,
                    stable: 0.0,
                    canary_errors: 0.0,
                    stable_errors: 0.0,
                });
                so_far.canary += pair.canary;
                so_far.stable += pair.stable;
                so_far.canary_errors += pair.canary_errors;
                so_far.stable_errors += pair.stable_errors;
            }
            let Some(total) = total else { continue };
            let (ratio, counting) = log_ratio(&total);
            let unexplained = counting + learned.variance() / minutes;
            // An hour of few errors says little, and weighs little.
            let worth = (assumed / (assumed + unexplained)).powi(2);
            sum += worth * (ratio * ratio - unexplained);
            weight += worth;
        }
        // One standard error more than the estimate: to believe in too little spread rolls good versions back.
        let caution = 1.0 + (2.0 / weight).sqrt();
        let spread = (sum / weight * caution).max(0.0).sqrt().clamp(0.02, 0.3);
        Self { noise, spread }
    }

    /// The largest ratio of rates that two sides running the same version are taken to have: 1.25 for a spread of 0.1.
    pub fn margin(&self) -> f64 {
        (2.231_435_513 * self.spread).exp()
    }
}

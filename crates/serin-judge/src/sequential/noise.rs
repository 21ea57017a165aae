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
    /// From which minutes it is learned.
    pub learning: Learning,
}

impl Noise {
    /// A service about which nothing is known: 0.3, worth six minutes.
    pub const UNKNOWN: Self = Self {
        start: 0.3,
        minutes: 6.0,
        floor: 0.05,
        learning: Learning::All,
    };
}

/// From which minutes the noise is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learning {
    /// From all of them, each by what it can say.
    ///
    /// Given the canary's errors in two neighbouring minutes together, counting alone would spread them by a binomial
    /// distribution; what is spread further is noise. The weights depend on the sum only, so minutes with many errors are
    /// not preferred. At first the minutes that do not count as evidence are learned from too: tasks that get warm make a
    /// service look noisier than it is, which errs on the safe side, and nothing else is known of it yet.
    All,
    /// From minutes with at least five errors on each side: half the squared difference of two successive logarithmic
    /// ratios, less the variance `1/(x + 1/2) + 1/(y + 1/2)` of counting. Simple, but too small when few minutes have
    /// that many, because these are not like the others.
    Busy,
}

/// Errors that each side must have in a busy minute.
const BUSY: f64 = 5.0;

/// Learns the noise from minutes that are past.
///
/// It compares neighbours, because a lasting difference is no noise.
#[derive(Debug, Clone)]
pub(super) struct Learned {
    noise: Noise,
    sum: f64,
    weight: f64,
    last: Option<Pair>,
    /// Whether a minute has come that counts as evidence.
    counting: bool,
}

impl Learned {
    pub(super) fn new(noise: &Noise) -> Self {
        let weight = if noise.minutes.is_finite() {
            noise.minutes
        } else {
            1.0
        };
        Self {
            noise: *noise,
            sum: noise.start * noise.start * weight,
            weight,
            last: None,
            counting: false,
        }
    }

    /// The variance to assume for the next minute.
    pub(super) fn variance(&self) -> f64 {
        (self.sum / self.weight).max(self.noise.floor * self.noise.floor)
    }

    /// Takes a minute in that does not count as evidence.
    pub(super) fn learn_uncounted(&mut self, pair: Option<&Pair>) {
        if self.counting || self.noise.learning == Learning::Busy {
            // A difference across a gap is not one of neighbours.
            self.gap();
        } else {
            self.take(pair);
        }
    }

    /// Takes a minute in, after it was judged: what a minute says about noise may only bear on later ones.
    pub(super) fn learn(&mut self, pair: Option<&Pair>) {
        self.counting = true;
        self.take(pair);
    }

    fn take(&mut self, pair: Option<&Pair>) {
        if let (Some(now), Some(last)) = (pair, &self.last)
            && self.noise.minutes.is_finite()
            && let Some((variance, weight)) = match self.noise.learning {
                Learning::All => by_spread(last, now, self.noise.start),
                Learning::Busy => by_log_ratio(last, now),
            }
        {
            self.sum += variance * weight;
            self.weight += weight;
        }
        self.last = pair.copied();
    }

    /// How many minutes the estimate weighs.
    pub(super) fn minutes(&self) -> f64 {
        self.weight
    }

    /// Forgets the last minute: the next one is not its neighbour.
    pub(super) fn gap(&mut self) {
        self.last = None;
    }
}

/// The noise variance that two neighbouring minutes show, and its weight: 1 when counting hides nothing.
fn by_spread(last: &Pair, now: &Pair, assumed: f64) -> Option<(f64, f64)> {
    let both = last.canary_errors + now.canary_errors;
    // What each minute's errors would be for the canary at one ratio in both.
    let fair = |pair: &Pair| pair.canary * pair.errors() / (pair.canary + pair.stable);
    let (fair_last, fair_now) = (fair(last), fair(now));
    let sum = fair_last + fair_now;
    if both <= 0.0 || sum <= 0.0 {
        return None;
    }
    let share = fair_now / sum;
    let counting = both * share * (1.0 - share);
    if counting <= 0.0 {
        return None;
    }
    let off = now.canary_errors - both * share;
    let variance = (off * off - counting) / (2.0 * counting * counting);
    let hidden = (counting * 2.0 * assumed * assumed).recip();
    Some((variance, (1.0 + hidden).powi(-2)))
}

fn by_log_ratio(last: &Pair, now: &Pair) -> Option<(f64, f64)> {
    let busy = |pair: &Pair| pair.canary_errors >= BUSY && pair.stable_errors >= BUSY;
    (busy(last) && busy(now)).then(|| {
        let ((last, last_counting), (now, counting)) = (log_ratio(last), log_ratio(now));
        let difference = now - last;
        let variance = difference * difference / 2.0 - f64::midpoint(counting, last_counting);
        (variance, 1.0)
    })
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
    /// Noise has a heavier tail than the test takes it to have, so a little more than the past's is assumed.
    const CAUTION: f64 = 1.15;
    /// However quiet the past was, at least this noise is assumed at first, and this spread always: the present may differ.
    const LEAST_NOISE: f64 = 0.2;
    const LEAST_SPREAD: f64 = 0.04;
    /// However long the past is, this many minutes of the present may outweigh it.
    const LONGEST: f64 = 8.0;

    /// Learns from past periods.
    pub fn learn<'a>(periods: impl IntoIterator<Item = &'a [Minute]> + Clone) -> Self {
        let unknown = Self::UNKNOWN;
        let mut learned = Learned::new(&unknown.noise);
        for period in periods.clone() {
            learned.gap();
            for minute in period {
                learned.learn(minute.pair().as_ref());
            }
        }
        let noise = Noise {
            start: (learned.variance().sqrt() * Self::CAUTION).max(Self::LEAST_NOISE),
            minutes: learned.minutes().min(Self::LONGEST),
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
        let estimate = (sum / weight).max(0.0);
        // One standard error more than the estimate: to believe in too little spread rolls good versions back. But not more
        // than what is assumed of an unknown service, unless the past shows more.
        let cautious = estimate * (1.0 + (2.0 / weight).sqrt());
        let spread = cautious
            .min(estimate.max(assumed))
            .sqrt()
            .clamp(Self::LEAST_SPREAD, 0.3);
        Self { noise, spread }
    }

    /// The largest ratio of rates that two sides running the same version are taken to have: 1.25 for a spread of 0.1.
    pub fn margin(&self) -> f64 {
        (2.231_435_513 * self.spread).exp()
    }
}

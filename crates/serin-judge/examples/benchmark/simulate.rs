//! Simulated deployments: an hour with a tenth of the traffic on the canary, as counts per minute.

use rand_distr::{Binomial, Distribution, LogNormal, Poisson};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serin_judge::sequential::{Minute, Tally};

pub(crate) type Random = Xoshiro256PlusPlus;

pub(crate) const MINUTES: usize = 60;
const CANARY_SHARE: f64 = 0.1;
/// The minute with which a late regression begins.
pub(crate) const LATE: usize = 30;

/// What the simulated canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The same version; requests fail independently.
    Independent,
    /// The same version; both sides fail twenty times as often from minute 20 to 30.
    Outage,
    /// The same version; the logarithm of its rate differs lastingly by a normal error of 0.1.
    Lasting,
    /// The same version; each minute's rate is multiplied by noise of mean 1 and a variation of 0.5 on the canary, and a
    /// third of that on stable, which is nine times as large.
    Bursty,
    /// The same version; five times the errors in its first minute and three times in its second.
    ColdStart,
    Times2,
    Times5,
    Plus1,
    Plus5,
    Half,
    All,
    /// One percentage point more from minute 30 on.
    Late,
}

pub(crate) const SAME: [Kind; 5] = [
    Kind::Independent,
    Kind::Outage,
    Kind::Lasting,
    Kind::Bursty,
    Kind::ColdStart,
];
pub(crate) const WORSE: [Kind; 7] = [
    Kind::Times2,
    Kind::Times5,
    Kind::Plus1,
    Kind::Plus5,
    Kind::Half,
    Kind::All,
    Kind::Late,
];

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent",
            Self::Outage => "shared outage",
            Self::Lasting => "lasting difference",
            Self::Bursty => "bursty",
            Self::ColdStart => "cold start",
            Self::Times2 => "x2",
            Self::Times5 => "x5",
            Self::Plus1 => "+1 pp",
            Self::Plus5 => "+5 pp",
            Self::Half => "half fail",
            Self::All => "all fail",
            Self::Late => "+1 pp from minute 30",
        }
    }

    /// The first minute in which the canary is worse.
    pub(crate) const fn onset(self) -> usize {
        match self {
            Self::Late => LATE,
            _ => 0,
        }
    }
}

/// A service and what is deployed to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    pub(crate) kind: Kind,
    /// Requests per second of both sides together.
    pub(crate) traffic: f64,
    /// Stable's rate of errors, as a fraction.
    pub(crate) base: f64,
}

impl Cell {
    pub(crate) fn random(&self, run: u64) -> Random {
        let mut seed = run;
        for part in [
            self.kind as u64,
            self.traffic.to_bits(),
            self.base.to_bits(),
        ] {
            seed = (seed ^ part)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(29);
        }
        Random::seed_from_u64(seed)
    }

    /// One deployment.
    pub(crate) fn deployment(&self, random: &mut Random) -> Vec<Minute> {
        let lasting = self.lasting(random);
        (0..MINUTES)
            .map(|minute| self.minute(minute, lasting, random))
            .collect()
    }

    /// Hours of the same service in which both sides ran the same version, each hour with a new lasting difference.
    pub(crate) fn past(&self, hours: usize, random: &mut Random) -> Vec<Minute> {
        let before = match self.kind {
            Kind::Lasting | Kind::Bursty => *self,
            // Nothing starts and nothing is broken in the past.
            _ => Self {
                kind: Kind::Independent,
                ..*self
            },
        };
        let mut minutes = Vec::with_capacity(hours * MINUTES);
        for _ in 0..hours {
            let lasting = before.lasting(random);
            minutes.extend((0..MINUTES).map(|minute| before.minute(minute, lasting, random)));
        }
        minutes
    }

    fn lasting(&self, random: &mut Random) -> f64 {
        if self.kind == Kind::Lasting {
            noise(0.1, random)
        } else {
            1.0
        }
    }

    fn minute(&self, minute: usize, lasting: f64, random: &mut Random) -> Minute {
        let base = self.base;
        let (canary, stable) = match self.kind {
            Kind::Outage if (20..30).contains(&minute) => (base * 20.0, base * 20.0),
            Kind::Lasting => (base * lasting, base),
            Kind::Bursty => (base * burst(0.5, random), base * burst(0.5 / 3.0, random)),
            Kind::ColdStart if minute == 0 => (base * 5.0, base),
            Kind::ColdStart if minute == 1 => (base * 3.0, base),
            Kind::Times2 => (base * 2.0, base),
            Kind::Times5 => (base * 5.0, base),
            Kind::Plus1 => (base + 0.01, base),
            Kind::Plus5 => (base + 0.05, base),
            Kind::Half => (0.5, base),
            Kind::All => (1.0, base),
            Kind::Late if minute >= LATE => (base + 0.01, base),
            Kind::Independent | Kind::Outage | Kind::ColdStart | Kind::Late => (base, base),
        };
        let per_minute = self.traffic * 60.0;
        let canary = tally(per_minute * CANARY_SHARE, canary, random);
        let stable = tally(per_minute * (1.0 - CANARY_SHARE), stable, random);
        // A load balancer reports no minute without requests.
        let seen = |tally: Tally| (tally.requests > 0).then_some(tally);
        Minute {
            canary: seen(canary),
            stable: seen(stable),
        }
    }
}

fn noise(deviation: f64, random: &mut Random) -> f64 {
    LogNormal::new(0.0, deviation)
        .expect("a positive deviation")
        .sample(random)
}

/// Noise of mean 1 with this coefficient of variation.
fn burst(variation: f64, random: &mut Random) -> f64 {
    LogNormal::from_mean_cv(1.0, variation)
        .expect("a positive variation")
        .sample(random)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a Poisson sample is a count"
)]
fn tally(requests: f64, rate: f64, random: &mut Random) -> Tally {
    let requests = Poisson::new(requests)
        .expect("a positive mean")
        .sample(random) as u64;
    let errors = Binomial::new(requests, rate.min(1.0)).expect("a probability");
    Tally {
        requests,
        errors: errors.sample(random),
    }
}

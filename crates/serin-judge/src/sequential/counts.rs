//! What the tests are given: counts per minute.

/// The requests that one side served in one minute, and how many of them were bad.
///
/// Bad is whatever the metric counts: a request that failed, or one that was slower than a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests served.
    pub requests: u64,
    /// How many of them were bad.
    pub errors: u64,
}

impl Tally {
    /// One side's minute from two sums as a load balancer reports them.
    ///
    /// A load balancer reports errors only when there are some, and requests only when there are some: requests without
    /// errors mean no errors, and no requests mean that nothing is known. A sum that is no count is not known either.
    pub fn from_sums(requests: Option<f64>, errors: Option<f64>) -> Option<Self> {
        let requests = requests.and_then(count)?;
        let errors = errors.map_or(Some(0), count)?;
        (requests > 0).then_some(Self { requests, errors })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of requests, checked to be one"
)]
fn count(sum: f64) -> Option<u64> {
    (sum.is_finite() && sum >= 0.0).then(|| sum.round() as u64)
}

/// One minute of both sides. `None` is a minute without data, which is not a minute without errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// The canary's requests.
    pub canary: Option<Tally>,
    /// The requests of what the canary is compared with: stable, or a fresh copy of it.
    pub stable: Option<Tally>,
}

impl Minute {
    /// A minute in which both sides served requests.
    pub const fn new(canary: Tally, stable: Tally) -> Self {
        Self {
            canary: Some(canary),
            stable: Some(stable),
        }
    }

    /// Both sides as numbers, when both served requests.
    pub(super) fn pair(&self) -> Option<Pair> {
        let (canary, stable) = (self.canary?, self.stable?);
        (canary.requests > 0 && stable.requests > 0).then(|| Pair {
            canary: number(canary.requests),
            stable: number(stable.requests),
            canary_errors: number(canary.errors),
            stable_errors: number(stable.errors),
        })
    }
}

/// A minute with data on both sides, as the formulas want it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) canary: f64,
    pub(super) stable: f64,
    pub(super) canary_errors: f64,
    pub(super) stable_errors: f64,
}

impl Pair {
    /// How many errors stable would have had with the canary's requests.
    pub(super) fn stable_alike(&self) -> f64 {
        self.canary * self.stable_errors / self.stable
    }

    /// Errors of both sides.
    pub(super) fn errors(&self) -> f64 {
        self.canary_errors + self.stable_errors
    }

    /// The share of the errors that falls to the canary when its rate is `ratio` times stable's.
    pub(super) fn share(&self, ratio: f64) -> f64 {
        ratio * self.canary / (ratio * self.canary + self.stable)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// The sums of both sides over the minutes in which both have data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// The canary's requests and errors.
    pub canary: Tally,
    /// Stable's.
    pub stable: Tally,
}

impl Totals {
    /// Adds up `minutes`.
    pub fn of(minutes: &[Minute]) -> Self {
        let mut totals = Self::default();
        for minute in minutes {
            totals.add(minute);
        }
        totals
    }

    /// Adds one minute, if both sides have data.
    pub(super) fn add(&mut self, minute: &Minute) {
        if let (Some(canary), Some(stable)) = (minute.canary, minute.stable) {
            self.canary.requests += canary.requests;
            self.canary.errors += canary.errors;
            self.stable.requests += stable.requests;
            self.stable.errors += stable.errors;
        }
    }
}

//! The time of a simulated world: it stands still until a test moves it.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

/// A clock that several owners share; cloning it gives another hand on the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Mutex<Timestamp>>);

impl Clock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// What the clock shows.
    pub fn now(&self) -> Timestamp {
        *self
            .0
            .lock()
            .expect("nobody panics while setting the clock")
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        let step = SignedDuration::from_secs(
            i64::try_from(seconds).expect("a test lasts less than the age of the universe"),
        );
        *self
            .0
            .lock()
            .expect("nobody panics while setting the clock") += step;
    }

    /// Sets the clock; it never goes back.
    pub fn set(&self, now: Timestamp) {
        let mut shown = self
            .0
            .lock()
            .expect("nobody panics while setting the clock");
        assert!(now >= *shown, "the clock of a world does not go back");
        *shown = now;
    }
}

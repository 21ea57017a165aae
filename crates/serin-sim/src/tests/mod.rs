//! The simulated account's own rules.

mod app_mesh;
mod ecs;
mod metrics;
mod others;
mod safety;

use crate::{Account, Clock, world};

/// An account with the service `checkout`, steady.
fn account() -> Account {
    let clock = Clock::new("2026-11-20T12:00:00Z".parse().unwrap());
    let account = Account::new(clock);
    world::checkout(&account);
    account
}

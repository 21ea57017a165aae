//! The simulated account's own rules.

mod app_mesh;
mod auto_scaling;
mod balancer_traffic;
mod ecs;
mod load_balancing;
mod metrics;
mod others;
mod safety;

use crate::{Account, Clock, World, world};

/// An account with the service `checkout`, steady.
fn account() -> Account {
    let clock = Clock::new("2026-11-20T12:00:00Z".parse().unwrap());
    let account = Account::new(clock);
    world::checkout(&account);
    account
}

/// An account with the service as the options have it, steady.
fn account_with(options: &world::Options) -> Account {
    let clock = Clock::new("2026-11-20T12:00:00Z".parse().unwrap());
    let account = Account::new(clock);
    world::checkout_with(&account, options);
    account
}

/// The ARN of a target group.
fn group_arn(account: &Account, name: &str) -> String {
    let group = account.look(|world: &World| world.target_group(name));
    group.unwrap().target_group_arn.unwrap()
}

//! The local cloud: the real Lambdas and state machine, a real Envoy, no AWS account.
//!
//! [`LocalCloud`] starts moto, the gateway before it, the functions, a user's world and its traffic, all on free ports;
//! a demo or a test then deploys in it. What is real and what is played is told in `ARCHITECTURE.md`.
#![expect(
    clippy::disallowed_methods,
    reason = "the local cloud is the world that a deployment acts on, and the world has real time"
)]

pub mod aws_cli;
pub mod checkout;
pub mod cloud;
pub mod data_plane;
pub mod demo;
pub mod evidence;
pub mod executions;
pub mod functions;
pub mod gateway;
pub mod history;
pub mod report;
pub mod running;
pub mod scenario;
pub mod screen;
pub mod stack;
pub mod world;

#[cfg(test)]
mod by_hand;
mod event_bridge;
mod load_balancing;
mod moto;
mod ports;
mod process;
mod query;
mod status_page;

pub use cloud::{CloudError, CloudOptions, LocalCloud};
pub use data_plane::LocalRouter;
pub use executions::{Ending, Execution, Look, Outcome, Progress};
pub use gateway::{Effect, Fault};
pub use moto::MotoError;
pub use scenario::Scenario;

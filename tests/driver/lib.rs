//! What drives whole deployments in the simulated account, for the tests and for `cargo xtask simulate`: the real state machine,
//! run by the interpreter of `serin-sim`, with the real steps over the real adapters, on AWS in memory and in virtual time.
//!
//! After every single call of AWS's API the safety rules are checked, and that the function's role allows the call.
#![recursion_limit = "256"] // a whole deployment is one deep future
#![expect(clippy::unwrap_used, reason = "all of this is test")]

pub mod chance;
mod dice;
pub mod exhaustive;
mod hands;
mod lambdas;
pub mod leftovers;
pub mod pages;
mod path;
pub mod permissions;
pub mod picture;
pub mod project;
pub mod refusals;
mod simulation;
mod story;
pub mod template;
pub mod yaml;

pub use hands::Route;
pub use lambdas::{Lambdas, answer, task_error};
pub use path::{path_of, shortened};
pub use simulation::{Deployed, On, Simulation, arn, request};
pub use story::Disturbance;

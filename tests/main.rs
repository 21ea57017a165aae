//! What holds between the files of the project, and what the whole does. One module for each kind of test:
//!
//! - `contracts`: names, errors, permissions and limits agree in all the files that repeat them;
//! - `stacks`: the templates are linted, and the examples created in moto's CloudFormation;
//! - `simulation`: the real state machine and the real steps, on AWS in memory, in virtual time;
//! - `pages`: the status page of simulated deployments, in a browser;
//! - `end_to_end`: the same in the local cloud, in real time and with real traffic.
#![recursion_limit = "256"] // a whole deployment is one deep future
#![expect(clippy::unwrap_used, reason = "all of this is test")]

mod contracts;
mod end_to_end;
mod pages;
mod receiver;
mod simulation;
mod stacks;

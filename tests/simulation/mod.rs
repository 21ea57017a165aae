//! Whole deployments: the real state machine, run by the interpreter of `serin-sim`, with the real steps over the real
//! adapters, on AWS in memory and in virtual time. What drives them is in `tests/driver`.

mod alb;
mod baseline;
mod by_hand;
mod capacity;
mod careless;
mod decisions;
mod endings;
mod errors;
mod every_call;
mod exhaustive;
mod freeze;
mod judge;
mod latency;
mod leftovers;
mod limits;
mod no_trace;
mod notices;
mod others;
mod permissions;
mod promotion;
mod random;
mod recovery;
mod sample;
mod seeds;
mod turns;
mod window;

pub(crate) use serin_driver::{Deployed, On, Simulation, arn, path_of, request, shortened};

//! For tests: AWS in memory with its rules, faults, a virtual clock and the state machine's interpreter.
#![expect(
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    reason = "this crate serves tests: it panics where a test asks for something that the simulated world does not have"
)]

mod clock;
pub mod state_machine;

pub use clock::Clock;

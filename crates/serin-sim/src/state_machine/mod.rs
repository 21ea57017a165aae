//! A small interpreter of the Amazon States Language, so that the real state machine runs in tests, in virtual time.
//!
//! It knows exactly the features that Serin's own files use and refuses any other when it reads a file: a feature that it
//! understood half would make a test lie. Where AWS is strict it is strict: a missing path kills the execution with
//! `States.Runtime`, which no `Catch` sees; the state has at most 256 KiB; the history has at most 25,000 events.
//!
//! Deliberately absent: `JSONata`, `InputPath`, `OutputPath`, `ResultSelector`, `Map`, `Parallel`, arrays in paths, and every
//! intrinsic function but `States.JsonToString`.

mod definition;
mod execution;
mod path;
#[cfg(test)]
mod tests;

pub use definition::{ParseError, StateMachine};
pub use execution::{Execution, Functions, Jitter, Status, TaskError};

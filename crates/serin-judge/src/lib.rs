//! Turns measurements into a verdict with its evidence: numbers in, verdict out.
//!
//! No clock, no AWS, no I/O. Silence is never health: a limit without enough data is inconclusive, whatever the reason.

mod comparison;
pub mod kayenta;
mod limits;
pub mod sequential;
mod window;

pub use comparison::{Forecast, calm, comparable, forecast, judge_beside_stable, planned_seconds};
pub use limits::{
    Calm, judge_alarm, judge_baseline, judge_baseline_targets, judge_error_rate, judge_latency,
    judge_query, judge_share, judge_targets, judge_tasks, unless_stable_too, verdict,
};
pub use window::{Measurable, StepTimes};

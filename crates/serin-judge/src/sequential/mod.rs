//! The sequential comparison of a canary with stable. Counts in, a decision with its evidence out.

mod beta_binomial;
mod counts;
mod noise;
mod ratio;
mod robust;

pub use beta_binomial::BetaBinomial;
pub use counts::{Minute, Tally, Totals};
pub use noise::{Noise, Past};
pub use ratio::Alternatives;
pub use robust::{Robust, Starts};

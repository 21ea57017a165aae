//! The sequential comparison of a canary with stable: counts per minute in, a decision after every minute with its
//! evidence out.
//!
//! Its tests are e-processes. An e-value has a mean of at most 1 while the canary is no worse than stable by more than a
//! practical margin (on average over what such canaries are like: [`Null::Within`]), so the probability that it ever reaches `1 / falseAlarm` is at most `falseAlarm` (Ville 1939;
//! Howard and others 2021, arXiv 1810.08240). Nothing has to be decided beforehand about how often one looks, when one
//! stops, or how the traffic is split from minute to minute. Everything is computed anew from the counts at each look.
//!
//! Not here: gauges and percentiles, which have no counts. A series without request counts cannot be compared this way.

mod beta_binomial;
mod confidence;
mod counts;
mod evidence;
mod exposure;
mod family;
mod guard;
mod noise;
mod null;
mod ratio;
mod robust;
mod settings;
mod watch;

pub use beta_binomial::BetaBinomial;
pub use counts::{Minute, Tally, Totals};
pub use evidence::Evidence;
pub use exposure::{Detect, Exposure};
pub use family::{Counted, Judgement, Metric, compare, first_roll_back};
pub use guard::refutes;
pub use noise::{Learning, Noise, Past};
pub use null::Null;
pub use ratio::Alternatives;
pub use robust::{Robust, Starts};
pub use settings::Settings;
pub use watch::Decision;

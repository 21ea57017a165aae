//! Kayenta's judge: the verdicts of `NetflixACAJudge-v1.0`, to the label and the score.
//!
//! Written after the behaviour of spinnaker/kayenta at commit a69573be (2025-04-08) and of commons-math 3.6.1 below it, for teams
//! that come from there with their canary configurations. What Kayenta does not do well is kept, and can be repaired one thing
//! at a time: see [`Repairs`]. One thing differs without being asked for: noise on constant data has a fixed seed.
//!
//! The parts, from the inside: [`samples`] (gaps and outliers), [`mann_whitney`] (the interval of the shift), [`Classifier`] (one
//! metric's label), [`score`] (groups and weights), [`run`] (one judgement of all metrics, and several in a row), [`config`] (the
//! file).

mod brent;
mod classify;
pub mod config;
mod deployed;
pub mod mann_whitney;
mod noise;
pub mod run;
pub mod samples;
pub mod score;

pub use classify::{
    Classifier, Direction, EffectMeasure, EffectSize, Judged, Label, MetricSettings, Outliers,
    Repairs, compare_means, mean_ratio,
};
pub use config::CanaryConfig;
pub(crate) use deployed::{Judging, judge_kayenta};
pub use noise::Noise;
pub use samples::{NanStrategy, OutlierStrategy};

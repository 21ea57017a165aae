//! The canary's share of the traffic.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The canary's share of traffic, in percent with at most one decimal, from 0 (none) to 100 (all).
///
/// Kept as tenths of a percent, the precision of Amazon ECS's own canaries, so that shares add up exactly; an `f64` would
/// not. A step of a plan has at least 0.1; zero is the weight before the first step and after a rollback.
///
/// ```
/// use serin::Weight;
/// let weight = Weight::from_percent(12.5).unwrap();
/// assert_eq!(weight.to_string(), "12.5");
/// assert!(Weight::from_percent(12.55).is_err());
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(u16);

/// Why a number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum WeightError {
    /// Below zero, or not a number.
    #[error("{0} is below 0.1")]
    TooSmall(f64),
    /// Above the whole.
    #[error("{0} is above 100")]
    TooLarge(f64),
    /// Finer than the type can say.
    #[error("{0} has more than one decimal")]
    TooFine(f64),
}

impl Weight {
    /// No traffic.
    pub const ZERO: Self = Self(0);
    /// All traffic.
    pub const FULL: Self = Self(1000);

    /// A weight from percent.
    ///
    /// # Errors
    /// [`WeightError`] when the number is outside 0 to 100 or has more than one decimal.
    pub fn from_percent(percent: f64) -> Result<Self, WeightError> {
        if percent.is_nan() || percent < 0.0 {
            return Err(WeightError::TooSmall(percent));
        }
        if percent > 100.0 {
            return Err(WeightError::TooLarge(percent));
        }
        let tenths = percent * 10.0;
        // 12.3 * 10 is 123.00000000000001: the tolerance is for binary fractions, not for a second decimal.
        if (tenths - tenths.round()).abs() > 1e-6 {
            return Err(WeightError::TooFine(percent));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1000 fits"
        )]
        Ok(Self(tenths.round() as u16))
    }

    /// A weight from tenths of a percent, at most 1000.
    pub const fn from_tenths(tenths: u16) -> Option<Self> {
        if tenths <= 1000 {
            Some(Self(tenths))
        } else {
            None
        }
    }

    /// In tenths of a percent, 0 to 1000.
    pub const fn tenths(self) -> u16 {
        self.0
    }

    /// In percent, for people and JSON.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    /// The part of `whole` that this weight stands for, if it is a whole number: what a router that takes integers can
    /// express.
    pub fn exact_part_of(self, whole: u32) -> Option<u32> {
        let product = u64::from(whole) * u64::from(self.0);
        (product % 1000 == 0)
            .then(|| u32::try_from(product / 1000).expect("a part is at most the whole"))
    }

    /// The nearest weight above zero that is a whole part of `whole`, for the sentence that refuses this one.
    pub fn nearest_part_of(self, whole: u32) -> Option<Self> {
        (1..=1000)
            .map(Self)
            .filter(|weight| weight.exact_part_of(whole).is_some())
            .min_by_key(|weight| (weight.0.abs_diff(self.0), weight.0))
    }
}

impl std::fmt::Display for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}", self.0 / 10),
            tenth => write!(f, "{}.{tenth}", self.0 / 10),
        }
    }
}

impl TryFrom<f64> for Weight {
    type Error = WeightError;

    fn try_from(percent: f64) -> Result<Self, Self::Error> {
        Self::from_percent(percent)
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> Self {
        weight.percent()
    }
}

/// How the traffic is divided; what is left is stable's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The canary's share.
    pub canary: Weight,
    /// The baseline's share; `None` when the deployment has no baseline.
    pub baseline: Option<Weight>,
}

impl Split {
    /// While the canary has this weight, in a deployment with a baseline or without.
    pub fn at(canary: Weight, has_baseline: bool) -> Self {
        if has_baseline {
            Self::with_baseline(canary)
        } else {
            Self::between_two(canary)
        }
    }

    /// Between stable and the canary alone.
    pub const fn between_two(canary: Weight) -> Self {
        Self {
            canary,
            baseline: None,
        }
    }

    /// With a baseline, which has the canary's weight while something is left for stable beside both; from 50 percent on it has
    /// none, and stable, no larger than the canary then, is what the canary is compared with.
    pub fn with_baseline(canary: Weight) -> Self {
        let fits = canary.0 * 2 < Weight::FULL.0;
        Self {
            canary,
            baseline: Some(if fits { canary } else { Weight::ZERO }),
        }
    }

    /// The baseline's share; none without one.
    pub fn of_baseline(self) -> Weight {
        self.baseline.unwrap_or(Weight::ZERO)
    }
}

impl JsonSchema for Weight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The canary's share of traffic in percent, with at most one decimal.",
            "type": "number",
            "minimum": 0.1,
            "maximum": 100,
            "multipleOf": 0.1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_baseline_has_the_canarys_weight_as_long_as_stable_keeps_something() {
        let baseline = |percent| {
            let canary = Weight::from_percent(percent).unwrap();
            Split::with_baseline(canary).of_baseline().tenths()
        };
        assert_eq!(
            [0.0, 10.0, 49.9, 50.0, 100.0].map(baseline),
            [0, 100, 499, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn every_tenth_survives_json(tenths in 0_u16..=1000) {
            let weight = Weight::from_tenths(tenths).unwrap();
            let json = serde_json::to_string(&weight).unwrap();
            prop_assert_eq!(serde_json::from_str::<Weight>(&json).unwrap(), weight);
        }

        #[test]
        fn the_nearest_expressible_weight_is_expressible(tenths in 1_u16..=1000, whole in 1_u32..=100) {
            let weight = Weight::from_tenths(tenths).unwrap();
            let nearest = weight.nearest_part_of(whole).unwrap();
            prop_assert!(nearest.exact_part_of(whole).is_some());
            prop_assert!(weight.exact_part_of(whole).is_none() || nearest == weight);
        }
    }

    #[test]
    fn a_hundred_parts_cannot_express_a_tenth() {
        let weight = Weight::from_percent(0.4).unwrap();
        assert_eq!(weight.exact_part_of(100), None);
        assert_eq!(weight.nearest_part_of(100), Weight::from_percent(1.0).ok());
    }

    #[test]
    fn numbers_that_are_no_weight_say_why() {
        assert_eq!(
            Weight::from_percent(101.0).unwrap_err().to_string(),
            "101 is above 100"
        );
        assert_eq!(
            Weight::from_percent(-1.0).unwrap_err().to_string(),
            "-1 is below 0.1"
        );
        assert_eq!(
            Weight::from_percent(0.55).unwrap_err().to_string(),
            "0.55 has more than one decimal"
        );
    }
}

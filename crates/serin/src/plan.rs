//! The list of steps, resolved before anything is created.

use serde::{Deserialize, Serialize};

use crate::weight::Weight;

/// A weight, and how long it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// The canary's share during the step.
    pub weight_percent: Weight,
    /// How long the canary is watched at this weight, in seconds.
    pub hold_seconds: u32,
}

/// The steps of a deployment: at least one, their weights strictly increasing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Step>", into = "Vec<Step>")]
pub struct Plan(Vec<Step>);

/// Why a list of steps is no plan. Requests are checked with better words in [`crate::request`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no step.
    #[error("a plan needs at least one step")]
    Empty,
    /// A weight does not exceed the one before it.
    #[error("step {0} does not raise the weight")]
    NotIncreasing(usize),
}

impl Plan {
    /// A plan of these steps.
    ///
    /// # Errors
    /// [`PlanError`] when there is none or when the weights do not strictly increase from above zero.
    pub fn new(steps: Vec<Step>) -> Result<Self, PlanError> {
        if steps.is_empty() {
            return Err(PlanError::Empty);
        }
        let mut before = Weight::ZERO;
        for (index, step) in steps.iter().enumerate() {
            if step.weight_percent <= before {
                return Err(PlanError::NotIncreasing(index));
            }
            before = step.weight_percent;
        }
        Ok(Self(steps))
    }

    /// Equal steps of `step` up to `max`, each held for `hold_seconds`; the last one is cut to `max`, never beyond it.
    ///
    /// `None` when `step` is zero.
    pub fn linear(step: Weight, max: Weight, hold_seconds: u32) -> Option<Self> {
        if step == Weight::ZERO || max == Weight::ZERO {
            return None;
        }
        let mut steps = Vec::new();
        let mut tenths = 0;
        while tenths < max.tenths() {
            tenths = (tenths + step.tenths()).min(max.tenths());
            let weight_percent =
                Weight::from_tenths(tenths).expect("cut to max, which is a weight");
            steps.push(Step {
                weight_percent,
                hold_seconds,
            });
        }
        Some(Self(steps))
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The step at `index`, counted from zero.
    pub fn step(&self, index: usize) -> Option<&Step> {
        self.0.get(index)
    }

    /// Whether `index` is the plan's last step.
    pub fn is_last(&self, index: usize) -> bool {
        index + 1 == self.0.len()
    }

    /// The sum of all holds, in seconds.
    pub fn total_hold_seconds(&self) -> u64 {
        self.0.iter().map(|step| u64::from(step.hold_seconds)).sum()
    }
}

impl TryFrom<Vec<Step>> for Plan {
    type Error = PlanError;

    fn try_from(steps: Vec<Step>) -> Result<Self, Self::Error> {
        Self::new(steps)
    }
}

impl From<Plan> for Vec<Step> {
    fn from(plan: Plan) -> Self {
        plan.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_linear_plan_strictly_increases_and_ends_exactly_at_its_maximum(step in 1_u16..=1000, max in 1_u16..=1000) {
            let (step, max) = (Weight::from_tenths(step).unwrap(), Weight::from_tenths(max).unwrap());
            let plan = Plan::linear(step, max, 60).unwrap();
            prop_assert_eq!(plan.steps().last().unwrap().weight_percent, max);
            prop_assert!(Plan::new(plan.steps().to_vec()).is_ok());
        }
    }

    #[test]
    fn step_20_with_maximum_50_does_not_overshoot() {
        let percent = |value| Weight::from_percent(value).unwrap();
        let plan = Plan::linear(percent(20.0), percent(50.0), 60).unwrap();
        let weights: Vec<_> = plan
            .steps()
            .iter()
            .map(|step| step.weight_percent.to_string())
            .collect();
        assert_eq!(weights, ["20", "40", "50"]);
    }

    #[test]
    fn a_step_that_does_not_raise_the_weight_is_no_plan() {
        let step = Step {
            weight_percent: Weight::FULL,
            hold_seconds: 1,
        };
        assert_eq!(
            Plan::new(vec![step, step]),
            Err(PlanError::NotIncreasing(1))
        );
        assert_eq!(Plan::new(vec![]), Err(PlanError::Empty));
    }
}

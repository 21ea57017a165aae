//! What a checked request means: its plan with defaults, and where the new version comes from.

use super::{
    LONGEST_DEADLINE_SECONDS, NewVersion, OnConflict, Outside, Preset, Request,
    USUAL_LONGEST_WAIT_SECONDS,
};
use crate::plan::{Plan, Step};
use crate::weight::Weight;

/// The plan when a request names none.
const DEFAULT_WEIGHTS: [u16; 4] = [50, 250, 500, 1000];
/// How long each of its steps is held, in seconds.
const DEFAULT_HOLD_SECONDS: u32 = 300;

impl Request {
    /// The steps.
    ///
    /// # Panics
    /// When the request did not come from [`Request::parse`], which is where a plan's rules are checked.
    pub fn resolve_plan(&self) -> Plan {
        let Some(request) = &self.plan else {
            return plan_of(DEFAULT_WEIGHTS.map(|tenths| (tenths, DEFAULT_HOLD_SECONDS)));
        };
        let max = request.max_weight_percent.unwrap_or(Weight::FULL);
        if let Some(steps) = &request.steps {
            let steps = steps.iter().map(|step| Step {
                weight_percent: step.weight_percent,
                hold_seconds: step.hold_seconds,
            });
            return Plan::new(steps.collect())
                .expect("parse has checked that the weights increase");
        }
        if let Some(preset) = request.preset {
            return preset.plan();
        }
        request
            .step_percent
            .zip(request.interval_seconds)
            .and_then(|(step, hold)| Plan::linear(step, max, hold))
            .expect("parse has checked that one form is given and that the step is above zero")
    }

    /// Whether a deployment may wait before it begins.
    pub fn may_wait(&self) -> bool {
        let waits_for_its_window = self
            .window
            .as_ref()
            .is_some_and(|window| window.outside == Outside::Wait && window.overridden.is_none());
        waits_for_its_window || self.on_conflict != OnConflict::Reject
    }

    /// How long it may wait before it begins, in seconds: never so long that the state machine's own time might end it later.
    pub fn longest_wait_seconds(&self) -> u32 {
        let left = LONGEST_DEADLINE_SECONDS - self.deadline_seconds;
        self.max_wait_seconds
            .unwrap_or(USUAL_LONGEST_WAIT_SECONDS)
            .min(left)
    }

    /// Where the new version comes from.
    ///
    /// # Panics
    /// When the request did not come from [`Request::parse`], which checks that exactly one source is given.
    pub fn new_version(&self) -> NewVersion {
        let one_image = self.image.clone().or_else(|| {
            self.image_detail
                .as_ref()
                .map(|detail| detail.image_uri.clone())
        });
        if let Some(image) = one_image {
            return NewVersion::Image(image);
        }
        if let Some(images) = &self.images {
            return NewVersion::Images(images.clone());
        }
        if let Some(definitions) = &self.image_definitions {
            let images = definitions
                .iter()
                .map(|definition| (definition.name.clone(), definition.image_uri.clone()));
            return NewVersion::Images(images.collect());
        }
        NewVersion::TaskDefinition(
            self.task_definition
                .clone()
                .expect("parse has checked that one source is given"),
        )
    }

    /// What a person should know about the plan's times, if they are not what the request seems to say.
    pub fn notes(&self) -> Vec<String> {
        let least = self.checks.settle_seconds + self.checks.period_seconds;
        let short = self
            .resolve_plan()
            .steps()
            .iter()
            .any(|step| step.hold_seconds < least);
        let mut notes = Vec::new();
        if short {
            notes.push(format!(
                "Steps shorter than {least} seconds last longer than their hold: nothing can be measured before checks.settleSeconds and one period have passed."
            ));
        }
        notes
    }
}

impl Preset {
    /// CodeDeploy's plan of this name, with the last weight watched for as long as the others before promotion.
    ///
    /// Source: AWS CodeDeploy user guide, "Predefined deployment configurations for an Amazon ECS compute platform".
    fn plan(self) -> Plan {
        const MINUTE: u32 = 60;
        let linear = |minutes| {
            Plan::linear(
                Weight::from_tenths(100).expect("10 percent"),
                Weight::FULL,
                minutes * MINUTE,
            )
            .expect("10 percent is above zero")
        };
        match self {
            Self::ECSCanary10Percent5Minutes => plan_of([(100, 5 * MINUTE), (1000, 5 * MINUTE)]),
            Self::ECSCanary10Percent15Minutes => plan_of([(100, 15 * MINUTE), (1000, 15 * MINUTE)]),
            Self::ECSLinear10PercentEvery1Minutes => linear(1),
            Self::ECSLinear10PercentEvery3Minutes => linear(3),
            Self::ECSAllAtOnce => plan_of([(1000, 5 * MINUTE)]),
        }
    }
}

fn plan_of<const N: usize>(steps: [(u16, u32); N]) -> Plan {
    let steps = steps.map(|(tenths, hold_seconds)| Step {
        weight_percent: Weight::from_tenths(tenths).expect("at most 1000"),
        hold_seconds,
    });
    Plan::new(steps.to_vec()).expect("the weights are constants that increase")
}

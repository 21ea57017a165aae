//! The project's own files and steps, as more than one test must know them.

use std::path::Path;

use strum::VariantNames;

/// A step, as every file must know it.
pub struct Step {
    /// Folder, crate, binary, and the name in every log.
    pub name: &'static str,
    /// The word with which the step's state begins.
    pub verb: &'static str,
    /// The names of its errors.
    pub errors: &'static [&'static str],
}

/// The steps, in the order of a deployment's life.
pub const STEPS: [Step; 6] = [
    Step {
        name: "plan-deployment",
        verb: "Plan",
        errors: plan_deployment::PlanDeploymentError::VARIANTS,
    },
    Step {
        name: "create-canary",
        verb: "Create",
        errors: create_canary::CreateCanaryError::VARIANTS,
    },
    Step {
        name: "shift-weight",
        verb: "Shift",
        errors: shift_weight::ShiftWeightError::VARIANTS,
    },
    Step {
        name: "health-check",
        verb: "Check",
        errors: health_check::HealthCheckError::VARIANTS,
    },
    Step {
        name: "cleanup",
        verb: "Clean up",
        errors: cleanup::CleanupError::VARIANTS,
    },
    Step {
        name: "rollback",
        verb: "Roll back",
        errors: rollback::RollbackError::VARIANTS,
    },
];

/// A function that no state machine calls: a schedule does.
pub const SWEEP: Step = Step {
    name: "sweep",
    verb: "Sweep",
    errors: sweep::SweepError::VARIANTS,
};

/// The functions that a dashboard calls.
pub const WIDGET: [Step; 2] = [
    Step {
        name: "status",
        verb: "Draw",
        errors: status::StatusError::VARIANTS,
    },
    Step {
        name: "decide",
        verb: "Decide",
        errors: decide::DecideError::VARIANTS,
    },
];

/// The one function that an event calls, and that a deployment does not wait for.
pub const NOTIFY: Step = Step {
    name: "notify",
    verb: "Tell",
    errors: notify::NotifyError::VARIANTS,
};

/// Every function: the steps, the sweep, what tells notices, and what a dashboard calls.
pub fn functions() -> impl Iterator<Item = &'static Step> {
    STEPS.iter().chain([&SWEEP, &NOTIFY]).chain(&WIDGET)
}

impl Step {
    /// `shift_weight`.
    pub fn snake(&self) -> String {
        self.name.replace('-', "_")
    }

    /// `ShiftWeight`.
    pub fn pascal(&self) -> String {
        self.name
            .split('-')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect()
    }

    /// The name in the state machine of the function's ARN.
    pub fn substitution(&self) -> String {
        format!("{}FunctionArn", self.pascal())
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
}

/// A file, by its path from the root.
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of the state machine.
pub fn definition_text() -> String {
    read("statemachine/canary-deployment.asl.json")
}

/// The text of the recovery's state machine.
pub fn recovery_text() -> String {
    read("statemachine/recovery.asl.json")
}

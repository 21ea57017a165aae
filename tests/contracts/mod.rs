//! What must agree between files that no compiler reads together: the state machine, the template, the manifests, the steps.

mod boundaries;
mod names;
pub(crate) mod permissions;
mod state_machine;
mod template;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use strum::VariantNames;

/// A step, as every file must know it.
pub(crate) struct Step {
    /// Folder, crate, binary, and the name in every log.
    pub(crate) name: &'static str,
    /// The word with which the step's state begins.
    pub(crate) verb: &'static str,
    /// The names of its errors.
    pub(crate) errors: &'static [&'static str],
}

/// The steps, in the order of a deployment's life.
pub(crate) const STEPS: [Step; 6] = [
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

impl Step {
    /// `shift_weight`.
    pub(crate) fn snake(&self) -> String {
        self.name.replace('-', "_")
    }

    /// `ShiftWeight`.
    pub(crate) fn pascal(&self) -> String {
        self.name
            .split('-')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect()
    }

    /// The name in the state machine of the function's ARN.
    pub(crate) fn substitution(&self) -> String {
        format!("{}FunctionArn", self.pascal())
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
}

/// A file, by its path from the root.
#[track_caller]
pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a folder whose name ends so, by its path from the root.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            if entry.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(entry);
            } else if entry.is_file() && name.ends_with(ending) {
                found.push(entry.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The Rust files below a folder that are part of the product, each without its tests.
pub(crate) fn product_sources(folder: &str) -> Vec<(PathBuf, String)> {
    let is_test = |file: &PathBuf| {
        file.iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    let sources = files(folder, ".rs")
        .into_iter()
        .filter(|file| !is_test(file));
    sources
        .map(|file| {
            (
                file.clone(),
                read(&file)
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            )
        })
        .collect()
}

/// The text of the state machine.
pub(crate) fn definition_text() -> String {
    read("statemachine/canary-deployment.asl.json")
}

/// The state machine.
pub(crate) fn definition() -> Value {
    serde_json::from_str(&definition_text()).unwrap()
}

/// The states by name.
pub(crate) fn states() -> BTreeMap<String, Value> {
    definition()["States"]
        .as_object()
        .unwrap()
        .clone()
        .into_iter()
        .collect()
}

/// The states of one type.
pub(crate) fn states_of(kind: &str) -> BTreeMap<String, Value> {
    states()
        .into_iter()
        .filter(|(_, state)| state["Type"] == kind)
        .collect()
}

/// The step that a task calls.
#[track_caller]
pub(crate) fn step_of(task: &Value) -> &'static Step {
    let resource = task["Resource"].as_str().unwrap();
    let found = STEPS
        .iter()
        .find(|step| resource == format!("${{{}}}", step.substitution()));
    found.unwrap_or_else(|| panic!("no step has the function {resource}"))
}

/// The task of a step and its name.
#[track_caller]
pub(crate) fn task_of(step: &Step) -> (String, Value) {
    let mut tasks = states_of("Task")
        .into_iter()
        .filter(|(_, task)| step_of(task).name == step.name);
    let task = tasks
        .next()
        .unwrap_or_else(|| panic!("no state calls {}", step.name));
    assert!(tasks.next().is_none(), "two states call {}", step.name);
    task
}

/// The texts of a list.
#[track_caller]
pub(crate) fn texts(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap_or_else(|| panic!("{list} is no list"))
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

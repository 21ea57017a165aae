//! What must agree between files that no compiler reads together: the state machine, the template, the manifests, the steps.

mod boundaries;
mod cost;
pub(crate) mod examples;
mod names;
mod permissions;
mod resources;
mod state_machine;
mod template;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use serin_driver::project::{STEPS, Step, definition_text, functions, read, recovery_text, root};

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

/// The task that calls no function: it asks a person with an event.
pub(crate) const ASK: &str = "Ask a person";

/// The tasks that call a function.
pub(crate) fn calls() -> BTreeMap<String, Value> {
    let mut tasks = states_of("Task");
    let asked = tasks.remove(ASK);
    assert!(asked.is_some(), "there is no state {ASK:?}");
    tasks
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
    let mut tasks = calls()
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

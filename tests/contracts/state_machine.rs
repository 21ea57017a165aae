//! The state machine: its transitions, errors, retries and time limits.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use serin::report::Ending;
use serin::request::LONGEST_DEADLINE_SECONDS;
use serin::state::Next;
use serin_sim::state_machine::StateMachine;
use strum::VariantNames;

use super::{
    ASK, STEPS, Step, calls, definition, definition_text, read, recovery_text, states, states_of,
    step_of, task_of, texts,
};

const ROLLBACK: &str = "Roll back to stable";
const SAY_WHAT_IS_LEFT: &str = "Is it known what there may be?";

/// After these the function may have run; every step may run again.
const LAMBDA_ERRORS: [&str; 9] = [
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.Timeout",
];

/// The errors of the steps that pass by themselves.
const PASSING_ERRORS: [&str; 3] = ["AwsThrottled", "AwsUnavailable", "WeightNotReadBack"];

/// The states that may come after this one; with those that a `Catch` names, if `caught`.
fn nexts(state: &Value, caught: bool) -> Vec<&str> {
    let choices = state["Choices"].as_array().into_iter().flatten();
    let catches = state["Catch"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|_| caught);
    let rules = choices.chain(catches).map(|rule| &rule["Next"]);
    rules
        .chain([&state["Next"], &state["Default"]])
        .filter_map(Value::as_str)
        .collect()
}

/// All states that can come after `start` and `start` itself, without entering `closed`.
fn reachable(start: &str, closed: &str) -> BTreeSet<String> {
    let states = states();
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        if name != closed && reached.insert(name.to_owned()) {
            open.extend(nexts(&states[name], true));
        }
    }
    reached
}

fn kinds(names: &BTreeSet<String>) -> BTreeSet<String> {
    let states = states();
    names
        .iter()
        .map(|name| states[name]["Type"].as_str().unwrap().to_owned())
        .collect()
}

fn retries(task: &Value) -> &Vec<Value> {
    task["Retry"].as_array().expect("a task has retries")
}

fn catches(task: &Value) -> &Vec<Value> {
    task["Catch"].as_array().expect("a task has a catch")
}

#[test]
fn every_transition_leads_to_a_state_and_every_state_can_be_reached() {
    let functions = STEPS
        .iter()
        .map(|step| (step.substitution(), step.name.to_owned()))
        .collect::<BTreeMap<_, _>>();
    StateMachine::parse(&definition_text(), &functions).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_state_that_is_renamed_in_one_place_only_is_noticed() {
    let functions = STEPS
        .iter()
        .map(|step| (step.substitution(), step.name.to_owned()))
        .collect();
    let text = definition_text().replacen(
        "\"Next\": \"Create the canary\"",
        "\"Next\": \"Make the canary\"",
        1,
    );
    let error = StateMachine::parse(&text, &functions)
        .expect_err("there is no such state")
        .to_string();
    assert!(
        error.contains("there is no state `Make the canary`"),
        "{error}"
    );
}

#[test]
fn every_error_that_a_task_names_is_one_that_its_step_can_give() {
    for (name, task) in calls() {
        let step = step_of(&task);
        for error in retries(&task)
            .iter()
            .chain(catches(&task))
            .flat_map(|rule| texts(&rule["ErrorEquals"]))
        {
            let known = LAMBDA_ERRORS.contains(&error)
                || error == "States.ALL"
                || step.errors.contains(&error);
            assert!(known, "{name}: {} has no error {error}", step.name);
        }
    }
}

#[test]
fn every_refusal_of_the_planner_ends_the_deployment_as_refused() {
    let (_, task) = task_of(&STEPS[0]);
    let refusals: BTreeSet<_> = STEPS[0]
        .errors
        .iter()
        .copied()
        .filter(|error| !error.starts_with("Aws"))
        .collect();
    let named = &catches(&task)[0];
    assert_eq!(
        texts(&named["ErrorEquals"])
            .into_iter()
            .collect::<BTreeSet<_>>(),
        refusals
    );
    assert_eq!(named["Next"], "Refused");
    // An input that is no JSON object has no place for a field; the refusal takes its place.
    assert_eq!(named["ResultPath"], "$");
    assert_eq!(states()["Refused"]["ErrorPath"], "$.Error");
    assert_eq!(states()["Refused"]["CausePath"], "$.Cause");
}

#[test]
fn every_task_ends_with_a_catch_of_everything_that_leads_to_the_rollback() {
    for (name, task) in calls() {
        let undo = if name == ROLLBACK {
            SAY_WHAT_IS_LEFT
        } else {
            ROLLBACK
        };
        let expected =
            json!({ "ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": undo });
        assert_eq!(catches(&task).last(), Some(&expected), "{name}");
        assert!(
            catches(&task)
                .iter()
                .all(|catch| catch["ResultPath"] == "$.failure" || catch["Next"] == "Refused"),
            "{name}"
        );
    }
}

#[test]
fn every_task_retries_what_passes_by_itself_with_full_jitter_and_a_longest_delay() {
    for (name, task) in calls() {
        let errors = step_of(&task).errors;
        let attempts = if name == ROLLBACK || name == task_of(&STEPS[4]).0 {
            30
        } else {
            6
        };
        let passing: Vec<_> = PASSING_ERRORS
            .into_iter()
            .filter(|error| errors.contains(error))
            .collect();
        let mut expected = [LAMBDA_ERRORS.to_vec(), passing]
            .map(|errors| {
                json!({
                    "ErrorEquals": errors, "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": attempts,
                    "MaxDelaySeconds": 60, "JitterStrategy": "FULL",
                })
            })
            .to_vec();
        if errors.contains(&"LeftoversBeingRemoved") {
            // An hour: longer than a recovery takes, with the sweep that starts it.
            expected.push(json!({
                "ErrorEquals": ["LeftoversBeingRemoved"], "IntervalSeconds": 30, "BackoffRate": 1, "MaxAttempts": 120,
            }));
        }
        assert_eq!(*retries(&task), expected, "{name}");
    }
}

#[test]
fn after_a_catch_only_the_rollback_can_say_that_the_new_version_is_the_stable_one_already() {
    for (name, task) in calls() {
        for catch in catches(&task) {
            let after = reachable(catch["Next"].as_str().unwrap(), "Is a trace left?");
            assert!(
                !kinds(&after).contains("Succeed"),
                "{name}: a caught error can end as a success"
            );
        }
    }
}

#[test]
fn a_deployment_succeeds_only_after_its_clean_up() {
    let (cleanup, _) = task_of(&STEPS[4]);
    let start = definition()["StartAt"].as_str().unwrap().to_owned();
    assert!(kinds(&reachable(&start, "")).contains("Succeed"));
    let mut around = reachable(&start, &cleanup);
    // The rollback finishes a clean-up that broke off; it learns from the ledger that there was one.
    around.remove("Promoted");
    assert!(
        !kinds(&around).contains("Succeed"),
        "there is a way around the clean-up"
    );
    let (before, question) = (
        &states_of("Succeed"),
        &states()["Is the clean-up finished?"],
    );
    assert_eq!(before.keys().collect::<Vec<_>>(), ["Promoted"]);
    let leading: Vec<_> = states()
        .into_iter()
        .filter(|(_, state)| nexts(state, true).contains(&"Promoted"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(leading, ["Is a trace left?", "Is the clean-up finished?"]);
    assert_eq!(
        question["Choices"],
        json!([{ "Variable": "$.done", "BooleanEquals": true, "Next": "Promoted" }])
    );
}

#[test]
fn an_execution_ends_in_one_of_three_endings_or_is_refused() {
    let ends = states()
        .into_iter()
        .filter(|(_, state)| state["Type"] == "Succeed" || state["Type"] == "Fail");
    assert_eq!(
        ends.map(|(name, _)| name).collect::<Vec<_>>(),
        ["Needs attention", "Promoted", "Refused", "Rolled back"]
    );
    assert_eq!(states()["Rolled back"]["Error"], "CanaryRolledBack");
    assert_eq!(states()["Needs attention"]["Error"], "NeedsAttention");
}

#[test]
fn every_answer_of_a_check_has_its_case() {
    let question = &states()["What does the verdict call for?"];
    let cases = question["Choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| {
            assert_eq!(choice["Variable"], "$.next");
            choice["StringEquals"].as_str().unwrap()
        });
    assert_eq!(
        cases.collect::<BTreeSet<_>>(),
        Next::VARIANTS.iter().copied().collect()
    );
    assert_eq!(
        question["Default"], ROLLBACK,
        "an answer that nobody foresaw leads to the safe side"
    );
}

#[test]
fn every_ending_of_the_rollback_has_its_case() {
    let question = &states()["Is a trace left?"];
    let rolled_back = json!({ "Variable": "$.ending", "StringEquals": Ending::RolledBack.to_string(), "Next": "Rolled back" });
    let promoted = json!({ "Variable": "$.ending", "StringEquals": Ending::Promoted.to_string(), "Next": "Promoted" });
    let left = json!({ "Variable": "$.ending", "StringEquals": Ending::NeedsAttention.to_string(), "Next": "Needs attention" });
    assert_eq!(question["Choices"], json!([rolled_back, promoted, left]));
    assert_eq!(question["Default"], "Needs attention");
}

#[test]
fn a_step_that_is_not_done_is_called_again_after_the_wait_that_it_asked_for() {
    for (name, state) in states_of("Choice") {
        let first = &state["Choices"][0];
        if first["Variable"] != "$.done" {
            continue;
        }
        let again = if first["BooleanEquals"] == false {
            &first["Next"]
        } else {
            &state["Default"]
        };
        let again = again.as_str().unwrap();
        let wait = &states()[again];
        assert_eq!(wait["Type"], "Wait", "{name}");
        let callers: Vec<_> = states()
            .into_iter()
            .filter(|(_, state)| nexts(state, false).contains(&name.as_str()))
            .collect();
        assert_eq!(
            callers
                .iter()
                .map(|(name, _)| Value::from(name.as_str()))
                .collect::<Vec<_>>(),
            [wait["Next"].clone()],
            "{name}"
        );
    }
    assert!(
        states_of("Wait")
            .values()
            .all(|wait| wait["SecondsPath"] == "$.waitSeconds")
    );
}

#[test]
fn every_task_gets_the_whole_state_and_returns_it_whole() {
    let parameters = json!({
        "execution.$": "$$.Execution.Id", "startedAt.$": "$$.Execution.StartTime", "now.$": "$$.State.EnteredTime", "state.$": "$",
    });
    for (name, task) in calls() {
        assert_eq!(task["Parameters"], parameters, "{name}");
        assert_eq!(task["ResultPath"], Value::Null, "{name}");
    }
}

#[test]
fn the_steps_end_a_deployment_before_the_state_machine_runs_out_of_time() {
    let whole = definition()["TimeoutSeconds"].as_u64().unwrap();
    let attempts: u64 = STEPS
        .iter()
        .map(|step: &Step| {
            let (_, task) = task_of(step);
            let (limit, longest) = (task["TimeoutSeconds"].as_u64().unwrap(), 60);
            let attempts: u64 = retries(&task)
                .iter()
                .map(|retry| retry["MaxAttempts"].as_u64().unwrap())
                .sum();
            (attempts + 1) * (limit + longest)
        })
        .sum();
    assert!(
        u64::from(LONGEST_DEADLINE_SECONDS) + attempts < whole,
        "every step at its slowest takes {attempts} seconds"
    );
}

#[test]
fn state_names_are_sentences() {
    for (name, state) in states() {
        assert!(
            name.len() <= 80 && name.is_ascii(),
            "{name}: AWS allows 80 characters"
        );
        assert!(
            name.starts_with(|letter: char| letter.is_uppercase()),
            "{name}"
        );
        let kind = state["Type"].as_str().unwrap();
        assert_eq!(
            kind == "Choice",
            name.ends_with('?'),
            "{name}: choices, and only they, are questions"
        );
        assert_eq!(
            kind == "Wait",
            name.starts_with("Wait "),
            "{name}: waits, and only they, begin so"
        );
        if kind == "Task" && name != ASK {
            let verb = step_of(&state).verb;
            assert!(
                name.starts_with(&format!("{verb} ")),
                "{name}: begins with the step's verb, {verb}"
            );
        }
    }
}

#[test]
fn the_recovery_calls_the_rollback_as_a_deployment_does() {
    let recovery: Value = serde_json::from_str(&recovery_text()).unwrap();
    let (name, rollback) = task_of(&STEPS[5]);
    let same = |task: &Value| {
        let mut task = task.clone();
        let fields = task.as_object_mut().unwrap();
        fields.remove("Comment");
        fields.remove("Next");
        task
    };
    let tasks: Vec<_> = recovery["States"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, state)| state["Type"] == "Task")
        .collect();
    assert_eq!(tasks.len(), 1);
    assert!(tasks[0].0.starts_with("Roll back ") && name.starts_with("Roll back "));
    assert_eq!(same(tasks[0].1), same(&rollback));
    assert_eq!(
        recovery["States"]["Wait for the recovery"]["SecondsPath"],
        "$.waitSeconds"
    );
}

#[test]
fn the_picture_of_the_state_machine_is_current() {
    let committed = read("docs/state-machine.md");
    assert!(
        committed == serin_driver::picture::of_the_state_machine(),
        "docs/state-machine.md is not current; `cargo xtask screenshots` writes it"
    );
}

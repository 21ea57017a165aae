//! What the interpreter understands, and what it refuses.
#![expect(
    clippy::needless_pass_by_value,
    reason = "a test hands over what it has just written down"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;

const EXECUTION: &str = "arn:aws:states:eu-west-1:1:execution:serin:one";

/// Functions that answer what they were told to, in order, and remember what they were asked.
#[derive(Default)]
struct Scripted {
    answers: RefCell<VecDeque<Result<Value, TaskError>>>,
    /// How long each call takes.
    seconds: u64,
    clock: Option<Clock>,
    asked: RefCell<Vec<(String, Value)>>,
}

impl Scripted {
    fn answering(answers: impl IntoIterator<Item = Result<Value, TaskError>>) -> Self {
        Self {
            answers: RefCell::new(answers.into_iter().collect()),
            ..Self::default()
        }
    }
}

impl Functions for Scripted {
    async fn call(&self, resource: &str, payload: Value) -> Result<Value, TaskError> {
        self.asked.borrow_mut().push((resource.to_owned(), payload));
        if let Some(clock) = &self.clock {
            clock.advance(self.seconds);
        }
        self.answers
            .borrow_mut()
            .pop_front()
            .expect("the script is as long as the execution")
    }
}

fn fails(error: &str) -> Result<Value, TaskError> {
    Err(TaskError {
        error: error.to_owned(),
        cause: format!("{error} happened"),
    })
}

fn clock() -> Clock {
    Clock::new("2026-11-21T08:00:00Z".parse().unwrap())
}

fn machine(states: &Value) -> Result<StateMachine, ParseError> {
    let start = if states.get("Task").is_some() {
        "Task"
    } else {
        "Start"
    };
    let text = json!({ "StartAt": start, "TimeoutSeconds": 3600, "States": states }).to_string();
    StateMachine::parse(
        &text,
        &BTreeMap::from([("Function".to_owned(), "the-function".to_owned())]),
    )
}

async fn run_with(states: Value, functions: &Scripted, input: Value) -> Execution {
    let clock = functions.clock.clone().unwrap_or_else(clock);
    machine(&states)
        .unwrap()
        .run(functions, &clock, EXECUTION, input)
        .await
}

async fn run(states: Value, input: Value) -> Execution {
    run_with(states, &Scripted::default(), input).await
}

/// A task with the given fields, then the two ends.
fn task(fields: Value) -> Value {
    let mut task = json!({ "Type": "Task", "Resource": "${Function}", "Next": "Good" });
    task.as_object_mut()
        .unwrap()
        .append(&mut fields.as_object().unwrap().clone());
    json!({
        "Task": task,
        "Good": { "Type": "Succeed" },
        "Bad": { "Type": "Fail", "ErrorPath": "$.failure.Error", "CausePath": "$.failure.Cause" },
    })
}

fn caught(fields: Value) -> Value {
    let mut fields = fields;
    fields["Catch"] =
        json!([{ "ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Bad" }]);
    task(fields)
}

fn retried(retrier: Value) -> Value {
    caught(json!({ "Retry": [retrier] }))
}

#[track_caller]
fn assert_failed(execution: &Execution, error: &str, cause: &str) {
    let Status::Failed {
        error: found,
        cause: found_cause,
    } = &execution.status
    else {
        panic!("the execution is {:?}", execution.status);
    };
    assert_eq!(found, error, "{found_cause}");
    assert!(found_cause.contains(cause), "{found_cause}");
}

#[track_caller]
fn assert_refused(states: &Value, fault: &str) {
    let error = machine(states).expect_err("the file is broken").to_string();
    assert!(error.contains(fault), "{error}");
}

#[tokio::test]
async fn a_task_gets_its_parameters_and_its_answer_replaces_the_state() {
    let functions = Scripted::answering([Ok(json!({ "done": true }))]);
    let parameters = json!({ "Parameters": {
        "execution.$": "$$.Execution.Id", "startedAt.$": "$$.Execution.StartTime", "now.$": "$$.State.EnteredTime",
        "machine.$": "$$.StateMachine.Id", "state.$": "$", "name.$": "$.a.name", "text.$": "States.JsonToString($.a)", "plain": [1, { "deep.$": "$.a.name" }]
    } });
    let mut states = task(parameters);
    states.as_object_mut().unwrap().remove("Bad");
    let execution = run_with(states, &functions, json!({ "a": { "name": "serin" } })).await;
    assert_eq!(execution.output, Some(json!({ "done": true })));
    assert_eq!(execution.path, ["Task", "Good"]);
    assert_eq!(
        (execution.transitions, execution.events),
        (2, 9),
        "as AWS counts them"
    );
    let expected = json!({
        "execution": EXECUTION, "machine": "arn:aws:states:eu-west-1:1:stateMachine:serin", "startedAt": "2026-11-21T08:00:00.000Z", "now": "2026-11-21T08:00:00.000Z",
        "state": { "a": { "name": "serin" } }, "name": "serin", "text": "{\"name\":\"serin\"}", "plain": [1, { "deep": "serin" }]
    });
    assert_eq!(
        *functions.asked.borrow(),
        [("the-function".to_owned(), expected)]
    );
}

#[tokio::test]
async fn a_choice_compares_and_else_takes_its_default() {
    let states = json!({
        "Start": { "Type": "Choice", "Default": "Other", "Choices": [
            { "Variable": "$.done", "BooleanEquals": true, "Next": "Done" },
            { "Variable": "$.next", "StringEquals": "wait", "Next": "Wait" },
        ] },
        "Done": { "Type": "Succeed" },
        "Wait": { "Type": "Wait", "Seconds": 1, "Next": "Done" },
        "Other": { "Type": "Fail", "Error": "Other", "Cause": "neither" },
    });
    assert_eq!(
        run(states.clone(), json!({ "done": true })).await.path,
        ["Start", "Done"]
    );
    assert_eq!(
        run(states.clone(), json!({ "done": false, "next": "wait" }))
            .await
            .path,
        ["Start", "Wait", "Done"]
    );
    assert_failed(
        &run(states.clone(), json!({ "done": 1, "next": "else" })).await,
        "Other",
        "neither",
    );
    assert_failed(
        &run(states, json!({ "done": false })).await,
        "States.Runtime",
        "$.next",
    );
}

#[tokio::test]
async fn a_choice_may_ask_whether_something_is_there_without_failing_when_it_is_not() {
    let states = json!({
        "Start": { "Type": "Choice", "Default": "Bad", "Choices": [{ "Variable": "$.a.b", "IsPresent": true, "Next": "Good" }] },
        "Good": { "Type": "Succeed" },
        "Bad": { "Type": "Fail", "Error": "Absent", "Cause": "" },
    });
    assert_eq!(
        run(states.clone(), json!({ "a": { "b": null } }))
            .await
            .status,
        Status::Succeeded
    );
    assert_failed(&run(states, json!({ "a": {} })).await, "Absent", "");
}

#[tokio::test]
async fn a_choice_that_nothing_matches_fails_the_execution() {
    let states = json!({
        "Start": { "Type": "Choice", "Choices": [{ "Variable": "$.done", "BooleanEquals": true, "Next": "Done" }] },
        "Done": { "Type": "Succeed" },
    });
    assert_failed(
        &run(states, json!({ "done": false })).await,
        "States.NoChoiceMatched",
        "Start",
    );
}

#[tokio::test]
async fn a_wait_moves_the_clock_and_asks_for_whole_seconds() {
    let states = json!({
        "Start": { "Type": "Wait", "SecondsPath": "$.waitSeconds", "Next": "Done" },
        "Done": { "Type": "Succeed" },
    });
    let clock = clock();
    let machine = machine(&states).unwrap();
    machine
        .run(
            &Scripted::default(),
            &clock,
            EXECUTION,
            json!({ "waitSeconds": 90 }),
        )
        .await;
    assert_eq!(clock.now().to_string(), "2026-11-21T08:01:30Z");
    assert_failed(
        &run(states.clone(), json!({ "waitSeconds": 1.5 })).await,
        "States.Runtime",
        "whole number",
    );
    assert_failed(
        &run(states, json!({})).await,
        "States.Runtime",
        "$.waitSeconds",
    );
}

#[tokio::test]
async fn a_pass_builds_its_result_and_puts_it_where_it_belongs() {
    let states = json!({
        "Start": { "Type": "Pass", "Parameters": { "why.$": "$.a" }, "ResultPath": "$.report", "Next": "Text" },
        "Text": { "Type": "Pass", "Parameters": { "cause.$": "States.JsonToString($.report)" }, "Next": "Bad" },
        "Bad": { "Type": "Fail", "Error": "NeedsAttention", "CausePath": "$.cause" },
    });
    let execution = run(states, json!({ "a": "b" })).await;
    assert_failed(&execution, "NeedsAttention", r#"{"why":"b"}"#);
    assert_eq!((execution.transitions, execution.events), (3, 7));
}

#[tokio::test]
async fn a_caught_error_is_kept_beside_the_state() {
    let functions = Scripted::answering([fails("NoRoom")]);
    let execution = run_with(caught(json!({})), &functions, json!({ "a": 1 })).await;
    assert_failed(&execution, "NoRoom", "NoRoom happened");
    assert_eq!(
        execution.data(),
        &json!({ "a": 1, "failure": { "Error": "NoRoom", "Cause": "NoRoom happened" } })
    );
}

#[tokio::test]
async fn the_first_catch_that_matches_wins() {
    let mut states = task(json!({ "Catch": [
        { "ErrorEquals": ["Other", "NoRoom"], "ResultPath": "$.failure", "Next": "Bad" },
        { "ErrorEquals": ["States.ALL"], "Next": "Good" },
    ] }));
    states["Bad"]["Error"] = json!("Named");
    states["Bad"].as_object_mut().unwrap().remove("ErrorPath");
    assert_failed(
        &run_with(
            states.clone(),
            &Scripted::answering([fails("NoRoom")]),
            json!({}),
        )
        .await,
        "Named",
        "",
    );
    let execution = run_with(states, &Scripted::answering([fails("Unheard")]), json!({})).await;
    assert_eq!(execution.status, Status::Succeeded);
}

#[tokio::test]
async fn nothing_catches_what_aws_does_not_let_anybody_catch() {
    for error in ["States.Runtime", "States.DataLimitExceeded"] {
        let retrier = json!({ "ErrorEquals": ["States.ALL"] });
        let execution = run_with(
            retried(retrier),
            &Scripted::answering([fails(error)]),
            json!({}),
        )
        .await;
        assert_failed(&execution, error, "");
        assert_eq!(execution.path, ["Task"]);
    }
}

#[tokio::test]
async fn a_missing_path_in_the_parameters_is_not_caught_either() {
    let execution = run(
        caught(json!({ "Parameters": { "a.$": "$.absent" } })),
        json!({}),
    )
    .await;
    assert_failed(&execution, "States.Runtime", "$.absent");
    assert_eq!(execution.path, ["Task"]);
}

#[tokio::test]
async fn retries_wait_longer_and_longer_up_to_the_longest_delay() {
    let retrier = json!({ "ErrorEquals": ["Slow"], "IntervalSeconds": 2, "BackoffRate": 3, "MaxAttempts": 4, "MaxDelaySeconds": 20 });
    let clock = clock();
    let functions = Scripted {
        clock: Some(clock.clone()),
        ..Scripted::answering((0..5).map(|_| fails("Slow")))
    };
    let execution = run_with(retried(retrier), &functions, json!({})).await;
    assert_failed(&execution, "Slow", "");
    assert_eq!(
        clock.now().to_string(),
        "2026-11-21T08:00:46Z",
        "2 + 6 + 18 + 20 seconds"
    );
    assert_eq!(execution.transitions, 2 + 4, "retries are billed");
}

#[tokio::test]
async fn each_retrier_counts_its_own_attempts() {
    let states = caught(json!({ "Retry": [
        { "ErrorEquals": ["A"], "MaxAttempts": 1 }, { "ErrorEquals": ["B", "A"], "MaxAttempts": 2 },
    ] }));
    let functions = Scripted::answering([fails("A"), fails("B"), fails("B"), Ok(json!({}))]);
    assert_eq!(
        run_with(states.clone(), &functions, json!({})).await.status,
        Status::Succeeded
    );
    let functions = Scripted::answering([fails("A"), fails("B"), fails("A")]);
    assert_failed(&run_with(states, &functions, json!({})).await, "A", "");
}

#[tokio::test]
async fn task_failed_stands_for_every_error_but_a_timeout() {
    let retrier = json!({ "ErrorEquals": ["States.TaskFailed"], "MaxAttempts": 1 });
    let functions = Scripted::answering([fails("Any"), Ok(json!({}))]);
    assert_eq!(
        run_with(retried(retrier.clone()), &functions, json!({}))
            .await
            .status,
        Status::Succeeded
    );
    // A Fail state may not repeat a name of Step Functions' own.
    let execution = run_with(
        retried(retrier),
        &Scripted::answering([fails("States.Timeout")]),
        json!({}),
    )
    .await;
    assert_failed(&execution, "States.Runtime", "States.Timeout");
}

#[tokio::test]
async fn a_full_jitter_is_the_same_for_the_same_seed_and_never_above_the_longest() {
    let retrier = json!({ "ErrorEquals": ["Slow"], "IntervalSeconds": 100, "BackoffRate": 1, "MaxAttempts": 3, "JitterStrategy": "FULL" });
    let mut ends = Vec::new();
    for seed in [1, 1, 2] {
        let clock = clock();
        let functions = Scripted::answering((0..4).map(|_| fails("Slow")));
        let machine = machine(&retried(retrier.clone()))
            .unwrap()
            .with_jitter(Jitter::Seeded(seed));
        machine.run(&functions, &clock, EXECUTION, json!({})).await;
        ends.push(clock.now());
    }
    assert_eq!(ends[0], ends[1]);
    assert_ne!(ends[0], ends[2]);
    assert!(
        ends.iter()
            .all(|end| *end < "2026-11-21T08:05:00Z".parse().unwrap())
    );
}

#[tokio::test]
async fn an_answer_after_the_tasks_time_is_lost() {
    let clock = clock();
    let functions = Scripted {
        seconds: 91,
        clock: Some(clock),
        ..Scripted::answering([Ok(json!({}))])
    };
    let mut states = caught(json!({ "TimeoutSeconds": 90 }));
    states["Bad"] = json!({ "Type": "Fail", "Error": "Late", "CausePath": "$.failure.Error" });
    assert_failed(
        &run_with(states, &functions, json!({})).await,
        "Late",
        "States.Timeout",
    );
}

#[tokio::test]
async fn the_machines_own_time_ends_an_execution_without_any_catch() {
    let states = json!({ "Start": { "Type": "Wait", "Seconds": 3601, "Next": "Done" }, "Done": { "Type": "Succeed" } });
    assert_eq!(run(states, json!({})).await.status, Status::TimedOut);
    let functions = Scripted {
        seconds: 3600,
        clock: Some(clock()),
        ..Scripted::answering([Ok(json!({}))])
    };
    let execution = run_with(caught(json!({})), &functions, json!({})).await;
    assert_eq!(
        (execution.status, execution.path),
        (Status::TimedOut, vec!["Task".to_owned()])
    );
}

#[tokio::test]
async fn a_state_of_more_than_256_kib_fails_the_execution() {
    let functions = Scripted::answering([Ok(json!("x".repeat(262_143)))]);
    assert_failed(
        &run_with(caught(json!({})), &functions, json!({})).await,
        "States.DataLimitExceeded",
        "262145 bytes",
    );
}

#[tokio::test]
async fn a_cause_that_is_too_long_fails_the_execution_in_another_way() {
    let states = json!({ "Start": { "Type": "Fail", "Error": "Long", "CausePath": "$.cause" } });
    assert_failed(
        &run(states.clone(), json!({ "cause": "x".repeat(32_768) })).await,
        "Long",
        "xxx",
    );
    assert_failed(
        &run(states, json!({ "cause": "x".repeat(32_769) })).await,
        "States.Runtime",
        "32769",
    );
}

#[tokio::test]
async fn a_history_of_25_000_events_ends_the_execution() {
    let states = json!({
        "Start": { "Type": "Wait", "Seconds": 0, "Next": "Again" },
        "Again": { "Type": "Choice", "Choices": [{ "Variable": "$.done", "BooleanEquals": true, "Next": "Done" }], "Default": "Start" },
        "Done": { "Type": "Succeed" },
    });
    let execution = run(states, json!({ "done": false })).await;
    assert_failed(&execution, "States.Runtime", "25,000");
    assert_eq!(execution.events, 25_000 + 1);
}

#[tokio::test]
async fn an_execution_can_be_stopped_half_way() {
    let states = json!({ "Start": { "Type": "Wait", "Seconds": 1, "Next": "Done" }, "Done": { "Type": "Succeed" } });
    let mut execution = machine(&states)
        .unwrap()
        .start(&clock(), EXECUTION, json!({}));
    execution.step(&Scripted::default()).await;
    assert!(execution.is_running());
    assert_eq!(execution.next_state(), "Done");
    execution.abort();
    execution.step(&Scripted::default()).await;
    assert_eq!(
        (execution.status, execution.path),
        (Status::Aborted, vec!["Start".to_owned()])
    );
}

#[tokio::test]
async fn a_redriven_execution_goes_on_where_it_was_with_a_time_of_its_own() {
    let clock = clock();
    let states = json!({
        "Start": { "Type": "Wait", "Seconds": 3000, "Next": "Then" },
        "Then": { "Type": "Wait", "Seconds": 3000, "Next": "Done" },
        "Done": { "Type": "Succeed" },
    });
    let functions = Scripted::default();
    let mut execution = machine(&states)
        .unwrap()
        .start(&clock, EXECUTION, json!({}));
    while execution.is_running() {
        execution.step(&functions).await;
    }
    assert_eq!(execution.status, Status::TimedOut);
    clock.advance(86_400);
    execution.redrive();
    while execution.is_running() {
        execution.step(&functions).await;
    }
    assert_eq!(
        (execution.status, execution.path),
        (
            Status::Succeeded,
            ["Start", "Then", "Then", "Done"].map(str::to_owned).into()
        )
    );
}

#[test]
fn every_fault_of_a_broken_file_is_told() {
    let end = json!({ "Type": "Succeed" });
    assert_refused(
        &json!({ "Start": { "Type": "Wait", "Seconds": 1, "Next": "Nowhere" } }),
        "Start: there is no state `Nowhere`",
    );
    assert_refused(
        &json!({ "Begin": end }),
        "StartAt: there is no state `Start`",
    );
    assert_refused(
        &json!({ "Start": end, "Island": end }),
        "Island: cannot be reached",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Map" } }),
        "Start: unknown variant `Map`",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Succeed", "End": true } }),
        "unknown field `End`",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Pass", "OutputPath": "$", "Next": "Start" } }),
        "unknown field `OutputPath`",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Pass", "ResultPath": null, "Next": "Start" } }),
        "null",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Wait", "Next": "Start" } }),
        "Seconds and SecondsPath",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Fail", "Error": "A" } }),
        "Cause and CausePath",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Choice", "Choices": [{ "Variable": "$.a", "Next": "Start" }] } }),
        "BooleanEquals",
    );
    assert_refused(
        &json!({ "Start": { "Type": "Choice", "Choices": [{ "Variable": "$.a", "NumericEquals": 1, "Next": "Start" }] } }),
        "NumericEquals",
    );
    assert_refused(
        &task(json!({ "TimeoutSeconds": 1, "TimeoutSecondsPath": "$.a" })),
        "one of TimeoutSeconds and TimeoutSecondsPath",
    );
    assert_refused(
        &task(json!({ "Resource": "arn:aws:states:::sns:publish" })),
        "the integration arn:aws:states:::sns:publish is not known here",
    );
    assert_refused(
        &task(json!({ "Retry": [{ "ErrorEquals": ["States.ALL", "A"] }] })),
        "States.ALL must stand alone and last",
    );
    assert_refused(
        &task(json!({ "Retry": [{ "ErrorEquals": ["A"], "MaxDelaySeconds": 1 }] })),
        "MaxDelaySeconds",
    );
    assert_refused(
        &task(json!({ "Retry": [{ "ErrorEquals": [] }] })),
        "ErrorEquals is empty",
    );
}

#[test]
fn unknown_paths_and_intrinsic_functions_are_refused() {
    for (expression, fault) in [
        ("States.Format('{}', $.a)", "intrinsic function"),
        ("States.JsonToString($.a[0])", "not a path"),
        ("$.a[0]", "not a path"),
        ("$a", "not a path"),
        ("$.a..b", "not a path"),
        ("$$.Task.Timeout", "context object"),
        ("plain", "neither a path"),
    ] {
        assert_refused(&task(json!({ "Parameters": { "a.$": expression } })), fault);
    }
    assert_refused(&task(json!({ "Parameters": { "a.$": 1 } })), "not a text");
}

#[test]
fn two_states_of_one_name_are_refused() {
    let text = r#"{ "StartAt": "A", "TimeoutSeconds": 1, "States": { "A": { "Type": "Succeed" }, "A": { "Type": "Succeed" } } }"#;
    let error = StateMachine::parse(text, &BTreeMap::new()).expect_err("AWS would take the last");
    assert!(
        error.to_string().contains("two states have this name"),
        "{error}"
    );
}

#[test]
fn a_name_without_a_substitution_is_refused() {
    let error = StateMachine::parse("{ \"StartAt\": \"${Nobody}\" }", &BTreeMap::new())
        .expect_err("nobody said what Nobody is");
    assert_eq!(
        error,
        ParseError(vec!["there is no substitution for ${Nobody}".to_owned()])
    );
}

/// Somebody who answers after so many seconds.
struct Answering(u64);

impl Functions for Answering {
    async fn call(&self, resource: &str, _: Value) -> Result<Value, TaskError> {
        panic!("{resource} is no function")
    }

    fn ask(&self, event: &Value) -> Option<(u64, Value)> {
        let command = event["Entries"][0]["Detail"]["command"].as_str().unwrap();
        let token = command.strip_prefix("answer ").expect("the token is in it");
        assert!(!token.is_empty());
        Some((self.0, json!("yes")))
    }
}

#[tokio::test]
async fn whoever_is_asked_in_time_is_heard_and_nobody_in_time_is_a_timeout() {
    let states = json!({
        "Task": {
            "Type": "Task", "Resource": "arn:aws:states:::events:putEvents.waitForTaskToken",
            "Parameters": { "Entries": [{ "Detail": { "command.$": "States.Format($.template, $$.Task.Token)" } }] },
            "TimeoutSecondsPath": "$.for", "ResultPath": "$.answer", "Next": "Good",
            "Catch": [{ "ErrorEquals": ["States.Timeout"], "ResultPath": "$.late", "Next": "Default" }],
        },
        "Default": { "Type": "Pass", "InputPath": "$.then", "ResultPath": "$.answer", "Next": "Good" },
        "Good": { "Type": "Succeed" },
    });
    for (seconds, answer, took) in [(59, "yes", 59), (60, "no", 60)] {
        let clock = clock();
        let begun = clock.now();
        let input = json!({ "template": "answer {}", "for": 60, "then": "no" });
        let execution = machine(&states)
            .unwrap()
            .run(&Answering(seconds), &clock, EXECUTION, input)
            .await;
        assert_eq!(execution.output.unwrap()["answer"], answer);
        assert_eq!(clock.now().as_second() - begun.as_second(), took);
    }
}

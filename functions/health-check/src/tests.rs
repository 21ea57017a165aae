//! Checks on the account in memory.

use create_canary::create_canary;
use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::State;
use serin::history::{Order, Wish};
use serin::ports::Decisions;
use serin::request::Decision;
use serin::state::Next;
use serin::verdict::Outcome;
use serin_sim::{AlarmStateValue, Fault, FaultKind, Stage, Which, world};
use shift_weight::shift_weight;

use crate::{HealthCheckError, health_check};

/// A deployment whose first step is in force.
async fn shifted(stage: &Stage, more: Value) -> State {
    let aws = &stage.aws;
    let input = stage.input(RawRequest(stage.request(more)));
    let mut state = plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap();
    loop {
        state = create_canary(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
        stage.wait(u64::from(state.wait_seconds));
        if state.done {
            break;
        }
    }
    shift_weight(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
        .await
        .unwrap()
}

async fn check(stage: &Stage, state: State) -> Result<State, HealthCheckError> {
    stage.wait(u64::from(state.wait_seconds));
    let aws = &stage.aws;
    health_check(&aws.fleet, &aws.signals, &aws.ledger, stage.input(state)).await
}

/// Checks until something else than waiting is called for.
async fn check_until_next(stage: &Stage, mut state: State) -> State {
    for _ in 0..60 {
        state = check(stage, state).await.unwrap();
        if state.next != Some(Next::Wait) {
            return state;
        }
    }
    panic!(
        "no check ever calls for anything: {:?}",
        state.progress.verdicts
    );
}

fn bad() -> Value {
    json!({"image": world::app_image("2.0.0-bad")})
}

#[tokio::test]
async fn a_healthy_canary_advances_when_its_hold_has_been_measured_and_not_before() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    let shifted_at = state.progress.shifted_at.unwrap();
    let state = check_until_next(&stage, state).await;
    assert_eq!(state.next, Some(Next::Advance));
    let verdict = state.progress.verdicts.last().unwrap();
    assert_eq!(verdict.outcome, Outcome::Healthy);
    let window = verdict.window.unwrap();
    assert!(
        window.start.as_second() >= shifted_at.as_second() + 60,
        "not before it had settled"
    );
    assert!(
        window.end.as_second() + 60 > shifted_at.as_second() + 300,
        "up to the end of the hold"
    );
    let rate = verdict
        .findings
        .iter()
        .find(|finding| finding.name == "errorRatePercent")
        .unwrap();
    assert_eq!(rate.value, Some(0.0));
    assert!(rate.samples.unwrap() >= 50 && rate.stable.is_some());
}

#[tokio::test]
async fn a_bad_canary_is_rolled_back_at_the_first_check_that_has_enough_data() {
    let stage = Stage::default();
    let state = check_until_next(&stage, shifted(&stage, bad()).await).await;
    assert_eq!(state.next, Some(Next::RollBack));
    let verdict = state.progress.verdicts.last().unwrap();
    assert_eq!(verdict.outcome, Outcome::Unhealthy);
    assert!(
        verdict.sentence.contains("above the limit of 1 percent"),
        "{}",
        verdict.sentence
    );
    let waited = verdict.at.as_second() - state.progress.shifted_at.unwrap().as_second();
    assert!(waited < 300, "before the hold is over: {waited}");
}

#[tokio::test]
async fn failures_that_are_allowed_do_not_roll_back() {
    let stage = Stage::default();
    let mut more = bad();
    more["checks"] = json!({"failuresAllowed": 2, "judge": null});
    let state = check_until_next(&stage, shifted(&stage, more).await).await;
    assert_eq!(
        (state.next, state.progress.unhealthy_checks),
        (Some(Next::RollBack), 3)
    );
}

#[tokio::test]
async fn failures_in_a_row_roll_back_before_all_that_are_allowed_and_inconclusive_checks_do_not_break_the_row()
 {
    let stage = Stage::default();
    let mut more = bad();
    more["checks"] = json!({"failuresAllowed": 9, "failuresInARow": 2, "judge": null});
    let mut state = shifted(&stage, more).await;
    // One was unhealthy; the first ones after a shift are inconclusive, and the next unhealthy one is the second in a row.
    (
        state.progress.unhealthy_checks,
        state.progress.unhealthy_in_a_row,
    ) = (5, 1);
    let state = check_until_next(&stage, state).await;
    assert_eq!(
        (state.next, state.progress.unhealthy_checks),
        (Some(Next::RollBack), 6)
    );
}

#[tokio::test]
async fn a_healthy_check_breaks_a_row_of_failures() {
    let stage = Stage::default();
    let more = json!({"checks": {"failuresAllowed": 9, "failuresInARow": 2, "judge": null}});
    let mut state = shifted(&stage, more).await;
    state.progress.unhealthy_in_a_row = 1;
    let state = check_until_next(&stage, state).await;
    assert_eq!(
        (state.next, state.progress.unhealthy_in_a_row),
        (Some(Next::Advance), 0)
    );
}

#[tokio::test]
async fn without_data_a_canary_is_never_healthy_and_the_request_decides_what_happens() {
    for (choice, expected) in [("rollBack", Next::RollBack), ("proceed", Next::Advance)] {
        let stage = Stage::default();
        let state = shifted(&stage, json!({"checks": {"onTooLittleData": choice}})).await;
        stage
            .account
            .settings(|settings| settings.metrics_silent = true);
        let state = check_until_next(&stage, state).await;
        assert_eq!(state.next, Some(expected));
        assert_eq!(
            state.progress.verdicts.last().unwrap().outcome,
            Outcome::Inconclusive
        );
    }
}

#[tokio::test]
async fn waiting_for_data_ends_at_the_deadline() {
    let stage = Stage::default();
    let mut state = shifted(&stage, json!({"deadlineSeconds": 1800})).await;
    stage
        .account
        .settings(|settings| settings.metrics_silent = true);
    let error = loop {
        match check(&stage, state).await {
            Ok(next) => state = next,
            Err(error) => break error,
        }
        assert_eq!(state.next, Some(Next::Wait));
    };
    assert!(
        matches!(&error, HealthCheckError::DeadlineExceeded(last) if last.contains("no data")),
        "{error}"
    );
}

#[tokio::test]
async fn partial_data_is_not_enough() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({"checks": {"onTooLittleData": "rollBack"}})).await;
    stage
        .account
        .settings(|settings| settings.metrics_partial = true);
    let state = check_until_next(&stage, state).await;
    assert_eq!(state.next, Some(Next::RollBack));
    assert!(state.progress.verdicts[0].sentence.contains("PartialData"));
}

#[tokio::test]
async fn an_alarm_rolls_back_before_any_metric_could() {
    let stage = Stage::default();
    stage
        .account
        .set_alarm("checkout-5xx", AlarmStateValue::Ok, "quiet");
    let state = shifted(&stage, json!({"checks": {"alarms": ["checkout-5xx"]}})).await;
    stage
        .account
        .set_alarm("checkout-5xx", AlarmStateValue::Alarm, "7 errors");
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::RollBack));
    assert!(
        state.progress.verdicts[0]
            .sentence
            .contains("checkout-5xx is in ALARM: 7 errors")
    );
}

#[tokio::test]
async fn a_canary_whose_tasks_have_died_is_unhealthy_without_any_request() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    let canary = state.deployment.canary.service.to_string();
    stage
        .account
        .settings(|settings| settings.start_seconds = 10_000);
    stage.account.change(|world| world.kill_tasks(&canary));
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::RollBack));
    assert!(
        state.progress.verdicts[0]
            .sentence
            .contains("none of the canary's"),
        "{}",
        state.progress.verdicts[0].sentence
    );
}

#[tokio::test]
async fn a_query_is_measured_with_the_canarys_names_and_held_against_its_limit() {
    let stage = Stage::default();
    let query = json!({"checks": {"queries": [{"name": "latency", "max": 300, "metricDataQueries": [{"Id": "q", "MetricStat": {
        "Metric": {"Namespace": "App", "MetricName": "Latency", "Dimensions": [{"Name": "Family", "Value": "{{canaryFamily}}"}]},
        "Period": 60, "Stat": "Average"}}]}]}});
    let put = |family: &str, value: f64| {
        let now = stage.account.clock().now().as_second();
        for minute in 0..30 {
            stage.account.put_metric_at(
                "App",
                "Latency",
                &[("Family", family)],
                value,
                now - 600 + minute * 60,
            );
        }
    };
    put("checkout", 100.0);
    let state = shifted(&stage, query).await;
    put("checkout-canary", 450.0);
    let state = check_until_next(&stage, state).await;
    assert_eq!(state.next, Some(Next::RollBack));
    let finding = state.progress.verdicts[0]
        .findings
        .iter()
        .find(|finding| finding.name == "queries.latency")
        .unwrap();
    assert_eq!(
        (finding.outcome, finding.value),
        (Outcome::Unhealthy, Some(450.0))
    );
}

#[tokio::test]
async fn one_check_is_one_call_for_metrics() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    let before = stage.account.count_calls("GetMetricData");
    let state = check_until_next(&stage, state).await;
    let measured = stage.account.count_calls("GetMetricData") - before;
    assert!(measured > 0 && measured <= usize::try_from(state.progress.checks).unwrap());
}

#[tokio::test]
async fn an_api_that_does_not_answer_is_an_error_and_not_a_verdict() {
    let stage = Stage::default();
    let mut state = shifted(&stage, json!({})).await;
    stage.account.inject(Fault {
        operation: "GetMetricData",
        which: Which::Always,
        kind: FaultKind::ServerError,
    });
    let error = loop {
        match check(&stage, state).await {
            Ok(next) => state = next,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, HealthCheckError::AwsUnavailable(_)),
        "{error}"
    );
}

#[tokio::test]
async fn an_unhealthy_canary_that_is_to_be_frozen_becomes_a_question_and_no_ending() {
    let stage = Stage::default();
    let mut more = bad();
    more["onUnhealthy"] = json!("freeze");
    more["freeze"] = json!({"forSeconds": 1800, "then": "resume"});
    let state = shifted(&stage, more).await;
    let state = check_until_next(&stage, state).await;
    assert_eq!((state.next, state.ending), (Some(Next::Freeze), None));
    let question = state.question.unwrap();
    assert_eq!(
        (question.for_seconds, question.then),
        (1800, Decision::Resume)
    );
    assert!(question.why.contains("percent"), "{}", question.why);
    assert_eq!(
        question.commands.roll_back,
        r#"aws stepfunctions send-task-success --task-token {} --task-output '"rollBack"'"#
    );
}

#[tokio::test]
async fn a_decision_is_never_waited_for_beyond_the_deadline() {
    let stage = Stage::default();
    let mut more = bad();
    more["onUnhealthy"] = json!("freeze");
    more["deadlineSeconds"] = json!(2400);
    let state = shifted(&stage, more).await;
    let deadline = state.deployment.deadline_at;
    let state = check_until_next(&stage, state).await;
    let left = deadline.as_second() - stage.account.clock().now().as_second();
    assert_eq!(i64::from(state.question.unwrap().for_seconds), left);
}

#[tokio::test]
async fn whoever_decides_to_promote_is_not_asked_for_another_healthy_check() {
    let stage = Stage::default();
    let mut state = shifted(&stage, bad()).await;
    state.decision = Some(Decision::Promote);
    let calls = stage.account.calls().len();
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::Promote));
    assert_eq!(stage.account.calls().len(), calls);
}

/// Leaves a wish for the deployment's checks.
async fn wish(stage: &Stage, id: &str, order: Order) {
    let wish = Wish {
        request_id: id.to_owned(),
        at: stage.account.clock().now(),
        by: "Ada".to_owned(),
        order,
        came_of_it: String::new(),
    };
    let decisions = &stage.aws.decisions;
    decisions
        .leave_order(&stage.execution(), &wish)
        .await
        .unwrap();
}

/// A bad canary before the check that calls for its rollback.
async fn before_its_rollback(stage: &Stage) -> State {
    let mut before = shifted(stage, bad()).await;
    loop {
        let after = check(stage, before.clone()).await.unwrap();
        if after.next == Some(Next::RollBack) {
            return before;
        }
        before = after;
    }
}

#[tokio::test]
async fn a_check_that_calls_for_a_rollback_wins_over_what_was_wished_before_it() {
    for order in [Order::Freeze, Order::Promote] {
        let stage = Stage::default();
        let before = before_its_rollback(&stage).await;
        wish(&stage, "1", order).await;
        let state = check(&stage, before).await.unwrap();
        assert_eq!(state.next, Some(Next::RollBack), "{order}");
        assert_eq!((state.question, state.decision), (None, None));
    }
}

#[tokio::test]
async fn a_wish_is_carried_out_by_one_check_and_a_newer_one_by_another() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    wish(&stage, "1", Order::Freeze).await;
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::Freeze));
    assert!(
        state
            .question
            .as_ref()
            .unwrap()
            .why
            .starts_with("Ada decided to freeze it")
    );
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::Wait));
    wish(&stage, "2", Order::Freeze).await;
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::Freeze));
}

#[tokio::test]
async fn a_version_is_not_promoted_by_a_check_that_cannot_have_seen_anything() {
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    wish(&stage, "1", Order::Promote).await;
    let state = check(&stage, state).await.unwrap();
    assert!(state.progress.verdicts.last().unwrap().window.is_none());
    assert_eq!((state.next, state.decision), (Some(Next::Wait), None));
    let state = check_until_next(&stage, state).await;
    assert_eq!(state.next, Some(Next::Advance));
    assert_eq!(state.decision, Some(Decision::Promote));
    assert!(state.progress.verdicts.last().unwrap().window.is_some());
}

#[tokio::test]
async fn what_a_person_wishes_is_not_passed_over_when_it_cannot_be_read_and_no_rollback_waits_for_it()
 {
    let unreadable = Fault {
        operation: "GetItem",
        which: Which::Always,
        kind: FaultKind::Denied,
    };
    let stage = Stage::default();
    let state = shifted(&stage, json!({})).await;
    stage.account.inject(unreadable.clone());
    let error = check(&stage, state).await.unwrap_err();
    assert!(matches!(error, HealthCheckError::AwsDenied(_)), "{error:?}");

    let stage = Stage::default();
    let before = before_its_rollback(&stage).await;
    stage.account.inject(unreadable);
    let state = check(&stage, before).await.unwrap();
    assert_eq!(state.next, Some(Next::RollBack));
}

#[tokio::test]
async fn the_last_step_is_watched_longer_while_the_old_version_is_kept_warm() {
    let stage = Stage::default();
    let more = json!({"plan": {"steps": [{"weightPercent": 100, "holdSeconds": 300}]}, "finish": {"keepCanarySeconds": 600}});
    let state = shifted(&stage, more).await;
    let shifted_at = state.progress.shifted_at.unwrap();
    let state = check_until_next(&stage, state).await;
    assert_eq!(state.next, Some(Next::Promote));
    assert!(state.progress.verdicts[0].at.as_second() - shifted_at.as_second() >= 900);
}

#[tokio::test]
async fn when_stable_has_grown_the_check_calls_for_more_tasks_and_not_for_the_next_step() {
    let stage = Stage::default();
    let more = json!({"plan": {"steps": [{"weightPercent": 50, "holdSeconds": 600}, {"weightPercent": 100, "holdSeconds": 300}]}});
    let mut state = shifted(&stage, more).await;
    while !state.done {
        stage.wait(u64::from(state.wait_seconds));
        let aws = &stage.aws;
        state = shift_weight(&aws.fleet, &aws.router, &aws.ledger, stage.input(state))
            .await
            .unwrap();
    }
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 8);
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::Resize));
    assert!(state.done && state.wait_seconds > 0, "the checks go on");
}

#[tokio::test]
async fn an_unhealthy_canary_is_rolled_back_and_not_made_larger() {
    let stage = Stage::default();
    let state = shifted(&stage, bad()).await;
    let waits = u64::from(state.wait_seconds);
    stage.wait(waits + 180);
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 80);
    let state = check(&stage, state).await.unwrap();
    assert_eq!(state.next, Some(Next::RollBack));
}

#[tokio::test]
async fn a_state_that_lost_its_canary_is_no_health() {
    let stage = Stage::default();
    let mut state = shifted(&stage, json!({})).await;
    stage.wait(u64::from(state.wait_seconds) + 180);
    state.progress.canary = None;
    let error = check(&stage, state).await.unwrap_err();
    assert!(matches!(error, HealthCheckError::NoCanary), "{error:?}");
}

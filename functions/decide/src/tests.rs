//! Decisions on the account in memory.

use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::history::{Order, Wish};
use serin::ports::{History, Phase};
use serin::{ExecutionArn, Ledger};
use serin_sim::{Fault, FaultKind, Stage, Which};

use super::{Input, decide};

/// A deployment that runs.
async fn running() -> (Stage, ExecutionArn) {
    let stage = Stage::default();
    let aws = &stage.aws;
    let execution = stage.execution();
    stage
        .account
        .set_execution(execution.as_str(), "RUNNING".into());
    let input = stage.input(RawRequest(stage.request(json!({}))));
    plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap();
    (stage, execution)
}

fn invocation(stage: &Stage) -> Value {
    json!({ "requestId": "request-1", "at": stage.account.clock().now() })
}

/// Ada decides.
async fn ada_decides(stage: &Stage, execution: &ExecutionArn, decision: &str) -> String {
    let input = json!({
        "execution": execution, "decision": decision, "invocation": invocation(stage),
        "widgetContext": { "theme": "dark", "forms": { "all": { "by": " Ada <b>Lovelace</b> " } } },
    });
    called(stage, input).await.unwrap()
}

async fn called(stage: &Stage, input: Value) -> Result<String, super::DecideError> {
    let input: Input = serde_json::from_value(input).unwrap();
    let aws = &stage.aws;
    decide(&aws.ledger, &aws.ledger, &aws.decisions, input).await
}

/// The rule hands over the question of a deployment that waits for an answer.
async fn asks(stage: &Stage, execution: &ExecutionArn) {
    stage.account.wait_for_answer("token-1");
    let question = json!({
        "version": "1", "id": "frozen-3", "at": stage.account.clock().now(), "execution": execution, "weightPercent": 10.0,
        "sentence": "too many errors", "phase": "frozen", "waitsForSeconds": 600, "then": "rollBack", "token": "token-1",
    });
    let event = json!({
        "source": "serin", "detail-type": "Deployment Notice", "detail": question, "invocation": invocation(stage),
    });
    assert_eq!(called(stage, event).await.unwrap(), "");
}

async fn wishes(stage: &Stage, execution: &ExecutionArn) -> Vec<Wish> {
    stage.aws.ledger.story(execution).await.unwrap().wishes
}

#[tokio::test]
async fn the_question_of_a_frozen_deployment_is_answered_once_with_what_was_decided() {
    for decision in ["rollBack", "resume", "promote"] {
        let (stage, execution) = running().await;
        asks(&stage, &execution).await;
        let said = ada_decides(&stage, &execution, decision).await;
        assert!(said.contains("The frozen deployment"), "{said}");
        assert_eq!(
            stage.account.take_answers(),
            [json!(decision).to_string()],
            "as the state machine takes it"
        );
        if decision == "resume" {
            let said = ada_decides(&stage, &execution, decision).await;
            assert!(said.contains("asks nobody now"), "{said}");
        }
        assert_eq!(stage.account.take_answers(), [""; 0]);
    }
}

#[tokio::test]
async fn a_running_deployment_is_stopped_so_that_it_is_recovered_and_it_is_kept_who_did_it() {
    let (stage, execution) = running().await;
    let said = ada_decides(&stage, &execution, "rollBack").await;
    assert!(said.contains("The execution was stopped"), "{said}");
    let status = stage.aws.ledger.execution_status(&execution).await.unwrap();
    assert_eq!(status.to_string(), "ABORTED");
    let [wish] = &wishes(&stage, &execution).await[..] else {
        panic!("one person wished something")
    };
    assert_eq!(
        (wish.by.as_str(), wish.request_id.as_str(), wish.order),
        ("Ada <b>Lovelace</b>", "request-1", Order::RollBack)
    );
    assert!(wish.came_of_it.contains("recovery"), "{wish:?}");
}

#[tokio::test]
async fn what_a_running_deployment_is_to_do_is_left_for_its_checks() {
    for order in [Order::Freeze, Order::Promote] {
        let (stage, execution) = running().await;
        let said = ada_decides(&stage, &execution, &order.to_string()).await;
        assert!(said.contains("next check"), "{said}");
        let left = stage.aws.ledger.order(&execution).await.unwrap();
        let left = left.expect("it was left");
        assert_eq!((left.order, left.request_id.as_str()), (order, "request-1"));
        let status = stage.aws.ledger.execution_status(&execution).await.unwrap();
        assert_eq!(status.to_string(), "RUNNING");
    }
}

#[tokio::test]
async fn nothing_is_left_for_a_deployment_that_is_not_on_trial() {
    let (stage, execution) = running().await;
    let ledger = &stage.aws.ledger;
    ledger
        .enter(&execution, Phase::Promoting)
        .await
        .unwrap()
        .unwrap();
    for order in ["freeze", "promote", "resume"] {
        let said = ada_decides(&stage, &execution, order).await;
        assert!(
            said.contains("Nothing was done: stable is being updated"),
            "{said}"
        );
        assert_eq!(ledger.order(&execution).await.unwrap(), None);
    }
}

#[tokio::test]
async fn nothing_is_done_for_somebody_without_a_name() {
    let (stage, execution) = running().await;
    let input = json!({
        "execution": execution, "decision": "rollBack", "invocation": invocation(&stage),
        "widgetContext": { "forms": { "all": { "by": "  " } } },
    });
    let said = called(&stage, input).await.unwrap();
    assert!(said.contains("say who you are"), "{said}");
    let status = stage.aws.ledger.execution_status(&execution).await.unwrap();
    assert_eq!(status.to_string(), "RUNNING");
    assert_eq!(wishes(&stage, &execution).await, []);
}

#[tokio::test]
async fn nothing_is_done_where_who_did_it_cannot_be_kept() {
    let (stage, execution) = running().await;
    stage.account.inject(Fault {
        operation: "UpdateItem",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let input = json!({
        "execution": execution, "decision": "rollBack", "invocation": invocation(&stage),
        "widgetContext": { "forms": { "all": { "by": "Ada" } } },
    });
    called(&stage, input).await.unwrap_err();
    let status = stage.aws.ledger.execution_status(&execution).await.unwrap();
    assert_eq!(status.to_string(), "RUNNING");
}

#[tokio::test]
async fn a_promotion_is_not_broken_off() {
    let (stage, execution) = running().await;
    let ledger = &stage.aws.ledger;
    ledger
        .enter(&execution, Phase::Promoting)
        .await
        .unwrap()
        .unwrap();
    let said = ada_decides(&stage, &execution, "rollBack").await;
    assert!(said.contains("stable is being updated"), "{said}");
    let status = ledger.execution_status(&execution).await.unwrap();
    assert_eq!(status.to_string(), "RUNNING");
}

#[tokio::test]
async fn what_a_deployment_has_left_is_rolled_back_by_an_execution_of_its_own() {
    let (stage, execution) = running().await;
    let ledger = &stage.aws.ledger;
    let record = ledger.find(&execution).await.unwrap().unwrap();
    let now = stage.account.clock().now();
    ledger
        .call_a_person(&record.deployment, &[], now)
        .await
        .unwrap();
    ada_decides(&stage, &execution, "rollBack").await;
    let started = stage.account.take_started();
    assert_eq!(started.len(), 1);
    assert_eq!(
        started[0].input,
        json!({ "rollBack": execution }).to_string()
    );
    assert!(
        started[0]
            .execution
            .starts_with("arn:aws:states:eu-west-1:123456789012:execution:serin:decided-request-1"),
        "{started:?}"
    );
}

#[tokio::test]
async fn a_call_that_decides_nothing_is_refused() {
    let (stage, _) = running().await;
    let input = json!({ "invocation": invocation(&stage) });
    let error = called(&stage, input).await.unwrap_err();
    assert!(
        matches!(error, super::DecideError::NothingDecided),
        "{error}"
    );
}

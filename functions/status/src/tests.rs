//! The page of deployments on the account in memory.

use plan_deployment::{RawRequest, plan_deployment};
use serde_json::{Value, json};
use serin::history::{Order, Wish};
use serin::ports::{History, Ledger};
use serin::verdict::{Outcome, Verdict};
use serin::{ExecutionArn, Leftover, State, Weight};
use serin_aws::tell;
use serin_sim::Stage;

use super::{Calls, Input, status};

const CALLS: Calls = Calls {
    status: "arn:aws:lambda:eu-west-1:1:function:serin-status:live",
    decide: "arn:aws:lambda:eu-west-1:1:function:serin-decide:live",
};

/// A deployment that is planned, and what is told of it.
async fn planned(stage: &Stage) -> State {
    let aws = &stage.aws;
    let request = stage.request(json!({}));
    let input = stage.input(RawRequest(request.clone()));
    let payload = json!({
        "execution": input.execution, "startedAt": input.started_at, "now": input.now, "state": request,
    });
    let state = plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap();
    let answer = serde_json::to_value(&state).unwrap();
    tell(aws, "plan-deployment", &payload, Ok(&answer)).await;
    state.state().unwrap()
}

async fn page(stage: &Stage, input: Value) -> String {
    let input: Input = serde_json::from_value(input).unwrap();
    status(&stage.aws.ledger, CALLS, input).await.unwrap()
}

async fn page_of(stage: &Stage, execution: &ExecutionArn) -> String {
    page(stage, json!({ "execution": execution })).await
}

fn verdict(stage: &Stage, outcome: Outcome) -> Verdict {
    Verdict {
        outcome,
        sentence: "because".into(),
        at: stage.account.clock().now(),
        step: 1,
        weight_percent: Weight::from_percent(10.0).unwrap(),
        window: None,
        findings: Vec::new(),
    }
}

#[tokio::test]
async fn whoever_adds_the_widget_is_told_what_it_is() {
    let described = page(&Stage::default(), json!({ "describe": true })).await;
    assert!(described.starts_with("## Serin"), "{described}");
}

#[tokio::test]
async fn the_list_has_every_deployment_with_a_link_to_its_page() {
    let stage = Stage::default();
    let empty = page(&stage, json!({})).await;
    assert!(empty.contains("No deployment is running."), "{empty}");
    let state = planned(&stage).await;
    let list = page(&stage, json!({})).await;
    assert!(list.contains(&state.deployment.service.to_string()));
    assert!(list.contains("running"), "{list}");
    assert!(
        list.contains(&format!("endpoint=\"{}\"", CALLS.status)),
        "{list}"
    );
    assert!(
        list.contains(&format!(
            "{{&quot;execution&quot;:&quot;{}&quot;}}",
            state.deployment.execution
        )),
        "{list}"
    );
}

#[tokio::test]
async fn a_page_has_the_request_the_plan_and_a_mark_for_each_check() {
    let stage = Stage::default();
    let execution = planned(&stage).await.deployment.execution;
    let ledger = &stage.aws.ledger;
    let outcomes = [Outcome::Inconclusive, Outcome::Healthy, Outcome::Unhealthy];
    for (number, outcome) in (0..30).zip(outcomes.into_iter().cycle()) {
        stage.wait(60);
        ledger
            .keep_check(&execution, number, &verdict(&stage, outcome))
            .await
            .unwrap();
    }
    let page = page_of(&stage, &execution).await;
    assert_eq!(page.matches("<g><title>").count(), 30, "more than one item");
    assert!(
        page.contains("&quot;cluster&quot;: &quot;prod&quot;"),
        "the request"
    );
    assert!(page.contains("Plan: "), "{page}");
    assert!(page.contains("A canary of prod/checkout is planned"));
}

#[tokio::test]
async fn a_page_offers_what_can_be_decided_and_says_who_decided() {
    let stage = Stage::default();
    let deployment = planned(&stage).await.deployment;
    let execution = &deployment.execution;
    let running = page_of(&stage, execution).await;
    assert!(running.contains("Roll back now") && !running.contains("Resume"));
    assert!(running.contains("confirmation="), "{running}");
    assert!(running.contains(CALLS.decide));

    let ledger = &stage.aws.ledger;
    let at = stage.account.clock().now();
    let wish = Wish {
        request_id: "request-1".into(),
        at,
        by: "Ada <b>".into(),
        order: Order::RollBack,
        came_of_it: "it was stopped".into(),
    };
    ledger.keep_wish(execution, &wish).await.unwrap();
    let left = Leftover {
        arn: "arn:x".into(),
        what: "a target group is left".into(),
        command: "aws elbv2 delete-target-group".into(),
    };
    ledger
        .call_a_person(&deployment, &[left], at)
        .await
        .unwrap();
    let page = page_of(&stage, execution).await;
    for part in [
        "needs attention",
        "Ada &lt;b&gt;",
        "request-1",
        "aws elbv2 delete-target-group",
        "Roll back now",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn a_frozen_deployment_is_known_by_its_last_notice_and_has_three_buttons() {
    let stage = Stage::default();
    let execution = planned(&stage).await.deployment.execution;
    stage.wait(60);
    let notice = json!({
        "version": "1", "id": "frozen-1", "at": stage.account.clock().now(), "execution": execution, "weightPercent": 10.0,
        "sentence": "too many errors", "phase": "frozen", "waitsForSeconds": 600, "then": "rollBack",
    });
    let notice = serde_json::from_value(notice).unwrap();
    stage.aws.ledger.keep_notice(&notice).await.unwrap();
    let page = page_of(&stage, &execution).await;
    for part in ["frozen", "Roll back now", "Resume", "Promote now"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[tokio::test]
async fn nothing_that_others_wrote_is_taken_for_markup() {
    let stage = Stage::default();
    let execution = planned(&stage).await.deployment.execution;
    let mut bad = verdict(&stage, Outcome::Unhealthy);
    bad.sentence = "<img src=x onerror=alert(1)>".into();
    stage
        .aws
        .ledger
        .keep_check(&execution, 0, &bad)
        .await
        .unwrap();
    let page = page_of(&stage, &execution).await;
    assert!(!page.contains("<img") && page.contains("&lt;img"), "{page}");
    assert!(!page.contains("<script"));
}

#[tokio::test]
async fn of_a_deployment_that_nobody_knows_the_page_says_so() {
    let page = page_of(&Stage::default(), &ExecutionArn::new("arn:<x>")).await;
    assert!(
        page.contains("Nothing is known of this deployment"),
        "{page}"
    );
    assert!(page.contains("arn:&lt;x&gt;"));
}

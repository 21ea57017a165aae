//! The sweep on the account in memory.

use plan_deployment::{RawRequest, plan_deployment};
use serde_json::json;
use serin::report::Ending;
use serin::{Ledger, State};
use serin_sim::{Fault, FaultKind, Stage, Which, world};

use crate::{Swept, Tick, sweep};

async fn planned(stage: &Stage) -> State {
    let aws = &stage.aws;
    let execution = stage.execution();
    stage
        .account
        .set_execution(execution.as_str(), "RUNNING".into());
    let input = stage.input(RawRequest(stage.request(json!({}))));
    plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap()
}

/// The same, and then its execution is stopped.
async fn dead(stage: &Stage) -> State {
    let state = planned(stage).await;
    stage
        .account
        .set_execution(stage.execution().as_str(), "ABORTED".into());
    state
}

async fn swept(stage: &Stage) -> Swept {
    let time = stage.account.clock().now();
    sweep(&stage.aws.ledger, &stage.aws.recoveries, Tick { time })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_deployment_whose_execution_is_dead_is_recovered_once_in_half_an_hour() {
    let stage = Stage::default();
    let execution = dead(&stage).await.deployment.execution;
    for _ in 0..3 {
        assert_eq!(
            swept(&stage).await.recovering,
            std::slice::from_ref(&execution)
        );
        stage.wait(300);
    }
    let started = stage.account.take_started();
    assert_eq!(started.len(), 1, "{started:?}");
    assert_eq!(
        started[0].input,
        json!({ "recover": execution }).to_string()
    );
    assert!(
        started[0]
            .execution
            .starts_with(&world::RECOVERY.replace(":stateMachine:", ":execution:")),
        "{started:?}"
    );
    stage.wait(1800);
    swept(&stage).await;
    assert_eq!(
        stage.account.take_started().len(),
        1,
        "it failed, and is tried again"
    );
}

#[tokio::test]
async fn what_runs_or_waits_for_a_person_is_left_alone() {
    let stage = Stage::default();
    let state = planned(&stage).await;
    assert_eq!(
        swept(&stage).await,
        Swept {
            held: 1,
            ..Swept::default()
        }
    );

    let now = stage.account.clock().now();
    let ledger = &stage.aws.ledger;
    ledger
        .call_a_person(&state.deployment, &[], now)
        .await
        .unwrap();
    let dead = stage.execution();
    stage.account.set_execution(dead.as_str(), "FAILED".into());
    assert_eq!(
        swept(&stage).await,
        Swept {
            held: 1,
            ..Swept::default()
        }
    );
    assert_eq!(stage.account.take_started(), []);
}

#[tokio::test]
async fn the_lock_of_an_execution_that_planned_nothing_is_given_back_when_no_planner_can_run_any_more()
 {
    let stage = Stage::default();
    let other = Stage::default();
    let key = planned(&other).await.deployment.service;
    let execution = stage.execution();
    let now = stage.account.clock().now();
    stage
        .aws
        .ledger
        .lock(&key, &execution, now, now)
        .await
        .unwrap();
    stage
        .account
        .set_execution(execution.as_str(), "TIMED_OUT".into());
    stage.wait(30);
    assert_eq!(swept(&stage).await.unlocked, []);
    stage.wait(30);
    assert_eq!(swept(&stage).await.unlocked, [key]);
    assert_eq!(swept(&stage).await, Swept::default());
}

#[tokio::test]
async fn a_lock_whose_giving_back_was_the_last_call_that_was_not_made_is_given_back() {
    let stage = Stage::default();
    let state = dead(&stage).await;
    let now = stage.account.clock().now();
    stage.account.inject(Fault {
        operation: "UpdateItem",
        which: Which::Nth(2),
        kind: FaultKind::Denied,
    });
    let ledger = &stage.aws.ledger;
    ledger
        .close(&state.deployment, Ending::RolledBack, None, now)
        .await
        .unwrap_err();
    assert_eq!(swept(&stage).await.unlocked, [state.deployment.service]);
}

#[tokio::test]
async fn one_lock_that_cannot_be_looked_at_does_not_hide_the_others() {
    let stage = Stage::default();
    dead(&stage).await;
    let key = serin::ServiceKey {
        cluster: serin::ClusterName::new("a-first-cluster"),
        service: serin::ServiceName::new("other"),
    };
    let other = stage.in_execution("other").execution();
    let now = stage.account.clock().now();
    stage.aws.ledger.lock(&key, &other, now, now).await.unwrap();
    stage.account.inject(Fault {
        operation: "DescribeExecution",
        which: Which::Nth(1),
        kind: FaultKind::Denied,
    });
    let time = stage.account.clock().now();
    let error = sweep(&stage.aws.ledger, &stage.aws.recoveries, Tick { time })
        .await
        .unwrap_err();
    assert!(matches!(error, crate::SweepError::AwsDenied(_)), "{error}");
    assert_eq!(stage.account.take_started().len(), 1);
}

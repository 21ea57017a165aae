//! What a person decides on the status page, and what is kept of it.

use rstest::rstest;
use serde_json::json;
use serin::ports::History;
use serin_driver::pages::adapters;
use serin_sim::{Fault, FaultKind, Which};

use super::{On, Simulation, arn, request};

#[rstest]
#[tokio::test]
async fn a_running_deployment_is_rolled_back_from_its_page(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    let said = simulation.decide("first", "rollBack").await;
    assert!(said.contains("The execution was stopped"), "{said}");
    simulation.abort(&mut execution, "first");
    simulation
        .recover("first")
        .await
        .assert_recovered()
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn what_a_deployment_has_left_is_rolled_back_from_its_page(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    simulation
        .deploy(request("2.0.0-bad", json!({})))
        .await
        .assert_needs_attention("");
    simulation.account.heal();
    simulation.decide("first", "rollBack").await;
    let started = simulation.account.take_started();
    let [started] = &started[..] else {
        panic!("{started:?}")
    };
    let name = started.execution.rsplit(':').next().unwrap();
    let input = serde_json::from_str(&started.input).unwrap();
    simulation
        .finish(simulation.start(name, input))
        .await
        .assert_rolled_back("a person asked for it");
}

#[rstest]
#[tokio::test]
async fn the_ledger_keeps_request_plan_weights_verdicts_and_ending(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let wanted = request("2.0.0", json!({}));
    simulation.deploy(wanted.clone()).await.assert_promoted();
    let ledger = adapters(&simulation).ledger;
    let story = ledger.story(&serin::ExecutionArn::new(arn("first"))).await;
    let story = story.unwrap();
    assert_eq!(story.request, Some(wanted), "as it came");
    let record = story.record.as_ref().unwrap();
    assert_eq!(record.ending, Some(serin::Ending::Promoted));
    assert_eq!(record.deployment.plan.steps().len(), 3);
    let weights: Vec<_> = story
        .notices
        .iter()
        .map(|notice| notice.weight_percent.tenths())
        .collect();
    assert!(weights.is_sorted() && weights.contains(&100) && weights.contains(&500));
    assert!(story.checks.len() > 3, "{:?}", story.checks);
    assert!(story.open_decisions().is_empty());
    let listed = ledger.recent(10).await.unwrap();
    let [listed] = &listed[..] else {
        panic!("{listed:?}")
    };
    assert_eq!(listed.service, "prod/checkout");
    assert_eq!(listed.ending, Some(serin::Ending::Promoted));
    assert!(listed.ended_at > Some(listed.started_at));
}

#[rstest]
#[tokio::test]
async fn the_weights_of_a_rollback_end_at_none(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation.deploy(request("2.0.0-bad", json!({}))).await;
    let ledger = adapters(&simulation).ledger;
    let story = ledger.story(&serin::ExecutionArn::new(arn("first"))).await;
    let weights: Vec<_> = story
        .unwrap()
        .notices
        .iter()
        .map(|notice| notice.weight_percent.tenths())
        .collect();
    assert_eq!(
        weights,
        [0, 0, 100, 100, 0, 0],
        "planned, up, weight, verdict, back, over"
    );
}

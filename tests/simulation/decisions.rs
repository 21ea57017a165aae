//! What a person decides on the status page, and what is kept of it.

use rstest::rstest;
use serde_json::json;
use serin::ports::History;
use serin_driver::pages::adapters;
use serin_sim::state_machine::Execution;
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
    assert!(story.open_orders().is_empty());
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

/// A deployment of this version that is on trial.
async fn on_trial(simulation: &Simulation, tag: &str) -> Execution {
    let mut execution = simulation.start("first", request(tag, json!({})));
    again(simulation, &mut execution).await;
    execution
}

/// Goes on to its next wait for a check.
async fn again(simulation: &Simulation, execution: &mut Execution) {
    simulation.step(execution).await;
    let wait = "Wait before the next check";
    simulation.run_until(execution, wait).await;
}

#[rstest]
#[tokio::test]
async fn a_running_deployment_that_is_frozen_from_its_page_holds_its_weight_and_asks_once(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(false, true)] answers_are_lost: bool,
) {
    let simulation = Simulation::new(on);
    let mut execution = on_trial(&simulation, "2.0.0").await;
    let said = simulation.decide("first", "freeze").await;
    assert!(said.contains("after its next check"), "{said}");
    if answers_are_lost {
        simulation.lambdas.lose_every_first_answer();
    }
    simulation.run_until(&mut execution, "Ask a person").await;
    assert_eq!(execution.data()["progress"]["weightPercent"], 10.0);
    simulation.lambdas.answer_after(600, json!("resume"));
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let asked = simulation.lambdas.asked();
    let [question] = &asked[..] else {
        panic!("{asked:#?}")
    };
    let why = question["sentence"].as_str().unwrap();
    assert!(
        why.starts_with("Ada decided to freeze it; the last check: "),
        "{why}"
    );
}

#[rstest]
#[tokio::test]
async fn nobody_who_answers_the_one_that_was_frozen_from_its_page_has_it_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let execution = on_trial(&simulation, "2.0.0").await;
    simulation.decide("first", "freeze").await;
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("nobody decided in time")
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_running_deployment_that_is_promoted_from_its_page_goes_to_its_last_weight(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(false, true)] answers_are_lost: bool,
) {
    let simulation = Simulation::new(on);
    let execution = on_trial(&simulation, "2.0.0").await;
    let said = simulation.decide("first", "promote").await;
    assert!(
        said.contains("after the next check that can have data"),
        "{said}"
    );
    if answers_are_lost {
        simulation.lambdas.lose_every_first_answer();
    }
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let done: Vec<_> = deployed.report().done.into_iter().collect();
    let told = |what: &str| {
        done.iter()
            .filter(|event| event.what.contains(what))
            .count()
    };
    assert_eq!(told("Ada decided to promote it"), 1, "{done:#?}");
    assert_eq!(
        told("shifted"),
        2,
        "the first weight and the last: {done:#?}"
    );
}

#[rstest]
#[tokio::test]
async fn a_bad_version_that_somebody_wants_promoted_is_rolled_back_by_the_first_check_with_data(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let execution = on_trial(&simulation, "2.0.0-bad").await;
    simulation.decide("first", "promote").await;
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("").assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn what_was_wished_last_holds(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let execution = on_trial(&simulation, "2.0.0").await;
    simulation.decide("first", "freeze").await;
    let said = simulation.decide("first", "resume").await;
    assert!(said.contains("is taken back"), "{said}");
    simulation.finish(execution).await.assert_promoted();
    assert_eq!(simulation.lambdas.asked(), [json!(null); 0]);
}

/// Otherwise it would be promoted as soon as it is resumed.
#[tokio::test]
async fn what_was_wished_before_an_unhealthy_check_froze_the_deployment_is_not_done_after_it() {
    let simulation = Simulation::new(On::AppMesh);
    let wanted = request("2.0.0-bad", json!({ "onUnhealthy": "freeze" }));
    let mut execution = simulation.start("first", wanted);
    again(&simulation, &mut execution).await;
    simulation.decide("first", "promote").await;
    simulation.lambdas.answer_after(60, json!("resume"));
    simulation.lambdas.answer_after(60, json!("rollBack"));
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("a person decided so");
    assert_eq!(simulation.lambdas.asked().len(), 2, "judged again");
}

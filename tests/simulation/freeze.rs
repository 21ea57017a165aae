//! A frozen deployment: it holds, asks, and goes on as somebody decides.

use rstest::rstest;
use serde_json::{Value, json};
use serin_sim::{World, world};

use super::{Deployed, On, Simulation, request};

/// A bad version that is frozen when its checks find out.
fn frozen(freeze: Value) -> Value {
    let mut more = json!({ "onUnhealthy": "freeze" });
    more["freeze"] = freeze;
    request("2.0.0-bad", more)
}

/// Runs the deployment; somebody answers so after half an hour.
async fn answered(simulation: &Simulation, freeze: Value, answer: Value) -> Deployed<'_> {
    simulation.lambdas.answer_after(1800, answer);
    simulation.deploy(frozen(freeze)).await
}

#[rstest]
#[tokio::test]
async fn the_question_has_the_service_the_weight_the_reason_and_a_command_for_each_answer(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let deployed = answered(&simulation, json!({}), json!("rollBack")).await;
    deployed
        .assert_rolled_back("a person decided so")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let [asked] = &simulation.lambdas.asked()[..] else {
        panic!("it asks once")
    };
    assert_eq!(
        asked["service"],
        json!({ "cluster": "prod", "service": "checkout" })
    );
    assert_eq!(asked["weightPercent"], 10.0);
    assert_eq!(asked["waitsForSeconds"], 3600);
    assert_eq!(asked["then"], "rollBack");
    assert!(
        asked["sentence"].as_str().unwrap().contains("percent"),
        "{asked}"
    );
    let token = asked["token"].as_str().unwrap();
    for answer in ["rollBack", "resume", "promote"] {
        assert_eq!(
            asked["commands"][answer],
            format!(
                "aws stepfunctions send-task-success --task-token {token} --task-output '\"{answer}\"'"
            )
        );
    }
}

#[rstest]
#[tokio::test]
async fn while_nobody_has_answered_the_weight_stays_or_goes_to_the_last_healthy_one(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    for (hold_at, expected) in [("currentStep", 50), ("lastHealthyStep", 10)] {
        let simulation = Simulation::new(on);
        let freeze = json!({ "holdAt": hold_at });
        let mut input = frozen(freeze);
        input["image"] = world::app_image("2.0.0").into();
        let mut execution = simulation.start("first", input);
        for _ in 0..2 {
            simulation
                .run_until(&mut execution, "Has the traffic shifted?")
                .await;
            simulation.step(&mut execution).await;
        }
        simulation.account.settings(|settings| {
            settings.error_rates = vec![("2.0.0".to_owned(), 0.2)];
        });
        simulation.run_until(&mut execution, "Ask a person").await;
        assert_eq!(
            execution.data()["progress"]["weightPercent"],
            f64::from(expected)
        );
        let stable = simulation.account.look(World::stable_percent);
        assert!(
            (stable - f64::from(100 - expected)).abs() < 0.01,
            "{hold_at}: {stable}"
        );
        simulation
            .finish(execution)
            .await
            .assert_rolled_back("nobody decided in time")
            .assert_no_request_was_lost();
    }
}

#[rstest]
#[tokio::test]
async fn nobody_within_the_time_is_the_answer_that_the_request_names(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(frozen(json!({ "forSeconds": 600 })))
        .await
        .assert_rolled_back("nobody decided in time")
        .assert_stable_has_all_traffic();
    let simulation = Simulation::new(on);
    simulation
        .deploy(frozen(json!({ "forSeconds": 600, "then": "promote" })))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_is_resumed_begins_its_step_anew_and_is_judged_again(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("currentStep", "lastHealthyStep")] hold_at: &str,
) {
    // It is still bad: it is frozen again, and then somebody gives up.
    let simulation = Simulation::new(on);
    simulation.lambdas.answer_after(60, json!("resume"));
    simulation.lambdas.answer_after(60, json!("rollBack"));
    let deployed = simulation
        .deploy(frozen(json!({ "holdAt": hold_at })))
        .await;
    deployed
        .assert_rolled_back("a person decided so")
        .assert_no_request_was_lost();
    assert_eq!(simulation.lambdas.asked().len(), 2);

    // It was somebody else's fault, and that has passed.
    let simulation = Simulation::new(on);
    simulation.lambdas.answer_after(60, json!("resume"));
    let mut execution = simulation.start("first", frozen(json!({ "holdAt": hold_at })));
    simulation.run_until(&mut execution, "Ask a person").await;
    simulation.account.settings(|settings| {
        settings.error_rates.clear();
    });
    simulation
        .finish(execution)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_is_promoted_by_decision_goes_to_its_last_weight_with_the_tasks_for_it_first(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let deployed = answered(&simulation, json!({}), json!("promote")).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let done = deployed.report().done;
    assert!(
        done.iter()
            .any(|event| event.what == "a person decided: promote"),
        "{done:#?}"
    );
}

#[rstest]
#[tokio::test]
async fn whoever_answers_something_else_is_asked_again(#[values(On::AppMesh, On::Alb)] on: On) {
    for answer in [json!("rollback"), json!({ "decision": "resume" }), json!(1)] {
        let simulation = Simulation::new(on);
        simulation.lambdas.answer_after(60, answer);
        simulation.lambdas.answer_after(60, json!("rollBack"));
        let deployed = simulation.deploy(frozen(json!({}))).await;
        deployed.assert_rolled_back("a person decided so");
        assert_eq!(simulation.lambdas.asked().len(), 2);
    }
}

#[rstest]
#[tokio::test]
async fn a_frozen_deployment_whose_execution_is_stopped_is_recovered(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", frozen(json!({})));
    simulation.run_until(&mut execution, "Ask a person").await;
    simulation.abort(&mut execution, "first");
    simulation
        .recover("first")
        .await
        .assert_recovered()
        .assert_stable_has_all_traffic();
}

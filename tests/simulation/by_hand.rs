//! What a person does with an execution that is started by hand.

use rstest::rstest;
use serde_json::json;
use serin_sim::state_machine::Status;
use serin_sim::{Fault, FaultKind, Which};

use super::endings::ROLLED_BACK;
use super::{Deployed, On, Simulation, arn, request, shortened};

/// Rolls a deployment back by hand.
async fn roll_back<'a>(simulation: &'a Simulation, name: &str) -> Deployed<'a> {
    simulation
        .finish(simulation.start("by-hand", json!({ "rollBack": arn(name) })))
        .await
}

#[rstest]
#[tokio::test]
async fn a_person_can_finish_a_rollback_that_failed(#[values(On::AppMesh, On::Alb)] on: On) {
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
    let deployed = roll_back(&simulation, "first").await;
    deployed
        .assert_rolled_back("a person asked for it")
        .assert_stable_has_all_traffic();
    let expected = [&["Is this a new deployment?"], &ROLLED_BACK[..]].concat();
    assert_eq!(shortened(&deployed.execution.path), expected);
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_was_stopped_can_be_rolled_back(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Wait before the next check")
        .await;
    execution.abort();
    roll_back(&simulation, "first")
        .await
        .assert_rolled_back("a person asked for it")
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_nobody_knows_cannot_be_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    roll_back(&simulation, "never")
        .await
        .assert_needs_attention("the ledger knows no deployment");
    assert_eq!(simulation.traces(), Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_is_over_is_left_begun_anew(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted();
    let promoted = simulation.account.snapshot();
    let deployed = roll_back(&simulation, "first").await;
    let Status::Failed { error, cause } = &deployed.execution.status else {
        panic!("only a promotion succeeds")
    };
    assert_eq!(error, "NeedsAttention");
    assert!(cause.contains("had already been promoted"), "{cause}");
    assert_eq!(
        simulation.account.differences_since(&promoted),
        Vec::<String>::new()
    );
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_was_stopped_anywhere_before_its_promotion_can_be_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("2.0.0", "2.0.0-bad")] tag: &str,
) {
    let options = serin_sim::world::Options {
        scaling: Some((2, 10)),
        ..on.options()
    };
    for states in 3.. {
        let simulation = Simulation::with(on, &options);
        let mut execution = simulation.start("first", request(tag, json!({})));
        for _ in 0..states {
            simulation.step(&mut execution).await;
        }
        let last = execution.path.last().cloned().unwrap();
        if !execution.is_running() || last == "Clean up behind the new version" {
            break;
        }
        execution.abort();
        let by_hand = roll_back(&simulation, "first").await;
        by_hand
            .assert_rolled_back("a person asked for it")
            .assert_stable_has_all_traffic()
            .assert_no_request_was_lost();
    }
}

//! What a deployment has left that needs a person, and the next deployment of the service.

use rstest::rstest;
use serde_json::json;
use serin_sim::{Fault, FaultKind, Which};

use super::{On, Simulation, arn, request};

/// A deployment that could not remove its canary.
async fn with_leftovers(on: On) -> Simulation {
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
    simulation
        .account
        .set_execution(&arn("first"), "FAILED".into());
    simulation
}

#[rstest]
#[tokio::test]
async fn every_leftover_has_its_arn_what_it_does_and_a_command(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "DeleteService",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let deployed = simulation.deploy(request("2.0.0-bad", json!({}))).await;
    deployed.assert_needs_attention("");
    let left = deployed.report().left;
    assert!(left.len() >= 4, "{left:#?}");
    let mut commands: Vec<_> = left.iter().map(|left| &left.command).collect();
    commands.sort();
    commands.dedup();
    assert_eq!(commands.len(), left.len(), "one command each");
    for leftover in &left {
        assert!(
            leftover.arn.split(':').count() >= 6 && leftover.arn.starts_with("arn:aws:"),
            "{leftover:?}"
        );
        assert!(leftover.what.contains(' '), "{leftover:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_new_deployment_on_top_of_leftovers_is_refused_with_the_same_list(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = with_leftovers(on).await;
    let before = simulation.account.snapshot();
    let second = simulation.start("second", request("3.0.0", json!({})));
    let refused = simulation.finish(second).await;
    for part in [
        on.commands()[1],
        "arn:aws:",
        "leftovers: remove",
        &arn("first"),
    ] {
        refused.assert_refused("LeftoversFound", part);
    }
    assert_eq!(
        simulation.account.differences_since(&before),
        Vec::<String>::new()
    );
}

#[rstest]
#[tokio::test]
async fn a_new_deployment_that_is_told_to_has_the_leftovers_removed_first(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = with_leftovers(on).await;
    simulation.account.heal();
    let more = json!({ "leftovers": "remove" });
    let planning = simulation
        .invoke("plan-deployment", "second", request("3.0.0", more.clone()))
        .await
        .unwrap_err();
    assert_eq!(planning.error, "LeftoversBeingRemoved");
    simulation.account.clock().advance(300);
    let recovered = simulation.sweep().await;
    recovered[0].assert_recovered();
    let second = simulation.start("second", request("3.0.0", more));
    simulation
        .finish(second)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[rstest]
#[tokio::test]
async fn leftovers_that_cannot_be_removed_are_named_again_and_the_deployment_is_refused(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = with_leftovers(on).await;
    let more = json!({ "leftovers": "remove" });
    let plan = || simulation.invoke("plan-deployment", "second", request("3.0.0", more.clone()));
    assert_eq!(plan().await.unwrap_err().error, "LeftoversBeingRemoved");
    simulation.account.clock().advance(300);
    let recovered = simulation.sweep().await;
    recovered[0].assert_needs_attention("the rollback cannot go on");
    let refused = plan().await.unwrap_err();
    assert_eq!(refused.error, "LeftoversFound");
    assert!(
        refused.cause.contains(on.commands()[1]),
        "{}",
        refused.cause
    );
}

//! Several deployments of one service: who goes on, who waits, who is refused, and what is told of it.

use rstest::rstest;
use serde_json::{Value, json};
use serin::Notice;
use serin::notice::NoticePhase;
use serin::state::WaitsFor;
use serin_sim::state_machine::Execution;
use serin_sim::{Fault, FaultKind, Which};

use super::{On, Simulation, arn, request};

fn wishing(tag: &str, on_conflict: &str) -> Value {
    request(tag, json!({ "onConflict": on_conflict }))
}

/// A simulation with a deployment whose canary has its first share of the traffic.
async fn with_one_under_way(on: On, more: Value) -> (Simulation, Execution) {
    let simulation = Simulation::new(on);
    let mut first = simulation.start("first", request("2.0.0", more));
    simulation
        .run_until(&mut first, "Check the canary's health")
        .await;
    (simulation, first)
}

/// A deployment that starts a second later, so that it is newer.
fn newer(simulation: &Simulation, name: &str, request: Value) -> Execution {
    simulation.account.clock().advance(1);
    simulation.start(name, request)
}

fn notices(simulation: &Simulation, name: &str) -> Vec<Notice> {
    let events = simulation.account.look(|world| world.events().to_vec());
    let notices = events
        .into_iter()
        .map(|event| serde_json::from_value::<Notice>(event.detail).unwrap());
    notices
        .filter(|notice| notice.execution.as_str() == arn(name))
        .collect()
}

#[rstest]
#[tokio::test]
async fn of_three_in_a_row_the_later_two_are_refused_if_they_do_not_wish_otherwise(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let second = newer(&simulation, "second", request("3.0.0", json!({})));
    let third = newer(&simulation, "third", wishing("4.0.0", "reject"));
    let ended = simulation.finish_all(vec![first, second, third]).await;
    ended[0].assert_promoted().assert_no_request_was_lost();
    for refused in &ended[1..3] {
        refused.assert_refused("AnotherDeploymentInProgress", &arn("first"));
    }
}

#[rstest]
#[tokio::test]
async fn of_three_in_a_row_that_queue_the_newest_goes_on_when_the_first_has_ended(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let second = newer(&simulation, "second", wishing("3.0.0", "queue"));
    let third = newer(&simulation, "third", wishing("4.0.0", "queue"));
    let ended = simulation.finish_all(vec![first, second, third]).await;
    ended[0].assert_promoted();
    ended[1].assert_refused("Superseded", &arn("third"));
    ended[2].assert_promoted().assert_no_request_was_lost();
    let waited = notices(&simulation, "third");
    let [first_told, second_told, ..] = waited.as_slice() else {
        panic!("{waited:?}")
    };
    let NoticePhase::Waiting {
        waits_for, behind, ..
    } = &first_told.phase
    else {
        panic!("{first_told:?}")
    };
    assert_eq!(*waits_for, WaitsFor::Deployment);
    assert_eq!(behind.as_ref().unwrap().as_str(), arn("first"));
    let NoticePhase::Planned { deadline_at, .. } = &second_told.phase else {
        panic!("it is told once that it waits: {second_told:?}")
    };
    assert_eq!(
        deadline_at.as_second() - second_told.at.as_second(),
        14_400,
        "the deadline counts from when it begins"
    );
}

#[rstest]
#[tokio::test]
async fn of_three_in_a_row_that_supersede_the_first_is_rolled_back_and_the_newest_goes_on(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let second = newer(&simulation, "second", wishing("3.0.0", "supersede"));
    let third = newer(&simulation, "third", wishing("4.0.0", "supersede"));
    let ended = simulation.finish_all(vec![second, third, first]).await;
    ended[0].assert_refused("Superseded", &arn("third"));
    ended[1].assert_promoted().assert_no_request_was_lost();
    ended[2].assert_stopped();
    let told = notices(&simulation, "first");
    let last = told.last().unwrap();
    assert!(
        matches!(&last.phase, NoticePhase::RolledBack { error } if error.as_deref() == Some("Superseded")),
        "{last:?}"
    );
    assert!(last.sentence.contains("which is newer"), "{last:?}");
}

#[rstest]
#[tokio::test]
async fn what_is_superseded_leaves_no_trace(#[values(On::AppMesh, On::Alb)] on: On) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    // The newer one is bad, so that in the end nothing must be different.
    let second = newer(&simulation, "second", wishing("3.0.0-bad", "supersede"));
    let ended = simulation.finish_all(vec![second, first]).await;
    ended[0]
        .assert_rolled_back("percent")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    ended[1].assert_stopped();
}

#[rstest]
#[tokio::test]
async fn a_second_wish_for_the_same_image_is_refused_whatever_it_wishes(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("reject", "queue", "supersede")] on_conflict: &str,
) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let second = newer(&simulation, "second", wishing("3.0.0", "queue"));
    let same = newer(&simulation, "same", wishing("2.0.0", on_conflict));
    let again = newer(&simulation, "again", wishing("3.0.0", on_conflict));
    let ended = simulation
        .finish_all(vec![first, second, same, again])
        .await;
    ended[0].assert_promoted();
    ended[1].assert_promoted();
    ended[2].assert_refused("AlreadyDeploying", &arn("first"));
    ended[3].assert_refused("AlreadyDeploying", &arn("second"));
}

#[rstest]
#[tokio::test]
async fn who_waits_and_is_stopped_is_in_nobodys_way(#[values(On::AppMesh, On::Alb)] on: On) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let mut second = newer(&simulation, "second", wishing("3.0.0", "queue"));
    simulation.run_until(&mut second, "Wait for its turn").await;
    simulation.abort(&mut second, "second");
    let ended = simulation.finish_all(vec![first]).await;
    ended[0].assert_promoted();
    // It does not even wish to wait.
    let third = newer(&simulation, "third", request("4.0.0", json!({})));
    let ended = simulation.finish_all(vec![third]).await;
    ended[0].assert_promoted();
}

#[rstest]
#[tokio::test]
async fn when_the_running_one_dies_who_waits_goes_on_after_its_recovery(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, mut first) = with_one_under_way(on, json!({})).await;
    let mut second = newer(&simulation, "second", wishing("3.0.0", "queue"));
    simulation.run_until(&mut second, "Wait for its turn").await;
    simulation.abort(&mut first, "first");
    let recovery = simulation.start_recovery("rule-first", json!({ "recover": arn("first") }));
    let ended = simulation.finish_all(vec![second, recovery]).await;
    ended[0].assert_promoted().assert_no_request_was_lost();
    ended[1].assert_ended("Promoted", "Recovered");
}

#[rstest]
#[tokio::test]
async fn what_is_being_promoted_is_not_superseded_but_waited_for(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, mut first) = with_one_under_way(on, json!({})).await;
    simulation
        .run_until(&mut first, "Is the clean-up finished?")
        .await;
    let second = newer(&simulation, "second", wishing("3.0.0", "supersede"));
    let ended = simulation.finish_all(vec![second, first]).await;
    ended[0].assert_promoted().assert_no_request_was_lost();
    ended[1].assert_promoted();
}

#[rstest]
#[tokio::test]
async fn a_frozen_deployment_is_superseded_too(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let frozen = request("2.0.0-bad", json!({ "onUnhealthy": "freeze" }));
    let mut first = simulation.start("first", frozen);
    simulation.run_until(&mut first, "Ask a person").await;
    let second = newer(&simulation, "second", wishing("3.0.0", "supersede"));
    let ended = simulation.finish_all(vec![second, first]).await;
    ended[0].assert_promoted().assert_no_request_was_lost();
    ended[1].assert_stopped();
}

#[rstest]
#[tokio::test]
async fn an_older_one_never_follows_a_newer_one_that_has_come_and_gone_meanwhile(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let mut second = newer(&simulation, "second", wishing("3.0.0", "queue"));
    simulation.run_until(&mut second, "Wait for its turn").await;
    let third = newer(&simulation, "third", wishing("4.0.0", "queue"));
    let ended = simulation.finish_all(vec![first, third]).await;
    ended[1].assert_promoted();
    let ended = simulation.finish_all(vec![second]).await;
    ended[0].assert_refused("Superseded", &arn("third"));
}

#[rstest]
#[tokio::test]
async fn nobody_waits_longer_than_the_request_says(#[values(On::AppMesh, On::Alb)] on: On) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    let impatient = json!({ "onConflict": "queue", "maxWaitSeconds": 60 });
    let second = newer(&simulation, "second", request("3.0.0", impatient));
    let ended = simulation.finish_all(vec![first, second]).await;
    ended[0].assert_promoted();
    ended[1].assert_refused("WaitedTooLong", "may wait 60 seconds");
}

#[rstest]
#[tokio::test]
async fn what_needs_a_person_is_neither_waited_for_nor_superseded(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values("queue", "supersede")] on_conflict: &str,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: on.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let first = simulation.start("first", request("2.0.0-bad", json!({})));
    let ended = simulation.finish_all(vec![first]).await;
    ended[0].assert_needs_attention("");
    let second = newer(&simulation, "second", wishing("3.0.0", on_conflict));
    let ended = simulation.finish_all(vec![second]).await;
    ended[0].assert_refused("LeftoversFound", &arn("first"));
}

#[rstest]
#[case("UpdateItem", FaultKind::AnswerLost)]
#[case("UpdateItem", FaultKind::Throttled)]
#[case("GetItem", FaultKind::Throttled)]
#[case("StopExecution", FaultKind::AnswerLost)]
#[case("StopExecution", FaultKind::Throttled)]
#[case("DescribeExecution", FaultKind::Throttled)]
#[tokio::test]
async fn a_call_that_fails_while_another_makes_room_is_made_again(
    #[case] operation: &'static str,
    #[case] kind: FaultKind,
    #[values(1, 2, 3)] times: usize,
) {
    let (simulation, first) = with_one_under_way(On::Alb, json!({})).await;
    let mut second = newer(&simulation, "second", wishing("3.0.0", "supersede"));
    simulation.account.inject(Fault {
        operation,
        which: Which::Next(times),
        kind,
    });
    simulation.run_until(&mut second, "Wait for its turn").await;
    let ended = simulation.finish_all(vec![second, first]).await;
    ended[0].assert_promoted().assert_no_request_was_lost();
    ended[1].assert_stopped();
}

#[rstest]
#[tokio::test]
async fn one_that_cannot_be_stopped_makes_room_by_itself(#[values(On::AppMesh, On::Alb)] on: On) {
    let (simulation, first) = with_one_under_way(on, json!({})).await;
    simulation.account.inject(Fault {
        operation: "StopExecution",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    let second = newer(&simulation, "second", wishing("3.0.0", "supersede"));
    let ended = simulation.finish_all(vec![second, first]).await;
    ended[0].assert_ended("CanaryRolledBack", "Rolled back");
    ended[1].assert_rolled_back("");
    let third = newer(&simulation, "third", request("4.0.0", json!({})));
    let ended = simulation.finish_all(vec![third]).await;
    ended[0].assert_promoted();
}

#[rstest]
#[tokio::test]
async fn what_stable_runs_already_is_deployed_again_unless_the_request_says_otherwise(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let first = simulation.start("first", request("2.0.0", json!({})));
    simulation.finish_all(vec![first]).await[0].assert_promoted();
    let thoughtless = request("2.0.0", json!({ "ifUnchanged": "refuse" }));
    let second = newer(&simulation, "second", thoughtless);
    let ended = simulation.finish_all(vec![second]).await;
    ended[0].assert_refused("NothingChanged", "is this version already");
    let third = newer(&simulation, "third", request("2.0.0", json!({})));
    let ended = simulation.finish_all(vec![third]).await;
    ended[0].assert_promoted();
}

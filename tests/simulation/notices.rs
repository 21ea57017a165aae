//! What is told of a deployment: on the event bus, and in its history.

use notify::http::HttpWeb;
use notify::{NoticeEvent, notify};
use rstest::rstest;
use serde_json::{Value, json};
use serin::Notice;
use serin::notice::{Decided, NoticePhase};
use serin_aws::Adapters;
use serin_sim::{Fault, FaultKind, Which, world};

use crate::receiver::Receiver;

use super::{On, Simulation, arn, request};

/// The notices on the event bus, in order.
fn told(simulation: &Simulation) -> Vec<Notice> {
    let events = simulation.account.look(|world| world.events().to_vec());
    for event in &events {
        assert_eq!(
            (event.source.as_str(), event.detail_type.as_str()),
            ("serin", "Deployment Notice")
        );
    }
    events
        .into_iter()
        .map(|event| serde_json::from_value(event.detail).unwrap())
        .collect()
}

/// The history of an execution in the ledger, in order.
fn history(simulation: &Simulation, name: &str) -> Vec<Notice> {
    let id = format!("history#{}", arn(name));
    let item = simulation.account.item(world::LEDGER_TABLE, &id);
    let item = item.expect("the deployment has a history");
    let mut notices: Vec<Notice> = item
        .iter()
        .filter(|(name, _)| !["id", "expiresAt"].contains(&name.as_str()))
        .map(|(name, notice)| {
            let notice: Notice = serde_json::from_str(notice.as_s().unwrap()).unwrap();
            assert_eq!(*name, notice.id);
            notice
        })
        .collect();
    notices.sort_by_key(Notice::place);
    notices
}

fn phases(notices: &[Notice]) -> Vec<String> {
    let phase = |notice| serde_json::to_value(notice).unwrap()["phase"].clone();
    let phases = notices.iter().map(phase);
    phases
        .map(|phase| phase.as_str().unwrap().to_owned())
        .collect()
}

fn two_steps() -> Value {
    json!({ "plan": { "steps": [
        { "weightPercent": 25, "holdSeconds": 120 }, { "weightPercent": 100, "holdSeconds": 120 }] } })
}

#[rstest]
#[tokio::test]
async fn every_phase_of_a_promotion_is_told_once_and_kept(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0", two_steps()))
        .await
        .assert_promoted();
    let told = told(&simulation);
    assert_eq!(
        phases(&told),
        [
            "planned", "canaryUp", "weight", "verdict", "weight", "verdict", "promoted"
        ]
    );
    let weights: Vec<_> = told
        .iter()
        .map(|notice| notice.weight_percent.tenths())
        .collect();
    assert_eq!(weights, [0, 0, 250, 250, 1000, 1000, 1000]);
    assert!(told.iter().all(|notice| notice.by.is_none()));
    let service = told[0].service.as_ref().unwrap();
    assert_eq!(
        service.to_string(),
        format!("{}/{}", world::CLUSTER, world::SERVICE)
    );
    assert_eq!(history(&simulation, "first"), told);
}

#[rstest]
#[tokio::test]
async fn a_rollback_is_told_with_the_verdict_and_its_numbers(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0-bad", two_steps()))
        .await
        .assert_rolled_back("");
    let told = told(&simulation);
    assert_eq!(
        phases(&told),
        [
            "planned",
            "canaryUp",
            "weight",
            "verdict",
            "rollingBack",
            "rolledBack"
        ]
    );
    let NoticePhase::Verdict { verdict, next } = &told[3].phase else {
        panic!("{:?}", told[3]);
    };
    assert_eq!(next, "rollBack");
    let found = verdict
        .findings
        .iter()
        .find(|finding| finding.name == "comparison.errors");
    let counts = found.and_then(|found| found.comparison).unwrap();
    assert!(
        counts.canary_errors > 50 && counts.stable_errors == 0,
        "{counts:?}"
    );
    assert!(
        told[4]
            .sentence
            .starts_with("stable has all the traffic again: ")
    );
    assert_eq!(told[4].weight_percent, serin::Weight::ZERO);
}

#[rstest]
#[tokio::test]
async fn a_refused_request_is_told_with_its_service(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation
        .deploy(request("2.0.0", json!({ "deadlineSeconds": 1 })))
        .await
        .assert_refused("InvalidRequest", "deadlineSeconds");
    let told = told(&simulation);
    let [refused] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(
        refused.phase,
        NoticePhase::Refused {
            error: "InvalidRequest".into()
        }
    );
    assert!(
        refused.sentence.contains("deadlineSeconds"),
        "{}",
        refused.sentence
    );
    assert_eq!(
        refused.service.as_ref().unwrap().service.as_str(),
        world::SERVICE
    );
}

#[rstest]
#[tokio::test]
async fn a_planning_that_breaks_off_is_told_as_refused(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "DescribeTaskDefinition",
        which: Which::From(1),
        kind: FaultKind::Denied,
    });
    simulation.deploy(request("2.0.0", two_steps())).await;
    let told = told(&simulation);
    assert_eq!(phases(&told), ["refused"]);
    assert_eq!(
        told[0].phase,
        NoticePhase::Refused {
            error: "AwsDenied".into()
        }
    );
}

/// One event for a question: the state machine's, which has the token; it has the shape of a notice all the same.
#[rstest]
#[tokio::test]
async fn a_frozen_deployment_that_a_person_lets_go_on_tells_who_decided(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.lambdas.answer_after(300, json!("promote"));
    let mut frozen = two_steps();
    frozen["onUnhealthy"] = json!("freeze");
    simulation
        .deploy(request("2.0.0-bad", frozen))
        .await
        .assert_promoted();
    let kept = history(&simulation, "first");
    let at = phases(&kept)
        .iter()
        .position(|phase| phase == "frozen")
        .expect("it is kept");
    assert!(
        matches!(
            kept[at + 1].phase,
            NoticePhase::Weight {
                decided: Some(Decided::ByAPerson),
                ..
            }
        ),
        "{:?}",
        kept[at + 1]
    );
    assert!(!phases(&told(&simulation)).contains(&"frozen".to_owned()));
    let asked = &simulation.lambdas.asked()[0];
    let notice: Notice = serde_json::from_value(asked.clone()).unwrap();
    assert_eq!(
        (&notice.id, &notice.sentence),
        (&kept[at].id, &kept[at].sentence)
    );
    assert!(
        matches!(
            &notice.phase,
            NoticePhase::Frozen {
                token: Some(_),
                commands: Some(_),
                ..
            }
        ),
        "{notice:?}"
    );
}

#[rstest]
#[tokio::test]
async fn whoever_cannot_be_told_stops_no_deployment(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(FaultKind::Denied, FaultKind::Throttled, FaultKind::ServerError)] kind: FaultKind,
) {
    let simulation = Simulation::new(on);
    simulation.account.inject(Fault {
        operation: "PutEvents",
        which: Which::From(1),
        kind,
    });
    simulation
        .deploy(request("2.0.0", two_steps()))
        .await
        .assert_promoted();
    assert_eq!(told(&simulation), []);
    assert_eq!(history(&simulation, "first").len(), 7);
}

#[rstest]
#[tokio::test]
async fn what_runs_twice_tells_the_same_under_the_same_name(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    simulation.lambdas.lose_every_first_answer();
    simulation
        .deploy(request("2.0.0", two_steps()))
        .await
        .assert_promoted();
    let told = told(&simulation);
    let mut once = told.clone();
    once.dedup_by(|one, other| one.id == other.id);
    assert!(told.len() > once.len(), "nothing was told twice");
    assert_eq!(
        phases(&once),
        [
            "planned", "canaryUp", "weight", "verdict", "weight", "verdict", "promoted"
        ]
    );
    assert_eq!(history(&simulation, "first").len(), once.len());
}

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:serin-notices";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:releases";
/// The notices of a whole deployment through the real HTTP client, to a server that is down at first.
#[rstest]
#[case("2.0.0", "promoted")]
#[case("2.0.0-bad", "rolledBack")]
#[tokio::test]
async fn slack_teams_webhooks_and_mail_are_told_how_a_deployment_went(
    #[case] tag: &str,
    #[case] ending: &str,
) {
    let simulation = Simulation::new(On::Alb);
    simulation.deploy(request(tag, two_steps())).await;
    let receiver = Receiver::start().await;
    let account = &simulation.account;
    let mut channels = receiver.channels();
    let mail = json!({"kind": "sns", "topic": TOPIC});
    channels["channels"].as_array_mut().unwrap().push(mail);
    account.change(|world| world.keep_secret(SECRET, &channels.to_string()));
    let adapters = Adapters::new(account.clients(), world::LEDGER_TABLE)
        .with_channels(Some(SECRET.to_owned()));
    let web = HttpWeb::new().unwrap();
    let notices = told(&simulation);
    for notice in &notices {
        let event = NoticeEvent {
            detail: notice.clone(),
        };
        notify(
            &adapters.channels,
            &adapters.deliveries,
            &adapters.topics,
            &web,
            event,
        )
        .await
        .unwrap();
    }
    assert_eq!(phases(&notices).last().map(String::as_str), Some(ending));

    assert_eq!(receiver.webhooks(), notices);
    assert_eq!(receiver.cards(), notices.len());
    let latest = receiver.thread(notices.len());
    let words = match ending {
        "promoted" => "promoted",
        _ => "rolled back",
    };
    assert!(latest.contains(words), "{latest}");
    let mails = account.look(|world| world.mails().to_vec());
    assert_eq!(mails.len(), notices.len());
    assert!(mails.last().unwrap().subject.ends_with(words));
}

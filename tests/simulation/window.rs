//! Change windows: when a deployment may start.

use rstest::rstest;
use serde_json::{Value, json};
use serin::Notice;
use serin::notice::NoticePhase;

use super::{On, Simulation, arn, request};

/// The simulation begins on Saturday, 2026-11-21, at 14:00 in Berlin.
fn workdays(more: &Value) -> Value {
    let mut window = json!({
        "days": ["mon", "tue", "wed", "thu", "fri"], "hours": "09:00-17:00", "timeZone": "Europe/Berlin" });
    let fields = window.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    window
}

fn within(window: &Value) -> Value {
    json!({ "window": window })
}

fn notices(simulation: &Simulation) -> Vec<Notice> {
    let events = simulation.account.look(|world| world.events().to_vec());
    let notices = events.into_iter();
    notices
        .map(|event| serde_json::from_value(event.detail).unwrap())
        .collect()
}

#[rstest]
#[tokio::test]
async fn outside_its_window_a_deployment_waits_until_it_opens(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let request = request("2.0.0", within(&workdays(&json!({}))));
    simulation
        .deploy(request)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
    let told = notices(&simulation);
    let NoticePhase::Waiting { opens_at, .. } = &told[0].phase else {
        panic!("{:?}", told[0])
    };
    assert_eq!(
        opens_at.unwrap().to_string(),
        "2026-11-23T08:00:00Z",
        "Monday at nine in Berlin"
    );
    assert!(
        told[0]
            .sentence
            .contains("Monday 2026-11-23 09:00 Europe/Berlin"),
        "{:?}",
        told[0]
    );
    let NoticePhase::Planned { .. } = &told[1].phase else {
        panic!("it is told once that it waits: {:?}", told[1])
    };
    assert_eq!(told[1].at.to_string(), "2026-11-23T08:00:00Z");
}

#[rstest]
#[tokio::test]
async fn outside_its_window_a_deployment_is_refused_if_it_wishes_so_and_told_when_it_opens(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let refuse = workdays(&json!({ "outside": "refuse" }));
    simulation
        .deploy(request("2.0.0", within(&refuse)))
        .await
        .assert_refused("OutsideWindow", "opens on Monday 2026-11-23 09:00");
    assert_eq!(simulation.traces(), Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn a_wait_that_would_be_too_long_is_refused_at_once(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let fridays = json!({ "window": { "days": ["fri"], "timeZone": "Europe/Berlin" } });
    simulation
        .deploy(request("2.0.0", fridays))
        .await
        .assert_refused("OutsideWindow", "may wait 259200 seconds only");
}

#[rstest]
#[tokio::test]
async fn an_override_begins_at_once_and_its_reason_is_kept(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let overridden = workdays(&json!({ "override": "nobody can pay", "outside": "refuse" }));
    simulation
        .deploy(request("2.0.0", within(&overridden)))
        .await
        .assert_promoted();
    let told = notices(&simulation);
    let NoticePhase::Planned { notes, .. } = &told[0].phase else {
        panic!("{:?}", told[0])
    };
    assert!(
        notes
            .iter()
            .any(|note| note.contains("outside its change window")
                && note.contains("nobody can pay")),
        "{notes:?}"
    );
}

#[rstest]
#[tokio::test]
async fn of_several_that_wait_for_their_window_the_newest_goes_on(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let more = json!({ "window": workdays(&json!({})), "onConflict": "queue" });
    let mut first = simulation.start("first", request("2.0.0", more.clone()));
    simulation.run_until(&mut first, "Wait for its turn").await;
    simulation.account.clock().advance(1);
    let second = simulation.start("second", request("3.0.0", more));
    let ended = simulation.finish_all(vec![first, second]).await;
    ended[0].assert_refused("Superseded", &arn("second"));
    ended[1].assert_promoted();
}

#[rstest]
#[tokio::test]
async fn a_deployment_that_has_begun_goes_on_when_its_window_closes(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    // Two minutes are left of it.
    let closing = json!({ "window": { "hours": "09:00-14:02", "timeZone": "Europe/Berlin", "outside": "refuse" } });
    simulation
        .deploy(request("2.0.0", closing))
        .await
        .assert_promoted();
}

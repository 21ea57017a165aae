use aws_sdk_cloudwatch::types::StateValue;
use serin::Weight;
use serin::ports::{AlarmState, HealthSignals, Reading, Times, TrafficRouter};
use serin::progress::Attachment;
use serin::verdict::Window;
use serin_sim::world::Options;
use serin_sim::{Fault, FaultKind, Which};

use crate::{Scene, percent};

/// The last whole minutes that CloudWatch has for certain.
fn window(scene: &Scene, minutes: i64) -> Window {
    let end = (scene.account.clock().now().as_second() / 60 - 2) * 60;
    let at = |second| jiff::Timestamp::from_second(second).unwrap();
    Window {
        start: at(end - minutes * 60),
        end: at(end),
    }
}

fn value(reading: &Reading) -> f64 {
    match reading {
        Reading::Value { value, .. } => *value,
        other => panic!("no value: {other:?}"),
    }
}

#[tokio::test]
async fn stable_is_measured_before_there_is_a_canary() {
    let scene = Scene::new().await;
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, None, Times::only(window(&scene, 5)))
        .await
        .unwrap();
    let counts = measured.requests.unwrap();
    assert!(
        (value(&counts.requests.reading) - 30_000.0).abs() < 300.0,
        "{counts:?}"
    );
    assert!(
        value(&counts.errors.reading).abs() < f64::EPSILON,
        "{counts:?}"
    );
    assert_eq!(measured.stable_requests, None);
    assert_eq!(scene.account.count_calls("GetMetricData"), 1);
}

#[tokio::test]
async fn a_canary_is_measured_beside_stable_with_one_call() {
    let mut scene = Scene::with(&Options {
        tasks: 2,
        ..Options::default()
    })
    .await;
    scene.deployment.canary.images = [(
        serin::ContainerName::new("app"),
        serin_sim::world::app_image("2.0.0-bad"),
    )]
    .into();
    scene.created(2).await;
    scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(50.0))
        .await
        .unwrap();
    scene.wait(600);
    let calls = scene.account.count_calls("GetMetricData");
    let measured = scene
        .aws
        .signals
        .measure(
            &scene.deployment,
            Some(&Attachment::default()),
            Times::only(window(&scene, 4)),
        )
        .await
        .unwrap();
    let (canary, stable) = (
        measured.requests.unwrap(),
        measured.stable_requests.unwrap(),
    );
    let rate = value(&canary.errors.reading) / value(&canary.requests.reading);
    assert!((rate - 0.1).abs() < 0.03, "{rate}");
    assert!(value(&stable.errors.reading).abs() < f64::EPSILON);
    assert_eq!(scene.account.count_calls("GetMetricData"), calls + 1);
}

#[tokio::test]
async fn answers_in_pages_are_put_together() {
    let scene = Scene::new().await;
    let whole = scene
        .aws
        .signals
        .measure(&scene.deployment, None, Times::only(window(&scene, 5)))
        .await
        .unwrap();
    scene
        .account
        .settings(|settings| settings.metric_page_size = 1);
    assert_eq!(
        scene
            .aws
            .signals
            .measure(&scene.deployment, None, Times::only(window(&scene, 5)))
            .await
            .unwrap(),
        whole
    );
}

#[tokio::test]
async fn silence_and_half_answers_are_neither_zero_nor_health() {
    let scene = Scene::new().await;
    scene
        .account
        .settings(|settings| settings.metrics_partial = true);
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, None, Times::only(window(&scene, 5)))
        .await
        .unwrap();
    assert_eq!(
        measured.requests.unwrap().errors.reading,
        Reading::Incomplete("PartialData".into())
    );
    scene.account.settings(|settings| {
        settings.metrics_partial = false;
        settings.metrics_silent = true;
    });
    let measured = scene
        .aws
        .signals
        .measure(
            &scene.deployment,
            Some(&Attachment::default()),
            Times::only(window(&scene, 5)),
        )
        .await
        .unwrap();
    let counts = measured.requests.unwrap();
    assert_eq!(
        (counts.requests.reading, counts.errors.reading),
        (Reading::NoData, Reading::NoData)
    );
}

#[tokio::test]
async fn an_empty_window_and_a_plan_without_limits_ask_nothing() {
    let mut scene = Scene::new().await;
    let now = window(&scene, 1).end;
    let measured = scene
        .aws
        .signals
        .measure(
            &scene.deployment,
            None,
            Times::only(Window {
                start: now,
                end: now,
            }),
        )
        .await
        .unwrap();
    assert_eq!(measured.requests.unwrap().requests.reading, Reading::NoData);
    scene.deployment.checks.error_rate_percent = None;
    scene.deployment.checks.judge = None;
    let measured = scene
        .aws
        .signals
        .measure(
            &scene.deployment,
            Some(&Attachment::default()),
            Times::only(window(&scene, 5)),
        )
        .await
        .unwrap();
    assert_eq!(
        (
            measured.requests,
            measured.stable_requests,
            measured.queries.len()
        ),
        (None, None, 0)
    );
    assert_eq!(scene.account.count_calls("GetMetricData"), 0);
}

#[tokio::test]
async fn a_query_of_the_request_sees_each_sides_own_names() {
    let mut scene = Scene::new().await;
    scene.deployment.checks.queries = serde_json::from_value(serde_json::json!([{
        "name": "latency", "max": 500,
        "metricDataQueries": [{"Id": "m1", "MetricStat": {"Period": 60, "Stat": "Maximum", "Metric": {
            "Namespace": "Team", "MetricName": "latency", "Dimensions": [{"Name": "Service", "Value": "{{canaryService}}"}]}}}]
    }]))
    .unwrap();
    let window = window(&scene, 5);
    let canary = scene.deployment.canary.service.to_string();
    for (minute, value) in [(0, 120.0), (1, 640.0), (2, 80.0)] {
        let at = window.start.as_second() + minute * 60;
        scene
            .account
            .put_metric_at("Team", "latency", &[("Service", &canary)], value, at);
        scene.account.put_metric_at(
            "Team",
            "latency",
            &[("Service", "checkout")],
            value / 10.0,
            at,
        );
    }
    let measure = async |side| {
        scene
            .aws
            .signals
            .measure(&scene.deployment, side, Times::only(window))
            .await
            .unwrap()
            .queries
            .remove(0)
    };
    let attachment = Attachment::default();
    let measured = measure(Some(&attachment)).await;
    assert_eq!(
        measured.reading,
        Reading::Value {
            value: 640.0,
            datapoints: 3
        }
    );
    assert_eq!(
        measured.query,
        format!("Maximum of latency {{Service={canary}}} in Team")
    );
    assert!((value(&measure(None).await.reading) - 64.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn alarms_of_both_kinds_are_read_in_the_order_of_their_names() {
    let scene = Scene::new().await;
    scene
        .account
        .set_alarm("5xx", StateValue::Alarm, "Threshold Crossed");
    scene
        .account
        .set_alarm("quiet", StateValue::InsufficientData, "no data");
    scene
        .account
        .set_composite_alarm("all", StateValue::Ok, "fine");
    let names = ["all", "nothing", "5xx", "quiet"].map(str::to_owned);
    let readings = scene.aws.signals.alarms(&names).await.unwrap();
    assert_eq!(
        readings
            .iter()
            .map(|reading| reading.name.as_str())
            .collect::<Vec<_>>(),
        names
    );
    let states: Vec<_> = readings.iter().map(|reading| reading.state).collect();
    assert_eq!(
        states,
        [
            AlarmState::Ok,
            AlarmState::Missing,
            AlarmState::Alarm,
            AlarmState::InsufficientData
        ]
    );
    assert_eq!(readings[2].reason, "Threshold Crossed");
    let calls = scene.account.count_calls("DescribeAlarms");
    assert_eq!(scene.aws.signals.alarms(&[]).await, Ok(vec![]));
    assert_eq!(scene.account.count_calls("DescribeAlarms"), calls);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_an_error_and_not_a_reading() {
    let scene = Scene::new().await;
    scene.account.inject(Fault {
        operation: "GetMetricData",
        which: Which::Always,
        kind: FaultKind::Throttled,
    });
    let error = scene
        .aws
        .signals
        .measure(&scene.deployment, None, Times::only(window(&scene, 5)))
        .await
        .unwrap_err();
    assert!(
        matches!(error, serin::PortError::Throttled { .. }),
        "{error:?}"
    );
}

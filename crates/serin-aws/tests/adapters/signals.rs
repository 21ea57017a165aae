use aws_sdk_cloudwatch::types::StateValue;
use serin::ports::{
    AlarmState, HealthSignals, Interval, Reading, ResponseTimes, Series, SeriesOfMetrics, Times,
    TrafficRouter,
};
use serin::progress::Attachment;
use serin::verdict::Window;
use serin::{PortError, SlowThreshold, Weight};
use serin_sim::world::Options;
use serin_sim::{Fault, FaultKind, TrimmedCounts, Which};

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
    let scene = half_to_a_bad_canary().await;
    let calls = scene.account.count_calls("GetMetricData");
    let measured = scene
        .aws
        .signals
        .measure(
            &scene.deployment,
            Some((&Attachment::default()).into()),
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

/// A canary that fails a tenth of its half of the traffic.
async fn half_to_a_bad_canary() -> Scene {
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
    scene
}

/// The last minute as the step's window, and the last four to compare.
fn compared(scene: &Scene) -> Times {
    Times {
        window: Some(window(scene, 1)),
        compared: Some(window(scene, 4)),
    }
}

#[tokio::test]
async fn what_is_compared_reaches_further_back_than_the_window_and_comes_with_the_same_call() {
    let scene = half_to_a_bad_canary().await;
    let calls = scene.account.count_calls("GetMetricData");
    let attachment = Attachment::default();
    let times = compared(&scene);
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, Some((&attachment).into()), times)
        .await
        .unwrap();
    assert_eq!(scene.account.count_calls("GetMetricData"), calls + 1);
    let Some(Series::Intervals(intervals)) = measured.compared else {
        panic!("{:?}", measured.compared)
    };
    assert_eq!(intervals.len(), 4);
    let sum = |count: fn(&Interval) -> f64| intervals.iter().map(count).sum::<f64>();
    let canary = sum(|interval| interval.canary.unwrap().requests);
    let of_the_last = value(&measured.requests.unwrap().requests.reading);
    assert!(
        (canary - 4.0 * of_the_last).abs() < 0.05 * canary,
        "{canary} {of_the_last}"
    );
    let errors = sum(|interval| interval.canary.unwrap().errors);
    assert!((errors / canary - 0.1).abs() < 0.03, "{errors} of {canary}");
    assert!(sum(|interval| interval.stable.unwrap().errors).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_query_of_the_window_is_asked_apart_from_what_reaches_further_back() {
    let mut scene = half_to_a_bad_canary().await;
    scene.deployment.checks.queries = latency();
    let calls = scene.account.count_calls("GetMetricData");
    let (attachment, times) = (Attachment::default(), compared(&scene));
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, Some((&attachment).into()), times)
        .await
        .unwrap();
    assert_eq!(scene.account.count_calls("GetMetricData"), calls + 2);
    assert_eq!(measured.queries[0].reading, Reading::NoData);
    assert!(matches!(measured.compared, Some(Series::Intervals(_))));
}

#[tokio::test]
async fn a_comparison_whose_data_are_not_whole_says_so() {
    let scene = half_to_a_bad_canary().await;
    scene
        .account
        .settings(|settings| settings.metrics_partial = true);
    let (attachment, times) = (Attachment::default(), compared(&scene));
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, Some((&attachment).into()), times)
        .await
        .unwrap();
    assert_eq!(
        measured.compared,
        Some(Series::Incomplete("PartialData".into()))
    );
}

/// A query of a team's own metric.
fn latency() -> Vec<serin::request::Query> {
    serde_json::from_value(serde_json::json!([{
        "name": "latency", "max": 500,
        "metricDataQueries": [{"Id": "m1", "MetricStat": {"Period": 60, "Stat": "Maximum", "Metric": {
            "Namespace": "Team", "MetricName": "latency", "Dimensions": [{"Name": "Service", "Value": "{{canaryService}}"}]}}}]
    }]))
    .unwrap()
}

#[tokio::test]
async fn a_kayenta_metric_is_asked_of_both_sides_and_keeps_its_gaps() {
    let mut scene = half_to_a_bad_canary().await;
    let config = serde_json::json!({ "metrics": [{
        "name": "latency",
        "query": { "type": "cloudwatch", "metricDataQueries": latency()[0].metric_data_queries },
    }] });
    scene.deployment.checks.judge = Some(
        serde_json::from_value(serde_json::json!({ "kayenta": { "config": config } })).unwrap(),
    );
    let times = compared(&scene);
    let start = times.compared.unwrap().start.as_second();
    let canary = scene.deployment.canary.service.to_string();
    for (service, minute, value) in [
        (canary.as_str(), 0, 120.0),
        (canary.as_str(), 3, 80.0),
        ("checkout", 1, 12.0),
    ] {
        let dimensions = [("Service", service)];
        let at = start + 60 * minute;
        scene
            .account
            .put_metric_at("Team", "latency", &dimensions, value, at);
    }
    let attachment = Attachment::default();
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, Some((&attachment).into()), times)
        .await
        .unwrap();
    let Some(SeriesOfMetrics::Whole(metrics)) = measured.kayenta else {
        panic!("{:?}", measured.kayenta)
    };
    let said = |values: &Option<Vec<f64>>| format!("{:?}", values.as_ref().unwrap());
    assert_eq!(said(&metrics[0].canary), "[120.0, NaN, NaN, 80.0]");
    assert_eq!(said(&metrics[0].stable), "[NaN, 12.0, NaN, NaN]");
    // Before there is a canary, the pre-flight asks whether stable has it.
    let before = scene
        .aws
        .signals
        .measure(&scene.deployment, None, Times::only(window(&scene, 4)))
        .await
        .unwrap();
    assert!((value(&before.queries[0].reading) - 12.0).abs() < f64::EPSILON);
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
            Some((&Attachment::default()).into()),
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
            Some((&Attachment::default()).into()),
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
    scene.deployment.checks.queries = latency();
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
    let measured = measure(Some((&attachment).into())).await;
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
    assert!(matches!(error, PortError::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn the_response_times_of_stable_are_told_in_milliseconds_and_counted() {
    let scene = Scene::with(&Options::alb()).await;
    let times = async |asked: &[ResponseTimes]| {
        let window = window(&scene, 10);
        let signals = &scene.aws.signals;
        let measured = signals
            .response_times(&scene.deployment, asked, window)
            .await;
        measured.map(|all| {
            all.iter()
                .map(|one| value(&one.reading))
                .collect::<Vec<_>>()
        })
    };
    let percentiles = [
        ResponseTimes::Percentile(90.0),
        ResponseTimes::Percentile(99.0),
    ];
    let percentiles = times(&percentiles).await.unwrap();
    assert!((percentiles[0] - 80.0).abs() < 1e-6 && (percentiles[1] - 100.0).abs() < 1e-6);
    let counts = [
        ResponseTimes::Samples,
        ResponseTimes::Above(80.0),
        ResponseTimes::UpTo(80.0),
    ];
    let counted = times(&counts).await.unwrap();
    assert!((counted[1] / counted[0] - 0.08).abs() < 1e-3, "{counted:?}");
    assert!((counted[1] + counted[2] - counted[0]).abs() < 1e-6);
    scene
        .account
        .settings(|settings| settings.trimmed_counts = TrimmedCounts::Refused);
    let refused = times(&counts).await.unwrap_err();
    assert!(matches!(refused, PortError::Refused { .. }), "{refused}");
    assert!(refused.to_string().contains("TC(0.08:)"), "{refused}");
}

#[tokio::test]
async fn a_mesh_says_nothing_of_response_times() {
    let scene = Scene::new().await;
    let measured = scene
        .aws
        .signals
        .response_times(
            &scene.deployment,
            &[ResponseTimes::Samples],
            window(&scene, 10),
        )
        .await
        .unwrap();
    assert_eq!(measured[0].reading, Reading::NoData);
    assert_eq!(scene.account.count_calls("GetMetricData"), 0);
}

/// A canary behind a load balancer with half of the traffic, which is slower than stable.
async fn half_to_a_slow_canary(trimmed_counts: TrimmedCounts) -> (Scene, Attachment) {
    let mut scene = Scene::with(&Options {
        tasks: 2,
        ..Options::alb()
    })
    .await;
    scene.account.settings(|settings| {
        settings.latencies = vec![("2.0.0".into(), 0.075)];
        settings.trimmed_counts = trimmed_counts;
    });
    let attachment = scene.created(2).await;
    scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(50.0))
        .await
        .unwrap();
    scene.wait(600);
    let thresholds = [(90.0, 80.0), (99.0, 500.0)];
    scene.deployment.slow_thresholds = thresholds
        .map(|(percentile, ms)| SlowThreshold { percentile, ms })
        .into();
    (scene, attachment)
}

#[tokio::test]
async fn slow_requests_of_both_sides_are_counted_with_the_same_call() {
    for trimmed_counts in [TrimmedCounts::WithZeros, TrimmedCounts::WithoutZeros] {
        let (scene, attachment) = half_to_a_slow_canary(trimmed_counts).await;
        let calls = scene.account.count_calls("GetMetricData");
        let times = Times {
            window: Some(window(&scene, 1)),
            compared: Some(window(&scene, 4)),
        };
        let measured = scene
            .aws
            .signals
            .measure(&scene.deployment, Some((&attachment).into()), times)
            .await
            .unwrap();
        assert_eq!(scene.account.count_calls("GetMetricData"), calls + 1);
        let [Series::Intervals(tenth), Series::Intervals(none)] = &measured.slow[..] else {
            panic!("{:?}", measured.slow)
        };
        assert_eq!(tenth.len(), 4);
        for interval in tenth {
            let (canary, stable) = (interval.canary.unwrap(), interval.stable.unwrap());
            assert!(
                (canary.errors / canary.requests - 0.25).abs() < 0.01,
                "{canary:?}"
            );
            assert!(
                (stable.errors / stable.requests - 0.08).abs() < 0.01,
                "{stable:?}"
            );
        }
        // Nobody takes half a second: that is a zero, and no silence.
        for interval in none {
            assert!(interval.canary.unwrap().errors.abs() < f64::EPSILON);
            assert!(interval.stable.unwrap().errors.abs() < f64::EPSILON);
        }
    }
}

#[tokio::test]
async fn when_the_counts_of_slow_and_of_fast_requests_do_not_make_up_all_nothing_is_known() {
    let (scene, attachment) = half_to_a_slow_canary(TrimmedCounts::Silent).await;
    let times = Times {
        window: None,
        compared: Some(window(&scene, 4)),
    };
    let measured = scene
        .aws
        .signals
        .measure(&scene.deployment, Some((&attachment).into()), times)
        .await
        .unwrap();
    let Some(Series::Intervals(errors)) = &measured.compared else {
        panic!("{:?}", measured.compared)
    };
    assert!(errors.iter().all(|interval| interval.canary.is_some()));
    for series in &measured.slow {
        let Series::Intervals(intervals) = series else {
            panic!("{series:?}")
        };
        assert_eq!(intervals[..], [Interval::default(); 4]);
    }
}

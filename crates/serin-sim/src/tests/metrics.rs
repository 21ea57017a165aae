use aws_sdk_cloudwatch::operation::get_metric_data::GetMetricDataOutput;
use aws_sdk_cloudwatch::types::{
    Dimension, Metric, MetricDataQuery, MetricStat, StateValue, StatusCode,
};
use aws_smithy_types::DateTime;
use serin_aws::Clients;

use super::account;
use crate::Account;

fn query(id: &str, family: &str, class: &str, period: i32) -> MetricDataQuery {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let metric = Metric::builder()
        .namespace("ECS/ContainerInsights/Prometheus")
        .metric_name("envoy_http_downstream_rq_xx")
        .dimensions(dimension("ClusterName", "prod"))
        .dimensions(dimension("TaskDefinitionFamily", family))
        .dimensions(dimension("envoy_http_conn_manager_prefix", "ingress"))
        .dimensions(dimension("envoy_response_code_class", class));
    let stat = MetricStat::builder()
        .metric(metric.build())
        .period(period)
        .stat("Sum")
        .build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

fn expression(id: &str, text: &str) -> MetricDataQuery {
    MetricDataQuery::builder().id(id).expression(text).build()
}

async fn ask(
    account: &Account,
    clients: &Clients,
    queries: Vec<MetricDataQuery>,
) -> GetMetricDataOutput {
    let now = account.clock().now().as_second();
    let end = now - now % 60;
    clients
        .cloud_watch
        .get_metric_data()
        .start_time(DateTime::from_secs(end - 300))
        .end_time(DateTime::from_secs(end))
        .set_metric_data_queries(Some(queries))
        .send()
        .await
        .unwrap()
}

fn values(output: &GetMetricDataOutput, index: usize) -> &[f64] {
    output.metric_data_results()[index].values()
}

#[tokio::test]
async fn the_traffic_is_counted_by_response_class() {
    let account = account();
    let clients = account.clients();
    let output = ask(
        &account,
        &clients,
        vec![
            query("ok", "checkout", "2", 60),
            query("bad", "checkout", "5", 60),
        ],
    )
    .await;
    assert_eq!(values(&output, 0), [6000.0; 5]);
    assert_eq!(values(&output, 1), [0.0; 5]);
    assert_eq!(
        output.metric_data_results()[0].status_code(),
        Some(&StatusCode::Complete)
    );
}

#[tokio::test]
async fn a_bad_image_answers_with_errors() {
    let account = account();
    let clients = account.clients();
    account.settings(|settings| settings.error_rates = vec![("1.0.0".to_owned(), 0.25)]);
    account.clock().advance(600);
    let queries = vec![
        query("ok", "checkout", "2", 60),
        query("bad", "checkout", "5", 60),
        expression("rate", "100 * bad / (ok + bad)"),
    ];
    let output = ask(&account, &clients, queries).await;
    assert_eq!(values(&output, 1), [1500.0; 5]);
    assert_eq!(values(&output, 2), [25.0; 5]);
}

#[tokio::test]
async fn a_wrong_dimension_a_silence_and_a_short_period_give_nothing_and_say_complete() {
    let account = account();
    let clients = account.clients();
    let output = ask(
        &account,
        &clients,
        vec![
            query("a", "checkout", "6", 60),
            query("b", "checkout", "2", 10),
        ],
    )
    .await;
    assert_eq!((values(&output, 0).len(), values(&output, 1).len()), (0, 0));
    account.settings(|settings| settings.metrics_silent = true);
    let output = ask(&account, &clients, vec![query("a", "checkout", "2", 60)]).await;
    assert_eq!(
        (
            values(&output, 0).len(),
            output.metric_data_results()[0].status_code()
        ),
        (0, Some(&StatusCode::Complete))
    );
    account.settings(|settings| settings.metrics_partial = true);
    let output = ask(&account, &clients, vec![query("a", "checkout", "2", 60)]).await;
    assert_eq!(
        output.metric_data_results()[0].status_code(),
        Some(&StatusCode::PartialData)
    );
}

#[tokio::test]
async fn a_datapoint_is_seen_only_after_a_while() {
    let account = account();
    let clients = account.clients();
    account.settings(|settings| settings.metric_delay = 90);
    account.clock().advance(600);
    let output = ask(&account, &clients, vec![query("a", "checkout", "2", 60)]).await;
    assert_eq!(
        values(&output, 0).len(),
        4,
        "the newest minute is not there yet"
    );
}

#[tokio::test]
async fn what_cloud_watch_does_not_allow_is_refused() {
    let account = account();
    let clients = account.clients();
    let now = DateTime::from_secs(account.clock().now().as_second());
    let hour_ago = DateTime::from_secs(now.secs() - 3600);
    for bad in [
        query("Upper", "checkout", "2", 60),
        query("a", "checkout", "2", 61),
        expression("e", "nobody * 2"),
        expression("e", "SEARCH('x')"),
    ] {
        let ask = clients
            .cloud_watch
            .get_metric_data()
            .start_time(hour_ago)
            .end_time(now)
            .metric_data_queries(bad);
        let error = ask.send().await.unwrap_err().into_service_error();
        assert_eq!(error.meta().code(), Some("ValidationError"), "{error:?}");
    }
}

#[tokio::test]
async fn alarms_say_what_the_test_says() {
    let account = account();
    let clients = account.clients();
    account.set_alarm("checkout-5xx", StateValue::Alarm, "Threshold Crossed");
    account.set_composite_alarm("all", StateValue::Ok, "");
    let output = clients
        .cloud_watch
        .describe_alarms()
        .alarm_names("checkout-5xx")
        .alarm_names("all")
        .send()
        .await
        .unwrap();
    assert_eq!(output.metric_alarms().len(), 1);
    assert_eq!(
        output.metric_alarms()[0].state_value(),
        Some(&StateValue::Alarm)
    );
    assert!(
        output.composite_alarms().is_empty(),
        "composite alarms must be asked for"
    );
}

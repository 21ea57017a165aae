use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use aws_smithy_types::DateTime;

use super::account_with;
use crate::world::{self, Options};
use crate::{Account, TrimmedCounts, World, tuples_mut};

fn suffix(account: &Account, group: &str) -> (String, String) {
    let group = account.look(|world| world.target_group(group)).unwrap();
    let part = |arn: &str| arn.rsplit(':').next().unwrap().to_owned();
    let balancer = part(&group.load_balancer_arns()[0]);
    (
        part(group.target_group_arn().unwrap()),
        balancer.trim_start_matches("loadbalancer/").to_owned(),
    )
}

/// The values of the last ten minutes.
async fn values(
    account: &Account,
    name: &str,
    stat: &str,
    period: i32,
    dimensions: &[(&str, &str)],
) -> Vec<f64> {
    let dimensions = dimensions
        .iter()
        .map(|(name, value)| Dimension::builder().name(*name).value(*value).build());
    let metric = Metric::builder()
        .namespace("AWS/ApplicationELB")
        .metric_name(name)
        .set_dimensions(Some(dimensions.collect()))
        .build();
    let asked = MetricStat::builder()
        .metric(metric)
        .period(period)
        .stat(stat)
        .build();
    let now = account.clock().now().as_second();
    let end = now - now % 60 - 60;
    let output = account
        .clients()
        .cloud_watch
        .get_metric_data()
        .start_time(DateTime::from_secs(end - 600))
        .end_time(DateTime::from_secs(end))
        .metric_data_queries(
            MetricDataQuery::builder()
                .id("m")
                .metric_stat(asked)
                .build(),
        )
        .send()
        .await
        .unwrap();
    output.metric_data_results()[0].values().to_vec()
}

async fn of_group(account: &Account, name: &str, stat: &str, period: i32) -> Vec<f64> {
    let (group, balancer) = suffix(account, world::TARGET_GROUP);
    let place = [
        ("TargetGroup", group.as_str()),
        ("LoadBalancer", balancer.as_str()),
    ];
    values(account, name, stat, period, &place).await
}

async fn of_balancer(account: &Account, name: &str) -> Vec<f64> {
    let (_, balancer) = suffix(account, world::TARGET_GROUP);
    values(account, name, "Sum", 60, &[("LoadBalancer", &balancer)]).await
}

/// Stable runs an image, and half an hour is over.
fn running(tag: &str) -> Account {
    let account = account_with(&Options {
        image: world::app_image(tag),
        ..Options::alb()
    });
    account.clock().advance(1800);
    account
}

#[tokio::test]
async fn requests_are_counted_by_target_group_and_errors_only_when_there_are_some() {
    let account = running("1.0.0");
    assert_eq!(
        of_group(&account, "RequestCount", "Sum", 60).await,
        [12000.0; 10]
    );
    assert_eq!(
        of_group(&account, "HTTPCode_Target_2XX_Count", "Sum", 60).await,
        [12000.0; 10]
    );
    for absent in [
        "HTTPCode_Target_5XX_Count",
        "HTTPCode_Target_4XX_Count",
        "TargetConnectionErrorCount",
    ] {
        assert!(
            of_group(&account, absent, "Sum", 60).await.is_empty(),
            "{absent}"
        );
    }
    assert!(
        of_balancer(&account, "HTTPCode_ELB_5XX_Count")
            .await
            .is_empty()
    );
    let (group, _) = suffix(&account, world::TARGET_GROUP);
    let alone = values(
        &account,
        "RequestCount",
        "Sum",
        60,
        &[("TargetGroup", &group)],
    )
    .await;
    assert!(alone.is_empty(), "dimensions match exactly");
    let bad = running("2.0.0-bad");
    assert_eq!(
        of_group(&bad, "HTTPCode_Target_5XX_Count", "Sum", 60).await,
        [1200.0; 10]
    );
}

#[tokio::test]
async fn a_period_is_counted_from_the_beginning_of_the_window() {
    let account = running("1.0.0");
    assert_eq!(
        of_group(&account, "RequestCount", "Sum", 600).await,
        [120_000.0]
    );
    assert_eq!(
        of_group(&account, "RequestCount", "Sum", 420).await,
        [36_000.0, 84_000.0],
        "the newest first"
    );
}

#[tokio::test]
async fn times_have_percentiles() {
    let account = running("2.0.0-slow");
    assert_eq!(
        of_group(&account, "TargetResponseTime", "p50", 600).await,
        [1.0]
    );
    assert_eq!(
        of_group(&account, "TargetResponseTime", "p99", 600).await,
        [2.0]
    );
}

#[tokio::test]
async fn times_are_counted_above_a_bound_and_up_to_it() {
    let account = running("1.0.0");
    account.settings(|settings| settings.tails = vec![("1.0.0".into(), 0.01)]);
    account.clock().advance(780);
    let count = async |stat: &str| of_group(&account, "TargetResponseTime", stat, 600).await;
    assert_eq!(count("SampleCount").await, [120_000.0]);
    assert_eq!(count("p90").await, [0.08]);
    let (above, up_to) = (count("TC(0.08:)").await[0], count("TC(:0.08)").await[0]);
    assert!(
        (above - 120_000.0 * (0.08 * 0.99 + 0.01)).abs() < 20.0,
        "{above}"
    );
    assert!((above + up_to - 120_000.0).abs() < f64::EPSILON);
    let tail = count("TC(0.39:0.4)").await[0];
    assert!((tail - 1200.0).abs() < 20.0, "{tail}");
    assert!(count("TC(0.4:)").await.is_empty(), "a count of none");
    account.settings(|settings| settings.trimmed_counts = TrimmedCounts::WithZeros);
    assert_eq!(count("TC(0.4:)").await, [0.0]);
    account.settings(|settings| settings.trimmed_counts = TrimmedCounts::Silent);
    assert!(count("TC(0.08:)").await.is_empty());
}

#[tokio::test]
async fn what_a_target_never_answers_is_an_error_of_the_load_balancer() {
    let hung = running("2.0.0-hangs");
    assert_eq!(
        of_group(&hung, "RequestCount", "Sum", 60).await,
        [12000.0; 10]
    );
    assert!(
        of_group(&hung, "HTTPCode_Target_2XX_Count", "Sum", 60)
            .await
            .is_empty()
    );
    assert_eq!(
        of_balancer(&hung, "HTTPCode_ELB_504_Count").await,
        [12000.0; 10]
    );
    assert_eq!(
        of_balancer(&hung, "HTTPCode_ELB_5XX_Count").await,
        [12000.0; 10]
    );
    let refused = running("2.0.0-refuses");
    assert_eq!(
        of_group(&refused, "TargetConnectionErrorCount", "Sum", 60).await,
        [12000.0; 10]
    );
    assert_eq!(
        of_balancer(&refused, "HTTPCode_ELB_502_Count").await,
        [12000.0; 10]
    );
    assert!(
        of_balancer(&refused, "HTTPCode_ELB_504_Count")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn hosts_are_counted_and_a_target_group_without_requests_counts_none() {
    let account = account_with(&Options {
        requests_per_second: 0.0,
        ..Options::alb()
    });
    account.clock().advance(1800);
    assert_eq!(
        of_group(&account, "HealthyHostCount", "Minimum", 60).await,
        [4.0; 10]
    );
    assert_eq!(
        of_group(&account, "UnHealthyHostCount", "Maximum", 60).await,
        [0.0; 10]
    );
    assert!(
        of_group(&account, "RequestCount", "Sum", 60)
            .await
            .is_empty()
    );
    let sick = account_with(&Options {
        image: world::app_image("2.0.0-never-healthy"),
        grace_seconds: Some(7200),
        ..Options::alb()
    });
    sick.clock().advance(1800);
    let unhealthy = of_group(&sick, "UnHealthyHostCount", "Maximum", 600).await;
    assert_eq!(unhealthy, [4.0]);
    let lost = sick.look(World::lost_requests);
    assert!(lost > 300_000.0, "{lost}");
    let unavailable = of_balancer(&sick, "HTTPCode_ELB_503_Count").await;
    assert_eq!(unavailable, [12000.0; 10]);
}

#[tokio::test]
async fn the_weights_split_the_requests_once_they_have_propagated() {
    let account = account_with(&Options {
        stable_weight: 3,
        other_weight: Some(1),
        default_forwards: false,
        ..Options::alb()
    });
    account.clock().advance(1800);
    assert_eq!(
        of_group(&account, "RequestCount", "Sum", 60).await,
        [4500.0; 10]
    );
    let zero = |actions: &mut Vec<_>| {
        for tuple in tuples_mut(actions).unwrap() {
            tuple.weight = Some(0);
        }
    };
    let before = account.look(World::lost_requests);
    account.edit_rule_by_hand(world::RULE, zero);
    account.clock().advance(3);
    let during = account.look(World::lost_requests);
    account.clock().advance(10);
    let after = account.look(World::lost_requests);
    assert!((during - before).abs() < 1e-9, "the old weights still hold");
    assert!(
        (after - during - 1000.0).abs() < 101.0,
        "no weight at all loses all"
    );
}

#[tokio::test]
async fn stickiness_bends_the_split_and_an_idle_rule_gets_nothing() {
    let account = account_with(&Options {
        stable_weight: 1,
        other_weight: Some(1),
        forward_stickiness: Some(600),
        ..Options::alb()
    });
    account.settings(|settings| {
        settings.sticky_share = 0.5;
        settings.idle_rules = vec![world::DEFAULT_RULE.to_owned()];
    });
    account.clock().advance(1800);
    assert_eq!(
        of_group(&account, "RequestCount", "Sum", 60).await,
        [4500.0; 10]
    );
}

//! The metrics that a load balancer publishes by itself, with the exact dimensions and the silences of the real one.
//!
//! Nothing is published for a target group without requests, and no count of 5xx that is zero. Only the numbers of
//! hosts are published in every period, while a load balancer uses the group and targets are registered in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::access_log::{Counts, GroupCounts, ResponseTimes, SeenRequests};
use super::alb::AlbStatus;
use super::journal::Journal;
use super::targets::TargetRuntime;
use crate::load_balancing::metric_name;
use crate::moto::{Moto, Service};

const NAMESPACE: &str = "AWS/ApplicationELB";

/// How many data one `PutMetricData` may hold.
const DATA_PER_CALL: usize = 500;

/// Publishes what the load balancers have seen.
pub(crate) struct AlbMetricsAgent {
    pub(crate) moto: Moto,
    pub(crate) journal: Arc<Journal>,
    pub(crate) seen: Arc<SeenRequests>,
    /// Counts the readings of the access log.
    pub(crate) read: watch::Receiver<u64>,
    pub(crate) status: Arc<AlbStatus>,
    pub(crate) targets: Arc<TargetRuntime>,
    pub(crate) response_times: Arc<ResponseTimes>,
    pub(crate) paused: Arc<AtomicBool>,
}

impl AlbMetricsAgent {
    /// Publishes every period when it is over, until the task is aborted.
    pub(crate) async fn run(mut self) {
        let period = self.seen.period();
        loop {
            let now = Timestamp::now().as_millisecond();
            let length = period * 1000;
            let end = now - now.rem_euclid(length) + length;
            tokio::time::sleep(Duration::from_millis(u64::try_from(end - now).unwrap_or(0))).await;
            // What Envoy has not written out yet belongs to this period as well.
            for _ in 0..3 {
                self.read.mark_unchanged();
                let _ = self.read.changed().await;
            }
            let periods = self.seen.take_before(end / 1000);
            if !self.paused.load(Ordering::Relaxed) {
                self.publish(end / 1000 - period, &periods).await;
            }
        }
    }

    async fn publish(&self, last: i64, periods: &BTreeMap<i64, Counts>) {
        let mut data = Vec::new();
        for (at, counts) in periods {
            for (series, group) in &counts.groups {
                self.response_times
                    .publish(series, *at, &group.response_times);
            }
            data.extend(data_of(*at, counts));
        }
        for (group, balancers) in self.status.attached() {
            let (healthy, unhealthy) = self.targets.host_counts(&group);
            if healthy + unhealthy == 0 {
                continue;
            }
            for balancer in &balancers {
                let series = dimensions(metric_name(&group), metric_name(balancer));
                for (name, value) in [
                    ("HealthyHostCount", healthy),
                    ("UnHealthyHostCount", unhealthy),
                ] {
                    data.push(datum(name, &series, last, &json!({"Value": value})));
                }
            }
        }
        for some in data.chunks(DATA_PER_CALL) {
            let request = json!({"Namespace": NAMESPACE, "MetricData": some});
            let put = self
                .moto
                .call(Service::CloudWatch, "PutMetricData", &request)
                .await;
            if let Err(problem) = put {
                self.journal.note(format!("metrics: {problem}"));
            }
        }
    }
}

/// The data of one period.
fn data_of(at: i64, counts: &Counts) -> Vec<Value> {
    let mut data = Vec::new();
    for ((group, balancer), counts) in &counts.groups {
        let series = dimensions(group, balancer);
        let mut sum = |name: &str, value: u64| {
            if value > 0 {
                data.push(datum(name, &series, at, &json!({"Value": value})));
            }
        };
        sum("RequestCount", counts.requests);
        for (class, count) in &counts.by_class {
            sum(&format!("HTTPCode_Target_{class}XX_Count"), *count);
        }
        sum("TargetConnectionErrorCount", counts.connection_errors);
        data.extend(response_time(&series, at, counts));
    }
    for (balancer, codes) in &counts.own_errors {
        let series = json!([{"Name": "LoadBalancer", "Value": balancer}]);
        let all: u64 = codes.values().sum();
        data.push(datum(
            "HTTPCode_ELB_5XX_Count",
            &series,
            at,
            &json!({"Value": all}),
        ));
        for (code, count) in codes {
            let name = format!("HTTPCode_ELB_{code}_Count");
            data.push(datum(&name, &series, at, &json!({"Value": count})));
        }
    }
    data
}

/// The response times as moto can keep them: enough for every statistic but percentiles.
fn response_time(series: &Value, at: i64, counts: &GroupCounts) -> Option<Value> {
    let times = &counts.response_times;
    let first = *times.first()?;
    let (low, high) = times.iter().fold((first, first), |(low, high), time| {
        (low.min(*time), high.max(*time))
    });
    let statistics = json!({"StatisticValues": {
        "SampleCount": times.len(), "Sum": times.iter().sum::<f64>(), "Minimum": low, "Maximum": high,
    }});
    Some(datum("TargetResponseTime", series, at, &statistics))
}

fn dimensions(group: &str, balancer: &str) -> Value {
    json!([{"Name": "TargetGroup", "Value": group}, {"Name": "LoadBalancer", "Value": balancer}])
}

fn datum(name: &str, dimensions: &Value, at: i64, value: &Value) -> Value {
    let mut datum = json!({
        "MetricName": name, "Dimensions": dimensions, "Timestamp": at, "StorageResolution": 1,
    });
    for (name, value) in value.as_object().into_iter().flatten() {
        datum[name] = value.clone();
    }
    datum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_not_published() {
        let mut counts = Counts::default();
        let key = ("targetgroup/web/1".to_owned(), "app/demo/2".to_owned());
        let group = GroupCounts {
            requests: 3,
            by_class: [(2, 3)].into(),
            connection_errors: 0,
            response_times: vec![0.5, 0.25, 1.0],
        };
        counts.groups.insert(key, group);
        let data = data_of(10, &counts);
        let names: Vec<&str> = data
            .iter()
            .filter_map(|datum| datum["MetricName"].as_str())
            .collect();
        assert_eq!(
            names,
            [
                "RequestCount",
                "HTTPCode_Target_2XX_Count",
                "TargetResponseTime"
            ]
        );
        assert_eq!(
            data[2]["StatisticValues"],
            json!({"SampleCount": 3, "Sum": 1.75, "Minimum": 0.25, "Maximum": 1.0})
        );
        assert!(data_of(10, &Counts::default()).is_empty());
    }

    #[test]
    fn the_balancers_own_errors_have_only_its_dimension() {
        let mut counts = Counts::default();
        let codes = BTreeMap::from([(502, 2), (504, 1)]);
        counts.own_errors.insert("app/demo/2".to_owned(), codes);
        let told: Vec<(String, u64, usize)> = data_of(10, &counts)
            .iter()
            .map(|datum| {
                (
                    datum["MetricName"].as_str().unwrap().to_owned(),
                    datum["Value"].as_u64().unwrap(),
                    datum["Dimensions"].as_array().unwrap().len(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("HTTPCode_ELB_5XX_Count".to_owned(), 3, 1),
                ("HTTPCode_ELB_502_Count".to_owned(), 2, 1),
                ("HTTPCode_ELB_504_Count".to_owned(), 1, 1),
            ]
        );
    }
}

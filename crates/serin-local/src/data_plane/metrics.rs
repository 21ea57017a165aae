//! The metrics agent: the CloudWatch agent of Container Insights, as far as App Mesh users rely on it.
//!
//! It reads the counters of every sidecar, makes differences of them and publishes their sums for each family of tasks,
//! under the names and with the exact dimensions of the real agent. Like the real one it says nothing about a series
//! when it sees it for the first time, and publishes a zero when nothing happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ecs_runtime::EcsRuntime;
use super::envoy_admin::EnvoyAdmin;
use super::envoy_config::INGRESS;
use super::journal::Journal;
use crate::moto::{Moto, Service};

const NAMESPACE: &str = "ECS/ContainerInsights/Prometheus";
const METRIC: &str = "envoy_http_downstream_rq_xx";
const PREFIX_LABEL: &str = "envoy_http_conn_manager_prefix";
const CLASS_LABEL: &str = "envoy_response_code_class";

/// Publishes what the sidecars count.
pub(crate) struct MetricsAgent {
    pub(crate) moto: Moto,
    pub(crate) runtime: Arc<EcsRuntime>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) http: reqwest::Client,
    pub(crate) period: Duration,
    pub(crate) paused: Arc<AtomicBool>,
}

/// One counter of one task: the task's id and the class of the answers.
type Series = (String, String);

/// One published series: cluster, family, and the class of the answers.
type Published = (String, String, String);

impl MetricsAgent {
    /// Publishes once in every period until the task is aborted.
    ///
    /// It reads in the middle of each period, so that a reading that comes a little late still falls into its own: two
    /// in one period and none in the next would double a value and leave a hole.
    pub(crate) async fn run(self) {
        let period = i64::try_from(self.period.as_millis())
            .unwrap_or(i64::MAX)
            .max(1000);
        let mut known: BTreeMap<Series, u64> = BTreeMap::new();
        loop {
            let now = Timestamp::now().as_millisecond();
            let middle = now - now.rem_euclid(period) + period / 2;
            let next = if middle > now {
                middle
            } else {
                middle + period
            };
            tokio::time::sleep(Duration::from_millis(
                u64::try_from(next - now).unwrap_or(0),
            ))
            .await;
            if self.paused.load(Ordering::Relaxed) {
                // An agent that was away has forgotten what it knew.
                known.clear();
                continue;
            }
            let sums = self.read(&mut known).await;
            if !sums.is_empty() {
                self.publish((next - next.rem_euclid(period)) / 1000, &sums)
                    .await;
            }
        }
    }

    /// Reads every sidecar and adds up what happened since the last time.
    async fn read(&self, known: &mut BTreeMap<Series, u64>) -> BTreeMap<Published, u64> {
        let mut before = std::mem::take(known);
        let mut sums = BTreeMap::new();
        for target in self.runtime.scrape_targets() {
            let page = match EnvoyAdmin::new(&self.http, target.admin_port)
                .prometheus()
                .await
            {
                Ok(page) => page,
                Err(problem) => {
                    self.journal
                        .note(format!("metrics: task {}: {problem}", target.task));
                    // One missed reading is made up for by the next, as long as the series is not forgotten.
                    let kept: Vec<Series> = before
                        .keys()
                        .filter(|(task, _)| *task == target.task)
                        .cloned()
                        .collect();
                    for series in kept {
                        if let Some(value) = before.remove(&series) {
                            known.insert(series, value);
                        }
                    }
                    continue;
                }
            };
            for (class, value) in ingress_counters(&page) {
                let series = (target.task.clone(), class.clone());
                if let Some(last) = before.remove(&series) {
                    // A counter that fell was reset, and all it shows is new.
                    let new = if value >= last { value - last } else { value };
                    *sums
                        .entry((target.cluster.clone(), target.family.clone(), class))
                        .or_insert(0) += new;
                }
                known.insert(series, value);
            }
        }
        sums
    }

    async fn publish(&self, at: i64, sums: &BTreeMap<Published, u64>) {
        let data: Vec<Value> = sums
            .iter()
            .map(|((cluster, family, class), value)| {
                json!({
                    "MetricName": METRIC,
                    "Dimensions": [
                        {"Name": "ClusterName", "Value": cluster},
                        {"Name": "TaskDefinitionFamily", "Value": family},
                        {"Name": PREFIX_LABEL, "Value": INGRESS},
                        {"Name": CLASS_LABEL, "Value": class},
                    ],
                    "Timestamp": at,
                    "Value": value,
                    "StorageResolution": 1,
                })
            })
            .collect();
        let request = json!({"Namespace": NAMESPACE, "MetricData": data});
        if let Err(problem) = self
            .moto
            .call(Service::CloudWatch, "PutMetricData", &request)
            .await
        {
            self.journal.note(format!("metrics: {problem}"));
        }
    }
}

/// The counters of the ingress on a Prometheus page, each with its class.
fn ingress_counters(page: &str) -> Vec<(String, u64)> {
    page.lines()
        .filter_map(|line| {
            let (labels, value) = line
                .strip_prefix(METRIC)?
                .strip_prefix('{')?
                .split_once('}')?;
            let label = |wanted: &str| {
                labels.split(',').find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    (name.trim() == wanted).then(|| value.trim_matches('"'))
                })
            };
            if label(PREFIX_LABEL)? != INGRESS {
                return None;
            }
            Some((label(CLASS_LABEL)?.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_counters_of_the_ingress_are_read() {
        let page = "# TYPE envoy_http_downstream_rq_xx counter\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"ingress\"} 120\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"5\",envoy_http_conn_manager_prefix=\"ingress\"} 0\n\
            envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"health\"} 7\n";
        assert_eq!(
            ingress_counters(page),
            [("2".to_owned(), 120), ("5".to_owned(), 0)]
        );
    }
}

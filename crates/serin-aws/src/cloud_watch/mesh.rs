//! What the CloudWatch agent reads from the mesh's Envoys.

use aws_sdk_cloudwatch::types::MetricDataQuery;
use serin::Deployment;
use serin::ports::{Counts, Measured, Reading, RequestCounts, Side};
use serin::routing::AppMeshRecord;

use super::Series;
use super::answers::{Answers, Intervals};

/// Where the CloudWatch agent puts what it scrapes in ECS.
const NAMESPACE: &str = "ECS/ContainerInsights/Prometheus";
/// Envoy's counter of answers by class.
const METRIC: &str = "envoy_http_downstream_rq_xx";
/// The classes of answers that end a request. Envoy counts 1xx as well, which is no end.
const CLASSES: [u8; 4] = [2, 3, 4, 5];
/// The class that counts as failed. 4xx is the caller's fault.
const FAILED: u8 = 5;

/// The names by which one side's metrics are found.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeshMetrics<'a> {
    cluster: &'a str,
    family: &'a str,
    service: &'a str,
    node: &'a str,
}

impl<'a> MeshMetrics<'a> {
    pub(super) fn of(deployment: &'a Deployment, record: &'a AppMeshRecord, side: Side) -> Self {
        let cluster = deployment.cluster().as_str();
        match side {
            Side::Canary => Self {
                cluster,
                family: deployment.canary.family.as_str(),
                service: deployment.canary.service.as_str(),
                node: &record.canary_node,
            },
            Side::Stable => Self {
                cluster,
                family: deployment.stable.family.as_str(),
                service: deployment.stable.service.as_str(),
                node: &record.stable_node,
            },
        }
    }

    pub(super) fn names(self) -> Vec<(&'static str, String)> {
        let names = [
            ("clusterName", self.cluster),
            ("canaryFamily", self.family),
            ("canaryService", self.service),
            ("virtualNode", self.node),
        ];
        names.map(|(name, value)| (name, value.to_owned())).to_vec()
    }

    pub(super) fn ask_requests(self, prefix: &str, period: u32) -> Vec<MetricDataQuery> {
        CLASSES
            .map(|class| {
                self.series(&class.to_string())
                    .query(id(prefix, class), "Sum", period)
            })
            .to_vec()
    }

    pub(super) fn requests(self, prefix: &str, answers: &Answers) -> RequestCounts {
        let ids = CLASSES.map(|class| id(prefix, class));
        RequestCounts {
            requests: Measured {
                reading: answers.sum(&ids),
                query: self.series("2|3|4|5").text("Sum"),
            },
            errors: Measured {
                reading: answers.sum(&[id(prefix, FAILED)]),
                query: self.series("5").text("Sum"),
            },
        }
    }

    /// The counts of each interval, or why the answer is not the whole one. The agent gives each class a datapoint in every
    /// period, a zero if need be: an interval without one of the failed is not known.
    #[expect(clippy::unused_self, reason = "beside its neighbours")]
    pub(super) fn by_interval(
        self,
        prefix: &str,
        answers: &Answers,
        intervals: Intervals,
    ) -> Result<Vec<Option<Counts>>, String> {
        let ids = CLASSES.map(|class| id(prefix, class));
        answers.whole(&ids)?;
        let sums = ids.map(|id| answers.by_interval(&id, intervals));
        let failed = answers.by_interval(&id(prefix, FAILED), intervals);
        let counts = failed.into_iter().enumerate().map(|(place, errors)| {
            let requests = sums.iter().filter_map(|sums| sums[place]).sum();
            errors.map(|errors| Counts { requests, errors })
        });
        Ok(counts.collect())
    }

    /// The planner refuses limits on latency for this router; should one come here all the same, nothing is known of it.
    #[expect(clippy::unused_self, reason = "beside its neighbours")]
    pub(super) fn no_latency(self) -> Measured {
        Measured {
            reading: Reading::NoData,
            query: "App Mesh has no latency percentiles".to_owned(),
        }
    }

    fn series(self, class: &str) -> Series {
        Series {
            namespace: NAMESPACE,
            name: METRIC,
            dimensions: vec![
                ("ClusterName", self.cluster.to_owned()),
                ("TaskDefinitionFamily", self.family.to_owned()),
                // What came in to the service; `egress` is what the service itself asked of others.
                ("envoy_http_conn_manager_prefix", "ingress".to_owned()),
                ("envoy_response_code_class", class.to_owned()),
            ],
        }
    }
}

fn id(prefix: &str, class: u8) -> String {
    format!("{prefix}_{class}xx")
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudwatch::types::StatusCode;

    use super::super::answers::tests::{answers, result};
    use super::*;

    const CANARY: MeshMetrics<'static> = MeshMetrics {
        cluster: "prod",
        family: "checkout-canary",
        service: "checkout-canary-1a2b3c4d",
        node: "checkout-node-canary",
    };

    #[test]
    fn silence_is_not_zero() {
        let some = answers(&[
            result("own_2xx", StatusCode::Complete, &[(0, 100.0), (60, 50.0)]),
            result("own_5xx", StatusCode::Complete, &[]),
        ]);
        let counts = CANARY.requests("own", &some);
        assert_eq!(
            counts.requests.reading,
            Reading::Value {
                value: 150.0,
                datapoints: 2
            }
        );
        assert_eq!(counts.errors.reading, Reading::NoData);
        assert_eq!(
            CANARY.requests("own", &answers(&[])).requests.reading,
            Reading::NoData
        );
    }

    #[test]
    fn what_is_asked_can_be_read_and_found_again() {
        let counts = CANARY.requests("own", &answers(&[]));
        assert_eq!(
            counts.errors.query,
            "Sum of envoy_http_downstream_rq_xx {ClusterName=prod, TaskDefinitionFamily=checkout-canary, \
             envoy_http_conn_manager_prefix=ingress, envoy_response_code_class=5} in ECS/ContainerInsights/Prometheus"
        );
        assert!(
            counts
                .requests
                .query
                .contains("envoy_response_code_class=2|3|4|5")
        );
    }

    #[test]
    fn an_answer_that_is_not_the_whole_one_says_so() {
        let partial = answers(&[
            result("own_2xx", StatusCode::Complete, &[(0, 5.0)]),
            result("own_5xx", StatusCode::InternalError, &[(0, 0.0)]),
        ]);
        let counts = CANARY.requests("own", &partial);
        assert_eq!(
            counts.errors.reading,
            Reading::Incomplete("InternalError".into())
        );
        assert_eq!(
            counts.requests.reading,
            Reading::Incomplete("InternalError".into())
        );
    }
}

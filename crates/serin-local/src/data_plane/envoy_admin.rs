//! What a running Envoy says about itself, asked at its administration port.

use std::collections::BTreeMap;
use std::time::Duration;

use super::envoy_config::INGRESS;

/// A client of one Envoy's administration.
#[derive(Debug, Clone)]
pub(crate) struct EnvoyAdmin {
    base: String,
    http: reqwest::Client,
}

/// The requests that an upstream cluster answered, by what came of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterCount {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// The class of the answers: 2 for 200 to 299.
    pub(crate) class: u8,
    /// How many there were since the cluster began.
    pub(crate) count: u64,
}

impl EnvoyAdmin {
    /// The administration at a port of this machine. An Envoy that takes longer than five seconds is as good as gone.
    pub(crate) fn new(http: &reqwest::Client, port: u16) -> Self {
        Self {
            base: format!("http://127.0.0.1:{port}"),
            http: http.clone(),
        }
    }

    /// All counters as Prometheus would read them.
    pub(crate) async fn prometheus(&self) -> Result<String, reqwest::Error> {
        self.get("/stats/prometheus").await
    }

    /// How many requests the ingress has begun, and how many of them are not finished.
    pub(crate) async fn ingress_requests(&self) -> Result<(u64, u64), reqwest::Error> {
        let text = self
            .get(&format!(
                "/stats?filter=%5Ehttp.{INGRESS}.downstream_rq_(total%7Cactive)%24"
            ))
            .await?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(": ")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0)
        };
        Ok((
            value(&format!("http.{INGRESS}.downstream_rq_total")),
            value(&format!("http.{INGRESS}.downstream_rq_active")),
        ))
    }

    /// What the clusters answered.
    pub(crate) async fn cluster_counts(&self) -> Result<Vec<ClusterCount>, reqwest::Error> {
        let text = self
            .get("/stats?filter=%5Ecluster%5C..%2B%5C.upstream_rq_%5B2-5%5Dxx%24")
            .await?;
        Ok(text.lines().filter_map(cluster_count).collect())
    }

    /// How many requests are under way in each cluster.
    pub(crate) async fn active_requests(&self) -> Result<BTreeMap<String, u64>, reqwest::Error> {
        let text = self
            .get("/stats?filter=%5Ecluster%5C..%2B%5C.upstream_rq_active%24")
            .await?;
        Ok(text
            .lines()
            .filter_map(|line| {
                let (name, count) = line.strip_prefix("cluster.")?.split_once(": ")?;
                let cluster = name.strip_suffix(".upstream_rq_active")?;
                Some((cluster.to_owned(), count.trim().parse().ok()?))
            })
            .collect())
    }

    /// Whether the table of routes of this name and version is in use in a listener that counts under `prefix`.
    pub(crate) async fn has_routes(
        &self,
        prefix: &str,
        table: &str,
        version: u64,
    ) -> Result<bool, reqwest::Error> {
        let text = self
            .get("/stats?type=TextReadouts&filter=version_text")
            .await?;
        let wanted = format!("http.{prefix}.rds.{table}.version_text: \"{version}\"");
        Ok(text.lines().any(|line| line.trim() == wanted))
    }

    /// The clusters in use with their endpoints, as Envoy lists them: a line for each thing it knows.
    pub(crate) async fn clusters(&self) -> Result<String, reqwest::Error> {
        self.get("/clusters").await
    }

    async fn get(&self, path: &str) -> Result<String, reqwest::Error> {
        self.http
            .get(format!("{}{path}", self.base))
            .timeout(Duration::from_secs(5))
            .send()
            .await?
            .error_for_status()?
            .text()
            .await
    }
}

/// `cluster.demo/web.upstream_rq_2xx: 12`.
fn cluster_count(line: &str) -> Option<ClusterCount> {
    let (name, count) = line.strip_prefix("cluster.")?.split_once(": ")?;
    let (cluster, class) = name.rsplit_once(".upstream_rq_")?;
    // Envoy counts the same answers once more as `demo/web.external`. Nothing in App Mesh has a dot in its name.
    if cluster.contains('.') {
        return None;
    }
    Some(ClusterCount {
        cluster: cluster.to_owned(),
        class: class.strip_suffix("xx")?.parse().ok()?,
        count: count.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cluster_statistics_is_read() {
        assert_eq!(
            cluster_count("cluster.demo/web.upstream_rq_5xx: 12"),
            Some(ClusterCount {
                cluster: "demo/web".to_owned(),
                class: 5,
                count: 12
            })
        );
        assert_eq!(
            cluster_count("cluster.demo/web.upstream_rq_total: 12"),
            None
        );
        assert_eq!(
            cluster_count("cluster.demo/web.external.upstream_rq_5xx: 12"),
            None
        );
    }
}

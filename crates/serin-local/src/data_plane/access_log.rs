//! What the load balancer's Envoy writes about every request, read as it is written.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use super::mesh::NodeCount;
use crate::load_balancing::list;

/// How often the log is read.
const READ_EVERY: Duration = Duration::from_millis(500);

/// What the log says of a request that a target answered.
const BY_TARGET: &str = "via_upstream";

/// One request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    load_balancer: String,
    target_group: Option<String>,
    code: Option<u16>,
    details: Option<String>,
    flags: Option<String>,
    /// Seconds since 1970. Envoy writes it as a text.
    start: Value,
    milliseconds: Option<f64>,
    target_microseconds: Option<f64>,
}

/// The requests that ended in one period, as a load balancer counts them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// For each pair of target group and load balancer.
    pub(crate) groups: BTreeMap<(String, String), GroupCounts>,
    /// For each load balancer, how many requests it answered itself with 5xx, by code.
    pub(crate) own_errors: BTreeMap<String, BTreeMap<u16, u64>>,
}

/// What came of the requests for one target group.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupCounts {
    /// Those for which a target was chosen.
    pub(crate) requests: u64,
    /// The targets' answers, by class: 2 for 200 to 299.
    pub(crate) by_class: BTreeMap<u16, u64>,
    /// Requests whose target could not be reached.
    pub(crate) connection_errors: u64,
    /// How long the targets took, in seconds.
    pub(crate) response_times: Vec<f64>,
}

impl Counts {
    fn count(&mut self, line: &Line) {
        let code = line.code.unwrap_or(0);
        let has = |flag: &str| {
            let flags = line.flags.as_deref().unwrap_or_default();
            flags.split(',').any(|each| each == flag)
        };
        let by_target = line.details.as_deref() == Some(BY_TARGET);
        // A load balancer that finds no target has chosen none.
        let chosen = line
            .target_group
            .as_ref()
            .filter(|_| !has("UH") && !has("NC"));
        if let Some(group) = chosen {
            let key = (group.clone(), line.load_balancer.clone());
            let counts = self.groups.entry(key).or_default();
            counts.requests += 1;
            if by_target {
                *counts.by_class.entry(code / 100).or_default() += 1;
                let seconds = line.target_microseconds.map(|it| it / 1_000_000.0);
                counts.response_times.extend(seconds);
            } else if has("UF") {
                counts.connection_errors += 1;
            }
        }
        if !by_target && code >= 500 {
            let own = self.own_errors.entry(line.load_balancer.clone());
            *own.or_default().entry(code).or_default() += 1;
        }
    }
}

/// All that was read so far and has not been published.
#[derive(Debug, Default)]
struct Inner {
    /// By the beginning of the period, in seconds since 1970.
    periods: BTreeMap<i64, Counts>,
    /// What each target group answered since the data plane started, under its name.
    totals: BTreeMap<String, NodeCount>,
}

/// The requests that the load balancer has seen.
#[derive(Debug)]
pub(crate) struct SeenRequests {
    period: i64,
    inner: Mutex<Inner>,
}

impl SeenRequests {
    /// Counts in periods of so many seconds.
    pub(crate) fn new(period: i64) -> Arc<Self> {
        Arc::new(Self {
            period,
            inner: Mutex::default(),
        })
    }

    /// The length of a period, in seconds.
    pub(crate) fn period(&self) -> i64 {
        self.period
    }

    fn count(&self, line: &Line) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "seconds of this age fit easily"
        )]
        let ended = {
            let start = line
                .start
                .as_f64()
                .or_else(|| line.start.as_str()?.parse().ok());
            (start.unwrap_or(0.0) + line.milliseconds.unwrap_or(0.0) / 1000.0).floor() as i64
        };
        let mut inner = self.lock();
        let period = ended - ended.rem_euclid(self.period);
        inner.periods.entry(period).or_default().count(line);
        if let Some(name) = line
            .target_group
            .as_deref()
            .and_then(|it| it.split('/').nth(1))
        {
            let total = inner.totals.entry(name.to_owned()).or_default();
            total.requests += 1;
            total.errors += u64::from(line.code.is_some_and(|code| code >= 500));
        }
    }

    /// Takes out all periods that began before a moment, the oldest first.
    pub(crate) fn take_before(&self, moment: i64) -> BTreeMap<i64, Counts> {
        let mut inner = self.lock();
        let later = inner.periods.split_off(&moment);
        std::mem::replace(&mut inner.periods, later)
    }

    /// What each target group answered since the data plane started, under its name.
    pub(crate) fn totals(&self) -> BTreeMap<String, NodeCount> {
        self.lock().totals.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while counting")
    }
}

/// Reads the log until it is told to end.
pub(crate) async fn follow(path: PathBuf, seen: Arc<SeenRequests>, read: watch::Sender<u64>) {
    let mut place = 0;
    let mut rest = Vec::new();
    loop {
        if let Ok(new) = read_from(&path, &mut place) {
            rest.extend(new);
            let complete = rest.iter().rposition(|byte| *byte == b'\n');
            if let Some(end) = complete {
                for line in rest[..end].split(|byte| *byte == b'\n') {
                    if let Ok(line) = serde_json::from_slice::<Line>(line) {
                        seen.count(&line);
                    }
                }
                rest.drain(..=end);
            }
        }
        read.send_modify(|times| *times += 1);
        tokio::time::sleep(READ_EVERY).await;
    }
}

fn read_from(path: &std::path::Path, place: &mut u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(*place))?;
    let mut new = Vec::new();
    *place += file.read_to_end(&mut new)? as u64;
    Ok(new)
}

/// A published series' dimensions: target group and load balancer.
type Series = (String, String);

/// The response times that were published, each with its moment: of them CloudWatch makes percentiles.
#[derive(Debug, Default)]
pub struct ResponseTimes {
    values: Mutex<BTreeMap<Series, BTreeMap<i64, Vec<f64>>>>,
}

impl ResponseTimes {
    pub(crate) fn publish(&self, series: &(String, String), at: i64, values: &[f64]) {
        let mut all = self
            .values
            .lock()
            .expect("nobody panics while keeping values");
        all.entry(series.clone())
            .or_default()
            .entry(at)
            .or_default()
            .extend(values);
    }

    /// The values of one series from a moment to another, in seconds since 1970.
    pub(crate) fn between(&self, dimensions: &Value, begin: i64, end: i64) -> Vec<f64> {
        let dimension = |name: &str| {
            list(dimensions)
                .find(|each| each["Name"] == name)
                .and_then(|each| each["Value"].as_str())
        };
        // As on AWS, exactly these dimensions make the series.
        let (Some(group), Some(balancer), 2) = (
            dimension("TargetGroup"),
            dimension("LoadBalancer"),
            list(dimensions).count(),
        ) else {
            return Vec::new();
        };
        let all = self
            .values
            .lock()
            .expect("nobody panics while keeping values");
        all.get(&(group.to_owned(), balancer.to_owned()))
            .into_iter()
            .flat_map(|series| series.range(begin..end))
            .flat_map(|(_, values)| values.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(group: Option<&str>, code: u16, details: &str, flags: &str) -> Line {
        serde_json::from_value(json!({
            "loadBalancer": "app/demo/01", "targetGroup": group, "code": code, "details": details,
            "flags": flags, "start": "1700000003.500", "milliseconds": 700, "targetMicroseconds": 1500,
        }))
        .unwrap()
    }

    const GROUP: &str = "targetgroup/checkout/02";

    fn counted(lines: &[Line]) -> (GroupCounts, BTreeMap<u16, u64>) {
        let mut counts = Counts::default();
        for line in lines {
            counts.count(line);
        }
        (
            counts.groups.into_values().next().unwrap_or_default(),
            counts.own_errors.into_values().next().unwrap_or_default(),
        )
    }

    #[test]
    fn a_targets_own_500_is_the_targets() {
        let (group, own) = counted(&[line(Some(GROUP), 500, BY_TARGET, "-")]);
        assert_eq!((group.requests, group.by_class), (1, [(5, 1)].into()));
        assert_eq!(group.response_times, [0.0015]);
        assert!(own.is_empty());
    }

    #[test]
    fn a_target_that_cannot_be_reached_is_a_request_without_an_answer_and_the_balancers_502() {
        let details = "upstream_reset_before_response_started{remote_connection_failure}";
        let (group, own) = counted(&[line(Some(GROUP), 502, details, "UF")]);
        assert_eq!((group.requests, group.connection_errors), (1, 1));
        assert!(group.by_class.is_empty());
        assert_eq!(own, [(502, 1)].into());
    }

    #[test]
    fn without_a_healthy_target_no_group_has_a_request() {
        let (group, own) = counted(&[line(Some(GROUP), 503, "no_healthy_upstream", "UH")]);
        assert_eq!(group.requests, 0);
        assert_eq!(own, [(503, 1)].into());
    }

    #[test]
    fn a_request_belongs_to_the_period_in_which_it_ended() {
        let seen = SeenRequests::new(2);
        seen.count(&line(Some(GROUP), 200, BY_TARGET, "-"));
        assert!(seen.take_before(1_700_000_004).is_empty());
        let taken = seen.take_before(1_700_000_006);
        assert_eq!(taken.keys().copied().collect::<Vec<_>>(), [1_700_000_004]);
        assert_eq!(seen.totals()["checkout"].requests, 1);
    }

    #[test]
    fn response_times_are_found_by_exactly_their_dimensions() {
        let times = ResponseTimes::default();
        let series = (GROUP.to_owned(), "app/demo/01".to_owned());
        times.publish(&series, 10, &[0.1, 0.2]);
        let both = json!([
            {"Name": "LoadBalancer", "Value": "app/demo/01"}, {"Name": "TargetGroup", "Value": GROUP},
        ]);
        assert_eq!(times.between(&both, 0, 20), [0.1, 0.2]);
        assert!(times.between(&both, 11, 20).is_empty());
        let one = json!([{"Name": "TargetGroup", "Value": GROUP}]);
        assert!(times.between(&one, 0, 20).is_empty());
    }
}

//! What can be measured in Amazon CloudWatch: what the router's metrics say of a version, the request's own queries, and alarms.
//!
//! A series that is empty comes back as `Complete` with no values, and so does one that does not exist. So nothing here turns
//! the absence of a value into a zero, unless a router's own documentation says that it is one.

mod alb;
mod answers;
mod mesh;
mod queries;

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{
    AlarmType, Dimension, Metric, MetricDataQuery, MetricStat, ScanBy, StateValue,
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use serin::ports::{
    AlarmReading, AlarmState, Copies, Counts, HealthSignals, Interval, Measured, Measurements,
    RequestCounts, ResponseTimes, Series as SeriesOfBoth, Side, Times,
};
use serin::progress::Attachment;
use serin::request::{Checks, Kayenta, Query};
use serin::verdict::Window;
use serin::{Deployment, PortError, RouterRecord, SlowThreshold};

use self::alb::AlbMetrics;
use self::answers::{Answers, Intervals};
use self::mesh::MeshMetrics;
use crate::error::failed;

/// The most alarms that one `DescribeAlarms` takes.
const ALARMS_PER_CALL: usize = 100;
/// The most queries that one `GetMetricData` takes.
const QUERIES_PER_CALL: usize = 500;

/// What can be measured, in Amazon CloudWatch.
#[derive(Debug, Clone)]
pub struct CloudWatchSignals {
    cloud_watch: aws_sdk_cloudwatch::Client,
}

impl CloudWatchSignals {
    pub(crate) fn new(cloud_watch: aws_sdk_cloudwatch::Client) -> Self {
        Self { cloud_watch }
    }

    /// All pages of one `GetMetricData`.
    async fn get(
        &self,
        queries: Vec<MetricDataQuery>,
        answers: &mut Answers,
        window: Window,
    ) -> Result<(), PortError> {
        let request = self
            .cloud_watch
            .get_metric_data()
            .set_metric_data_queries(Some(queries))
            .start_time(DateTime::from_secs(window.start.as_second()))
            .end_time(DateTime::from_secs(window.end.as_second()))
            .scan_by(ScanBy::TimestampAscending);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("CloudWatch GetMetricData"))?;
            for result in page.metric_data_results() {
                answers.add(result);
            }
        }
        Ok(())
    }
}

impl HealthSignals for CloudWatchSignals {
    async fn measure(
        &self,
        deployment: &Deployment,
        copies: Option<Copies<'_>>,
        times: Times,
    ) -> Result<Measurements, PortError> {
        let checks = &deployment.checks;
        let counted = checks.counts_requests();
        let own = SideMetrics::of(deployment, copies.map(|copies| copies.canary));
        let stable = copies.map(|_| SideMetrics::of(deployment, None));
        let of_baseline = deployment.of_baseline();
        let attached = copies.and_then(|copies| copies.baseline);
        let baseline = of_baseline.as_ref().zip(attached);
        let baseline = baseline.map(|(of, attached)| SideMetrics::of(of, Some(attached)));
        let kayenta = kayenta_queries(checks);
        let mut wished: Vec<&Query> = checks.queries.iter().collect();
        if stable.is_none() {
            // The pre-flight asks whether stable answers them at all.
            wished.extend(&kayenta);
        }
        let queries = all_filled(&wished, 0, &own);
        let pairs: Vec<&Query> = kayenta.iter().collect();
        // Of both sides, under ids that no other query has.
        let beside = baseline.as_ref().or(stable.as_ref());
        let of_both = beside.filter(|_| times.compared.is_some()).map(|beside| {
            let (first, second) = (wished.len(), wished.len() + pairs.len());
            (
                all_filled(&pairs, first, &own),
                all_filled(&pairs, second, beside),
            )
        });

        let limits = StableLimits {
            stable: stable.as_ref(),
            checks,
            first: wished.len() + 2 * pairs.len(),
        };

        let (window, range) = spans(times);
        let mut counts = own.ask_counts("own", checks);
        for (prefix, side) in [("stable", &stable), ("baseline", &baseline)] {
            let side = side.as_ref().filter(|_| counted);
            counts.extend(side.map_or_else(Vec::new, |side| side.ask_requests(prefix, checks)));
        }
        let slow = &deployment.slow_thresholds;
        let sides = stable.as_ref().zip(times.compared).map(|(stable, of)| {
            let seconds = checks.period_seconds;
            let (canary, baseline) = (&own, baseline.as_ref());
            (
                Sides {
                    canary,
                    stable,
                    baseline,
                },
                Intervals { of, seconds },
            )
        });
        for (prefix, side) in sides.iter().flat_map(|(sides, _)| sides.named()) {
            counts.extend(side.ask_slow(prefix, checks, &milliseconds(slow, prefix == "own")));
        }
        let (own_queries, kayentas) = queries.split_at(checks.queries.len());
        counts.extend(kayentas.iter().flatten().map(queries::to_sdk));
        if let Some((canary, stable)) = &of_both {
            let parts = canary.iter().chain(stable).flatten();
            counts.extend(parts.map(queries::to_sdk));
        }
        let mut of_window = own.ask_latency("own", checks, window);
        of_window.extend(limits.ask(window));
        of_window.extend(own_queries.iter().flatten().map(queries::to_sdk));
        let mut answers = Answers::over(window, checks.period_seconds);
        for (queries, range) in calls((counts, range), (of_window, window)) {
            self.get(queries, &mut answers, range).await?;
        }

        let requests = |prefix, side: Option<&SideMetrics<'_>>| {
            let side = side.filter(|_| counted);
            side.map(|side| side.requests(prefix, &answers))
        };
        Ok(Measurements {
            requests: requests("own", Some(&own)),
            stable_requests: requests("stable", stable.as_ref()),
            baseline_requests: requests("baseline", baseline.as_ref()),
            latency: own.latency("own", checks, &answers),
            stable_latency: limits.latency(&answers),
            stable_queries: limits.queries(&answers),
            unhealthy_targets: own.unhealthy_targets("own", &answers),
            baseline_unhealthy_targets: baseline
                .as_ref()
                .filter(|_| counted)
                .and_then(|baseline| baseline.unhealthy_targets("baseline", &answers)),
            queries: wished
                .iter()
                .zip(&queries)
                .map(|(query, filled)| Measured {
                    reading: queries::worst(&answers, filled, query),
                    query: queries::text(filled),
                })
                .collect(),
            kayenta: of_both
                .zip(times.compared)
                .map(|(sides, of)| queries::of_both(&answers, &kayenta, &sides, of)),
            compared: sides
                .filter(|_| counted)
                .map(|(sides, intervals)| sides.by_interval(&answers, intervals)),
            slow: sides.map_or_else(Vec::new, |(sides, intervals)| {
                let series = |place| sides.slow_by_interval(place, &answers, intervals);
                (0..slow.len()).map(series).collect()
            }),
        })
    }

    async fn response_times(
        &self,
        deployment: &Deployment,
        asked: &[ResponseTimes],
        window: Window,
    ) -> Result<Vec<Measured>, PortError> {
        let period = deployment.checks.period_seconds;
        let stable = SideMetrics::of(deployment, None);
        let mut answers = Answers::over(window, period);
        let queries = stable.ask_response_times(asked, period, window);
        if !queries.is_empty() {
            self.get(queries, &mut answers, window).await?;
        }
        Ok(stable.response_times(asked, &answers))
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmReading>, PortError> {
        let mut found = BTreeMap::new();
        for names in names.chunks(ALARMS_PER_CALL) {
            let request = self
                .cloud_watch
                .describe_alarms()
                .set_alarm_names(Some(names.to_vec()))
                // Without the types, composite alarms are left out.
                .alarm_types(AlarmType::MetricAlarm)
                .alarm_types(AlarmType::CompositeAlarm);
            let mut pages = request.into_paginator().send();
            while let Some(page) = pages.next().await {
                let page = page.map_err(failed("CloudWatch DescribeAlarms"))?;
                let metric = page.metric_alarms().iter().map(|alarm| {
                    (
                        alarm.alarm_name(),
                        alarm.state_value(),
                        alarm.state_reason(),
                    )
                });
                let composite = page.composite_alarms().iter().map(|alarm| {
                    (
                        alarm.alarm_name(),
                        alarm.state_value(),
                        alarm.state_reason(),
                    )
                });
                for (name, state, reason) in metric.chain(composite) {
                    let reading = (alarm_state(state), reason.unwrap_or_default().to_owned());
                    found.insert(name.unwrap_or_default().to_owned(), reading);
                }
            }
        }
        Ok(names
            .iter()
            .map(|name| {
                let (state, reason) = found.get(name).cloned().unwrap_or_else(|| {
                    (
                        AlarmState::Missing,
                        "there is no alarm of that name".to_owned(),
                    )
                });
                AlarmReading {
                    name: name.clone(),
                    state,
                    reason,
                }
            })
            .collect())
    }
}

/// The queries with one side's names, numbered from `first` on.
fn all_filled(
    queries: &[&Query],
    first: usize,
    side: &SideMetrics<'_>,
) -> Vec<Vec<serin::request::MetricDataQuery>> {
    let queries = queries.iter().enumerate();
    let filled = queries.map(|(index, query)| queries::filled(query, first + index, &side.names()));
    filled.collect()
}

/// The queries of the request's Kayenta configuration.
fn kayenta_queries(checks: &Checks) -> Vec<Query> {
    let judge = checks.judge.as_ref();
    let kayenta = judge.and_then(|judge| judge.kayenta.as_ref());
    kayenta.map(Kayenta::queries).unwrap_or_default()
}

/// What is asked of stable for the limits that have a margin.
#[derive(Debug)]
struct StableLimits<'a> {
    /// Absent when stable itself is measured.
    stable: Option<&'a SideMetrics<'a>>,
    checks: &'a Checks,
    /// The number of the first query, which no other has.
    first: usize,
}

impl StableLimits<'_> {
    /// The checks, without limits on latency when none of them has a margin.
    fn checks(&self) -> Checks {
        let mut checks = self.checks.clone();
        if checks.latency_ms.iter().all(|limit| limit.margin.is_none()) {
            checks.latency_ms.clear();
        }
        checks
    }

    fn filled(&self) -> impl Iterator<Item = (&Query, Vec<serin::request::MetricDataQuery>)> {
        let queries = self.checks.queries.iter().enumerate();
        queries.map(|(index, query)| {
            let names = self.stable.filter(|_| query.margin.is_some());
            let names = names.map(SideMetrics::names);
            let filled = names.map(|names| queries::filled(query, self.first + index, &names));
            (query, filled.unwrap_or_default())
        })
    }

    fn ask(&self, window: Window) -> Vec<MetricDataQuery> {
        let checks = self.checks();
        let latency = self
            .stable
            .map(|stable| stable.ask_latency("stable", &checks, window));
        let queries = self.filled().flat_map(|(_, parts)| parts);
        let queries = queries.map(|part| queries::to_sdk(&part));
        latency.into_iter().flatten().chain(queries).collect()
    }

    fn latency(&self, answers: &Answers) -> Vec<Measured> {
        let checks = self.checks();
        self.stable.map_or_else(Vec::new, |stable| {
            stable.latency("stable", &checks, answers)
        })
    }

    fn queries(&self, answers: &Answers) -> Vec<Measured> {
        let readings = self.filled().map(|(query, filled)| Measured {
            reading: queries::worst(answers, &filled, query),
            query: queries::text(&filled),
        });
        readings.collect()
    }
}

/// The window that limits are held against, and the time for which requests are counted, which reaches further back when
/// they are compared too.
fn spans(times: Times) -> (Window, Window) {
    let nothing = |end| Window { start: end, end };
    match (times.window, times.compared) {
        (Some(window), Some(compared)) => (
            window,
            Window {
                start: window.start.min(compared.start),
                end: window.end.max(compared.end),
            },
        ),
        (Some(window), None) => (window, window),
        (None, Some(compared)) => (nothing(compared.end), compared),
        (None, None) => (
            nothing(Timestamp::UNIX_EPOCH),
            nothing(Timestamp::UNIX_EPOCH),
        ),
    }
}

/// One call for what is asked of the same time, or two: the parts of a request's query refer to each other, and a call
/// knows nothing of what another one asked.
fn calls(
    one: (Vec<MetricDataQuery>, Window),
    other: (Vec<MetricDataQuery>, Window),
) -> impl Iterator<Item = (Vec<MetricDataQuery>, Window)> {
    let (mut one, mut other) = (one, other);
    if one.1 == other.1 && one.0.len() + other.0.len() <= QUERIES_PER_CALL {
        one.0.append(&mut other.0);
    }
    // CloudWatch refuses a call without a query, and one for no time, which would have nothing to say.
    [one, other]
        .into_iter()
        .filter(|(queries, range)| !queries.is_empty() && range.seconds() > 0)
}

/// One side's metrics, as its router has them.
#[derive(Debug)]
enum SideMetrics<'a> {
    Alb(AlbMetrics<'a>),
    Mesh(MeshMetrics<'a>),
}

impl<'a> SideMetrics<'a> {
    /// The canary's, or stable's when there is none.
    fn of(deployment: &'a Deployment, canary: Option<&'a Attachment>) -> Self {
        let side = if canary.is_some() {
            Side::Canary
        } else {
            Side::Stable
        };
        match &deployment.router {
            RouterRecord::Alb(record) => {
                let stable = record.stable_groups();
                let groups = canary.map_or(&stable, |canary| &canary.target_groups);
                Self::Alb(AlbMetrics::of(deployment, record, side, groups))
            }
            RouterRecord::AppMesh(record) => Self::Mesh(MeshMetrics::of(deployment, record, side)),
        }
    }

    /// The placeholders of the request's queries, and what stands for them.
    fn names(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Alb(alb) => alb.names(),
            Self::Mesh(mesh) => mesh.names(),
        }
    }

    /// The counts that are to be asked of this side, under ids that begin with `prefix`.
    fn ask_counts(&self, prefix: &str, checks: &Checks) -> Vec<MetricDataQuery> {
        match self {
            _ if checks.counts_requests() => self.ask_requests(prefix, checks),
            Self::Alb(alb) => alb.ask_health(prefix, checks.period_seconds),
            Self::Mesh(_) => Vec::new(),
        }
    }

    /// The percentiles that are to be asked of this side.
    fn ask_latency(&self, prefix: &str, checks: &Checks, window: Window) -> Vec<MetricDataQuery> {
        match self {
            Self::Alb(alb) => alb.ask_latency(prefix, checks, window),
            Self::Mesh(_) => Vec::new(),
        }
    }

    /// The counts of requests slower than each threshold.
    fn ask_slow(&self, prefix: &str, checks: &Checks, thresholds: &[f64]) -> Vec<MetricDataQuery> {
        match self {
            Self::Alb(alb) => alb.ask_slow(prefix, checks.period_seconds, thresholds),
            Self::Mesh(_) => Vec::new(),
        }
    }

    /// This side's slow requests, interval by interval.
    fn slow_by_interval(
        &self,
        prefix: &str,
        place: usize,
        answers: &Answers,
        intervals: Intervals,
    ) -> Result<Vec<Option<Counts>>, String> {
        match self {
            Self::Alb(alb) => alb.slow_by_interval(prefix, place, answers, intervals),
            Self::Mesh(_) => Ok(vec![None; intervals.number()]),
        }
    }

    fn ask_response_times(
        &self,
        asked: &[ResponseTimes],
        period: u32,
        window: Window,
    ) -> Vec<MetricDataQuery> {
        match self {
            Self::Alb(alb) => alb.ask_response_times(asked, period, window),
            Self::Mesh(_) => Vec::new(),
        }
    }

    fn response_times(&self, asked: &[ResponseTimes], answers: &Answers) -> Vec<Measured> {
        match self {
            Self::Alb(alb) => alb.response_times(asked, answers),
            Self::Mesh(mesh) => asked.iter().map(|_| mesh.no_latency()).collect(),
        }
    }

    fn ask_requests(&self, prefix: &str, checks: &Checks) -> Vec<MetricDataQuery> {
        let period = checks.period_seconds;
        match self {
            Self::Alb(alb) => {
                let mut queries = alb.ask_health(prefix, period);
                queries.extend(alb.ask_requests(prefix, period));
                queries
            }
            Self::Mesh(mesh) => mesh.ask_requests(prefix, period),
        }
    }

    fn requests(&self, prefix: &str, answers: &Answers) -> RequestCounts {
        match self {
            Self::Alb(alb) => alb.requests(prefix, answers),
            Self::Mesh(mesh) => mesh.requests(prefix, answers),
        }
    }

    /// The latency of each of the request's limits, in milliseconds.
    fn latency(&self, prefix: &str, checks: &Checks, answers: &Answers) -> Vec<Measured> {
        match self {
            Self::Alb(alb) => alb.latency(prefix, checks, answers),
            Self::Mesh(mesh) => checks
                .latency_ms
                .iter()
                .map(|_| mesh.no_latency())
                .collect(),
        }
    }

    fn unhealthy_targets(&self, prefix: &str, answers: &Answers) -> Option<Measured> {
        match self {
            Self::Alb(alb) => Some(alb.unhealthy_targets(prefix, answers)),
            Self::Mesh(_) => None,
        }
    }
}

/// The thresholds of slow requests, for the canary or for those beside it.
fn milliseconds(thresholds: &[SlowThreshold], of_canary: bool) -> Vec<f64> {
    let thresholds = thresholds.iter();
    if of_canary {
        thresholds.map(SlowThreshold::canary_ms).collect()
    } else {
        thresholds.map(|threshold| threshold.ms).collect()
    }
}

/// The canary and those beside it.
#[derive(Debug, Clone, Copy)]
struct Sides<'a> {
    canary: &'a SideMetrics<'a>,
    stable: &'a SideMetrics<'a>,
    baseline: Option<&'a SideMetrics<'a>>,
}

impl<'a> Sides<'a> {
    /// Each of them, with what the ids of its queries begin with.
    fn named(self) -> impl Iterator<Item = (&'static str, &'a SideMetrics<'a>)> {
        let baseline = self.baseline.map(|baseline| ("baseline", baseline));
        [("own", self.canary), ("stable", self.stable)]
            .into_iter()
            .chain(baseline)
    }

    /// Their counts, interval by interval.
    fn by_interval(self, answers: &Answers, intervals: Intervals) -> SeriesOfBoth {
        let of_all = || -> Result<Vec<Interval>, String> {
            // All sides are of one deployment, which has one router.
            let nothing = || Ok(vec![None; intervals.number()]);
            if let SideMetrics::Alb(_) = self.canary {
                let answered = |(prefix, side): (_, &SideMetrics<'_>)| match side {
                    SideMetrics::Alb(alb) => alb.by_interval(prefix, answers, intervals),
                    SideMetrics::Mesh(_) => nothing(),
                };
                let sides = self.each(answered, intervals)?;
                return Ok(sides
                    .map(|[canary, stable, baseline]| alb::beside(canary, stable, baseline))
                    .collect());
            }
            let counts = |(prefix, side): (_, &SideMetrics<'_>)| match side {
                SideMetrics::Mesh(mesh) => mesh.by_interval(prefix, answers, intervals),
                SideMetrics::Alb(_) => Ok(vec![None; intervals.number()]),
            };
            Ok(self.each(counts, intervals)?.map(interval).collect())
        };
        of_all().map_or_else(SeriesOfBoth::Incomplete, SeriesOfBoth::Intervals)
    }

    /// Their requests slower than the threshold of this place, interval by interval.
    fn slow_by_interval(
        self,
        place: usize,
        answers: &Answers,
        intervals: Intervals,
    ) -> SeriesOfBoth {
        let slow = |(prefix, side): (_, &SideMetrics<'_>)| {
            side.slow_by_interval(prefix, place, answers, intervals)
        };
        self.each(slow, intervals)
            .map(|counts| counts.map(interval).collect())
            .map_or_else(SeriesOfBoth::Incomplete, SeriesOfBoth::Intervals)
    }

    /// What `counts` says of each side, together for each interval: of the canary, of stable, and of the baseline.
    fn each<T: Copy>(
        self,
        counts: impl Fn((&'static str, &'a SideMetrics<'a>)) -> Result<Vec<Option<T>>, String>,
        intervals: Intervals,
    ) -> Result<impl Iterator<Item = [Option<T>; 3]>, String> {
        let sides = self
            .named()
            .map(counts)
            .collect::<Result<Vec<_>, String>>()?;
        let of = move |side: usize, place: usize| *sides.get(side)?.get(place)?;
        let whole = 0..intervals.number();
        Ok(whole.map(move |place| [of(0, place), of(1, place), of(2, place)]))
    }
}

const fn interval([canary, stable, baseline]: [Option<Counts>; 3]) -> Interval {
    Interval {
        canary,
        stable,
        baseline,
    }
}

/// A metric by its name and all its dimensions: CloudWatch finds nothing with one too many or too few.
#[derive(Debug, Clone)]
struct Series {
    namespace: &'static str,
    name: &'static str,
    dimensions: Vec<(&'static str, String)>,
}

impl Series {
    /// The query that asks for this statistic of it.
    fn query(&self, id: String, stat: &str, period: u32) -> MetricDataQuery {
        let dimensions = self
            .dimensions
            .iter()
            .map(|(name, value)| Dimension::builder().name(*name).value(value).build());
        let metric = Metric::builder()
            .namespace(self.namespace)
            .metric_name(self.name)
            .set_dimensions(Some(dimensions.collect()))
            .build();
        let stat = MetricStat::builder()
            .metric(metric)
            .period(seconds(period))
            .stat(stat)
            .build();
        MetricDataQuery::builder()
            .id(id)
            .metric_stat(stat)
            .return_data(true)
            .build()
    }

    /// The same in words that can be pasted into the console.
    fn text(&self, stat: &str) -> String {
        let dimensions: Vec<_> = self
            .dimensions
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let (name, namespace) = (self.name, self.namespace);
        format!(
            "{stat} of {name} {{{}}} in {namespace}",
            dimensions.join(", ")
        )
    }
}

fn alarm_state(state: Option<&StateValue>) -> AlarmState {
    match state {
        Some(StateValue::Ok) => AlarmState::Ok,
        Some(StateValue::Alarm) => AlarmState::Alarm,
        _ => AlarmState::InsufficientData,
    }
}

/// A period is at most an hour in a request, and CloudWatch takes signed numbers.
fn seconds(period: u32) -> i32 {
    i32::try_from(period).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(minutes: i64) -> Window {
        Window {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::from_second(60 * minutes).unwrap(),
        }
    }

    #[test]
    fn what_one_call_cannot_take_is_asked_in_two_and_nothing_is_asked_in_none() {
        let query = || MetricDataQuery::builder().id("q").build();
        let sizes = |(counts, range), (of_window, window)| -> Vec<usize> {
            calls(
                (vec![query(); counts], range),
                (vec![query(); of_window], window),
            )
            .map(|(queries, _)| queries.len())
            .collect()
        };
        assert_eq!(sizes((100, window(5)), (400, window(5))), [500]);
        assert_eq!(sizes((101, window(5)), (400, window(5))), [101, 400]);
        assert_eq!(sizes((10, window(60)), (2, window(5))), [10, 2]);
        assert_eq!(sizes((10, window(60)), (2, window(0))), [10]);
        assert_eq!(sizes((0, window(5)), (0, window(5))), [0; 0]);
    }
}

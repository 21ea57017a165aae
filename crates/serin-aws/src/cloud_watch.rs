//! What can be measured in Amazon CloudWatch: what its agent reads from the mesh's Envoys, the request's own queries, and
//! alarms.
//!
//! A series that is empty comes back as `Complete` with no values, and so does one that does not exist. So nothing here turns
//! the absence of a value into a zero.

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::types::{
    AlarmType, Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
    StateValue, StatusCode,
};
use aws_smithy_types::DateTime;
use serin::ports::{
    AlarmReading, AlarmState, HealthSignals, Measured, Measurements, Reading, RequestCounts, Side,
};
use serin::request::{self, Query};
use serin::verdict::{Limit, Window};
use serin::{Deployment, PortError, RouterRecord};

use crate::error::failed;

/// Where the CloudWatch agent puts what it scrapes in ECS.
const NAMESPACE: &str = "ECS/ContainerInsights/Prometheus";
/// Envoy's counter of answers by class.
const METRIC: &str = "envoy_http_downstream_rq_xx";
/// The classes of answers that end a request. Envoy counts 1xx as well, which is no end.
const CLASSES: [u8; 4] = [2, 3, 4, 5];
/// The class that counts as failed. 4xx is the caller's fault.
const FAILED: u8 = 5;
/// The most alarms that one `DescribeAlarms` takes.
const ALARMS_PER_CALL: usize = 100;

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
        window: Window,
        period: u32,
    ) -> Result<Answers, PortError> {
        let request = self
            .cloud_watch
            .get_metric_data()
            .set_metric_data_queries(Some(queries))
            .start_time(DateTime::from_secs(window.start.as_second()))
            .end_time(DateTime::from_secs(window.end.as_second()))
            .scan_by(ScanBy::TimestampAscending);
        let mut answers = Answers {
            end: window.end.as_second(),
            period: i64::from(period),
            ..Answers::default()
        };
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("CloudWatch GetMetricData"))?;
            for result in page.metric_data_results() {
                answers.add(result, window);
            }
        }
        Ok(answers)
    }
}

impl HealthSignals for CloudWatchSignals {
    async fn measure(
        &self,
        deployment: &Deployment,
        side: Side,
        window: Window,
    ) -> Result<Measurements, PortError> {
        let names = Names::of(deployment, side);
        let period = deployment.checks.period_seconds;
        let counted = deployment.checks.error_rate_percent.is_some();
        let compared =
            (counted && side == Side::Canary).then(|| Names::of(deployment, Side::Stable));
        let queries: Vec<_> = deployment
            .checks
            .queries
            .iter()
            .enumerate()
            .map(|(index, query)| filled(query, index, &names))
            .collect();

        let mut asked = Vec::new();
        if counted {
            asked.extend(CLASSES.map(|class| names.query("own", class, period)));
        }
        if let Some(stable) = &compared {
            asked.extend(CLASSES.map(|class| stable.query("stable", class, period)));
        }
        asked.extend(queries.iter().flatten().map(to_sdk));
        // CloudWatch refuses a call without a query and one whose window is empty; neither has anything to say.
        let answers = if asked.is_empty() || window.seconds() == 0 {
            Answers::default()
        } else {
            self.get(asked, window, period).await?
        };

        Ok(Measurements {
            requests: counted.then(|| names.counts("own", &answers)),
            stable_requests: compared.map(|stable| stable.counts("stable", &answers)),
            queries: deployment
                .checks
                .queries
                .iter()
                .zip(&queries)
                .map(|(query, filled)| Measured {
                    reading: answers.worst(filled, query),
                    query: text(filled),
                })
                .collect(),
        })
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

/// The names by which one side's metrics are found.
#[derive(Debug, Clone, Copy)]
struct Names<'a> {
    cluster: &'a str,
    family: &'a str,
    service: &'a str,
    node: &'a str,
}

impl<'a> Names<'a> {
    fn of(deployment: &'a Deployment, side: Side) -> Self {
        let RouterRecord::AppMesh(record) = &deployment.router;
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

    /// The dimensions, all of them: CloudWatch finds nothing with one too many or too few.
    fn dimensions(self, class: &str) -> [(&'static str, String); 4] {
        [
            ("ClusterName", self.cluster.to_owned()),
            ("TaskDefinitionFamily", self.family.to_owned()),
            // What came in to the service; `egress` is what the service itself asked of others.
            ("envoy_http_conn_manager_prefix", "ingress".to_owned()),
            ("envoy_response_code_class", class.to_owned()),
        ]
    }

    fn query(self, prefix: &str, class: u8, period: u32) -> MetricDataQuery {
        let dimensions = self.dimensions(&class.to_string()).into_iter();
        let metric = Metric::builder()
            .namespace(NAMESPACE)
            .metric_name(METRIC)
            .set_dimensions(Some(
                dimensions
                    .map(|(name, value)| Dimension::builder().name(name).value(value).build())
                    .collect(),
            ));
        let stat = MetricStat::builder()
            .metric(metric.build())
            .period(seconds(period))
            .stat("Sum");
        MetricDataQuery::builder()
            .id(id(prefix, class))
            .metric_stat(stat.build())
            .return_data(true)
            .build()
    }

    fn counts(self, prefix: &str, answers: &Answers) -> RequestCounts {
        let ids = CLASSES.map(|class| id(prefix, class));
        let asked = |classes: &str| {
            let dimensions = self
                .dimensions(classes)
                .map(|(name, value)| format!("{name}={value}"));
            format!(
                "Sum of {METRIC} {{{}}} in {NAMESPACE}",
                dimensions.join(", ")
            )
        };
        RequestCounts {
            requests: Measured {
                reading: answers.sum(&ids),
                query: asked("2|3|4|5"),
            },
            errors: Measured {
                reading: answers.sum(&[id(prefix, FAILED)]),
                query: asked("5"),
            },
        }
    }

    fn fill(self, text: &str) -> String {
        text.replace("{{clusterName}}", self.cluster)
            .replace("{{canaryFamily}}", self.family)
            .replace("{{canaryService}}", self.service)
            .replace("{{virtualNode}}", self.node)
    }
}

fn id(prefix: &str, class: u8) -> String {
    format!("{prefix}_{class}xx")
}

/// What CloudWatch answered to one call, by query id.
#[derive(Debug, Default)]
struct Answers {
    /// The window's end, in seconds since 1970.
    end: i64,
    /// The period of the counts, in seconds.
    period: i64,
    /// Each with its time, in seconds since 1970.
    values: BTreeMap<String, Vec<(i64, f64)>>,
    /// The last status of each series, by id and label: a series that goes on over several pages is `PartialData` on all but
    /// the last, and an expression may give several series under one id.
    statuses: BTreeMap<(String, String), StatusCode>,
}

impl Answers {
    fn add(&mut self, result: &MetricDataResult, window: Window) {
        let id = result.id().unwrap_or_default().to_owned();
        if let Some(status) = result.status_code() {
            self.statuses.insert(
                (id.clone(), result.label().unwrap_or_default().to_owned()),
                status.clone(),
            );
        }
        let (start, end) = (window.start.as_second(), window.end.as_second());
        let points = result.timestamps().iter().zip(result.values());
        // CloudWatch may round the window down to whole minutes; what lies outside belongs to another weight.
        let inside = points
            .filter(|(at, _)| (start..end).contains(&at.secs()))
            .map(|(at, value)| (at.secs(), *value));
        self.values.entry(id).or_default().extend(inside);
    }

    fn values(&self, id: &str) -> &[(i64, f64)] {
        self.values.get(id).map_or(&[], Vec::as_slice)
    }

    /// The first status of the id that is not `Complete`.
    fn incomplete(&self, id: &str) -> Option<Reading> {
        let series = self.statuses.iter().filter(|((of, _), _)| of == id);
        let status = series
            .map(|(_, status)| status)
            .find(|status| **status != StatusCode::Complete)?;
        Some(Reading::Incomplete(status.as_str().to_owned()))
    }

    /// Whether the counts stop before the window's end: the agent gives a point in every period, a zero if need be, so the
    /// newest may lag by one, and more is silence, whatever the points before it say. A user's own metric may be sparse.
    fn silent(&self, values: &[(i64, f64)]) -> Option<Reading> {
        let newest = values.iter().map(|(at, _)| *at).max()?;
        let since = DateTime::from_secs(newest);
        (newest < self.end - 2 * self.period)
            .then(|| Reading::Incomplete(format!("nothing after {since}")))
    }

    /// The sum of several counts. Without any datapoint in any of them there is no data, which is not zero.
    fn sum(&self, ids: &[String]) -> Reading {
        if let Some(incomplete) = ids.iter().find_map(|id| self.incomplete(id)) {
            return incomplete;
        }
        let values: Vec<_> = ids.iter().flat_map(|id| self.values(id)).copied().collect();
        if values.is_empty() {
            return Reading::NoData;
        }
        if let Some(silent) = self.silent(&values) {
            return silent;
        }
        Reading::Value {
            value: values.iter().map(|(_, value)| value).sum(),
            datapoints: values.len(),
        }
    }

    /// The datapoint of a query that is nearest to breaking a limit, or furthest beyond one.
    fn worst(&self, filled: &[request::MetricDataQuery], query: &Query) -> Reading {
        let Some(answer) = filled.iter().find(|part| part.return_data != Some(false)) else {
            return Reading::NoData;
        };
        if let Some(incomplete) = self.incomplete(&answer.id) {
            return incomplete;
        }
        let values = self.values(&answer.id);
        let excess = |value: f64| {
            let beyond = query.limits().map(|limit| match limit {
                Limit::Max(max) => value - max,
                Limit::Min(min) => min - value,
            });
            beyond.fold(f64::NEG_INFINITY, f64::max)
        };
        let worst = values
            .iter()
            .map(|(_, value)| *value)
            .max_by(|one, other| excess(*one).total_cmp(&excess(*other)));
        worst.map_or(Reading::NoData, |value| Reading::Value {
            value,
            datapoints: values.len(),
        })
    }
}

/// The parts of one of the request's queries with one side's names filled in, and with ids that no other query has: each
/// query has a name space of its own, but `GetMetricData` has one for all.
fn filled(query: &Query, index: usize, names: &Names<'_>) -> Vec<request::MetricDataQuery> {
    let prefix = format!("q{index}_");
    let ids: Vec<_> = query
        .metric_data_queries
        .iter()
        .map(|part| part.id.as_str())
        .collect();
    let parts = query.metric_data_queries.iter().map(|part| {
        let mut part = part.clone();
        part.id = format!("{prefix}{}", part.id);
        part.expression = part
            .expression
            .map(|expression| names.fill(&with_prefix(&expression, &ids, &prefix)));
        if let Some(stat) = &mut part.metric_stat {
            stat.metric.namespace = names.fill(&stat.metric.namespace);
            stat.metric.metric_name = names.fill(&stat.metric.metric_name);
            for dimension in &mut stat.metric.dimensions {
                dimension.name = names.fill(&dimension.name);
                dimension.value = names.fill(&dimension.value);
            }
        }
        part
    });
    parts.collect()
}

/// The expression with each of `ids` prefixed where it stands as a whole word outside of quotation marks. Functions are in
/// capitals and ids begin with a small letter, so the one is never taken for the other.
fn with_prefix(expression: &str, ids: &[&str], prefix: &str) -> String {
    let mut text = String::with_capacity(expression.len());
    let mut word = String::new();
    let mut quote = None;
    let finish = |word: &mut String, text: &mut String, quoted: bool| {
        if !quoted && ids.contains(&word.as_str()) {
            text.push_str(prefix);
        }
        text.push_str(word);
        word.clear();
    };
    for character in expression.chars() {
        if character.is_ascii_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        finish(&mut word, &mut text, quote.is_some());
        match quote {
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if open == character => quote = None,
            _ => {}
        }
        text.push(character);
    }
    finish(&mut word, &mut text, quote.is_some());
    text
}

fn to_sdk(part: &request::MetricDataQuery) -> MetricDataQuery {
    let stat = part.metric_stat.as_ref().map(|stat| {
        let dimensions = stat.metric.dimensions.iter();
        let metric = Metric::builder()
            .namespace(&stat.metric.namespace)
            .metric_name(&stat.metric.metric_name)
            .set_dimensions(Some(
                dimensions
                    .map(|pair| {
                        Dimension::builder()
                            .name(&pair.name)
                            .value(&pair.value)
                            .build()
                    })
                    .collect(),
            ));
        MetricStat::builder()
            .metric(metric.build())
            .period(seconds(stat.period))
            .stat(&stat.stat)
            .build()
    });
    MetricDataQuery::builder()
        .id(&part.id)
        .set_metric_stat(stat)
        .set_expression(part.expression.clone())
        .set_period(part.period.map(seconds))
        .return_data(part.return_data != Some(false))
        .build()
}

/// What was asked, in one line: the part that answers, and then what it refers to.
fn text(parts: &[request::MetricDataQuery]) -> String {
    let (answer, others): (Vec<_>, Vec<_>) = parts
        .iter()
        .partition(|part| part.return_data != Some(false));
    let lines = answer.into_iter().map(part_text).chain(
        others
            .into_iter()
            .map(|part| format!("{} = {}", part.id, part_text(part))),
    );
    lines.collect::<Vec<_>>().join("; ")
}

fn part_text(part: &request::MetricDataQuery) -> String {
    match (&part.metric_stat, &part.expression) {
        (Some(stat), _) => {
            let dimensions: Vec<_> = stat
                .metric
                .dimensions
                .iter()
                .map(|pair| format!("{}={}", pair.name, pair.value))
                .collect();
            format!(
                "{} of {} {{{}}} in {}",
                stat.stat,
                stat.metric.metric_name,
                dimensions.join(", "),
                stat.metric.namespace
            )
        }
        (None, Some(expression)) => expression.clone(),
        (None, None) => String::new(),
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

    const CANARY: Names<'static> = Names {
        cluster: "prod",
        family: "checkout-canary",
        service: "checkout-canary-1a2b3c4d",
        node: "checkout-node-canary",
    };

    fn window() -> Window {
        Window {
            start: "2026-11-21T10:00:00Z".parse().unwrap(),
            end: "2026-11-21T10:02:00Z".parse().unwrap(),
        }
    }

    fn result(id: &str, status: StatusCode, points: &[(i64, f64)]) -> MetricDataResult {
        let start = window().start.as_second();
        MetricDataResult::builder()
            .id(id)
            .label(id)
            .status_code(status)
            .set_timestamps(Some(
                points
                    .iter()
                    .map(|(at, _)| DateTime::from_secs(start + at))
                    .collect(),
            ))
            .set_values(Some(points.iter().map(|(_, value)| *value).collect()))
            .build()
    }

    fn answers(results: &[MetricDataResult]) -> Answers {
        let mut answers = Answers::default();
        for result in results {
            answers.add(result, window());
        }
        answers
    }

    fn query(json: &str) -> Query {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in_every_text() {
        let query = query(
            r#"{"name": "latency", "max": 500, "metricDataQueries": [
                {"Id": "m1", "ReturnData": false, "MetricStat": {"Period": 60, "Stat": "p99", "Metric": {
                    "Namespace": "Team/{{clusterName}}", "MetricName": "latency",
                    "Dimensions": [{"Name": "Family", "Value": "{{canaryFamily}}"}, {"Name": "Node", "Value": "{{virtualNode}}"}]}}},
                {"Id": "e1", "Expression": "m1 * 1000 + SEARCH('{Team,Service} m1 Service=\"{{canaryService}}\"', 'p99', 60)"}]}"#,
        );
        let filled = filled(&query, 3, &CANARY);
        let metric = &filled[0].metric_stat.as_ref().unwrap().metric;
        assert_eq!(metric.namespace, "Team/prod");
        assert_eq!(metric.dimensions[0].value, "checkout-canary");
        assert_eq!(metric.dimensions[1].value, "checkout-node-canary");
        assert_eq!(filled[0].id, "q3_m1");
        assert_eq!(
            filled[1].expression.as_deref(),
            Some(
                r#"q3_m1 * 1000 + SEARCH('{Team,Service} m1 Service="checkout-canary-1a2b3c4d"', 'p99', 60)"#
            )
        );
        assert_eq!(
            text(&filled),
            r#"q3_m1 * 1000 + SEARCH('{Team,Service} m1 Service="checkout-canary-1a2b3c4d"', 'p99', 60); q3_m1 = p99 of latency {Family=checkout-canary, Node=checkout-node-canary} in Team/prod"#
        );
    }

    #[test]
    fn only_whole_words_outside_of_quotation_marks_are_ids() {
        let rewritten = |expression| with_prefix(expression, &["m1", "m"], "q0_");
        assert_eq!(rewritten("m1/m+m12-m_1"), "q0_m1/q0_m+m12-m_1");
        assert_eq!(rewritten("FILL(m1,0)*100"), "FILL(q0_m1,0)*100");
        assert_eq!(
            rewritten("SEARCH('m m1',\"m\")+m"),
            "SEARCH('m m1',\"m\")+q0_m"
        );
        assert_eq!(rewritten("m"), "q0_m");
    }

    #[test]
    fn silence_is_not_zero() {
        let some = answers(&[
            result("own_2xx", StatusCode::Complete, &[(0, 100.0), (60, 50.0)]),
            result("own_5xx", StatusCode::Complete, &[]),
        ]);
        let counts = CANARY.counts("own", &some);
        assert_eq!(
            counts.requests.reading,
            Reading::Value {
                value: 150.0,
                datapoints: 2
            }
        );
        assert_eq!(counts.errors.reading, Reading::NoData);
        assert_eq!(
            CANARY.counts("own", &answers(&[])).requests.reading,
            Reading::NoData
        );
    }

    #[test]
    fn counts_that_stop_before_the_windows_end_are_silence_whatever_came_before() {
        let reading = |seconds| {
            let points = [(0, 600.0), (60, 0.0)];
            let answers = Answers {
                end: window().start.as_second() + seconds,
                period: 60,
                ..answers(&[result("own_2xx", StatusCode::Complete, &points)])
            };
            answers.sum(&["own_2xx".into()])
        };
        assert!(matches!(reading(120), Reading::Value { .. }));
        assert!(
            matches!(reading(180), Reading::Value { .. }),
            "the newest may lag by one"
        );
        assert_eq!(
            reading(240),
            Reading::Incomplete("nothing after 2026-11-21T10:01:00Z".into())
        );
    }

    #[test]
    fn what_is_asked_can_be_read_and_found_again() {
        let counts = CANARY.counts("own", &Answers::default());
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
    fn datapoints_outside_of_the_window_do_not_count() {
        let answers = answers(&[result(
            "own_5xx",
            StatusCode::Complete,
            &[(-60, 1000.0), (0, 1.0), (60, 2.0), (120, 1000.0)],
        )]);
        assert_eq!(
            answers.sum(&["own_5xx".into()]),
            Reading::Value {
                value: 3.0,
                datapoints: 2
            }
        );
    }

    #[test]
    fn an_answer_that_is_not_the_whole_one_says_so() {
        let partial = answers(&[
            result("own_2xx", StatusCode::Complete, &[(0, 5.0)]),
            result("own_5xx", StatusCode::InternalError, &[(0, 0.0)]),
        ]);
        let counts = CANARY.counts("own", &partial);
        assert_eq!(
            counts.errors.reading,
            Reading::Incomplete("InternalError".into())
        );
        assert_eq!(
            counts.requests.reading,
            Reading::Incomplete("InternalError".into())
        );
    }

    #[test]
    fn a_series_over_two_pages_is_complete_when_its_last_page_is() {
        let answers = answers(&[
            result("own_2xx", StatusCode::PartialData, &[(0, 5.0)]),
            result("own_2xx", StatusCode::Complete, &[(60, 6.0)]),
        ]);
        assert_eq!(
            answers.sum(&["own_2xx".into()]),
            Reading::Value {
                value: 11.0,
                datapoints: 2
            }
        );
    }

    #[test]
    fn the_worst_datapoint_counts() {
        let worst = |limits: &str, points: &[(i64, f64)]| {
            let query = query(&format!(
                r#"{{"name": "x", {limits}, "metricDataQueries": [{{"Id": "a", "Expression": "1"}}]}}"#
            ));
            let answers = answers(&[result("q0_a", StatusCode::Complete, points)]);
            match answers.worst(&filled(&query, 0, &CANARY), &query) {
                Reading::Value { value, .. } => Some(value),
                _ => None,
            }
        };
        let points = [(0, 3.0), (10, 9.0), (20, -4.0)];
        assert_eq!(worst(r#""max": 5"#, &points), Some(9.0));
        assert_eq!(worst(r#""min": 0"#, &points), Some(-4.0));
        assert_eq!(worst(r#""min": 0, "max": 8"#, &points), Some(-4.0));
        assert_eq!(worst(r#""min": -4, "max": 8"#, &points), Some(9.0));
        assert_eq!(worst(r#""max": 5"#, &[]), None);
    }
}

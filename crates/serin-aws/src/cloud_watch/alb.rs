//! What Elastic Load Balancing publishes of a target group.
//!
//! Its own documentation makes three silences mean something: a count of answers is published only when it is not zero,
//! nothing is published of a group without requests, and the health of the targets is published every minute whatever they
//! serve. So a missing 5xx beside requests is a zero, missing requests are no data, and a missing health is real silence.
//!
//! A request that a target never answers, because it refuses, resets or hangs, is in no `HTTPCode_Target_*` of its group: the
//! load balancer answers it with a 502 or 504 of its own, which it counts for all its groups together. In the group it shows
//! as a request without an answer. What counts as failed is the smaller of the two numbers, because either alone accuses too
//! much: a client that goes away leaves no answer either, and another group's failures are in the load balancer's count.
//!
//! How many requests were slower than a threshold is CloudWatch's statistic `TC(t:)`, a trimmed count: of the datapoints above
//! `t`, which is not among them. Whether a count of nothing is given as a zero or not at all is not documented, so `TC(:t)` and
//! the number of all are asked for as well: what is not given is a zero only where the other one has all of them.

use aws_sdk_cloudwatch::types::MetricDataQuery;
use serin::Deployment;
use serin::ports::{Counts, Interval, Measured, Reading, RequestCounts, ResponseTimes, Side};
use serin::progress::TargetGroupUse;
use serin::request::{Checks, LatencyLimit};
use serin::routing::{AlbRecord, LoadBalancerKind};
use serin::verdict::Window;

use super::Series;
use super::answers::{Answers, Intervals};

/// The counts of a target group's answers by class, all of them; a 1xx is not the end of a request.
const ANSWERS: [&str; 4] = [
    "HTTPCode_Target_2XX_Count",
    "HTTPCode_Target_3XX_Count",
    "HTTPCode_Target_4XX_Count",
    "HTTPCode_Target_5XX_Count",
];
/// The place of the class in [`ANSWERS`] that counts as failed. 4xx is the caller's fault.
const FAILED: usize = 3;
/// The answers that a load balancer gives in the place of a target: refused or reset, no target, too late.
const OWN_ANSWERS: [&str; 3] = [
    "HTTPCode_ELB_502_Count",
    "HTTPCode_ELB_503_Count",
    "HTTPCode_ELB_504_Count",
];
/// How long targets took until they began to answer, in seconds.
const RESPONSE_TIME: &str = "TargetResponseTime";
/// No requests at all.
const NONE: Counts = Counts {
    requests: 0.0,
    errors: 0.0,
};
/// The longest period that CloudWatch takes, in seconds.
const LONGEST_PERIOD: i64 = 86_400;

/// The names by which one side's metrics are found.
#[derive(Debug, Clone)]
pub(super) struct AlbMetrics<'a> {
    kind: LoadBalancerKind,
    cluster: &'a str,
    family: &'a str,
    service: &'a str,
    groups: Vec<GroupNames>,
}

/// A target group and its load balancer, as CloudWatch names them: by the ends of their ARNs.
#[derive(Debug, Clone)]
struct GroupNames {
    group: String,
    balancer: String,
}

impl<'a> AlbMetrics<'a> {
    /// The metrics of the side that is registered in these target groups, one for each pair of the record.
    pub(super) fn of(
        deployment: &'a Deployment,
        record: &AlbRecord,
        side: Side,
        uses: &[TargetGroupUse],
    ) -> Self {
        let groups = record
            .groups
            .iter()
            .zip(uses)
            .map(|(pair, used)| GroupNames {
                group: after(&used.target_group_arn, ":"),
                balancer: after(&pair.load_balancer_arn, ":loadbalancer/"),
            });
        let (family, service) = match side {
            Side::Canary => (&deployment.canary.family, &deployment.canary.service),
            Side::Stable => (&deployment.stable.family, &deployment.stable.service),
        };
        Self {
            kind: record.balancer,
            cluster: deployment.cluster().as_str(),
            family: family.as_str(),
            service: service.as_str(),
            groups: groups.collect(),
        }
    }

    pub(super) fn names(&self) -> Vec<(&'static str, String)> {
        let first = self.groups.first();
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        vec![
            ("clusterName", self.cluster.to_owned()),
            ("canaryFamily", self.family.to_owned()),
            ("canaryService", self.service.to_owned()),
            ("targetGroup", text(first.map(|names| &names.group))),
            ("loadBalancer", text(first.map(|names| &names.balancer))),
        ]
    }

    /// The health of the targets, which is also how one knows that the metrics are alive.
    pub(super) fn ask_health(&self, prefix: &str, period: u32) -> Vec<MetricDataQuery> {
        let groups = self.groups.iter().enumerate();
        let queries = groups.map(|(index, names)| {
            self.of_group(names, "UnHealthyHostCount").query(
                id(prefix, index, "unhealthy"),
                "Maximum",
                period,
            )
        });
        queries.collect()
    }

    pub(super) fn ask_requests(&self, prefix: &str, period: u32) -> Vec<MetricDataQuery> {
        let mut queries = Vec::new();
        for (index, names) in self.groups.iter().enumerate() {
            let mut ask = |series: Series, what: &str| {
                queries.push(series.query(id(prefix, index, what), "Sum", period));
            };
            ask(self.of_group(names, "RequestCount"), "requests");
            ask(
                self.of_group(names, "TargetConnectionErrorCount"),
                "refused",
            );
            for (class, name) in ANSWERS.into_iter().enumerate() {
                ask(self.of_group(names, name), &format!("answers{class}"));
            }
            for (class, name) in OWN_ANSWERS.into_iter().enumerate() {
                ask(self.of_balancer(names, name), &format!("own{class}"));
            }
        }
        queries
    }

    /// Percentiles cannot be averaged, so each is asked for as one datapoint over the whole window.
    pub(super) fn ask_latency(
        &self,
        prefix: &str,
        checks: &Checks,
        window: Window,
    ) -> Vec<MetricDataQuery> {
        let period = whole(window, checks.period_seconds);
        let mut queries = Vec::new();
        for (place, limit) in checks.latency_ms.iter().enumerate() {
            for (index, names) in self.groups.iter().enumerate() {
                let id = id(prefix, index, &format!("latency{place}"));
                queries.push(
                    self.of_group(names, RESPONSE_TIME)
                        .query(id, &stat(limit), period),
                );
            }
        }
        queries
    }

    /// What is needed to know how many requests were slower than each threshold.
    pub(super) fn ask_slow(
        &self,
        prefix: &str,
        period: u32,
        thresholds: &[f64],
    ) -> Vec<MetricDataQuery> {
        let mut queries = Vec::new();
        for (index, names) in self.groups.iter().enumerate() {
            let mut ask = |what: &str, stat: &str| {
                let times = self.of_group(names, RESPONSE_TIME);
                queries.push(times.query(id(prefix, index, what), stat, period));
            };
            if !thresholds.is_empty() {
                ask("times", &statistic(ResponseTimes::Samples));
            }
            for (place, ms) in thresholds.iter().enumerate() {
                let (above, up_to) = (ResponseTimes::Above(*ms), ResponseTimes::UpTo(*ms));
                ask(&format!("above{place}"), &statistic(above));
                ask(&format!("upto{place}"), &statistic(up_to));
            }
        }
        queries
    }

    /// How many requests of each interval were slower than the threshold of this place, of all groups together.
    pub(super) fn slow_by_interval(
        &self,
        prefix: &str,
        place: usize,
        answers: &Answers,
        intervals: Intervals,
    ) -> Result<Vec<Option<Counts>>, String> {
        let mut all = vec![None; intervals.number()];
        for index in 0..self.groups.len() {
            let names = [
                "times".to_owned(),
                format!("above{place}"),
                format!("upto{place}"),
            ];
            let ids = names.map(|what| id(prefix, index, &what));
            answers.whole(&ids)?;
            let [samples, above, up_to] = ids.map(|id| answers.by_interval(&id, intervals));
            for (at, all) in all.iter_mut().enumerate() {
                // A group without requests adds nothing; of one whose slow ones are not known, the whole is not known.
                if let Some(samples) = samples[at] {
                    let counts = Counts::of_times(samples, above[at], up_to[at]);
                    let before = all.unwrap_or(Some(NONE));
                    *all = Some(before.zip(counts).map(|(one, other)| Counts {
                        requests: one.requests + other.requests,
                        errors: one.errors + other.errors,
                    }));
                }
            }
        }
        Ok(all.into_iter().map(Option::flatten).collect())
    }

    /// Counts are asked in the period in which they are compared, percentiles as one datapoint over the whole window.
    pub(super) fn ask_response_times(
        &self,
        asked: &[ResponseTimes],
        period: u32,
        window: Window,
    ) -> Vec<MetricDataQuery> {
        let mut queries = Vec::new();
        for (place, what) in asked.iter().enumerate() {
            let period = match what {
                ResponseTimes::Percentile(_) => whole(window, period),
                _ => period,
            };
            for (index, names) in self.groups.iter().enumerate() {
                let times = self.of_group(names, RESPONSE_TIME);
                let id = id("own", index, &format!("asked{place}"));
                queries.push(times.query(id, &statistic(*what), period));
            }
        }
        queries
    }

    /// The sum of the groups' counts, and the highest of their percentiles.
    pub(super) fn response_times(
        &self,
        asked: &[ResponseTimes],
        answers: &Answers,
    ) -> Vec<Measured> {
        let measured = asked.iter().enumerate().map(|(place, what)| {
            let ids =
                (0..self.groups.len()).map(|index| id("own", index, &format!("asked{place}")));
            let reading = match what {
                ResponseTimes::Percentile(_) => ids
                    .map(|id| in_milliseconds(answers.whole_window(&id)))
                    .reduce(|one, other| if exceeds(&other, &one) { other } else { one }),
                _ => Some(answers.total(&ids.collect::<Vec<_>>())),
            };
            let texts = self.groups.iter();
            let texts =
                texts.map(|names| self.of_group(names, RESPONSE_TIME).text(&statistic(*what)));
            Measured {
                reading: reading.unwrap_or(Reading::NoData),
                query: texts.collect::<Vec<_>>().join(" + "),
            }
        });
        measured.collect()
    }

    pub(super) fn requests(&self, prefix: &str, answers: &Answers) -> RequestCounts {
        let counts = (0..self.groups.len()).map(|index| group_counts(prefix, index, answers));
        let (requests, errors) = counts
            .reduce(|(requests, errors), (more, more_errors)| {
                (added(requests, more), added(errors, more_errors))
            })
            .unwrap_or((Reading::NoData, Reading::NoData));
        let text = |name| {
            let texts = self.groups.iter();
            let texts: Vec<_> = texts
                .map(|names| self.of_group(names, name).text("Sum"))
                .collect();
            texts.join(" + ")
        };
        RequestCounts {
            requests: Measured {
                reading: requests,
                query: text("RequestCount"),
            },
            errors: Measured {
                reading: errors,
                query: format!(
                    "{} + what no HTTPCode_Target_* of it answers, at most HTTPCode_ELB_502|503|504_Count of the load balancer",
                    text(ANSWERS[FAILED])
                ),
            },
        }
    }

    /// What each interval's answers were, of all groups together, or why the answer is not the whole one.
    pub(super) fn by_interval(
        &self,
        prefix: &str,
        answers: &Answers,
        intervals: Intervals,
    ) -> Result<Vec<Option<Answered>>, String> {
        let mut whole = vec![None; intervals.number()];
        for index in 0..self.groups.len() {
            let ids = GroupIds::of(prefix, index);
            answers.whole(&ids.all())?;
            let counts = group_by_interval(&ids, answers, intervals);
            for (whole, counts) in whole.iter_mut().zip(counts) {
                *whole = both(*whole, counts);
            }
        }
        Ok(whole)
    }

    /// The highest of the groups' latencies, in milliseconds; groups without requests have none.
    pub(super) fn latency(
        &self,
        prefix: &str,
        checks: &Checks,
        answers: &Answers,
    ) -> Vec<Measured> {
        let limits = checks.latency_ms.iter().enumerate();
        let measured = limits.map(|(place, limit)| {
            let readings = self.groups.iter().enumerate().map(|(index, names)| {
                let id = id(prefix, index, &format!("latency{place}"));
                let query = self.of_group(names, RESPONSE_TIME).text(&stat(limit));
                (answers.whole_window(&id), query)
            });
            let (reading, query) = readings
                .reduce(|one, other| {
                    if exceeds(&other.0, &one.0) {
                        other
                    } else {
                        one
                    }
                })
                .unwrap_or((Reading::NoData, String::new()));
            let reading = in_milliseconds(reading);
            Measured { reading, query }
        });
        measured.collect()
    }

    /// How many targets have failed the load balancer's health check for two periods in a row. One group's silence is not
    /// another's health.
    pub(super) fn unhealthy_targets(&self, prefix: &str, answers: &Answers) -> Measured {
        let readings = (0..self.groups.len()).map(|index| health(prefix, index, answers));
        let texts: Vec<_> = self
            .groups
            .iter()
            .map(|names| self.of_group(names, "UnHealthyHostCount").text("Maximum"))
            .collect();
        let silent = readings.clone().find(|reading| *reading == Reading::NoData);
        Measured {
            reading: silent
                .or_else(|| readings.reduce(added))
                .unwrap_or(Reading::NoData),
            query: texts.join(" + "),
        }
    }

    fn of_group(&self, names: &GroupNames, metric: &'static str) -> Series {
        Series {
            dimensions: vec![
                ("TargetGroup", names.group.clone()),
                ("LoadBalancer", names.balancer.clone()),
            ],
            ..self.of_balancer(names, metric)
        }
    }

    fn of_balancer(&self, names: &GroupNames, metric: &'static str) -> Series {
        Series {
            namespace: match self.kind {
                LoadBalancerKind::Application => "AWS/ApplicationELB",
                LoadBalancerKind::Network => "AWS/NetworkELB",
            },
            name: metric,
            dimensions: vec![("LoadBalancer", names.balancer.clone())],
        }
    }
}

/// How many of one group's targets have been unhealthy for two periods.
fn health(prefix: &str, index: usize, answers: &Answers) -> Reading {
    answers.lasting(&id(prefix, index, "unhealthy"))
}

/// The requests of one group and how many of them failed.
fn group_counts(prefix: &str, index: usize, answers: &Answers) -> (Reading, Reading) {
    let id = |what: &str| id(prefix, index, what);
    // While the health of the targets is published, so is everything else that there is.
    let silent = match health(prefix, index, answers) {
        Reading::Value { .. } => None,
        incomplete @ Reading::Incomplete(_) => Some(incomplete),
        // Not the same as no requests: another group's are not the whole.
        Reading::NoData => Some(Reading::Incomplete(
            "nothing on the health of the targets either".to_owned(),
        )),
    };
    if let Some(silent) = silent {
        return (silent.clone(), silent);
    }
    let requests = match answers.total(&[id("requests")]) {
        Reading::Value { value, datapoints } => (value, datapoints),
        silence => return (silence.clone(), silence),
    };
    let GroupIds { classes, own, .. } = GroupIds::of(prefix, index);
    // Beside requests, what is not published is zero.
    let total = |ids: &[String]| match answers.total(ids) {
        Reading::Value { value, .. } => Ok(value),
        Reading::NoData => Ok(0.0),
        incomplete @ Reading::Incomplete(_) => Err(incomplete),
    };
    let errors = || -> Result<f64, Reading> {
        let failed = total(&classes[FAILED..=FAILED])?;
        let refused = total(&[id("refused")])?;
        Ok(errors_of(
            requests.0,
            failed,
            refused,
            total(&classes)?,
            total(&own)?,
        ))
    };
    let value = |value| Reading::Value {
        value,
        datapoints: requests.1,
    };
    (
        value(requests.0),
        errors().map_or_else(|reading| reading, value),
    )
}

/// The ids of what is asked of one group.
struct GroupIds {
    requests: String,
    refused: String,
    classes: Vec<String>,
    own: Vec<String>,
}

impl GroupIds {
    fn of(prefix: &str, index: usize) -> Self {
        let all = |what: &str, number| {
            let ids = (0..number).map(|place| id(prefix, index, &format!("{what}{place}")));
            ids.collect::<Vec<_>>()
        };
        Self {
            requests: id(prefix, index, "requests"),
            refused: id(prefix, index, "refused"),
            classes: all("answers", ANSWERS.len()),
            own: all("own", OWN_ANSWERS.len()),
        }
    }

    fn all(&self) -> Vec<String> {
        let single = [&self.requests, &self.refused].into_iter();
        single
            .chain(&self.classes)
            .chain(&self.own)
            .cloned()
            .collect()
    }
}

/// What became of a side's requests in an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answered {
    requests: f64,
    /// Answered with a 5xx by a target.
    failed: f64,
    /// That no target answered.
    unanswered: f64,
    /// Connections that targets refused.
    refused: f64,
    /// Answered by the load balancer itself, whoever's they were.
    own: f64,
}

/// All sides' counts in an interval.
///
/// What the load balancer answered itself is nobody's: it falls to each side by the requests that none of its targets answered.
/// Given to each as a whole, it would be compared with different numbers of requests, and the smaller side would look worse.
pub(super) fn beside(
    canary: Option<Answered>,
    stable: Option<Answered>,
    baseline: Option<Answered>,
) -> Interval {
    let sides = [canary, stable, baseline];
    let all: f64 = sides.iter().flatten().map(|side| side.unanswered).sum();
    let counts = |side: Answered| {
        let own = if all > 0.0 {
            side.own * side.unanswered / all
        } else {
            0.0
        };
        let never_answered = side.refused.max(side.unanswered.min(own));
        Counts {
            requests: side.requests,
            errors: (side.failed + never_answered).min(side.requests),
        }
    };
    let [canary, stable, baseline] = sides.map(|side| side.map(counts));
    Interval {
        canary,
        stable,
        baseline,
    }
}

/// What one group's answers were in each interval. Beside requests, what is not published is zero; without any, nothing is known.
fn group_by_interval(
    ids: &GroupIds,
    answers: &Answers,
    intervals: Intervals,
) -> Vec<Option<Answered>> {
    let sums = |ids: &[String]| sums(ids, answers, intervals);
    let refused = sums(std::slice::from_ref(&ids.refused));
    let failed = sums(&ids.classes[FAILED..=FAILED]);
    let (answered, own) = (sums(&ids.classes), sums(&ids.own));
    let requests = answers.by_interval(&ids.requests, intervals);
    let counts = requests.into_iter().enumerate().map(|(place, requests)| {
        requests.map(|requests| Answered {
            requests,
            failed: failed[place],
            unanswered: (requests - answered[place]).max(0.0),
            refused: refused[place],
            own: own[place],
        })
    });
    counts.collect()
}

/// The sum of several counts in each interval, where a missing one adds nothing.
fn sums(ids: &[String], answers: &Answers, intervals: Intervals) -> Vec<f64> {
    let mut sums = vec![0.0; intervals.number()];
    for id in ids {
        let more = answers.by_interval(id, intervals);
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more.unwrap_or(0.0);
        }
    }
    sums
}

/// How many of a group's requests failed: those that its targets answered so, and those that none of them answered, as far
/// as the load balancer refused or answered them itself.
fn errors_of(requests: f64, failed: f64, refused: f64, answered: f64, own: f64) -> f64 {
    let unanswered = (requests - answered).max(0.0);
    let never_answered = refused.max(unanswered.min(own));
    (failed + never_answered).min(requests)
}

/// Two groups' counts together. What is not whole in one is not whole in both; a group without requests adds nothing.
fn added(one: Reading, other: Reading) -> Reading {
    match (one, other) {
        (incomplete @ Reading::Incomplete(_), _) | (_, incomplete @ Reading::Incomplete(_)) => {
            incomplete
        }
        (Reading::NoData, other) => other,
        (one, Reading::NoData) => one,
        (
            Reading::Value { value, datapoints },
            Reading::Value {
                value: more,
                datapoints: more_datapoints,
            },
        ) => Reading::Value {
            value: value + more,
            datapoints: datapoints + more_datapoints,
        },
    }
}

/// Two groups' answers of an interval together; a group without requests adds nothing. What the load balancer answered itself
/// is the same for all of its groups.
fn both(one: Option<Answered>, other: Option<Answered>) -> Option<Answered> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Answered {
            requests: one.requests + other.requests,
            failed: one.failed + other.failed,
            unanswered: one.unanswered + other.unanswered,
            refused: one.refused + other.refused,
            own: one.own.max(other.own),
        }),
        (one, other) => one.or(other),
    }
}

/// Whether `one` says more against the canary than `other`.
fn exceeds(one: &Reading, other: &Reading) -> bool {
    let rank = |reading: &Reading| match reading {
        Reading::NoData => (0, 0.0),
        Reading::Value { value, .. } => (1, *value),
        Reading::Incomplete(_) => (2, 0.0),
    };
    let ((one, value), (other, other_value)) = (rank(one), rank(other));
    one > other || (one == other && value > other_value)
}

/// CloudWatch's name of a percentile: `p99`, `p99.9`.
fn stat(limit: &LatencyLimit) -> String {
    statistic(ResponseTimes::Percentile(limit.percentile))
}

/// CloudWatch's name of what is asked of the response times, which it has in seconds.
fn statistic(asked: ResponseTimes) -> String {
    match asked {
        ResponseTimes::Samples => "SampleCount".to_owned(),
        ResponseTimes::Percentile(percentile) => format!("p{percentile}"),
        ResponseTimes::Above(ms) => format!("TC({}:)", in_seconds(ms)),
        ResponseTimes::UpTo(ms) => format!("TC(:{})", in_seconds(ms)),
    }
}

/// A bound may have ten decimals.
fn in_seconds(ms: f64) -> String {
    let text = format!("{:.10}", ms / 1000.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn in_milliseconds(reading: Reading) -> Reading {
    match reading {
        Reading::Value { value, datapoints } => Reading::Value {
            value: value * 1000.0,
            datapoints,
        },
        other => other,
    }
}

/// The period, in seconds, that gives one datapoint for the whole window, where there is one.
fn whole(window: Window, period: u32) -> u32 {
    match window.seconds() {
        seconds if seconds % 60 == 0 => {
            u32::try_from(seconds.clamp(60, LONGEST_PERIOD)).expect("at most a day")
        }
        _ => period,
    }
}

fn id(prefix: &str, index: usize, what: &str) -> String {
    format!("{prefix}_{index}_{what}")
}

fn after(arn: &str, mark: &str) -> String {
    arn.rsplit_once(mark)
        .map_or(arn, |(_, rest)| rest)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudwatch::types::{MetricDataResult, StatusCode};

    use super::super::answers::tests::{answers, result};
    use super::*;

    fn metrics(groups: usize) -> AlbMetrics<'static> {
        let names = (0..groups).map(|index| GroupNames {
            group: format!("targetgroup/shop-{index}/73e2d6bc24d8a067"),
            balancer: "app/shop/50dc6c495c0c9188".into(),
        });
        AlbMetrics {
            kind: LoadBalancerKind::Application,
            cluster: "prod",
            family: "checkout",
            service: "checkout-canary",
            groups: names.collect(),
        }
    }

    fn series(group: usize, what: &str, values: &[f64]) -> MetricDataResult {
        let points: Vec<_> = (0..)
            .map(|minute| minute * 60)
            .zip(values.iter().copied())
            .collect();
        result(
            &format!("own_{group}_{what}"),
            StatusCode::Complete,
            &points,
        )
    }

    fn counts(results: &[MetricDataResult]) -> (Option<f64>, Option<f64>) {
        let mut all = vec![series(0, "unhealthy", &[0.0, 0.0])];
        all.extend_from_slice(results);
        let counts = metrics(1).requests("own", &answers(&all));
        let value = |measured: &Measured| match measured.reading {
            Reading::Value { value, .. } => Some(value),
            _ => None,
        };
        (value(&counts.requests), value(&counts.errors))
    }

    #[test]
    fn a_5xx_that_is_not_published_beside_requests_is_zero_and_without_requests_nothing_is_known() {
        let answered = [
            series(0, "requests", &[60.0, 40.0]),
            series(0, "answers0", &[60.0, 40.0]),
        ];
        assert_eq!(counts(&answered), (Some(100.0), Some(0.0)));
        assert_eq!(counts(&[]), (None, None));
    }

    #[test]
    fn what_the_load_balancer_answers_itself_makes_no_difference_between_two_alike_sides() {
        // Clients go away from both in one of two hundred requests, and another group has two failures.
        let side = |requests: f64| Answered {
            requests,
            failed: 0.0,
            unanswered: requests / 200.0,
            refused: 0.0,
            own: 2.0,
        };
        let interval = beside(Some(side(600.0)), Some(side(5400.0)), None);
        let rate = |counts: Option<Counts>| counts.map(|counts| counts.errors / counts.requests);
        let (canary, stable) = (
            rate(interval.canary).unwrap(),
            rate(interval.stable).unwrap(),
        );
        assert!((canary - stable).abs() < 1e-12, "{canary} {stable}");
        // A canary that hangs has nearly all of what nobody answered.
        let hangs = Answered {
            unanswered: 300.0,
            own: 300.0,
            ..side(600.0)
        };
        let stable = Answered {
            own: 300.0,
            ..side(5400.0)
        };
        let errors = beside(Some(hangs), Some(stable), None)
            .canary
            .unwrap()
            .errors;
        assert!(errors > 250.0, "{errors}");
    }

    #[test]
    fn requests_that_no_target_answered_count_as_far_as_the_load_balancer_answered_them_itself() {
        let hung = |own: f64| {
            counts(&[
                series(0, "requests", &[100.0]),
                series(0, "answers0", &[80.0]),
                series(0, "answers3", &[5.0]),
                series(0, "own2", &[own]),
            ])
        };
        assert_eq!(hung(15.0).1, Some(20.0), "5 answered with 5xx and 15 never");
        assert_eq!(
            hung(900.0).1,
            Some(20.0),
            "the others' failures are not ours"
        );
        assert_eq!(hung(3.0).1, Some(8.0), "12 clients went away by themselves");
    }

    #[test]
    fn refused_connections_count_once() {
        let refused = counts(&[
            series(0, "requests", &[10.0]),
            series(0, "refused", &[10.0]),
            series(0, "own0", &[10.0]),
        ]);
        assert_eq!(refused, (Some(10.0), Some(10.0)));
    }

    #[test]
    fn when_even_the_health_of_the_targets_falls_silent_what_came_before_is_not_the_whole() {
        let silent = [
            series(0, "requests", &[100.0]),
            series(0, "answers0", &[100.0]),
        ];
        let reading = metrics(1)
            .requests("own", &answers(&silent))
            .requests
            .reading;
        assert!(matches!(reading, Reading::Incomplete(_)), "{reading:?}");
    }

    #[test]
    fn the_groups_of_a_service_are_counted_together_and_the_slowest_is_told() {
        let both = answers(&[
            series(0, "unhealthy", &[1.0, 1.0]),
            series(1, "unhealthy", &[0.0, 1.0]),
            series(0, "requests", &[10.0]),
            series(1, "requests", &[30.0]),
            series(1, "answers3", &[3.0]),
            series(0, "latency0", &[0.120]),
            series(1, "latency0", &[0.450]),
        ]);
        let metrics = metrics(2);
        let counts = metrics.requests("own", &both);
        let value = |reading: &Reading| match reading {
            Reading::Value { value, .. } => *value,
            other => panic!("{other:?}"),
        };
        assert!((value(&counts.requests.reading) - 40.0).abs() < 1e-9);
        assert!((value(&counts.errors.reading) - 3.0).abs() < 1e-9);
        assert!((value(&metrics.unhealthy_targets("own", &both).reading) - 1.0).abs() < 1e-9);
        let checks = Checks {
            latency_ms: vec![LatencyLimit {
                percentile: 99.9,
                max: 500.0,
                margin: None,
            }],
            ..Checks::default()
        };
        let latency = metrics.latency("own", &checks, &both);
        assert!((value(&latency[0].reading) - 450.0).abs() < 1e-9);
        assert_eq!(
            latency[0].query,
            "p99.9 of TargetResponseTime {TargetGroup=targetgroup/shop-1/73e2d6bc24d8a067, LoadBalancer=app/shop/50dc6c495c0c9188} \
             in AWS/ApplicationELB"
        );
    }

    #[test]
    fn one_groups_silence_is_not_another_groups_health() {
        let one = answers(&[
            series(0, "unhealthy", &[0.0, 0.0]),
            series(0, "requests", &[10.0]),
            series(0, "answers0", &[10.0]),
        ]);
        let metrics = metrics(2);
        let unhealthy = metrics.unhealthy_targets("own", &one).reading;
        assert_eq!(unhealthy, Reading::NoData);
        let requests = metrics.requests("own", &one).requests.reading;
        assert!(matches!(requests, Reading::Incomplete(_)), "{requests:?}");
    }
}

//! Amazon CloudWatch: metrics that somebody put, and alarms that a test sets.

mod expression;

use std::collections::BTreeMap;

use aws_sdk_cloudwatch::operation::describe_alarms::{DescribeAlarmsInput, DescribeAlarmsOutput};
use aws_sdk_cloudwatch::operation::get_metric_data::{GetMetricDataInput, GetMetricDataOutput};
use aws_sdk_cloudwatch::types::{
    AlarmType, CompositeAlarm, MetricAlarm, MetricDataQuery, MetricDataResult, MetricStat, ScanBy,
    StateValue, StatusCode,
};
use aws_smithy_types::DateTime;

use crate::account::{ACCOUNT, REGION};
use crate::paging::page;
use crate::wire::Refusal;
use crate::world::World;

/// One series: namespace, name, dimensions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) dimensions: BTreeMap<String, String>,
}

/// One datapoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datapoint {
    pub(crate) at: i64,
    pub(crate) value: f64,
    /// How many measurements had this value.
    pub(crate) times: f64,
    /// From when on CloudWatch gives it out.
    pub(crate) visible_at: i64,
}

/// What CloudWatch has.
#[derive(Debug, Clone, Default)]
pub(crate) struct CloudWatch {
    /// How many metrics were asked for.
    pub(crate) metrics_requested: u64,
    pub(crate) series: BTreeMap<Series, Vec<Datapoint>>,
    pub(crate) alarms: BTreeMap<String, Alarm>,
    /// From when on the first datapoint of an error is given out.
    pub(crate) first_error: Option<i64>,
}

/// An alarm.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    pub(crate) state: StateValue,
    pub(crate) reason: String,
    pub(crate) composite: bool,
}

/// Values by the time at which their period begins.
type Points = BTreeMap<i64, f64>;

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationError", message)
}

pub(crate) fn get_metric_data(
    world: &mut World,
    input: &GetMetricDataInput,
) -> Result<GetMetricDataOutput, Refusal> {
    let (Some(start), Some(end)) = (input.start_time(), input.end_time()) else {
        return Err(invalid("StartTime and EndTime are required"));
    };
    let (from, until) = (start.secs(), end.secs());
    world.cloud_watch.metrics_requested += input.metric_data_queries().len() as u64;
    if from >= until {
        return Err(invalid(
            "The parameter StartTime must be less than the parameter EndTime.",
        ));
    }
    let queries = input.metric_data_queries();
    if !(1..=500).contains(&queries.len()) {
        return Err(invalid("MetricDataQueries must have 1 to 500 members"));
    }
    let mut known: BTreeMap<&str, Points> = BTreeMap::new();
    let mut expressions = Vec::new();
    for query in queries {
        let id = check_id(query)?;
        match (query.metric_stat(), query.expression()) {
            (Some(asked), None) => {
                if known
                    .insert(id, world.points(asked, from, until)?)
                    .is_some()
                {
                    return Err(invalid(format!("The id {id} is used twice.")));
                }
            }
            (None, Some(expression)) => expressions.push((id, expression)),
            _ => {
                return Err(invalid(format!(
                    "{id}: exactly one of MetricStat and Expression is required"
                )));
            }
        }
    }
    // An expression may use another: those whose parts are known are computed first.
    while !expressions.is_empty() {
        let before = expressions.len();
        let mut waiting = Vec::new();
        for (id, expression) in expressions {
            match expression::evaluate(expression, &known)? {
                Some(points) => drop(known.insert(id, points)),
                None => waiting.push((id, expression)),
            }
        }
        if waiting.len() == before {
            return Err(invalid(format!(
                "Error in expression {:?}: an id is not defined",
                waiting[0].1
            )));
        }
        expressions = waiting;
    }
    let ascending = input.scan_by() == Some(&ScanBy::TimestampAscending);
    let status = if world.settings.metrics_partial {
        StatusCode::PartialData
    } else {
        StatusCode::Complete
    };
    let all: Vec<MetricDataResult> = queries
        .iter()
        .filter(|query| query.return_data().unwrap_or(true))
        .map(|query| {
            let id = query.id().expect("it was checked");
            let mut points: Vec<(i64, f64)> =
                known[id].iter().map(|(at, value)| (*at, *value)).collect();
            if !ascending {
                points.reverse();
            }
            let name = query
                .metric_stat()
                .and_then(|stat| stat.metric())
                .and_then(|metric| metric.metric_name());
            MetricDataResult::builder()
                .id(id)
                .label(query.label().or(name).unwrap_or(id))
                .set_timestamps(Some(
                    points
                        .iter()
                        .map(|(at, _)| DateTime::from_secs(*at))
                        .collect(),
                ))
                .set_values(Some(points.iter().map(|(_, value)| *value).collect()))
                .status_code(status.clone())
                .build()
        })
        .collect();
    let bad = || Refusal::new("InvalidNextToken", "nextToken");
    let (items, next) = page(
        &all,
        world.settings.metric_page_size,
        None,
        input.next_token(),
    )
    .ok_or_else(bad)?;
    Ok(GetMetricDataOutput::builder()
        .set_metric_data_results(Some(items))
        .set_next_token(next)
        .build())
}

fn check_id(query: &MetricDataQuery) -> Result<&str, Refusal> {
    let id = query.id().ok_or_else(|| invalid("Id is required"))?;
    let valid = id.len() <= 255
        && id.starts_with(|first: char| first.is_ascii_lowercase())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid {
        Ok(id)
    } else {
        Err(invalid(format!(
            "The id {id:?} must begin with a lowercase letter and have letters, digits, underscores."
        )))
    }
}

impl World {
    /// The datapoints of one metric, gathered into periods.
    fn points(&self, asked: &MetricStat, from: i64, until: i64) -> Result<Points, Refusal> {
        let metric = asked
            .metric()
            .ok_or_else(|| invalid("Metric is required"))?;
        let period = i64::from(
            asked
                .period()
                .ok_or_else(|| invalid("Period is required"))?,
        );
        let high_resolution = [1, 5, 10, 20, 30].contains(&period);
        if !high_resolution && (period < 60 || period % 60 != 0) {
            return Err(invalid(format!(
                "The period {period} must be 1, 5, 10, 20, 30 or a multiple of 60."
            )));
        }
        let stat = asked.stat().ok_or_else(|| invalid("Stat is required"))?;
        let statistic = Statistic::parse(stat)?;
        let is_trimmed_count = matches!(statistic, Statistic::TrimmedCount { .. });
        if is_trimmed_count && self.settings.trimmed_counts == TrimmedCounts::Refused {
            return Err(not_supported(stat));
        }
        let dimensions = metric.dimensions().iter();
        let series = Series {
            namespace: metric
                .namespace()
                .ok_or_else(|| invalid("Namespace is required"))?
                .to_owned(),
            name: metric
                .metric_name()
                .ok_or_else(|| invalid("MetricName is required"))?
                .to_owned(),
            dimensions: dimensions
                .map(|dimension| {
                    (
                        dimension.name().unwrap_or_default().to_owned(),
                        dimension.value().unwrap_or_default().to_owned(),
                    )
                })
                .collect(),
        };
        let stored_by_the_minute = self.settings.metric_period >= 60;
        let wrong_unit = asked.unit().is_some();
        let nothing_trimmed =
            is_trimmed_count && self.settings.trimmed_counts == TrimmedCounts::Silent;
        if self.settings.metrics_silent
            || nothing_trimmed
            || wrong_unit
            || (high_resolution && stored_by_the_minute)
        {
            return Ok(Points::new());
        }
        let round = if high_resolution { period } else { 60 };
        let from = from - from.rem_euclid(round);
        let mut samples: BTreeMap<i64, Samples> = BTreeMap::new();
        for point in self.cloud_watch.series.get(&series).into_iter().flatten() {
            if point.visible_at <= self.now() && (from..until).contains(&point.at) {
                // Periods are counted from the beginning of the window.
                samples
                    .entry(point.at - (point.at - from).rem_euclid(period))
                    .or_default()
                    .push((point.value, point.times));
            }
        }
        let values = samples
            .into_iter()
            .map(|(at, values)| (at, statistic.of(values)));
        let zeros = !is_trimmed_count || self.settings.trimmed_counts == TrimmedCounts::WithZeros;
        Ok(values.filter(|(_, value)| zeros || *value > 0.0).collect())
    }
}

/// Values, and how many measurements had each.
type Samples = Vec<(f64, f64)>;

/// What `TC(:)` says of a metric: AWS documents the statistic, but neither which metrics have it nor what a count of none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimmedCounts {
    /// A count of none is a zero.
    WithZeros,
    /// A count of none is no datapoint.
    WithoutZeros,
    /// There is never a datapoint.
    Silent,
    /// It is no statistic.
    Refused,
}

fn not_supported(stat: &str) -> Refusal {
    invalid(format!(
        "The value {stat} for parameter Stat is not supported."
    ))
}

/// A statistic of the values of a period.
#[derive(Debug, Clone, Copy)]
enum Statistic {
    Sum,
    Average,
    Minimum,
    Maximum,
    SampleCount,
    Percentile(f64),
    /// The measurements above one bound, which is not among them, up to another, which is.
    TrimmedCount {
        above: Option<f64>,
        up_to: Option<f64>,
    },
}

impl Statistic {
    fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "Sum" => Ok(Self::Sum),
            "Average" => Ok(Self::Average),
            "Minimum" => Ok(Self::Minimum),
            "Maximum" => Ok(Self::Maximum),
            "SampleCount" => Ok(Self::SampleCount),
            other => {
                let percent = other
                    .strip_prefix('p')
                    .and_then(|percent| percent.parse().ok());
                let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
                let statistic = percent.map(Self::Percentile);
                statistic
                    .or_else(|| Self::trimmed_count(other))
                    .ok_or_else(|| not_supported(other))
            }
        }
    }

    /// `TC(0.1:)`, `TC(:0.1)`, `TC(0.1:0.5)`: numbers with at most ten decimals. Percentages are not known here.
    fn trimmed_count(text: &str) -> Option<Self> {
        let (above, up_to) = text
            .strip_prefix("TC(")?
            .strip_suffix(')')?
            .split_once(':')?;
        let bound = |text: &str| -> Option<Option<f64>> {
            if text.is_empty() {
                return Some(None);
            }
            let decimals = text.split_once('.').map_or("", |(_, decimals)| decimals);
            let digits = |text: &str| {
                text.bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.')
            };
            (digits(text) && decimals.len() <= 10).then(|| text.parse().ok())
        };
        let (above, up_to) = (bound(above)?, bound(up_to)?);
        (above.is_some() || up_to.is_some()).then_some(Self::TrimmedCount { above, up_to })
    }

    fn of(self, mut samples: Samples) -> f64 {
        let count: f64 = samples.iter().map(|(_, times)| times).sum();
        let values = samples.iter().map(|(value, _)| *value);
        let sum = || -> f64 { samples.iter().map(|(value, times)| value * times).sum() };
        match self {
            Self::Sum => sum(),
            Self::Average => sum() / count,
            Self::Minimum => values.fold(f64::INFINITY, f64::min),
            Self::Maximum => values.fold(f64::NEG_INFINITY, f64::max),
            Self::SampleCount => count,
            Self::Percentile(percent) => {
                samples.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                let rank = (percent / 100.0 * count).ceil().max(1.0);
                let mut so_far = 0.0;
                let at = samples.iter().find(|(_, times)| {
                    so_far += times;
                    so_far >= rank
                });
                at.or(samples.last()).map_or(0.0, |(value, _)| *value)
            }
            Self::TrimmedCount { above, up_to } => {
                let inside = samples.iter().filter(|(value, _)| {
                    above.is_none_or(|bound| *value > bound)
                        && up_to.is_none_or(|bound| *value <= bound)
                });
                inside.map(|(_, times)| times).sum()
            }
        }
    }
}

pub(crate) fn describe_alarms(
    world: &mut World,
    input: &DescribeAlarmsInput,
) -> Result<DescribeAlarmsOutput, Refusal> {
    if input.alarm_names().len() > 100 {
        return Err(invalid("AlarmNames has more than 100 members"));
    }
    // Only metric alarms are given when no type is named.
    let wants = |kind: &AlarmType| {
        if input.alarm_types().is_empty() {
            *kind == AlarmType::MetricAlarm
        } else {
            input.alarm_types().contains(kind)
        }
    };
    let chosen: Vec<(String, Alarm)> = world
        .cloud_watch
        .alarms
        .iter()
        .filter(|(name, _)| input.alarm_names().is_empty() || input.alarm_names().contains(name))
        .filter(|(name, _)| {
            input
                .alarm_name_prefix()
                .is_none_or(|prefix| name.starts_with(prefix))
        })
        .filter(|(_, alarm)| {
            wants(if alarm.composite {
                &AlarmType::CompositeAlarm
            } else {
                &AlarmType::MetricAlarm
            })
        })
        .map(|(name, alarm)| (name.clone(), alarm.clone()))
        .collect();
    let bad = || Refusal::new("InvalidNextToken", "nextToken");
    let (items, next) = page(
        &chosen,
        world.settings.page_size,
        input.max_records(),
        input.next_token(),
    )
    .ok_or_else(bad)?;
    let mut output = DescribeAlarmsOutput::builder().set_next_token(next);
    output = output
        .set_metric_alarms(Some(Vec::new()))
        .set_composite_alarms(Some(Vec::new()));
    for (name, alarm) in items {
        let arn = format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}");
        output = if alarm.composite {
            let built = CompositeAlarm::builder()
                .alarm_name(&name)
                .alarm_arn(arn)
                .state_value(alarm.state)
                .state_reason(alarm.reason);
            output.composite_alarms(built.build())
        } else {
            let built = MetricAlarm::builder()
                .alarm_name(&name)
                .alarm_arn(arn)
                .state_value(alarm.state)
                .state_reason(alarm.reason);
            output.metric_alarms(built.build())
        };
    }
    Ok(output.build())
}

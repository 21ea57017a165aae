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
    /// From when on CloudWatch gives it out.
    pub(crate) visible_at: i64,
}

/// What CloudWatch has.
#[derive(Debug, Clone, Default)]
pub(crate) struct CloudWatch {
    pub(crate) series: BTreeMap<Series, Vec<Datapoint>>,
    pub(crate) alarms: BTreeMap<String, Alarm>,
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
        let statistic = Statistic::parse(asked.stat().ok_or_else(|| invalid("Stat is required"))?)?;
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
        if self.settings.metrics_silent || wrong_unit || (high_resolution && stored_by_the_minute) {
            return Ok(Points::new());
        }
        let round = if high_resolution { period } else { 60 };
        let from = from - from.rem_euclid(round);
        let mut samples: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for point in self.cloud_watch.series.get(&series).into_iter().flatten() {
            if point.visible_at <= self.now() && (from..until).contains(&point.at) {
                // Periods are counted from the beginning of the window.
                samples
                    .entry(point.at - (point.at - from).rem_euclid(period))
                    .or_default()
                    .push(point.value);
            }
        }
        Ok(samples
            .into_iter()
            .map(|(at, values)| (at, statistic.of(values)))
            .collect())
    }
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
                percent.map(Self::Percentile).ok_or_else(|| {
                    invalid(format!(
                        "The value {other} for parameter Stat is not supported."
                    ))
                })
            }
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a period has few values"
    )]
    fn of(self, mut values: Vec<f64>) -> f64 {
        let count = values.len() as f64;
        match self {
            Self::Sum => values.iter().sum(),
            Self::Average => values.iter().sum::<f64>() / count,
            Self::Minimum => values.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Maximum => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::SampleCount => count,
            Self::Percentile(percent) => {
                values.sort_by(f64::total_cmp);
                let rank = (percent / 100.0 * count).ceil().max(1.0) as usize;
                values[rank.min(values.len()) - 1]
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

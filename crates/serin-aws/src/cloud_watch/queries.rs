//! The request's own queries: filled in, asked, and read.

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use serin::ports::{MetricSeries, Reading, SeriesOfMetrics};
use serin::request::{self, Query};
use serin::verdict::{Limit, Window};

use super::answers::{Answers, Intervals};
use super::seconds;

/// The parts of one of the request's queries with one side's names filled in, and with ids that no other query has: each
/// query has a name space of its own, but `GetMetricData` has one for all.
pub(super) fn filled(
    query: &Query,
    index: usize,
    names: &[(&str, String)],
) -> Vec<request::MetricDataQuery> {
    let prefix = format!("q{index}_");
    let ids: Vec<_> = query
        .metric_data_queries
        .iter()
        .map(|part| part.id.as_str())
        .collect();
    let fill = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        })
    };
    let parts = query.metric_data_queries.iter().map(|part| {
        let mut part = part.clone();
        part.id = format!("{prefix}{}", part.id);
        part.expression = part
            .expression
            .map(|expression| fill(&with_prefix(&expression, &ids, &prefix)));
        if let Some(stat) = &mut part.metric_stat {
            stat.metric.namespace = fill(&stat.metric.namespace);
            stat.metric.metric_name = fill(&stat.metric.metric_name);
            for dimension in &mut stat.metric.dimensions {
                dimension.name = fill(&dimension.name);
                dimension.value = fill(&dimension.value);
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

pub(super) fn to_sdk(part: &request::MetricDataQuery) -> MetricDataQuery {
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
pub(super) fn text(parts: &[request::MetricDataQuery]) -> String {
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

/// The datapoint of a query that is nearest to breaking a limit, or furthest beyond one.
pub(super) fn worst(
    answers: &Answers,
    filled: &[request::MetricDataQuery],
    query: &Query,
) -> Reading {
    let Some(answer) = filled.iter().find(|part| part.return_data != Some(false)) else {
        return Reading::NoData;
    };
    if let Some(incomplete) = answers.incomplete(&answer.id) {
        return incomplete;
    }
    let values = answers.values(&answer.id);
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

/// The parts of several queries, filled in.
type Filled = Vec<Vec<request::MetricDataQuery>>;

/// What several queries answered for the canary and for the side beside it.
pub(super) fn of_both(
    answers: &Answers,
    queries: &[Query],
    (canary, beside): &(Filled, Filled),
    over: Window,
) -> SeriesOfMetrics {
    let metrics = queries.iter().zip(canary.iter().zip(beside));
    let metrics =
        metrics.map(|(query, (canary, beside))| series(answers, query, canary, beside, over));
    let metrics = metrics.collect::<Result<_, _>>();
    metrics.map_or_else(SeriesOfMetrics::Incomplete, SeriesOfMetrics::Whole)
}

/// What a query answered for each side, value by value; or whose answer is not the whole one.
fn series(
    answers: &Answers,
    query: &Query,
    canary: &[request::MetricDataQuery],
    stable: &[request::MetricDataQuery],
    over: Window,
) -> Result<MetricSeries, String> {
    let stats = query.metric_data_queries.iter();
    let period = stats
        .filter_map(|part| {
            part.metric_stat
                .as_ref()
                .map(|stat| stat.period)
                .or(part.period)
        })
        .max()
        .unwrap_or(60);
    let side = |parts: &[request::MetricDataQuery], side| {
        let answer = parts.iter().find(|part| part.return_data != Some(false));
        let Some(answer) = answer else {
            return Ok(None);
        };
        if let Some(Reading::Incomplete(status)) = answers.incomplete(&answer.id) {
            return Err(format!("{}, {side}: {status}", query.name));
        }
        let intervals = Intervals {
            of: over,
            seconds: period,
        };
        let values = answers.by_interval(&answer.id, intervals).into_iter();
        let values: Vec<_> = values.map(|value| value.unwrap_or(f64::NAN)).collect();
        Ok(answers.has(&answer.id).then_some(values))
    };
    Ok(MetricSeries {
        name: query.name.clone(),
        period_seconds: period,
        canary: side(canary, "canary")?,
        stable: side(stable, "stable")?,
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudwatch::types::StatusCode;

    use super::super::answers::tests::{answers, result};
    use super::*;

    fn names() -> Vec<(&'static str, String)> {
        let names = [
            ("clusterName", "prod"),
            ("canaryFamily", "checkout-canary"),
            ("canaryService", "checkout-canary-1a2b3c4d"),
            ("virtualNode", "checkout-node-canary"),
        ];
        names.map(|(name, value)| (name, value.to_owned())).to_vec()
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
        let filled = filled(&query, 3, &names());
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
    fn the_worst_datapoint_counts() {
        let value = |limits: &str, points: &[(i64, f64)]| {
            let query = query(&format!(
                r#"{{"name": "x", {limits}, "metricDataQueries": [{{"Id": "a", "Expression": "1"}}]}}"#
            ));
            let answers = answers(&[result("q0_a", StatusCode::Complete, points)]);
            match worst(&answers, &filled(&query, 0, &names()), &query) {
                Reading::Value { value, .. } => Some(value),
                _ => None,
            }
        };
        let points = [(0, 3.0), (10, 9.0), (20, -4.0)];
        assert_eq!(value(r#""max": 5"#, &points), Some(9.0));
        assert_eq!(value(r#""min": 0"#, &points), Some(-4.0));
        assert_eq!(value(r#""min": 0, "max": 8"#, &points), Some(-4.0));
        assert_eq!(value(r#""min": -4, "max": 8"#, &points), Some(9.0));
        assert_eq!(value(r#""max": 5"#, &[]), None);
    }
}

//! The rules of a request's CloudWatch queries, which are spelled as CloudWatch spells them.

use serde_json::Value;

use super::fault::Faults;
use super::parse::is_period;
use super::reader::{Object, whole};
use super::{Dimension, Metric, MetricDataQuery, MetricStat, Query};

/// The placeholders in the texts of a query.
const PLACEHOLDERS: &[&str] = &[
    "clusterName",
    "canaryFamily",
    "canaryService",
    "targetGroup",
    "loadBalancer",
    "virtualNode",
];

impl Query {
    /// The first placeholder in the query's texts that is not among `known`.
    pub fn placeholder_that_is_not(&self, known: &[&str]) -> Option<String> {
        self.placeholders()
            .find(|name| !known.contains(name))
            .map(str::to_owned)
    }

    /// Whether stable can be asked the same: some placeholder is a version's and not the cluster's or the load balancer's.
    fn names_a_version(&self) -> bool {
        self.placeholders()
            .any(|name| !["clusterName", "loadBalancer"].contains(&name))
    }

    fn placeholders(&self) -> impl Iterator<Item = &str> {
        let texts = self.metric_data_queries.iter().flat_map(|part| {
            let dimensions = part
                .metric_stat
                .iter()
                .flat_map(|stat| &stat.metric.dimensions)
                .map(|dimension| &dimension.value);
            dimensions.chain(&part.expression)
        });
        texts.flat_map(|text| placeholders(text))
    }
}

/// What stands after each pair of opening braces, up to the closing pair or the text's end.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{")
        .skip(1)
        .map(|rest| rest.split("}}").next().unwrap_or(rest))
}

pub(super) fn queries(faults: &mut Faults, elements: &[(String, &Value)]) -> Vec<Query> {
    let mut queries: Vec<Query> = Vec::new();
    for (path, element) in elements {
        let Some(query) = query(faults, path, element) else {
            continue;
        };
        if queries.iter().any(|earlier| earlier.name == query.name) {
            faults.add(
                format!("{path}.name"),
                format!("{:?} is named twice", query.name),
            );
        }
        queries.push(query);
    }
    queries
}

fn query(faults: &mut Faults, path: &str, value: &Value) -> Option<Query> {
    let object = Object::read(
        faults,
        path,
        value,
        &["name", "metricDataQueries", "max", "min", "margin"],
    )?;
    let name = object.need_text(faults, "name", "what findings call it");
    let max = object.number(faults, "max", f64::MIN, f64::MAX);
    let min = object.number(faults, "min", f64::MIN, f64::MAX);
    if !object.has("max") && !object.has("min") {
        faults.add(path, "has no limit; max, min or both are needed");
    }
    if let (Some(max), Some(min)) = (max, min)
        && min > max
    {
        faults.add(object.path_of("min"), format!("{min} is above max, {max}"));
    }
    let margin = object.number(faults, "margin", 1.0, 10.0);
    let query = Query {
        metric_data_queries: parts(faults, &object)?,
        name: name.clone().unwrap_or_default(),
        max,
        min,
        margin,
    };
    if margin.is_some() && !query.names_a_version() {
        faults.add(
            object.path_of("margin"),
            "is for a query that can be asked of stable too: none of its texts has a placeholder for the canary",
        );
    }
    if margin.is_some() && query.metric_data_queries.iter().any(selects) {
        faults.add(object.path_of("margin"), format!("is not for {SELECT}"));
    }
    name.map(|_| query)
}

/// The parts of a query, of which exactly one returns data.
fn parts(faults: &mut Faults, object: &Object) -> Option<Vec<MetricDataQuery>> {
    object.need(faults, "metricDataQueries", "at least one query")?;
    let elements = object.list(faults, "metricDataQueries", 20)?;
    let mut parts: Vec<MetricDataQuery> = Vec::new();
    for (path, element) in &elements {
        let Some(part) = metric_data_query(faults, path, element) else {
            continue;
        };
        if parts.iter().any(|earlier| earlier.id == part.id) {
            faults.add(
                format!("{path}.Id"),
                format!("{:?} is named twice", part.id),
            );
        }
        parts.push(part);
    }
    let returned = parts
        .iter()
        .filter(|part| part.return_data.unwrap_or(true))
        .count();
    if parts.len() == elements.len() && returned != 1 {
        faults.add(
            object.path_of("metricDataQueries"),
            format!(
                "{returned} of them return data; exactly one must, the others have ReturnData false"
            ),
        );
    }
    Some(parts)
}

/// What cannot be asked of both sides.
const SELECT: &str = "a Metrics Insights query (SELECT): CloudWatch answers one in a call, and both sides are asked; name the metric";

fn selects(part: &MetricDataQuery) -> bool {
    let text = part.expression.as_deref().unwrap_or_default().trim_start();
    text.get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("select"))
}

/// The queries of the metrics of a Kayenta configuration. What else there is in it, its judge holds against its own rules.
pub(super) fn kayenta_queries(faults: &mut Faults, path: &str, config: &Value) {
    let metrics = config["metrics"].as_array().into_iter().flatten();
    for (index, metric) in metrics.enumerate() {
        let path = format!("{path}.metrics[{index}].query");
        let Some(query) = metric.get("query").filter(|query| query.is_object()) else {
            continue;
        };
        if let Some(object) = Object::read(faults, &path, query, &["type", "metricDataQueries"]) {
            let parts = parts(faults, &object).unwrap_or_default();
            if parts.iter().any(selects) {
                faults.add(object.path_of("metricDataQueries"), SELECT);
            }
        }
    }
}

fn metric_data_query(faults: &mut Faults, path: &str, value: &Value) -> Option<MetricDataQuery> {
    let object = Object::read(
        faults,
        path,
        value,
        &["Id", "MetricStat", "Expression", "ReturnData", "Period"],
    )?;
    let id = object.need_text(faults, "Id", "an id").filter(|id| {
        let mut characters = id.chars();
        let legal = characters.next().is_some_and(|c| c.is_ascii_lowercase())
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !legal {
            faults.add(object.path_of("Id"), format!("{id:?} is no id; a lowercase letter, then letters, numbers and underscores are allowed"));
        }
        legal
    });
    if object.has("MetricStat") == object.has("Expression") {
        faults.add(path, "exactly one of MetricStat and Expression is needed");
    }
    let metric_stat = object
        .get("MetricStat")
        .and_then(|value| metric_stat(faults, &object.path_of("MetricStat"), value));
    let expression = object.text(faults, "Expression");
    let expression = placeholders_are_known(faults, &object.path_of("Expression"), expression);
    let return_data = object.flag(faults, "ReturnData");
    let period = object.whole(faults, "Period", 1, 86_400);
    Some(MetricDataQuery {
        id: id?,
        metric_stat,
        expression,
        return_data,
        period,
    })
}

fn metric_stat(faults: &mut Faults, path: &str, value: &Value) -> Option<MetricStat> {
    let object = Object::read(faults, path, value, &["Metric", "Period", "Stat"])?;
    let period = object.need(faults, "Period", "the period in seconds").and_then(|value| {
        let path = object.path_of("Period");
        let seconds: u32 = whole(faults, &path, value, 1, 86_400)?;
        if !matches!(seconds, 1 | 5) && !is_period(seconds) {
            faults.add(path, format!("{seconds} is no CloudWatch period; 1, 5, 10, 30 or a multiple of 60 is allowed"));
            return None;
        }
        Some(seconds)
    });
    let stat = object.need_text(faults, "Stat", "the statistic, as Sum, Average or p99,");
    let metric = object
        .need(faults, "Metric", "the metric")
        .and_then(|value| metric(faults, &object.path_of("Metric"), value));
    Some(MetricStat {
        metric: metric?,
        period: period?,
        stat: stat?,
    })
}

fn metric(faults: &mut Faults, path: &str, value: &Value) -> Option<Metric> {
    let object = Object::read(
        faults,
        path,
        value,
        &["Namespace", "MetricName", "Dimensions"],
    )?;
    let namespace = object.need_text(faults, "Namespace", "the namespace");
    let metric_name = object.need_text(faults, "MetricName", "the metric's name");
    let mut dimensions = Vec::new();
    for (path, element) in object.list(faults, "Dimensions", 30).unwrap_or_default() {
        let Some(dimension) = Object::read(faults, &path, element, &["Name", "Value"]) else {
            continue;
        };
        let name = dimension.need_text(faults, "Name", "the dimension's name");
        let value = dimension.need_text(faults, "Value", "the dimension's value");
        let value = placeholders_are_known(faults, &dimension.path_of("Value"), value);
        if let (Some(name), Some(value)) = (name, value) {
            dimensions.push(Dimension { name, value });
        }
    }
    Some(Metric {
        namespace: namespace?,
        metric_name: metric_name?,
        dimensions,
    })
}

fn placeholders_are_known(faults: &mut Faults, path: &str, text: Option<String>) -> Option<String> {
    let text = text?;
    for (_, rest) in text
        .match_indices("{{")
        .map(|(at, braces)| (at, &text[at + braces.len()..]))
    {
        let name = rest.split("}}").next().unwrap_or(rest);
        if !rest.contains("}}") || !PLACEHOLDERS.contains(&name) {
            faults.add(
                path,
                format!(
                    "{:?} is no placeholder; {} are allowed, in double braces",
                    format!("{{{{{name}"),
                    PLACEHOLDERS.join(", ")
                ),
            );
        }
    }
    Some(text)
}

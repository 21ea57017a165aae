//! A canary configuration as Kayenta exports it, with CloudWatch queries in the place of its metrics services.
//!
//! It is read as Kayenta reads it: fields that its judge does not know are ignored, texts that it does not know are its defaults,
//! and where it would abort, the configuration is refused with every fault at once. `null` is the same as nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};
use serin::request::{Faults, MetricDataQuery};

use super::classify::{Direction, EffectMeasure, EffectSize, MetricSettings, Outliers};
use super::samples::{NanStrategy, OutlierStrategy};

/// The judge whose verdicts these are.
pub const JUDGE: &str = "NetflixACAJudge-v1.0";
/// The type of query that is understood.
const QUERY_TYPE: &str = "cloudwatch";

/// A canary configuration: what is measured, and what it counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct CanaryConfig {
    /// Its name.
    pub name: Option<String>,
    /// The metrics, at least one, each with a name of its own.
    pub metrics: Vec<MetricConfig>,
    /// What the groups count, in percent: `classifier.groupWeights`.
    pub group_weights: BTreeMap<String, f64>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricConfig {
    /// Its name.
    pub name: String,
    /// The groups that it counts in; in none, it is judged and does not count.
    pub groups: Vec<String>,
    /// Where its values come from.
    pub query: CloudWatchQuery,
    /// The scope that Kayenta measured it in. Serin has one scope, the deployment, and does not use it.
    pub scope_name: Option<String>,
    /// How it is judged: `analysisConfigurations.canary`.
    pub settings: MetricSettings,
}

/// A query of type `cloudwatch`.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudWatchQuery {
    /// As CloudWatch's `GetMetricData` takes them; exactly one returns data. It is asked once for the canary and once for its
    /// baseline, with the names of each in place of the placeholders.
    pub metric_data_queries: Vec<MetricDataQuery>,
}

impl CanaryConfig {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every fault, each with the path of its field.
    pub fn from_json(text: &str) -> Result<Self, Faults> {
        match serde_json::from_str(text) {
            Ok(value) => Self::from_value(&value),
            Err(error) => {
                let mut faults = Faults::default();
                faults.add("", format!("the canary configuration is no JSON: {error}"));
                Err(faults)
            }
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// Every fault, each with the path of its field.
    pub fn from_value(value: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        match Self::read(&mut faults, "", value) {
            Some(config) if faults.0.is_empty() => Ok(config),
            _ => Err(faults),
        }
    }

    /// Reads a value that stands at `path` of something larger, and adds its faults to those of the whole.
    pub fn read(faults: &mut Faults, path: &str, value: &Value) -> Option<Self> {
        let config = Object::of(faults, path, value)?;
        let name = config.text(faults, "name");
        if let Some(judge) = config.object(faults, "judge")
            && let Some(name) = judge.text(faults, "name")
            && name != JUDGE
        {
            faults.add(
                judge.path_of("name"),
                format!("{name:?} is not known; {JUDGE:?} is allowed"),
            );
        }
        let mut group_weights = BTreeMap::new();
        if let Some(classifier) = config.object(faults, "classifier")
            && let Some(weights) = classifier.object(faults, "groupWeights")
        {
            for group in weights.map.keys() {
                if let Some(weight) = weights.number(faults, group) {
                    group_weights.insert(group.clone(), weight);
                }
            }
        }
        let metrics = metrics(faults, &config);
        Some(Self {
            name,
            metrics,
            group_weights,
        })
    }

    /// The metric of that name.
    pub fn metric(&self, name: &str) -> Option<&MetricConfig> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl TryFrom<Value> for CanaryConfig {
    type Error = Faults;

    fn try_from(value: Value) -> Result<Self, Faults> {
        Self::from_value(&value)
    }
}

fn metrics(faults: &mut Faults, config: &Object) -> Vec<MetricConfig> {
    let path = config.path_of("metrics");
    let elements = match config.get("metrics") {
        Some(Value::Array(elements)) if !elements.is_empty() => elements,
        Some(Value::Array(_)) | None => {
            faults.add(path, "at least one metric is needed");
            return Vec::new();
        }
        Some(other) => {
            faults.add(path, expected(other, "a list of metrics"));
            return Vec::new();
        }
    };
    let mut names = BTreeSet::new();
    let mut metrics = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(metric) = metric(faults, &path, element) else {
            continue;
        };
        if !names.insert(metric.name.clone()) {
            // Kayenta would judge both by the first one's settings.
            faults.add(
                format!("{path}.name"),
                format!("{:?} is named twice", metric.name),
            );
        }
        metrics.push(metric);
    }
    metrics
}

fn metric(faults: &mut Faults, path: &str, value: &Value) -> Option<MetricConfig> {
    let metric = Object::of(faults, path, value)?;
    let name = metric.text(faults, "name");
    if metric.get("name").is_none() {
        faults.add(metric.path_of("name"), "missing; a name is needed");
    }
    let groups = groups(faults, &metric);
    let scope_name = metric.text(faults, "scopeName");
    let query = query(faults, &metric);
    let settings = match metric.object(faults, "analysisConfigurations") {
        Some(analysis) => analysis
            .object(faults, "canary")
            .map(|canary| settings(faults, &canary))
            .unwrap_or_default(),
        None => MetricSettings::default(),
    };
    Some(MetricConfig {
        name: name?,
        groups,
        query: query?,
        scope_name,
        settings,
    })
}

fn groups(faults: &mut Faults, metric: &Object) -> Vec<String> {
    let path = metric.path_of("groups");
    let elements = match metric.get("groups") {
        None => return Vec::new(),
        Some(Value::Array(elements)) => elements,
        Some(other) => {
            faults.add(path, expected(other, "a list of groups"));
            return Vec::new();
        }
    };
    let mut groups = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        match element {
            Value::String(group) => groups.push(group.clone()),
            other => faults.add(
                format!("{path}[{index}]"),
                expected(other, "a group's name"),
            ),
        }
    }
    groups
}

fn query(faults: &mut Faults, metric: &Object) -> Option<CloudWatchQuery> {
    if metric.get("query").is_none() {
        faults.add(
            metric.path_of("query"),
            format!("missing; a query of type {QUERY_TYPE:?} is needed"),
        );
    }
    let query = metric.object(faults, "query")?;
    let allowed = format!("{QUERY_TYPE:?} is allowed, with metricDataQueries");
    match query.get("type") {
        Some(Value::String(name)) if name == QUERY_TYPE => {}
        Some(other) => faults.add(
            query.path_of("type"),
            format!("{other} is not known; {allowed}"),
        ),
        None => faults.add(query.path_of("type"), format!("missing; {allowed}")),
    }
    let path = query.path_of("metricDataQueries");
    let elements = match query.get("metricDataQueries") {
        Some(Value::Array(elements)) => elements.as_slice(),
        Some(other) => {
            faults.add(path, expected(other, "a list of CloudWatch queries"));
            return None;
        }
        None => &[],
    };
    let faults_before = faults.0.len();
    let mut metric_data_queries = Vec::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        match MetricDataQuery::deserialize(element) {
            Ok(query) => metric_data_queries.push(query),
            Err(error) => faults.add(format!("{path}[{index}]"), error.to_string()),
        }
    }
    let returned = metric_data_queries
        .iter()
        .filter(|query| query.return_data.unwrap_or(true))
        .count();
    if faults.0.len() == faults_before && returned != 1 {
        faults.add(
            path,
            format!(
                "{returned} of them return data; exactly one must, the others have ReturnData false"
            ),
        );
    }
    Some(CloudWatchQuery {
        metric_data_queries,
    })
}

fn settings(faults: &mut Faults, canary: &Object) -> MetricSettings {
    let text = |faults: &mut Faults, object: &Object, field| {
        object.text(faults, field).unwrap_or_default()
    };
    let outliers = canary.object(faults, "outliers").map(|object| {
        let factor = object.number(faults, "outlierFactor");
        if let Some(factor) = factor
            && factor <= 0.0
        {
            faults.add(
                object.path_of("outlierFactor"),
                format!("{factor} is out of range; a number above 0 is allowed"),
            );
        }
        Outliers {
            strategy: OutlierStrategy::from_kayenta(&text(faults, &object, "strategy")),
            factor: factor.unwrap_or(Outliers::default().factor),
        }
    });
    let effect_size = canary.object(faults, "effectSize").map(|object| {
        let none = EffectSize::of(EffectMeasure::from_kayenta(&text(
            faults, &object, "measure",
        )));
        let mut limit = |field, default| object.number(faults, field).unwrap_or(default);
        EffectSize {
            measure: none.measure,
            allowed_increase: limit("allowedIncrease", none.allowed_increase),
            allowed_decrease: limit("allowedDecrease", none.allowed_decrease),
            critical_increase: limit("criticalIncrease", none.critical_increase),
            critical_decrease: limit("criticalDecrease", none.critical_decrease),
        }
    });
    MetricSettings {
        direction: Direction::from_kayenta(&text(faults, canary, "direction")),
        nan_strategy: NanStrategy::from_kayenta(&text(faults, canary, "nanStrategy")),
        outliers: outliers.unwrap_or_default(),
        effect_size: effect_size.unwrap_or_default(),
        critical: canary.flag(faults, "critical"),
        must_have_data: canary.flag(faults, "mustHaveData"),
        muted: canary.flag(faults, "muted"),
    }
}

/// A number as Kayenta's judge takes it: an integer will do, a text will not, and nothing is the default.
///
/// # Errors
/// What came instead, and that a number was expected.
pub fn number(value: &Value, default: f64) -> Result<f64, String> {
    match value {
        Value::Null => Ok(default),
        _ => value.as_f64().ok_or_else(|| expected(value, "a number")),
    }
}

/// An object of the configuration, with its path.
struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    fn of(faults: &mut Faults, path: &str, value: &'a Value) -> Option<Self> {
        if let Value::Object(map) = value {
            let path = path.to_owned();
            return Some(Self { path, map });
        }
        faults.add(path, expected(value, "an object"));
        None
    }

    fn path_of(&self, field: &str) -> String {
        match self.path.as_str() {
            "" => field.to_owned(),
            path => format!("{path}.{field}"),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn object(&self, faults: &mut Faults, field: &str) -> Option<Object<'a>> {
        Object::of(faults, &self.path_of(field), self.get(field)?)
    }

    fn text(&self, faults: &mut Faults, field: &str) -> Option<String> {
        match self.get(field)? {
            Value::String(text) => Some(text.clone()),
            other => {
                faults.add(self.path_of(field), expected(other, "a text"));
                None
            }
        }
    }

    fn number(&self, faults: &mut Faults, field: &str) -> Option<f64> {
        match number(self.get(field)?, f64::NAN) {
            Ok(number) => Some(number),
            Err(sentence) => {
                faults.add(self.path_of(field), sentence);
                None
            }
        }
    }

    /// `false` when it is not there.
    fn flag(&self, faults: &mut Faults, field: &str) -> bool {
        match self.get(field) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                faults.add(self.path_of(field), expected(other, "true or false"));
                false
            }
        }
    }
}

fn expected(value: &Value, what: &str) -> String {
    let is = match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    format!("{is} is not allowed; {what} is expected")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As Kayenta exports it, but for the queries.
    fn exported() -> Value {
        json!({
            "name": "checkout",
            "description": "",
            "configVersion": "1",
            "applications": ["shop"],
            "createdTimestamp": 1_700_000_000_000_u64,
            "judge": {"name": "NetflixACAJudge-v1.0", "judgeConfigurations": {}},
            "metrics": [
                {
                    "name": "errors",
                    "query": {
                        "type": "cloudwatch",
                        "metricDataQueries": [{
                            "Id": "errors",
                            "MetricStat": {
                                "Metric": {
                                    "Namespace": "Shop",
                                    "MetricName": "Errors",
                                    "Dimensions": [{"Name": "Service", "Value": "{{canaryService}}"}]
                                },
                                "Period": 60,
                                "Stat": "Sum"
                            }
                        }]
                    },
                    "groups": ["Errors"],
                    "analysisConfigurations": {"canary": {
                        "direction": "increase",
                        "nanStrategy": "replace",
                        "critical": true,
                        "mustHaveData": true,
                        "effectSize": {"allowedIncrease": 1.1, "criticalIncrease": 2},
                        "outliers": {"strategy": "remove", "outlierFactor": 1.5}
                    }},
                    "scopeName": "default"
                },
                {
                    "name": "cpu",
                    "query": {"type": "cloudwatch", "metricDataQueries": [{"Id": "cpu", "Expression": "1"}]},
                    "groups": ["System"],
                    "analysisConfigurations": {"canary": {"effectSize": {"measure": "cles"}, "muted": true}}
                }
            ],
            "templates": {},
            "classifier": {"groupWeights": {"Errors": 60, "System": 40.0}}
        })
    }

    #[test]
    fn a_configuration_is_read_as_kayenta_exports_it() {
        let config = CanaryConfig::from_value(&exported()).unwrap();
        assert_eq!(config.name.as_deref(), Some("checkout"));
        let weights: Vec<_> = config.group_weights.values().copied().collect();
        assert_eq!(weights, [60.0, 40.0]);
        let errors = config.metric("errors").unwrap();
        assert_eq!(errors.groups, ["Errors"]);
        assert_eq!(errors.scope_name.as_deref(), Some("default"));
        assert_eq!(
            errors.settings,
            MetricSettings {
                direction: Direction::Increase,
                nan_strategy: NanStrategy::Replace,
                outliers: Outliers {
                    strategy: OutlierStrategy::Remove,
                    factor: 1.5
                },
                effect_size: EffectSize {
                    allowed_increase: 1.1,
                    critical_increase: 2.0,
                    ..EffectSize::default()
                },
                critical: true,
                must_have_data: true,
                muted: false,
            }
        );
        let cpu = config.metric("cpu").unwrap();
        assert_eq!(
            cpu.settings.effect_size,
            EffectSize::of(EffectMeasure::Cles)
        );
        assert!(cpu.settings.muted && config.metric("disk").is_none());
    }

    #[test]
    fn what_kayenta_ignores_is_ignored_and_what_it_does_not_know_is_its_default() {
        let mut value = exported();
        value["metrics"][1]["analysisConfigurations"]["canary"] = json!({
            "direction": "sideways", "nanStrategy": "none", "outliers": {"strategy": "wish"},
            "effectSize": {"measure": "CLES"}, "critical": null, "colour": "blue"
        });
        let config = CanaryConfig::from_value(&value).unwrap();
        assert_eq!(config.metrics[1].settings, MetricSettings::default());
    }

    #[test]
    fn every_fault_names_its_field_the_value_and_what_is_allowed() {
        let mut value = exported();
        value["judge"]["name"] = json!("dredd-v1.0");
        value["classifier"]["groupWeights"]["Errors"] = json!("60");
        let canary = &mut value["metrics"][0]["analysisConfigurations"]["canary"];
        canary["critical"] = json!("yes");
        canary["outliers"]["outlierFactor"] = json!(0);
        canary["effectSize"]["allowedIncrease"] = json!("1.1");
        canary["direction"] = json!(3);
        value["metrics"][1]["query"] = json!({"type": "prometheus"});
        let faults = CanaryConfig::from_value(&value).unwrap_err();
        let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        let canary = "metrics[0].analysisConfigurations.canary";
        assert_eq!(
            faults,
            [
                "judge.name: \"dredd-v1.0\" is not known; \"NetflixACAJudge-v1.0\" is allowed"
                    .to_owned(),
                "classifier.groupWeights.Errors: \"60\" is not allowed; a number is expected"
                    .to_owned(),
                format!("{canary}.outliers.outlierFactor: 0 is out of range; a number above 0 is allowed"),
                format!("{canary}.effectSize.allowedIncrease: \"1.1\" is not allowed; a number is expected"),
                format!("{canary}.direction: 3 is not allowed; a text is expected"),
                format!("{canary}.critical: \"yes\" is not allowed; true or false is expected"),
                "metrics[1].query.type: \"prometheus\" is not known; \"cloudwatch\" is allowed, with metricDataQueries"
                    .to_owned(),
                "metrics[1].query.metricDataQueries: 0 of them return data; exactly one must, the others have ReturnData false"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn a_configuration_without_metrics_or_with_one_twice_is_refused() {
        for (metrics, sentence) in [
            (json!([]), "metrics: at least one metric is needed"),
            (
                json!({}),
                "metrics: an object is not allowed; a list of metrics is expected",
            ),
            (
                json!([exported()["metrics"][0], exported()["metrics"][0]]),
                "metrics[1].name: \"errors\" is named twice",
            ),
        ] {
            let mut value = exported();
            value["metrics"] = metrics;
            let faults = CanaryConfig::from_value(&value).unwrap_err();
            assert_eq!(faults.to_string(), sentence);
        }
        let faults = CanaryConfig::from_json("{").unwrap_err();
        assert!(
            faults
                .to_string()
                .starts_with("the canary configuration is no JSON: ")
        );
    }
}

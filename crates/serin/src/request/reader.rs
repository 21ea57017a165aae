//! Reads JSON and collects every fault instead of stopping at the first, which is why this is not serde's derive: a person
//! who wrote three mistakes hears of three.

use std::str::FromStr;

use serde_json::{Map, Value};
use strum::VariantNames;

use super::fault::Faults;
use crate::weight::Weight;

/// Names of the AWS sample's `deploy.json` and of other tools, and what they are called here.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("percentage_step", "plan.stepPercent"),
    ("PercentageStep", "plan.stepPercent"),
    ("wait_time", "plan.intervalSeconds"),
    ("WaitTime", "plan.intervalSeconds"),
    ("failure_threshold_value", "checks.errorRatePercent.max"),
    ("FailureThresholdValue", "checks.errorRatePercent.max"),
    ("failure_threshold_time", "checks.intervalSeconds"),
    ("FailureThresholdTime", "checks.intervalSeconds"),
    ("cluster_name", "cluster"),
    ("EnvironmentName", "cluster"),
    ("microservice_name", "service"),
    ("MicroserviceName", "service"),
    ("container_image", "image"),
    ("ContainerImage", "image"),
    ("stepWeight", "plan.stepPercent"),
    ("maxWeight", "plan.maxWeightPercent"),
    ("threshold", "checks.failuresAllowed"),
];

/// A JSON object whose fields are taken one by one.
pub(super) struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The value at `path` as an object with no other fields than `known`.
    pub(super) fn read(
        faults: &mut Faults,
        path: &str,
        value: &'a Value,
        known: &[&str],
    ) -> Option<Self> {
        let Some(map) = value.as_object() else {
            faults.add(path, expected(value, "an object"));
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            faults.add(join(path, key), unknown_field(key, known));
        }
        Some(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// The path of one of its fields.
    pub(super) fn path_of(&self, field: &str) -> String {
        join(&self.path, field)
    }

    /// Whether the field is there, `null` or not.
    pub(super) fn has(&self, field: &str) -> bool {
        self.map.contains_key(field)
    }

    /// The field, if it is there. `null` is a value: no field but `errorRatePercent` and `judge` takes it.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field)
    }

    /// The field, with a fault when it is missing.
    pub(super) fn need(&self, faults: &mut Faults, field: &str, what: &str) -> Option<&'a Value> {
        let value = self.map.get(field);
        if value.is_none() {
            faults.add(self.path_of(field), format!("missing; {what} is needed"));
        }
        value
    }

    /// A text that is not empty.
    pub(super) fn text(&self, faults: &mut Faults, field: &str) -> Option<String> {
        text(faults, &self.path_of(field), self.get(field)?)
    }

    /// A text that is not empty, with a fault when it is missing.
    pub(super) fn need_text(&self, faults: &mut Faults, field: &str, what: &str) -> Option<String> {
        let value = self.need(faults, field, what)?;
        text(faults, &self.path_of(field), value)
    }

    /// A whole number from `min` to `max`.
    pub(super) fn whole<N: TryFrom<u64>>(
        &self,
        faults: &mut Faults,
        field: &str,
        min: u64,
        max: u64,
    ) -> Option<N> {
        whole(faults, &self.path_of(field), self.get(field)?, min, max)
    }

    /// A number from `min` to `max`.
    pub(super) fn number(
        &self,
        faults: &mut Faults,
        field: &str,
        min: f64,
        max: f64,
    ) -> Option<f64> {
        number(faults, &self.path_of(field), self.get(field)?, min, max)
    }

    /// True or false.
    pub(super) fn flag(&self, faults: &mut Faults, field: &str) -> Option<bool> {
        let value = self.get(field)?;
        if value.as_bool().is_none() {
            faults.add(self.path_of(field), expected(value, "true or false"));
        }
        value.as_bool()
    }

    /// A weight above zero.
    pub(super) fn weight(&self, faults: &mut Faults, field: &str) -> Option<Weight> {
        weight(faults, &self.path_of(field), self.get(field)?)
    }

    /// One of an enum's names.
    pub(super) fn choice<E: FromStr + VariantNames>(
        &self,
        faults: &mut Faults,
        field: &str,
    ) -> Option<E> {
        choice(faults, &self.path_of(field), self.get(field)?)
    }

    /// A list with at least one element and at most `limit`; each element comes with its path.
    pub(super) fn list(
        &self,
        faults: &mut Faults,
        field: &str,
        limit: usize,
    ) -> Option<Vec<(String, &'a Value)>> {
        let path = self.path_of(field);
        let value = self.get(field)?;
        let Some(elements) = value.as_array() else {
            faults.add(path, expected(value, "a list"));
            return None;
        };
        if elements.is_empty() {
            faults.add(
                path,
                "the list is empty; leave the field out, or name at least one",
            );
            return None;
        }
        if elements.len() > limit {
            faults.add(
                path,
                format!("{} elements; at most {limit} are allowed", elements.len()),
            );
            return None;
        }
        Some(
            elements
                .iter()
                .enumerate()
                .map(|(index, element)| (format!("{path}[{index}]"), element))
                .collect(),
        )
    }
}

pub(super) fn text(faults: &mut Faults, path: &str, value: &Value) -> Option<String> {
    match value.as_str() {
        None => {
            faults.add(path, expected(value, "a text"));
            None
        }
        Some("") => {
            faults.add(path, "empty; a text is expected");
            None
        }
        Some(text) => Some(text.to_owned()),
    }
}

pub(super) fn whole<N: TryFrom<u64>>(
    faults: &mut Faults,
    path: &str,
    value: &Value,
    min: u64,
    max: u64,
) -> Option<N> {
    let Some(given) = value.as_f64() else {
        faults.add(path, expected(value, "a whole number"));
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "every bound is far below 2^53")]
    let (least, most) = (min as f64, max as f64);
    if given < least {
        faults.add(path, format!("{value} is below {min}"));
    } else if given > most {
        faults.add(path, format!("{value} is above {max}"));
    } else if given.fract() != 0.0 {
        faults.add(path, format!("{value} is not a whole number"));
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between min and max, without a fraction"
        )]
        return N::try_from(given as u64).ok();
    }
    None
}

pub(super) fn number(
    faults: &mut Faults,
    path: &str,
    value: &Value,
    min: f64,
    max: f64,
) -> Option<f64> {
    let Some(given) = value.as_f64() else {
        faults.add(path, expected(value, "a number"));
        return None;
    };
    if given < min {
        faults.add(path, format!("{value} is below {min}"));
        None
    } else if given > max {
        faults.add(path, format!("{value} is above {max}"));
        None
    } else {
        Some(given)
    }
}

pub(super) fn weight(faults: &mut Faults, path: &str, value: &Value) -> Option<Weight> {
    let Some(percent) = value.as_f64() else {
        faults.add(path, expected(value, "a number of percent"));
        return None;
    };
    match Weight::from_percent(percent) {
        Ok(Weight::ZERO) => {
            faults.add(path, format!("{value} is below 0.1"));
            None
        }
        Ok(weight) => Some(weight),
        Err(error) => {
            faults.add(path, error.to_string());
            None
        }
    }
}

pub(super) fn choice<E: FromStr + VariantNames>(
    faults: &mut Faults,
    path: &str,
    value: &Value,
) -> Option<E> {
    let Some(name) = value.as_str() else {
        faults.add(
            path,
            format!(
                "{}; one of {} is expected",
                what_it_is(value),
                E::VARIANTS.join(", ")
            ),
        );
        return None;
    };
    let chosen = E::from_str(name).ok();
    if chosen.is_none() {
        faults.add(
            path,
            format!(
                "{} is not known; one of {} is expected",
                shown(value),
                E::VARIANTS.join(", ")
            ),
        );
    }
    chosen
}

/// `given is a number; a text is expected`.
pub(super) fn expected(value: &Value, what: &str) -> String {
    format!("{}; {what} is expected", what_it_is(value))
}

/// The value as JSON, cut to a length that a person reads.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

fn what_it_is(value: &Value) -> String {
    let kind = match value {
        Value::Null => return "null".to_owned(),
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("{} is {kind}", shown(value))
}

fn unknown_field(key: &str, known: &[&str]) -> String {
    if let Some((_, ours)) = FOREIGN_NAMES.iter().find(|(foreign, _)| *foreign == key) {
        return format!("unknown field; here it is {ours}");
    }
    let nearest = known
        .iter()
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&key.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let begun = known
        .iter()
        .find(|name| name.to_lowercase().starts_with(&key.to_lowercase()));
    match nearest.map(|(likeness, name)| begun.map_or((likeness, name), |name| (1.0, name))) {
        Some((likeness, name)) if likeness >= 0.5 => format!("unknown field; did you mean {name}?"),
        _ => format!("unknown field; the known ones are {}", known.join(", ")),
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

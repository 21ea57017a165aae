//! What the template says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::project::read;
use crate::yaml;

/// The template.
pub fn template() -> Value {
    yaml::parse(&read("template.yaml"))
}

/// The resources of one type, by logical name.
pub fn resources_of(kind: &str) -> BTreeMap<String, Value> {
    let resources = template()["Resources"].as_object().unwrap().clone();
    resources
        .into_iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .collect()
}

/// The statements of a function's or the state machine's own policy.
#[track_caller]
pub fn statements(properties: &Value) -> Vec<Value> {
    let policies = properties["Policies"]
        .as_array()
        .expect("a role of its own");
    policies
        .iter()
        .flat_map(|policy| {
            policy["Statement"]
                .as_array()
                .expect("statements in place")
                .clone()
        })
        .collect()
}

/// One text or a list of them.
pub fn one_or_many(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![value.clone()])
}

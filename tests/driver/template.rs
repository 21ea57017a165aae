//! What the template says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::project::read;
use crate::yaml;

/// The template.
pub fn template() -> Value {
    TEMPLATE.clone()
}

/// It is read once: reading takes a while.
static TEMPLATE: LazyLock<Value> = LazyLock::new(|| yaml::parse(&read("template.yaml")));

/// The resources of one type, by logical name.
pub fn resources_of(kind: &str) -> BTreeMap<String, Value> {
    let resources = TEMPLATE["Resources"].as_object().unwrap();
    resources
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.clone(), resource.clone()))
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

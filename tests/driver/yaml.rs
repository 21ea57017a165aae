//! Reads the YAML of templates.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

/// The one document of a text. `!Ref x` becomes `{"!Ref": "x"}`.
#[track_caller]
pub fn parse(text: &str) -> Value {
    let documents = Yaml::load_from_str(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(documents.len(), 1);
    json(&documents[0])
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(boolean)) => (*boolean).into(),
        Yaml::Value(Scalar::Integer(integer)) => (*integer).into(),
        Yaml::Value(Scalar::FloatingPoint(float)) => float.into_inner().into(),
        Yaml::Value(Scalar::String(text)) => text.as_ref().into(),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(fields) => fields
            .iter()
            .map(|(key, value)| (name(key), json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Tagged(tag, value) => {
            Value::Object(Map::from_iter([(format!("!{}", tag.suffix), json(value))]))
        }
        Yaml::Representation(..) | Yaml::Alias(_) | Yaml::BadValue => {
            panic!("a template has no {yaml:?}")
        }
    }
}

fn name(key: &Yaml<'_>) -> String {
    match json(key) {
        Value::String(name) => name,
        other => other.to_string(),
    }
}

#[test]
fn the_tags_of_cloudformation_are_kept() {
    let text = "a: !Ref B\nc: !Sub\n  - \"${d}\"\n  - d: !GetAtt E.Arn\nf: [!Not [1, true, 0.5, ~]]\n\"2012-10-17\": '1'";
    let expected = serde_json::json!({
        "a": { "!Ref": "B" },
        "c": { "!Sub": ["${d}", { "d": { "!GetAtt": "E.Arn" } }] },
        "f": [{ "!Not": [1, true, 0.5, null] }],
        "2012-10-17": "1",
    });
    assert_eq!(parse(text), expected);
}

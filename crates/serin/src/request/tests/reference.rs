//! The reference of the request, field by field: docs/request.md, made of the schema.

use std::fmt::Write as _;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, schema_for};
use serde_json::{Map, Value, json};

use super::super::{Fault, Request};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/request.md");

const INTRODUCTION: &str = "# The request, field by field

Made of [request.schema.json](../request.schema.json) by `cargo xtask schema`, and a test says that it is current. What the fields do
together stands in the [README](../README.md#the-request).

Whatever is not in this list is refused, with the nearest name that is.
";

/// The schema of a request as it is read: what may be left out may not be null, unless that means something.
pub(super) fn schema() -> Value {
    let without_null = |schema: &mut Schema| {
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        let said = object.get("description").and_then(Value::as_str);
        if said.is_some_and(|said| said.contains("`null`")) {
            return;
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                object.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
            forms.retain(|form| form["type"] != "null");
            if let [Value::Object(one)] = forms.as_slice() {
                let one = one.clone();
                object.remove("anyOf");
                for (name, value) in one {
                    object.entry(name).or_insert(value);
                }
            }
        }
    };
    let mut schema = schema_for!(Request);
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// The reference of a schema.
struct Reference<'a> {
    definitions: &'a Map<String, Value>,
    text: String,
}

impl<'a> Reference<'a> {
    fn of(schema: &'a Value) -> String {
        let mut reference = Reference {
            definitions: schema["$defs"].as_object().unwrap(),
            text: INTRODUCTION.to_owned(),
        };
        let mut below = reference.table("The request", "", schema);
        // Breadth first: what belongs together stands together.
        while !below.is_empty() {
            let (path, object) = below.remove(0);
            let deeper = reference.table(&format!("`{path}`"), &path, object);
            below.extend(deeper);
        }
        reference.text
    }

    /// One object's fields, and the objects among them.
    fn table(&mut self, title: &str, path: &str, object: &'a Value) -> Vec<(String, &'a Value)> {
        let needed = object["required"].as_array().into_iter().flatten();
        let needed: Vec<_> = needed.filter_map(Value::as_str).collect();
        let mut below = Vec::new();
        write!(self.text, "\n## {title}\n\n").unwrap();
        if !path.is_empty() {
            writeln!(self.text, "{}\n", words(object)).unwrap();
        }
        self.text
            .push_str("| field | takes | default | meaning |\n|---|---|---|---|\n");
        for (name, field) in object["properties"].as_object().unwrap() {
            let default = match field.get("default") {
                _ if needed.contains(&name.as_str()) => "needed".to_owned(),
                // What an object's own fields have stands at them.
                Some(Value::Object(_) | Value::Null) | None => String::new(),
                Some(default) => format!("`{default}`"),
            };
            let meaning = match words(field) {
                said if said.is_empty() => words(self.kind(field)),
                said => said,
            };
            writeln!(
                self.text,
                "| `{name}` | {} | {default} | {meaning} |",
                self.takes(field)
            )
            .unwrap();
            let here = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let (object, suffix) = match field.get("items").filter(|_| field.get("items").is_some())
            {
                Some(items) => (self.kind(items), "[]"),
                None => (self.kind(field), ""),
            };
            if object.get("properties").is_some() {
                below.push((format!("{here}{suffix}"), object));
            }
        }
        below
    }

    /// The definition behind a reference; of two forms, of which one is null, the other.
    fn kind(&self, field: &'a Value) -> &'a Value {
        let forms = field.get("anyOf").and_then(Value::as_array);
        let form = forms.and_then(|forms| forms.iter().find(|form| form["type"] != "null"));
        let field = form.unwrap_or(field);
        match field.get("$ref").and_then(Value::as_str) {
            Some(reference) => &self.definitions[reference.rsplit('/').next().unwrap()],
            None => field,
        }
    }

    /// What a field takes, in a few words.
    fn takes(&self, field: &'a Value) -> String {
        let nullable = field["type"]
            .as_array()
            .is_some_and(|types| types.contains(&"null".into()))
            || field["anyOf"]
                .as_array()
                .is_some_and(|forms| forms.iter().any(|form| form["type"] == "null"));
        let kind = self.kind(field);
        let takes = match (
            kind.get("oneOf").and_then(Value::as_array),
            kind.get("enum").and_then(Value::as_array),
        ) {
            (Some(forms), _) => forms
                .iter()
                .map(|form| self.form(form))
                .collect::<Vec<_>>()
                .join(", "),
            (None, Some(values)) => values
                .iter()
                .map(|value| format!("`{value}`"))
                .collect::<Vec<_>>()
                .join(", "),
            (None, None) => self.form(kind),
        };
        if nullable {
            format!("{takes}, or `null`")
        } else {
            takes
        }
    }

    fn form(&self, form: &'a Value) -> String {
        if let Some(value) = form.get("const") {
            return format!("`{value}`");
        }
        if let Some(fields) = form
            .get("properties")
            .and_then(Value::as_object)
            .filter(|_| {
                form.get("required").is_some()
                    && form["description"].is_string()
                    && self.is_choice(form)
            })
        {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, field)| format!("\"{name}\": {}", self.takes(field)))
                .collect();
            return format!("`{{{}}}`", fields.join(", ").replace('`', ""));
        }
        let types = match &form["type"] {
            Value::Array(types) => types.iter().find(|kind| **kind != "null"),
            kind => Some(kind),
        };
        match types.and_then(Value::as_str).unwrap_or("object") {
            "integer" => format!("a whole number{}", range(form)),
            "number" => format!("a number{}", range(form)),
            "boolean" => "`true` or `false`".to_owned(),
            "array" => format!("a list of {}", plural(&self.takes(&form["items"]))),
            "object" if form.get("properties").is_some() => "an object".to_owned(),
            "object" => "an object of texts".to_owned(),
            _ => "a text".to_owned(),
        }
    }

    /// Whether an object is one of several forms, and has no table of its own.
    fn is_choice(&self, form: &Value) -> bool {
        let mut choices = self
            .definitions
            .values()
            .filter_map(|kind| kind["oneOf"].as_array());
        choices.any(|forms| forms.contains(form))
    }
}

fn plural(takes: &str) -> &str {
    match takes {
        "a text" => "texts",
        "an object" => "objects",
        other => other,
    }
}

fn range(form: &Value) -> String {
    match (form["minimum"].as_f64(), form["maximum"].as_f64()) {
        (Some(min), Some(max)) => format!(", {min} to {max}"),
        (Some(min), None) if min > 0.0 => format!(", at least {min}"),
        _ => String::new(),
    }
}

/// A description in one line, which a table's cell can hold.
fn words(field: &Value) -> String {
    let said = field["description"].as_str().unwrap_or_default();
    said.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[test]
fn the_committed_reference_of_the_request_is_current() {
    let schema = schema();
    let generated = Reference::of(&schema);
    if std::env::var_os("SERIN_WRITE_SCHEMA").is_some() {
        std::fs::write(PATH, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/request.md is not current; `cargo xtask schema` writes it"
    );
}

#[test]
fn every_object_of_the_schema_has_a_table_or_stands_in_a_cell() {
    let schema = schema();
    let text = Reference::of(&schema);
    let objects = schema["$defs"].as_object().unwrap().values();
    for field in objects
        .filter_map(|object| object["properties"].as_object())
        .flatten()
        .map(|(name, _)| name)
    {
        assert!(
            text.contains(&format!("| `{field}` |")) || text.contains(&format!("\"{field}\"")),
            "{field} is missing"
        );
    }
}

#[test]
fn null_is_read_where_the_schema_allows_it_and_nowhere_else() {
    let schema = schema();
    let may_be_null = |field: &Value| field.to_string().contains("\"null\"");
    let mut allowed = Vec::new();
    for (path, fields) in [
        ("", &schema["properties"]),
        ("checks", &schema["$defs"]["Checks"]["properties"]),
    ] {
        for (name, field) in fields.as_object().unwrap() {
            let mut request = json!({ "cluster": "prod", "service": "checkout", "image": "checkout:2", "checks": { "alarms": ["a"] } });
            let place = if path.is_empty() {
                &mut request
            } else {
                &mut request[path]
            };
            place[name] = Value::Null;
            let of_null = |fault: &Fault| fault.to_string().contains("null");
            let refused =
                Request::parse(&request).is_err_and(|faults| faults.0.iter().any(of_null));
            assert_eq!(refused, !may_be_null(field), "{path} {name}: {field}");
            if may_be_null(field) {
                allowed.push(name.clone());
            }
        }
    }
    assert_eq!(allowed, ["errorRatePercent", "judge"]);
}

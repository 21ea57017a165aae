//! AWS's query protocol, which Elastic Load Balancing speaks: a form is asked and XML is answered.
//!
//! Both become the same JSON that the other services speak, as far as JSON is needed here: a list is an array, a leaf is
//! a text, also where the model says number. An empty element is an empty text, whatever it would hold.

use std::fmt::Write as _;

use quick_xml::events::{BytesText, Event};
use quick_xml::{Reader, Writer};
use serde_json::{Map, Value};

use crate::moto::{percent_decode, percent_encode};

/// The namespace of Elastic Load Balancing's answers; its last segment is the version of the API.
const NAMESPACE: &str = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/";

/// The element of a list.
const MEMBER: &str = "member";

/// Writes a request: `{"Names": ["a"]}` becomes `Action=...&Version=...&Names.member.1=a`.
pub(crate) fn form(action: &str, request: &Value) -> String {
    let version = NAMESPACE.rsplit('/').nth(1).unwrap_or_default();
    let mut form = format!("Action={action}&Version={version}");
    flatten("", request, &mut form);
    form
}

fn flatten(name: &str, value: &Value, form: &mut String) {
    let under = |part: &str| match name {
        "" => part.to_owned(),
        _ => format!("{name}.{part}"),
    };
    let text = match value {
        Value::Null => return,
        Value::Object(members) => {
            for (member, value) in members {
                flatten(&under(member), value, form);
            }
            return;
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&under(&format!("{MEMBER}.{}", index + 1)), value, form);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    let _ = write!(form, "&{name}={}", percent_encode(&text));
}

/// Reads a request: the reverse of [`form`], with the members `Action` and `Version` like any other.
pub(crate) fn read_form(body: &[u8]) -> Value {
    let mut root = Value::Object(Map::new());
    let body = String::from_utf8_lossy(body);
    for (name, value) in body.split('&').filter_map(|pair| pair.split_once('=')) {
        let decoded = |text: &str| percent_decode(&text.replace('+', " "));
        let mut place = &mut root;
        for part in decoded(name).split('.').filter(|part| *part != MEMBER) {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[part];
        }
        *place = Value::String(decoded(value));
    }
    arrays(&mut root);
    root
}

/// Makes arrays of the objects whose members are numbers.
fn arrays(value: &mut Value) {
    let Value::Object(members) = value else {
        return;
    };
    members.values_mut().for_each(arrays);
    let indices: Option<Vec<u32>> = members.keys().map(|name| name.parse().ok()).collect();
    if let Some(mut indices) = indices.filter(|indices| !indices.is_empty()) {
        indices.sort_unstable();
        *value = indices
            .into_iter()
            .filter_map(|index| members.remove(&index.to_string()))
            .collect();
    }
}

/// Reads an answer: the name of its root and what is in it. `None` if it is no XML.
pub(crate) fn read_xml(text: &str) -> Option<(String, Value)> {
    /// An element that has begun: its name, its children, its text.
    type Open = (String, Vec<(String, Value)>, String);

    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Start(start) => {
                open.push((name(start.name().as_ref()), Vec::new(), String::new()));
                None
            }
            Event::Empty(empty) => {
                Some((name(empty.name().as_ref()), Value::String(String::new())))
            }
            Event::End(_) => {
                let (name, children, text) = open.pop()?;
                Some((name, element(children, text)))
            }
            Event::Text(text) => {
                if let Some((_, _, so_far)) = open.last_mut() {
                    so_far.push_str(&text.xml10_content());
                }
                None
            }
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref().ok()? {
                    Some(character) => character.to_string(),
                    None => {
                        quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())?
                            .to_owned()
                    }
                };
                if let Some((_, _, so_far)) = open.last_mut() {
                    so_far.push_str(&character);
                }
                None
            }
            Event::Eof => return None,
            _ => None,
        };
        if let Some((name, value)) = closed {
            match open.last_mut() {
                Some((_, children, _)) => children.push((name, value)),
                None => return Some((name, value)),
            }
        }
    }
}

fn name(name: &(impl AsRef<str> + ?Sized)) -> String {
    name.as_ref().to_owned()
}

fn element(children: Vec<(String, Value)>, text: String) -> Value {
    if children.is_empty() {
        return Value::String(text);
    }
    if children.iter().all(|(name, _)| name == MEMBER) {
        return children.into_iter().map(|(_, value)| value).collect();
    }
    Value::Object(children.into_iter().collect())
}

/// Writes an answer.
pub(crate) fn write_xml(root: &str, value: &Value) -> String {
    let mut writer = Writer::new(Vec::new());
    write_element(&mut writer, root, value, true).expect("writing to memory does not fail");
    String::from_utf8(writer.into_inner()).expect("what was written as text is text")
}

fn write_element(
    writer: &mut Writer<Vec<u8>>,
    name: &str,
    value: &Value,
    is_root: bool,
) -> std::io::Result<()> {
    let mut element = writer.create_element(name);
    if is_root {
        element = element.with_attribute(("xmlns", NAMESPACE));
    }
    match value {
        Value::Null => element.write_empty().map(drop),
        Value::Object(members) => element
            .write_inner_content(|writer| {
                // The SDK takes the result only where it stands first.
                let (first, rest): (Vec<_>, Vec<_>) = members
                    .iter()
                    .partition(|(name, _)| is_root && name.ends_with("Result"));
                for (name, value) in first.into_iter().chain(rest) {
                    write_element(writer, name, value, false)?;
                }
                Ok(())
            })
            .map(drop),
        Value::Array(values) => element
            .write_inner_content(|writer| {
                for value in values {
                    write_element(writer, MEMBER, value, false)?;
                }
                Ok(())
            })
            .map(drop),
        Value::String(text) => element.write_text_content(BytesText::new(text)).map(drop),
        Value::Bool(_) | Value::Number(_) => element
            .write_text_content(BytesText::new(&value.to_string()))
            .map(drop),
    }
}

/// An error as Elastic Load Balancing tells it.
pub(crate) fn error_xml(code: &str, message: &str) -> String {
    let error = serde_json::json!({
        "Error": {"Type": "Sender", "Code": code, "Message": message}, "RequestId": "local",
    });
    write_xml("ErrorResponse", &error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{error_xml, form, read_form, read_xml, write_xml};

    #[test]
    fn a_request_comes_back_from_its_form() {
        let request = json!({
            "RuleArn": "arn:a/b c+d",
            "Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"Weight": "900"}, {"Weight": "100"}]}}],
        });
        let written = form("ModifyRule", &request);
        assert!(
            written.contains("&Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight=100"),
            "{written}"
        );
        let mut read = read_form(written.as_bytes());
        assert_eq!(read["Action"], "ModifyRule");
        let members = read.as_object_mut().unwrap();
        members.remove("Action");
        members.remove("Version");
        assert_eq!(read, request);
    }

    #[test]
    fn an_answer_comes_back_from_its_xml() {
        let answer = json!({"DescribeRulesResult": {"Rules": [
            {"RuleArn": "arn", "Conditions": [{"Field": "path-pattern", "Values": ["/a?b=<c>&d"]}], "Empty": ""},
        ]}});
        let written = write_xml("DescribeRulesResponse", &answer);
        assert_eq!(
            read_xml(&written),
            Some(("DescribeRulesResponse".to_owned(), answer))
        );
    }

    #[test]
    fn the_result_stands_before_everything_else() {
        let answer = json!({"ResponseMetadata": {"RequestId": "1"}, "SetSubnetsResult": {}});
        let written = write_xml("SetSubnetsResponse", &answer);
        assert!(written.find("<SetSubnetsResult") < written.find("<ResponseMetadata"));
    }

    #[test]
    fn an_error_names_itself_where_the_sdk_looks() {
        let (root, error) = read_xml(&error_xml("RuleNotFound", "gone & lost")).unwrap();
        assert_eq!(root, "ErrorResponse");
        assert_eq!(error["Error"]["Code"], "RuleNotFound");
        assert_eq!(error["Error"]["Message"], "gone & lost");
    }
}

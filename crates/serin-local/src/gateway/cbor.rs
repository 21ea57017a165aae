//! Smithy RPC v2 CBOR, which the Rust SDK speaks with CloudWatch and Cloud Map, translated to the JSON that moto speaks.
//!
//! The two protocols carry the same shapes; only what JSON cannot tell apart needs care: a moment is CBOR's tag 1, and
//! the SDK does not take an integer where the model says floating point.

use ciborium::Value as Cbor;
use jiff::Timestamp;
use serde_json::{Map, Number, Value as Json};

/// The header that says which protocol a request speaks, and its value.
pub(crate) const PROTOCOL: (&str, &str) = ("smithy-protocol", "rpc-v2-cbor");

/// The tag of a moment, in seconds since 1970.
const MOMENT: u64 = 1;

/// Members that hold a moment, or a list of them, in the answers of CloudWatch and Cloud Map.
const MOMENTS: [&str; 8] = [
    "AlarmConfigurationUpdatedTimestamp",
    "CreateDate",
    "StartTime",
    "StateTransitionedTimestamp",
    "StateUpdatedTimestamp",
    "Timestamp",
    "Timestamps",
    "UpdateDate",
];

/// Members that hold floating-point numbers, or lists of them.
const FLOATS: [&str; 8] = [
    "Average",
    "Counts",
    "Maximum",
    "Minimum",
    "SampleCount",
    "Sum",
    "Threshold",
    "Values",
];

/// Why a body could not be translated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CborError {
    /// The request's body is no CBOR.
    #[error("the body is not valid CBOR")]
    Malformed(#[source] ciborium::de::Error<std::io::Error>),
    /// The body holds something that no JSON body can hold.
    #[error("the body holds what JSON cannot say: {0}")]
    Untranslatable(String),
}

/// The target of a path such as `/service/GraniteServiceVersion20100801/operation/GetMetricData`.
pub(crate) fn target(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/service/")?;
    let (service, operation) = rest.split_once("/operation/")?;
    (!service.contains('/') && !operation.contains('/')).then(|| format!("{service}.{operation}"))
}

/// Translates a request's body; an empty body is an empty object.
pub(crate) fn to_json(body: &[u8]) -> Result<Json, CborError> {
    if body.is_empty() {
        return Ok(Json::Object(Map::new()));
    }
    let value: Cbor = ciborium::from_reader(body).map_err(CborError::Malformed)?;
    json_of(value)
}

/// Translates an answer's body; what is no JSON (an empty body) is an empty map.
pub(crate) fn from_json(body: &[u8]) -> Vec<u8> {
    let json: Json = serde_json::from_slice(body).unwrap_or_else(|_| Json::Object(Map::new()));
    let mut bytes = Vec::new();
    ciborium::into_writer(&cbor_of(&json, Kind::Plain), &mut bytes)
        .expect("writing to memory does not fail");
    bytes
}

/// What the model says of a member, as far as JSON does not show it.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Moment,
    Float,
}

impl Kind {
    fn of(member: &str) -> Self {
        if MOMENTS.contains(&member) {
            Self::Moment
        } else if FLOATS.contains(&member) {
            Self::Float
        } else {
            Self::Plain
        }
    }
}

fn json_of(value: Cbor) -> Result<Json, CborError> {
    Ok(match value {
        Cbor::Null => Json::Null,
        Cbor::Bool(value) => Json::Bool(value),
        Cbor::Text(value) => Json::String(value),
        Cbor::Integer(value) => {
            let value = i128::from(value);
            let number = i64::try_from(value)
                .map(Number::from)
                .or_else(|_| u64::try_from(value).map(Number::from))
                .map_err(|_| CborError::Untranslatable(value.to_string()))?;
            Json::Number(number)
        }
        Cbor::Float(value) => Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| CborError::Untranslatable(value.to_string()))?,
        Cbor::Tag(MOMENT, moment) => json_of(*moment)?,
        Cbor::Array(values) => {
            Json::Array(values.into_iter().map(json_of).collect::<Result<_, _>>()?)
        }
        Cbor::Map(members) => {
            let mut object = Map::with_capacity(members.len());
            for (name, value) in members {
                let Cbor::Text(name) = name else {
                    return Err(CborError::Untranslatable(format!(
                        "a member named {name:?}"
                    )));
                };
                object.insert(name, json_of(value)?);
            }
            Json::Object(object)
        }
        other => return Err(CborError::Untranslatable(format!("{other:?}"))),
    })
}

fn cbor_of(value: &Json, kind: Kind) -> Cbor {
    match value {
        Json::Null => Cbor::Null,
        Json::Bool(value) => Cbor::Bool(*value),
        Json::Array(values) => {
            Cbor::Array(values.iter().map(|value| cbor_of(value, kind)).collect())
        }
        Json::Object(members) => Cbor::Map(
            members
                .iter()
                // AWS leaves out what is not there; moto writes null.
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (Cbor::Text(name.clone()), cbor_of(value, Kind::of(name))))
                .collect(),
        ),
        Json::Number(number) => match kind {
            Kind::Moment => moment(number.as_f64().unwrap_or_default()),
            Kind::Float => Cbor::Float(number.as_f64().unwrap_or_default()),
            Kind::Plain => number.as_i64().map_or_else(
                || Cbor::Float(number.as_f64().unwrap_or_default()),
                |whole| Cbor::Integer(whole.into()),
            ),
        },
        Json::String(text) => match kind {
            // Moto writes some moments as text.
            Kind::Moment => text.parse::<Timestamp>().map_or_else(
                |_| Cbor::Text(text.clone()),
                |at| moment(at.as_duration().as_secs_f64()),
            ),
            Kind::Float | Kind::Plain => Cbor::Text(text.clone()),
        },
    }
}

fn moment(seconds: f64) -> Cbor {
    Cbor::Tag(MOMENT, Box::new(Cbor::Float(seconds)))
}

#[cfg(test)]
mod tests {
    use ciborium::Value as Cbor;
    use serde_json::json;

    use super::{from_json, target, to_json};

    fn text(value: &str) -> Cbor {
        Cbor::Text(value.to_owned())
    }

    #[test]
    fn a_request_becomes_json_and_its_moments_become_numbers() {
        let request = Cbor::Map(vec![
            (
                text("StartTime"),
                Cbor::Tag(1, Box::new(Cbor::Float(1_700_000_000.5))),
            ),
            (text("MaxDatapoints"), Cbor::Integer(5.into())),
        ]);
        let mut body = Vec::new();
        ciborium::into_writer(&request, &mut body).unwrap();
        assert_eq!(
            to_json(&body).unwrap(),
            json!({"StartTime": 1_700_000_000.5, "MaxDatapoints": 5})
        );
        assert_eq!(to_json(b"").unwrap(), json!({}));
    }

    #[test]
    fn an_answers_moments_and_floats_are_what_the_sdk_reads() {
        let answer = json!({"MetricDataResults": [{"Id": "m1", "Timestamps": [1_700_000_000, "2023-11-14T22:13:20Z"], "Values": [0, 2.5]}]});
        let value: Cbor =
            ciborium::from_reader(&from_json(answer.to_string().as_bytes())[..]).unwrap();
        let moment = Cbor::Tag(1, Box::new(Cbor::Float(1_700_000_000.0)));
        let expected = Cbor::Map(vec![(
            text("MetricDataResults"),
            Cbor::Array(vec![Cbor::Map(vec![
                (text("Id"), text("m1")),
                (
                    text("Timestamps"),
                    Cbor::Array(vec![moment.clone(), moment]),
                ),
                (
                    text("Values"),
                    Cbor::Array(vec![Cbor::Float(0.0), Cbor::Float(2.5)]),
                ),
            ])]),
        )]);
        assert_eq!(value, expected);
    }

    #[test]
    fn the_path_names_the_target() {
        assert_eq!(
            target("/service/GraniteServiceVersion20100801/operation/GetMetricData").as_deref(),
            Some("GraniteServiceVersion20100801.GetMetricData")
        );
        assert_eq!(target("/service/x"), None);
    }
}

//! Amazon EventBridge: the events that were put on the default bus.

use aws_sdk_eventbridge::operation::put_events::{PutEventsInput, PutEventsOutput};
use aws_sdk_eventbridge::types::PutEventsResultEntry;
use serde_json::Value;

use crate::wire::Refusal;
use crate::world::World;

/// The events of the account, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventBridge {
    pub(crate) events: Vec<Event>,
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Who sent it.
    pub source: String,
    /// What kind it is.
    pub detail_type: String,
    /// What it says.
    pub detail: Value,
}

/// The size of an entry has a limit (EventBridge user guide, "Calculating event entry size": 256 KB).
const LARGEST: usize = 256 * 1024;

pub(crate) fn put_events(
    world: &mut World,
    input: &PutEventsInput,
) -> Result<PutEventsOutput, Refusal> {
    let mut answer = PutEventsOutput::builder().failed_entry_count(0);
    for entry in input.entries() {
        let detail = entry.detail().unwrap_or_default();
        if detail.len() > LARGEST {
            let sentence = "Total size of the entries in the request is over the limit.";
            return Err(Refusal::new("ValidationException", sentence));
        }
        let source = entry.source().unwrap_or_default();
        let wrong = match serde_json::from_str::<Value>(detail) {
            Ok(Value::Object(_)) if source.starts_with("aws.") => {
                Some("NotAuthorizedForSourceException")
            }
            Ok(Value::Object(_)) if source.is_empty() => Some("InvalidArgument"),
            Ok(Value::Object(detail)) => {
                world.event_bridge.events.push(Event {
                    source: source.to_owned(),
                    detail_type: entry.detail_type().unwrap_or_default().to_owned(),
                    detail: Value::Object(detail),
                });
                None
            }
            _ => Some("MalformedDetail"),
        };
        if wrong.is_some() {
            answer = answer.failed_entry_count(1);
        }
        let result = PutEventsResultEntry::builder()
            .set_event_id(
                wrong
                    .is_none()
                    .then(|| format!("event-{}", world.event_bridge.events.len())),
            )
            .set_error_code(wrong.map(str::to_owned));
        answer = answer.entries(result.build());
    }
    Ok(answer.build())
}

//! What the state machine puts on EventBridge's bus. Moto takes it and delivers it to nobody.

use std::sync::Mutex;

use jiff::Timestamp;
use serde_json::Value;

/// One event on the bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Who says it, such as `serin`.
    pub source: String,
    /// What it is about, such as `Deployment Notice`.
    pub detail_type: String,
    /// What it says.
    pub detail: Value,
    /// When it was put there.
    pub at: Timestamp,
}

impl Event {
    /// Whether it is the question of a frozen deployment.
    pub(crate) fn is_question(&self) -> bool {
        self.source == "serin" && self.detail["phase"] == "frozen"
    }
}

/// Every event so far.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Vec<Event>>);

impl Events {
    /// Keeps the entries of a `PutEvents`, and gives them.
    pub(crate) fn hear(&self, request: &[u8]) -> Vec<Event> {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let text =
            |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
        let entries = request["Entries"].as_array().into_iter().flatten();
        let heard = entries.map(|entry| Event {
            source: text(entry, "Source"),
            detail_type: text(entry, "DetailType"),
            detail: serde_json::from_str(&text(entry, "Detail")).unwrap_or_default(),
            at: Timestamp::now(),
        });
        let heard: Vec<_> = heard.collect();
        self.lock().extend_from_slice(&heard);
        heard
    }

    pub(crate) fn heard(&self) -> Vec<Event> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

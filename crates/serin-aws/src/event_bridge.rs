//! Notices, as events on the account's default event bus.

use std::time::Duration;

use aws_sdk_eventbridge::config::timeout::TimeoutConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serin::ports::Notices;
use serin::{Notice, PortError};

use crate::error::{failed, refused};

/// How long telling may take: a step's answer waits for it.
const TELLING: Duration = Duration::from_secs(3);

/// The `source` of Serin's events.
pub const SOURCE: &str = "serin";
/// The `detail-type` of a notice.
pub const DETAIL_TYPE: &str = "Deployment Notice";

/// Tells notices to whatever a rule of Amazon EventBridge leads to.
#[derive(Debug, Clone)]
pub struct EventBridgeNotices {
    event_bridge: aws_sdk_eventbridge::Client,
}

impl EventBridgeNotices {
    pub(crate) fn new(event_bridge: aws_sdk_eventbridge::Client) -> Self {
        Self { event_bridge }
    }
}

impl Notices for EventBridgeNotices {
    async fn tell(&self, notice: &Notice) -> Result<(), PortError> {
        const CALL: &str = "EventBridge PutEvents";
        let detail = serde_json::to_string(notice).map_err(|error| {
            refused(
                CALL,
                format!("the notice cannot be written as JSON: {error}"),
            )
        })?;
        let entry = PutEventsRequestEntry::builder()
            .source(SOURCE)
            .detail_type(DETAIL_TYPE)
            .resources(notice.execution.as_str())
            .detail(detail)
            .build();
        let timeouts = TimeoutConfig::builder().operation_timeout(TELLING).build();
        let patience = aws_sdk_eventbridge::config::Builder::new().timeout_config(timeouts);
        let request = self.event_bridge.put_events().entries(entry);
        let answer = request.customize().config_override(patience).send().await;
        let answer = answer.map_err(failed(CALL))?;
        // A call that succeeds may still have refused its entry.
        match answer.entries().iter().find_map(|entry| entry.error_code()) {
            Some(code) => Err(refused(CALL, code)),
            None => Ok(()),
        }
    }
}

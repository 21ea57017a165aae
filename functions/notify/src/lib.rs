//! On every notice: tells it in the channels that the account has set up, in Slack, Microsoft Teams, webhooks and mail.
//!
//! It is no step of a deployment: what fails here is tried again by Lambda and ends in a queue, and no deployment waits for it.
//! A channel that has had a notice does not get it again because another could not be reached.

pub mod channels;
mod deliver;
#[cfg(feature = "lambda")]
pub mod http;
mod mail;
mod message;
mod slack;
mod teams;
pub mod web;
mod webhook;

use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serin::ports::{ChannelSecret, Deliveries, Topics};
use serin::{Notice, PortError, step_error_from_port_error};

pub use crate::channels::Channels;
pub use crate::deliver::TRIES;
use crate::deliver::{Delivering, Trouble};
pub use crate::message::Message;
use crate::web::Web;
pub use crate::webhook::{id as webhook_id, signature};

/// Why a notice is not told everywhere. Lambda tries it twice more, in the channels that have not had it.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum NotifyError {
    /// Too many calls.
    #[error("{0}")]
    AwsThrottled(String),
    /// No answer.
    #[error("{0}")]
    AwsUnavailable(String),
    /// The function's role lacks a permission.
    #[error("{0}")]
    AwsDenied(String),
    /// A call was understood and refused.
    #[error("{0}")]
    AwsRefused(String),
    /// The secret does not say what a channel is; the channels that it does say have had the notice.
    #[error("the secret of the notice channels is not as it must be: {0}")]
    ChannelsInvalid(String),
    /// Some channel could not be reached, or refused the notice.
    #[error("the notice {notice} is not told everywhere: {why}")]
    NotDelivered {
        /// The notice's name.
        notice: String,
        /// Each channel, and what went wrong.
        why: String,
    },
}

step_error_from_port_error!(NotifyError);

/// The event of the bus, as far as it matters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeEvent {
    /// The notice.
    pub detail: Notice,
}

/// Where the notice was told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notified {
    /// The channels that have had it, now or before.
    pub told: Vec<String>,
    /// The channels that do not want it.
    pub spared: Vec<String>,
}

/// Tells a notice in every channel that wants it.
///
/// # Errors
/// [`NotifyError`], when a channel is not told; the others were told all the same.
pub async fn notify(
    secret: &impl ChannelSecret,
    deliveries: &impl Deliveries,
    topics: &impl Topics,
    web: &impl Web,
    event: NoticeEvent,
) -> Result<Notified, NotifyError> {
    let notice = event.detail;
    let Channels { channels, faults } = Channels::parse(secret.read().await?.reveal());
    let (wanted, spared): (Vec<_>, Vec<_>) = channels
        .into_iter()
        .partition(|channel| channel.wants(&notice));
    let delivering = Delivering {
        deliveries,
        topics,
        web,
        notice: &notice,
        message: Message::of(&notice),
    };
    // Together, because the function's time is one for all of them.
    let outcomes = join_all(wanted.iter().map(|channel| delivering.deliver(channel))).await;
    let mut notified = Notified::default();
    notified
        .spared
        .extend(spared.into_iter().map(|channel| channel.name));
    let mut failed = Vec::new();
    for (channel, outcome) in wanted.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => notified.told.push(channel.name),
            Err(Trouble { why, .. }) => {
                tracing::warn!(channel = channel.name, why, "not told");
                failed.push(format!(
                    "channel {} ({}): {why}",
                    channel.number, channel.name
                ));
            }
        }
    }
    tracing::info!(notice = notice.id, told = ?notified.told, spared = ?notified.spared, "told");
    if !failed.is_empty() {
        return Err(NotifyError::NotDelivered {
            notice: notice.id,
            why: failed.join("; "),
        });
    }
    if !faults.is_empty() {
        return Err(NotifyError::ChannelsInvalid(faults.join("; ")));
    }
    Ok(notified)
}

/// What a failed call of a port means for a delivery.
impl From<PortError> for Trouble {
    fn from(error: PortError) -> Self {
        let later = matches!(
            error,
            PortError::Throttled { .. } | PortError::Unavailable { .. }
        );
        Self {
            why: error.to_string(),
            later: later.then_some(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests;

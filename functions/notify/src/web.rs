//! The port to what answers over HTTP.
#![expect(
    async_fn_in_trait,
    reason = "the adapter and the step live in one crate; Send follows from the concrete types"
)]

use std::time::Duration;

use serin::ports::Secret;

/// JSON for somebody.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where to. Whoever knows the address of a webhook may write there.
    pub url: Secret,
    /// What opens it, if the address alone does not.
    pub bearer: Option<Secret>,
    /// The message's name and the key that signs it, if it is to be signed.
    pub signed: Option<(String, Secret)>,
    /// The JSON.
    pub body: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// For how long the receiver wants to be left alone.
    pub retry_after: Option<Duration>,
    /// What it says.
    pub body: String,
}

/// Why there is no answer, as a sentence that does not name the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Who sends over HTTP, and waits.
pub trait Web {
    /// Sends once, and follows no redirection: the address is a secret.
    async fn post(&self, post: &Post) -> Result<Answer, NoAnswer>;

    /// Waits before the next try.
    async fn wait(&self, time: Duration);
}

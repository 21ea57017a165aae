//! HTTP, with TLS.
#![expect(
    clippy::disallowed_methods,
    reason = "a signature has the time of sending, and no state machine waits between two tries"
)]

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;

use crate::web::{Answer, NoAnswer, Post, Web};
use crate::webhook;

/// How long one try may take: three of them, with their pauses, fit into the function's thirty seconds.
const TRY: Duration = Duration::from_secs(4);

/// Sends over HTTP.
#[derive(Debug, Clone)]
pub struct HttpWeb(reqwest::Client);

impl HttpWeb {
    /// A client that follows no redirection.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TRY)
            .redirect(Policy::none())
            .user_agent("serin")
            .build()?;
        Ok(Self(client))
    }
}

impl Web for HttpWeb {
    async fn post(&self, post: &Post) -> Result<Answer, NoAnswer> {
        let mut request = self
            .0
            .post(post.url.reveal())
            .header("content-type", "application/json; charset=utf-8");
        if let Some(bearer) = &post.bearer {
            request = request.bearer_auth(bearer.reveal());
        }
        if let Some((id, key)) = &post.signed {
            let now = Timestamp::now().as_second();
            let signature = webhook::signature(key, id, now, &post.body);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", now.to_string())
                .header("webhook-signature", signature);
        }
        let answer = request.body(post.body.clone()).send().await;
        let answer = answer.map_err(no_answer)?;
        Ok(Answer {
            status: answer.status().as_u16(),
            retry_after: retry_after(answer.headers()),
            body: answer.text().await.map_err(no_answer)?,
        })
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

fn no_answer(error: reqwest::Error) -> NoAnswer {
    let timed_out = error.is_timeout();
    // The address goes from the sentence first.
    let error = error.without_url();
    NoAnswer(if timed_out {
        format!("no answer within {} seconds", TRY.as_secs())
    } else {
        let mut sentence = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            sentence = format!("{sentence}: {error}");
            source = error.source();
        }
        sentence
    })
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = DateTimeParser::new().parse_timestamp(text).ok()?;
    let seconds = then.as_second() - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry_after_of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_as_a_date() {
        assert_eq!(retry_after_of("7"), Some(Duration::from_secs(7)));
        let past = retry_after_of("Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        let future = retry_after_of("Thu, 31 Dec 2099 23:59:59 GMT");
        assert!(future > Some(Duration::from_hours(24)), "{future:?}");
        assert_eq!(retry_after_of("soon"), None);
    }
}

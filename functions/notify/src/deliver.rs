//! One notice into one channel, in as many tries as the function has time for.

use std::time::Duration;

use serin::Notice;
use serin::ports::{Deliveries, Delivery, Secret, Topics};

use crate::channels::{Channel, Target};
use crate::message::Message;
use crate::web::{Answer, NoAnswer, Post, Web};
use crate::{mail, slack, teams, webhook};

/// How often a channel is tried in one invocation.
pub const TRIES: u32 = 3;
/// The first pause; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the pauses of one channel may be together, so that the function answers within its time.
const PAUSES: Duration = Duration::from_secs(8);

/// What Slack says when trying again helps.
const SLACK_LATER: [&str; 6] = [
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "request_timeout",
    "service_unavailable",
];
/// What Slack says when the first message cannot be changed any more. The notice is in the thread all the same.
const SLACK_CLOSED: [&str; 3] = [
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
];

/// Why a channel has not had a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// As a sentence without its full stop.
    pub(crate) why: String,
    /// After which time trying again may help; nothing when it does not.
    pub(crate) later: Option<Duration>,
}

impl Trouble {
    fn later(why: impl Into<String>, after: Option<Duration>) -> Self {
        Self {
            why: why.into(),
            later: Some(after.unwrap_or_default()),
        }
    }

    fn never(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            later: None,
        }
    }
}

impl From<NoAnswer> for Trouble {
    fn from(error: NoAnswer) -> Self {
        Self::later(error.to_string(), None)
    }
}

/// What delivering a notice needs.
pub(crate) struct Delivering<'a, D, T, W> {
    pub(crate) deliveries: &'a D,
    pub(crate) topics: &'a T,
    pub(crate) web: &'a W,
    pub(crate) notice: &'a Notice,
    pub(crate) message: Message,
}

impl<D: Deliveries, T: Topics, W: Web> Delivering<'_, D, T, W> {
    /// Delivers the notice into a channel that has not had it.
    pub(crate) async fn deliver(&self, channel: &Channel) -> Result<(), Trouble> {
        let mut pauses = PAUSES;
        let mut pause = PAUSE;
        for tried in 1.. {
            let trouble = match self.attempt(channel, tried == TRIES).await {
                Ok(()) => return Ok(()),
                Err(trouble) => trouble,
            };
            let wait = trouble.later.map(|after| after.max(pause));
            let wait = wait.filter(|wait| *wait <= pauses && tried < TRIES);
            let Some(wait) = wait else {
                self.let_others_open(channel).await;
                return Err(trouble);
            };
            pauses -= wait;
            pause *= 2;
            self.web.wait(wait).await;
        }
        unreachable!("the last try returns")
    }

    async fn attempt(&self, channel: &Channel, last: bool) -> Result<(), Trouble> {
        if let Target::Slack { .. } = channel.target {
            return self.deliver_in_thread(channel, last).await;
        }
        let had = self
            .deliveries
            .delivered(&self.notice.execution, &channel.name)
            .await?;
        if had.had.contains(&self.notice.id) {
            return Ok(());
        }
        match &channel.target {
            Target::Sns { topic } => {
                let (subject, text) = mail::mail(&self.message);
                self.topics.publish(topic, &subject, &text).await?;
            }
            Target::SlackWebhook { url } => {
                let body = slack::message(&self.message).to_string();
                self.post(plain(url, body)).await?;
            }
            Target::Teams { url } => {
                let body = teams::message(&self.message).to_string();
                self.post(plain(url, body)).await?;
            }
            Target::Webhook { url, key } => {
                self.post(webhook::post(url, key, self.notice)).await?;
            }
            Target::Slack { .. } => unreachable!("it has threads"),
        }
        self.keep(channel, Delivery::Had).await;
        Ok(())
    }

    /// The notice under the deployment's first message, which then shows it too.
    async fn deliver_in_thread(&self, channel: &Channel, last: bool) -> Result<(), Trouble> {
        let execution = &self.notice.execution;
        let had = self.deliveries.delivered(execution, &channel.name).await?;
        let is_new = !had.had.contains(&self.notice.id);
        let Some(thread) = had.thread.as_deref().and_then(slack::Thread::read) else {
            if is_new {
                return self.open_thread(channel, last).await;
            }
            return Ok(());
        };
        if is_new {
            let reply = slack::reply(&self.message, &thread);
            self.call_slack(channel, "chat.postMessage", reply).await?;
            self.keep(channel, Delivery::Had).await;
        }
        if had.shown.contains(&self.notice.id)
            || !self
                .deliveries
                .show_in_thread(self.notice, &channel.name)
                .await?
        {
            return Ok(());
        }
        let update = slack::update(&self.message, &thread);
        match self.call_slack(channel, "chat.update", update).await {
            Err(trouble) if SLACK_CLOSED.iter().any(|said| trouble.why.ends_with(said)) => {
                tracing::warn!(channel = channel.name, why = trouble.why, "not updated");
            }
            answer => drop(answer?),
        }
        self.keep(channel, Delivery::Shown).await;
        Ok(())
    }

    /// The first message of a deployment. Two notices may be on their way at once, and one of them opens the thread; in its last
    /// try the other becomes a message of its own, which is better than none.
    async fn open_thread(&self, channel: &Channel, last: bool) -> Result<(), Trouble> {
        let opens = self
            .deliveries
            .open_thread(self.notice, &channel.name)
            .await?;
        if !opens && !last {
            return Err(Trouble::later("another notice opens the thread", None));
        }
        let Target::Slack { channel: room, .. } = &channel.target else {
            return Ok(());
        };
        let first = slack::first(&self.message, room);
        let answer = self.call_slack(channel, "chat.postMessage", first).await?;
        match slack::Thread::of(&answer).map(|thread| thread.to_string()) {
            Some(thread) if opens => self.keep(channel, Delivery::Opened(&thread)).await,
            _ => self.keep(channel, Delivery::Had).await,
        }
        Ok(())
    }

    async fn call_slack(
        &self,
        channel: &Channel,
        method: &str,
        body: serde_json::Value,
    ) -> Result<serde_json::Value, Trouble> {
        let Target::Slack { api, token, .. } = &channel.target else {
            unreachable!("only Slack has threads")
        };
        let post = Post {
            url: Secret::new(format!("{api}/{method}")),
            bearer: Some(token.clone()),
            signed: None,
            body: body.to_string(),
        };
        let answer = self.post(post).await?;
        let said: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        if said["ok"] == true {
            return Ok(said);
        }
        let error = said["error"].as_str().unwrap_or("nothing that is known");
        let why = format!("{method} says {error}");
        Err(if SLACK_LATER.contains(&error) {
            Trouble::later(why, answer.retry_after)
        } else {
            Trouble::never(why)
        })
    }

    async fn post(&self, post: Post) -> Result<Answer, Trouble> {
        let answer = self.web.post(&post).await?;
        let why = format!("the answer is HTTP {}", answer.status);
        match answer.status {
            200..=299 => Ok(answer),
            408 | 429 | 500..=599 => Err(Trouble::later(why, answer.retry_after)),
            _ => Err(Trouble::never(why)),
        }
    }

    /// Without this record a later try tells the notice twice, which is no reason to tell it now as not told.
    async fn keep(&self, channel: &Channel, delivery: Delivery<'_>) {
        let kept = self
            .deliveries
            .keep_delivery(self.notice, &channel.name, delivery);
        if let Err(error) = kept.await {
            tracing::warn!(channel = channel.name, %error, "the delivery is not kept");
        }
    }

    async fn let_others_open(&self, channel: &Channel) {
        if let Target::Slack { .. } = channel.target
            && let Err(error) = self
                .deliveries
                .leave_thread(self.notice, &channel.name)
                .await
        {
            tracing::warn!(channel = channel.name, %error, "the thread is not left to others");
        }
    }
}

fn plain(url: &Secret, body: String) -> Post {
    Post {
        url: url.clone(),
        bearer: None,
        signed: None,
        body,
    }
}

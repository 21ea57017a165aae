//! A message in Slack's blocks. What comes from outside stands in plain text or in code, with `&`, `<` and `>` escaped, so that
//! no name or image tag can become a link, a mention or a format.

use serde_json::{Value, json};

use crate::message::{Mark, Message};

/// The longest text of a section, and of a header (Slack's reference of blocks).
const SECTION: usize = 3_000;
const HEADER: usize = 150;
/// How many blocks a message may have.
const BLOCKS: usize = 50;

/// The first message of a deployment: the channel's id, and the message's moment, which is its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    channel: String,
    ts: String,
}

impl Thread {
    /// From the answer to the message.
    pub(crate) fn of(answer: &Value) -> Option<Self> {
        Some(Self {
            channel: answer["channel"].as_str()?.to_owned(),
            ts: answer["ts"].as_str()?.to_owned(),
        })
    }

    /// As it was written down.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (channel, ts) = text.split_once('/')?;
        Some(Self {
            channel: channel.to_owned(),
            ts: ts.to_owned(),
        })
    }
}

impl std::fmt::Display for Thread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.channel, self.ts)
    }
}

/// The first message in a channel.
pub(crate) fn first(message: &Message, channel: &str) -> Value {
    let mut body = self::message(message);
    body["channel"] = json!(channel);
    body
}

/// A message in a thread; the channel sees it too when a person is asked for.
pub(crate) fn reply(message: &Message, thread: &Thread) -> Value {
    let mut body = first(message, &thread.channel);
    body["thread_ts"] = json!(thread.ts);
    body["reply_broadcast"] = json!(message.mark == Mark::Person);
    body
}

/// The first message, with the latest state.
pub(crate) fn update(message: &Message, thread: &Thread) -> Value {
    let mut body = first(message, &thread.channel);
    body["ts"] = json!(thread.ts);
    body
}

/// A message, for whichever channel.
pub(crate) fn message(message: &Message) -> Value {
    let headline = format!("{} {}", emoji(message.mark), message.headline);
    let mut blocks = vec![
        json!({"type": "header", "text": plain(&headline, HEADER)}),
        section(&plain(&message.sentence, SECTION)),
    ];
    let facts = message.facts.iter();
    let facts: Vec<_> = facts
        .map(|(name, fact)| format!("{name}: {fact}"))
        .collect();
    blocks.push(section(&plain(&facts.join("\n"), SECTION)));
    if !message.evidence.is_empty() {
        blocks.push(section(&plain(&message.evidence.join("\n"), SECTION)));
    }
    for (what, command) in &message.commands {
        blocks.push(section(&plain(what, SECTION)));
        if !command.is_empty() {
            blocks.push(section(&code(command)));
        }
    }
    blocks.truncate(BLOCKS - 1);
    let link = format!("<{}|Execution in the console>", message.link);
    blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": link}]}));
    json!({
        // For a notification, and for whoever cannot show blocks.
        "text": escaped(&format!("{headline}. {}", message.sentence), SECTION),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn emoji(mark: Mark) -> &'static str {
    match mark {
        Mark::Plain => "🐤",
        Mark::Good => "✅",
        Mark::Bad => "⛔",
        Mark::Person => "🙋",
    }
}

fn section(text: &Value) -> Value {
    json!({"type": "section", "text": text})
}

fn plain(text: &str, limit: usize) -> Value {
    json!({"type": "plain_text", "text": escaped(text, limit), "emoji": false})
}

/// A command, to be copied. One that would end the code, or is too long, stands as plain text.
fn code(command: &str) -> Value {
    let text = escaped(command, SECTION);
    if command.contains('`') || text.len() + 6 > SECTION {
        return plain(command, SECTION);
    }
    json!({"type": "mrkdwn", "text": format!("```{text}```"), "verbatim": true})
}

/// With Slack's three control characters escaped, and no longer than this: a character is whole, or is not there.
fn escaped(text: &str, limit: usize) -> String {
    let mut escaped = String::new();
    let mut length = 0;
    for letter in text.chars() {
        let mut buffer = [0; 4];
        let piece = match letter {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => letter.encode_utf8(&mut buffer),
        };
        length += piece.chars().count();
        if length > limit - 1 {
            escaped.push('…');
            break;
        }
        escaped.push_str(piece);
    }
    escaped
}

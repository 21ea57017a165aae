//! The channels, as the secret says them. A fault is told with the channel's number and the field, and never with what the
//! secret has in it.

use serde_json::{Map, Value};
use serin::Notice;
use serin::ports::Secret;
use url::{Host, Url};

use crate::webhook;

/// The phases that a channel may want.
pub const PHASES: [&str; 11] = [
    "refused",
    "waiting",
    "planned",
    "canaryUp",
    "weight",
    "verdict",
    "frozen",
    "rollingBack",
    "promoted",
    "rolledBack",
    "needsAttention",
];

/// What every channel may have beside the fields of its kind.
const COMMON: [&str; 4] = ["kind", "name", "phases", "services"];

const SLACK_API: &str = "https://slack.com/api";

/// What the secret says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Channels {
    /// The channels that can be used.
    pub channels: Vec<Channel>,
    /// What is wrong with the others, each as a sentence without its full stop.
    pub faults: Vec<String>,
}

/// One channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its number in the secret, counted from one.
    pub number: usize,
    /// Its name, in the log and in the record of what it has had: `<kind>-<number>` unless it has another.
    pub name: String,
    /// Where it is.
    pub target: Target,
    phases: Option<Vec<String>>,
    services: Option<Vec<String>>,
}

/// Where a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Slack, as a bot: one thread for each deployment.
    Slack {
        /// The address of the API.
        api: String,
        /// The bot's token.
        token: Secret,
        /// The channel's id or name.
        channel: String,
    },
    /// Slack, by an incoming webhook.
    SlackWebhook {
        /// Its address.
        url: Secret,
    },
    /// Microsoft Teams, by a webhook of Workflows.
    Teams {
        /// Its address.
        url: Secret,
    },
    /// Anything that takes signed webhooks.
    Webhook {
        /// Its address.
        url: Secret,
        /// The key that signs.
        key: Secret,
    },
    /// A topic of Amazon SNS.
    Sns {
        /// Its ARN.
        topic: String,
    },
}

impl Channel {
    /// Whether the channel wants the notice.
    pub fn wants(&self, notice: &Notice) -> bool {
        let phase: &str = (&notice.phase).into();
        let service = notice.service.as_ref();
        let of_service = |pattern: &String| {
            service.is_some_and(|service| {
                if pattern.contains('/') {
                    matches(pattern, &service.to_string())
                } else {
                    matches(pattern, service.service.as_str())
                }
            })
        };
        let phases = self.phases.as_ref();
        let services = self.services.as_ref();
        phases.is_none_or(|phases| phases.iter().any(|wanted| wanted == phase))
            && services.is_none_or(|services| services.iter().any(of_service))
    }
}

/// Whether a name is as the pattern says, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(first) else {
        return false;
    };
    let mut places = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    places.any(|at| matches(rest, &name[at..]))
}

impl Channels {
    /// Reads the secret.
    pub fn parse(text: &str) -> Self {
        let mut read = Self::default();
        let Ok(Value::Object(secret)) = serde_json::from_str(text) else {
            let shape = r#"it must be JSON like {"channels": [{"kind": ...}]}"#;
            read.faults.push(shape.to_owned());
            return read;
        };
        let Some(Value::Array(channels)) = secret.get("channels") else {
            read.faults.push("channels must be a list".to_owned());
            return read;
        };
        for (number, channel) in (1..).zip(channels) {
            let mut reader = Reader {
                number,
                fields: channel.as_object(),
                faults: Vec::new(),
            };
            let channel = reader.channel();
            read.faults.append(&mut reader.faults);
            read.channels.extend(channel);
        }
        read.refuse_second_names();
        read
    }

    /// The record of what a channel has had is kept by its name.
    fn refuse_second_names(&mut self) {
        let mut names = Vec::new();
        self.channels.retain(|channel| {
            let is_new = !names.contains(&channel.name);
            if is_new {
                names.push(channel.name.clone());
            } else {
                self.faults.push(format!(
                    "channel {}: name must not be that of an earlier channel",
                    channel.number
                ));
            }
            is_new
        });
    }
}

/// Reads one channel.
struct Reader<'a> {
    number: usize,
    fields: Option<&'a Map<String, Value>>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn channel(&mut self) -> Option<Channel> {
        if self.fields.is_none() {
            self.fault("it", "must be an object");
            return None;
        }
        let target = self.target();
        let kind = self.text("kind").unwrap_or_default().to_owned();
        let name = match self.text("name") {
            Some(name) if !is_name(name) => {
                self.fault(
                    "name",
                    "must be 1 to 40 letters, digits, dots, hyphens and underscores",
                );
                None
            }
            Some(name) => Some(name.to_owned()),
            None => Some(format!("{kind}-{}", self.number)),
        };
        let phases = self.list("phases");
        let unknown = |phase: &&String| !PHASES.contains(&phase.as_str());
        if let Some(phase) = phases.iter().flatten().find(unknown) {
            let allowed = PHASES.join(", ");
            self.fault(
                "phases",
                &format!("has {}; allowed are {allowed}", shown(phase)),
            );
        }
        let services = self.list("services");
        if !self.faults.is_empty() {
            return None;
        }
        Some(Channel {
            number: self.number,
            name: name?,
            target: target?,
            phases,
            services,
        })
    }

    fn target(&mut self) -> Option<Target> {
        let kind = self.text("kind").unwrap_or_default().to_owned();
        match kind.as_str() {
            "slack" => {
                self.only(&["token", "channel", "api"]);
                let api = match self.text("api") {
                    Some(_) => self.url("api")?.reveal().trim_end_matches('/').to_owned(),
                    None => SLACK_API.to_owned(),
                };
                let token = self.needed("token", "must be a bot token, xoxb-...");
                let channel =
                    self.needed("channel", "must be the id of a channel, like C0123456789");
                Some(Target::Slack {
                    api,
                    token: Secret::new(token?),
                    channel: channel?,
                })
            }
            "slackWebhook" => {
                self.only(&["url"]);
                Some(Target::SlackWebhook {
                    url: self.url("url")?,
                })
            }
            "teams" => {
                self.only(&["url"]);
                Some(Target::Teams {
                    url: self.url("url")?,
                })
            }
            "webhook" => {
                self.only(&["url", "secret"]);
                let url = self.url("url");
                let shape = "must be whsec_ and 24 to 64 bytes in Base64";
                let key = self.needed("secret", shape)?;
                if webhook::key(&key).is_none() {
                    self.fault("secret", shape);
                    return None;
                }
                Some(Target::Webhook {
                    url: url?,
                    key: Secret::new(key),
                })
            }
            "sns" => {
                self.only(&["topic"]);
                let shape = "must be the ARN of a topic, arn:aws:sns:...";
                let topic = self.needed("topic", shape)?;
                if !is_topic(&topic) {
                    self.fault("topic", shape);
                    return None;
                }
                Some(Target::Sns { topic })
            }
            other => {
                let allowed = "allowed are slack, slackWebhook, teams, webhook and sns";
                self.fault("kind", &format!("is {}; {allowed}", shown(other)));
                None
            }
        }
    }

    fn fault(&mut self, field: &str, sentence: &str) {
        self.faults
            .push(format!("channel {}: {field} {sentence}", self.number));
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.fields?.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    fn needed(&mut self, name: &str, sentence: &str) -> Option<String> {
        let text = self.text(name).filter(|text| !text.trim().is_empty());
        let text = text.map(str::to_owned);
        if text.is_none() {
            self.fault(name, sentence);
        }
        text
    }

    /// An address with TLS; without it only on this machine, where nobody listens in.
    fn url(&mut self, name: &str) -> Option<Secret> {
        let sentence = "must be an address that begins with https://";
        let text = self.needed(name, sentence)?;
        let url = Url::parse(&text).ok();
        let is_safe = url.is_some_and(|url| match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
            _ => false,
        });
        if !is_safe {
            self.fault(name, sentence);
            return None;
        }
        Some(Secret::new(text))
    }

    fn list(&mut self, name: &str) -> Option<Vec<String>> {
        let list = self.field(name)?;
        let texts: Option<Vec<_>> = list.as_array().and_then(|list| {
            list.iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect()
        });
        let texts = texts.filter(|texts| !texts.is_empty());
        if texts.is_none() {
            self.fault(name, "must be a list of texts, with one at least");
        }
        texts
    }

    /// Refuses what the kind does not have.
    fn only(&mut self, fields: &[&str]) {
        let known = |name: &String| COMMON.iter().chain(fields).any(|known| known == name);
        let unknown: Vec<_> = self
            .fields
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| !known(name))
            .map(|name| shown(name))
            .collect();
        let not_text = |name: &&&str| self.field(name).is_some_and(|value| !value.is_string());
        let not_texts: Vec<_> = ["name"]
            .iter()
            .filter(|name| not_text(name))
            .map(|name| (*name).to_owned())
            .collect();
        for name in not_texts {
            self.fault(&name, "must be a text");
        }
        for name in unknown {
            let allowed = [&COMMON[..], fields].concat().join(", ");
            self.fault(&name, &format!("is no field here; allowed are {allowed}"));
        }
    }
}

/// A word that was to be one of ours. Anything else may be a secret in the wrong place.
fn shown(text: &str) -> String {
    let is_word =
        (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_word {
        text.to_owned()
    } else {
        "something that is not shown here".to_owned()
    }
}

fn is_name(text: &str) -> bool {
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    (1..=40).contains(&text.len()) && text.chars().all(is_legal)
}

fn is_topic(text: &str) -> bool {
    matches!(text.split(':').collect::<Vec<_>>()[..], ["arn", partition, "sns", region, account, name]
        if [partition, region, account, name].iter().all(|part| !part.is_empty()))
}

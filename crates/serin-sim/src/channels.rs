//! What notices are told through: a secret of AWS Secrets Manager, and topics of Amazon SNS.

use std::collections::BTreeMap;

use aws_sdk_secretsmanager::operation::get_secret_value::{
    GetSecretValueInput, GetSecretValueOutput,
};
use aws_sdk_sns::operation::publish::{PublishInput, PublishOutput};

use crate::wire::Refusal;
use crate::world::World;

/// The secrets by their names, and the messages that were published.
#[derive(Debug, Clone, Default)]
pub(crate) struct Channels {
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) mails: Vec<Mail>,
}

/// A message that was published to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The topic.
    pub topic: String,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub message: String,
}

/// The longest subject (SNS API, `Publish`).
const LONGEST_SUBJECT: usize = 100;

pub(crate) fn get_secret_value(
    world: &mut World,
    input: &GetSecretValueInput,
) -> Result<GetSecretValueOutput, Refusal> {
    let name = input.secret_id().unwrap_or_default();
    let secret = world.channels.secrets.get(name).ok_or_else(|| {
        let sentence = "Secrets Manager can't find the specified secret.";
        Refusal::new("ResourceNotFoundException", sentence)
    })?;
    Ok(GetSecretValueOutput::builder()
        .name(name)
        .secret_string(secret)
        .build())
}

pub(crate) fn publish(world: &mut World, input: &PublishInput) -> Result<PublishOutput, Refusal> {
    let subject = input.subject().unwrap_or_default();
    let is_plain = subject
        .bytes()
        .all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !is_plain {
        return Err(Refusal::new(
            "InvalidParameter",
            "Invalid parameter: Subject",
        ));
    }
    let message = input.message().unwrap_or_default();
    if message.is_empty() {
        return Err(Refusal::new(
            "InvalidParameter",
            "Invalid parameter: Empty message",
        ));
    }
    world.channels.mails.push(Mail {
        topic: input.topic_arn().unwrap_or_default().to_owned(),
        subject: subject.to_owned(),
        message: message.to_owned(),
    });
    let id = format!("message-{}", world.channels.mails.len());
    Ok(PublishOutput::builder().message_id(id).build())
}

//! Messages to topics of Amazon SNS.

use serin::PortError;
use serin::ports::Topics;

use crate::error::failed;

/// Publishes to topics.
#[derive(Debug, Clone)]
pub struct SnsTopics {
    sns: aws_sdk_sns::Client,
}

impl SnsTopics {
    pub(crate) fn new(sns: aws_sdk_sns::Client) -> Self {
        Self { sns }
    }
}

impl Topics for SnsTopics {
    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), PortError> {
        let request = self.sns.publish().topic_arn(topic);
        let request = request.subject(subject).message(message);
        request
            .send()
            .await
            .map(drop)
            .map_err(failed("SNS Publish"))
    }
}

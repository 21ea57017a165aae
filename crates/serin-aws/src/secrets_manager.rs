//! The notice channels, in one secret of AWS Secrets Manager.

use serin::PortError;
use serin::ports::{ChannelSecret, Secret};

use crate::error::{failed, refused};

/// The secret of the notice channels.
#[derive(Debug, Clone)]
pub struct SecretsManagerChannels {
    secrets_manager: aws_sdk_secretsmanager::Client,
    /// Only the function that reads it is told which one it is.
    secret: Option<String>,
}

impl SecretsManagerChannels {
    pub(crate) fn new(secrets_manager: aws_sdk_secretsmanager::Client) -> Self {
        Self {
            secrets_manager,
            secret: None,
        }
    }

    pub(crate) fn of(self, secret: Option<String>) -> Self {
        Self { secret, ..self }
    }
}

impl ChannelSecret for SecretsManagerChannels {
    async fn read(&self) -> Result<Secret, PortError> {
        const CALL: &str = "Secrets Manager GetSecretValue";
        let secret = self
            .secret
            .as_deref()
            .ok_or_else(|| refused(CALL, "the function's environment names no secret"))?;
        let request = self.secrets_manager.get_secret_value().secret_id(secret);
        let answer = request.send().await.map_err(failed(CALL))?;
        answer
            .secret_string
            .map(Secret::new)
            .ok_or_else(|| refused(CALL, "the secret has no text"))
    }
}

//! All adapters together, and how a Lambda gets them.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion};

use crate::clients::Clients;
use crate::cloud_watch::CloudWatchSignals;
use crate::decisions::StepFunctionsDecisions;
use crate::deliveries::DynamoDbDeliveries;
use crate::dynamo_db::{DynamoDbLedger, KEPT_DAYS};
use crate::ecs::EcsFleet;
use crate::event_bridge::EventBridgeNotices;
use crate::router::Router;
use crate::secrets_manager::SecretsManagerChannels;
use crate::sns::SnsTopics;
use crate::step_functions::StepFunctionsRecoveries;

/// The environment variable that names the ledger's table.
const LEDGER_TABLE: &str = "SERIN_LEDGER_TABLE";
/// The environment variable that names the state machine of the recovery; only the function that starts it has it.
const RECOVERY: &str = "SERIN_RECOVERY";
/// The environment variable that names the secret of the notice channels; only the function that tells notices has it.
const CHANNELS: &str = "SERIN_NOTICE_CHANNELS";
/// The environment variable with the number of days for which the ledger keeps what is over.
const KEPT: &str = "SERIN_KEPT_DAYS";
/// The environment variables that name the functions which a dashboard calls; only the one that draws it has them.
const STATUS: &str = "SERIN_STATUS";
const DECIDE: &str = "SERIN_DECIDE";

/// How long one attempt of a call may take. No call that Serin makes is slow; a hanging one is better tried again.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long a call may take with the SDK's own retries; the state machine retries beyond that.
const CALL: Duration = Duration::from_secs(20);

/// One adapter for each port.
#[derive(Debug, Clone)]
pub struct Adapters {
    /// The tasks of the versions.
    pub fleet: EcsFleet,
    /// Where the traffic goes.
    pub router: Router,
    /// What can be measured.
    pub signals: CloudWatchSignals,
    /// The durable record of each deployment.
    pub ledger: DynamoDbLedger,
    /// Who repairs what a dead execution has left.
    pub recoveries: StepFunctionsRecoveries,
    /// Who tells others.
    pub notices: EventBridgeNotices,
    /// What the notice channels have had.
    pub deliveries: DynamoDbDeliveries,
    /// Where the notice channels are kept.
    pub channels: SecretsManagerChannels,
    /// Who sends mail.
    pub topics: SnsTopics,
    /// How a person's decision reaches a deployment.
    pub decisions: StepFunctionsDecisions,
    /// The functions that a dashboard calls.
    pub widget: Widget,
}

/// The functions that a dashboard calls, by their ARNs; empty where the environment does not name them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Widget {
    /// The one that draws the page.
    pub status: String,
    /// The one that a button calls.
    pub decide: String,
}

/// Why a Lambda could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing from the function's environment.
    #[error("the environment variable {0} is not set; it names the DynamoDB table of the ledger")]
    Missing(&'static str),
    /// A variable is not what it should be.
    #[error("the environment variable {0} is no number of days from 1 to 65535")]
    NoNumberOfDays(&'static str),
    /// The step's name cannot be told to AWS.
    #[error("{0} cannot be the name of an application in a User-Agent")]
    StepName(&'static str),
}

impl Adapters {
    /// The adapters over these clients and the ledger in this table.
    pub fn new(clients: Clients, ledger_table: impl Into<String>) -> Self {
        let ledger_table = ledger_table.into();
        Self {
            deliveries: DynamoDbDeliveries::new(clients.dynamo_db.clone(), ledger_table.as_str()),
            channels: SecretsManagerChannels::new(clients.secrets_manager),
            topics: SnsTopics::new(clients.sns),
            decisions: StepFunctionsDecisions::new(
                clients.dynamo_db.clone(),
                clients.step_functions.clone(),
                &ledger_table,
            ),
            widget: Widget::default(),
            fleet: EcsFleet::new(clients.ecs, clients.ecr, clients.auto_scaling),
            router: Router::new(clients.app_mesh, clients.cloud_map, clients.load_balancing),
            signals: CloudWatchSignals::new(clients.cloud_watch),
            ledger: DynamoDbLedger::new(
                clients.dynamo_db,
                clients.step_functions.clone(),
                ledger_table,
            ),
            recoveries: StepFunctionsRecoveries::new(clients.step_functions),
            notices: EventBridgeNotices::new(clients.event_bridge),
        }
    }

    /// The same, for a function that starts the recovery's state machine.
    #[must_use]
    pub fn with_recovery(self, state_machine: Option<String>) -> Self {
        Self {
            recoveries: self.recoveries.of(state_machine),
            ..self
        }
    }

    /// The same, for a function that tells notices in the channels of this secret.
    #[must_use]
    pub fn with_channels(self, secret: Option<String>) -> Self {
        Self {
            channels: self.channels.of(secret),
            ..self
        }
    }

    /// The same, with what is over kept for so many days.
    #[must_use]
    pub fn with_kept_days(self, days: u16) -> Self {
        Self {
            ledger: self.ledger.kept_for(days),
            ..self
        }
    }

    /// The same, for a function that draws a dashboard.
    #[must_use]
    pub fn with_widget(self, widget: Widget) -> Self {
        Self { widget, ..self }
    }

    /// The adapters of a Lambda, from its environment. `step` goes into each call's User-Agent, as `app/<step>`.
    ///
    /// # Errors
    /// [`EnvironmentError`] when `SERIN_LEDGER_TABLE` is missing, `SERIN_KEPT_DAYS` is no number of days, or `step` is no name for an application.
    pub async fn from_environment(step: &'static str) -> Result<Self, EnvironmentError> {
        let table =
            std::env::var(LEDGER_TABLE).map_err(|_| EnvironmentError::Missing(LEDGER_TABLE))?;
        let kept_days = match std::env::var(KEPT) {
            Err(_) => KEPT_DAYS,
            Ok(days) => days
                .parse()
                .ok()
                .filter(|days| *days > 0)
                .ok_or(EnvironmentError::NoNumberOfDays(KEPT))?,
        };
        let widget = Widget {
            status: std::env::var(STATUS).unwrap_or_default(),
            decide: std::env::var(DECIDE).unwrap_or_default(),
        };
        let name = AppName::new(step).map_err(|_| EnvironmentError::StepName(step))?;
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .app_name(name)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(ATTEMPT)
                    .operation_timeout(CALL)
                    .build(),
            )
            .load()
            .await;
        let clients = Clients {
            ecs: aws_sdk_ecs::Client::new(&config),
            app_mesh: aws_sdk_appmesh::Client::new(&config),
            load_balancing: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            auto_scaling: aws_sdk_applicationautoscaling::Client::new(&config),
            cloud_map: aws_sdk_servicediscovery::Client::new(&config),
            cloud_watch: aws_sdk_cloudwatch::Client::new(&config),
            dynamo_db: aws_sdk_dynamodb::Client::new(&config),
            ecr: aws_sdk_ecr::Client::new(&config),
            step_functions: aws_sdk_sfn::Client::new(&config),
            event_bridge: aws_sdk_eventbridge::Client::new(&config),
            secrets_manager: aws_sdk_secretsmanager::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
        };
        Ok(Self::new(clients, table)
            .with_recovery(std::env::var(RECOVERY).ok())
            .with_channels(std::env::var(CHANNELS).ok())
            .with_kept_days(kept_days)
            .with_widget(widget))
    }
}

//! The adapters between the ports of Serin and AWS, and the Lambda runtime.
//!
//! With `serin-sim` the only crate that names a type of the AWS SDK. Adapters translate and decide nothing: our type to a
//! request, an answer or an error to our type. They keep no state and have no retry loops; the SDK retries briefly, the
//! state machine patiently.

mod adapters;
mod alb;
mod app_mesh;
mod clients;
mod cloud_watch;
mod decisions;
mod deliveries;
mod dynamo_db;
mod ecs;
mod error;
mod event_bridge;
#[cfg(test)]
mod fixture;
mod ownership;
mod router;
mod run_step;
mod secrets_manager;
mod sns;
mod step_functions;
mod tell;

pub use adapters::{Adapters, EnvironmentError, Widget};
pub use alb::AlbRouter;
pub use app_mesh::AppMeshRouter;
pub use clients::Clients;
pub use cloud_watch::CloudWatchSignals;
pub use decisions::StepFunctionsDecisions;
pub use deliveries::DynamoDbDeliveries;
pub use dynamo_db::DynamoDbLedger;
pub use ecs::EcsFleet;
pub use event_bridge::{DETAIL_TYPE, EventBridgeNotices, SOURCE};
pub use lambda_runtime::{Diagnostic, Error};
pub use router::Router;
pub use run_step::{Failed, run_step};
pub use secrets_manager::SecretsManagerChannels;
pub use sns::SnsTopics;
pub use step_functions::StepFunctionsRecoveries;
pub use tell::tell;

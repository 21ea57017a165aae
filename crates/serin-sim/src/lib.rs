//! For tests: AWS in memory with its rules, faults, a virtual clock and the state machine's interpreter.
//!
//! [`Account`] is one AWS account in one region. [`Account::clients`] gives real SDK clients whose answers are computed in
//! process from the typed request, so that the adapters themselves run in a test. [`world::checkout`] puts a user's service
//! into the account; [`Settings`] says how the world behaves; [`Fault`]s strike any call; [`Snapshot`] says what is left
//! behind; [`safety`] checks the safety rules after every call.

mod account;
mod answering;
mod app_mesh;
mod auto_scaling;
mod channels;
mod checkout;
mod clients;
mod clock;
mod cloud_map;
mod cloud_watch;
mod dynamo_db;
mod ecr;
mod ecs;
mod event_bridge;
mod fault;
mod load_balancing;
mod outside;
mod paging;
pub mod safety;
mod settings;
mod snapshot;
mod stage;
pub mod state_machine;
mod step_functions;
#[cfg(test)]
mod tests;
mod traffic;
mod wire;
pub mod world;

pub use aws_sdk_applicationautoscaling::types::SuspendedState;
pub use aws_sdk_appmesh::types::RouteSpec;
pub use aws_sdk_cloudwatch::types::StateValue as AlarmStateValue;
/// The actions of a load balancer's rule.
pub type Actions = Vec<aws_sdk_elasticloadbalancingv2::types::Action>;

pub use account::{ACCOUNT, Account, Call, REGION};
pub use app_mesh::{targets, targets_mut};
pub use channels::Mail;
pub use clients::Kit;
pub use clock::Clock;
pub use dynamo_db::{Item, text};
pub use event_bridge::Event;
pub use fault::{Fault, FaultKind, Killed, Which};
pub use load_balancing::{tuples, tuples_mut};
pub use settings::{Settings, TrimmedCounts};
pub use snapshot::{ServiceShape, Snapshot, TargetGroupShape};
pub use stage::Stage;
pub use step_functions::Started;
pub use wire::{Refusal, Service};
pub use world::World;

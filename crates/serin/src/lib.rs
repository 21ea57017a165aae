//! The words of a canary deployment and the ports that its steps need.
//!
//! Everything here is a value, a rule or a trait: no AWS, no clock, no I/O.
//! The steps in `functions/` are written in these words alone, so that what Serin decides can be read, tested and
//! simulated without a cloud.

pub mod deployment;
pub mod history;
pub mod name;
pub mod notice;
pub mod plan;
pub mod ports;
pub mod progress;
pub mod report;
pub mod request;
pub mod routing;
pub mod state;
pub mod verdict;
pub mod weight;

pub use deployment::{Baseline, CanaryVersion, Deployment, Scaling, SlowThreshold, StableVersion};
pub use name::{
    ClusterName, ContainerName, DeploymentId, ExecutionArn, Family, ServiceKey, ServiceName,
    TaskDefinitionArn, VersionId,
};
pub use notice::Notice;
pub use plan::{Plan, Step};
pub use ports::{Fleet, HealthSignals, Ledger, PortError, Recoveries, TrafficRouter};
pub use progress::Progress;
pub use report::{Ending, Leftover, Report};
pub use request::Request;
pub use routing::RouterRecord;
pub use state::{State, StepInput};
pub use verdict::{Finding, Outcome, Verdict};
pub use weight::{Split, Weight};

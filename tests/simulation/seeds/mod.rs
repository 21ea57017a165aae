//! What two other tools did when they were run under thirty faults, as questions to this one.
//!
//! One tool shifts from a process of its own with timers, the other from a state machine with `CloudFormation`. Both were
//! measured under the twenty faults of [`listed`], and ten more were found on the way ([`found`]). A fault that retries hide
//! proves nothing, so the faults here last, are not retryable, or leave open whether the call was done. Each test asks what a
//! user would ask: where is the traffic, what is left, is the status true, are others' settings kept, were requests lost?

mod found;
mod listed;

use serde_json::{Value, json};
use serin_sim::state_machine::Execution;
use serin_sim::{Fault, FaultKind, Which, World, world};

use super::{Deployed, On, Simulation, arn};

/// An operation that AWS always refuses, in each way that no retry within the SDK gets over.
const LASTING: [FaultKind; 3] = [
    FaultKind::Denied,
    FaultKind::Throttled,
    FaultKind::ServerError,
];

/// How often a state of the way forward is tried.
const TRIES: usize = 7;

/// Three steps, the second of them at `percent`.
fn through(percent: f64) -> Value {
    json!({ "plan": { "steps": [{ "weightPercent": 10, "holdSeconds": 120 }, { "weightPercent": percent, "holdSeconds": 120 },
                                { "weightPercent": 100, "holdSeconds": 120 }] } })
}

/// The operation that says whether the canary's tasks can be reached.
const fn look(on: On) -> &'static str {
    match on {
        On::AppMesh => "GetInstancesHealthStatus",
        On::Alb => "DescribeTargetHealth",
    }
}

/// The operations that make the canary.
const fn creations(on: On) -> &'static [&'static str] {
    match on {
        On::AppMesh => &[
            "Cloud Map CreateService",
            "CreateVirtualNode",
            "RegisterTaskDefinition",
            "ECS CreateService",
        ],
        On::Alb => &[
            "CreateTargetGroup",
            "ModifyRule",
            "RegisterTaskDefinition",
            "ECS CreateService",
        ],
    }
}

/// What a fault does to a deployment, and what a user would ask afterwards.
trait Struck {
    /// Puts a fault on an operation from now on.
    fn strike(&self, operation: &'static str, which: Which, kind: &FaultKind);

    /// The share of the canary in what stable had, in percent; the largest of all routes.
    fn canary_percent(&self) -> f64;

    /// The execution ends without a `Catch`, as when somebody stops it.
    fn stop(&self, execution: &mut Execution, status: &str);

    /// Goes on until the canary has this share, in percent, and is watched.
    async fn run_until_percent(&self, execution: &mut Execution, percent: f64);

    /// The service that bears the canary's name, while it is there.
    fn canary(&self) -> Option<String>;

    /// Rolls back what the execution `first` left, with the command that its report gives.
    async fn roll_back_by_hand(&self) -> Deployed<'_>;

    /// Fails the test if anything but stable's definition differs from before, and that one by more than its version.
    #[track_caller]
    fn assert_only_the_version_is_new(&self);

    /// Fails the test if anything is different from before the deployment.
    #[track_caller]
    fn assert_nothing_has_changed(&self);
}

impl Struck for Simulation {
    fn strike(&self, operation: &'static str, which: Which, kind: &FaultKind) {
        self.account.inject(Fault {
            operation,
            which,
            kind: kind.clone(),
        });
    }

    fn canary_percent(&self) -> f64 {
        100.0 - self.account.look(World::stable_percent)
    }

    fn stop(&self, execution: &mut Execution, status: &str) {
        execution.abort();
        self.account.set_execution(&arn("first"), status.into());
    }

    async fn run_until_percent(&self, execution: &mut Execution, percent: f64) {
        while (self.canary_percent() - percent).abs() > 0.1
            || execution.next_state() != "Wait before the next check"
        {
            self.step(execution).await;
            assert!(execution.is_running(), "{:?}", execution.status);
        }
    }

    fn canary(&self) -> Option<String> {
        let services = self.account.look(|world| world.services(world::CLUSTER));
        services.into_iter().find(|name| name.contains("-canary-"))
    }

    async fn roll_back_by_hand(&self) -> Deployed<'_> {
        let by_hand = self.start("by-hand", json!({ "rollBack": arn("first") }));
        self.finish(by_hand).await
    }

    #[track_caller]
    fn assert_only_the_version_is_new(&self) {
        let mut expected = self.before.clone();
        let stable = expected.services.get_mut("prod/checkout").unwrap();
        let old = stable.task_definition.clone();
        let (family, revision) = old.rsplit_once(':').unwrap();
        let next = revision.parse::<u32>().unwrap() + 1;
        stable.task_definition = format!("{family}:{next}");
        let family = family.rsplit('/').next().unwrap();
        expected.task_definitions.push(format!("{family}:{next}"));
        assert_eq!(
            expected.differences(&self.account.snapshot()),
            Vec::<String>::new()
        );
    }

    #[track_caller]
    fn assert_nothing_has_changed(&self) {
        assert_eq!(self.traces(), Vec::<String>::new());
    }
}

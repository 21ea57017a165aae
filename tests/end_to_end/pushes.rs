//! Deployments that image pushes start, by the rule of `examples/on-push`, and what its parameter `OnConflict` makes of several in
//! a row.
//!
//! The example's stack is created in moto's CloudFormation for the local cloud's state machine, service and repository. Which event
//! its rule matches, moto's own matcher says; what Serin is asked for, the rule's input transformer. Only the hand-over from the one
//! to the other is made here, because moto's EventBridge starts no executions.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use serin_local::cloud::{CloudOptions, LocalCloud};
use serin_local::executions::{Ending, Execution, Outcome};
use serin_local::scenario::Scenario;
use serin_local::stack::REGION;
use serin_local::world::{CLUSTER, REPOSITORY, SERVICE, WorldSnapshot};
use tokio::sync::SemaphorePermit;

use super::{CLOUDS, assert_nothing_to_recover};
use crate::stacks;

/// How soon a recovery begins after the end of an execution that did not succeed.
const RECOVERY_WITHIN: Duration = Duration::from_secs(30);

/// The state whose entry shows that a deployment was planned.
const PLANNED: &str = "Create the canary";

/// The state whose entry shows that the canary has its first share of the traffic.
const HAS_TRAFFIC: &str = "Check the canary's health";

/// The state of a deployment whose turn it is not yet.
const WAITS: &str = "Wait for its turn";

/// A local cloud to whose repository images are pushed, and the rule that deploys them.
struct Pushes {
    cloud: LocalCloud,
    before: WorldSnapshot,
    /// The events, and the rule with the numbers of those that it matches.
    events: Vec<Value>,
    rule: Value,
    _room: SemaphorePermit<'static>,
}

impl Pushes {
    /// A cloud in which these tags are pushed; the events of a push are numbered from three times the place of its tag.
    async fn of(on_conflict: &str, tags: &[&str]) -> Self {
        let room = CLOUDS.acquire().await.unwrap();
        let options = CloudOptions {
            keep_logs: false,
            ..CloudOptions::default()
        };
        let cloud = LocalCloud::start(options)
            .await
            .expect("a local cloud; `cargo xtask test` installs and builds what it needs");
        let mut events = Vec::new();
        for tag in tags {
            events.extend(events_of(tag, &cloud.digest_of(tag).await.unwrap()));
        }
        let parameters = json!({
            "StateMachineArn": cloud.state_machine(), "Cluster": CLUSTER, "Service": SERVICE,
            "Repository": REPOSITORY, "Tag": "*", "OnConflict": on_conflict, "Fields": fields(),
        });
        let stack = tokio::task::block_in_place(|| {
            stacks::created_in(REGION, "on-push", &parameters, &events)
        });
        let rule = stack["rules"][0].clone();
        assert_eq!(rule["targets"][0]["Arn"], cloud.state_machine());
        Self {
            before: cloud.world_snapshot().await.unwrap(),
            cloud,
            events,
            rule,
            _room: room,
        }
    }

    /// What EventBridge does with an event: nothing, or an execution of the rule's target.
    async fn deliver(&self, number: usize) -> Option<Execution> {
        let matches = self.rule["matches"].as_array().unwrap();
        if !matches.contains(&number.into()) {
            return None;
        }
        let asked = stacks::input(&self.rule["targets"][0], &self.events[number]);
        Some(self.cloud.deploy(&asked).await.unwrap())
    }

    /// Delivers the events of a push, which start one execution.
    async fn push(&self, place: usize) -> Execution {
        let mut started = Vec::new();
        for number in numbers_of(place) {
            started.extend(self.deliver(number).await);
        }
        let [execution] = started.try_into().unwrap();
        execution
    }

    /// Waits until an execution enters a state, which it has to before its end.
    async fn until(&self, execution: &Execution, state: &str) {
        assert!(self.cloud.until_entered(execution, state).await.unwrap());
    }

    async fn end_of(&self, execution: &Execution) -> Ended {
        let outcome = self.cloud.follow(execution, |_| ()).await.unwrap();
        let mut recovery = None;
        if outcome.ending() != Ending::Promoted {
            let begun = self.cloud.recovery_of(execution, RECOVERY_WITHIN).await;
            recovery = Some(begun.unwrap().expect("a recovery was started"));
        }
        Ended { outcome, recovery }
    }

    /// When a function called an operation, if it was told that it worked.
    fn calls(&self, function: &str, operation: &str) -> Vec<Timestamp> {
        let calls = self.cloud.calls().calls.into_iter();
        calls
            .filter(|call| call.function.as_deref() == Some(function))
            .filter(|call| call.operation == operation && call.succeeded())
            .map(|call| call.at)
            .collect()
    }

    /// Stops the cloud after the last deployment was promoted: this version serves, all but these never got a request, so many
    /// canaries were made, no request was lost, and nothing is left.
    async fn finish(self, serving: &str, deployed: &[&str]) {
        let after = self.cloud.world_snapshot().await.unwrap();
        let left = self.before.differences_after_promotion(&after);
        assert_eq!(left, Vec::<String>::new());
        let serves: Vec<_> = self
            .cloud
            .versions()
            .into_iter()
            .filter(|version| version.tasks_running > 0)
            .flat_map(|version| version.versions)
            .collect();
        assert_eq!(serves, [serving]);
        for item in self.cloud.ledger().await.unwrap() {
            assert!(item.get("waiting").is_none(), "nobody waits: {item}");
        }
        let made = self.calls("create-canary", "CreateService");
        assert_eq!(made.len(), deployed.len());
        let load = self.cloud.load_so_far().await;
        assert_eq!(load.failed_by_deployment, 0, "{:?}", load.examples);
        assert_eq!(load.failed_by_versions, 0, "{:?}", load.by_version);
        let mut answered: Vec<_> = load.by_version.keys().map(String::as_str).collect();
        answered.sort_unstable();
        let mut expected = vec!["good-1"];
        expected.extend(deployed);
        assert_eq!(answered, expected);
        self.cloud.stop().await;
    }
}

/// How an execution ended, and its recovery if it did not succeed.
struct Ended {
    outcome: Outcome,
    recovery: Option<Outcome>,
}

impl Ended {
    #[track_caller]
    fn assert_promoted(&self) {
        assert_eq!(
            self.outcome.ending(),
            Ending::Promoted,
            "{}",
            self.outcome.why()
        );
    }

    /// It was refused with this error, names the other execution, and had begun nothing.
    #[track_caller]
    fn assert_refused(&self, error: &str, other: &Execution) {
        assert_eq!(
            (self.outcome.ending(), self.outcome.error.as_deref()),
            (Ending::Refused, Some(error)),
            "{}",
            self.outcome.why()
        );
        let why = self.outcome.why();
        assert!(why.contains(&other.arn), "{why}");
        assert_nothing_to_recover(self.recovery.as_ref());
    }

    /// It was stopped in favour of the other execution, and its recovery has rolled it back.
    #[track_caller]
    fn assert_superseded(&self, by: &Execution) {
        let why = self.outcome.why();
        let (status, error) = (self.outcome.status.as_str(), self.outcome.error.as_deref());
        assert_eq!((status, error), ("ABORTED", Some("Superseded")), "{why}");
        assert!(why.contains(&by.arn), "{why}");
        let recovery = self.recovery.as_ref().unwrap();
        assert_eq!(
            recovery.recovered_to(),
            Ending::RolledBack,
            "{}",
            recovery.why()
        );
    }
}

/// How many events a push raises.
const EVENTS: usize = 3;

/// The events of a push of an image for two architectures: of the two manifests, which have no tag, and of the list of them.
fn events_of(tag: &str, digest: &str) -> [Value; EVENTS] {
    let here = |tag: Option<&str>, digest: &str| {
        let changes =
            json!({ "region": REGION, "repository-name": REPOSITORY, "image-digest": digest });
        stacks::push(tag, &changes)
    };
    let manifest = |architecture: char| format!("sha256:{architecture:0>64}");
    [
        here(None, &manifest('1')),
        here(None, &manifest('2')),
        here(Some(tag), digest),
    ]
}

/// The numbers of the events of a push.
fn numbers_of(place: usize) -> std::ops::Range<usize> {
    place * EVENTS..(place + 1) * EVENTS
}

/// The parameter `Fields`: what a deployment asks for that is as short as can be. Nothing is compared, because that takes its time, and
/// is asked of other tests.
fn fields() -> String {
    let mut request = Scenario::Second.request().unwrap();
    request["plan"] =
        json!({ "steps": [{ "weightPercent": 50, "holdSeconds": 15 }], "maxWeightPercent": 50 });
    request["checks"]["judge"] = Value::Null;
    let fields = request.as_object_mut().unwrap();
    fields.retain(|field, _| !matches!(field.as_str(), "cluster" | "service" | "image"));
    let text = request.to_string();
    text[1..text.len() - 1].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_events_of_one_push_and_a_third_of_another_one_is_promoted_if_the_rule_rejects() {
    let pushes = Pushes::of("reject", &["good-2", "good-3"]).await;
    let one = pushes.push(0).await;
    let again = pushes.push(0).await;
    // Whichever comes first deploys, and takes its time; the other one is refused.
    let (first, double, refused) = tokio::select! {
        refused = pushes.end_of(&again) => (one.clone(), again.clone(), refused),
        refused = pushes.end_of(&one) => (again.clone(), one.clone(), refused),
    };
    assert_ne!(first, double);
    refused.assert_refused("AlreadyDeploying", &first);
    pushes.until(&first, PLANNED).await;
    let third = pushes.push(1).await;
    let refused = pushes.end_of(&third).await;
    refused.assert_refused("AnotherDeploymentInProgress", &first);
    pushes.end_of(&first).await.assert_promoted();
    pushes.finish("good-2", &["good-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_pushes_in_a_row_the_first_and_then_the_newest_is_promoted_if_the_rule_queues() {
    let pushes = Pushes::of("queue", &["good-2", "bad", "good-3"]).await;
    let first = pushes.push(0).await;
    pushes.until(&first, PLANNED).await;
    let middle = pushes.push(1).await;
    pushes.until(&middle, WAITS).await;
    let newest = pushes.push(2).await;
    let gave_way = pushes.end_of(&middle).await;
    gave_way.assert_refused("Superseded", &newest);
    let first = pushes.end_of(&first).await;
    first.assert_promoted();
    let newest = pushes.end_of(&newest).await;
    newest.assert_promoted();
    assert!(newest.outcome.path().contains(&WAITS));
    pushes.finish("good-3", &["good-2", "good-3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_pushes_in_a_row_only_the_newest_is_promoted_if_the_rule_supersedes() {
    let pushes = Pushes::of("supersede", &["good-2", "bad", "good-3"]).await;
    let first = pushes.push(0).await;
    pushes.until(&first, HAS_TRAFFIC).await;
    let middle = pushes.push(1).await;
    pushes.until(&middle, WAITS).await;
    let newest = pushes.push(2).await;
    let gave_way = pushes.end_of(&middle).await;
    gave_way.assert_refused("Superseded", &newest);
    let first = pushes.end_of(&first).await;
    first.assert_superseded(&middle);
    let newest = pushes.end_of(&newest).await;
    newest.assert_promoted();
    // What the first had was gone before anything of the newest was made.
    let gone = pushes.calls("rollback", "DeleteTargetGroup");
    let made = pushes.calls("create-canary", "CreateTargetGroup");
    assert!(gone.iter().max() < made.iter().max(), "{gone:?} {made:?}");
    assert!(!gone.is_empty());
    pushes.finish("good-3", &["good-2", "good-3"]).await;
}

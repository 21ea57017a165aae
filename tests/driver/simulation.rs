//! A deployment in a simulated account: the real state machine over the real steps, with the safety rules checked after every
//! call.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::{Value, json};
use serin::Report;
use serin_sim::safety::{Subject, Watch};
use serin_sim::state_machine::{Execution, Functions, StateMachine, Status, TaskError};
use serin_sim::{Account, Clock, Snapshot, World, world};

use crate::lambdas::Lambdas;
use crate::path::shortened;
use crate::project::{STEPS, definition_text, recovery_text};

/// The router that a test runs on. Every promise holds for each of them, so the tests' bodies are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// AWS App Mesh.
    AppMesh,
    /// An Application Load Balancer.
    Alb,
}

impl On {
    /// The usual world of this router.
    pub fn options(self) -> world::Options {
        match self {
            Self::AppMesh => world::Options::default(),
            Self::Alb => world::Options::alb(),
        }
    }

    /// The operation that moves traffic.
    pub const fn write(self) -> &'static str {
        match self {
            Self::AppMesh => "UpdateRoute",
            Self::Alb => "ModifyRule",
        }
    }

    /// The operation that removes what the router had made for the canary.
    pub const fn delete(self) -> &'static str {
        match self {
            Self::AppMesh => "DeleteVirtualNode",
            Self::Alb => "DeleteTargetGroup",
        }
    }

    /// The commands with which a person does both by hand.
    pub const fn commands(self) -> [&'static str; 2] {
        match self {
            Self::AppMesh => [
                "aws appmesh update-route",
                "aws appmesh delete-virtual-node",
            ],
            Self::Alb => ["aws elbv2 modify-rule", "aws elbv2 delete-target-group"],
        }
    }
}

/// The state machine, and that of the recovery.
static MACHINES: LazyLock<(StateMachine, StateMachine)> = LazyLock::new(|| {
    let functions = STEPS
        .iter()
        .map(|step| (step.substitution(), step.name.to_owned()))
        .collect::<BTreeMap<_, _>>();
    let read = |text: &str| StateMachine::parse(text, &functions).unwrap();
    (read(&definition_text()), read(&recovery_text()))
});

/// The worlds that were built already, by their options.
static WORLDS: Mutex<BTreeMap<String, Arc<World>>> = Mutex::new(BTreeMap::new());

/// A world that has lived long enough for stable to have metrics.
fn world_of(options: &world::Options) -> Arc<World> {
    let name = format!("{options:?}");
    if let Some(world) = WORLDS.lock().unwrap().get(&name) {
        return world.clone();
    }
    let account = Account::new(Clock::new("2026-11-21T12:00:00Z".parse().unwrap()));
    world::checkout_with(&account, options);
    account.clock().advance(3600);
    let world = Arc::new(account.look(World::clone));
    WORLDS.lock().unwrap().insert(name, world.clone());
    world
}

/// A user's account with the service `checkout`, in which Serin is installed.
pub struct Simulation {
    /// Its router.
    pub on: On,
    /// AWS in memory.
    pub account: Account,
    /// The account before the first deployment.
    pub before: Snapshot,
    /// What checks the safety rules after every call.
    pub watch: Watch,
    /// The functions of the installation.
    pub lambdas: Lambdas,
    machine: StateMachine,
    recovery: StateMachine,
    /// The requests that were lost while the world was being built.
    lost_before: f64,
}

/// A deployment that has ended.
pub struct Deployed<'a> {
    simulation: &'a Simulation,
    /// Its execution.
    pub execution: Execution,
}

impl Simulation {
    /// The usual world.
    pub fn new(on: On) -> Self {
        Self::with(on, &on.options())
    }

    /// A world that differs from the usual one.
    pub fn with(on: On, options: &world::Options) -> Self {
        let account = Account::with_world(&world_of(options));
        let before = account.snapshot();
        let service = format!("{}/{}", world::CLUSTER, world::SERVICE);
        let watch = Watch::new(
            &account,
            Subject::new(before.clone(), &service, world::NODE),
        );
        let lost_before = account.look(World::lost_requests);
        Self {
            on,
            lambdas: Lambdas::new(&account, watch.clone()),
            account,
            before,
            watch,
            machine: MACHINES.0.clone(),
            recovery: MACHINES.1.clone(),
            lost_before,
        }
    }

    /// An execution that goes on when it is told to.
    pub fn start(&self, name: &str, input: Value) -> Execution {
        let arn = arn(name);
        self.account.set_execution(&arn, "RUNNING".into());
        self.machine.start(self.account.clock(), &arn, input)
    }

    /// Goes on until `state` would be entered next.
    pub async fn run_until(&self, execution: &mut Execution, state: &str) {
        while execution.next_state() != state {
            self.step(execution).await;
            assert!(
                execution.is_running(),
                "it ended before {state:?}: {:?}",
                execution.status
            );
        }
    }

    /// Goes on for one state.
    pub async fn step(&self, execution: &mut Execution) {
        Box::pin(execution.step(&self.lambdas)).await;
    }

    /// Goes on to the end.
    pub async fn finish(&self, mut execution: Execution) -> Deployed<'_> {
        while execution.is_running() {
            self.step(&mut execution).await;
        }
        Deployed {
            simulation: self,
            execution,
        }
    }

    /// Goes on with several executions to their ends, one state of each in turn, and with the recoveries that the rule on an
    /// execution's end starts. One that a call has stopped goes on no more. The recoveries are at the end of what is given back.
    pub async fn finish_all(&self, mut executions: Vec<Execution>) -> Vec<Deployed<'_>> {
        while executions.iter().any(Execution::is_running) {
            let mut recoveries = Vec::new();
            for execution in executions.iter_mut().filter(|one| one.is_running()) {
                let known = self.account.execution(execution.arn());
                if known.is_some_and(|status| status.as_str() == "ABORTED") {
                    execution.abort();
                } else {
                    self.step(execution).await;
                }
                if let Some(dead) = self.note_end(execution) {
                    let input = json!({ "recover": arn(&dead) });
                    recoveries.push(self.start_recovery(&format!("rule-{dead}"), input));
                }
            }
            executions.extend(recoveries);
        }
        let deployed = executions.into_iter().map(|execution| Deployed {
            simulation: self,
            execution,
        });
        deployed.collect()
    }

    /// Tells Step Functions that an execution has ended, if it has; gives the name of a deployment's that did not succeed.
    fn note_end(&self, execution: &Execution) -> Option<String> {
        let status = match &execution.status {
            Status::Running => return None,
            Status::Succeeded => "SUCCEEDED",
            Status::Failed { .. } => "FAILED",
            Status::TimedOut => "TIMED_OUT",
            Status::Aborted => "ABORTED",
        };
        self.account.set_execution(execution.arn(), status.into());
        let name = execution.arn().rsplit(':').next()?;
        let is_deployment = execution.arn() == arn(name);
        (is_deployment && status != "SUCCEEDED").then(|| name.to_owned())
    }

    /// Stops an execution, as `StopExecution` does.
    pub fn abort(&self, execution: &mut Execution, name: &str) {
        execution.abort();
        self.account.set_execution(&arn(name), "ABORTED".into());
    }

    /// Calls a function once, as the deployment `name` did when its state was `state`: too late, or once more.
    ///
    /// # Errors
    /// The function's own.
    pub async fn invoke(
        &self,
        function: &str,
        name: &str,
        state: Value,
    ) -> Result<Value, TaskError> {
        let now = self.account.clock().now();
        let payload =
            json!({ "execution": arn(name), "startedAt": now, "now": now, "state": state });
        Box::pin(Functions::call(&self.lambdas, function, payload)).await
    }

    /// What the rule on an execution's end starts.
    pub fn start_recovery(&self, name: &str, input: Value) -> Execution {
        let arn = format!(
            "{}:{name}",
            world::RECOVERY.replacen(":stateMachine:", ":execution:", 1)
        );
        self.account.set_execution(&arn, "RUNNING".into());
        self.recovery.start(self.account.clock(), &arn, input)
    }

    /// Recovers the deployment of an execution that has ended.
    pub async fn recover(&self, name: &str) -> Deployed<'_> {
        let input = json!({ "recover": arn(name) });
        self.finish(self.start_recovery(&format!("rule-{name}"), input))
            .await
    }

    /// Ada decides about the deployment `name`, on its page; gives what she is told.
    pub async fn decide(&self, name: &str, decision: &str) -> String {
        let input = json!({
            "execution": arn(name), "decision": decision, "widgetContext": { "forms": { "all": { "by": "Ada" } } },
        });
        let said = self.call_decide(input).await;
        said.as_str().unwrap().to_owned()
    }

    /// What the rule hands on when the deployment `name` is frozen and asks; the token is then waited for.
    pub async fn hand_on_question(&self, name: &str) {
        self.account.wait_for_answer("token");
        let question = json!({
            "version": "1", "id": "frozen-1", "at": self.account.clock().now(), "execution": arn(name), "weightPercent": 10.0,
            "sentence": "too many errors", "phase": "frozen", "waitsForSeconds": 600, "then": "rollBack", "token": "token",
        });
        self.call_decide(json!({ "detail": question })).await;
    }

    async fn call_decide(&self, mut input: Value) -> Value {
        let id = format!("request-{}", self.lambdas.calls());
        input["invocation"] = json!({ "requestId": id, "at": self.account.clock().now() });
        let answer = Box::pin(Functions::call(&self.lambdas, "decide", input)).await;
        answer.unwrap()
    }

    /// One sweep, and the recoveries that it starts, to their ends.
    pub async fn sweep(&self) -> Vec<Deployed<'_>> {
        let tick = json!({ "time": self.account.clock().now() });
        let swept = Box::pin(Functions::call(&self.lambdas, "sweep", tick)).await;
        assert!(swept.is_ok(), "{swept:?}");
        let mut recovered = Vec::new();
        for started in self.account.take_started() {
            let input = serde_json::from_str(&started.input).unwrap();
            let name = started.execution.rsplit(':').next().unwrap();
            recovered.push(self.finish(self.start_recovery(name, input)).await);
        }
        recovered
    }

    /// Runs a deployment from start to end.
    pub async fn deploy(&self, input: Value) -> Deployed<'_> {
        self.finish(self.start("first", input)).await
    }

    /// The same account, after somebody has changed something before the first deployment.
    #[must_use]
    pub fn begun_anew(self) -> Self {
        self.before_the_next(world::SERVICE, world::NODE)
    }

    /// The same account, as the world before the next deployment: `service` and `node` are stable now.
    #[must_use]
    pub fn before_the_next(self, service: &str, node: &str) -> Self {
        let before = self.account.snapshot();
        let watch = Watch::new(
            &self.account,
            Subject::new(
                before.clone(),
                &format!("{}/{service}", world::CLUSTER),
                node,
            ),
        );
        Self {
            lambdas: Lambdas::new(&self.account, watch.clone()),
            before,
            watch,
            ..self
        }
    }

    /// The requests that were lost since the world was built.
    pub fn lost_requests(&self) -> f64 {
        self.account.look(World::lost_requests) - self.lost_before
    }

    /// What is different from the world before the first deployment.
    pub fn traces(&self) -> Vec<String> {
        self.account.differences_since(&self.before)
    }
}

/// The execution of that name.
pub fn arn(name: &str) -> String {
    format!("arn:aws:states:eu-west-1:123456789012:execution:serin-canary-deployment:{name}")
}

/// A request for an image of `checkout` with a short plan and limits, and with whatever `more` has.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a test hands over what it has just written down"
)]
pub fn request(tag: &str, more: Value) -> Value {
    let mut request = json!({
        "cluster": world::CLUSTER,
        "service": world::SERVICE,
        "image": world::app_image(tag),
        "plan": { "steps": [{ "weightPercent": 10, "holdSeconds": 120 }, { "weightPercent": 50, "holdSeconds": 120 },
                            { "weightPercent": 100, "holdSeconds": 120 }] },
        "checks": { "errorRatePercent": { "max": 1.0 } },
    });
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    request
}

impl Deployed<'_> {
    /// The report: in the output of the one that succeeded, in the cause of the others.
    #[track_caller]
    pub fn report(&self) -> Report {
        match &self.execution.status {
            Status::Succeeded => {
                serde_json::from_value(self.execution.output.as_ref().unwrap()["report"].clone())
                    .unwrap()
            }
            Status::Failed { error, cause } => serde_json::from_str(cause)
                .unwrap_or_else(|fault| panic!("{error} without a report ({fault}): {cause}")),
            other => panic!("the execution is {other:?}"),
        }
    }

    /// It ended with this error, or `Promoted`, in this state, and no rule was broken on the way.
    #[track_caller]
    pub fn assert_ended(&self, status: &str, path_end: &str) -> &Self {
        let found = match &self.execution.status {
            Status::Failed { error, .. } => error.as_str(),
            Status::Succeeded => "Promoted",
            Status::Running | Status::TimedOut | Status::Aborted => "neither",
        };
        assert_eq!(
            found,
            status,
            "{:?}\n{:#?}",
            self.execution.status,
            shortened(&self.execution.path)
        );
        assert_eq!(
            self.execution.path.last().map(String::as_str),
            Some(path_end)
        );
        let broken = self.simulation.watch.broken();
        assert!(
            broken.is_empty(),
            "{} times, first {:#?}",
            broken.len(),
            &broken[..broken.len().min(3)]
        );
        self.simulation.lambdas.assert_allowed();
        self
    }

    /// The new version is the stable one, and what differs from before is exactly this.
    #[track_caller]
    pub fn assert_promoted(&self) -> &Self {
        self.assert_ended("Promoted", "Promoted")
    }

    /// Everything is as it was, because of this.
    #[track_caller]
    pub fn assert_rolled_back(&self, why: &str) -> &Self {
        self.assert_ended("CanaryRolledBack", "Rolled back");
        assert_eq!(self.simulation.traces(), Vec::<String>::new());
        self.assert_why(why)
    }

    /// A recovery has put everything back.
    #[track_caller]
    pub fn assert_recovered(&self) -> &Self {
        self.assert_ended("Promoted", "Recovered");
        assert_eq!(self.simulation.traces(), Vec::<String>::new());
        self
    }

    /// A recovery has finished a promotion.
    #[track_caller]
    pub fn assert_promoted_by_recovery(&self) -> &Self {
        self.assert_ended("Promoted", "Recovered");
        assert_eq!(self.report().ending, serin::Ending::Promoted);
        self
    }

    /// A recovery has found nothing to do.
    #[track_caller]
    pub fn assert_nothing_to_recover(&self) -> &Self {
        self.assert_ended("Promoted", "Nothing to recover")
    }

    /// A person must finish it; the report says why, names something and a command.
    #[track_caller]
    pub fn assert_needs_attention(&self, why: &str) -> &Self {
        self.assert_ended("NeedsAttention", "Needs attention");
        let left = self.report().left;
        assert!(
            !left.is_empty()
                && left
                    .iter()
                    .all(|left| !left.what.is_empty() && left.command.starts_with("aws ")),
            "{left:?}"
        );
        self.assert_why(why)
    }

    /// A call of another deployment has stopped it.
    #[track_caller]
    pub fn assert_stopped(&self) -> &Self {
        assert_eq!(self.execution.status, Status::Aborted);
        self
    }

    /// Refused under this name before anything was created.
    #[track_caller]
    pub fn assert_refused(&self, error: &str, sentence: &str) -> &Self {
        self.assert_ended(error, "Refused");
        let Status::Failed { cause, .. } = &self.execution.status else {
            unreachable!("it was refused")
        };
        let answer: Value = serde_json::from_str(cause).unwrap();
        assert_eq!(answer["errorType"], error);
        assert!(
            answer["errorMessage"].as_str().unwrap().contains(sentence),
            "{answer}"
        );
        self
    }

    #[track_caller]
    fn assert_why(&self, why: &str) -> &Self {
        let found = self.report().why;
        assert!(found.contains(why), "{found}");
        self
    }

    /// All the traffic goes to stable's own node.
    #[track_caller]
    pub fn assert_stable_has_all_traffic(&self) -> &Self {
        let percent = self.simulation.account.look(World::stable_percent);
        assert!((percent - 100.0).abs() < f64::EPSILON, "{percent}");
        self
    }

    /// No request was lost.
    #[track_caller]
    pub fn assert_no_request_was_lost(&self) -> &Self {
        let lost = self.simulation.lost_requests();
        assert!(
            lost.abs() < f64::EPSILON,
            "{lost} requests had no healthy task"
        );
        self
    }
}

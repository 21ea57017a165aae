//! The steps behind the names that the state machine calls, as Lambdas are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;

use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin::State;
use serin::request::Decision;
use serin_aws::{Adapters, Diagnostic, Failed};
use serin_sim::safety::Watch;
use serin_sim::state_machine::{Functions, TaskError};
use serin_sim::{Account, Killed, Kit, Service, world};

use crate::permissions;
use crate::project::functions;

/// What each function's role allows.
static ALLOWED: LazyLock<BTreeMap<&str, BTreeSet<String>>> = LazyLock::new(|| {
    functions()
        .map(|step| (step.name, permissions::granted_actions(step)))
        .collect()
});

/// The functions of an installation.
pub struct Lambdas {
    account: Account,
    aws: Mutex<(Kit, Adapters)>,
    watch: Watch,
    /// The calls that the function made that runs, as the actions that they are.
    made: Arc<Mutex<BTreeSet<(Service, &'static str)>>>,
    /// The calls that each function has made so far.
    used: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// What each function's role allows.
    allowed: &'static BTreeMap<&'static str, BTreeSet<String>>,
    /// The calls that a function's role would not have allowed.
    forbidden: Mutex<BTreeSet<String>>,
    /// Whether Step Functions gets every second answer only.
    loses_answers: AtomicBool,
    calls: AtomicUsize,
    /// What somebody answers to a frozen deployment, and after how many seconds; one by one.
    answers: Mutex<VecDeque<(u64, Value)>>,
    /// The events that frozen deployments have sent.
    asked: Mutex<Vec<Value>>,
    /// Whether what is called is called too late, or once more: it allows nothing.
    stale: AtomicBool,
    /// Whether the invocations are kept.
    remembers: AtomicBool,
    invocations: Mutex<Vec<(String, Value)>>,
    /// The function that runs, or ran last.
    running: Arc<Mutex<String>>,
}

/// How long a function may run, as in the template.
const LAMBDA_SECONDS: i64 = 30;

impl Lambdas {
    /// The functions, in this account.
    pub fn new(account: &Account, watch: Watch) -> Self {
        let made = Arc::<Mutex<BTreeSet<_>>>::default();
        let hand = made.clone();
        account.on_call(move |_, call| {
            if call.error.as_deref() != Some("arrived late") {
                let mut made = hand.lock().unwrap();
                made.insert((call.service, call.operation));
            }
        });
        Self {
            account: account.clone(),
            aws: Mutex::new(adapters(account)),
            watch,
            made,
            allowed: &ALLOWED,
            used: Mutex::default(),
            forbidden: Mutex::default(),
            loses_answers: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            answers: Mutex::default(),
            asked: Mutex::default(),
            stale: AtomicBool::new(false),
            remembers: AtomicBool::new(false),
            invocations: Mutex::default(),
            running: Arc::default(),
        }
    }

    /// From now on every invocation is kept, to be made again.
    pub fn remember(&self) {
        self.remembers.store(true, Relaxed);
    }

    /// The invocations that were kept: the function and what it got.
    pub fn invocations(&self) -> Vec<(String, Value)> {
        self.invocations.lock().unwrap().clone()
    }

    /// How many invocations were kept.
    pub fn invoked(&self) -> usize {
        self.invocations.lock().unwrap().len()
    }

    /// How many calls there were so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    /// The function that runs, or ran last.
    pub fn running(&self) -> Arc<Mutex<String>> {
        self.running.clone()
    }

    /// Calls a function once more with an input that it had before, or too late. It is allowed nothing that was not allowed.
    ///
    /// # Errors
    /// The function's own.
    pub async fn call_again(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        self.stale.store(true, Relaxed);
        let answer = Functions::call(self, function, payload).await;
        self.stale.store(false, Relaxed);
        answer
    }

    /// The calls that a function's role would not have allowed.
    pub fn forbidden(&self) -> BTreeSet<String> {
        self.forbidden.lock().unwrap().clone()
    }

    /// Somebody answers the next question of a frozen deployment so, after so many seconds.
    pub fn answer_after(&self, seconds: u64, answer: Value) {
        self.answers.lock().unwrap().push_back((seconds, answer));
    }

    /// What frozen deployments have asked so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    /// From now on every function runs twice, because the answer of the first time is lost.
    pub fn lose_every_first_answer(&self) {
        self.loses_answers.store(true, Relaxed);
    }

    /// Fails the test if a function made a call that its role in the template does not allow.
    #[track_caller]
    pub fn assert_allowed(&self) {
        assert_eq!(*self.forbidden.lock().unwrap(), BTreeSet::new());
    }

    /// The actions that each function has used so far.
    pub fn used(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.used.lock().unwrap().clone()
    }

    /// Tells the watch what the plan allows from this call on.
    fn tell_the_watch(&self, function: &str, state: &Value) {
        match function {
            "shift-weight" => {
                let state: State = serde_json::from_value(state.clone())
                    .expect("the state that the step before returned");
                if state.next == Some(serin::state::Next::Resize) {
                    return;
                }
                let next = match (state.decision, state.progress.step) {
                    (None, Some(step)) if state.question.is_some() => step,
                    (Some(Decision::Resume), Some(step)) => step,
                    (Some(Decision::Promote), Some(_)) => state.deployment.plan.steps().len() - 1,
                    (_, step) => step.map_or(0, |step| step + 1),
                };
                if let Some(step) = state.deployment.plan.step(next) {
                    self.watch
                        .allow_percent(f64::from(step.weight_percent.tenths()) / 10.0);
                }
            }
            "cleanup" => {
                self.watch.promotion_begins();
                self.watch.allow_percent(100.0);
            }
            _ => {}
        }
    }

    fn note_forbidden(&self, function: &str) {
        let allowed = &self.allowed[function];
        let made = std::mem::take(&mut *self.made.lock().unwrap());
        let made: BTreeSet<String> = made
            .into_iter()
            .map(|(service, operation)| permissions::action(&service.to_string(), operation))
            .collect();
        let forbidden = made
            .iter()
            .filter(|action| !allowed.contains(*action))
            .map(|action| format!("{function} called {action}"));
        self.forbidden.lock().unwrap().extend(forbidden);
        let mut used = self.used.lock().unwrap();
        used.entry(function.to_owned()).or_default().extend(made);
    }

    /// A function that is killed answers nothing, and the next one begins with clients of its own.
    async fn invoke_until_killed(
        &self,
        function: &str,
        payload: Value,
    ) -> Result<Value, TaskError> {
        let called_at = self.account.clock().now();
        let mut running = pin!(self.invoke(function, payload));
        let ended = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                Ok(polled) => polled.map(Some),
                Err(panic) if panic.is::<Killed>() => Poll::Ready(None),
                Err(panic) => resume_unwind(panic),
            }
        });
        if let Some(answer) = ended.await {
            return answer;
        }
        *self.aws.lock().unwrap() = adapters(&self.account);
        if self.account.clock().now() >= called_at + SignedDuration::from_secs(LAMBDA_SECONDS) {
            return Err(TaskError {
                error: "Sandbox.Timedout".to_owned(),
                cause: format!("Task timed out after {LAMBDA_SECONDS}.00 seconds"),
            });
        }
        Err(TaskError {
            error: "Runtime.ExitError".to_owned(),
            cause: "the function was killed".to_owned(),
        })
    }

    /// What `run_step` does: the step, and then what is told of it.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let adapters = self.aws.lock().unwrap().1.clone();
        // Boxed, as `run_step` does.
        let answer = Box::pin(step(&adapters, function, payload.clone())).await;
        Box::pin(serin_aws::tell(
            &adapters,
            function,
            &payload,
            answer.as_ref(),
        ))
        .await;
        answer.map_err(task_error)
    }
}

/// The step of this name.
async fn step(adapters: &Adapters, function: &str, payload: Value) -> Result<Value, Diagnostic> {
    let Adapters {
        fleet,
        router,
        signals,
        ledger,
        recoveries,
        decisions,
        ..
    } = adapters;
    match function {
        "plan-deployment" => {
            answer(payload, async |input| {
                plan_deployment::plan_deployment(fleet, router, signals, ledger, input).await
            })
            .await
        }
        "create-canary" => {
            answer(payload, async |input| {
                create_canary::create_canary(fleet, router, ledger, input).await
            })
            .await
        }
        "shift-weight" => {
            answer(payload, async |input| {
                shift_weight::shift_weight(fleet, router, ledger, input).await
            })
            .await
        }
        "health-check" => {
            answer(payload, async |input| {
                health_check::health_check(fleet, signals, ledger, input).await
            })
            .await
        }
        "cleanup" => {
            answer(payload, async |input| {
                cleanup::cleanup(fleet, router, ledger, input).await
            })
            .await
        }
        "rollback" => {
            answer(payload, async |input| {
                rollback::rollback(fleet, router, ledger, input).await
            })
            .await
        }
        "sweep" => {
            answer(payload, async |input| {
                sweep::sweep(ledger, recoveries, input).await
            })
            .await
        }
        "status" => {
            answer(payload, async |input| {
                let calls = status::Calls {
                    status: "status",
                    decide: "decide",
                };
                status::status(ledger, calls, input).await
            })
            .await
        }
        "decide" => {
            answer(payload, async |input| {
                decide::decide(ledger, ledger, decisions, input).await
            })
            .await
        }
        unknown => panic!("there is no function {unknown}"),
    }
}

/// The adapters of a function that has just started; the sweep's environment also names the recovery's state machine.
fn adapters(account: &Account) -> (Kit, Adapters) {
    let kit = Kit::of(account);
    let adapters = Adapters::new(kit.clients(), world::LEDGER_TABLE)
        .with_recovery(Some(world::RECOVERY.to_owned()));
    (kit, adapters)
}

impl Functions for Lambdas {
    fn ask(&self, event: &Value) -> Option<(u64, Value)> {
        let detail = event["Entries"][0]["Detail"].clone();
        self.asked.lock().unwrap().push(detail);
        self.answers.lock().unwrap().pop_front()
    }

    async fn call(&self, resource: &str, payload: Value) -> Result<Value, TaskError> {
        if !self.stale.load(Relaxed) {
            self.tell_the_watch(resource, &payload["state"]);
        }
        let now = self.account.clock().now().as_second();
        self.account.kill_callers_after(Some(now + LAMBDA_SECONDS));
        resource.clone_into(&mut self.running.lock().unwrap());
        let answer = self.invoke_until_killed(resource, payload.clone()).await;
        self.account.kill_callers_after(None);
        if self.remembers.load(Relaxed) {
            let invocation = (resource.to_owned(), payload);
            self.invocations.lock().unwrap().push(invocation);
        }
        self.note_forbidden(resource);
        let is_first = self.calls.fetch_add(1, Relaxed).is_multiple_of(2);
        if is_first && self.loses_answers.load(Relaxed) {
            return Err(TaskError {
                error: "Lambda.Unknown".to_owned(),
                cause: "the answer was lost".to_owned(),
            });
        }
        answer
    }
}

/// What `run_step` does around a step, from JSON to JSON.
///
/// # Errors
/// As the step; and when the payload is not the step's input.
pub async fn answer<I, O, E>(
    payload: Value,
    step: impl AsyncFnOnce(I) -> Result<O, E>,
) -> Result<Value, Diagnostic>
where
    I: DeserializeOwned,
    O: Serialize,
    E: std::error::Error + Into<&'static str>,
{
    let input = serde_json::from_value(payload).map_err(Failed::<E>::MalformedInput)?;
    let output = step(input).await.map_err(Failed::Step)?;
    Ok(serde_json::to_value(output).unwrap())
}

/// As the Lambda runtime reports it and Step Functions shows it.
pub fn task_error(diagnostic: impl Into<Diagnostic>) -> TaskError {
    let Diagnostic {
        error_type,
        error_message,
    } = diagnostic.into();
    let cause = json!({ "errorType": error_type, "errorMessage": error_message }).to_string();
    TaskError {
        error: error_type,
        cause,
    }
}

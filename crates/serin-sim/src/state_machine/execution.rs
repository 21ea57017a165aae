//! One execution of a state machine, in virtual time.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::definition::{ASK, Catcher, JitterStrategy, Retrier, Rule, State, StateMachine};
use super::path::{Context, Missing, ReferencePath, Template};
use crate::clock::Clock;

/// Input, output and state of a state machine have at most this many bytes.
const DATA_LIMIT: usize = 262_144;
/// A history has at most this many events; then the execution fails.
const EVENT_LIMIT: u32 = 25_000;
/// A `Fail` state's cause has at most this many bytes, and its error this many.
const CAUSE_LIMIT: usize = 32_768;
const ERROR_LIMIT: usize = 256;
/// The errors that nothing matches.
const FATAL: [&str; 2] = ["States.Runtime", "States.DataLimitExceeded"];

/// What the tasks call. The `resource` is the task's `Resource` after substitution.
#[expect(
    async_fn_in_trait,
    reason = "a test knows its own type; nobody needs it to be Send"
)]
pub trait Functions {
    /// Runs the function once.
    async fn call(&self, resource: &str, payload: Value) -> Result<Value, TaskError>;

    /// What comes of an event that asks for an answer: after how many seconds, and which; `None` when nobody answers.
    fn ask(&self, _event: &Value) -> Option<(u64, Value)> {
        None
    }
}

/// A function's error as Step Functions sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskError {
    /// The name that `Retry` and `Catch` compare.
    pub error: String,
    /// For a Lambda the JSON of its answer: `{"errorType": ..., "errorMessage": ...}`.
    pub cause: String,
}

/// How long the delay before a retry is, when the file says `"JitterStrategy": "FULL"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// As long as it can be: the worst case.
    Longest,
    /// Between nothing and the longest, the same for the same seed.
    Seeded(u64),
}

/// How an execution is, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It has states before it.
    Running,
    /// It reached a `Succeed` state.
    Succeeded,
    /// It reached a `Fail` state, or an error that nothing caught.
    Failed {
        /// The error's name.
        error: String,
        /// What the error says.
        cause: String,
    },
    /// It ran into the `TimeoutSeconds` of the machine. No `Catch` sees that.
    TimedOut,
    /// Somebody stopped it. No `Catch` sees that.
    Aborted,
}

/// An execution, running or ended.
#[derive(Debug, Clone)]
pub struct Execution {
    /// How it is.
    pub status: Status,
    /// What a succeeded execution returned.
    pub output: Option<Value>,
    /// The states entered, in order.
    pub path: Vec<String>,
    /// What AWS would bill: states entered, and retries.
    pub transitions: u32,
    /// The length of the history that AWS would keep.
    pub events: u32,
    machine: StateMachine,
    clock: Clock,
    arn: String,
    started_at: Timestamp,
    /// Since when the machine's own time runs: since the start, or since the last redrive.
    timed_from: Timestamp,
    /// The state that comes next, and what it gets.
    next: String,
    data: Value,
    seed: u64,
}

/// Why a state was not left in the ordinary way.
enum Interruption {
    /// An error, caught by nothing (yet).
    Error(TaskError),
    /// The machine's own time is over.
    TimedOut,
}

impl StateMachine {
    /// Runs an execution from start to end.
    pub async fn run(
        &self,
        functions: &impl Functions,
        clock: &Clock,
        execution_arn: &str,
        input: Value,
    ) -> Execution {
        let mut execution = self.start(clock, execution_arn, input);
        while execution.status == Status::Running {
            execution.step(functions).await;
        }
        execution
    }

    /// Starts an execution that goes on only when it is told to, so that a test can stop it half-way.
    pub fn start(&self, clock: &Clock, execution_arn: &str, input: Value) -> Execution {
        Execution {
            status: Status::Running,
            output: None,
            path: Vec::new(),
            transitions: 0,
            events: 1,
            machine: self.clone(),
            clock: clock.clone(),
            arn: execution_arn.to_owned(),
            started_at: clock.now(),
            timed_from: clock.now(),
            next: self.definition.start_at.clone(),
            data: input,
            seed: match self.jitter {
                Jitter::Longest => 0,
                Jitter::Seeded(seed) => seed,
            },
        }
    }
}

impl Execution {
    /// Whether there is more to do.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    /// The state that the next step enters.
    pub fn next_state(&self) -> &str {
        &self.next
    }

    /// What the next state gets, or what the last one gave.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// Stops it, as `StopExecution` does: no `Catch` runs, nothing is put in order.
    pub fn abort(&mut self) {
        assert!(
            self.is_running(),
            "an execution that has ended cannot be stopped"
        );
        self.status = Status::Aborted;
        self.events += 1;
    }

    /// Runs into the machine's own time now.
    pub fn time_out(&mut self) {
        assert!(self.is_running(), "an execution that has ended has no time");
        self.end(Status::TimedOut);
    }

    /// Goes on at the state that was interrupted, as `RedriveExecution` does: the same execution with the same input, whose
    /// own time begins anew.
    pub fn redrive(&mut self) {
        assert!(
            !matches!(self.status, Status::Running | Status::Succeeded),
            "only an execution that did not succeed can be redriven"
        );
        self.status = Status::Running;
        self.timed_from = self.clock.now();
        self.events += 1;
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Enters one state and leaves it: with all its retries, and with its `Catch`. Does nothing once the execution has ended.
    pub async fn step(&mut self, functions: &impl Functions) {
        if !self.is_running() {
            return;
        }
        let name = self.next.clone();
        let definition = self.machine.definition.clone();
        let state = definition.states.get(&name);
        self.path.push(name.clone());
        self.transitions += 1;
        self.events += 1;
        let left = match self.enter(&name, state, functions).await {
            Ok(()) => self.check_limits(&name),
            Err(interruption) => Err(interruption),
        };
        match left {
            Ok(()) if self.is_running() => self.events += 1, // StateExited
            Ok(()) => self.events += 2,                      // StateExited, ExecutionSucceeded
            Err(Interruption::TimedOut) => self.end(Status::TimedOut),
            Err(Interruption::Error(TaskError { error, cause })) => {
                self.end(Status::Failed { error, cause });
            }
        }
    }

    fn end(&mut self, status: Status) {
        self.status = status;
        self.events += 1;
    }

    async fn enter(
        &mut self,
        name: &str,
        state: &State,
        functions: &impl Functions,
    ) -> Result<(), Interruption> {
        match state {
            State::Task {
                resource,
                parameters,
                result_path,
                timeout_seconds,
                timeout_seconds_path,
                retry,
                catch,
                next,
                ..
            } => {
                let mut context = self.context();
                if resource == ASK {
                    context.task_token = Some(format!("token-{}", self.transitions));
                }
                let payload = fill(parameters.as_ref(), &self.data, &context)?;
                within_limit(name, &payload)?;
                let limit = match timeout_seconds_path {
                    Some(path) => Some(whole_seconds(path, &self.data)?),
                    None => *timeout_seconds,
                };
                let outcome = if resource == ASK {
                    self.wait_for_an_answer(functions, &payload, limit)
                } else {
                    self.attempt(functions, resource, &payload, limit, retry)
                        .await
                };
                match outcome {
                    Ok(result) => {
                        within_limit(name, &result)?;
                        self.leave(result_path, result, next)
                    }
                    Err(Interruption::Error(error)) => self.catch(catch, error),
                    Err(timed_out) => Err(timed_out),
                }
            }
            State::Choice {
                choices, default, ..
            } => {
                let chosen = choose(choices, &self.data)?.or(default.clone());
                self.next = chosen.ok_or_else(|| {
                    error(
                        "States.NoChoiceMatched",
                        &format!("{name}: no choice matches"),
                    )
                })?;
                Ok(())
            }
            State::Wait {
                seconds,
                seconds_path,
                next,
                ..
            } => {
                let seconds = match (seconds, seconds_path) {
                    (Some(seconds), _) => *seconds,
                    (None, Some(path)) => whole_seconds(path, &self.data)?,
                    (None, None) => {
                        unreachable!("a Wait without both was refused when the file was read")
                    }
                };
                self.wait(seconds)?;
                self.next.clone_from(next);
                Ok(())
            }
            State::Pass {
                input_path,
                parameters,
                result_path,
                next,
                ..
            } => {
                let input = input_path.get(&self.data)?;
                let result = fill(parameters.as_ref(), input, &self.context())?;
                self.leave(result_path, result, next)
            }
            State::Succeed { .. } => {
                self.status = Status::Succeeded;
                self.output = Some(self.data.clone());
                Ok(())
            }
            State::Fail {
                error,
                error_path,
                cause,
                cause_path,
                ..
            } => {
                let name = text(error.as_ref(), error_path.as_ref(), &self.data, ERROR_LIMIT)?;
                if error_path.is_some() {
                    refuse_reserved(&name)?;
                }
                let cause = text(cause.as_ref(), cause_path.as_ref(), &self.data, CAUSE_LIMIT)?;
                Err(Interruption::Error(TaskError { error: name, cause }))
            }
        }
    }

    /// Sends the event and waits until somebody has answered it, or the time is over.
    fn wait_for_an_answer(
        &mut self,
        functions: &impl Functions,
        payload: &Value,
        limit: Option<u64>,
    ) -> Result<Value, Interruption> {
        self.events += 4; // scheduled, started, submitted, and how it ended
        let limit = limit.unwrap_or(u64::MAX);
        match functions.ask(payload) {
            Some((seconds, answer)) if seconds < limit => {
                self.wait(seconds)?;
                Ok(answer)
            }
            _ => {
                self.wait(limit)?;
                Err(error("States.Timeout", ""))
            }
        }
    }

    /// Calls the function until it answers or its retries are used up.
    async fn attempt(
        &mut self,
        functions: &impl Functions,
        resource: &str,
        payload: &Value,
        timeout_seconds: Option<u64>,
        retry: &[Retrier],
    ) -> Result<Value, Interruption> {
        let mut attempts = vec![0; retry.len()];
        loop {
            let called_at = self.clock.now();
            self.events += 3; // scheduled, started, and how it ended
            let mut answer = functions.call(resource, payload.clone()).await;
            if timeout_seconds.is_some_and(|limit| self.clock.now() > later(called_at, limit)) {
                // The function may well have done its work; its answer is lost.
                answer = Err(TaskError {
                    error: "States.Timeout".to_owned(),
                    cause: String::new(),
                });
            }
            self.check_time()?;
            let error = match answer {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let matching = retry
                .iter()
                .position(|retrier| matches(&retrier.error_equals, &error.error));
            let Some(index) =
                matching.filter(|index| attempts[*index] < retry[*index].max_attempts)
            else {
                return Err(Interruption::Error(error));
            };
            let seconds = self.delay(&retry[index], attempts[index]);
            attempts[index] += 1;
            self.wait(seconds)?;
            self.transitions += 1;
            self.check_events()?;
        }
    }

    fn catch(&mut self, catch: &[Catcher], error: TaskError) -> Result<(), Interruption> {
        let Some(catcher) = catch
            .iter()
            .find(|catcher| matches(&catcher.error_equals, &error.error))
        else {
            return Err(Interruption::Error(error));
        };
        self.leave(
            &catcher.result_path,
            json!({ "Error": error.error, "Cause": error.cause }),
            &catcher.next,
        )
    }

    fn leave(
        &mut self,
        result_path: &ReferencePath,
        result: Value,
        next: &str,
    ) -> Result<(), Interruption> {
        self.data = result_path.put(self.data.take(), result).ok_or_else(|| {
            error(
                "States.ResultPathMatchFailure",
                &format!("the input has no place for {result_path}"),
            )
        })?;
        next.clone_into(&mut self.next);
        Ok(())
    }

    fn wait(&mut self, seconds: u64) -> Result<(), Interruption> {
        let until = later(self.clock.now(), seconds).min(self.deadline());
        self.clock.set(until);
        self.check_time()
    }

    fn deadline(&self) -> Timestamp {
        later(self.timed_from, self.machine.definition.timeout_seconds)
    }

    fn check_time(&self) -> Result<(), Interruption> {
        if self.clock.now() < self.deadline() {
            Ok(())
        } else {
            Err(Interruption::TimedOut)
        }
    }

    fn check_events(&self) -> Result<(), Interruption> {
        if self.events < EVENT_LIMIT {
            Ok(())
        } else {
            Err(runtime("the history has reached its 25,000 events"))
        }
    }

    fn check_limits(&self, name: &str) -> Result<(), Interruption> {
        within_limit(name, &self.data)?;
        self.check_events()?;
        self.check_time()
    }

    fn delay(&mut self, retrier: &Retrier, attempts: u32) -> u64 {
        let growing = f64::from(retrier.interval_seconds)
            * retrier
                .backoff_rate
                .powi(i32::try_from(attempts).unwrap_or(i32::MAX));
        let longest = growing.min(f64::from(retrier.max_delay_seconds.unwrap_or(u32::MAX)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between one and u32::MAX"
        )]
        let longest = longest as u64;
        match (retrier.jitter_strategy, self.machine.jitter) {
            (JitterStrategy::Full, Jitter::Seeded(_)) => self.random() % (longest + 1),
            (JitterStrategy::Full, Jitter::Longest) | (JitterStrategy::None, _) => longest,
        }
    }

    /// `SplitMix64`: enough to spread delays, and the same everywhere.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn context(&self) -> Context {
        Context {
            execution_id: self.arn.clone(),
            state_machine_id: state_machine_of(&self.arn),
            execution_start_time: format!("{:.3}", self.started_at),
            state_entered_time: format!("{:.3}", self.clock.now()),
            task_token: None,
        }
    }
}

/// `arn:...:execution:<machine>:<name>` belongs to `arn:...:stateMachine:<machine>`.
fn state_machine_of(execution_arn: &str) -> String {
    let machine = execution_arn
        .rsplit_once(':')
        .map_or(execution_arn, |(machine, _)| machine);
    machine.replacen(":execution:", ":stateMachine:", 1)
}

fn later(time: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    time.saturating_add(SignedDuration::from_secs(seconds))
        .expect("a duration of seconds always adds to a timestamp")
}

fn error(name: &str, cause: &str) -> Interruption {
    Interruption::Error(TaskError {
        error: name.to_owned(),
        cause: cause.to_owned(),
    })
}

fn runtime(cause: &str) -> Interruption {
    error("States.Runtime", cause)
}

impl From<Missing> for Interruption {
    fn from(Missing(path): Missing) -> Self {
        runtime(&format!("the path {path} was not found in the input"))
    }
}
/// Only Step Functions itself may use such names.
fn refuse_reserved(name: &str) -> Result<(), Interruption> {
    if name.starts_with("States.") {
        return Err(runtime(&format!(
            "a Fail state may not use the reserved name {name}"
        )));
    }
    Ok(())
}

fn within_limit(name: &str, data: &Value) -> Result<(), Interruption> {
    let bytes = size(data);
    if bytes <= DATA_LIMIT {
        Ok(())
    } else {
        Err(error(
            "States.DataLimitExceeded",
            &format!("{name}: {bytes} bytes are more than {DATA_LIMIT}"),
        ))
    }
}

/// How many bytes the JSON has, without writing it.
fn size(data: &Value) -> usize {
    let text = |text: &str| {
        let escaped = text.bytes().map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        });
        2 + escaped.sum::<usize>()
    };
    match data {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.to_string().len(),
        Value::String(string) => text(string),
        Value::Array(items) => {
            1 + items
                .iter()
                .map(|item| size(item) + 1)
                .sum::<usize>()
                .max(1)
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| text(name) + size(value) + 2);
            1 + fields.sum::<usize>().max(1)
        }
    }
}

fn fill(
    template: Option<&Template>,
    data: &Value,
    context: &Context,
) -> Result<Value, Interruption> {
    Ok(template.map_or_else(|| Ok(data.clone()), |template| template.fill(data, context))?)
}

/// Whether `name` is one of the errors that `names` stand for.
fn matches(names: &[String], name: &str) -> bool {
    !FATAL.contains(&name)
        && names.iter().any(|wanted| match wanted.as_str() {
            "States.ALL" => true,
            "States.TaskFailed" => name != "States.Timeout",
            wanted => wanted == name,
        })
}

fn choose(rules: &[Rule], data: &Value) -> Result<Option<String>, Interruption> {
    for rule in rules {
        if let Some(wanted) = rule.is_present {
            if rule.variable.get(data).is_ok() == wanted {
                return Ok(Some(rule.next.clone()));
            }
            continue;
        }
        let value = rule.variable.get(data)?;
        let is_boolean = rule
            .boolean_equals
            .is_some_and(|wanted| value.as_bool() == Some(wanted));
        let is_text = rule
            .string_equals
            .as_ref()
            .is_some_and(|wanted| value.as_str() == Some(wanted.as_str()));
        if is_boolean || is_text {
            return Ok(Some(rule.next.clone()));
        }
    }
    Ok(None)
}

fn whole_seconds(path: &ReferencePath, data: &Value) -> Result<u64, Interruption> {
    let value = path.get(data)?;
    value.as_u64().ok_or_else(|| {
        runtime(&format!(
            "{path} is {value}, and not a whole number of seconds"
        ))
    })
}

fn text(
    literal: Option<&String>,
    path: Option<&ReferencePath>,
    data: &Value,
    limit: usize,
) -> Result<String, Interruption> {
    let text = match path {
        None => literal.cloned().unwrap_or_default(),
        Some(path) => match path.get(data)? {
            Value::String(text) => text.clone(),
            other => return Err(runtime(&format!("{path} is {other}, and not a text"))),
        },
    };
    if text.len() <= limit {
        Ok(text)
    } else {
        Err(runtime(&format!(
            "a Fail state's text has {} bytes, more than {limit}",
            text.len()
        )))
    }
}

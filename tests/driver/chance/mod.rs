//! Random runs: one seed decides the world, the deployment, the faults and what other people do.
//!
//! After every call the safety rules are checked, at the end that the deployment is over in time, in one of the three endings,
//! and that the ending tells the truth. What somebody else does is not held against Serin, as far as he did it: each act says
//! which rule it touches, for which object; it is excused until it is found mended for the first time.

mod acts;
mod end;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::Report;
use serin::report::Ending;
use serin_sim::state_machine::{Execution, Status};
use serin_sim::{Account, Call, World, world};

use crate::hands::Route;
use crate::simulation::{Simulation, arn};
use crate::story::{Act, Data, Disturbance, Story};

/// After how many states the metrics fall silent, in a run where they do.
const SILENT_FROM: usize = 12;

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What decided everything.
    pub seed: u64,
    /// How many API calls were made.
    pub calls: usize,
    /// How often which kind of fault has struck.
    pub faults: BTreeMap<&'static str, usize>,
    /// How often which act was done.
    pub acts: BTreeMap<String, usize>,
    /// How the deployment ended.
    pub ending: Ending,
    /// Whether it was refused before anything was created; it counts as rolled back.
    pub refused: bool,
    /// The rules that were broken, as sentences.
    pub broken: Vec<String>,
    /// What happened, in words, when that was asked for.
    pub trace: Vec<String>,
    /// What disturbed it most.
    pub disturbance: Disturbance,
    /// Whether CloudWatch ever showed a datapoint of the canary's errors.
    pub shown_bad: bool,
    /// The seconds from the first datapoint of the canary's errors that CloudWatch showed to stable having all the traffic.
    pub reaction: Option<i64>,
}

/// No run may have more states than this.
const MOST_STATES: usize = 4000;
/// For how long after the last execution's end the sweeps may take to find what is left.
const MOST_SWEEPS: usize = 60;
/// How often a recovery may end by asking for a person before he is taken to be the one who goes on: while the ledger cannot be
/// written, the sweep starts one every hour.
const MOST_FAILED_RECOVERIES: usize = 4;
/// After how many failed sweeps, one after the other, the template's alarm calls a person.
pub const SWEEPS_TO_ALARM: usize = 3;

/// An execution of either state machine.
struct Live {
    name: String,
    execution: Execution,
    recovers: bool,
    /// Whether it is about the first deployment, whose story this is, and not about a second one.
    of_the_first: bool,
}

/// What is going to happen.
enum Due {
    Recovery,
    Redrive,
}

/// What is looked at after every call, beside the rules of the watch.
#[derive(Default)]
struct Observed {
    /// When the ledger was first found to forbid every step that goes on.
    fenced_at: Option<i64>,
    stable_percent: f64,
    /// What stable ran after the last call since then, as [`observe::version`] tells it.
    fenced_version: Option<String>,
    broken: Vec<String>,
    trace: Option<Vec<String>>,
    bad_since: Option<i64>,
    reaction: Option<i64>,
}

struct Run {
    story: Story,
    simulation: Simulation,
    lives: Vec<Live>,
    due: Vec<(i64, Due)>,
    observed: Arc<Mutex<Observed>>,
    acts: BTreeMap<String, usize>,
    next_sweep: i64,
    /// How many of the last sweeps have failed, one after the other.
    failed_sweeps: usize,
    rules: usize,
    /// How the deployment ended last, as the executions say.
    last_word: Option<Report>,
    refused: bool,
    weights_edited: bool,
    /// The report of an execution that failed without one.
    unexplained: Option<String>,
    broken: BTreeSet<String>,
    /// The route before everything.
    route: Route,
}

/// Runs one seed; with its trace in words when that is wanted.
pub async fn run(seed: u64, traced: bool) -> Outcome {
    tell(Story::of(seed), seed, traced).await
}

/// How long a story is.
pub(crate) struct Measured {
    pub(crate) calls: Vec<Call>,
    pub(crate) invocations: usize,
    pub(crate) states: usize,
    pub(crate) seconds: i64,
}

/// Measures a story without faults.
pub(crate) async fn measure(story: Story) -> Measured {
    let mut run = Run::new(story, false);
    let begun = run.now();
    while run.lives[0].execution.is_running() {
        run.step(0).await;
    }
    Measured {
        calls: run.account().calls(),
        invocations: run.simulation.lambdas.invoked(),
        states: run.lives[0].execution.path.len(),
        seconds: run.now() - begun,
    }
}

/// Runs a story.
pub(crate) async fn tell(story: Story, seed: u64, traced: bool) -> Outcome {
    let disturbance = story.disturbance(); // before its acts are done and forgotten
    let mut run = Run::new(story, traced);
    if traced {
        let story = run.story.to_string();
        run.say(&story);
    }
    run.go_on().await;
    run.check_the_end().await;
    let observed = run.observed.lock().unwrap();
    let mut broken: Vec<String> = run.broken.iter().cloned().collect();
    broken.extend(run.simulation.watch.broken());
    broken.extend(observed.broken.iter().cloned());
    broken.extend(run.simulation.lambdas.forbidden());
    broken.dedup();
    let report = run.last_word.as_ref();
    Outcome {
        seed,
        calls: run.simulation.account.calls().len(),
        faults: run.simulation.account.struck(),
        acts: run.acts.clone(),
        ending: report.map_or(Ending::NeedsAttention, |report| report.ending),
        refused: run.refused,
        broken,
        trace: observed.trace.clone().unwrap_or_default(),
        disturbance,
        shown_bad: observed.bad_since.is_some(),
        reaction: observed.reaction,
    }
}

impl Run {
    fn new(story: Story, traced: bool) -> Self {
        let simulation = Simulation::with(story.on, &story.options);
        let account = &simulation.account;
        account.take_the_short_way();
        account.settings(|settings| {
            settings.metric_delay = story.data.delay;
            settings.requests_per_task = story.requests_per_task;
        });
        for fault in &story.faults {
            account.inject(fault.clone());
        }
        simulation.lambdas.remember();
        for (seconds, answer) in &story.answers {
            simulation.lambdas.answer_after(*seconds, json!(answer));
        }
        let observed = Arc::new(Mutex::new(Observed {
            stable_percent: account.look(World::stable_percent),
            trace: traced.then(Vec::new),
            ..Observed::default()
        }));
        observe::observe(&simulation, &observed);
        let now = account.clock().now().as_second();
        let first = Live {
            name: "first".to_owned(),
            execution: simulation.start("first", story.input.clone()),
            recovers: false,
            of_the_first: true,
        };
        Self {
            route: simulation.route(),
            story,
            simulation,
            lives: vec![first],
            due: Vec::new(),
            observed,
            acts: BTreeMap::new(),
            next_sweep: now + 300,
            failed_sweeps: 0,
            rules: 0,
            last_word: None,
            refused: false,
            weights_edited: false,
            unexplained: None,
            broken: BTreeSet::new(),
        }
    }

    fn account(&self) -> &Account {
        &self.simulation.account
    }

    fn now(&self) -> i64 {
        self.account().clock().now().as_second()
    }

    fn say(&self, what: &str) {
        let now = self.account().clock().now();
        if let Some(trace) = &mut self.observed.lock().unwrap().trace {
            trace.push(format!("{} {what}", time(now)));
        }
    }

    fn break_rule(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        self.say(&format!("BROKEN {sentence}"));
        self.broken.insert(sentence);
    }

    /// Everything, until nothing runs and nothing is left to be found.
    async fn go_on(&mut self) {
        let mut states = 0;
        let mut idle_sweeps = 0;
        loop {
            self.start_what_is_due();
            if self.now() >= self.next_sweep {
                self.sweep().await;
            }
            let running: Vec<usize> = (0..self.lives.len())
                .filter(|&live| self.lives[live].execution.is_running())
                .collect();
            if running.is_empty() {
                if let Some(next) = self.due.iter().map(|(at, _)| *at).min() {
                    let at = Timestamp::from_second(next.max(self.now())).unwrap();
                    self.account().clock().set(at);
                    continue;
                }
                if self.act_at_the_end() {
                    continue;
                }
                if self.failed_recoveries() > MOST_FAILED_RECOVERIES {
                    return;
                }
                let started = self.sweep_when_due().await;
                if started || !self.due.is_empty() {
                    continue;
                }
                idle_sweeps += 1;
                if self.is_settled() {
                    return;
                }
                if idle_sweeps > MOST_SWEEPS {
                    if self.failed_sweeps < SWEEPS_TO_ALARM {
                        return;
                    }
                    self.say("the alarm on the sweep has called a person, who mends what forbids the calls");
                    self.account().heal();
                    self.failed_sweeps = 0;
                    idle_sweeps = 0;
                }
                self.account().clock().advance(900);
                continue;
            }
            states += 1;
            if states > MOST_STATES {
                self.break_rule("rule 6: it does not come to an end");
                return;
            }
            while let Some((after, act)) = self.story.acts.first().copied() {
                if after > states {
                    break;
                }
                self.story.acts.remove(0);
                self.act(act).await;
            }
            if states == SILENT_FROM && (self.story.data.silent || self.story.data.partial) {
                self.say("CloudWatch has nothing more to show, or not everything");
                let Data {
                    silent, partial, ..
                } = self.story.data;
                self.account().settings(|settings| {
                    settings.metrics_silent = silent;
                    settings.metrics_partial = partial;
                });
            }
            let chosen = self.story.dice.pick(&running);
            if !self.lives[chosen].execution.is_running() {
                continue; // somebody has just stopped it
            }
            self.step(chosen).await;
            let twice = self
                .story
                .twice
                .filter(|index| *index < self.simulation.lambdas.invoked());
            if let Some(index) = twice {
                self.story.twice = None;
                Box::pin(self.run_again(index)).await;
            }
        }
    }

    fn failed_recoveries(&self) -> usize {
        let failed =
            |live: &&Live| live.recovers && matches!(live.execution.status, Status::Failed { .. });
        self.lives.iter().filter(failed).count()
    }

    /// What was to happen after more states than there were happens now; whether something did.
    fn act_at_the_end(&mut self) -> bool {
        let redrives = self
            .story
            .acts
            .iter()
            .position(|(_, act)| matches!(act, Act::Redrive(_)));
        let Some(index) = redrives else {
            return false;
        };
        let (_, act) = self.story.acts.remove(index);
        if let Act::Redrive(seconds) = act {
            self.count("redrive");
            let at = self.now() + i64::from(seconds);
            self.due.push((at, Due::Redrive));
        }
        true
    }

    fn start_what_is_due(&mut self) {
        let now = self.now();
        self.due.sort_by_key(|(at, _)| *at);
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            match self.due.remove(0).1 {
                Due::Recovery => {
                    self.rules += 1;
                    let name = format!("rule-{}", self.rules);
                    let input = json!({ "recover": arn("first") });
                    self.start_recovery(name, input);
                }
                Due::Redrive => {
                    let first = &mut self.lives[0].execution;
                    if !matches!(first.status, Status::Running | Status::Succeeded) {
                        first.redrive();
                        let arn = first.arn().to_owned();
                        self.account().set_execution(&arn, "RUNNING".into());
                        self.say("somebody redrives the execution");
                    }
                }
            }
        }
    }

    fn start_recovery(&mut self, name: String, input: Value) {
        self.say(&format!("the recovery {name} is started"));
        let of_the_first = input["recover"] == arn("first");
        let execution = self.simulation.start_recovery(&name, input);
        self.lives.push(Live {
            name,
            execution,
            recovers: true,
            of_the_first,
        });
    }

    async fn sweep_when_due(&mut self) -> bool {
        let at = Timestamp::from_second(self.next_sweep.max(self.now())).unwrap();
        self.account().clock().set(at);
        self.sweep().await
    }

    /// One sweep; whether it has started a recovery.
    async fn sweep(&mut self) -> bool {
        let now = self.account().clock().now();
        self.say("the sweep looks at every lock");
        let tick = json!({ "time": now });
        let swept =
            serin_sim::state_machine::Functions::call(&self.simulation.lambdas, "sweep", tick);
        match Box::pin(swept).await {
            Ok(_) => self.failed_sweeps = 0,
            Err(error) => {
                self.failed_sweeps += 1;
                self.say(&format!("the sweep failed: {}", error.cause));
            }
        }
        self.next_sweep = self.now() + 300;
        let started = self.account().take_started();
        for recovery in &started {
            let name = recovery.execution.rsplit(':').next().unwrap_or_default();
            let input = serde_json::from_str(&recovery.input).unwrap();
            self.start_recovery(name.to_owned(), input);
        }
        !started.is_empty()
    }

    async fn step(&mut self, index: usize) {
        let next = {
            let live = &self.lives[index];
            format!("{}: {}", live.name, live.execution.next_state())
        };
        self.say(&next);
        let live = &mut self.lives[index];
        Box::pin(live.execution.step(&self.simulation.lambdas)).await;
        if !self.lives[index].execution.is_running() {
            self.note_end(index);
        }
    }

    /// An execution has ended: Step Functions knows, EventBridge tells, and its report is the last word.
    fn note_end(&mut self, index: usize) {
        let live = &self.lives[index];
        let execution = &live.execution;
        let status = match &execution.status {
            Status::Succeeded => "SUCCEEDED",
            Status::Failed { .. } => "FAILED",
            Status::TimedOut => "TIMED_OUT",
            Status::Aborted | Status::Running => "ABORTED",
        };
        self.account().set_execution(execution.arn(), status.into());
        self.say(&format!(
            "{} ended as {status}: {}",
            live.name,
            told(execution)
        ));
        let report = match &execution.status {
            Status::Succeeded => {
                let output = execution.output.clone().unwrap_or_default();
                if output["nothingToRecover"].is_string() {
                    None
                } else {
                    serde_json::from_value(output["report"].clone()).ok()
                }
            }
            Status::Failed { cause, .. } => serde_json::from_str::<Report>(cause).ok(),
            _ => None,
        };
        let refused = execution.path.last().is_some_and(|last| last == "Refused");
        if let (Status::Failed { error, cause }, None, false) =
            (&execution.status, &report, refused)
        {
            self.unexplained = Some(format!("{error}: {cause}"));
        }
        if !live.recovers {
            self.refused = refused;
            if status != "SUCCEEDED" {
                for seconds in self.story.told_after.clone() {
                    let at = self.now() + i64::try_from(seconds).unwrap();
                    self.due.push((at, Due::Recovery));
                }
            }
        }
        if report.is_some() && live.of_the_first {
            self.last_word = report;
        }
    }

    /// Whether no lock is held, or a person was told by the ending itself.
    fn is_settled(&self) -> bool {
        let lock = self.account().item(world::LEDGER_TABLE, LOCK);
        let held = lock.is_some_and(|lock| lock.contains_key("execution"));
        let told = |ending: String| ending.contains(&Ending::NeedsAttention.to_string());
        !held || self.attribute("ending").is_some_and(told)
    }

    /// An attribute of the deployment's record, as text.
    fn attribute(&self, name: &str) -> Option<String> {
        let record = format!("deployment#{}", arn("first"));
        let record = self.account().item(world::LEDGER_TABLE, &record)?;
        record.get(name).map(|value| format!("{value:?}"))
    }

    fn count(&mut self, act: &str) {
        *self.acts.entry(act.to_owned()).or_default() += 1;
    }
}

/// The item of the service's lock.
const LOCK: &str = "service#prod/checkout";

fn bare(ending: Ending) -> Report {
    Report::of(&serin::Progress::default(), ending, "")
}

/// How an execution ended, in short.
fn told(execution: &Execution) -> String {
    match &execution.status {
        Status::Failed { error, cause } => {
            let why = serde_json::from_str::<Value>(cause)
                .ok()
                .and_then(|report| report["why"].as_str().map(str::to_owned));
            format!("{error}: {}", short(&why.unwrap_or_else(|| cause.clone())))
        }
        other => format!("{other:?}"),
    }
}

fn short(text: &str) -> String {
    text.chars().take(400).collect()
}

fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(5..19).unwrap_or(&text).replace('T', " ")
}

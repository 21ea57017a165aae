//! Random runs: one seed decides the world, the deployment, the faults and what other people do.
//!
//! After every call the safety rules are checked, at the end that the deployment is over in time, in one of the three endings,
//! and that the ending tells the truth. What somebody else does is not held against Serin, as far as he did it: each act says
//! which rule it touches, for which object; it is excused until it is found mended for the first time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use serin::Report;
use serin::deployment::LATE_SECONDS;
use serin::report::Ending;
use serin_sim::state_machine::{Execution, Status};
use serin_sim::{Account, Call, Snapshot, World, world};

use crate::hands::Route;
use crate::leftovers::is_named;
use crate::simulation::{On, Simulation, arn, request};
use crate::story::{Act, Story};

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
}

/// Measures a story without faults.
pub(crate) async fn measure(story: Story) -> Measured {
    let mut run = Run::new(story, false);
    while run.lives[0].execution.is_running() {
        run.step(0).await;
    }
    Measured {
        calls: run.account().calls(),
        invocations: run.simulation.lambdas.invoked(),
        states: run.lives[0].execution.path.len(),
    }
}

/// Runs a story.
pub(crate) async fn tell(story: Story, seed: u64, traced: bool) -> Outcome {
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
        reaction: observed.reaction,
    }
}

impl Run {
    fn new(story: Story, traced: bool) -> Self {
        let simulation = Simulation::with(story.on, &story.options);
        let account = &simulation.account;
        account.take_the_short_way();
        account.settings(|settings| {
            settings.metric_delay = story.metric_delay;
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
        observe(&simulation, &observed);
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
                if self.is_settled() || idle_sweeps > MOST_SWEEPS {
                    return;
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
            if states == SILENT_FROM && (self.story.silent || self.story.partial) {
                self.say("CloudWatch has nothing more to show, or not everything");
                let Story {
                    silent, partial, ..
                } = self.story;
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
        if let Err(error) = Box::pin(swept).await {
            self.say(&format!("the sweep failed: {}", error.cause));
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

    /// Whether no lock is held, or a person was told.
    fn is_settled(&self) -> bool {
        let lock = self.account().item(world::LEDGER_TABLE, LOCK);
        let held = lock.is_some_and(|lock| lock.contains_key("execution"));
        !held || self.attribute("ending").is_some()
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

    /// What somebody does; it may find that there is nothing to do it to.
    async fn act(&mut self, act: Act) {
        let name = format!("{act:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        if Box::pin(self.do_it(act)).await {
            self.say(&format!("somebody: {act:?}"));
            self.count(&name);
            let percent = self.account().look(World::stable_percent);
            self.observed.lock().unwrap().stable_percent = percent;
        }
    }

    async fn do_it(&mut self, act: Act) -> bool {
        let watch = self.simulation.watch.clone();
        let first_runs = self.lives[0].execution.is_running();
        match act {
            Act::EditRoute => {
                // Rule 5: what is edited is from now on how the route has to stay.
                self.simulation.edit_something_else();
                self.simulation.before = watch.subject().before;
            }
            Act::GiveAllToStable => {
                if self.story.options.other_weight.is_some() || !self.stable_is_whole() {
                    return false;
                }
                // It breaks no rule: stable may have all of what both have.
                self.simulation.give_all_to_stable_by_hand();
                self.weights_edited = true;
            }
            Act::WriteBack => {
                if !self.stable_is_whole() {
                    return false;
                }
                // Rule 3: stable may have no task at this moment; the person did not look.
                watch.excuse("rule 3", self.stable());
                let route = self.route.clone();
                self.simulation.put_route(&route);
                self.simulation.before = self.simulation_edit();
            }
            Act::KillStable => {
                watch.excuse("rule 3", self.stable());
                self.account()
                    .change(|world| world.kill_tasks(world::SERVICE));
            }
            Act::KillCanary => {
                let Some(canary) = self.canary() else {
                    return false;
                };
                watch.excuse("rule 3", "-canary-");
                self.account().change(|world| world.kill_tasks(&canary));
            }
            Act::DeleteCanary => {
                let Some(canary) = self.canary() else {
                    return false;
                };
                watch.excuse("rule 3", "-canary-");
                self.account()
                    .delete_service_by_hand(world::CLUSTER, &canary);
            }
            Act::ScaleStable(tasks) => {
                // Application Auto Scaling would raise fewer to its least number when its target is written next.
                let least = self.story.options.scaling.map_or(0, |(least, _)| least);
                let tasks = tasks.max(least);
                let service = format!("{}/{}", world::CLUSTER, world::SERVICE);
                let services = self.account().snapshot().services;
                // One that is being deleted, after a replacement, is no longer scaled by anybody.
                if services
                    .get(&service)
                    .is_none_or(|shape| shape.status != "Active")
                {
                    return false;
                }
                // Rule 4: the number of tasks is from now on as it has to stay.
                self.account()
                    .scale_by_hand(world::CLUSTER, world::SERVICE, tasks);
                watch.change(|subject| {
                    if let Some(shape) = subject.before.services.get_mut(&service) {
                        shape.desired = tasks;
                    }
                });
                self.simulation.before = watch.subject().before;
            }
            Act::Second => return Box::pin(self.start_a_second()).await,
            Act::Stop if first_runs => {
                self.lives[0].execution.abort();
                self.note_end(0);
            }
            Act::TimeOut if first_runs => {
                self.lives[0].execution.time_out();
                self.note_end(0);
            }
            Act::StopRecovery => {
                let found =
                    (1..self.lives.len()).find(|&live| self.lives[live].execution.is_running());
                let Some(index) = found else {
                    return false;
                };
                self.lives[index].execution.abort();
                self.note_end(index);
            }
            Act::Redrive(seconds) if !first_runs => {
                let at = self.now() + i64::from(seconds);
                self.due.push((at, Due::Redrive));
            }
            Act::Redrive(seconds) => {
                // Kept until there is something to redrive.
                self.story.acts.push((usize::MAX, Act::Redrive(seconds)));
                return false;
            }
            Act::RunAgain(percent) => {
                let all = self.simulation.lambdas.invocations();
                return Box::pin(self.run_again(all.len() * percent / 100)).await;
            }
            Act::RunTwice => {
                let all = self.simulation.lambdas.invocations();
                return Box::pin(self.run_again(all.len().wrapping_sub(1))).await;
            }
            Act::Dawdle(seconds) => self.account().clock().advance(seconds),
            Act::Stop | Act::TimeOut => return false,
        }
        true
    }

    /// The snapshot to which everything has to come back, after Terraform has taken an edit back.
    fn simulation_edit(&self) -> Snapshot {
        let watch = &self.simulation.watch;
        let now = self.account().snapshot();
        watch.change(|subject| {
            for (path, spec) in &mut subject.before.routes {
                if let Some(now) = now.routes.get(path)
                    && path.ends_with(world::ROUTE)
                {
                    spec.clone_from(now);
                }
            }
            for (path, rule) in &mut subject.before.rules {
                if let Some(now) = now.rules.get(path)
                    && [world::RULE, world::DEFAULT_RULE].contains(&path.as_str())
                {
                    rule.clone_from(now);
                }
            }
        });
        watch.subject().before
    }

    async fn run_again(&mut self, index: usize) -> bool {
        let all = self.simulation.lambdas.invocations();
        let Some((function, payload)) = all.get(index) else {
            return false;
        };
        if function == "sweep" {
            return false;
        }
        self.say(&format!(
            "{function} runs again with the input of invocation {index}"
        ));
        let ran = self
            .simulation
            .lambdas
            .call_again(function, payload.clone());
        let ran = Box::pin(ran).await;
        self.say(&format!("it gave {}", short(&format!("{ran:?}"))));
        true
    }

    /// Rule 9: while one deployment has the lock, a second is told so.
    async fn start_a_second(&mut self) -> bool {
        let lock = self.account().item(world::LEDGER_TABLE, LOCK);
        let held = lock.is_some_and(|lock| lock.contains_key("execution"));
        if !held || self.rules > 1000 {
            return false;
        }
        self.rules += 1;
        let name = format!("second-{}", self.rules);
        let mut second = self.simulation.start(&name, request("3.0.0", json!({})));
        while second.is_running() && second.next_state() != "Create the canary" {
            Box::pin(second.step(&self.simulation.lambdas)).await;
        }
        let arn = second.arn().to_owned();
        if second.is_running() {
            // Its first's record may say that it was over when this one looked.
            let over = self
                .attribute("phase")
                .is_none_or(|phase| phase.contains("nded"));
            if !over {
                self.break_rule(
                    "rule 9: a second deployment was planned while the first was not over",
                );
            }
            second.abort();
            self.account().set_execution(&arn, "ABORTED".into());
        } else {
            self.account().set_execution(&arn, "FAILED".into());
        }
        true
    }

    /// Whether stable's service is there and has not been given up.
    fn stable_is_whole(&self) -> bool {
        let promoting = self.simulation.watch.subject().promoting;
        let service = self
            .account()
            .look(|world| world.service(world::CLUSTER, world::SERVICE));
        service.is_some() && !(self.story.replaces && promoting)
    }

    /// How a sentence names stable's side of the traffic.
    fn stable(&self) -> String {
        match self.story.on {
            On::AppMesh => format!("to {},", world::NODE),
            On::Alb => format!("targetgroup/{}", world::TARGET_GROUP),
        }
    }

    fn canary(&self) -> Option<String> {
        let services = self.account().look(|world| world.services(world::CLUSTER));
        services.into_iter().find(|name| name.contains("-canary-"))
    }

    /// The liveness rules.
    async fn check_the_end(&mut self) {
        if self.story.late_echo {
            self.account().clock().advance(3600);
            let all = self.simulation.lambdas.invoked();
            for _ in 0..3 {
                let index = self.story.dice.below(all);
                Box::pin(self.run_again(index)).await;
            }
            self.find_what_is_left().await;
        }
        if let Some(index) = self.story.hour_later {
            self.account().clock().advance(3600);
            Box::pin(self.run_again(index)).await;
            self.find_what_is_left().await;
        }
        let report = self.last_word.clone().or_else(|| self.recorded_ending());
        let Some(report) = report else {
            self.check_nothing_said();
            return;
        };
        self.last_word = Some(report.clone());
        match report.ending {
            Ending::RolledBack => self.check_rolled_back(),
            Ending::Promoted => self.check_promoted(),
            Ending::NeedsAttention => self.check_needs_attention(&report),
        }
        Box::pin(self.check_the_next(report.ending)).await;
    }

    /// What took a lock once more after the end is found, as soon as the sweep may look.
    async fn find_what_is_left(&mut self) {
        self.account().heal();
        for _ in 0..3 {
            self.sweep_when_due().await;
            self.account().clock().advance(300);
        }
        self.finish_all().await;
    }

    async fn finish_all(&mut self) {
        for _ in 0..MOST_STATES {
            self.start_what_is_due();
            let running =
                (0..self.lives.len()).find(|&live| self.lives[live].execution.is_running());
            match running {
                Some(index) => self.step(index).await,
                None if self.due.is_empty() => return,
                None => self.account().clock().advance(60),
            }
        }
        self.break_rule("rule 6: what began after the end does not come to an end");
    }

    /// How the deployment ended as the ledger knows it: the execution may have been stopped right after it had told the ledger.
    fn recorded_ending(&self) -> Option<Report> {
        let text = self.attribute("ending")?;
        let ending = [Ending::Promoted, Ending::RolledBack, Ending::NeedsAttention]
            .into_iter()
            .find(|ending| text.contains(&ending.to_string()))?;
        let record = format!("deployment#{}", arn("first"));
        let record = self.account().item(world::LEDGER_TABLE, &record)?;
        let left = record.get("left").and_then(|left| left.as_s().ok());
        Some(Report {
            left: left.map_or_else(Vec::new, |left| serde_json::from_str(left).unwrap()),
            ..bare(ending)
        })
    }

    /// No execution has told how it ended: it was refused, or all of them broke off.
    fn check_nothing_said(&mut self) {
        let traces = self.traces();
        if self.refused {
            self.last_word = Some(bare(Ending::RolledBack));
        } else if self.unexplained.is_none() && traces.is_empty() && self.is_settled() {
            // Stopped before anything was planned.
            self.last_word = Some(bare(Ending::RolledBack));
            return;
        }
        if self.refused && !traces.is_empty() {
            self.break_rule(format!("rule 7: refused, but {}", traces.join("; ")));
        }
        if !self.refused && self.unexplained.is_none() {
            self.break_rule(format!(
                "rule 6: nobody said how it ended; left: {}",
                traces.join("; ")
            ));
        }
    }

    fn traces(&self) -> Vec<String> {
        let edited = self.weights_edited;
        let scaled = self.story.requests_per_task.is_some();
        let mut before = self.simulation.before.clone();
        let mut after = self.account().snapshot();
        if scaled {
            for snapshot in [&mut before, &mut after] {
                for shape in snapshot.services.values_mut() {
                    shape.desired = 0;
                }
            }
        }
        let traces = before.differences(&after);
        traces
            .into_iter()
            .filter(|trace| {
                !(edited && (trace.starts_with("route ") || trace.starts_with("rule ")))
            })
            .map(|trace| short(&trace))
            .collect()
    }

    fn check_rolled_back(&mut self) {
        let traces = self.traces();
        if !traces.is_empty() {
            self.break_rule(format!("rule 7: rolled back, but {}", traces.join("; ")));
        }
        self.check_stable_has_all();
    }

    fn check_stable_has_all(&mut self) {
        if self.story.options.other_weight.is_none() {
            let percent = self.account().look(World::stable_percent);
            if (percent - 100.0).abs() > 1e-9 {
                self.break_rule(format!("rule 6: stable has {percent} percent at the end"));
            }
        }
    }

    fn check_promoted(&mut self) {
        let traces = self.traces();
        let wrong: Vec<&String> = traces
            .iter()
            .filter(|trace| !self.is_of_a_promotion(trace))
            .collect();
        let wrong: Vec<String> = wrong.into_iter().cloned().collect();
        if !wrong.is_empty() {
            self.break_rule(format!("rule 7: promoted, but {}", wrong.join("; ")));
        }
        if !self.story.replaces {
            self.check_stable_has_all();
        }
        let runs = traces
            .iter()
            .any(|trace| trace.contains("task definition checkout") && trace.ends_with("is new"));
        if !runs {
            self.break_rule(format!(
                "rule 6: promoted, but no new version: {}",
                traces.join("; ")
            ));
        }
    }

    /// Whether a promotion may leave this difference.
    fn is_of_a_promotion(&self, trace: &str) -> bool {
        let definition = trace.starts_with("task definition checkout");
        let service = trace.starts_with(&format!(
            "ECS service {}/{}",
            world::CLUSTER,
            world::SERVICE
        ));
        if !self.story.replaces {
            return definition
                || service && !trace.contains("canary") && !trace.ends_with("is gone");
        }
        let kinds = [
            "virtual node",
            "Cloud Map service",
            "target group",
            "route",
            "rule",
            "listener",
            "lock",
        ];
        definition || service || kinds.iter().any(|kind| trace.starts_with(kind))
    }

    /// Everything that differs is named in the list, with a command.
    fn check_needs_attention(&mut self, report: &Report) {
        if report.left.is_empty() || report.left.iter().any(|left| left.command.is_empty()) {
            self.break_rule("rule 7: it needs attention, but says not for what");
        }
        let list = serde_json::to_string(&report.left).unwrap();
        // A recovery that cannot read the ledger knows nothing but its input; the sweep starts it again.
        if list.contains("all that the recovery had not put back") {
            return;
        }
        let says = |attribute, word| {
            self.attribute(attribute)
                .is_some_and(|value| value.contains(word))
        };
        let promoted = says("phase", "cleaningUp") || says("ending", "promoted");
        let unnamed: Vec<String> = if promoted && self.story.replaces {
            self.former_stable(&list)
        } else {
            let traces = self.traces().into_iter();
            traces
                .filter(|trace| !(promoted && self.is_of_a_promotion(trace)))
                .filter(|trace| !trace.starts_with("lock ") && !is_named(trace, &report.left))
                .collect()
        };
        if !unnamed.is_empty() {
            self.break_rule(format!(
                "rule 7: it needs attention, but its list does not name: {}; the list: {}",
                unnamed.join("; "),
                short(&list)
            ));
        }
    }

    /// What there still is of the version that was replaced and that the list does not name.
    fn former_stable(&self, list: &str) -> Vec<String> {
        let (service, side) = self.account().look(|world| {
            let reached = match self.story.on {
                On::AppMesh => world.nodes().iter().any(|node| node == world::NODE),
                On::Alb => world.target_group(world::TARGET_GROUP).is_some(),
            };
            let service = world.service(world::CLUSTER, world::SERVICE);
            (service.is_some(), reached)
        });
        let path = format!("service/{}/{}", world::CLUSTER, world::SERVICE);
        let named = match self.story.on {
            On::AppMesh => format!("virtualNode/{}", world::NODE),
            On::Alb => format!("targetgroup/{}/", world::TARGET_GROUP),
        };
        [(service, path), (side, named)]
            .into_iter()
            .filter(|(there, name)| *there && !list.contains(name.as_str()))
            .map(|(_, name)| format!("{name} is still there"))
            .collect()
    }

    /// After an end a second deployment can be planned, unless a person must finish the first.
    async fn check_the_next(&mut self, ending: Ending) {
        let account = self.account();
        account.heal();
        let silent = self.story.silent || self.story.partial;
        account.clock().advance(7200); // so that stable is steady
        if ending == Ending::NeedsAttention || silent || self.story.replaces {
            return;
        }
        let mut next = self.simulation.start("next", request("3.0.0", json!({})));
        while next.is_running() && next.next_state() != "Create the canary" {
            Box::pin(next.step(&self.simulation.lambdas)).await;
        }
        if !next.is_running() {
            self.break_rule(format!(
                "rule 6: the next deployment is {}",
                short(&told(&next))
            ));
        }
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

/// Looks at the world after every call, beside the watch.
fn observe(simulation: &Simulation, observed: &Arc<Mutex<Observed>>) {
    let hand = observed.clone();
    let running = simulation.lambdas.running();
    let watch = simulation.watch.clone();
    let record = format!("deployment#{}", arn("first"));
    let mut broken_before = 0;
    simulation.account.on_call(move |world, call| {
        let mut seen = hand.lock().unwrap();
        let now = world.now();
        let percent = world.stable_percent();
        let phase = world
            .item(world::LEDGER_TABLE, &record)
            .and_then(|record| record.get("phase").map(|phase| format!("{phase:?}")))
            .unwrap_or_default();
        if phase.to_lowercase().contains("rollingback") {
            seen.fenced_at.get_or_insert(now);
        }
        let lost = percent < seen.stable_percent - 1e-9;
        let fenced_for = seen.fenced_at.map(|since| now - since);
        if lost && fenced_for.is_some_and(|seconds| seconds > i64::from(LATE_SECONDS)) {
            let sentence = format!(
                "rule 10: {} of {} took traffic from stable {fenced_for:?} s after the fence",
                call.operation,
                running.lock().unwrap()
            );
            seen.broken.push(sentence);
        }
        if let Some(first) = world.first_shown_error() {
            seen.bad_since.get_or_insert(first);
        }
        if seen.reaction.is_none()
            && percent > 100.0 - 1e-9
            && let Some(since) = seen.bad_since
        {
            seen.reaction = Some(now - since);
        }
        let moved = (percent - seen.stable_percent).abs() > 1e-9;
        if let Some(trace) = &mut seen.trace {
            let mut line = format!(
                "{}   {} {} {}",
                time(call.at),
                running.lock().unwrap(),
                call.service,
                call.operation
            );
            if let Some(error) = &call.error {
                let _ = write!(line, " -> {error}");
            }
            if moved {
                let _ = write!(line, " (stable has {percent:.1} percent now)");
            }
            trace.push(line);
            let broken = watch.broken();
            for sentence in &broken[broken_before.min(broken.len())..] {
                trace.push(format!("{}   BROKEN {}", time(call.at), short(sentence)));
            }
            broken_before = broken.len();
        }
        seen.stable_percent = percent;
    });
}

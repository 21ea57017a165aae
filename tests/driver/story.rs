//! What happens in one random run: a world, a deployment, faults, and what other people do.

use std::fmt;

use serde_json::{Value, json};
use serin_sim::{Fault, FaultKind, Which, world};

use crate::dice::Dice;
use crate::refusals::refusals;
use crate::simulation::{On, request};

/// What somebody does, or what happens to an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// A person changes something of the route that is not a weight.
    EditRoute,
    /// A person gives stable all the weight.
    GiveAllToStable,
    /// Terraform writes the route back as it was.
    WriteBack,
    /// All tasks of stable die.
    KillStable,
    /// All tasks of the canary die.
    KillCanary,
    /// A person deletes the canary's service.
    DeleteCanary,
    /// A person sets stable's number of tasks.
    ScaleStable(i32),
    /// A second deployment is started.
    Second,
    /// A person stops the deployment's execution.
    Stop,
    /// The deployment's execution runs into its own time.
    TimeOut,
    /// A person stops a recovery.
    StopRecovery,
    /// A person redrives the deployment's execution once it has ended, after so many seconds.
    Redrive(u32),
    /// A function runs again with an input that it had: so many percent back in the list of all.
    RunAgain(usize),
    /// The last function runs twice.
    RunTwice,
    /// Nothing happens for so many seconds.
    Dawdle(u64),
}

/// The longest delay of CloudWatch, in seconds, that the request's default `dataDelaySeconds` allows for.
const USUAL_DELAY: u64 = 120;

/// What disturbs a run beside the version itself; of several, the one that holds a rollback up for longest, which is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
pub enum Disturbance {
    /// Nothing.
    #[strum(to_string = "nothing")]
    Nothing,
    /// A call fails once, or a function dies.
    #[strum(to_string = "a call that fails once, a function that dies")]
    Once,
    /// Calls of a kind fail for minutes or hours.
    #[strum(to_string = "calls that fail for minutes or hours")]
    Span,
    /// Somebody acts: edits, kills, stops.
    #[strum(to_string = "somebody who edits, kills or stops")]
    Acts,
    /// CloudWatch shows its data later than the request says, not all of them, or none.
    #[strum(to_string = "data later than the request says, or lost")]
    LateData,
    /// A deployment that is to be frozen waits for a person.
    #[strum(to_string = "a freeze, which waits for a person")]
    Freeze,
    /// Calls of a kind are refused for good.
    #[strum(to_string = "calls that are refused for good")]
    ForGood,
}

/// What CloudWatch shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    /// After how many seconds.
    pub(crate) delay: u64,
    /// Whether it falls silent in the middle of the run.
    pub(crate) silent: bool,
    /// Whether it shows only a part from then on.
    pub(crate) partial: bool,
}

/// One random run.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) on: On,
    pub(crate) options: world::Options,
    pub(crate) tag: &'static str,
    pub(crate) input: Value,
    pub(crate) replaces: bool,
    pub(crate) data: Data,
    /// How many requests a second each task is to serve, when stable is scaled by itself.
    pub(crate) requests_per_task: Option<f64>,
    pub(crate) faults: Vec<Fault>,
    /// Each after so many states of all executions together.
    pub(crate) acts: Vec<(usize, Act)>,
    /// What a person answers to a frozen deployment, after so many seconds.
    pub(crate) answers: Vec<(u64, &'static str)>,
    /// After how many seconds the end of the execution is told; never, when the event is lost.
    pub(crate) told_after: Vec<u64>,
    /// Whether some invocations run again an hour after the end.
    pub(crate) late_echo: bool,
    /// The invocation, by its index, that runs a second time at once.
    pub(crate) twice: Option<usize>,
    /// The one that runs again an hour after the end.
    pub(crate) hour_later: Option<usize>,
    /// What decides the rest.
    pub(crate) dice: Dice,
}

/// Versions, each with how many of a hundred runs it is in.
const TAGS: [(&str, usize); 7] = [
    ("2.0.0", 55),
    ("2.0.0-bad", 25),
    ("2.0.0-crash", 5),
    ("2.0.0-never-healthy", 4),
    ("2.0.0-unpullable", 3),
    ("2.0.0-refuses", 4),
    ("2.0.0-hangs", 4),
];

impl Story {
    /// What happens under this seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let on = dice.pick(&[On::AppMesh, On::Alb]);
        let replaces = dice.percent(35);
        let scaling = !replaces && dice.percent(40);
        let options = world::Options {
            scaling: scaling.then_some((2, 10)),
            ..options(on, &mut dice)
        };
        let tag = tag(on, &mut dice);
        let input = input(tag, replaces, &mut dice);
        let mut story = Self {
            on,
            options,
            tag,
            input,
            replaces,
            data: Data {
                delay: dice.pick(&[20, 20, 20, 60, 150]),
                silent: dice.percent(4),
                partial: dice.percent(4),
            },
            requests_per_task: (scaling && dice.percent(50)).then(|| dice.pick(&[60.0, 25.0])),
            faults: Vec::new(),
            acts: Vec::new(),
            answers: Vec::new(),
            told_after: told_after(&mut dice),
            late_echo: dice.percent(30),
            twice: None,
            hour_later: None,
            dice: dice.clone(),
        };
        for _ in 0..dice.pick(&[0, 1, 1, 1, 2, 2, 3, 4]) {
            story.faults.push(fault(on, &mut dice));
        }
        for _ in 0..dice.pick(&[0, 0, 1, 1, 1, 2, 3]) {
            let act = act(&mut dice);
            story.acts.push((1 + dice.below(70), act));
        }
        story.acts.sort_by_key(|(after, _)| *after);
        for _ in 0..dice.below(3) {
            let answer = dice.pick(&["rollBack", "resume", "promote", "what?"]);
            let seconds = dice.pick(&[1, 60, 900, 4000]);
            story.answers.push((seconds, answer));
        }
        story.dice = dice;
        story.has_baseline_sometimes(seed);
        story
    }
}

impl Story {
    /// One deployment in six compares with a baseline, where a step and the rule have room for one. Dice of their own decide, so
    /// that all else is as it would be.
    fn has_baseline_sometimes(&mut self, seed: u64) {
        let steps = self.input["plan"]["steps"].as_array();
        let first = steps.and_then(|steps| steps[0]["weightPercent"].as_i64());
        let sticky = self.options.forward_stickiness.is_some();
        if Dice::new(!seed).percent(30) && first.is_some_and(|first| first < 50) && !sticky {
            self.input["checks"]["judge"] = json!({ "baseline": true });
        }
    }

    /// What disturbs it most.
    pub(crate) fn disturbance(&self) -> Disturbance {
        let faults = self.faults.iter().map(|fault| match fault.which {
            Which::From(_) | Which::Always => Disturbance::ForGood,
            Which::Span { .. } => Disturbance::Span,
            Which::Nth(_) | Which::Next(_) => Disturbance::Once,
        });
        let also = [
            (!self.acts.is_empty(), Disturbance::Acts),
            (
                self.data.delay > USUAL_DELAY || self.data.silent || self.data.partial,
                Disturbance::LateData,
            ),
            (self.input["onUnhealthy"] == "freeze", Disturbance::Freeze),
        ];
        let also = also.into_iter().filter_map(|(is, what)| is.then_some(what));
        faults.chain(also).max().unwrap_or(Disturbance::Nothing)
    }

    /// A deployment without a fault, to which something is added.
    pub(crate) fn plain(on: On, options: world::Options, tag: &'static str, input: Value) -> Self {
        Self {
            on,
            options,
            tag,
            replaces: input["finish"]["mode"] == "replace",
            input,
            data: Data {
                delay: 20,
                silent: false,
                partial: false,
            },
            requests_per_task: None,
            faults: Vec::new(),
            acts: Vec::new(),
            answers: Vec::new(),
            told_after: vec![1],
            late_echo: false,
            twice: None,
            hour_later: None,
            dice: Dice::new(0),
        }
    }
}

fn options(on: On, dice: &mut Dice) -> world::Options {
    let usual = on.options();
    match (on, dice.below(4)) {
        (On::AppMesh, 1) => world::Options {
            stable_weight: 60,
            other_weight: Some(40),
            ..usual
        },
        (On::AppMesh, 2) => world::Options {
            routes: vec![world::RouteKind::Http, world::RouteKind::Grpc],
            ..usual
        },
        (On::Alb, 1) => world::Options {
            forward_stickiness: Some(600),
            stable_weight: 7,
            other_weight: Some(13),
            ..usual
        },
        (On::Alb, 2) => world::Options {
            target_groups: 2,
            ..usual
        },
        _ => usual,
    }
}

fn tag(on: On, dice: &mut Dice) -> &'static str {
    let mut rest = dice.below(100);
    for (tag, share) in TAGS {
        if rest < share {
            // Only a load balancer's tasks can fail to answer at all.
            let answers = !matches!(tag, "2.0.0-refuses" | "2.0.0-hangs");
            return if on == On::Alb || answers {
                tag
            } else {
                "2.0.0-bad"
            };
        }
        rest -= share;
    }
    "2.0.0"
}

fn input(tag: &str, replaces: bool, dice: &mut Dice) -> Value {
    let weights = dice.pick(&[
        &[100][..],
        &[25, 100],
        &[50, 100],
        &[10, 50, 100],
        &[5, 25, 50, 100],
    ]);
    let hold = dice.pick(&[120, 120, 180, 300]);
    let steps: Vec<Value> = weights
        .iter()
        .map(|weight| json!({ "weightPercent": weight, "holdSeconds": hold }))
        .collect();
    let too_little = dice.pick(&["wait", "wait", "rollBack"]);
    let checks = json!({
        "errorRatePercent": { "max": 1.0 }, "settleSeconds": dice.pick(&[0, 30, 60]), "onTooLittleData": too_little,
    });
    let mut more = json!({
        "plan": { "steps": steps },
        "checks": checks,
        "finish": { "mode": if replaces { "replace" } else { "promote" } },
        "deadlineSeconds": dice.pick(&[3600, 7200]),
    });
    match dice.below(4) {
        0 => more["capacity"] = json!("full"),
        1 => more["capacity"] = json!({ "tasks": 2 }),
        _ => {}
    }
    if dice.percent(15) {
        more["onUnhealthy"] = json!("freeze");
        more["freeze"] = json!({
            "holdAt": dice.pick(&["currentStep", "lastHealthyStep"]),
            "forSeconds": dice.pick(&[300, 1800]),
            "then": dice.pick(&["rollBack", "rollBack", "resume", "promote"]),
        });
    }
    request(tag, more)
}

/// The operations on which a fault is put by name; some have to do with one router only.
const OPERATIONS: [&str; 23] = [
    "UpdateService",
    "ECS CreateService",
    "ECS DeleteService",
    "RegisterTaskDefinition",
    "DeregisterTaskDefinition",
    "DescribeServices",
    "UpdateItem",
    "PutItem",
    "GetItem",
    "RegisterScalableTarget",
    "DescribeScalableTargets",
    "GetMetricData",
    "DescribeExecution",
    "UpdateRoute",
    "DescribeRoute",
    "CreateVirtualNode",
    "DeleteVirtualNode",
    "Cloud Map DeleteService",
    "ModifyRule",
    "ModifyListener",
    "DescribeRules",
    "DeleteTargetGroup",
    "DescribeTargetHealth",
];

fn fault(on: On, dice: &mut Dice) -> Fault {
    let operation = if dice.percent(50) {
        "*"
    } else {
        let mesh = on == On::AppMesh;
        let range = if mesh { 0..18 } else { 5..OPERATIONS.len() };
        let all: Vec<&str> = OPERATIONS[range]
            .iter()
            .copied()
            .filter(|name| mesh || !name.contains("Route") && !name.contains("VirtualNode"))
            .collect();
        dice.pick(&all)
    };
    let most = if operation == "*" { 260 } else { 12 };
    let first = 1 + dice.below(most);
    let once = Which::Nth(first);
    let few = |seconds| Which::Span {
        from: first,
        seconds,
    };
    let (which, kind) = match dice.below(14) {
        0 | 1 => (once, FaultKind::AnswerLost),
        2 => (once, FaultKind::DoneThenServerError),
        3 => (once, FaultKind::Throttled),
        4 => (few(600), FaultKind::Throttled),
        5 => (few(dice.pick(&[60, 600])), FaultKind::ServerError),
        6 => (few(dice.pick(&[60, 600, 7200])), FaultKind::Denied),
        7 if operation != "*" => (Which::From(first), FaultKind::Denied),
        7 => (once, FaultKind::Denied),
        8 => (once, FaultKind::AnsweredLate(dice.pick(&[10, 40, 70]))),
        9 => (once, FaultKind::KilledBefore),
        10 => (once, FaultKind::KilledAfter),
        11 => (once, FaultKind::ArrivesLate(dice.pick(&[3, 14]))),
        12 => (few(dice.pick(&[30, 300])), FaultKind::NeverSent),
        _ => {
            let (service, name) = operation.rsplit_once(' ').unwrap_or(("", operation));
            let errors = refusals(service, name);
            if errors.is_empty() {
                (once, FaultKind::ServerError)
            } else {
                let (error, sentence) = dice.pick(errors);
                let which = if dice.percent(70) {
                    once
                } else {
                    Which::From(first)
                };
                (which, FaultKind::Refused(error, sentence))
            }
        }
    };
    Fault {
        operation,
        which,
        kind,
    }
}

fn act(dice: &mut Dice) -> Act {
    match dice.below(20) {
        0 => Act::EditRoute,
        1 => Act::GiveAllToStable,
        2 | 3 => Act::WriteBack,
        4 => Act::KillStable,
        5 => Act::KillCanary,
        6 => Act::DeleteCanary,
        7 => Act::ScaleStable(dice.pick(&[1, 3, 5])),
        8 => Act::Second,
        13 => Act::TimeOut,
        14 => Act::StopRecovery,
        15 => Act::Redrive(dice.pick(&[1, 30, 400, 4000])),
        16 => Act::RunAgain(dice.below(100)),
        17 => Act::RunTwice,
        18 => Act::Dawdle(dice.pick(&[30, 600, 3600])),
        _ => Act::Stop, // 9 to 12 and 19: what happens most
    }
}

fn told_after(dice: &mut Dice) -> Vec<u64> {
    match dice.below(10) {
        0 | 1 => Vec::new(),
        2 => vec![1, 1],
        3 => vec![2, 60],
        4 => vec![200],
        _ => vec![dice.pick(&[0, 1, 5, 20])],
    }
}

impl fmt::Display for Story {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            on,
            tag,
            data:
                Data {
                    delay,
                    silent,
                    partial,
                },
            ..
        } = self;
        writeln!(formatter, "on {on:?}, version {tag}: {}", self.input)?;
        writeln!(
            formatter,
            "metrics after {delay} s, silent {silent}, partial {partial}, scaled {:?} for {:?}; stable's weight {}, others' {:?}",
            self.options.scaling,
            self.requests_per_task,
            self.options.stable_weight,
            self.options.other_weight
        )?;
        for fault in &self.faults {
            writeln!(formatter, "fault: {fault:?}")?;
        }
        for (after, act) in &self.acts {
            writeln!(formatter, "act after {after} states: {act:?}")?;
        }
        writeln!(
            formatter,
            "answers {:?}; the end is told after {:?} s",
            self.answers, self.told_after
        )
    }
}

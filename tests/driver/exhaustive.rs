//! A fault on every single call, invocation and state of whole deployments, one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::json;
use serin_sim::{Call, Fault, FaultKind, Which, world};

use crate::chance::{self, Outcome};
use crate::refusals::refusals;
use crate::simulation::{On, request};
use crate::story::{Act, Story};

/// What the deployment would do without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planned {
    /// A good version is promoted.
    Promoted,
    /// A good version takes stable's place.
    Replaced,
    /// A bad version is rolled back.
    RolledBack,
    /// A good version is compared with a fresh copy of stable, and takes stable's place.
    ReplacedBesideBaseline,
    /// A bad version is, and is rolled back.
    RolledBackBesideBaseline,
}

/// All of them.
pub const PLANNED: [Planned; 5] = [
    Planned::Promoted,
    Planned::Replaced,
    Planned::RolledBack,
    Planned::ReplacedBesideBaseline,
    Planned::RolledBackBesideBaseline,
];

/// The kinds of fault that happen once and pass: they must not change how a deployment ends.
pub const PASSING: [&str; 7] = [
    "answered after the time-out",
    "dies after the call",
    "dies before the call",
    "done, answer lost",
    "runs again an hour later",
    "runs twice",
    "throttled once",
];

/// One run of the set.
#[derive(Debug, Clone)]
pub struct Case {
    /// The router.
    pub on: On,
    /// What would happen without the fault.
    pub planned: Planned,
    /// The kind of fault, for the table.
    pub kind: &'static str,
    /// Where it strikes, in words.
    pub place: String,
    story: Story,
}

impl Case {
    /// Runs it, with its trace in words when that is wanted.
    pub async fn run(&self, traced: bool) -> Outcome {
        chance::tell(self.story.clone(), 0, traced).await
    }
}

/// What a deployment without a fault costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// How many calls of AWS's API the functions make.
    pub calls: usize,
    /// How often a function is invoked.
    pub invocations: usize,
    /// How many states the execution enters, which is what Step Functions charges for.
    pub transitions: usize,
    /// How long it takes.
    pub seconds: i64,
}

/// What the deployments of the set cost when nothing fails.
pub async fn cost(on: On, planned: Planned) -> Cost {
    let measured = chance::measure(story(on, planned)).await;
    Cost {
        calls: measured.calls.len(),
        invocations: measured.invocations,
        transitions: measured.states,
        seconds: measured.seconds,
    }
}

fn story(on: On, planned: Planned) -> Story {
    let (tag, mode) = match planned {
        Planned::Promoted => ("2.0.0", "promote"),
        Planned::Replaced | Planned::ReplacedBesideBaseline => ("2.0.0", "replace"),
        Planned::RolledBack | Planned::RolledBackBesideBaseline => ("2.0.0-bad", "promote"),
    };
    let has_baseline = matches!(
        planned,
        Planned::ReplacedBesideBaseline | Planned::RolledBackBesideBaseline
    );
    let options = world::Options {
        scaling: (mode != "replace").then_some((2, 10)),
        ..on.options()
    };
    let more = json!({
        "plan": { "steps": [{ "weightPercent": 25, "holdSeconds": 60 }, { "weightPercent": 100, "holdSeconds": 60 }] },
        "checks": { "errorRatePercent": { "max": 1.0 }, "settleSeconds": 0, "judge": { "baseline": has_baseline } },
        "finish": { "mode": mode },
    });
    Story::plain(on, options, tag, request(tag, more))
}

/// Every case of one router and one ending.
pub async fn cases(on: On, planned: Planned) -> Vec<Case> {
    let plain = story(on, planned);
    let measured = chance::measure(plain.clone()).await;
    let mut cases = Vec::new();
    let mut add = |kind, place: String, change: &dyn Fn(&mut Story)| {
        let mut story = plain.clone();
        change(&mut story);
        cases.push(Case {
            on,
            planned,
            kind,
            place,
            story,
        });
    };
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (index, call) in measured.calls.iter().enumerate() {
        let number = index + 1;
        let operation = full_name(call);
        let nth = seen.entry(operation).or_default();
        *nth += 1;
        let nth = *nth;
        let place = format!("call {number}, {operation}");
        for (name, fault) in faults_on(call, number, operation, nth) {
            add(name, place.clone(), &|story| {
                story.faults.push(fault.clone());
            });
        }
    }
    for index in 0..measured.invocations {
        let place = format!("invocation {}", index + 1);
        add("runs twice", place.clone(), &|story| {
            story.twice = Some(index);
        });
        add("runs again an hour later", place, &|story| {
            story.hour_later = Some(index);
        });
    }
    for state in 1..=measured.states {
        let place = format!("state {state}");
        add("execution stopped", place.clone(), &|story| {
            story.acts.push((state, Act::Stop));
        });
        add("execution timed out", place, &|story| {
            story.acts.push((state, Act::TimeOut));
        });
    }
    cases
}

/// Every fault that may strike one call, which is the one of this number, and the `nth` of its operation.
fn faults_on(
    call: &Call,
    number: usize,
    operation: &'static str,
    nth: usize,
) -> Vec<(&'static str, Fault)> {
    let this = |kind| Fault {
        operation: "*",
        which: Which::Nth(number),
        kind,
    };
    let from_this_on = |which, kind| Fault {
        operation,
        which,
        kind,
    };
    let ten_minutes = Which::Span {
        from: nth,
        seconds: 600,
    };
    let refused = refusals(&call.service.to_string(), call.operation);
    let mut faults: Vec<_> = refused
        .iter()
        .map(|(error, sentence)| ("refused", this(FaultKind::Refused(error, sentence))))
        .collect();
    faults.extend([
        ("throttled once", this(FaultKind::Throttled)),
        (
            "throttled for ten minutes",
            from_this_on(ten_minutes, FaultKind::Throttled),
        ),
        ("done, answer lost", this(FaultKind::AnswerLost)),
        (
            "answered after the time-out",
            this(FaultKind::AnsweredLate(70)),
        ),
        (
            "denied for good",
            from_this_on(Which::From(nth), FaultKind::Denied),
        ),
        ("dies before the call", this(FaultKind::KilledBefore)),
        ("dies after the call", this(FaultKind::KilledAfter)),
    ]);
    faults
}

/// The operation with its service, as a fault names it.
fn full_name(call: &Call) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let name = format!("{} {}", call.service, call.operation);
    let mut names = NAMES.lock().unwrap();
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str()); // as many as there are operations
    names.insert(name);
    name
}

//! A fault on every single call of a whole deployment, one by one.
//!
//! The tests strike some of the calls, and all of them when the environment has `SERIN_EVERY_CALL`, which takes most of an hour.

use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::{Value, json};
use serin_sim::state_machine::Status;
use serin_sim::{Fault, FaultKind, Which, world};

use super::{On, Simulation, request};

/// What the deployment would do without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Promoted,
    Replaced,
    RolledBack,
}

impl Ending {
    fn request(self) -> Value {
        let (tag, mode) = match self {
            Self::Promoted => ("2.0.0", "promote"),
            Self::Replaced => ("2.0.0", "replace"),
            Self::RolledBack => ("2.0.0-bad", "promote"),
        };
        let plan = json!({ "steps": [{ "weightPercent": 25, "holdSeconds": 60 }, { "weightPercent": 100, "holdSeconds": 60 }] });
        let checks = json!({ "errorRatePercent": { "max": 1.0 }, "settleSeconds": 0 });
        request(
            tag,
            json!({ "plan": plan, "checks": checks, "finish": { "mode": mode } }),
        )
    }
}

const KINDS: [FaultKind; 4] = [
    FaultKind::AnswerLost,
    FaultKind::Throttled,
    FaultKind::KilledBefore,
    FaultKind::KilledAfter,
];

/// Runs the deployment with a fault on the call of this number; says what is wrong afterwards.
async fn run(
    on: On,
    options: &world::Options,
    ending: Ending,
    fault: Option<(usize, FaultKind)>,
) -> (Simulation, Vec<String>) {
    let scaling = (ending != Ending::Replaced).then_some((2, 10));
    let options = world::Options {
        scaling,
        ..options.clone()
    };
    let simulation = Simulation::with(on, &options);
    if let Some((number, kind)) = fault {
        simulation.account.inject(Fault {
            operation: "*",
            which: Which::Nth(number),
            kind,
        });
    }
    let deployed = simulation.deploy(ending.request()).await;
    let mut wrong = Vec::new();
    match &deployed.execution.status {
        Status::Succeeded if ending != Ending::RolledBack => {}
        Status::Failed { error, .. }
            if ending == Ending::RolledBack && error == "CanaryRolledBack" =>
        {
            wrong.extend(simulation.traces());
        }
        other => wrong.push(format!("it ended as {other:?}")),
    }
    wrong.extend(simulation.watch.broken());
    let lost = simulation.lost_requests();
    if lost > 0.0 {
        wrong.push(format!("{lost} requests were lost"));
    }
    drop(deployed);
    (simulation, wrong)
}

/// The names of all that there is, and where the traffic goes.
fn inventory(simulation: &Simulation) -> BTreeMap<&'static str, Vec<String>> {
    simulation.account.look(|world| {
        let rules = world.rule_paths().into_iter();
        let rules = rules.map(|path| format!("{path}: {:?}", world.rule_weights(&path)));
        let snapshot = world.snapshot();
        let routes = snapshot.routes.iter();
        let targets = snapshot.scalable_targets.iter();
        let services = snapshot.services.iter();
        [
            ("rules", rules.collect()),
            ("routes", routes.map(|route| format!("{route:?}")).collect()),
            (
                "services",
                services
                    .map(|(name, shape)| {
                        format!(
                            "{name} {} {} {}",
                            shape.status, shape.task_definition, shape.desired
                        )
                    })
                    .collect(),
            ),
            ("task definitions", snapshot.task_definitions),
            ("virtual nodes", world.nodes()),
            ("Cloud Map services", world.registries()),
            ("target groups", world.target_groups()),
            (
                "scalable targets",
                targets.map(|target| format!("{target:?}")).collect(),
            ),
            ("locks", snapshot.locks.into_keys().collect()),
        ]
        .into()
    })
}

/// The variable that makes the tests strike every call.
const EVERY_CALL: &str = "SERIN_EVERY_CALL";

/// Strikes one call of `sampled`, each with another kind of fault in its turn, or every call with every kind.
async fn strike(on: On, options: &world::Options, ending: Ending, sampled: usize) {
    let every = if std::env::var_os(EVERY_CALL).is_some() {
        1
    } else {
        sampled
    };
    let (simulation, wrong) = run(on, options, ending, None).await;
    assert_eq!(wrong, Vec::<String>::new(), "without a fault");
    let expected = inventory(&simulation);
    let calls = simulation.account.calls();
    let mut failed = Vec::new();
    for (place, kind) in KINDS.iter().enumerate() {
        for number in (1 + place % every..=calls.len()).step_by(every) {
            let (struck, mut wrong) = run(on, options, ending, Some((number, kind.clone()))).await;
            let found = inventory(&struck);
            wrong.extend(
                expected
                    .iter()
                    .filter(|(what, is)| found[*what] != **is)
                    .map(|(what, is)| format!("{what}: {is:?} became {:?}", found[what])),
            );
            if let Some(first) = wrong.first() {
                let call = &calls[number - 1];
                let first = first.chars().take(1500).collect::<String>();
                failed.push(format!(
                    "call {number}, {} {}, {kind:?}: {} wrong: {first}",
                    call.service,
                    call.operation,
                    wrong.len()
                ));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} calls:\n{}",
        failed.len(),
        calls.len(),
        failed.join("\n")
    );
}

#[rstest]
#[tokio::test]
async fn a_fault_on_one_of_the_calls_changes_nothing(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(Ending::Promoted, Ending::Replaced, Ending::RolledBack)] ending: Ending,
) {
    strike(on, &on.options(), ending, 41).await;
}

/// A service with two target groups, whose rules bind their clients and lead to another service as well.
fn wide() -> world::Options {
    world::Options {
        target_groups: 2,
        forward_stickiness: Some(600),
        stable_weight: 7,
        other_weight: Some(13),
        ..world::Options::alb()
    }
}

#[rstest]
#[tokio::test]
async fn a_fault_on_one_of_the_calls_for_two_sticky_target_groups_changes_nothing(
    #[values(Ending::Promoted, Ending::Replaced, Ending::RolledBack)] ending: Ending,
) {
    strike(On::Alb, &wide(), ending, 97).await;
}

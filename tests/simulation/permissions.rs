//! What the functions do, over simulated deployments of every kind, is what their roles allow, and nothing less.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use serin_driver::permissions::granted_actions;
use serin_driver::project::{NOTIFY, functions};
use serin_sim::state_machine::Functions;
use serin_sim::world::Options;
use serin_sim::{AlarmStateValue, Fault, FaultKind, Which, World, world};

use super::{On, Simulation, arn, request};

/// What AWS wants to be allowed beside a call, and the calls that need it.
const BESIDE: [(&str, &[&str]); 7] = [
    // What is created carries tags.
    (
        "ecs:TagResource",
        &["ecs:CreateService", "ecs:RegisterTaskDefinition"],
    ),
    ("appmesh:TagResource", &["appmesh:CreateVirtualNode"]),
    (
        "servicediscovery:TagResource",
        &["servicediscovery:CreateService"],
    ),
    (
        "elasticloadbalancing:AddTags",
        &["elasticloadbalancing:CreateTargetGroup"],
    ),
    // The tasks run in their own roles. The other updates of a service name no task definition.
    ("iam:PassRole", &["ecs:RegisterTaskDefinition"]),
    // A rule may let Amazon Cognito authenticate, and is written whole.
    (
        "cognito-idp:DescribeUserPoolClient",
        &[
            "elasticloadbalancing:ModifyRule",
            "elasticloadbalancing:ModifyListener",
        ],
    ),
    // Application Auto Scaling asks whether its caller might scale the service itself.
    (
        "ecs:UpdateService",
        &["application-autoscaling:RegisterScalableTarget"],
    ),
];

type Used = BTreeMap<String, BTreeSet<String>>;

/// A world, an image, what the request says, and what is done half-way.
struct Run {
    on: On,
    options: Options,
    tag: &'static str,
    more: Value,
    half_way: HalfWay,
}

/// What happens while the canary has some of the traffic.
enum HalfWay {
    Nothing,
    /// A newer deployment has it rolled back.
    Superseded,
    /// Another deployment of the service is asked for.
    Second,
    /// The canary's tasks die.
    TasksDie,
    /// The execution is stopped: the rule's event is lost, and the sweep finds it.
    Stopped,
    /// Before that: it dies when it has the lock and no plan, and the sweep gives the lock back.
    DiesEarly,
    /// A person looks at its page, resumes it when it asks, and rolls it back, twice: the first time something is left.
    Decided,
    /// The clean-up may not delete a service, once the traffic is where it stays.
    CleanUpBreaks,
}

async fn used_by(run: Run) -> Used {
    let simulation = Simulation::with(run.on, &run.options);
    let quiet = AlarmStateValue::Ok;
    simulation.account.set_alarm("errors", quiet, "quiet");
    simulation
        .account
        .settings(|settings| settings.unchecked_instances_are_named = false);
    let mut execution = simulation.start("first", request(run.tag, run.more));
    if matches!(run.half_way, HalfWay::DiesEarly) {
        simulation.account.inject(Fault {
            operation: "ECS DescribeServices",
            which: Which::Always,
            kind: FaultKind::KilledBefore,
        });
        simulation
            .run_until(&mut execution, "Roll back to stable")
            .await;
        simulation.abort(&mut execution, "first");
        simulation.account.clock().advance(3600);
        assert_eq!(simulation.account.snapshot().locks.len(), 1);
        assert!(simulation.sweep().await.is_empty());
        assert_eq!(simulation.account.snapshot().locks.len(), 0);
        return simulation.lambdas.used();
    }
    while execution.is_running() && simulation.account.look(World::stable_percent) > 99.9 {
        simulation.step(&mut execution).await;
    }
    match run.half_way {
        HalfWay::Nothing | HalfWay::DiesEarly => {}
        HalfWay::Second => {
            let second = simulation.start("second", request("3.0.0", json!({})));
            simulation.finish(second).await;
        }
        HalfWay::Superseded => {
            let newer = request("3.0.0", json!({ "onConflict": "supersede" }));
            simulation.account.clock().advance(1);
            let second = simulation.start("second", newer);
            drop(simulation.finish_all(vec![execution, second]).await);
            return simulation.lambdas.used();
        }
        HalfWay::TasksDie => {
            // Before a shift and before a check; others start in their place, but not at once.
            simulation
                .account
                .settings(|settings| settings.start_seconds = 30);
            let services = simulation
                .account
                .look(|world| world.services(world::CLUSTER));
            let canary = services.iter().find(|name| name.contains("-canary-"));
            let canary = canary.unwrap().clone();
            for state in [
                "Shift traffic to the next weight",
                "Check the canary's health",
            ] {
                simulation.run_until(&mut execution, state).await;
                simulation.account.change(|world| world.kill_tasks(&canary));
                simulation.step(&mut execution).await;
            }
        }
        HalfWay::Stopped => {
            simulation.abort(&mut execution, "first");
            let recovered = simulation.sweep().await;
            assert_eq!(recovered.len(), 1);
            return simulation.lambdas.used();
        }
        HalfWay::Decided => {
            let lambdas = &simulation.lambdas;
            for input in [json!({}), json!({ "execution": arn("first") })] {
                let page = Box::pin(Functions::call(lambdas, "status", input)).await;
                assert!(page.is_ok(), "{page:?}");
            }
            simulation.hand_on_question("first").await;
            simulation.decide("first", "resume").await;
            simulation.decide("first", "rollBack").await;
            simulation.abort(&mut execution, "first");
            simulation.account.inject(Fault {
                operation: run.on.delete(),
                which: Which::Always,
                kind: FaultKind::Denied,
            });
            drop(simulation.recover("first").await);
            simulation.account.heal();
            simulation.decide("first", "rollBack").await;
            assert_eq!(simulation.account.take_started().len(), 1);
            return simulation.lambdas.used();
        }
        HalfWay::CleanUpBreaks => {
            simulation.account.inject(Fault {
                operation: "DeleteService",
                which: Which::Nth(1),
                kind: FaultKind::Denied,
            });
        }
    }
    let deployed = simulation.finish(execution).await;
    drop(deployed);
    simulation.lambdas.assert_allowed();
    simulation.lambdas.used()
}

/// Few runs in which every call of every function is made at least once.
fn runs() -> Vec<Run> {
    let run = |on: On, tag, more, half_way| Run {
        on,
        options: Options {
            scaling: Some((2, 10)),
            ..on.options()
        },
        tag,
        more,
        half_way,
    };
    let replace = || json!({ "finish": { "mode": "replace" } });
    let alarms = json!({ "checks": { "errorRatePercent": { "max": 1.0 }, "alarms": ["errors"] } });
    let not_scaled = |mut run: Run| {
        run.options.scaling = None; // ECS would scale what has the name, which `replace` removes
        run
    };
    let mut runs = vec![
        run(On::AppMesh, "2.0.0-crash", json!({}), HalfWay::Nothing),
        run(On::AppMesh, "2.0.0", json!({}), HalfWay::TasksDie),
        run(On::AppMesh, "2.0.0", json!({}), HalfWay::DiesEarly),
        run(On::Alb, "2.0.0", json!({}), HalfWay::Decided),
        run(On::Alb, "2.0.0", json!({}), HalfWay::Superseded),
    ];
    for on in [On::AppMesh, On::Alb] {
        runs.extend([
            run(on, "2.0.0", alarms.clone(), HalfWay::Second),
            run(on, "2.0.0-bad", json!({}), HalfWay::Nothing),
            run(on, "2.0.0", json!({}), HalfWay::Stopped),
            not_scaled(run(on, "2.0.0", replace(), HalfWay::CleanUpBreaks)),
            not_scaled(run(on, "2.0.0", replace(), HalfWay::Nothing)),
        ]);
    }
    runs.extend(["2.0.0", "2.0.0-bad"].map(|tag| {
        let mut unchecked = run(On::AppMesh, tag, json!({}), HalfWay::Nothing);
        unchecked.options.registry_checks = false;
        unchecked
    }));
    runs
}

/// What the calls of a function need beside themselves.
fn beside(used: &BTreeSet<String>) -> BTreeSet<String> {
    let needed = BESIDE
        .iter()
        .filter(|(_, calls)| calls.iter().any(|call| used.contains(*call)));
    needed.map(|(action, _)| (*action).to_owned()).collect()
}

#[tokio::test]
async fn every_function_uses_all_that_its_role_allows_and_nothing_else() {
    let mut used = Used::new();
    for run in runs() {
        for (function, actions) in used_by(run).await {
            used.entry(function).or_default().extend(actions);
        }
    }
    let mut wrong = Vec::new();
    // Notices are told where there are channels, in the tests of that function.
    for function in functions().filter(|function| function.name != NOTIFY.name) {
        let name = function.name;
        let mut needed = used.get(name).cloned().unwrap_or_default();
        needed.extend(beside(&needed));
        let granted = granted_actions(function);
        let missing = needed.difference(&granted);
        wrong.extend(missing.map(|action| format!("{name} needs {action} and may not")));
        let idle = granted.difference(&needed);
        wrong.extend(idle.map(|action| format!("{name} may {action} and never does")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

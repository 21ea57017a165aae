//! A deployment that is rolled back leaves nothing, whatever the world looks like.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use serin_sim::world::{Options, RouteKind, Routers};

use super::{On, Simulation, request};

/// Worlds behind a load balancer, and images that are rolled back there.
fn worlds() -> impl Strategy<Value = (Options, &'static str, f64)> {
    let rules = (1_usize..=3, 1_usize..=2, any::<bool>());
    // Small ones can be divided more often.
    let weight = || prop_oneof![3 => 1..=20_i32, 1 => 1..=999_i32];
    let weights = (
        weight(),
        prop::option::of(prop_oneof![1 => Just(0), 4 => weight()]),
    );
    let sticky = prop::option::of(1..=604_800_i32);
    let kind = (
        any::<bool>(),
        any::<bool>(),
        prop::option::of((1..=4_i32, 4..=12_i32)),
    );
    let delay = prop::sample::select(vec!["0", "5", "30", "120"]);
    let tag = prop::sample::select(vec![
        "2.0.0-bad",
        "2.0.0-crash",
        "2.0.0-hangs",
        "2.0.0-never-healthy",
    ]);
    let tasks = (
        1..=6_i32,
        prop::sample::select(vec![5.0, 12.5, 50.0, 100.0]),
    );
    (rules, weights, sticky, kind, delay, tag, tasks).prop_map(
        |(
            (routes, target_groups, default_forwards),
            (stable_weight, other_weight),
            forward_stickiness,
            (authenticate, mesh, scaling),
            delay,
            tag,
            (tasks, percent),
        )| {
            // A route of the mesh has 100 at most, for all its targets.
            let fit = |weight: i32| if mesh { weight.min(50) } else { weight };
            let (stable_weight, other_weight) = (fit(stable_weight), other_weight.map(fit));
            let options = Options {
                routers: if mesh {
                    Routers::Both
                } else {
                    Routers::LoadBalancer
                },
                registry: mesh,
                routes: vec![RouteKind::Http; routes],
                stable_weight,
                other_weight,
                target_groups,
                default_forwards,
                forward_stickiness,
                authenticate,
                scaling,
                tasks,
                group_attributes: vec![
                    ("deregistration_delay.timeout_seconds", delay),
                    (
                        "load_balancing.algorithm.type",
                        "least_outstanding_requests",
                    ),
                ],
                ..Options::alb()
            };
            (options, tag, percent)
        },
    )
}

#[test]
fn nothing_is_left_of_a_rolled_back_deployment_in_any_world_behind_a_load_balancer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let config = Config {
        cases: 16,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |(options, tag, percent): (Options, &'static str, f64)| {
        let simulation = Simulation::with(On::Alb, &options);
        let mut plan = json!({ "steps": [{ "weightPercent": percent, "holdSeconds": 120 }] });
        if percent < 100.0 {
            plan["maxWeightPercent"] = json!(percent);
        }
        let more = json!({ "router": { "kind": "alb" }, "plan": plan, "readyWithinSeconds": 300 });
        let deployed = runtime.block_on(simulation.deploy(request(tag, more)));
        if let serin_sim::state_machine::Status::Failed { error, .. } = &deployed.execution.status
            && error == "WeightNotExpressible"
        {
            prop_assert!(options.other_weight.is_some_and(|weight| weight > 0));
            prop_assert_eq!(simulation.traces(), Vec::<String>::new());
            return Ok(());
        }
        deployed.assert_rolled_back("").assert_no_request_was_lost();
        Ok(())
    };
    TestRunner::new(config).run(&worlds(), run).unwrap();
}

//! What only a load balancer has.

use rstest::rstest;
use serde_json::{Value, json};
use serin::{Outcome, Report};
use serin_sim::world::{Options, Routers};
use serin_sim::{AlarmStateValue, World, world};

use super::{On, Simulation, request};

/// The weights of a rule, the canary's under the name `canary`.
fn weights(world: &World, path: &str) -> Vec<(String, i32)> {
    let weights = world.rule_weights(path).into_iter();
    let mut weights: Vec<_> = weights
        .map(|(name, weight)| {
            let name = if name.contains("-canary-") {
                name.replace(name.split("-canary-").nth(1).unwrap(), "")
            } else {
                name
            };
            (name, weight)
        })
        .collect();
    weights.sort();
    weights
}

/// The share of the canary's target groups in a rule, in percent of all its weights.
fn canary_percent(world: &World, path: &str) -> f64 {
    let weights = world.rule_weights(path);
    let canary: i32 = weights
        .iter()
        .filter(|(name, _)| name.contains("-canary-"))
        .map(|(_, weight)| weight)
        .sum();
    f64::from(canary) * 100.0 / f64::from(weights.values().sum::<i32>())
}

fn finding<'a>(report: &'a Report, name: &str) -> &'a serin::Finding {
    let verdict = report.verdict.as_ref().expect("it was judged");
    let found = verdict.findings.iter().find(|finding| finding.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:#?}", verdict.findings))
}

/// Checks that the image is refused in this world, before anything is created.
async fn assert_refused(options: &Options, more: Value, error: &str, sentences: &[&str]) {
    let simulation = Simulation::with(On::Alb, options);
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    for sentence in sentences {
        deployed.assert_refused(error, sentence);
    }
    assert_eq!(simulation.traces(), Vec::<String>::new());
}

#[tokio::test]
async fn two_target_groups_are_shifted_together_and_restored() {
    let options = Options {
        target_groups: 2,
        ..Options::alb()
    };
    let simulation = Simulation::with(On::Alb, &options);
    let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
    simulation
        .run_until(&mut execution, "Has the traffic shifted?")
        .await;
    simulation.account.look(|world| {
        assert_eq!(
            weights(world, world::RULE),
            [
                ("checkout-tg".into(), 900),
                ("checkout-tg-1-canary-".into(), 100)
            ]
        );
        assert_eq!(
            weights(world, world::RULE_2),
            [
                ("checkout-tg-2".into(), 900),
                ("checkout-tg-2-2-canary-".into(), 100)
            ]
        );
    });
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("percent")
        .assert_no_request_was_lost();
    for mode in ["promote", "replace"] {
        let simulation = Simulation::with(On::Alb, &options);
        let finish = json!({ "finish": { "mode": mode } });
        simulation
            .deploy(request("2.0.0", finish))
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
        assert_eq!(simulation.account.look(World::target_groups).len(), 2);
    }
}

#[tokio::test]
async fn another_services_target_group_keeps_its_share_at_every_step_and_is_restored() {
    let options = Options {
        stable_weight: 7,
        other_weight: Some(13),
        ..Options::alb()
    };
    let plan = json!({ "plan": { "steps": [{ "weightPercent": 10, "holdSeconds": 120 }, { "weightPercent": 37.5, "holdSeconds": 120 },
                                           { "weightPercent": 100, "holdSeconds": 120 }] } });
    for tag in ["2.0.0", "2.0.0-bad"] {
        let simulation = Simulation::with(On::Alb, &options);
        let mut execution = simulation.start("first", request(tag, plan.clone()));
        let mut shares = Vec::new();
        while execution.is_running() {
            simulation.step(&mut execution).await;
            simulation.account.look(|world| {
                for path in [world::RULE, world::DEFAULT_RULE] {
                    let other = world.rule_percent(path, world::OTHER_TARGET_GROUP);
                    assert!((other - 65.0).abs() < 0.01, "{other} percent in {path}");
                }
                shares.push(canary_percent(world, world::RULE) / 0.35);
            });
        }
        let deployed = simulation.finish(execution).await;
        deployed.assert_no_request_was_lost();
        if tag == "2.0.0" {
            deployed.assert_promoted();
            for step in [10.0, 37.5, 100.0] {
                assert!(
                    shares.iter().any(|share| (share - step).abs() < 0.03),
                    "{step}: {shares:?}"
                );
            }
        } else {
            deployed.assert_rolled_back("percent");
        }
        simulation.account.look(|world| {
            assert_eq!(
                weights(world, world::RULE),
                [("checkout-tg".into(), 7), ("other-tg".into(), 13)]
            );
        });
    }
}

#[tokio::test]
async fn a_weight_that_cannot_be_expressed_is_refused_with_the_nearest() {
    let plan = json!({ "plan": { "steps": [{ "weightPercent": 0.1, "holdSeconds": 120 }, { "weightPercent": 100, "holdSeconds": 120 }] } });
    let options = Options {
        stable_weight: 1,
        other_weight: Some(3),
        ..Options::alb()
    };
    let sentences = [
        "cannot express 0.1 percent",
        "the nearest that it can is 0.3",
    ];
    assert_refused(&options, plan, "WeightNotExpressible", &sentences).await;
}

#[tokio::test]
async fn a_sticky_rule_is_told_in_the_plan_and_in_every_verdict_and_drains_what_is_taken_out() {
    let options = Options {
        forward_stickiness: Some(3600),
        group_attributes: vec![("deregistration_delay.timeout_seconds", "90")],
        ..Options::alb()
    };
    let simulation = Simulation::with(On::Alb, &options);
    let mut execution = simulation.start(
        "first",
        request("2.0.0-bad", json!({ "checks": { "judge": null } })),
    );
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    let notes = execution.data()["deployment"]["notes"].to_string();
    assert!(
        notes.contains("a client keeps to the target group that it met first for 3600 seconds"),
        "{notes}"
    );
    simulation
        .run_until(&mut execution, "Roll back to stable")
        .await;
    simulation.step(&mut execution).await;
    let settled_at = simulation.account.look(World::now);
    simulation.account.look(|world| {
        assert_eq!(weights(world, world::RULE), [("checkout-tg".into(), 1)]);
    });
    let canary = simulation
        .account
        .look(|world| world.services(world::CLUSTER));
    let canary = canary
        .into_iter()
        .find(|name| name.contains("-canary-"))
        .unwrap();
    while simulation.account.look(|world| {
        world
            .service(world::CLUSTER, &canary)
            .unwrap()
            .desired_count
    }) > 0
    {
        simulation.step(&mut execution).await;
    }
    let drained = simulation.account.look(World::now) - settled_at;
    assert!(drained >= 90, "the tasks got {drained} seconds");
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("percent")
        .assert_no_request_was_lost();
    let report = deployed.report();
    let share = finding(&report, "sharePercent");
    // Half of the clients are bound to stable.
    assert!((4.0..6.0).contains(&share.value.unwrap()), "{share:?}");
    assert_eq!(share.outcome, Outcome::Healthy);
    let simulation = Simulation::with(On::Alb, &options);
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[tokio::test]
async fn a_network_load_balancer_is_shifted_with_limits_of_ones_own() {
    let checks = json!({ "checks": { "errorRatePercent": null, "alarms": ["checkout-errors"] } });
    let queries = json!({ "checks": { "errorRatePercent": null, "queries": [{
        "name": "errors", "max": 5,
        "metricDataQueries": [{ "Id": "errors", "MetricStat": { "Period": 60, "Stat": "Sum",
            "Metric": { "Namespace": "shop", "MetricName": "errors", "Dimensions": [{ "Name": "Cluster", "Value": "{{clusterName}}" }] } } }],
    }] } });
    for more in [checks, queries] {
        let simulation = Simulation::with(On::Alb, &Options::nlb());
        simulation
            .account
            .set_alarm("checkout-errors", AlarmStateValue::Ok, "quiet");
        let now = simulation.account.look(World::now);
        for minute in -20..120 {
            simulation.account.put_metric_at(
                "shop",
                "errors",
                &[("Cluster", "prod")],
                1.0,
                now + minute * 60,
            );
        }
        let mut execution = simulation.start("first", request("2.0.0", more));
        simulation
            .run_until(&mut execution, "Create the canary")
            .await;
        let notes = execution.data()["deployment"]["notes"].to_string();
        assert!(notes.contains("divides new flows"), "{notes}");
        simulation
            .finish(execution)
            .await
            .assert_promoted()
            .assert_no_request_was_lost();
    }
}

#[tokio::test]
async fn a_network_load_balancer_is_refused_where_requests_would_have_to_be_counted() {
    let sentences = [
        "checks.errorRatePercent: a Network Load Balancer counts no requests",
        "set errorRatePercent to null",
    ];
    assert_refused(&Options::nlb(), json!({}), "InvalidRequest", &sentences).await;
    let latency = json!({ "checks": { "errorRatePercent": null, "latencyMs": [{ "percentile": 99, "max": 300 }] } });
    let sentences = ["checks.latencyMs: a Network Load Balancer counts no requests"];
    assert_refused(&Options::nlb(), latency, "InvalidRequest", &sentences).await;
}

#[rstest]
#[case::a_foreign_target(Options { foreign_target: true, ..Options::alb() }, "others are registered in it")]
#[case::lambda_targets(Options { target_type: "lambda", ..Options::alb() }, "has targets of type lambda")]
#[case::code_deploy(Options { controller: "CODE_DEPLOY", ..Options::alb() }, "deployment controller CODE_DEPLOY")]
#[case::external(Options { controller: "EXTERNAL", ..Options::alb() }, "deployment controller EXTERNAL")]
#[case::blue_green(Options { strategy: "BLUE_GREEN", ..Options::alb() }, "with the strategy BLUE_GREEN")]
#[case::linear(Options { strategy: "LINEAR", ..Options::alb() }, "with the strategy LINEAR")]
#[case::canary(Options { strategy: "CANARY", ..Options::alb() }, "with the strategy CANARY")]
#[case::no_weight(Options { stable_weight: 0, other_weight: Some(1), ..Options::alb() }, "there is no traffic to shift")]
#[case::daemon(Options { daemon: true, ..Options::alb() }, "scheduled as DAEMON")]
#[tokio::test]
async fn what_a_load_balancer_cannot_divide_is_refused(
    #[case] options: Options,
    #[case] sentence: &str,
) {
    assert_refused(&options, json!({}), "ServiceNotSupported", &[sentence]).await;
}

#[tokio::test]
async fn a_service_that_no_router_reaches_is_refused() {
    let options = Options {
        routers: Routers::Neither,
        registry: false,
        ..Options::default()
    };
    let sentences = [
        "in no target group of a load balancer",
        "is the proxy of a mesh",
    ];
    assert_refused(&options, json!({}), "ServiceNotSupported", &sentences).await;
}

#[tokio::test]
async fn a_service_with_both_routers_is_refused_until_the_request_says_which() {
    let options = Options {
        routers: Routers::Both,
        ..Options::default()
    };
    let sentences = [
        "through a load balancer and through App Mesh",
        "router.kind says which",
    ];
    assert_refused(&options, json!({}), "AmbiguousDiscovery", &sentences).await;

    for (kind, on, other) in [
        ("alb", On::Alb, "Cloud Map"),
        ("appMesh", On::AppMesh, "its load balancer"),
    ] {
        for tag in ["2.0.0", "2.0.0-bad"] {
            let simulation = Simulation::with(on, &options);
            let more = json!({ "router": { "kind": kind } });
            let mut execution = simulation.start("first", request(tag, more));
            simulation
                .run_until(&mut execution, "Create the canary")
                .await;
            let notes = execution.data()["deployment"]["notes"].to_string();
            assert!(
                notes.contains(&format!(
                    "through {other} is not shifted; it stays with stable"
                )),
                "{notes}"
            );
            simulation
                .run_until(&mut execution, "Check the canary's health")
                .await;
            simulation.account.look(|world| {
                let canary = world.services(world::CLUSTER);
                let canary = canary
                    .iter()
                    .find(|name| name.contains("-canary-"))
                    .unwrap();
                let registries = |service: &str| -> Vec<_> {
                    let service = world.service(world::CLUSTER, service).unwrap();
                    let registries = service.service_registries().iter();
                    registries
                        .filter_map(|registry| registry.registry_arn.clone())
                        .collect()
                };
                let of_stable = registries(world::SERVICE);
                assert_eq!(of_stable.len(), 1);
                assert!(
                    registries(canary)
                        .iter()
                        .all(|registry| !of_stable.contains(registry))
                );
                assert_eq!(registries(canary).len(), usize::from(on == On::AppMesh));
                let canary = world.service(world::CLUSTER, canary).unwrap();
                assert_eq!(canary.load_balancers().len(), usize::from(on == On::Alb));
                // What comes by the other way stays with stable.
                if on == On::Alb {
                    assert!(
                        (world.percent(world::ROUTER, world::ROUTE, world::NODE) - 100.0).abs()
                            < f64::EPSILON
                    );
                } else {
                    assert_eq!(weights(world, world::RULE), [("checkout-tg".into(), 1)]);
                }
            });
            let deployed = simulation.finish(execution).await;
            deployed.assert_no_request_was_lost();
            if tag == "2.0.0" {
                deployed.assert_promoted();
            } else {
                deployed.assert_rolled_back("percent");
            }
        }
    }
}

#[tokio::test]
async fn one_rule_may_be_named_and_the_others_stay_as_they_are() {
    let simulation = Simulation::new(On::Alb);
    let arn = simulation
        .account
        .look(|world| world.rule(world::RULE).rule_arn.unwrap());
    let router = json!({ "router": { "kind": "alb", "rules": [arn] } });
    let mut execution = simulation.start("first", request("2.0.0", router));
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation.account.look(|world| {
        assert!((canary_percent(world, world::RULE) - 10.0).abs() < 1e-9);
        assert_eq!(
            weights(world, world::DEFAULT_RULE),
            [("checkout-tg".into(), 1)]
        );
    });
    simulation
        .finish(execution)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();
}

#[tokio::test]
async fn a_rule_that_does_not_lead_to_the_service_is_refused_with_those_that_do() {
    let simulation = Simulation::new(On::Alb);
    let arn = simulation
        .account
        .look(|world| world.rule(world::RULE).rule_arn.unwrap());
    let strange = format!("{arn}0");
    let more = json!({ "router": { "kind": "alb", "rules": [strange] } });
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed
        .assert_refused(
            "ServiceNotSupported",
            &format!("router.rules names {strange}, which is no rule"),
        )
        .assert_refused("ServiceNotSupported", &format!("these are: {arn}, arn:"));
}

/// A limit on the latency, and the fewest requests that it may rest on; the comparison, which would be faster, leaves it to that.
fn latency(max: u32, least: u32) -> Value {
    json!({ "checks": {
        "errorRatePercent": { "max": 1.0 }, "minRequests": least, "latencyMs": [{ "percentile": 99, "max": max }],
        "judge": { "latency": false },
    } })
}

#[tokio::test]
async fn a_latency_within_its_limit_is_promoted_and_one_above_it_is_rolled_back() {
    let simulation = Simulation::new(On::Alb);
    let deployed = simulation.deploy(request("2.0.0", latency(300, 50))).await;
    deployed.assert_promoted().assert_no_request_was_lost();
    let report = deployed.report();
    let healthy = finding(&report, "latencyMs.p99");
    assert_eq!(healthy.outcome, Outcome::Healthy);
    assert!(
        healthy.sentence.contains("within the limit of 300 ms"),
        "{}",
        healthy.sentence
    );

    let simulation = Simulation::new(On::Alb);
    let deployed = simulation
        .deploy(request("2.0.0-slow", latency(300, 50)))
        .await;
    deployed
        .assert_rolled_back("the p99 latency was")
        .assert_rolled_back("above the limit of 300 ms");
    let report = deployed.report();
    assert!(finding(&report, "latencyMs.p99").value.unwrap() >= 1000.0);
}

/// With a `margin` the limit is one on versions that are slower than what serves now.
#[tokio::test]
async fn a_slow_system_breaks_a_limit_with_a_margin_only_where_the_canary_is_slower_than_stable() {
    let slow = |canary, tag: &str, margin: Option<f64>| {
        let simulation = Simulation::new(On::Alb);
        simulation.account.settings(|settings| {
            settings.latencies = vec![("slow".into(), canary), ("checkout".into(), 1.0)];
        });
        let mut wish = latency(300, 50);
        // At 100 percent stable has no requests to compare with, and the limit holds as it is.
        wish["plan"] = json!({ "steps": [{ "weightPercent": 10, "holdSeconds": 180 }, { "weightPercent": 50, "holdSeconds": 180 }], "maxWeightPercent": 50 });
        if let Some(margin) = margin {
            wish["checks"]["latencyMs"][0]["margin"] = json!(margin);
        }
        // The pre-flight looks at stable's last ten minutes.
        simulation.account.clock().advance(1200);
        (simulation, request(tag, wish))
    };
    let (simulation, wish) = slow(1.0, "2.0.0", Some(1.5));
    let deployed = simulation.deploy(wish).await;
    deployed.assert_promoted();
    let found = deployed.report();
    let found = finding(&found, "latencyMs.p99");
    assert!(
        found.value > Some(300.0) && found.stable > Some(300.0),
        "{found:?}"
    );
    assert!(
        found.sentence.contains("up to 1.5 times that is allowed"),
        "{}",
        found.sentence
    );

    let (simulation, wish) = slow(2.5, "2.0.0-slow", Some(1.5));
    let deployed = simulation.deploy(wish).await;
    deployed.assert_rolled_back("above the limit of 300 ms (stable: ");

    let (simulation, wish) = slow(1.0, "2.0.0", None);
    let deployed = simulation.deploy(wish).await;
    deployed.assert_rolled_back("above the limit of 300 ms");
}

#[tokio::test]
async fn a_latency_on_too_few_requests_is_not_judged() {
    let simulation = Simulation::new(On::Alb);
    simulation
        .account
        .settings(|settings| settings.requests_per_second = 1.0);
    simulation.account.clock().advance(1200);
    let mut request = request("2.0.0-slow", latency(300, 100_000));
    request["deadlineSeconds"] = json!(3600);
    let deployed = simulation.deploy(request).await;
    deployed.assert_rolled_back("the deployment's deadline has passed");
    let report = deployed.report();
    let few = finding(&report, "latencyMs.p99");
    assert_eq!(few.outcome, Outcome::Inconclusive);
    assert!(few.sentence.contains("rests on only"), "{}", few.sentence);
}

#[rstest]
#[case("2.0.0-hangs")]
#[case("2.0.0-refuses")]
#[tokio::test]
async fn requests_that_no_target_answers_count_as_failed_although_no_target_answered_a_5xx(
    #[case] tag: &str,
) {
    let simulation = Simulation::new(On::Alb);
    let deployed = simulation.deploy(request(tag, json!({}))).await;
    deployed
        .assert_rolled_back("requests (100 percent), stable 0 of ")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[tokio::test]
async fn a_service_without_requests_has_no_data_and_is_not_called_healthy() {
    let simulation = Simulation::with(
        On::Alb,
        &Options {
            requests_per_second: 0.0,
            ..Options::alb()
        },
    );
    let more = json!({ "deadlineSeconds": 3600 });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    let notes = execution.data()["deployment"]["notes"].to_string();
    assert!(
        notes.contains("Stable has had no requests lately"),
        "{notes}"
    );
    let deployed = simulation.finish(execution).await;
    deployed.assert_rolled_back("no data on the canary's requests");
}

#[tokio::test]
async fn what_means_nothing_to_a_load_balancer_is_refused() {
    let query = json!([{ "name": "of the node", "max": 5, "metricDataQueries": [{ "Id": "errors", "MetricStat": { "Period": 60, "Stat": "Sum",
        "Metric": { "Namespace": "shop", "MetricName": "errors", "Dimensions": [{ "Name": "Node", "Value": "{{virtualNode}}" }] } } }] }]);
    for (more, sentences) in [
        (
            json!({ "router": { "kind": "alb", "proxyContainer": "envoy" } }),
            vec![
                "router.proxyContainer",
                "means nothing to alb; it is for appMesh",
            ],
        ),
        (
            json!({ "router": { "kind": "alb", "routes": [{ "virtualRouter": "a", "route": "b" }] } }),
            vec!["router.routes", "means nothing to alb; it is for appMesh"],
        ),
        (
            json!({ "router": { "kind": "appMesh", "rules": ["arn"] } }),
            vec!["router.rules", "means nothing to appMesh; it is for alb"],
        ),
        (
            json!({ "router": { "kind": "alb", "rules": [] } }),
            vec!["router.rules"],
        ),
        (
            json!({ "checks": { "errorRatePercent": null, "queries": query } }),
            vec![
                "{{virtualNode}} in query \"of the node\" has no meaning for this service's router",
                "targetGroup, loadBalancer are allowed",
            ],
        ),
    ] {
        assert_refused(&Options::alb(), more, "InvalidRequest", &sentences).await;
    }
}

#[tokio::test]
async fn a_router_that_the_service_does_not_have_is_refused() {
    let mesh = json!({ "router": { "kind": "appMesh" } });
    assert_refused(&Options::alb(), mesh, "ServiceNotSupported", &["mesh"]).await;
    let alb = json!({ "router": { "kind": "alb" } });
    let sentences = ["is registered in no target group"];
    assert_refused(&Options::default(), alb, "ServiceNotSupported", &sentences).await;
}

#[tokio::test]
async fn the_canarys_target_group_is_an_exact_copy_and_the_rule_keeps_its_authentication() {
    let options = Options {
        group_attributes: vec![
            ("deregistration_delay.timeout_seconds", "45"),
            ("stickiness.enabled", "true"),
            ("stickiness.type", "lb_cookie"),
            ("slow_start.duration_seconds", "60"),
        ],
        forward_stickiness: Some(60),
        ..Options::alb()
    };
    let simulation = Simulation::with(On::Alb, &options);
    let mut execution = simulation.start("first", request("2.0.0-bad", json!({})));
    simulation
        .run_until(&mut execution, "Create the canary")
        .await;
    let notes = execution.data()["deployment"]["notes"].to_string();
    assert!(
        notes.contains("Target group checkout-tg is sticky"),
        "{notes}"
    );
    simulation
        .run_until(&mut execution, "Check the canary's health")
        .await;
    simulation.account.look(|world| {
        let groups = world.target_groups();
        let canary = groups
            .iter()
            .find(|name| name.contains("-canary-"))
            .unwrap();
        assert_eq!(
            world.target_group_attributes(canary),
            world.target_group_attributes(world::TARGET_GROUP)
        );
        let mut tags = world.target_group_tags(canary);
        tags.retain(|key, _| !key.starts_with("serin"));
        assert_eq!(tags, world.target_group_tags(world::TARGET_GROUP));
        let actions = world.rule(world::RULE).actions.unwrap();
        assert!(
            actions[0].authenticate_oidc_config.is_some() && actions[1].forward_config.is_some()
        );
    });
    simulation
        .finish(execution)
        .await
        .assert_rolled_back("percent")
        .assert_no_request_was_lost();
}

#[tokio::test]
async fn a_replacement_is_refused_where_a_rule_that_stays_leads_to_stable() {
    let simulation = Simulation::new(On::Alb);
    let arn = simulation
        .account
        .look(|world| world.rule(world::RULE).rule_arn.unwrap());
    let more =
        json!({ "router": { "kind": "alb", "rules": [arn] }, "finish": { "mode": "replace" } });
    simulation
        .deploy(request("2.0.0", more))
        .await
        .assert_refused(
            "ServiceNotSupported",
            "finish.mode: replace would take away",
        );
}

#[rstest]
#[tokio::test]
async fn the_longest_deregistration_delay_is_waited_for(
    #[values(None, Some(3600))] forward_stickiness: Option<i32>,
    #[values("promote", "replace", "rollBack")] ending: &str,
) {
    let options = Options {
        forward_stickiness,
        group_attributes: vec![("deregistration_delay.timeout_seconds", "3600")],
        ..Options::alb()
    };
    let simulation = Simulation::with(On::Alb, &options);
    if forward_stickiness.is_some() {
        // One rule binds its clients and the other does not.
        simulation
            .account
            .edit_rule_by_hand(world::DEFAULT_RULE, |actions| {
                let forward = actions.last_mut().unwrap().forward_config.as_mut().unwrap();
                forward.target_group_stickiness_config = None;
            });
    }
    let simulation = simulation.begun_anew();
    let (tag, mode) = match ending {
        "rollBack" => ("2.0.0-bad", "promote"),
        mode => ("2.0.0", mode),
    };
    let finish = json!({ "finish": { "mode": mode } });
    let deployed = simulation.deploy(request(tag, finish)).await;
    if tag == "2.0.0" {
        deployed.assert_promoted();
    } else {
        deployed.assert_rolled_back("percent");
    }
    deployed.assert_no_request_was_lost();
}

#[tokio::test]
async fn two_services_that_share_a_rule_are_deployed_one_after_the_other() {
    let options = Options {
        other_weight: Some(1),
        ..Options::alb()
    };
    let other = || request("2.0.0", json!({ "service": "other" }));
    // The rule already names a canary, beside its stable.
    let simulation = Simulation::with(On::Alb, &options);
    let mut first = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut first, "Check the canary's health")
        .await;
    let refused = simulation.finish(simulation.start("second", other())).await;
    refused.assert_refused("ServiceNotSupported", "the canary of another deployment");
    simulation
        .finish(first)
        .await
        .assert_promoted()
        .assert_no_request_was_lost();

    // One that took its stable's place is a neighbour like any other.
    let simulation = Simulation::with(On::Alb, &options);
    let replace = request(
        "2.0.0",
        json!({ "service": "other", "finish": { "mode": "replace" } }),
    );
    let replaced = simulation.finish(simulation.start("second", replace)).await;
    assert_eq!(replaced.report().ending, serin::Ending::Promoted);
    simulation.account.clock().advance(3600);
    let simulation = simulation.begun_anew();
    simulation
        .deploy(request("2.0.0", json!({})))
        .await
        .assert_promoted()
        .assert_no_request_was_lost();

    // Both were planned before either had changed anything: the second one to come finds the rule changed.
    let simulation = Simulation::with(On::Alb, &options);
    let mut first = simulation.start("first", request("2.0.0", json!({})));
    simulation.run_until(&mut first, "Create the canary").await;
    let mut second = simulation.start("second", other());
    simulation
        .run_until(&mut second, "Check the canary's health")
        .await;
    let first = simulation.finish(first).await;
    assert_eq!(
        first.report().error.as_deref(),
        Some("RouteChangedByOthers")
    );
    assert_eq!(first.report().ending, serin::Ending::RolledBack);
    let second = simulation.finish(second).await;
    assert_eq!(second.report().ending, serin::Ending::Promoted);
    second.assert_no_request_was_lost();
    for path in [world::RULE, world::DEFAULT_RULE] {
        let now = simulation.account.look(|world| world.rule(path));
        assert_eq!(Some(&now), simulation.before.rules.get(path));
    }
}

#[tokio::test]
async fn sticky_sessions_in_a_rule_that_is_not_sticky_are_refused_before_the_load_balancer_would() {
    let options = Options {
        group_attributes: vec![("stickiness.enabled", "true")],
        ..Options::alb()
    };
    let sentences = ["checkout-tg has sticky sessions", "rule 10 of listener"];
    assert_refused(&options, json!({}), "ServiceNotSupported", &sentences).await;
}

#[tokio::test]
async fn a_rule_that_comes_to_lead_to_stable_keeps_it_from_being_replaced() {
    let simulation = Simulation::new(On::Alb);
    let actions = |path: &str| {
        simulation
            .account
            .look(|world| world.rule(path).actions.unwrap())
    };
    let (closed, to_stable) = (actions(world::CLOSED_RULE), actions(world::DEFAULT_RULE));
    let more = json!({ "finish": { "mode": "replace" } });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    simulation.watch.change(|subject| {
        subject.before.rules.remove(world::CLOSED_RULE);
    });
    simulation
        .account
        .edit_rule_by_hand(world::CLOSED_RULE, |actions| *actions = to_stable);
    while execution.is_running() && execution.next_state() != "Roll back to stable" {
        simulation.step(&mut execution).await;
    }
    // Somebody takes it back, so that everything can be compared.
    simulation
        .account
        .edit_rule_by_hand(world::CLOSED_RULE, |actions| *actions = closed);
    let deployed = simulation.finish(execution).await;
    deployed
        .assert_rolled_back("the default action of listener HTTPS:443 of load balancer checkout-alb forwards to stable")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
}

#[tokio::test]
async fn rules_that_leave_a_target_group_in_none_are_refused() {
    let options = Options {
        target_groups: 2,
        ..Options::alb()
    };
    let simulation = Simulation::with(On::Alb, &options);
    let arn = simulation
        .account
        .look(|world| world.rule(world::RULE).rule_arn.unwrap());
    let more = json!({ "router": { "kind": "alb", "rules": [arn] } });
    simulation
        .deploy(request("2.0.0", more))
        .await
        .assert_refused("ServiceNotSupported", "forwards to target group")
        .assert_refused("ServiceNotSupported", "checkout-tg-2");
}

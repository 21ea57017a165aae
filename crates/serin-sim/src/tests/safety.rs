use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_applicationautoscaling::types::SuspendedState;
use aws_sdk_elasticloadbalancingv2::types::{Action, TargetGroupTuple};

use super::{account, account_with, group_arn};
use crate::safety::{Subject, Watch};
use crate::world::Options;
use crate::{targets_mut, tuples_mut, world};

fn watched() -> (crate::Account, Watch) {
    let account = account();
    let subject = Subject::new(account.snapshot(), "prod/checkout", world::NODE);
    let watch = Watch::new(&account, subject);
    (account, watch)
}

async fn any_call(account: &crate::Account) {
    account
        .clients()
        .ecs
        .describe_services()
        .cluster("prod")
        .services("checkout")
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_world_that_nobody_touches_is_safe_and_has_no_trace() {
    let (account, watch) = watched();
    let before = account.snapshot();
    account.clock().advance(3600);
    any_call(&account).await;
    watch.assert_safe();
    assert_eq!(account.differences_since(&before), Vec::<String>::new());
}

#[tokio::test]
async fn every_broken_rule_is_named() {
    let (account, watch) = watched();
    account.edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
        spec.priority = Some(7);
        let targets = targets_mut(spec).unwrap();
        let mut canary = targets[0].clone();
        canary.virtual_node = "front-node".to_owned();
        targets.push(canary);
    });
    account.scale_by_hand("prod", "checkout", 3);
    any_call(&account).await;
    let broken = watch.broken().join("\n");
    for rule in ["rule 2", "rule 3", "rule 4", "rule 5"] {
        assert!(broken.contains(rule), "{rule} in {broken}");
    }
    assert!(!broken.contains("rule 1"), "{broken}");
}

#[tokio::test]
async fn a_lost_share_is_seen() {
    let clock = crate::Clock::new("2026-11-20T12:00:00Z".parse().unwrap());
    let account = crate::Account::new(clock);
    world::checkout_with(
        &account,
        &world::Options {
            stable_weight: 80,
            other_weight: Some(20),
            ..world::Options::default()
        },
    );
    let watch = Watch::new(
        &account,
        Subject::new(account.snapshot(), "prod/checkout", world::NODE),
    );
    any_call(&account).await;
    watch.assert_safe();
    account.edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| {
        targets_mut(spec).unwrap()[0].weight = 60;
    });
    any_call(&account).await;
    assert!(watch.broken()[0].contains("rule 1"), "{:?}", watch.broken());
}

#[tokio::test]
async fn a_hook_runs_after_every_call() {
    let account = account();
    let seen = Arc::new(AtomicUsize::new(0));
    let hand = seen.clone();
    account.on_call(move |_, call| {
        assert_eq!(call.operation, "DescribeServices");
        hand.fetch_add(1, Ordering::SeqCst);
    });
    any_call(&account).await;
    any_call(&account).await;
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn all_variations_of_the_users_world_are_steady() {
    use crate::world::{Discovery, Options, RouteKind};
    let plain = Options::default;
    let variations = [
        Options {
            routes: vec![
                RouteKind::Http,
                RouteKind::Http2,
                RouteKind::Grpc,
                RouteKind::Tcp,
            ],
            ..plain()
        },
        Options {
            other_weight: Some(20),
            stable_weight: 80,
            ..plain()
        },
        Options {
            registry: false,
            discovery: Discovery::Dns,
            ..plain()
        },
        Options {
            discovery: Discovery::CloudMapOfService,
            ..plain()
        },
        Options {
            controller: "CODE_DEPLOY",
            ..plain()
        },
        Options {
            daemon: true,
            ..plain()
        },
        Options {
            strategy: "BLUE_GREEN",
            ..plain()
        },
        Options {
            requests_per_second: 0.0,
            ..plain()
        },
        Options {
            proxy_variable: "APPMESH_VIRTUAL_NODE_NAME",
            second_app: true,
            second_router: true,
            ..plain()
        },
        Options {
            http_namespace: true,
            ..plain()
        },
        Options {
            mesh_owner: Some("210987654321"),
            ..plain()
        },
        Options {
            routers: crate::world::Routers::Both,
            scaling: Some((1, 9)),
            ..plain()
        },
    ];
    for options in variations {
        let account =
            crate::Account::new(crate::Clock::new("2026-11-20T12:00:00Z".parse().unwrap()));
        world::checkout_with(&account, &options);
        any_call(&account).await;
        assert!(
            account.look(|world| world.healthy_tasks_of_node("prod", world::NODE)) >= 1,
            "{options:?}"
        );
        let routes = account.look(|world| world.routes().len());
        assert!(routes > options.routes.len(), "{options:?}");
    }
}

fn watched_alb(options: &Options) -> (crate::Account, Watch) {
    let account = account_with(options);
    let subject = Subject::new(account.snapshot(), "prod/checkout", world::NODE);
    assert_eq!(subject.stable_groups.len(), options.target_groups);
    let watch = Watch::new(&account, subject);
    (account, watch)
}

fn canary(arn: &str, weight: i32) -> TargetGroupTuple {
    TargetGroupTuple::builder()
        .target_group_arn(arn)
        .weight(weight)
        .build()
}

/// Another target group, with healthy targets or without.
async fn canary_group(account: &crate::Account, healthy: bool) -> String {
    let clients = account.clients();
    let output = clients
        .load_balancing
        .create_target_group()
        .name("canary")
        .protocol("HTTP".into())
        .port(8080)
        .vpc_id(world::VPC)
        .target_type("ip".into())
        .send()
        .await
        .unwrap();
    if healthy {
        account.register_target_by_hand("canary", "10.0.77.1");
    }
    output.target_groups()[0].target_group_arn.clone().unwrap()
}

fn set_weights(account: &crate::Account, path: &str, weights: &[(String, i32)]) {
    account.edit_rule_by_hand(path, |actions: &mut Vec<Action>| {
        let tuples = weights.iter().map(|(arn, weight)| canary(arn, *weight));
        *tuples_mut(actions).unwrap() = tuples.collect();
    });
}

#[tokio::test]
async fn behind_a_load_balancer_a_world_that_nobody_touches_is_safe_and_has_no_trace() {
    let (account, watch) = watched_alb(&Options {
        target_groups: 2,
        scaling: Some((2, 8)),
        ..Options::alb()
    });
    let before = account.snapshot();
    account.clock().advance(3600);
    any_call(&account).await;
    watch.assert_safe();
    assert_eq!(account.differences_since(&before), Vec::<String>::new());
    assert!((account.look(crate::World::stable_percent) - 100.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_canary_within_its_step_is_safe_behind_a_load_balancer() {
    let (account, watch) = watched_alb(&Options {
        other_weight: Some(3),
        stable_weight: 7,
        ..Options::alb()
    });
    let stable = group_arn(&account, world::TARGET_GROUP);
    let other = group_arn(&account, world::OTHER_TARGET_GROUP);
    let canary = canary_group(&account, true).await;
    let rule = [(stable.clone(), 7), (other.clone(), 3), (canary.clone(), 0)];
    set_weights(&account, world::RULE, &rule);
    account.clock().advance(300);
    watch.allow_percent(10.0);
    let rule = [(stable, 630), (other, 300), (canary, 70)];
    set_weights(&account, world::RULE, &rule);
    any_call(&account).await;
    watch.assert_safe();
    let percent = account.look(crate::World::stable_percent);
    assert!((percent - 63.0).abs() < 1e-9, "{percent}");
}

#[tokio::test]
async fn every_broken_rule_of_a_load_balancer_is_named() {
    type Break = Box<dyn Fn(&crate::Account, &str, &str)>;
    let cases: Vec<(&str, Break)> = vec![
        (
            "rule 1",
            Box::new(|account, stable, other| {
                let rule = [(stable.to_owned(), 6), (other.to_owned(), 3)];
                set_weights(account, world::RULE, &rule);
            }),
        ),
        (
            "rule 2",
            Box::new(|account, stable, other| {
                let canary = group_arn(account, "canary");
                let rule = [(stable.to_owned(), 6), (other.to_owned(), 3), (canary, 1)];
                set_weights(account, world::RULE, &rule);
            }),
        ),
        (
            "rule 3",
            Box::new(|account, stable, other| {
                let canary = group_arn(account, "canary");
                let rule = [(stable.to_owned(), 6), (other.to_owned(), 3), (canary, 1)];
                set_weights(account, world::RULE, &rule);
            }),
        ),
        (
            "rule 4: the target group",
            Box::new(|account, _, _| {
                let key = "deregistration_delay.timeout_seconds";
                account.set_target_group_attribute(world::TARGET_GROUP, key, "1");
            }),
        ),
        (
            "rule 4: the scaling",
            Box::new(|account, _, _| {
                let out = SuspendedState::builder().dynamic_scaling_out_suspended(true);
                account.suspend_scaling_by_hand(world::SCALABLE_TARGET, out.build());
            }),
        ),
        (
            "rule 5",
            Box::new(|account, _, _| {
                account.edit_rule_by_hand(world::RULE, |actions| {
                    let config = actions[0].authenticate_oidc_config.as_mut().unwrap();
                    config.session_timeout = Some(1);
                });
            }),
        ),
        (
            "rule 5",
            Box::new(|account, stable, other| {
                let rule = [(other.to_owned(), 3), (stable.to_owned(), 7)];
                set_weights(account, world::RULE, &rule);
            }),
        ),
    ];
    for (number, (named, breaks)) in cases.into_iter().enumerate() {
        let (account, watch) = watched_alb(&Options {
            other_weight: Some(3),
            stable_weight: 7,
            scaling: Some((2, 8)),
            ..Options::alb()
        });
        let before = account.snapshot();
        canary_group(&account, false).await;
        watch.assert_safe();
        let stable = group_arn(&account, world::TARGET_GROUP);
        let other = group_arn(&account, world::OTHER_TARGET_GROUP);
        breaks(&account, &stable, &other);
        any_call(&account).await;
        let broken = watch.broken().join("\n");
        assert!(broken.contains(named), "case {number}: {named} in {broken}");
        assert!(
            account.differences_since(&before).len() >= 2,
            "case {number}"
        );
    }
}

#[tokio::test]
async fn all_variations_behind_a_load_balancer_are_steady() {
    let variations = [
        Options::alb(),
        Options::nlb(),
        Options {
            target_groups: 2,
            routes: vec![crate::world::RouteKind::Http; 2],
            ..Options::alb()
        },
        Options {
            target_groups: 2,
            ..Options::nlb()
        },
        Options {
            stable_weight: 80,
            other_weight: Some(20),
            forward_stickiness: Some(60),
            ..Options::alb()
        },
        Options {
            registry: true,
            foreign_target: true,
            authenticate: false,
            default_forwards: false,
            grace_seconds: Some(60),
            ..Options::alb()
        },
        Options {
            target_type: "instance",
            ..Options::alb()
        },
        Options {
            controller: "CODE_DEPLOY",
            group_attributes: vec![("stickiness.enabled", "true")],
            ..Options::alb()
        },
        Options {
            routers: crate::world::Routers::Both,
            ..Options::default()
        },
    ];
    for options in variations {
        let account = account_with(&options);
        any_call(&account).await;
        let healthy = account.look(|world| world.healthy_targets(world::TARGET_GROUP));
        assert!(healthy >= 4, "{options:?}");
        let lost = account.look(crate::World::lost_requests);
        account.clock().advance(60);
        any_call(&account).await;
        let more = account.look(crate::World::lost_requests) - lost;
        assert!(more.abs() < 1e-9, "{options:?}");
        let state = |world: &crate::World| {
            let service = world.service("prod", "checkout").unwrap();
            service.deployments()[0].rollout_state().cloned()
        };
        let state = account.look(state).unwrap();
        assert_eq!(state.as_str(), "COMPLETED", "{options:?}");
    }
}

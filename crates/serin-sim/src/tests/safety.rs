use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::account;
use crate::safety::{Subject, Watch};
use crate::{targets_mut, world};

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

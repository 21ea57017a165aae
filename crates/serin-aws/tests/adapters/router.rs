use serin::ports::{DiscoveryError, Fleet, Removal, Settled, ShiftError, Side, TrafficRouter};
use serin::request::{RouteName, RouterKind, RouterWish};
use serin::routing::AppMeshRecord;
use serin::{DeploymentId, PortError, RouterRecord, Weight};
use serin_sim::world::{Discovery, Options, RouteKind};
use serin_sim::{Fault, FaultKind, Which, targets_mut, world};

use crate::{Scene, account, described, percent, removed};

async fn discover(
    options: &Options,
    wish: Option<RouterWish>,
) -> Result<AppMeshRecord, DiscoveryError> {
    let (_, aws) = account(options);
    let (service, definition) = described(&aws).await;
    let id = DeploymentId::of(&serin::ExecutionArn::new(crate::EXECUTION));
    aws.router
        .discover(wish.as_ref(), &service, &definition, &id)
        .await
        .map(|record| {
            let RouterRecord::AppMesh(record) = record else {
                panic!("{record:?}")
            };
            record
        })
}

fn wish(route: &str) -> RouterWish {
    let route = RouteName {
        virtual_router: world::ROUTER.into(),
        route: route.into(),
    };
    RouterWish {
        kind: RouterKind::AppMesh,
        proxy_container: None,
        routes: Some(vec![route]),
        rules: None,
    }
}

/// Settled without an edit of others to tell about.
#[expect(
    clippy::unnecessary_wraps,
    reason = "what it is compared with is a result"
)]
fn settled(wrote: bool) -> Result<Settled, PortError> {
    Ok(Settled {
        wrote,
        edited: vec![],
    })
}

#[tokio::test]
async fn every_route_of_every_router_and_protocol_is_found() {
    let routes = vec![
        RouteKind::Http,
        RouteKind::Http2,
        RouteKind::Grpc,
        RouteKind::Tcp,
    ];
    let record = discover(
        &Options {
            routes,
            second_router: true,
            other_weight: Some(1),
            ..Options::default()
        },
        None,
    )
    .await
    .unwrap();
    let mut found: Vec<_> = record
        .routes
        .iter()
        .map(|route| {
            format!(
                "{}/{} {}",
                route.virtual_router, route.route, route.protocol
            )
        })
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "checkout-router-2/checkout-route http",
            "checkout-router/checkout-route http",
            "checkout-router/checkout-route-2 http2",
            "checkout-router/checkout-route-3 grpc",
            "checkout-router/checkout-route-4 tcp",
        ]
    );
    assert_eq!(
        (
            record.mesh.as_str(),
            record.stable_node.as_str(),
            record.mesh_owner
        ),
        (world::MESH, world::NODE, None)
    );
    assert!(
        record.routes.iter().all(
            |route| route.targets[route.stable_target].node == world::NODE
                && route.targets.len() == 2
        )
    );
}

#[tokio::test]
async fn a_mesh_of_another_account_is_asked_for_with_its_owner() {
    let scene = Scene::with(&Options {
        mesh_owner: Some("999999999999"),
        ..Options::default()
    })
    .await;
    assert_eq!(scene.record().mesh_owner.as_deref(), Some("999999999999"));
    scene.created(1).await;
    scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
}

#[tokio::test]
async fn wished_routes_narrow_and_unknown_ones_are_refused() {
    let options = Options {
        routes: vec![RouteKind::Http, RouteKind::Grpc],
        ..Options::default()
    };
    let record = discover(&options, Some(wish("checkout-route-2")))
        .await
        .unwrap();
    assert_eq!(record.routes.len(), 1);
    let error = discover(&options, Some(wish("front-route")))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, DiscoveryError::Unsupported(sentence) if sentence.contains("checkout-router/checkout-route, ")),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_without_a_registry_is_refused_with_the_reason() {
    let error = discover(
        &Options {
            registry: false,
            ..Options::default()
        },
        None,
    )
    .await
    .unwrap_err();
    assert!(
        matches!(&error, DiscoveryError::Unsupported(sentence) if sentence.contains("0 service registries")),
        "{error}"
    );
}

#[tokio::test]
async fn a_throttled_discovery_is_throttled_and_nothing_else() {
    let (account, aws) = account(&Options::default());
    let (service, definition) = described(&aws).await;
    for operation in [
        "DescribeVirtualNode",
        "ListVirtualRouters",
        "ListRoutes",
        "DescribeRoute",
        "GetService",
        "GetNamespace",
    ] {
        account.heal();
        account.inject(Fault {
            operation,
            which: Which::Always,
            kind: FaultKind::Throttled,
        });
        let id = DeploymentId::of(&serin::ExecutionArn::new(crate::EXECUTION));
        let error = aws
            .router
            .discover(None, &service, &definition, &id)
            .await
            .unwrap_err();
        assert!(
            matches!(error, DiscoveryError::Port(PortError::Throttled { .. })),
            "{operation}: {error:?}"
        );
    }
}

#[tokio::test]
async fn what_the_canary_needs_is_made_once_and_can_be_reached() {
    for discovery in [
        Discovery::CloudMap,
        Discovery::CloudMapOfService,
        Discovery::Dns,
    ] {
        let scene = Scene::with(&Options {
            discovery,
            ..Options::default()
        })
        .await;
        let attachment = scene.created(2).await;
        let before = scene.account.snapshot();
        assert_eq!(
            scene.aws.router.prepare(&scene.deployment).await.unwrap(),
            attachment
        );
        assert_eq!(
            scene.account.differences_since(&before),
            Vec::<String>::new()
        );
        assert_eq!(
            scene
                .aws
                .router
                .healthy_targets(&scene.deployment, &attachment)
                .await,
            Ok(2),
            "{discovery:?}"
        );
        let stable = scene.deployment.router.stable_attachment();
        assert_eq!(
            scene
                .aws
                .router
                .healthy_targets(&scene.deployment, &stable)
                .await,
            Ok(4)
        );
        assert!(
            attachment.environment[0]
                .value
                .ends_with(&scene.record().canary_node)
        );
    }
}

#[tokio::test]
async fn an_older_proxy_is_told_in_its_own_form() {
    let scene = Scene::with(&Options {
        proxy_variable: "APPMESH_VIRTUAL_NODE_NAME",
        ..Options::default()
    })
    .await;
    let attachment = scene.aws.router.prepare(&scene.deployment).await.unwrap();
    assert_eq!(
        attachment.environment[0].variable,
        "APPMESH_VIRTUAL_NODE_NAME"
    );
    assert_eq!(
        attachment.environment[0].value,
        format!("mesh/prod/virtualNode/{}", scene.record().canary_node)
    );
}

#[tokio::test]
async fn what_was_made_although_the_answer_was_lost_is_adopted() {
    for operation in ["CreateVirtualNode", "Cloud Map CreateService"] {
        for kind in [FaultKind::AnswerLost, FaultKind::DoneThenServerError] {
            let scene = Scene::new().await;
            scene.account.inject(Fault {
                operation,
                which: Which::Nth(1),
                kind,
            });
            let error = scene
                .aws
                .router
                .prepare(&scene.deployment)
                .await
                .unwrap_err();
            assert!(
                matches!(error, ShiftError::Port(PortError::Unavailable { .. })),
                "{error:?}"
            );
            scene.aws.router.prepare(&scene.deployment).await.unwrap();
            assert_eq!(
                scene.account.look(|world| world.nodes().len()),
                4,
                "{operation}"
            );
        }
    }
}

#[tokio::test]
async fn no_target_is_healthy_before_its_tasks_are() {
    let scene = Scene::new().await;
    let attachment = scene.aws.router.prepare(&scene.deployment).await.unwrap();
    assert_eq!(
        scene
            .aws
            .router
            .healthy_targets(&scene.deployment, &attachment)
            .await,
        Ok(0)
    );
    let gone = serin::progress::Attachment {
        registry_arn: Some(
            "arn:aws:servicediscovery:eu-west-1:123456789012:service/srv-none".into(),
        ),
        ..attachment
    };
    assert_eq!(
        scene
            .aws
            .router
            .healthy_targets(&scene.deployment, &gone)
            .await,
        Ok(0)
    );
}

#[tokio::test]
async fn traffic_moves_by_the_weights_alone_and_comes_back_exactly() {
    let routes = vec![
        RouteKind::Http,
        RouteKind::Http2,
        RouteKind::Grpc,
        RouteKind::Tcp,
    ];
    let scene = Scene::with(&Options {
        routes,
        ..Options::default()
    })
    .await;
    let before = scene.account.snapshot();
    scene.created(4).await;
    let (adapter, deployment) = (&scene.aws.router, &scene.deployment);
    adapter
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    assert_eq!(scene.targets(), "checkout-node 95, canary 5");
    adapter
        .shift(deployment, percent(5.0), percent(100.0))
        .await
        .unwrap();
    assert_eq!(scene.targets(), "checkout-node 0, canary 100");
    adapter.verify(deployment, percent(100.0)).await.unwrap();
    assert_eq!(
        adapter.settle(deployment, Side::Stable).await,
        settled(true)
    );
    assert_eq!(scene.targets(), "checkout-node 1");
    assert_eq!(
        scene
            .account
            .differences_since(&before)
            .iter()
            .filter(|difference| difference.starts_with("route"))
            .count(),
        0
    );
    let writes = scene.account.count_calls("UpdateRoute");
    assert_eq!(writes, 12);
    assert_eq!(
        adapter.settle(deployment, Side::Stable).await,
        settled(false)
    );
    assert_eq!(scene.account.count_calls("UpdateRoute"), writes);
}

#[tokio::test]
async fn other_targets_keep_their_weight() {
    let scene = Scene::with(&Options {
        stable_weight: 80,
        other_weight: Some(20),
        ..Options::default()
    })
    .await;
    scene.created(1).await;
    scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(25.0))
        .await
        .unwrap();
    assert_eq!(
        scene.targets(),
        "checkout-node 60, other-node 20, canary 20"
    );
    scene
        .aws
        .router
        .settle(&scene.deployment, Side::Canary)
        .await
        .unwrap();
    assert_eq!(scene.targets(), "canary 80, other-node 20");
}

#[tokio::test]
async fn a_shift_that_was_done_is_not_done_again() {
    let scene = Scene::new().await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    scene.account.inject(Fault {
        operation: "UpdateRoute",
        which: Which::Nth(1),
        kind: FaultKind::AnswerLost,
    });
    let error = router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ShiftError::Port(PortError::Unavailable { .. })),
        "{error:?}"
    );
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    assert_eq!(scene.account.count_calls("UpdateRoute"), 1);
}

#[tokio::test]
async fn a_write_that_does_not_show_is_not_taken_for_done_and_is_not_done_again() {
    let scene = Scene::new().await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    let stale = || {
        scene.account.inject(Fault {
            operation: "DescribeRoute",
            which: Which::Nth(2),
            kind: FaultKind::Refused("NotFoundException", "not yet"),
        });
    };
    stale();
    let error = router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ShiftError::NotReadBack(sentence) if sentence.ends_with("then showed nothing")),
        "{error:?}"
    );
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    assert_eq!(scene.account.count_calls("UpdateRoute"), 1);

    scene.account.heal();
    stale();
    let error = router.settle(deployment, Side::Stable).await.unwrap_err();
    assert!(matches!(error, PortError::Unavailable { .. }), "{error:?}");
    assert_eq!(
        router.settle(deployment, Side::Stable).await,
        settled(false)
    );
    assert_eq!(scene.account.count_calls("UpdateRoute"), 2);
}

#[tokio::test]
async fn a_shift_goes_on_after_half_of_the_routes() {
    let scene = Scene::with(&Options {
        routes: vec![RouteKind::Http, RouteKind::Grpc],
        ..Options::default()
    })
    .await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    scene.account.inject(Fault {
        operation: "UpdateRoute",
        which: Which::Nth(2),
        kind: FaultKind::ServerError,
    });
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap_err();
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    assert_eq!(
        scene.targets_of(world::ROUTER, "checkout-route-2"),
        "checkout-node 95, canary 5"
    );
}

#[tokio::test]
async fn a_route_changed_by_hand_is_reported_with_both_versions_and_no_route_is_written() {
    let scene = Scene::with(&Options {
        routes: vec![RouteKind::Http, RouteKind::Grpc],
        ..Options::default()
    })
    .await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    // The second one, so that a router that writes as it reads would have written the first.
    scene
        .account
        .edit_route_by_hand(world::ROUTER, "checkout-route-2", |spec| {
            targets_mut(spec).unwrap()[0].weight = 60;
        });
    let writes = scene.account.count_calls("UpdateRoute");
    let error = router
        .shift(deployment, percent(5.0), percent(25.0))
        .await
        .unwrap_err();
    let sentence = error
        .to_string()
        .replace(&scene.record().canary_node, "canary");
    assert!(matches!(error, ShiftError::ChangedByOthers(_)));
    assert!(sentence.contains("last wrote checkout-node:8080 95, canary:8080 5, and now it has checkout-node:8080 60, canary:8080 5"), "{sentence}");
    assert_eq!(scene.account.count_calls("UpdateRoute"), writes);
    assert!(matches!(
        router.verify(deployment, percent(5.0)).await,
        Err(ShiftError::ChangedByOthers(_))
    ));

    let sentences = router.settle(deployment, Side::Stable).await.unwrap();
    assert_eq!(sentences.edited.len(), 1);
    assert_eq!(
        scene.targets_of(world::ROUTER, "checkout-route-2"),
        "checkout-node 65"
    );
    assert_eq!(scene.targets(), "checkout-node 1");
    assert_eq!(
        router
            .traces(deployment, Side::Canary)
            .await
            .certain()
            .unwrap()
            .len(),
        2,
        "the node and the Cloud Map service, but no route"
    );
}

#[tokio::test]
async fn an_edit_of_the_match_alone_is_noticed_too() {
    let scene = Scene::new().await;
    scene.created(1).await;
    scene
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| spec.priority = Some(3));
    let error = scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("its retries, timeouts or priority differ too"),
        "{error}"
    );
}

#[tokio::test]
async fn a_route_that_cannot_be_written_keeps_no_other_from_going_back() {
    let scene = Scene::with(&Options {
        routes: vec![RouteKind::Http, RouteKind::Grpc],
        ..Options::default()
    })
    .await;
    scene.created(1).await;
    let (router, deployment) = (&scene.aws.router, &scene.deployment);
    router
        .shift(deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    scene.account.inject(Fault {
        operation: "UpdateRoute",
        which: Which::Nth(1),
        kind: FaultKind::Throttled,
    });
    let error = router.settle(deployment, Side::Stable).await.unwrap_err();
    assert!(matches!(error, PortError::Throttled { .. }), "{error:?}");
    assert_eq!(scene.targets(), "checkout-node 95, canary 5");
    assert_eq!(
        scene.targets_of(world::ROUTER, "checkout-route-2"),
        "checkout-node 1"
    );
    assert_eq!(router.settle(deployment, Side::Stable).await, settled(true));
    assert_eq!(scene.targets(), "checkout-node 1");
}

#[tokio::test]
async fn a_node_is_deleted_before_its_registry_and_a_registry_after_its_tasks() {
    let scene = Scene::new().await;
    let before = scene.account.snapshot();
    scene.created(1).await;
    let (aws, deployment) = (&scene.aws, &scene.deployment);
    let first = aws
        .router
        .tear_down(deployment, Side::Canary)
        .await
        .unwrap();
    assert!(
        matches!(&first, Removal::Going(what) if what.contains("Cloud Map service")),
        "{first:?}"
    );
    removed(&scene.account, async || {
        aws.fleet.remove_service(deployment, Side::Canary).await
    })
    .await;
    aws.fleet
        .retire_definition(deployment, Side::Canary)
        .await
        .unwrap();
    assert_eq!(
        aws.router.tear_down(deployment, Side::Canary).await,
        Ok(Removal::Gone)
    );
    assert_eq!(
        aws.router.tear_down(deployment, Side::Canary).await,
        Ok(Removal::Gone)
    );
    assert_eq!(
        scene.account.differences_since(&before),
        Vec::<String>::new()
    );
    assert_eq!(
        aws.router.traces(deployment, Side::Canary).await.certain(),
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_node_that_a_route_still_names_is_not_deleted() {
    let scene = Scene::new().await;
    scene.created(1).await;
    scene
        .aws
        .router
        .shift(&scene.deployment, Weight::ZERO, percent(5.0))
        .await
        .unwrap();
    let removal = scene
        .aws
        .router
        .tear_down(&scene.deployment, Side::Canary)
        .await
        .unwrap();
    let Removal::Going(what) = removal else {
        panic!("it is gone")
    };
    assert!(
        what.contains(&scene.record().canary_node) && what.contains("stop naming"),
        "{what}"
    );
    let traces = scene
        .aws
        .router
        .traces(&scene.deployment, Side::Canary)
        .await
        .certain()
        .unwrap();
    assert_eq!(traces.len(), 3);
    assert!(traces[0].command.starts_with("aws appmesh update-route"));
}

#[tokio::test]
async fn after_a_replacement_stables_objects_go() {
    let scene = Scene::new().await;
    scene.created(4).await;
    let (aws, deployment) = (&scene.aws, &scene.deployment);
    aws.router
        .shift(deployment, Weight::ZERO, percent(100.0))
        .await
        .unwrap();
    assert_eq!(
        aws.router.settle(deployment, Side::Canary).await,
        settled(true)
    );
    assert_eq!(scene.targets(), "canary 1");
    removed(&scene.account, async || {
        aws.fleet.remove_service(deployment, Side::Stable).await
    })
    .await;
    aws.fleet
        .retire_definition(deployment, Side::Stable)
        .await
        .unwrap();
    aws.fleet
        .retire_definition(deployment, Side::Stable)
        .await
        .unwrap();
    removed(&scene.account, async || {
        aws.router.tear_down(deployment, Side::Stable).await
    })
    .await;
    assert!(
        scene
            .account
            .look(|world| world.node(world::NODE).is_none())
    );
}

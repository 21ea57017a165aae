use aws_sdk_appmesh::types::{
    GrpcRoute, GrpcRouteAction, HeaderMatchMethod, HttpRetryPolicy, HttpRoute, HttpRouteAction,
    HttpRouteHeader, HttpRouteMatch, TcpRoute, TcpRouteAction,
};

use super::*;
use crate::fixture::deployment;

fn target(node: &str, weight: u32) -> WeightedTarget {
    WeightedTarget {
        node: node.into(),
        weight,
        port: None,
    }
}

fn mesh_targets(targets: &[WeightedTarget]) -> Vec<MeshTarget> {
    targets.iter().map(to_mesh).collect()
}

/// A route with a match, a header, retries and a priority.
fn http(targets: &[WeightedTarget]) -> HttpRoute {
    let header = HttpRouteHeader::builder()
        .name("x-tester")
        .r#match(HeaderMatchMethod::Exact("yes".into()))
        .build()
        .unwrap();
    HttpRoute::builder()
        .action(
            HttpRouteAction::builder()
                .set_weighted_targets(Some(mesh_targets(targets)))
                .build()
                .unwrap(),
        )
        .r#match(
            HttpRouteMatch::builder()
                .prefix("/")
                .headers(header)
                .build(),
        )
        .retry_policy(
            HttpRetryPolicy::builder()
                .max_retries(2)
                .http_retry_events("server-error")
                .build()
                .unwrap(),
        )
        .build()
}

fn live(targets: &[WeightedTarget], priority: i32) -> Live {
    let spec = RouteSpec::builder()
        .http_route(http(targets))
        .priority(priority)
        .build();
    Live {
        updated_at: None,
        spec,
        version: 5,
        protocol: "http",
        targets: targets.to_vec(),
    }
}

fn record() -> AppMeshRecord {
    super::super::record(&deployment()).clone()
}

fn canary() -> String {
    record().canary_node
}

/// The route as planned: stable alone, or beside another.
fn route(targets: Vec<WeightedTarget>) -> RouteRecord {
    let fingerprint = live(&targets, 1).fingerprint();
    RouteRecord {
        virtual_router: "shop".into(),
        route: "main".into(),
        protocol: "http".into(),
        version: 4,
        fingerprint,
        targets,
        stable_target: 0,
    }
}

fn settled(route: &RouteRecord, live: &Live, on: Side) -> (String, Option<String>) {
    let settled = settle(&deployment(), &record(), route, live, on);
    (
        text(&settled.targets).replace(&canary(), "canary"),
        settled
            .sentence
            .map(|sentence| sentence.replace(&canary(), "canary")),
    )
}

#[test]
fn the_fingerprint_is_of_everything_but_the_weights() {
    let one = live(&[target("checkout", 100)], 1).fingerprint();
    assert_eq!(
        one,
        live(&[target("checkout", 95), target("canary", 5)], 1).fingerprint()
    );
    assert_ne!(one, live(&[target("checkout", 100)], 2).fingerprint());
    assert_eq!(one.len(), 64);
}

#[test]
fn new_targets_leave_the_rest_of_every_kind_of_route_as_it_was() {
    let (before, after) = ([target("a", 100)], [target("a", 90), target("b", 10)]);
    let grpc = |targets: &[WeightedTarget]| {
        let action = GrpcRouteAction::builder()
            .set_weighted_targets(Some(mesh_targets(targets)))
            .build()
            .unwrap();
        RouteSpec::builder()
            .grpc_route(GrpcRoute::builder().action(action).build())
            .priority(3)
            .build()
    };
    let tcp = |targets: &[WeightedTarget]| {
        let action = TcpRouteAction::builder()
            .set_weighted_targets(Some(mesh_targets(targets)))
            .build()
            .unwrap();
        RouteSpec::builder()
            .tcp_route(TcpRoute::builder().action(action).build())
            .build()
    };
    let http2 =
        |targets: &[WeightedTarget]| RouteSpec::builder().http2_route(http(targets)).build();
    let http1 = |targets: &[WeightedTarget]| RouteSpec::builder().http_route(http(targets)).build();
    for (protocol, spec, expected) in [
        ("grpc", grpc(&before), grpc(&after)),
        ("tcp", tcp(&before), tcp(&after)),
        ("http2", http2(&before), http2(&after)),
        ("http", http1(&before), http1(&after)),
    ] {
        assert_eq!(
            with_targets(spec, mesh_targets(&after)),
            expected,
            "{protocol}"
        );
        let (read, targets) = targets_of(&expected).unwrap();
        assert_eq!((read, targets.len()), (protocol, 2));
    }
}

#[test]
fn a_port_survives_the_way_there_and_back() {
    let target = WeightedTarget {
        node: "a".into(),
        weight: 7,
        port: Some(8080),
    };
    assert_eq!(from_mesh(&to_mesh(&target)), target);
    assert_eq!(text(&[target]), "a:8080 7");
}

#[test]
fn the_order_of_targets_means_nothing() {
    assert!(same(
        &[target("a", 1), target("b", 2)],
        &[target("b", 2), target("a", 1)]
    ));
    assert!(!same(&[target("a", 1)], &[target("a", 1), target("a", 1)]));
}

#[test]
fn stable_gets_back_exactly_what_it_had() {
    let alone = route(vec![target("checkout", 1)]);
    for (weight_of_stable, weight_of_canary) in [(95, 5), (75, 25), (50, 50), (0, 100)] {
        let now = live(
            &[
                target("checkout", weight_of_stable),
                target(&canary(), weight_of_canary),
            ],
            1,
        );
        assert_eq!(
            settled(&alone, &now, Side::Stable),
            ("checkout 1".into(), None)
        );
    }
    assert_eq!(
        settled(&alone, &live(&[target("checkout", 1)], 1), Side::Stable),
        ("checkout 1".into(), None)
    );
}

#[test]
fn replacing_puts_the_canary_in_stables_place() {
    let beside = route(vec![target("checkout", 80), target("beta", 20)]);
    let now = live(
        &[
            target("checkout", 0),
            target("beta", 20),
            target(&canary(), 80),
        ],
        1,
    );
    assert_eq!(
        settled(&beside, &now, Side::Canary),
        ("canary 80, beta 20".into(), None)
    );
    let done = live(&[target(&canary(), 80), target("beta", 20)], 1);
    assert_eq!(
        settled(&beside, &done, Side::Canary),
        ("canary 80, beta 20".into(), None)
    );
}

#[test]
fn somebody_elses_weights_stay_and_only_the_canarys_share_moves() {
    let alone = route(vec![target("checkout", 100)]);
    let edited = live(
        &[
            target("checkout", 60),
            target(&canary(), 10),
            target("beta", 30),
        ],
        1,
    );
    let (targets, sentence) = settled(&alone, &edited, Side::Stable);
    assert_eq!(targets, "checkout 70, beta 30");
    assert_eq!(
        sentence.unwrap(),
        "somebody else changed route main of virtual router shop, which has checkout 60, canary 10, beta 30 (App Mesh's version 5); \
         the share of canary goes to checkout, and the rest stays"
    );
}

#[test]
fn a_route_without_the_canary_is_left_as_somebody_else_made_it() {
    let alone = route(vec![target("checkout", 100)]);
    let (targets, sentence) = settled(
        &alone,
        &live(&[target("checkout", 60), target("beta", 40)], 1),
        Side::Stable,
    );
    assert_eq!(targets, "checkout 60, beta 40");
    assert!(sentence.unwrap().ends_with("; that stays"));
}

#[test]
fn a_canary_that_somebody_left_alone_gives_its_place_to_stable() {
    let alone = route(vec![target("checkout", 100)]);
    let (targets, _) = settled(
        &alone,
        &live(&[target(&canary(), 70), target("beta", 30)], 1),
        Side::Stable,
    );
    assert_eq!(targets, "checkout 70, beta 30");
}

#[test]
fn somebody_elses_edit_of_the_match_stays_when_the_weights_go_back() {
    let alone = route(vec![target("checkout", 100)]);
    let edited = live(&[target("checkout", 95), target(&canary(), 5)], 9);
    let (targets, sentence) = settled(&alone, &edited, Side::Stable);
    assert_eq!(targets, "checkout 100");
    assert!(
        sentence
            .unwrap()
            .contains("changed what it matches, its retries, timeouts or priority")
    );
}

#[test]
fn a_changed_route_is_reported_with_both_versions() {
    let route = route(vec![target("checkout", 100)]);
    let written = [target("checkout", 95), target("canary", 5)];
    let now = live(&[target("checkout", 100)], 1);
    assert_eq!(
        changed(&route, &written, Some(&now)),
        "somebody else changed route main of virtual router shop: Serin last wrote checkout 95, canary 5, and now it has \
         checkout 100 (App Mesh's version 5); nothing but the weights differs"
    );
    let now = live(&[target("checkout", 100)], 2);
    assert!(
        changed(&route, &written, Some(&now))
            .ends_with("its retries, timeouts or priority differ too")
    );
    assert!(changed(&route, &written, None).starts_with("somebody else removed route main"));
}

#[test]
fn a_token_is_short_and_belongs_to_one_write() {
    let (deployment, route) = (deployment(), route(vec![target("checkout", 100)]));
    let one = token(&deployment, &route, 4, "1000");
    assert_eq!(one, token(&deployment, &route, 4, "1000"));
    assert_ne!(one, token(&deployment, &route, 5, "1000"));
    assert!(
        one.len() <= 36
            && one
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
        "{one}"
    );
    assert!(token(&deployment, &route, i64::MAX, "stable").len() <= 36);
}

#[test]
fn the_command_for_a_person_keeps_everything_but_the_targets() {
    let mut deployment = deployment();
    deployment.execution =
        serin::ExecutionArn::new("arn:aws:states:eu-west-1:1:execution:serin:one");
    let route = route(vec![target("checkout", 100)]);
    let leftover = leftover(&deployment, &record(), &route, Side::Canary);
    assert_eq!(
        leftover.arn,
        "arn:aws:appmesh:eu-west-1:1:mesh/prod/virtualRouter/shop/route/main"
    );
    assert_eq!(
        leftover.command,
        r#"aws appmesh update-route --mesh-name prod --virtual-router-name shop --route-name main --spec "$(aws appmesh describe-route --mesh-name prod --virtual-router-name shop --route-name main --query route.spec --output json | jq '.httpRoute.action.weightedTargets = [{"virtualNode":"checkout","weight":100}]')""#
    );
}

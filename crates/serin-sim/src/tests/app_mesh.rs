use aws_sdk_appmesh::operation::update_route::builders::UpdateRouteFluentBuilder;
use aws_sdk_appmesh::types::{RouteSpec, WeightedTarget};
use serin_aws::Clients;

use super::account;
use crate::{Account, targets_mut, world};

async fn live_spec(clients: &Clients) -> RouteSpec {
    let route = clients
        .app_mesh
        .describe_route()
        .mesh_name("prod")
        .virtual_router_name(world::ROUTER)
        .route_name(world::ROUTE);
    route.send().await.unwrap().route.unwrap().spec.unwrap()
}

fn with_weights(spec: &RouteSpec, weights: &[(&str, i32)]) -> RouteSpec {
    let mut spec = spec.clone();
    *targets_mut(&mut spec).unwrap() = weights
        .iter()
        .map(|(node, weight)| {
            WeightedTarget::builder()
                .virtual_node(*node)
                .weight(*weight)
                .port(8080)
                .build()
                .unwrap()
        })
        .collect();
    spec
}

fn update(clients: &Clients, spec: RouteSpec) -> UpdateRouteFluentBuilder {
    let update = clients
        .app_mesh
        .update_route()
        .mesh_name("prod")
        .virtual_router_name(world::ROUTER);
    update.route_name(world::ROUTE).spec(spec)
}

async fn with_canary_node() -> (Account, Clients) {
    let account = account();
    let clients = account.clients();
    let node = clients
        .app_mesh
        .describe_virtual_node()
        .mesh_name("prod")
        .virtual_node_name(world::NODE)
        .send()
        .await
        .unwrap();
    let spec = node.virtual_node.unwrap().spec.unwrap();
    clients
        .app_mesh
        .create_virtual_node()
        .mesh_name("prod")
        .virtual_node_name("canary")
        .spec(spec)
        .send()
        .await
        .unwrap();
    (account, clients)
}

#[tokio::test]
async fn a_route_keeps_what_is_written_and_counts_its_versions() {
    let (account, clients) = with_canary_node().await;
    let spec = with_weights(
        &live_spec(&clients).await,
        &[(world::NODE, 90), ("canary", 10)],
    );
    let written = update(&clients, spec.clone())
        .send()
        .await
        .unwrap()
        .route
        .unwrap();
    assert_eq!(written.metadata.unwrap().version, 2);
    assert_eq!(live_spec(&clients).await, spec);
    assert!(
        (account.look(|world| world.percent(world::ROUTER, world::ROUTE, "canary")) - 10.0).abs()
            < 1e-9
    );
}

#[tokio::test]
async fn weights_that_app_mesh_does_not_allow_are_refused() {
    let (_, clients) = with_canary_node().await;
    let spec = live_spec(&clients).await;
    for weights in [
        &[(world::NODE, 101)][..],
        &[(world::NODE, 60), ("canary", 60)],
        &[(world::NODE, -1)],
        &[],
    ] {
        let error = update(&clients, with_weights(&spec, weights))
            .send()
            .await
            .unwrap_err()
            .into_service_error();
        assert!(error.is_bad_request_exception(), "{weights:?}: {error:?}");
    }
    let error = update(&clients, with_weights(&spec, &[("nobody", 1)]))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_not_found_exception(), "{error:?}");
}

#[tokio::test]
async fn a_client_token_stands_for_one_request() {
    let (account, clients) = with_canary_node().await;
    let spec = live_spec(&clients).await;
    let ten = with_weights(&spec, &[(world::NODE, 90), ("canary", 10)]);
    let twenty = with_weights(&spec, &[(world::NODE, 80), ("canary", 20)]);
    update(&clients, ten.clone())
        .client_token("step-1")
        .send()
        .await
        .unwrap();
    let again = update(&clients, ten)
        .client_token("step-1")
        .send()
        .await
        .unwrap()
        .route
        .unwrap();
    assert_eq!(
        again.metadata.unwrap().version,
        2,
        "the same request again is not done again"
    );
    let error = update(&clients, twenty)
        .client_token("step-1")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_conflict_exception(), "{error:?}");
    let error = update(&clients, spec)
        .client_token("x".repeat(37))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_bad_request_exception(), "{error:?}");
    assert_eq!(
        account.look(|world| world.weights(world::ROUTER, world::ROUTE)["canary"]),
        10
    );
}

#[tokio::test]
async fn a_virtual_node_that_a_route_names_cannot_be_deleted() {
    let (_, clients) = with_canary_node().await;
    let spec = live_spec(&clients).await;
    update(
        &clients,
        with_weights(&spec, &[(world::NODE, 1), ("canary", 0)]),
    )
    .send()
    .await
    .unwrap();
    let delete = || {
        clients
            .app_mesh
            .delete_virtual_node()
            .mesh_name("prod")
            .virtual_node_name("canary")
    };
    assert!(
        delete()
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_resource_in_use_exception()
    );
    update(&clients, spec).send().await.unwrap();
    delete().send().await.unwrap();
    assert!(
        delete()
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_not_found_exception()
    );
}

#[tokio::test]
async fn a_virtual_node_has_one_name_and_its_tags() {
    let (_, clients) = with_canary_node().await;
    let spec = clients
        .app_mesh
        .describe_virtual_node()
        .mesh_name("prod")
        .virtual_node_name("canary")
        .send()
        .await
        .unwrap();
    let node = spec.virtual_node.unwrap();
    let create = clients
        .app_mesh
        .create_virtual_node()
        .mesh_name("prod")
        .virtual_node_name("canary")
        .set_spec(node.spec);
    assert!(
        create
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_conflict_exception()
    );
    let stable = clients
        .app_mesh
        .describe_virtual_node()
        .mesh_name("prod")
        .virtual_node_name(world::NODE)
        .send()
        .await
        .unwrap();
    let arn = stable.virtual_node.unwrap().metadata.unwrap().arn;
    let tags = clients
        .app_mesh
        .list_tags_for_resource()
        .resource_arn(arn)
        .send()
        .await
        .unwrap();
    assert_eq!(tags.tags[0].value, "payments");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let clients = account().clients();
    let first = clients
        .app_mesh
        .list_virtual_routers()
        .mesh_name("prod")
        .send()
        .await
        .unwrap();
    assert_eq!(first.virtual_routers.len(), 2);
    let second = clients
        .app_mesh
        .list_virtual_routers()
        .mesh_name("prod")
        .set_next_token(first.next_token)
        .send()
        .await
        .unwrap();
    assert_eq!((second.virtual_routers.len(), second.next_token), (1, None));
}

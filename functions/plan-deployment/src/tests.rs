//! The planner on the account in memory.

use serde_json::{Value, json};
use serin::routing::AppMeshRecord;
use serin::{Deployment, RouterRecord};
use serin_sim::Stage;
use serin_sim::world::{self, Options, RouteKind};

use crate::{PlanDeploymentError, RawRequest, plan_deployment};

async fn plan(stage: &Stage, more: Value) -> Result<Deployment, PlanDeploymentError> {
    let aws = &stage.aws;
    let request = RawRequest(stage.request(more));
    let input = stage.input(request);
    plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .map(|planned| planned.state().unwrap().deployment)
}

/// Refused under this name with these words, and nothing is left, not even the lock.
#[track_caller]
fn assert_refused(
    stage: &Stage,
    before: &serin_sim::Snapshot,
    refused: Result<Deployment, PlanDeploymentError>,
    name: &str,
    words: &[&str],
) {
    let error = refused.expect_err("a refusal");
    let sentence = error.to_string();
    let error: &'static str = error.into();
    assert_eq!(error, name, "{sentence}");
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
    }
    assert_eq!(
        stage.account.differences_since(before),
        Vec::<String>::new()
    );
}

/// What the mesh's router remembers.
fn mesh(router: &RouterRecord) -> &AppMeshRecord {
    let RouterRecord::AppMesh(record) = router else {
        panic!("{router:?}")
    };
    record
}

#[tokio::test]
async fn cluster_service_and_image_are_enough_to_discover_the_rest() {
    let stage = Stage::default();
    let deployment = plan(&stage, json!({})).await.unwrap();
    let router = mesh(&deployment.router);
    assert_eq!(
        (router.mesh.as_str(), router.stable_node.as_str()),
        (world::MESH, world::NODE)
    );
    assert_eq!(router.routes.len(), 1);
    assert_eq!(deployment.stable.desired_count, 4);
    assert_eq!(deployment.canary.family.as_str(), "checkout-canary");
    let (container, image) = deployment.canary.images.first_key_value().unwrap();
    assert_eq!(container.as_str(), "app");
    assert!(image.contains("/checkout@sha256:"), "{image}");
}

#[tokio::test]
async fn every_route_of_every_router_that_names_the_node_is_found_whatever_its_protocol() {
    let stage = Stage::with(&Options {
        routes: vec![
            RouteKind::Http,
            RouteKind::Http2,
            RouteKind::Grpc,
            RouteKind::Tcp,
        ],
        second_router: true,
        ..Options::default()
    });
    let deployment = plan(&stage, json!({})).await.unwrap();
    let router = mesh(&deployment.router);
    let mut protocols: Vec<_> = router
        .routes
        .iter()
        .map(|route| route.protocol.as_str())
        .collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["grpc", "http", "http", "http2", "tcp"]);
}

#[tokio::test]
async fn the_older_variable_names_the_virtual_node_too() {
    let stage = Stage::with(&Options {
        proxy_variable: "APPMESH_VIRTUAL_NODE_NAME",
        ..Options::default()
    });
    let deployment = plan(&stage, json!({})).await.unwrap();
    let router = mesh(&deployment.router);
    assert_eq!(router.stable_node, world::NODE);
}

#[tokio::test]
async fn planning_changes_nothing_but_the_ledger() {
    let stage = Stage::default();
    plan(&stage, json!({})).await.unwrap();
    let writes: Vec<_> = stage
        .account
        .calls()
        .into_iter()
        .map(|call| call.operation)
        .filter(|operation| {
            [
                "Create",
                "Update",
                "Delete",
                "Register",
                "Deregister",
                "Put",
            ]
            .iter()
            .any(|verb| operation.starts_with(verb))
        })
        .collect();
    assert_eq!(writes, ["UpdateItem", "PutItem"]);
}

#[tokio::test]
async fn planning_twice_is_planning_once() {
    let stage = Stage::default();
    let first = plan(&stage, json!({})).await.unwrap();
    assert_eq!(plan(&stage, json!({})).await.unwrap(), first);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_cannot_be_deployed_is_refused_with_the_reason_and_leaves_nothing() {
    let two_apps = Options {
        second_app: true,
        ..Options::default()
    };
    let cases = [
        (
            Options::default(),
            json!({"service": "nobody"}),
            "ServiceNotFound",
            vec!["nobody"],
        ),
        (
            Options::default(),
            json!({"cluster": "nowhere"}),
            "ServiceNotFound",
            vec!["nowhere"],
        ),
        (
            Options {
                controller: "CODE_DEPLOY",
                ..Options::default()
            },
            json!({}),
            "ServiceNotSupported",
            vec!["CODE_DEPLOY", "only ECS"],
        ),
        (
            Options {
                daemon: true,
                ..Options::default()
            },
            json!({}),
            "ServiceNotSupported",
            vec!["DAEMON"],
        ),
        (
            Options {
                strategy: "CANARY",
                ..Options::default()
            },
            json!({}),
            "ServiceNotSupported",
            vec!["strategy CANARY"],
        ),
        (
            Options {
                registry: false,
                ..Options::default()
            },
            json!({}),
            "ServiceNotSupported",
            vec!["Cloud Map"],
        ),
        (
            two_apps.clone(),
            json!({}),
            "AmbiguousDiscovery",
            vec!["app, worker", "the field container decides"],
        ),
        (
            two_apps,
            json!({"container": "ap"}),
            "InvalidRequest",
            vec!["no container \"ap\"", "app"],
        ),
        (
            Options::default(),
            json!({"image": world::app_image("9.9.9")}),
            "ImageNotFound",
            vec!["9.9.9"],
        ),
        (
            Options::default(),
            json!({"plan": {"stepPercent": 12.5, "intervalSeconds": 300}}),
            "WeightNotExpressible",
            vec!["12.5 percent", "the nearest that it can is 12"],
        ),
        (
            Options::default(),
            json!({"checks": {"latencyMs": [{"percentile": 99, "max": 500}]}}),
            "InvalidRequest",
            vec![
                "checks.latencyMs: App Mesh has no latency percentiles",
                "checks.queries",
            ],
        ),
        (
            Options::default(),
            json!({"checks": {"alarms": ["nobody"]}}),
            "AlarmNotFound",
            vec!["nobody"],
        ),
        (
            Options::default(),
            json!({"plan": {}, "capacity": 5}),
            "InvalidRequest",
            vec!["plan: says nothing", "capacity: 5"],
        ),
    ];
    for (options, more, name, words) in cases {
        let stage = Stage::with(&options);
        let before = stage.account.snapshot();
        let refused = plan(&stage, more).await;
        assert_refused(&stage, &before, refused, name, &words);
    }
}

#[tokio::test]
async fn stable_metrics_that_do_not_answer_are_named() {
    let stage = Stage::default();
    stage
        .account
        .settings(|settings| settings.metrics_silent = true);
    let before = stage.account.snapshot();
    let refused = plan(&stage, json!({})).await;
    assert_refused(
        &stage,
        &before,
        refused,
        "MetricsNotFound",
        &["envoy_http_downstream_rq_xx", "checkout", "do not answer"],
    );
}

#[tokio::test]
async fn a_service_that_is_being_deployed_or_short_of_tasks_is_not_steady() {
    let stage = Stage::default();
    stage
        .account
        .scale_by_hand(world::CLUSTER, world::SERVICE, 6);
    let before = stage.account.snapshot();
    let refused = plan(&stage, json!({})).await;
    assert_refused(
        &stage,
        &before,
        refused,
        "ServiceNotSteady",
        &["4 of 6 tasks"],
    );
}

#[tokio::test]
async fn the_second_deployment_of_a_service_is_told_which_one_runs() {
    let stage = Stage::default();
    plan(&stage, json!({})).await.unwrap();
    let before = stage.account.snapshot();
    let refused = plan(&stage.in_execution("second"), json!({})).await;
    assert_refused(
        &stage,
        &before,
        refused,
        "AnotherDeploymentInProgress",
        &["prod/checkout", "execution:serin:first"],
    );
}

#[tokio::test]
async fn an_image_outside_ecr_stays_as_it_is_named_and_the_plan_says_so() {
    let stage = Stage::default();
    let deployment = plan(&stage, json!({"image": "docker.io/library/checkout:2"}))
        .await
        .unwrap();
    assert_eq!(
        deployment.canary.images.values().next().unwrap(),
        "docker.io/library/checkout:2"
    );
    assert!(
        deployment
            .notes
            .iter()
            .any(|note| note.contains("docker.io/library/checkout:2 is not named by its digest"))
    );
}

#[tokio::test]
async fn a_request_may_come_as_the_detail_of_an_event() {
    let stage = Stage::default();
    let event = json!({
        "version": "0", "id": "6a7e8feb-b491", "detail-type": "Release", "source": "my.pipeline", "account": "123456789012",
        "time": "2026-11-21T12:00:00Z", "region": "eu-west-1", "resources": [], "detail": stage.request(json!({})),
    });
    let aws = &stage.aws;
    let input = stage.input(RawRequest(event));
    let state = plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap()
        .state()
        .unwrap();
    assert_eq!(state.deployment.service.to_string(), "prod/checkout");
}

#[tokio::test]
async fn a_repeated_planning_answers_what_the_ledger_keeps_whatever_has_changed() {
    let stage = Stage::default();
    let first = plan(&stage, json!({})).await.unwrap();
    stage
        .account
        .edit_route_by_hand(world::ROUTER, world::ROUTE, |spec| spec.priority = Some(7));
    assert_eq!(plan(&stage, json!({})).await.unwrap(), first);
}

#[tokio::test]
async fn a_task_definition_that_was_deregistered_is_refused_before_hours_are_spent_on_it() {
    use serin::ports::{Fleet, Ledger, Side};
    use serin::report::Ending;

    let stage = Stage::default();
    let first = plan(&stage, json!({})).await.unwrap();
    let now = stage.account.clock().now();
    stage
        .aws
        .ledger
        .close(&first, Ending::RolledBack, None, now)
        .await
        .unwrap();
    stage
        .aws
        .fleet
        .retire_definition(&first, Side::Stable)
        .await
        .unwrap();

    let stage = stage.in_execution("second");
    let mut request = stage.request(json!({"taskDefinition": "checkout:1"}));
    request.as_object_mut().unwrap().remove("image");
    let aws = &stage.aws;
    let input = stage.input(RawRequest(request));
    let error = plan_deployment(&aws.fleet, &aws.router, &aws.signals, &aws.ledger, input)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PlanDeploymentError::ImageNotFound(why) if why.contains("was deregistered")),
        "{error}"
    );
}

#[tokio::test]
async fn a_lock_of_an_execution_that_ended_before_it_had_planned_anything_is_taken_over() {
    use serin::{ExecutionArn, Ledger, ServiceKey};

    let stage = Stage::default();
    let key = ServiceKey {
        cluster: serin::ClusterName::new(world::CLUSTER),
        service: serin::ServiceName::new(world::SERVICE),
    };
    let dead = ExecutionArn::new("arn:aws:states:eu-west-1:123456789012:execution:serin:dead");
    stage.account.set_execution(dead.as_str(), "RUNNING".into());
    stage
        .aws
        .ledger
        .lock(
            &key,
            &dead,
            stage.account.clock().now(),
            stage.account.clock().now(),
        )
        .await
        .unwrap();
    let refused = plan(&stage, json!({})).await.unwrap_err();
    assert!(
        matches!(refused, PlanDeploymentError::AnotherDeploymentInProgress(_)),
        "it may still be planning"
    );
    stage.account.set_execution(dead.as_str(), "ABORTED".into());
    plan(&stage, json!({})).await.unwrap();
}

#[tokio::test]
async fn what_the_request_leaves_out_stays_with_stable_and_so_stable_cannot_be_replaced() {
    let stage = Stage::with(&Options {
        routes: vec![RouteKind::Http, RouteKind::Http2],
        ..Options::default()
    });
    let one = json!({"kind": "appMesh", "routes": [{"virtualRouter": world::ROUTER, "route": world::ROUTE}]});
    let planned = plan(&stage, json!({"router": one})).await.unwrap();
    let note = "route checkout-route-2 of virtual router checkout-router is not shifted";
    assert!(
        planned.notes.iter().any(|said| said.contains(note)),
        "{:?}",
        planned.notes
    );
    let stage = stage.in_execution("second");
    let ledger = &stage.aws.ledger;
    serin::Ledger::close(
        ledger,
        &planned,
        serin::Ending::RolledBack,
        None,
        stage.account.clock().now(),
    )
    .await
    .unwrap();
    let before = stage.account.snapshot();
    let replace = json!({"router": one, "finish": {"mode": "replace"}});
    let refused = plan(&stage, replace).await;
    assert_refused(
        &stage,
        &before,
        refused,
        "ServiceNotSupported",
        &["checkout-route-2", "use promote"],
    );
}

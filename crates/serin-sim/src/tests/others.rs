use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_ecr::types::ImageIdentifier;
use aws_sdk_servicediscovery::types::HealthStatus;
use aws_sdk_sfn::types::ExecutionStatus;

use super::account;
use crate::{Fault, FaultKind, Killed, Which, world};

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test]
async fn a_conditional_write_is_done_once() {
    let account = account();
    let clients = account.clients();
    let lock = |holder: &str| {
        clients
            .dynamo_db
            .put_item()
            .table_name(world::LEDGER_TABLE)
            .item("id", text("service#prod/checkout"))
            .item("holder", text(holder))
            .condition_expression("attribute_not_exists(id) OR #h = :me")
            .expression_attribute_names("#h", "holder")
            .expression_attribute_values(":me", text(holder))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    };
    lock("first").send().await.unwrap();
    lock("first").send().await.unwrap();
    let error = lock("second")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(
        failed,
    ) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(failed.item().unwrap()["holder"], text("first"));
}

#[tokio::test]
async fn an_update_sets_and_removes() {
    let account = account();
    let clients = account.clients();
    let update = |expression: &str, condition: &str| {
        clients
            .dynamo_db
            .update_item()
            .table_name(world::LEDGER_TABLE)
            .key("id", text("x"))
            .update_expression(expression)
            .condition_expression(condition)
            .return_values(ReturnValue::AllNew)
    };
    let first = update("SET phase = :p, other = :p", "attribute_not_exists(phase)")
        .expression_attribute_values(":p", text("a"));
    first.send().await.unwrap();
    let second = update(
        "SET phase = :p REMOVE other",
        "(phase IN (:o, :n) AND phase <> :p) OR NOT attribute_exists(id)",
    )
    .expression_attribute_values(":p", text("b"))
    .expression_attribute_values(":o", text("a"))
    .expression_attribute_values(":n", text("n"));
    let attributes = second.send().await.unwrap().attributes.unwrap();
    assert_eq!(
        (attributes.get("phase"), attributes.get("other")),
        (Some(&text("b")), None)
    );
    for bad in [
        "SET status = :p",
        "SET phase = :q",
        "ADD phase :p",
        "SET phase = :p, unused.path = :p",
    ] {
        let error = update(bad, "attribute_exists(id)")
            .expression_attribute_values(":p", text("c"))
            .send()
            .await
            .unwrap_err();
        assert_eq!(
            error.into_service_error().meta().code(),
            Some("ValidationException"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn cloud_map_has_one_service_of_a_name_and_keeps_it_while_it_has_instances() {
    let account = account();
    let clients = account.clients();
    let summaries = clients.cloud_map.list_services().send().await.unwrap();
    let stable = summaries.services()[0].id().unwrap().to_owned();
    let service = clients
        .cloud_map
        .get_service()
        .id(&stable)
        .send()
        .await
        .unwrap()
        .service
        .unwrap();
    let namespace = service.namespace_id().unwrap();
    let create = |request: &str| {
        clients
            .cloud_map
            .create_service()
            .name("canary")
            .namespace_id(namespace)
            .creator_request_id(request)
    };
    let id = create("one")
        .send()
        .await
        .unwrap()
        .service
        .unwrap()
        .id
        .unwrap();
    assert_eq!(
        create("one")
            .send()
            .await
            .unwrap()
            .service
            .unwrap()
            .id
            .unwrap(),
        id
    );
    let error = create("two").send().await.unwrap_err().into_service_error();
    let aws_sdk_servicediscovery::operation::create_service::CreateServiceError::ServiceAlreadyExists(exists) = error else { panic!("{error:?}") };
    assert_eq!(
        (exists.service_id(), exists.creator_request_id()),
        (Some(id.as_str()), Some("one"))
    );
    clients
        .cloud_map
        .delete_service()
        .id(&id)
        .send()
        .await
        .unwrap();
    let error = clients
        .cloud_map
        .delete_service()
        .id(&stable)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_resource_in_use(), "{error:?}");
    let health = clients
        .cloud_map
        .get_instances_health_status()
        .service_id(&stable)
        .send()
        .await
        .unwrap();
    assert!(
        health.next_token.is_some()
            && health
                .status
                .unwrap()
                .values()
                .all(|status| *status == HealthStatus::Healthy)
    );
    let namespace = clients
        .cloud_map
        .get_namespace()
        .id(namespace)
        .send()
        .await
        .unwrap()
        .namespace
        .unwrap();
    assert_eq!(namespace.name(), Some("prod.local"));
}

#[tokio::test]
async fn an_image_has_a_digest() {
    let account = account();
    let clients = account.clients();
    let describe = |repository: &str, tag: &str| {
        clients
            .ecr
            .describe_images()
            .repository_name(repository)
            .image_ids(ImageIdentifier::builder().image_tag(tag).build())
    };
    let output = describe("checkout", "2.0.0-bad").send().await.unwrap();
    let digest = output.image_details()[0].image_digest().unwrap();
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
    let pinned = format!("123456789012.dkr.ecr.eu-west-1.amazonaws.com/checkout@{digest}");
    assert!(
        account
            .look(|world| world.name_of_image(&pinned))
            .ends_with("checkout:2.0.0-bad")
    );
    assert!(
        describe("checkout", "none")
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_image_not_found_exception()
    );
    assert!(
        describe("none", "1")
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_repository_not_found_exception()
    );
}

#[tokio::test]
async fn an_execution_is_what_the_test_says() {
    let account = account();
    let clients = account.clients();
    let arn = "arn:aws:states:eu-west-1:123456789012:execution:canary:one";
    let describe = || {
        clients
            .step_functions
            .describe_execution()
            .execution_arn(arn)
    };
    assert!(
        describe()
            .send()
            .await
            .unwrap_err()
            .into_service_error()
            .is_execution_does_not_exist()
    );
    account.set_execution(arn, ExecutionStatus::Aborted);
    assert_eq!(
        *describe().send().await.unwrap().status(),
        ExecutionStatus::Aborted
    );
}

#[tokio::test]
async fn every_kind_of_fault_reaches_the_caller() {
    let account = account();
    let clients = account.clients();
    let scale = |count| {
        clients
            .ecs
            .update_service()
            .cluster("prod")
            .service("checkout")
            .desired_count(count)
    };
    let desired = || account.look(|world| world.service("prod", "checkout").unwrap().desired_count);
    let strike = |kind| {
        account.inject(Fault {
            operation: "UpdateService",
            which: Which::Next(1),
            kind,
        });
    };
    let cases = [
        (
            FaultKind::Refused("ClientException", "no"),
            Some("ClientException"),
            400,
            4,
        ),
        (FaultKind::Throttled, Some("ThrottlingException"), 400, 4),
        (FaultKind::Denied, Some("AccessDeniedException"), 400, 4),
        (FaultKind::ServerError, Some("ServerException"), 500, 4),
        (
            FaultKind::DoneThenServerError,
            Some("ServerException"),
            500,
            5,
        ),
    ];
    for (kind, code, status, left) in cases {
        account.heal();
        strike(kind);
        let error = scale(5).send().await.unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert_eq!(error.into_service_error().meta().code(), code);
        assert_eq!(desired(), left);
    }
    account.heal();
    strike(FaultKind::NeverSent);
    assert!(scale(6).send().await.is_err());
    assert_eq!(desired(), 5);
    let before = account.clock().now();
    account.heal();
    strike(FaultKind::AnsweredLate(20));
    assert!(scale(5).send().await.is_ok());
    assert_eq!((account.clock().now() - before).get_seconds(), 20);
    account.heal();
    strike(FaultKind::AnswerLost);
    let error = scale(6).send().await.unwrap_err();
    assert!(
        matches!(error, aws_sdk_ecs::error::SdkError::DispatchFailure(_)),
        "{error:?}"
    );
    assert_eq!(desired(), 6);
    scale(4).send().await.unwrap();
    let ok: Vec<bool> = account.calls().iter().map(|call| call.ok).collect();
    assert_eq!(
        ok,
        [false, false, false, false, false, false, true, false, true]
    );
}

#[tokio::test]
async fn a_fault_for_some_seconds_begins_with_its_first_call_and_then_is_over() {
    let account = account();
    let clients = account.clients();
    account.inject(Fault {
        operation: "DescribeServices",
        which: Which::Span {
            from: 2,
            seconds: 60,
        },
        kind: FaultKind::Denied,
    });
    let mut seen = Vec::new();
    for pause in [600, 0, 59, 1] {
        account.clock().advance(pause);
        let describe = clients.ecs.describe_services().cluster("prod");
        let answer = describe.services("checkout").send().await;
        seen.push(answer.is_ok());
    }
    assert_eq!(seen, [true, false, false, true]);
}

#[tokio::test]
async fn a_call_that_arrives_late_has_no_answer_and_then_an_effect() {
    let account = account();
    let clients = account.clients();
    account.inject(Fault {
        operation: "UpdateService",
        which: Which::Next(1),
        kind: FaultKind::ArrivesLate(14),
    });
    let scale = clients.ecs.update_service().cluster("prod");
    let answer = scale.service("checkout").desired_count(7).send().await;
    let desired = || account.look(|world| world.service("prod", "checkout").unwrap().desired_count);
    assert!(answer.is_err());
    account.clock().advance(13);
    assert_eq!(desired(), 4);
    account.clock().advance(1);
    assert_eq!(desired(), 7);
}

#[tokio::test]
async fn a_killed_lambda_leaves_a_whole_account_behind() {
    let account = account();
    for (kind, left) in [(FaultKind::KilledBefore, 4), (FaultKind::KilledAfter, 5)] {
        account.heal();
        account.inject(Fault {
            operation: "*",
            which: Which::Nth(1),
            kind,
        });
        let clients = account.clients();
        let lambda = tokio::spawn(async move {
            clients
                .ecs
                .update_service()
                .cluster("prod")
                .service("checkout")
                .desired_count(5)
                .send()
                .await
        });
        assert!(lambda.await.unwrap_err().into_panic().is::<Killed>());
        assert_eq!(
            account.look(|world| world.service("prod", "checkout").unwrap().desired_count),
            left
        );
    }
}

#[tokio::test]
async fn a_fault_strikes_the_call_that_it_names_on_every_service() {
    let account = account();
    let clients = account.clients();
    account.inject(Fault {
        operation: "Cloud Map ListServices",
        which: Which::Nth(2),
        kind: FaultKind::Throttled,
    });
    account.inject(Fault {
        operation: "DescribeAlarms",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    account.inject(Fault {
        operation: "ListVirtualRouters",
        which: Which::Always,
        kind: FaultKind::Throttled,
    });
    assert!(clients.cloud_map.list_services().send().await.is_ok());
    assert!(clients.cloud_map.list_services().send().await.is_err());
    assert!(clients.cloud_map.list_services().send().await.is_ok());
    let error = clients
        .cloud_watch
        .describe_alarms()
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert_eq!(error.meta().code(), Some("AccessDenied"));
    let error = clients
        .app_mesh
        .list_virtual_routers()
        .mesh_name("prod")
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    assert!(error.is_too_many_requests_exception(), "{error:?}");
}

//! The gateway before a moto that only says what it was asked.

use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::any;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Effect, Fault, Gateway};
use crate::ports::free_port;

/// Answers every request with its method, path, target and body.
async fn echo(request: Request) -> Json<Value> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    Json(json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "target": header("x-amz-target"),
        "own": header("x-own-header"),
        "body": serde_json::from_slice::<Value>(&body).unwrap_or_default(),
        "Timestamps": [1_700_000_000],
    }))
}

async fn gateway() -> Gateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moto = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(any(echo))).await });
    Gateway::start(free_port().unwrap(), &moto).await.unwrap()
}

fn call(gateway: &Gateway, operation: &str) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .post(format!("{}/", gateway.endpoint()))
        .header(
            "x-amz-target",
            format!("AmazonEC2ContainerServiceV20141113.{operation}"),
        )
        .header("user-agent", "aws-sdk-rust/1 app/shift-weight")
        .header("x-own-header", "mine")
        .body(r#"{"cluster": "demo"}"#)
}

#[tokio::test]
async fn a_call_is_passed_on_as_it_is_and_recorded_with_its_caller() {
    let gateway = gateway().await;
    let answer: Value = call(&gateway, "DescribeServices")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["body"], json!({"cluster": "demo"}));
    assert_eq!(answer["own"], "mine");
    let record = gateway.record();
    let [call] = record.calls.as_slice() else {
        panic!("one call, not {record:?}")
    };
    assert_eq!(
        (call.service.as_str(), call.operation.as_str()),
        ("ecs", "DescribeServices")
    );
    assert_eq!(
        (call.function.as_deref(), call.status),
        (Some("shift-weight"), 200)
    );
    assert_eq!(record.calls_by_operation()["ecs:DescribeServices"], 1);
}

#[tokio::test]
async fn a_fault_answers_once_in_place_of_moto() {
    let gateway = gateway().await;
    gateway.inject(Fault::on("UpdateService").with(Effect::Refuse {
        status: 400,
        error: "ThrottlingException".to_owned(),
        message: "slow down".to_owned(),
    }));
    let refused = call(&gateway, "UpdateService").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(refused.headers()["x-amzn-errortype"], "ThrottlingException");
    assert!(
        call(&gateway, "UpdateService")
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
    let injected: Vec<bool> = gateway
        .record()
        .calls
        .iter()
        .map(|call| call.injected)
        .collect();
    assert_eq!(injected, [true, false]);
}

#[tokio::test]
async fn a_call_in_cbor_reaches_moto_as_json_and_is_answered_in_cbor() {
    let gateway = gateway().await;
    let path = "/service/GraniteServiceVersion20100801/operation/GetMetricData";
    let mut body = Vec::new();
    ciborium::into_writer(&json!({"MaxDatapoints": 5}), &mut body).unwrap();
    let response = reqwest::Client::new()
        .post(format!("{}{path}", gateway.endpoint()))
        .header("smithy-protocol", "rpc-v2-cbor")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["smithy-protocol"], "rpc-v2-cbor");
    let bytes = response.bytes().await.unwrap();
    let answer: ciborium::Value = ciborium::from_reader(&bytes[..]).unwrap();
    let members = answer.as_map().unwrap();
    let member = |name: &str| {
        &members
            .iter()
            .find(|(key, _)| key.as_text() == Some(name))
            .unwrap()
            .1
    };
    assert_eq!(
        member("target").as_text(),
        Some("GraniteServiceVersion20100801.GetMetricData")
    );
    assert_eq!(member("path").as_text(), Some("/"));
    assert!(member("Timestamps").as_array().unwrap()[0].is_tag());
}

#[tokio::test]
async fn an_invocation_without_functions_is_an_error_that_the_state_machine_can_catch() {
    let gateway = gateway().await;
    let response = reqwest::Client::new()
        .post(format!(
            "{}/2015-03-31/functions/rollback/invocations",
            gateway.endpoint()
        ))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["x-amz-function-error"].as_bytes()
        ),
        (200, &b"Unhandled"[..])
    );
    let error: Value = response.json().await.unwrap();
    assert_eq!(error["errorType"], "Lambda.ServiceException");
    assert_eq!(
        gateway.record().invocations[0].error.as_deref(),
        Some("Lambda.ServiceException")
    );
}

#[tokio::test]
async fn a_caller_is_left_without_an_answer_at_once_or_for_as_long_as_it_likes() {
    let gateway = gateway().await;
    gateway.inject(
        Fault::on_any_call()
            .every(1)
            .with_in_turn([Effect::Close, Effect::Silence]),
    );
    let closed = call(&gateway, "DescribeServices").send().await.unwrap_err();
    assert!(!closed.is_timeout() && !closed.is_connect(), "{closed:?}");
    let silent = call(&gateway, "DescribeServices").timeout(Duration::from_millis(200));
    assert!(silent.send().await.unwrap_err().is_timeout());
    let statuses: Vec<u16> = gateway
        .record()
        .calls
        .iter()
        .map(|call| call.status)
        .collect();
    assert_eq!(statuses, [0, 0]);
    gateway.mend();
    assert!(
        call(&gateway, "DescribeServices")
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
    );
}

#[tokio::test]
async fn what_is_put_on_the_event_bus_can_be_read() {
    let gateway = gateway().await;
    let entry = json!({"Source": "serin", "DetailType": "Frozen", "Detail": r#"{"token": "t"}"#});
    let answer = reqwest::Client::new()
        .post(format!("{}/", gateway.endpoint()))
        .header("x-amz-target", "AWSEvents.PutEvents")
        .body(json!({"Entries": [entry]}).to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
    let events = gateway.events();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].source.as_str(), events[0].detail_type.as_str()),
        ("serin", "Frozen")
    );
    assert_eq!(events[0].detail, json!({"token": "t"}));
}

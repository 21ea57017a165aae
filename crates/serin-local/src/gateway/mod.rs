//! The gateway before moto: the one address that functions, the state machine and people talk to.
//!
//! It passes API calls on to moto and changes nothing but what moto cannot do: it invokes the functions, speaks CBOR,
//! completes ECS's answers with what really runs, and says why an execution was stopped. Everything that goes through is
//! recorded, and any of it can be made to fail. It deliberately holds no state of AWS but what moto forgets.

mod cbor;
mod cloud_watch;
mod elb;
mod event;
mod fault;
mod invocation;
mod operation;
mod record;
mod repair;
mod stops;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_body::Frame;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::data_plane::{EcsRuntime, ResponseTimes, TargetRuntime};
use crate::functions::FunctionProcesses;
use crate::moto::Moto;
use crate::query;
use crate::stack::REGION;
use crate::status_page;

pub use self::event::Event;
pub use self::fault::{Effect, Fault};
pub use self::record::{Call, Invocation, Mark, Record};

pub(crate) use self::event::Events;
use self::fault::Faults;
use self::operation::Operation;
use self::record::Recorder;
use self::stops::{Stop, Stops};

/// Where the status page is.
pub(crate) const STATUS_PAGE: &str = "/status";

/// The status that is recorded of a call that got no answer.
const NO_ANSWER: u16 = 0;

/// The largest body that is read.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// Headers that belong to one connection and are not passed on.
const HOP_BY_HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The running gateway. Dropping it stops it.
#[derive(Debug)]
pub struct Gateway {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Gateway {
    /// Listens on a free port and passes calls on to the moto at `moto`, such as `http://127.0.0.1:5000`, which need not
    /// be up yet.
    ///
    /// # Errors
    ///
    /// When no port is free or no HTTP client can be made.
    pub async fn start(port: u16, moto: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let port = listener.local_addr()?.port();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            moto: moto.trim_end_matches('/').to_owned(),
            client: Moto::new(moto, REGION).map_err(std::io::Error::other)?,
            http,
            recorder: Recorder::default(),
            faults: Faults::default(),
            events: Arc::default(),
            stops: Stops::default(),
            ecs: OnceLock::new(),
            targets: OnceLock::new(),
            response_times: OnceLock::new(),
            functions: OnceLock::new(),
        });
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            tokio::select! {
                // Serving ends only with an error of the listener, and then there is nobody left to tell.
                _ = axum::serve(listener, app) => {}
                _ = stopped => {}
            }
        });
        Ok(Self {
            port,
            shared,
            stop: Some(stop),
            server,
        })
    }

    /// Where it listens, such as `http://127.0.0.1:5001`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Everything that went through so far.
    pub fn record(&self) -> Record {
        self.shared.recorder.read()
    }

    /// What has been put on EventBridge's bus so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.shared.events.heard()
    }

    /// What was said when an execution was stopped, if it was stopped here.
    pub(crate) fn stop_of(&self, execution: &str) -> Option<Stop> {
        self.shared.stops.of(execution)
    }

    /// The bus itself, for whoever listens to it.
    pub(crate) fn bus(&self) -> Arc<Events> {
        Arc::clone(&self.shared.events)
    }

    /// Makes a fault when its time comes.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Makes no more faults.
    pub fn mend(&self) {
        self.shared.faults.clear();
    }

    /// From now on ECS's answers tell what really runs.
    pub(crate) fn complete_ecs_with(&self, runtime: Arc<EcsRuntime>) {
        let _ = self.shared.ecs.set(runtime);
    }

    /// From now on Elastic Load Balancing's answers tell how it really stands with the targets.
    pub(crate) fn complete_targets_with(&self, targets: Arc<TargetRuntime>) {
        let _ = self.shared.targets.set(targets);
    }

    /// From now on CloudWatch answers percentiles.
    pub(crate) fn complete_metrics_with(&self, response_times: Arc<ResponseTimes>) {
        let _ = self.shared.response_times.set(response_times);
    }

    /// From now on the functions can be invoked.
    pub(crate) fn invoke_with(&self, functions: Arc<FunctionProcesses>) {
        let _ = self.shared.functions.set(functions);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.server.abort();
    }
}

#[derive(Debug)]
struct Shared {
    moto: String,
    /// For questions of the gateway's own.
    client: Moto,
    http: reqwest::Client,
    recorder: Recorder,
    faults: Faults,
    events: Arc<Events>,
    stops: Stops,
    ecs: OnceLock<Arc<EcsRuntime>>,
    targets: OnceLock<Arc<TargetRuntime>>,
    response_times: OnceLock<Arc<ResponseTimes>>,
    functions: OnceLock<Arc<FunctionProcesses>>,
}

/// An API call, in the form in which moto takes it.
struct ApiRequest {
    method: Method,
    path_and_query: String,
    headers: HeaderMap,
    body: Bytes,
}

impl ApiRequest {
    /// The same request with its body repaired, if it is JSON.
    fn repaired_by(mut self, repair: fn(&mut Value)) -> Self {
        if let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) {
            repair(&mut body);
            self.body = body.to_string().into();
        }
        self
    }
}

/// What is answered to it.
struct ApiResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    injected: bool,
    /// Whether the caller gets an answer at all.
    answered: bool,
}

impl ApiResponse {
    /// The connection is closed without an answer, by a fault.
    fn none() -> Self {
        Self {
            answered: false,
            ..Self::error(503, "NoAnswer", "no answer")
        }
        .injected()
    }

    /// An error as AWS's JSON protocols tell it: the name in the body and in a header, whichever the caller reads.
    fn error(status: u16, name: &str, message: &str) -> Self {
        let body = json!({"__type": name, "message": message}).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-amz-json-1.1"),
        );
        if let Ok(name) = HeaderValue::from_str(name) {
            headers.insert("x-amzn-errortype", name);
        }
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: body.into(),
            injected: false,
            answered: true,
        }
    }

    /// An error as the query protocol tells it.
    fn query_error(status: u16, code: &str, message: &str) -> Self {
        Self {
            body: query::error_xml(code, message).into(),
            ..Self::xml(status)
        }
    }

    /// An answer of the query protocol, still empty.
    fn xml(status: u16) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: Bytes::new(),
            injected: false,
            answered: true,
        }
    }

    /// An answer of a JSON protocol.
    fn json(answer: &Value) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-amz-json-1.1"),
        );
        Self {
            status: StatusCode::OK,
            headers,
            body: answer.to_string().into(),
            injected: false,
            answered: true,
        }
    }

    fn injected(mut self) -> Self {
        self.injected = true;
        self
    }

    fn into_response(self) -> Response {
        if !self.answered {
            return Response::new(Body::new(Broken));
        }
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A body that breaks off before it has begun. The server closes the connection then, and nothing has been sent.
struct Broken;

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

/// Answers whatever comes.
async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return ApiResponse::error(413, "RequestTooLarge", "the body is too large").into_response();
    };
    let path = parts.uri.path().to_owned();
    if let Some(function) = invocation::function_of(&path) {
        return shared.invoke(&function, body).await.into_response();
    }
    if path == STATUS_PAGE {
        let query = parts.uri.query().unwrap_or_default();
        return shared.status_page(&parts.method, query, &body).await;
    }
    let request = ApiRequest {
        method: parts.method,
        path_and_query: parts
            .uri
            .path_and_query()
            .map_or(path.clone(), ToString::to_string),
        headers: parts.headers,
        body,
    };
    let response = if let Some(target) = cbor::target(&path) {
        shared.call_in_cbor(&target, request).await
    } else {
        let operation = Operation::of(&request.method, &path, &request.headers, &request.body);
        shared.call(&operation, request).await
    };
    response.into_response()
}

/// An error in the protocol of the operation.
fn error_of(operation: &Operation, status: u16, name: &str, message: &str) -> ApiResponse {
    if operation.service == elb::SERVICE {
        ApiResponse::query_error(status, name, message)
    } else {
        ApiResponse::error(status, name, message)
    }
}

impl Shared {
    /// Draws the status page, or carries out what was decided on it.
    async fn status_page(&self, method: &Method, query: &str, body: &[u8]) -> Response {
        let (function, input) = if *method == Method::POST {
            let form = String::from_utf8_lossy(body);
            ("decide", status_page::decided_with(&form))
        } else {
            ("status", status_page::drawn_with(query))
        };
        let answered = self.invoke(function, input.to_string().into()).await.body;
        let html: Value = serde_json::from_slice(&answered).unwrap_or_default();
        let page = match html.as_str() {
            Some(html) => status_page::served(html, status_page::theme_of(query)),
            // A function's error has no markup.
            None => String::from_utf8_lossy(&answered).into_owned(),
        };
        let mut response = Response::new(Body::from(page));
        let kind = match html {
            Value::String(_) => "text/html; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// Carries out a call that came in CBOR: moto sees JSON, the caller sees CBOR.
    async fn call_in_cbor(&self, target: &str, mut request: ApiRequest) -> ApiResponse {
        let operation = Operation::from_target(target);
        let mut response = match cbor::to_json(&request.body) {
            Ok(json) => {
                "/".clone_into(&mut request.path_and_query);
                request.headers.remove(header::ACCEPT);
                request.headers.remove(cbor::PROTOCOL.0);
                request.headers.insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-amz-json-1.0"),
                );
                if let Ok(target) = HeaderValue::from_str(target) {
                    request.headers.insert("x-amz-target", target);
                }
                request.body = json.to_string().into();
                self.call(&operation, request).await
            }
            Err(error) => ApiResponse::error(400, "SerializationException", &error.to_string()),
        };
        response.body = cbor::from_json(&response.body).into();
        response.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/cbor"),
        );
        response
            .headers
            .insert(cbor::PROTOCOL.0, HeaderValue::from_static(cbor::PROTOCOL.1));
        response
    }

    /// Carries out a call, with the fault that meets it, and records it.
    async fn call(&self, operation: &Operation, request: ApiRequest) -> ApiResponse {
        let (at, started) = (Timestamp::now(), Instant::now());
        let function = operation::caller(&request.headers);
        let call = |status: u16, injected: bool| Call {
            service: operation.service.clone(),
            operation: operation.name.clone(),
            function: function.clone(),
            status,
            injected,
            at,
            duration: started.elapsed(),
        };
        let response = match self.faults.meet(&operation.name, function.as_deref()) {
            Some(Effect::Refuse {
                status,
                error,
                message,
            }) => error_of(operation, status, &error, &message).injected(),
            Some(Effect::LoseAnswer) => {
                self.perform(operation, request).await;
                error_of(operation, 503, "ServiceUnavailable", "the answer was lost").injected()
            }
            Some(Effect::Delay(duration)) => {
                tokio::time::sleep(duration).await;
                self.perform(operation, request).await.injected()
            }
            Some(Effect::Close) => ApiResponse::none(),
            Some(Effect::Silence) => {
                // The caller goes before this ends, and this is dropped then: it is recorded now or never.
                self.recorder.call(call(NO_ANSWER, true));
                return std::future::pending().await;
            }
            Some(Effect::Kill) => {
                self.perform(operation, request).await;
                // With the process its connection goes, and with that this.
                self.recorder.call(call(NO_ANSWER, true));
                self.kill(function.as_deref()).await;
                return ApiResponse::none();
            }
            None => self.perform(operation, request).await,
        };
        let status = if response.answered {
            response.status.as_u16()
        } else {
            NO_ANSWER
        };
        self.recorder.call(call(status, response.injected));
        response
    }

    /// Kills the process of a function, if it has one.
    async fn kill(&self, function: Option<&str>) {
        let process = self
            .functions
            .get()
            .zip(function)
            .and_then(|(functions, function)| functions.get(function));
        if let Some(process) = process {
            process.kill().await;
        }
    }

    /// Has moto answer, and completes or repairs what it answers.
    async fn perform(&self, operation: &Operation, request: ApiRequest) -> ApiResponse {
        match (operation.service.as_str(), self.ecs.get()) {
            ("ecs", Some(ecs)) => self.ask_ecs(ecs, operation, request).await,
            ("appmesh", _) => self.ask_app_mesh(request).await,
            (elb::SERVICE, _) => self.ask_load_balancing(operation, request).await,
            ("application-autoscaling", _) => self.ask_auto_scaling(request).await,
            ("cloudwatch", _) if operation.name == "GetMetricData" => {
                self.ask_cloud_watch(request).await
            }
            ("states", _) if operation.name == "StartExecution" => {
                let request = request.repaired_by(repair::start_execution_request);
                self.pass_on(request).await
            }
            ("states", _) if operation.name == "StopExecution" => {
                let asked = serde_json::from_slice(&request.body).unwrap_or_default();
                let answer = self.pass_on(request).await;
                if answer.status.is_success() {
                    self.stops.hear(&asked);
                }
                answer
            }
            ("states", _) if operation.name == "DescribeExecution" => {
                let mut response = self.pass_on(request).await;
                if let Ok(mut answer) = serde_json::from_slice(&response.body) {
                    self.stops.complete(&mut answer);
                    response.body = answer.to_string().into();
                }
                response
            }
            ("events", _) if operation.name == "PutEvents" => {
                let heard = self.events.hear(&request.body);
                let answer = self.pass_on(request).await;
                // The template's rule hands on what a frozen deployment asks; moto's bus delivers nothing.
                for event in heard.iter().filter(|event| event.is_question()) {
                    let body = json!({"source": event.source, "detail-type": event.detail_type, "detail": event.detail});
                    drop(self.run("decide", body.to_string().into()).await);
                }
                answer
            }
            _ => self.pass_on(request).await,
        }
    }

    async fn ask_app_mesh(&self, request: ApiRequest) -> ApiResponse {
        let request = request.repaired_by(repair::app_mesh_request);
        let mut response = self.pass_on(request).await;
        if let Ok(mut answer) = serde_json::from_slice::<Value>(&response.body) {
            response.status = repair::app_mesh_answer(response.status, &mut answer);
            if let Some(name) = answer["__type"]
                .as_str()
                .and_then(|name| HeaderValue::from_str(name).ok())
            {
                response.headers.insert("x-amzn-errortype", name);
            }
            response.body = answer.to_string().into();
        }
        response
    }

    async fn ask_auto_scaling(&self, request: ApiRequest) -> ApiResponse {
        let mut response = self.pass_on(request).await;
        if let Ok(mut answer) = serde_json::from_slice::<Value>(&response.body) {
            repair::auto_scaling_answer(&mut answer);
            response.body = answer.to_string().into();
        }
        response
    }

    async fn ask_ecs(
        &self,
        ecs: &EcsRuntime,
        operation: &Operation,
        request: ApiRequest,
    ) -> ApiResponse {
        let question: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if let Some(answer) = ecs.answer(&operation.name, &question) {
            return ApiResponse::json(&answer);
        }
        if matches!(operation.name.as_str(), "CreateService" | "UpdateService")
            && let Err(refused) = self.check_load_balancers(&question["loadBalancers"]).await
        {
            return refused;
        }
        let mut response = self.pass_on(request).await;
        if response.status.is_success()
            && let Ok(mut answer) = serde_json::from_slice::<Value>(&response.body)
        {
            ecs.overlay(&operation.name, &question, &mut answer);
            response.body = answer.to_string().into();
        }
        response
    }

    /// Sends a request to moto and brings back its answer, both unchanged.
    async fn pass_on(&self, request: ApiRequest) -> ApiResponse {
        let mut headers = request.headers;
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        let sent = self
            .http
            .request(
                request.method,
                format!("{}{}", self.moto, request.path_and_query),
            )
            .headers(headers)
            .timeout(Duration::from_mins(1))
            .body(request.body)
            .send()
            .await;
        let unavailable = |error: reqwest::Error| {
            ApiResponse::error(
                503,
                "ServiceUnavailable",
                &format!("moto did not answer: {error}"),
            )
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => return unavailable(error),
        };
        let status = response.status();
        let mut headers = response.headers().clone();
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        match response.bytes().await {
            Ok(body) => ApiResponse {
                status,
                headers,
                body,
                injected: false,
                answered: true,
            },
            Err(error) => unavailable(error),
        }
    }

    /// Invokes a function, with the fault that meets the invocation, and records it.
    async fn invoke(&self, function: &str, body: Bytes) -> ApiResponse {
        let (at, started) = (Timestamp::now(), Instant::now());
        let result = match self.faults.meet(fault::INVOKE, Some(function)) {
            Some(Effect::Refuse { error, message, .. }) => {
                Err(invocation::FunctionError::named(&error, &message))
            }
            Some(Effect::LoseAnswer) => {
                let _ = self.run(function, body).await;
                Err(invocation::FunctionError::named(
                    "Lambda.Unknown",
                    "the answer was lost",
                ))
            }
            Some(Effect::Delay(duration)) => {
                tokio::time::sleep(duration).await;
                self.run(function, body).await
            }
            Some(Effect::Close | Effect::Silence) => Err(invocation::FunctionError::named(
                "Lambda.SdkClientException",
                "Lambda did not answer",
            )),
            Some(Effect::Kill) => {
                let _ = self.run(function, body).await;
                self.kill(Some(function)).await;
                Err(invocation::FunctionError::ended(function))
            }
            None => self.run(function, body).await,
        };
        self.recorder.invocation(Invocation {
            function: function.to_owned(),
            at,
            duration: started.elapsed(),
            error: result.as_ref().err().map(|error| error.name.clone()),
        });
        invocation::answer(result)
    }

    async fn run(&self, function: &str, body: Bytes) -> Result<Bytes, invocation::FunctionError> {
        let Some(functions) = self.functions.get() else {
            return Err(invocation::FunctionError::named(
                "Lambda.ServiceException",
                "the functions have not been started",
            ));
        };
        invocation::run(&self.http, functions, function, body).await
    }
}

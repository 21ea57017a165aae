//! The application that the local cloud deploys: a small web service whose behaviour follows from its image's tag.
//!
//! It plays the user's container, so it knows nothing of Serin. `VERSION` is the image's tag, `PORT` the port to listen
//! on at 127.0.0.1, and `BEHAVIOUR` one of `good`, `bad`, `slow` and `crash`. On SIGTERM it finishes what is in flight
//! and goes, as a well-behaved container does.
#![expect(
    clippy::disallowed_methods,
    reason = "it is the world that a deployment acts on, and the world has real time"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::signal::unix::{SignalKind, signal};

/// Of this many requests a bad version answers the last with 500: exactly a tenth, so that figures can be predicted.
const BAD_ONE_IN: u64 = 10;

/// How long a slow version thinks about each request.
const SLOW_THINKS: Duration = Duration::from_millis(300);

/// The path that every version takes long to answer, and how long.
const LONG: (&str, Duration) = ("/slow", Duration::from_secs(3));

/// How long a crashing version lives.
const CRASH_AFTER: Duration = Duration::from_millis(200);

/// What the version does with requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Good,
    Bad,
    Slow,
    Crash,
}

impl Behaviour {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "good" => Some(Self::Good),
            "bad" => Some(Self::Bad),
            "slow" => Some(Self::Slow),
            "crash" => Some(Self::Crash),
            _ => None,
        }
    }
}

/// One running version.
struct Service {
    version: String,
    behaviour: Behaviour,
    requests: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("sample-service: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let version = std::env::var("VERSION").map_err(|_| "VERSION is not set".to_owned())?;
    let port = std::env::var("PORT")
        .ok()
        .and_then(|port| port.parse::<u16>().ok())
        .ok_or("PORT is not set to a port")?;
    let behaviour = std::env::var("BEHAVIOUR").unwrap_or_else(|_| "good".to_owned());
    let behaviour = Behaviour::from_name(&behaviour).ok_or_else(|| {
        format!("BEHAVIOUR is {behaviour}, allowed are good, bad, slow and crash")
    })?;

    if behaviour == Behaviour::Crash {
        tokio::time::sleep(CRASH_AFTER).await;
        return Err(format!(
            "version {version} cannot start: the configuration names no database"
        ));
    }

    let mut terminate = signal(SignalKind::terminate())
        .map_err(|source| format!("cannot listen for SIGTERM: {source}"))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|source| format!("cannot listen on port {port}: {source}"))?;
    let service = Arc::new(Service {
        version,
        behaviour,
        requests: AtomicU64::new(0),
    });
    let routes = Router::new()
        .route("/health", get(|| async { "healthy\n" }))
        .fallback(answer)
        .with_state(service);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
        .map_err(|source| format!("stopped serving: {source}"))
}

/// Answers any request but the health check. Health checks are not counted: a version is as bad as its real traffic.
async fn answer(State(service): State<Arc<Service>>, uri: Uri) -> Response {
    let number = service.requests.fetch_add(1, Ordering::Relaxed) + 1;
    if uri.path() == LONG.0 {
        tokio::time::sleep(LONG.1).await;
    }
    if service.behaviour == Behaviour::Slow {
        tokio::time::sleep(SLOW_THINKS).await;
    }
    let status = if service.behaviour == Behaviour::Bad && number.is_multiple_of(BAD_ONE_IN) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    (
        status,
        [("x-version", service.version.clone())],
        format!("version {} says {}\n", service.version, status.as_u16()),
    )
        .into_response()
}

//! The application that the local cloud deploys: a small web service whose behaviour follows from its image's tag.
//!
//! It plays the user's container, so it knows nothing of Serin. `VERSION` is the image's tag, `PORT` the port to listen
//! on at 127.0.0.1, and `BEHAVIOUR` one of `good`, `worse`, `bad`, `slow` and `crash`. `DEPENDENCY`, if it is set, names the
//! file that plays something which every version needs: it says of how many requests one fails there. On SIGTERM it
//! finishes what is in flight and goes, as a well-behaved container does.
#![expect(
    clippy::disallowed_methods,
    reason = "it is the world that a deployment acts on, and the world has real time"
)]

use std::path::{Path, PathBuf};
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

/// And a worse one, which is hard to see beside the failures of others.
const WORSE_ONE_IN: u64 = 25;

/// How often the dependency's file is read.
const READ_EVERY: Duration = Duration::from_millis(200);

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
    Worse,
    Bad,
    Slow,
    Crash,
}

impl Behaviour {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "good" => Some(Self::Good),
            "worse" => Some(Self::Worse),
            "bad" => Some(Self::Bad),
            "slow" => Some(Self::Slow),
            "crash" => Some(Self::Crash),
            _ => None,
        }
    }

    /// Of how many requests one fails by the version's own fault.
    fn fails_one_in(self) -> Option<u64> {
        match self {
            Self::Bad => Some(BAD_ONE_IN),
            Self::Worse => Some(WORSE_ONE_IN),
            Self::Good | Self::Slow | Self::Crash => None,
        }
    }
}

/// Whether the request of this number fails, counted from one: by the version's own fault the last of so many, by the
/// dependency's the first. So both add up where one number divides the other.
fn fails(number: u64, itself: Option<u64>, dependency: Option<u64>) -> bool {
    let is_at = |place: u64, one_in: u64| one_in > 0 && number % one_in == place % one_in;
    itself.is_some_and(|one_in| is_at(0, one_in))
        || dependency.is_some_and(|one_in| is_at(1, one_in))
}

/// Of how many requests one fails in what every version needs; 0 when none does.
#[derive(Default)]
struct Dependency(AtomicU64);

impl Dependency {
    fn fails_one_in(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|one_in| *one_in > 0)
    }

    /// Reads the file again and again. One that is absent or empty says that nothing fails.
    async fn follow(self: Arc<Self>, path: PathBuf) {
        loop {
            self.0.store(read(&path).unwrap_or(0), Ordering::Relaxed);
            tokio::time::sleep(READ_EVERY).await;
        }
    }
}

fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// One running version.
struct Service {
    version: String,
    behaviour: Behaviour,
    dependency: Arc<Dependency>,
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
        format!("BEHAVIOUR is {behaviour}, allowed are good, worse, bad, slow and crash")
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
    let dependency = Arc::new(Dependency::default());
    if let Some(path) = std::env::var_os("DEPENDENCY") {
        tokio::spawn(Arc::clone(&dependency).follow(path.into()));
    }
    let service = Arc::new(Service {
        version,
        behaviour,
        dependency,
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
    let (itself, dependency) = (
        service.behaviour.fails_one_in(),
        service.dependency.fails_one_in(),
    );
    let status = if fails(number, itself, dependency) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 300 requests fail.
    fn failed(itself: Option<u64>, dependency: Option<u64>) -> usize {
        let fails = |number: &u64| fails(*number, itself, dependency);
        (1..=300).filter(fails).count()
    }

    #[test]
    fn of_a_number_of_requests_exactly_the_promised_ones_fail() {
        let of = Behaviour::fails_one_in;
        assert_eq!(failed(of(Behaviour::Good), None), 0);
        assert_eq!(failed(of(Behaviour::Bad), None), 30);
        assert_eq!(failed(None, Some(1)), 300);
        assert_eq!(failed(None, Some(3)), 100);
    }

    #[test]
    fn a_worse_version_fails_three_times_as_often_as_a_good_one_whose_dependency_fails() {
        let good = failed(Behaviour::Good.fails_one_in(), Some(50));
        let worse = failed(Behaviour::Worse.fails_one_in(), Some(50));
        assert_eq!((good, worse), (6, 18));
    }

    #[test]
    fn a_dependency_of_which_nothing_is_said_does_not_fail() {
        assert_eq!(read(Path::new("/nowhere")), None);
        assert_eq!(Dependency::default().fails_one_in(), None);
    }
}

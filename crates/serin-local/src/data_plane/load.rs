//! The load: a caller that asks at a constant rate and keeps account of what it got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// The header in which the application says which version answered. Envoy's own answers lack it.
const VERSION_HEADER: &str = "x-version";

/// How long a request may take. Longer than any route's time-out in the local cloud, so that a request which is cut off
/// here was truly lost.
const TIME_OUT: Duration = Duration::from_secs(20);

/// Over how many clients, each with connections of its own, the requests are spread.
const CLIENTS: usize = 16;

/// How many failures that the deployment caused are kept as text.
const EXAMPLES_KEPT: usize = 10;

/// A caller that asks at a constant rate, however long the answers take.
#[derive(Debug)]
pub struct LoadGenerator {
    stats: Arc<Mutex<LoadStats>>,
    halt: tokio::sync::watch::Sender<bool>,
    asking: JoinHandle<()>,
}

/// What the caller got so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadStats {
    /// How many requests were answered or lost.
    pub requests: u64,
    /// How many were answered with 5xx by the application itself: they are a bad version's fault.
    pub failed_by_canary: u64,
    /// How many were refused, reset, timed out or not answered by any version: they are a bad deployment's fault.
    pub failed_by_deployment: u64,
    /// What each version answered.
    pub by_version: BTreeMap<String, VersionCount>,
    /// When the first request failed, for whichever cause.
    pub first_failure_at: Option<Timestamp>,
    /// When the last request failed, for whichever cause.
    pub last_failure_at: Option<Timestamp>,
    /// The first few failures that the deployment caused, in words.
    pub examples: Vec<String>,
}

/// What one version answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VersionCount {
    /// How many requests it answered.
    pub requests: u64,
    /// How many of them with 5xx.
    pub failed: u64,
}

/// What came of one request.
enum Outcome {
    Answered { version: String, failed: bool },
    Lost(String),
}

impl LoadGenerator {
    /// Begins to ask `url` so many times a second. Must be called inside a Tokio runtime.
    ///
    /// # Panics
    ///
    /// Panics if `requests_per_second` is 0.
    pub fn start(url: &str, requests_per_second: u32) -> Self {
        let stats = Arc::new(Mutex::new(LoadStats::default()));
        let (halt, halted) = tokio::sync::watch::channel(false);
        let every = Duration::from_secs(1) / requests_per_second;
        let asking = tokio::spawn(ask(url.to_owned(), every, Arc::clone(&stats), halted));
        Self {
            stats,
            halt,
            asking,
        }
    }

    /// What the caller got so far.
    pub fn stats(&self) -> LoadStats {
        lock(&self.stats).clone()
    }

    /// Stops asking and waits for the answers that are still out.
    pub async fn stop(self) -> LoadStats {
        self.halt.send_replace(true);
        let _ = self.asking.await;
        lock(&self.stats).clone()
    }
}

impl LoadStats {
    fn count(&mut self, outcome: Outcome) {
        self.requests += 1;
        let failed = match outcome {
            Outcome::Answered { version, failed } => {
                let count = self.by_version.entry(version).or_default();
                count.requests += 1;
                count.failed += u64::from(failed);
                self.failed_by_canary += u64::from(failed);
                failed
            }
            Outcome::Lost(why) => {
                self.failed_by_deployment += 1;
                if self.examples.len() < EXAMPLES_KEPT {
                    self.examples.push(format!("{}: {why}", Timestamp::now()));
                }
                true
            }
        };
        if failed {
            let now = Timestamp::now();
            self.first_failure_at.get_or_insert(now);
            self.last_failure_at = Some(now);
        }
    }
}

async fn ask(
    url: String,
    every: Duration,
    stats: Arc<Mutex<LoadStats>>,
    mut halted: tokio::sync::watch::Receiver<bool>,
) {
    let clients: Vec<reqwest::Client> = (0..CLIENTS)
        .filter_map(|_| {
            reqwest::Client::builder()
                .no_proxy()
                .timeout(TIME_OUT)
                .build()
                .ok()
        })
        .collect();
    let mut ticks = tokio::time::interval(every);
    // A caller that was held up catches up: the rate is what was promised.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waiting = JoinSet::new();
    for client in clients.iter().cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = halted.wait_for(|halted| *halted) => break,
        }
        let request = client.get(&url);
        let stats = Arc::clone(&stats);
        waiting.spawn(async move {
            let outcome = outcome(request).await;
            lock(&stats).count(outcome);
        });
        while waiting.try_join_next().is_some() {}
    }
    waiting.join_all().await;
}

async fn outcome(request: reqwest::RequestBuilder) -> Outcome {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(problem) => return Outcome::Lost(with_causes(&problem)),
    };
    let status = answer.status();
    let version = answer
        .headers()
        .get(VERSION_HEADER)
        .and_then(|version| version.to_str().ok())
        .map(ToOwned::to_owned);
    // An answer counts when it has arrived whole.
    let body = match answer.text().await {
        Ok(body) => body,
        Err(problem) => return Outcome::Lost(with_causes(&problem)),
    };
    match version {
        Some(version) => Outcome::Answered {
            version,
            failed: status.is_server_error(),
        },
        None => Outcome::Lost(format!("{status} from the proxy: {}", body.trim())),
    }
}

fn with_causes(problem: &dyn std::error::Error) -> String {
    let mut text = problem.to_string();
    let mut cause = problem.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn lock(stats: &Mutex<LoadStats>) -> std::sync::MutexGuard<'_, LoadStats> {
    stats.lock().expect("nobody panics while counting")
}

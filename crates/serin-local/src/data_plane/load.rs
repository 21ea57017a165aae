//! The load: callers of three kinds that ask at constant rates and keep account of what they got.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

/// The header in which the application says which version answered. Envoy's own answers lack it.
const VERSION_HEADER: &str = "x-version";

/// What a slow request asks for: the application takes three seconds to answer it.
const SLOW_PATH: &str = "slow";

/// How long a request may take. Longer than any route's time-out in the local cloud, so that a request which is cut off
/// here was truly lost.
const TIME_OUT: Duration = Duration::from_secs(20);

/// Over how many clients, each with connections of its own, the requests of a kind are spread.
const CLIENTS: usize = 8;

/// How many failures that the deployment caused are kept as text.
const EXAMPLES_KEPT: usize = 10;

/// How often requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// All requests in a second; the slow ones are among them, the others are shared by both kinds of fast clients.
    pub requests_per_second: u32,
    /// The slow ones in a second. Each takes three seconds.
    pub slow_requests_per_second: u32,
}

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientKind {
    /// HTTP/1.1 on connections that are kept.
    KeepAlive,
    /// HTTP/2, many requests at once on one connection.
    Http2,
    /// Requests of several seconds, of which some are under way at every moment; by turns in HTTP/1.1 and in HTTP/2.
    Slow,
}

impl ClientKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::KeepAlive, Self::Http2, Self::Slow];

    /// The kind in words.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::KeepAlive => "HTTP/1.1 kept alive",
            Self::Http2 => "HTTP/2",
            Self::Slow => "slow requests",
        }
    }
}

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureCause {
    /// No connection could be made.
    Refused,
    /// The connection or the stream ended before the answer was whole.
    CutOff,
    /// No answer came in time.
    TimedOut,
    /// The router answered in place of a version, such as with 503.
    Router,
}

/// Callers that ask at constant rates, however long the answers take.
#[derive(Debug)]
pub struct LoadGenerator {
    stats: Arc<Mutex<LoadStats>>,
    halt: watch::Sender<bool>,
    paused: Arc<AtomicBool>,
    asking: Vec<JoinHandle<()>>,
}

/// What the callers got so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadStats {
    /// How many requests were answered or lost.
    pub requests: u64,
    /// How many were answered with 5xx by the application itself, whichever version of it.
    pub failed_by_versions: u64,
    /// How many were refused, reset, timed out or not answered by any version: they are a bad deployment's fault.
    pub failed_by_deployment: u64,
    /// What each version answered.
    pub by_version: BTreeMap<String, VersionCount>,
    /// What each kind of client got.
    pub by_kind: BTreeMap<ClientKind, KindStats>,
    /// When each slow request began and, if it is over, ended; in the order in which they began.
    pub slow: Vec<(Timestamp, Option<Timestamp>)>,
    /// When the first request failed, for whichever cause.
    pub first_failure_at: Option<Timestamp>,
    /// When the last request failed, for whichever cause.
    pub last_failure_at: Option<Timestamp>,
    /// The first few failures that the deployment caused, in words.
    pub examples: Vec<String>,
}

/// What one kind of client got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindStats {
    /// How many requests were answered or lost.
    pub requests: u64,
    /// How many each version answered with 5xx.
    pub failed_by_version: BTreeMap<String, u64>,
    /// How many were lost, by how.
    pub failed_by_deployment: BTreeMap<FailureCause, u64>,
    /// How many each version answered.
    pub by_version: BTreeMap<String, u64>,
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
    Lost(FailureCause, String),
}

impl LoadGenerator {
    /// Begins to ask all of `urls` by turns. Must be called inside a Tokio runtime.
    pub fn start(urls: &[String], options: LoadOptions) -> Self {
        let stats = Arc::new(Mutex::new(LoadStats::default()));
        let (halt, halted) = watch::channel(false);
        let paused = Arc::new(AtomicBool::new(false));
        let slow = options
            .slow_requests_per_second
            .min(options.requests_per_second);
        let fast = options.requests_per_second - slow;
        let rates = [
            (ClientKind::KeepAlive, fast - fast / 2),
            (ClientKind::Http2, fast / 2),
            (ClientKind::Slow, slow),
        ];
        let asking = rates
            .into_iter()
            .filter(|(_, rate)| *rate > 0)
            .map(|(kind, rate)| {
                let caller = Caller {
                    kind,
                    urls: urls
                        .iter()
                        .map(|url| match kind {
                            ClientKind::Slow => format!("{url}{SLOW_PATH}"),
                            ClientKind::KeepAlive | ClientKind::Http2 => url.clone(),
                        })
                        .collect(),
                    every: Duration::from_secs(1) / rate,
                    stats: Arc::clone(&stats),
                    halted: halted.clone(),
                    paused: Arc::clone(&paused),
                };
                tokio::spawn(caller.ask())
            })
            .collect();
        Self {
            stats,
            halt,
            paused,
            asking,
        }
    }

    /// Sends no more requests, or goes on with it. What is under way goes on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// What the callers got so far.
    pub fn stats(&self) -> LoadStats {
        lock(&self.stats).clone()
    }

    /// Stops asking and waits for the answers that are still out.
    pub async fn stop(self) -> LoadStats {
        self.halt.send_replace(true);
        for asking in self.asking {
            let _ = asking.await;
        }
        lock(&self.stats).clone()
    }
}

impl LoadStats {
    fn count(&mut self, kind: ClientKind, outcome: Outcome) {
        self.requests += 1;
        let of_kind = self.by_kind.entry(kind).or_default();
        of_kind.requests += 1;
        let failed = match outcome {
            Outcome::Answered { version, failed } => {
                *of_kind.by_version.entry(version.clone()).or_default() += 1;
                if failed {
                    *of_kind
                        .failed_by_version
                        .entry(version.clone())
                        .or_default() += 1;
                    self.failed_by_versions += 1;
                }
                let count = self.by_version.entry(version).or_default();
                count.requests += 1;
                count.failed += u64::from(failed);
                failed
            }
            Outcome::Lost(cause, why) => {
                *of_kind.failed_by_deployment.entry(cause).or_default() += 1;
                self.failed_by_deployment += 1;
                if self.examples.len() < EXAMPLES_KEPT {
                    self.examples
                        .push(format!("{}: {}: {why}", Timestamp::now(), kind.in_words()));
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

    /// What came after an earlier look at the same load. Moments and examples are those of the whole.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        self.requests -= before.requests;
        self.failed_by_versions -= before.failed_by_versions;
        self.failed_by_deployment -= before.failed_by_deployment;
        for (version, count) in &mut self.by_version {
            if let Some(earlier) = before.by_version.get(version) {
                count.requests -= earlier.requests;
                count.failed -= earlier.failed;
            }
        }
        self.by_version.retain(|_, count| count.requests > 0);
        for (kind, stats) in &mut self.by_kind {
            if let Some(earlier) = before.by_kind.get(kind) {
                stats.requests -= earlier.requests;
                subtract(&mut stats.failed_by_version, &earlier.failed_by_version);
                subtract(
                    &mut stats.failed_by_deployment,
                    &earlier.failed_by_deployment,
                );
                subtract(&mut stats.by_version, &earlier.by_version);
            }
        }
        self.examples = self.examples.split_off(before.examples.len());
        self
    }

    /// How many requests a version answered with 5xx.
    pub fn failed_by(&self, version: &str) -> u64 {
        self.by_version.get(version).map_or(0, |count| count.failed)
    }

    /// How many slow requests were under way at a moment.
    pub fn slow_under_way(&self, at: Timestamp) -> usize {
        let under_way = |(began, ended): &&(Timestamp, Option<Timestamp>)| {
            *began <= at && ended.is_none_or(|ended| at < ended)
        };
        self.slow.iter().filter(under_way).count()
    }

    /// Whether a slow request that began before a moment is not over yet.
    pub fn is_waiting_since(&self, at: Timestamp) -> bool {
        let mut slow = self.slow.iter();
        slow.any(|(began, ended)| *began <= at && ended.is_none())
    }
}

fn subtract<K: Ord>(from: &mut BTreeMap<K, u64>, what: &BTreeMap<K, u64>) {
    for (key, count) in from.iter_mut() {
        *count -= what.get(key).copied().unwrap_or(0);
    }
    from.retain(|_, count| *count > 0);
}

/// Callers of one kind.
struct Caller {
    kind: ClientKind,
    urls: Vec<String>,
    every: Duration,
    stats: Arc<Mutex<LoadStats>>,
    halted: watch::Receiver<bool>,
    paused: Arc<AtomicBool>,
}

impl Caller {
    fn clients(&self) -> Vec<reqwest::Client> {
        (0..CLIENTS)
            .filter_map(|index| {
                let client = reqwest::Client::builder().no_proxy().timeout(TIME_OUT);
                let http2 = match self.kind {
                    ClientKind::KeepAlive => false,
                    ClientKind::Http2 => true,
                    // The urls are asked by turns, and each of them has to be asked in both protocols.
                    ClientKind::Slow => (index / self.urls.len()) % 2 == 1,
                };
                let client = if http2 {
                    client.http2_prior_knowledge()
                } else {
                    client.http1_only()
                };
                client.build().ok()
            })
            .collect()
    }

    /// Waits until the next request is due; false when there is to be none. What falls due in a pause is left out.
    async fn is_due(&mut self, ticks: &mut Interval) -> bool {
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = self.halted.wait_for(|halted| *halted) => return false,
            }
            if !self.paused.load(Ordering::Relaxed) {
                return true;
            }
        }
    }

    async fn ask(mut self) {
        let clients = self.clients();
        let urls = self.urls.clone();
        let mut ticks = tokio::time::interval(self.every);
        // A caller that was held up catches up: the rate is what was promised.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut waiting = JoinSet::new();
        for (client, url) in clients.iter().cycle().zip(urls.iter().cycle()) {
            if !self.is_due(&mut ticks).await {
                break;
            }
            let request = client.get(url);
            let (stats, kind) = (Arc::clone(&self.stats), self.kind);
            waiting.spawn(async move {
                let slow = (kind == ClientKind::Slow).then(|| {
                    let mut stats = lock(&stats);
                    stats.slow.push((Timestamp::now(), None));
                    stats.slow.len() - 1
                });
                let outcome = outcome(request).await;
                let mut stats = lock(&stats);
                if let Some(request) = slow {
                    stats.slow[request].1 = Some(Timestamp::now());
                }
                stats.count(kind, outcome);
            });
            while waiting.try_join_next().is_some() {}
        }
        waiting.join_all().await;
    }
}

async fn outcome(request: reqwest::RequestBuilder) -> Outcome {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(problem) => return lost(&problem),
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
        Err(problem) => return lost(&problem),
    };
    match version {
        Some(version) => Outcome::Answered {
            version,
            failed: status.is_server_error(),
        },
        None => Outcome::Lost(
            FailureCause::Router,
            format!("{status} from the router: {}", body.trim()),
        ),
    }
}

fn lost(problem: &reqwest::Error) -> Outcome {
    let cause = if problem.is_timeout() {
        FailureCause::TimedOut
    } else if problem.is_connect() {
        FailureCause::Refused
    } else {
        FailureCause::CutOff
    };
    Outcome::Lost(cause, with_causes(problem))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What a caller says of a server that answers with these bytes and hangs up.
    async fn asked(answer: &'static str) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        outcome(client.get(url)).await
    }

    fn cause(outcome: &Outcome) -> Option<FailureCause> {
        match outcome {
            Outcome::Lost(cause, _) => Some(*cause),
            Outcome::Answered { .. } => None,
        }
    }

    #[tokio::test]
    async fn a_versions_own_500_is_its_fault_and_everything_else_the_deployments() {
        let own = "HTTP/1.1 500 no\r\nx-version: bad\r\ncontent-length: 2\r\n\r\nno";
        assert!(matches!(
            asked(own).await,
            Outcome::Answered { version, failed: true } if version == "bad"
        ));
        let router = "HTTP/1.1 503 no\r\ncontent-length: 2\r\n\r\nno";
        assert_eq!(cause(&asked(router).await), Some(FailureCause::Router));
        let half = "HTTP/1.1 200 ok\r\nx-version: good\r\ncontent-length: 20\r\n\r\nhalf";
        assert_eq!(cause(&asked(half).await), Some(FailureCause::CutOff));
        assert_eq!(cause(&asked("").await), Some(FailureCause::CutOff));
        let nobody = reqwest::Client::new().get("http://127.0.0.1:1/");
        assert_eq!(cause(&outcome(nobody).await), Some(FailureCause::Refused));
    }

    #[test]
    fn slow_requests_under_way_at_a_moment_are_counted() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let stats = LoadStats {
            slow: vec![(at(0), Some(at(3))), (at(2), Some(at(5))), (at(4), None)],
            ..LoadStats::default()
        };
        assert_eq!(stats.slow_under_way(at(2)), 2);
        assert_eq!(stats.slow_under_way(at(3)), 1);
        assert_eq!(stats.slow_under_way(at(8)), 1);
        assert!(stats.is_waiting_since(at(4)) && !stats.is_waiting_since(at(3)));
    }

    #[test]
    fn a_later_look_tells_only_what_is_new() {
        let mut stats = LoadStats::default();
        let answered = |version: &str, failed| Outcome::Answered {
            version: version.to_owned(),
            failed,
        };
        stats.count(ClientKind::Http2, answered("good-1", true));
        let before = stats.clone();
        stats.count(ClientKind::Http2, answered("good-1", false));
        stats.count(ClientKind::Http2, answered("bad", true));
        stats.count(
            ClientKind::Slow,
            Outcome::Lost(FailureCause::CutOff, "cut".to_owned()),
        );
        let since = stats.since(&before);
        assert_eq!((since.requests, since.failed_by_deployment), (3, 1));
        assert_eq!(since.failed_by_versions, 1);
        assert_eq!((since.failed_by("good-1"), since.failed_by("bad")), (0, 1));
        let http2 = &since.by_kind[&ClientKind::Http2];
        assert_eq!(http2.requests, 2);
        assert_eq!(http2.failed_by_version, [("bad".to_owned(), 1)].into());
        assert_eq!(
            since.by_kind[&ClientKind::Slow].failed_by_deployment,
            [(FailureCause::CutOff, 1)].into()
        );
    }
}

//! Slack, Teams and a receiver of signed webhooks, in one HTTP server that is down at first.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use serin::Notice;
use serin::ports::Secret;

/// The key of the webhooks.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The bot's token.
const TOKEN: &str = "xoxb-1";
/// How many requests it answers with 500 before it is up.
const DOWN: usize = 2;

/// What arrived.
#[derive(Debug, Clone)]
struct Arrived {
    place: String,
    headers: HeaderMap,
    body: Value,
    text: String,
}

/// The server. It keeps what it has answered well.
#[derive(Debug)]
pub(crate) struct Receiver {
    url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&arrived);
        let answer = async move |uri: Uri, headers: HeaderMap, text: String| {
            let mut seen = seen.lock().unwrap();
            seen.push(Arrived {
                place: uri.path().to_owned(),
                headers,
                body: serde_json::from_str(&text).unwrap(),
                text,
            });
            let status = if seen.len() <= DOWN {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            };
            let ts = format!("1700000000.{:06}", seen.len());
            (
                status,
                json!({"ok": true, "channel": "C1", "ts": ts}).to_string(),
            )
        };
        tokio::spawn(async move {
            let app = Router::new().fallback(answer);
            axum::serve(listener, app).await.unwrap();
        });
        Self { url, arrived }
    }

    /// The secret that leads to it.
    pub(crate) fn channels(&self) -> Value {
        let url = &self.url;
        json!({"channels": [
            {"kind": "slack", "token": TOKEN, "channel": "C1", "api": format!("{url}/api")},
            {"kind": "teams", "url": format!("{url}/teams")},
            {"kind": "webhook", "url": format!("{url}/webhook"), "secret": KEY},
        ]})
    }

    fn arrived(&self, place: &str) -> Vec<Arrived> {
        let arrived = self.arrived.lock().unwrap();
        assert!(arrived.len() > DOWN, "too little: {arrived:?}");
        let good = arrived.iter().skip(DOWN);
        good.filter(|arrived| arrived.place == place)
            .cloned()
            .collect()
    }

    /// The notices that came as webhooks, each with a good signature of a moment ago.
    #[track_caller]
    pub(crate) fn webhooks(&self) -> Vec<Notice> {
        let webhooks = self.arrived("/webhook");
        for Arrived { headers, text, .. } in &webhooks {
            let header = |name: &str| headers[name].to_str().unwrap();
            let second: i64 = header("webhook-timestamp").parse().unwrap();
            let age = jiff::Timestamp::now().as_second() - second;
            assert!((0..300).contains(&age), "{age}");
            let expected = notify::signature(&Secret::new(KEY), header("webhook-id"), second, text);
            assert_eq!(header("webhook-signature"), expected);
        }
        let notices = webhooks.into_iter();
        notices
            .map(|webhook| serde_json::from_value(webhook.body).unwrap())
            .collect()
    }

    /// How many cards came for Teams.
    #[track_caller]
    pub(crate) fn cards(&self) -> usize {
        let cards = self.arrived("/teams");
        for card in &cards {
            let content = &card.body["attachments"][0]["content"];
            assert_eq!(content["type"], "AdaptiveCard");
        }
        cards.len()
    }

    /// What the first message of the one thread in Slack says in the end, which has this many messages.
    #[track_caller]
    pub(crate) fn thread(&self, messages: usize) -> String {
        let posts = self.arrived("/api/chat.postMessage");
        assert_eq!(posts.len(), messages);
        let bearer = format!("Bearer {TOKEN}");
        assert!(
            posts
                .iter()
                .all(|post| post.headers["authorization"] == bearer)
        );
        let threads: Vec<_> = posts.iter().map(|post| &post.body["thread_ts"]).collect();
        assert_eq!(threads[0], &Value::Null);
        assert!(
            threads[1..]
                .iter()
                .all(|thread| thread.is_string() && *thread == threads[1])
        );
        let updates = self.arrived("/api/chat.update");
        let last = &updates.last().unwrap().body;
        assert_eq!(&last["ts"], threads[1]);
        last["text"].as_str().unwrap().to_owned()
    }
}

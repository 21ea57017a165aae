#![expect(
    clippy::needless_pass_by_value,
    reason = "a notice and a channel are written down where they are used"
)]

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Map, Value, json};
use serin::Notice;
use serin::ports::Secret;
use serin_aws::Adapters;
use serin_sim::{Account, Fault, FaultKind, Mail, Stage, Which};

use super::*;
use crate::web::{Answer, NoAnswer, Post, Web};

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:serin-notices";
const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:releases";
/// The key of the specification's own tests.
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN: &str = "xoxb-not-a-token";

/// A notice with this phase and sentence, of a version whose name is full of markup.
fn notice_of(id: &str, minute: u32, phase: Value, sentence: &str) -> Notice {
    let mut notice = json!({
        "version": "1",
        "id": id,
        "at": format!("2026-11-22T10:{minute:02}:00Z"),
        "execution": "arn:aws:states:eu-west-1:123456789012:execution:serin-canary-deployment:release 2.4.0",
        "service": {"cluster": "prod", "service": "checkout"},
        "versions": {
            "stable": "arn:aws:ecs:eu-west-1:123456789012:task-definition/checkout:41",
            "canary": ["example.com/checkout:<b>2.4.0</b>&*_~`[x](http://y)<!channel>"],
        },
        "weightPercent": 25.0,
        "sentence": sentence,
    });
    let fields = notice.as_object_mut().unwrap();
    fields.extend(phase.as_object().unwrap().clone());
    serde_json::from_value(notice).unwrap()
}

/// One notice of every phase, in the order of a life that no deployment has.
fn every_phase() -> Vec<Notice> {
    let comparison = json!({
        "until": "2026-11-22T10:20:00Z", "canaryRequests": 1200, "canaryErrors": 122, "stableRequests": 3600,
        "stableErrors": 4, "ratio": 91.5, "ratioFrom": 30.25, "logE": 150.1, "seen": 1.0,
    });
    let verdict = json!({
        "outcome": "unhealthy", "sentence": "10.2 percent of the requests failed, above the limit of 1 percent",
        "at": "2026-11-22T10:20:00Z", "step": 2, "weightPercent": 25.0,
        "findings": [
            {"name": "errorRatePercent", "outcome": "unhealthy", "value": 10.166_666, "limit": {"max": 1.0}, "samples": 1200, "stable": 0.111},
            {"name": "comparison.errors", "outcome": "unhealthy", "samples": 1200, "comparison": comparison},
        ],
    });
    let command = |answer: &str| {
        format!(
            r#"aws stepfunctions send-task-success --task-token AAAA --task-output '"{answer}"'"#
        )
    };
    let commands = json!({
        "rollBack": command("rollBack"), "resume": command("resume"), "promote": command("promote"),
    });
    let left = json!([{
        "arn": "arn:aws:ecs:eu-west-1:123456789012:service/prod/checkout-canary-1a2b",
        "what": "the canary's service still runs 2 tasks",
        "command": "aws ecs delete-service --cluster prod --service checkout-canary-1a2b --force",
    }]);
    vec![
        notice_of(
            "refused",
            0,
            json!({"phase": "refused", "error": "InvalidRequest"}),
            "deadlineSeconds is 1; allowed is 60 to 86400 <script>alert(1)</script>",
        ),
        notice_of(
            "waiting-deployment",
            1,
            json!({"phase": "waiting", "waitsFor": "deployment", "behind": "arn:aws:states:eu-west-1:123456789012:execution:serin:before",
                "until": "2026-11-25T10:00:00Z"}),
            "prod/checkout is being deployed by another execution; this deployment waits until it has ended",
        ),
        notice_of(
            "planned",
            1,
            json!({"phase": "planned", "deadlineAt": "2026-11-22T14:00:00Z", "notes": ["latency is not compared: no requests"],
                "steps": [{"weightPercent": 10.0, "holdSeconds": 300}, {"weightPercent": 100.0, "holdSeconds": 600}]}),
            "a canary of prod/checkout is planned: 2 steps to 100 percent",
        ),
        notice_of(
            "canary-up",
            2,
            json!({"phase": "canaryUp", "canary": "checkout-canary-1a2b"}),
            "the canary checkout-canary-1a2b is up, and has no traffic yet",
        ),
        notice_of(
            "weight-2-1",
            3,
            json!({"phase": "weight", "step": 2, "of": 4, "fromPercent": 10.0, "decided": "byAPerson"}),
            "step 2 of 4: the canary has 25 percent of the traffic",
        ),
        notice_of(
            "verdict-7",
            4,
            json!({"phase": "verdict", "verdict": verdict, "next": "rollBack"}),
            "10.2 percent of the requests failed, above the limit of 1 percent",
        ),
        notice_of(
            "frozen-7",
            5,
            json!({"phase": "frozen", "waitsForSeconds": 3600, "then": "rollBack", "token": "AAAA", "commands": commands}),
            "10.2 percent of the requests failed, above the limit of 1 percent",
        ),
        notice_of(
            "rolling-back",
            6,
            json!({"phase": "rollingBack"}),
            "stable has all the traffic again: 10.2 percent of the requests failed",
        ),
        notice_of(
            "promoted",
            7,
            json!({"phase": "promoted"}),
            "every check was within its limits",
        ),
        notice_of(
            "rolled-back",
            8,
            json!({"phase": "rolledBack", "error": "AwsDenied"}),
            "10.2 percent of the requests failed, above the limit of 1 percent",
        ),
        notice_of(
            "needs-attention",
            9,
            json!({"phase": "needsAttention", "error": "AwsDenied", "left": left}),
            "the canary could not be removed",
        ),
    ]
}

/// The notice of this name.
fn notice(id: &str) -> Notice {
    let all = every_phase().into_iter();
    all.into_iter().find(|notice| notice.id == id).unwrap()
}

/// Holds what was rendered against the file of this name; `SERIN_WRITE_GOLDEN` writes it.
#[track_caller]
fn assert_golden(name: &str, rendered: &str) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SERIN_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/golden")).unwrap();
        std::fs::write(&path, rendered).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == rendered,
        "{name} is not what is rendered now; `SERIN_WRITE_GOLDEN=1 cargo test --package notify golden` writes it\n{rendered}"
    );
}

/// The messages of every phase as one JSON file.
fn rendered(message: impl Fn(&Notice) -> Value) -> String {
    let messages: Map<String, Value> = every_phase()
        .iter()
        .map(|notice| (<&str>::from(&notice.phase).to_owned(), message(notice)))
        .collect();
    format!("{:#}\n", Value::Object(messages))
}

#[test]
fn golden_slack() {
    assert_golden(
        "slack.json",
        &rendered(|notice| slack::message(&Message::of(notice))),
    );
}

#[test]
fn golden_teams() {
    assert_golden(
        "teams.json",
        &rendered(|notice| teams::message(&Message::of(notice))),
    );
}

#[test]
fn golden_webhook() {
    let url = Secret::new("https://example.com");
    assert_golden(
        "webhook.json",
        &rendered(|notice| {
            let post = webhook::post(&url, &Secret::new(KEY), notice);
            json!({"webhook-id": post.signed.unwrap().0, "body": serde_json::from_str::<Value>(&post.body).unwrap()})
        }),
    );
}

#[test]
fn golden_mail() {
    let mails: Vec<_> = every_phase()
        .iter()
        .map(|notice| {
            let (subject, text) = mail::mail(&Message::of(notice));
            format!("Subject: {subject}\n\n{text}")
        })
        .collect();
    assert_golden("mail.txt", &mails.join("----\n"));
}

#[test]
fn the_golden_files_have_every_phase() {
    let mut phases: Vec<&str> = Vec::new();
    let notices = every_phase();
    phases.extend(notices.iter().map(|notice| <&str>::from(&notice.phase)));
    assert_eq!(phases, channels::PHASES);
}

/// Every text in a message.
fn texts(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str);
            if let Some(text) = fields.get("text").and_then(Value::as_str) {
                found.push((kind.unwrap_or_default().to_owned(), text.to_owned()));
            }
            fields.values().for_each(|value| texts(value, found));
        }
        _ => {}
    }
}

#[test]
fn a_version_full_of_markup_shows_as_text_in_slack_and_teams() {
    let message = Message::of(&notice("weight-2-1"));
    let mut found = Vec::new();
    texts(&slack::message(&message), &mut found);
    let facts = found.iter().find(|(_, text)| text.contains("2.4.0"));
    let (kind, text) = facts.unwrap();
    assert_eq!(kind, "plain_text");
    let shown =
        "example.com/checkout:&lt;b&gt;2.4.0&lt;/b&gt;&amp;*_~`[x](http://y)&lt;!channel&gt;";
    assert!(text.contains(shown), "{text}");
    let marked = found.iter().filter(|(kind, _)| kind == "mrkdwn");
    for (_, text) in marked {
        assert!(
            text.starts_with("<https://") && text.matches('<').count() == 1,
            "{text}"
        );
    }

    let mut found = Vec::new();
    texts(&teams::message(&message), &mut found);
    assert!(found.iter().all(|(kind, _)| kind == "TextRun"), "{found:?}");
    assert!(
        found
            .iter()
            .any(|(_, text)| text.contains("<b>2.4.0</b>&*_~`[x]"))
    );
}

#[test]
fn a_message_is_never_longer_than_its_channel_takes() {
    let left: Vec<_> = (0..60)
        .map(|number| {
            json!({"arn": format!("arn:{number}"), "what": "<".repeat(5_000), "command": "x`&".repeat(3_000)})
        })
        .collect();
    let phase = json!({"phase": "needsAttention", "left": left});
    let long = notice_of("needs-attention", 0, phase, &"&".repeat(1_000));
    let message = Message::of(&long);
    let slack = slack::message(&message);
    assert!(slack["blocks"].as_array().unwrap().len() <= 50);
    let mut found = Vec::new();
    texts(&slack, &mut found);
    for (_, text) in found {
        assert!(text.chars().count() <= 3_000, "{}", text.len());
        let cut = text.trim_end_matches('…');
        assert!(
            cut.rfind('&').is_none_or(|at| cut[at..].contains(';')),
            "{text}"
        );
    }
    assert!(teams::message(&message).to_string().len() < 28_000);
    assert!(mail::mail(&message).0.len() <= 100);
}

#[test]
fn the_link_leads_to_the_console_of_the_executions_partition() {
    let link = |arn: &str| {
        let mut notice = notice("promoted");
        notice.execution = serin::ExecutionArn::new(arn);
        Message::of(&notice).link
    };
    assert_eq!(
        link("arn:aws:states:eu-west-1:1:execution:serin:a b"),
        "https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/arn:aws:states:eu-west-1:1:execution:serin:a%20b"
    );
    assert!(
        link("arn:aws-cn:states:cn-north-1:1:execution:serin:a")
            .starts_with("https://console.amazonaws.cn/states/home?region=cn-north-1#")
    );
    assert!(
        link("arn:aws-us-gov:states:us-gov-west-1:1:execution:serin:a")
            .starts_with("https://console.amazonaws-us-gov.com/")
    );
}

/// The example of the specification's own tests.
#[test]
fn a_webhook_is_signed_as_the_specification_says() {
    let signature = signature(
        &Secret::new(KEY),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        r#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

// ------------------------------------------------------------------------------------------------------------- channels

fn faults(channels: &Value) -> Vec<String> {
    Channels::parse(&json!({ "channels": channels }).to_string()).faults
}

#[test]
fn every_fault_of_a_channel_is_told_with_its_number_field_and_what_is_allowed() {
    let channels = json!([
        {"kind": "slack", "token": TOKEN},
        {"kind": "irc"},
        {"kind": "teams", "url": "http://example.com/secret-path"},
        {"kind": "webhook", "url": "https://example.com", "secret": "whsec_c2hvcnQ="},
        {"kind": "sns", "topic": "releases", "phases": ["promotd"]},
        {"kind": "slackWebhook", "url": "https://hooks.slack.com/x", "chanel": "C1", "services": "checkout"},
        "slack",
    ]);
    assert_eq!(
        faults(&channels),
        [
            "channel 1: channel must be the id of a channel, like C0123456789",
            "channel 2: kind is irc; allowed are slack, slackWebhook, teams, webhook and sns",
            "channel 3: url must be an address that begins with https://",
            "channel 4: secret must be whsec_ and 24 to 64 bytes in Base64",
            "channel 5: topic must be the ARN of a topic, arn:aws:sns:...",
            &format!(
                "channel 5: phases has promotd; allowed are {}",
                channels::PHASES.join(", ")
            ),
            "channel 6: chanel is no field here; allowed are kind, name, phases, services, url",
            "channel 6: services must be a list of texts, with one at least",
            "channel 7: it must be an object",
        ]
    );
}

#[test]
fn a_fault_never_shows_what_may_be_a_secret() {
    let hidden = "xoxb-123-hidden";
    for channels in [
        json!([{"kind": hidden}]),
        json!([{"kind": "slack", hidden: "C1", "token": TOKEN, "channel": "C1"}]),
        json!([{"kind": "teams", "url": hidden}]),
        json!([{"kind": "webhook", "url": "https://example.com", "secret": hidden}]),
        json!([{"kind": "sns", "topic": TOPIC, "phases": [hidden]}]),
        json!([{"kind": "sns", "topic": TOPIC, "name": format!("{hidden}/")}]),
        json!(hidden),
    ] {
        let faults = faults(&channels).join("; ");
        assert!(!faults.is_empty() && !faults.contains(hidden), "{faults}");
    }
    let faults = Channels::parse(hidden).faults.join("; ");
    assert!(!faults.is_empty() && !faults.contains(hidden), "{faults}");
    let good = Channels::parse(&one(
        json!({"kind": "slack", "token": hidden, "channel": "C1"}),
    ));
    assert!(!format!("{good:?}").contains(hidden));
}

#[test]
fn two_channels_do_not_share_a_name() {
    let channels = json!([{"kind": "sns", "topic": TOPIC, "name": "mail"}, {"kind": "sns", "topic": TOPIC, "name": "mail"}]);
    assert_eq!(
        faults(&channels),
        ["channel 2: name must not be that of an earlier channel"]
    );
}

#[test]
fn a_channel_wants_the_phases_and_services_that_it_names() {
    let wants = |more: Value| {
        let mut channel = json!({"kind": "sns", "topic": TOPIC});
        let more = more.as_object().unwrap().clone();
        channel.as_object_mut().unwrap().extend(more);
        let read = Channels::parse(&one(channel));
        assert_eq!(read.faults, Vec::<String>::new());
        read.channels[0].wants(&notice("promoted"))
    };
    assert!(wants(json!({})));
    assert!(wants(json!({"phases": ["rolledBack", "promoted"]})));
    assert!(!wants(json!({"phases": ["rolledBack"]})));
    assert!(wants(json!({"services": ["check*"]})));
    assert!(wants(json!({"services": ["cart", "prod/*out"]})));
    assert!(!wants(json!({"services": ["test/*", "check"]})));
}

// ------------------------------------------------------------------------------------------------------------- delivery

fn one(channel: Value) -> String {
    json!({ "channels": [channel] }).to_string()
}

/// Answers from a list, and then well; keeps what was sent and how long it was waited.
#[derive(Default)]
struct FakeWeb {
    answers: Mutex<VecDeque<Result<Answer, NoAnswer>>>,
    posts: Mutex<Vec<(String, Value)>>,
    waited: Mutex<Vec<Duration>>,
}

impl FakeWeb {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let web = Self::default();
        web.answers
            .lock()
            .unwrap()
            .extend(answers.into_iter().map(Ok));
        web
    }

    /// The last parts of the addresses, in order.
    fn posted(&self) -> Vec<String> {
        let posts = self.posts.lock().unwrap();
        let places = posts
            .iter()
            .map(|(url, _)| url.rsplit('/').next().unwrap().to_owned());
        places.collect()
    }

    fn bodies(&self) -> Vec<Value> {
        let posts = self.posts.lock().unwrap();
        posts.iter().map(|(_, body)| body.clone()).collect()
    }

    fn waited(&self) -> Vec<u64> {
        self.waited
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs)
            .collect()
    }
}

impl Web for FakeWeb {
    async fn post(&self, post: &Post) -> Result<Answer, NoAnswer> {
        let body = serde_json::from_str(&post.body).unwrap();
        let mut posts = self.posts.lock().unwrap();
        posts.push((post.url.reveal().to_owned(), body));
        let ts = format!("1700000000.{:06}", posts.len());
        let good = json!({"ok": true, "channel": "C1", "ts": ts}).to_string();
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or(Ok(Answer {
            status: 200,
            retry_after: None,
            body: good,
        }))
    }

    async fn wait(&self, time: Duration) {
        self.waited.lock().unwrap().push(time);
    }
}

fn status(status: u16) -> Answer {
    Answer {
        status,
        ..Answer::default()
    }
}

/// An account with this secret, and the adapters over it.
struct Installed {
    account: Account,
    adapters: Adapters,
}

impl Installed {
    fn with(channels: &str) -> Self {
        let Stage { account, aws, .. } = Stage::default();
        account.change(|world| world.keep_secret(SECRET, channels));
        Self {
            account,
            adapters: aws.with_channels(Some(SECRET.to_owned())),
        }
    }

    async fn tell(&self, web: &FakeWeb, id: &str) -> Result<Notified, NotifyError> {
        let Adapters {
            channels,
            deliveries,
            topics,
            ..
        } = &self.adapters;
        let event = NoticeEvent { detail: notice(id) };
        notify(channels, deliveries, topics, web, event).await
    }

    fn mails(&self) -> Vec<Mail> {
        self.account.look(|world| world.mails().to_vec())
    }
}

fn slack() -> Value {
    json!({"kind": "slack", "token": TOKEN, "channel": "C1"})
}

fn teams() -> Value {
    json!({"kind": "teams", "url": "https://example.com/teams"})
}

#[tokio::test]
async fn a_deployment_is_one_thread_whose_first_message_shows_the_latest_state() {
    let installed = Installed::with(&one(slack()));
    let web = FakeWeb::default();
    for id in ["planned", "weight-2-1", "promoted"] {
        installed.tell(&web, id).await.unwrap();
    }
    assert_eq!(
        web.posted(),
        [
            "chat.postMessage",
            "chat.postMessage",
            "chat.update",
            "chat.postMessage",
            "chat.update"
        ]
    );
    let bodies = web.bodies();
    assert_eq!(bodies[0]["thread_ts"], Value::Null);
    let first = "1700000000.000001";
    for reply in [1, 3] {
        assert_eq!(bodies[reply]["thread_ts"], first);
    }
    for update in [2, 4] {
        assert_eq!(bodies[update]["ts"], first);
    }
    assert!(bodies[4]["text"].as_str().unwrap().contains("promoted"));
}

#[tokio::test]
async fn the_first_message_does_not_go_back_to_an_earlier_state() {
    let installed = Installed::with(&one(slack()));
    let web = FakeWeb::default();
    for id in ["planned", "promoted", "weight-2-1"] {
        installed.tell(&web, id).await.unwrap();
    }
    assert_eq!(
        web.posted(),
        [
            "chat.postMessage",
            "chat.postMessage",
            "chat.update",
            "chat.postMessage"
        ]
    );
}

#[tokio::test]
async fn whoever_loses_the_race_for_the_thread_is_told_all_the_same() {
    use serin::ports::Deliveries as _;
    let installed = Installed::with(&one(slack()));
    let web = FakeWeb::default();
    let deliveries = &installed.adapters.deliveries;
    assert!(
        deliveries
            .open_thread(&notice("planned"), "slack-1")
            .await
            .unwrap()
    );
    installed.tell(&web, "canary-up").await.unwrap();
    assert_eq!(
        (web.posted(), web.waited()),
        (vec!["chat.postMessage".to_owned()], vec![1, 2])
    );
    // The one that has won opens it, late as it is.
    installed.tell(&web, "planned").await.unwrap();
    installed.tell(&web, "promoted").await.unwrap();
    assert_eq!(web.bodies()[2]["thread_ts"], "1700000000.000002");
}

#[tokio::test]
async fn a_notice_that_could_not_open_the_thread_leaves_it_to_the_next() {
    let installed = Installed::with(&one(slack()));
    let refusal = Answer {
        body: json!({"ok": false, "error": "channel_not_found"}).to_string(),
        ..status(200)
    };
    let web = FakeWeb::answering([refusal]);
    let error = installed.tell(&web, "planned").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the notice planned is not told everywhere: channel 1 (slack-1): chat.postMessage says channel_not_found"
    );
    installed.tell(&web, "canary-up").await.unwrap();
    assert_eq!(web.waited(), Vec::<u64>::new());
}

#[tokio::test]
async fn a_channel_that_answers_500_twice_is_told_in_the_third_try() {
    let installed = Installed::with(&one(teams()));
    let web = FakeWeb::answering([status(500), status(503)]);
    let notified = installed.tell(&web, "promoted").await.unwrap();
    assert_eq!(notified.told, ["teams-1"]);
    assert_eq!((web.posted().len(), web.waited()), (3, vec![1, 2]));
}

#[tokio::test]
async fn a_channel_is_left_alone_as_long_as_it_asks_if_the_function_has_the_time() {
    let asks = |seconds| Answer {
        retry_after: Some(Duration::from_secs(seconds)),
        ..status(429)
    };
    let installed = Installed::with(&one(teams()));
    let web = FakeWeb::answering([asks(5)]);
    installed.tell(&web, "promoted").await.unwrap();
    assert_eq!(web.waited(), [5]);

    let installed = Installed::with(&one(teams()));
    let web = FakeWeb::answering([asks(60)]);
    let error = installed.tell(&web, "promoted").await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("channel 1 (teams-1): the answer is HTTP 429"),
        "{error}"
    );
    assert_eq!((web.posted().len(), web.waited()), (1, Vec::new()));
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again_in_this_invocation() {
    let installed = Installed::with(&one(teams()));
    let web = FakeWeb::answering([status(404)]);
    installed.tell(&web, "promoted").await.unwrap_err();
    assert_eq!(web.posted().len(), 1);
}

#[tokio::test]
async fn a_channel_that_has_had_a_notice_is_not_told_again_because_another_failed() {
    let channels = json!({"channels": [slack(), {"kind": "sns", "topic": TOPIC}, teams()]});
    let installed = Installed::with(&channels.to_string());
    let web = FakeWeb::answering([
        Answer {
            body: json!({"ok": true, "channel": "C1", "ts": "1.1"}).to_string(),
            ..status(200)
        },
        status(500),
        status(500),
        status(500),
    ]);
    let error = installed.tell(&web, "promoted").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("channel 3 (teams-3): the answer is HTTP 500"),
        "{error}"
    );
    let notified = installed.tell(&web, "promoted").await.unwrap();
    assert_eq!(notified.told, ["slack-1", "sns-2", "teams-3"]);
    assert_eq!(
        web.posted(),
        ["chat.postMessage", "teams", "teams", "teams", "teams"]
    );
    assert_eq!(installed.mails().len(), 1);
}

#[tokio::test]
async fn a_mail_has_a_subject_that_sns_takes() {
    let installed = Installed::with(&one(json!({"kind": "sns", "topic": TOPIC})));
    installed
        .tell(&FakeWeb::default(), "verdict-7")
        .await
        .unwrap();
    let mails = installed.mails();
    assert_eq!(mails[0].topic, TOPIC);
    assert_eq!(mails[0].subject, "Serin: prod/checkout: canary unhealthy");
    assert!(
        mails[0].message.contains(
            "canary 122 of 1200 requests failed, stable 4 of 3600, ratio 91.5 (at least 30.25)"
        ),
        "{}",
        mails[0].message
    );
}

#[tokio::test]
async fn a_channel_that_is_wrong_keeps_no_other_from_its_notice() {
    let channels = json!({"channels": [{"kind": "irc"}, {"kind": "sns", "topic": TOPIC}]});
    let installed = Installed::with(&channels.to_string());
    let error = installed
        .tell(&FakeWeb::default(), "promoted")
        .await
        .unwrap_err();
    assert!(matches!(error, NotifyError::ChannelsInvalid(_)), "{error}");
    assert_eq!(installed.mails().len(), 1);
}

#[tokio::test]
async fn what_aws_refuses_has_the_name_of_its_kind() {
    for (operation, kind, denied) in [
        ("GetSecretValue", FaultKind::Denied, "AwsDenied"),
        ("GetSecretValue", FaultKind::Throttled, "AwsThrottled"),
        ("Publish", FaultKind::Denied, "NotDelivered"),
        ("GetItem", FaultKind::ServerError, "NotDelivered"),
    ] {
        let installed = Installed::with(&one(json!({"kind": "sns", "topic": TOPIC})));
        installed.account.inject(Fault {
            operation,
            which: Which::From(1),
            kind,
        });
        let error = installed
            .tell(&FakeWeb::default(), "promoted")
            .await
            .unwrap_err();
        assert_eq!(<&str>::from(&error), denied, "{error}");
    }
}

#[tokio::test]
async fn a_delivery_that_cannot_be_kept_is_a_delivery() {
    let installed = Installed::with(&one(json!({"kind": "sns", "topic": TOPIC})));
    let fault = Fault {
        operation: "UpdateItem",
        which: Which::From(1),
        kind: FaultKind::Denied,
    };
    installed.account.inject(fault);
    let notified = installed
        .tell(&FakeWeb::default(), "promoted")
        .await
        .unwrap();
    assert_eq!(notified.told, ["sns-1"]);
}

//! The page of one deployment.

use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::json;
use serin::history::{Order, Story, Wish};
use serin::notice::{Notice, Versions};
use serin::ports::{LedgerRecord, Phase};
use serin::verdict::{Comparison, Outcome, Verdict};
use serin::{Deployment, Ending, ServiceName};

use crate::chart::chart;
use crate::console::Console;
use crate::theme::Theme;
use crate::{Calls, link};

/// How many of the last checks the table has.
const LAST_CHECKS: usize = 8;

/// The state of a deployment in a word, with a sign of its own, so that it is not told by colour alone.
pub(crate) struct Badge {
    class: &'static str,
    sign: &'static str,
    word: &'static str,
}

impl Badge {
    pub(crate) const fn of(phase: Phase, ending: Option<Ending>, is_frozen: bool) -> Self {
        let (class, sign, word) = match (ending, phase) {
            (Some(Ending::NeedsAttention), _) => ("bad", "!", "needs attention"),
            (Some(Ending::Promoted), _) => ("good", "✓", "promoted"),
            (Some(Ending::RolledBack), _) => ("quiet", "↩", "rolled back"),
            (None, Phase::Running) if is_frozen => ("open", "‖", "frozen"),
            (None, Phase::Running) => ("busy", "▸", "running"),
            (None, Phase::Promoting | Phase::CleaningUp) => ("busy", "▴", "being promoted"),
            (None, Phase::PromotionStopped) => ("open", "!", "promotion broken off"),
            (None, Phase::RollingBack) => ("open", "↩", "being rolled back"),
            (None, Phase::Ended) => ("quiet", "·", "over"),
        };
        Self { class, sign, word }
    }
}

impl maud::Render for Badge {
    fn render(&self) -> Markup {
        html! { span class={ "badge " (self.class) } { (self.sign) " " (self.word) } }
    }
}

/// A moment as the tables have it.
pub(crate) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

/// The page.
pub(crate) fn page(story: &Story, calls: Calls, theme: Theme, width: f64) -> Markup {
    html! {
        nav { (link(calls, "All deployments", &json!({}))) (console_links(story)) }
        @match &story.record {
            Some(record) => (known(story, record, calls, theme, width)),
            None => (unknown(story)),
        }
    }
}

/// Of a deployment whose request was refused, or of none.
fn unknown(story: &Story) -> Markup {
    let service = story.notices.iter().find_map(|told| told.service.as_ref());
    html! {
        @match story.notices.last() {
            Some(last) => {
                h1 { @if let Some(service) = service { (service) } @else { "A deployment" } }
                p { (sentence(&last.sentence)) }
            }
            None => { h1 { "Nothing is known of this deployment" } p { "The ledger has no record of " code { (story.execution) } "." } }
        }
        (request(story))
    }
}

fn known(story: &Story, record: &LedgerRecord, calls: Calls, theme: Theme, width: f64) -> Markup {
    let deployment = &record.deployment;
    let badge = Badge::of(record.phase, record.ending, story.question().is_some());
    let versions = Versions::of(deployment);
    html! {
        div.head { h1 { (deployment.service) } (badge) }
        @if let Some(last) = story.notices.last() { p { (sentence(&last.sentence)) } }
        p.quiet {
            "New: " @for (number, image) in versions.canary.iter().enumerate() { @if number > 0 { ", " } (image) }
            ". Stable: " (short(&versions.stable)) ". Began " (moment(deployment.started_at)) " UTC."
        }
        (left(record))
        h2 { "Share of the traffic" }
        (chart(story, theme, width))
        p.quiet { "Plan: " (plan(deployment)) }
        (decide(story, calls))
        (checks(&story.checks))
        (resources(story, deployment))
        (told(story))
        (request(story))
    }
}

/// A sentence that was kept without its beginning and its end.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    let mut whole: String = first.into_iter().flatten().chain(letters).collect();
    if !whole.ends_with(['.', '!', '?']) {
        whole.push('.');
    }
    whole
}

/// An ARN's last part: people know the Region and the account.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn plan(deployment: &Deployment) -> String {
    let steps = deployment.plan.steps().iter();
    let steps: Vec<_> = steps
        .map(|step| {
            let hold = match step.hold_seconds {
                whole if whole >= 60 && whole % 60 == 0 => format!("{} min", whole / 60),
                seconds => format!("{seconds} s"),
            };
            format!("{} % for {hold}", step.weight_percent)
        })
        .collect();
    steps.join(", ") + "."
}

fn console_links(story: &Story) -> Markup {
    let Some(console) = Console::of(&story.execution) else {
        return html! {};
    };
    let to = |href: String, text: &str| html! { a href=(href) target="_blank" { (text) } };
    html! {
        (to(console.execution(), "Execution"))
        @if let Some(record) = &story.record {
            (to(console.service(&record.deployment, &record.deployment.stable.service), "ECS service"))
        }
        (to(console.logs(), "Logs"))
    }
}

/// What a person must do.
fn left(record: &LedgerRecord) -> Markup {
    html! {
        @if !record.left.is_empty() {
            h2 { "What is left, in the order in which to put it right" }
            @for left in &record.left {
                div.left {
                    p { (sentence(&left.what)) }
                    p.quiet { (left.arn) }
                    @if !left.command.is_empty() { pre { (left.command) } }
                }
            }
        }
    }
}

/// The buttons of the decisions that are possible now.
fn decide(story: &Story, calls: Calls) -> Markup {
    let orders = story.open_orders();
    html! {
        @if !orders.is_empty() && !calls.decide.is_empty() {
            div.decide {
                form {
                    label for="by" { "Your name" }
                    input id="by" name="by" type="text" maxlength="100";
                    @for order in orders { (button(*order, story, calls)) }
                }
                p { "Works for whoever may invoke the function that decides. The name is kept as you give it; AWS CloudTrail has who sent the request." }
            }
        }
    }
}

fn button(order: Order, story: &Story, calls: Calls) -> Markup {
    let is_frozen = story.question().is_some();
    let (text, question) = match order {
        Order::RollBack => (
            "Roll back now",
            "Give stable all the traffic and remove the canary?",
        ),
        Order::Freeze => (
            "Freeze",
            "Hold the weight after the next check, and ask what is to be done?",
        ),
        Order::Promote if !is_frozen => (
            "Promote now",
            "Make the new version the stable one after the next check that can have data, unless that finds a reason not to?",
        ),
        Order::Resume => (
            "Resume",
            "Begin the step anew, with a count of failures of its own?",
        ),
        Order::Promote => (
            "Promote now",
            "Make the new version the stable one, without another check?",
        ),
    };
    let parameters = json!({ "execution": story.execution, "decision": order });
    let is_danger = order == Order::RollBack;
    html! {
        a.danger[is_danger] { (text) }
        cwdb-action action="call" display="popup" confirmation=(question) endpoint=(calls.decide) { (parameters) }
    }
}

/// The evidence of the last checks, the newest first.
fn checks(checks: &[Verdict]) -> Markup {
    html! {
        h2 { "The last checks" }
        @if checks.is_empty() {
            p.quiet { "No check was made." }
        } @else {
            table {
                thead { tr {
                    th { "Time" } th { "Weight" } th { "Outcome" } th { "Failed, new version" } th { "Failed, stable" } th { "Ratio" }
                } }
                tbody { @for check in checks.iter().rev().take(LAST_CHECKS) { (row(check)) } }
            }
        }
    }
}

fn row(check: &Verdict) -> Markup {
    let (canary, stable, ratio) = evidence(check);
    let (class, sign) = match check.outcome {
        Outcome::Healthy => ("good", "●"),
        Outcome::Unhealthy => ("bad", "✕"),
        Outcome::Inconclusive => ("open", "□"),
    };
    html! {
        tr {
            td.time { (check.at.strftime("%H:%M:%S")) }
            td.time { (check.weight_percent) " %" }
            td { span class=(class) { (sign) " " (check.outcome) } }
            td { (canary) } td { (stable) } td { (ratio) }
        }
        @if !check.sentence.is_empty() { tr.why { td {} td colspan="5" { (sentence(&check.sentence)) } } }
    }
}

/// What failed on both sides, and how one compares with the other.
fn evidence(check: &Verdict) -> (String, String, String) {
    let none = || "–".to_owned();
    if let Some(of) = check.comparison() {
        return (
            failed(of.canary_errors, of.canary_requests),
            failed(of.stable_errors, of.stable_requests),
            ratio(of),
        );
    }
    let rate = check.findings.iter().find(|f| f.name == "errorRatePercent");
    let percent = |value: Option<f64>| value.map(|value| format!("{value:.2} %"));
    let canary = rate.and_then(|rate| {
        let of = rate.samples.map(|all| format!(" of {all}"));
        percent(rate.value).map(|percent| percent + &of.unwrap_or_default())
    });
    let stable = rate.and_then(|rate| percent(rate.stable));
    (
        canary.unwrap_or_else(none),
        stable.unwrap_or_else(none),
        none(),
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
fn failed(errors: u64, requests: u64) -> String {
    if requests == 0 {
        return "no requests".to_owned();
    }
    let percent = errors as f64 / requests as f64 * 100.0;
    format!("{errors} of {requests} ({percent:.2} %)")
}

fn ratio(of: &Comparison) -> String {
    let bound = |value: Option<f64>, none: &str| {
        value.map_or_else(|| none.to_owned(), |value| format!("{value:.2}"))
    };
    let ratio = bound(of.ratio, "–");
    format!(
        "{ratio} ({} to {})",
        bound(of.ratio_from, "0"),
        bound(of.ratio_to, "∞")
    )
}

/// What the deployment made, and where it is.
fn resources(story: &Story, deployment: &Deployment) -> Markup {
    let console = Console::of(&story.execution);
    let service = |service: &ServiceName| {
        if let Some(console) = &console {
            html! { a href=(console.service(deployment, service)) target="_blank" { (service) } }
        } else {
            html! { (service) }
        }
    };
    let row = |name: &str, value: Markup| html! { tr { td.name { (name) } td { (value) } } };
    let made = deployment
        .may_leave
        .iter()
        .map(|left| left.arn.as_str())
        .filter(|arn| arn.starts_with("arn:") && !arn.contains(":states:"))
        .filter(|arn| !arn.contains(":ecs:"));
    let mut others: Vec<&str> = made.collect();
    others.dedup();
    html! {
        h2 { "What belongs to it" }
        table { tbody {
            (row("ECS service", service(&deployment.canary.service)))
            (row("Task-definition family", html! { (deployment.canary.family) }))
            @if let Some(baseline) = &deployment.baseline {
                (row("Baseline", service(&baseline.service)))
            }
            @if !others.is_empty() {
                (row("In the router", html! { @for arn in others { div { (arn) } } }))
            }
            (row("Stable", service(&deployment.stable.service)))
        } }
    }
}

/// One line of what happened.
enum Line<'a> {
    Told(&'a Notice),
    Wished(&'a Wish),
}

impl Line<'_> {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Told(notice) => notice.at,
            Self::Wished(wish) => wish.at,
        }
    }
}

/// What happened, in order, with what people decided.
fn told(story: &Story) -> Markup {
    let told = story.notices.iter().map(Line::Told);
    let mut lines: Vec<_> = told.chain(story.wishes.iter().map(Line::Wished)).collect();
    lines.sort_by_key(Line::at);
    html! {
        h2 { "What happened" }
        table { tbody {
            @for line in &lines {
                tr {
                    td.time { (line.at().strftime("%H:%M:%S")) }
                    td {
                        @match line {
                            Line::Told(notice) => (sentence(&notice.sentence)),
                            Line::Wished(wish) => {
                                strong { (wish.by) } " decided " em { (wish.order) } ". " (sentence(&wish.came_of_it))
                                " " span.quiet { "Request " (wish.request_id) "." }
                            }
                        }
                    }
                }
            }
        } }
    }
}

/// The request as it came.
fn request(story: &Story) -> Markup {
    html! {
        @if let Some(request) = &story.request {
            details { summary { "The request" } pre { (format!("{request:#}")) } }
        }
    }
}

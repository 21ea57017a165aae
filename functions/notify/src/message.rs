//! A notice in words, before it is put into the form of a channel.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serin::notice::{Decided, NoticePhase};
use serin::verdict::{Comparison, Finding, Limit, Outcome, cut};
use serin::{ExecutionArn, Leftover, Notice};

/// How many of the things that are left have their commands in a message. The rest is in the execution's cause.
const LEFT: usize = 10;
/// How many characters a fact has: a plan may have a hundred steps.
const LONGEST_FACT: usize = 600;

/// What stands in an ARN and means nothing else in an address.
const IN_ADDRESS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b':')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

/// How a message looks from far away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nobody has to do anything.
    Plain,
    /// It ended well.
    Good,
    /// The canary is not to be.
    Bad,
    /// A person is asked for.
    Person,
}

/// A notice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How it looks from far away.
    pub mark: Mark,
    /// The service, and what happened, in a few words.
    pub headline: String,
    /// What happened, as a sentence with its full stop.
    pub sentence: String,
    /// What is to be known beside it, each with its name.
    pub facts: Vec<(&'static str, String)>,
    /// The numbers of a verdict, a line for each thing that was looked at.
    pub evidence: Vec<String>,
    /// What a person can do, each with its command.
    pub commands: Vec<(String, String)>,
    /// The execution in the console of Step Functions.
    pub link: String,
}

impl Message {
    /// A notice in words.
    pub fn of(notice: &Notice) -> Self {
        let (mark, happened) = headline(notice);
        let service = notice.service.as_ref();
        let service = service.map_or_else(|| "a service".to_owned(), ToString::to_string);
        Self {
            mark,
            headline: format!("{service}: {happened}"),
            sentence: sentence(&notice.sentence),
            facts: facts(notice),
            evidence: evidence(&notice.phase),
            commands: commands(&notice.phase),
            link: link(&notice.execution),
        }
    }
}

fn headline(notice: &Notice) -> (Mark, String) {
    let (mark, happened) = match &notice.phase {
        NoticePhase::Refused { .. } => (Mark::Bad, "deployment refused"),
        NoticePhase::Waiting { .. } => (Mark::Plain, "deployment waits"),
        NoticePhase::Planned { .. } => (Mark::Plain, "deployment planned"),
        NoticePhase::CanaryUp { .. } => (Mark::Plain, "canary up"),
        NoticePhase::Weight { .. } => {
            let weight = notice.weight_percent;
            return (Mark::Plain, format!("canary at {weight} percent"));
        }
        NoticePhase::Verdict { verdict, .. } => {
            let mark = match verdict.outcome {
                Outcome::Healthy => Mark::Good,
                Outcome::Unhealthy => Mark::Bad,
                Outcome::Inconclusive => Mark::Plain,
            };
            return (mark, format!("canary {}", verdict.outcome));
        }
        NoticePhase::Frozen { .. } => (Mark::Person, "frozen, asks for a decision"),
        NoticePhase::RollingBack => (Mark::Bad, "rolling back"),
        NoticePhase::Promoted => (Mark::Good, "promoted"),
        NoticePhase::RolledBack { .. } => (Mark::Bad, "rolled back"),
        NoticePhase::NeedsAttention { .. } => (Mark::Person, "needs attention"),
    };
    (mark, happened.to_owned())
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    let mut sentence: String = first.into_iter().flatten().chain(letters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(versions) = &notice.versions {
        let stable = versions.stable.rsplit('/').next().unwrap_or_default();
        let canary = versions.canary.join(", ");
        facts.push(("Version", format!("{stable} → {canary}")));
    }
    facts.push(("Weight", format!("{} percent", notice.weight_percent)));
    match &notice.phase {
        NoticePhase::Refused { error } => facts.push(("Error", error.clone())),
        NoticePhase::Waiting {
            behind,
            opens_at,
            until,
            ..
        } => {
            facts.extend(behind.iter().map(|behind| ("Behind", behind.to_string())));
            facts.extend(opens_at.map(|opens_at| ("Opens", opens_at.to_string())));
            facts.push(("Until", until.to_string()));
        }
        NoticePhase::Planned {
            steps,
            deadline_at,
            notes,
        } => {
            let steps = steps.iter().map(|step| {
                let hold = step.hold_seconds;
                format!("{} percent for {hold} s", step.weight_percent)
            });
            facts.push(("Plan", steps.collect::<Vec<_>>().join(", ")));
            facts.push(("Deadline", deadline_at.to_string()));
            facts.extend(notes.iter().map(|note| ("Note", note.clone())));
        }
        NoticePhase::CanaryUp { canary } => facts.push(("Canary", canary.clone())),
        NoticePhase::Weight {
            step,
            of,
            from_percent,
            decided,
        } => {
            facts.push(("Before", format!("{from_percent} percent")));
            facts.push(("Step", format!("{step} of {of}")));
            facts.extend(decided.map(|decided| ("Decided", decided_by(decided).to_owned())));
        }
        NoticePhase::Verdict { verdict, next } => {
            facts.push(("Verdict", verdict.outcome.to_string()));
            facts.push(("Step", verdict.step.to_string()));
            facts.push(("Next", next.clone()));
        }
        NoticePhase::Frozen {
            waits_for_seconds,
            then,
            ..
        } => {
            facts.push(("Waits for", format!("{waits_for_seconds} s")));
            facts.push(("Then", then.clone()));
        }
        NoticePhase::RolledBack { error } | NoticePhase::NeedsAttention { error, .. } => {
            facts.extend(error.iter().map(|error| ("Error", error.clone())));
        }
        NoticePhase::RollingBack | NoticePhase::Promoted => {}
    }
    facts.extend(notice.by.iter().map(|by| ("Done by", by.to_string())));
    for (_, fact) in &mut facts {
        *fact = cut(fact, LONGEST_FACT);
    }
    facts
}

fn decided_by(decided: Decided) -> &'static str {
    match decided {
        Decided::ByAPerson => "by a person",
        Decided::ByDefault => "by the request's default, since nobody answered",
    }
}

fn evidence(phase: &NoticePhase) -> Vec<String> {
    let NoticePhase::Verdict { verdict, .. } = phase else {
        return Vec::new();
    };
    verdict.findings.iter().map(finding).collect()
}

fn finding(finding: &Finding) -> String {
    let mut parts = Vec::new();
    if let Some(comparison) = &finding.comparison {
        parts.extend(comparison_in_words(comparison));
    } else {
        parts.extend(
            finding
                .value
                .map(|value| format!("canary {}", number(value))),
        );
        parts.extend(
            finding
                .stable
                .map(|value| format!("stable {}", number(value))),
        );
        parts.extend(finding.limit.map(limit));
        parts.extend(finding.samples.map(|samples| format!("{samples} requests")));
    }
    format!("{} {}: {}", finding.name, finding.outcome, parts.join(", "))
}

fn comparison_in_words(comparison: &Comparison) -> Vec<String> {
    let which = match comparison.slower_than_ms {
        Some(ms) => format!(" slower than {} ms", number(ms)),
        None => " failed".to_owned(),
    };
    let mut parts = vec![
        format!(
            "canary {} of {} requests{which}",
            comparison.canary_errors, comparison.canary_requests
        ),
        format!(
            "stable {} of {}",
            comparison.stable_errors, comparison.stable_requests
        ),
    ];
    if let Some(ratio) = comparison.ratio {
        let at_least = comparison.ratio_from.map(number);
        let at_most = comparison.ratio_to.map(number);
        let bounds = match (at_least, at_most) {
            (Some(from), Some(to)) => format!(" ({from} to {to})"),
            (Some(from), None) => format!(" (at least {from})"),
            (None, Some(to)) => format!(" (at most {to})"),
            (None, None) => String::new(),
        };
        parts.push(format!("ratio {}{bounds}", number(ratio)));
    }
    parts
}

fn limit(limit: Limit) -> String {
    match limit {
        Limit::Max(max) => format!("limit at most {}", number(max)),
        Limit::Min(min) => format!("limit at least {}", number(min)),
    }
}

/// At most three decimals, and none that is a nought.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn commands(phase: &NoticePhase) -> Vec<(String, String)> {
    match phase {
        NoticePhase::Frozen {
            commands: Some(commands),
            ..
        } => vec![
            ("Roll back".to_owned(), commands.roll_back.clone()),
            ("Begin the step anew".to_owned(), commands.resume.clone()),
            ("Promote".to_owned(), commands.promote.clone()),
        ],
        NoticePhase::NeedsAttention { left, .. } => left_in_words(left),
        _ => Vec::new(),
    }
}

fn left_in_words(left: &[Leftover]) -> Vec<(String, String)> {
    let mut commands: Vec<_> = left
        .iter()
        .take(LEFT)
        .map(|left| {
            let what = format!("{}: {}", left.arn, left.what);
            (sentence(&what), left.command.clone())
        })
        .collect();
    if let Some(omitted @ 1..) = left.len().checked_sub(LEFT) {
        let what = format!("{omitted} more, which the execution's cause has.");
        commands.push((what, String::new()));
    }
    commands
}

/// The execution in the console of its partition.
fn link(execution: &ExecutionArn) -> String {
    let mut parts = execution.as_str().split(':').skip(1);
    let partition = parts.next().unwrap_or_default();
    let region = parts.nth(1).unwrap_or_default();
    let host = match partition {
        "aws-cn" => "console.amazonaws.cn".to_owned(),
        "aws-us-gov" => "console.amazonaws-us-gov.com".to_owned(),
        _ => format!("{region}.console.aws.amazon.com"),
    };
    let arn = utf8_percent_encode(execution.as_str(), IN_ADDRESS);
    format!("https://{host}/states/home?region={region}#/v2/executions/details/{arn}")
}

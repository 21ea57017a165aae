//! What the reader of a finished execution gets: how it ended, why, what was done and what is left.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::progress::{Event, Progress};
use crate::verdict::{Verdict, cut};

/// The three endings of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Ending {
    /// The new version is the stable one.
    Promoted,
    /// Everything is as it was.
    RolledBack,
    /// A person must finish it: the report names each thing that is left, and the command.
    NeedsAttention,
}

/// Something that a deployment could not put in order, and the command that does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    /// The ARN of the thing itself; of the service that it scales for a suspended scaling, which has none of its own.
    pub arn: String,
    /// What is left and what it still does, as a sentence without its full stop.
    pub what: String,
    /// The command that finishes the job, ready to paste.
    pub command: String,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.arn, self.what, self.command)
    }
}

/// The whole story of a deployment that has ended: the execution's output, or its cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub ending: Ending,
    /// The sentence that says why.
    pub why: String,
    /// The name of the error that led here; absent after a verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The last verdict of each step, in short.
    pub verdicts: Vec<Verdict>,
    /// What was done, in order.
    pub done: Vec<Event>,
    /// What is left to do; empty unless a person is needed.
    pub left: Vec<Leftover>,
}

/// A `Fail` state's cause has at most this many bytes (Step Functions API, `sensitive-cause`: 32,768).
pub const CAUSE_LIMIT: usize = 32_768;

/// How much of the sentence that says why is kept when a cause would be too long.
const SHORT_WHY: usize = 4000;

/// How long a list of what is left may be within a cause, in bytes: half of it.
pub const LONGEST_LIST: usize = CAUSE_LIMIT / 2;

/// The list of what is left, when it may have only so many bytes: the first things and the last, which says how many more there
/// are.
pub fn at_most(mut left: Vec<Leftover>, bytes: usize) -> Vec<Leftover> {
    let size = |left: &[Leftover]| serde_json::to_string(left).map_or(0, |text| text.len());
    let mut omitted = 0;
    while size(&left) > bytes && left.len() > 1 {
        left.remove(left.len() - 2);
        omitted += 1;
    }
    if let (Some(last), 1..) = (left.last_mut(), omitted) {
        last.what = format!(
            "{omitted} more things, for which there is no room here; {}",
            last.what
        );
    }
    left
}

impl Report {
    /// The story of a deployment that got this far.
    pub fn of(progress: &Progress, ending: Ending, why: impl Into<String>) -> Self {
        let mut verdicts = progress.verdicts.clone();
        // The last one stands beside them in full; twice it could be more than an execution's state holds.
        if let Some(last) = verdicts.last_mut() {
            last.shorten();
        }
        Self {
            ending,
            why: why.into(),
            error: None,
            verdict: progress.verdicts.last().cloned(),
            verdicts,
            done: progress.timeline.clone(),
            left: Vec::new(),
        }
    }

    /// The report as the text of a `Fail` state's cause.
    ///
    /// When it is longer than a cause may be, the earlier verdicts and then the timeline are left out: why it ended and
    /// what is left stay, as far as there is room.
    pub fn to_cause(&self) -> String {
        let mut shorter = self.clone();
        let mut text = shorter.text();
        if text.len() > CAUSE_LIMIT {
            shorter.verdicts.clear();
            text = shorter.text();
        }
        if text.len() > CAUSE_LIMIT {
            shorter.done.clear();
            text = shorter.text();
        }
        if text.len() > CAUSE_LIMIT {
            if let Some(verdict) = &mut shorter.verdict {
                verdict.shorten();
            }
            shorter.why = cut(&shorter.why, SHORT_WHY);
            shorter.left = at_most(shorter.left, LONGEST_LIST);
            text = shorter.text();
        }
        text
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("a report has string keys only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_stays_within_its_limit_however_much_is_left_and_says_how_much_it_leaves_out() {
        let mut report = Report::of(&Progress::default(), Ending::NeedsAttention, "the why");
        report.left = (0..200)
            .map(|rule| Leftover {
                arn: format!("arn:aws:elasticloadbalancing:eu-west-1:1:listener-rule/{rule}"),
                what: "a rule".into(),
                command: "x".repeat(400),
            })
            .collect();
        let cause = report.to_cause();
        assert!(cause.len() <= CAUSE_LIMIT, "{}", cause.len());
        let read: Report = serde_json::from_str(&cause).unwrap();
        let last = read.left.last().unwrap();
        let omitted = 200 - read.left.len();
        assert!(
            last.arn.ends_with("/199") && last.what.starts_with(&format!("{omitted} more things")),
            "{last}"
        );
    }

    #[test]
    fn a_cause_that_would_be_too_long_keeps_why_and_what_is_left() {
        let mut progress = Progress::default();
        for _ in 0..200 {
            progress.note(jiff::Timestamp::UNIX_EPOCH, "x".repeat(300));
        }
        let mut report = Report::of(&progress, Ending::NeedsAttention, "the why");
        report.left.push(Leftover {
            arn: "arn:aws:ecs:eu-west-1:1:service/prod/canary".into(),
            what: "a service".into(),
            command: "aws ecs delete-service".into(),
        });
        let cause = report.to_cause();
        assert!(cause.len() <= CAUSE_LIMIT);
        let read: Report = serde_json::from_str(&cause).unwrap();
        assert_eq!((read.why.as_str(), read.left.len()), ("the why", 1));
    }
}

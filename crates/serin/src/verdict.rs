//! What a check found: healthy, unhealthy or inconclusive, always with its evidence.

use std::fmt::Write as _;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::weight::Weight;

/// A state of knowledge about the canary.
///
/// Silence is never health: no data, too few requests or an API that did not answer is [`Outcome::Inconclusive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Outcome {
    /// Measured, with enough data, and within every limit.
    Healthy,
    /// Measured, and beyond a limit.
    Unhealthy,
    /// Not enough is known.
    Inconclusive,
}

impl Outcome {
    /// The outcome of two findings together: unhealthy wins, then inconclusive.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unhealthy, _) | (_, Self::Unhealthy) => Self::Unhealthy,
            (Self::Inconclusive, _) | (_, Self::Inconclusive) => Self::Inconclusive,
            (Self::Healthy, Self::Healthy) => Self::Healthy,
        }
    }
}

/// The time over which something was measured: from `start` (included) to `end` (excluded), both on whole periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// The first instant that counts.
    pub start: Timestamp,
    /// The first instant that no longer counts.
    pub end: Timestamp,
}

impl Window {
    /// The window's length in seconds; zero when it is empty.
    pub fn seconds(&self) -> i64 {
        (self.end.as_second() - self.start.as_second()).max(0)
    }
}

/// The bound that a value was held against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Limit {
    /// The value must not be above this.
    Max(f64),
    /// The value must not be below this.
    Min(f64),
}

impl Limit {
    /// Whether `value` is within the bound; a value that is not a number is not.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Max(max) => value <= max,
            Self::Min(min) => value >= min,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Max(max) => write!(f, "at most {max}"),
            Self::Min(min) => write!(f, "at least {min}"),
        }
    }
}

/// One thing that was looked at in a check, with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at, as the request names it: `errorRatePercent`, `alarms.checkout-5xx`, `queries.latency`, `tasks`.
    pub name: String,
    /// What was found.
    pub outcome: Outcome,
    /// The sentence that says why; empty in the verdicts of earlier steps.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sentence: String,
    /// The canary's value, in the unit of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The bound that the value was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// On how many requests the value rests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Stable's value in the same window, for the reader; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// What was asked, in words that can be pasted into the console.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// The evidence of a comparison with stable; absent in everything else, and in the verdicts of earlier steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl Finding {
    /// A finding that is no more than a sentence.
    pub fn new(name: impl Into<String>, outcome: Outcome, sentence: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            outcome,
            sentence: sentence.into(),
            value: None,
            limit: None,
            samples: None,
            stable: None,
            query: String::new(),
            comparison: None,
        }
    }
}

/// The evidence of one metric's comparison with stable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Up to when the comparison has seen.
    pub until: Timestamp,
    /// From how many milliseconds on a request is slow, when slow requests are counted and not failed ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_than_ms: Option<f64>,
    /// The canary's requests that the evidence rests on.
    pub canary_requests: u64,
    /// How many of them failed, or were slow.
    pub canary_errors: u64,
    /// Stable's requests in the same minutes.
    pub stable_requests: u64,
    /// How many of them failed, or were slow.
    pub stable_errors: u64,
    /// The canary's rate over stable's; absent when stable has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The least ratio that the counts do not refute, however often one looks (95 percent); absent when nothing bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_from: Option<f64>,
    /// The largest such ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_to: Option<f64>,
    /// Natural logarithm of the e-value: the canary is rolled back from `-ln(falseAlarm)` on.
    pub log_e: f64,
    /// How much of what `detect` needs has been seen: 1 is enough. Of slow requests nothing is needed.
    pub seen: f64,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// All findings together.
    pub outcome: Outcome,
    /// The sentence that says why: the deciding finding's, or that all is within limits.
    pub sentence: String,
    /// When the check ran.
    pub at: Timestamp,
    /// The number of the step, counted from one, as people count.
    pub step: usize,
    /// The canary's weight during the check.
    pub weight_percent: Weight,
    /// The time that was measured; absent when no data could exist yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Each thing that was looked at.
    pub findings: Vec<Finding>,
}

/// How much of a sentence of an earlier step is kept.
const SHORT_SENTENCE: usize = 150;

impl Verdict {
    /// Leaves the outcome, the sentence, the rates and the evidence: what the ledger keeps of every check.
    pub fn brief(&mut self) {
        self.sentence = cut(&self.sentence, SHORT_SENTENCE);
        self.findings
            .retain(|finding| finding.samples.is_some() && !finding.name.starts_with("queries."));
        for finding in &mut self.findings {
            finding.query.clear();
            finding.sentence.clear();
        }
    }

    /// Leaves the outcome, the sentence and the rates: a plan may have a hundred steps with a hundred alarms each, and the
    /// state of an execution has 256 KiB.
    pub fn shorten(&mut self) {
        self.brief();
        for finding in &mut self.findings {
            finding.comparison = None;
        }
    }

    /// The evidence of its comparison of errors with stable's, if one was made.
    pub fn comparison(&self) -> Option<&Comparison> {
        self.comparisons()
            .find(|comparison| comparison.slower_than_ms.is_none())
    }

    /// The evidence of its comparisons of slow requests.
    pub fn slow_comparisons(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons()
            .filter(|comparison| comparison.slower_than_ms.is_some())
    }

    fn comparisons(&self) -> impl Iterator<Item = &Comparison> {
        let findings = self.findings.iter();
        findings.filter_map(|finding| finding.comparison.as_ref())
    }
}

/// The evidence over time as a table: one line for each check, the newest last. Slow requests have a column for each threshold.
pub fn table(verdicts: &[Verdict]) -> String {
    let compared = verdicts.iter().flat_map(Verdict::slow_comparisons);
    let mut thresholds: Vec<f64> = compared.filter_map(|of| of.slower_than_ms).collect();
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    let mut head = format!(
        "{:20}  {:>4}  {:>6}  {:12}  {:>21}  {:>21}  {:>6}  {:>15}  {:>9}  {:>5}",
        "check",
        "step",
        "weight",
        "verdict",
        "canary failed",
        "stable failed",
        "ratio",
        "95 percent",
        "e-value",
        "seen"
    );
    for ms in &thresholds {
        let title = format!("over {ms} ms, e-value");
        let _ = write!(head, "  {title:>SLOW_COLUMN$}");
    }
    let mut lines = vec![head];
    lines.extend(verdicts.iter().map(|verdict| {
        let mut line = line(verdict);
        for ms in &thresholds {
            let _ = write!(line, "  {:>SLOW_COLUMN$}", slow(verdict, *ms));
        }
        line
    }));
    lines.join("\n")
}

/// The width of a column of slow requests.
const SLOW_COLUMN: usize = 32;

/// The shares of requests that were slow, of the canary and of stable, and what that says.
fn slow(verdict: &Verdict, ms: f64) -> String {
    let mut compared = verdict.slow_comparisons();
    let Some(of) = compared.find(|of| of.slower_than_ms == Some(ms)) else {
        return "-".to_owned();
    };
    format!(
        "{} to {}, {}",
        percent(of.canary_errors, of.canary_requests),
        percent(of.stable_errors, of.stable_requests),
        e_value(of)
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.2} %", part as f64 / whole as f64 * 100.0)
}

fn e_value(of: &Comparison) -> String {
    format!("{:.1e}", of.log_e.clamp(-690.0, 690.0).exp())
}

fn line(verdict: &Verdict) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let comparison = verdict.comparison();
    let failed = |side: fn(&Comparison) -> (u64, u64)| {
        comparison.map_or("-".to_owned(), |of| {
            let (errors, requests) = side(of);
            format!("{errors} of {requests}")
        })
    };
    let interval = comparison.map_or("-".to_owned(), |of| {
        format!("{} to {}", number(of.ratio_from), number(of.ratio_to))
    });
    let e_value = comparison.map_or("-".to_owned(), e_value);
    let seen = comparison.map_or("-".to_owned(), |of| {
        // The sum of nothing is a negative zero.
        format!("{:.0} %", (of.seen * 100.0).min(100.0).floor() + 0.0)
    });
    format!(
        "{:20}  {:>4}  {:>6}  {:12}  {:>21}  {:>21}  {:>6}  {:>15}  {:>9}  {:>5}",
        verdict.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        verdict.step,
        format!("{} %", verdict.weight_percent),
        verdict.outcome.to_string(),
        failed(|of| (of.canary_errors, of.canary_requests)),
        failed(|of| (of.stable_errors, of.stable_requests)),
        number(comparison.and_then(|of| of.ratio)),
        interval,
        e_value,
        seen,
    )
}

/// The text, cut to at most `longest` characters.
pub fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_makes_an_unhealthy_finding_good_and_silence_is_not_health() {
        use Outcome::{Healthy, Inconclusive, Unhealthy};
        assert_eq!(Healthy.and(Healthy), Healthy);
        assert_eq!(Healthy.and(Inconclusive), Inconclusive);
        for other in [Healthy, Inconclusive, Unhealthy] {
            assert_eq!(other.and(Unhealthy), Unhealthy);
            assert_eq!(Unhealthy.and(other), Unhealthy);
        }
    }

    #[test]
    fn the_evidence_over_time_is_a_table_with_a_line_for_each_check() {
        let comparison = Comparison {
            until: Timestamp::UNIX_EPOCH,
            slower_than_ms: None,
            canary_requests: 600,
            canary_errors: 18,
            stable_requests: 5400,
            stable_errors: 54,
            ratio: Some(3.0),
            ratio_from: Some(1.4),
            ratio_to: None,
            log_e: 3.0,
            seen: 1.7,
        };
        let mut verdict = Verdict {
            outcome: Outcome::Unhealthy,
            sentence: String::new(),
            at: Timestamp::UNIX_EPOCH,
            step: 2,
            weight_percent: Weight::from_percent(10.0).unwrap(),
            window: None,
            findings: vec![Finding {
                comparison: Some(comparison),
                samples: Some(600),
                ..Finding::new("comparison.errors", Outcome::Unhealthy, "worse")
            }],
        };
        verdict.brief();
        let table = table(&[verdict.clone()]);
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "1970-01-01T00:00:00Z 2 10 % unhealthy 18 of 600 54 of 5400 3.00 1.40 to - 2.0e1 100 %"
        );
        let slow = Comparison {
            slower_than_ms: Some(182.0),
            log_e: 0.0,
            ..comparison
        };
        verdict.findings.push(Finding {
            comparison: Some(slow),
            samples: Some(600),
            ..Finding::new("comparison.over182ms", Outcome::Healthy, "alike")
        });
        let table = super::table(&[verdict.clone()]);
        assert!(
            table
                .lines()
                .next()
                .unwrap()
                .ends_with("over 182 ms, e-value"),
            "{table}"
        );
        assert!(
            table.ends_with("100 %           3.00 % to 1.00 %, 1.0e0"),
            "{table}"
        );
        assert_eq!(verdict.comparison(), Some(&comparison), "that of errors");
        verdict.shorten();
        assert_eq!(verdict.comparison(), None);
    }

    #[test]
    fn a_value_that_is_no_number_is_within_no_limit() {
        assert!(!Limit::Max(1.0).holds(f64::NAN));
        assert!(!Limit::Min(1.0).holds(f64::NAN));
        assert!(Limit::Max(1.0).holds(1.0));
    }
}

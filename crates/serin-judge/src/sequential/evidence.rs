//! What a person is shown: rates, ratio, requests, and one sentence.

use super::confidence::Confidence;
use super::counts::{Totals, number};
use super::exposure::{Detect, least_seen};
use super::family::{Counted, DOUBTFUL, Metric, more_needed};
use super::settings::Settings;
use super::watch::{Decision, Watch};

/// The probability that the ratio's interval is wrong at any time: 5 percent.
const DOUBT: f64 = 0.05;

/// The evidence of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// The metric's name.
    pub name: String,
    /// Requests and errors of both sides in the minutes that the evidence rests on.
    pub totals: Totals,
    /// The first of these minutes, counted from 0: later than 0 when a regression began later.
    pub since: usize,
    /// The canary's rate as a fraction; `None` without requests.
    pub canary_rate: Option<f64>,
    /// Stable's.
    pub stable_rate: Option<f64>,
    /// The canary's rate over stable's; `None` when stable has none.
    pub ratio: Option<f64>,
    /// The least ratio that the counts do not refute (95 percent, however often one looks); `None` when nothing bounds it.
    pub ratio_from: Option<f64>,
    /// The largest such ratio.
    pub ratio_to: Option<f64>,
    /// Natural logarithm of the metric's e-value, before its weight.
    pub log_e: f64,
    /// How much of the evidence that `detect` needs would have been seen: 1 or more is enough.
    pub seen: f64,
    /// How many more requests of the canary that takes, when it is not enough and can be said.
    pub more_requests: Option<u64>,
    /// One sentence.
    pub sentence: String,
}

/// What the evidence is made from.
pub(super) struct Subject<'a> {
    pub(super) metric: &'a Metric<'a>,
    pub(super) watch: &'a Watch<'a>,
    pub(super) settings: &'a Settings,
    pub(super) weight: f64,
    pub(super) log_e: f64,
    /// The last minute that counts.
    pub(super) until: usize,
    /// The first one, and the weight of that start.
    pub(super) start: (usize, f64),
    /// The deployment's newest decision.
    pub(super) last: Decision,
}

impl Evidence {
    pub(super) fn of(subject: &Subject<'_>) -> Self {
        let (since, start_weight) = subject.start;
        let end = (subject.until + 1).min(subject.metric.minutes.len());
        let since = since.min(end);
        let minutes = &subject.metric.minutes[since..end];
        let temperings = &subject.watch.temperings[since..end];
        // A disaster in the warm-up has no other minutes to show.
        let only_warm_up = temperings.iter().all(Option::is_none);
        let mut totals = Totals::default();
        let mut confidence = Confidence::default();
        let mut stable_alike = 0.0;
        for (minute, tempering) in minutes.iter().zip(temperings) {
            let tempering = tempering.or_else(|| only_warm_up.then_some(1.0));
            if let (Some(pair), Some(tempering)) = (minute.pair(), tempering) {
                totals.add(minute);
                confidence.add(&pair, tempering);
                stable_alike += pair.stable_alike();
            }
        }
        // The start was chosen for its evidence, so its interval gets only its share of the doubt.
        let (ratio_from, ratio_to) = confidence.interval(DOUBT * start_weight);
        let rate = |errors, requests| (requests > 0).then(|| number(errors) / number(requests));
        let canary_rate = rate(totals.canary.errors, totals.canary.requests);
        let stable_rate = rate(totals.stable.errors, totals.stable.requests);
        let seen = subject.watch.seen();
        let mut evidence = Self {
            name: subject.metric.name.to_owned(),
            totals,
            since,
            canary_rate,
            stable_rate,
            // Minute by minute, so that a change of the weights between good and bad minutes makes none.
            ratio: (stable_alike > 0.0).then(|| number(totals.canary.errors) / stable_alike),
            ratio_from,
            ratio_to,
            log_e: subject.log_e,
            seen,
            more_requests: more_needed(subject.watch.totals.canary.requests, seen),
            sentence: String::new(),
        };
        evidence.sentence = evidence.say(subject);
        evidence
    }

    /// The counts of both sides in words.
    pub fn counts(&self, counted: Counted) -> String {
        let since = if self.since > 0 {
            format!("since minute {} ", self.since + 1)
        } else {
            String::new()
        };
        let canary = said(
            counted,
            self.totals.canary.errors,
            self.totals.canary.requests,
        );
        let stable = &self.totals.stable;
        let stable = beside(counted, stable.errors, stable.requests);
        format!("{since}the canary {canary}, stable {stable}")
    }

    fn say(&self, subject: &Subject<'_>) -> String {
        if let Some(missing) = missing(subject) {
            return missing;
        }
        let counted = subject.metric.counted;
        let counts = self.counts(counted);
        // The family's threshold is met by the e-value times the weight, so that is what chance is said to allow.
        let weighted = self.log_e + subject.weight.ln();
        if subject.watch.over_limit {
            let limit = subject.settings.limit.unwrap_or_default();
            return format!(
                "{counts}: above the limit of {} percent, and stable is better",
                percent(limit)
            );
        }
        let (detect, margin) = (subject.settings.detect, subject.settings.margin);
        let rate = subject.watch.usual_rate(detect);
        let hidden = detect.rate(rate) < rate * least_seen(margin);
        let wanted = if hidden {
            wanted(
                Detect::Ratio((least_seen(margin) * 100.0).round() / 100.0),
                counted,
            )
        } else {
            wanted(detect, counted)
        };
        if weighted >= -subject.settings.false_alarm.ln() {
            let often = match self.ratio_from {
                Some(from) if from >= 1.1 => format!("at least {} times as often", rough(from)),
                _ => "more often".to_owned(),
            };
            format!(
                "{counts}: {often}, and by chance less often than once in {}",
                odds(weighted)
            )
        } else if subject.last == Decision::RollBack {
            format!("{counts}: part of the evidence of all metrics together")
        } else if weighted >= -subject.settings.false_alarm.ln() * DOUBTFUL {
            format!("{counts}: this points to a worse canary, but may still be chance")
        } else if self.seen >= 1.0 {
            format!("{counts}: {wanted} would have been seen")
        } else {
            let needed = self.more_requests.map_or_else(
                || "more requests are needed than can be said".to_owned(),
                |more| {
                    format!(
                        "about {} more of the canary's requests are needed",
                        thousands(more)
                    )
                },
            );
            format!("{counts}: {needed} before {wanted} would have been seen")
        }
    }
}

/// Which number is missing, if one is.
fn missing(subject: &Subject<'_>) -> Option<String> {
    let minutes = subject.metric.minutes;
    let canary = minutes.iter().any(|minute| minute.canary.is_some());
    let stable = minutes.iter().any(|minute| minute.stable.is_some());
    let newest = minutes.get(subject.until);
    let number = match (canary, stable) {
        (false, false) => "no data on the requests of the canary and of stable".to_owned(),
        (false, true) => "no data on the canary's requests".to_owned(),
        (true, false) => "no data on stable's requests".to_owned(),
        (true, true) => match newest.map(|minute| (minute.canary, minute.stable)) {
            Some((Some(_), Some(_))) => return None,
            Some((None, Some(_))) => "no data on the canary's requests in the newest minute".into(),
            Some((Some(_), None)) => "no data on stable's requests in the newest minute".into(),
            _ => "no data on either side's requests in the newest minute".into(),
        },
    };
    Some(number)
}

/// The family's sentence.
pub(super) fn sentence_for(evidence: &[Evidence], parts: &[f64], last: Decision) -> String {
    if evidence.is_empty() {
        return "no metric is compared".to_owned();
    }
    let key = |at: &usize| match last {
        // The metric that did it; or the one with the least to go by.
        Decision::RollBack => parts[*at],
        Decision::Continue | Decision::Enough => -evidence[*at].seen,
    };
    let most = (0..evidence.len()).max_by(|a, b| key(a).total_cmp(&key(b)));
    let Some(most) = most.map(|at| &evidence[at]) else {
        return String::new();
    };
    if evidence.len() == 1 {
        most.sentence.clone()
    } else {
        format!("{}: {}", most.name, most.sentence)
    }
}

fn said(counted: Counted, errors: u64, requests: u64) -> String {
    match counted {
        Counted::Errors => format!("failed {}", side(errors, requests)),
        Counted::Slower { canary: than, .. } => {
            let (errors, rate) = (thousands(errors), rate(errors, requests));
            format!(
                "answered {errors} of {} requests in more than {than} ms ({rate})",
                thousands(requests)
            )
        }
    }
}

fn side(errors: u64, requests: u64) -> String {
    let rate = rate(errors, requests);
    format!(
        "{} of {} requests ({rate})",
        thousands(errors),
        thousands(requests)
    )
}

fn beside(counted: Counted, errors: u64, requests: u64) -> String {
    let rate = rate(errors, requests);
    let than = match counted {
        Counted::Errors => String::new(),
        Counted::Slower { stable: than, .. } => format!(" in more than {than} ms"),
    };
    let (errors, requests) = (thousands(errors), thousands(requests));
    format!("{errors} of {requests}{than} ({rate})")
}

fn rate(errors: u64, requests: u64) -> String {
    if requests == 0 {
        return "none".to_owned();
    }
    format!("{} percent", percent(number(errors) / number(requests)))
}

fn wanted(detect: Detect, counted: Counted) -> String {
    let what = match counted {
        Counted::Errors => "errors",
        Counted::Slower { .. } => "slow requests",
    };
    match detect {
        Detect::Ratio(ratio) => format!("{ratio} times as many {what}"),
        Detect::Points(1.0) => format!("1 percentage point more {what}"),
        Detect::Points(points) => format!("{points} percentage points more {what}"),
    }
}

/// A fraction as a percentage with two digits that say something.
fn percent(fraction: f64) -> String {
    rough(fraction * 100.0)
}

/// Two significant digits, and never more than a number has.
fn rough(value: f64) -> String {
    if value <= 0.0 {
        return "0".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of an f64")]
    let digits = 1 - value.log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    // Downwards, so that "at least" is true.
    let value = (value * scale + 1e-9).floor() / scale;
    let places = usize::try_from(digits).unwrap_or(0);
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// One in how many, rounded down to one digit.
fn odds(log_e: f64) -> String {
    let exponent = (log_e / std::f64::consts::LN_10 + 1e-12).floor();
    if exponent >= 9.0 {
        return "a billion".to_owned();
    }
    let unit = 10_f64.powf(exponent);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and below 1e10"
    )]
    let value = ((log_e.exp() / unit + 1e-9).floor() * unit).max(1.0) as u64;
    thousands(value)
}

/// With commas between the thousands.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

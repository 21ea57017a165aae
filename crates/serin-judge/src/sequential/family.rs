//! Several metrics of one deployment.
//!
//! Every metric has a weight, and the weights sum to 1. The weighted average of e-values is an e-value, however the metrics
//! depend on each other. So rolling back when it reaches `1 / falseAlarm` keeps the probability of a false alarm for the
//! deployment as a whole, for any number of metrics and of looks, and a metric that reaches `1 / (weight falseAlarm)` by
//! itself is enough.
//!
//! At any time, and not only at one fixed beforehand, this takes that what one metric has shown says nothing about another's
//! lasting difference, because that is what is averaged over ([`super::Null::Within`]).

use serin::verdict::Outcome;

use super::counts::{Minute, number};
use super::evidence::{Evidence, Subject, sentence_for};
use super::noise::Past;
use super::ratio::log_sum;
use super::settings::{Settings, Tests};
use super::watch::{Decision, Watch};

/// What a metric counts; it only changes the words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Counted {
    /// Requests that failed.
    Errors,
    /// Requests slower than a threshold taken from stable before the deployment, which is longer for the canary.
    Slower {
        /// Milliseconds, for the canary.
        canary: f64,
        /// Milliseconds, for stable.
        stable: f64,
    },
}

/// One metric to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric<'a> {
    /// Its name, for the evidence.
    pub name: &'a str,
    /// What it counts.
    pub counted: Counted,
    /// The minutes from the canary's first request on, in order, none left out.
    pub minutes: &'a [Minute],
    /// The minutes with which new tasks of the canary began to serve, besides the first; positions in `minutes`.
    pub new_tasks: &'a [usize],
    /// Its share of the false alarms; the weights of all metrics are scaled to sum to 1.
    pub weight: f64,
    /// What is known of the service's past.
    pub past: Option<Past>,
}

impl<'a> Metric<'a> {
    /// Failed requests, of which nothing else is known: the whole weight, no new tasks, no past.
    pub const fn errors(minutes: &'a [Minute]) -> Self {
        Self {
            name: "errors",
            counted: Counted::Errors,
            minutes,
            new_tasks: &[],
            weight: 1.0,
            past: None,
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Roll back is unhealthy, enough is healthy, and anything else inconclusive.
    pub outcome: Outcome,
    /// What to do after each minute.
    pub decisions: Vec<Decision>,
    /// The natural logarithm of the family's e-value after each minute.
    pub log_e: Vec<f64>,
    /// Whether the evidence points to a worse canary without being enough to roll back.
    pub doubtful: bool,
    /// The evidence of each metric, in the order given.
    pub metrics: Vec<Evidence>,
    /// The verdict in a sentence: that of the metric with the most to say.
    pub sentence: String,
}

/// The part of the way to a roll-back, as a power, up to which the canary may still pass.
pub(super) const DOUBTFUL: f64 = 0.5;

/// Compares the canary with stable by all `metrics`. Everything is computed anew from the counts.
pub fn compare(metrics: &[Metric<'_>], settings: &Settings) -> Judgement {
    let rules = rules(metrics, settings);
    let mut family = Family::new(metrics, &rules, settings);
    let length = length(metrics);
    let mut decisions = Vec::with_capacity(length);
    let mut log_e = Vec::with_capacity(length);
    let mut rolled_back = None;
    for at in 0..length {
        let (e, decision) = family.add(at);
        log_e.push(e);
        if decision == Decision::RollBack && rolled_back.is_none() {
            // What is known at this minute is the evidence, whatever comes later.
            rolled_back = Some(family.reasons(at));
        }
        let kept = rolled_back.as_ref().map(|_| Decision::RollBack);
        decisions.push(kept.unwrap_or(decision));
    }
    let reasons = rolled_back.unwrap_or_else(|| family.no_reasons(length.saturating_sub(1)));
    let last = decisions.last().copied().unwrap_or(Decision::Continue);
    let evidence: Vec<Evidence> = family.evidence(&reasons, last);
    Judgement {
        outcome: match last {
            Decision::RollBack => Outcome::Unhealthy,
            Decision::Enough => Outcome::Healthy,
            Decision::Continue => Outcome::Inconclusive,
        },
        sentence: sentence_for(&evidence, &reasons.parts, last),
        doubtful: log_e.last().is_some_and(|log_e| family.is_doubtful(*log_e)),
        decisions,
        log_e,
        metrics: evidence,
    }
}

/// The minute, counted from 0, after which the comparison rolls back, if it does; for simulations, which need no evidence.
pub fn first_roll_back(metrics: &[Metric<'_>], settings: &Settings) -> Option<usize> {
    let rules = rules(metrics, settings);
    let mut family = Family::new(metrics, &rules, settings);
    (0..length(metrics)).find(|at| family.add(*at).1 == Decision::RollBack)
}

fn length(metrics: &[Metric<'_>]) -> usize {
    let lengths = metrics.iter().map(|metric| metric.minutes.len());
    lengths.max().unwrap_or(0)
}

/// What one metric is judged by.
struct Rules {
    settings: Settings,
    tests: Tests,
    weight: f64,
    log_weight: f64,
}

fn rules(metrics: &[Metric<'_>], settings: &Settings) -> Vec<Rules> {
    let whole: f64 = metrics.iter().map(|metric| metric.weight).sum();
    let of = |metric: &Metric<'_>| {
        let mut settings = match &metric.past {
            Some(past) => settings.clone().with_past(past),
            None => settings.clone(),
        };
        if metric.counted != Counted::Errors {
            // It is one on errors.
            settings.limit = None;
        }
        let weight = metric.weight / whole;
        Rules {
            tests: settings.tests(weight),
            settings,
            weight,
            log_weight: weight.ln(),
        }
    };
    metrics.iter().map(of).collect()
}

/// All metrics while their minutes come in.
struct Family<'a> {
    members: Vec<(&'a Metric<'a>, &'a Rules, Watch<'a>)>,
    /// The logarithm of each metric's e-value times its weight.
    parts: Vec<f64>,
    /// The logarithm of the e-value that rolls back.
    threshold: f64,
}

/// What stood behind a decision.
struct Reasons {
    until: usize,
    parts: Vec<f64>,
    /// For each metric the minute from which on the evidence is strongest, and that start's weight.
    starts: Vec<(usize, f64)>,
}

impl<'a> Family<'a> {
    fn new(metrics: &'a [Metric<'a>], rules: &'a [Rules], settings: &Settings) -> Self {
        let member = |(metric, rules): (&'a Metric<'a>, &'a Rules)| {
            (
                metric,
                rules,
                Watch::new(&rules.settings, &rules.tests, rules.weight),
            )
        };
        Self {
            members: metrics.iter().zip(rules).map(member).collect(),
            parts: vec![f64::NEG_INFINITY; metrics.len()],
            threshold: settings.threshold(),
        }
    }

    /// Takes minute `at` of all metrics in; the logarithm of the e-value, and what it alone would decide.
    fn add(&mut self, at: usize) -> (f64, Decision) {
        let mut over_limit = false;
        let mut enough = true;
        for ((metric, rules, watch), part) in self.members.iter_mut().zip(&mut self.parts) {
            if metric.new_tasks.contains(&at) {
                watch.tasks_start();
            }
            let minute = metric.minutes.get(at).copied().unwrap_or_default();
            *part = rules.log_weight + watch.add(&minute);
            over_limit |= watch.beyond_limit();
            enough = enough && watch.has_data() && watch.seen() >= 1.0;
        }
        let log_e = log_sum(self.parts.iter().copied());
        let decision = if log_e >= self.threshold || over_limit {
            Decision::RollBack
        } else if enough && !self.is_doubtful(log_e) {
            Decision::Enough
        } else {
            Decision::Continue
        };
        (log_e, decision)
    }

    /// Whether the evidence points to a worse canary without being enough, and the canary's counts do not say otherwise. Without
    /// that a few errors at first would be held against a canary for ever on a service that has no more of them.
    fn is_doubtful(&self, log_e: f64) -> bool {
        let points_there = log_e >= self.threshold * DOUBTFUL;
        let cleared = || self.members.iter().all(|(_, _, watch)| watch.is_cleared());
        points_there && !cleared()
    }

    fn reasons(&self, until: usize) -> Reasons {
        let starts = self.members.iter().map(|(_, _, watch)| watch.strongest());
        Reasons {
            until,
            parts: self.parts.clone(),
            starts: starts.collect(),
        }
    }

    /// Nothing stands out: the evidence is all of the minutes.
    fn no_reasons(&self, until: usize) -> Reasons {
        Reasons {
            until,
            parts: self.parts.clone(),
            starts: vec![(0, 1.0); self.members.len()],
        }
    }

    fn evidence(&self, reasons: &Reasons, last: Decision) -> Vec<Evidence> {
        let of = |(at, (metric, rules, watch)): (usize, &(&Metric<'_>, &Rules, Watch<'_>))| {
            Evidence::of(&Subject {
                metric,
                watch,
                settings: &rules.settings,
                weight: rules.weight,
                log_e: reasons.parts[at] - rules.log_weight,
                until: reasons.until,
                start: reasons.starts[at],
                last,
            })
        };
        self.members.iter().enumerate().map(of).collect()
    }
}

/// The sum of a side's requests that a sentence still needs, as a whole number.
pub(super) fn more_needed(so_far: u64, seen: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be below 1e12 and positive"
    )]
    (seen > 0.0)
        .then(|| number(so_far) * (1.0 / seen - 1.0))
        .filter(|more| (0.0..1e12).contains(more))
        .map(|more| more.ceil() as u64)
}

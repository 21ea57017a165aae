//! Several metrics of one deployment.
//!
//! Every metric has a weight, and the weights sum to 1. The weighted average of e-values is an e-value, however the metrics
//! depend on each other. So rolling back when it reaches `1 / falseAlarm` keeps the probability of a false alarm for the
//! deployment as a whole, for any number of metrics and of looks, and a metric that reaches `1 / (weight falseAlarm)` by
//! itself is enough.

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
    /// Requests slower than so many milliseconds, a threshold taken from stable before the deployment.
    Slower(f64),
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

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Roll back is unhealthy, enough is healthy, and anything else inconclusive.
    pub outcome: Outcome,
    /// What to do after each minute.
    pub decisions: Vec<Decision>,
    /// The natural logarithm of the family's e-value after each minute.
    pub log_e: Vec<f64>,
    /// The evidence of each metric, in the order given.
    pub metrics: Vec<Evidence>,
    /// The verdict in a sentence: that of the metric with the most to say.
    pub sentence: String,
}

/// The part of the way to a roll-back, as a power, up to which the canary may still pass.
const DOUBTFUL: f64 = 0.5;

/// Compares the canary with stable by all `metrics`. Everything is computed anew from the counts.
pub fn compare(metrics: &[Metric<'_>], settings: &Settings) -> Judgement {
    let whole: f64 = metrics.iter().map(|metric| metric.weight).sum();
    let own: Vec<(Settings, Tests, f64)> = metrics
        .iter()
        .map(|metric| {
            let own = match &metric.past {
                Some(past) => settings.clone().with_past(past),
                None => settings.clone(),
            };
            let tests = own.tests(metric.weight / whole);
            (own, tests, metric.weight / whole)
        })
        .collect();
    let mut watches: Vec<Watch<'_>> = own
        .iter()
        .map(|(settings, tests, _)| Watch::new(settings, tests))
        .collect();
    let length = metrics.iter().map(|m| m.minutes.len()).max().unwrap_or(0);
    let threshold = -settings.false_alarm.ln();
    let mut decisions = Vec::with_capacity(length);
    let mut log_es = Vec::with_capacity(length);
    let mut strongest = None;
    let mut parts = vec![f64::NEG_INFINITY; metrics.len()];
    for at in 0..length {
        let mut over_limit = false;
        let mut enough = true;
        for (((watch, metric), (_, _, weight)), part) in
            watches.iter_mut().zip(metrics).zip(&own).zip(&mut parts)
        {
            if metric.new_tasks.contains(&at) {
                watch.tasks_start();
            }
            let minute = metric.minutes.get(at).copied().unwrap_or_default();
            *part = weight.ln() + watch.add(&minute);
            over_limit |= watch.beyond_limit(*weight);
            enough &= watch.has_data() && watch.seen(settings.false_alarm * weight) >= 1.0;
        }
        let log_e = log_sum(parts.iter().copied());
        log_es.push(log_e);
        let decision = if strongest.is_some() {
            Decision::RollBack
        } else if log_e >= threshold || over_limit {
            // What is known at this minute is the evidence, whatever comes later.
            let starts: Vec<(usize, f64)> = watches.iter().map(Watch::strongest).collect();
            strongest = Some((at, parts.clone(), starts));
            Decision::RollBack
        } else if enough && log_e < threshold * DOUBTFUL {
            Decision::Enough
        } else {
            Decision::Continue
        };
        decisions.push(decision);
    }
    let rolled_back = strongest.is_some();
    let (until, parts, starts) = strongest.unwrap_or_else(|| {
        let none = watches.iter().map(|_| (0, 1.0)).collect();
        (length.saturating_sub(1), parts, none)
    });
    let evidence: Vec<Evidence> = metrics
        .iter()
        .zip(&watches)
        .zip(&own)
        .zip(parts.iter().zip(&starts))
        .map(
            |(((metric, watch), (settings, _, weight)), (part, start))| {
                Evidence::of(&Subject {
                    metric,
                    watch,
                    settings,
                    weight: *weight,
                    log_e: *part - weight.ln(),
                    until,
                    start: *start,
                })
            },
        )
        .collect();
    let last = decisions.last().copied().unwrap_or(Decision::Continue);
    let sentence = sentence_for(&evidence, &parts, last, rolled_back);
    Judgement {
        outcome: match last {
            Decision::RollBack => Outcome::Unhealthy,
            Decision::Enough => Outcome::Healthy,
            Decision::Continue => Outcome::Inconclusive,
        },
        decisions,
        log_e: log_es,
        metrics: evidence,
        sentence,
    }
}

/// Only the minute at which the comparison would roll back, and nothing that a person reads; for simulations.
pub fn first_roll_back(metrics: &[Metric<'_>], settings: &Settings) -> Option<usize> {
    let whole: f64 = metrics.iter().map(|metric| metric.weight).sum();
    let own: Vec<(Settings, Tests)> = metrics
        .iter()
        .map(|metric| {
            let own = match &metric.past {
                Some(past) => settings.clone().with_past(past),
                None => settings.clone(),
            };
            let tests = own.tests(metric.weight / whole);
            (own, tests)
        })
        .collect();
    let mut watches: Vec<Watch<'_>> = own.iter().map(|(s, t)| Watch::new(s, t)).collect();
    let length = metrics.iter().map(|m| m.minutes.len()).max().unwrap_or(0);
    let mut parts = vec![0.0; metrics.len()];
    (0..length).find(|at| {
        let mut over_limit = false;
        for ((watch, metric), part) in watches.iter_mut().zip(metrics).zip(&mut parts) {
            if metric.new_tasks.contains(at) {
                watch.tasks_start();
            }
            let weight = metric.weight / whole;
            let minute = metric.minutes.get(*at).copied().unwrap_or_default();
            *part = weight.ln() + watch.add(&minute);
            over_limit |= watch.beyond_limit(weight);
        }
        over_limit || log_sum(parts.iter().copied()) >= -settings.false_alarm.ln()
    })
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

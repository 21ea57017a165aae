//! Limits: each finding holds one value against one bound, and says so in a sentence.

use jiff::Timestamp;
use serin::ports::{
    AlarmReading, AlarmState, Measured, Observation, Reading, RequestCounts, StoppedTask,
    crash_loop,
};
use serin::request::{LatencyLimit, MaxPercent, Query};
use serin::verdict::{Finding, Limit, Outcome, Verdict, Window, cut};
use serin::weight::Weight;

use crate::sequential::refutes;

/// How much of the sentences of all findings makes a verdict's; a state machine's state has a limit.
const LONGEST_SENTENCE: usize = 1500;
/// How much of a finding's sentence is kept, which may quote CloudWatch's own words or ECS's.
const LONGEST_REASON: usize = 400;
/// How much of the text of a query is kept.
const LONGEST_QUERY: usize = 600;

/// The canary's error rate against its limit, on at least `min_requests` requests.
///
/// It is unhealthy when its counts refute a rate within the limit: of a few requests one that failed says little. Where stable's
/// counts refute it as well, the outage may be shared: then only the `calm` intervals count, in which stable was within the
/// limit. Without anything to compare with, `calm` is `None`.
pub fn judge_error_rate(
    canary: &RequestCounts,
    stable: Option<&RequestCounts>,
    limit: MaxPercent,
    min_requests: u64,
    calm: Option<Calm>,
) -> Finding {
    let stable = stable.and_then(|counts| counted(counts).ok());
    let stable_rate = stable.and_then(|(requests, errors)| rate(requests, errors));
    let finding = |outcome, sentence: String, value, samples| Finding {
        value,
        limit: Some(Limit::Max(limit.max)),
        samples,
        stable: stable_rate,
        query: format!("{} / {}", canary.errors.query, canary.requests.query),
        ..Finding::new("errorRatePercent", outcome, sentence)
    };
    let (requests, errors) = match counted(canary) {
        Ok(counts) => counts,
        Err(silence) => return finding(Outcome::Inconclusive, silence, None, None),
    };
    let value = rate(requests, errors);
    let beyond = |requests, errors| refutes(requests, errors, limit.max / 100.0);
    if requests < min_requests && !beyond(requests, errors) {
        let sentence = format!(
            "only {requests} requests reached the canary, at least {min_requests} are needed"
        );
        return finding(Outcome::Inconclusive, sentence, value, Some(requests));
    }
    let beside = stable_rate.map_or_else(String::new, |rate| {
        format!(" (stable: {} percent)", rounded(rate))
    });
    let said = |requests, errors| {
        let rate = rounded(rate(requests, errors).unwrap_or_default());
        format!("{errors} of {requests} requests failed, {rate} percent{beside}")
    };
    let against = |requests, errors| {
        if rate(requests, errors).is_none_or(|rate| Limit::Max(limit.max).holds(rate)) {
            (Outcome::Healthy, "within the limit of")
        } else if beyond(requests, errors) {
            (Outcome::Unhealthy, "above the limit of")
        } else {
            (Outcome::Inconclusive, "which may be chance at the limit of")
        }
    };
    let shared = stable.is_some_and(|(requests, errors)| beyond(requests, errors));
    let (outcome, words) = match calm.filter(|_| shared && beyond(requests, errors)) {
        None => against(requests, errors),
        Some(calm) if calm.requests < min_requests => (
            Outcome::Inconclusive,
            "and stable too is above the limit of",
        ),
        Some(calm) => {
            let (outcome, words) = against(calm.requests, calm.errors);
            let sentence = format!(
                "{}; while stable was within the limit, {}, {words} {} percent",
                said(requests, errors),
                said(calm.requests, calm.errors),
                limit.max
            );
            return finding(outcome, sentence, value, Some(requests));
        }
    };
    let sentence = format!("{}, {words} {} percent", said(requests, errors), limit.max);
    finding(outcome, sentence, value, Some(requests))
}

/// The canary's counts in the intervals in which stable was within a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calm {
    /// All requests.
    pub requests: u64,
    /// The failed ones.
    pub errors: u64,
}

/// Requests and errors as whole numbers, or why there are none.
fn counted(counts: &RequestCounts) -> Result<(u64, u64), String> {
    let count = |measured: &Measured, what: &str| match &measured.reading {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of requests, checked to be one"
        )]
        Reading::Value { value, .. } if value.is_finite() && *value >= 0.0 => {
            Ok(value.round() as u64)
        }
        Reading::Value { value, .. } => Err(format!("the number of {what} came as {value}")),
        Reading::NoData => Err(format!("no data on the canary's {what}")),
        Reading::Incomplete(status) => Err(format!(
            "the data on the canary's {what} is not whole: {status}"
        )),
    };
    Ok((
        count(&counts.requests, "requests")?,
        count(&counts.errors, "errors")?,
    ))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
fn rate(requests: u64, errors: u64) -> Option<f64> {
    (requests > 0).then(|| errors as f64 * 100.0 / requests as f64)
}

/// Two decimals: what a person reads. The evidence keeps the whole number.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A latency percentile of the canary against its limit; it must rest on at least `min_requests` requests, because a high
/// percentile of a few requests is their slowest one.
pub fn judge_latency(
    limit: &LatencyLimit,
    measured: &Measured,
    canary: Option<&RequestCounts>,
    min_requests: u64,
) -> Finding {
    let percentile = format!("p{}", limit.percentile);
    let finding = |outcome, sentence, value, samples| Finding {
        value,
        limit: Some(Limit::Max(limit.max)),
        samples,
        query: measured.query.clone(),
        ..Finding::new(format!("latencyMs.{percentile}"), outcome, sentence)
    };
    let requests = match canary.map(counted) {
        Some(Ok((requests, _))) => requests,
        Some(Err(silence)) => return finding(Outcome::Inconclusive, silence, None, None),
        None => {
            let sentence = "the canary's requests were not counted".to_owned();
            return finding(Outcome::Inconclusive, sentence, None, None);
        }
    };
    let value = match &measured.reading {
        Reading::Value { value, .. } if value.is_finite() => *value,
        Reading::Value { value, .. } => {
            let sentence = format!("the {percentile} latency came as {value}");
            return finding(Outcome::Inconclusive, sentence, None, Some(requests));
        }
        Reading::NoData => {
            let sentence = format!("no data on the canary's {percentile} latency");
            return finding(Outcome::Inconclusive, sentence, None, Some(requests));
        }
        Reading::Incomplete(status) => {
            let sentence =
                format!("the data on the canary's {percentile} latency is not whole: {status}");
            return finding(Outcome::Inconclusive, sentence, None, Some(requests));
        }
    };
    if requests < min_requests {
        let sentence = format!(
            "the {percentile} latency rests on only {requests} requests, at least {min_requests} are needed"
        );
        return finding(Outcome::Inconclusive, sentence, Some(value), Some(requests));
    }
    let said = format!("the {percentile} latency was {} ms", rounded(value));
    if Limit::Max(limit.max).holds(value) {
        let sentence = format!("{said}, within the limit of {} ms", limit.max);
        finding(Outcome::Healthy, sentence, Some(value), Some(requests))
    } else {
        let sentence = format!("{said}, above the limit of {} ms", limit.max);
        finding(Outcome::Unhealthy, sentence, Some(value), Some(requests))
    }
}

/// How many of the canary's targets fail the router's own health check, and go on failing it.
pub fn judge_targets(measured: &Measured) -> Finding {
    let (outcome, sentence, value) = match &measured.reading {
        Reading::Value { value, .. } if *value <= 0.0 => (
            Outcome::Healthy,
            "every target passes the router's health check".to_owned(),
            Some(*value),
        ),
        Reading::Value { value, .. } if value.is_finite() => (
            Outcome::Unhealthy,
            format!("{value} of the canary's targets go on failing the router's health check"),
            Some(*value),
        ),
        Reading::Value { value, .. } => (
            Outcome::Inconclusive,
            format!("the number of unhealthy targets came as {value}"),
            None,
        ),
        Reading::NoData => (
            Outcome::Inconclusive,
            "no data on the health of the canary's targets".to_owned(),
            None,
        ),
        Reading::Incomplete(status) => (
            Outcome::Inconclusive,
            format!("the data on the health of the canary's targets is not whole: {status}"),
            None,
        ),
    };
    Finding {
        value,
        limit: Some(Limit::Max(0.0)),
        query: measured.query.clone(),
        ..Finding::new("targets", outcome, sentence)
    }
}

/// The share of the requests that the canary really got: stickiness and long-lived connections bend what the weight asks for.
/// It decides nothing, because every limit holds for the requests that there were.
pub fn judge_share<'a>(
    canary: &RequestCounts,
    others: impl IntoIterator<Item = &'a RequestCounts>,
    weight: Weight,
) -> Option<Finding> {
    let (canary, _) = counted(canary).ok()?;
    let mut all = canary;
    for other in others {
        let (requests, _) = counted(other).ok()?;
        all += requests;
    }
    let observed = rate(all, canary)?;
    let sentence = format!(
        "the canary got {} percent of the requests (weight {weight})",
        rounded(observed)
    );
    Some(Finding {
        value: Some(observed),
        samples: Some(all),
        ..Finding::new("sharePercent", Outcome::Healthy, sentence)
    })
}

/// A query's value against its limits.
pub fn judge_query(query: &Query, measured: &Measured) -> Finding {
    let name = format!("queries.{}", query.name);
    let finding = |outcome, sentence, value, limit, samples| Finding {
        value,
        limit,
        samples,
        query: measured.query.clone(),
        ..Finding::new(name.clone(), outcome, sentence)
    };
    let any_limit = query.limits().next();
    let (value, datapoints) = match &measured.reading {
        Reading::Value { value, datapoints } if value.is_finite() => (*value, *datapoints),
        Reading::Value { value, .. } => {
            return finding(
                Outcome::Inconclusive,
                format!("{} came as {value}", query.name),
                None,
                any_limit,
                None,
            );
        }
        Reading::NoData => {
            return finding(
                Outcome::Inconclusive,
                format!("no data for {}", query.name),
                None,
                any_limit,
                None,
            );
        }
        Reading::Incomplete(status) => {
            let sentence = format!("the data for {} is not whole: {status}", query.name);
            return finding(Outcome::Inconclusive, sentence, None, any_limit, None);
        }
    };
    let samples = Some(datapoints as u64);
    if let Some(limit) = query.limits().find(|limit| !limit.holds(value)) {
        let sentence = format!("{} is {}, the limit is {limit}", query.name, rounded(value));
        return finding(
            Outcome::Unhealthy,
            sentence,
            Some(value),
            Some(limit),
            samples,
        );
    }
    let sentence = format!("{} is {}, within its limit", query.name, rounded(value));
    finding(Outcome::Healthy, sentence, Some(value), any_limit, samples)
}

/// A finding that a limit is broken, held against what stable has in the same window: a canary within `margin` times that is no
/// worse than what serves now, and so within a limit that has a margin. Of a stable that says nothing nothing follows: the limit
/// holds.
#[must_use]
pub fn unless_stable_too(
    finding: Finding,
    margin: Option<f64>,
    stable: Option<&Measured>,
) -> Finding {
    let of_stable = match stable.map(|measured| &measured.reading) {
        Some(Reading::Value { value, .. }) if value.is_finite() && *value > 0.0 => *value,
        _ => return finding,
    };
    let (Outcome::Unhealthy, Some(value), Some(limit), Some(margin)) =
        (finding.outcome, finding.value, finding.limit, margin)
    else {
        return Finding {
            stable: Some(of_stable),
            ..finding
        };
    };
    let is_as_stable = match limit {
        Limit::Max(_) => value <= of_stable * margin,
        Limit::Min(_) => value >= of_stable / margin,
    };
    if !is_as_stable {
        return Finding {
            sentence: format!("{} (stable: {})", finding.sentence, rounded(of_stable)),
            stable: Some(of_stable),
            ..finding
        };
    }
    Finding {
        outcome: Outcome::Healthy,
        sentence: format!(
            "{}; but stable has {} at the same time, and up to {margin} times that is allowed",
            finding.sentence,
            rounded(of_stable)
        ),
        stable: Some(of_stable),
        ..finding
    }
}

/// What an alarm's state says.
pub fn judge_alarm(alarm: &AlarmReading) -> Finding {
    let (outcome, sentence) = match alarm.state {
        AlarmState::Ok => (Outcome::Healthy, format!("alarm {} is OK", alarm.name)),
        AlarmState::Alarm => (
            Outcome::Unhealthy,
            format!("alarm {} is in ALARM: {}", alarm.name, alarm.reason),
        ),
        AlarmState::InsufficientData => (
            Outcome::Inconclusive,
            format!("alarm {} has not enough data", alarm.name),
        ),
        AlarmState::Missing => (
            Outcome::Inconclusive,
            format!("alarm {} no longer exists", alarm.name),
        ),
    };
    Finding::new(format!("alarms.{}", alarm.name), outcome, sentence)
}

/// Whether the canary's tasks run. `stopped` are those that stopped lately; only their own failures count.
pub fn judge_tasks(canary: &Observation, stopped: &[StoppedTask]) -> Finding {
    let (outcome, sentence) = match (canary, crash_loop(stopped)) {
        (Observation::Absent, _) => (
            Outcome::Unhealthy,
            "the canary's service no longer exists".to_owned(),
        ),
        (Observation::Draining { .. }, _) => (
            Outcome::Unhealthy,
            "the canary's service is being deleted".to_owned(),
        ),
        (Observation::Active(_), Some(crashes)) => (Outcome::Unhealthy, crashes),
        (Observation::Active(tasks), None) if tasks.running == 0 => (
            Outcome::Unhealthy,
            format!("none of the canary's {} tasks runs", tasks.desired),
        ),
        (Observation::Active(tasks), None) if tasks.running < tasks.desired => (
            Outcome::Inconclusive,
            format!(
                "{} of the canary's {} tasks run",
                tasks.running, tasks.desired
            ),
        ),
        (Observation::Active(tasks), None) => (
            Outcome::Healthy,
            match tasks.desired {
                1 => "its one task runs".to_owned(),
                desired => format!("all {desired} tasks run"),
            },
        ),
    };
    let value = match canary {
        Observation::Active(tasks) => Some(f64::from(tasks.running)),
        Observation::Absent | Observation::Draining { .. } => None,
    };
    Finding {
        value,
        ..Finding::new("tasks", outcome, sentence)
    }
}

/// The tasks of the baseline. A copy of stable that does not run gives nothing to compare with, and fails as many requests as a
/// canary that does not.
pub fn judge_baseline(baseline: &Observation) -> Finding {
    let (outcome, sentence) = match baseline {
        Observation::Active(tasks) if tasks.running == 0 && tasks.desired > 0 => (
            Outcome::Unhealthy,
            format!("none of the baseline's {} tasks runs", tasks.desired),
        ),
        Observation::Active(tasks) if tasks.running < tasks.desired => (
            Outcome::Inconclusive,
            format!(
                "{} of the baseline's {} tasks run",
                tasks.running, tasks.desired
            ),
        ),
        Observation::Active(tasks) => (
            Outcome::Healthy,
            format!(
                "{} of the baseline's {} tasks run",
                tasks.running, tasks.desired
            ),
        ),
        Observation::Absent | Observation::Draining { .. } => (
            Outcome::Unhealthy,
            "the baseline's service no longer exists".to_owned(),
        ),
    };
    Finding::new("baseline.tasks", outcome, sentence)
}

/// The targets of the baseline, which get as many requests as the canary's.
pub fn judge_baseline_targets(measured: &Measured) -> Finding {
    let finding = judge_targets(measured);
    let sentence = match finding.outcome {
        Outcome::Healthy => "every target of the baseline passes it".to_owned(),
        _ => finding.sentence.replace("canary's", "baseline's"),
    };
    Finding {
        name: "baseline.unhealthyTargets".to_owned(),
        sentence,
        ..finding
    }
}

/// All findings of one check as one verdict. Without any finding nothing is known.
pub fn verdict(
    at: Timestamp,
    step: usize,
    weight_percent: Weight,
    window: Option<Window>,
    mut findings: Vec<Finding>,
) -> Verdict {
    for finding in &mut findings {
        finding.sentence = cut(&finding.sentence, LONGEST_REASON);
        finding.query = cut(&finding.query, LONGEST_QUERY);
    }
    let outcome = findings
        .iter()
        .map(|finding| finding.outcome)
        .reduce(Outcome::and)
        .unwrap_or(Outcome::Inconclusive);
    let deciding = || findings.iter().filter(|finding| finding.outcome == outcome);
    let quiet = deciding()
        .filter(|finding| finding.name.starts_with("alarms.") && outcome == Outcome::Healthy)
        .count();
    let mut sentences: Vec<_> = deciding()
        .filter(|finding| quiet == 0 || !finding.name.starts_with("alarms."))
        .map(|finding| finding.sentence.clone())
        .collect();
    if quiet > 0 {
        sentences.push(if quiet == 1 {
            "the alarm is OK".to_owned()
        } else {
            format!("all {quiet} alarms are OK")
        });
    }
    let sentence = if sentences.is_empty() {
        "nothing was measured".to_owned()
    } else {
        cut(&sentences.join("; "), LONGEST_SENTENCE)
    };
    Verdict {
        outcome,
        sentence,
        at,
        step,
        weight_percent,
        window,
        findings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn measured(reading: Reading) -> Measured {
        Measured {
            reading,
            query: "q".into(),
        }
    }

    fn counts(requests: f64, errors: f64) -> RequestCounts {
        let value = |value| {
            measured(Reading::Value {
                value,
                datapoints: 1,
            })
        };
        RequestCounts {
            requests: value(requests),
            errors: value(errors),
        }
    }

    fn beside(stable: (f64, f64), requests: f64, errors: f64, calm: Option<Calm>) -> Finding {
        judge_error_rate(
            &counts(requests, errors),
            Some(&counts(stable.0, stable.1)),
            MaxPercent { max: 1.0 },
            50,
            calm,
        )
    }

    fn judge(requests: f64, errors: f64) -> Finding {
        beside((1000.0, 1.0), requests, errors, None)
    }

    #[test]
    fn a_rate_at_the_limit_is_within_it_and_one_that_is_surely_above_is_not() {
        assert_eq!(judge(100.0, 1.0).outcome, Outcome::Healthy);
        let finding = judge(100.0, 8.0);
        assert_eq!(finding.outcome, Outcome::Unhealthy);
        assert_eq!(
            finding.sentence,
            "8 of 100 requests failed, 8 percent (stable: 0.1 percent), above the limit of 1 percent"
        );
        assert_eq!((finding.value, finding.samples), (Some(8.0), Some(100)));
    }

    #[test]
    fn one_of_twenty_is_not_five_percent() {
        let finding = judge(100.0, 2.0);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert_eq!(
            finding.sentence,
            "2 of 100 requests failed, 2 percent (stable: 0.1 percent), which may be chance at the limit of 1 percent"
        );
        assert_eq!(judge(20.0, 1.0).outcome, Outcome::Inconclusive);
        assert_eq!(judge(10_000.0, 200.0).outcome, Outcome::Unhealthy);
    }

    #[test]
    fn too_few_requests_are_never_health_but_what_is_no_chance_is_unhealthy() {
        assert_eq!(judge(49.0, 0.0).outcome, Outcome::Inconclusive);
        assert_eq!(judge(49.0, 49.0).outcome, Outcome::Unhealthy);
        assert_eq!(judge(5.0, 3.0).outcome, Outcome::Unhealthy);
        assert_eq!(judge(0.0, 0.0).outcome, Outcome::Inconclusive);
    }

    #[test]
    fn an_outage_that_stable_has_too_does_not_count_and_what_is_left_is_judged() {
        let outage = |calm| beside((1000.0, 80.0), 100.0, 8.0, calm);
        let calm = |requests, errors| Some(Calm { requests, errors });
        assert_eq!(outage(None).outcome, Outcome::Unhealthy);
        let left = outage(calm(10, 0));
        assert_eq!(left.outcome, Outcome::Inconclusive);
        assert!(
            left.sentence
                .ends_with("and stable too is above the limit of 1 percent"),
            "{}",
            left.sentence
        );
        assert_eq!(outage(calm(60, 0)).outcome, Outcome::Healthy);
        assert_eq!(outage(calm(60, 8)).outcome, Outcome::Unhealthy);
    }

    #[test]
    fn a_few_requests_of_stable_are_no_outage() {
        let nothing = Some(Calm::default());
        let few = beside((40.0, 1.0), 1000.0, 300.0, nothing);
        assert_eq!(few.outcome, Outcome::Unhealthy, "{}", few.sentence);
    }

    #[test]
    fn silence_is_never_health() {
        let full = counts(100.0, 0.0);
        for reading in [
            Reading::NoData,
            Reading::Incomplete("PartialData".into()),
            Reading::Value {
                value: f64::NAN,
                datapoints: 1,
            },
        ] {
            for silent in [
                RequestCounts {
                    requests: measured(reading.clone()),
                    errors: full.errors.clone(),
                },
                RequestCounts {
                    requests: full.requests.clone(),
                    errors: measured(reading.clone()),
                },
            ] {
                let finding = judge_error_rate(&silent, None, MaxPercent { max: 1.0 }, 50, None);
                assert_eq!(finding.outcome, Outcome::Inconclusive, "{reading:?}");
            }
        }
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(
            verdict(at, 1, Weight::FULL, None, Vec::new()).outcome,
            Outcome::Inconclusive
        );
    }

    proptest! {
        #[test]
        fn more_errors_never_make_a_verdict_healthier(requests in 0_u32..10_000, errors in 0_u32..10_000, more in 0_u32..1_000) {
            let requests = requests.max(errors + more);
            let severity = |outcome| match outcome { Outcome::Healthy => 0, Outcome::Inconclusive => 1, Outcome::Unhealthy => 2 };
            let fewer = judge(f64::from(requests), f64::from(errors)).outcome;
            let many = judge(f64::from(requests), f64::from(errors + more)).outcome;
            prop_assert!(severity(many) >= severity(fewer));
        }
    }

    fn query() -> Query {
        Query {
            name: "latency".into(),
            metric_data_queries: vec![],
            max: Some(500.0),
            min: Some(1.0),
            margin: None,
        }
    }

    #[test]
    fn a_query_is_held_against_both_limits_and_the_broken_one_is_named() {
        let value = |value| {
            measured(Reading::Value {
                value,
                datapoints: 3,
            })
        };
        assert_eq!(
            judge_query(&query(), &value(200.0)).outcome,
            Outcome::Healthy
        );
        let slow = judge_query(&query(), &value(501.0));
        assert_eq!(
            (slow.outcome, slow.limit),
            (Outcome::Unhealthy, Some(Limit::Max(500.0)))
        );
        assert_eq!(
            judge_query(&query(), &value(0.5)).limit,
            Some(Limit::Min(1.0))
        );
        assert_eq!(
            judge_query(&query(), &measured(Reading::NoData)).outcome,
            Outcome::Inconclusive
        );
    }

    #[test]
    fn an_alarm_that_has_vanished_is_not_a_quiet_alarm() {
        let alarm = |state| {
            judge_alarm(&AlarmReading {
                name: "a".into(),
                state,
                reason: "r".into(),
            })
            .outcome
        };
        assert_eq!(alarm(AlarmState::Ok), Outcome::Healthy);
        assert_eq!(alarm(AlarmState::Alarm), Outcome::Unhealthy);
        assert_eq!(alarm(AlarmState::Missing), Outcome::Inconclusive);
        assert_eq!(alarm(AlarmState::InsufficientData), Outcome::Inconclusive);
    }

    const P99: LatencyLimit = LatencyLimit {
        percentile: 99.9,
        max: 500.0,
        margin: None,
    };

    #[test]
    fn a_limit_with_a_margin_is_broken_only_by_a_canary_that_is_worse_than_stable() {
        let judge = |canary: f64, stable: Option<Measured>, margin| {
            let broken = judge_latency(&P99, &value(canary), Some(&counts(1000.0, 0.0)), 50);
            unless_stable_too(broken, margin, stable.as_ref())
        };
        let shared = judge(900.0, Some(value(800.0)), Some(1.25));
        assert_eq!(
            (shared.outcome, shared.stable),
            (Outcome::Healthy, Some(800.0))
        );
        assert_eq!(
            shared.sentence,
            "the p99.9 latency was 900 ms, above the limit of 500 ms; but stable has 800 at the same time, and up to 1.25 times that is allowed"
        );
        let alone = judge(900.0, Some(value(700.0)), Some(1.25));
        assert_eq!(alone.outcome, Outcome::Unhealthy);
        assert!(
            alone.sentence.ends_with("(stable: 700)"),
            "{}",
            alone.sentence
        );
        let without = judge(900.0, Some(value(800.0)), None);
        assert_eq!(without.outcome, Outcome::Unhealthy);
        for silence in [None, Some(measured(Reading::NoData)), Some(value(f64::NAN))] {
            let finding = judge(900.0, silence, Some(1.25));
            assert_eq!(finding.outcome, Outcome::Unhealthy, "{finding:?}");
        }
        let fine = judge(400.0, Some(value(10.0)), Some(1.25));
        assert_eq!(fine.outcome, Outcome::Healthy);
    }

    #[test]
    fn a_lower_limit_with_a_margin_is_broken_only_by_a_canary_that_has_less_than_stable() {
        let limited = Query {
            max: None,
            min: Some(100.0),
            ..query()
        };
        let judge = |canary: f64| {
            let broken = judge_query(&limited, &value(canary));
            unless_stable_too(broken, Some(2.0), Some(&value(50.0))).outcome
        };
        assert_eq!(judge(25.0), Outcome::Healthy);
        assert_eq!(judge(24.0), Outcome::Unhealthy);
    }

    fn value(value: f64) -> Measured {
        measured(Reading::Value {
            value,
            datapoints: 1,
        })
    }

    #[test]
    fn a_latency_is_held_against_its_limit_on_enough_requests() {
        let judge = |millis, requests| {
            judge_latency(&P99, &value(millis), Some(&counts(requests, 0.0)), 50)
        };
        let finding = judge(500.0, 1000.0);
        assert_eq!(finding.outcome, Outcome::Healthy);
        assert_eq!(
            finding.sentence,
            "the p99.9 latency was 500 ms, within the limit of 500 ms"
        );
        let finding = judge(612.345, 1000.0);
        assert_eq!(finding.outcome, Outcome::Unhealthy);
        assert_eq!(
            finding.sentence,
            "the p99.9 latency was 612.35 ms, above the limit of 500 ms"
        );
        let finding = judge(9000.0, 49.0);
        assert_eq!(finding.outcome, Outcome::Inconclusive);
        assert!(
            finding
                .sentence
                .contains("only 49 requests, at least 50 are needed"),
            "{}",
            finding.sentence
        );
    }

    #[test]
    fn a_latency_of_which_nothing_is_known_is_not_a_good_one() {
        let silence = [
            Reading::NoData,
            Reading::Incomplete("PartialData".into()),
            Reading::Value {
                value: f64::NAN,
                datapoints: 1,
            },
        ];
        for reading in silence {
            let enough = counts(1000.0, 0.0);
            let finding = judge_latency(&P99, &measured(reading), Some(&enough), 50);
            assert_eq!(finding.outcome, Outcome::Inconclusive, "{finding:?}");
        }
        let finding = judge_latency(&P99, &value(1.0), None, 50);
        assert_eq!(finding.outcome, Outcome::Inconclusive, "{finding:?}");
    }

    #[test]
    fn a_target_that_goes_on_failing_is_unhealthy_and_silence_about_it_is_not_health() {
        assert_eq!(judge_targets(&value(0.0)).outcome, Outcome::Healthy);
        let finding = judge_targets(&value(2.0));
        assert_eq!(finding.outcome, Outcome::Unhealthy);
        assert!(
            finding.sentence.starts_with("2 of the canary's targets"),
            "{}",
            finding.sentence
        );
        for reading in [Reading::NoData, Reading::Incomplete("x".into())] {
            assert_eq!(
                judge_targets(&measured(reading)).outcome,
                Outcome::Inconclusive
            );
        }
        assert_eq!(
            judge_targets(&value(f64::NAN)).outcome,
            Outcome::Inconclusive
        );
    }

    #[test]
    fn the_share_that_the_canary_really_got_is_told_and_decides_nothing() {
        let weight = Weight::from_percent(10.0).unwrap();
        let finding = judge_share(&counts(400.0, 0.0), [&counts(600.0, 0.0)], weight).unwrap();
        assert_eq!(
            (finding.outcome, finding.value),
            (Outcome::Healthy, Some(40.0))
        );
        assert_eq!(
            finding.sentence,
            "the canary got 40 percent of the requests (weight 10)"
        );
        let silent = RequestCounts {
            requests: measured(Reading::NoData),
            errors: measured(Reading::NoData),
        };
        assert_eq!(judge_share(&counts(400.0, 0.0), [&silent], weight), None);
        assert_eq!(
            judge_share(&counts(0.0, 0.0), [&counts(0.0, 0.0)], weight),
            None
        );
    }
}

//! The sequential comparison on the command line: `sequential`, the single tests behind it, and `backtest`.
//!
//! A column is a list with one value a minute: a count, or `null` (or "NaN") for a minute without data. The columns are
//! `canary_requests`, `canary_errors`, `baseline_requests` and `baseline_errors`. Requests without a value for the errors
//! are requests without errors.
//!
//! - `sequential`: the columns and `settings`: `falseAlarm`, `margin`, `detect` (`{"ratio": 2}` or `{"points": 1}`), `minutes`,
//!   `warmUp`, `noise`, `spread`, `disaster`, `limit` (percent). `{}` is what a deployment gets, whose limit is 1; `null` is no
//!   limit. `spread` takes the margin as a bound (0) or as the middle of a normal distribution with this standard deviation.
//!   `new_tasks` are the minutes
//!   with which new tasks began, `past` the columns of a time in which both sides ran the same version. With
//!   `"test": "seq_ratio"` or `"seq_robust"` among the settings, one test alone, as in the next kinds; the settings `restart`,
//!   `skip`, `learn` and `grid`, which only it has, mean `seq_robust`.
//! - `seq_ratio`, `seq_robust`: one test alone, by its published parameters: `margin`, `restart`, `starts`, `skip`, `spread`,
//!   `noise`, `learn`, `grid` (a number of ratios), `falseAlarm`.
//! - `beta_binomial`: `x` of `n` errors in the canary, which gets the share `rho`; concentration `k`, `alpha`.
//! - `backtest`: the columns of a service's past with the same version on both sides, or `requests` and `errors` of the whole
//!   service, of which `canary_share` is drawn for the canary. `minutes` is the planned time, `every` the distance of the
//!   windows.

use rand_distr::{Binomial, Distribution, Poisson};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use serde_json::{Value, json};
use serin_judge::sequential::{
    Alternatives, BetaBinomial, Detect, Evidence, Learning, Metric, Minute, Noise, Null, Past,
    Robust, Settings, Starts, Tally, compare, first_roll_back,
};

type Answer = Result<Value, String>;

pub(crate) fn answer(kind: &str, inputs: &Value) -> Option<Answer> {
    match kind {
        "sequential" => Some(sequential(inputs)),
        "seq_ratio" => Some(single(inputs, true)),
        "seq_robust" => Some(single(inputs, false)),
        "beta_binomial" => Some(beta_binomial(inputs)),
        "backtest" => Some(backtest(inputs)),
        _ => None,
    }
}

fn sequential(inputs: &Value) -> Answer {
    let settings = &inputs["settings"];
    let only = ["restart", "starts", "skip", "learn", "grid"];
    match settings.get("test").map(Value::as_str) {
        Some(Some("seq_ratio")) => return single(inputs, true),
        Some(Some("seq_robust")) => return single(inputs, false),
        Some(_) => {
            let given = &settings["test"];
            return Err(format!(
                "settings.test: {given} is given, \"seq_ratio\" or \"seq_robust\" is allowed"
            ));
        }
        None if only.iter().any(|name| settings.get(name).is_some()) => {
            return single(inputs, false);
        }
        None => {}
    }
    let settings = read_settings(settings)?;
    let minutes = columns(inputs)?;
    let past = match inputs.get("past") {
        Some(past) => Some(columns(past).map_err(|error| format!("past.{error}"))?),
        None => None,
    };
    let new_tasks = match inputs.get("new_tasks") {
        Some(list) => positions(list, "new_tasks")?,
        None => Vec::new(),
    };
    let metric = Metric {
        new_tasks: &new_tasks,
        past: past.map(|past| Past::learn([&past[..]])),
        ..Metric::errors(&minutes)
    };
    let judgement = compare(&[metric], &settings);
    let decisions: Vec<String> = judgement
        .decisions
        .iter()
        .map(ToString::to_string)
        .collect();
    Ok(json!({
        "log_e": judgement.log_e,
        "decision": decisions,
        "outcome": judgement.outcome.to_string(),
        "sentence": judgement.sentence,
        "evidence": judgement.metrics.first().map(evidence),
    }))
}

fn evidence(evidence: &Evidence) -> Value {
    json!({
        "canary_requests": evidence.totals.canary.requests,
        "canary_errors": evidence.totals.canary.errors,
        "baseline_requests": evidence.totals.stable.requests,
        "baseline_errors": evidence.totals.stable.errors,
        "since_minute": evidence.since + 1,
        "ratio": evidence.ratio,
        "ratio_from": evidence.ratio_from,
        "ratio_to": evidence.ratio_to,
        "log_e": evidence.log_e,
        "seen": evidence.seen,
        "more_requests": evidence.more_requests,
    })
}

/// One of the tests by itself.
fn single(inputs: &Value, plain: bool) -> Answer {
    let settings = &inputs["settings"];
    known(
        settings,
        &[
            "test",
            "margin",
            "restart",
            "starts",
            "skip",
            "spread",
            "noise",
            "learn",
            "grid",
            "falseAlarm",
        ],
    )?;
    let field =
        |name: &str, default, least, most| number(settings, "settings", name, default, least, most);
    let restart = match settings.get("restart") {
        None => true,
        Some(Value::Bool(restart)) => *restart,
        Some(other) => {
            return Err(format!(
                "settings.restart: {other} is given, true or false is allowed"
            ));
        }
    };
    let starts = match settings.get("starts") {
        Some(list) => positions(list, "settings.starts")?,
        None => vec![5, 10],
    };
    let false_alarm = field("falseAlarm", 0.01, 1e-12, 0.5)?;
    let margin = field("margin", 1.25, 1e-6, 1e6)?;
    let spread = field("spread", 0.0, 0.0, 10.0)?;
    let grid = field("grid", 40.0, 2.0, 10_000.0)?;
    let skip = field("skip", 2.0, 0.0, 1e6)?;
    let noise = Noise {
        start: field("noise", 0.3, 0.0, 10.0)?,
        minutes: field("learn", 10.0, 0.0, 1e9)?,
        floor: 0.05,
        learning: Learning::Busy,
    };
    let test = Robust {
        margin,
        alternatives: Alternatives::even(1.2, 2000.0, whole(grid)),
        most_per_minute: f64::INFINITY,
        tail: f64::INFINITY,
        null: if plain {
            Null::Bound
        } else {
            Null::Around(spread)
        },
        noise: (!plain).then_some(noise),
        skip: if plain { 0 } else { whole(skip) as usize },
        starts: if restart && !plain {
            Starts::and_later(starts)
        } else {
            Starts::first()
        },
    };
    let log_e = test.log_e(&columns(inputs)?);
    let mut rolled_back = false;
    let decision: Vec<&str> = log_e
        .iter()
        .map(|log_e| {
            rolled_back |= *log_e >= -false_alarm.ln();
            if rolled_back { "rollBack" } else { "continue" }
        })
        .collect();
    Ok(json!({"log_e": log_e, "decision": decision}))
}

fn beta_binomial(inputs: &Value) -> Answer {
    let count = |name: &str| {
        let given = &inputs[name];
        given
            .as_u64()
            .ok_or_else(|| format!("{name}: {given} is given, a count is needed"))
    };
    let (canary, errors) = (count("x")?, count("n")?);
    if canary > errors {
        return Err(format!(
            "x: {canary} is given, at most n, which is {errors}, is allowed"
        ));
    }
    let test = BetaBinomial {
        canary,
        errors,
        share: number(inputs, "inputs", "rho", 0.1, 1e-9, 1.0 - 1e-9)?,
        concentration: number(inputs, "inputs", "k", 100.0, 1e-6, 1e9)?,
    };
    let alpha = number(inputs, "inputs", "alpha", 0.05, 1e-12, 0.5)?;
    let (from, to) = test.confidence(alpha);
    let mut result = json!({"log_e": test.log_e(), "cs_log_ratio": [from, to]});
    if inputs.get("alpha").is_none() {
        result["cs95_log_ratio"] = json!([from, to]);
    }
    Ok(result)
}

/// The settings of a deployment's comparison.
fn read_settings(given: &Value) -> Result<Settings, String> {
    known(
        given,
        &[
            "falseAlarm",
            "margin",
            "detect",
            "minutes",
            "warmUp",
            "noise",
            "spread",
            "disaster",
            "limit",
        ],
    )?;
    let default = Settings::default();
    let field =
        |name: &str, default, least, most| number(given, "settings", name, default, least, most);
    let margin = field("margin", default.margin, 1.0, 1e3)?;
    let limit = match given.get("limit") {
        Some(Value::Null) => None,
        _ => Some(field("limit", 1.0, 1e-6, 99.0)? / 100.0),
    };
    let detect = read_detect(&given["detect"], default.detect)?;
    if let Detect::Ratio(ratio) = detect
        && ratio <= margin
    {
        return Err(format!(
            "settings.detect.ratio: {ratio} is given, a number above the margin, which is {margin}, is allowed"
        ));
    }
    Ok(Settings {
        intervals_per_minute: 1,
        false_alarm: field("falseAlarm", default.false_alarm, 1e-9, 0.5)?,
        margin,
        detect,
        minutes: whole(field("minutes", f64::from(default.minutes), 1.0, 1e5)?),
        warm_up: whole(field("warmUp", f64::from(default.warm_up), 0.0, 1e4)?),
        noise: Noise {
            start: field("noise", default.noise.start, 0.0, 10.0)?,
            ..default.noise
        },
        null: match given.get("spread") {
            Some(_) => Null::Around(field("spread", 0.0, 0.0, 10.0)?),
            None => default.null,
        },
        disaster: field("disaster", default.disaster.max(margin * 1.5), margin, 1e6)?,
        limit,
    })
}

fn read_detect(given: &Value, default: Detect) -> Result<Detect, String> {
    if given.is_null() {
        return Ok(default);
    }
    if given.get("ratio").is_some() {
        return number(given, "settings.detect", "ratio", 2.0, 1.0, 1e6).map(Detect::Ratio);
    }
    if given.get("points").is_some() {
        return number(given, "settings.detect", "points", 1.0, 1e-6, 100.0).map(Detect::Points);
    }
    Err(format!(
        "settings.detect: {given} is given, {{\"ratio\": 2}} or {{\"points\": 1}} is allowed"
    ))
}

/// Share of windows in which a regression must be found to count as seen.
const SEEN: f64 = 80.0;
const RATIOS: [f64; 12] = [
    1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0, 1000.0,
];

fn backtest(inputs: &Value) -> Answer {
    let settings = read_settings(&inputs["settings"])?;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let minutes = if inputs.get("requests").is_some() {
        let share = number(inputs, "inputs", "canary_share", 0.1, 1e-6, 0.5)?;
        let whole = side(inputs, "requests", "errors")?;
        whole
            .into_iter()
            .map(|tally| {
                tally.map_or_else(Minute::default, |tally| divided(tally, share, &mut random))
            })
            .collect()
    } else {
        columns(inputs)?
    };
    let length = whole(number(
        inputs,
        "inputs",
        "minutes",
        f64::from(settings.minutes),
        1.0,
        1e5,
    )?) as usize;
    let every = whole(number(inputs, "inputs", "every", 10.0, 1.0, 1e5)?) as usize;
    if minutes.len() < length {
        return Err(format!(
            "the past has {} minutes, at least {length} are needed for one window",
            minutes.len()
        ));
    }
    let settings = Settings {
        minutes: u32::try_from(length).unwrap_or(u32::MAX),
        ..settings
    };
    let windows: Vec<&[Minute]> = minutes.windows(length).step_by(every).collect();
    let rolled_back: Vec<usize> = windows
        .iter()
        .filter_map(|window| first_roll_back(&[Metric::errors(window)], &settings))
        .collect();
    let mut smallest = Value::Null;
    for ratio in RATIOS {
        let mut found: Vec<usize> = windows
            .iter()
            .filter_map(|window| {
                let worse = worse(window, ratio, &mut random);
                first_roll_back(&[Metric::errors(&worse)], &settings)
            })
            .collect();
        let percent = percent(found.len(), windows.len());
        if percent >= SEEN {
            found.sort_unstable();
            smallest = json!({
                "ratio": ratio,
                "found_percent": percent,
                "median_minute": found[found.len() / 2] + 1,
            });
            break;
        }
    }
    Ok(json!({
        "windows": windows.len(),
        "rolled_back": rolled_back.len(),
        "rolled_back_percent": percent(rolled_back.len(), windows.len()),
        "minutes": length,
        "smallest_regression": smallest,
    }))
}

/// One minute of a whole service, of which each request goes to the canary with the probability `share`.
fn divided(tally: Tally, share: f64, random: &mut Xoshiro256PlusPlus) -> Minute {
    let errors = tally.errors.min(tally.requests);
    let mut draw = |count| Binomial::new(count, share).map_or(0, |drawn| drawn.sample(random));
    let (bad, good) = (draw(errors), draw(tally.requests - errors));
    let canary = Tally {
        requests: bad + good,
        errors: bad,
    };
    let stable = Tally {
        requests: tally.requests - canary.requests,
        errors: errors - bad,
    };
    let seen = |tally: Tally| (tally.requests > 0).then_some(tally);
    Minute {
        canary: seen(canary),
        stable: seen(stable),
    }
}

/// The window with errors added, so that the canary's rate is `ratio` times what it was to be expected.
fn worse(window: &[Minute], ratio: f64, random: &mut Xoshiro256PlusPlus) -> Vec<Minute> {
    let totals = serin_judge::sequential::Totals::of(window);
    let rate = count(totals.canary.errors + totals.stable.errors)
        / count(totals.canary.requests + totals.stable.requests).max(1.0);
    let more = |tally: Tally, random: &mut Xoshiro256PlusPlus| {
        let expected = count(tally.requests) * rate * (ratio - 1.0);
        let added = Poisson::new(expected).map_or(0.0, |drawn| drawn.sample(random));
        Tally {
            errors: (tally.errors + u64::from(whole(added))).min(tally.requests),
            ..tally
        }
    };
    window
        .iter()
        .map(|minute| Minute {
            canary: minute.canary.map(|tally| more(tally, random)),
            ..*minute
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn count(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "a number of windows")]
fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and the value was checked"
)]
fn whole(value: f64) -> u32 {
    value.round() as u32
}

/// Both sides, minute by minute.
fn columns(inputs: &Value) -> Result<Vec<Minute>, String> {
    let canary = side(inputs, "canary_requests", "canary_errors")?;
    let stable = side(inputs, "baseline_requests", "baseline_errors")?;
    if canary.len() != stable.len() {
        return Err(format!(
            "baseline_requests: {} minutes are given, as many as canary_requests has, {}, are needed",
            stable.len(),
            canary.len()
        ));
    }
    let both = canary.into_iter().zip(stable);
    Ok(both
        .map(|(canary, stable)| Minute { canary, stable })
        .collect())
}

/// One side's requests and errors.
fn side(inputs: &Value, requests: &str, errors: &str) -> Result<Vec<Option<Tally>>, String> {
    let (of_requests, of_errors) = (column(inputs, requests)?, column(inputs, errors)?);
    if of_requests.len() != of_errors.len() {
        return Err(format!(
            "{errors}: {} minutes are given, as many as {requests} has, {}, are needed",
            of_errors.len(),
            of_requests.len()
        ));
    }
    let both = of_requests.into_iter().zip(of_errors);
    Ok(both
        .map(|(requests, errors)| Tally::from_sums(requests, errors))
        .collect())
}

fn column(inputs: &Value, name: &str) -> Result<Vec<Option<f64>>, String> {
    let given = &inputs[name];
    let list = given.as_array().ok_or_else(|| {
        format!(
            "{name}: {} is given, a list with one value a minute is needed",
            short(given)
        )
    })?;
    list.iter()
        .enumerate()
        .map(|(minute, value)| match value {
            Value::Null => Ok(None),
            Value::String(text) if text == "NaN" => Ok(None),
            value => match value.as_f64() {
                Some(count) if (0.0..=9e15).contains(&count) && count.fract() == 0.0 => {
                    Ok(Some(count))
                }
                _ => Err(format!(
                    "{name}[{minute}]: {} is given, a count from 0 up, null or \"NaN\" is allowed",
                    short(value)
                )),
            },
        })
        .collect()
}

fn positions(given: &Value, name: &str) -> Result<Vec<usize>, String> {
    let position = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
    given
        .as_array()
        .and_then(|list| list.iter().map(position).collect())
        .ok_or_else(|| {
            format!(
                "{name}: {} is given, a list of minutes from 0 up is allowed",
                short(given)
            )
        })
}

/// Says which setting is not one.
fn known(settings: &Value, names: &[&str]) -> Result<(), String> {
    let given = match settings {
        Value::Null => return Ok(()),
        Value::Object(given) => given,
        other => {
            return Err(format!(
                "settings: {} is given, an object is allowed",
                short(other)
            ));
        }
    };
    match given.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!(
            "settings.{name}: not a setting, allowed are {}",
            names.join(", ")
        )),
        None => Ok(()),
    }
}

fn number(
    given: &Value,
    path: &str,
    name: &str,
    default: f64,
    least: f64,
    most: f64,
) -> Result<f64, String> {
    let Some(value) = given.get(name) else {
        return Ok(default);
    };
    value
        .as_f64()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!(
                "{path}.{name}: {} is given, a number from {least} to {most} is allowed",
                short(value)
            )
        })
}

/// A value as it was given, not too long.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 {
        format!("{}...", text.chars().take(60).collect::<String>())
    } else {
        text
    }
}

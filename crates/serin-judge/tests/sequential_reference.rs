//! The numbers of an independent implementation, to 1e-9.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::unwrap_used,
    reason = "tests with small counts"
)]

use serde_json::Value;
use serin_judge::sequential::{
    Alternatives, BetaBinomial, Learning, Minute, Noise, Null, Robust, Starts, Tally,
};

fn cases() -> Value {
    serde_json::from_str(include_str!("cases/sequential-reference.json")).unwrap()
}

fn minutes(case: &Value) -> Vec<Minute> {
    let column = |name: &str| -> Vec<u64> {
        let column = case[name].as_array().unwrap();
        column.iter().map(|v| v.as_u64().unwrap()).collect()
    };
    let tally = |requests: &str, errors: &str| -> Vec<Tally> {
        column(requests)
            .into_iter()
            .zip(column(errors))
            .map(|(requests, errors)| Tally { requests, errors })
            .collect()
    };
    tally("canary_requests", "canary_errors")
        .into_iter()
        .zip(tally("baseline_requests", "baseline_errors"))
        .map(|(canary, stable)| Minute::new(canary, stable))
        .collect()
}

fn assert_close(actual: f64, expected: f64, what: &str) {
    // The file has ten digits, and writes an e-value of 1 as the rounding error of its logarithm.
    let off = (actual - expected).abs();
    assert!(
        off <= 1e-9 * expected.abs() + 1e-15,
        "{what}: {actual} is not {expected}"
    );
}

#[test]
fn every_sequence_gives_the_reference_e_values() {
    for case in cases()["sequences"].as_array().unwrap() {
        let settings = &case["settings"];
        let number = |name: &str, default: f64| settings[name].as_f64().unwrap_or(default);
        let plain = case["kind"] == "seq_ratio";
        let restart = !plain && settings["restart"].as_bool().unwrap_or(true);
        let test = Robust {
            margin: number("margin", 1.25),
            alternatives: Alternatives::even(1.2, 2000.0, 40),
            most_per_minute: f64::INFINITY,
            tail: f64::INFINITY,
            null: Null::Around(number("spread", 0.0)),
            noise: (!plain).then_some(Noise {
                start: 0.3,
                minutes: 10.0,
                learning: Learning::Busy,
                ..Noise::UNKNOWN
            }),
            skip: if plain {
                0
            } else {
                number("skip", 2.0) as usize
            },
            starts: if restart {
                Starts::and_later([5, 10])
            } else {
                Starts::first()
            },
        };
        let expected = case["log_e"].as_array().unwrap();
        let actual = test.log_e(&minutes(case));
        assert_eq!(actual.len(), expected.len());
        for (minute, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let what = format!("{} {settings} minute {minute}", case["name"]);
            assert_close(*actual, expected.as_f64().unwrap(), &what);
        }
    }
}

#[test]
fn every_beta_binomial_case_gives_the_reference_e_value_and_confidence_sequence() {
    for case in cases()["beta_binomial"].as_array().unwrap() {
        let test = BetaBinomial {
            canary: case["x"].as_u64().unwrap(),
            errors: case["n"].as_u64().unwrap(),
            share: case["rho"].as_f64().unwrap(),
            concentration: case["k"].as_f64().unwrap(),
        };
        let what = case.to_string();
        assert_close(test.log_e(), case["log_e"].as_f64().unwrap(), &what);
        let (low, high) = test.confidence(0.05);
        for (actual, expected) in [low, high]
            .into_iter()
            .zip(case["cs95_log_ratio"].as_array().unwrap())
        {
            match (actual, expected.as_f64()) {
                (Some(actual), Some(expected)) => assert_close(actual, expected, &what),
                (actual, expected) => assert_eq!(actual, expected, "{what}"),
            }
        }
    }
}

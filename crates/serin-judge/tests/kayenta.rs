//! Kayenta's verdicts, case by case, and what must hold for any data.
//!
//! The cases in `cases/kayenta` are numbers of Kayenta's own test suites (spinnaker/kayenta, commit a69573be), verdicts that the
//! original gave on random series, and series from issues in which its verdict surprised somebody.

#![expect(clippy::unwrap_used, reason = "all of this is test")]

#[path = "../examples/judge/kayenta.rs"]
mod command_line;

use proptest::prelude::*;
use serde_json::{Value, json};
use serin_judge::kayenta::{
    Classifier, Direction, EffectMeasure, EffectSize, Judged, Label, MetricSettings, NanStrategy,
    Noise, Repairs,
};

const PUBLIC: &str = include_str!("cases/kayenta/cases-public.json");
const ORACLE: &str = include_str!("cases/kayenta/oracle-public.json");
const ISSUES: &str = include_str!("cases/kayenta/issue-cases.json");

fn cases(text: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn answer(case: &Value) -> Value {
    let kind = case["kind"].as_str().unwrap();
    command_line::answer(kind, &case["inputs"])
        .unwrap_or_else(|| panic!("{kind} is not known"))
        .unwrap_or_else(|error| panic!("{}: {error}", case["id"]))
}

/// Where the answer is not what was expected: every field of the expectation, numbers to the tolerance times their size where
/// they are above 1.
fn differences(expected: &Value, answer: &Value, tolerance: f64) -> Vec<String> {
    match (expected, answer) {
        (Value::Object(fields), _) => fields
            .iter()
            .filter(|(name, _)| !name.ends_with("tol"))
            .flat_map(|(name, value)| {
                let inside = differences(value, &answer[name], tolerance);
                inside
                    .into_iter()
                    .map(move |found| format!("{name} {found}"))
            })
            .collect(),
        (Value::Array(expected), Value::Array(answers)) if expected.len() == answers.len() => {
            let pairs = expected.iter().zip(answers);
            pairs
                .flat_map(|(value, answer)| differences(value, answer, tolerance))
                .collect()
        }
        (Value::Number(expected), Value::Number(answer)) => {
            let (expected, answer) = (expected.as_f64().unwrap(), answer.as_f64().unwrap());
            let off = (expected - answer).abs() > tolerance * expected.abs().max(1.0);
            off.then(|| format!("is {answer}, not {expected}"))
                .into_iter()
                .collect()
        }
        _ if expected == answer => Vec::new(),
        _ => vec![format!("is {answer}, not {expected}")],
    }
}

#[test]
fn every_case_of_kayentas_own_suites_has_its_answer() {
    let mut wrong = Vec::new();
    let cases = cases(PUBLIC);
    for case in &cases {
        let expected = &case["expected"];
        let tolerance = ["tol", "ci_tol"]
            .iter()
            .find_map(|field| expected[field].as_f64())
            .unwrap_or(0.0);
        for found in differences(expected, &answer(case), tolerance) {
            wrong.push(format!("{} {}: {found}", case["id"], case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cases.len(), 49);
}

#[test]
fn every_series_gets_the_label_the_flag_and_the_interval_that_the_original_gave_it() {
    let mut wrong = Vec::new();
    let cases = cases(ORACLE);
    for case in &cases {
        let (expected, answer) = (&case["expected"], answer(case));
        let mut found = differences(&expected["ci"], &answer["ci"], 1e-6);
        for field in ["classification", "critical", "deviation"] {
            found.extend(differences(&expected[field], &answer[field], 1e-14));
        }
        if !found.is_empty() {
            wrong.push(format!("{} {}: {found:?}", case["id"], case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(cases.len(), 191);
}

#[test]
fn verdicts_that_surprised_people_are_given_as_the_original_gave_them() {
    let cases = cases(ISSUES);
    for case in &cases {
        let mut inputs = case.clone();
        inputs["critical"] = json!(true);
        let answer = command_line::answer("judge_metric", &inputs)
            .unwrap()
            .unwrap();
        let name = &case["name"];
        assert_eq!(answer["classification"], case["original_verdict"], "{name}");
        assert_eq!(answer["critical"], case["original_critical"], "{name}");
    }
    assert_eq!(cases.len(), 5);
}

#[test]
fn a_question_that_cannot_be_answered_is_refused_with_the_field_and_what_is_allowed() {
    for (kind, inputs, error) in [
        (
            "cles",
            json!({"control": [], "experiment": [1]}),
            "a side has no values",
        ),
        (
            "cles",
            json!({"control": [1, "x"], "experiment": [1]}),
            "control[1]: a number or \"NaN\" is expected",
        ),
        (
            "mean_ratio",
            json!({"control": [1]}),
            "experiment: a list is expected",
        ),
        (
            "percentile_r7",
            json!({"p": 101, "data": []}),
            "p: 101 is out of range; 0 to 100 is allowed",
        ),
        (
            "detect_iqr",
            json!({"factor": 0, "data": []}),
            "factor: 0 is out of range; a number above 0 is allowed",
        ),
        (
            "config_number",
            json!({"default": 1, "json_value": "42"}),
            "\"42\" is not allowed; a number is expected",
        ),
        (
            "score",
            json!({"metrics": [{"name": "a", "classification": "Fine"}]}),
            "classification: \"Fine\" is not known",
        ),
        (
            "mann_whitney_ci",
            json!({"control": [1], "experiment": [1]}),
            "all values are tied, so they cannot be ranked",
        ),
        (
            "judge_metric",
            json!({"control": [], "experiment": [], "outlier_factor": 0}),
            "outlier_factor: 0 is out of range; a number above 0 is allowed",
        ),
    ] {
        let refused = command_line::answer(kind, &inputs).unwrap().unwrap_err();
        assert_eq!(refused, error, "{kind}");
    }
    assert!(command_line::answer("sequential", &json!({})).is_none());
}

#[test]
fn steps_of_the_way_to_a_verdict_can_be_asked_for_too() {
    let sides = |more: Value| {
        let mut inputs = json!({"control": [1, 2, 3, 4], "experiment": [10, 20, 30, 40]});
        for (name, value) in more.as_object().unwrap() {
            inputs[name] = value.clone();
        }
        inputs
    };
    let asked = |kind, inputs: Value| command_line::answer(kind, &inputs).unwrap().unwrap();
    // At 6, the least canary value meets the greatest baseline value: ranks 4.5, 6, 7, 8 and one tie.
    let difference = asked("wilcoxon_diff", sides(json!({"mu": 6, "z_quantile": 1.0})));
    let z = 7.0 / (16.0 / 12.0 * (9.0 - 6.0 / 56.0_f64)).sqrt();
    assert!((difference["value"].as_f64().unwrap() - (z - 1.0)).abs() < 1e-15);

    let means = |inputs| asked("classify_mean_inequality", inputs)["classification"].clone();
    assert_eq!(means(sides(json!({"direction": "either"}))), "High");
    assert_eq!(means(sides(json!({"direction": "decrease"}))), "Pass");
    assert_eq!(means(sides(json!({"experiment": [0, 1]}))), "Low");
    assert_eq!(means(sides(json!({"experiment": []}))), "Nodata");

    let repaired = sides(json!({"repairs": {"fewPoints": true}}));
    assert_eq!(asked("judge_metric", repaired)["classification"], "Nodata");
    assert_eq!(
        asked("judge_metric", sides(json!({})))["classification"],
        "High"
    );
}

fn judge(control: &[f64], experiment: &[f64]) -> Judged {
    Classifier::default().judge(control, experiment, &MetricSettings::default())
}

fn with(repairs: Repairs) -> Classifier {
    Classifier {
        repairs,
        ..Classifier::default()
    }
}

#[test]
fn a_difference_that_is_allowed_passes_and_one_that_is_critical_is_told() {
    let control = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    let experiment = control.map(|value| value * 3.0);
    let label_of = |allowed_increase, critical_increase| {
        let settings = MetricSettings {
            critical: true,
            effect_size: EffectSize {
                allowed_increase,
                critical_increase,
                ..EffectSize::default()
            },
            ..MetricSettings::default()
        };
        let judged = Classifier::default().judge(&control, &experiment, &settings);
        (judged.label, judged.critical)
    };
    assert_eq!(label_of(1.0, 1.0), (Label::High, true));
    // A limit that is met exactly is met.
    assert_eq!(label_of(3.0, 3.0), (Label::High, true));
    assert_eq!(label_of(1.0, 4.0), (Label::High, false));
    assert_eq!(label_of(4.0, 1.0), (Label::Pass, false));
}

#[test]
fn one_point_against_another_is_judged_the_same_every_time() {
    let judged = judge(&[100.0], &[101.0]);
    assert_eq!(judged, judge(&[100.0], &[101.0]));
    assert!(
        matches!(judged.label, Label::High | Label::Error),
        "{judged:?}"
    );
}

#[test]
fn constants_that_differ_are_told_apart_and_equal_ones_pass() {
    assert_eq!(judge(&[1.0; 10], &[1.01; 10]).label, Label::High);
    assert_eq!(judge(&[1.0; 10], &[0.99; 10]).label, Label::Low);
    assert_eq!(judge(&[0.0; 10], &[-0.0; 7]).label, Label::Pass);
    assert_eq!(judge(&[3.0; 10], &[3.0; 7]).label, Label::Pass);
}

#[test]
fn fewer_than_five_points_are_as_none_once_that_is_repaired() {
    let repaired = with(Repairs {
        few_points: true,
        ..Repairs::default()
    });
    let (few, enough) = ([1.0, 1.1, 1.2, 1.3], [1.0, 1.1, 1.2, 1.3, 1.4]);
    let high = enough.map(|value| value * 3.0);
    let settings = MetricSettings::default();
    assert_eq!(judge(&few, &high).label, Label::High);
    assert_eq!(repaired.judge(&few, &high, &settings).label, Label::Nodata);
    assert_eq!(repaired.judge(&enough, &high, &settings).label, Label::High);
    let must_have_data = MetricSettings {
        must_have_data: true,
        ..settings
    };
    let judged = repaired.judge(&few, &high, &must_have_data);
    assert_eq!(judged.label, Label::NodataFailMetric);
    let replace = MetricSettings {
        nan_strategy: NanStrategy::Replace,
        ..settings
    };
    assert_eq!(repaired.judge(&[], &high, &replace).label, Label::Nodata);
}

#[test]
fn an_error_of_a_critical_metric_that_must_have_data_is_critical_once_that_is_repaired() {
    // Against a constant 0, a single value meets it exactly, and then all is tied.
    let settings = MetricSettings {
        critical: true,
        must_have_data: true,
        ..MetricSettings::default()
    };
    let plain = Classifier::default().judge(&[0.0], &[5.0], &settings);
    assert_eq!((plain.label, plain.critical), (Label::Error, false));
    let repairs = Repairs {
        errors_fail: true,
        ..Repairs::default()
    };
    let repaired = with(repairs).judge(&[0.0], &[5.0], &settings);
    assert_eq!((repaired.label, repaired.critical), (Label::Error, true));
}

/// Requests that fail with probability 1e-4, sixty minutes of about 60,000, as a share.
fn shares_of_errors(noise: &mut Noise) -> Vec<f64> {
    (0..60)
        .map(|_| (6.0 + 2.45 * noise.normal()).round().max(0.0) / 60_000.0)
        .collect()
}

#[test]
fn a_rate_is_judged_alike_as_a_share_and_in_percent_once_that_is_repaired() {
    let scale_free = with(Repairs {
        scale_free: true,
        ..Repairs::default()
    });
    let settings = MetricSettings::default();
    let mut noise = Noise::default();
    let (mut plain_differs, mut plain_alarms, mut repaired_alarms) = (0, 0, 0);
    for _ in 0..300 {
        let (control, experiment) = (shares_of_errors(&mut noise), shares_of_errors(&mut noise));
        let percent = |values: &[f64]| values.iter().map(|v| v * 100.0).collect::<Vec<f64>>();
        let labels = |classifier: &Classifier| {
            let as_share = classifier.judge(&control, &experiment, &settings).label;
            let in_percent = classifier.judge(&percent(&control), &percent(&experiment), &settings);
            (as_share, in_percent.label)
        };
        let (plain, repaired) = (labels(&Classifier::default()), labels(&scale_free));
        assert_eq!(repaired.0, repaired.1);
        plain_differs += u32::from(plain.0 != plain.1);
        plain_alarms += u32::from(plain.0 != Label::Pass);
        repaired_alarms += u32::from(repaired.0 != Label::Pass);
    }
    let found = format!("{plain_differs}, {plain_alarms}, {repaired_alarms}");
    assert!(
        plain_differs > 30 && plain_alarms > 10 * repaired_alarms,
        "{found}"
    );
}

/// A gauge that wanders: each value keeps `phi` of the last one's distance from 100.
fn wandering(noise: &mut Noise, phi: f64) -> Vec<f64> {
    let spread = (1.0 - phi * phi).sqrt();
    let mut distance = noise.normal();
    (0..60)
        .map(|_| {
            distance = phi * distance + spread * noise.normal();
            100.0 + distance
        })
        .collect()
}

#[test]
fn a_gauge_that_wanders_alarms_far_less_often_once_that_is_repaired() {
    let repaired = with(Repairs {
        autocorrelation: true,
        ..Repairs::default()
    });
    let settings = MetricSettings::default();
    // Of 600 comparisons of the same with the same: at least so many alarms without, at most so many with.
    for (phi, without, with) in [(0.5, 30, 6), (0.8, 120, 18), (0.9, 200, 60)] {
        let mut noise = Noise::default();
        let (mut plain, mut deflated) = (0, 0);
        for _ in 0..600 {
            let (control, experiment) = (wandering(&mut noise, phi), wandering(&mut noise, phi));
            let failed = |classifier: &Classifier| {
                classifier.judge(&control, &experiment, &settings).label != Label::Pass
            };
            plain += u32::from(failed(&Classifier::default()));
            deflated += u32::from(failed(&repaired));
        }
        assert!(
            plain >= without && deflated <= with,
            "{phi}: {plain}, {deflated}"
        );
    }
}

/// Values as monitoring gives them: gauges, counts with many ties, and gaps.
fn series() -> impl Strategy<Value = Vec<f64>> {
    let gauge = (0..40_000_i32).prop_map(|value| f64::from(value) / 16.0);
    let count = (0..6_i32).prop_map(f64::from);
    prop_oneof![
        prop::collection::vec(gauge, 1..60),
        prop::collection::vec(count, 1..60),
    ]
}

fn is_constant(values: &[f64]) -> bool {
    values
        .iter()
        .all(|value| value.to_bits() == values[0].to_bits())
}

/// Anything at all.
fn wild() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(
        prop_oneof![
            4 => any::<f64>(),
            1 => Just(f64::NAN),
            1 => Just(-0.0),
            2 => Just(0.0),
            1 => Just(f64::INFINITY),
        ],
        0..12,
    )
}

fn any_settings() -> impl Strategy<Value = MetricSettings> {
    let direction = prop_oneof![
        Just(Direction::Increase),
        Just(Direction::Decrease),
        Just(Direction::Either)
    ];
    let nan_strategy = prop_oneof![Just(NanStrategy::Remove), Just(NanStrategy::Replace)];
    let measure = prop_oneof![Just(EffectMeasure::MeanRatio), Just(EffectMeasure::Cles)];
    (
        direction,
        nan_strategy,
        measure,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(direction, nan_strategy, measure, critical, must_have_data)| MetricSettings {
                direction,
                nan_strategy,
                effect_size: EffectSize::of(measure),
                critical,
                must_have_data,
                ..MetricSettings::default()
            },
        )
}

/// By how much a side clears the share of the estimate that it must, whichever of two estimates is the larger.
fn clearance(judged: &Judged, other: &Judged) -> f64 {
    let (interval, other) = (judged.interval.unwrap(), other.interval.unwrap());
    interval.low - 0.25 * interval.estimate.abs().max(other.estimate.abs())
}

/// How far an end of an interval may lie from where it would be without rounding.
const SLACK: f64 = 1e-3;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn swapping_canary_and_stable_turns_high_into_low(
        control in series(), experiment in series(), cles in any::<bool>()
    ) {
        // Two constants get noise, and with one point each it decides.
        prop_assume!(!is_constant(&control) || !is_constant(&experiment));
        let measure = if cles { EffectMeasure::Cles } else { EffectMeasure::MeanRatio };
        let settings = MetricSettings {
            effect_size: EffectSize::of(measure),
            ..MetricSettings::default()
        };
        let classifier = Classifier::default();
        let there = classifier.judge(&control, &experiment, &settings);
        let back = classifier.judge(&experiment, &control, &settings);
        match there.label {
            Label::High => prop_assert_ne!(back.label, Label::High),
            Label::Low => prop_assert_ne!(back.label, Label::Low),
            _ => {}
        }
        if there.label == Label::High && clearance(&there, &back) > SLACK {
            prop_assert_eq!(back.label, Label::Low);
        }
        if let (Some(there), Some(back)) = (there.interval, back.interval) {
            prop_assert!((there.low + back.high).abs() < SLACK, "{there:?} {back:?}");
            prop_assert!((there.high + back.low).abs() < SLACK, "{there:?} {back:?}");
        }
    }

    #[test]
    fn another_unit_scales_the_interval_and_keeps_the_label_once_that_is_repaired(
        control in series(), experiment in series(), power in -40..40_i32
    ) {
        prop_assume!(!is_constant(&control) || !is_constant(&experiment));
        let factor = 2.0_f64.powi(power);
        let scaled = |values: &[f64]| values.iter().map(|value| value * factor).collect::<Vec<f64>>();
        let classifier = with(Repairs { scale_free: true, ..Repairs::default() });
        let settings = MetricSettings::default();
        let before = classifier.judge(&control, &experiment, &settings);
        let after = classifier.judge(&scaled(&control), &scaled(&experiment), &settings);
        prop_assert_eq!(before.label, after.label);
        if let (Some(before), Some(after)) = (before.interval, after.interval) {
            prop_assert_eq!((before.low * factor).to_bits(), after.low.to_bits());
            prop_assert_eq!((before.high * factor).to_bits(), after.high.to_bits());
        }
    }

    #[test]
    fn what_is_added_to_both_sides_does_not_move_the_interval(
        control in series(), experiment in series(), offset in -1000..1000_i32
    ) {
        // Two constants get noise in proportion to their size, so they are another matter.
        prop_assume!(!is_constant(&control) || !is_constant(&experiment));
        let moved = |values: &[f64]| {
            values.iter().map(|value| value + f64::from(offset)).collect::<Vec<f64>>()
        };
        let before = judge(&control, &experiment).interval;
        let after = judge(&moved(&control), &moved(&experiment)).interval;
        prop_assert_eq!(before.is_some(), after.is_some());
        if let (Some(before), Some(after)) = (before, after) {
            prop_assert!((before.low - after.low).abs() < SLACK, "{before:?} {after:?}");
            prop_assert!((before.high - after.high).abs() < SLACK, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_side_without_data_never_passes_unless_gaps_count_as_zero(
        values in wild(), gaps in 0..10_usize, settings in any_settings()
    ) {
        let empty = vec![f64::NAN; gaps];
        let settings = MetricSettings { nan_strategy: NanStrategy::Remove, ..settings };
        for (control, experiment) in [(&values, &empty), (&empty, &values)] {
            let judged = Classifier::default().judge(control, experiment, &settings);
            let expected = if settings.must_have_data && !settings.critical {
                Label::NodataFailMetric
            } else {
                Label::Nodata
            };
            prop_assert_eq!(judged.label, expected);
            prop_assert_eq!(judged.critical, settings.critical);
        }
    }

    #[test]
    fn a_higher_canary_is_never_low_and_a_lower_one_never_high(
        control in series(), experiment in series(), settings in any_settings()
    ) {
        let judged = Classifier::default().judge(&control, &experiment, &settings);
        match judged.label {
            Label::High => {
                prop_assert!(judged.interval.unwrap().low > 0.0);
                prop_assert_ne!(settings.direction, Direction::Decrease);
            }
            Label::Low => {
                prop_assert!(judged.interval.unwrap().high < 0.0);
                prop_assert_ne!(settings.direction, Direction::Increase);
            }
            _ => prop_assert!(!judged.critical),
        }
    }

    #[test]
    fn a_canary_that_is_higher_still_is_not_judged_better(
        control in series(), experiment in series(), more in 1..1000_i32
    ) {
        let higher: Vec<f64> = experiment.iter().map(|value| value + f64::from(more)).collect();
        prop_assume!(!is_constant(&control) || !is_constant(&experiment));
        let (before, after) = (judge(&control, &experiment), judge(&control, &higher));
        if before.label == Label::High && clearance(&before, &before) > SLACK {
            prop_assert_eq!(after.label, Label::High);
        }
    }

    #[test]
    fn the_order_of_the_values_does_not_matter(control in series(), experiment in series()) {
        let reversed = |values: &[f64]| values.iter().rev().copied().collect::<Vec<f64>>();
        prop_assume!(!is_constant(&control) || !is_constant(&experiment));
        let (there, back) = (
            judge(&control, &experiment),
            judge(&reversed(&control), &reversed(&experiment)),
        );
        prop_assert_eq!(there.interval, back.interval);
    }

    #[test]
    fn no_series_and_no_settings_stop_the_judge(
        control in wild(), experiment in wild(), settings in any_settings(),
        few_points in any::<bool>(), scale_free in any::<bool>(), autocorrelation in any::<bool>()
    ) {
        let repairs = Repairs { few_points, scale_free, autocorrelation, errors_fail: true };
        let _ = with(repairs).judge(&control, &experiment, &settings);
    }
}

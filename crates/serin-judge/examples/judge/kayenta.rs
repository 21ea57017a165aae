//! The kinds of question that Kayenta's judge answers: whole metrics, and the steps of the way there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use serin_judge::kayenta::config::number;
use serin_judge::kayenta::mann_whitney::{RankTest, lower_quantile, normal_quantile};
use serin_judge::kayenta::run::{self, Schedule, Span};
use serin_judge::kayenta::samples::{self, Fences};
use serin_judge::kayenta::score::{Scored, score};
use serin_judge::kayenta::{
    Classifier, Direction, EffectMeasure, EffectSize, Judged, Label, MetricSettings, NanStrategy,
    Noise, OutlierStrategy, Outliers, Repairs, compare_means, mean_ratio,
};

/// As many points as a series is padded to, or numbers drawn, at most.
const MOST_POINTS: usize = 1_000_000;

type Answer = Result<Value, String>;

/// The answer to a question of this kind, which is made of the same fields whatever the inputs; `None` when the kind is not ours.
pub(crate) fn answer(kind: &str, inputs: &Value) -> Option<Answer> {
    let inputs = Inputs(inputs);
    Some(match kind {
        "judge_metric" => judge_metric(inputs),
        "classify_mann_whitney" => classify(inputs),
        "classify_mean_inequality" => classify_by_means(inputs),
        "score" => scores(inputs),
        "final_judgment" => final_judgment(inputs),
        "judgement_window" => judgement_window(inputs),
        "pair_series" => pair_series(inputs),
        "detect_ksigma" => outliers_by_sigma(inputs).map(|(_, outliers)| flags(&outliers)),
        "detect_iqr" => outliers_by_quartiles(inputs).map(|(_, outliers)| flags(&outliers)),
        "remove_outliers_ksigma" => outliers_by_sigma(inputs).map(without),
        "remove_outliers_iqr" => outliers_by_quartiles(inputs).map(without),
        "percentile_r7" => percentile(inputs),
        "mean_ratio" => {
            sides(inputs).map(|(control, experiment)| value(mean_ratio(&control, &experiment)))
        }
        "cles" => rank_test(inputs).map(|test| value(test.common_language_effect_size())),
        "normal_quantile" => normal(inputs),
        "mann_whitney_ci" => interval(inputs),
        "mann_whitney_intermediate" => intermediate(inputs),
        "wilcoxon_diff" => wilcoxon_difference(inputs),
        "random_normal" => random_normal(inputs),
        "config_number" => config_number(inputs),
        "integration_uniform" => integration_uniform(inputs),
        _ => return None,
    })
}

/// One metric as the judge takes it: gaps and outliers are seen to, and its own constants decide. Nothing is repaired but what
/// `repairs` names, as in `{"fewPoints": true}`.
fn judge_metric(inputs: Inputs) -> Answer {
    let measure = EffectMeasure::from_kayenta(inputs.text("measure")?);
    let mut settings = settings(inputs, EffectSize::of(measure))?;
    settings.outliers = Outliers {
        strategy: OutlierStrategy::from_kayenta(inputs.text("outlier_strategy")?),
        factor: inputs.positive("outlier_factor", Outliers::default().factor)?,
    };
    let classifier = Classifier {
        repairs: repairs(inputs)?,
        ..Classifier::default()
    };
    let (control, experiment) = sides(inputs)?;
    let judged = classifier.judge(&control, &experiment, &settings);
    let mut result = verdict(&judged);
    if let Some(interval) = judged.interval {
        let interval = json!({
            "low": float(interval.low),
            "high": float(interval.high),
            "estimate": float(interval.estimate),
        });
        result.insert("ci".to_owned(), interval);
    }
    Ok(Value::Object(result))
}

/// The rule of the judge with other constants. Its limits are 1 by default, whatever the measure.
fn classify(inputs: Inputs) -> Answer {
    let measure = EffectMeasure::from_kayenta(inputs.text("effect_size_measure")?);
    let no_effect = EffectSize {
        measure,
        ..EffectSize::default()
    };
    let classifier = Classifier {
        confidence: inputs.confidence(0.95)?,
        tolerance: inputs.number("tolerance", 0.25)?,
        repairs: repairs(inputs)?,
    };
    let (control, experiment) = sides(inputs)?;
    let judged = classifier.judge(&control, &experiment, &settings(inputs, no_effect)?);
    Ok(Value::Object(verdict(&judged)))
}

fn classify_by_means(inputs: Inputs) -> Answer {
    let settings = settings(inputs, EffectSize::default())?;
    let (control, experiment) = sides(inputs)?;
    let judged = compare_means(
        &settings.nan_strategy.apply(&control),
        &settings.nan_strategy.apply(&experiment),
        &settings,
    );
    Ok(Value::Object(verdict(&judged)))
}

fn settings(inputs: Inputs, no_effect: EffectSize) -> Result<MetricSettings, String> {
    Ok(MetricSettings {
        direction: Direction::from_kayenta(inputs.text("direction")?),
        nan_strategy: NanStrategy::from_kayenta(inputs.text("nan_strategy")?),
        critical: inputs.flag("critical")?,
        must_have_data: inputs.flag("must_have_data")?,
        effect_size: EffectSize {
            measure: no_effect.measure,
            allowed_increase: inputs.number("allowed_increase", no_effect.allowed_increase)?,
            allowed_decrease: inputs.number("allowed_decrease", no_effect.allowed_decrease)?,
            critical_increase: inputs.number("critical_increase", no_effect.critical_increase)?,
            critical_decrease: inputs.number("critical_decrease", no_effect.critical_decrease)?,
        },
        ..MetricSettings::default()
    })
}

fn repairs(inputs: Inputs) -> Result<Repairs, String> {
    match inputs.get("repairs") {
        None => Ok(Repairs::default()),
        Some(repairs) => {
            serde_json::from_value(repairs.clone()).map_err(|error| format!("repairs: {error}"))
        }
    }
}

fn verdict(judged: &Judged) -> Map<String, Value> {
    Map::from_iter([
        ("classification".to_owned(), judged.label.as_str().into()),
        ("critical".to_owned(), judged.critical.into()),
        (
            "deviation".to_owned(),
            judged.deviation.map_or(Value::Null, float),
        ),
    ])
}

fn scores(inputs: Inputs) -> Answer {
    let mut weights = BTreeMap::new();
    if let Some(listed) = inputs.get("group_weights") {
        let listed = listed
            .as_object()
            .ok_or("group_weights: an object is expected")?;
        for name in listed.keys() {
            let weight = Inputs(&inputs.0["group_weights"]).needed(name)?;
            weights.insert(name.clone(), weight);
        }
    }
    let metrics = inputs.list("metrics")?;
    let metrics: Vec<Metric> = metrics.iter().map(Metric::read).collect::<Result<_, _>>()?;
    let scored: Vec<Scored> = metrics.iter().map(Metric::scored).collect();
    let scores = score(&scored, &weights, repairs(inputs)?);
    let groups: Map<String, Value> = scores
        .groups
        .iter()
        .map(|(name, group)| (name.clone(), float(group.score)))
        .collect();
    Ok(json!({"summary_score": float(scores.summary), "group_scores": groups}))
}

/// A metric to be scored.
struct Metric {
    name: String,
    label: Label,
    critical: bool,
    groups: Vec<String>,
    muted: bool,
    must_have_data: bool,
}

impl Metric {
    fn read(value: &Value) -> Result<Self, String> {
        let inputs = Inputs(value);
        let label = inputs.text("classification")?;
        let groups = match inputs.get("groups") {
            None => Vec::new(),
            Some(_) => inputs
                .list("groups")?
                .iter()
                .map(|group| {
                    group
                        .as_str()
                        .map(str::to_owned)
                        .ok_or("groups: texts are expected")
                })
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            name: inputs.text("name")?.to_owned(),
            label: Label::from_name(label)
                .ok_or_else(|| format!("classification: {label:?} is not known"))?,
            critical: inputs.flag("critical")?,
            groups,
            muted: inputs.flag("muted")?,
            must_have_data: inputs.flag("must_have_data")?,
        })
    }

    fn scored(&self) -> Scored<'_> {
        Scored {
            name: &self.name,
            label: self.label,
            critical: self.critical,
            groups: &self.groups,
            muted: self.muted,
            must_have_data: self.must_have_data,
        }
    }
}

fn final_judgment(inputs: Inputs) -> Answer {
    let passed = run::passed(
        inputs.needed("final_score")?,
        inputs.optional("marginal")?,
        inputs.optional("passing")?,
    );
    Ok(json!({"passed": passed}))
}

/// In minutes.
fn judgement_window(inputs: Inputs) -> Answer {
    let schedule = Schedule {
        start: inputs.whole("start_min")?,
        warm_up: inputs.whole("warmup_min")?,
        look_back: Some(inputs.whole("lookback_min")?),
        explicit_end: inputs.flag("explicit_end")?,
        ..Schedule::default()
    };
    let index = inputs.whole("index")?;
    let Span { start, end } = schedule.window(index, inputs.whole("interval_min")?);
    Ok(json!({"start_min": start, "end_min": end}))
}

fn pair_series(inputs: Inputs) -> Answer {
    let span = Span {
        start: inputs.whole("start_ms")?,
        end: inputs.whole("end_ms")?,
    };
    let expected = run::expected_points(span, inputs.whole("step_ms")?);
    if expected > MOST_POINTS {
        return Err(format!(
            "{expected} points are too many; {MOST_POINTS} are allowed"
        ));
    }
    let (control, experiment) = sides(inputs)?;
    Ok(json!({
        "control": floats(&run::padded(&control, expected)),
        "experiment": floats(&run::padded(&experiment, expected)),
    }))
}

fn outliers_by_sigma(inputs: Inputs) -> Result<(Vec<f64>, Vec<bool>), String> {
    let data = inputs.series("data")?;
    let outliers = samples::outliers_by_sigma(&data, inputs.positive("k", 3.0)?);
    Ok((data, outliers))
}

fn outliers_by_quartiles(inputs: Inputs) -> Result<(Vec<f64>, Vec<bool>), String> {
    let data = inputs.series("data")?;
    let factor = inputs.positive("factor", 1.5)?;
    let fences = if inputs.flag("reduce_sensitivity")? {
        Fences::of_judge(&data, factor)
    } else {
        Fences::of_quartiles(&data, factor)
    };
    let outliers = data.iter().map(|value| fences.exclude(*value)).collect();
    Ok((data, outliers))
}

fn flags(outliers: &[bool]) -> Value {
    json!({"outliers": outliers})
}

fn without((data, outliers): (Vec<f64>, Vec<bool>)) -> Value {
    let kept: Vec<f64> = data
        .into_iter()
        .zip(outliers)
        .filter_map(|(value, outlier)| (!outlier).then_some(value))
        .collect();
    json!({"data": floats(&kept)})
}

fn percentile(inputs: Inputs) -> Answer {
    let p = inputs.needed("p")?;
    if !(0.0..=100.0).contains(&p) {
        return Err(format!("p: {p} is out of range; 0 to 100 is allowed"));
    }
    Ok(value(samples::percentile(&inputs.series("data")?, p)))
}

fn normal(inputs: Inputs) -> Answer {
    let p = inputs.needed("p")?;
    if !(0.0..=1.0).contains(&p) {
        return Err(format!("p: {p} is out of range; 0 to 1 is allowed"));
    }
    Ok(value(normal_quantile(p)))
}

fn interval(inputs: Inputs) -> Answer {
    let interval = rank_test(inputs)?
        .interval(inputs.confidence(0.98)?)
        .map_err(|error| error.to_string())?;
    Ok(json!({
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
        "estimate": float(interval.estimate),
    }))
}

/// What the interval is found from: where the search begins, and where it ends if the bracket's ends are not looked at.
fn intermediate(inputs: Inputs) -> Answer {
    let test = rank_test(inputs)?;
    let upper = lower_quantile(inputs.confidence(0.98)?);
    let lower = -upper;
    let (low, high) = test.bracket();
    let numbers = || {
        Ok::<_, serin_judge::kayenta::mann_whitney::AllTied>([
            ("mu_min", low),
            ("mu_max", high),
            ("z_lower", lower),
            ("z_upper", upper),
            ("f_mu_min_z_lower", test.z(low)? - lower),
            ("f_mu_max_z_lower", test.z(high)? - lower),
            ("f_mu_min_z_upper", test.z(low)? - upper),
            ("f_mu_max_z_upper", test.z(high)? - upper),
            ("ci_low", test.root_inside(lower)?),
            ("ci_high", test.root_inside(upper)?),
            ("estimate", test.root_inside(0.0)?),
        ])
    };
    let numbers = numbers().map_err(|error| error.to_string())?;
    let numbers = numbers.map(|(name, number)| (name.to_owned(), float(number)));
    Ok(Value::Object(Map::from_iter(numbers)))
}

fn wilcoxon_difference(inputs: Inputs) -> Answer {
    let quantile = match inputs.optional("z_quantile")? {
        Some(quantile) => quantile,
        None => inputs.number("quantile", 0.0)?,
    };
    let z = rank_test(inputs)?
        .z(inputs.number("mu", 0.0)?)
        .map_err(|error| error.to_string())?;
    Ok(value(z - quantile))
}

/// From a generator that always begins with the same number.
fn random_normal(inputs: Inputs) -> Answer {
    let n = usize::try_from(inputs.whole("n")?)
        .ok()
        .filter(|n| *n <= MOST_POINTS)
        .ok_or_else(|| format!("n: 0 to {MOST_POINTS} is allowed"))?;
    let mean = inputs.number("mean", 0.0)?;
    let deviation = inputs.number("stdev", 1.0)?;
    let mut noise = Noise::default();
    let values: Vec<f64> = (0..n).map(|_| mean + deviation * noise.normal()).collect();
    Ok(json!({"values": floats(&values)}))
}

fn config_number(inputs: Inputs) -> Answer {
    let default = inputs.needed("default")?;
    Ok(value(number(&inputs.0["json_value"], default)?))
}

/// A metric whose sides are drawn evenly from two ranges, judged and scored: twelve values a side, one every five seconds.
fn integration_uniform(inputs: Inputs) -> Answer {
    let mut noise = Noise::default();
    let mut draw = |field: &str| {
        let range = inputs.series(field)?;
        let [low, high] = range[..] else {
            return Err(format!(
                "{field}: a lowest and a highest value are expected"
            ));
        };
        Ok((0..12)
            .map(|_| low + (high - low) * noise.uniform())
            .collect::<Vec<f64>>())
    };
    let (control, experiment) = (draw("control_uniform")?, draw("experiment_uniform")?);
    let settings = settings(inputs, EffectSize::default())?;
    let judged = Classifier::default().judge(&control, &experiment, &settings);
    let groups = ["group".to_owned()];
    let scored = Scored {
        name: "metric",
        label: judged.label,
        critical: judged.critical,
        groups: &groups,
        muted: inputs.flag("muted")?,
        must_have_data: settings.must_have_data,
    };
    let score = score(&[scored], &BTreeMap::new(), Repairs::default()).summary;
    Ok(json!({
        "classification": judged.label.as_str(),
        "final_score": float(score),
        "passed": run::passed(score, inputs.optional("marginal")?, inputs.optional("passing")?),
    }))
}

fn rank_test(inputs: Inputs) -> Result<RankTest, String> {
    let (control, experiment) = sides(inputs)?;
    RankTest::new(&experiment, &control).ok_or_else(|| "a side has no values".to_owned())
}

/// The baseline's values and the canary's.
fn sides(inputs: Inputs) -> Result<(Vec<f64>, Vec<f64>), String> {
    Ok((inputs.series("control")?, inputs.series("experiment")?))
}

/// The inputs of one question. `null` is the same as nothing.
#[derive(Clone, Copy)]
struct Inputs<'a>(&'a Value);

impl<'a> Inputs<'a> {
    fn get(self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn optional(self, field: &str) -> Result<Option<f64>, String> {
        self.get(field)
            .map(|value| read(value).ok_or_else(|| format!("{field}: a number is expected")))
            .transpose()
    }

    fn number(self, field: &str, default: f64) -> Result<f64, String> {
        Ok(self.optional(field)?.unwrap_or(default))
    }

    fn needed(self, field: &str) -> Result<f64, String> {
        self.optional(field)?
            .ok_or_else(|| format!("{field}: missing; a number is expected"))
    }

    fn positive(self, field: &str, default: f64) -> Result<f64, String> {
        let number = self.number(field, default)?;
        if number > 0.0 {
            Ok(number)
        } else {
            Err(format!(
                "{field}: {number} is out of range; a number above 0 is allowed"
            ))
        }
    }

    fn confidence(self, default: f64) -> Result<f64, String> {
        let confidence = self.number("conf_level", default)?;
        if confidence > 0.0 && confidence < 1.0 {
            Ok(confidence)
        } else {
            Err(format!(
                "conf_level: {confidence} is out of range; a number between 0 and 1 is allowed"
            ))
        }
    }

    /// 0 when it is not there.
    fn whole(self, field: &str) -> Result<i64, String> {
        let Some(value) = self.get(field) else {
            return Ok(0);
        };
        let number = value.as_i64().or_else(|| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
            format!("{number:.0}").parse().ok()
        });
        number.ok_or_else(|| format!("{field}: a whole number is expected"))
    }

    fn flag(self, field: &str) -> Result<bool, String> {
        match self.get(field) {
            None => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| format!("{field}: true or false is expected")),
        }
    }

    /// Empty when it is not there.
    fn text(self, field: &str) -> Result<&'a str, String> {
        match self.get(field) {
            None => Ok(""),
            Some(value) => value
                .as_str()
                .ok_or_else(|| format!("{field}: a text is expected")),
        }
    }

    fn list(self, field: &str) -> Result<&'a [Value], String> {
        self.get(field)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .ok_or_else(|| format!("{field}: a list is expected"))
    }

    fn series(self, field: &str) -> Result<Vec<f64>, String> {
        let values = self.list(field)?.iter().enumerate();
        values
            .map(|(index, value)| match value {
                Value::Null => Ok(f64::NAN),
                value => read(value)
                    .ok_or_else(|| format!("{field}[{index}]: a number or \"NaN\" is expected")),
            })
            .collect()
    }
}

fn read(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

fn value(number: f64) -> Value {
    json!({"value": float(number)})
}

fn floats(numbers: &[f64]) -> Vec<Value> {
    numbers.iter().copied().map(float).collect()
}

fn float(number: f64) -> Value {
    if number.is_nan() {
        "NaN".into()
    } else if number == f64::INFINITY {
        "Infinity".into()
    } else if number == f64::NEG_INFINITY {
        "-Infinity".into()
    } else {
        number.into()
    }
}

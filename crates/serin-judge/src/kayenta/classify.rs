//! One metric: canary against baseline.

use serde::{Deserialize, Serialize};
pub use serin::request::Repairs;

use super::mann_whitney::{AllTied, Closeness, Interval, RankTest};
use super::noise::Noise;
use super::samples::{self, Fences, NanStrategy, OutlierStrategy, Summary};

/// What the judge says of a metric. The names are Kayenta's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Label {
    /// The canary is as good as the baseline, as far as the data say.
    Pass,
    /// The canary is higher than the metric allows.
    High,
    /// The canary is lower than the metric allows.
    Low,
    /// A side has no data. The score leaves the metric out, unless half of all metrics are so.
    Nodata,
    /// A side of a metric that must have data has none. It counts as one failure.
    NodataFailMetric,
    /// The comparison could not be made. The score leaves the metric out.
    Error,
}

impl Label {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::High => "High",
            Self::Low => "Low",
            Self::Nodata => "Nodata",
            Self::NodataFailMetric => "NodataFailMetric",
            Self::Error => "Error",
        }
    }

    /// The label of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Pass,
            Self::High,
            Self::Low,
            Self::Nodata,
            Self::NodataFailMetric,
            Self::Error,
        ]
        .into_iter()
        .find(|label| label.as_str() == name)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which way a metric may not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Higher is worse.
    Increase,
    /// Lower is worse.
    Decrease,
    /// Any change is worse.
    #[default]
    Either,
}

impl Direction {
    /// As a canary configuration spells it. What Kayenta does not know, it takes for `either`.
    pub fn from_kayenta(text: &str) -> Self {
        match text {
            "increase" => Self::Increase,
            "decrease" => Self::Decrease,
            _ => Self::Either,
        }
    }
}

/// How the size of a difference is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EffectMeasure {
    /// The canary's mean over the baseline's: 1 is no difference.
    #[default]
    MeanRatio,
    /// The probability that a canary value is above a baseline value: 0.5 is no difference.
    Cles,
}

impl EffectMeasure {
    /// As a canary configuration spells it. What Kayenta does not know, it takes for `meanRatio`.
    pub fn from_kayenta(text: &str) -> Self {
        match text {
            "cles" => Self::Cles,
            _ => Self::MeanRatio,
        }
    }

    /// The effect that is none, which is the default of every limit.
    pub fn no_effect(self) -> f64 {
        match self {
            Self::MeanRatio => 1.0,
            Self::Cles => 0.5,
        }
    }
}

/// How large a difference must be. A difference that cannot be measured is large enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectSize {
    /// In what the limits are.
    pub measure: EffectMeasure,
    /// At least this for `High`.
    pub allowed_increase: f64,
    /// At most this for `Low`.
    pub allowed_decrease: f64,
    /// At least this for a `High` that is critical.
    pub critical_increase: f64,
    /// At most this for a `Low` that is critical.
    pub critical_decrease: f64,
}

impl EffectSize {
    /// In this measure, with every difference large enough.
    pub fn of(measure: EffectMeasure) -> Self {
        let none = measure.no_effect();
        Self {
            measure,
            allowed_increase: none,
            allowed_decrease: none,
            critical_increase: none,
            critical_decrease: none,
        }
    }
}

impl Default for EffectSize {
    fn default() -> Self {
        Self::of(EffectMeasure::default())
    }
}

/// What becomes of outliers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outliers {
    /// Whether they are left out.
    pub strategy: OutlierStrategy,
    /// How many times the distance between the quartiles a value may lie beyond them; above 0.
    pub factor: f64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            strategy: OutlierStrategy::default(),
            factor: 3.0,
        }
    }
}

/// What a canary configuration says of one metric's analysis.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSettings {
    /// Which way it may not move.
    pub direction: Direction,
    /// What becomes of gaps.
    pub nan_strategy: NanStrategy,
    /// What becomes of outliers.
    pub outliers: Outliers,
    /// How large a difference must be.
    pub effect_size: EffectSize,
    /// Whether its failure alone makes the score 0.
    pub critical: bool,
    /// Whether it fails when it has no data.
    pub must_have_data: bool,
    /// Whether the score leaves it out.
    pub muted: bool,
}

/// How few points are too few for [`Repairs::few_points`]: below five, the interval is all that the values leave room for.
const ENOUGH_POINTS: usize = 5;

/// What the judge says of one metric, and from which numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The label.
    pub label: Label,
    /// Whether this alone makes the score 0.
    pub critical: bool,
    /// The canary's mean over the baseline's; NaN when one of them is 0, 1 when nothing was compared, `None` for an `Error`.
    pub deviation: Option<f64>,
    /// How far the canary is shifted; `None` when nothing was compared.
    pub interval: Option<Interval>,
    /// The effect in the metric's own measure; `None` when nothing was compared.
    pub effect: Option<f64>,
    /// The baseline's values, without gaps and outliers.
    pub control: Summary,
    /// The canary's values, without gaps and outliers.
    pub experiment: Summary,
}

/// The rule of one metric: Mann and Whitney's interval must clear a share of its own estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Classifier {
    /// With which probability the interval holds the shift, between 0 and 1.
    pub confidence: f64,
    /// Which share of the estimate the interval must clear, at least 0.
    pub tolerance: f64,
    /// What is repaired.
    pub repairs: Repairs,
}

impl Default for Classifier {
    /// The judge's. Kayenta has settings for both numbers and does not read them.
    fn default() -> Self {
        Self {
            confidence: 0.98,
            tolerance: 0.25,
            repairs: Repairs::default(),
        }
    }
}

impl Classifier {
    /// Judges one metric by its values, each side in the order of time, with NaN for gaps. The sides need not be of one length.
    ///
    /// The rules are those of `NetflixACAJudge-v1.0` at spinnaker/kayenta's commit a69573be; the first that fits decides.
    pub fn judge(&self, control: &[f64], experiment: &[f64], settings: &MetricSettings) -> Judged {
        let control = prepared(control, settings);
        let experiment = prepared(experiment, settings);
        let judged = |label| Judged {
            label,
            critical: false,
            deviation: Some(1.0),
            interval: None,
            effect: None,
            control: Summary::of(&control),
            experiment: Summary::of(&experiment),
        };

        let fewest = control.len().min(experiment.len());
        let too_few = self.repairs.few_points && fewest < ENOUGH_POINTS;
        if fewest == 0 && settings.nan_strategy == NanStrategy::Replace && !too_few {
            return judged(Label::Pass);
        }
        if fewest == 0 || too_few {
            return without_data(judged, settings);
        }
        if are_same(&control, &experiment)
            || samples::is_constant(control.iter().chain(&experiment).copied())
        {
            return judged(Label::Pass);
        }
        match self.compare(&control, &experiment, settings.effect_size.measure) {
            Ok(comparison) => Judged {
                deviation: Some(comparison.deviation),
                interval: Some(comparison.interval),
                effect: Some(comparison.effect),
                ..self.decide(&comparison, settings, judged)
            },
            Err(AllTied) => Judged {
                critical: self.repairs.errors_fail && settings.critical && settings.must_have_data,
                deviation: None,
                ..judged(Label::Error)
            },
        }
    }

    /// The numbers of a comparison. Each side has a value, and they are not all the same.
    fn compare(
        &self,
        control: &[f64],
        experiment: &[f64],
        measure: EffectMeasure,
    ) -> Result<Comparison, AllTied> {
        let related = if self.repairs.autocorrelation {
            samples::autocorrelation([control, experiment])
        } else {
            0.0
        };
        // Two constants have no spread to be judged against, so each gets a little.
        let noisy;
        let (control, experiment) = if samples::is_constant(control.iter().copied())
            && samples::is_constant(experiment.iter().copied())
        {
            let mut noise = Noise::default();
            noisy = (noise.around_each(control), noise.around_each(experiment));
            (noisy.0.as_slice(), noisy.1.as_slice())
        } else {
            (control, experiment)
        };
        let test = RankTest::new(experiment, control)
            .ok_or(AllTied)?
            .deflated(((1.0 + related) / (1.0 - related)).sqrt())
            .to(if self.repairs.scale_free {
                Closeness::ScaleFree
            } else {
                Closeness::Kayenta
            });
        let deviation = mean_ratio(control, experiment);
        Ok(Comparison {
            interval: test.interval(self.confidence)?,
            deviation,
            effect: match measure {
                EffectMeasure::MeanRatio => deviation,
                EffectMeasure::Cles => test.common_language_effect_size(),
            },
        })
    }

    fn decide(
        &self,
        comparison: &Comparison,
        settings: &MetricSettings,
        judged: impl Fn(Label) -> Judged,
    ) -> Judged {
        let Interval {
            low,
            high,
            estimate,
        } = comparison.interval;
        let bound = self.tolerance * estimate.abs();
        let limits = &settings.effect_size;
        // An effect that is not a number, because a mean is 0, is large enough.
        let at_least = |limit| comparison.effect.is_nan() || comparison.effect >= limit;
        let at_most = |limit| comparison.effect.is_nan() || comparison.effect <= limit;
        if settings.direction != Direction::Decrease
            && low > bound
            && at_least(limits.allowed_increase)
        {
            Judged {
                critical: settings.critical && at_least(limits.critical_increase),
                ..judged(Label::High)
            }
        } else if settings.direction != Direction::Increase
            && high < -bound
            && at_most(limits.allowed_decrease)
        {
            Judged {
                critical: settings.critical && at_most(limits.critical_decrease),
                ..judged(Label::Low)
            }
        } else {
            judged(Label::Pass)
        }
    }
}

/// What the comparison of two sides gives.
struct Comparison {
    interval: Interval,
    deviation: f64,
    effect: f64,
}

fn without_data(judged: impl Fn(Label) -> Judged, settings: &MetricSettings) -> Judged {
    if settings.must_have_data && !settings.critical {
        judged(Label::NodataFailMetric)
    } else {
        Judged {
            critical: settings.critical,
            ..judged(Label::Nodata)
        }
    }
}

/// One side without gaps and outliers.
fn prepared(values: &[f64], settings: &MetricSettings) -> Vec<f64> {
    let mut values = settings.nan_strategy.apply(values);
    if settings.outliers.strategy == OutlierStrategy::Remove {
        let fences = Fences::of_judge(&values, settings.outliers.factor);
        values.retain(|value| !fences.exclude(*value));
    }
    values
}

/// Whether both sides have the same values, in whatever order.
fn are_same(control: &[f64], experiment: &[f64]) -> bool {
    control.len() == experiment.len() && {
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_unstable_by(f64::total_cmp);
            values
        };
        sorted(control) == sorted(experiment)
    }
}

/// The canary's mean over the baseline's; NaN when one of them is 0.
pub fn mean_ratio(control: &[f64], experiment: &[f64]) -> f64 {
    let (control, experiment) = (samples::mean(control), samples::mean(experiment));
    if control == 0.0 || experiment == 0.0 {
        f64::NAN
    } else {
        experiment / control
    }
}

/// Kayenta's benchmark rule, which its judge does not use: the higher mean is higher, however small the difference. The values
/// come without gaps.
pub fn compare_means(control: &[f64], experiment: &[f64], settings: &MetricSettings) -> Judged {
    let judged = |label| Judged {
        label,
        critical: false,
        deviation: Some(1.0),
        interval: None,
        effect: None,
        control: Summary::of(control),
        experiment: Summary::of(experiment),
    };
    if control.is_empty() || experiment.is_empty() {
        return match settings.nan_strategy {
            NanStrategy::Replace => judged(Label::Pass),
            NanStrategy::Remove => without_data(judged, settings),
        };
    }
    let (control_mean, experiment_mean) = (samples::mean(control), samples::mean(experiment));
    let differs = |label| Judged {
        critical: settings.critical,
        deviation: Some(experiment_mean / control_mean),
        ..judged(label)
    };
    if settings.direction != Direction::Decrease && experiment_mean > control_mean {
        differs(Label::High)
    } else if settings.direction != Direction::Increase && experiment_mean < control_mean {
        differs(Label::Low)
    } else {
        judged(Label::Pass)
    }
}

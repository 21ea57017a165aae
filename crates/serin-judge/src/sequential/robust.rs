//! The rate-ratio test made safe for services as they are: noisy from minute to minute, a little different from task to
//! task, cold at the start, and broken only after a while.
//!
//! - Every minute's evidence is divided by a factor that grows with the noise (the details are with `tempering`).
//! - The evidence is an average over several starts, of which each counts only the minutes from its own on and is 1
//!   before. The list of starts is fixed beforehand, so the average is an e-value too. It finds a regression that begins
//!   late without having to make up for the good minutes before it.
//! - The first minutes after new tasks have started are not counted.
//!
//! With a spread, the margin is not a bound but a distribution: the logarithm of the lasting ratio is taken as normal
//! around the margin's with that standard deviation, and the average over the alternatives is divided by the average
//! over that distribution (a Bayes factor). It sees smaller regressions. Its guarantee holds for each start by itself and
//! on average over such services, and is approximate for the average over several starts.

use super::counts::{Minute, Pair};
use super::noise::{Learned, Noise, tempering};
use super::ratio::{Alternatives, log_sum};

/// The starts over which evidence is averaged: minutes, counted from 0, with weights that sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Starts {
    points: Vec<(usize, f64)>,
}

impl Starts {
    /// The first minute only.
    pub fn first() -> Self {
        Self {
            points: vec![(0, 0.0)],
        }
    }

    /// Half the weight on the first minute and the other half evenly on `later` ones.
    pub fn and_later(later: impl IntoIterator<Item = usize>) -> Self {
        let later: Vec<usize> = later.into_iter().filter(|start| *start > 0).collect();
        if later.is_empty() {
            return Self::first();
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of starts")]
        let each = (0.5 / later.len() as f64).ln();
        let points = std::iter::once((0, 0.5_f64.ln()))
            .chain(later.into_iter().map(|start| (start, each)))
            .collect();
        Self { points }
    }

    /// For a deployment planned to take this many minutes: every fifth minute, or fewer for more than an hour.
    pub fn planned(minutes: u32) -> Self {
        let step = minutes.div_ceil(12).max(5);
        Self::and_later(
            (1..12)
                .map(|k| k * step)
                .take_while(|start| *start < minutes)
                .map(|start| start as usize),
        )
    }
}

/// The settings of the robust test.
#[derive(Debug, Clone, PartialEq)]
pub struct Robust {
    /// The largest ratio of the canary's rate to stable's that is no reason to roll back, at least 1.
    pub margin: f64,
    /// What the test looks for.
    pub alternatives: Alternatives,
    /// Standard deviation of the lasting logarithmic ratio; 0 takes the margin as a bound.
    pub spread: f64,
    /// The minute noise; `None` for the plain test, which takes counting for the only noise.
    pub noise: Option<Noise>,
    /// The most that the logarithm of the evidence may grow by in one minute, so that one wild minute is not enough;
    /// infinity for no bound. Less than a factor of an e-value is one too.
    pub most_per_minute: f64,
    /// Minutes not counted after new tasks have started.
    pub skip: usize,
    /// The starts.
    pub starts: Starts,
}

/// Positions and weights of the Gauss-Hermite rule with 15 points for a standard normal distribution (Abramowitz and
/// Stegun 1964, 25.4.46): the points at or above 0, the others mirror them.
pub(super) const NORMAL: [(f64, f64); 8] = [
    (0.0, 0.318_259_518_259_518_26),
    (0.799_129_068_324_548, 0.232_462_293_609_732_22),
    (1.606_710_069_028_729_7, 0.089_417_795_399_844_4),
    (2.432_436_827_009_758, 0.017_365_774_492_137_605),
    (3.289_082_424_398_766_4, 0.001_567_357_503_549_956_2),
    (4.196_207_711_269_015_5, 5.642_146_405_189_017e-5),
    (5.190_093_591_304_781, 5.975_419_597_920_605e-7),
    (6.363_947_888_829_839, 8.589_649_899_633_27e-10),
];

impl Robust {
    /// The natural logarithm of the e-value after each minute, with no new tasks after the first minute.
    pub fn log_e(&self, minutes: &[Minute]) -> Vec<f64> {
        let mut process = Process::new(self);
        minutes
            .iter()
            .enumerate()
            .map(|(at, minute)| process.add(minute.pair().as_ref(), at >= self.skip))
            .collect()
    }
}

/// How far any product may rise over the leader of any start, or one start over another, as a logarithm, before the products
/// are computed anew.
const RISE: f64 = 20.0;
/// How far a leader may fall before that; an f64 reaches e^-708.
const FALL: f64 = 300.0;
/// A product so far below its start's leader, or a start so far below the first, is taken for 0 until then. When it has risen by
/// [`RISE`], it is still too small to change an f64.
const LOST: f64 = -60.0;

/// For each start that has come and each point, the evidence; relative to a scale of the start, and that to `top`.
#[derive(Debug, Clone, Default)]
struct Products {
    values: Vec<f64>,
    scales: Vec<f64>,
    /// The weight of the starts that are to come, relative to `top`.
    to_come: f64,
    /// A logarithm.
    top: f64,
    /// The logarithms by which the newest minute multiplies each point.
    factors: Vec<f64>,
    /// The largest product of each start when they were computed.
    leaders: Vec<usize>,
    /// How far any product may have risen over a leader since then.
    rise: f64,
    /// How far a leader may have fallen since then.
    fall: f64,
    /// Whether a start has come since then.
    stale: bool,
}

impl Products {
    /// Notes how far the newest minute moves the products.
    fn moved(&mut self, most_gained: f64) {
        let of_leaders = self.leaders.iter().map(|leader| self.factors[*leader]);
        let least = of_leaders.fold(f64::INFINITY, f64::min);
        if least.is_finite() {
            // The first may be what has not begun, which does not move.
            self.rise += most_gained - least.min(0.0);
            self.fall += (-least).max(0.0);
        }
        self.stale |= self.rise > RISE || self.fall > FALL;
    }

    fn multiply(&mut self, width: usize) {
        for factor in &mut self.factors {
            *factor = factor.exp();
        }
        for values in self.values.chunks_mut(width) {
            for (value, factor) in values.iter_mut().zip(&self.factors) {
                *value *= factor;
            }
        }
    }

    /// The logarithm of the sum of all.
    fn log_sum(&self, width: usize) -> f64 {
        let begun = self.scales.iter().zip(self.values.chunks(width));
        let sum: f64 = begun
            .filter(|(scale, _)| **scale > 0.0)
            .map(|(scale, values)| scale * values.iter().sum::<f64>())
            .sum();
        self.top + (sum + self.to_come).ln()
    }
}

/// The test while it runs.
#[derive(Debug, Clone)]
pub(super) struct Process<'a> {
    settings: &'a Robust,
    learned: Option<Learned>,
    /// For each alternative, its ratio, `ln(ratio / margin)` and the logarithm of its weight; then the null's, if any.
    points: Vec<Point>,
    alternatives: usize,
    /// What each point has gathered from the first minute on.
    gathered: Vec<f64>,
    /// For each start that has come, what each point had gathered then.
    before: Vec<f64>,
    begun: usize,
    /// The evidence itself, so that a minute multiplies it: faster than an exponential for each start and point.
    products: Products,
    minute: usize,
    log_e: f64,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    ratio: f64,
    log_over_margin: f64,
    log_weight: f64,
}

impl<'a> Process<'a> {
    pub(super) fn new(settings: &'a Robust) -> Self {
        let point = |over_margin: f64, log_weight: f64| Point {
            ratio: settings.margin * over_margin,
            log_over_margin: over_margin.ln(),
            log_weight,
        };
        let mut points: Vec<Point> = settings
            .alternatives
            .points()
            .iter()
            .map(|(over_margin, log_weight)| point(*over_margin, *log_weight))
            .collect();
        let alternatives = points.len();
        if settings.spread > 0.0 {
            for (position, weight) in NORMAL {
                let weight: f64 = weight;
                for sign in if position > 0.0 {
                    &[1.0, -1.0][..]
                } else {
                    &[1.0]
                } {
                    points.push(point(
                        (sign * settings.spread * position).exp(),
                        weight.ln(),
                    ));
                }
            }
        }
        let starts = settings.starts.points.len();
        Self {
            settings,
            learned: settings.noise.as_ref().map(Learned::new),
            alternatives,
            gathered: vec![0.0; points.len()],
            before: Vec::with_capacity(points.len() * starts),
            products: Products::default(),
            points,
            begun: 0,
            minute: 0,
            log_e: 0.0,
        }
    }

    /// The factor by which the evidence of `pair`, the next minute, is divided.
    pub(super) fn tempering(&self, pair: &Pair) -> f64 {
        self.learned.as_ref().map_or(1.0, |learned| {
            tempering(pair, self.settings.margin, learned.variance())
        })
    }

    /// Takes the next minute in and gives the logarithm of the e-value after it. A minute that does not count, or has no
    /// data, leaves the evidence as it is.
    pub(super) fn add(&mut self, pair: Option<&Pair>, counts: bool) -> f64 {
        while let Some((start, _)) = self.settings.starts.points.get(self.begun)
            && *start <= self.minute
        {
            self.before.extend_from_slice(&self.gathered);
            self.products.stale = true;
            self.begun += 1;
        }
        self.minute += 1;
        if !counts {
            // A difference across a gap is not one of neighbours.
            if let Some(learned) = &mut self.learned {
                learned.learn(None);
            }
            return self.log_e;
        }
        if let Some(pair) = pair {
            let factor = self.tempering(pair).recip();
            let (canary_errors, errors) = (pair.canary_errors * factor, pair.errors() * factor);
            let most = self.settings.most_per_minute;
            let at_margin = self.settings.margin * pair.canary + pair.stable;
            if errors > 0.0 {
                self.products.factors.clear();
                let mut most_gained = f64::NEG_INFINITY;
                for (gathered, point) in self.gathered.iter_mut().zip(&self.points) {
                    let quotient = (point.ratio * pair.canary + pair.stable) / at_margin;
                    let gained = canary_errors * point.log_over_margin - errors * quotient.ln();
                    let gained = gained.min(most);
                    *gathered += gained;
                    self.products.factors.push(gained);
                    most_gained = most_gained.max(gained);
                }
                self.products.moved(most_gained);
                self.log_e = self.average();
            }
        }
        if let Some(learned) = &mut self.learned {
            learned.learn(pair);
        }
        self.log_e
    }

    /// The logarithm of the average over starts and alternatives.
    fn average(&mut self) -> f64 {
        if self.points.len() > self.alternatives {
            let to_come = &self.settings.starts.points[self.begun..];
            let begun = (0..self.begun).map(|start| self.part(start));
            return log_sum(begun.chain(to_come.iter().map(|start| start.1)));
        }
        if self.products.stale {
            self.anew();
        } else {
            self.products.multiply(self.points.len());
        }
        self.products.log_sum(self.points.len())
    }

    /// Computes the products from the logarithms.
    fn anew(&mut self) {
        let width = self.points.len();
        let starts = &self.settings.starts.points;
        let products = &mut self.products;
        products.values.clear();
        products.scales.clear();
        let (begun, to_come) = starts.split_at(self.begun);
        // What has not begun is 1 and counts with its weight.
        let to_come: f64 = to_come.iter().map(|start| start.1.exp()).sum();
        let mut top = to_come.ln();
        products.leaders.clear();
        for ((_, log_weight), before) in begun.iter().zip(self.before.chunks(width)) {
            let mut leader = (0, f64::NEG_INFINITY);
            let all = self.points.iter().zip(&self.gathered).zip(before);
            for (at, ((point, now), before)) in all.enumerate() {
                let value = now - before + point.log_weight;
                if value > leader.1 {
                    leader = (at, value);
                }
                products.values.push(value);
            }
            products.leaders.push(leader.0);
            products.scales.push(log_weight + leader.1);
            top = top.max(log_weight + leader.1);
        }
        let starts = products.values.chunks_mut(width).zip(&products.leaders);
        for (scale, (values, leader)) in products.scales.iter_mut().zip(starts) {
            let over = *scale - top;
            let kept = over > LOST;
            *scale = if kept { over.exp() } else { 0.0 };
            // The values are relative to the leader, whose size is in the scale.
            let leader = values[*leader];
            for value in values {
                let below = *value - leader;
                *value = if kept && below > LOST {
                    below.exp()
                } else {
                    0.0
                };
            }
        }
        products.to_come = (to_come.ln() - top).exp();
        products.top = top;
        products.rise = 0.0;
        products.fall = 0.0;
        products.stale = false;
    }

    /// The logarithm of one start's part of the e-value.
    fn part(&self, start: usize) -> f64 {
        let width = self.points.len();
        let before = &self.before[start * width..(start + 1) * width];
        let gathered = |from: usize, to: usize| {
            let now = self.points[from..to].iter().zip(&self.gathered[from..to]);
            log_sum(
                now.zip(&before[from..to])
                    .map(|((point, now), before)| now - before + point.log_weight),
            )
        };
        let against = if width > self.alternatives {
            gathered(self.alternatives, width)
        } else {
            0.0
        };
        self.settings.starts.points[start].1 + gathered(0, self.alternatives) - against
    }

    /// The start with the largest share of the e-value: its minute, the logarithm of its part, and its weight.
    pub(super) fn strongest(&self) -> (usize, f64, f64) {
        let of = |start: usize| {
            let (minute, log_weight) = self.settings.starts.points[start];
            (minute, self.part(start), log_weight.exp())
        };
        let parts = (0..self.begun).map(of);
        parts
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((0, 0.0, 1.0))
    }
}

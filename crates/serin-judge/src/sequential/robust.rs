//! The rate-ratio test made safe for services as they are: noisy from minute to minute, a little different from task to
//! task, cold at the start, and broken only after a while.
//!
//! - Every minute's evidence is divided by a factor that grows with the noise (the details are with `tempering`), and bent where
//!   noise is wilder than a normal distribution has it.
//! - The evidence is an average over several starts, of which each counts only the minutes from its own on and is 1
//!   before. The list of starts is fixed beforehand, so the average is an e-value too. It finds a regression that begins
//!   late without having to make up for the good minutes before it.
//! - The first minutes after new tasks have started are not counted.
//! - What the evidence is against is [`Null`]: the margin, or a distribution of what is no reason to roll back.

use super::counts::{Minute, Pair};
use super::noise::{Learned, Noise, tempering};
use super::null::{Mostly, Null};
use super::ratio::{Alternatives, log_add, log_sum};

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
    /// How lasting ratios up to the margin are described.
    pub null: Null,
    /// The minute noise; `None` for the plain test, which takes counting for the only noise.
    pub noise: Option<Noise>,
    /// The most that the logarithm of the evidence may grow by in one minute, so that one wild minute is not enough;
    /// infinity for no bound. Less than a factor of an e-value is one too.
    pub most_per_minute: f64,
    /// Where the minute noise ceases to be normal, as a logarithm of evidence: growth `g` of a minute's evidence counts as
    /// `t (sqrt(1 + 2 g / t) - 1)`, the pseudo-Huber loss (Hartley and Zisserman 2003). For a deviation of `z` standard
    /// deviations, whose `g` is `z^2 / 2`, that is about `z^2 / 2` up to `z = sqrt(t)` and then a line: the evidence of noise
    /// with an exponential tail. It is never more than `g`, so an e-value stays one. Where counting hides the noise `t` is
    /// larger in proportion. Infinity for normal noise.
    pub tail: f64,
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

/// The test while it runs.
#[derive(Debug, Clone)]
pub(super) struct Process<'a> {
    settings: &'a Robust,
    learned: Option<Learned>,
    null: Option<Mostly>,
    /// For each alternative, its ratio, `ln(ratio / margin)` and the logarithm of its weight; then the null's, if any.
    points: Vec<Point>,
    alternatives: usize,
    /// What each point has gathered from the first minute on.
    gathered: Vec<f64>,
    /// For each start that has come, what each point had gathered then.
    before: Vec<f64>,
    begun: usize,
    /// For each alternative, the logarithm of its evidence summed over the starts that have come, with all weights.
    ///
    /// A minute adds to the logarithm and a start adds its weight to the sum, so that the starts need not be kept apart (the
    /// recursion of Shiryaev and Roberts for the detection of changes: Roberts 1966).
    sums: Vec<f64>,
    /// The logarithm of the weight of the starts that are to come.
    to_come: f64,
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
        if let Null::Around(spread) = settings.null
            && spread > 0.0
        {
            for (position, weight) in NORMAL {
                let weight: f64 = weight;
                for sign in if position > 0.0 {
                    &[1.0, -1.0][..]
                } else {
                    &[1.0]
                } {
                    points.push(point((sign * spread * position).exp(), weight.ln()));
                }
            }
        }
        let starts = settings.starts.points.len();
        Self {
            settings,
            learned: settings.noise.as_ref().map(Learned::new),
            null: (settings.null == Null::Within).then(|| Mostly::new(settings.margin)),
            alternatives,
            gathered: vec![0.0; points.len()],
            before: Vec::with_capacity(points.len() * starts),
            sums: vec![f64::NEG_INFINITY; alternatives],
            to_come: 0.0,
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

    /// The noise that is assumed of the next minute, as a variance.
    pub(super) fn variance(&self) -> f64 {
        self.learned.as_ref().map_or(0.0, Learned::variance)
    }

    /// [`Robust::tail`] in a minute like `pair`; `None` where it does not matter.
    ///
    /// How much of what moves the canary's errors is noise and not counting is asked of stable's errors alone, so that more
    /// errors of the canary are never less evidence.
    fn tail(&self, pair: &Pair) -> Option<f64> {
        let learned = self.learned.as_ref()?;
        let fair = Pair {
            canary_errors: self.settings.margin * pair.stable_alike(),
            ..*pair
        };
        let noise = 1.0 - tempering(&fair, self.settings.margin, learned.variance()).recip();
        let tail = self.settings.tail / noise;
        tail.is_finite().then_some(tail)
    }

    /// Takes the next minute in and gives the logarithm of the e-value after it. A minute that does not count, or has no
    /// data, leaves the evidence as it is.
    pub(super) fn add(&mut self, pair: Option<&Pair>, counts: bool) -> f64 {
        while let Some((start, _)) = self.settings.starts.points.get(self.begun)
            && *start <= self.minute
        {
            self.before.extend_from_slice(&self.gathered);
            self.begin();
        }
        self.minute += 1;
        if !counts {
            if let Some(learned) = &mut self.learned {
                learned.learn_uncounted(pair);
            }
            return self.log_e;
        }
        if let Some(pair) = pair {
            let factor = self.tempering(pair).recip();
            let (canary_errors, errors) = (pair.canary_errors * factor, pair.errors() * factor);
            let most = self.settings.most_per_minute;
            let at_margin = self.settings.margin * pair.canary + pair.stable;
            if errors > 0.0 {
                let null = self.null.as_mut();
                let moved = null.map_or(0.0, |null| null.add(pair, canary_errors, errors));
                let tail = self.tail(pair);
                let mut sums = self.sums.iter_mut();
                for (gathered, point) in self.gathered.iter_mut().zip(&self.points) {
                    let quotient = (point.ratio * pair.canary + pair.stable) / at_margin;
                    let gained = canary_errors * point.log_over_margin - errors * quotient.ln();
                    let over = gained - moved;
                    let gained = match tail {
                        Some(tail) if over > 0.0 => tail * ((1.0 + 2.0 * over / tail).sqrt() - 1.0),
                        _ => over,
                    };
                    let gained = gained.min(most);
                    *gathered += gained;
                    if let Some(sum) = sums.next() {
                        *sum += gained;
                    }
                }
                self.log_e = self.average();
            }
        }
        if let Some(learned) = &mut self.learned {
            learned.learn(pair);
        }
        self.log_e
    }

    /// The next start comes.
    fn begin(&mut self) {
        let log_weight = self.settings.starts.points[self.begun].1;
        self.begun += 1;
        for (sum, point) in self.sums.iter_mut().zip(&self.points) {
            *sum = log_add(*sum, log_weight + point.log_weight);
        }
        // Anew, so that nothing is left of it after the last.
        let to_come = &self.settings.starts.points[self.begun..];
        self.to_come = log_sum(to_come.iter().map(|start| start.1));
    }

    /// The logarithm of the average over starts and alternatives.
    fn average(&self) -> f64 {
        if self.points.len() > self.alternatives {
            let to_come = &self.settings.starts.points[self.begun..];
            let begun = (0..self.begun).map(|start| self.part(start));
            return log_sum(begun.chain(to_come.iter().map(|start| start.1)));
        }
        // What has not begun is 1 and counts with its weight.
        log_sum(self.sums.iter().copied().chain([self.to_come]))
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

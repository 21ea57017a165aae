//! The confidence sequence of the ratio: which ratios the counts do not refute, however often one looks.
//!
//! For every ratio `m` the likelihood of the counts averaged over a normal distribution of the logarithmic ratio, divided
//! by their likelihood at `m`, is an e-value if `m` is true (Robbins 1970; Lindon and Malek 2022 for counts). The ratios
//! at which it stays below `1 / alpha` are the interval. Each minute enters with its own split of the traffic and its own
//! tempering, so the interval holds while the split changes and allows for noise.

use super::counts::Pair;
use super::robust::NORMAL;

/// Standard deviation of the logarithmic ratio in the average: ratios from a twentieth to twenty are plausible.
const PRIOR: f64 = 1.5;
/// Minutes whose logarithmic split differs by less than this are added up; the interval is widened by half of it.
const SAME_SPLIT: f64 = 0.04;
/// Logarithmic ratios further out are taken for infinite.
const FAR: f64 = 20.0;

/// Counts with the same split of the traffic, tempered.
#[derive(Debug, Clone, Copy)]
struct Group {
    split: f64,
    /// `exp(-split)`, stable's requests over the canary's.
    stable_over: f64,
    canary: f64,
    all: f64,
}

/// Gathers minutes for the interval.
#[derive(Debug, Clone, Default)]
pub(super) struct Confidence {
    groups: Vec<Group>,
}

impl Confidence {
    /// A minute whose evidence is divided by `tempering`.
    pub(super) fn add(&mut self, pair: &Pair, tempering: f64) {
        if pair.errors() <= 0.0 {
            return;
        }
        let split = ((pair.canary / pair.stable).ln() / SAME_SPLIT).round() * SAME_SPLIT;
        let (canary, all) = (pair.canary_errors / tempering, pair.errors() / tempering);
        // Neighbours mostly have the same split, so the search begins at the newest group.
        let same = |group: &&mut Group| (group.split - split).abs() < SAME_SPLIT / 2.0;
        if let Some(group) = self.groups.iter_mut().rev().find(same) {
            group.canary += canary;
            group.all += all;
        } else {
            self.groups.push(Group {
                split,
                stable_over: (-split).exp(),
                canary,
                all,
            });
        }
    }

    /// The logarithmic likelihood of the ratio `exp(at)`.
    fn likelihood(&self, at: f64) -> f64 {
        let inverse = (-at).exp();
        let of = |group: &Group| {
            // x ln q + (n - x) ln(1 - q), where ln(1 - q) = ln q - odds.
            let good = (group.all - group.canary) * (at + group.split);
            -group.all * (1.0 + inverse * group.stable_over).ln() - good
        };
        self.groups.iter().map(of).sum()
    }

    /// Its slope and its negative curvature.
    fn slope(&self, at: f64) -> (f64, f64) {
        let inverse = (-at).exp();
        let (mut slope, mut curve) = (0.0, 0.0);
        for group in &self.groups {
            let share = 1.0 / (1.0 + inverse * group.stable_over);
            slope += group.canary - group.all * share;
            curve += group.all * share * (1.0 - share);
        }
        (slope, curve)
    }

    /// The ratio's interval at `1 - alpha`: from and to; `None` where nothing bounds it.
    pub(super) fn interval(&self, alpha: f64) -> (Option<f64>, Option<f64>) {
        let all: f64 = self.groups.iter().map(|group| group.all).sum();
        let canary: f64 = self.groups.iter().map(|group| group.canary).sum();
        if all <= 0.0 {
            return (None, None);
        }
        // The largest value of likelihood times prior; both are concave, so Newton's steps, kept short, find it.
        let precision = 1.0 / (PRIOR * PRIOR);
        let mut mode = 0.0_f64;
        for _ in 0..30 {
            let (slope, curve) = self.slope(mode);
            let step = ((slope - mode * precision) / (curve + precision)).clamp(-2.0, 2.0);
            mode += step;
            if step.abs() < 1e-4 {
                break;
            }
        }
        let (_, curve) = self.slope(mode);
        let width = (curve + precision).sqrt().recip();
        let average = self.average(mode, width, precision);
        let least = average + alpha.ln();
        let edge = |direction: f64| self.edge(mode, direction * width, least);
        let from = (canary > 0.0).then(|| edge(-1.0)).filter(|at| *at > -FAR);
        let to = (all > canary).then(|| edge(1.0)).filter(|at| *at < FAR);
        let widen = SAME_SPLIT / 2.0;
        (
            from.map(|at| (at - widen).exp()),
            to.map(|at| (at + widen).exp()),
        )
    }

    /// The logarithm of the average likelihood, by the Gauss-Hermite rule around the mode.
    fn average(&self, mode: f64, width: f64, precision: f64) -> f64 {
        let mut terms = [f64::NEG_INFINITY; 15];
        let mut points = terms.iter_mut();
        for (position, weight) in NORMAL {
            for sign in if position > 0.0 {
                &[1.0, -1.0][..]
            } else {
                &[1.0]
            } {
                let at = mode + sign * position * width;
                let log =
                    self.likelihood(at) - at * at * precision / 2.0 + position * position / 2.0;
                if let Some(term) = points.next() {
                    *term = log + f64::ln(weight);
                }
            }
        }
        super::ratio::log_sum(terms.iter().copied()) + (width / PRIOR).ln()
    }

    /// Where the likelihood falls to `least` on the way from `mode` in steps that grow from `step`.
    fn edge(&self, mode: f64, step: f64, least: f64) -> f64 {
        let (mut inside, mut step) = (mode, step * 2.0);
        let mut outside = mode + step;
        while self.likelihood(outside) > least && outside.abs() < FAR {
            inside = outside;
            step *= 1.6;
            outside += step;
        }
        // The likelihood is concave: Newton's steps from outside never overshoot, and need few.
        for _ in 0..20 {
            let off = least - self.likelihood(outside);
            if off <= 1e-7 * (1.0 + least.abs()) {
                break;
            }
            let next = outside + off / self.slope(outside).0;
            outside = if (next - inside) * (next - outside) < 0.0 {
                next
            } else {
                f64::midpoint(inside, outside)
            };
        }
        outside
    }
}

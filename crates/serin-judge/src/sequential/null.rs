//! What a canary may be that is no reason to roll back: the null hypothesis of the robust test.

use super::counts::Pair;
use super::ratio::log_sum;

/// How a lasting ratio of the canary's rate to stable's that is no reason to roll back is described.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Null {
    /// Any ratio up to the margin. The test's promise holds at each of them, most tightly at the margin itself.
    Bound,
    /// Normal around the margin's logarithm with this standard deviation, for each start anew. The promise holds for each
    /// start by itself and on average over such services, and is approximate for the average over several starts.
    Around(f64),
    /// Any ratio up to the margin, and mostly one near 1: the logarithm is above 0 like half of a normal distribution, of which
    /// 97 percent lie below the margin.
    ///
    /// The evidence is the likelihood averaged over what is looked for, divided by the likelihood averaged over this
    /// distribution: a Bayes factor, whose mean under that average is 1 (Grünwald, de Heide and Koolen 2019, arXiv
    /// 1906.07801). The divisor is one for all starts, because the difference between two groups of tasks does not change
    /// when a regression begins; so what is known of it from the minutes before sharpens the test for a late one.
    ///
    /// The promise holds on average over services whose lasting ratios are like that. A canary exactly like stable, or
    /// better, has less evidence against it than that average. For one that is at the margin for ever the promise is
    /// not proved; a test measures that it is kept.
    Within,
}

/// For [`Null::Within`]: the logarithm of the ratio as a part of the margin's, and the probability of what is nearer to it than
/// to its neighbours, by a normal distribution whose standard deviation is `ln(margin) / 2.2314`: 0.1 for a margin of 1.25.
const HALF_NORMAL: [(f64, f64); 4] = [
    (0.0, 0.290_1),
    (1.0 / 3.0, 0.445_5),
    (2.0 / 3.0, 0.201_5),
    (1.0, 0.062_9),
];

/// [`Null::Within`] while minutes come in: how likely each of its ratios is by now.
#[derive(Debug, Clone)]
pub(super) struct Mostly {
    /// Ratio, and its logarithm over the margin's; the last is the margin, at which nothing is ever gained.
    points: [(f64, f64); HALF_NORMAL.len()],
    /// The logarithm of each one's likelihood over the margin's, times its probability; and that of their sum.
    likelihoods: [f64; HALF_NORMAL.len()],
    sum: f64,
}

impl Mostly {
    pub(super) fn new(margin: f64) -> Self {
        Self {
            points: HALF_NORMAL.map(|(part, _)| {
                let log_over_margin = margin.ln() * (part - 1.0);
                (margin * log_over_margin.exp(), log_over_margin)
            }),
            likelihoods: HALF_NORMAL.map(|(_, probability)| probability.ln()),
            sum: 0.0,
        }
    }

    /// Takes a minute in, whose errors are given as tempered; gives the logarithm of its average likelihood over that at the
    /// margin.
    pub(super) fn add(&mut self, pair: &Pair, canary_errors: f64, errors: f64) -> f64 {
        let (margin, _) = self.points[HALF_NORMAL.len() - 1];
        let at_margin = margin * pair.canary + pair.stable;
        let below = self.points.iter().zip(&mut self.likelihoods);
        for ((ratio, log_over_margin), likelihood) in below.take(HALF_NORMAL.len() - 1) {
            let quotient = (ratio * pair.canary + pair.stable) / at_margin;
            *likelihood += canary_errors * log_over_margin - errors * quotient.ln();
        }
        let before = std::mem::replace(&mut self.sum, log_sum(self.likelihoods.iter().copied()));
        self.sum - before
    }
}

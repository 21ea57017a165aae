//! The published test for counts with a fixed split of the traffic, and its confidence sequence.
//!
//! Of `n` errors, `x` fell to a canary that gets the share `rho` of the traffic. Under equal rates every error falls to
//! the canary with probability `rho`; averaged over a Beta(`k rho`, `k (1 - rho)`) distribution of that probability, the
//! likelihood ratio is an e-value (Lindon and Malek 2022, arXiv 2011.03567). It is two-sided and takes counting for the
//! only noise; the comparison of a deployment uses the robust test instead.

use statrs::function::beta::ln_beta;

use super::counts::number;

/// The test after `errors` errors, of which `canary` fell to the canary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaBinomial {
    /// Errors of the canary.
    pub canary: u64,
    /// Errors of both sides.
    pub errors: u64,
    /// The canary's share of the requests, between 0 and 1, both excluded.
    pub share: f64,
    /// How many errors the assumption of equal rates weighs as much as, above 0. Small finds large differences sooner.
    pub concentration: f64,
}

impl BetaBinomial {
    /// The natural logarithm of the e-value against equal rates.
    pub fn log_e(&self) -> f64 {
        self.log_e_against(self.share.ln(), (-self.share).ln_1p())
    }

    /// All logarithms of the ratio of the canary's rate to stable's that are not refuted at `alpha`, however often one
    /// looks: from and to; `None` where nothing bounds it.
    pub fn confidence(&self, alpha: f64) -> (Option<f64>, Option<f64>) {
        let threshold = -alpha.ln();
        let odds = (self.share / (1.0 - self.share)).ln();
        // By logarithms, because a share close to 1 would round to 1.
        let refuted = |ratio: f64| {
            let (to, fro) = (ratio + odds, -(ratio + odds));
            self.log_e_against(-fro.exp().ln_1p(), -to.exp().ln_1p()) >= threshold
        };
        let (x, y) = self.errors();
        // Where the likelihood is largest; never refuted, because an average is below the largest.
        let centre = if x > 0.0 && y > 0.0 {
            (x / y).ln() - odds
        } else if y > 0.0 {
            -FAR
        } else {
            FAR
        };
        (
            (x > 0.0).then(|| edge(centre, -FAR, &refuted)),
            (y > 0.0).then(|| edge(centre, FAR, &refuted)),
        )
    }

    /// The errors of both sides.
    fn errors(&self) -> (f64, f64) {
        let stable = self.errors.saturating_sub(self.canary);
        (number(self.canary), number(stable))
    }

    /// Against the canary getting another share of the errors than the average is around; given by its logarithm and that
    /// of the rest.
    fn log_e_against(&self, log_share: f64, log_rest: f64) -> f64 {
        let (x, y) = self.errors();
        let (a, b) = (
            self.concentration * self.share,
            self.concentration * (1.0 - self.share),
        );
        ln_beta(a + x, b + y) - ln_beta(a, b) - x * log_share - y * log_rest
    }
}

/// Logarithmic ratios further from 0 than this are taken for infinite.
const FAR: f64 = 60.0;

/// Where `refuted` becomes true on the way from `inside` to `outside`.
pub(super) fn edge(inside: f64, outside: f64, refuted: &impl Fn(f64) -> bool) -> f64 {
    let (mut inside, mut outside) = (inside, outside);
    for _ in 0..100 {
        let middle = f64::midpoint(inside, outside);
        if refuted(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    f64::midpoint(inside, outside)
}

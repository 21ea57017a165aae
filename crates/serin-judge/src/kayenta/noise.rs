//! The little noise that two constant sides get, the same in every run.

/// Which share of a value its noise's standard deviation is.
const SHARE: f64 = 1e-5;
/// Any number would do.
const SEED: u64 = 0x5e51_4e0d_ca4a_4a57;

/// Noise that looks like a normal distribution's.
///
/// Kayenta takes its seed from the clock, so its verdict on two nearly equal constants, or on one point against one, is chance.
/// Here the seed is fixed and the verdict repeatable. The numbers come from `SplitMix64` (Steele, Lea and Flood 2014), twelve
/// summed up for each value: that is only additions, so every processor gets the same bits.
#[derive(Debug, Clone)]
pub struct Noise {
    state: u64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { state: SEED }
    }
}

impl Noise {
    /// The next value, with a mean of 0, a standard deviation of 1, and nothing beyond 6.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// The next value between 0 and 1.
    pub fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        #[expect(clippy::cast_precision_loss, reason = "53 bits are left")]
        let high = ((mixed ^ (mixed >> 31)) >> 11) as f64;
        high / 2.0_f64.powi(53)
    }

    /// The values, each with noise of a hundred-thousandth of itself: 0 stays 0.
    pub(super) fn around_each(&mut self, values: &[f64]) -> Vec<f64> {
        values
            .iter()
            .map(|value| value + value * SHARE * self.normal())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_the_same_in_every_run_and_about_normal() {
        let draw = || {
            let mut noise = Noise::default();
            (0..10_000).map(|_| noise.normal()).collect::<Vec<f64>>()
        };
        let values = draw();
        assert_eq!(values, draw());
        let mean = values.iter().sum::<f64>() / 10_000.0;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn zero_gets_no_noise() {
        assert_eq!(Noise::default().around_each(&[0.0, 0.0]), [0.0, 0.0]);
    }
}

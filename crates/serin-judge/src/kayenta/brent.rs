//! A zero of a function between two points: the method of Brent and Dekker, step for step as R's `zeroin` takes it.

/// The distance between 1 and the next number.
const EPSILON: f64 = f64::EPSILON;
/// R's limit of 1000, and the step that notices it.
const MOST_STEPS: u32 = 1001;

/// A zero of `f` between `low` and `high`, to within about `tolerance`.
///
/// The judge looks for zeros of a step function, which jumps across zero instead of meeting it. Where in the tolerance the
/// answer lies then depends on the points that were tried, so their order is part of Kayenta's verdict: this is the
/// algorithm of netlib's `zeroin` (R. P. Brent, *Algorithms for Minimization without Derivatives*, 1973, chapter 4), and
/// nothing in it may be simplified. After 1001 steps the last point is the answer.
///
/// `f` need not change its sign; then the answer is the point at which the steps end. What `f` is at the two ends is known
/// already to whoever looks for several zeros.
///
/// # Errors
/// The first error of `f`.
pub(super) fn zero<E>(
    mut f: impl FnMut(f64) -> Result<f64, E>,
    (low, f_low): (f64, f64),
    (high, f_high): (f64, f64),
    tolerance: f64,
) -> Result<f64, E> {
    if is_zero(f_low) {
        return Ok(low);
    }
    if is_zero(f_high) {
        return Ok(high);
    }
    let (mut previous, mut best) = (low, high);
    let (mut f_previous, mut f_best) = (f_low, f_high);
    let (mut other, mut f_other) = (previous, f_previous);

    for _ in 0..MOST_STEPS {
        let last_step = best - previous;
        if f_other.abs() < f_best.abs() {
            (previous, best, other) = (best, other, best);
            (f_previous, f_best, f_other) = (f_best, f_other, f_best);
        }
        let smallest = 2.0 * EPSILON * best.abs() + tolerance / 2.0;
        let half = (other - best) / 2.0;
        if half.abs() <= smallest || f_best == 0.0 {
            return Ok(best);
        }

        let mut step = half;
        if last_step.abs() >= smallest && f_previous.abs() > f_best.abs() {
            let width = other - best;
            #[expect(clippy::float_cmp, reason = "whether two points are the same one")]
            let (mut p, mut q) = if previous == other {
                let t = f_best / f_previous;
                (width * t, 1.0 - t)
            } else {
                let (q, t, u) = (f_previous / f_other, f_best / f_other, f_best / f_previous);
                (
                    u * (width * q * (q - t) - (best - previous) * (t - 1.0)),
                    (q - 1.0) * (t - 1.0) * (u - 1.0),
                )
            };
            if p > 0.0 {
                q = -q;
            } else {
                p = -p;
            }
            if p < 0.75 * width * q - (smallest * q).abs() / 2.0 && p < (last_step * q / 2.0).abs()
            {
                step = p / q;
            }
        }
        if step.abs() < smallest {
            step = if step > 0.0 { smallest } else { -smallest };
        }

        (previous, f_previous) = (best, f_best);
        best += step;
        f_best = f(best)?;
        if (f_best > 0.0 && f_other > 0.0) || (f_best < 0.0 && f_other < 0.0) {
            (other, f_other) = (previous, f_previous);
        }
    }
    Ok(best)
}

/// Zero, or the smallest number beside it.
fn is_zero(value: f64) -> bool {
    value.abs() <= f64::from_bits(1)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn zero_of(f: impl Fn(f64) -> f64, low: f64, high: f64, tolerance: f64) -> f64 {
        let (f_low, f_high) = (f(low), f(high));
        let f = |x| Ok::<_, Infallible>(f(x));
        zero(f, (low, f_low), (high, f_high), tolerance).unwrap()
    }

    #[test]
    fn the_zero_of_a_smooth_function_is_found_to_the_tolerance() {
        let found = zero_of(|x| x * x - 2.0, 0.0, 2.0, 1e-12);
        assert!((found - 2.0_f64.sqrt()).abs() < 1e-12, "{found}");
    }

    #[test]
    fn the_jump_of_a_step_function_is_found_to_the_tolerance() {
        let found = zero_of(|x| if x < 0.3 { 1.0 } else { -1.0 }, -1.0, 1.0, 1e-4);
        assert!((found - 0.3).abs() <= 1e-4, "{found}");
    }

    #[test]
    fn an_end_that_is_a_zero_is_the_answer() {
        assert!((zero_of(|x| x - 1.0, 1.0, 3.0, 1e-4) - 1.0).abs() < f64::EPSILON);
        assert!((zero_of(|x| x - 3.0, 1.0, 3.0, 1e-4) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_function_that_never_changes_its_sign_ends_somewhere() {
        let found = zero_of(|_| 1.0, 0.0, 1.0, 1e-4);
        assert!((0.0..=1.0).contains(&found), "{found}");
    }

    #[test]
    fn points_that_are_not_numbers_end_too() {
        assert!(zero_of(|x| x, f64::NAN, 1.0, 1e-4).is_nan());
        let _ = zero_of(|x| x, f64::NEG_INFINITY, f64::INFINITY, 1e-4);
    }
}

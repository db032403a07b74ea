//! Transcendental functions on `f32`, the same bits on every machine.
//!
//! `exp2` and `exp` are the hot ones and have branch-free polynomials that vectorise; the others go through `f64`.

/// `2^x`, within 1.5 units in the last place; exact at integers.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    // Beyond these the result is 0 or infinity anyway.
    let clamped = x.clamp(-160.0, 140.0);
    let n = clamped.round_ties_even();
    natural((clamped - n) * std::f32::consts::LN_2, n)
}

/// `e^x`, within 2 units in the last place; exact at 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-110.0, 97.0);
    let n = (clamped * std::f32::consts::LOG2_E).round_ties_even();
    // `x - n ln 2` with ln 2 in two parts, the first exact in products with n.
    let r = (clamped - n * 0.693_359_4) - n * -2.121_944_4e-4;
    natural(r, n)
}

/// `e^r * 2^n` for `|r| <= ln 2 / 2`, also where the result is subnormal or infinite.
#[inline(always)]
fn natural(r: f32, n: f32) -> f32 {
    // The Taylor series to degree 7: the rest is below 6e-9.
    let tail = 0.041_666_668 + r * (0.008_333_334 + r * (0.001_388_889 + r * 1.984_127e-4));
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.166_666_67 + r * tail)));
    // Two factors, so that neither exponent overflows.
    let n = n as i32;
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(((k + 127) as u32) << 23);
    p * power(half) * power(n - half)
}

/// A function of `f64` rounded once to `f32`.
#[inline(always)]
pub(super) fn through_f64(f: impl Fn(f64) -> f64 + Copy) -> impl Fn(f32) -> f32 + Copy {
    move |x| f(f64::from(x)) as f32
}

/// The error function, within a few units in the last place of `f32`.
pub(super) fn erf(x: f64) -> f64 {
    let a = x.abs();
    let magnitude = if a < 3.0 {
        // Maclaurin series of e^(x^2) erf(x): all terms positive, so nothing cancels.
        let (mut term, mut sum, mut k) = (a, a, 0.0);
        while term > sum * 1e-17 {
            k += 1.0;
            term *= 2.0 * a * a / (2.0 * k + 1.0);
            sum += term;
        }
        sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI
    } else if a.is_nan() {
        a
    } else {
        // Continued fraction of the complement, from the inside out.
        let tail = (1..=40).rev().fold(a, |c, k| a + f64::from(k) / 2.0 / c);
        1.0 - (-a * a).exp() / tail / std::f64::consts::PI.sqrt()
    };
    magnitude.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close_and_exact_where_they_must_be() {
        for n in -149..128 {
            assert_eq!(exp2(n as f32), 2f64.powi(n) as f32, "2^{n}");
        }
        assert_eq!((exp(0.0), exp2(f32::NEG_INFINITY), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        assert_eq!(
            (exp2(f32::INFINITY), exp(f32::INFINITY), exp2(-1e30)),
            (f32::INFINITY, f32::INFINITY, 0.0)
        );
        assert!(exp2(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        let mut worst = [0f64; 2];
        for i in -800_000..800_000 {
            let x = i as f32 * 1e-4;
            let pairs = [(exp2(x), f64::from(x).exp2()), (exp(x), f64::from(x).exp())];
            for (w, (got, want)) in worst.iter_mut().zip(pairs) {
                *w = w.max((f64::from(got) - want).abs() / want);
            }
        }
        let ulp = f64::from(f32::EPSILON);
        assert!(worst[0] < 1.5 * ulp && worst[1] < 2.0 * ulp, "{worst:?}");
    }

    #[test]
    fn erf_matches_known_values() {
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.520_499_877_813), (1.0, 0.842_700_792_950), (3.5, 0.999_999_256_902)]
        {
            assert!((erf(x) - y).abs() < 1e-11 && (erf(-x) + y).abs() < 1e-11, "{x}");
        }
    }
}

//! Elementary functions, with one interface for f64 (the reference) and for vectors of f32.
//!
//! `exp` and `tanh` of f32 follow S. Moshier's Cephes library: argument reduction, then a polynomial. The error
//! of `exp`, `tanh` and `erf` is at most 2 ulp, which a test verifies.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::vector::Simd;

/// The number type that elementwise expressions are generic over: [`f64`] on the reference device, SIMD
/// vectors on the CPU, symbols that write OpenCL source.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// Returns a constant.
    fn constant(value: f64) -> Self;
    /// Computes `self * b + c`, fused where the device can.
    fn fma(self, b: Self, c: Self) -> Self;
    /// Returns the larger value, or `other` if either is NaN.
    fn max(self, other: Self) -> Self;
    /// Computes the square root.
    fn sqrt(self) -> Self;
    /// Computes `e^self`.
    fn exp(self) -> Self;
    /// Computes the natural logarithm.
    fn ln(self) -> Self;
    /// Computes `self^exponent`.
    fn pow(self, exponent: Self) -> Self;
    /// Computes the hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Computes the error function.
    fn erf(self) -> Self;
    /// Returns `x` where `a > b`, else `y`.
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self;
}

impl Real for f64 {
    #[inline(always)]
    fn constant(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn pow(self, exponent: Self) -> Self {
        f64::powf(self, exponent)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn erf(self) -> Self {
        if self.abs() > 6.0 {
            return self.signum();
        }
        // 2/sqrt(pi) e^-x² Σ 2^n x^(2n+1) / (1 · 3 · … · (2n + 1)): all terms have the same sign.
        let (mut term, mut sum, mut n) = (self, self, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            term *= 2.0 * self * self / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-self * self).exp() * sum
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        if a > b { x } else { y }
    }
}

impl<S: Simd> Real for S {
    #[inline(always)]
    fn constant(value: f64) -> Self {
        S::splat(value as f32)
    }
    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Simd::max(self, other)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Simd::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        exp(self)
    }
    fn ln(self) -> Self {
        each_lane([self, self], |[x, _]| x.ln())
    }
    fn pow(self, exponent: Self) -> Self {
        each_lane([self, exponent], |[x, exponent]| x.powf(exponent))
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> Self {
        erf(self)
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        <S as Simd>::select_gt(a, b, x, y)
    }
}

/// Computes a function of the standard library lane by lane: for those that no kernel of a network uses.
fn each_lane<S: Simd>(arguments: [S; 2], function: impl Fn([f32; 2]) -> f32) -> S {
    const MAX_LANES: usize = 16;
    let mut lanes = [[0.0; MAX_LANES]; 2];
    for (lanes, argument) in lanes.iter_mut().zip(arguments) {
        argument.to_slice(&mut lanes[..S::LANES]);
    }
    let [mut first, second] = lanes;
    first.iter_mut().zip(second).for_each(|(x, y)| *x = function([*x, y]));
    S::from_slice(&first[..S::LANES])
}

/// Computes `e^x = 2^n * e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`.
#[inline(always)]
fn exp<S: Simd>(x: S) -> S {
    // The result is 0 below -104 and infinite above 89; NaN passes both limits.
    let x = S::splat(89.0).min(S::splat(-104.0).max(x));
    let n = (x * S::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 as a sum of two parts; the first has few bits, so that its product with n is exact.
    let r = n.mul_add(S::splat(-355.0 / 512.0), x);
    let r = n.mul_add(S::splat(2.121_944_4e-4), r);
    let mut p = S::splat(1.987_569_2e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, S::splat(c));
    }
    let p = p.mul_add(r * r, r) + S::splat(1.0);
    // 2^n as two factors: n may exceed the exponent range of f32.
    let half = (n * S::splat(0.5)).round();
    p * half.exp2_whole() * (n - half).exp2_whole()
}

/// Computes the hyperbolic tangent: a polynomial up to 0.625, above it from `exp`.
#[inline(always)]
fn tanh<S: Simd>(x: S) -> S {
    let one = S::splat(1.0);
    let magnitude = x.abs();
    // Large: 1 - 2 / (e^2|x| + 1), with the sign of x.
    let large = one - S::splat(2.0) / (exp(magnitude + magnitude) + one);
    let large = S::select_gt(x, S::splat(0.0), large, -large);
    // Small: an odd polynomial.
    let z = x * x;
    let mut p = S::splat(-5.704_988_7e-3);
    for c in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = p.mul_add(z, S::splat(c));
    }
    let small = (p * z).mul_add(x, x);
    S::select_gt(magnitude, S::splat(0.625), large, small)
}

/// Computes the error function: an odd polynomial up to 1, above it `1 - e^p(|x|)` with a polynomial for the logarithm
/// of the complement. Both are minimax fits; the error is at most 2 ulp, which a test verifies.
#[inline(always)]
fn erf<S: Simd>(x: S) -> S {
    let one = S::splat(1.0);
    // Beyond 4 the result is ±1; NaN passes the limit.
    let magnitude = S::splat(4.0).min(x.abs());
    // Large: the complement's logarithm, with the sign of x.
    let mut p = S::splat(-1.258_311_7e-5);
    for c in [3.363_761_6e-4, -3.697_830_4e-3, 2.387_960_7e-2, -1.063_739e-1, -6.350_681e-1, -1.128_669_1] {
        p = p.mul_add(magnitude, S::splat(c));
    }
    let large = one - exp(p * magnitude);
    let large = S::select_gt(x, S::splat(0.0), large, -large);
    // Small: an odd polynomial.
    let z = x * x;
    let mut p = S::splat(7.889_123e-5);
    for c in [-8.020_842e-4, 5.189_535_5e-3, -2.685_444_5e-2, 1.128_36e-1, -3.761_262_7e-1, 1.283_791_7e-1] {
        p = p.mul_add(z, S::splat(c));
    }
    let small = p.mul_add(x, x);
    S::select_gt(magnitude, one, large, small)
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, each_level};
    use super::*;

    #[derive(Clone)]
    struct Apply {
        function: usize,
        values: Vec<f32>,
    }

    impl Kernel for Apply {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Simd>(self) -> Vec<f32> {
            let mut out = vec![0.0; self.values.len()];
            for (to, from) in out.chunks_mut(S::LANES).zip(self.values.chunks(S::LANES)) {
                let v = S::from_short_slice(from);
                let y = match self.function {
                    0 => exp(v),
                    1 => tanh(v),
                    _ => erf(v),
                };
                y.to_short_slice(to);
            }
            out
        }
    }

    fn ulps(got: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if got == rounded {
            return 0.0;
        }
        let unit = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
        (f64::from(got) - exact).abs() / unit
    }

    /// The functions, in double precision, in the order of [`Apply::function`].
    const EXACT: [fn(f64) -> f64; 3] = [f64::exp, f64::tanh, <f64 as Real>::erf];

    #[test]
    fn errors_are_at_most_two_ulp() {
        for (function, exact) in EXACT.into_iter().enumerate() {
            // exp has a result up to 88, erf is ±1 from 4 on.
            let step = if function == 2 { 2.5e-5 } else { 4.3e-4 };
            let values: Vec<f32> = (0..400_001).map(|i| (i - 200_000) as f32 * step).collect();
            for out in each_level(&Apply { function, values: values.clone() }) {
                let worst = values
                    .iter()
                    .zip(&out)
                    .map(|(&x, &y)| (ulps(y, exact(f64::from(x))), x))
                    .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
                assert!(worst.0 <= 2.0, "function {function}: {} ulp at {}", worst.0, worst.1);
            }
        }
    }

    #[test]
    fn erf_in_double_precision_matches_a_table() {
        for (x, expected) in [
            (0.5f64, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!(
                (Real::erf(x) - expected).abs() < 1e-15 && (Real::erf(-x) + expected).abs() < 1e-15,
                "{x}"
            );
        }
    }

    #[test]
    fn limits_and_nan() {
        let values = vec![0.0, -0.0, 1000.0, -1000.0, f32::INFINITY, f32::NEG_INFINITY, 1e-30, -1e-30];
        for out in each_level(&Apply { function: 0, values: values.clone() }) {
            assert_eq!(out, [1.0, 1.0, f32::INFINITY, 0.0, f32::INFINITY, 0.0, 1.0, 1.0]);
        }
        for out in each_level(&Apply { function: 1, values: values.clone() }) {
            assert_eq!(out, [0.0, -0.0, 1.0, -1.0, 1.0, -1.0, 1e-30, -1e-30]);
        }
        for out in each_level(&Apply { function: 2, values: values.clone() }) {
            assert_eq!(out[..6], [0.0, -0.0, 1.0, -1.0, 1.0, -1.0]);
            assert!(ulps(out[6], <f64 as Real>::erf(1e-30)) <= 2.0 && out[7] == -out[6], "{:e}", out[6]);
        }
        for function in 0..EXACT.len() {
            for out in each_level(&Apply { function, values: vec![f32::NAN] }) {
                assert!(out[0].is_nan());
            }
        }
    }
}

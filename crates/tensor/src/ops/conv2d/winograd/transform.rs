//! The Winograd transforms along one axis, generic over vectors of channels (CPU) and symbols that write
//! OpenCL source.
//!
//! A convolution `F(m, r)` of `m` outputs and `r` taps is a product of polynomials, determined by its values
//! at `A = m + r - 1` points (alpha in the paper). The products at the points are summed over the channels:
//!
//! ```text
//!   filter_transform   r taps   -> A values   (evaluation; G in the paper)
//!   input_transform    A pixels -> A values   (transposed interpolation; Bᵀ)
//!   output_transform   A sums   -> m outputs  (transposed evaluation; Aᵀ)
//! ```
//!
//! The product at each point is scaled by [`point_scale`], which is applied to the transformed filter.
//!
//! S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin, S. Gray, "Fast algorithms for
//! convolutional neural networks", CVPR 2016. The choice of points determines the rounding error. These are
//! 0, ±11/16, ±23/16 and infinity for `A = 6`, and ±1/2, ±3/2 and infinity for `A = 5`, with an error close
//! to that of direct summation (0, ±1, ±2, infinity have four times the error). All coefficients of the
//! transforms are exact in single precision, so they cause no systematic error. The points of a pair ±p share
//! the sums of even and of odd powers.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use crate::cpu::simd::Real;

/// Maximum number of points, and of taps and outputs, along an axis.
pub const MAX_POINTS: usize = 6;

/// Returns the positive point of each of the two pairs.
const fn points<const A: usize>() -> [f64; 2] {
    if A == 6 { [0.6875, 1.4375] } else { [0.5, 1.5] }
}

const fn squares<const A: usize>() -> [f64; 2] {
    let [p, q] = points::<A>();
    [p * p, q * q]
}

/// Returns the scale of point `i`: `1 / product of the distances to the other points`, and 1 for infinity.
pub const fn point_scale<const A: usize>(i: usize) -> f64 {
    let ([p, q], [pp, qq]) = (points::<A>(), squares::<A>());
    if i == A - 1 {
        return 1.0;
    }
    match (A, i + 6 - A) {
        (_, 0) => 1.0 / (pp * qq),
        (6, 1 | 2) => 1.0 / (2.0 * pp * (pp - qq)),
        (6, _) => 1.0 / (2.0 * qq * (qq - pp)),
        (_, 1) => 1.0 / (2.0 * p * (pp - qq)),
        (_, 2) => -1.0 / (2.0 * p * (pp - qq)),
        (_, 3) => 1.0 / (2.0 * q * (qq - pp)),
        _ => -1.0 / (2.0 * q * (qq - pp)),
    }
}

/// Multiplies `value` by the scales of two points, rounding only once.
#[inline(always)]
pub fn scaled<S: Real, const A: usize>(value: S, i: usize, j: usize) -> S {
    let exact = point_scale::<A>(i) * point_scale::<A>(j);
    let remainder = exact - f64::from(exact as f32);
    value.fma(S::constant(exact), value * S::constant(remainder))
}

/// Transforms `A` pixels to their values at the points.
#[inline(always)]
pub fn input_transform<S: Real, const A: usize>(d: &[S; MAX_POINTS]) -> [S; MAX_POINTS] {
    let c = |v: f64| S::constant(v);
    let zero = A - 5;
    let (p, pp) = (points::<A>(), squares::<A>());
    let mut v = [d[0]; MAX_POINTS];
    // With the point 0 the rows of the other points are shifted by one pixel.
    for pair in 0..2 {
        let other = c(-pp[1 - pair]);
        let even = d[zero + 1].fma(other, d[zero + 3]);
        let odd = d[zero].fma(other, d[zero + 2]);
        v[zero + 2 * pair] = odd.fma(c(p[pair]), even);
        v[zero + 2 * pair + 1] = odd.fma(c(-p[pair]), even);
    }
    let (sum, product) = (c(-(pp[0] + pp[1])), c(pp[0] * pp[1]));
    v[A - 1] = d[zero].fma(product, d[zero + 2].fma(sum, d[zero + 4]));
    if zero == 1 {
        v[0] = d[0].fma(product, d[2].fma(sum, d[4]));
    }
    v
}

/// Transforms `R` taps to their values at the points, without the scales.
#[inline(always)]
pub fn filter_transform<S: Real, const A: usize, const R: usize>(taps: &[S; MAX_POINTS]) -> [S; MAX_POINTS] {
    let zero = A - 5;
    let p = points::<A>();
    let mut v = [taps[0]; MAX_POINTS];
    for pair in 0..2 {
        // The sums of even powers, and of odd powers divided by the point.
        let (mut sums, mut power) = ([taps[0], taps[1]], 1.0);
        for i in 2..R {
            if i % 2 == 0 {
                power *= p[pair] * p[pair];
            }
            sums[i % 2] = taps[i].fma(S::constant(power), sums[i % 2]);
        }
        v[zero + 2 * pair] = sums[1].fma(S::constant(p[pair]), sums[0]);
        v[zero + 2 * pair + 1] = sums[1].fma(S::constant(-p[pair]), sums[0]);
    }
    v[A - 1] = taps[R - 1];
    v
}

/// Transforms the products at all points to `M` outputs.
#[inline(always)]
pub fn output_transform<S: Real, const A: usize, const M: usize>(v: &[S; MAX_POINTS]) -> [S; MAX_POINTS] {
    let zero = A - 5;
    let p = points::<A>();
    let mut y = [v[0]; MAX_POINTS];
    let mut parities = [[v[0]; 2]; 2];
    for pair in 0..2 {
        let [plus, minus] = [v[zero + 2 * pair], v[zero + 2 * pair + 1]];
        parities[pair] = [plus + minus, plus - minus];
    }
    let mut powers = [1.0f64; 2];
    for i in 0..M {
        let [a, b] = [parities[0][i % 2], parities[1][i % 2]];
        y[i] = if i == 0 { a + b } else { a.fma(S::constant(powers[0]), b * S::constant(powers[1])) };
        if i == 0 && zero == 1 {
            y[i] = y[i] + v[0];
        }
        if i == M - 1 {
            y[i] = y[i] + v[A - 1];
        }
        powers = [powers[0] * p[0], powers[1] * p[1]];
    }
    y
}

/// The values at the points of a filter whose responses to a constant input are summed over the outputs of a tile, as
/// factors of the values: `Σ factors · values = M² · Σ taps`, exactly. Rounding errors of the values change that sum in the same
/// way in every tile, unlike all other rounding errors: see [`ConstantResponse::corrected`].
pub struct ConstantResponse {
    /// The factor of each point.
    pub factors: [f64; MAX_POINTS * MAX_POINTS],
    /// The point whose value is corrected: that with the largest factor, where the least change is enough.
    pub corrected: usize,
}

impl ConstantResponse {
    /// Computes the factors for `A` points and `M` outputs along each axis.
    pub fn new<const A: usize, const M: usize>() -> Self {
        let constant = input_transform::<f64, A>(&[1.0; MAX_POINTS]);
        let axis: [f64; MAX_POINTS] = std::array::from_fn(|point| {
            let mut unit = [0.0; MAX_POINTS];
            unit[point] = 1.0;
            if point < A {
                output_transform::<f64, A, M>(&unit)[..M].iter().sum::<f64>() * constant[point]
            } else {
                0.0
            }
        });
        let mut factors = [0.0; MAX_POINTS * MAX_POINTS];
        for point in 0..A * A {
            factors[point] = axis[point / A] * axis[point % A];
        }
        let largest = |a: &usize, b: &usize| factors[*a].abs().total_cmp(&factors[*b].abs());
        ConstantResponse { factors, corrected: (0..A * A).max_by(largest).unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Kernel, Simd, each_level};

    /// Compares the outputs of one axis with direct summation.
    #[derive(Clone)]
    struct Axis<const A: usize, const M: usize, const R: usize>;

    impl<const A: usize, const M: usize, const R: usize> Kernel for Axis<A, M, R> {
        type Output = ();
        fn run<S: Simd>(self) {
            assert_eq!(A, M + R - 1);
            let image: [f32; MAX_POINTS] = std::array::from_fn(|i| [0.3, -0.9, 0.5, 0.8, -0.7, 0.2][i]);
            let filter: [f32; MAX_POINTS] = std::array::from_fn(|i| [0.6, 0.1, -0.8, 0.4, -0.5, 0.0][i]);
            let lanes = |v: S| {
                let mut lanes = vec![0.0; S::LANES];
                v.to_slice(&mut lanes);
                lanes[S::LANES - 1]
            };
            let (d, g) = (image.map(S::splat), filter.map(S::splat));
            let (d, g) = (input_transform::<S, A>(&d), filter_transform::<S, A, R>(&g));
            let last = A - 1;
            let products: [S; MAX_POINTS] =
                std::array::from_fn(|i| if i < A { scaled::<S, A>(d[i] * g[i], i, last) } else { d[i] });
            let y = output_transform::<S, A, M>(&products);
            for i in 0..M {
                let exact: f32 = (0..R).map(|j| image[i + j] * filter[j]).sum();
                assert!((lanes(y[i]) - exact).abs() < 1e-6, "A {A}, output {i}: {} {exact}", lanes(y[i]));
            }
        }
    }

    #[test]
    fn the_constant_response_is_the_sum_of_the_taps() {
        fn check<const A: usize, const M: usize, const R: usize>() {
            let response = ConstantResponse::new::<A, M>();
            let taps: Vec<f64> = (0..R * R).map(|i| f64::from(i as u32 * 7 % 5) - 1.3).collect();
            let transform = |line: &[f64]| {
                let mut padded = [0.0; MAX_POINTS];
                padded[..R].copy_from_slice(line);
                filter_transform::<f64, A, R>(&padded)
            };
            let lines: Vec<_> = taps.chunks(R).map(transform).collect();
            let mut sum = 0.0;
            for j in 0..A {
                let column = transform(&lines.iter().map(|line| line[j]).collect::<Vec<_>>());
                for i in 0..A {
                    let value = column[i] * point_scale::<A>(i) * point_scale::<A>(j);
                    sum += value * response.factors[i * A + j];
                }
            }
            let exact = (M * M) as f64 * taps.iter().sum::<f64>();
            assert!((sum - exact).abs() < 1e-11, "A {A}: {sum} {exact}");
            let factor = |point: usize| response.factors[point].abs();
            assert!((0..A * A).all(|point| factor(point) <= factor(response.corrected)), "A {A}");
        }
        check::<6, 4, 3>();
        check::<5, 3, 3>();
        check::<6, 2, 5>();
    }

    #[test]
    fn transforms_compute_a_convolution() {
        each_level(&Axis::<6, 4, 3>);
        each_level(&Axis::<6, 3, 4>);
        each_level(&Axis::<6, 2, 5>);
        each_level(&Axis::<6, 5, 2>);
        each_level(&Axis::<5, 3, 3>);
    }
}

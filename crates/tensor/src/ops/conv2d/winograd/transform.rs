//! The transforms along one axis, on vectors whose lanes are channels, or on symbols that write them down as OpenCL.
//!
//! A convolution of `m` outputs with `r` taps is a product of polynomials: it is known from its values at
//! `A = m + r - 1` points. What is multiplied there, and added up over the channels, are
//!
//! ```text
//!   values of the filter       evaluate:  r numbers -> A
//!   those of the picture       input:     A numbers -> A    (the transpose of an interpolation)
//!   and back                   fold:      A numbers -> m    (the transpose of an evaluation)
//! ```
//!
//! What is multiplied is scaled once more by [`weight`]s, which the filter takes in.
//!
//! S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin, S. Gray, "Fast algorithms for convolutional
//! neural networks", CVPR 2016. The points decide how much precision is lost: these are 0, ±11/16, ±23/16 and infinity for
//! `A = 6`, and ±1/2, ±3/2 and infinity for `A = 5`, which lose hardly any (0, ±1, ±2, infinity lose four times as much). All
//! numbers in the transforms are exact in single precision, so that nothing is lost always in the same direction. Each
//! pair ±p shares its even and its odd powers.

#![allow(
    clippy::needless_range_loop,
    reason = "indices of fixed arrays that are unrolled; closures would not be"
)]

use crate::cpu::simd::Real;

/// The most points, and the most taps or outputs.
pub const MOST: usize = 6;

/// The positive point of each of the two pairs.
const fn points<const A: usize>() -> [f64; 2] {
    if A == 6 { [0.6875, 1.4375] } else { [0.5, 1.5] }
}

const fn squares<const A: usize>() -> [f64; 2] {
    let [p, q] = points::<A>();
    [p * p, q * q]
}

/// `1 / product of the distances to the other points`, of point `i`; 1 of infinity.
pub const fn weight<const A: usize>(i: usize) -> f64 {
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

/// `value` times the weights of two points, rounded only once.
#[inline(always)]
pub fn weighted<S: Real, const A: usize>(value: S, i: usize, j: usize) -> S {
    let exact = weight::<A>(i) * weight::<A>(j);
    let rest = exact - f64::from(exact as f32);
    value.fma(S::constant(exact), value * S::constant(rest))
}

/// Values of the picture, of `A` pixels.
#[inline(always)]
pub fn input<S: Real, const A: usize>(d: &[S; MOST]) -> [S; MOST] {
    let c = |v: f64| S::constant(v);
    let zero = A - 5;
    let (p, pp) = (points::<A>(), squares::<A>());
    let mut v = [d[0]; MOST];
    // With the point 0 all other rows are those without, one pixel on.
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

/// Values of a filter of `R` taps, without the weights.
#[inline(always)]
pub fn evaluate<S: Real, const A: usize, const R: usize>(taps: &[S; MOST]) -> [S; MOST] {
    let zero = A - 5;
    let p = points::<A>();
    let mut v = [taps[0]; MOST];
    for pair in 0..2 {
        // Of even and of odd powers.
        let mut sums = [taps[0], taps[1] * S::constant(p[pair])];
        let mut power = p[pair];
        for i in 2..R {
            power *= p[pair];
            sums[i % 2] = taps[i].fma(S::constant(power), sums[i % 2]);
        }
        v[zero + 2 * pair] = sums[0] + sums[1];
        v[zero + 2 * pair + 1] = sums[0] - sums[1];
    }
    v[A - 1] = taps[R - 1];
    v
}

/// `M` outputs of the products at all points.
#[inline(always)]
pub fn fold<S: Real, const A: usize, const M: usize>(v: &[S; MOST]) -> [S; MOST] {
    let zero = A - 5;
    let p = points::<A>();
    let mut y = [v[0]; MOST];
    let mut sides = [[v[0]; 2]; 2];
    for pair in 0..2 {
        let [plus, minus] = [v[zero + 2 * pair], v[zero + 2 * pair + 1]];
        sides[pair] = [plus + minus, plus - minus];
    }
    let mut powers = [1.0f64; 2];
    for i in 0..M {
        let [a, b] = [sides[0][i % 2], sides[1][i % 2]];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::{Kernel, Simd, each_level};

    /// Outputs of one axis by the transforms, beside the definition.
    #[derive(Clone)]
    struct Axis<const A: usize, const M: usize, const R: usize>;

    impl<const A: usize, const M: usize, const R: usize> Kernel for Axis<A, M, R> {
        type Output = ();
        fn run<S: Simd>(self) {
            assert_eq!(A, M + R - 1);
            let picture: [f32; MOST] = std::array::from_fn(|i| [0.3, -0.9, 0.5, 0.8, -0.7, 0.2][i]);
            let filter: [f32; MOST] = std::array::from_fn(|i| [0.6, 0.1, -0.8, 0.4, -0.5, 0.0][i]);
            let lanes = |v: S| {
                let mut lanes = vec![0.0; S::LANES];
                v.to_slice(&mut lanes);
                lanes[S::LANES - 1]
            };
            let (d, g) = (picture.map(S::splat), filter.map(S::splat));
            let (d, g) = (input::<S, A>(&d), evaluate::<S, A, R>(&g));
            let last = A - 1;
            let products: [S; MOST] =
                std::array::from_fn(|i| if i < A { weighted::<S, A>(d[i] * g[i], i, last) } else { d[i] });
            let y = fold::<S, A, M>(&products);
            for i in 0..M {
                let exact: f32 = (0..R).map(|j| picture[i + j] * filter[j]).sum();
                assert!((lanes(y[i]) - exact).abs() < 1e-6, "A {A}, output {i}: {} {exact}", lanes(y[i]));
            }
        }
    }

    #[test]
    fn the_transforms_make_a_convolution() {
        each_level(&Axis::<6, 4, 3>);
        each_level(&Axis::<6, 3, 4>);
        each_level(&Axis::<6, 2, 5>);
        each_level(&Axis::<6, 5, 2>);
        each_level(&Axis::<5, 3, 3>);
    }
}

//! Vectors as plain arrays, which the compiler maps to the vectors of the target (SSE2 on old x86).

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::vector::Simd;

/// Eight floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x8([f32; 8]);

impl F32x8 {
    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        F32x8(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        F32x8(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident),*) => {$(
        impl $trait for F32x8 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a.$method(b))
            }
        }
    )*};
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl Neg for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        self.map(|v| -v)
    }
}

impl Simd for F32x8 {
    type Mask = u32;

    const LANES: usize = 8;
    // The hardware has vectors of four floats: 32 registers on Arm, 16 on x86.
    const TILE_ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

    #[inline(always)]
    fn splat(value: f32) -> Self {
        F32x8([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller guarantees eight readable floats.
        F32x8(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller guarantees eight writable floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        bits
    }
    #[inline(always)]
    unsafe fn load_zeroed(from: *const f32, mask: Self::Mask) -> Self {
        // SAFETY: the caller guarantees the lanes in the mask.
        unsafe { Self::splat(0.0).load_masked(from, mask) }
    }
    #[inline(always)]
    fn transpose(block: &mut [Self]) {
        let old: [[f32; 8]; 8] = std::array::from_fn(|i| block[i].0);
        for (j, vector) in block.iter_mut().enumerate() {
            *vector = F32x8(std::array::from_fn(|i| old[i][j]));
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // One instruction on Arm. Without hardware support `f32::mul_add` is a slow library call.
        #[cfg(target_arch = "aarch64")]
        return F32x8(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])));
        #[cfg(not(target_arch = "aarch64"))]
        return F32x8(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]));
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(f32::sqrt)
    }
    #[inline(always)]
    fn round(self) -> Self {
        // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, for magnitudes below 2^22.
        const SHIFT: f32 = 12_582_912.0;
        self.map(|v| if v.abs() < 4_194_304.0 { (v + SHIFT) - SHIFT } else { v })
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        self.map(|v| f32::from_bits(((v as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        F32x8(std::array::from_fn(|i| if a.0[i] > b.0[i] { x.0[i] } else { y.0[i] }))
    }
    #[inline(always)]
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self {
        let selects = |a: f32, b: f32| (a > b) | a.is_nan();
        F32x8(std::array::from_fn(|i| if selects(a.0[i], b.0[i]) { x.0[i] } else { y.0[i] }))
    }
    #[inline(always)]
    fn deinterleave(self, other: Self) -> (Self, Self) {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (self.0, other.0);
        (F32x8([a, c, e, g, i, k, m, o]), F32x8([b, d, f, h, j, l, n, p]))
    }
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        let ([a, c, e, g, i, k, m, o], [b, d, f, h, j, l, n, p]) = (self.0, other.0);
        (F32x8([a, b, c, d, e, f, g, h]), F32x8([i, j, k, l, m, n, o, p]))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let v = self.0;
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}

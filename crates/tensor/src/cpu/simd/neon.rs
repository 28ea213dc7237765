//! Vectors of NEON, two registers each: a GEMM tile is then 16 floats wide, and six rows of it take 24 of the
//! 32 registers.

use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::vector::{Kernel, Simd};

/// Whether the machine has NEON.
pub(super) fn has_neon() -> bool {
    std::arch::is_aarch64_feature_detected!("neon")
}

/// Runs `kernel` with the instruction set enabled.
///
/// # Safety
/// [`has_neon`] must hold.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run_neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<F32x8>()
}

/// Eight floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(float32x4_t, float32x4_t);

/// Implements the operators by intrinsics.
macro_rules! operators {
    ($($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for F32x8 {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: values of this type exist only after the instruction set was detected.
                unsafe { F32x8($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            }
        }
    )*};
}

operators!(Add add vaddq_f32, Sub sub vsubq_f32, Mul mul vmulq_f32, Div div vdivq_f32);

impl Neg for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: values of this type exist only after the instruction set was detected.
        unsafe { F32x8(vnegq_f32(self.0), vnegq_f32(self.1)) }
    }
}

/// Transposes a block of four by four.
///
/// # Safety
/// [`has_neon`] must hold.
#[inline(always)]
unsafe fn transpose_four(rows: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let pairs = |a, b| (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(a, b)));
        let ((a, b), (c, d)) = (pairs(rows[0], rows[1]), pairs(rows[2], rows[3]));
        [vzip1q_f64(a, c), vzip1q_f64(b, d), vzip2q_f64(a, c), vzip2q_f64(b, d)]
            .map(|v| vreinterpretq_f32_f64(v))
    }
}

// SAFETY of the implementation below: the functions are only called inside `run_neon`, or on values that were
// created there; memory accesses have the contract of the trait.

impl Simd for F32x8 {
    type Mask = u32;

    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe {
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
        }
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
        assert_eq!(block.len(), 8);
        // SAFETY: see above.
        unsafe {
            let top_left = transpose_four(std::array::from_fn(|i| block[i].0));
            let top_right = transpose_four(std::array::from_fn(|i| block[i].1));
            let bottom_left = transpose_four(std::array::from_fn(|i| block[4 + i].0));
            let bottom_right = transpose_four(std::array::from_fn(|i| block[4 + i].1));
            for i in 0..4 {
                block[i] = F32x8(top_left[i], bottom_left[i]);
                block[4 + i] = F32x8(top_right[i], bottom_right[i]);
            }
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vfmaq_f32(c.0, self.0, b.0), vfmaq_f32(c.1, self.1, b.1)) }
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select_gt(self, other, self, other)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select_gt(other, self, self, other)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vsqrtq_f32(self.0), vsqrtq_f32(self.1)) }
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vrndnq_f32(self.0), vrndnq_f32(self.1)) }
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let power = |v| {
                let biased = vaddq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
            };
            F32x8(power(self.0), power(self.1))
        }
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        unsafe { F32x8(vbslq_f32(vcgtq_f32(a.0, b.0), x.0, y.0), vbslq_f32(vcgtq_f32(a.1, b.1), x.1, y.1)) }
    }
    #[inline(always)]
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        unsafe {
            // NaN is the only value that differs from itself.
            let selects = |a, b| vorrq_u32(vcgtq_f32(a, b), vmvnq_u32(vceqq_f32(a, a)));
            F32x8(vbslq_f32(selects(a.0, b.0), x.0, y.0), vbslq_f32(selects(a.1, b.1), x.1, y.1))
        }
    }
    #[inline(always)]
    fn deinterleave(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            (
                F32x8(vuzp1q_f32(self.0, self.1), vuzp1q_f32(other.0, other.1)),
                F32x8(vuzp2q_f32(self.0, self.1), vuzp2q_f32(other.0, other.1)),
            )
        }
    }
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            (
                F32x8(vzip1q_f32(self.0, other.0), vzip2q_f32(self.0, other.0)),
                F32x8(vzip1q_f32(self.1, other.1), vzip2q_f32(self.1, other.1)),
            )
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = vaddq_f32(self.0, self.1);
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxnmvq_f32(vmaxnmq_f32(self.0, self.1)).max(f32::NEG_INFINITY) }
    }
}

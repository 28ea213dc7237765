//! Vectors of AVX2 with FMA, and of AVX-512.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::vector::{Kernel, Simd};

/// Whether the machine has AVX2 and FMA.
pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Whether the machine has the AVX-512 extensions that the kernels use.
pub(super) fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
}

/// Runs `kernel` with the instruction set enabled.
///
/// # Safety
/// [`has_avx2`] must hold.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<F32x8>()
}

/// Runs `kernel` with the instruction set enabled.
///
/// # Safety
/// [`has_avx512`] must hold.
#[target_feature(enable = "avx2,fma,avx512f,avx512dq,avx512vl,avx512bw")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<F32x16>()
}

/// Eight floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x8(__m256);

/// Sixteen floats.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m512);

/// Implements the operators of a vector type by intrinsics.
macro_rules! operators {
    ($type:ident, $($trait:ident $method:ident $intrinsic:ident),*) => {$(
        impl $trait for $type {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: values of this type exist only after the instruction set was detected.
                $type(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}

operators!(F32x8, Add add _mm256_add_ps, Sub sub _mm256_sub_ps, Mul mul _mm256_mul_ps, Div div _mm256_div_ps);
operators!(F32x16, Add add _mm512_add_ps, Sub sub _mm512_sub_ps, Mul mul _mm512_mul_ps, Div div _mm512_div_ps);

impl Neg for F32x8 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: values of this type exist only after the instruction set was detected.
        F32x8(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }
}

impl Neg for F32x16 {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        // SAFETY: values of this type exist only after the instruction set was detected.
        F32x16(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }
}

/// The mask of all lanes of eight. A plain access is faster than a masked one, many times on some processors.
const ALL_8: u32 = 0xff;

// SAFETY of the implementations below: the functions are only called inside `run_avx2` and `run_avx512`, or
// on values that were created there; memory accesses have the contract of the trait.

impl Simd for F32x8 {
    type Mask = __m256i;

    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_maskload_ps(from, lane_mask(count)) })
    }
    #[inline(always)]
    unsafe fn store_partial(self, mut to: *mut f32, count: usize) {
        // Masked stores take many cycles on some processors.
        // SAFETY: see above; the parts have `count` lanes together.
        unsafe {
            let mut rest = _mm256_castps256_ps128(self.0);
            if count & 4 != 0 {
                _mm_storeu_ps(to, rest);
                to = to.add(4);
                rest = _mm256_extractf128_ps::<1>(self.0);
            }
            if count & 2 != 0 {
                _mm_storel_pd(to.cast(), _mm_castps_pd(rest));
                to = to.add(2);
                rest = _mm_movehl_ps(rest, rest);
            }
            if count & 1 != 0 {
                _mm_store_ss(to, rest);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: u32) -> Self {
        if mask & ALL_8 == ALL_8 {
            // SAFETY: see above.
            return unsafe { Self::load(from) };
        }
        // SAFETY: see above.
        F32x8(unsafe {
            let lanes = mask_of_bits(mask);
            _mm256_blendv_ps(self.0, _mm256_maskload_ps(from, lanes), _mm256_castsi256_ps(lanes))
        })
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: u32) {
        if mask & ALL_8 == ALL_8 {
            // SAFETY: see above.
            unsafe { self.store(to) }
        } else {
            // SAFETY: see above.
            unsafe { _mm256_maskstore_ps(to, mask_of_bits(mask), self.0) }
        }
    }
    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        // SAFETY: see above.
        unsafe { mask_of_bits(bits) }
    }
    #[inline(always)]
    unsafe fn load_zeroed(from: *const f32, mask: Self::Mask) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_maskload_ps(from, mask) })
    }
    #[inline(always)]
    fn transpose(block: &mut [Self]) {
        assert_eq!(block.len(), 8);
        // SAFETY: see above.
        unsafe {
            let mut pairs = [_mm256_setzero_ps(); 8];
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(block[2 * i].0, block[2 * i + 1].0);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(block[2 * i].0, block[2 * i + 1].0);
            }
            // Vector `4 h + j` holds column `j` of rows `4 h` to `4 h + 3` in its lower half, and column `j +
            // 4` in its upper.
            let mut fours = [_mm256_setzero_ps(); 8];
            for h in 0..2 {
                for j in 0..2 {
                    let (a, b) = (pairs[4 * h + j], pairs[4 * h + 2 + j]);
                    fours[4 * h + 2 * j] = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
                    fours[4 * h + 2 * j + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
                }
            }
            for j in 0..4 {
                block[j] = F32x8(_mm256_permute2f128_ps::<0x20>(fours[j], fours[4 + j]));
                block[4 + j] = F32x8(_mm256_permute2f128_ps::<0x31>(fours[j], fours[4 + j]));
            }
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe { _mm256_blendv_ps(y.0, x.0, _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0)) })
    }
    #[inline(always)]
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        F32x8(unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0);
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(a.0, a.0);
            _mm256_blendv_ps(y.0, x.0, _mm256_or_ps(greater, nan))
        })
    }
    #[inline(always)]
    fn deinterleave(self, other: Self) -> (Self, Self) {
        // The shuffles work within halves and leave pairs in the order 0 2 1 3, which the permutation
        // restores. SAFETY: see above.
        unsafe {
            let order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
            let even = _mm256_shuffle_ps::<0b10_00_10_00>(self.0, other.0);
            let odd = _mm256_shuffle_ps::<0b11_01_11_01>(self.0, other.0);
            (F32x8(order(even)), F32x8(order(odd)))
        }
    }
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let low = _mm256_unpacklo_ps(self.0, other.0);
            let high = _mm256_unpackhi_ps(self.0, other.0);
            let first = _mm256_permute2f128_ps::<0x20>(low, high);
            (F32x8(first), F32x8(_mm256_permute2f128_ps::<0x31>(low, high)))
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// Returns a vector with all bits set in the lanes whose bit is set in `bits`.
///
/// # Safety
/// [`has_avx2`] must hold.
#[inline(always)]
unsafe fn mask_of_bits(bits: u32) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), each), each)
    }
}

/// Returns a vector with all bits set in the first `count` lanes.
///
/// # Safety
/// [`has_avx2`] must hold.
#[inline(always)]
unsafe fn lane_mask(count: usize) -> __m256i {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

impl Simd for F32x16 {
    type Mask = __mmask16;

    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as __mmask16, from) })
    }
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        // SAFETY: see above.
        unsafe { _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as __mmask16, self.0) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: u32) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_mask_loadu_ps(self.0, mask as __mmask16, from) })
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: u32) {
        // SAFETY: see above.
        unsafe { _mm512_mask_storeu_ps(to, mask as __mmask16, self.0) }
    }
    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        bits as __mmask16
    }
    #[inline(always)]
    unsafe fn load_zeroed(from: *const f32, mask: Self::Mask) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_maskz_loadu_ps(mask, from) })
    }
    #[inline(always)]
    fn transpose(block: &mut [Self]) {
        assert_eq!(block.len(), 16);
        // SAFETY: see above.
        unsafe {
            let mut pairs = [_mm512_setzero_ps(); 16];
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(block[2 * i].0, block[2 * i + 1].0);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(block[2 * i].0, block[2 * i + 1].0);
            }
            // Quarter `q` of vector `4 h + j` holds column `j + 4 q` of rows `4 h` to `4 h + 3`.
            let mut fours = [_mm512_setzero_ps(); 16];
            for h in 0..4 {
                for j in 0..2 {
                    let (a, b) = (pairs[4 * h + j], pairs[4 * h + 2 + j]);
                    fours[4 * h + 2 * j] = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
                    fours[4 * h + 2 * j + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(a, b);
                }
            }
            // Transpose the quarters.
            for j in 0..4 {
                let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
                let low = [_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d)];
                let high = [_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(c, d)];
                block[j] = F32x16(_mm512_shuffle_f32x4::<0x88>(low[0], low[1]));
                block[4 + j] = F32x16(_mm512_shuffle_f32x4::<0xdd>(low[0], low[1]));
                block[8 + j] = F32x16(_mm512_shuffle_f32x4::<0x88>(high[0], high[1]));
                block[12 + j] = F32x16(_mm512_shuffle_f32x4::<0xdd>(high[0], high[1]));
            }
        }
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0), y.0, x.0) })
    }
    #[inline(always)]
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self {
        // SAFETY: see above.
        F32x16(unsafe {
            let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0);
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a.0, a.0);
            _mm512_mask_blend_ps(greater | nan, y.0, x.0)
        })
    }
    #[inline(always)]
    fn deinterleave(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            let pick = |order| F32x16(_mm512_permutex2var_ps(self.0, order, other.0));
            (pick(even), pick(odd))
        }
    }
    #[inline(always)]
    fn interleave(self, other: Self) -> (Self, Self) {
        // SAFETY: see above.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            let pick = |order| F32x16(_mm512_permutex2var_ps(self.0, order, other.0));
            (pick(low), pick(high))
        }
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(self.0);
            F32x8(_mm256_add_ps(_mm512_castps512_ps256(self.0), high)).sum()
        }
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(self.0);
            F32x8(_mm256_max_ps(_mm512_castps512_ps256(self.0), high)).max_lane()
        }
    }
}

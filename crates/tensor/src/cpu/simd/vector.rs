//! The vector type that kernels are generic over.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A SIMD vector of `LANES` floats.
///
/// Values of the types for x86 and Arm exist only inside [`dispatch`](super::dispatch), after it detected the
/// instruction set.
pub(crate) trait Simd:
    Copy
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A set of lanes.
    type Mask: Copy;

    /// Number of floats.
    const LANES: usize;

    /// Maximum number of rows of a GEMM tile that is two vectors wide and fits into the registers.
    const TILE_ROWS: usize;

    /// Returns `value` in all lanes.
    fn splat(value: f32) -> Self;

    /// Loads `LANES` floats; `from` need not be aligned.
    ///
    /// # Safety
    /// `LANES` floats at `from` must be readable.
    unsafe fn load(from: *const f32) -> Self;

    /// Stores all lanes; `to` need not be aligned.
    ///
    /// # Safety
    /// `LANES` floats at `to` must be writable.
    unsafe fn store(self, to: *mut f32);

    /// Loads the first `count < LANES` lanes; the others are 0.
    ///
    /// # Safety
    /// `count` floats at `from` must be readable.
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 16];
        // SAFETY: the caller guarantees `count` floats.
        unsafe {
            from.copy_to_nonoverlapping(lanes.as_mut_ptr(), count.min(Self::LANES));
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `count < LANES` lanes.
    ///
    /// # Safety
    /// `count` floats at `to` must be writable.
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; 16];
        // SAFETY: the caller guarantees `count` floats.
        unsafe {
            self.store(lanes.as_mut_ptr());
            to.copy_from_nonoverlapping(lanes.as_ptr(), count.min(Self::LANES));
        }
    }

    /// Loads lane `i` from `from + i` if bit `i` of `mask` is set, and keeps the other lanes of `self`.
    ///
    /// # Safety
    /// The floats of the lanes in `mask` must be readable.
    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: u32) -> Self {
        // SAFETY: the caller guarantees the lanes in the mask.
        unsafe {
            if mask == u32::MAX >> (32 - Self::LANES) {
                return Self::load(from);
            }
            let mut lanes = [0.0; 16];
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.iter_mut().enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
                *lane = *from.wrapping_add(i);
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// Returns the mask with the lanes whose bits are set.
    fn mask(bits: u32) -> Self::Mask;

    /// Loads the lanes of the mask; the others are 0.
    ///
    /// # Safety
    /// The floats of the lanes in `mask` must be readable.
    unsafe fn load_zeroed(from: *const f32, mask: Self::Mask) -> Self;

    /// Stores lane `i` to `to + i` if bit `i` of `mask` is set.
    ///
    /// # Safety
    /// The floats of the lanes in `mask` must be writable.
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: u32) {
        // SAFETY: the caller guarantees the lanes in the mask.
        unsafe {
            if mask == u32::MAX >> (32 - Self::LANES) {
                return self.store(to);
            }
            let mut lanes = [0.0; 16];
            self.store(lanes.as_mut_ptr());
            for (i, lane) in lanes.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1) {
                *to.wrapping_add(i) = *lane;
            }
        }
    }

    /// Transposes a block of `LANES` vectors: lane `j` of vector `i` becomes lane `i` of vector `j`.
    ///
    /// # Panics
    /// If the slice does not have `LANES` elements.
    fn transpose(block: &mut [Self]);

    /// Computes `self * b + c`, fused where the hardware can.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// Returns the larger of two lanes, or `other` if either is NaN.
    fn max(self, other: Self) -> Self;

    /// Returns the smaller of two lanes, or `other` if either is NaN.
    fn min(self, other: Self) -> Self;

    /// Computes the absolute value.
    fn abs(self) -> Self;

    /// Computes the square root.
    fn sqrt(self) -> Self;

    /// Rounds to the nearest integer, ties to even.
    fn round(self) -> Self;

    /// Computes `2^self` for integers from -126 to 127.
    fn exp2_whole(self) -> Self;

    /// Returns `x` in lanes where `a > b`, else `y`.
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self;

    /// Returns `x` in lanes where `a > b` or `a` is NaN, else `y`.
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self;

    /// Returns the even and the odd elements of `self` followed by `other`.
    fn deinterleave(self, other: Self) -> (Self, Self);

    /// Returns the lanes of `self` and `other` alternating, in two vectors: the inverse of
    /// [`Simd::deinterleave`].
    fn interleave(self, other: Self) -> (Self, Self);

    /// Returns the sum of all lanes, by pairwise summation of halves.
    fn sum(self) -> f32;

    /// Returns the largest lane.
    fn max_lane(self) -> f32;

    /// Loads the first `LANES` floats of the slice.
    #[inline(always)]
    fn from_slice(slice: &[f32]) -> Self {
        assert!(slice.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { Self::load(slice.as_ptr()) }
    }

    /// Stores to the first `LANES` floats of the slice.
    #[inline(always)]
    fn to_slice(self, slice: &mut [f32]) {
        assert!(slice.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { self.store(slice.as_mut_ptr()) }
    }

    /// Loads up to `LANES` floats of the slice; lanes behind its end are 0.
    #[inline(always)]
    fn from_short_slice(slice: &[f32]) -> Self {
        if slice.len() >= Self::LANES {
            Self::from_slice(slice)
        } else {
            // SAFETY: no more floats are read than the slice has.
            unsafe { Self::load_partial(slice.as_ptr(), slice.len()) }
        }
    }

    /// Stores the first lanes, as many as the slice holds.
    #[inline(always)]
    fn to_short_slice(self, slice: &mut [f32]) {
        if slice.len() >= Self::LANES {
            self.to_slice(slice);
        } else {
            // SAFETY: no more floats are written than the slice has.
            unsafe { self.store_partial(slice.as_mut_ptr(), slice.len()) }
        }
    }
}

/// A computation that is generic over the vector type; [`dispatch`](super::dispatch) runs it.
pub(crate) trait Kernel {
    /// The result.
    type Output;

    /// Runs the computation. Mark implementations `#[inline(always)]`: only inlined code is compiled for the
    /// instruction set.
    fn run<S: Simd>(self) -> Self::Output;
}

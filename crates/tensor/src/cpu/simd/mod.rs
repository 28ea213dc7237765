//! Vectors of floats, written once and compiled for every instruction set; the best one of the machine is chosen at
//! run time.
//!
//! A kernel is a [`Kernel`] whose `run` is generic over [`Simd`] and marked `#[inline(always)]`; [`dispatch`] runs it
//! inside a function that has the instruction set enabled. Dispatch within each task of a parallel loop, not
//! around it: closures that other threads run do not inherit the instruction set.

use std::ops::{Add, Div, Mul, Neg, Sub};

pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub(crate) mod turn;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use math::Real;

/// A vector of `LANES` floats.
///
/// Values of the x86 types exist only where [`dispatch`] has found the instructions.
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
    /// How many floats.
    const LANES: usize;

    /// The most rows of a product's tile that is two vectors wide, so that all of it stays in registers.
    const TILE_ROWS: usize;

    /// `value` in all lanes.
    fn splat(value: f32) -> Self;

    /// The `LANES` floats from `from` on.
    ///
    /// # Safety
    /// They must be readable; any alignment will do.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes the lanes from `to` on.
    ///
    /// # Safety
    /// `LANES` floats must be writable there; any alignment will do.
    unsafe fn store(self, to: *mut f32);

    /// The first `count < LANES` lanes from memory, zeros in the rest.
    ///
    /// # Safety
    /// `count` floats must be readable.
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 16];
        // SAFETY: the caller promises `count` floats.
        unsafe {
            from.copy_to_nonoverlapping(lanes.as_mut_ptr(), count.min(Self::LANES));
            Self::load(lanes.as_ptr())
        }
    }

    /// Writes the first `count < LANES` lanes.
    ///
    /// # Safety
    /// `count` floats must be writable.
    #[inline(always)]
    unsafe fn store_partial(self, to: *mut f32, count: usize) {
        let mut lanes = [0.0; 16];
        // SAFETY: the caller promises `count` floats.
        unsafe {
            self.store(lanes.as_mut_ptr());
            to.copy_from_nonoverlapping(lanes.as_ptr(), count.min(Self::LANES));
        }
    }

    /// The lanes whose bits are set in `mask` from memory (lane `i` from `from + i`), the others as they are.
    ///
    /// # Safety
    /// The floats of the lanes in `mask` must be readable.
    #[inline(always)]
    unsafe fn load_masked(self, from: *const f32, mask: u32) -> Self {
        // SAFETY: the caller promises the lanes in the mask.
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

    /// Writes the lanes whose bits are set in `mask` (lane `i` to `to + i`).
    ///
    /// # Safety
    /// The floats of the lanes in `mask` must be writable.
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: u32) {
        // SAFETY: the caller promises the lanes in the mask.
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

    /// Transposes a block of `LANES` vectors: lane `j` of vector `i` becomes lane `i` of vector `j`. The slice has
    /// `LANES` elements.
    fn transpose(block: &mut [Self]);

    /// `self * b + c`, rounded once where the machine can.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// The larger; `other` if either is not a number.
    fn max(self, other: Self) -> Self;

    /// The smaller; `other` if either is not a number.
    fn min(self, other: Self) -> Self;

    /// Without the sign.
    fn abs(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// Rounded to the nearest whole number, to the even one from halfway.
    fn round(self) -> Self;

    /// `2^self`, for whole numbers from -126 to 127.
    fn exp2_whole(self) -> Self;

    /// Lane by lane `x` where `a > b`, else `y`.
    fn select_gt(a: Self, b: Self, x: Self, y: Self) -> Self;

    /// Lane by lane `x` where `a > b` or `a` is not a number, else `y`.
    fn select_gt_or_nan(a: Self, b: Self, x: Self, y: Self) -> Self;

    /// The numbers at even positions of `self` followed by `other`, and those at odd positions.
    fn deinterleave(self, other: Self) -> (Self, Self);

    /// The inverse of [`Simd::deinterleave`]: lanes of `self` and `other` in turn, in two vectors.
    fn interleave(self, other: Self) -> (Self, Self);

    /// The sum of all lanes, by halves.
    fn sum(self) -> f32;

    /// The largest of all lanes.
    fn max_lane(self) -> f32;

    /// The slice's first `LANES` floats.
    #[inline(always)]
    fn from_slice(slice: &[f32]) -> Self {
        assert!(slice.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { Self::load(slice.as_ptr()) }
    }

    /// Writes to the slice's first `LANES` floats.
    #[inline(always)]
    fn to_slice(self, slice: &mut [f32]) {
        assert!(slice.len() >= Self::LANES);
        // SAFETY: the length was checked.
        unsafe { self.store(slice.as_mut_ptr()) }
    }

    /// The slice's floats, at most `LANES`, and zeros.
    #[inline(always)]
    fn from_short_slice(slice: &[f32]) -> Self {
        if slice.len() >= Self::LANES {
            Self::from_slice(slice)
        } else {
            // SAFETY: as many floats are read as there are.
            unsafe { Self::load_partial(slice.as_ptr(), slice.len()) }
        }
    }

    /// Writes the first lanes, as many as the slice has and at most `LANES`.
    #[inline(always)]
    fn to_short_slice(self, slice: &mut [f32]) {
        if slice.len() >= Self::LANES {
            self.to_slice(slice);
        } else {
            // SAFETY: as many floats are written as there are.
            unsafe { self.store_partial(slice.as_mut_ptr(), slice.len()) }
        }
    }
}

/// A computation that is generic over the vectors; see the module's text.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it. Mark it `#[inline(always)]`.
    fn run<S: Simd>(self) -> Self::Output;
}

/// The instruction sets that kernels are compiled for, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// The best instruction set of this machine; `NEOCOG_SIMD=avx2` or `portable` asks for less.
pub(crate) fn level() -> Level {
    use std::sync::OnceLock;
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wish = std::env::var("NEOCOG_SIMD").unwrap_or_default();
        if wish == "portable" {
            return Level::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if wish != "avx2" && x86::has_avx512() {
                return Level::Avx512;
            }
            if x86::has_avx2() {
                return Level::Avx2;
            }
        }
        #[cfg(target_arch = "aarch64")]
        if neon::has_neon() {
            return Level::Neon;
        }
        Level::Portable
    })
}

/// The name of the instruction set that the kernels use on this machine, and how many floats its vectors hold.
pub fn instruction_set() -> (&'static str, usize) {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => ("avx512", 16),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => ("avx2+fma", 8),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => ("neon", 8),
        Level::Portable => ("portable", portable::F32x8::LANES),
    }
}

/// [`Simd::TILE_ROWS`] of the vectors that [`dispatch`] chooses.
pub(crate) fn tile_rows_at_most() -> usize {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::F32x16::TILE_ROWS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::F32x8::TILE_ROWS,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::F32x8::TILE_ROWS,
        Level::Portable => portable::F32x8::TILE_ROWS,
    }
}

/// Runs `kernel` with the best vectors of this machine.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `level` has found the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { x86::run_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => unsafe { neon::run_neon(kernel) },
        Level::Portable => kernel.run::<portable::F32x8>(),
    }
}

/// Runs plain loops that the compiler makes vectors of: those of the best instruction set, with the same bits for any.
pub(crate) fn vectorized<R>(loops: impl FnOnce() -> R) -> R {
    struct Loops<F>(F);
    impl<R, F: FnOnce() -> R> Kernel for Loops<F> {
        type Output = R;
        #[inline(always)]
        fn run<S: Simd>(self) -> R {
            (self.0)()
        }
    }
    dispatch(Loops(loops))
}

/// Runs `kernel` with every kind of vector that this machine has; for tests.
#[cfg(test)]
pub(crate) fn each_level<K: Kernel + Clone>(kernel: &K) -> Vec<K::Output> {
    let mut all = vec![kernel.clone().run::<portable::F32x8>()];
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx2() {
            // SAFETY: just checked.
            all.push(unsafe { x86::run_avx2(kernel.clone()) });
        }
        if x86::has_avx512() {
            // SAFETY: just checked.
            all.push(unsafe { x86::run_avx512(kernel.clone()) });
        }
    }
    #[cfg(target_arch = "aarch64")]
    if neon::has_neon() {
        // SAFETY: just checked.
        all.push(unsafe { neon::run_neon(kernel.clone()) });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Shuffles;

    impl Kernel for Shuffles {
        type Output = ();
        fn run<S: Simd>(self) {
            let numbers: Vec<f32> = (0..2 * S::LANES).map(|i| i as f32).collect();
            let (a, b) = (S::from_slice(&numbers), S::from_slice(&numbers[S::LANES..]));
            let (even, odd) = a.deinterleave(b);
            let (low, high) = even.interleave(odd);
            let lanes = |v: S| {
                let mut lanes = vec![0.0; S::LANES];
                v.to_slice(&mut lanes);
                lanes
            };
            assert_eq!(lanes(even), (0..S::LANES).map(|i| (2 * i) as f32).collect::<Vec<_>>());
            assert_eq!(lanes(odd), (0..S::LANES).map(|i| (2 * i + 1) as f32).collect::<Vec<_>>());
            assert_eq!([lanes(low), lanes(high)].concat(), numbers);
        }
    }

    #[derive(Clone)]
    struct Selects;

    impl Kernel for Selects {
        type Output = ();
        fn run<S: Simd>(self) {
            let (yes, no) = (S::splat(1.0), S::splat(0.0));
            let first = |v: S| {
                let mut lanes = vec![0.0; S::LANES];
                v.to_slice(&mut lanes);
                lanes[0] == 1.0
            };
            let numbers = [f32::NEG_INFINITY, -1.0, -0.0, 0.0, 2.0, f32::INFINITY, f32::NAN];
            for a in numbers {
                for b in numbers {
                    let (x, y) = (S::splat(a), S::splat(b));
                    assert_eq!(first(S::select_gt(x, y, yes, no)), a > b, "{a} > {b}");
                    assert_eq!(first(S::select_gt_or_nan(x, y, yes, no)), a > b || a.is_nan(), "{a} > {b}");
                }
            }
        }
    }

    #[test]
    fn shuffles_and_selects_are_the_same_on_every_level() {
        each_level(&Shuffles);
        each_level(&Selects);
    }
}

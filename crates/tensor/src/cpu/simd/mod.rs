//! SIMD kernels, written once and compiled for every instruction set; the fastest one of the machine is
//! chosen at run time.
//!
//! A kernel is a [`Kernel`] whose `run` is generic over [`Simd`] and marked `#[inline(always)]`; [`dispatch`]
//! runs it inside a function that has the instruction set enabled. Dispatch within each task of a parallel
//! loop, not around it: closures that other threads run do not inherit the instruction set.

pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub(crate) mod transpose;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use math::Real;
pub(crate) use vector::{Kernel, Simd};

/// The instruction sets that kernels are compiled for, the fastest first.
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

/// Returns the fastest instruction set of this machine. `NEOCOG_SIMD=avx2` or `portable` selects a slower
/// one.
pub(crate) fn level() -> Level {
    use std::sync::OnceLock;
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let requested = std::env::var("NEOCOG_SIMD").unwrap_or_default();
        if requested == "portable" {
            return Level::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if requested != "avx2" && x86::has_avx512() {
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

/// Returns the name of the instruction set that the kernels use on this machine, and the number of floats of
/// its vectors.
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

/// Returns [`Simd::TILE_ROWS`] of the vectors that [`dispatch`] chooses.
pub(crate) fn max_tile_rows() -> usize {
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

/// Runs `kernel` with the fastest vectors of this machine.
#[inline]
pub(crate) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match level() {
        // SAFETY: `level` detected the instruction set.
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

/// Runs plain loops compiled for the fastest instruction set, so that the compiler vectorizes them; the
/// results are the same bits for every instruction set.
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

/// Runs `kernel` with every vector type that this machine supports; for tests.
#[cfg(test)]
pub(crate) fn each_level<K: Kernel + Clone>(kernel: &K) -> Vec<K::Output> {
    let mut all = vec![kernel.clone().run::<portable::F32x8>()];
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx2() {
            // SAFETY: detected above.
            all.push(unsafe { x86::run_avx2(kernel.clone()) });
        }
        if x86::has_avx512() {
            // SAFETY: detected above.
            all.push(unsafe { x86::run_avx512(kernel.clone()) });
        }
    }
    #[cfg(target_arch = "aarch64")]
    if neon::has_neon() {
        // SAFETY: detected above.
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
            let (selected, other) = (S::splat(1.0), S::splat(0.0));
            let first = |v: S| {
                let mut lanes = vec![0.0; S::LANES];
                v.to_slice(&mut lanes);
                lanes[0] == 1.0
            };
            let numbers = [f32::NEG_INFINITY, -1.0, -0.0, 0.0, 2.0, f32::INFINITY, f32::NAN];
            for a in numbers {
                for b in numbers {
                    let (x, y) = (S::splat(a), S::splat(b));
                    assert_eq!(first(S::select_gt(x, y, selected, other)), a > b, "{a} > {b}");
                    assert_eq!(
                        first(S::select_gt_or_nan(x, y, selected, other)),
                        a > b || a.is_nan(),
                        "{a} > {b}"
                    );
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

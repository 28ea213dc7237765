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

use std::sync::OnceLock;

use neocog_base::{Error, Result};

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

/// Returns the instruction set that kernels use: the one that `NEOCOG_SIMD` requests, or the fastest of this machine. With an
/// invalid request, for which [`check_instruction_set`] is an error, it is the fastest.
#[inline]
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| chosen().as_ref().map_or_else(|_| available()[0].1, |&level| level))
}

/// Checks that `NEOCOG_SIMD`, if it is set, names an instruction set of this machine.
///
/// # Errors
/// `InvalidArgument`, with the names that are valid here.
#[inline]
pub fn check_instruction_set() -> Result<()> {
    match chosen() {
        Ok(_) => Ok(()),
        Err(message) => Err(Error::invalid_argument(message.as_str())),
    }
}

fn chosen() -> &'static Result<Level, String> {
    static LEVEL: OnceLock<Result<Level, String>> = OnceLock::new();
    LEVEL.get_or_init(|| {
        let requested = std::env::var_os("NEOCOG_SIMD").unwrap_or_default();
        choose(&requested.to_string_lossy(), &available())
    })
}

fn choose(requested: &str, available: &[(&str, Level)]) -> Result<Level, String> {
    match available.iter().find(|(name, _)| requested.is_empty() || requested == *name) {
        Some((_, level)) => Ok(*level),
        None => {
            let names: Vec<&str> = available.iter().map(|(name, _)| *name).collect();
            let why = if NAMES.contains(&requested) {
                "this machine does not have it"
            } else {
                "there is no such instruction set"
            };
            Err(format!("NEOCOG_SIMD={requested}: {why}; valid here: {}", names.join(", ")))
        }
    }
}

/// The names of all instruction sets, of other processors too.
const NAMES: [&str; 4] = ["avx512", "avx2", "neon", "portable"];

/// Returns the instruction sets of this machine and their names, the fastest first.
fn available() -> Vec<(&'static str, Level)> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            all.push(("avx512", Level::Avx512));
        }
        if x86::has_avx2() {
            all.push(("avx2", Level::Avx2));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if neon::has_neon() {
        all.push(("neon", Level::Neon));
    }
    all.push(("portable", Level::Portable));
    all
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

/// Asks for the cache line at an address, which need not be readable, before it is needed.
#[inline(always)]
pub(crate) fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect on values, and no address is invalid for it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
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

    #[test]
    fn an_unknown_instruction_set_is_an_error() {
        let two = [("avx2", level()), ("portable", Level::Portable)];
        assert_eq!(choose("", &two), Ok(level()));
        assert_eq!(choose("portable", &two), Ok(Level::Portable));
        let e = choose("nonsense", &two).unwrap_err();
        assert_eq!(e, "NEOCOG_SIMD=nonsense: there is no such instruction set; valid here: avx2, portable");
        let e = choose("neon", &two).unwrap_err();
        assert_eq!(e, "NEOCOG_SIMD=neon: this machine does not have it; valid here: avx2, portable");
        assert!(choose("AVX2", &two).is_err() && choose("avx2 ", &two).is_err());
        let all = available();
        assert!(all.iter().all(|(name, _)| NAMES.contains(name)) && all.last() == Some(&two[1]));
    }

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

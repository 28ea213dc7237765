//! The measured peak of floating-point operations per second.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::cpu::simd::{Kernel, Simd, dispatch};

/// Independent chains of multiply-adds: enough to hide the latency of current CPUs, and few enough to stay in
/// registers.
const CHAINS: usize = 12;
const ROUNDS: usize = 40_000;

/// Returns the peak single-precision performance of `threads` threads in GFLOP/s, with the instruction set
/// that the kernels use: a loop of multiply-adds (two operations each) on registers. It is measured once per
/// process and number of threads, in about a tenth of a second.
pub fn fma_peak_gflops(threads: usize) -> f64 {
    static MEASURED: Mutex<BTreeMap<usize, f64>> = Mutex::new(BTreeMap::new());
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    *measured.entry(threads).or_insert_with(|| {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(fastest_run)).collect();
            all.into_iter().map(|thread| thread.join().expect("the loop does not panic")).sum()
        })
    })
}

/// Returns the fastest of many short runs, as other processes may use the machine at the same time.
fn fastest_run() -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    while start.elapsed().as_millis() < 100 {
        let run = Instant::now();
        let operations = dispatch(Chains);
        best = best.max(operations / run.elapsed().as_secs_f64() / 1e9);
    }
    best
}

struct Chains;

impl Kernel for Chains {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        let (a, b) = (S::splat(black_box(0.999)), S::splat(black_box(0.001)));
        let mut chains: [S; CHAINS] = std::array::from_fn(|i| S::splat(black_box(i as f32)));
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = chain.mul_add(a, b);
            }
        }
        let sum = chains.into_iter().fold(S::splat(0.0), |sum, chain| sum + chain);
        black_box(sum.sum());
        (2 * CHAINS * ROUNDS * S::LANES) as f64
    }
}

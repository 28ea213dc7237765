//! CPU kernel.

use super::axis_map::Taps;
use crate::cpu::parallel::{CHUNK, for_each_chunk};

/// Computes `out`, which is not empty, from `x`: `[.., extent, inner]` to `[.., outputs, inner]`.
pub(super) fn resample(taps: &Taps, extent: usize, inner: usize, x: &[f32], out: &mut [f32]) {
    let plane = taps.starts.len() * inner;
    for_each_chunk(out, (CHUNK / plane).max(1) * plane, |start, part| {
        for (p, part) in part.chunks_exact_mut(plane).enumerate() {
            let x = &x[(start / plane + p) * extent * inner..][..extent * inner];
            for (o, row) in part.chunks_exact_mut(inner).enumerate() {
                let (first, weights) = taps.of(o);
                row.fill(0.0);
                for (from, weight) in x[first * inner..].chunks_exact(inner).zip(weights) {
                    let weight = *weight as f32;
                    if weight != 0.0 {
                        row.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
                    }
                }
            }
        }
    });
}

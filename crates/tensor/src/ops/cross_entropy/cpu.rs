//! CPU kernel of cross entropy.

use rayon::prelude::*;

use super::class::class_of;
use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::ops::softmax::rows::{exps, largest, scale};

/// Computes the losses and the probabilities of all rows.
pub(super) fn rows(
    label_smoothing: f64,
    classes: usize,
    [logits, targets]: [&[f32]; 2],
    [losses, probabilities]: [&mut [f32]; 2],
) {
    let each = (CHUNK / classes).max(1);
    let part = |start: usize, losses: &mut [f32], probabilities: &mut [f32]| {
        let logits = &logits[start * classes..][..probabilities.len()];
        let targets = &targets[start..][..losses.len()];
        dispatch(Losses { logits, targets, classes, label_smoothing, losses, probabilities });
    };
    if losses.len() <= each {
        part(0, losses, probabilities);
    } else {
        let parts = losses.par_chunks_mut(each).zip(probabilities.par_chunks_mut(each * classes));
        parts.enumerate().for_each(|(i, (losses, probabilities))| part(i * each, losses, probabilities));
    }
}

struct Losses<'a> {
    logits: &'a [f32],
    targets: &'a [f32],
    classes: usize,
    label_smoothing: f64,
    losses: &'a mut [f32],
    probabilities: &'a mut [f32],
}

impl Kernel for Losses<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Losses { logits, targets, classes, label_smoothing, losses, probabilities } = self;
        let rows = logits.chunks_exact(classes).zip(probabilities.chunks_exact_mut(classes));
        for ((row, p), (&target, loss)) in rows.zip(targets.iter().zip(losses)) {
            let max = largest::<S>(row);
            let sum = exps::<S>(row, max, p);
            scale::<S>(p, 1.0 / sum);
            let ln_sum = f64::from(sum).ln();
            // Subtract from the maximum first: that difference has almost no rounding error.
            let minus_log = |v: f32| f64::from(max - v) + ln_sum;
            *loss = match class_of(f64::from(target), classes) {
                None => f32::NAN,
                Some(t) if label_smoothing == 0.0 => minus_log(row[t]) as f32,
                Some(t) => {
                    let mean = row.iter().map(|&v| minus_log(v)).sum::<f64>() / classes as f64;
                    ((1.0 - label_smoothing) * minus_log(row[t]) + label_smoothing * mean) as f32
                }
            };
        }
    }
}

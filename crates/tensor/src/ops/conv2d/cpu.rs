//! The kernels of the CPU.

use rayon::prelude::*;

use super::Problem;
use crate::cpu::{Matrix, product};
use crate::memory::Scratch;
use crate::ops::Activation;

/// Into how many parts the batch is split for the gradient of the weight, at most.
const BATCH_PARTS: usize = 8;

impl Problem {
    /// Rows of the unfolded picture: one for each weight of an output channel.
    fn depth(&self) -> usize {
        self.cg * self.kh * self.kw
    }

    fn pixels(&self) -> usize {
        self.oh * self.ow
    }
}

pub(super) fn forward(
    p: &Problem,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Option<Activation>,
    y: &mut [f32],
    scratch: &Scratch,
) {
    let (depth, pixels) = (p.depth(), p.pixels());
    y.par_chunks_mut((p.og * pixels).max(1)).enumerate().for_each(|(i, y)| {
        let g = i % p.groups;
        let mut columns = scratch.take(depth * pixels);
        unfold(p, &x[i * p.cg * p.h * p.w..], &mut columns);
        let weight = &weight[g * p.og * depth..][..p.og * depth];
        product(Matrix::rows(weight, p.og, depth), Matrix::rows(&columns, depth, pixels), y, false);
        for (o, y) in y.chunks_mut(pixels).enumerate() {
            let bias = bias.map_or(0.0, |b| b[g * p.og + o]);
            match activation {
                None => y.iter_mut().for_each(|v| *v += bias),
                Some(a) => y.iter_mut().for_each(|v| *v = a.apply(f64::from(*v + bias)) as f32),
            }
        }
    });
}

pub(super) fn input_grad(p: &Problem, dy: &[f32], weight: &[f32], dx: &mut [f32], scratch: &Scratch) {
    let (depth, pixels) = (p.depth(), p.pixels());
    dx.par_chunks_mut((p.cg * p.h * p.w).max(1)).enumerate().for_each(|(i, dx)| {
        let g = i % p.groups;
        let mut columns = scratch.take(depth * pixels);
        let weight = &weight[g * p.og * depth..][..p.og * depth];
        let dy = &dy[i * p.og * pixels..][..p.og * pixels];
        product(
            Matrix::rows(weight, p.og, depth).transposed(),
            Matrix::rows(dy, p.og, pixels),
            &mut columns,
            false,
        );
        dx.fill(0.0);
        fold(p, &columns, dx);
    });
}

pub(super) fn weight_grad(p: &Problem, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &Scratch) {
    let (depth, pixels) = (p.depth(), p.pixels());
    let each = p.n.div_ceil(BATCH_PARTS).max(1);
    let mut parts = scratch.take(p.n.div_ceil(each) * dw.len());
    parts.par_chunks_mut(dw.len()).enumerate().for_each(|(part, sum)| {
        sum.fill(0.0);
        let mut columns = scratch.take(depth * pixels);
        for n in part * each..((part + 1) * each).min(p.n) {
            for (g, sum) in sum.chunks_mut(p.og * depth).enumerate() {
                let i = n * p.groups + g;
                unfold(p, &x[i * p.cg * p.h * p.w..], &mut columns);
                let dy = Matrix::rows(&dy[i * p.og * pixels..][..p.og * pixels], p.og, pixels);
                product(dy, Matrix::rows(&columns, depth, pixels).transposed(), sum, true);
            }
        }
    });
    dw.fill(0.0);
    for part in parts.chunks(dw.len()) {
        dw.iter_mut().zip(part).for_each(|(d, p)| *d += p);
    }
}

/// `columns[(i, tap), pixel] = x[i, source of the tap at the pixel]`, zeros outside.
fn unfold(p: &Problem, x: &[f32], columns: &mut [f32]) {
    for_each_row(p, |row, i, kr, kc| {
        let columns = &mut columns[row * p.pixels()..][..p.pixels()];
        for (r, line) in columns.chunks_mut(p.ow).enumerate() {
            for (c, to) in line.iter_mut().enumerate() {
                *to = p.source(r, c, kr, kc).map_or(0.0, |(y, z)| x[(i * p.h + y) * p.w + z]);
            }
        }
    });
}

/// The transpose of [`unfold`]: adds every element of `columns` to the pixel that it came from.
fn fold(p: &Problem, columns: &[f32], dx: &mut [f32]) {
    for_each_row(p, |row, i, kr, kc| {
        let columns = &columns[row * p.pixels()..][..p.pixels()];
        for (r, line) in columns.chunks(p.ow).enumerate() {
            for (c, from) in line.iter().enumerate() {
                if let Some((y, z)) = p.source(r, c, kr, kc) {
                    dx[(i * p.h + y) * p.w + z] += from;
                }
            }
        }
    });
}

/// Rows of the unfolded picture are in the order of the weights, also where the kernel is flipped.
fn for_each_row(p: &Problem, mut row: impl FnMut(usize, usize, usize, usize)) {
    for i in 0..p.cg {
        for kr in 0..p.kh {
            for kc in 0..p.kw {
                row(i * p.kh * p.kw + p.tap(kr, kc), i, kr, kc);
            }
        }
    }
}

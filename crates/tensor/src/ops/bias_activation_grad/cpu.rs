//! CPU kernel of the gradient of a fused bias and activation.

use rayon::prelude::*;

use crate::cpu::Activation;
use crate::cpu::parallel::CHUNK;
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::for_each_activation;
use crate::memory::Scratch;

/// Intended number of tasks for small batches.
const TASKS: usize = 16;

/// Computes `dz` and `db` from `y` and `dy [n, channels, plane]`.
pub(super) fn grad(
    activation: Activation,
    [n, channels, plane]: [usize; 3],
    [y, dy]: [&[f32]; 2],
    [dz, db]: [&mut [f32]; 2],
    scratch: &Scratch,
) {
    db.fill(0.0);
    if dz.is_empty() {
        return;
    }
    // A task has some images, or some channels of one image. Its sums are stored at its first image and channel.
    let parts = (1..=channels).find(|parts| channels % parts == 0 && n * parts >= TASKS).unwrap_or(channels);
    let images = if parts > 1 { 1 } else { CHUNK.div_ceil(channels * plane).min(n) };
    let channels_each = channels / parts;
    let mut sums = scratch.take(n.div_ceil(images) * channels);
    let each = images * channels_each * plane;
    dz.par_chunks_mut(each)
        .zip(y.par_chunks(each))
        .zip(dy.par_chunks(each))
        .zip(sums.par_chunks_mut(channels_each))
        .for_each(|(((dz, y), dy), sums)| dispatch(Part { activation, plane, y, dy, dz, sums }));
    for sums in sums.chunks(channels) {
        db.iter_mut().zip(sums).for_each(|(db, sum)| *db += sum);
    }
}

/// Calls [`Part::with`] with one of the activations, outside the loops.
macro_rules! dispatch_grad {
    (($part:ident, $simd:ident) of_output { $(
        $(#[$doc:meta])* $name:ident $grad:ident $op:literal $grad_op:literal $layer:tt
            ($c:ident, $x:ident) = $value:expr;
            ($gc:ident, $y:ident, $dy:ident) = $grad_value:expr;
    )* } of_input $rest:tt) => {
        match $part.activation {
            $(Activation::$name => $part.with::<$simd>(|y, dy| Activation::$name.grad_value(y, dy)),)*
            #[allow(unreachable_patterns, reason = "there may be no others")]
            _ => unreachable!("infer has checked that the gradient is computed from the output"),
        }
    };
}

/// Consecutive channel planes; their channels cycle through `sums`.
struct Part<'a> {
    activation: Activation,
    plane: usize,
    y: &'a [f32],
    dy: &'a [f32],
    dz: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for_each_activation! { dispatch_grad (self, S) }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn with<S: Simd>(self, value: impl Fn(S, S) -> S) {
        let Part { plane, y, dy, dz, sums, .. } = self;
        sums.fill(0.0);
        if plane == 1 {
            let rows = y.chunks_exact(sums.len()).zip(dy.chunks_exact(sums.len()));
            for (dz, (y, dy)) in dz.chunks_exact_mut(sums.len()).zip(rows) {
                let vectors = y.chunks(S::LANES).zip(dy.chunks(S::LANES));
                for ((dz, sum), (y, dy)) in
                    dz.chunks_mut(S::LANES).zip(sums.chunks_mut(S::LANES)).zip(vectors)
                {
                    let v = value(S::from_short_slice(y), S::from_short_slice(dy));
                    v.to_short_slice(dz);
                    (S::from_short_slice(sum) + v).to_short_slice(sum);
                }
            }
            return;
        }
        let channels = sums.len();
        let planes = y.chunks_exact(plane).zip(dy.chunks_exact(plane));
        for (i, (dz, (y, dy))) in dz.chunks_exact_mut(plane).zip(planes).enumerate() {
            sums[i % channels] += row::<S>(y, dy, dz, &value);
        }
    }
}

/// Computes the values of a channel plane and returns their sum, in four interleaved parts.
#[inline(always)]
fn row<S: Simd>(y: &[f32], dy: &[f32], dz: &mut [f32], value: &impl Fn(S, S) -> S) -> f32 {
    let mut parts = [S::splat(0.0); 4];
    let block = 4 * S::LANES;
    let whole = y.len() / block * block;
    let blocks = y[..whole].chunks_exact(block).zip(dy[..whole].chunks_exact(block));
    for (dz, (y, dy)) in dz[..whole].chunks_exact_mut(block).zip(blocks) {
        for (k, part) in parts.iter_mut().enumerate() {
            let v = value(S::from_slice(&y[k * S::LANES..]), S::from_slice(&dy[k * S::LANES..]));
            v.to_slice(&mut dz[k * S::LANES..]);
            *part = *part + v;
        }
    }
    let rest = y[whole..].chunks(S::LANES).zip(dy[whole..].chunks(S::LANES));
    for ((dz, (y, dy)), part) in dz[whole..].chunks_mut(S::LANES).zip(rest).zip(&mut parts) {
        // In lanes beyond the end dy is 0, and so is the gradient.
        let v = value(S::from_short_slice(y), S::from_short_slice(dy));
        v.to_short_slice(dz);
        *part = *part + v;
    }
    ((parts[0] + parts[1]) + (parts[2] + parts[3])).sum()
}

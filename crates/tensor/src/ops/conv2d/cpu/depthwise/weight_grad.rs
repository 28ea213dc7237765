//! The gradient of the weight: for each weight, the products of the output gradient with the pixels under its tap.

use std::ops::Range;

use super::super::lane_sums;
use super::window::{Block, Next, Window, for_constants, shift};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::ops::conv2d::shape::ConvShape;

/// Computes the gradient of the weight of a convolution with this window.
pub(super) fn weight_grad(
    conv: &ConvShape,
    window: &Window,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &Scratch,
) {
    let planes = Planes { window, x, dy };
    lane_sums::weight_grad(conv, dw, scratch, |images, channels, sums| {
        dispatch(WeightGrad { planes, channels, images, sums });
    });
}

/// The sums of the weight gradients of some channels over some images, a vector for each weight.
struct WeightGrad<'a> {
    planes: Planes<'a>,
    channels: Range<usize>,
    images: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for WeightGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        for_constants!(self.planes.window, S, self.all())
    }
}

impl WeightGrad<'_> {
    #[inline(always)]
    fn all<S: Simd, const K: usize, const STRIDE: usize>(self) {
        let WeightGrad { planes, channels, images, sums } = self;
        let blocks = planes.window.blocks(S::LANES, false);
        let size = K * K * S::LANES;
        sums.fill(0.0);
        for image in images.clone() {
            for (channel, sums) in channels.clone().zip(sums.chunks_exact_mut(size)) {
                let plane = planes.plane(image, channel);
                if K == 3 {
                    plane.tap_rows::<S, K, STRIDE, 3>(0, &blocks, sums);
                    continue;
                }
                // As many taps at once as there are registers for.
                for first in (0..K - 1).step_by(2) {
                    plane.tap_rows::<S, K, STRIDE, 2>(first, &blocks, sums);
                }
                plane.tap_rows::<S, K, STRIDE, 1>(K - 1, &blocks, sums);
            }
        }
        for (channel, sums) in channels.zip(sums.chunks_exact_mut(size)) {
            let mut zeros = S::splat(0.0);
            for sum in sums.chunks_exact(S::LANES) {
                zeros = S::from_slice(sum).mul_add(S::splat(0.0), zeros);
            }
            // A row that a tap does not meet was multiplied with 0, which is 0 unless a pixel is infinite or NaN.
            if zeros.sum().is_nan() {
                planes.exactly(channel, images.clone(), S::LANES, sums);
            }
        }
    }
}

/// The input and its output gradient.
#[derive(Clone, Copy)]
struct Planes<'a> {
    window: &'a Window,
    x: &'a [f32],
    dy: &'a [f32],
}

impl<'a> Planes<'a> {
    fn plane(&self, image: usize, channel: usize) -> Plane<'a> {
        let window = self.window;
        let x = &self.x[window.src_start(image, channel)..][..window.src_plane()];
        let dy = &self.dy[window.dst_start(image, channel)..][..window.dst_plane()];
        Plane { window, x, dy }
    }

    /// Computes the sums of a channel without products with rows that a tap does not meet, each in the first of its `lanes`.
    #[cold]
    fn exactly(&self, channel: usize, images: Range<usize>, lanes: usize, sums: &mut [f32]) {
        let kernel = self.window.kernel;
        sums.fill(0.0);
        for image in images {
            let plane = self.plane(image, channel);
            for i in 0..kernel {
                for j in 0..kernel {
                    sums[self.window.tap(i, j) * lanes] += plane.tap(i, j);
                }
            }
        }
    }
}

/// One plane of the input and its output gradient.
struct Plane<'a> {
    window: &'a Window,
    x: &'a [f32],
    dy: &'a [f32],
}

impl Plane<'_> {
    /// Adds the sums of `G` rows of taps, from row `first` of the kernel on, to the totals.
    #[inline(always)]
    fn tap_rows<S: Simd, const K: usize, const STRIDE: usize, const G: usize>(
        &self,
        first: usize,
        blocks: &[Block],
        totals: &mut [f32],
    ) {
        let mut sums = [[S::splat(0.0); K]; G];
        for block in blocks {
            if block.inside {
                self.columns::<S, K, STRIDE, G, true>(first, block, &mut sums);
            } else {
                self.columns::<S, K, STRIDE, G, false>(first, block, &mut sums);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let total = &mut totals[self.window.tap(first + i, j) * S::LANES..][..S::LANES];
                (S::from_slice(total) + sum).to_slice(total);
            }
        }
    }

    /// Adds the products of a block of all rows.
    #[inline(always)]
    fn columns<S: Simd, const K: usize, const STRIDE: usize, const G: usize, const INSIDE: bool>(
        &self,
        first: usize,
        block: &Block,
        totals: &mut [[S; K]; G],
    ) {
        let Window { padding: [padding, _], src: [height, pitch], dst: [rows, width], .. } = *self.window;
        assert!(self.x.len() >= height * pitch && self.dy.len() >= rows * width);
        assert!(block.inside || !INSIDE);
        let masks = block.masks::<S>();
        let mut sums = *totals;
        // Vector `k` is that of output row `step - k`; 0 for rows that do not exist.
        let mut dy = [S::splat(0.0); G];
        let last = (G - 1) / STRIDE;
        let mut row = first.wrapping_sub(padding);
        let mut from = self.x.as_ptr().wrapping_offset(row as isize * pitch as isize);
        let mut asked = Next::new::<STRIDE>(self.window, block, self.x.as_ptr(), self.dy.as_ptr());
        for step in 0..rows + last {
            asked.ask::<S, STRIDE>();
            let mut next = S::splat(0.0);
            if step < rows {
                let row = &self.dy[step * width + block.column..][..block.count];
                next = if INSIDE { S::from_slice(row) } else { S::from_short_slice(row) };
            }
            shift(&mut dy, next);
            for phase in 0..STRIDE {
                if row < height {
                    // SAFETY: it is a row of the input, whose length was asserted; inside blocks are those of `INSIDE`.
                    let x = unsafe { block.load::<S, K, STRIDE, INSIDE>(from, &masks) };
                    for (k, &dy) in dy.iter().enumerate().take(last + 1) {
                        if k * STRIDE + phase < G {
                            for (sum, &x) in sums[k * STRIDE + phase].iter_mut().zip(&x) {
                                *sum = dy.mul_add(x, *sum);
                            }
                        }
                    }
                }
                row = row.wrapping_add(1);
                from = from.wrapping_add(pitch);
            }
        }
        *totals = sums;
    }

    /// Returns the sum of one tap, without products with rows that it does not meet.
    fn tap(&self, i: usize, j: usize) -> f32 {
        let Window { stride, padding, src: [height, pitch], dst: [_, width], .. } = *self.window;
        let mut sum = 0.0;
        for (r, dy) in self.dy.chunks_exact(width).enumerate() {
            let row = (r * stride + i).wrapping_sub(padding[0]);
            if row >= height {
                continue;
            }
            let x = &self.x[row * pitch..][..pitch];
            for (c, dy) in dy.iter().enumerate() {
                if let Some(x) = x.get((c * stride + j).wrapping_sub(padding[1])) {
                    sum += dy * x;
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::conv2d::Conv2dGeometry;
    use crate::ops::conv2d::shape::Pass;

    /// An infinite pixel is part of the sums of the taps that meet it, and of no other.
    #[test]
    fn an_infinite_pixel_reaches_no_tap_that_does_not_meet_it() {
        let geometry = Conv2dGeometry { padding: [1, 1], groups: 2, ..Conv2dGeometry::default() };
        let conv = crate::ops::conv2d::shape_samples::shape(geometry, [3, 2, 5, 20], 2, [3, 3]).unwrap();
        let window = Window::of(&conv, Pass::WeightGrad).unwrap();
        let mut x = vec![0.5; 3 * 2 * 5 * 20];
        // The first row of the second channel of the first image.
        x[5 * 20 + 7] = f32::INFINITY;
        let dy = vec![0.25; x.len()];
        let mut dw = vec![0.0; 18];
        weight_grad(&conv, &window, &x, &dy, &mut dw, &Scratch::new());
        let products = |rows: usize, columns: usize| 3.0 * 0.125 * (rows * columns) as f32;
        for (i, &dw) in dw.iter().enumerate() {
            let (row, column) = (i % 9 / 3, i % 3);
            let expected = if i >= 9 && row < 2 {
                f32::INFINITY
            } else {
                products([4, 5, 4][row], [19, 20, 19][column])
            };
            assert_eq!(dw, expected, "weight {i}");
        }
    }
}

//! The sizes that the kernels of a convolution work with.

/// The three computations of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pass {
    Forward,
    InputGrad,
    WeightGrad,
}

/// All sizes of one convolution whose shapes were checked: `x [n, groups * in_per_group, h, w]`,
/// `weight [groups * out_per_group, in_per_group, kh, kw]` and `y [n, groups * out_per_group, oh, ow]`.
///
/// The two gradients use the same sizes: `dx` has the shape of `x`, `dy` that of `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    /// Batch size.
    pub n: usize,
    pub groups: usize,
    /// Input channels of a group.
    pub in_per_group: usize,
    /// Output channels of a group.
    pub out_per_group: usize,
    pub h: usize,
    pub w: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    /// Whether the kernel is rotated by 180 degrees.
    pub flip: bool,
    /// Elements from one image of `x` to the next in memory.
    pub x_batch_stride: usize,
    /// Elements from one image of `y` to the next in memory.
    pub y_batch_stride: usize,
    /// Whether `x` and `y` are in blocks of channels (see [`ToChannelBlocks`](crate::ops::ToChannelBlocks)), of as many as a vector
    /// of the CPU has lanes.
    pub in_blocks: [bool; 2],
}

/// Every `stride`-th column of a padded row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// Number of columns of the padding before the image.
    pub left: usize,
    /// The first column of the image.
    pub start: usize,
    /// Number of columns of the image.
    pub inside: usize,
}

impl ConvShape {
    /// Returns the number of weights of one output channel: `in_per_group * kh * kw`, the inner dimension of
    /// the GEMM.
    pub fn filter_len(&self) -> usize {
        self.in_per_group * self.kh * self.kw
    }

    /// Returns the number of pixels of an output channel: `oh * ow`.
    pub fn out_pixels(&self) -> usize {
        self.oh * self.ow
    }

    /// Returns the rows or columns of the padded image under the taps of `outputs` neighboring outputs, at least one.
    pub fn extent(&self, axis: usize, outputs: usize) -> usize {
        let kernel = [self.kh, self.kw][axis];
        (outputs - 1) * self.stride[axis] + (kernel - 1) * self.dilation[axis] + 1
    }

    /// Returns the taps of a row or column of the output, along an axis, that are not over padding.
    pub fn taps_inside(&self, axis: usize, output: usize) -> std::ops::Range<usize> {
        let [taps, size] = [[self.kh, self.h], [self.kw, self.w]][axis];
        let (start, dilation) = (output * self.stride[axis], self.dilation[axis]);
        // A division takes longer than a small window.
        let steps = |pixels: usize| if dilation == 1 { pixels } else { pixels.div_ceil(dilation) };
        let before = |end: usize| steps(end.saturating_sub(start)).min(taps);
        let first = before(self.padding[axis]);
        first..before(self.padding[axis] + size).max(first)
    }

    /// Returns where the columns of a phase of the stride are, of `columns` padded ones of that phase.
    pub fn phase(&self, phase: usize, columns: usize) -> Phase {
        let phases = self.stride[1];
        let left = self.padding[1].saturating_sub(phase).div_ceil(phases).min(columns);
        let start = (left * phases + phase).saturating_sub(self.padding[1]);
        Phase { left, start, inside: self.w.saturating_sub(start).div_ceil(phases).min(columns - left) }
    }

    /// Returns the number of vector multiply-adds for each pair of an output pixel and a tap, if vectors hold `lanes`
    /// channels of the result of a pass.
    pub fn vector_steps(&self, pass: Pass, lanes: usize) -> f64 {
        let [depth, wide] = if pass == Pass::InputGrad {
            [self.out_per_group, self.in_per_group]
        } else {
            [self.in_per_group, self.out_per_group]
        };
        (depth * wide.div_ceil(lanes)) as f64
    }

    /// Returns the number of pairs of an output pixel and a tap that is not over padding.
    pub fn inside_taps(&self) -> usize {
        let on_axis = |axis: usize| {
            let [taps, outputs, size] = [[self.kh, self.oh, self.h], [self.kw, self.ow, self.w]][axis];
            let [stride, padding, dilation] =
                [self.stride, self.padding, self.dilation].map(|pair| pair[axis]);
            let count = |tap: usize| {
                let end_of = |end: usize| end.saturating_sub(tap * dilation).div_ceil(stride).min(outputs);
                end_of(size + padding) - end_of(padding)
            };
            (0..taps).map(count).sum::<usize>()
        };
        on_axis(0) * on_axis(1)
    }

    /// Returns the phases of an axis that a tap meets, in increasing order: the input pixels `p` with equal `p % stride`
    /// depend on the same taps, and those of other phases on none.
    pub fn phases(&self, axis: usize) -> Vec<usize> {
        let [taps, size] = [[self.kh, self.h], [self.kw, self.w]][axis];
        let [stride, padding, dilation] = [self.stride, self.padding, self.dilation].map(|pair| pair[axis]);
        let before = padding % stride;
        let phase = |tap: usize| (tap * dilation % stride + stride - before) % stride;
        let mut phases: Vec<usize> = (0..taps).map(phase).filter(|&phase| phase < size).collect();
        phases.sort_unstable();
        phases.dedup();
        phases
    }

    /// Returns the output pixel under the first tap of input pixel 0 for the input gradient with a stride of 1, which
    /// is a convolution of the output gradient with the rotated filters.
    pub fn input_grad_shift(&self) -> [isize; 2] {
        [(0, self.kh), (1, self.kw)].map(|(axis, kernel)| self.padding[axis] as isize - kernel as isize + 1)
    }

    /// Returns the row and column of the input under kernel element `(kr, kc)` of output pixel `(r, c)`, or
    /// `None` in the padding.
    #[inline]
    pub fn source(&self, r: usize, c: usize, kr: usize, kc: usize) -> Option<(usize, usize)> {
        let row = (r * self.stride[0] + kr * self.dilation[0]).wrapping_sub(self.padding[0]);
        let column = (c * self.stride[1] + kc * self.dilation[1]).wrapping_sub(self.padding[1]);
        (row < self.h && column < self.w).then_some((row, column))
    }

    /// Returns the number of groups of a task of a weight gradient that is computed group by group, and of parts of the batch, whose
    /// sums are added. They depend on the shape alone.
    pub fn weight_grad_blocks(&self) -> [usize; 2] {
        /// Target number of tasks, if there are fewer groups.
        const TASKS: usize = 16;
        /// Number of floats of the planes of a task in one image, about.
        const TASK_FLOATS: usize = 1 << 14;
        let parts = TASKS.div_ceil(self.groups).min(self.n);
        // The planes of neighboring groups are read one after the other: small ones alone would wait for memory each time.
        let floats = self.in_per_group * self.h * self.w + self.out_per_group * self.out_pixels();
        let block = (TASK_FLOATS / floats.max(1)).min(self.groups * parts / TASKS).max(1);
        [block, parts]
    }

    /// Returns the index within a channel's kernel of the weight for kernel element `(kr, kc)`: counted from
    /// the end if the kernel is flipped.
    #[inline]
    pub fn tap(&self, kr: usize, kc: usize) -> usize {
        let tap = kr * self.kw + kc;
        if self.flip { self.kh * self.kw - 1 - tap } else { tap }
    }

    /// Returns the multiply-adds of the convolution, which are also those of either gradient. Products with
    /// padding count, as is usual. More than 64 bits can hold are `u64::MAX`.
    pub fn multiply_adds(&self) -> u64 {
        [self.n, self.groups, self.out_per_group, self.oh, self.ow, self.in_per_group, self.kh, self.kw]
            .iter()
            .fold(1, |product: u64, &e| product.saturating_mul(e as u64))
    }
}

//! The sizes that the kernels of a convolution work with.

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

    /// Returns the row and column of the input under kernel element `(kr, kc)` of output pixel `(r, c)`, or
    /// `None` in the padding.
    #[inline]
    pub fn source(&self, r: usize, c: usize, kr: usize, kc: usize) -> Option<(usize, usize)> {
        let row = (r * self.stride[0] + kr * self.dilation[0]).wrapping_sub(self.padding[0]);
        let column = (c * self.stride[1] + kc * self.dilation[1]).wrapping_sub(self.padding[1]);
        (row < self.h && column < self.w).then_some((row, column))
    }

    /// Returns the index within a channel's kernel of the weight for kernel element `(kr, kc)`: counted from
    /// the end if the kernel is flipped.
    #[inline]
    pub fn tap(&self, kr: usize, kc: usize) -> usize {
        let tap = kr * self.kw + kc;
        if self.flip { self.kh * self.kw - 1 - tap } else { tap }
    }

    /// Returns the multiply-adds of the convolution, which are also those of either gradient. Products with
    /// padding count, as is usual.
    pub fn multiply_adds(&self) -> u64 {
        [self.n, self.groups, self.out_per_group, self.oh, self.ow, self.in_per_group, self.kh, self.kw]
            .iter()
            .map(|&e| e as u64)
            .product()
    }
}

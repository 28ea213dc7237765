//! How the window of a convolution moves, and the sizes that follow.

use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// How the window moves over the picture; each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dGeometry {
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Zeros around the picture, on each side.
    pub padding: [usize; 2],
    /// Pixels from one element of the window to the next.
    pub dilation: [usize; 2],
    /// Into how many parts the channels are split; each sees only its own input channels.
    pub groups: usize,
    /// Whether the kernel is rotated by 180 degrees: true convolution, not cross-correlation.
    pub flip: bool,
}

impl Default for Conv2dGeometry {
    fn default() -> Self {
        Conv2dGeometry { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, flip: false }
    }
}

impl Conv2dGeometry {
    /// `[oh, ow]`: `o = (i + 2 * padding - dilation * (k - 1) - 1) / stride + 1`, rounded down.
    ///
    /// # Errors
    /// When a setting is 0, or the padded picture is smaller than the window.
    pub fn output_size(&self, input: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2]> {
        self.check()?;
        if kernel.contains(&0) {
            return Err(Error::shape(format!(
                "the kernel is {} x {}, it must not be empty",
                kernel[0], kernel[1]
            )));
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = self.padding[axis].checked_mul(2).and_then(|p| p.checked_add(input[axis]));
            let reach = self.dilation[axis].checked_mul(kernel[axis] - 1).and_then(|r| r.checked_add(1));
            let (Some(padded), Some(reach)) = (padded, reach) else {
                return Err(Error::invalid_argument(format!(
                    "padding {:?} or dilation {:?} is too large",
                    self.padding, self.dilation
                )));
            };
            if padded < reach {
                return Err(Error::shape(format!(
                    "the picture is smaller than the kernel: {} x {} pixels with padding {:?}, but the kernel {} x {} with dilation {:?} spans {} {}",
                    input[0],
                    input[1],
                    self.padding,
                    kernel[0],
                    kernel[1],
                    self.dilation,
                    reach,
                    ["rows", "columns"][axis],
                )));
            }
            output[axis] = (padded - reach) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [("stride", self.stride), ("dilation", self.dilation)] {
            if value.contains(&0) {
                return Err(Error::invalid_argument(format!(
                    "the {name} is {value:?}, it must be at least 1"
                )));
            }
        }
        if self.groups == 0 {
            return Err(Error::invalid_argument("groups is 0, it must be at least 1"));
        }
        Ok(())
    }

    /// Checks that the groups divide the channels, `what` being "input" or "output".
    pub(super) fn check_groups(&self, channels: usize, what: &str) -> Result<()> {
        self.check()?;
        if !channels.is_multiple_of(self.groups) {
            return Err(Error::shape(format!(
                "the {channels} {what} channels cannot be split into {} groups",
                self.groups
            )));
        }
        Ok(())
    }

    /// All sizes of a convolution whose shapes were checked.
    pub(super) fn problem(&self, x: &[usize], weight: &[usize], y: &[usize]) -> Problem {
        Problem {
            n: x[0],
            groups: self.groups,
            cg: x[1] / self.groups,
            og: y[1] / self.groups,
            h: x[2],
            w: x[3],
            kh: weight[2],
            kw: weight[3],
            oh: y[2],
            ow: y[3],
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            flip: self.flip,
            x_step: x[1..].iter().product(),
            y_step: y[1..].iter().product(),
        }
    }
}

/// All sizes of a convolution: `x [n, groups * cg, h, w]`, `weight [groups * og, cg, kh, kw]`,
/// `y [n, groups * og, oh, ow]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub n: usize,
    pub groups: usize,
    pub cg: usize,
    pub og: usize,
    pub h: usize,
    pub w: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub flip: bool,
    /// From a picture to the next in memory.
    pub x_step: usize,
    pub y_step: usize,
}

impl Problem {
    /// The length of a row of the weight, seen as a matrix: channels and taps.
    pub fn depth(&self) -> usize {
        self.cg * self.kh * self.kw
    }

    /// Pixels of an output's plane.
    pub fn pixels(&self) -> usize {
        self.oh * self.ow
    }

    /// The row and column of the picture under window element `(kr, kc)` of output pixel `(r, c)`, if inside.
    #[inline]
    pub fn source(&self, r: usize, c: usize, kr: usize, kc: usize) -> Option<(usize, usize)> {
        let row = (r * self.stride[0] + kr * self.dilation[0]).wrapping_sub(self.padding[0]);
        let column = (c * self.stride[1] + kc * self.dilation[1]).wrapping_sub(self.padding[1]);
        (row < self.h && column < self.w).then_some((row, column))
    }

    /// Where window element `(kr, kc)` has its weight: the other way round for a flipped kernel.
    #[inline]
    pub fn tap(&self, kr: usize, kc: usize) -> usize {
        let tap = kr * self.kw + kc;
        if self.flip { self.kh * self.kw - 1 - tap } else { tap }
    }

    /// Multiply-adds of the convolution, or of either of its gradients; positions over the padding count, as usual.
    pub fn multiply_adds(&self) -> u64 {
        [self.n, self.groups, self.og, self.oh, self.ow, self.cg, self.kh, self.kw]
            .iter()
            .map(|&e| e as u64)
            .product()
    }
}

/// The extents of the weight `[out, c / groups, kh, kw]`.
pub(super) fn weight_shape(weight: &Shape) -> Result<[usize; 4]> {
    match <[usize; 4]>::try_from(weight.extents()) {
        Ok(extents) if !extents.contains(&0) => Ok(extents),
        _ => Err(Error::shape(format!(
            "the weight should be [out channels, channels / groups, kernel height, kernel width], none of them 0; it is {weight}"
        ))),
    }
}

//! The geometry of a convolution: stride, padding, dilation and groups, and the output size that follows.

use super::shape::ConvShape;
use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// Stride, padding, dilation and groups of a two-dimensional convolution. Each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dGeometry {
    /// Pixels from one window to the next, at least 1.
    pub stride: [usize; 2],
    /// Zeros added on each side of the image.
    pub padding: [usize; 2],
    /// Pixels from one kernel element to the next, at least 1.
    pub dilation: [usize; 2],
    /// Number of groups: the output channels of a group depend on the input channels of that group only.
    pub groups: usize,
    /// Whether the kernel is rotated by 180 degrees: true convolution instead of cross-correlation.
    pub flip: bool,
}

impl Default for Conv2dGeometry {
    fn default() -> Self {
        Conv2dGeometry { stride: [1; 2], padding: [0; 2], dilation: [1; 2], groups: 1, flip: false }
    }
}

impl Conv2dGeometry {
    /// Returns the output size `[oh, ow]` for an input `[h, w]` and a kernel `[kh, kw]`, per axis
    /// `floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1`.
    ///
    /// # Errors
    /// If stride, dilation, groups or the kernel size is 0, or the padded image is smaller than the dilated
    /// kernel.
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
            let padded = self.padding[axis].checked_mul(2).and_then(|sum| sum.checked_add(input[axis]));
            let reach = self.dilation[axis].checked_mul(kernel[axis] - 1).and_then(|r| r.checked_add(1));
            let (Some(padded), Some(reach)) = (padded, reach) else {
                return Err(Error::invalid_argument(format!(
                    "padding {:?} or dilation {:?} is too large",
                    self.padding, self.dilation
                )));
            };
            if padded < reach {
                return Err(Error::shape(format!(
                    "the image is smaller than the kernel: {} x {} pixels with padding {:?}, but the kernel {} x {} with dilation {:?} spans {} {}",
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

    /// Checks that the number of groups divides `channels`; `what` is "input" or "output".
    ///
    /// # Errors
    /// If it does not, or the geometry is invalid.
    pub(crate) fn check_groups(&self, channels: usize, what: &str) -> Result<()> {
        self.check()?;
        if !channels.is_multiple_of(self.groups) {
            return Err(Error::shape(format!(
                "the {channels} {what} channels cannot be split into {} groups",
                self.groups
            )));
        }
        Ok(())
    }

    /// Collects the sizes of a convolution whose shapes were checked by `infer`.
    pub(crate) fn conv_shape(&self, x: &[usize], weight: &[usize], y: &[usize]) -> ConvShape {
        ConvShape {
            n: x[0],
            groups: self.groups,
            in_per_group: x[1] / self.groups,
            out_per_group: y[1] / self.groups,
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
            x_batch_stride: x[1..].iter().product(),
            y_batch_stride: y[1..].iter().product(),
        }
    }
}

/// Returns the extents of the weight `[out, in / groups, kh, kw]`.
///
/// # Errors
/// If it does not have four axes, or one is empty.
pub fn weight_shape(weight: &Shape) -> Result<[usize; 4]> {
    match <[usize; 4]>::try_from(weight.extents()) {
        Ok(extents) if !extents.contains(&0) => Ok(extents),
        _ => Err(Error::shape(format!(
            "the weight should be [out channels, channels / groups, kernel height, kernel width], none of them 0; it is {weight}"
        ))),
    }
}

//! The geometry of a convolution: stride, padding, dilation and groups, and the output size that follows.

use super::shape::ConvShape;
use crate::core::shape::Shape;
use neocog_base::text::noun_for;
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
            // Kernels compute with signed positions.
            let padded = padded.filter(|&padded| isize::try_from(padded).is_ok());
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
                "{channels} {what} {} cannot be split into {} groups",
                noun_for(&channels, "channel"),
                self.groups
            )));
        }
        Ok(())
    }

    /// Collects the sizes of a convolution whose shapes were checked by `infer`. Strides and dilations that are larger
    /// than the image are replaced by equivalent ones, so that no kernel's work or memory grows with them.
    pub(crate) fn conv_shape(&self, x: &[usize], weight: &[usize], y: &[usize]) -> ConvShape {
        let axes = [0, 1].map(|axis| Axis {
            size: x[2 + axis],
            outputs: y[2 + axis],
            taps: weight[2 + axis],
            stride: self.stride[axis],
            padding: self.padding[axis],
            dilation: self.dilation[axis],
        });
        let axes = axes.map(Axis::reduced);
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
            stride: axes.map(|axis| axis.stride),
            padding: axes.map(|axis| axis.padding),
            dilation: axes.map(|axis| axis.dilation),
            flip: self.flip,
            x_batch_stride: x[1..].iter().product(),
            y_batch_stride: y[1..].iter().product(),
            in_blocks: [false; 2],
        }
    }
}

/// One axis of a convolution: tap `t` of output `o` reads pixel `o * stride + t * dilation - padding`.
#[derive(Clone, Copy, Debug)]
struct Axis {
    size: usize,
    outputs: usize,
    taps: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
}

impl Axis {
    /// Returns an axis on which every tap of every output reads the same pixel of the image, or padding as well, with a
    /// stride and a dilation that are bounded by the sizes.
    fn reduced(mut self) -> Self {
        let reach = (self.taps - 1) * self.dilation;
        (self.stride, self.padding) = reduce_step(self.size, self.stride, reach, self.padding);
        let reach = self.outputs.saturating_sub(1) * self.stride;
        (self.dilation, self.padding) = reduce_step(self.size, self.dilation, reach, self.padding);
        self
    }
}

/// Returns a step and a padding such that the windows `i * step - padding ..= i * step - padding + reach` cover the same
/// pixels of an image of `size` pixels. If the step is larger than a window and the image, at most one window meets
/// the image; the others only have to stay outside.
fn reduce_step(size: usize, step: usize, reach: usize, padding: usize) -> (usize, usize) {
    let spacing = size + reach + 1;
    if step <= spacing {
        return (step, padding);
    }
    // The first window that does not end before the image, and its start.
    let first = padding.saturating_sub(reach).div_ceil(step);
    let start = (first * step) as i128 - padding as i128;
    let start = start.min(size as i128);
    (spacing, ((first * spacing) as i128 - start) as usize)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pixel under each tap of each output.
    fn sources(axis: Axis) -> Vec<Option<i128>> {
        let pairs = (0..axis.outputs).flat_map(|o| (0..axis.taps).map(move |t| (o, t)));
        let pixel = |(o, t): (usize, usize)| {
            let pixel = (o * axis.stride) as i128 + (t * axis.dilation) as i128 - axis.padding as i128;
            (0..axis.size as i128).contains(&pixel).then_some(pixel)
        };
        pairs.map(pixel).collect()
    }

    #[test]
    fn large_strides_and_dilations_are_reduced_to_equivalent_ones() {
        let mut reduced = 0;
        for code in 0..3 * 4 * 12 * 20 * 9 {
            let (taps, code) = (code % 3 + 1, code / 3);
            let (size, code) = (code % 4, code / 4);
            let (stride, code) = (code % 12 + 1, code / 12);
            let (padding, code) = (code % 20, code / 20);
            let dilation = code + 1;
            let (padded, reach) = (size + 2 * padding, (taps - 1) * dilation + 1);
            if padded < reach {
                continue;
            }
            let outputs = (padded - reach) / stride + 1;
            let axis = Axis { size, outputs, taps, stride, padding, dilation };
            let now = axis.reduced();
            assert_eq!(sources(axis), sources(now), "{axis:?} {now:?}");
            assert!(now.stride <= stride && now.dilation <= dilation, "{axis:?} {now:?}");
            reduced += usize::from(now.stride < stride);
        }
        assert!(reduced > 1000, "{reduced}");
    }

    #[test]
    fn extreme_parameters_are_reduced_without_overflow() {
        let max = usize::MAX;
        let axis = Axis { size: 5, outputs: 1, taps: 1, stride: max, padding: 0, dilation: max };
        let now = axis.reduced();
        assert_eq!([now.stride, now.padding, now.dilation], [6, 0, 6]);
        let half = max / 4;
        let axis = Axis { size: 5, outputs: 3, taps: 1, stride: half, padding: half, dilation: 1 };
        let now = axis.reduced();
        assert_eq!(sources(now), [None, Some(0), None]);
        assert!(now.stride < 10 && now.padding < 10, "{now:?}");
    }

    #[test]
    fn sizes_beyond_64_bits_are_errors() {
        let geometry = |padding: usize, dilation: usize| Conv2dGeometry {
            padding: [padding; 2],
            dilation: [dilation; 2],
            ..Conv2dGeometry::default()
        };
        assert!(geometry(usize::MAX / 2, 1).output_size([5, 5], [3, 3]).is_err());
        assert!(geometry(usize::MAX, 1).output_size([5, 5], [3, 3]).is_err());
        assert!(geometry(isize::MAX as usize / 2, 1).output_size([5, 5], [3, 3]).is_err());
        assert!(geometry(1, usize::MAX).output_size([5, 5], [3, 3]).is_err());
        assert!(geometry(1, usize::MAX).output_size([5, 5], [1, 1]).is_ok());
        let conv = geometry(0, 1).conv_shape(&[1 << 40, 1, 1, 1], &[1 << 20, 1, 1, 1], &[1 << 40, 1, 1, 1]);
        let conv = ConvShape { in_per_group: 1 << 40, ..conv };
        assert_eq!(conv.multiply_adds(), u64::MAX);
    }
}

//! Sliding windows, as used by all pooling operations.

pub(super) mod blocks;
pub(super) mod opencl;

use std::ops::Range;

use neocog_base::{Error, Result};

/// Largest channel plane, in pixels, whose indices are exact in single precision.
pub(super) const LARGEST_INDEXED_PLANE: usize = 1 << 24;

/// Parameters of a pooling. Each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolWindow {
    pub kernel_size: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub ceil_mode: bool,
}

/// One axis of a [`PoolWindow`] on an image of valid size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl PoolWindow {
    /// Returns `[oh, ow]`: `o = (i + 2 * padding - dilation * (k - 1) - 1) / stride + 1`, rounded down, or up in `ceil_mode`. A
    /// last window that would start in the right padding is omitted.
    ///
    /// # Errors
    /// If a parameter is 0, the padding is more than half the kernel size, the image is empty or smaller than the window, or a
    /// window contains only padding.
    pub fn output_size(&self, input: [usize; 2]) -> Result<[usize; 2]> {
        for (name, value) in
            [("kernel_size", self.kernel_size), ("stride", self.stride), ("dilation", self.dilation)]
        {
            if value.contains(&0) {
                return Err(Error::invalid_argument(format!("{name} is {value:?}, it must be at least 1")));
            }
        }
        if (0..2).any(|a| self.padding[a] > self.kernel_size[a] / 2) {
            return Err(Error::invalid_argument(format!(
                "padding is {:?}, it must be at most half of kernel_size {:?}",
                self.padding, self.kernel_size
            )));
        }
        if input.contains(&0) {
            return Err(Error::shape(format!("the image is empty: {} x {} pixels", input[0], input[1])));
        }
        Ok([self.along(0, input)?, self.along(1, input)?])
    }

    fn along(&self, axis: usize, input: [usize; 2]) -> Result<usize> {
        let (kernel, stride, dilation) = (self.kernel_size[axis], self.stride[axis], self.dilation[axis]);
        let padded = self.padding[axis].checked_mul(2).and_then(|p| p.checked_add(input[axis]));
        let reach = dilation.checked_mul(kernel - 1).and_then(|r| r.checked_add(1));
        // Rounding up equals rounding down after adding `stride - 1`.
        let slack = if self.ceil_mode { stride - 1 } else { 0 };
        let room = padded.and_then(|p| p.checked_add(slack));
        let (Some(room), Some(reach)) = (room, reach) else {
            return Err(Error::invalid_argument(format!(
                "kernel_size {:?}, stride {:?}, padding {:?} or dilation {:?} is too large",
                self.kernel_size, self.stride, self.padding, self.dilation
            )));
        };
        let direction = ["rows", "columns"][axis];
        let Some(steps) = room.checked_sub(reach) else {
            return Err(Error::shape(format!(
                "the image is smaller than the window: {} x {} pixels with padding {:?}, but the window of {} x {} with dilation {:?} spans {reach} {direction}",
                input[0], input[1], self.padding, self.kernel_size[0], self.kernel_size[1], self.dilation,
            )));
        };
        let mut output = steps / stride + 1;
        if self.ceil_mode && (output - 1).saturating_mul(stride) >= input[axis] + self.padding[axis] {
            output -= 1;
        }
        // Only a window that starts in the padding can skip the whole image, if the dilation is larger than the image.
        let axis = self.axis(axis, input, output);
        let large_steps = dilation > axis.input;
        let starts_outside = if large_steps { axis.padding.div_ceil(stride).min(output) } else { 0 };
        if let Some(o) = (0..starts_outside).find(|&o| axis.taps(o).is_empty()) {
            return Err(Error::shape(format!(
                "window {o} along the {direction} contains only padding: {} {direction}, padding {}, dilation {dilation}",
                axis.input, axis.padding
            )));
        }
        Ok(output)
    }

    fn axis(&self, axis: usize, input: [usize; 2], output: usize) -> Axis {
        Axis {
            input: input[axis],
            output,
            kernel: self.kernel_size[axis],
            // A single window has no distance to others.
            stride: if output > 1 { self.stride[axis] } else { 1 },
            padding: self.padding[axis],
            dilation: self.dilation[axis],
        }
    }

    /// Returns the vertical and the horizontal axis for valid shapes `[n, c, h, w]` and `[n, c, oh, ow]`.
    pub fn axes(&self, x: &[usize], y: &[usize]) -> [Axis; 2] {
        let input = [x[2], x[3]];
        [self.axis(0, input, y[2]), self.axis(1, input, y[3])]
    }
}

impl Axis {
    /// Returns the elements of window `o` within the image.
    #[inline]
    pub fn taps(&self, o: usize) -> Range<usize> {
        let start = o * self.stride;
        let first = self.steps(self.padding.saturating_sub(start));
        let end = self.steps((self.padding + self.input).saturating_sub(start)).min(self.kernel);
        first.min(end)..end
    }

    /// Returns the pixel at element `tap` of window `o`, which must be within the image.
    #[inline]
    pub fn pixel(&self, o: usize, tap: usize) -> usize {
        o * self.stride + tap * self.dilation - self.padding
    }

    /// Returns the number of elements of window `o` within the padded image.
    #[inline]
    pub fn padded_taps(&self, o: usize) -> usize {
        let left = (self.input + 2 * self.padding).saturating_sub(o * self.stride);
        self.steps(left).min(self.kernel)
    }

    /// Returns the number of window elements on the first `pixels` pixels. Avoids the division if there is no dilation: it would
    /// take longer than a small window.
    #[inline]
    fn steps(&self, pixels: usize) -> usize {
        if self.dilation == 1 { pixels } else { pixels.div_ceil(self.dilation) }
    }

    /// Returns the windows that are completely within the image.
    pub fn inside(&self) -> Range<usize> {
        let reach = (self.kernel - 1) * self.dilation + 1;
        let first = self.padding.div_ceil(self.stride);
        let end = (self.padding + self.input).checked_sub(reach).map_or(0, |steps| steps / self.stride + 1);
        let end = end.min(self.output);
        first.min(end)..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, padding: usize, dilation: usize, ceil_mode: bool) -> PoolWindow {
        PoolWindow {
            kernel_size: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [dilation; 2],
            ceil_mode,
        }
    }

    #[test]
    fn sizes_are_those_of_pytorch() {
        let size = |window: PoolWindow, input| window.output_size([input; 2]).unwrap()[0];
        assert_eq!(size(window(2, 2, 0, 1, false), 5), 2);
        assert_eq!(size(window(2, 2, 0, 1, true), 5), 3);
        assert_eq!(size(window(3, 2, 1, 1, false), 48), 24);
        // A last window that would start in the right padding is omitted.
        assert_eq!(size(window(2, 4, 1, 1, true), 5), 2);
        assert_eq!(size(window(2, 3, 1, 1, true), 5), 2);
        // A window may be larger than the image.
        assert_eq!(size(window(2, 2, 0, 1, true), 1), 1);
    }

    #[test]
    fn window_elements_match_a_naive_computation() {
        for kernel in 1..=4 {
            for (stride, padding, dilation, input) in (1..=4)
                .flat_map(|s| (0..=kernel / 2).map(move |p| (s, p)))
                .flat_map(|(s, p)| (1..=3).flat_map(move |d| (1..=12).map(move |input| (s, p, d, input))))
            {
                for ceil_mode in [false, true] {
                    let window = window(kernel, stride, padding, dilation, ceil_mode);
                    let Ok([output, _]) = window.output_size([input; 2]) else { continue };
                    let axis = window.axis(0, [input; 2], output);
                    for o in 0..output {
                        let naive: Vec<usize> = (0..kernel)
                            .filter(|t| (o * stride + t * dilation).wrapping_sub(padding) < input)
                            .collect();
                        assert_eq!(axis.taps(o).collect::<Vec<_>>(), naive, "{axis:?} {o}");
                        assert!(!naive.is_empty(), "{axis:?} {o}");
                        let first = (o * stride) as isize - padding as isize;
                        let last = first + ((kernel - 1) * dilation) as isize;
                        let inside = first >= 0 && last < input as isize;
                        assert_eq!(axis.inside().contains(&o), inside, "{axis:?} {o}");
                    }
                }
            }
        }
    }

    #[test]
    fn invalid_windows_are_errors() {
        let error = |window: PoolWindow, input| window.output_size(input).unwrap_err().to_string();
        assert!(error(window(0, 1, 0, 1, false), [4, 4]).contains("kernel_size is [0, 0]"));
        assert!(error(window(2, 0, 0, 1, false), [4, 4]).contains("stride is [0, 0]"));
        assert!(error(window(2, 1, 0, 0, false), [4, 4]).contains("dilation is [0, 0]"));
        assert!(error(window(3, 1, 2, 1, false), [4, 4]).contains("at most half of kernel_size [3, 3]"));
        assert!(error(window(2, 1, 1, 1, false), [0, 4]).contains("empty: 0 x 4"));
        assert!(error(window(5, 1, 0, 1, false), [4, 9]).contains("spans 5 rows"));
        assert!(error(window(3, 1, 0, 4, false), [9, 8]).contains("spans 9 columns"));
        assert!(error(window(2, 1, 1, 3, false), [2, 2]).contains("only padding"));
        assert!(error(window(3, 1, 0, usize::MAX, false), [9, 8]).contains("too large"));
        assert!(error(window(usize::MAX, 1, usize::MAX / 2, 1, false), [9, 8]).contains("too large"));
    }
}

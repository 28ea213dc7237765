//! The convolution as a value: its geometry and its activation.

use super::cpu;
use super::geometry::Conv2dGeometry;
use super::opencl;
use super::shape::ConvShape;
use crate::core::op::Op;
use crate::core::shape::Shapes;
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::ops::Activation;
use crate::ops::channel_blocks::BlockLayout;
use neocog_base::Result;

/// A two-dimensional convolution with an optional fused activation.
///
/// Inputs: `x [n, c, h, w]`, `weight [out, c / groups, kh, kw]` and optionally `bias [out]`; output: `[n,
/// out, oh, ow]` with the size of [`Conv2dGeometry::output_size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Pixels from one window to the next, `[rows, columns]`.
    pub stride: [usize; 2],
    /// Zeros added on each side of the image, `[rows, columns]`.
    pub padding: [usize; 2],
    /// Pixels from one kernel element to the next, `[rows, columns]`.
    pub dilation: [usize; 2],
    /// Number of groups of channels.
    pub groups: usize,
    /// Whether the kernel is rotated by 180 degrees: true convolution instead of cross-correlation.
    pub flip: bool,
    /// The activation applied to the result.
    pub activation: Option<Activation>,
}

impl Default for Conv2d {
    fn default() -> Self {
        Conv2d::new(Conv2dGeometry::default(), None)
    }
}

impl Conv2d {
    /// Creates a convolution of this geometry.
    pub fn new(geometry: Conv2dGeometry, activation: Option<Activation>) -> Self {
        let Conv2dGeometry { stride, padding, dilation, groups, flip } = geometry;
        Conv2d { stride, padding, dilation, groups, flip, activation }
    }

    /// Runs the OpenCL kernel; `packed` is the result of [`opencl::pack`], if there is one.
    pub(super) fn opencl_packed(&self, call: &Call<'_>, packed: Option<&opencl::Packed>) -> Result<()> {
        let conv = self.geometry().conv_shape(call.input(0).shape, call.input(1).shape, call.output(0).shape);
        let [x, weight, y] = [call.input(0), call.input(1), call.output(0)].map(|view| view.buffer);
        let bias = call.inputs().get(2).map(|view| view.buffer);
        opencl::forward(call, &conv, x, weight, packed, bias, self.activation, y)
    }

    /// Returns the geometry without the activation.
    pub fn geometry(&self) -> Conv2dGeometry {
        let Conv2d { stride, padding, dilation, groups, flip, .. } = *self;
        Conv2dGeometry { stride, padding, dilation, groups, flip }
    }

    /// Returns the sizes for inputs some of which are in blocks of channels, as the output is, and the shapes of these inputs without
    /// blocks.
    pub(super) fn shape_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
    ) -> (ConvShape, Shapes) {
        let shapes: Shapes = inputs.iter().map(|view| *view.shape).collect();
        let shapes = blocks.plain(&shapes).expect("checked by infer");
        let y = self.infer(&shapes).expect("checked by infer")[0];
        let conv = self.geometry().conv_shape(&shapes[0], &shapes[1], &y);
        (ConvShape { in_blocks: [blocks.inputs[0].is_some(), true], ..conv }, shapes)
    }

    /// Runs the CPU kernel with a weight that [`cpu::pack`] packed for these sizes.
    pub(super) fn cpu_packed(
        &self,
        conv: &ConvShape,
        packed: &cpu::Packed,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        scratch: &Scratch,
    ) {
        let conv = &ConvShape {
            x_batch_stride: inputs[0].batch_stride,
            y_batch_stride: outputs[0].batch_stride,
            ..*conv
        };
        let bias = inputs.get(2).map(|b| b.data);
        let (x, weight, y) = (inputs[0].data, inputs[1].data, &mut *outputs[0].data);
        cpu::forward(conv, x, weight, packed, bias, self.activation, y, scratch);
    }
}

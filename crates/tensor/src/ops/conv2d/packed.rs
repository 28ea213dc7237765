//! A convolution with a constant weight, packed once.

use super::{Conv2d, ConvShape, cpu, opencl as kernels};
use crate::core::check::{check_call, check_views};
use crate::core::device::Device;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, Window};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{self, Call};
use crate::ops::channel_blocks::{BlockKernel, BlockLayout};
use neocog_base::Result;

/// [`Conv2d`] for inputs of one shape and one constant weight, which is kept in the layout of the device's kernel:
/// packed, or transformed for the Winograd algorithm. Its inputs are those of the convolution.
#[derive(Debug)]
pub(super) struct PackedConv2d {
    op: Conv2d,
    x: Shape,
    weight: Shape,
    /// Whether the input and the output are in blocks of channels.
    in_blocks: [bool; 2],
    packed: Packed,
}

enum Packed {
    Cpu(cpu::Packed),
    OpenCl(kernels::Packed),
    /// The device has one algorithm, which reads the weight in its original layout.
    Unpacked,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Packed::Cpu(packed) => write!(f, "for {} on the CPU", packed.algorithm.name()),
            Packed::OpenCl(packed) => write!(f, "for {} on its device", packed.algorithm.name()),
            Packed::Unpacked => write!(f, "not packed"),
        }
    }
}

impl PackedConv2d {
    /// Packs `weight` for `op` on inputs of the shape `x`, on the weight's device; input and output may be in blocks of channels.
    ///
    /// # Errors
    /// If the shapes do not match, or the device fails.
    pub fn new(op: Conv2d, x: Shape, weight: &Tensor, in_blocks: [bool; 2]) -> Result<Self> {
        let y = op.infer(&[x, *weight.shape()])?[0];
        let conv = ConvShape { in_blocks, ..op.geometry().conv_shape(&x, weight.shape(), &y) };
        let packed = match weight.device() {
            Device::Cpu => Packed::Cpu(Scratch::with(|scratch| cpu::pack(&conv, weight.cpu(), scratch))?),
            Device::OpenCl(id) => {
                let call = Call::new(opencl::open(id)?, op.name(), &[], &[]);
                Packed::OpenCl(kernels::pack(&call, &conv, &*weight.opencl()?)?)
            }
            Device::Reference | Device::Meta => Packed::Unpacked,
        };
        Ok(PackedConv2d { op, x, weight: *weight.shape(), in_blocks, packed })
    }

    fn check(&self, shapes: [Shape; 2], in_blocks: [bool; 2]) {
        let expected = (self.in_blocks, [self.x, self.weight]);
        assert_eq!((in_blocks, shapes), expected, "the weight was packed for these shapes");
    }
}

impl Op for PackedConv2d {
    fn name(&self) -> &'static str {
        "packed_conv2d"
    }

    fn profile_name(&self) -> &'static str {
        self.op.profile_name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        self.op.infer(inputs)
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        self.op.reference(inputs, outputs);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        self.check([*inputs[0].shape, *inputs[1].shape], [false; 2]);
        let conv = self.op.geometry().conv_shape(inputs[0].shape, inputs[1].shape, outputs[0].shape);
        match &self.packed {
            Packed::Cpu(packed) => self.op.cpu_packed(&conv, packed, inputs, outputs, scratch),
            _ => self.op.cpu(inputs, outputs, scratch),
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let Packed::OpenCl(packed) = &self.packed else { return self.op.opencl(call) };
        self.check([*call.input(0).shape, *call.input(1).shape], [false; 2]);
        self.op.opencl_packed(call, Some(packed))
    }

    fn supports_batch_stride(&self) -> bool {
        self.op.supports_batch_stride()
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        self.op.window(inputs)
    }

    fn saves(&self) -> SavedTensors {
        self.op.saves()
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        self.op.grad(node)
    }

    fn multiply_adds(&self, inputs: &[Shape], outputs: &[Shape]) -> u64 {
        self.op.multiply_adds(inputs, outputs)
    }
}

impl BlockKernel for PackedConv2d {
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        scratch: &Scratch,
    ) {
        let (conv, shapes) = self.op.shape_in_blocks(blocks, inputs);
        self.check([shapes[0], shapes[1]], conv.in_blocks);
        match &self.packed {
            Packed::Cpu(packed) => self.op.cpu_packed(&conv, packed, inputs, outputs, scratch),
            _ => self.op.cpu_in_blocks(blocks, inputs, outputs, scratch),
        }
    }
}

//! The operation: a computation with its kernels and its gradient rule. The one mechanism, the same for the
//! operations here and for those of other crates.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::call::Call;
use crate::core::fusion::{ChannelAffine, Pass};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::memory::Scratch;
use neocog_base::{Error, Result};

/// A short list of tensors, inline for up to two.
pub type Tensors = SmallVec<[Tensor; 2]>;

/// Gradients of an operation's inputs, in their order; `None` where there is none or none is needed.
pub type InputGrads = SmallVec<[Option<Tensor>; 4]>;

/// A computation on tensors.
///
/// * [`infer`](Op::infer) is the only check of shapes: what the user got wrong becomes an error there, so the
///   kernels cannot fail.
/// * [`reference`](Op::reference) is the definition: plain nested loops in double precision, obviously right.
/// * Kernels get their outputs and scratch handed in and allocate nothing. Outputs hold unspecified values, and
///   every element of them must be written.
/// * Some outputs may be *state*, updated in place ([`state_outputs`](Op::state_outputs)): a parameter in an
///   optimizer's step. State holds its old values when the kernel is called.
/// * The gradient is written as other operations, so it runs on every device.
/// * The same inputs give the same bits, whatever the number of threads: work is split by the shapes alone.
pub trait Op: Any + Debug + Send + Sync {
    /// The name in lower case with underscores, as PyTorch has it where it does.
    fn name(&self) -> &'static str;

    /// The shapes of all outputs (state included), or what is wrong with the inputs.
    ///
    /// # Errors
    /// When the number of inputs or their shapes do not fit.
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes>;

    /// The definition, in double precision.
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]);

    /// The kernel of the CPU device, in single precision.
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch);

    /// Launches the kernels of OpenCL devices, in single precision. What the call gives needs no OpenCL library, so
    /// the method is there whether or not OpenCL is. Shapes were checked by [`infer`](Op::infer), and
    /// there is at least one output element.
    ///
    /// # Errors
    /// When the device fails.
    fn opencl(&self, call: &Call<'_>) -> Result<()>;

    /// Which inputs and outputs the gradient wants to see again.
    fn saves(&self) -> SavedTensors;

    /// The gradients of the inputs, from those of the outputs. An operation that has none says so with
    /// [`no_gradient`].
    ///
    /// # Errors
    /// When the operation has no gradient, or a device fails.
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads>;

    /// How many of the outputs, from the first, are state that is updated in place.
    fn state_outputs(&self) -> usize {
        0
    }

    /// Whether the only output is the first input in another shape: then it shares the input's memory, and no kernel
    /// runs.
    fn reshapes(&self) -> bool {
        false
    }

    /// Whether the kernel of the CPU takes a first input, and one output, with gaps between their rows along the first axis
    /// ([`View::step`]): parts of tensors that are joined along axis 1. The gaps are whole multiples of what lies at one position
    /// of the first two axes; nothing may be written to them.
    fn supports_batch_stride(&self) -> bool {
        false
    }

    /// Which elements of the first input an element of the output sees; `None` for the one at its own place. Receptive
    /// fields are made of it.
    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        None
    }

    /// Multiply-adds of one run, the usual count of work for convolutions and products; 0 for all else.
    fn multiply_adds(&self, _inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        0
    }

    // What the rewrites of a graph ask. None of these has to be implemented: without them, the operation runs as it is.

    /// Returns the activation function that the operation applies to its only input, if it does nothing else.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Returns an operation that computes this one followed by `next`, which has no input but the first output of this one. It
    /// has the inputs and outputs of this operation, except that its first output is that of `next`. In [`Pass::Training`] its
    /// gradients are the same, too.
    fn absorb(&self, _next: &dyn Op, _pass: Pass) -> Option<Arc<dyn Op>> {
        None
    }

    /// Whether this operation on the output of `before` gives the same outputs and gradients as `before` on the first output
    /// of this operation.
    fn commutes_with(&self, _before: &dyn Op) -> bool {
        false
    }

    /// Returns the map of channels that the operation is with these constant inputs (`None` for inputs that are not constant).
    ///
    /// # Errors
    /// If a tensor cannot be read.
    fn channel_affine(&self, _constants: &[Option<&Tensor>]) -> Result<Option<ChannelAffine>> {
        Ok(None)
    }

    /// Returns an operation that computes this one followed by a map of the channels of its only output, and the constant
    /// tensors that are its inputs from position 1. `inputs` are the shapes of the inputs, `constants` those that are constant.
    ///
    /// # Errors
    /// If a tensor cannot be read, or the device fails.
    fn absorb_affine(
        &self,
        _map: &ChannelAffine,
        _inputs: &[Shape],
        _constants: &[Option<&Tensor>],
    ) -> Result<Option<(Arc<dyn Op>, Vec<Tensor>)>> {
        Ok(None)
    }

    /// Returns the operation in a form that keeps what it derives from its constant inputs, as a packed weight, for inputs of
    /// these shapes. Inputs and outputs are the same.
    ///
    /// # Errors
    /// If the device fails.
    fn pack(&self, _inputs: &[Shape], _constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Op>>> {
        Ok(None)
    }

    /// Returns the axis along which the operation concatenates inputs of this rank, if that is what it does.
    fn concat_axis(&self, _rank: usize) -> Option<usize> {
        None
    }

    /// Returns the same operation with another seed, for an operation that draws random numbers: a recorded pass draws other
    /// numbers each time it is run. The offset within the seed's numbers stays the same.
    fn reseeded(&self, _seed: u64) -> Option<Arc<dyn Op>> {
        None
    }
}

/// A window that moves over pictures `[n, c, h, w]`; each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its elements.
    pub kernel_size: [usize; 2],
    /// Pixels from one window to the next.
    pub stride: [usize; 2],
    /// Rows and columns around the picture, on each side.
    pub padding: [usize; 2],
    /// Pixels from one element of the window to the next.
    pub dilation: [usize; 2],
}

impl Window {
    /// One window over all of the pictures `[n, c, h, w]`; `None` if that is not what they are.
    pub fn whole(pictures: &Shape) -> Option<Self> {
        let [_, _, h, w] = pictures.nchw().ok()?;
        Some(Window { kernel_size: [h, w], stride: [h, w], padding: [0, 0], dilation: [1, 1] })
    }
}

/// The error for [`Op::grad`] of an operation without a gradient.
///
/// # Errors
/// Always.
pub fn no_gradient<T>(op: &dyn Op) -> Result<T> {
    Err(Error::invalid_argument(format!("the operation {} has no gradient", op.name())))
}

/// Checks the number of inputs; for use in [`Op::infer`].
///
/// # Errors
/// When it is another.
pub fn expect_inputs<const N: usize>(op: &dyn Op, inputs: &[Shape]) -> Result<[Shape; N]> {
    inputs.try_into().map_err(|_| {
        Error::invalid_argument(format!(
            "{} takes {N} inputs, {} were given: {inputs:?}",
            op.name(),
            inputs.len()
        ))
    })
}

/// Which inputs and outputs an operation's gradient wants to see again. Memory is a feature: a relu keeps its
/// output only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedTensors {
    inputs: u32,
    outputs: u32,
}

impl SavedTensors {
    /// Nothing: the gradient is made of the outputs' gradients and the shapes.
    pub const NONE: SavedTensors = SavedTensors { inputs: 0, outputs: 0 };

    /// These inputs, by position.
    #[must_use]
    pub const fn inputs(mut self, positions: &[usize]) -> Self {
        let mut i = 0;
        while i < positions.len() {
            self.inputs |= 1 << positions[i];
            i += 1;
        }
        self
    }

    /// These outputs, by position.
    #[must_use]
    pub const fn outputs(mut self, positions: &[usize]) -> Self {
        let mut i = 0;
        while i < positions.len() {
            self.outputs |= 1 << positions[i];
            i += 1;
        }
        self
    }

    /// Whether input `position` is kept.
    pub const fn saves_input(&self, position: usize) -> bool {
        self.inputs >> position & 1 == 1
    }

    /// Whether output `position` is kept.
    pub const fn saves_output(&self, position: usize) -> bool {
        self.outputs >> position & 1 == 1
    }
}

/// What an operation's gradient has to work with.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// The shapes of all inputs.
    pub input_shapes: &'a [Shape],
    /// The shapes of all outputs.
    pub output_shapes: &'a [Shape],
    /// The inputs; those that [`Op::saves`] does not name are `None`.
    pub inputs: &'a [Option<Tensor>],
    /// The outputs; those that [`Op::saves`] does not name are `None`.
    pub outputs: &'a [Option<Tensor>],
    /// The gradients of the outputs; `None` where an output had no influence.
    pub output_grads: &'a [Option<Tensor>],
    /// Which inputs need a gradient at all.
    pub needs: &'a [bool],
}

impl Gradient<'_> {
    /// A kept input.
    ///
    /// # Panics
    /// When [`Op::saves`] does not name it.
    pub fn input(&self, position: usize) -> &Tensor {
        self.inputs[position].as_ref().expect("Op::saves names the inputs that the gradient uses")
    }

    /// A kept output.
    ///
    /// # Panics
    /// When [`Op::saves`] does not name it.
    pub fn output(&self, position: usize) -> &Tensor {
        self.outputs[position].as_ref().expect("Op::saves names the outputs that the gradient uses")
    }

    /// The gradient of the first output.
    ///
    /// # Panics
    /// When it had no influence; gradients are only asked for where some output had, so an operation with one
    /// differentiable output may rely on it.
    pub fn output_grad(&self) -> &Tensor {
        self.output_grads[0].as_ref().expect("a gradient is only asked for where the output had influence")
    }

    /// `make()` if input `position` needs a gradient.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn if_needed(
        &self,
        position: usize,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        if self.needs[position] { make().map(Some) } else { Ok(None) }
    }
}

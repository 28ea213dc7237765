//! The operation: a computation with its kernels and its gradient. Operations of this crate and of others implement the same
//! trait.

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

/// A list of tensors, stored inline for up to two.
pub type Tensors = SmallVec<[Tensor; 2]>;

/// Gradients of an operation's inputs, in order; `None` for inputs that have or need no gradient.
pub type InputGrads = SmallVec<[Option<Tensor>; 4]>;

/// An operation that has absorbed a channelwise affine map, and its constant inputs after the first input.
pub type AbsorbedAffine = (Arc<dyn Op>, Vec<Tensor>);

/// A computation on tensors.
///
/// * [`infer`](Op::infer) is the only shape check: invalid inputs are an error there, so kernels cannot fail.
/// * [`reference`](Op::reference) is the definition: plain loops in double precision.
/// * Kernels receive their outputs and scratch memory, and allocate nothing. Outputs have unspecified contents, and every
///   element must be written.
/// * Some outputs may be *state* that is updated in place ([`state_outputs`](Op::state_outputs)), such as a parameter in an
///   optimizer step. State has its old values when the kernel is called.
/// * The gradient is expressed by other operations, so it runs on every device.
/// * The same inputs give the same bits for any number of threads: work is split by shapes only.
pub trait Op: Any + Debug + Send + Sync {
    /// Returns the name in snake case; that of PyTorch if PyTorch has the operation.
    fn name(&self) -> &'static str;

    /// Returns the name in profiles: that of the operation that the user knows, if a rewrite has put another in its place.
    fn profile_name(&self) -> &'static str {
        self.name()
    }

    /// Infers the shapes of all outputs, including state.
    ///
    /// # Errors
    /// If the number of inputs, their shapes or the operation's parameters are invalid.
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes>;

    /// Computes the outputs in double precision: the definition of the operation.
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]);

    /// Computes the outputs in single precision on the CPU.
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch);

    /// Launches the kernels that compute the outputs in single precision on an OpenCL device. [`Call`] needs no OpenCL
    /// library, so this method is always compiled. The shapes have been checked by [`infer`](Op::infer), and there is at
    /// least one output element.
    ///
    /// # Errors
    /// If the device fails.
    fn opencl(&self, call: &Call<'_>) -> Result<()>;

    /// Returns the inputs and outputs that the gradient needs.
    fn saves(&self) -> SavedTensors;

    /// Computes the gradients of the inputs from those of the outputs. Operations without a gradient return
    /// [`no_gradient`].
    ///
    /// # Errors
    /// If the operation has no gradient, or a device fails.
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads>;

    /// Returns the number of state outputs, which come first and are updated in place.
    fn state_outputs(&self) -> usize {
        0
    }

    /// Whether the only output is the first input in another shape. It then shares the input's memory, and no kernel
    /// runs.
    fn reshapes(&self) -> bool {
        false
    }

    /// Whether the CPU kernel supports a [batch stride](View::batch_stride) of the first input and of the single output, as
    /// slices of tensors concatenated along axis 1 have. The batch stride is a multiple of the size of a channel plane, and
    /// nothing may be written between the images.
    fn supports_batch_stride(&self) -> bool {
        false
    }

    /// Returns the window of the first input that an output element depends on; `None` for elementwise operations. Used to
    /// compute receptive fields.
    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        None
    }

    /// Returns the number of multiply-adds of a run, for convolutions and products; 0 for other operations.
    /// More than 64 bits can hold are `u64::MAX`.
    fn multiply_adds(&self, _inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        0
    }

    // Queries of the graph rewrites. All are optional: an operation without them is not rewritten.

    /// Returns the activation function that the operation applies to its only input, if it does nothing else.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Returns the operation that computes the product of the only input and this operation's output: of a sigmoid, the sigmoid linear
    /// unit.
    fn times_input(&self) -> Option<Arc<dyn Op>> {
        None
    }

    /// Whether the operation multiplies its two inputs.
    fn multiplies(&self) -> bool {
        false
    }

    /// Returns an operation that computes this one followed by `next`, which has no input but the first output of this one. It
    /// has the inputs and outputs of this operation, except that its first output is that of `next`. In [`Pass::Training`] its
    /// gradients are the same, too.
    fn absorb(&self, _next: &dyn Op, _pass: Pass) -> Option<Arc<dyn Op>> {
        None
    }

    /// Whether this operation on the output of `before`, an operation of one input, gives the same first output and gradients as
    /// `before` on the first output of this operation.
    fn commutes_with(&self, _before: &dyn Op) -> bool {
        false
    }

    /// Returns the map of channels that the operation computes with these constant inputs (`None` for inputs that are not constant).
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
    ) -> Result<Option<AbsorbedAffine>> {
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

    /// Returns the axis along which the operation concatenates inputs of this rank; `None` for other operations.
    fn concat_axis(&self, _rank: usize) -> Option<usize> {
        None
    }

    /// Returns the operation that computes the same with feature maps in blocks of channels, for inputs `[n, c, h, w]` of these
    /// shapes: on the CPU, networks whose values stay in blocks are faster (see [`ToChannelBlocks`](crate::ops::ToChannelBlocks)).
    fn in_channel_blocks(&self, _inputs: &[Shape]) -> Option<BlockForm> {
        None
    }

    /// Returns the operation that computes a part of a batch: `images` positions of the first axis of all outputs, from as many of the
    /// inputs that are `batched`, and from the whole of the others. `None` if positions of the first axis, of which batched inputs
    /// of these shapes and the outputs have equally many, may depend on one another.
    fn split_batch(&self, _inputs: &[Shape], _batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        None
    }

    /// Returns the same operation with another seed, for an operation that draws random numbers: a recorded pass draws other
    /// numbers each time it is run. The offset within the seed's numbers stays the same.
    fn reseeded(&self, _seed: u64) -> Option<Arc<dyn Op>> {
        None
    }
}

/// An operation that computes with feature maps in blocks of channels what another one computes with `[n, c, h, w]` (see
/// [`ToChannelBlocks`](crate::ops::ToChannelBlocks)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BlockForm {
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Which inputs are in blocks; the only output is.
    pub inputs: SmallVec<[bool; 4]>,
    /// Whether it is faster even if its inputs have to be brought into blocks first.
    pub is_faster: bool,
}

impl BlockForm {
    /// Creates the form in which these inputs and the output are in blocks.
    pub fn new(op: Arc<dyn Op>, inputs: impl IntoIterator<Item = bool>) -> Self {
        BlockForm { op, inputs: inputs.into_iter().collect(), is_faster: false }
    }

    /// Returns the form of an elementwise operation with broadcasting: itself, with all inputs that have channels in blocks.
    pub fn elementwise(op: Arc<dyn Op>, inputs: &[Shape]) -> Option<Self> {
        let whole = inputs.iter().filter(|shape| shape.rank() == 4).max_by_key(|shape| shape.elements())?;
        let blocks = inputs.iter().map(|shape| match shape.extents() {
            all if all == whole.extents() => Some(true),
            [n, c, 1, 1] if [1, whole[0]].contains(n) && *c == whole[1] => Some(true),
            all if all.iter().all(|extent| *extent == 1) => Some(false),
            _ => None,
        });
        Some(BlockForm::new(op, blocks.collect::<Option<Vec<bool>>>()?))
    }
}

/// A sliding window over images `[n, c, h, w]`. Each pair is `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Size of the window, in elements.
    pub kernel_size: [usize; 2],
    /// Distance between windows, in pixels.
    pub stride: [usize; 2],
    /// Padding on each side of the image, in pixels.
    pub padding: [usize; 2],
    /// Distance between the elements of a window, in pixels.
    pub dilation: [usize; 2],
}

impl Window {
    /// Returns a window that covers images `[n, c, h, w]`; `None` for shapes of another rank.
    pub fn whole(images: &Shape) -> Option<Self> {
        let [_, _, h, w] = images.nchw().ok()?;
        Some(Window { kernel_size: [h, w], stride: [h, w], padding: [0, 0], dilation: [1, 1] })
    }
}

/// Returns the error of [`Op::grad`] for operations without a gradient.
///
/// # Errors
/// Always.
pub fn no_gradient<T>(op: &dyn Op) -> Result<T> {
    Err(Error::invalid_argument(format!("the operation {} has no gradient", op.name())))
}

/// Checks the number of inputs; for use in [`Op::infer`].
///
/// # Errors
/// If the number of inputs is not `N`.
pub fn expect_inputs<const N: usize>(op: &dyn Op, inputs: &[Shape]) -> Result<[Shape; N]> {
    inputs.try_into().map_err(|_| {
        Error::invalid_argument(format!(
            "{} expects {N} inputs, found {}: {inputs:?}",
            op.name(),
            inputs.len()
        ))
    })
}

/// The inputs and outputs that an operation's gradient needs. Others are freed: ReLU, for example, saves only its output.
///
/// Positions from 63 on are saved together: all of them, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedTensors {
    inputs: u64,
    outputs: u64,
}

impl SavedTensors {
    /// Nothing: the gradient needs only the gradients of the outputs, and shapes.
    pub const NONE: SavedTensors = SavedTensors { inputs: 0, outputs: 0 };

    /// Adds the inputs at these positions.
    #[must_use]
    pub const fn inputs(mut self, positions: &[usize]) -> Self {
        self.inputs |= bits(positions);
        self
    }

    /// Adds the outputs at these positions.
    #[must_use]
    pub const fn outputs(mut self, positions: &[usize]) -> Self {
        self.outputs |= bits(positions);
        self
    }

    /// Whether the input at `position` is saved.
    pub const fn saves_input(&self, position: usize) -> bool {
        self.inputs & bits(&[position]) != 0
    }

    /// Whether the output at `position` is saved.
    pub const fn saves_output(&self, position: usize) -> bool {
        self.outputs & bits(&[position]) != 0
    }
}

/// Returns a bit for each position; the last bit stands for all further positions.
const fn bits(positions: &[usize]) -> u64 {
    const LAST: usize = u64::BITS as usize - 1;
    let (mut bits, mut i) = (0, 0);
    while i < positions.len() {
        bits |= 1 << if positions[i] < LAST { positions[i] } else { LAST };
        i += 1;
    }
    bits
}

/// Arguments of [`Op::grad`].
#[derive(Debug)]
pub struct Gradient<'a> {
    /// Shapes of all inputs.
    pub input_shapes: &'a [Shape],
    /// Shapes of all outputs.
    pub output_shapes: &'a [Shape],
    /// The saved inputs; `None` for those not in [`Op::saves`].
    pub inputs: &'a [Option<Tensor>],
    /// The saved outputs; `None` for those not in [`Op::saves`].
    pub outputs: &'a [Option<Tensor>],
    /// Gradients of the outputs; `None` for outputs that did not contribute to the loss.
    pub output_grads: &'a [Option<Tensor>],
    /// Which inputs need a gradient.
    pub needs: &'a [bool],
}

impl Gradient<'_> {
    /// Returns a saved input.
    ///
    /// # Panics
    /// If it is not in [`Op::saves`].
    pub fn input(&self, position: usize) -> &Tensor {
        self.inputs[position].as_ref().expect("Op::saves includes all inputs that the gradient uses")
    }

    /// Returns a saved output.
    ///
    /// # Panics
    /// If it is not in [`Op::saves`].
    pub fn output(&self, position: usize) -> &Tensor {
        self.outputs[position].as_ref().expect("Op::saves includes all outputs that the gradient uses")
    }

    /// Returns the gradient of the first output.
    ///
    /// # Panics
    /// If it did not contribute to the loss. [`Op::grad`] is only called if some output did, so an operation with one
    /// differentiable output may rely on it.
    pub fn output_grad(&self) -> &Tensor {
        self.output_grads[0].as_ref().expect("the only differentiable output contributes to the loss")
    }

    /// Returns the gradient of the first output, for an operation whose other outputs are not differentiable.
    ///
    /// # Errors
    /// If the gradient of another output is asked for: it would be lost.
    pub fn first_output_grad(&self, op: &dyn Op) -> Result<&Tensor> {
        match self.output_grads {
            [Some(first), others @ ..] if others.iter().all(Option::is_none) => Ok(first),
            _ => Err(Error::invalid_argument(format!(
                "only the first output of {} is differentiable; detach the others",
                op.name()
            ))),
        }
    }

    /// Calls `compute` if the input at `position` needs a gradient.
    ///
    /// # Errors
    /// Those of `compute`.
    pub fn if_needed(
        &self,
        position: usize,
        compute: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        if self.needs[position] { compute().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_tensors_can_be_saved() {
        let saved = SavedTensors::NONE.inputs(&[0, 40, 62]).outputs(&[70]);
        let of = |positions: std::ops::Range<usize>| {
            positions.filter(|i| saved.saves_input(*i)).collect::<Vec<_>>()
        };
        assert_eq!(of(0..200), [0, 40, 62]);
        assert!(saved.saves_output(70) && saved.saves_output(63) && !saved.saves_output(62));
    }
}

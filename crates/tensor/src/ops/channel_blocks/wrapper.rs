//! Operations in blocks of channels.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::layout::{FromChannelBlocks, Positions, ToChannelBlocks, from_blocks, to_blocks};
use crate::core::call::{self, Call};
use crate::core::check::{check_call, check_views};
use crate::core::op::BlockForm;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, Window};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::simd::instruction_set;
use crate::memory::Scratch;
use neocog_base::{Error, Result};

/// What is in blocks of channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    /// Number of channels of a block.
    pub lanes: usize,
    /// For each input in blocks, its number of channels.
    pub inputs: SmallVec<[Option<usize>; 4]>,
}

impl BlockLayout {
    /// BlockLayout of as many channels as vectors of the CPU have lanes, for the first of these inputs or none.
    pub fn of_first(inputs: &[Shape], first_in_blocks: bool) -> Self {
        let channels = |(i, shape): (usize, &Shape)| (i == 0 && first_in_blocks).then(|| shape[1]);
        BlockLayout { lanes: instruction_set().1, inputs: inputs.iter().enumerate().map(channels).collect() }
    }

    /// Returns the shapes of inputs as the operation without blocks has them.
    ///
    /// # Errors
    /// If one that should be in blocks is not.
    pub fn plain(&self, inputs: &[Shape]) -> Result<Shapes> {
        let channels = |i: usize| self.inputs.get(i).copied().flatten();
        let plain = |(i, shape): (usize, &Shape)| match channels(i) {
            Some(_) if shape.rank() != 5 || shape[4] != self.lanes => Err(Error::shape(format!(
                "input {i} should be in blocks of {} channels, it is {shape}",
                self.lanes
            ))),
            Some(channels) => from_blocks(shape, channels),
            None => Ok(*shape),
        };
        inputs.iter().enumerate().map(plain).collect()
    }
}

/// An operation of one output `[n, c, h, w]` whose CPU kernel also works in blocks of as many channels as vectors have lanes.
pub(crate) trait BlockKernel: Op {
    /// Computes the output, which is in blocks, as some inputs are. Lanes behind the last channel are set to 0.
    fn cpu_in_blocks(
        &self,
        blocks: &BlockLayout,
        inputs: &[View<'_, f32>],
        outputs: &mut [ViewMut<'_, f32>],
        scratch: &Scratch,
    );

    /// As [`Op::pack`], for the inputs of these shapes without blocks.
    ///
    /// # Errors
    /// If the device fails.
    fn pack_in_blocks(
        &self,
        _blocks: &BlockLayout,
        _inputs: &[Shape],
        _constants: &[Option<&Tensor>],
    ) -> Result<Option<Arc<dyn BlockKernel>>> {
        Ok(None)
    }
}

/// An operation whose output, and some of its inputs, are in blocks of channels.
#[derive(Clone, Debug)]
pub struct InChannelBlocks {
    pub(crate) op: Arc<dyn BlockKernel>,
    pub(crate) blocks: BlockLayout,
}

/// Returns the form of an operation on `[n, c, h, w]` whose kernel works in blocks, with or without its first input in blocks; `None`
/// for other inputs.
pub(crate) fn block_form(op: impl BlockKernel, inputs: &[Shape], first_in_blocks: bool) -> Option<BlockForm> {
    inputs.first().filter(|x| x.rank() == 4)?;
    let op = InChannelBlocks { op: Arc::new(op), blocks: BlockLayout::of_first(inputs, first_in_blocks) };
    let in_blocks: Vec<bool> = op.blocks.inputs.iter().map(Option::is_some).collect();
    Some(BlockForm::new(Arc::new(op), in_blocks))
}

impl InChannelBlocks {
    fn channels(&self, input: usize) -> Option<usize> {
        self.blocks.inputs.get(input).copied().flatten()
    }

    /// Returns the shape of the output without blocks.
    fn plain_output(&self, inputs: &[Shape]) -> Result<Shape> {
        match *self.op.infer(inputs)? {
            [output] => Ok(output),
            _ => Err(Error::invalid_argument(format!("{} has not one output", self.op.name()))),
        }
    }

    fn to_blocks(&self) -> ToChannelBlocks {
        ToChannelBlocks { lanes: self.blocks.lanes }
    }
}

impl Op for InChannelBlocks {
    fn name(&self) -> &'static str {
        "in_channel_blocks"
    }

    fn profile_name(&self) -> &'static str {
        self.op.profile_name()
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let output = self.plain_output(&self.blocks.plain(inputs)?)?;
        Ok(smallvec![to_blocks(&output, self.blocks.lanes)?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let shapes: Shapes = inputs.iter().map(|view| *view.shape).collect();
        let shapes = self.blocks.plain(&shapes).expect("checked by infer");
        let output = self.plain_output(&shapes).expect("checked by infer");
        let lanes = self.blocks.lanes;
        let plain: Vec<Vec<f64>> = inputs
            .iter()
            .zip(&shapes)
            .enumerate()
            .map(|(i, (view, shape))| match self.channels(i) {
                Some(_) => {
                    let positions = Positions::of(shape, lanes);
                    (0..shape.elements()).map(|at| view.data[positions.in_blocks(at)]).collect()
                }
                None => view.data.to_vec(),
            })
            .collect();
        let views: Vec<View<'_, f64>> =
            plain.iter().zip(&shapes).map(|(x, shape)| View::new(shape, x)).collect();
        let mut y = vec![0.0; output.elements()];
        self.op.reference(&views, &mut [ViewMut::new(&output, &mut y)]);
        let positions = Positions::of(&output, lanes);
        outputs[0].data.fill(0.0);
        y.into_iter().enumerate().for_each(|(at, y)| outputs[0].data[positions.in_blocks(at)] = y);
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        if !outputs[0].data.is_empty() {
            assert_eq!(self.blocks.lanes, instruction_set().1, "a block has a channel for each lane");
            self.op.cpu_in_blocks(&self.blocks, inputs, outputs, scratch);
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let shapes: Shapes = call.inputs().iter().map(|view| *view.shape).collect();
        let shapes = self.blocks.plain(&shapes)?;
        let output = self.plain_output(&shapes)?;
        let mut plain = Vec::with_capacity(shapes.len());
        for (i, (view, shape)) in call.inputs().iter().zip(&shapes).enumerate() {
            plain.push(match self.channels(i) {
                None => None,
                Some(channels) => {
                    let buffer = call.scratch(shape.elements())?;
                    let op = FromChannelBlocks { channels };
                    op.opencl(&call.part(op.name(), &[*view], &[call::View { shape, buffer: &buffer }]))?;
                    Some(buffer)
                }
            });
        }
        let inputs: Vec<call::View<'_>> = call
            .inputs()
            .iter()
            .zip(plain.iter().zip(&shapes))
            .map(|(view, (plain, shape))| plain.as_ref().map_or(*view, |buffer| call::View { shape, buffer }))
            .collect();
        let buffer = call.scratch(output.elements())?;
        let y = [call::View { shape: &output, buffer: &buffer }];
        self.op.opencl(&call.part(self.op.name(), &inputs, &y))?;
        let op = self.to_blocks();
        op.opencl(&call.part(op.name(), &y, call.outputs()))
    }

    fn supports_batch_stride(&self) -> bool {
        self.op.supports_batch_stride()
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        self.op.window(&self.blocks.plain(inputs).ok()?)
    }

    fn saves(&self) -> SavedTensors {
        self.op.saves()
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let input_shapes = self.blocks.plain(node.input_shapes)?;
        let output_shape = self.plain_output(&input_shapes)?;
        let plain = |tensor: &Option<Tensor>, channels: Option<usize>| match (tensor, channels) {
            (Some(tensor), Some(channels)) => {
                run_single(&FromChannelBlocks { channels }, &[tensor]).map(Some)
            }
            _ => Ok(tensor.clone()),
        };
        let inputs = node.inputs.iter().enumerate().map(|(i, x)| plain(x, self.channels(i)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let channels = Some(output_shape[1]);
        let of_output = |all: &[Option<Tensor>]| {
            all.iter().map(|tensor| plain(tensor, channels)).collect::<Result<Vec<_>>>()
        };
        let grads = self.op.grad(&Gradient {
            input_shapes: &input_shapes,
            output_shapes: &[output_shape],
            inputs: &inputs,
            outputs: &of_output(node.outputs)?,
            output_grads: &of_output(node.output_grads)?,
            needs: node.needs,
        })?;
        let back = |(i, grad): (usize, Option<Tensor>)| match (grad, self.channels(i)) {
            (Some(grad), Some(_)) => run_single(&self.to_blocks(), &[&grad]).map(Some),
            (grad, _) => Ok(grad),
        };
        grads.into_iter().enumerate().map(back).collect()
    }

    fn multiply_adds(&self, inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        let plain = self.blocks.plain(inputs).and_then(|inputs| Ok((self.plain_output(&inputs)?, inputs)));
        plain.map_or(0, |(output, inputs)| self.op.multiply_adds(&inputs, &[output]))
    }

    fn pack(&self, inputs: &[Shape], constants: &[Option<&Tensor>]) -> Result<Option<Arc<dyn Op>>> {
        let packed = self.op.pack_in_blocks(&self.blocks, &self.blocks.plain(inputs)?, constants)?;
        Ok(packed.map(|op| Arc::new(InChannelBlocks { op, blocks: self.blocks.clone() }) as Arc<dyn Op>))
    }
}

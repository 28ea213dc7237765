//! Programs: operations on values at fixed places of one buffer, for the CPU.
//!
//! A computation that runs many times for inputs of one shape need not allocate a tensor for each value: a [`Program`] is a list of
//! operations with the places of their inputs and outputs. Shapes, places and overlaps are checked once, when it is created, so
//! running it is safe regardless of how the places were chosen.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::device::Device;
use crate::core::op::Op;
use crate::core::profile::{self, Scope};
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::{Storage, Tensor, allocate};
use crate::core::view::{View, ViewMut, span};
use crate::cpu::parallel::{Shared, for_each_alone};
use crate::memory::{Buffer, Scratch};
use neocog_base::{Context as _, Error, Result};

/// The memory that holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The input of the program at a position, which is only read.
    Input(usize),
    /// The output tensor at a position.
    Output(usize),
    /// The buffer of all other values.
    Buffer,
}

/// The place of a value.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The memory.
    pub base: Base,
    /// Position of the first element.
    pub offset: usize,
    /// Distance between positions of the first axis, in elements: more than a row for parts of a concatenated value.
    pub batch_stride: usize,
}

impl Place {
    /// Returns the positions from the first element to the last.
    fn span(&self, shape: &Shape) -> Option<Range<usize>> {
        let len = span(shape, self.batch_stride)?;
        Some(self.offset..self.offset.checked_add(len)?)
    }
}

/// A value: its place and its shape.
pub type Value = (Place, Shape);

/// An input of an operation.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A tensor on [`Device::Cpu`], the same in each run.
    Constant(Tensor),
    /// A value.
    Value(Value),
}

/// An operation of a program.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: SmallVec<[Operand; 4]>,
    /// Its outputs.
    pub outputs: SmallVec<[Value; 2]>,
    /// The layer that it belongs to.
    pub scope: Scope,
}

/// Operations on values at fixed places, from inputs to outputs, on [`Device::Cpu`].
#[derive(Debug)]
pub struct Program {
    instructions: Vec<Instruction>,
    inputs: Vec<Shape>,
    outputs: Vec<Shape>,
    floats: usize,
}

impl Program {
    /// Creates a program with inputs and outputs of these shapes and a buffer of `floats` elements. Every output must be written.
    ///
    /// # Errors
    /// If an output is written by no operation, an operation does not accept its inputs or has other outputs, a place is outside of
    /// its memory, an output overlaps another value of the operation, or an operation would have to support batch strides and
    /// does not.
    pub fn new(
        instructions: Vec<Instruction>,
        inputs: Vec<Shape>,
        outputs: Vec<Shape>,
        floats: usize,
    ) -> Result<Self> {
        let program = Program { instructions, inputs, outputs, floats };
        let written = program.instructions.iter().flat_map(|instruction| &instruction.outputs);
        let written: Vec<Base> = written.map(|(place, _)| place.base).collect();
        if let Some(k) = (0..program.outputs.len()).find(|k| !written.contains(&Base::Output(*k))) {
            return Err(Error::invalid_argument(format!("no operation writes output {k}")));
        }
        for instruction in &program.instructions {
            program.check(instruction).context(|| instruction.op.name())?;
        }
        Ok(program)
    }

    fn check(&self, Instruction { op, inputs, outputs, .. }: &Instruction) -> Result<()> {
        #[cfg(debug_assertions)]
        crate::core::registration::check(&**op);
        let invalid = |what: &str| Err(Error::invalid_argument(what));
        if op.state_outputs() > 0 || op.reshapes() {
            return invalid("operations that update state or reshape are not part of a program");
        }
        let shapes: Shapes = inputs
            .iter()
            .map(|operand| match operand {
                Operand::Constant(tensor) => *tensor.shape(),
                Operand::Value((_, shape)) => *shape,
            })
            .collect();
        if op.infer(&shapes)?.iter().ne(outputs.iter().map(|(_, shape)| shape)) {
            return invalid("the shapes of the outputs differ from those of the operation");
        }
        let mut used: SmallVec<[(Base, Range<usize>); 8]> = SmallVec::new();
        for (i, operand) in inputs.iter().enumerate() {
            match operand {
                Operand::Constant(tensor) if tensor.device() == Device::Cpu => {}
                Operand::Constant(_) => return invalid("a constant is on another device"),
                Operand::Value((place, shape)) => {
                    if place.batch_stride != shape.row() && !(op.supports_batch_stride() && i == 0) {
                        return invalid("an input has a batch stride that the operation does not support");
                    }
                    used.push((place.base, self.span(place, shape)?));
                }
            }
        }
        for (place, shape) in outputs {
            if place.batch_stride != shape.row() && !(op.supports_batch_stride() && outputs.len() == 1) {
                return invalid("an output has a batch stride that the operation does not support");
            }
            let span = self.span(place, shape)?;
            let overlaps = |(base, other): &(Base, Range<usize>)| {
                *base == place.base && span.start < other.end && other.start < span.end
            };
            if matches!(place.base, Base::Input(_)) || used.iter().any(overlaps) {
                return invalid("an output overlaps another value of the operation");
            }
            used.push((place.base, span));
        }
        Ok(())
    }

    fn span(&self, place: &Place, shape: &Shape) -> Result<Range<usize>> {
        let memory = match place.base {
            Base::Input(k) => self.inputs.get(k).map(Shape::elements),
            Base::Output(k) => self.outputs.get(k).map(Shape::elements),
            Base::Buffer => Some(self.floats),
        };
        let memory = memory.ok_or_else(|| Error::invalid_argument("there is no such input or output"))?;
        let span = place.span(shape).filter(|span| span.end <= memory && place.batch_stride >= shape.row());
        span.ok_or_else(|| Error::invalid_argument("a value is outside of its memory"))
    }

    /// Returns the number of elements of the buffer.
    pub fn floats(&self) -> usize {
        self.floats
    }

    /// Runs all operations.
    ///
    /// # Errors
    /// If the number of inputs is wrong, or one has another shape or is on another device.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_micro_batches(inputs, 1)
    }

    /// Runs all operations for each of `count` parts of a batch. An input either has the shape of the program, and is an input of each
    /// run, or has `count` times as many positions of the first axis, of which each run gets its own. The outputs have so many. The
    /// runs are distributed over the threads.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn run_micro_batches(&self, inputs: &[Tensor], count: usize) -> Result<Vec<Tensor>> {
        let fits = |(tensor, shape): (&Tensor, &Shape)| {
            (tensor.shape() == shape || batch_of(shape, count).is_ok_and(|batch| *tensor.shape() == batch))
                && tensor.device() == Device::Cpu
        };
        if inputs.len() != self.inputs.len() || !inputs.iter().zip(&self.inputs).all(fits) {
            return Err(Error::invalid_argument(format!(
                "the program is for inputs of shape {:?} on {}{}, found {inputs:?}",
                self.inputs,
                Device::Cpu,
                if count > 1 { format!(", or {count} times the first axis of them") } else { String::new() }
            )));
        }
        let shapes: Vec<Shape> =
            self.outputs.iter().map(|shape| batch_of(shape, count)).collect::<Result<_>>()?;
        let mut outputs: SmallVec<[Buffer; 2]> = shapes.iter().map(allocate).collect::<Result<_>>()?;
        self.run_each(inputs, &mut outputs, count)?;
        let tensor = |(buffer, shape): (Buffer, &Shape)| Tensor::new(*shape, Storage::Cpu(Arc::new(buffer)));
        Ok(outputs.into_iter().zip(&shapes).map(tensor).collect())
    }

    fn run_each(&self, inputs: &[Tensor], outputs: &mut [Buffer], count: usize) -> Result<()> {
        let outputs: SmallVec<[Shared<'_>; 2]> = outputs.iter_mut().map(|all| Shared::new(all)).collect();
        let inputs = || inputs.iter().zip(&self.inputs);
        let run = |part: usize| {
            let all = outputs.iter().zip(&self.outputs).map(|(all, shape)| (*all, shape.elements()));
            self.run_in(RunMemory {
                inputs: inputs().map(|(tensor, shape)| part_of(tensor, shape, part)).collect(),
                // SAFETY: the parts are disjoint, and each is written by one run.
                outputs: all.map(|(all, len)| unsafe { all.slice(part * len, len) }).collect(),
                buffer: &mut Buffer::new(self.floats).context(|| "memory of the plan")?,
            })
        };
        // While operations are profiled, each uses all threads, so that their times add up.
        if profile::is_recording() { (0..count).try_for_each(run) } else { for_each_alone(count, run) }
    }

    fn run_in(&self, memory: RunMemory<'_>) -> Result<()> {
        let memory = memory.raw();
        for Instruction { op, inputs, outputs, scope } in &self.instructions {
            let _scope = scope.enter();
            let inputs: SmallVec<[View<'_, f32>; 6]> = inputs
                .iter()
                .map(|operand| match operand {
                    Operand::Constant(tensor) => View::new(tensor.shape(), tensor.cpu()),
                    // SAFETY: `check` has verified that the value is within its memory and overlaps no output.
                    Operand::Value((place, shape)) => unsafe { memory.view(place, shape) },
                })
                .collect();
            let mut outputs: SmallVec<[ViewMut<'_, f32>; 4]> = outputs
                .iter()
                // SAFETY: `check` has verified that the value is within its memory, is not the input, and overlaps neither
                // an input nor another output of this operation.
                .map(|(place, shape)| unsafe { memory.view_mut(place, shape) })
                .collect();
            let start = profile::start();
            Scratch::with(|scratch| op.cpu(&inputs, &mut outputs, scratch)).context(|| op.name())?;
            if start.is_some() {
                let shapes: Shapes = outputs.iter().map(|view| *view.shape).collect();
                profile::end(start, &**op, inputs.iter().map(|view| *view.shape), &shapes);
            }
        }
        Ok(())
    }
}

/// Returns the shape with `count` times as many positions of the first axis.
fn batch_of(shape: &Shape, count: usize) -> Result<Shape> {
    match shape.first() {
        Some(first) if count > 1 => {
            let extent = first.checked_mul(count).ok_or_else(|| Error::shape("the batch is too large"))?;
            shape.with_extent(0, extent)
        }
        None if count > 1 => Err(Error::shape("a scalar has no batch")),
        _ => Ok(*shape),
    }
}

/// Returns the elements of a part of a batch of parts of this shape; all of a tensor that has this shape itself.
fn part_of<'a>(tensor: &'a Tensor, shape: &Shape, part: usize) -> &'a [f32] {
    let len = shape.elements();
    if tensor.shape() == shape { tensor.cpu() } else { &tensor.cpu()[part * len..][..len] }
}

/// The memory of one run.
struct RunMemory<'a> {
    inputs: SmallVec<[&'a [f32]; 2]>,
    outputs: SmallVec<[&'a mut [f32]; 2]>,
    buffer: &'a mut [f32],
}

impl<'a> RunMemory<'a> {
    fn raw(self) -> RawMemory<'a> {
        RawMemory {
            inputs: self.inputs,
            outputs: self.outputs.into_iter().map(<[f32]>::as_mut_ptr).collect(),
            buffer: self.buffer.as_mut_ptr(),
        }
    }
}

/// The same as pointers, because values that are read and values that are written share one buffer.
struct RawMemory<'a> {
    inputs: SmallVec<[&'a [f32]; 2]>,
    outputs: SmallVec<[*mut f32; 2]>,
    buffer: *mut f32,
}

impl<'a> RawMemory<'a> {
    /// # Safety
    /// The place must be within its memory, and nothing may write to its span while the view is used.
    unsafe fn view<'s>(&self, place: &Place, shape: &'s Shape) -> View<'s, f32>
    where
        'a: 's,
    {
        let span = place.span(shape).unwrap_or_default();
        let data = match place.base {
            Base::Input(k) => &self.inputs[k][span],
            // SAFETY: the caller guarantees that the span is within the memory and not written.
            Base::Output(k) => unsafe {
                std::slice::from_raw_parts(self.outputs[k].add(span.start), span.len())
            },
            // SAFETY: as above.
            Base::Buffer => unsafe { std::slice::from_raw_parts(self.buffer.add(span.start), span.len()) },
        };
        View { shape, data, batch_stride: place.batch_stride }
    }

    /// # Safety
    /// The place must be within its memory, which is not the input, and nothing else may use its span while the view is used.
    unsafe fn view_mut<'s>(&self, place: &Place, shape: &'s Shape) -> ViewMut<'s, f32> {
        let span = place.span(shape).unwrap_or_default();
        let start = match place.base {
            Base::Input(_) => unreachable!("`Program::new` has checked that no operation writes an input"),
            Base::Output(k) => self.outputs[k],
            Base::Buffer => self.buffer,
        };
        // SAFETY: the caller guarantees that the span is within the memory and not used otherwise.
        let data = unsafe { std::slice::from_raw_parts_mut(start.add(span.start), span.len()) };
        ViewMut { shape, data, batch_stride: place.batch_stride }
    }
}

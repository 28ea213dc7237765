//! A computation that is written down once, made simpler, and run again and again: how networks predict.
//!
//! A [`Graph`] is a list of operations on values; what does not depend on its input is constant. A [`Plan`] is made of it for
//! one device:
//!
//! * Batch norms are folded into the convolution or the linear layer before them, activations into what can apply them, and
//!   what nobody reads is left out.
//! * Weights of convolutions are packed, once.
//! * On the CPU all values lie in one buffer, where those that are not needed at the same time share their
//!   place, and what will be joined is made where it will lie.
//!   On other devices each value has a buffer of the device's pool while it is needed.
//!
//! Operations that it does not know are run as they are, so any computation can be planned.

mod memory;
mod parts;
mod rewrite;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use crate::core::device::Device;
use crate::core::op::Op;
use crate::core::profile::Scope;
use crate::core::run::run;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::memory::ShortLived;
use memory::Layout;
use neocog_base::{Context as _, Error, Result};

/// Where an operation's input comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A value of the graph, by its number.
    Value(usize),
    /// A tensor that is the same in each run.
    Constant(Tensor),
}

/// Operations on values, in the order in which they are run. Value 0 is the input; the others are numbered as they are made.
#[derive(Debug)]
pub struct Graph {
    /// The shape of each value.
    shapes: Vec<Shape>,
    steps: Vec<Step>,
}

/// An operation, its inputs and its outputs.
#[derive(Debug)]
struct Step {
    op: Box<dyn Op>,
    inputs: SmallVec<[Source; 4]>,
    /// The value that its first output is; the others follow.
    first_output: usize,
    outputs: usize,
    /// The layer that it belongs to.
    scope: Scope,
}

impl Step {
    fn outputs(&self) -> std::ops::Range<usize> {
        self.first_output..self.first_output + self.outputs
    }

    /// The value that its output is in another shape, if that is all it does.
    fn reshapes(&self) -> Option<usize> {
        match self.inputs[..] {
            [Source::Value(value)] if self.op.reshapes() => Some(value),
            _ => None,
        }
    }

    /// The values among its inputs.
    fn values(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().filter_map(|source| match source {
            Source::Value(value) => Some(*value),
            Source::Constant(_) => None,
        })
    }
}

impl Graph {
    /// A graph without operations, for inputs of one shape.
    pub fn new(input: Shape) -> Self {
        Graph { shapes: vec![input], steps: Vec::new() }
    }

    /// Adds an operation; returns the number of its first output, which the others follow.
    ///
    /// # Errors
    /// When the shapes of its inputs do not fit, there is no such value, or it updates state, which a plan does not hold.
    pub fn push(
        &mut self,
        op: Box<dyn Op>,
        inputs: impl IntoIterator<Item = Source>,
        scope: Scope,
    ) -> Result<usize> {
        let inputs: SmallVec<[Source; 4]> = inputs.into_iter().collect();
        if op.state_outputs() > 0 {
            return Err(Error::invalid_argument(format!("{} updates state, a plan has none", op.name())));
        }
        let shapes: Shapes = inputs.iter().map(|source| self.shape(source)).collect::<Result<_>>()?;
        let outputs = op.infer(&shapes).context(|| op.name())?;
        let first_output = self.shapes.len();
        self.steps.push(Step { op, inputs, first_output, outputs: outputs.len(), scope });
        self.shapes.extend(outputs);
        Ok(first_output)
    }

    fn shape(&self, source: &Source) -> Result<Shape> {
        match source {
            Source::Constant(tensor) => Ok(*tensor.shape()),
            Source::Value(value) => self.shapes.get(*value).copied().ok_or_else(|| {
                Error::invalid_argument(format!(
                    "there is no value {value}, the graph has {}",
                    self.shapes.len()
                ))
            }),
        }
    }

    /// A plan that computes value `output` on `device`, where all constants must be.
    ///
    /// # Errors
    /// When a constant is elsewhere, there is no such value, or the device fails.
    pub fn plan(mut self, output: usize, device: &Device) -> Result<Plan> {
        self.shape(&Source::Value(output))?;
        for step in &self.steps {
            for source in &step.inputs {
                if let Source::Constant(tensor) = source
                    && tensor.device() != *device
                {
                    return Err(Error::device(format!(
                        "the plan is for {device}, but an input of {} is on {}; move it with to_device",
                        step.op.name(),
                        tensor.device()
                    )));
                }
            }
        }
        rewrite::simplify(&mut self, output)?;
        rewrite::pack_weights(&mut self)?;
        let layout = (*device == Device::Cpu).then(|| Layout::new(&mut self, output));
        let last_uses = last_uses(&self.steps, self.shapes.len());
        Ok(Plan { graph: self, output, device: device.clone(), layout, last_uses })
    }
}

/// The step that uses each value last.
fn last_uses(steps: &[Step], values: usize) -> Vec<Option<usize>> {
    let mut last = vec![None; values];
    for (i, step) in steps.iter().enumerate() {
        step.values().for_each(|value| last[value] = Some(i));
    }
    last
}

/// A computation that is ready to run on one device, for inputs of one shape.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    output: usize,
    device: Device,
    /// Where values are, on the CPU.
    layout: Option<Layout>,
    last_uses: Vec<Option<usize>>,
}

impl Plan {
    /// The output for an input. May be called by several threads at once.
    ///
    /// # Errors
    /// When the input has another shape or is elsewhere than planned, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        if *input.shape() != self.graph.shapes[0] {
            return Err(Error::shape(format!(
                "the plan is for an input {}, the input is {}; make another plan for it",
                self.graph.shapes[0],
                input.shape()
            )));
        }
        if input.device() != self.device {
            return Err(Error::device(format!(
                "the plan is for {}, the input is on {}; move it with to_device",
                self.device,
                input.device()
            )));
        }
        match &self.layout {
            Some(layout) => layout.run(&self.graph, self.output, input),
            None => self.run_each(input),
        }
    }

    /// One operation after the other, each value in a tensor of its own until it was used last; the next are made where
    /// those were that nobody needs any more.
    fn run_each(&self, input: &Tensor) -> Result<Tensor> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.shapes.len()];
        values[0] = Some(input.clone());
        let _memory = ShortLived::begin();
        for (i, step) in self.graph.steps.iter().enumerate() {
            let _scope = step.scope.enter();
            let outputs = {
                let inputs: SmallVec<[&Tensor; 6]> = step
                    .inputs
                    .iter()
                    .map(|source| match source {
                        Source::Constant(tensor) => tensor,
                        Source::Value(value) => values[*value]
                            .as_ref()
                            .expect("a value is made before it is used, and dropped after"),
                    })
                    .collect();
                run(&*step.op, &inputs)?
            };
            for (value, tensor) in step.outputs().zip(outputs) {
                values[value] = Some(tensor);
            }
            for value in step.values() {
                if self.last_uses[value] == Some(i) && value != self.output {
                    values[value] = None;
                }
            }
        }
        Ok(values[self.output].take().expect("the output is the input or was made by a step"))
    }

    /// The shape of its input.
    pub fn input(&self) -> &Shape {
        &self.graph.shapes[0]
    }

    /// The shape of its output.
    pub fn output(&self) -> &Shape {
        &self.graph.shapes[self.output]
    }

    /// The names of its operations, in the order in which they are run.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.graph.steps.iter().map(|step| step.op.name())
    }

    /// Bytes of the buffer that holds all values between input and output, on the CPU; `None` on other devices.
    pub fn buffer_bytes(&self) -> Option<usize> {
        self.layout.as_ref().map(|layout| layout.floats() * size_of::<f32>())
    }
}

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

mod graph;
mod memory;
mod parts;
mod rewrite;
#[cfg(test)]
mod tests;

pub use graph::{Graph, Source};

use smallvec::SmallVec;

use crate::core::device::Device;
use crate::core::run::run;
use crate::core::shape::Shape;
use crate::core::tensor::Tensor;
use crate::memory::ShortLived;
use graph::last_uses;
use memory::Layout;
use neocog_base::{Error, Result};

impl Graph {
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
        Ok(Plan { graph: self, output, device: *device, layout, last_uses })
    }
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

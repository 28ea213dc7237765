//! Execution plans: graphs that are rewritten once and run many times.

use std::sync::Arc;

use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_tensor::ops::Scale;
use neocog_tensor::{Device, Pass, Program, Shape, Tensor};
use smallvec::smallvec;

use crate::graph::{Graph, Source};
use crate::layout::{self, OutputPlace};
use crate::rewrite::{Target, rewrite};

impl Graph {
    /// Creates a plan for inference on `device`, where all constants must be. The graph must have an input and an output.
    ///
    /// # Errors
    /// When a constant is on another device, or the graph has no input or no output; when the device fails.
    pub fn plan(mut self, device: &Device) -> Result<Plan> {
        self.check_constants(device)?;
        self.copy_reshaped_constants()?;
        rewrite(&mut self, &Target { pass: Pass::Inference, device })?;
        Plan::new(self, device)
    }

    /// Puts copies of reshaped constants in place of operations that reshape them, which do not run in a plan.
    fn copy_reshaped_constants(&mut self) -> Result<()> {
        let mut nodes = self.take_nodes();
        for node in nodes.iter_mut().filter(|node| node.op.reshapes()) {
            if let ([Source::Constant(tensor)], [output]) = (&node.inputs[..], &node.outputs[..]) {
                let reshaped = tensor.reshape(*self.shape(*output))?;
                node.inputs = smallvec![Source::Constant(reshaped)];
                node.op = Arc::new(Scale { factor: 1.0 });
            }
        }
        self.set_nodes(nodes)
    }

    fn check_constants(&self, device: &Device) -> Result<()> {
        for node in self.nodes() {
            if let Some(tensor) = node.constants().into_iter().flatten().find(|t| t.device() != *device) {
                return Err(Error::device(format!(
                    "the plan is for {device}, but an input of {} is on {}; move it with to_device",
                    node.op.name(),
                    tensor.device()
                )));
            }
        }
        Ok(())
    }
}

/// A graph that is ready to run on one device, for inputs of one shape each.
#[derive(Debug)]
pub struct Plan {
    graph: Graph,
    device: Device,
    /// On the CPU, unless there is nothing to run.
    program: Option<Program>,
    /// Where the outputs are, on the CPU.
    places: Vec<OutputPlace>,
}

impl Plan {
    /// Creates a plan that runs a graph as it is.
    pub(crate) fn new(graph: Graph, device: &Device) -> Result<Self> {
        let (inputs, outputs) = (graph.input_count(), graph.outputs().len());
        if inputs == 0 || outputs == 0 {
            return Err(Error::invalid_argument(format!(
                "a plan has at least one input and one output, the graph has {inputs} and {outputs}"
            )));
        }
        let (program, places) =
            if *device == Device::Cpu { layout::program(&graph)? } else { (None, Vec::new()) };
        Ok(Plan { graph, device: *device, program, places })
    }

    /// Computes the first output of a graph with one input. Several threads may call it at once.
    ///
    /// # Errors
    /// When the input has another shape or is on another device than planned, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.run_all(std::slice::from_ref(input))?.remove(0))
    }

    /// Computes all outputs. Several threads may call it at once.
    ///
    /// # Errors
    /// When the number of inputs is wrong, one has another shape or is on another device than planned, or the device fails.
    pub fn run_all(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        if inputs.len() != self.graph.input_count() {
            return Err(Error::invalid_argument(format!(
                "the plan has {}, {} were given",
                count(self.graph.input_count(), "input"),
                inputs.len()
            )));
        }
        for (value, input) in inputs.iter().enumerate() {
            if input.shape() != self.graph.shape(value) {
                return Err(Error::shape(format!(
                    "the plan is for an input {}, the input is {}; make another plan for it",
                    self.graph.shape(value),
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
        }
        if self.device != Device::Cpu {
            return self.graph.run(inputs);
        }
        let computed = match &self.program {
            Some(program) => program.run(inputs)?,
            None => Vec::new(),
        };
        let output = |(&value, place): (&usize, &OutputPlace)| {
            let tensor = match *place {
                OutputPlace::Input(input) => &inputs[input],
                OutputPlace::Computed(at) => &computed[at],
            };
            tensor.reshape(*self.graph.shape(value))
        };
        self.graph.outputs().iter().zip(&self.places).map(output).collect()
    }

    /// Returns the shape of the first input.
    pub fn input(&self) -> &Shape {
        self.graph.shape(0)
    }

    /// Returns the shape of the first output.
    pub fn output(&self) -> &Shape {
        self.graph.shape(self.graph.outputs()[0])
    }

    /// Returns the rewritten graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Returns the names of the operations in the order in which they run.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.graph.operations()
    }

    /// Returns the size in bytes of the buffer of all values between input and output, on the CPU; `None` on other devices.
    pub fn buffer_bytes(&self) -> Option<usize> {
        match &self.program {
            Some(program) => Some(program.floats() * size_of::<f32>()),
            None => (self.device == Device::Cpu).then_some(0),
        }
    }
}

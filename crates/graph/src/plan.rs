//! Execution plans: graphs that are rewritten once and run many times.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_tensor::ops::Scale;
use neocog_tensor::{Device, Pass, Program, Shape, Tensor};
use smallvec::smallvec;

use crate::graph::{Graph, Source};
use crate::layout::{self, OutputPlace};
use crate::rewrite::{LAYOUT_ORDER, Target, rewrite_in};
use crate::stages::{Stage, stages};

impl Graph {
    /// Creates a plan for inference on `device`, where all constants must be. The graph must have an input and an output.
    ///
    /// # Errors
    /// When a constant is on another device, or the graph has no input or no output; when the device fails.
    pub fn plan(mut self, device: &Device) -> Result<Plan> {
        self.check_constants(device)?;
        self.copy_reshaped_constants()?;
        let target = Target { pass: Pass::Inference, device };
        rewrite_in(&mut self, &target, ..LAYOUT_ORDER)?;
        let ends = Ends::of(&self)?;
        let mut stages = if *device == Device::Cpu { stages(self)? } else { vec![Stage::whole(self)] };
        for stage in &mut stages {
            rewrite_in(&mut stage.graph, &target, LAYOUT_ORDER..)?;
        }
        Plan::of(ends, stages, device)
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
///
/// On the CPU it runs in stages: parts of the graph, each of which computes a few images of the batch at a time (a micro-batch), so that
/// feature maps stay in a cache, and different images on different threads.
#[derive(Debug)]
pub struct Plan {
    ends: Ends,
    stages: Vec<PlannedStage>,
    device: Device,
}

/// What a graph computes.
#[derive(Debug)]
struct Ends {
    /// The number of inputs, which are the first values.
    inputs: usize,
    /// The values that are outputs.
    outputs: Vec<usize>,
    /// Shapes of all values.
    shapes: Vec<Shape>,
}

impl Ends {
    fn of(graph: &Graph) -> Result<Self> {
        let (inputs, outputs) = (graph.input_count(), graph.outputs().to_vec());
        if inputs == 0 || outputs.is_empty() {
            return Err(Error::invalid_argument(format!(
                "a plan has at least one input and one output, the graph has {inputs} and {}",
                outputs.len()
            )));
        }
        let shapes = (0..graph.value_count()).map(|value| *graph.shape(value)).collect();
        Ok(Ends { inputs, outputs, shapes })
    }
}

/// A part of a plan, rewritten.
#[derive(Debug)]
struct PlannedStage {
    stage: Stage,
    /// The inputs that are not used afterwards.
    last_uses: Vec<usize>,
    /// On the CPU, unless there is nothing to run.
    program: Option<Program>,
    /// Where the outputs are, on the CPU.
    places: Vec<OutputPlace>,
}

impl PlannedStage {
    fn new(stage: Stage, device: &Device) -> Result<Self> {
        let (program, places) =
            if *device == Device::Cpu { layout::program(&stage.graph)? } else { (None, Vec::new()) };
        Ok(PlannedStage { stage, last_uses: Vec::new(), program, places })
    }

    /// Computes the outputs, which may have another shape.
    fn run(&self, inputs: &[Tensor], device: &Device) -> Result<Vec<Tensor>> {
        if *device != Device::Cpu {
            return self.stage.graph.run(inputs);
        }
        let computed = match &self.program {
            Some(program) => program.run_micro_batches(inputs, self.stage.micro_batches)?,
            None => Vec::new(),
        };
        let output = |place: &OutputPlace| match *place {
            OutputPlace::Input(input) => inputs[input].clone(),
            OutputPlace::Computed(at) => computed[at].clone(),
        };
        Ok(self.places.iter().map(output).collect())
    }
}

impl Plan {
    /// Creates a plan that runs a graph as it is.
    pub(crate) fn new(graph: Graph, device: &Device) -> Result<Self> {
        Plan::of(Ends::of(&graph)?, vec![Stage::whole(graph)], device)
    }

    /// Creates a plan of the stages of a graph, which run as they are.
    #[cfg(test)]
    pub(crate) fn of_stages(graph: &Graph, stages: Vec<Stage>, device: &Device) -> Result<Self> {
        Plan::of(Ends::of(graph)?, stages, device)
    }

    /// Creates a plan of stages, whose graphs run as they are.
    fn of(ends: Ends, stages: Vec<Stage>, device: &Device) -> Result<Self> {
        let stages = stages.into_iter().map(|stage| PlannedStage::new(stage, device));
        let mut stages = stages.collect::<Result<Vec<_>>>()?;
        let mut needed: HashSet<usize> = ends.outputs.iter().copied().collect();
        for stage in stages.iter_mut().rev() {
            let inputs = stage.stage.inputs.iter().copied();
            stage.last_uses = inputs.filter(|value| needed.insert(*value)).collect();
        }
        Ok(Plan { ends, stages, device: *device })
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
        if inputs.len() != self.ends.inputs {
            return Err(Error::invalid_argument(format!(
                "the plan has {}, {} were given",
                count(self.ends.inputs, "input"),
                inputs.len()
            )));
        }
        for (shape, input) in self.ends.shapes.iter().zip(inputs) {
            if input.shape() != shape {
                return Err(Error::shape(format!(
                    "the plan is for an input {shape}, the input is {}; make another plan for it",
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
        let mut values: HashMap<usize, Tensor> = (0..).zip(inputs.iter().cloned()).collect();
        for stage in &self.stages {
            let inputs: Vec<Tensor> = stage.stage.inputs.iter().map(|value| values[value].clone()).collect();
            stage.last_uses.iter().for_each(|value| drop(values.remove(value)));
            let outputs = stage.run(&inputs, &self.device)?;
            for (value, tensor) in stage.stage.outputs.iter().zip(outputs) {
                values.insert(*value, tensor.reshape(self.ends.shapes[*value])?);
            }
        }
        Ok(self.ends.outputs.iter().map(|value| values[value].clone()).collect())
    }

    /// Returns the shape of the first input.
    pub fn input(&self) -> &Shape {
        &self.ends.shapes[0]
    }

    /// Returns the shape of the first output.
    pub fn output(&self) -> &Shape {
        &self.ends.shapes[self.ends.outputs[0]]
    }

    /// Returns the rewritten graphs of the stages, each for a micro-batch.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.stages.iter().map(|stage| &stage.stage.graph)
    }

    /// Returns for each stage how many micro-batches it computes, one after the other or on different threads.
    pub fn micro_batches(&self) -> impl Iterator<Item = usize> + '_ {
        self.stages.iter().map(|stage| stage.stage.micro_batches)
    }

    /// Returns the names of the operations in the order in which they run.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.graphs().flat_map(Graph::operations)
    }

    /// Returns the size in bytes of the buffer of all values between input and output of a stage, the largest one, for one run of it, on the
    /// CPU; `None` on other devices.
    pub fn buffer_bytes(&self) -> Option<usize> {
        let floats = self.stages.iter().map(|stage| stage.program.as_ref().map_or(0, Program::floats)).max();
        (self.device == Device::Cpu).then_some(floats.unwrap_or(0) * size_of::<f32>())
    }
}

//! Summary of a network: a row for each layer, computed by passes on [`Device::Meta`].

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_tensor::{Device, Error, Result, Shape, Tensor};

use crate::activation_memory::{live_bytes, saved_bytes};
use crate::layer::{Context, Layer, Observer, Seen};
use crate::receptive_field::{ReceptiveField, fields};
use crate::state;

/// The layers of a network in the order in which they run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// A row for each layer without children.
    pub rows: Vec<Row>,
    /// Number of elements of all parameters.
    pub parameters: usize,
    /// Multiply-adds of the forward pass, for the whole batch.
    pub multiply_adds: u64,
    /// Bytes of activations that training saves for the backward pass, for the whole batch.
    pub training_bytes: usize,
    /// Peak bytes of activations in inference, for the whole batch.
    pub prediction_bytes: usize,
}

/// The summary of one layer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Dotted name; that of the layer around it if it has none.
    pub path: String,
    /// Name that is printed.
    pub label: String,
    /// Shape of the output.
    pub output: Shape,
    /// Number of elements of its parameters.
    pub parameters: usize,
    /// Multiply-adds of the forward pass, for the whole batch.
    pub multiply_adds: u64,
    /// Receptive field of the elements of the output.
    pub receptive_field: Option<ReceptiveField>,
    /// Bytes of activations that training saves for its backward pass, and that no layer before it saves.
    pub training_bytes: usize,
    /// Bytes of activations that are live while it runs in inference: its input, its output, and inputs of later layers.
    pub prediction_bytes: usize,
}

/// Summarizes `network` for inputs of shape `input`.
///
/// # Errors
/// When the network does not accept such an input, or a number of the summary does not fit into 64 bits.
pub fn summarize(network: &dyn Layer, input: &Shape) -> Result<Summary> {
    // Batch norm cannot train on one image: use two, and half of the bytes.
    let images = input.first().copied().unwrap_or(1);
    let trained_on = if images == 1 { input.with_extent(0, 2)? } else { *input };
    let training = Pass::run(network, &trained_on, true)?;
    let saved: Vec<usize> = saved_bytes(&training.tape, training.input.slot())
        .into_iter()
        .map(|bytes| if images == 1 && bytes < usize::MAX { bytes / 2 } else { bytes })
        .collect();
    let inference = Pass::run(network, input, false)?;
    let slot = inference.input.slot();
    let live = live_bytes(&inference.tape, slot.map(|slot| (slot, input)), inference.output.slot());
    let fields = fields(&inference.tape, slot);

    let mut rows = Vec::with_capacity(inference.layers.len());
    // The first operation of the layer in each pass.
    let (mut train_start, mut eval_start) = (0, 0);
    for (train, eval) in training.layers.iter().zip(&inference.layers) {
        let field = eval.slot.and_then(|slot| fields.get(&slot));
        rows.push(Row {
            path: eval.path.clone(),
            label: eval.label.clone(),
            output: eval.output,
            parameters: eval.parameters,
            multiply_adds: eval.multiply_adds,
            receptive_field: field.map(|f| f.receptive_field()),
            training_bytes: sum(&saved[train_start..train.end]),
            prediction_bytes: live[eval_start..eval.end].iter().copied().max().unwrap_or(0),
        });
        (train_start, eval_start) = (train.end, eval.end);
    }
    let summary = Summary {
        rows,
        parameters: state::param_count(network),
        multiply_adds: inference.tape.multiply_adds(),
        training_bytes: sum(&saved),
        prediction_bytes: live.into_iter().max().unwrap_or(0),
    };
    summary.check()?;
    Ok(summary)
}

fn sum(bytes: &[usize]) -> usize {
    bytes.iter().copied().fold(0, usize::saturating_add)
}

impl Summary {
    /// Checks that no number is the largest one, which stands for all that are larger.
    fn check(&self) -> Result<()> {
        let counts = [
            ("number of parameters", self.parameters as u64),
            ("number of multiply-adds", self.multiply_adds),
            ("size of the activations in training, in bytes,", self.training_bytes as u64),
            ("size of the activations in inference, in bytes,", self.prediction_bytes as u64),
        ];
        match counts.into_iter().find(|(_, count)| *count >= usize::MAX as u64) {
            None => Ok(()),
            Some((what, _)) => Err(Error::shape(format!(
                "the network is too large to be summarized: its {what} does not fit into {} bits",
                usize::BITS
            ))),
        }
    }
}

/// A recorded pass on [`Device::Meta`].
struct Pass {
    tape: Tape,
    input: Var,
    output: Var,
    layers: Vec<Visited>,
}

/// A layer in the order of the pass.
struct Visited {
    path: String,
    label: String,
    output: Shape,
    slot: Option<usize>,
    parameters: usize,
    multiply_adds: u64,
    /// Number of operations on the tape after it has run.
    end: usize,
}

impl Pass {
    fn run(network: &dyn Layer, input: &Shape, training: bool) -> Result<Self> {
        let tape = Tape::new();
        let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
        let recorder = Recorder { tape: &tape, layers: RefCell::default(), counted: RefCell::new(0) };
        let context = if training { Context::train(&tape, 0) } else { Context::eval(&tape) };
        let output = context.observed(&recorder).run(network, &x)?;
        let layers = recorder.layers.into_inner();
        Ok(Pass { tape, input: x, output, layers })
    }
}

struct Recorder<'a> {
    tape: &'a Tape,
    layers: RefCell<Vec<Visited>>,
    /// Multiply-adds of the layers so far.
    counted: RefCell<u64>,
}

impl Observer for Recorder<'_> {
    fn output(&self, seen: &Seen<'_>) {
        let Seen { path, layer, output, .. } = *seen;
        let total = self.tape.multiply_adds();
        if state::has_children(layer) {
            return;
        }
        self.layers.borrow_mut().push(Visited {
            path: path.to_string(),
            label: layer.label().to_string(),
            output: *output.shape(),
            slot: output.slot(),
            parameters: state::param_count(layer),
            multiply_adds: total - self.counted.replace(total),
            end: self.tape.len(),
        });
    }
}

//! What a network consists of: a row for each layer, found by passes that compute shapes only.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::activation_memory::{kept, live};
use crate::layer::{Context, Layer, Observer, Seen};
use crate::receptive_field::{ReceptiveField, fields};
use crate::state;

/// The layers of a network that do the work, in the order in which they do it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// A row for each layer that holds no others.
    pub rows: Vec<Row>,
    /// How many numbers the network learns.
    pub parameters: usize,
    /// Multiply-adds of one pass forward, for the whole batch.
    pub multiply_adds: u64,
    /// Bytes of activations that training keeps for the gradient, for the whole batch.
    pub training_bytes: usize,
    /// The most bytes of activations that exist at once in prediction, for the whole batch.
    pub prediction_bytes: usize,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its dotted name; that of the layer around it if it has none.
    pub path: String,
    /// What it is called where it is printed.
    pub label: String,
    /// The extents of its output.
    pub output: Shape,
    /// How many numbers it learns.
    pub parameters: usize,
    /// Multiply-adds of one pass forward, for the whole batch.
    pub multiply_adds: u64,
    /// What an element of its output can depend on.
    pub receptive_field: Option<ReceptiveField>,
    /// Bytes of activations that training keeps for its gradient and for no layer before it.
    pub training_bytes: usize,
    /// Bytes of activations that exist while it predicts: its input, its output, and what later layers will read.
    pub prediction_bytes: usize,
}

/// The summary of `network` for inputs of the shape `input`.
///
/// # Errors
/// When the network does not take such an input.
pub fn summarize(network: &dyn Layer, input: &Shape) -> Result<Summary> {
    // A batch norm does not train with one image: two are, and count half.
    let images = input.first().copied().unwrap_or(1);
    let trained_on = if images == 1 { input.with_extent(0, 2) } else { *input };
    let training = Pass::run(network, &trained_on, true)?;
    let kept = kept(&training.tape, training.input.slot());
    let kept: Vec<usize> =
        kept.into_iter().map(|bytes| if images == 1 { bytes / 2 } else { bytes }).collect();
    let predicting = Pass::run(network, input, false)?;
    let slot = predicting.input.slot();
    let live = live(&predicting.tape, slot.map(|slot| (slot, input)), predicting.output.slot());
    let fields = fields(&predicting.tape, slot);

    let mut rows = Vec::with_capacity(predicting.layers.len());
    let (mut trained, mut predicted) = (0, 0);
    for (train, predict) in training.layers.iter().zip(&predicting.layers) {
        let field = predict.slot.and_then(|slot| fields.get(&slot));
        rows.push(Row {
            path: predict.path.clone(),
            label: predict.label.clone(),
            output: predict.output,
            parameters: predict.parameters,
            multiply_adds: predict.multiply_adds,
            receptive_field: field.map(|f| f.receptive_field()),
            training_bytes: kept[trained..train.steps].iter().sum(),
            prediction_bytes: live[predicted..predict.steps].iter().copied().max().unwrap_or(0),
        });
        (trained, predicted) = (train.steps, predict.steps);
    }
    Ok(Summary {
        rows,
        parameters: state::param_count(network),
        multiply_adds: predicting.tape.multiply_adds(),
        training_bytes: kept.iter().sum(),
        prediction_bytes: live.into_iter().max().unwrap_or(0),
    })
}

/// A pass over shapes.
struct Pass {
    tape: Tape,
    input: Var,
    output: Var,
    layers: Vec<Visited>,
}

/// A layer as the pass met it.
struct Visited {
    path: String,
    label: String,
    output: Shape,
    slot: Option<usize>,
    parameters: usize,
    multiply_adds: u64,
    /// The steps on the tape when it was done.
    steps: usize,
}

impl Pass {
    fn run(network: &dyn Layer, input: &Shape, training: bool) -> Result<Self> {
        let tape = Tape::new();
        let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
        let rows = Rows { tape: &tape, layers: RefCell::default(), counted: RefCell::new(0) };
        let context = if training { Context::train(&tape, 0) } else { Context::eval(&tape) };
        let output = context.observed(&rows).run(network, &x)?;
        let layers = rows.layers.into_inner();
        Ok(Pass { tape, input: x, output, layers })
    }
}

struct Rows<'a> {
    tape: &'a Tape,
    layers: RefCell<Vec<Visited>>,
    /// The work that the rows so far have done.
    counted: RefCell<u64>,
}

impl Observer for Rows<'_> {
    fn output(&self, seen: &Seen<'_>) {
        let Seen { path, layer, output, .. } = *seen;
        let done = self.tape.multiply_adds();
        if state::has_children(layer) {
            return;
        }
        self.layers.borrow_mut().push(Visited {
            path: path.to_string(),
            label: layer.label().to_string(),
            output: *output.shape(),
            slot: output.slot(),
            parameters: state::param_count(layer),
            multiply_adds: done - self.counted.replace(done),
            steps: self.tape.steps(),
        });
    }
}

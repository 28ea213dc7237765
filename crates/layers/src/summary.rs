//! What a network consists of: a row for each layer, found by a pass that computes shapes only.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::context::{Context, Observer};
use crate::layer::Layer;
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
}

/// The summary of `network` for inputs of the shape `input`.
///
/// # Errors
/// When the network does not take such an input.
pub fn summarize(network: &dyn Layer, input: &Shape) -> Result<Summary> {
    let tape = Tape::no_grad();
    let observer = Rows { tape: &tape, rows: RefCell::default(), counted: RefCell::new(0) };
    let x = Var::constant(Tensor::zeros(*input, &Device::Meta)?);
    Context::eval(&tape).observed(&observer).run(network, &x)?;
    Ok(Summary {
        rows: observer.rows.into_inner(),
        parameters: state::param_count(network),
        multiply_adds: tape.multiply_adds(),
    })
}

struct Rows<'a> {
    tape: &'a Tape,
    rows: RefCell<Vec<Row>>,
    /// The work that the rows so far have done.
    counted: RefCell<u64>,
}

impl Observer for Rows<'_> {
    fn output(&self, path: &str, layer: &dyn Layer, _input: &Var, output: &Var) {
        let done = self.tape.multiply_adds();
        if state::has_children(layer) {
            return;
        }
        self.rows.borrow_mut().push(Row {
            path: path.to_string(),
            label: layer.label().to_string(),
            output: *output.shape(),
            parameters: state::param_count(layer),
            multiply_adds: done - self.counted.replace(done),
        });
    }
}

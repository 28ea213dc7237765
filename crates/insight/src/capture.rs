//! The input and the output of one layer in a pass.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_base::{Error, Result};
use neocog_layers::{Context, Layer, Observer, Seen};

/// What a network and one of its layers computed.
pub(crate) struct Captured {
    /// The output of the network.
    pub logits: Var,
    pub layer_input: Var,
    pub layer_output: Var,
}

/// Runs a network in evaluation mode, and returns what the layer with the dotted name `name` read and computed.
///
/// # Errors
/// `NotFound` when there is no such layer; when the network does not accept the images.
pub(crate) fn run(network: &dyn Layer, tape: &Tape, images: &Var, name: &str) -> Result<Captured> {
    let layer = NamedLayer { name, found: RefCell::default(), names: RefCell::default() };
    let logits = Context::eval(tape).observed(&layer).run(network, images)?;
    let names = layer.names.into_inner();
    // The whole network has no name.
    let named = names.iter().map(String::as_str).filter(|name| !name.is_empty());
    let found = layer.found.into_inner().filter(|_| !name.is_empty());
    let (layer_input, layer_output) = found.ok_or_else(|| Error::not_found("layer", name, named))?;
    Ok(Captured { logits, layer_input, layer_output })
}

struct NamedLayer<'a> {
    name: &'a str,
    found: RefCell<Option<(Var, Var)>>,
    names: RefCell<Vec<String>>,
}

impl Observer for NamedLayer<'_> {
    fn output(&self, seen: &Seen<'_>) {
        if !seen.is_named {
            return;
        }
        if seen.path == self.name {
            *self.found.borrow_mut() = Some((seen.input.clone(), seen.output.clone()));
        }
        self.names.borrow_mut().push(seen.path.to_string());
    }
}

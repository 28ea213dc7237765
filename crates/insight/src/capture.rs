//! The input and the output of one layer in a pass.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_layers::{Context, Layer, Observer, Seen, state};
use neocog_tensor::{Device, Shape, Tensor};

/// What a network and one of its layers computed.
pub(crate) struct Captured {
    /// The output of the network.
    pub logits: Var,
    pub layer_input: Var,
    pub layer_output: Var,
    /// Number of images that the layer had; more than the network was given, if the network has filled up the batch.
    pub images: usize,
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
    let (layer_input, layer_output, filled) = found.ok_or_else(|| Error::not_found("layer", name, named))?;
    let images = images.shape().first().copied().unwrap_or(0) + filled;
    Ok(Captured { logits, layer_input, layer_output, images })
}

impl Captured {
    /// Checks that the first axis of a value of the layer called `name` are the images.
    pub fn check_images(&self, value: &Var, name: &str) -> Result<()> {
        if value.shape().first() == Some(&self.images) {
            return Ok(());
        }
        let shape = value.shape();
        let images = count(self.images, "image");
        Err(Error::shape(format!("layer {name} has {shape} for {images}, not a row for each of them")))
    }
}

/// Operators and layers that multiply by a weight.
const PRODUCTS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Returns the names of the nodes of an ONNX model that multiply by a constant of at least `rank` axes, in the order in which they run for
/// images of a shape, each with the constant.
///
/// # Errors
/// When the network does not accept the images.
pub(crate) fn products(network: &dyn Layer, images: &Shape, rank: usize) -> Result<Vec<(String, Tensor)>> {
    struct Found(usize, RefCell<Vec<(String, Tensor)>>);
    impl Observer for Found {
        fn output(&self, seen: &Seen<'_>) {
            if !PRODUCTS.contains(&seen.layer.label()) {
                return;
            }
            let params = state::params(seen.layer);
            if let Some((_, param)) = params.iter().find(|(_, param)| param.shape().rank() >= self.0) {
                self.1.borrow_mut().push((seen.path.to_string(), param.value().clone()));
            }
        }
    }
    let found = Found(rank, RefCell::default());
    let tape = Tape::no_grad();
    let images = Var::constant(Tensor::zeros(*images, &Device::Meta)?);
    Context::eval(&tape).observed(&found).run(network, &images)?;
    Ok(found.1.into_inner())
}

struct NamedLayer<'a> {
    name: &'a str,
    found: RefCell<Option<(Var, Var, usize)>>,
    names: RefCell<Vec<String>>,
}

impl Observer for NamedLayer<'_> {
    fn output(&self, seen: &Seen<'_>) {
        if !seen.is_named {
            return;
        }
        if seen.path == self.name {
            *self.found.borrow_mut() = Some((seen.input.clone(), seen.output.clone(), seen.filled));
        }
        self.names.borrow_mut().push(seen.path.to_string());
    }
}

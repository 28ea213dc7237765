//! Builds layers of specs: makes parameters, finds shapes, and tells where something went wrong.

use neocog_autograd::{Param, Tape, Var};
use neocog_base::random::Random;
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};

use crate::context::{Context, place};
use crate::layer::{Buffer, Layer};
use crate::spec::LayerSpec;

/// The initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Uniform in `[-bound, bound)`. PyTorch's default for convolutions and linear layers, weights and biases, is the
    /// bound `1 / sqrt(fan_in)`.
    Uniform {
        /// The bound.
        bound: f64,
    },
}

/// Builds layers on a device. The initial values are a function of the seed and each parameter's full name, so they
/// do not depend on what else is built.
#[derive(Debug)]
pub struct Builder {
    device: Device,
    seed: u64,
    path: Vec<String>,
}

impl Builder {
    /// A builder for layers on `device`.
    pub fn new(device: &Device, seed: u64) -> Self {
        Builder { device: device.clone(), seed, path: Vec::new() }
    }

    /// Builds a whole network for inputs like `input`, and checks that such an input passes through it.
    ///
    /// # Errors
    /// When the spec does not fit the input; the error tells the way to the layer.
    pub fn build(&mut self, spec: &LayerSpec, input: &Shape) -> Result<Box<dyn Layer>> {
        Ok(self.build_with_output(None, spec, input)?.0)
    }

    /// Builds a layer within another one; returns it and the shape of its output. Without a name, its parameters
    /// are named as if they were the outer layer's own.
    ///
    /// # Errors
    /// As [`Builder::build`], with the name added to the error's path.
    pub fn child(
        &mut self,
        name: Option<&str>,
        spec: &LayerSpec,
        input: &Shape,
    ) -> Result<(Box<dyn Layer>, Shape)> {
        self.path.extend(name.map(str::to_string));
        let built = self.build_with_output(name, spec, input);
        if name.is_some() {
            self.path.pop();
        }
        built
    }

    fn build_with_output(
        &mut self,
        name: Option<&str>,
        spec: &LayerSpec,
        input: &Shape,
    ) -> Result<(Box<dyn Layer>, Shape)> {
        let layer = spec.build(self, input);
        // The network itself has no name: errors within it start with its first layer.
        let layer = if self.path.is_empty() && name.is_none() {
            layer
        } else {
            layer.context(|| place(name, spec.kind()))
        }?;
        let output = output_shape(&*layer, input);
        let output = if name.is_some() { output.context(|| place(name, layer.label())) } else { output }?;
        Ok((layer, output))
    }

    /// A parameter with initial values.
    ///
    /// # Errors
    /// When the shape is not possible, there is no memory for it, or the device fails.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Result<Param> {
        let shape = self.possible(shape).context(|| name)?;
        Ok(Param::new(match init {
            _ if self.device == Device::Meta => Tensor::zeros(shape, &self.device)?,
            Init::Constant(value) => Tensor::full(shape, value, &self.device)?,
            Init::Uniform { bound } => {
                let mut random = Random::stream(self.seed, &self.full_name(name));
                let bound = bound as f32;
                let values: Vec<f32> =
                    (0..shape.elements()).map(|_| random.next_uniform(-bound, bound)).collect();
                Tensor::from_f32(shape, &values, &self.device)?
            }
        }))
    }

    /// A buffer with the same value everywhere; see [`Buffer::new`] for `persistent`.
    ///
    /// # Errors
    /// When the shape is not possible, or there is no memory for it.
    pub fn buffer(&self, shape: &[usize], value: f64, persistent: bool) -> Result<Buffer> {
        Ok(Buffer::new(Tensor::full(self.possible(shape)?, value, &self.device)?, persistent))
    }

    /// A shape that the device has memory for: a number too many in a file must not end the program.
    fn possible(&self, shape: &[usize]) -> Result<Shape> {
        let shape = Shape::new(shape)?;
        let has_room = || Vec::<f64>::new().try_reserve_exact(shape.elements()).is_ok();
        if self.device != Device::Meta && !has_room() {
            return Err(Error::invalid_argument(format!(
                "there is no memory for {} numbers, {shape}",
                shape.elements()
            )));
        }
        Ok(shape)
    }

    fn full_name(&self, name: &str) -> String {
        self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }
}

/// The shape of a layer's output, found by a pass that computes shapes only.
///
/// # Errors
/// When the layer does not take such an input.
pub fn output_shape(layer: &dyn Layer, input: &Shape) -> Result<Shape> {
    let tape = Tape::no_grad();
    let output =
        layer.forward(&Context::eval(&tape), &Var::constant(Tensor::zeros(*input, &Device::Meta)?))?;
    Ok(*output.shape())
}

//! The builder: creates parameters and buffers of layers.

use neocog_autograd::{Param, Tape, Var};
use neocog_base::memory::try_collect;
use neocog_base::random::Random;
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};

use crate::layer::{Buffer, Context, Layer};

/// The initial values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value everywhere.
    Constant(f64),
    /// Uniform in `[-bound, bound)`. PyTorch's default for the weights and biases of convolutions and linear layers has
    /// the bound `1 / sqrt(fan_in)`.
    Uniform {
        /// The bound.
        bound: f64,
    },
}

/// Builds layers on a device. The initial values of a parameter are a function of the seed and its dotted name, so they
/// do not depend on the other layers.
#[derive(Debug)]
pub struct Builder {
    pub(crate) device: Device,
    /// `None` for zeros in place of random values.
    seed: Option<u64>,
    /// Names of the layers around the one that is built.
    pub(crate) path: Vec<String>,
}

impl Builder {
    /// Creates a builder for layers on `device`.
    pub fn new(device: &Device, seed: u64) -> Self {
        Builder { device: *device, seed: Some(seed), path: Vec::new() }
    }

    /// Creates a builder whose layers have zeros in place of random initial values: for a network whose state is loaded next.
    pub fn to_load(device: &Device) -> Self {
        Builder { device: *device, seed: None, path: Vec::new() }
    }

    /// Creates a parameter with initial values.
    ///
    /// # Errors
    /// When the shape is invalid, memory cannot be allocated, or the device fails.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Result<Param> {
        let shape = self.checked_shape(shape).context(|| name)?;
        Ok(Param::new(match (init, self.seed) {
            (Init::Constant(value), _) if self.device != Device::Meta => {
                Tensor::full(shape, value, &self.device)?
            }
            (Init::Uniform { bound }, Some(seed)) if self.device != Device::Meta => {
                let mut random = Random::stream(seed, &self.full_name(name));
                let bound = bound as f32;
                let values = std::iter::repeat_with(|| random.next_uniform(-bound, bound));
                let values =
                    try_collect(shape.elements(), values, format_args!("a tensor of shape {shape}"))?;
                Tensor::from_f32(shape, &values, &self.device)?
            }
            _ => Tensor::zeros(shape, &self.device)?,
        }))
    }

    /// Creates a buffer filled with `value`; see [`Buffer::new`] for `persistent`.
    ///
    /// # Errors
    /// When the shape is invalid or memory cannot be allocated.
    pub fn buffer(&self, shape: &[usize], value: f64, persistent: bool) -> Result<Buffer> {
        Ok(Buffer::new(Tensor::full(self.checked_shape(shape)?, value, &self.device)?, persistent))
    }

    /// Returns a shape that memory can be allocated for: a huge extent in a file must not abort the process.
    fn checked_shape(&self, shape: &[usize]) -> Result<Shape> {
        let shape = Shape::new(shape)?;
        let has_room = || Vec::<f64>::new().try_reserve_exact(shape.elements()).is_ok();
        if self.device != Device::Meta && !has_room() {
            return Err(Error::out_of_memory(format!(
                "cannot allocate a tensor of shape {shape} ({} elements)",
                shape.elements()
            )));
        }
        Ok(shape)
    }

    fn full_name(&self, name: &str) -> String {
        self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }
}

/// Returns the shape of a layer's output, computed by a pass on [`Device::Meta`].
///
/// # Errors
/// When the layer does not accept such an input.
pub fn output_shape(layer: &dyn Layer, input: &Shape) -> Result<Shape> {
    let tape = Tape::no_grad();
    let output =
        layer.forward(&Context::eval(&tape), &Var::constant(Tensor::zeros(*input, &Device::Meta)?))?;
    Ok(*output.shape())
}

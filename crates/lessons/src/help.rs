//! What several lessons need: numbers to try things with, and a pass through a layer and back.

use neocog_autograd::Tape;
use neocog_base::random::Random;
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::{Builder, Context, Layer, LayerSpec, state};
use neocog_tensor::ops::Conv2d;
use neocog_tensor::{Device, Result, Shape, Tensor, run_single};

/// The largest difference between two lists of numbers of the same length.
pub(crate) fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "numbers to compare");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Numbers from -1 to 1, the same each time for the same name.
pub(crate) fn noise(name: &str, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let mut random = Random::stream(0, name);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    Tensor::from_f32(shape, &values, device)
}

/// 0, 1, 2 and so on.
pub(crate) fn counting(shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.elements()).map(|i| i as f32).collect();
    Tensor::from_f32(shape, &values, device)
}

/// The first digits of the embedded test set, `[count, 1, 28, 28]`.
pub(crate) fn digits(count: usize, device: &Device) -> Result<Tensor> {
    let options = LoaderOptions { batch: count, size: (28, 28), ..LoaderOptions::default() };
    let loader = Loader::new(neocog_data::load("digits", "data".as_ref())?.test, options)?;
    let batch = loader.epoch(0)?.next().expect("there are digits")?;
    Tensor::from_f32(batch.shape(), &batch.pixels, device)
}

/// Cross-correlation of pictures `[n, c, h, w]` with kernels `[out, c, kh, kw]`; true convolution if `flip`.
pub(crate) fn correlate(picture: &Tensor, kernel: &Tensor, flip: bool) -> Result<Tensor> {
    let (stride, padding, dilation) = ([1, 1], [0, 0], [1, 1]);
    run_single(&Conv2d { stride, padding, dilation, groups: 1, flip, activation: None }, &[picture, kernel])
}

/// A layer for inputs like `input`, with the parameters that seed 0 gives.
pub(crate) fn build(spec: impl Into<LayerSpec>, input: &Shape, device: &Device) -> Result<Box<dyn Layer>> {
    Builder::new(device, 0).build(&spec.into(), input)
}

/// What a pass through a layer in training, and back, gave.
pub(crate) struct Pass {
    pub output: Tensor,
    /// The gradient of the input.
    pub input_grad: Tensor,
    /// The gradient of each parameter, with its name, in their order.
    pub grads: Vec<(String, Tensor)>,
}

impl Pass {
    /// Runs `layer` forward and, from the gradient `above` of its output, back.
    pub fn new(layer: &dyn Layer, x: &Tensor, above: impl FnOnce(&Shape) -> Result<Tensor>) -> Result<Self> {
        let tape = Tape::new();
        let leaf = tape.leaf(x.clone());
        let output = layer.forward(&Context::train(&tape, 0), &leaf)?;
        let grads = tape.backward_from(&[(&output, above(output.shape())?)])?;
        // What had no influence has gradient 0.
        let or_zeros = |grad: Option<&Tensor>, of: &Tensor| match grad {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::zeros(*of.shape(), &of.device()),
        };
        Ok(Pass {
            output: output.tensor().clone(),
            input_grad: or_zeros(grads.get(&leaf), x)?,
            grads: state::params(layer)
                .into_iter()
                .map(|(name, param)| Ok((name, or_zeros(grads.param(param), &param.value())?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// The root of the mean square.
pub(crate) fn size_of(tensor: &Tensor) -> Result<f64> {
    let numbers = tensor.to_f64()?;
    Ok((numbers.iter().map(|v| v * v).sum::<f64>() / numbers.len().max(1) as f64).sqrt())
}

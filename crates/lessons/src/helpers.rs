//! Helpers shared by the lessons: test data, and forward and backward passes of single layers.

use std::sync::Arc;

use neocog_autograd::Tape;
use neocog_base::random::Random;
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::{Builder, Context, Layer, LayerSpec, state};
use neocog_tensor::ops::Conv2d;
use neocog_tensor::{Device, Result, Shape, Tensor, run_single};

/// Returns the maximum absolute difference of two lists of the same length.
pub(crate) fn max_abs_diff(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "lists to compare");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Returns a tensor of uniform numbers from -1 to 1; the same `stream` gives the same numbers.
pub(crate) fn random_tensor(stream: &str, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let mut random = Random::stream(0, stream);
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(-1.0, 1.0)).collect();
    Tensor::from_f32(shape, &values, device)
}

/// Returns a tensor with the elements 0, 1, 2, ....
pub(crate) fn arange(shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let values: Vec<f32> = (0..shape.elements()).map(|i| i as f32).collect();
    Tensor::from_f32(shape, &values, device)
}

/// Returns the first images of the embedded test set, `[count, 1, 28, 28]`.
pub(crate) fn load_digits(count: usize, device: &Device) -> Result<Tensor> {
    let options = LoaderOptions::new().batch_size(count).image_size((28, 28));
    let loader = Loader::new(Arc::clone(neocog_data::load("digits", "data".as_ref())?.test()?), options)?;
    let batch = loader.epoch(0)?.next().expect("the test set is not empty")?;
    Tensor::from_f32(batch.shape(), &batch.pixels, device)
}

/// Cross-correlates images `[n, c, h, w]` with kernels `[out, c, kh, kw]`; with `flip`, computes the true convolution.
pub(crate) fn cross_correlate(image: &Tensor, kernel: &Tensor, flip: bool) -> Result<Tensor> {
    let (stride, padding, dilation) = ([1, 1], [0, 0], [1, 1]);
    run_single(&Conv2d { stride, padding, dilation, groups: 1, flip, activation: None }, &[image, kernel])
}

/// Builds a layer for inputs of shape `input`, initialized with seed 0.
pub(crate) fn build(spec: impl Into<LayerSpec>, input: &Shape, device: &Device) -> Result<Box<dyn Layer>> {
    Builder::new(device, 0).build(&spec.into(), input)
}

/// Results of a forward and a backward pass of a layer in training mode.
pub(crate) struct ForwardBackward {
    pub output: Tensor,
    pub input_grad: Tensor,
    /// Name and gradient of each parameter.
    pub param_grads: Vec<(String, Tensor)>,
}

impl ForwardBackward {
    /// Runs `layer` forward on `x`, then backward from the output gradient that `output_grad` returns for the shape of
    /// the output.
    pub fn run(
        layer: &dyn Layer,
        x: &Tensor,
        output_grad: impl FnOnce(&Shape) -> Result<Tensor>,
    ) -> Result<Self> {
        let tape = Tape::new();
        let leaf = tape.leaf(x.clone());
        let output = layer.forward(&Context::train(&tape, 0), &leaf)?;
        let grads = tape.backward_from(&[(&output, output_grad(output.shape())?)])?;
        // Values that do not contribute to the output have no gradient: it is 0.
        let or_zeros = |grad: Option<&Tensor>, value: &Tensor| match grad {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::zeros(*value.shape(), &value.device()),
        };
        Ok(ForwardBackward {
            output: output.tensor().clone(),
            input_grad: or_zeros(grads.get(&leaf), x)?,
            param_grads: state::params(layer)
                .into_iter()
                .map(|(name, param)| Ok((name, or_zeros(grads.param(param), &param.value())?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// Returns the root mean square of the elements.
pub(crate) fn rms(tensor: &Tensor) -> Result<f64> {
    let values = tensor.to_f64()?;
    Ok((values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt())
}

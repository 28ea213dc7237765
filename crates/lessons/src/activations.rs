//! Vanishing gradients: sigmoid, tanh and relu in a deep network.

use neocog_layers::{Conv2d, LayerSpec, ReLU, Sequential, Sigmoid, Tanh, state};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{AxisScale, Chart, RgbImage};

use crate::helpers::{ForwardBackward, build, random_tensor, rms};
use crate::page::Page;
use crate::register_lesson;

const DEPTH: usize = 16;
const CHANNELS: usize = 8;

register_lesson!(80, "activations", "sigmoid, tanh and relu: vanishing gradients in deep networks", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(format!(
        "By the chain rule, the gradient of an early layer is a product over all later layers. The derivative of the sigmoid is\n\
         s · (1 - s), at most 1/4, so the product vanishes with depth; the derivative of relu is 1 for all x > 0.\n\n\
         Our network has {DEPTH} 3x3 convolutions of {CHANNELS} channels, each followed by an activation, with the same weights\n\
         (He et al. 2015) for each activation. The table shows the root mean square of the weight gradient of each layer.\n"
    ))?;
    let sigmoid = gradient_rms(&Sigmoid {}.into(), &page.device())?;
    let tanh = gradient_rms(&Tanh {}.into(), &page.device())?;
    let relu = gradient_rms(&ReLU {}.into(), &page.device())?;
    let row = |layer: usize| {
        let [s, t, r] = [&sigmoid, &tanh, &relu].map(|sizes| format!("{:.1e}", sizes[layer]));
        [(layer + 1).to_string(), s, t, r]
    };
    page.table(["layer", "sigmoid", "tanh", "relu"], (0..DEPTH).step_by(3).map(row).collect())?;
    let ratio = |sizes: &[f64]| sizes[0] / sizes[DEPTH - 1];
    page.print(format!(
        "\n  Gradient of the first layer relative to the last: sigmoid {:.0e}, tanh {:.2}, relu {:.2}.\n",
        ratio(&sigmoid),
        ratio(&tanh),
        ratio(&relu)
    ))?;
    page.check("sigmoid: the ratio is below 1e-6", ratio(&sigmoid) < 1e-6)?;
    page.check("relu: the ratio is above 0.1", ratio(&relu) > 0.1)?;
    let decreasing = sigmoid.windows(2).all(|pair| pair[0] < pair[1]);
    page.check("sigmoid: the gradient shrinks in every layer on the way back", decreasing)?;
    page.image("activations", || Ok(draw_chart(&[("sigmoid", &sigmoid), ("tanh", &tanh), ("relu", &relu)])))
}

/// Returns the root mean square of the weight gradient of each convolution.
fn gradient_rms(activation: &LayerSpec, device: &Device) -> Result<Vec<f64>> {
    let layer = Conv2d { bias: false, ..Conv2d::new(CHANNELS, CHANNELS, 3).padding(1) };
    let spec = (0..DEPTH).fold(Sequential::new(), |all, _| all.then(layer.clone()).then(activation.clone()));
    let x = random_tensor("pictures", [4, CHANNELS, 16, 16], device)?;
    let net = build(spec, x.shape(), device)?;
    for (_, weight) in state::params(&*net) {
        // From the default initialization, uniform within ±1/√fan_in, to He's variance 2/fan_in.
        let he: Vec<f64> = weight.value().to_f64()?.iter().map(|w| w * 6f64.sqrt()).collect();
        weight.set(&Tensor::from_f64(weight.shape(), &he, device)?)?;
    }
    let pass = ForwardBackward::run(&*net, &x, |output| random_tensor("above", *output, device))?;
    pass.param_grads.iter().map(|(_, gradient)| rms(gradient)).collect()
}

fn draw_chart(kinds: &[(&str, &[f64])]) -> RgbImage {
    let chart = Chart::new(
        "Vanishing gradients",
        "layers from the output",
        "weight gradient (RMS) relative to the last layer",
        AxisScale::Log,
    )
    .note(format!("{DEPTH} convolutions with the same weights for each activation"));
    let lines = kinds.iter().fold(chart, |chart, (name, sizes)| {
        let points = sizes.iter().rev().enumerate().map(|(i, size)| (i as f64, size / sizes[DEPTH - 1]));
        chart.line(*name, points)
    });
    lines.draw()
}

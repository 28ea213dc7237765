//! Sigmoid against relu, through depth.

use neocog_layers::{Conv2d, LayerSpec, ReLU, Sequential, Sigmoid, Tanh, state};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{Chart, RgbImage, Scale};

use crate::help::{Pass, build, noise, size_of};
use crate::page::Page;

const DEPTH: usize = 16;
const CHANNELS: usize = 8;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(format!(
        "The gradient of an early layer is a product over all layers behind it. sigmoid(x) has the slope s · (1 - s), a quarter at\n\
         most; relu has the slope 1 wherever x > 0. Here are {DEPTH} 3x3 convolutions of {CHANNELS} channels with an activation behind each,\n\
         with the same weights (He et al. 2015) for each kind, and the size (root mean square) of each layer's gradient.\n"
    ))?;
    let sigmoid = gradients(&Sigmoid {}.into(), &page.device())?;
    let tanh = gradients(&Tanh {}.into(), &page.device())?;
    let relu = gradients(&ReLU {}.into(), &page.device())?;
    let row = |layer: usize| {
        let [s, t, r] = [&sigmoid, &tanh, &relu].map(|sizes| format!("{:.1e}", sizes[layer]));
        [(layer + 1).to_string(), s, t, r]
    };
    page.table(["layer", "sigmoid", "tanh", "relu"], (0..DEPTH).step_by(3).map(row).collect())?;
    let left = |sizes: &[f64]| sizes[0] / sizes[DEPTH - 1];
    page.say(format!(
        "\n  What reaches the first layer, as a share of the last: sigmoid {:.0e}, tanh {:.2}, relu {:.2}.\n",
        left(&sigmoid),
        left(&tanh),
        left(&relu)
    ))?;
    page.holds("with sigmoids less than a millionth is left", left(&sigmoid) < 1e-6)?;
    page.holds("with relu more than a tenth is", left(&relu) > 0.1)?;
    let falls = sigmoid.windows(2).all(|pair| pair[0] < pair[1]);
    page.holds("with sigmoids it falls in every single layer", falls)?;
    page.picture("activations", || Ok(draw(&[("sigmoid", &sigmoid), ("tanh", &tanh), ("relu", &relu)])))
}

/// The size of the gradient of each convolution's weights.
fn gradients(activation: &LayerSpec, device: &Device) -> Result<Vec<f64>> {
    let layer = Conv2d { bias: false, ..Conv2d::new(CHANNELS, CHANNELS, 3).padding(1) };
    let spec = (0..DEPTH).fold(Sequential::new(), |all, _| all.then(layer.clone()).then(activation.clone()));
    let x = noise("pictures", [4, CHANNELS, 16, 16], device)?;
    let net = build(spec, x.shape(), device)?;
    for (_, weight) in state::params(&*net) {
        // From ±1/√fan_in, as layers are built, to variance 2/fan_in.
        let he: Vec<f64> = weight.value().to_f64()?.iter().map(|w| w * 6f64.sqrt()).collect();
        weight.set(&Tensor::from_f64(weight.shape(), &he, device)?)?;
    }
    let pass = Pass::new(&*net, &x, |output| noise("above", *output, device))?;
    pass.grads.iter().map(|(_, gradient)| size_of(gradient)).collect()
}

fn draw(kinds: &[(&str, &[f64])]) -> RgbImage {
    let chart = Chart::new(
        "What is left of the gradient",
        "layers that it has come back through",
        "size of the weights' gradient, as a share of the last layer's",
        Scale::Log,
    )
    .note(format!("{DEPTH} convolutions, the same weights for each activation"));
    let lines = kinds.iter().fold(chart, |chart, (name, sizes)| {
        let points = sizes.iter().rev().enumerate().map(|(i, size)| (i as f64, size / sizes[DEPTH - 1]));
        chart.line(*name, points)
    });
    lines.draw()
}

//! Residual connections.

use neocog_layers::{Child, Conv2d, Layer, LayerSpec, ReLU, Residual, Sequential, state};
use neocog_tensor::ops::{Activation, Relu};
use neocog_tensor::{Device, Result, Tensor, run_single};
use neocog_viz::{Chart, RgbImage, Scale};

use crate::help::{Pass, build, noise, size_of};
use crate::page::Page;

const BLOCKS: usize = 16;
const CHANNELS: usize = 8;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say(
        "A residual block computes relu(f(x) + x): two convolutions f, and the input beside them by a shortcut. To do nothing, it\n\
         needs only make f small; and going back, the shortcut hands the gradient on as it is.\n",
    )?;
    let block = build(residual(CHANNELS, 1), &[2, CHANNELS, 6, 6].into(), &device)?;
    for (_, param) in state::params(&*block) {
        param.set(&Tensor::zeros(param.shape(), &device)?)?;
    }
    let x = run_single(&Relu, &[&noise("x", [2, CHANNELS, 6, 6], &device)?])?;
    let pass = Pass::new(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    page.holds(
        "with all weights 0, numbers that are not negative pass unchanged",
        pass.output.to_f32()? == x.to_f32()?,
    )?;
    let passes =
        pass.input_grad.to_f32()?.iter().zip(x.to_f32()?).all(|(g, x)| *g == if x > 0.0 { 1.0 } else { 0.0 });
    page.holds("and the gradient comes back as it went in, where relu lets it", passes)?;

    page.part("The gradient through many blocks")?;
    page.say(format!(
        "{BLOCKS} blocks of two convolutions, with the weights that layers get when they are built, with and without shortcuts; the\n\
         size (root mean square) of the gradient of each block's first convolution.\n"
    ))?;
    let with = gradients(&residual(CHANNELS, 1), &device)?;
    let without = gradients(&plain(), &device)?;
    let row = |block: usize| {
        let [with, without] = [&with, &without].map(|sizes| format!("{:.1e}", sizes[block]));
        [(block + 1).to_string(), with, without]
    };
    page.table(["block", "with shortcuts", "without"], (0..BLOCKS).step_by(3).map(row).collect())?;
    let left = |sizes: &[f64]| sizes[0] / sizes[BLOCKS - 1];
    page.say(format!(
        "\n  What reaches the first block, as a share of the last: with shortcuts {:.2}, without {:.0e}.\n",
        left(&with),
        left(&without)
    ))?;
    page.holds(
        "with shortcuts the first block learns about as fast as the last",
        (0.05..20.0).contains(&left(&with)),
    )?;
    page.holds("without, less than a millionth is left", left(&without) < 1e-6)?;

    page.part("When the shape changes")?;
    page.say("f(x) and x can be added only if they have the same shape. A block that changes channels and stride says so:\n")?;
    let input = [1, CHANNELS, 6, 6].into();
    let Err(e) = build(residual(2 * CHANNELS, 2), &input, &device) else {
        return page.holds("shapes that differ cannot be added", false);
    };
    page.say(format!("  error: {e}\n"))?;
    let conv3 = Child::named("conv3", Conv2d::new(CHANNELS, 2 * CHANNELS, 1).stride(2));
    let fitted = Residual { shortcut: vec![conv3], ..residual(2 * CHANNELS, 2) };
    let block = build(fitted, &input, &device)?;
    let shape = neocog_layers::builder::output_shape(&*block, &input)?;
    page.equal(
        "with a 1x1 convolution of stride 2 as shortcut, [1, 8, 6, 6] becomes [1, 16, 3, 3]",
        shape.extents().to_vec(),
        vec![1, 2 * CHANNELS, 3, 3],
    )?;
    page.say(format!("\n{}", neocog_layers::print::pytorch(&*block as &dyn Layer)))?;
    page.picture("residual", || Ok(draw(&with, &without)))
}

/// A block with the input itself as shortcut.
fn residual(out_channels: usize, stride: usize) -> Residual {
    let body = vec![
        Child::named("conv1", Conv2d::new(CHANNELS, out_channels, 3).padding(1).stride(stride)),
        Child::unnamed(ReLU {}),
        Child::named("conv2", Conv2d::new(out_channels, out_channels, 3).padding(1)),
    ];
    Residual {
        label: None,
        body,
        shortcut: Vec::new(),
        activation: Some(Activation::Relu),
        order: Vec::new(),
    }
}

/// The same without a shortcut.
fn plain() -> Sequential {
    let Residual { body, .. } = residual(CHANNELS, 1);
    Sequential { label: None, layers: body }.unnamed(ReLU {})
}

/// The size of the gradient of each block's first convolution.
fn gradients(block: &(impl Into<LayerSpec> + Clone), device: &Device) -> Result<Vec<f64>> {
    let spec = (0..BLOCKS).fold(Sequential::new(), |all, _| all.then(block.clone()));
    let x = noise("pictures", [4, CHANNELS, 12, 12], device)?;
    let net = build(spec, x.shape(), device)?;
    let pass = Pass::new(&*net, &x, |output| noise("above", *output, device))?;
    let first = pass.grads.iter().filter(|(name, _)| name.ends_with("conv1.weight"));
    first.map(|(_, gradient)| size_of(gradient)).collect()
}

fn draw(with: &[f64], without: &[f64]) -> RgbImage {
    let points = |sizes: &[f64]| {
        let last = sizes[BLOCKS - 1];
        sizes.iter().rev().enumerate().map(|(i, size)| (i as f64, size / last)).collect::<Vec<_>>()
    };
    Chart::new(
        "What shortcuts do for the gradient",
        "blocks that it has come back through",
        "size of the first weights' gradient, as a share of the last block's",
        Scale::Log,
    )
    .note(format!("{BLOCKS} blocks of two convolutions, weights as layers are built"))
    .line("with shortcuts", points(with))
    .line("without", points(without))
    .draw()
}

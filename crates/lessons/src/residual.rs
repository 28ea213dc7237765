//! Residual connections.

use neocog_layers::{Child, Conv2d, Layer, LayerSpec, ReLU, Residual, Sequential, state};
use neocog_tensor::ops::{Activation, Relu};
use neocog_tensor::{Device, Result, Tensor, run_single};
use neocog_viz::{AxisScale, Chart, RgbImage};

use crate::helpers::{ForwardBackward, build, random_tensor, rms};
use crate::page::Page;
use crate::register_lesson;

const BLOCKS: usize = 16;
const CHANNELS: usize = 8;

register_lesson!(
    110,
    "residual",
    "residual connections: why the first layers of a deep network still learn",
    run
);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print(
        "A residual block computes relu(f(x) + x): two convolutions f, and a shortcut connection that adds the input. The block can\n\
         represent the identity with f = 0, and in the backward pass the shortcut passes the gradient on unchanged.\n",
    )?;
    let block = build(residual_block(CHANNELS, 1), &[2, CHANNELS, 6, 6].into(), &device)?;
    for (_, param) in state::params(&*block) {
        param.set(&Tensor::zeros(param.shape(), &device)?)?;
    }
    let x = run_single(&Relu, &[&random_tensor("x", [2, CHANNELS, 6, 6], &device)?])?;
    let pass = ForwardBackward::run(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    page.check(
        "with all weights 0, the block is the identity for inputs >= 0",
        pass.output.to_f32()? == x.to_f32()?,
    )?;
    let unchanged =
        pass.input_grad.to_f32()?.iter().zip(x.to_f32()?).all(|(g, x)| *g == if x > 0.0 { 1.0 } else { 0.0 });
    page.check("the input gradient equals the output gradient where relu is active", unchanged)?;

    page.heading("Gradients in a deep network")?;
    page.print(format!(
        "We stack {BLOCKS} blocks of two convolutions with default initialization, once with and once without shortcuts. The table shows\n\
         the root mean square of the weight gradient of the first convolution in each block.\n"
    ))?;
    let with = gradient_rms(&residual_block(CHANNELS, 1), &device)?;
    let without = gradient_rms(&plain_block(), &device)?;
    let row = |block: usize| {
        let [with, without] = [&with, &without].map(|sizes| format!("{:.1e}", sizes[block]));
        [(block + 1).to_string(), with, without]
    };
    page.table(["block", "with shortcuts", "without shortcuts"], (0..BLOCKS).step_by(3).map(row).collect())?;
    let ratio = |sizes: &[f64]| sizes[0] / sizes[BLOCKS - 1];
    page.print(format!(
        "\n  Gradient of the first block relative to the last: with shortcuts {:.2}, without {:.0e}.\n",
        ratio(&with),
        ratio(&without)
    ))?;
    page.check(
        "with shortcuts, the gradients of first and last block are within a factor of 20",
        (0.05..20.0).contains(&ratio(&with)),
    )?;
    page.check("without shortcuts, the ratio is below 1e-6", ratio(&without) < 1e-6)?;

    page.heading("Blocks that change the shape")?;
    page.print("f(x) and x can be added only if their shapes are equal. A block with more output channels and stride 2 is an error:\n")?;
    let input = [1, CHANNELS, 6, 6].into();
    let Err(e) = build(residual_block(2 * CHANNELS, 2), &input, &device) else {
        return page.check("different shapes cannot be added", false);
    };
    page.print(format!("  error: {e}\n"))?;
    let conv3 = Child::named("conv3", Conv2d::new(CHANNELS, 2 * CHANNELS, 1).stride(2));
    let projected = Residual { shortcut: vec![conv3], ..residual_block(2 * CHANNELS, 2) };
    let block = build(projected, &input, &device)?;
    let shape = neocog_layers::builder::output_shape(&*block, &input)?;
    page.check_equal(
        "with a 1x1 convolution of stride 2 as shortcut, [1, 8, 6, 6] becomes [1, 16, 3, 3]",
        shape.extents().to_vec(),
        vec![1, 2 * CHANNELS, 3, 3],
    )?;
    page.print(format!("\n{}", neocog_layers::print::pytorch(&*block as &dyn Layer)))?;
    page.image("residual", || Ok(draw_chart(&with, &without)))
}

/// Returns a residual block with an identity shortcut.
fn residual_block(out_channels: usize, stride: usize) -> Residual {
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

/// Returns the same block without a shortcut.
fn plain_block() -> Sequential {
    let Residual { body, .. } = residual_block(CHANNELS, 1);
    Sequential { label: None, layers: body }.unnamed(ReLU {})
}

/// Returns the root mean square of the weight gradient of the first convolution in each block.
fn gradient_rms(block: &(impl Into<LayerSpec> + Clone), device: &Device) -> Result<Vec<f64>> {
    let spec = (0..BLOCKS).fold(Sequential::new(), |all, _| all.then(block.clone()));
    let x = random_tensor("pictures", [4, CHANNELS, 12, 12], device)?;
    let net = build(spec, x.shape(), device)?;
    let pass = ForwardBackward::run(&*net, &x, |output| random_tensor("above", *output, device))?;
    let first = pass.param_grads.iter().filter(|(name, _)| name.ends_with("conv1.weight"));
    first.map(|(_, gradient)| rms(gradient)).collect()
}

fn draw_chart(with: &[f64], without: &[f64]) -> RgbImage {
    let points = |sizes: &[f64]| {
        let last = sizes[BLOCKS - 1];
        sizes.iter().rev().enumerate().map(|(i, size)| (i as f64, size / last)).collect::<Vec<_>>()
    };
    Chart::new(
        "Gradients with and without shortcuts",
        "blocks from the output",
        "weight gradient (RMS) relative to the last block",
        AxisScale::Log,
    )
    .note(format!("{BLOCKS} blocks of two convolutions, default initialization"))
    .line("with shortcuts", points(with))
    .line("without shortcuts", points(without))
    .draw()
}

//! Dense connections (DenseNet).

use neocog_layers::{
    AvgPool2d, BatchNorm2d, Child, Concat, Conv2d, LayerSpec, ReLU, Sequential, builder::output_shape, state,
};
use neocog_tensor::{Result, Shape, Tensor};
use neocog_viz::{AxisScale, Chart, RgbImage};

use crate::helpers::{ForwardBackward, build, random_tensor};
use crate::page::Page;
use crate::register_lesson;

const GROWTH: usize = 4;

register_lesson!(120, "dense", "dense blocks: channels are concatenated; transition layers reduce them", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print(
        "In a dense block, each layer computes a few new channels and concatenates them to its input. Every layer therefore sees the\n\
         outputs of all previous layers, and the number of channels grows by the growth rate per layer.\n",
    )?;
    let x = random_tensor("x", [2, 6, 8, 8], &device)?;
    let mut rows = vec![["input".to_string(), x.shape().to_string(), String::new()]];
    let mut grows_by_4 = true;
    for steps in 1..=4 {
        let block = build(dense_block(steps, 6), x.shape(), &device)?;
        let shape = output_shape(&*block, x.shape())?;
        grows_by_4 &= shape == Shape::from([2, 6 + steps * GROWTH, 8, 8]);
        rows.push([
            format!("after layer {steps}"),
            shape.to_string(),
            state::param_count(&*block).to_string(),
        ]);
    }
    page.table(["dense block, growth rate 4", "shape", "parameters"], rows)?;
    page.check("each layer adds 4 channels", grows_by_4)?;

    page.heading("The input is kept")?;
    let block = build(dense_block(4, 6), x.shape(), &device)?;
    let pass = ForwardBackward::run(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    let (input, output) = (x.to_f32()?, pass.output.to_f32()?);
    let (input_len, output_len) = (6 * 64, 22 * 64);
    let kept = (0..2)
        .all(|sample| output[sample * output_len..][..input_len] == input[sample * input_len..][..input_len]);
    page.check("the first 6 of the 22 channels are the input, unchanged", kept)?;
    for (_, param) in state::params(&*block) {
        param.set(&Tensor::zeros(param.shape(), &device)?)?;
    }
    let zeroed = ForwardBackward::run(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    let direct = zeroed.input_grad.to_f32()?.iter().all(|g| *g == 1.0);
    page.check("with all parameters 0, the output gradient still reaches the input unchanged", direct)?;

    page.heading("Transition layers")?;
    page.print("To limit the number of channels, a transition layer between two blocks halves them with a 1x1 convolution, and halves height\n\
         and width with average pooling.\n")?;
    let block = build(transition(22, 11), &[2, 22, 8, 8].into(), &device)?;
    let shape = output_shape(&*block, &[2, 22, 8, 8].into())?;
    page.check_equal("[2, 22, 8, 8] becomes [2, 11, 4, 4]", shape, Shape::from([2, 11, 4, 4]))?;

    page.print(
        "\nThe channels of densenet: four blocks of four layers with growth rate 32, starting from 64 channels:\n",
    )?;
    let mut channels = 64;
    let (mut rows, mut history) = (Vec::new(), vec![(0.0, 64.0)]);
    for block in 1..=4 {
        let before = channels;
        for _ in 0..4 {
            channels += 32;
            history.push((history.len() as f64, channels as f64));
        }
        let grown = channels;
        if block < 4 {
            channels /= 2;
            history.push((history.len() as f64, channels as f64));
        }
        rows.push([block.to_string(), before.to_string(), grown.to_string(), channels.to_string()]);
    }
    page.table(["block", "input channels", "after the block", "after the transition"], rows)?;
    page.check_equal("the last layer of densenet has 248 input channels", channels, 248)?;
    page.image("dense", || Ok(draw_chart(&history)))
}

/// Returns layers that each concatenate `GROWTH` new channels to their input.
fn dense_block(steps: usize, in_channels: usize) -> Sequential {
    (0..steps).fold(Sequential::new(), |block, step| {
        let channels = in_channels + step * GROWTH;
        let compute = vec![
            Child::named("bn", BatchNorm2d::new(channels)),
            Child::named("relu", ReLU {}),
            Child::named("conv", Conv2d::new(channels, GROWTH, 3).padding(1)),
        ];
        block.then(Concat { label: None, dim: 1, branches: vec![Vec::new(), compute] })
    })
}

fn transition(in_channels: usize, out_channels: usize) -> LayerSpec {
    Sequential::new()
        .then(BatchNorm2d::new(in_channels))
        .then(ReLU {})
        .then(Conv2d::new(in_channels, out_channels, 1))
        .then(AvgPool2d::new(2, 2))
        .into()
}

fn draw_chart(history: &[(f64, f64)]) -> RgbImage {
    Chart::new("Channels of densenet", "layer", "channels", AxisScale::Linear)
        .note("four blocks of four layers, growth rate 32; each transition layer halves the channels")
        .line("", history.iter().copied())
        .draw()
}

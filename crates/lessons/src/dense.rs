//! Dense connections.

use neocog_layers::{
    AvgPool2d, BatchNorm2d, Child, Concat, Conv2d, LayerSpec, ReLU, Sequential, builder::output_shape, state,
};
use neocog_tensor::{Result, Shape, Tensor};
use neocog_viz::{Chart, RgbImage, Scale};

use crate::help::{Pass, build, noise};
use crate::page::Page;

const GROWTH: usize = 4;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say(
        "A dense block keeps what it has: each step computes a few new channels and lays them beside those that came in. So every\n\
         step sees all that was computed before, and channels grow by the growth rate each time.\n",
    )?;
    let x = noise("x", [2, 6, 8, 8], &device)?;
    let mut rows = vec![["input".to_string(), x.shape().to_string(), String::new()]];
    let mut grows = true;
    for steps in 1..=4 {
        let block = build(dense_block(steps, 6), x.shape(), &device)?;
        let shape = output_shape(&*block, x.shape())?;
        grows &= shape == Shape::from([2, 6 + steps * GROWTH, 8, 8]);
        rows.push([
            format!("after step {steps}"),
            shape.to_string(),
            state::param_count(&*block).to_string(),
        ]);
    }
    page.table(["dense block, growth 4", "shape", "parameters"], rows)?;
    page.holds("each step adds 4 channels", grows)?;

    page.part("What comes in stays")?;
    let block = build(dense_block(4, 6), x.shape(), &device)?;
    let pass = Pass::new(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    let (numbers, output) = (x.to_f32()?, pass.output.to_f32()?);
    let (each, wide) = (6 * 64, 22 * 64);
    let kept = (0..2).all(|sample| output[sample * wide..][..each] == numbers[sample * each..][..each]);
    page.holds("the first 6 of the 22 channels are the input, unchanged", kept)?;
    for (_, param) in state::params(&*block) {
        param.set(&Tensor::zeros(param.shape(), &device)?)?;
    }
    let silent = Pass::new(&*block, &x, |shape| Tensor::full(*shape, 1.0, &device))?;
    let direct = silent.input_grad.to_f32()?.iter().all(|g| *g == 1.0);
    page.holds("even if no step computes anything, the gradient reaches the input, unchanged", direct)?;

    page.part("The transition")?;
    page.say("Channels cannot grow for ever: between blocks a 1x1 convolution halves them, and average pooling halves height and width.\n")?;
    let block = build(transition(22, 11), &[2, 22, 8, 8].into(), &device)?;
    let shape = output_shape(&*block, &[2, 22, 8, 8].into())?;
    page.equal("[2, 22, 8, 8] becomes [2, 11, 4, 4]", shape, Shape::from([2, 11, 4, 4]))?;

    page.say(
        "\nA network of four blocks of four steps, with growth 32 as densenet has, from 64 channels:\n",
    )?;
    let mut channels = 64;
    let (mut rows, mut growing) = (Vec::new(), vec![(0.0, 64.0)]);
    for block in 1..=4 {
        let before = channels;
        for _ in 0..4 {
            channels += 32;
            growing.push((growing.len() as f64, channels as f64));
        }
        let grown = channels;
        if block < 4 {
            channels /= 2;
            growing.push((growing.len() as f64, channels as f64));
        }
        rows.push([block.to_string(), before.to_string(), grown.to_string(), channels.to_string()]);
    }
    page.table(["block", "channels in", "after the block", "after the transition"], rows)?;
    page.equal("248 channels go into densenet's last layer", channels, 248)?;
    page.picture("dense", || Ok(draw(&growing)))
}

/// Steps that each lay `GROWTH` new channels beside what came in.
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

fn draw(growing: &[(f64, f64)]) -> RgbImage {
    Chart::new("Channels of a densenet", "step", "channels", Scale::Linear)
        .note("four blocks of four steps, growth 32; each transition halves them")
        .line("", growing.iter().copied())
        .draw()
}

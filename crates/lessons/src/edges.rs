//! Edges, found by a kernel that was made by hand and by one that was learned.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Conv2d, Layer, state};
use neocog_tensor::ops::{Mul, Sub, Sum};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::{Optimizer, OptimizerConfig, OptimizerKind};
use neocog_viz::{Cell, Image, Sheet};

use crate::help::{build, correlate, digits, largest_difference};
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say("A picture that is white, with a black band in the middle, and the kernel [1, -1]: a pixel minus its right neighbour.\n")?;
    let band: Vec<f32> = (0..48).map(|i| if (2..6).contains(&(i % 8)) { 0.0 } else { 1.0 }).collect();
    let picture = Tensor::from_f32([1, 1, 6, 8], &band, &device)?;
    let kernel = Tensor::from_f32([1, 1, 1, 2], &[1.0, -1.0], &device)?;
    let edges = correlate(&picture, &kernel, false)?;
    page.planes(&[("picture", &picture), ("edges", &edges)])?;
    page.equal(
        "1 where white becomes black, -1 where black becomes white, 0 elsewhere",
        edges.to_f32()?,
        [0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0].repeat(6),
    )?;

    page.part("The same kernel, learned")?;
    page.say(
        "A layer with a kernel of 1x2 numbers and no bias starts with random ones. It sees the picture and the edges it should\n\
         find; the loss is the sum of squared differences, and each step goes against the gradient.\n",
    )?;
    let layer = Conv2d { kernel_size: [1, 2], bias: false, ..Conv2d::new(1, 1, 1) };
    let learned = learn(page, layer.clone(), &picture, &edges)?;
    page.near("it has learned [1, -1]", farthest(&learned, [1.0, -1.0]), 1e-3)?;

    page.part("And by true convolution")?;
    page.say("The same layer with flip: true turns its kernel before it uses it, so it must learn the kernel the other way round.\n")?;
    let turned = learn(page, Conv2d { flip: true, ..layer }, &picture, &edges)?;
    page.near("it has learned [-1, 1]", farthest(&turned, [-1.0, 1.0]), 1e-3)?;
    page.near("which is the other kernel turned", farthest(&turned, [learned[1], learned[0]]), 1e-3)?;

    page.picture("edges", || draw(&device))
}

/// Trains a layer, shows how, and returns its kernel.
fn learn(page: &mut Page<'_>, layer: Conv2d, picture: &Tensor, edges: &Tensor) -> Result<[f64; 2]> {
    const STEPS: usize = 40;
    let net = build(layer, picture.shape(), &page.device())?;
    let config = OptimizerConfig { lr: 0.03, rule: OptimizerKind::named("sgd")? };
    let mut optimizer = Optimizer::new(config, &*net)?;
    let mut rows = Vec::new();
    for step in 0..=STEPS {
        let tape = Tape::new();
        let found = net.forward(&Context::train(&tape, 0), &Var::constant(picture.clone()))?;
        let difference = tape.apply_single(Sub, &[&found, &Var::constant(edges.clone())])?;
        let loss = tape.apply_single(Sum, &[&tape.apply_single(Mul, &[&difference, &difference])?])?;
        if [0, 1, 2, 4, 8, 16, STEPS].contains(&step) {
            let [left, right] = kernel_of(&*net)?;
            let numbers = [left, right].map(|w| format!("{w:.4}"));
            let [left, right] = numbers;
            rows.push([step.to_string(), left, right, format!("{:.6}", loss.tensor().item()?)]);
        }
        let grads = tape.backward(&loss)?;
        optimizer.step(&*net, &grads, config.lr)?;
    }
    page.table(["step", "left", "right", "loss"], rows)?;
    kernel_of(&*net)
}

fn kernel_of(net: &dyn Layer) -> Result<[f64; 2]> {
    let numbers = state::params(net)[0].1.value().to_f64()?;
    Ok([numbers[0], numbers[1]])
}

fn farthest(found: &[f64; 2], expected: [f64; 2]) -> f64 {
    largest_difference(found, &expected)
}

/// Digits, and what four kernels find in them.
fn draw(device: &Device) -> Result<neocog_viz::RgbImage> {
    let digits = digits(6, device)?;
    let kernels: [(&str, [usize; 2], &[f32]); 4] = [
        ("upright edges\nkernel [1 −1]", [1, 2], &[1.0, -1.0]),
        ("level edges\nthe same, standing", [2, 1], &[1.0, -1.0]),
        (
            "slanting edges\n[2 1 0; 1 0 −1; 0 −1 −2]",
            [3, 3],
            &[2.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, -2.0],
        ),
        ("blurred\nmean of 5x5", [5, 5], &[0.04; 25]),
    ];
    let pixels = digits.to_f32()?;
    let pictures = pixels.chunks_exact(784).map(|p| Image::of_values(p, [1, 28, 28]).map(Cell::new));
    let originals = pictures.collect::<Result<Vec<_>>>()?;
    let mut sheet =
        Sheet::new("What small kernels find").note("Red is above 0, blue below.").row("digits", originals);
    for (label, [kh, kw], numbers) in kernels {
        let kernel = Tensor::from_f32([1, 1, kh, kw], numbers, device)?;
        let found = correlate(&digits, &kernel, false)?;
        let (h, w) = (found.shape()[2], found.shape()[3]);
        let mut cells = Vec::new();
        for map in found.to_f32()?.chunks_exact(h * w) {
            let largest = map.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
            cells.push(Cell::new(Image::signed(map, [h, w], largest)?));
        }
        sheet = sheet.row(label, cells);
    }
    Ok(sheet.draw())
}

//! Edge detection with a hand-made kernel and with a learned one.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Conv2d, Layer, state};
use neocog_tensor::ops::{Mul, Sub, Sum};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::{Optimizer, OptimizerConfig, OptimizerKind};
use neocog_viz::{ContactSheet, Image, Thumbnail};

use crate::helpers::{build, cross_correlate, load_digits, max_abs_diff};
use crate::page::Page;
use crate::register_lesson;

register_lesson!(20, "edges", "edge detection with a hand-made kernel, and learning the same kernel", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print("A white image with a black band in the middle, and the kernel [1, -1], which subtracts from each pixel its right neighbor.\n")?;
    let band: Vec<f32> = (0..48).map(|i| if (2..6).contains(&(i % 8)) { 0.0 } else { 1.0 }).collect();
    let image = Tensor::from_f32([1, 1, 6, 8], &band, &device)?;
    let kernel = Tensor::from_f32([1, 1, 1, 2], &[1.0, -1.0], &device)?;
    let edges = cross_correlate(&image, &kernel, false)?;
    page.matrices(&[("image", &image), ("edges", &edges)])?;
    page.check_equal(
        "the output is 1 at edges from white to black, -1 from black to white, and 0 elsewhere",
        edges.to_f32()?,
        [0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0].repeat(6),
    )?;

    page.heading("Learning the kernel")?;
    page.print(
        "A convolution with a 1x2 kernel and without bias starts with random weights. Can it learn the kernel from the\n\
         image and its edges alone? We minimize the sum of squared differences with gradient descent.\n",
    )?;
    let layer = Conv2d { kernel_size: [1, 2], bias: false, ..Conv2d::new(1, 1, 1) };
    let learned = learn(page, layer.clone(), &image, &edges)?;
    page.check_close("the learned kernel is [1, -1]", max_difference(&learned, [1.0, -1.0]), 1e-3)?;

    page.heading("Learning with true convolution")?;
    page.print("The same layer with flip: true flips its kernel before it is applied, so it learns the flipped kernel.\n")?;
    let flipped = learn(page, Conv2d { flip: true, ..layer }, &image, &edges)?;
    page.check_close("the learned kernel is [-1, 1]", max_difference(&flipped, [-1.0, 1.0]), 1e-3)?;
    page.check_close(
        "it is the kernel above, flipped",
        max_difference(&flipped, [learned[1], learned[0]]),
        1e-3,
    )?;

    page.image("edges", || draw_sheet(&device))
}

/// Trains a layer, prints its progress, and returns its kernel.
fn learn(page: &mut Page<'_>, layer: Conv2d, image: &Tensor, edges: &Tensor) -> Result<[f64; 2]> {
    const STEPS: usize = 40;
    let net = build(layer, image.shape(), &page.device())?;
    let config = OptimizerConfig { lr: 0.03, kind: OptimizerKind::named("sgd")? };
    let mut optimizer = Optimizer::new(config, &*net)?;
    let mut rows = Vec::new();
    for step in 0..=STEPS {
        let tape = Tape::new();
        let output = net.forward(&Context::train(&tape, 0), &Var::constant(image.clone()))?;
        let difference = tape.apply_single(Sub, &[&output, &Var::constant(edges.clone())])?;
        let loss = tape.apply_single(Sum, &[&tape.apply_single(Mul, &[&difference, &difference])?])?;
        if [0, 1, 2, 4, 8, 16, STEPS].contains(&step) {
            let [left, right] = kernel_of(&*net)?;
            let [left, right] = [left, right].map(|w| format!("{w:.4}"));
            rows.push([step.to_string(), left, right, format!("{:.6}", loss.tensor().item()?)]);
        }
        let grads = tape.backward(&loss)?;
        optimizer.step(&*net, &grads, config.lr)?;
    }
    page.table(["step", "left weight", "right weight", "loss"], rows)?;
    kernel_of(&*net)
}

fn kernel_of(net: &dyn Layer) -> Result<[f64; 2]> {
    let weights = state::params(net)[0].1.value().to_f64()?;
    Ok([weights[0], weights[1]])
}

fn max_difference(found: &[f64; 2], expected: [f64; 2]) -> f64 {
    max_abs_diff(found, &expected)
}

/// Draws digits, and their feature maps for four kernels.
fn draw_sheet(device: &Device) -> Result<neocog_viz::RgbImage> {
    let digits = load_digits(6, device)?;
    let kernels: [(&str, [usize; 2], &[f32]); 4] = [
        ("vertical edges\nkernel [1 −1]", [1, 2], &[1.0, -1.0]),
        ("horizontal edges\nthe same, transposed", [2, 1], &[1.0, -1.0]),
        (
            "diagonal edges\n[2 1 0; 1 0 −1; 0 −1 −2]",
            [3, 3],
            &[2.0, 1.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, -2.0],
        ),
        ("blur\nmean of 5x5", [5, 5], &[0.04; 25]),
    ];
    let pixels = digits.to_f32()?;
    let thumbnails = pixels.chunks_exact(784).map(|p| Image::from_values(p, [1, 28, 28]).map(Thumbnail::new));
    let originals = thumbnails.collect::<Result<Vec<_>>>()?;
    let mut sheet = ContactSheet::new("Feature maps of hand-made kernels")
        .note("Positive values are red, negative values blue.")
        .row("digits", originals);
    for (label, [kh, kw], weights) in kernels {
        let kernel = Tensor::from_f32([1, 1, kh, kw], weights, device)?;
        let maps = cross_correlate(&digits, &kernel, false)?;
        let (h, w) = (maps.shape()[2], maps.shape()[3]);
        let mut thumbnails = Vec::new();
        for map in maps.to_f32()?.chunks_exact(h * w) {
            let limit = map.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
            thumbnails.push(Thumbnail::new(Image::diverging(map, [h, w], limit)?));
        }
        sheet = sheet.row(label, thumbnails);
    }
    sheet.draw()
}

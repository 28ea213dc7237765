//! Dropout in training and evaluation mode.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Dropout};
use neocog_tensor::{Result, Tensor};

use crate::helpers::build;
use crate::page::Page;
use crate::register_lesson;

register_lesson!(90, "dropout", "dropout in training and in evaluation mode", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print(
        "In training mode, dropout sets each activation to 0 with probability p and scales the others by 1 / (1 - p), which keeps the\n\
         expected value. No unit can rely on any other unit, which reduces overfitting of large layers.\n",
    )?;
    const COUNT: usize = 40_000;
    let ones = Tensor::full([1, COUNT], 1.0, &device)?;
    let mut rows = Vec::new();
    for p in [0.0, 0.2, 0.5, 0.8] {
        let layer = build(Dropout { p }, ones.shape(), &device)?;
        let tape = Tape::new();
        let leaf = tape.leaf(ones.clone());
        let output = layer.forward(&Context::train(&tape, 7), &leaf)?;
        let values = output.tensor().to_f64()?;
        let dropped = values.iter().filter(|v| **v == 0.0).count() as f64 / COUNT as f64;
        let kept = values.iter().copied().fold(0.0, f64::max);
        let mean = values.iter().sum::<f64>() / COUNT as f64;
        rows.push([format!("{p}"), format!("{dropped:.3}"), format!("{kept:.3}"), format!("{mean:.3}")]);
        // Five standard deviations of the fraction of zeros.
        let tolerance = 5.0 * (p * (1.0 - p) / COUNT as f64).sqrt();
        page.check_close(&format!("p = {p}: fraction of zeros"), (dropped - p).abs(), tolerance + 1e-12)?;
        page.check_close("         scale of the others, 1 / (1 - p)", (kept - 1.0 / (1.0 - p)).abs(), 1e-6)?;
        let grads = tape.backward_from(&[(&output, ones.clone())])?;
        let gradient = grads.get(&leaf).map(Tensor::to_f64).transpose()?.unwrap_or_default();
        page.check("         the gradient has the same mask and scale", gradient == values)?;
    }
    page.print("\nFor an input of ones:\n")?;
    page.table(["p", "zeros", "others", "mean"], rows)?;

    page.heading("Training and evaluation mode")?;
    let layer = build(Dropout { p: 0.5 }, ones.shape(), &device)?;
    let train = |seed| -> Result<Vec<f32>> {
        let tape = Tape::no_grad();
        layer.forward(&Context::train(&tape, seed), &Var::constant(ones.clone()))?.tensor().to_f32()
    };
    page.check("each training step draws another mask", train(1)? != train(2)?)?;
    page.check("the mask depends on seed and step only, so runs are reproducible", train(1)? == train(1)?)?;
    let tape = Tape::no_grad();
    let evaluated = layer.forward(&Context::eval(&tape), &Var::constant(ones.clone()))?;
    page.check("in evaluation mode, dropout is the identity", evaluated.tensor().to_f32()? == ones.to_f32()?)
}

//! Dropout.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Dropout};
use neocog_tensor::{Result, Tensor};

use crate::help::build;
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say(
        "In training, dropout sets each number to 0 with probability p and divides the others by 1 - p, so that the mean stays. No\n\
         number can count on another one being there; this keeps large layers from learning pictures by heart.\n",
    )?;
    const COUNT: usize = 40_000;
    let ones = Tensor::full([1, COUNT], 1.0, &device)?;
    let mut rows = Vec::new();
    for p in [0.0, 0.2, 0.5, 0.8] {
        let layer = build(Dropout { p }, ones.shape(), &device)?;
        let tape = Tape::new();
        let leaf = tape.leaf(ones.clone());
        let output = layer.forward(&Context::train(&tape, 7), &leaf)?;
        let numbers = output.tensor().to_f64()?;
        let dropped = numbers.iter().filter(|v| **v == 0.0).count() as f64 / COUNT as f64;
        let kept = numbers.iter().copied().fold(0.0, f64::max);
        let mean = numbers.iter().sum::<f64>() / COUNT as f64;
        rows.push([format!("{p}"), format!("{dropped:.3}"), format!("{kept:.3}"), format!("{mean:.3}")]);
        // Five standard deviations of a share of 40,000.
        let five = 5.0 * (p * (1.0 - p) / COUNT as f64).sqrt();
        page.near(&format!("p = {p}: the share of zeros"), (dropped - p).abs(), five + 1e-12)?;
        page.near("         what is kept is 1 / (1 - p)", (kept - 1.0 / (1.0 - p)).abs(), 1e-6)?;
        let grads = tape.backward_from(&[(&output, ones.clone())])?;
        let gradient = grads.get(&leaf).map(Tensor::to_f64).transpose()?.unwrap_or_default();
        page.holds("         the gradient passes where the number did, times the same", gradient == numbers)?;
    }
    page.say("\nOf a layer of ones:\n")?;
    page.table(["p", "zeros", "others", "mean"], rows)?;

    page.part("Trainer and prediction")?;
    let layer = build(Dropout { p: 0.5 }, ones.shape(), &device)?;
    let train = |seed| -> Result<Vec<f32>> {
        let tape = Tape::no_grad();
        layer.forward(&Context::train(&tape, seed), &Var::constant(ones.clone()))?.tensor().to_f32()
    };
    page.holds("each step drops others", train(1)? != train(2)?)?;
    page.holds(
        "the same step of the same run drops the same: a run can be repeated",
        train(1)? == train(1)?,
    )?;
    let tape = Tape::no_grad();
    let predicted = layer.forward(&Context::eval(&tape), &Var::constant(ones.clone()))?;
    page.holds("in prediction nothing is dropped", predicted.tensor().to_f32()? == ones.to_f32()?)
}

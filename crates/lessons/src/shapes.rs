//! Output sizes for kernel size, padding and stride; flattening.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Conv2d, FlattenLayer};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::helpers::{arange, build};
use crate::page::Page;
use crate::register_lesson;

register_lesson!(30, "shapes", "output sizes from kernel size, padding and stride; flattening", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(
        "A kernel of k pixels has n - k + 1 positions in a row of n pixels. Padding adds p zeros on each side, and stride s keeps\n\
         every s-th position:  out = floor((n + 2p - k) / s) + 1.  Let us run some layers and compare.\n",
    )?;
    let conv = |kernel: [usize; 2], padding: [usize; 2], stride: [usize; 2]| Conv2d {
        kernel_size: kernel,
        padding,
        stride,
        ..Conv2d::new(1, 1, 1)
    };
    let layers = [
        ([28, 28], conv([5, 5], [0, 0], [1, 1]), "first layer of lenet"),
        ([28, 28], conv([5, 5], [2, 2], [1, 1]), "odd k, p = (k - 1) / 2: same size"),
        ([8, 8], conv([3, 3], [1, 1], [1, 1]), "same size"),
        ([8, 8], conv([3, 3], [1, 1], [2, 2]), "stride 2 halves the size"),
        ([8, 8], conv([5, 3], [2, 1], [1, 1]), "different height and width"),
        ([8, 8], conv([3, 5], [0, 1], [3, 4]), "all combined"),
        ([224, 224], conv([11, 11], [0, 0], [4, 4]), "first layer of alexnet"),
        ([96, 96], conv([7, 7], [3, 3], [2, 2]), "first layer of resnet"),
        ([96, 96], conv([1, 1], [0, 0], [1, 1]), "a 1x1 kernel keeps the size"),
    ];
    let times = |[a, b]: [usize; 2]| format!("{a}x{b}");
    let mut rows = Vec::new();
    let mut matches_formula = true;
    for ([h, w], layer, note) in layers {
        let Conv2d { kernel_size: k, padding: p, stride: s, .. } = layer;
        let (output, multiply_adds) = measure(&layer, [1, 1, h, w].into(), &page.device())?;
        let out = |n: usize, i: usize| (n + 2 * p[i] - k[i]) / s[i] + 1;
        let measured = [output[2], output[3]];
        matches_formula &= measured == [out(h, 0), out(w, 1)];
        let multiply_adds = multiply_adds.to_string();
        rows.push([
            note.to_string(),
            times([h, w]),
            times(k),
            times(p),
            times(s),
            times(measured),
            multiply_adds,
        ]);
    }
    page.table(["", "input", "kernel", "padding", "stride", "output", "multiply-adds"], rows)?;
    page.check("every output has the size that the formula gives", matches_formula)?;
    let halved = measure(&conv([3, 3], [1, 1], [2, 2]), [1, 1, 8, 8].into(), &page.device())?;
    let full = measure(&conv([3, 3], [1, 1], [1, 1]), [1, 1, 8, 8].into(), &page.device())?;
    page.check_equal(
        "stride 2 needs a quarter of the multiply-adds: it has a quarter of the positions",
        4 * halved.1,
        full.1,
    )?;
    let e = measure(&conv([9, 9], [0, 0], [1, 1]), [1, 1, 8, 8].into(), &page.device());
    let e = e.err().map_or(String::new(), |e| e.to_string());
    page.check(format!("a kernel larger than the input is an error: \"{e}\""), !e.is_empty())?;

    page.heading("From feature maps to vectors")?;
    page.print(
        "Linear layers take vectors. Flattening reshapes the feature maps of a sample to one vector, channel by channel and row by\n\
         row, without changing any value.\n",
    )?;
    let maps = arange([2, 16, 4, 4], &page.device())?;
    let flat = build(FlattenLayer {}, maps.shape(), &page.device())?;
    let tape = Tape::no_grad();
    let vectors = flat.forward(&Context::eval(&tape), &Var::constant(maps.clone()))?;
    page.check_equal(
        "the last feature maps of lenet, [2, 16, 4, 4], become [2, 256]",
        vectors.shape().extents().to_vec(),
        vec![2, 256],
    )?;
    page.check_equal("the values and their order are unchanged", vectors.tensor().to_f32()?, maps.to_f32()?)
}

/// Returns the output shape of a layer and its number of multiply-adds.
fn measure(layer: &Conv2d, input: Shape, device: &Device) -> Result<(Shape, u64)> {
    let layer = build(layer.clone(), &input, device)?;
    let tape = Tape::no_grad();
    let output = layer.forward(&Context::eval(&tape), &Var::constant(Tensor::zeros(input, device)?))?;
    Ok((*output.shape(), tape.multiply_adds()))
}

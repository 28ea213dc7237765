//! Sizes: kernel, padding, stride; and flattening.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Context, Conv2d, FlattenLayer};
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::help::{build, counting};
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(
        "A kernel of k pixels fits n - k + 1 times into n pixels. Padding adds p zeros on each side; with stride s only every\n\
         s-th place is taken:  out = floor((n + 2p - k) / s) + 1.  Here layers are run, and their outputs measured.\n",
    )?;
    let conv = |kernel: [usize; 2], padding: [usize; 2], stride: [usize; 2]| Conv2d {
        kernel_size: kernel,
        padding,
        stride,
        ..Conv2d::new(1, 1, 1)
    };
    let layers = [
        ([28, 28], conv([5, 5], [0, 0], [1, 1]), "lenet's first"),
        ([28, 28], conv([5, 5], [2, 2], [1, 1]), "k odd, p = (k - 1) / 2: the size stays"),
        ([8, 8], conv([3, 3], [1, 1], [1, 1]), "the size stays"),
        ([8, 8], conv([3, 3], [1, 1], [2, 2]), "stride 2 halves it"),
        ([8, 8], conv([5, 3], [2, 1], [1, 1]), "height and width by themselves"),
        ([8, 8], conv([3, 5], [0, 1], [3, 4]), "all at once"),
        ([224, 224], conv([11, 11], [0, 0], [4, 4]), "alexnet's first"),
        ([96, 96], conv([7, 7], [3, 3], [2, 2]), "resnet's first"),
        ([96, 96], conv([1, 1], [0, 0], [1, 1]), "a 1x1 kernel sees one pixel"),
    ];
    let by = |[a, b]: [usize; 2]| format!("{a}x{b}");
    let mut rows = Vec::new();
    let mut as_computed = true;
    for ([h, w], layer, note) in layers {
        let Conv2d { kernel_size: k, padding: p, stride: s, .. } = layer;
        let (output, work) = measure(&layer, [1, 1, h, w].into(), &page.device())?;
        let out = |n: usize, i: usize| (n + 2 * p[i] - k[i]) / s[i] + 1;
        let measured = [output[2], output[3]];
        as_computed &= measured == [out(h, 0), out(w, 1)];
        let work = work.to_string();
        rows.push([note.to_string(), by([h, w]), by(k), by(p), by(s), by(measured), work]);
    }
    page.table(["", "input", "kernel", "padding", "stride", "output", "multiply-adds"], rows)?;
    page.holds("every output has the size of the formula", as_computed)?;
    let halved = measure(&conv([3, 3], [1, 1], [2, 2]), [1, 1, 8, 8].into(), &page.device())?;
    let full = measure(&conv([3, 3], [1, 1], [1, 1]), [1, 1, 8, 8].into(), &page.device())?;
    page.equal("stride 2 costs a quarter: it looks at a quarter of the places", 4 * halved.1, full.1)?;
    let e = measure(&conv([9, 9], [0, 0], [1, 1]), [1, 1, 8, 8].into(), &page.device());
    let e = e.err().map_or(String::new(), |e| e.to_string());
    page.holds(format!("a kernel that does not fit is an error: \"{e}\""), !e.is_empty())?;

    page.part("From pictures to vectors")?;
    page.say(
        "Linear layers take vectors. Flattening lays the numbers of a sample in a row, channel after channel, line after line;\n\
         none is changed.\n",
    )?;
    let maps = counting([2, 16, 4, 4], &page.device())?;
    let flat = build(FlattenLayer {}, maps.shape(), &page.device())?;
    let tape = Tape::no_grad();
    let vectors = flat.forward(&Context::eval(&tape), &Var::constant(maps.clone()))?;
    page.equal(
        "lenet's last maps [2, 16, 4, 4] become [2, 256]",
        vectors.shape().extents().to_vec(),
        vec![2, 256],
    )?;
    page.equal("with the same numbers in the same order", vectors.tensor().to_f32()?, maps.to_f32()?)
}

/// The shape of a layer's output, and how many multiply-adds it took.
fn measure(layer: &Conv2d, input: Shape, device: &Device) -> Result<(Shape, u64)> {
    let layer = build(layer.clone(), &input, device)?;
    let tape = Tape::no_grad();
    let output = layer.forward(&Context::eval(&tape), &Var::constant(Tensor::zeros(input, device)?))?;
    Ok((*output.shape(), tape.multiply_adds()))
}

//! The receptive field: how much of the picture a number has seen.

use neocog_layers::summary::{Row, summarize};
use neocog_layers::{Conv2d, Layer, LayerSpec, MaxPool2d, Sequential, Sigmoid, state};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{Cell, Image, RgbImage, Sheet, Tone};

use crate::help::{Pass, build, noise};
use crate::page::Page;

/// Where a gradient that should be 0 is 0.
const EXACT: Device = Device::Reference;

/// A layer with what matters here: the width of its window and its stride.
struct Windowed {
    spec: LayerSpec,
    name: &'static str,
    kernel: usize,
    stride: usize,
}

/// The convolutional part of lenet.
fn lenet() -> Vec<Windowed> {
    let layer = |name, kernel, stride, spec: LayerSpec| Windowed { spec, name, kernel, stride };
    vec![
        layer("conv 5x5", 5, 1, Conv2d::new(1, 6, 5).into()),
        layer("sigmoid", 1, 1, Sigmoid {}.into()),
        layer("max pool 2x2, stride 2", 2, 2, MaxPool2d::new(2, 2).into()),
        layer("conv 5x5", 5, 1, Conv2d::new(6, 16, 5).into()),
        layer("sigmoid", 1, 1, Sigmoid {}.into()),
        layer("max pool 2x2, stride 2", 2, 2, MaxPool2d::new(2, 2).into()),
    ]
}

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(
        "A number behind the first layer has seen as much of the picture as the kernel is wide. Every further layer looks at\n\
         such numbers, so it sees more. A window of k numbers that are j pixels apart adds (k - 1) · j pixels; a stride s makes the\n\
         next numbers s times as far apart.\n\n\
         To see it, the gradient of one number in the middle with respect to the picture is taken: it is 0 where the number does\n\
         not look. (Max pooling looks at the largest of its window only, so the gradients of many random pictures are added up.\n\
         Fast kernels compute pixels together and leave traces of rounding beside them; the reference device leaves none.)\n",
    )?;
    let layers = lenet();
    let mut rows = Vec::new();
    let (mut field, mut apart, mut agree) = (1, 1, true);
    for (depth, Windowed { name, kernel, stride, .. }) in layers.iter().enumerate() {
        field += (kernel - 1) * apart;
        apart *= stride;
        let measured = extent(&looked_at(&layers[..=depth], 28)?, 28);
        agree &= measured == [field, field];
        rows.push([
            name.to_string(),
            kernel.to_string(),
            stride.to_string(),
            apart.to_string(),
            format!("{field}x{field}"),
            format!("{}x{}", measured[0], measured[1]),
        ]);
    }
    page.table(["lenet's layers", "kernel", "stride", "apart", "sees", "measured"], rows)?;
    page.holds("each sees as much as computed: 16x16 of 28x28 pixels in the end", agree && field == 16)?;

    let net = build(chain(&layers), &[1, 1, 28, 28].into(), &Device::Meta)?;
    let summary = summarize(&*net, &[1, 1, 28, 28].into())?;
    let last =
        summary.rows.last().and_then(|row| row.receptive_field).map(|field| (field.size, field.stride));
    page.equal("and as the summary of the network says", last, Some(([field; 2], [apart; 2])))?;

    page.part("All networks")?;
    page.say("What a number of the last maps can have seen, found by `summary`; it may be more than the picture and its padding.\n")?;
    let mut rows = Vec::new();
    for model in neocog_models::models()? {
        // A batch norm of single numbers needs more than one picture.
        let input = model.input_shape(2);
        let net = build(model.spec()?, &input, &Device::Meta)?;
        // Global pooling sees all there is; the field before it is the one to know.
        let maps = |row: &&Row| matches!(*row.output.extents(), [_, _, h, w] if h * w > 1);
        let summary = summarize(&*net, &input)?;
        let Some(field) = summary.rows.iter().rfind(maps).and_then(|row| row.receptive_field) else {
            continue;
        };
        let by = |[h, w]: [usize; 2]| format!("{h}x{w}");
        rows.push([model.name.to_string(), by([input[2], input[3]]), by(field.size), by(field.stride)]);
    }
    page.table(["network", "picture", "sees", "apart"], rows)?;

    page.part("Small kernels one after the other")?;
    page.say(
        "Two 3x3 convolutions see as much as one of 5x5, three as much as one of 7x7: with fewer parameters and more activations\n\
         between them. VGG is built on this. Here with 64 channels:\n",
    )?;
    let mut rows = Vec::new();
    let mut fewer = true;
    for (small, large) in [(2, 5), (3, 7)] {
        let stack = vec![3; small];
        let (stack, single) = (seen_by(&stack)?, seen_by(&[large])?);
        fewer &= stack.0 == large && single.0 == large && stack.1 < single.1;
        let row = |name: String, (field, count): (usize, usize)| {
            [name, format!("{field}x{field}"), count.to_string()]
        };
        rows.push(row(format!("{small} times 3x3"), stack));
        rows.push(row(format!("once {large}x{large}"), single));
    }
    page.table(["convolutions", "sees", "parameters"], rows)?;
    page.holds("the same field with fewer parameters", fewer)?;
    page.picture("receptive_field", || draw(&layers))
}

/// How much a number sees behind convolutions of these kernels, and how many parameters they have with 64 channels.
fn seen_by(kernels: &[usize]) -> Result<(usize, usize)> {
    const SIZE: usize = 15;
    let spec: LayerSpec =
        kernels.iter().fold(Sequential::new(), |all, &k| all.then(Conv2d::new(64, 64, k))).into();
    let net = build(spec, &[1, 64, SIZE, SIZE].into(), &EXACT)?;
    let x = noise("picture", [1, 64, SIZE, SIZE], &EXACT)?;
    let seen = sum_of_channels(&gradient_of_the_middle(&*net, &x)?, SIZE)?;
    Ok((extent(&seen, SIZE)[0], state::param_count(&*net)))
}

/// The layers one after the other.
fn chain(layers: &[Windowed]) -> Sequential {
    layers.iter().fold(Sequential::new(), |all, layer| all.then(layer.spec.clone()))
}

/// How strongly a number in the middle, behind `layers`, looks at each pixel of pictures of `size` x `size`: the sum of the gradient's
/// sizes over many random pictures.
fn looked_at(layers: &[Windowed], size: usize) -> Result<Vec<f32>> {
    let pictures = noise("pictures", [64, 1, size, size], &EXACT)?;
    let net = build(chain(layers), pictures.shape(), &EXACT)?;
    sum_of_channels(&gradient_of_the_middle(&*net, &pictures)?, size)
}

/// The gradient of the middle number of the first output channel.
fn gradient_of_the_middle(net: &dyn Layer, x: &Tensor) -> Result<Tensor> {
    let pass = Pass::new(net, x, |output| {
        let [n, c, h, w] = *output.extents() else { unreachable!("convolutions give four axes") };
        let mut above = vec![0.0; output.elements()];
        (0..n).for_each(|sample| above[sample * c * h * w + h / 2 * w + w / 2] = 1.0);
        Tensor::from_f32(*output, &above, &x.device())
    })?;
    Ok(pass.input_grad)
}

/// The sizes of `[n, c, size, size]` added up over samples and channels.
fn sum_of_channels(gradient: &Tensor, size: usize) -> Result<Vec<f32>> {
    let mut sum = vec![0.0; size * size];
    for plane in gradient.to_f32()?.chunks_exact(size * size) {
        sum.iter_mut().zip(plane).for_each(|(sum, value)| *sum += value.abs());
    }
    Ok(sum)
}

/// Height and width of the smallest rectangle with all that is not 0.
fn extent(seen: &[f32], size: usize) -> [usize; 2] {
    let places = || seen.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i);
    let span = |values: Vec<usize>| match (values.iter().min(), values.iter().max()) {
        (Some(least), Some(most)) => most - least + 1,
        _ => 0,
    };
    [span(places().map(|i| i / size).collect()), span(places().map(|i| i % size).collect())]
}

fn draw(layers: &[Windowed]) -> Result<RgbImage> {
    let mut cells = Vec::new();
    let mut headings = Vec::new();
    for depth in [0, 2, 3, 5] {
        let seen = looked_at(&layers[..=depth], 28)?;
        let largest = seen.iter().copied().fold(0.0, f32::max);
        let [h, w] = extent(&seen, 28);
        headings.push(format!("{h}x{w} pixels"));
        // What is seen at all is never white.
        let shade = |v: &f32| if *v > 0.0 { 0.1 + 0.9 * v / largest } else { 0.0 };
        let shades: Vec<f32> = seen.iter().map(shade).collect();
        let picture = Image::signed(&shades, [28, 28], 1.0)?;
        let name = layers[depth].name.split(',').next().unwrap_or_default();
        cells.push(
            Cell::new(picture)
                .caption(name, Tone::Strong)
                .caption(format!("layer {}", depth + 1), Tone::Plain),
        );
    }
    let sheet = Sheet::new("What one number of lenet has seen")
        .note("The gradient of a number in the middle of each layer, over the 28x28 pixels of the picture.")
        .note("White: not seen. The darker, the stronger its influence; it is strongest in the middle.")
        .headings(headings)
        .cell(168)
        .row("", cells);
    Ok(sheet.draw())
}

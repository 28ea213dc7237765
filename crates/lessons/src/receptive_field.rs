//! The receptive field: the input pixels that affect an output.

use neocog_layers::summary::{Row, summarize};
use neocog_layers::{Conv2d, Layer, LayerSpec, MaxPool2d, Sequential, Sigmoid, state};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{CaptionStyle, ContactSheet, Image, RgbImage, Thumbnail};

use crate::helpers::{ForwardBackward, build, random_tensor};
use crate::page::Page;
use crate::register_lesson;

/// Computes gradients that are exactly 0 outside of the receptive field.
const REFERENCE: Device = Device::Reference;

/// A layer with the size of its window and its stride.
struct WindowLayer {
    spec: LayerSpec,
    name: &'static str,
    kernel: usize,
    stride: usize,
}

/// Returns the convolutional part of lenet.
fn lenet() -> Vec<WindowLayer> {
    let layer = |name, kernel, stride, spec: LayerSpec| WindowLayer { spec, name, kernel, stride };
    vec![
        layer("conv 5x5", 5, 1, Conv2d::new(1, 6, 5).into()),
        layer("sigmoid", 1, 1, Sigmoid {}.into()),
        layer("max pool 2x2, stride 2", 2, 2, MaxPool2d::new(2, 2).into()),
        layer("conv 5x5", 5, 1, Conv2d::new(6, 16, 5).into()),
        layer("sigmoid", 1, 1, Sigmoid {}.into()),
        layer("max pool 2x2, stride 2", 2, 2, MaxPool2d::new(2, 2).into()),
    ]
}

register_lesson!(
    60,
    "receptive_field",
    "the receptive field: which pixels affect an output, layer by layer",
    run
);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(
        "The receptive field of an output is the region of the input that can affect it. After the first convolution it is as large as\n\
         the kernel, and it grows with every layer: if neighboring inputs of a layer are j pixels of the image apart, a window of k\n\
         inputs adds (k - 1) · j pixels, and a stride of s multiplies j by s.\n\n\
         To measure it, we compute the gradient of one output in the center with respect to the image: it is 0 for all pixels outside\n\
         of the receptive field. (Max pooling passes the gradient to the maximum only, so we sum the absolute gradients of many random\n\
         images. Fast kernels leave rounding errors next to the field; the reference device does not.)\n",
    )?;
    let layers = lenet();
    let mut rows = Vec::new();
    let (mut field, mut jump, mut agree) = (1, 1, true);
    for (depth, WindowLayer { name, kernel, stride, .. }) in layers.iter().enumerate() {
        field += (kernel - 1) * jump;
        jump *= stride;
        let measured = extent(&sensitivity(&layers[..=depth], 28)?, 28);
        agree &= measured == [field, field];
        rows.push([
            name.to_string(),
            kernel.to_string(),
            stride.to_string(),
            jump.to_string(),
            format!("{field}x{field}"),
            format!("{}x{}", measured[0], measured[1]),
        ]);
    }
    page.table(["layers of lenet", "kernel", "stride", "jump", "computed", "measured"], rows)?;
    page.check(
        "measured and computed receptive fields agree: 16x16 of 28x28 pixels after the last layer",
        agree && field == 16,
    )?;

    let net = build(sequential(&layers), &[1, 1, 28, 28].into(), &Device::Meta)?;
    let summary = summarize(&*net, &[1, 1, 28, 28].into())?;
    let last =
        summary.rows.last().and_then(|row| row.receptive_field).map(|field| (field.size, field.stride));
    page.check_equal("the summary of the network agrees", last, Some(([field; 2], [jump; 2])))?;

    page.heading("Receptive fields of all networks")?;
    page.print("The receptive field of the last feature maps, as computed by `summary`; it may be larger than the image.\n")?;
    let mut rows = Vec::new();
    for model in neocog_models::models_of(neocog_models::Family::Notes)? {
        // Batch norm of 1x1 feature maps needs more than one image.
        let input = model.input_shape(2);
        let net = build(model.spec()?, &input, &Device::Meta)?;
        // The field of global pooling is the whole image; the one before it is of interest.
        let is_map = |row: &&Row| matches!(*row.output.extents(), [_, _, h, w] if h * w > 1);
        let summary = summarize(&*net, &input)?;
        let Some(field) = summary.rows.iter().rfind(is_map).and_then(|row| row.receptive_field) else {
            continue;
        };
        let times = |[h, w]: [usize; 2]| format!("{h}x{w}");
        rows.push([
            model.name.to_string(),
            times([input[2], input[3]]),
            times(field.size),
            times(field.stride),
        ]);
    }
    page.table(["network", "image", "receptive field", "jump"], rows)?;

    page.heading("Stacks of small kernels")?;
    page.print(
        "Two 3x3 convolutions have the receptive field of one 5x5 convolution, three that of one 7x7 convolution, with fewer parameters\n\
         and with activations between them. VGG is built on this. Here with 64 channels:\n",
    )?;
    let mut rows = Vec::new();
    let mut fewer = true;
    for (small, large) in [(2, 5), (3, 7)] {
        let stack = vec![3; small];
        let (stack, single) = (field_and_params(&stack)?, field_and_params(&[large])?);
        fewer &= stack.0 == large && single.0 == large && stack.1 < single.1;
        let row = |name: String, (field, count): (usize, usize)| {
            [name, format!("{field}x{field}"), count.to_string()]
        };
        rows.push(row(format!("{small} convolutions 3x3"), stack));
        rows.push(row(format!("1 convolution {large}x{large}"), single));
    }
    page.table(["layers", "receptive field", "parameters"], rows)?;
    page.check("the same receptive field with fewer parameters", fewer)?;
    page.image("receptive_field", || draw_sheet(&layers))
}

/// Returns the receptive field and the number of parameters of a stack of convolutions with 64 channels.
fn field_and_params(kernels: &[usize]) -> Result<(usize, usize)> {
    const SIZE: usize = 15;
    let spec: LayerSpec =
        kernels.iter().fold(Sequential::new(), |all, &k| all.then(Conv2d::new(64, 64, k))).into();
    let net = build(spec, &[1, 64, SIZE, SIZE].into(), &REFERENCE)?;
    let x = random_tensor("picture", [1, 64, SIZE, SIZE], &REFERENCE)?;
    let sensitivity = sum_abs(&center_gradient(&*net, &x)?, SIZE)?;
    Ok((extent(&sensitivity, SIZE)[0], state::param_count(&*net)))
}

/// Returns the sequence of the layers.
fn sequential(layers: &[WindowLayer]) -> Sequential {
    layers.iter().fold(Sequential::new(), |all, layer| all.then(layer.spec.clone()))
}

/// Returns how strongly each pixel of an image `[size, size]` affects the center output of `layers`: the sum of the absolute
/// gradients of many random images.
fn sensitivity(layers: &[WindowLayer], size: usize) -> Result<Vec<f32>> {
    let images = random_tensor("pictures", [64, 1, size, size], &REFERENCE)?;
    let net = build(sequential(layers), images.shape(), &REFERENCE)?;
    sum_abs(&center_gradient(&*net, &images)?, size)
}

/// Returns the gradient of the center of the first output channel with respect to the input.
fn center_gradient(net: &dyn Layer, x: &Tensor) -> Result<Tensor> {
    let pass = ForwardBackward::run(net, x, |output| {
        let [n, c, h, w] = *output.extents() else { unreachable!("feature maps have four dimensions") };
        let mut output_grad = vec![0.0; output.elements()];
        (0..n).for_each(|sample| output_grad[sample * c * h * w + h / 2 * w + w / 2] = 1.0);
        Tensor::from_f32(*output, &output_grad, &x.device())
    })?;
    Ok(pass.input_grad)
}

/// Sums the absolute values of `[n, c, size, size]` over samples and channels.
fn sum_abs(gradient: &Tensor, size: usize) -> Result<Vec<f32>> {
    let mut sum = vec![0.0; size * size];
    for channel in gradient.to_f32()?.chunks_exact(size * size) {
        sum.iter_mut().zip(channel).for_each(|(sum, value)| *sum += value.abs());
    }
    Ok(sum)
}

/// Returns height and width of the bounding box of all nonzero values.
fn extent(values: &[f32], size: usize) -> [usize; 2] {
    let nonzero = || values.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i);
    let span = |positions: Vec<usize>| match (positions.iter().min(), positions.iter().max()) {
        (Some(min), Some(max)) => max - min + 1,
        _ => 0,
    };
    [span(nonzero().map(|i| i / size).collect()), span(nonzero().map(|i| i % size).collect())]
}

fn draw_sheet(layers: &[WindowLayer]) -> Result<RgbImage> {
    let mut thumbnails = Vec::new();
    let mut headings = Vec::new();
    for depth in [0, 2, 3, 5] {
        let sensitivity = sensitivity(&layers[..=depth], 28)?;
        let max = sensitivity.iter().copied().fold(0.0, f32::max);
        let [h, w] = extent(&sensitivity, 28);
        headings.push(format!("{h}x{w} pixels"));
        // Nonzero values are never white.
        let shade = |v: &f32| if *v > 0.0 { 0.1 + 0.9 * v / max } else { 0.0 };
        let shades: Vec<f32> = sensitivity.iter().map(shade).collect();
        let image = Image::diverging(&shades, [28, 28], 1.0)?;
        let name = layers[depth].name.split(',').next().unwrap_or_default();
        thumbnails.push(
            Thumbnail::new(image)
                .caption(name, CaptionStyle::Strong)
                .caption(format!("layer {}", depth + 1), CaptionStyle::Plain),
        );
    }
    let sheet = ContactSheet::new("Receptive fields of lenet")
        .note("Absolute gradient of a center output of each layer with respect to the 28x28 pixels of the image.")
        .note("White pixels are outside of the receptive field. Darker pixels have a larger effect.")
        .headings(headings)
        .thumbnail_width(168)
        .row("", thumbnails);
    sheet.draw()
}

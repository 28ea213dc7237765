//! Max, average and global average pooling.

use neocog_autograd::{Tape, Var};
use neocog_layers::{
    AvgPool2d, Context, Conv2d, FlattenLayer, GlobalAvgPool2d, LayerSpec, Linear, MaxPool2d, Sequential,
    state,
};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{ContactSheet, Image, RgbImage, Thumbnail};

use crate::helpers::{arange, build, load_digits, max_abs_diff, random_tensor};
use crate::page::Page;
use crate::register_lesson;

register_lesson!(
    50,
    "pooling",
    "max and average pooling, translation invariance, global average pooling",
    run
);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print(
        "A pooling layer reduces each window to one value, the maximum or the mean. It has no parameters.\n",
    )?;
    let image = arange([1, 1, 3, 3], &device)?;
    let max = forward(MaxPool2d::new(2, 1), &image)?;
    let mean = forward(AvgPool2d::new(2, 1), &image)?;
    page.matrices(&[("image", &image), ("max pooling 2x2", &max), ("average pooling 2x2", &mean)])?;
    page.check_equal("max pooling: 4, 5, 7, 8", max.to_f32()?, vec![4.0, 5.0, 7.0, 8.0])?;
    page.check_equal("average pooling: 2, 3, 5, 6", mean.to_f32()?, vec![2.0, 3.0, 5.0, 6.0])?;

    page.heading("Stride, padding and channels")?;
    page.print(
        "With a stride equal to the window size, the windows do not overlap. Padding is never the maximum.\n",
    )?;
    let image = arange([1, 1, 4, 4], &device)?;
    let halved = forward(MaxPool2d::new(2, 2), &image)?;
    let padded = forward(MaxPool2d { padding: [1, 1], ..MaxPool2d::new(3, 2) }, &image)?;
    page.matrices(&[("image", &image), ("2x2, stride 2", &halved), ("3x3, stride 2, padding 1", &padded)])?;
    page.check_equal("both give 5, 7, 13, 15", (halved.to_f32()?, padded.to_f32()?), {
        let values = vec![5.0, 7.0, 13.0, 15.0];
        (values.clone(), values)
    })?;
    let channels = random_tensor("channels", [1, 3, 6, 6], &device)?;
    let together = forward(MaxPool2d::new(2, 2), &channels)?.to_f32()?;
    let mut separate = Vec::new();
    for channel in 0..3 {
        let single = channels.reshape([3, 1, 6, 6])?.narrow(channel, 1)?;
        separate.extend(forward(MaxPool2d::new(2, 2), &single)?.to_f32()?);
    }
    page.check_equal("channels are pooled independently", together, separate)?;

    page.heading("Invariance to small translations")?;
    page.print("A bright pixel moves to the right, one pixel at a time. How many values change?\n")?;
    let dot = |x: usize| {
        let mut pixels = vec![0.0; 64];
        pixels[3 * 8 + x] = 1.0;
        Tensor::from_f32([1, 1, 8, 8], &pixels, &device)
    };
    let count_changes = |a: &Tensor, b: &Tensor| -> Result<usize> {
        Ok(a.to_f32()?.iter().zip(b.to_f32()?).filter(|(a, b)| **a != *b).count())
    };
    let mut rows = Vec::new();
    let mut unchanged = 0;
    for by in 1..4 {
        let (before, after) = (dot(0)?, dot(by)?);
        let pooled =
            count_changes(&forward(MaxPool2d::new(4, 4), &before)?, &forward(MaxPool2d::new(4, 4), &after)?)?;
        unchanged += usize::from(pooled == 0);
        rows.push([format!("{by}"), count_changes(&before, &after)?.to_string(), pooled.to_string()]);
    }
    page.table(["moved by", "changed pixels", "changed after max pooling 4x4"], rows)?;
    page.check_equal("a pixel that moves within its window changes nothing", unchanged, 3)?;

    page.heading("Global average pooling")?;
    page.print(
        "A window as large as the feature map gives one value per channel, independent of the input size.\n",
    )?;
    let maps = random_tensor("maps", [2, 10, 5, 5], &device)?;
    let global = forward(GlobalAvgPool2d {}, &maps)?;
    let window = forward(AvgPool2d::new(5, 5), &maps)?;
    page.check_equal(
        "[2, 10, 5, 5] becomes [2, 10, 1, 1]",
        global.shape().extents().to_vec(),
        vec![2, 10, 1, 1],
    )?;
    page.check_close(
        "same as average pooling 5x5",
        max_abs_diff(&global.to_f64()?, &window.to_f64()?),
        1e-6,
    )?;
    page.print("\nNiN uses it in place of linear layers: its last block has one channel per class. For 384 feature maps of 5x5:\n")?;
    let input = [1, 384, 5, 5].into();
    let linear: LayerSpec = Sequential::new()
        .then(FlattenLayer {})
        .then(Linear::new(9600, 4096))
        .then(Linear::new(4096, 10))
        .into();
    let nin: LayerSpec =
        Sequential::new().then(Conv2d::new(384, 10, 3).padding(1)).then(GlobalAvgPool2d {}).into();
    let count = |spec: &LayerSpec| Ok(state::param_count(&*build(spec.clone(), &input, &device)?));
    let (linear, nin) = (count(&linear)?, count(&nin)?);
    let row = |name: &str, count: usize| [name.to_string(), count.to_string()];
    page.table(
        ["head", "parameters"],
        vec![
            row("flatten, linear 4096, linear 10", linear),
            row("3x3 convolution to 10 channels, global average pooling", nin),
        ],
    )?;
    page.check("the second head has less than 1/1000 of the parameters", nin * 1000 < linear)?;
    page.image("pooling", || draw_sheet(&device))
}

fn forward(spec: impl Into<LayerSpec>, x: &Tensor) -> Result<Tensor> {
    let layer = build(spec, x.shape(), &x.device())?;
    let tape = Tape::no_grad();
    Ok(layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?.tensor().clone())
}

/// Draws digits and their pooled versions.
fn draw_sheet(device: &Device) -> Result<RgbImage> {
    let images = load_digits(6, device)?;
    let mut sheet = ContactSheet::new("Pooled images");
    let layers: [(&str, Option<LayerSpec>); 5] = [
        ("28x28", None),
        ("max 2x2\n14x14", Some(MaxPool2d::new(2, 2).into())),
        ("average 2x2\n14x14", Some(AvgPool2d::new(2, 2).into())),
        ("max 4x4\n7x7", Some(MaxPool2d::new(4, 4).into())),
        ("average 4x4\n7x7", Some(AvgPool2d::new(4, 4).into())),
    ];
    for (label, layer) in layers {
        let pooled = match layer {
            None => images.clone(),
            Some(layer) => forward(layer, &images)?,
        };
        let (h, w) = (pooled.shape()[2], pooled.shape()[3]);
        let values = pooled.to_f32()?;
        let thumbnails =
            values.chunks_exact(h * w).map(|p| Ok(Thumbnail::new(Image::from_values(p, [1, h, w])?)));
        sheet = sheet.row(label, thumbnails.collect::<Result<Vec<_>>>()?);
    }
    sheet.draw()
}

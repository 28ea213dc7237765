//! Pooling.

use neocog_autograd::{Tape, Var};
use neocog_layers::{
    AvgPool2d, Context, Conv2d, FlattenLayer, GlobalAvgPool2d, LayerSpec, Linear, MaxPool2d, Sequential,
    state,
};
use neocog_tensor::{Device, Result, Tensor};
use neocog_viz::{Cell, Image, RgbImage, Sheet};

use crate::help::{build, counting, digits, largest_difference, noise};
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say(
        "A pooling layer takes one number for a window: the largest, or the mean. It has nothing to learn.\n",
    )?;
    let picture = counting([1, 1, 3, 3], &device)?;
    let max = forward(MaxPool2d::new(2, 1), &picture)?;
    let mean = forward(AvgPool2d::new(2, 1), &picture)?;
    page.planes(&[("picture", &picture), ("max of 2x2", &max), ("mean of 2x2", &mean)])?;
    page.equal("max: 4, 5, 7, 8", max.to_f32()?, vec![4.0, 5.0, 7.0, 8.0])?;
    page.equal("mean: 2, 3, 5, 6", mean.to_f32()?, vec![2.0, 3.0, 5.0, 6.0])?;

    page.part("Stride and padding, and channels one by one")?;
    page.say("With a stride of its own width each number is used once. Padding never wins a max.\n")?;
    let picture = counting([1, 1, 4, 4], &device)?;
    let halved = forward(MaxPool2d::new(2, 2), &picture)?;
    let padded = forward(MaxPool2d { padding: [1, 1], ..MaxPool2d::new(3, 2) }, &picture)?;
    page.planes(&[("picture", &picture), ("2x2, stride 2", &halved), ("3x3, stride 2, padding 1", &padded)])?;
    page.equal("5, 7, 13, 15 both times", (halved.to_f32()?, padded.to_f32()?), {
        let numbers = vec![5.0, 7.0, 13.0, 15.0];
        (numbers.clone(), numbers)
    })?;
    let channels = noise("channels", [1, 3, 6, 6], &device)?;
    let together = forward(MaxPool2d::new(2, 2), &channels)?.to_f32()?;
    let mut one_by_one = Vec::new();
    for channel in 0..3 {
        let alone = channels.reshape([3, 1, 6, 6])?.narrow(channel, 1)?;
        one_by_one.extend(forward(MaxPool2d::new(2, 2), &alone)?.to_f32()?);
    }
    page.equal("three channels give three channels, each as if it were alone", together, one_by_one)?;

    page.part("What pooling forgives")?;
    page.say("A bright dot moves to the right, pixel by pixel. How many of the numbers change?\n")?;
    let dot = |x: usize| {
        let mut pixels = vec![0.0; 64];
        pixels[3 * 8 + x] = 1.0;
        Tensor::from_f32([1, 1, 8, 8], &pixels, &device)
    };
    let changed = |a: &Tensor, b: &Tensor| -> Result<usize> {
        Ok(a.to_f32()?.iter().zip(b.to_f32()?).filter(|(a, b)| **a != *b).count())
    };
    let mut rows = Vec::new();
    let mut forgiven = 0;
    for by in 1..4 {
        let (before, after) = (dot(0)?, dot(by)?);
        let pooled =
            changed(&forward(MaxPool2d::new(4, 4), &before)?, &forward(MaxPool2d::new(4, 4), &after)?)?;
        forgiven += usize::from(pooled == 0);
        rows.push([format!("{by}"), changed(&before, &after)?.to_string(), pooled.to_string()]);
    }
    page.table(["moved by", "pixels", "after max pooling 4x4"], rows)?;
    page.equal("a dot that stays in its window changes nothing", forgiven, 3)?;

    page.part("Global average pooling")?;
    page.say(
        "A window as large as the picture leaves one number for each channel, whatever the picture's size.\n",
    )?;
    let maps = noise("maps", [2, 10, 5, 5], &device)?;
    let global = forward(GlobalAvgPool2d {}, &maps)?;
    let window = forward(AvgPool2d::new(5, 5), &maps)?;
    page.equal("[2, 10, 5, 5] becomes [2, 10, 1, 1]", global.shape().extents().to_vec(), vec![2, 10, 1, 1])?;
    page.near("average pooling of 5x5", largest_difference(&global.to_f64()?, &window.to_f64()?), 1e-6)?;
    page.say("\nNiN ends with it instead of linear layers: its last block gives a channel for each class. For 384 maps of 5x5:\n")?;
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
        vec![row("flatten, linear 4096, linear 10", linear), row("3x3 to 10 channels, global average", nin)],
    )?;
    page.holds("the second has a thousandth of the parameters", nin * 1000 < linear)?;
    page.picture("pooling", || draw(&device))
}

fn forward(spec: impl Into<LayerSpec>, x: &Tensor) -> Result<Tensor> {
    let layer = build(spec, x.shape(), &x.device())?;
    let tape = Tape::no_grad();
    Ok(layer.forward(&Context::eval(&tape), &Var::constant(x.clone()))?.tensor().clone())
}

/// Digits and what is left of them.
fn draw(device: &Device) -> Result<RgbImage> {
    let pictures = digits(6, device)?;
    let mut sheet = Sheet::new("What pooling leaves of a picture");
    let layers: [(&str, Option<LayerSpec>); 5] = [
        ("28x28", None),
        ("max of 2x2\n14x14", Some(MaxPool2d::new(2, 2).into())),
        ("mean of 2x2\n14x14", Some(AvgPool2d::new(2, 2).into())),
        ("max of 4x4\n7x7", Some(MaxPool2d::new(4, 4).into())),
        ("mean of 4x4\n7x7", Some(AvgPool2d::new(4, 4).into())),
    ];
    for (label, layer) in layers {
        let pooled = match layer {
            None => pictures.clone(),
            Some(layer) => forward(layer, &pictures)?,
        };
        let (h, w) = (pooled.shape()[2], pooled.shape()[3]);
        let numbers = pooled.to_f32()?;
        let cells = numbers.chunks_exact(h * w).map(|p| Ok(Cell::new(Image::of_values(p, [1, h, w])?)));
        sheet = sheet.row(label, cells.collect::<Result<Vec<_>>>()?);
    }
    Ok(sheet.draw())
}

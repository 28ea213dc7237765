//! Channels, and the 1x1 convolution as a linear layer.

use neocog_layers::{Conv2d, Linear, state};
use neocog_tensor::ops;
use neocog_tensor::{Result, Tensor, run_single};

use crate::help::{Pass, build, correlate, counting, largest_difference, noise};
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.say(
        "A picture of several channels takes a kernel of as many. Each channel is cross-correlated with its own part, and the\n\
         results are added: two channels in, one out.\n",
    )?;
    let first = counting([1, 1, 3, 3], &device)?;
    let second = Tensor::from_f32([1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &device)?;
    let kernel = [0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0];
    let [k1, k2] = [0, 4].map(|i| Tensor::from_f32([1, 1, 2, 2], &kernel[i..i + 4], &device));
    let (k1, k2) = (k1?, k2?);
    let [sum1, sum2] = [correlate(&first, &k1, false)?, correlate(&second, &k2, false)?];
    page.planes(&[("channel 1", &first), ("kernel 1", &k1), ("result 1", &sum1)])?;
    page.planes(&[("channel 2", &second), ("kernel 2", &k2), ("result 2", &sum2)])?;
    let both = run_single(&ops::Concat { dim: 1 }, &[&first, &second])?;
    let out = correlate(&both, &Tensor::from_f32([1, 2, 2, 2], &kernel, &device)?, false)?;
    page.planes(&[("sum", &out)])?;
    page.equal("the layer gives 56, 72, 104, 120", out.to_f32()?, vec![56.0, 72.0, 104.0, 120.0])?;
    page.equal(
        "which is the sum of both results",
        out.to_f32()?,
        run_single(&ops::Add, &[&sum1, &sum2])?.to_f32()?,
    )?;

    page.part("Many channels out")?;
    page.say("Each output channel has a kernel of its own over all input channels. Here: the kernel above, the same plus 1, plus 2.\n")?;
    let three: Vec<f32> = (0..3).flat_map(|more| kernel.map(|k| k + more as f32)).collect();
    let outs = correlate(&both, &Tensor::from_f32([3, 2, 2, 2], &three, &device)?, false)?;
    let planes = outs.reshape([3, 2, 2])?;
    let [a, b, c] = [0, 1, 2].map(|i| planes.narrow(i, 1));
    page.planes(&[("out 1", &a?), ("out 2", &b?), ("out 3", &c?)])?;
    let expected = [56, 72, 104, 120, 76, 100, 148, 172, 96, 128, 192, 224].map(|v| v as f32);
    page.equal("as computed by hand", outs.to_f32()?, expected.to_vec())?;

    page.part("A 1x1 convolution is a linear layer over channels")?;
    page.say(
        "It sees one pixel at a time: the numbers of its channels go in, as many numbers as there are output channels come out,\n\
         with the same weights at every place. So does a linear layer, if every pixel is a sample: [n, c, h, w] is read as\n\
         [n·h·w, c]. Both get the same weights here, and the same gradient from above.\n",
    )?;
    let (n, c, h, w, o) = (2, 3, 3, 2, 4);
    let x = noise("x", [n, c, h, w], &device)?;
    let above = noise("above", [n, o, h, w], &device)?;
    let conv = build(Conv2d::new(c, o, 1), x.shape(), &device)?;
    let samples = pixels_as_samples(&x)?;
    let linear = build(Linear::new(c, o), samples.shape(), &device)?;
    for ((_, theirs), (_, own)) in state::params(&*conv).iter().zip(state::params(&*linear)) {
        own.set(&theirs.value().reshape(own.shape())?)?;
    }
    let conv = Pass::new(&*conv, &x, |_| Ok(above.clone()))?;
    let linear = Pass::new(&*linear, &samples, |_| pixels_as_samples(&above))?;

    let limit = 1e-6;
    let apart = |a: &Tensor, b: &Tensor| Ok(largest_difference(&a.to_f64()?, &b.to_f64()?));
    page.near("outputs", apart(&pixels_as_samples(&conv.output)?, &linear.output)?, limit)?;
    page.near(
        "gradient of the input",
        apart(&pixels_as_samples(&conv.input_grad)?, &linear.input_grad)?,
        limit,
    )?;
    for ((name, conv), (_, linear)) in conv.grads.iter().zip(&linear.grads) {
        page.near(&format!("gradient of the {name}"), apart(conv, linear)?, limit)?;
    }
    Ok(())
}

/// `[n, c, h, w]` as `[n·h·w, c]`: a row for each pixel.
fn pixels_as_samples(x: &Tensor) -> Result<Tensor> {
    let [n, c, h, w] = *x.shape().extents() else { unreachable!("pictures have four axes") };
    let numbers = x.to_f64()?;
    let rows: Vec<f64> = (0..n * h * w * c)
        .map(|i| {
            let (sample, pixel, channel) = (i / (h * w * c), i / c % (h * w), i % c);
            numbers[(sample * c + channel) * h * w + pixel]
        })
        .collect();
    Tensor::from_f64([n * h * w, c], &rows, &x.device())
}

//! Input and output channels, and the 1x1 convolution as a linear layer.

use neocog_layers::{Conv2d, Linear, state};
use neocog_tensor::ops;
use neocog_tensor::{Result, Tensor, run_single};

use crate::helpers::{ForwardBackward, arange, build, cross_correlate, max_abs_diff, random_tensor};
use crate::page::Page;
use crate::register_lesson;

register_lesson!(
    40,
    "channels",
    "several input and output channels; a 1x1 convolution is a linear layer over channels",
    run
);

fn run(page: &mut Page<'_>) -> Result<()> {
    let device = page.device();
    page.print(
        "An image with several channels needs a kernel with as many channels. Each channel is cross-correlated with its own slice of\n\
         the kernel, and the results are summed. Here two input channels give one output channel.\n",
    )?;
    let first = arange([1, 1, 3, 3], &device)?;
    let second = Tensor::from_f32([1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &device)?;
    let kernel = [0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0];
    let [k1, k2] = [0, 4].map(|i| Tensor::from_f32([1, 1, 2, 2], &kernel[i..i + 4], &device));
    let (k1, k2) = (k1?, k2?);
    let [sum1, sum2] = [cross_correlate(&first, &k1, false)?, cross_correlate(&second, &k2, false)?];
    page.matrices(&[("channel 1", &first), ("kernel 1", &k1), ("result 1", &sum1)])?;
    page.matrices(&[("channel 2", &second), ("kernel 2", &k2), ("result 2", &sum2)])?;
    let image = run_single(&ops::Concat { dim: 1 }, &[&first, &second])?;
    let out = cross_correlate(&image, &Tensor::from_f32([1, 2, 2, 2], &kernel, &device)?, false)?;
    page.matrices(&[("sum", &out)])?;
    page.check_equal("the layer computes 56, 72, 104, 120", out.to_f32()?, vec![56.0, 72.0, 104.0, 120.0])?;
    page.check_equal(
        "the output is the sum of both results",
        out.to_f32()?,
        run_single(&ops::Add, &[&sum1, &sum2])?.to_f32()?,
    )?;

    page.heading("Several output channels")?;
    page.print("Each output channel has its own kernel over all input channels. Here: the kernel above, the same plus 1, and plus 2.\n")?;
    let kernels: Vec<f32> = (0..3).flat_map(|offset| kernel.map(|k| k + offset as f32)).collect();
    let output = cross_correlate(&image, &Tensor::from_f32([3, 2, 2, 2], &kernels, &device)?, false)?;
    let planes = output.reshape([3, 2, 2])?;
    let [a, b, c] = [0, 1, 2].map(|i| planes.narrow(i, 1));
    page.matrices(&[("out 1", &a?), ("out 2", &b?), ("out 3", &c?)])?;
    let expected = [56, 72, 104, 120, 76, 100, 148, 172, 96, 128, 192, 224].map(|v| v as f32);
    page.check_equal("the output matches the values computed by hand", output.to_f32()?, expected.to_vec())?;

    page.heading("A 1x1 convolution is a linear layer over channels")?;
    page.print(
        "A 1x1 kernel processes each pixel separately: it maps the input channels of the pixel to the output channels, with the same\n\
         weights at every position. A linear layer does the same if every pixel is a sample, with [n, c, h, w] rearranged to\n\
         [n·h·w, c]. We give both layers the same weights and the same output gradient, and compare.\n",
    )?;
    let (n, c, h, w, o) = (2, 3, 3, 2, 4);
    let x = random_tensor("x", [n, c, h, w], &device)?;
    let output_grad = random_tensor("above", [n, o, h, w], &device)?;
    let conv = build(Conv2d::new(c, o, 1), x.shape(), &device)?;
    let samples = pixels_as_samples(&x)?;
    let linear = build(Linear::new(c, o), samples.shape(), &device)?;
    for ((_, conv_param), (_, linear_param)) in state::params(&*conv).iter().zip(state::params(&*linear)) {
        linear_param.set(&conv_param.value().reshape(linear_param.shape())?)?;
    }
    let conv = ForwardBackward::run(&*conv, &x, |_| Ok(output_grad.clone()))?;
    let linear = ForwardBackward::run(&*linear, &samples, |_| pixels_as_samples(&output_grad))?;

    let tolerance = 1e-6;
    let difference = |a: &Tensor, b: &Tensor| Ok(max_abs_diff(&a.to_f64()?, &b.to_f64()?));
    page.check_close("outputs", difference(&pixels_as_samples(&conv.output)?, &linear.output)?, tolerance)?;
    page.check_close(
        "input gradient",
        difference(&pixels_as_samples(&conv.input_grad)?, &linear.input_grad)?,
        tolerance,
    )?;
    for ((name, conv), (_, linear)) in conv.param_grads.iter().zip(&linear.param_grads) {
        page.check_close(&format!("gradient of the {name}"), difference(conv, linear)?, tolerance)?;
    }
    Ok(())
}

/// Rearranges `[n, c, h, w]` to `[n·h·w, c]`: one row per pixel.
fn pixels_as_samples(x: &Tensor) -> Result<Tensor> {
    let [n, c, h, w] = *x.shape().extents() else { unreachable!("images have four dimensions") };
    let values = x.to_f64()?;
    let rows: Vec<f64> = (0..n * h * w * c)
        .map(|i| {
            let (sample, pixel, channel) = (i / (h * w * c), i / c % (h * w), i % c);
            values[(sample * c + channel) * h * w + pixel]
        })
        .collect();
    Tensor::from_f64([n * h * w, c], &rows, &x.device())
}

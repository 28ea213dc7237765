//! Cross-correlation and true convolution.

use neocog_tensor::{Result, Tensor};

use crate::help::{correlate, counting, noise};
use crate::page::Page;

pub fn run(page: &mut Page<'_>) -> Result<()> {
    page.say(
        "A convolutional layer lays a small kernel on the picture, multiplies what lies on top of each other, adds it up,\n\
         and moves on by a pixel. Everyone calls this convolution; its exact name is cross-correlation.\n",
    )?;
    let device = page.device();
    let picture = counting([1, 1, 3, 3], &device)?;
    let kernel = counting([1, 1, 2, 2], &device)?;
    let correlated = correlate(&picture, &kernel, false)?;
    page.planes(&[("picture", &picture), ("kernel", &kernel), ("cross-correlation", &correlated)])?;
    page.say("  The first number is 0·0 + 1·1 + 3·2 + 4·3 = 19.")?;
    page.equal("the layer computes 19, 25, 37, 43", correlated.to_f32()?, vec![19.0, 25.0, 37.0, 43.0])?;

    page.part("True convolution")?;
    page.say("The convolution of mathematics turns the kernel by half a circle first: left and right, top and bottom change places.\n")?;
    let convolved = correlate(&picture, &kernel, true)?;
    let turned = turn(&kernel)?;
    page.planes(&[("kernel", &kernel), ("turned", &turned), ("convolution", &convolved)])?;
    page.equal(
        "convolution is cross-correlation with the turned kernel",
        convolved.to_f32()?,
        correlate(&picture, &turned, false)?.to_f32()?,
    )?;
    let (picture, kernel) =
        (noise("picture", [2, 3, 9, 8], &device)?, noise("kernel", [4, 3, 5, 4], &device)?);
    page.equal(
        "so it is for pictures and kernels of many channels",
        correlate(&picture, &kernel, true)?.to_f32()?,
        correlate(&picture, &turn(&kernel)?, false)?.to_f32()?,
    )?;
    page.say(
        "\nA network does not care: its kernels are learned, and with the other form it learns the turned ones. The lesson\n\
         \"edges\" shows that it does.",
    )
}

/// Kernels `[out, in, kh, kw]` turned by half a circle: the numbers of each in the opposite order.
fn turn(kernel: &Tensor) -> Result<Tensor> {
    let [_, _, kh, kw] = *kernel.shape().extents() else { unreachable!("kernels have four axes") };
    let mut numbers = kernel.to_f32()?;
    numbers.chunks_exact_mut(kh * kw).for_each(<[f32]>::reverse);
    Tensor::from_f32(*kernel.shape(), &numbers, &kernel.device())
}

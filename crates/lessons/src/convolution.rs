//! Cross-correlation and true convolution.

use neocog_tensor::{Result, Tensor};

use crate::helpers::{arange, cross_correlate, random_tensor};
use crate::page::Page;
use crate::register_lesson;

register_lesson!(10, "convolution", "cross-correlation and true convolution, which flips the kernel", run);

fn run(page: &mut Page<'_>) -> Result<()> {
    page.print(
        "A convolutional layer slides a small kernel over the image. At each position it multiplies the kernel with the pixels below\n\
         it, element by element, and sums the products. Deep learning calls this convolution; the mathematical name is\n\
         cross-correlation.\n",
    )?;
    let device = page.device();
    let image = arange([1, 1, 3, 3], &device)?;
    let kernel = arange([1, 1, 2, 2], &device)?;
    let cross_correlated = cross_correlate(&image, &kernel, false)?;
    page.matrices(&[("image", &image), ("kernel", &kernel), ("cross-correlation", &cross_correlated)])?;
    page.print("  The first output is 0·0 + 1·1 + 3·2 + 4·3 = 19.")?;
    page.check_equal(
        "the layer computes 19, 25, 37, 43",
        cross_correlated.to_f32()?,
        vec![19.0, 25.0, 37.0, 43.0],
    )?;

    page.heading("True convolution")?;
    page.print("Mathematical convolution flips the kernel first, horizontally and vertically, which rotates it by 180 degrees.\n")?;
    let convolved = cross_correlate(&image, &kernel, true)?;
    let flipped = flip(&kernel)?;
    page.matrices(&[("kernel", &kernel), ("flipped kernel", &flipped), ("convolution", &convolved)])?;
    page.check_equal(
        "convolution is cross-correlation with the flipped kernel",
        convolved.to_f32()?,
        cross_correlate(&image, &flipped, false)?.to_f32()?,
    )?;
    let (image, kernel) =
        (random_tensor("picture", [2, 3, 9, 8], &device)?, random_tensor("kernel", [4, 3, 5, 4], &device)?);
    page.check_equal(
        "the same holds for images and kernels with several channels",
        cross_correlate(&image, &kernel, true)?.to_f32()?,
        cross_correlate(&image, &flip(&kernel)?, false)?.to_f32()?,
    )?;
    page.print(
        "\nFor a network the difference does not matter: its kernels are learned, and with true convolution it simply learns the\n\
         flipped ones. See for yourself in the lesson \"edges\".",
    )
}

/// Rotates kernels `[out, in, kh, kw]` by 180 degrees: reverses the elements of each.
fn flip(kernel: &Tensor) -> Result<Tensor> {
    let [_, _, kh, kw] = *kernel.shape().extents() else { unreachable!("kernels have four dimensions") };
    let mut weights = kernel.to_f32()?;
    weights.chunks_exact_mut(kh * kw).for_each(<[f32]>::reverse);
    Tensor::from_f32(*kernel.shape(), &weights, &kernel.device())
}

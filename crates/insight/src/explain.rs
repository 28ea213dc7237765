//! Explanations: which parts of an image a prediction depends on.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_base::{Error, Result};
use neocog_layers::{Context, Layer, Observer, Seen};
use neocog_tensor::{Device, Shape, Tensor};

use crate::capture::{self, Captured};

/// Images that are run at once.
const BATCH: usize = 16;

/// The attribution of a class to the parts of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// Channels, height and width of the values.
    pub shape: [usize; 3],
    /// `[c, h, w]`.
    pub values: Vec<f64>,
}

impl Attribution {
    /// Returns a value for each pixel, `[h, w]`: that of the channel with the largest magnitude, with its sign.
    pub fn per_pixel(&self) -> Vec<f32> {
        let plane = self.shape[1] * self.shape[2];
        let largest = |i: usize| {
            let channels = (0..self.shape[0]).map(|c| self.values[c * plane + i]);
            channels.fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a }) as f32
        };
        (0..plane).map(largest).collect()
    }
}

/// Computes the saliency map of `class` for `image` `[1, c, h, w]`: the gradient of its logit with respect to the pixels. K. Simonyan,
/// A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks", ICLR 2014 (workshop), section 3.
///
/// # Errors
/// When the network does not accept the image, there is no such class, or the device fails.
pub fn saliency(network: &dyn Layer, image: &Tensor, class: usize) -> Result<Attribution> {
    let shape = single(image)?;
    Ok(Attribution { shape, values: input_gradient(network, image, class)? })
}

/// Computes integrated gradients of `class` for `image` `[1, c, h, w]`: the difference to `baseline`, of the same shape, times the mean
/// gradient of the logit along the straight line between them, at the midpoints of `steps` intervals. Their sum approaches the
/// difference of the logits of image and baseline. M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", ICML
/// 2017.
///
/// # Errors
/// As [`saliency`]; `Shape` when the shapes of image and baseline differ; `InvalidArgument` for 0 steps.
pub fn integrated_gradients(
    network: &dyn Layer,
    image: &Tensor,
    baseline: &Tensor,
    class: usize,
    steps: usize,
) -> Result<Attribution> {
    let shape = single(image)?;
    if baseline.shape() != image.shape() {
        return Err(Error::shape(format!(
            "the baseline has shape {}, the image {}",
            baseline.shape(),
            image.shape()
        )));
    }
    if steps == 0 {
        return Err(Error::invalid_argument("integrated gradients with 0 steps: expected at least 1"));
    }
    let (x, base) = (image.to_f64()?, baseline.to_f64()?);
    let mut sums = vec![0.0; x.len()];
    let points: Vec<f64> = (0..steps).map(|i| (i as f64 + 0.5) / steps as f64).collect();
    for points in points.chunks(BATCH) {
        let line = |&alpha: &f64| base.iter().zip(&x).map(move |(b, x)| b + alpha * (x - b));
        let pixels: Vec<f64> = points.iter().flat_map(line).collect();
        let batch = tensor(points.len(), shape, &pixels, &image.device())?;
        for gradient in input_gradient(network, &batch, class)?.chunks_exact(x.len()) {
            sums.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
    let values = sums.iter().zip(x.iter().zip(&base)).map(|(sum, (x, b))| (x - b) * sum / steps as f64);
    Ok(Attribution { shape, values: values.collect() })
}

/// Computes Grad-CAM of `class` for `image` `[1, c, h, w]` at the layer called `layer`: the channels of its output, weighted with the mean
/// gradient of the logit and summed, where positive, resized to the image. R. Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1
/// and 2.
///
/// # Errors
/// As [`saliency`]; `NotFound` when there is no such layer; `Shape` when its output is not a feature map.
pub fn grad_cam(network: &dyn Layer, image: &Tensor, class: usize, layer: &str) -> Result<Attribution> {
    let [_, h, w] = single(image)?;
    let tape = Tape::new();
    let leaf = tape.leaf(image.clone());
    let captured = capture::run(network, &tape, &leaf, layer)?;
    let Captured { logits, layer_output: maps, .. } = &captured;
    let [_, channels, rows, columns] = *maps.shape().extents() else {
        return Err(Error::shape(format!(
            "the output of {layer} has shape {}; Grad-CAM needs a feature map, [n, c, h, w]",
            maps.shape()
        )));
    };
    captured.check_images(maps, layer)?;
    let output_grad = one_hot(logits, class)?;
    let plane = rows * columns;
    let gradient = match tape.gradient_of(maps, &[(logits, output_grad)])? {
        Some(gradient) => gradient.to_f64()?,
        // The class does not depend on the layer.
        None => vec![0.0; channels * plane],
    };
    let activation = maps.tensor().to_f64()?;
    let mut sum = vec![0.0; plane];
    // More images can follow the first one.
    let planes = activation.chunks_exact(plane).zip(gradient.chunks_exact(plane)).take(channels);
    for (activation, gradient) in planes {
        let weight = gradient.iter().sum::<f64>() / plane as f64;
        sum.iter_mut().zip(activation).for_each(|(sum, a)| *sum += weight * a);
    }
    sum.iter_mut().for_each(|value| *value = value.max(0.0));
    Ok(Attribution { shape: [1, h, w], values: resize_bilinear(&sum, [rows, columns], [h, w]) })
}

/// Computes the attribution of `class` to each pixel of `image` `[1, c, h, w]` by occlusion: how much its logit drops when a square of
/// `window` pixels, at every `stride` pixels, is replaced by `baseline`, of the shape of the image; the mean over the squares that
/// cover the pixel. M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
///
/// # Errors
/// As [`integrated_gradients`]; `InvalidArgument` for a window that is 0 or larger than the image, and a stride that is 0 or larger
/// than the window.
pub fn occlusion(
    network: &dyn Layer,
    image: &Tensor,
    baseline: &Tensor,
    class: usize,
    window: usize,
    stride: usize,
) -> Result<Attribution> {
    let shape @ [c, h, w] = single(image)?;
    if baseline.shape() != image.shape() {
        return Err(Error::shape(format!(
            "the baseline has shape {}, the image {}",
            baseline.shape(),
            image.shape()
        )));
    }
    if window == 0 || window > h.min(w) || stride == 0 || stride > window {
        return Err(Error::invalid_argument(format!(
            "a window of {window} with stride {stride} for an image of {h}x{w}: expected a window from 1 to {}, and a stride from 1 to \
             the window",
            h.min(w)
        )));
    }
    let (x, base) = (image.to_f64()?, baseline.to_f64()?);
    let whole = logit(network, image, class)?[0];
    let corners: Vec<(usize, usize)> = starts(h, window, stride)
        .flat_map(|top| starts(w, window, stride).map(move |left| (top, left)))
        .collect();
    let (mut drops, mut covered) = (vec![0.0; h * w], vec![0.0; h * w]);
    for corners in corners.chunks(BATCH) {
        let mut pixels = Vec::with_capacity(corners.len() * x.len());
        for &(top, left) in corners {
            let at = pixels.len();
            pixels.extend_from_slice(&x);
            for row in (0..c).flat_map(|c| (top..top + window).map(move |y| c * h + y)) {
                let span = row * w + left..row * w + left + window;
                pixels[at + span.start..at + span.end].copy_from_slice(&base[span]);
            }
        }
        let logits = logit(network, &tensor(corners.len(), shape, &pixels, &image.device())?, class)?;
        for (&(top, left), logit) in corners.iter().zip(logits) {
            for i in (top..top + window).flat_map(|y| (left..left + window).map(move |x| y * w + x)) {
                drops[i] += whole - logit;
                covered[i] += 1.0;
            }
        }
    }
    let values = drops.iter().zip(covered).map(|(drop, n)| drop / f64::max(n, 1.0)).collect();
    Ok(Attribution { shape: [1, h, w], values })
}

/// Returns the dotted names of the layers whose outputs are feature maps for `image` `[n, c, h, w]`, in the order in which they run: the
/// layers that [`grad_cam`] accepts. The last one of them is its usual choice.
///
/// # Errors
/// When the network does not accept the image.
pub fn feature_layers(network: &dyn Layer, image: &Shape) -> Result<Vec<String>> {
    struct Names(RefCell<Vec<String>>);
    impl Observer for Names {
        fn output(&self, seen: &Seen<'_>) {
            let is_map = matches!(*seen.output.shape().extents(), [_, _, h, w] if h * w > 1);
            if is_map && seen.is_named && !seen.path.is_empty() {
                self.0.borrow_mut().push(seen.path.to_string());
            }
        }
    }
    let names = Names(RefCell::default());
    let tape = Tape::no_grad();
    Context::eval(&tape)
        .observed(&names)
        .run(network, &Var::constant(Tensor::zeros(*image, &Device::Meta)?))?;
    Ok(names.0.into_inner())
}

/// The gradients of the logits of `class` with respect to the images `[n, c, h, w]`.
fn input_gradient(network: &dyn Layer, images: &Tensor, class: usize) -> Result<Vec<f64>> {
    let tape = Tape::new();
    let leaf = tape.leaf(images.clone());
    let logits = Context::eval(&tape).run(network, &leaf)?;
    let output_grad = one_hot(&logits, class)?;
    let grads = tape.backward_from(&[(&logits, output_grad)])?;
    match grads.get(&leaf) {
        Some(gradient) => gradient.to_f64(),
        None => Ok(vec![0.0; images.shape().elements()]),
    }
}

/// The logits of `class` for images `[n, c, h, w]`.
fn logit(network: &dyn Layer, images: &Tensor, class: usize) -> Result<Vec<f64>> {
    let tape = Tape::no_grad();
    let logits = Context::eval(&tape).run(network, &Var::constant(images.clone()))?;
    let [_, classes] = check_class(&logits, class)?;
    Ok(logits.tensor().to_f64()?.chunks_exact(classes).map(|row| row[class]).collect())
}

/// The gradient of the sum of the logits of `class`.
fn one_hot(logits: &Var, class: usize) -> Result<Tensor> {
    let [n, classes] = check_class(logits, class)?;
    let values: Vec<f64> = (0..n * classes).map(|i| f64::from(u8::from(i % classes == class))).collect();
    Tensor::from_f64(*logits.shape(), &values, &logits.tensor().device())
}

/// Checks that the output of the network has the class; returns its extents.
fn check_class(logits: &Var, class: usize) -> Result<[usize; 2]> {
    match *logits.shape().extents() {
        [n, classes] if class < classes => Ok([n, classes]),
        [_, classes] => Err(Error::invalid_argument(format!(
            "there is no class {class}: the network has {classes} classes, from 0 on"
        ))),
        _ => Err(Error::shape(format!(
            "the output of the network has shape {}; expected [n, classes]",
            logits.shape()
        ))),
    }
}

fn tensor(n: usize, [c, h, w]: [usize; 3], pixels: &[f64], device: &Device) -> Result<Tensor> {
    Tensor::from_f64([n, c, h, w], pixels, device)
}

/// The shape of a single image.
fn single(image: &Tensor) -> Result<[usize; 3]> {
    match *image.shape().extents() {
        [1, c, h, w] => Ok([c, h, w]),
        _ => Err(Error::shape(format!("expected one image [1, c, h, w], not {}", image.shape()))),
    }
}

/// The starts of windows that cover `length`; the last one ends with it.
fn starts(length: usize, window: usize, stride: usize) -> impl Iterator<Item = usize> {
    let last = length - window;
    (0..last).step_by(stride).chain([last])
}

/// Resizes values `[h, w]` by bilinear interpolation; pixels are areas, as with PyTorch's `align_corners=False`.
fn resize_bilinear(values: &[f64], [h, w]: [usize; 2], [new_h, new_w]: [usize; 2]) -> Vec<f64> {
    let place = |i: usize, new: usize, old: usize| {
        let position = ((i as f64 + 0.5) * old as f64 / new as f64 - 0.5).clamp(0.0, (old - 1) as f64);
        let low = position.floor() as usize;
        (low, (low + 1).min(old - 1), position - low as f64)
    };
    let mut resized = Vec::with_capacity(new_h * new_w);
    for y in 0..new_h {
        let (top, bottom, fy) = place(y, new_h, h);
        for x in 0..new_w {
            let (left, right, fx) = place(x, new_w, w);
            let row = |y: usize| values[y * w + left] * (1.0 - fx) + values[y * w + right] * fx;
            resized.push(row(top) * (1.0 - fy) + row(bottom) * fy);
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_everything() {
        assert_eq!(starts(10, 4, 3).collect::<Vec<_>>(), [0, 3, 6]);
        assert_eq!(starts(10, 4, 4).collect::<Vec<_>>(), [0, 4, 6]);
        assert_eq!(starts(4, 4, 2).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn bilinear_interpolation_by_hand() {
        assert_eq!(resize_bilinear(&[0.0, 1.0], [1, 2], [1, 4]), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(resize_bilinear(&[3.0], [1, 1], [2, 2]), [3.0; 4]);
    }

    #[test]
    fn the_channel_with_the_largest_magnitude_counts() {
        let all = Attribution { shape: [2, 1, 2], values: vec![1.0, -3.0, -2.0, 2.0] };
        assert_eq!(all.per_pixel(), [-2.0, -3.0]);
    }
}

//! Feature maps and kernels of a network, and the outputs of a layer as embeddings.

use std::cell::RefCell;

use neocog_autograd::{Tape, Var};
use neocog_base::text::count;
use neocog_base::{Error, Result};
use neocog_data::Loader;
use neocog_layers::{Context, Layer, Observer, Seen, state};
use neocog_tensor::{Device, Shape, Tensor};
use neocog_viz::{CaptionStyle, ContactSheet, Image, RgbImage, Thumbnail};

use crate::capture;

/// Maximum number of feature maps drawn per layer.
const MAX_MAPS: usize = 8;
/// Maximum number of layers drawn.
const MAX_LAYERS: usize = 8;

/// The output of a layer.
#[derive(Clone, Debug)]
pub struct FeatureMap {
    /// Dotted name of the layer; that of the layer around it if it has none.
    pub path: String,
    /// Name of the layer that is printed.
    pub label: String,
    /// `[n, c, h, w]`.
    pub output: Tensor,
}

/// Computes the feature maps of all layers without children for images `[n, c, h, w]`, in the order in which they run. Outputs of a
/// single pixel are left out.
///
/// # Errors
/// When the network does not accept the images, or the device fails.
pub fn feature_maps(network: &dyn Layer, images: &Tensor) -> Result<Vec<FeatureMap>> {
    struct Recorder(RefCell<Vec<FeatureMap>>);
    impl Observer for Recorder {
        fn output(&self, seen: &Seen<'_>) {
            let Seen { path, layer, output, .. } = *seen;
            let is_map = matches!(*output.shape().extents(), [_, _, h, w] if h * w > 1);
            // The output of an ONNX model is that of a node, too.
            let is_model = path.is_empty() && !self.0.borrow().is_empty();
            if is_map && !is_model && !state::has_children(layer) {
                let (path, label) = (path.to_string(), layer.label().to_string());
                self.0.borrow_mut().push(FeatureMap { path, label, output: output.tensor().clone() });
            }
        }
    }
    let recorder = Recorder(RefCell::default());
    let tape = Tape::no_grad();
    Context::eval(&tape).observed(&recorder).run(network, &Var::constant(images.clone()))?;
    Ok(recorder.0.into_inner())
}

/// Draws an image `[1, c, h, w]` and up to eight feature maps of up to eight layers. `network` is the name in the title.
///
/// # Errors
/// When a tensor cannot be read.
pub fn draw_feature_maps(network: &str, image: &Tensor, maps: &[FeatureMap]) -> Result<RgbImage> {
    let [.., h, w] = *image.shape().extents() else {
        return Err(Error::shape(format!("{} is not the shape of an image", image.shape())));
    };
    let pixels = image.to_f32()?;
    let mut sheet = ContactSheet::new(format!("Feature maps of {network}"))
        .note(format!(
            "Up to {MAX_MAPS} feature maps per layer, each normalized from its minimum (black) to its maximum (white)."
        ))
        .row("input", [Thumbnail::new(Image::normalized(&pixels[..h * w], [h, w])?)]);
    let step = maps.len().div_ceil(MAX_LAYERS).max(1);
    for FeatureMap { path, label, output } in maps.iter().step_by(step) {
        let [_, channels, h, w] = *output.shape().extents() else { continue };
        let values = output.to_f32()?;
        let thumbnails = values
            .chunks_exact(h * w)
            .take(MAX_MAPS)
            .map(|channel| Ok(Thumbnail::new(Image::normalized(channel, [h, w])?)));
        let thumbnails = thumbnails.collect::<Result<Vec<_>>>()?;
        let count = if channels > MAX_MAPS {
            format!("{MAX_MAPS} of {channels} channels")
        } else {
            count(channels, "channel")
        };
        sheet = sheet.row(&format!("{path} {label}\n{h}x{w}\n{count}"), thumbnails);
    }
    sheet.draw()
}

/// Draws the kernels of the first convolution of a network for images `[n, c, h, w]`. `name` is the name of the network in the title.
///
/// # Errors
/// When the network does not accept the images, or the parameter cannot be read.
pub fn draw_kernels(name: &str, network: &dyn Layer, images: &Shape) -> Result<RgbImage> {
    let mut sheet = ContactSheet::new(format!("Kernels of {name}"))
        .note("First convolution: positive weights are red, negative weights blue.");
    let params = state::params(network);
    let first = params.iter().find(|(_, param)| param.shape().rank() == 4);
    let first = match first {
        Some((name, param)) => Some((name.clone(), param.value().clone())),
        None => capture::products(network, images, 4)?.into_iter().next(),
    };
    let Some((name, kernels)) = first else { return sheet.draw() };
    let [out, inputs, kh, kw] = *kernels.shape().extents() else { return sheet.draw() };
    let weights = kernels.to_f32()?;
    let limit = weights.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
    let mut thumbnails = Vec::new();
    for (i, kernel) in weights.chunks_exact(inputs * kh * kw).enumerate() {
        let image = Image::diverging(&kernel[..kh * kw], [kh, kw], limit)?;
        thumbnails.push(Thumbnail::new(image).caption(format!("channel {}", i + 1), CaptionStyle::Plain));
    }
    for (i, row) in thumbnails.chunks(MAX_MAPS).enumerate() {
        let label =
            if i == 0 { format!("{name}\n{} of {kh}x{kw}", count(out, "kernel")) } else { String::new() };
        sheet = sheet.row(&label, row.to_vec());
    }
    sheet.draw()
}

/// The outputs, or inputs, of a layer for the images of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// The layer whose output they are, or the head, whose input they are.
    pub layer: String,
    /// Number of values for each image.
    pub width: usize,
    /// `[n, width]`.
    pub values: Vec<f32>,
    /// Class of each image, `[n]`.
    pub labels: Vec<u32>,
    /// Index of each image in its data set, `[n]`.
    pub indices: Vec<u32>,
}

/// Computes the embeddings of all images of `loader`: for each, the output of the layer called `layer`, flattened; without a name, the
/// input of the [head](state::head), or of the last node with parameters of an ONNX model. The parameters of the network are on `device`.
///
/// # Errors
/// `NotFound` when there is no such layer; `InvalidArgument` when the network has no head; `Shape` when the layer does not have a row for each image; those of the loader and the network.
pub fn embed(
    network: &dyn Layer,
    loader: &Loader,
    layer: Option<&str>,
    device: &Device,
) -> Result<Embeddings> {
    let mut all = Embeddings {
        layer: layer.unwrap_or_default().to_string(),
        width: 0,
        values: Vec::new(),
        labels: Vec::new(),
        indices: Vec::new(),
    };
    for batch in loader.epoch(0)? {
        let batch = batch?;
        if batch.is_empty() {
            continue;
        }
        let images = Tensor::from_f32(batch.shape(), &batch.pixels, device)?;
        if layer.is_none() && all.layer.is_empty() {
            all.layer = head(network, images.shape())?;
        }
        let (values, width) = values_at(network, &images, &all.layer, layer.is_none())?;
        all.width = width;
        all.values.extend(&values[..batch.len() * width]);
        all.labels.extend_from_slice(&batch.labels);
        all.indices.extend_from_slice(&batch.indices);
    }
    if all.labels.is_empty() {
        return Err(Error::format("no image could be read").context(loader.dataset().name()));
    }
    Ok(all)
}

/// The name of the head: the last layer with parameters, or the last node of an ONNX model that multiplies by some.
fn head(network: &dyn Layer, images: &Shape) -> Result<String> {
    if let Some(head) = state::head(network) {
        return Ok(head);
    }
    let last = capture::products(network, images, 2)?.pop();
    last.map(|(name, _)| name).ok_or_else(|| {
        Error::invalid_argument(
            "the network is a single layer, or has no parameters; name the layer whose output is meant",
        )
    })
}

/// The output, or the input, of the layer called `name`: a row for each image, and their width. More rows can follow.
fn values_at(
    network: &dyn Layer,
    images: &Tensor,
    name: &str,
    takes_input: bool,
) -> Result<(Vec<f32>, usize)> {
    let tape = Tape::no_grad();
    let captured = capture::run(network, &tape, &Var::constant(images.clone()), name)?;
    let value = if takes_input { &captured.layer_input } else { &captured.layer_output };
    captured.check_images(value, name)?;
    Ok((value.tensor().to_f32()?, value.shape().row()))
}

//! Resizing: a linear map along each axis.

use neocog_base::{Error, Result};
use neocog_tensor::ops::{AxisMap, Resample};

use crate::import::{Node, Value};
use crate::register_onnx;

/// How the value of an output position is computed.
#[derive(Clone, Debug)]
struct Rule {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic_a: f64,
    excludes_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

register_onnx!("Upsample", |node| {
    let x = node.input(0)?;
    let scales = match node.floats("scales") {
        Some(scales) => scales,
        None => {
            node.known_numbers(1, "the scales")?.ok_or_else(|| Error::format("the scales are missing"))?
        }
    };
    if scales.len() != x.rank() {
        return Err(Error::format(format!("the scales {scales:?} are not those of {}", x.shape())));
    }
    let rule = Rule {
        mode: node.text("mode").unwrap_or_else(|| "nearest".to_string()),
        coordinates: "asymmetric".to_string(),
        nearest: "floor".to_string(),
        cubic_a: -0.75,
        excludes_outside: false,
        antialias: false,
        extrapolation: 0.0,
    };
    resize(
        node,
        x,
        &rule,
        |extent, axis| size(extent, scales[axis]).map(|output| (output, scales[axis])),
        &[],
    )
});

register_onnx!("Resize", |node| {
    let x = node.input(0)?;
    let is_old = node.opset() < 11;
    let text = |name: &str, default: &str| node.text(name).unwrap_or_else(|| default.to_string());
    let rule = Rule {
        mode: text("mode", "nearest"),
        coordinates: if is_old {
            "asymmetric".to_string()
        } else {
            text("coordinate_transformation_mode", "half_pixel")
        },
        nearest: if is_old { "floor".to_string() } else { text("nearest_mode", "round_prefer_floor") },
        cubic_a: node.float("cubic_coeff_a").unwrap_or(-0.75),
        excludes_outside: node.int("exclude_outside").unwrap_or(0) != 0,
        antialias: node.int("antialias").unwrap_or(0) != 0,
        extrapolation: node.float("extrapolation_value").unwrap_or(0.0),
    };
    let (roi_at, scales_at) = if is_old { (usize::MAX, 1) } else { (1, 2) };
    let axes = match node.ints("axes") {
        Some(axes) => {
            axes.into_iter().map(|axis| node.axis(axis, x.rank())).collect::<Result<Vec<usize>>>()?
        }
        None => (0..x.rank()).collect(),
    };
    let given = |values: Option<Vec<f64>>| values.filter(|values| !values.is_empty());
    let scales = given(node.known_numbers(scales_at, "the scales")?);
    let wanted = given(node.known_numbers(3, "the sizes")?);
    let roi = if rule.coordinates == "tf_crop_and_resize" {
        given(node.known_numbers(roi_at, "the region")?)
    } else {
        None
    };
    // For each axis, the size and the scale.
    let mut targets: Vec<(usize, f64)> = x.shape().iter().map(|&extent| (extent, 1.0)).collect();
    match (scales, wanted) {
        (Some(scales), None) if scales.len() == axes.len() => {
            for (&axis, scale) in axes.iter().zip(scales) {
                targets[axis] = (size(x.shape()[axis], scale)?, scale);
            }
        }
        (None, Some(wanted)) if wanted.len() == axes.len() => {
            let ratio = |(&axis, wanted): (&usize, &f64)| wanted / x.shape()[axis].max(1) as f64;
            let ratios = axes.iter().zip(&wanted).map(ratio);
            let common = match node.text("keep_aspect_ratio_policy").as_deref() {
                Some("not_larger") => Some(ratios.fold(f64::INFINITY, f64::min)),
                Some("not_smaller") => Some(ratios.fold(0.0, f64::max)),
                _ => None,
            };
            for (&axis, wanted) in axes.iter().zip(wanted) {
                let extent = x.shape()[axis];
                let output = common.map_or(wanted, |scale| (scale * extent as f64 + 0.5).floor());
                let scale = common.unwrap_or(output / extent.max(1) as f64);
                targets[axis] = (size(1, output)?, scale);
            }
        }
        (scales, wanted) => {
            return Err(Error::format(format!(
                "expected either scales or sizes of {axes:?}, found {scales:?} and {wanted:?}"
            )));
        }
    }
    let mut regions = vec![(0.0, 1.0); x.rank()];
    if let Some(roi) = roi {
        if roi.len() != 2 * axes.len() {
            return Err(Error::format(format!("the region is {roi:?}, for {} axes", axes.len())));
        }
        for (i, &axis) in axes.iter().enumerate() {
            regions[axis] = (roi[i], roi[axes.len() + i]);
        }
    }
    resize(node, x, &rule, |_, axis| Ok(targets[axis]), &regions)
});

/// Returns a scaled size.
fn size(extent: usize, scale: f64) -> Result<usize> {
    let size = (extent as f64 * scale).floor();
    // Kernels map at most 2^20 positions.
    if scale.is_finite() && scale > 0.0 && (1.0..=f64::from(1 << 20)).contains(&size) {
        return Ok(size as usize);
    }
    Err(Error::shape(format!("{extent} pixels cannot be scaled by {scale}")))
}

fn resize(
    node: &mut Node<'_>,
    mut x: Value,
    rule: &Rule,
    target: impl Fn(usize, usize) -> Result<(usize, f64)>,
    regions: &[(f64, f64)],
) -> Result<Vec<Value>> {
    let data_type = x.data_type;
    for axis in 0..x.rank() {
        let input = x.shape()[axis];
        let (output, scale) = target(input, axis)?;
        let region = regions.get(axis).copied().unwrap_or((0.0, 1.0));
        if output == input && scale == 1.0 && region == (0.0, 1.0) {
            continue;
        }
        let rows: Vec<Option<(usize, Vec<f64>)>> =
            (0..output).map(|o| rule.row(o, input, output, scale, region)).collect::<Result<_>>()?;
        let outside: Vec<f64> = rows.iter().map(|row| f64::from(u8::from(row.is_none()))).collect();
        // The rows of positions that are outside are 0; they take the place of those before them.
        let mut before = 0;
        let mut all: Vec<(usize, Vec<f64>)> = Vec::with_capacity(output);
        let is_reversed = region.1 < region.0;
        for row in rows {
            let (start, weights) = row.unwrap_or((before, vec![0.0]));
            before = start;
            all.push((start, weights));
        }
        if is_reversed {
            all.reverse();
        }
        let map = AxisMap::from_weights(input, &all)?;
        x = node.push(Resample { dim: axis as isize, map, transposed: false }, &[&x])?;
        if is_reversed {
            x = super::indexing::select(node, &x, axis, (0..output).rev().collect())?;
        }
        if rule.extrapolation != 0.0 && outside.contains(&1.0) {
            let mut shape = vec![1; x.rank()];
            shape[axis] = output;
            let values: Vec<f64> = outside.iter().map(|flag| flag * rule.extrapolation).collect();
            let inside: Vec<f64> = outside.iter().map(|flag| 1.0 - flag).collect();
            let (values, inside) =
                (node.constant(&shape, &values, data_type)?, node.constant(&shape, &inside, data_type)?);
            let kept = node.push(neocog_tensor::ops::Mul, &[&x, &inside])?;
            x = node.push(neocog_tensor::ops::Add, &[&kept, &values])?;
        }
    }
    Ok(vec![x])
}

impl Rule {
    /// Returns the position in the input, in pixels, of an output.
    fn position(&self, o: usize, input: usize, output: usize, scale: f64, region: (f64, f64)) -> Result<f64> {
        let (o, length) = (o as f64, input as f64);
        let resized = scale * length;
        Ok(match self.coordinates.as_str() {
            "half_pixel" => (o + 0.5) / scale - 0.5,
            "half_pixel_symmetric" => {
                let adjustment = output as f64 / resized;
                let center = length / 2.0;
                center * (1.0 - adjustment) + (o + 0.5) / scale - 0.5
            }
            "pytorch_half_pixel" if output > 1 => (o + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => -0.5,
            "align_corners" if resized != 1.0 => o * (length - 1.0) / (resized - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => o / scale,
            "tf_half_pixel_for_nn" => (o + 0.5) / scale,
            "tf_crop_and_resize" => {
                let (start, end) = region;
                if output > 1 {
                    start * (length - 1.0) + o * (end - start) * (length - 1.0) / (output as f64 - 1.0)
                } else {
                    0.5 * (start + end) * (length - 1.0)
                }
            }
            other => return Err(Error::format(format!("coordinate_transformation_mode is {other}"))),
        })
    }

    /// Returns the first input of an output and the weights of the inputs from there; `None` for an output that is outside.
    fn row(
        &self,
        o: usize,
        input: usize,
        output: usize,
        scale: f64,
        region: (f64, f64),
    ) -> Result<Option<(usize, Vec<f64>)>> {
        let at = self.position(o, input, output, scale, region)?;
        let last = input as i64 - 1;
        if self.coordinates == "tf_crop_and_resize" && (at < 0.0 || at > last as f64) {
            return Ok(None);
        }
        // The weight of the input at a distance, and how far it reaches.
        let stretch = if self.antialias && scale < 1.0 { scale } else { 1.0 };
        let (reach, kernel): (f64, Box<dyn Fn(f64) -> f64>) = match self.mode.as_str() {
            "nearest" => {
                let index = match self.nearest.as_str() {
                    "floor" => at.floor(),
                    "ceil" => at.ceil(),
                    "round_prefer_floor" => (at - 0.5).ceil(),
                    "round_prefer_ceil" => (at + 0.5).floor(),
                    other => return Err(Error::format(format!("nearest_mode is {other}"))),
                };
                return Ok(Some(((index as i64).clamp(0, last) as usize, vec![1.0])));
            }
            "linear" | "bilinear" => (1.0, Box::new(|d: f64| (1.0 - d).max(0.0))),
            "cubic" => {
                let a = self.cubic_a;
                let cubic = move |d: f64| {
                    if d <= 1.0 {
                        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
                    } else if d < 2.0 {
                        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
                    } else {
                        0.0
                    }
                };
                (2.0, Box::new(cubic))
            }
            other => return Err(Error::format(format!("mode is {other}"))),
        };
        let reach = reach / stretch;
        let (first, end) = ((at - reach).floor() as i64, (at + reach).ceil() as i64);
        let low = first.clamp(0, last);
        let mut weights = vec![0.0; (end.clamp(0, last) - low + 1) as usize];
        let mut total = 0.0;
        for i in first..=end {
            let is_outside = i < 0 || i > last;
            if is_outside && self.excludes_outside {
                continue;
            }
            let weight = kernel((i as f64 - at).abs() * stretch);
            total += weight;
            // Positions outside of the image have the value of its border.
            weights[(i.clamp(0, last) - low) as usize] += weight;
        }
        if (self.excludes_outside || stretch != 1.0) && total != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        Ok(Some((low as usize, weights)))
    }
}

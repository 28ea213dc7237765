//! Linear maps along one axis: pooling and interpolation to another number of positions.

use std::sync::Arc;

use neocog_base::memory::try_vec;
use neocog_base::{Error, Result};

/// A linear map from the positions of an axis to others: each output is a weighted sum of adjacent inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisMap(Arc<[Taps; 2]>);

/// The weights of the outputs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taps {
    /// Number of inputs.
    pub input: usize,
    /// Largest number of inputs of an output; at least 1.
    pub width: usize,
    /// For each output, the first input.
    pub starts: Vec<usize>,
    /// For each output, `width` weights. Those of inputs past the end are 0.
    pub weights: Vec<f64>,
}

impl AxisMap {
    /// The mean of the inputs `floor(i · input / output) .. ceil((i + 1) · input / output)` for output `i`, as PyTorch's
    /// `AdaptiveAvgPool2d`.
    ///
    /// # Errors
    /// If there are no inputs, or too many positions.
    pub fn adaptive_average(input: usize, output: usize) -> Result<Self> {
        Self::new(input, output, |i| {
            let start = i * input / output;
            let end = ((i + 1) * input).div_ceil(output);
            (start, vec![1.0 / (end - start) as f64; end - start])
        })
    }

    /// Input `floor(i · scale)` for output `i`, as PyTorch's `Upsample` with the mode `nearest`. `scale` is the number of inputs for
    /// an output; `input / output` if absent.
    ///
    /// # Errors
    /// If there are no inputs, too many positions, or the scale is not positive.
    pub fn nearest(input: usize, output: usize, scale: Option<f64>) -> Result<Self> {
        let scale = checked_scale(scale.unwrap_or(input as f64 / output.max(1) as f64))?;
        Self::new(input, output, |i| (((i as f64 * scale) as usize).min(input - 1), vec![1.0]))
    }

    /// Linear interpolation, as PyTorch's `Upsample` with the mode `bilinear` along one axis. The centers of the first and last
    /// positions of input and output coincide if `align_corners`, else their outer borders. `scale` as for
    /// [`AxisMap::nearest`]; without effect if `align_corners`.
    ///
    /// # Errors
    /// As [`AxisMap::nearest`].
    pub fn linear(input: usize, output: usize, align_corners: bool, scale: Option<f64>) -> Result<Self> {
        let scale = match align_corners {
            true if output > 1 => input.saturating_sub(1) as f64 / (output - 1) as f64,
            true => 0.0,
            false => checked_scale(scale.unwrap_or(input as f64 / output.max(1) as f64))?,
        };
        Self::new(input, output, |i| {
            let position =
                if align_corners { i as f64 * scale } else { ((i as f64 + 0.5) * scale - 0.5).max(0.0) };
            let start = (position as usize).min(input - 1);
            let fraction = (position - start as f64).clamp(0.0, 1.0);
            if start + 1 < input { (start, vec![1.0 - fraction, fraction]) } else { (start, vec![1.0]) }
        })
    }

    /// The map with the given first input and weights of each output. All inputs must exist, and the first ones must not decrease.
    ///
    /// # Errors
    /// If there are no inputs or outputs, or too many; if an input does not exist or a first input is less than the one before.
    pub fn from_weights(input: usize, outputs: &[(usize, Vec<f64>)]) -> Result<Self> {
        let mut before = 0;
        for (start, weights) in outputs {
            if *start < before || start.checked_add(weights.len()).is_none_or(|end| end > input) {
                return Err(Error::shape(format!(
                    "an output has the inputs from {start} on, {} of them; there are {input}, and the output before starts at {before}",
                    weights.len()
                )));
            }
            before = *start;
        }
        Self::new(input, outputs.len(), |o| outputs[o].clone())
    }

    /// Creates a map from the first input and the weights of each output, of which the first inputs must not decrease.
    fn new(input: usize, output: usize, taps: impl Fn(usize) -> (usize, Vec<f64>)) -> Result<Self> {
        // Kernels on OpenCL devices hold positions as floats.
        const LARGEST: usize = 1 << 20;
        if input == 0 || output == 0 || input > LARGEST || output > LARGEST {
            return Err(Error::shape(format!(
                "cannot map {input} positions to {output}; both must be from 1 to {LARGEST}"
            )));
        }
        let all: Vec<(usize, Vec<f64>)> = (0..output).map(taps).collect();
        // For each input, the first and the last output that it contributes to; those between them are adjacent.
        let mut users: Vec<Option<(usize, usize)>> = vec![None; input];
        for (o, (start, weights)) in all.iter().enumerate() {
            for user in &mut users[*start..*start + weights.len()] {
                *user = Some((user.map_or(o, |(first, _)| first), o));
            }
        }
        let width = users.iter().flatten().map(|(first, last)| last - first + 1).max();
        let mut transposed = Taps::zeros(output, input, width.unwrap_or(0))?;
        for (start, user) in transposed.starts.iter_mut().zip(&users) {
            *start = user.map_or(0, |(first, _)| first);
        }
        for (o, (start, weights)) in all.iter().enumerate() {
            for (i, &weight) in (*start..).zip(weights) {
                transposed.weights[i * transposed.width + o - transposed.starts[i]] = weight;
            }
        }
        let width = all.iter().map(|(_, weights)| weights.len()).max();
        let mut direct = Taps::zeros(input, output, width.unwrap_or(0))?;
        for (o, (start, weights)) in all.iter().enumerate() {
            direct.starts[o] = *start;
            direct.weights[o * direct.width..][..weights.len()].copy_from_slice(weights);
        }
        Ok(AxisMap(Arc::new([direct, transposed])))
    }

    /// Returns the number of inputs.
    pub fn input(&self) -> usize {
        self.0[0].input
    }

    /// Returns the number of outputs.
    pub fn output(&self) -> usize {
        self.0[0].starts.len()
    }

    /// Whether every output is one input: the output is the input.
    pub fn is_identity(&self) -> bool {
        let taps = &self.0[0];
        let same = |(i, start): (usize, &usize)| {
            let weights = &taps.weights[i * taps.width..][..taps.width];
            *start == i && weights[0] == 1.0 && weights[1..].iter().all(|weight| *weight == 0.0)
        };
        self.input() == self.output() && taps.starts.iter().enumerate().all(same)
    }

    /// Returns the weights, or those of the transposed map.
    pub(super) fn taps(&self, transposed: bool) -> &Taps {
        &self.0[usize::from(transposed)]
    }
}

impl Taps {
    /// Returns weights of 0 for outputs of up to `width` inputs each.
    fn zeros(input: usize, outputs: usize, width: usize) -> Result<Self> {
        let width = width.max(1);
        let len = outputs.saturating_mul(width);
        if i32::try_from(len).is_err() {
            return Err(Error::out_of_memory(format!(
                "{outputs} outputs of up to {width} inputs each have too many weights"
            )));
        }
        let weights = try_vec(len, "the weights of an axis")?;
        Ok(Taps { input, width, starts: vec![0; outputs], weights })
    }

    /// Returns the first input of an output and the weights of the inputs that exist.
    pub fn of(&self, output: usize) -> (usize, &[f64]) {
        let start = self.starts[output];
        let count = self.width.min(self.input - start);
        (start, &self.weights[output * self.width..][..count])
    }
}

fn checked_scale(scale: f64) -> Result<f64> {
    if scale > 0.0 && scale.is_finite() {
        return Ok(scale);
    }
    Err(Error::invalid_argument(format!("the scale must be positive and finite, it is {scale}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(map: &AxisMap, transposed: bool) -> Vec<Vec<f64>> {
        let taps = map.taps(transposed);
        let row = |o: usize| {
            let (start, weights) = taps.of(o);
            let mut row = vec![0.0; taps.input];
            row[start..start + weights.len()].copy_from_slice(weights);
            row
        };
        (0..taps.starts.len()).map(row).collect()
    }

    /// One input has all outputs, so the transposed map would have 2^40 weights.
    #[test]
    fn too_many_weights_are_an_error() {
        let e = AxisMap::nearest(1 << 20, 1 << 20, Some(1e-9)).unwrap_err();
        assert_eq!(e.kind(), neocog_base::ErrorKind::OutOfMemory, "{e}");
        let mut outputs = vec![(0, vec![1.0]); 1 << 20];
        outputs[0].1 = vec![1.0; 1 << 13];
        assert!(AxisMap::from_weights(1 << 13, &outputs).is_err());
    }

    #[test]
    fn the_transposed_map_is_the_transposed_matrix() {
        let maps = (1..7).flat_map(|input| (1..9).map(move |output| (input, output)));
        for (input, output) in maps {
            for map in [
                AxisMap::adaptive_average(input, output).unwrap(),
                AxisMap::nearest(input, output, None).unwrap(),
                AxisMap::linear(input, output, true, None).unwrap(),
                AxisMap::linear(input, output, false, None).unwrap(),
                AxisMap::linear(input, output, false, Some(0.3)).unwrap(),
            ] {
                assert_eq!((map.input(), map.output()), (input, output));
                let (m, t) = (matrix(&map, false), matrix(&map, true));
                for (o, row) in m.iter().enumerate() {
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{map:?}");
                    row.iter().enumerate().for_each(|(i, weight)| assert_eq!(t[i][o], *weight, "{map:?}"));
                }
                assert_eq!(
                    map.is_identity(),
                    input == output
                        && m.iter().enumerate().all(|(i, r)| r
                            .iter()
                            .enumerate()
                            .all(|(k, w)| *w == f64::from(u8::from(i == k)))),
                    "{map:?}"
                );
            }
        }
    }

    #[test]
    fn invalid_maps_are_errors() {
        assert!(AxisMap::adaptive_average(0, 1).unwrap_err().to_string().contains("from 1 to"));
        assert!(AxisMap::nearest(1, usize::MAX, None).is_err());
        assert!(AxisMap::nearest(2, 2, Some(f64::NAN)).unwrap_err().to_string().contains("positive"));
        assert!(AxisMap::linear(2, 2, false, Some(0.0)).is_err());
    }

    #[test]
    fn inputs_of_far_outputs_have_too_many_weights() {
        let count = 1 << 16;
        let mut outputs = vec![(0, Vec::new()); count];
        outputs[0].1 = vec![1.0; count];
        outputs[count - 1].1 = vec![1.0; count];
        let error = AxisMap::from_weights(count, &outputs).unwrap_err().to_string();
        assert!(error.contains("65536 outputs of up to 65536 inputs each have too many weights"), "{error}");
    }
}

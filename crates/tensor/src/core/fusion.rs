//! What operations declare about themselves for the rewrites of a graph.

use crate::core::tensor::Tensor;
use crate::cpu::Activation;
use neocog_base::Result;

/// The kind of pass that a graph is rewritten for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Outputs only. Parameters are constants.
    Inference,
    /// Outputs and gradients. Parameters are inputs.
    Training,
}

/// A map `y = scale[c] * (x - center[c]) + shift[c]` of the channels of a tensor, its axis 1: batch normalization with given
/// statistics.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ChannelAffine {
    /// Factor of each channel.
    pub scale: Vec<f64>,
    /// Value that is subtracted from each channel first.
    pub center: Vec<f64>,
    /// Value that is added to each channel last.
    pub shift: Vec<f64>,
}

impl ChannelAffine {
    /// Creates a map from three numbers for each channel.
    ///
    /// # Panics
    /// If the numbers of channels differ.
    pub fn new(scale: Vec<f64>, center: Vec<f64>, shift: Vec<f64>) -> Self {
        assert!(
            scale.len() == center.len() && scale.len() == shift.len(),
            "a channel affine map has a scale, a center and a shift for each channel"
        );
        ChannelAffine { scale, center, shift }
    }

    /// Returns the weight `[channels, ..]` and the bias `[channels]` of the product that computes this map of the product with
    /// `weight` and `bias`, on the device of `weight`: `scale w` and `scale (b - center) + shift`.
    ///
    /// # Errors
    /// If a tensor cannot be read or the device fails.
    pub fn fold(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<[Tensor; 2]> {
        let device = weight.device();
        let mut scaled = weight.to_f64()?;
        let row = scaled.len() / self.scale.len().max(1);
        for (row, scale) in scaled.chunks_exact_mut(row.max(1)).zip(&self.scale) {
            row.iter_mut().for_each(|w| *w *= scale);
        }
        let mut sum = bias.map_or_else(|| Ok(vec![0.0; self.scale.len()]), |bias| bias.to_f64())?;
        for (c, b) in sum.iter_mut().enumerate() {
            *b = self.scale[c] * (*b - self.center[c]) + self.shift[c];
        }
        Ok([
            Tensor::from_f64(*weight.shape(), &scaled, &device)?,
            Tensor::from_f64([sum.len()], &sum, &device)?,
        ])
    }
}

/// Returns the weight and bias of a product with `map` folded into them, for [`Op::absorb_affine`]: inputs 1 and 2 of an
/// operation without an activation, if they are constant.
///
/// # Errors
/// As [`ChannelAffine::fold`].
pub(crate) fn fold_into_product(
    map: &ChannelAffine,
    activation: Option<Activation>,
    constants: &[Option<&Tensor>],
) -> Result<Option<Vec<Tensor>>> {
    match (activation, constants) {
        (None, [_, Some(weight)]) => Ok(Some(map.fold(weight, None)?.into())),
        (None, [_, Some(weight), Some(bias)]) => Ok(Some(map.fold(weight, Some(bias))?.into())),
        _ => Ok(None),
    }
}

/// Returns the activation `next` of a following operation, for an operation whose own activation is `own`: `None` if it has one, or
/// cannot apply `next` in such a pass. In training, the gradient of a fused activation is computed from its output.
pub(crate) fn fusible(own: Option<Activation>, next: Option<Activation>, pass: Pass) -> Option<Activation> {
    let in_pass = |activation: &Activation| pass == Pass::Inference || activation.has_grad_of_output();
    next.filter(in_pass).filter(|_| own.is_none())
}

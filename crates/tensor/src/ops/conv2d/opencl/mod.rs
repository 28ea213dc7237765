//! OpenCL kernels of convolutions and their gradients, and the choice between them: on processors the
//! Winograd or the batch-vectorized algorithm where they are faster, else an implicit GEMM.
//!
//! The choice depends on the shapes, the vector width and the local memory of the device alone.

mod batch_vectorized;
mod implicit_gemm;
mod weights;
mod winograd;

use super::shape::ConvShape;
use super::winograd::Pass;
use crate::opencl::{Buffer, Call};
use crate::ops::Activation;
use batch_vectorized::BatchVectorized;
use neocog_base::Result;
use winograd::Winograd;

/// The algorithm of the forward pass or of the input gradient.
enum ConvAlgorithm {
    BatchVectorized(BatchVectorized),
    Winograd(Winograd),
    ImplicitGemm,
}

impl ConvAlgorithm {
    fn of(call: &Call<'_>, conv: &ConvShape, pass: Pass) -> Self {
        let batch_vectorized = BatchVectorized::choose(call, conv, pass);
        if batch_vectorized.as_ref().is_none_or(|algorithm| !algorithm.is_better_than_winograd())
            && let Some(algorithm) = Winograd::choose(call, conv, pass)
        {
            return ConvAlgorithm::Winograd(algorithm);
        }
        batch_vectorized.map_or(ConvAlgorithm::ImplicitGemm, ConvAlgorithm::BatchVectorized)
    }
}

/// A weight transformed for the Winograd algorithm.
pub(super) struct Packed {
    filters: Buffer,
    /// The vector width that it was packed for; auto-tuning may change the device's.
    width: usize,
}

/// Packs the weight for [`forward`]. Returns `None` if the kernel for this shape reads the weight in its
/// original layout.
pub(super) fn pack(call: &Call<'_>, conv: &ConvShape, weight: &Buffer) -> Result<Option<Packed>> {
    match ConvAlgorithm::of(call, conv, Pass::Forward) {
        ConvAlgorithm::Winograd(algorithm) => {
            let filters = algorithm.pack(call, conv, weight)?;
            Ok(Some(Packed { filters, width: algorithm.width() }))
        }
        ConvAlgorithm::BatchVectorized(_) | ConvAlgorithm::ImplicitGemm => Ok(None),
    }
}

/// Computes `y = activation(x * weight + bias)`; `packed` is the result of [`pack`], if the weight was packed
/// before.
#[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
pub(super) fn forward(
    call: &Call<'_>,
    conv: &ConvShape,
    x: &Buffer,
    weight: &Buffer,
    packed: Option<&Packed>,
    bias: Option<&Buffer>,
    activation: Option<Activation>,
    y: &Buffer,
) -> Result<()> {
    let epilogue = (bias, activation);
    match ConvAlgorithm::of(call, conv, Pass::Forward) {
        ConvAlgorithm::BatchVectorized(algorithm) => algorithm.forward(call, conv, x, weight, epilogue, y),
        ConvAlgorithm::Winograd(algorithm) => {
            let made;
            let filters = match packed {
                Some(packed) if packed.width == algorithm.width() => &packed.filters,
                _ => {
                    made = algorithm.pack(call, conv, weight)?;
                    &made
                }
            };
            algorithm.forward(call, conv, x, filters, epilogue, y)
        }
        ConvAlgorithm::ImplicitGemm => implicit_gemm::forward(call, conv, x, weight, epilogue, y),
    }
}

/// Computes the gradient of the weight.
pub(super) fn weight_grad(
    call: &Call<'_>,
    conv: &ConvShape,
    x: &Buffer,
    dy: &Buffer,
    dw: &Buffer,
) -> Result<()> {
    if conv.n == 0 {
        return call.fill(dw, 0.0);
    }
    if let Some(algorithm) = Winograd::choose(call, conv, Pass::WeightGrad) {
        return algorithm.weight_grad(call, conv, x, dy, dw);
    }
    let (sums, parts) = match BatchVectorized::choose(call, conv, Pass::WeightGrad) {
        Some(algorithm) => algorithm.weight_grad_sums(call, conv, x, dy)?,
        None => implicit_gemm::weight_grad_sums(call, conv, x, dy)?,
    };
    weights::reduce_grad(call, conv, &sums, parts, dw)
}

/// Computes the gradient of the input.
pub(super) fn input_grad(
    call: &Call<'_>,
    conv: &ConvShape,
    dy: &Buffer,
    weight: &Buffer,
    dx: &Buffer,
) -> Result<()> {
    match ConvAlgorithm::of(call, conv, Pass::InputGrad) {
        ConvAlgorithm::BatchVectorized(algorithm) => algorithm.input_grad(call, conv, dy, weight, dx),
        ConvAlgorithm::Winograd(algorithm) => algorithm.input_grad(call, conv, dy, weight, dx),
        ConvAlgorithm::ImplicitGemm => implicit_gemm::input_grad(call, conv, dy, weight, dx),
    }
}

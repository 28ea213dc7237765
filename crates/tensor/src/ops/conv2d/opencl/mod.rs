//! OpenCL kernels of convolutions and their gradients.
//!
//! | algorithm | computes | chosen for |
//! |---|---|---|
//! | `batch_vectorized` | one group, no dilation, on processors | few channels, many images |
//! | `grouped` | groups of few channels, square kernels up to 7, strides up to 2, no dilation, on processors | those |
//! | `implicit_gemm` | everything | everything else |
//! | `winograd` | 3x3 and 5x5, stride 1, one group, no dilation, on processors | many channels |
//!
//! The choice depends on the shapes, the vector width and the local memory of the device alone.

mod backend;
mod batch_vectorized;
#[cfg(test)]
mod choice_tests;
mod cost;
mod grouped;
mod implicit_gemm;
mod weights;
mod winograd;

use std::sync::OnceLock;

use super::algorithm::{self, Algorithm, Operands, note_run};
use super::shape::{ConvShape, Pass};
use crate::opencl::{Buffer, Call};
use crate::ops::Activation;
use backend::{Limits, OpenCl};
use neocog_base::{Error, Result};

pub(super) use backend::Packed;

/// All algorithms. Of several with the same cost the first is chosen.
static ALGORITHMS: &[Algorithm<OpenCl>] = &[
    &batch_vectorized::BatchVectorized,
    &grouped::Grouped,
    &implicit_gemm::ImplicitGemm,
    &winograd::Winograd,
];

/// Returns the names of all algorithms.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALGORITHMS.iter().map(|algorithm| algorithm.name())
}

/// Returns the names of the algorithms that can compute a pass, the chosen one first.
pub(super) fn applicable(call: &Call<'_>, conv: &ConvShape, pass: Pass) -> Vec<&'static str> {
    algorithm::applicable(ALGORITHMS, conv, pass, &Limits::of(call))
}

/// Chooses the algorithm of the forward pass, and packs the weight for it.
pub(super) fn pack(call: &Call<'_>, conv: &ConvShape, weight: &Buffer) -> Result<Packed> {
    let limits = Limits::of(call);
    let algorithm = algorithm::choose(ALGORITHMS, conv, Pass::Forward, &limits);
    let weight = algorithm.pack(&labeled(call, algorithm, Pass::Forward), conv, weight)?;
    Ok(Packed { algorithm, weight, limits })
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
    check_sizes(conv)?;
    let made;
    let packed = match packed {
        Some(packed) if packed.limits == Limits::of(call) => packed,
        _ => {
            made = pack(call, conv, weight)?;
            &made
        }
    };
    note_run(packed.algorithm.name());
    let call = &labeled(call, packed.algorithm, Pass::Forward);
    let (original, weight) = (weight, packed.weight.as_ref().unwrap_or(weight));
    packed.algorithm.run(call, conv, Operands::Forward { x, weight, original, bias, activation, y })
}

/// Computes the gradient of the weight.
pub(super) fn weight_grad(
    call: &Call<'_>,
    conv: &ConvShape,
    x: &Buffer,
    dy: &Buffer,
    dw: &Buffer,
) -> Result<()> {
    if x.is_empty() || dy.is_empty() {
        return call.fill(dw, 0.0);
    }
    run(call, conv, Pass::WeightGrad, Operands::WeightGrad { x, dy, dw })
}

/// Computes the gradient of the input.
pub(super) fn input_grad(
    call: &Call<'_>,
    conv: &ConvShape,
    dy: &Buffer,
    weight: &Buffer,
    dx: &Buffer,
) -> Result<()> {
    run(call, conv, Pass::InputGrad, Operands::InputGrad { dy, weight, dx })
}

fn run(call: &Call<'_>, conv: &ConvShape, pass: Pass, operands: Operands<'_, OpenCl>) -> Result<()> {
    check_sizes(conv)?;
    let algorithm = algorithm::choose(ALGORITHMS, conv, pass, &Limits::of(call));
    note_run(algorithm.name());
    algorithm.run(&labeled(call, algorithm, pass), conv, operands)
}

/// Returns the call with a name of the operation for profiles that includes the algorithm: `conv2d [winograd]`.
fn labeled<'a>(call: &Call<'a>, algorithm: Algorithm<OpenCl>, pass: Pass) -> Call<'a> {
    static LABELS: OnceLock<Vec<(&'static str, Pass, &'static str)>> = OnceLock::new();
    let labels = LABELS.get_or_init(|| {
        let ops = [
            (Pass::Forward, "conv2d"),
            (Pass::InputGrad, "conv2d_input_grad"),
            (Pass::WeightGrad, "conv2d_weight_grad"),
        ];
        let label = |name: &str, op: &str| &*format!("{op} [{name}]").leak();
        names().flat_map(|name| ops.map(|(pass, op)| (name, pass, label(name, op)))).collect()
    });
    let found = labels.iter().find(|(name, of, _)| *name == algorithm.name() && *of == pass);
    match found {
        Some((.., label)) => call.part(label, call.inputs(), call.outputs()),
        None => *call,
    }
}

/// Checks that kernels can compute with these sizes: their integers have 32 bits.
fn check_sizes(conv: &ConvShape) -> Result<()> {
    let fits = |factors: &[usize]| {
        let product = factors.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
        product.is_some_and(|product| i32::try_from(product).is_ok())
    };
    let channels = conv.groups * conv.in_per_group.max(conv.out_per_group);
    let padded = [(conv.h, conv.padding[0]), (conv.w, conv.padding[1])].map(|(size, pad)| size + 2 * pad);
    // The farthest position of a tap, whether or not there is a pixel.
    let reach = |outputs: usize, stride: usize, taps: usize, dilation: usize| {
        let steps = (outputs as u128) * (stride as u128) + (taps as u128) * (dilation as u128);
        usize::try_from(steps).unwrap_or(usize::MAX)
    };
    let reaches = [
        reach(conv.oh, conv.stride[0], conv.kh, conv.dilation[0]),
        reach(conv.ow, conv.stride[1], conv.kw, conv.dilation[1]),
    ];
    if padded.iter().chain(&reaches).all(|&size| fits(&[size]))
        && fits(&[conv.n, channels, conv.oh, conv.ow])
        && fits(&[conv.n, channels, conv.h, conv.w])
        && fits(&[conv.groups, conv.out_per_group, conv.filter_len()])
    {
        return Ok(());
    }
    let ConvShape { n, h, w, oh, ow, .. } = *conv;
    Err(Error::shape(format!(
        "sizes are too large for an OpenCL device, which computes positions with 31 bits: batch size {n}, {channels} \
         channels of {h} x {w} pixels, {} x {} with padding, output {oh} x {ow}, strides and dilations that reach {} x {}",
        padded[0], padded[1], reaches[0], reaches[1]
    )))
}

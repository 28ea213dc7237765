//! The operations. Each has its kernels, its gradient rule and its cases in one place.

mod activation;
mod arithmetic;
mod avg_pool2d;
mod batch_norm;
mod bias_activation_grad;
mod broadcast;
mod channel_sum;
mod concat;
mod conv2d;
mod cross_entropy;
mod dropout;
mod elementwise;
mod global_avg_pool2d;
mod linear;
mod matmul;
mod max_pool2d;
mod optimizer;
mod pointwise;
mod reduce;
mod reshape;
mod softmax;
mod window;

pub use activation::Activation;
pub use arithmetic::{Accumulate, Add, Mul, Scale, Sub};
pub use avg_pool2d::{AvgPool2d, AvgPool2dGrad};
pub use batch_norm::{
    BatchNormEval, BatchNormEvalGrad, BatchNormTrain, BatchNormTrainGrad, UpdateRunningStats,
};
pub use bias_activation_grad::BiasActivationGrad;
pub use channel_sum::ChannelSum;
pub use concat::{Concat, Narrow, NarrowGrad};
pub(crate) use conv2d::PackedConv2d;
pub use conv2d::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad};
pub use cross_entropy::{CountCorrect, CrossEntropy, CrossEntropyGrad, Reduction};
pub use dropout::Dropout;
pub use elementwise::{AddRelu, Relu, ReluGrad, Sigmoid, SigmoidGrad, Tanh, TanhGrad};
pub use global_avg_pool2d::{GlobalAvgPool2d, GlobalAvgPool2dGrad};
pub use linear::Linear;
pub use matmul::MatMul;
pub use max_pool2d::{MaxPool2d, MaxPool2dGrad};
pub use optimizer::{AdamStep, AdamWStep, OptimizerSteps, RmsPropStep, SgdStep};
pub use reduce::{Expand, Mean, Sum, SumTo};
pub use reshape::{Flatten, Reshape};
pub use softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};

use crate::core::shape::Shape;
use neocog_base::{Error, Result};

/// The axis that `dim` means in `shape`, where negative numbers count from the last, as in PyTorch.
fn axis_of(dim: isize, shape: &Shape) -> Result<usize> {
    let rank = shape.rank() as isize;
    if (-rank..rank).contains(&dim) {
        Ok(dim.rem_euclid(rank) as usize)
    } else {
        Err(Error::invalid_argument(format!("there is no axis {dim} in the shape {shape}")))
    }
}

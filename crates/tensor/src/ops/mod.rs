//! The operations. The module of each contains its kernels, its gradient and its cases.

mod arithmetic;
mod avg_pool2d;
mod batch_norm;
mod bias_activation_grad;
mod broadcast;
mod channel_blocks;
mod channel_sum;
mod concat;
mod conv2d;
mod cross_entropy;
mod dropout;
mod elementwise;
mod gather;
mod global_avg_pool2d;
mod index_select;
mod linear;
mod matmul;
mod max_pool2d;
mod optimizer;
mod permute;
mod pooling;
pub(crate) mod product;
mod reduce;
mod resample;
mod reshape;
mod row_reduce;
mod softmax;
mod stochastic_depth;
mod tensor_math;

pub use arithmetic::{
    Add, Div, Eq, Ge, Gt, Maximum, MaximumShare, Minimum, Mul, PRelu, PReluSlope, PowTensor, Sub,
};
pub use avg_pool2d::{AvgPool2d, AvgPool2dGrad};
pub use batch_norm::{
    BatchNormEval, BatchNormEvalGrad, BatchNormTrain, BatchNormTrainGrad, UpdateRunningStats,
};
pub use bias_activation_grad::BiasActivationGrad;
pub use channel_blocks::{FromChannelBlocks, InChannelBlocks, ToChannelBlocks};
pub use channel_sum::ChannelSum;
pub use concat::{Concat, Narrow, NarrowGrad};
pub use conv2d::{
    Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad, RequestedAlgorithm, conv_algorithms,
    requested_algorithm,
};
pub use cross_entropy::{CountCorrect, CrossEntropy, CrossEntropyGrad, Reduction};
pub use dropout::Dropout;
pub use elementwise::*;
pub use gather::{Gather, GatherGrad};
pub use global_avg_pool2d::{GlobalAvgPool2d, GlobalAvgPool2dGrad};
pub use index_select::IndexSelect;
pub use linear::Linear;
pub use matmul::{BatchMatMul, MatMul};
pub use max_pool2d::{MaxPool2d, MaxPool2dGrad};
pub use optimizer::{AdamStep, AdamWStep, Lerp, LionStep, OptimizerSteps, RmsPropStep, SgdStep};
pub use permute::Permute;
pub use reduce::{Expand, Mean, Sum, SumTo};
pub use resample::{AxisMap, Resample};
pub use reshape::{Flatten, Reshape};
pub use row_reduce::{RowReduce, RowReduction};
pub use softmax::{LogSoftmax, LogSoftmaxGrad, Softmax, SoftmaxGrad};
pub use stochastic_depth::StochasticDepth;

pub use crate::cpu::Activation;

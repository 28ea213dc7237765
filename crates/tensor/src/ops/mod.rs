//! The operations. Each has its kernels, its gradient rule and its cases in one place.

mod activation;
mod arithmetic;
mod broadcast;
mod channel_sum;
mod conv2d;
mod elementwise;
mod linear;
mod matmul;
mod pointwise;
mod reduce;

pub use activation::Activation;
pub use arithmetic::{Accumulate, Add, Mul, Scale, Sub};
pub use channel_sum::ChannelSum;
pub use conv2d::{Conv2d, Conv2dGeometry, Conv2dInputGrad, Conv2dWeightGrad};
pub use elementwise::{AddRelu, Relu, ReluGrad, Sigmoid, SigmoidGrad, Tanh, TanhGrad};
pub use linear::Linear;
pub use matmul::MatMul;
pub use reduce::{Expand, Mean, Sum, SumTo};

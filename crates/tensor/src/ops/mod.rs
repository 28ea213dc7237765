//! The operations. Each has its kernels, its gradient rule and its cases in one place.

mod activation;
mod arithmetic;
mod broadcast;
mod elementwise;
mod pointwise;
mod reduce;

pub use activation::Activation;
pub use arithmetic::{Accumulate, Add, Mul, Scale, Sub};
pub use elementwise::{AddRelu, Relu, ReluGrad, Sigmoid, SigmoidGrad, Tanh, TanhGrad};
pub use reduce::{Expand, Mean, Sum, SumTo};

//! The operations. Each has its kernels, its gradient rule and its cases in one place.

mod activation;
mod elementwise;

pub use activation::Activation;
pub use elementwise::{Relu, ReluGrad, Sigmoid, SigmoidGrad, Tanh, TanhGrad};

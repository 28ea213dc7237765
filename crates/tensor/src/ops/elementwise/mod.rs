//! Elementwise operations.
//!
//! Each is defined by one expression on [`Real`](crate::cpu::simd::Real) numbers: evaluated with `f64` it is the reference,
//! with SIMD vectors the CPU kernel, and with symbols it generates the OpenCL kernel.

mod accumulate;
mod activation;
mod add_relu;
mod cases;
mod expression;
pub(super) mod map;
mod math;
mod op;
mod opencl;
mod parametric;
mod scale;

pub use accumulate::Accumulate;
pub use activation::*;
pub use add_relu::AddRelu;
pub(super) use expression::{Expression, apply, expression};
pub(super) use map::ElementwiseMap;
pub use math::{Abs, Clamp, ClampGrad, Exp, Log, Pow, PowGrad, Sign, Sqrt, Where};
pub(super) use opencl::apply as apply_opencl;
pub use parametric::{Elu, EluGrad, LeakyRelu, LeakyReluGrad};
pub use scale::Scale;

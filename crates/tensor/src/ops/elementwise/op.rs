//! Operations that are defined by an expression.

use smallvec::smallvec;

use crate::core::op::{Gradient, InputGrads, SavedTensors};
use crate::core::shape::{Shape, Shapes};
use crate::cpu::Activation;
use neocog_base::{Error, Result};

/// Implements [`Op`] by an expression.
macro_rules! elementwise {
    ($op:ident $name:literal ($c:ident; $($x:ident),+) = $value:expr) => {
        expression!($op ($c; $($x),+) = $value);

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                same_shape(expect_inputs::<{ [$(stringify!($x)),+].len() }>(self, inputs)?)
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                for i in 0..outputs[0].data.len() {
                    outputs[0].data[i] = Self::eval(std::array::from_fn(|k| inputs[k].data[i]));
                }
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                crate::core::check::check_views(self, inputs, outputs);
                apply::<Self, { [$(stringify!($x)),+].len() }>(std::array::from_fn(|k| inputs[k].data), outputs[0].data);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                crate::core::check::check_call(self, call)?;
                const N: usize = [$(stringify!($x)),+].len();
                apply_opencl::<N, 0, 1>(call, concat!($name, "_elements"), |args, []| [Self::eval(args)])
            }
            fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<std::sync::Arc<dyn $crate::Op>> {
                ($crate::batch::broadcasting_keeps_images(inputs, batched)).then(|| std::sync::Arc::new(*self) as std::sync::Arc<dyn $crate::Op>)
            }
            fn saves(&self) -> SavedTensors {
                <Self as ElementwiseGrad>::saves()
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                ElementwiseGrad::grad(self, node)
            }
            fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<$crate::BlockForm> {
                $crate::BlockForm::elementwise(std::sync::Arc::new(*self), inputs)
            }
            fn times_input(&self) -> Option<std::sync::Arc<dyn Op>> {
                match <Self as ElementwiseGrad>::activation()? {
                    Activation::Sigmoid => Some(Activation::Silu.op()),
                    Activation::Hardsigmoid => Some(Activation::Hardswish.op()),
                    _ => None,
                }
            }
            fn activation(&self) -> Option<Activation> {
                <Self as ElementwiseGrad>::activation()
            }
        }
    };
}
pub(super) use elementwise;

/// Gradient of an elementwise operation.
pub(super) trait ElementwiseGrad {
    fn saves() -> SavedTensors;
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads>;
    fn activation() -> Option<Activation> {
        None
    }
}

pub(super) fn same_shape<const N: usize>(inputs: [Shape; N]) -> Result<Shapes> {
    match inputs.iter().position(|s| *s != inputs[0]) {
        None => Ok(smallvec![inputs[0]]),
        Some(i) => Err(Error::shape(format!("input 0 is {}, but input {i} is {}", inputs[0], inputs[i]))),
    }
}

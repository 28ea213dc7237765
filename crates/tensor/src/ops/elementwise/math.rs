//! Mathematical functions, and the choice between two tensors.

use smallvec::smallvec;

use super::expression::{Expression, apply, expression};
use super::map::{self, ElementwiseMap};
use super::op::{ElementwiseGrad, elementwise, same_shape};
use super::opencl::apply as apply_opencl;
use super::scale::Scale;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::Activation;
use crate::cpu::simd::Real;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::ops::arithmetic::{Div, Mul};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// `e^x`.
#[derive(Clone, Copy, Debug)]
pub struct Exp;

/// The natural logarithm.
#[derive(Clone, Copy, Debug)]
pub struct Log;

/// The square root.
#[derive(Clone, Copy, Debug)]
pub struct Sqrt;

/// The absolute value; its gradient at 0 is 0.
#[derive(Clone, Copy, Debug)]
pub struct Abs;

/// The sign: -1, 0 or 1. Its gradient is 0.
#[derive(Clone, Copy, Debug)]
pub struct Sign;

/// `x` where `condition` is not 0, else `y`. Inputs: `condition`, `x` and `y`, of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Where;

/// `x^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pow {
    /// The exponent.
    pub exponent: f64,
}

/// Gradient of [`Pow`]. Inputs: its input, and the gradient of its output, of the same shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PowGrad {
    /// The exponent.
    pub exponent: f64,
}

/// `min(max(x, min), max)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Smallest result.
    pub min: f64,
    /// Largest result.
    pub max: f64,
}

/// Gradient of [`Clamp`]: that of the output where the input is within the limits, else 0. Inputs: its input, and the gradient of
/// its output, of the same shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClampGrad {
    /// Smallest result.
    pub min: f64,
    /// Largest result.
    pub max: f64,
}

elementwise!(Exp "exp" (c; x) = Real::exp(x));
elementwise!(Log "log" (c; x) = Real::ln(x));
elementwise!(Sqrt "sqrt" (c; x) = Real::sqrt(x));
elementwise!(Abs "abs" (c; x) = Real::max(x, -x));
elementwise!(Sign "sign" (c; x) = R::select_gt(x, c(0.0), c(1.0), R::select_gt(c(0.0), x, c(-1.0), x)));
elementwise!(Where "where" (c; condition, x, y) = {
    R::select_gt(condition, c(0.0), x, R::select_gt(c(0.0), condition, x, y))
});

impl ElementwiseGrad for Exp {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.outputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(&Mul, &[node.output_grad(), node.output(0)]))?])
    }
}

impl ElementwiseGrad for Log {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.inputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(&Div, &[node.output_grad(), node.input(0)]))?])
    }
}

impl ElementwiseGrad for Sqrt {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.outputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || {
            let half = run_single(&Scale { factor: 0.5 }, &[node.output_grad()])?;
            run_single(&Div, &[&half, node.output(0)])
        })?])
    }
}

impl ElementwiseGrad for Abs {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.inputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || {
            run_single(&Mul, &[node.output_grad(), &run_single(&Sign, &[node.input(0)])?])
        })?])
    }
}

impl ElementwiseGrad for Sign {
    fn saves() -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let dy = node.output_grad();
        Ok(smallvec![node.if_needed(0, || Tensor::zeros(*dy.shape(), &dy.device()))?])
    }
}

impl ElementwiseGrad for Where {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.inputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let (condition, dy) = (node.input(0), node.output_grad());
        let zeros = Tensor::zeros(*dy.shape(), &dy.device())?;
        Ok(smallvec![
            node.if_needed(0, || Ok(zeros.clone()))?,
            node.if_needed(1, || run_single(&Where, &[condition, dy, &zeros]))?,
            node.if_needed(2, || run_single(&Where, &[condition, &zeros, dy]))?,
        ])
    }
}

impl Clamp {
    fn check(&self) -> Result<()> {
        if self.min <= self.max {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "clamp needs a minimum that is at most the maximum, found {} and {}",
            self.min, self.max
        )))
    }
}

impl ElementwiseMap<1, 1> for Pow {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], _old: [R; 1]) -> [R; 1] {
        [R::pow(x, R::constant(self.exponent))]
    }
}

impl ElementwiseMap<2, 1> for PowGrad {
    #[inline(always)]
    fn eval<R: Real>(&self, [x, dy]: [R; 2], _old: [R; 1]) -> [R; 1] {
        if self.exponent == 0.0 {
            return [R::constant(0.0) * dy];
        }
        [dy * (R::constant(self.exponent) * R::pow(x, R::constant(self.exponent - 1.0)))]
    }
}

impl ElementwiseMap<1, 1> for Clamp {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], _old: [R; 1]) -> [R; 1] {
        [-R::max(R::constant(-self.max), -R::max(R::constant(self.min), x))]
    }
}

impl ElementwiseMap<2, 1> for ClampGrad {
    #[inline(always)]
    fn eval<R: Real>(&self, [x, dy]: [R; 2], _old: [R; 1]) -> [R; 1] {
        let zero = R::constant(0.0);
        let below_max = R::select_gt(x, R::constant(self.max), zero, dy);
        [R::select_gt(R::constant(self.min), x, zero, below_max)]
    }
}

/// Implements [`Op`] by an [`ElementwiseMap`].
macro_rules! with_parameters {
    ($op:ident $inputs:literal $name:literal, check $check:expr, saves $saves:expr, grad $grad:expr) => {
        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let check: fn(&$op) -> Result<()> = $check;
                check(self)?;
                same_shape(expect_inputs::<$inputs>(self, inputs)?)
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                map::reference::<Self, $inputs, 1>(self, inputs, outputs);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                check_views(self, inputs, outputs);
                map::cpu::<Self, $inputs, 1>(*self, inputs, outputs);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                check_call(self, call)?;
                // The output is not state: its old value is not read.
                apply_opencl::<$inputs, 0, 1>(call, concat!($name, "_elements"), |x, []| self.eval(x, [x[0]]))
            }
            fn in_channel_blocks(&self, inputs: &[Shape]) -> Option<$crate::BlockForm> {
                $crate::BlockForm::elementwise(std::sync::Arc::new(*self), inputs)
            }
            fn split_batch(
                &self,
                inputs: &[Shape],
                batched: &[bool],
                _images: usize,
            ) -> Option<std::sync::Arc<dyn $crate::Op>> {
                ($crate::batch::broadcasting_keeps_images(inputs, batched))
                    .then(|| std::sync::Arc::new(*self) as std::sync::Arc<dyn $crate::Op>)
            }
            fn saves(&self) -> SavedTensors {
                $saves
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                let grad: fn(&$op, &Gradient<'_>) -> Result<InputGrads> = $grad;
                grad(self, node)
            }
        }
    };
}

with_parameters!(Pow 1 "pow", check |_| Ok(()), saves SavedTensors::NONE.inputs(&[0]), grad |op, node| {
    let grad = PowGrad { exponent: op.exponent };
    Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.input(0), node.output_grad()]))?])
});
with_parameters!(PowGrad 2 "pow_grad", check |_| Ok(()), saves SavedTensors::NONE, grad |op, _| no_gradient(op));
with_parameters!(Clamp 1 "clamp", check Clamp::check, saves SavedTensors::NONE.inputs(&[0]), grad |op, node| {
    let grad = ClampGrad { min: op.min, max: op.max };
    Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.input(0), node.output_grad()]))?])
});
with_parameters!(ClampGrad 2 "clamp_grad", check |_| Ok(()), saves SavedTensors::NONE, grad |op, _| no_gradient(op));

/// Cases of a function of numbers between `low` and `high`.
fn cases<T: Op + Copy>(op: T, low: f32, high: f32) -> Vec<Case> {
    let case = |name: &str, shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        Case::new(name, op, [CaseInput::between(shape, low, high)])
    };
    vec![
        case("a scalar", &[]),
        case("empty", &[0, 3]),
        case("a matrix", &[7, 11]),
        case("images", &[2, 3, 5, 4]),
        case("many", &[70, 33, 31]).timed(),
    ]
}

/// The case of a gradient.
fn grad_case<T: Op + Copy>(op: T, low: f32, high: f32) -> Vec<Case> {
    let inputs = [CaseInput::between([7, 11], low, high), CaseInput::uniform([7, 11])];
    vec![Case::new("a matrix", op, inputs).without_gradient()]
}

register_op!("exp", || cases(Exp, -5.0, 5.0));
register_op!("log", || cases(Log, 0.1, 10.0));
register_op!("sqrt", || cases(Sqrt, 0.1, 10.0));
register_op!("abs", || {
    let distinct = Case::new("distinct", Abs, [CaseInput::distinct([7, 11])]);
    cases(Abs, -3.0, 3.0).into_iter().map(Case::without_gradient).chain([distinct]).collect()
});
register_op!("sign", || cases(Sign, -3.0, 3.0).into_iter().map(Case::without_gradient).collect());
register_op!("pow", || {
    let exponents = [2.0, 3.0, 0.5, -1.5, 1.0, 0.0];
    let of = |exponent| {
        let input = CaseInput::between([5, 9], 0.5, 3.0);
        Case::new(format!("exponent {exponent:?}"), Pow { exponent }, [input])
    };
    let negative = Case::new("negative numbers", Pow { exponent: 2.0 }, [CaseInput::uniform([7, 11])]);
    cases(Pow { exponent: 1.7 }, 0.1, 4.0).into_iter().chain(exponents.map(of)).chain([negative]).collect()
});
register_op!("pow_grad", || grad_case(PowGrad { exponent: 1.7 }, 0.1, 4.0));
register_op!("clamp", || {
    let clamp = Clamp { min: -0.5, max: 0.25 };
    let distinct = Case::new("distinct", clamp, [CaseInput::distinct([7, 11])]);
    let open = Clamp { min: f64::NEG_INFINITY, max: 0.25 };
    let open = Case::new("without a minimum", open, [CaseInput::distinct([7, 11])]);
    cases(clamp, -3.0, 3.0).into_iter().map(Case::without_gradient).chain([distinct, open]).collect()
});
register_op!("clamp_grad", || grad_case(ClampGrad { min: -0.5, max: 0.25 }, -3.0, 3.0));
register_op!("where", || {
    let case = |name: &str, shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        let values = CaseInput::uniform(shape);
        Case::new(name, Where, [CaseInput::index(shape, 2), values.clone(), values])
    };
    let shape = Shape::from([3, 9]);
    let condition = CaseInput::uniform(shape).constant();
    let other = [condition, CaseInput::uniform(shape), CaseInput::uniform(shape)];
    vec![
        case("a scalar", &[]),
        case("empty", &[0, 3]),
        case("a matrix", &[7, 11]),
        Case::new("any number but 0", Where, other),
        case("many", &[70, 33, 31]).timed(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::device::Device;

    #[test]
    fn special_numbers_are_as_in_pytorch() {
        let numbers = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
        let x = Tensor::from_f32([4], &numbers, &Device::Cpu).unwrap();
        let of = |op: &dyn Op| run_single(op, &[&x]).unwrap().to_f32().unwrap();
        assert!(of(&Exp)[0].is_nan() && of(&Abs)[0].is_nan() && of(&Sign)[0].is_nan());
        assert_eq!(of(&Exp)[1..], [f32::INFINITY, 0.0, 1.0]);
        assert_eq!(of(&Abs)[1..], [f32::INFINITY, f32::INFINITY, 0.0]);
        assert_eq!(of(&Sign)[1..], [1.0, -1.0, 0.0]);
        assert!(of(&Log)[2].is_nan() && of(&Sqrt)[2].is_nan());
        assert_eq!((of(&Log)[3], of(&Sqrt)[3]), (f32::NEG_INFINITY, 0.0));
        let clamp = of(&Clamp { min: -1.0, max: 2.0 });
        assert!(clamp[0].is_nan() && clamp[1..] == [2.0, -1.0, 0.0], "{clamp:?}");
        // What is not chosen does not matter.
        let chosen = run_single(
            &Where,
            &[&of_values(&[1.0, 0.0]), &of_values(&[3.0, f32::NAN]), &of_values(&[f32::NAN, 4.0])],
        );
        assert_eq!(chosen.unwrap().to_f32().unwrap(), [3.0, 4.0]);
        let e = Clamp { min: 1.0, max: 0.0 }.infer(&[Shape::from([2])]).unwrap_err().to_string();
        assert!(e.contains("found 1 and 0"), "{e}");
    }

    fn of_values(values: &[f32]) -> Tensor {
        Tensor::from_f32([values.len()], values, &Device::Cpu).unwrap()
    }
}

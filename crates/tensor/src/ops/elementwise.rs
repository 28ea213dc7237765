//! Elementwise operations, one line each in a table.
//!
//! An expression is written once, in terms of [`Real`]: compiled for a double it is the reference, for vectors of
//! floats the CPU's kernel, and called with symbols it writes the kernel of OpenCL devices. In it, `c(1.0)` is a constant.

use smallvec::smallvec;

use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// A function of `N` numbers, applied element by element.
pub(crate) trait Expression<const N: usize> {
    /// Its value.
    fn eval<R: Real>(args: [R; N]) -> R;
}

/// The largest tensor of LeNet in training.
const LENET: [usize; 4] = [256, 6, 24, 24];

/// The table: an activation, its expression, and its gradient as an expression of the output `y` and `dy`.
macro_rules! activations {
    ($(
        $(#[$doc:meta])* $op:ident $name:literal ($c:ident; $x:ident) = $value:expr;
        $grad:ident $grad_name:literal ($gc:ident; $y:ident, $dy:ident) = $grad_value:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $op;

        #[doc = concat!("The gradient of [`", stringify!($op), "`]: inputs `y`, its output, and `dy`, of the same shape.")]
        #[derive(Clone, Copy, Debug)]
        pub struct $grad;

        elementwise!($op $name ($c; $x) = $value);
        elementwise!($grad $grad_name ($gc; $y, $dy) = $grad_value);

        impl ElementwiseGrad for $op {
            fn saves() -> SavedTensors {
                SavedTensors::NONE.outputs(&[0])
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                Ok(smallvec![node.if_needed(0, || run_single(&$grad, &[node.output(0), node.output_grad()]))?])
            }
        }

        impl ElementwiseGrad for $grad {
            fn saves() -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
        }

        register_op!($name, || {
            let small = [vec![], vec![1], vec![3, 7], vec![2, 3, 5, 4], vec![CHUNK * 2 + 5]].into_iter().map(|shape| {
                let shape = Shape::new(&shape).expect("a small shape");
                let case = Case::new(shape.to_string(), $op, [CaseInput::distinct(shape)]);
                if shape.elements() > 1000 { case.without_gradient() } else { case }
            });
            let lenet = Case::new("lenet", $op, [CaseInput::between(LENET, -3.0, 3.0)]).timed();
            small.chain([lenet]).collect()
        });
        register_op!($grad_name, || {
            let shape = Shape::from([3, 19]);
            let inputs = |shape| [CaseInput::between(shape, 0.0, 1.0), CaseInput::uniform(shape)];
            vec![
                Case::new("as of an output", $grad, inputs(shape)).without_gradient(),
                Case::new("lenet", $grad, inputs(Shape::from(LENET))).timed(),
            ]
        });
    )*};
}

/// Makes a function of numbers of an expression.
macro_rules! expression {
    ($op:ident ($c:ident; $($x:ident),+) = $value:expr) => {
        impl Expression<{ [$(stringify!($x)),+].len() }> for $op {
            #[inline(always)]
            fn eval<R: Real>([$($x),+]: [R; [$(stringify!($x)),+].len()]) -> R {
                #[allow(unused_variables, reason = "not every expression has a constant")]
                let $c = R::constant;
                $value
            }
        }
    };
}
pub(super) use expression;

/// Makes an operation of an expression.
macro_rules! elementwise {
    ($op:ident $name:literal ($c:ident; $($x:ident),+) = $value:expr) => {
        expression!($op ($c; $($x),+) = $value);

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                same_shapes(expect_inputs::<{ [$(stringify!($x)),+].len() }>(self, inputs)?)
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                for i in 0..outputs[0].data.len() {
                    outputs[0].data[i] = Self::eval(std::array::from_fn(|k| inputs[k].data[i]));
                }
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                apply::<Self, { [$(stringify!($x)),+].len() }>(std::array::from_fn(|k| inputs[k].data), outputs[0].data);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                const N: usize = [$(stringify!($x)),+].len();
                formula::apply::<N, 0, 1>(call, concat!($name, "_elements"), |args, []| [Self::eval(args)])
            }
            fn saves(&self) -> SavedTensors {
                <Self as ElementwiseGrad>::saves()
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                ElementwiseGrad::grad(self, node)
            }
        }
    };
}

/// The gradient rule of an elementwise operation.
trait ElementwiseGrad {
    fn saves() -> SavedTensors;
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads>;
}

activations! {
    /// `y = max(x, 0)`; the gradient at 0 is 0.
    Relu "relu" (c; x) = max(c(0.0), x);
    ReluGrad "relu_grad" (c; y, dy) = select_gt(y, c(0.0), dy, c(0.0));

    /// `y = 1 / (1 + e^-x)`.
    Sigmoid "sigmoid" (c; x) = c(1.0) / (c(1.0) + exp(-x));
    SigmoidGrad "sigmoid_grad" (c; y, dy) = dy * y * (c(1.0) - y);

    /// `y = tanh(x)`.
    Tanh "tanh" (c; x) = tanh(x);
    TanhGrad "tanh_grad" (c; y, dy) = dy * (c(1.0) - y * y);
}

/// `y = max(a + b, 0)` for `a` and `b` of the same shape: the end of a residual block in one pass.
#[derive(Clone, Copy, Debug)]
pub struct AddRelu;

elementwise!(AddRelu "add_relu" (c; a, b) = max(c(0.0), a + b));

impl ElementwiseGrad for AddRelu {
    fn saves() -> SavedTensors {
        SavedTensors::NONE.outputs(&[0])
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let sum = run_single(&ReluGrad, &[node.output(0), node.output_grad()])?;
        Ok(node.needs.iter().map(|&needed| needed.then(|| sum.clone())).collect())
    }
}

register_op!("add_relu", || {
    [vec![], vec![1], vec![0, 3], vec![2, 3, 5, 4], vec![CHUNK * 2 + 5]]
        .into_iter()
        .map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            let case = Case::new(
                shape.to_string(),
                AddRelu,
                [CaseInput::distinct(shape), CaseInput::distinct(shape)],
            );
            if shape.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect()
});

// Inlined into the kernels, always: on its own a function has not the instruction set.

#[inline(always)]
fn max<R: Real>(a: R, b: R) -> R {
    a.max(b)
}

#[inline(always)]
fn exp<R: Real>(x: R) -> R {
    x.exp()
}

#[inline(always)]
fn tanh<R: Real>(x: R) -> R {
    x.tanh()
}

#[inline(always)]
fn select_gt<R: Real>(a: R, b: R, x: R, y: R) -> R {
    R::select_gt(a, b, x, y)
}

fn same_shapes<const N: usize>(inputs: [Shape; N]) -> Result<Shapes> {
    match inputs.iter().position(|s| *s != inputs[0]) {
        None => Ok(smallvec![inputs[0]]),
        Some(i) => Err(Error::shape(format!("input 0 is {}, but input {i} is {}", inputs[0], inputs[i]))),
    }
}

/// `out[i] = E(inputs[0][i], …)`, on all threads.
pub(crate) fn apply<E: Expression<N>, const N: usize>(inputs: [&[f32]; N], out: &mut [f32]) {
    for_each_chunk(out, CHUNK, |start, out| {
        let inputs = inputs.map(|x| &x[start..start + out.len()]);
        dispatch(Apply::<E, N> { inputs, out, expression: std::marker::PhantomData });
    });
}

struct Apply<'a, E, const N: usize> {
    inputs: [&'a [f32]; N],
    out: &'a mut [f32],
    expression: std::marker::PhantomData<E>,
}

impl<E: Expression<N>, const N: usize> Kernel for Apply<'_, E, N> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Apply { inputs, out, .. } = self;
        // Loops instead of `map`: closures that the library does not inline would leave the instruction set.
        let mut args = [S::splat(0.0); N];
        let whole = out.len() / S::LANES * S::LANES;
        let mut i = 0;
        while i < whole {
            for (arg, x) in args.iter_mut().zip(&inputs) {
                *arg = S::from_slice(&x[i..]);
            }
            E::eval(args).to_slice(&mut out[i..]);
            i += S::LANES;
        }
        for (arg, x) in args.iter_mut().zip(&inputs) {
            *arg = S::from_short_slice(&x[whole..]);
        }
        E::eval(args).to_short_slice(&mut out[whole..]);
    }
}

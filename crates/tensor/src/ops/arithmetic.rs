//! Sums, differences and products of two tensors, with broadcasting; multiples; gradients added up.

use smallvec::smallvec;

use super::broadcast::{self, Strided, broadcast_shape};
use super::elementwise::{Expression, apply, expression};
use super::pointwise::{self, Pointwise};
use super::reduce::SumTo;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::{self, Symbol};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// `a + b`; shapes broadcast as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Add;

/// `a - b`; shapes broadcast as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Sub;

/// `a * b`, element by element; shapes broadcast as in NumPy.
#[derive(Clone, Copy, Debug)]
pub struct Mul;

/// The gradients of a binary operation, each still in the shape of the result.
trait BinaryGrad {
    const KEEPS: SavedTensors;
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor>;
}

impl BinaryGrad for Add {
    const KEEPS: SavedTensors = SavedTensors::NONE;
    fn grads(node: &Gradient<'_>, _position: usize) -> Result<Tensor> {
        Ok(node.output_grad().clone())
    }
}

impl BinaryGrad for Sub {
    const KEEPS: SavedTensors = SavedTensors::NONE;
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        if position == 0 {
            Ok(node.output_grad().clone())
        } else {
            run_single(&Scale { factor: -1.0 }, &[node.output_grad()])
        }
    }
}

impl BinaryGrad for Mul {
    const KEEPS: SavedTensors = SavedTensors::NONE.inputs(&[0, 1]);
    fn grads(node: &Gradient<'_>, position: usize) -> Result<Tensor> {
        run_single(&Mul, &[node.output_grad(), node.input(1 - position)])
    }
}

/// Makes an operation on two tensors of an expression.
macro_rules! binary {
    ($op:ident $name:literal ($c:ident; $a:ident, $b:ident) = $value:expr) => {
        expression!($op ($c; $a, $b) = $value);

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let inputs = expect_inputs::<2>(self, inputs)?;
                Ok(smallvec![broadcast_shape(&inputs)?])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                let out = &mut outputs[0];
                for i in 0..out.data.len() {
                    let index = out.shape.unravel(i);
                    out.data[i] = Self::eval([repeated(&inputs[0], &index), repeated(&inputs[1], &index)]);
                }
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                if inputs[0].shape == inputs[1].shape {
                    apply::<Self, 2>([inputs[0].data, inputs[1].data], outputs[0].data);
                } else {
                    apply_broadcast::<Self>(inputs, &mut outputs[0]);
                }
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                if call.input(0).shape == call.input(1).shape {
                    formula::apply::<2, 0, 1>(call, concat!($name, "_elements"), |args, []| [Self::eval(args)])
                } else {
                    let formula = formula::function("formula", Self::eval::<Symbol>);
                    broadcast::opencl::<2>(call, concat!($name, "_broadcast"), &formula)
                }
            }
            fn saves(&self) -> SavedTensors {
                <Self as BinaryGrad>::KEEPS
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                binary_grad::<Self>(node)
            }
        }

        register_op!($name, || binary_cases($op));
    };
}

binary!(Add "add" (c; a, b) = a + b);
binary!(Sub "sub" (c; a, b) = a - b);
binary!(Mul "mul" (c; a, b) = a * b);

fn binary_grad<B: BinaryGrad>(node: &Gradient<'_>) -> Result<InputGrads> {
    (0..2)
        .map(|k| {
            node.if_needed(k, || {
                let grad = B::grads(node, k)?;
                let shape = node.input_shapes[k];
                if *grad.shape() == shape { Ok(grad) } else { run_single(&SumTo { shape }, &[&grad]) }
            })
        })
        .collect()
}

fn binary_cases<B: Op + Copy>(op: B) -> Vec<Case> {
    let pairs: [(&[usize], &[usize]); 14] = [
        (&[], &[]),
        (&[1], &[1]),
        (&[3, 7], &[3, 7]),
        (&[0, 4], &[0, 4]),
        (&[0, 4], &[4]),
        (&[2, 3, 5, 4], &[]),
        (&[2, 3, 5, 4], &[3, 1, 1]),
        (&[3, 1, 1], &[2, 3, 5, 4]),
        (&[2, 3, 5, 4], &[4]),
        (&[4, 1], &[1, 5]),
        (&[2, 1, 3, 1, 2], &[1, 4, 1, 2, 1]),
        (&[CHUNK * 2 + 5], &[CHUNK * 2 + 5]),
        (&[7, CHUNK + 3], &[7, 1]),
        (&[3 * CHUNK, 3], &[3]),
    ];
    let mut cases: Vec<Case> = pairs
        .into_iter()
        .map(|(a, b)| {
            let [a, b] = [a, b].map(|s| Shape::new(s).expect("a small shape"));
            let case = Case::new(format!("{a} and {b}"), op, [CaseInput::uniform(a), CaseInput::uniform(b)]);
            if a.elements() + b.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect();
    let picture = Shape::from([256, 6, 24, 24]);
    cases.push(Case::new("LeNet", op, [CaseInput::uniform(picture), CaseInput::uniform(picture)]).timed());
    cases
}

/// The element of a broadcast view.
fn repeated(view: &View<'_, f64>, index: &[usize]) -> f64 {
    let own = &index[index.len() - view.shape.rank()..];
    let flat = view.shape.iter().zip(own).fold(0, |flat, (&e, &i)| flat * e + if e == 1 { 0 } else { i });
    view.data[flat]
}

fn apply_broadcast<E: Expression<2>>(inputs: &[View<'_, f32>], out: &mut ViewMut<'_, f32>) {
    if out.data.is_empty() {
        return;
    }
    let walk = Strided::new(out.shape, [inputs[0].shape, inputs[1].shape]);
    let inner = walk.inner();
    let rows_per_task = (CHUNK / inner).max(1);
    for_each_chunk(out.data, rows_per_task * inner, |start, part| {
        dispatch(Rows::<E> {
            walk: &walk,
            first_row: start / inner,
            inputs: [inputs[0].data, inputs[1].data],
            out: part,
            expression: std::marker::PhantomData,
        });
    });
}

struct Rows<'a, E> {
    walk: &'a Strided<2>,
    first_row: usize,
    inputs: [&'a [f32]; 2],
    out: &'a mut [f32],
    expression: std::marker::PhantomData<E>,
}

impl<E: Expression<2>> Kernel for Rows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let inner = self.walk.inner();
        let steps = self.walk.inner_steps();
        for (r, row) in self.out.chunks_exact_mut(inner).enumerate() {
            let starts = self.walk.starts(self.first_row + r);
            let mut i = 0;
            while i < inner {
                let mut args = [S::splat(0.0); 2];
                for (k, arg) in args.iter_mut().enumerate() {
                    let from = &self.inputs[k][starts[k]..];
                    // Along the innermost axis an array either repeats one number or lies contiguous.
                    *arg =
                        if steps[k] == 0 { S::splat(from[0]) } else { S::from_short_slice(&from[i..inner]) };
                }
                E::eval(args).to_short_slice(&mut row[i..]);
                i += S::LANES;
            }
        }
    }
}

/// `y = factor * x`.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The factor.
    pub factor: f64,
}

impl Pointwise<1, 1> for Scale {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], _old: [R; 1]) -> [R; 1] {
        [R::constant(self.factor) * x]
    }
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        Ok(smallvec![expect_inputs::<1>(self, inputs)?[0]])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        pointwise::reference(self, inputs, outputs);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        pointwise::cpu::<Self, 1, 1>(*self, inputs, outputs);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        // The old value of the output has no meaning.
        formula::apply::<1, 0, 1>(call, self.name(), |x, []| self.eval(x, x))
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(self, &[node.output_grad()]))?])
    }
}

register_op!("scale", || {
    vec![
        Case::new("a scalar", Scale { factor: -2.5 }, [CaseInput::uniform(Shape::scalar())]),
        Case::new("by zero", Scale { factor: 0.0 }, [CaseInput::uniform([3, 7])]),
        Case::new("empty", Scale { factor: 2.0 }, [CaseInput::uniform([0, 7])]),
        Case::new("large", Scale { factor: 1.0 / 3.0 }, [CaseInput::uniform([3 * CHUNK + 7])])
            .without_gradient(),
    ]
});

/// Adds its input to its state, in place: gradients of a tensor that was used more than once add up so.
#[derive(Clone, Copy, Debug)]
pub struct Accumulate;

impl Pointwise<1, 1> for Accumulate {
    #[inline(always)]
    fn eval<R: Real>(&self, [x]: [R; 1], [sum]: [R; 1]) -> [R; 1] {
        [sum + x]
    }
}

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        Ok(smallvec![expect_inputs::<1>(self, inputs)?[0]])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        pointwise::reference(self, inputs, outputs);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        pointwise::cpu::<Self, 1, 1>(*self, inputs, outputs);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        pointwise::opencl::<Self, 1, 1>(*self, self.name(), call)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
    fn state_outputs(&self) -> usize {
        1
    }
}

register_op!("accumulate", || {
    [vec![], vec![0, 3], vec![5, 7], vec![2 * CHUNK + 9]]
        .into_iter()
        .map(|shape| {
            let shape = Shape::new(&shape).expect("a small shape");
            Case::new(shape.to_string(), Accumulate, [CaseInput::uniform(shape)])
                .with_state([CaseInput::uniform(shape)])
                .without_gradient()
        })
        .collect()
});

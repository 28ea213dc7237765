//! The conformance checks notice operations that are wrong, that have no cases, or that are not registered.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::conformance::{check_gradient, check_ops};
use neocog_tensor::op::{expect_inputs, no_gradient};
use neocog_tensor::opencl::Call;
use neocog_tensor::ops::{Add, Scale};
use neocog_tensor::testing::split::check_split_batch;
use neocog_tensor::{
    Device, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, Tensor, View, ViewMut,
    register_op, run, run_single,
};

/// What the gradient of [`Multiples`] does with its second output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    Right,
    WrongFactor,
    Dropped,
    NotDifferentiable,
}

/// Outputs `2 x` and `3 x`.
#[derive(Clone, Copy, Debug)]
struct Multiples {
    name: &'static str,
    second: Second,
}

impl Multiples {
    fn new(second: Second) -> Self {
        Multiples { name: "multiples", second }
    }
}

impl Op for Multiples {
    fn name(&self) -> &'static str {
        self.name
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        Ok([x, x].into_iter().collect())
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        for (output, factor) in outputs.iter_mut().zip([2.0, 3.0]) {
            output.data_mut().iter_mut().zip(inputs[0].data()).for_each(|(y, x)| *y = factor * x);
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        for (output, factor) in outputs.iter_mut().zip([2.0, 3.0]) {
            output.data_mut().iter_mut().zip(inputs[0].data()).for_each(|(y, x)| *y = factor * x);
        }
    }
    fn opencl(&self, _call: &Call<'_>) -> Result<()> {
        no_gradient(self)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let times = |dy: &Tensor, factor| run_single(&Scale { factor }, &[dy]);
        if self.second == Second::NotDifferentiable {
            return Ok([Some(times(node.first_output_grad(self)?, 2.0)?)].into_iter().collect());
        }
        let zero = Tensor::zeros(node.output_shapes[0], &Device::Reference)?;
        let first = times(node.output_grads[0].as_ref().unwrap_or(&zero), 2.0)?;
        let factor = match self.second {
            Second::Right => 3.0,
            Second::WrongFactor => 2.5,
            _ => 0.0,
        };
        let second = times(node.output_grads[1].as_ref().unwrap_or(&zero), factor)?;
        Ok([Some(run_single(&Add, &[&first, &second])?)].into_iter().collect())
    }
}

register_op!("multiples", || {
    vec![Case::new("a row", Multiples::new(Second::Right), [CaseInput::uniform([4])])]
});
register_op!("no_cases", Vec::new);

#[test]
fn a_wrong_gradient_of_a_second_output_is_noticed() {
    let check = |second| check_gradient(&Case::new("", Multiples::new(second), [CaseInput::uniform([2, 3])]));
    check(Second::Right).unwrap();
    check(Second::NotDifferentiable).unwrap();
    for second in [Second::WrongFactor, Second::Dropped] {
        let e = check(second).unwrap_err().to_string();
        assert!(e.contains("of the outputs [1]") && e.contains("the central difference is"), "{e}");
    }
}

/// A lost gradient would be wrong in silence.
#[test]
fn gradients_of_outputs_that_are_not_differentiable_are_errors() {
    let op = Multiples::new(Second::NotDifferentiable);
    let dy = Tensor::full([2], 1.0, &Device::Cpu).unwrap();
    let grad = |output_grads: [Option<Tensor>; 2]| {
        let shape = *dy.shape();
        op.grad(&Gradient {
            input_shapes: &[shape],
            output_shapes: &[shape, shape],
            inputs: &[None],
            outputs: &[None, None],
            output_grads: &output_grads,
            needs: &[true],
        })
    };
    assert_eq!(grad([Some(dy.clone()), None]).unwrap()[0].as_ref().unwrap().to_f32().unwrap(), [2.0, 2.0]);
    for others in [[None, Some(dy.clone())], [Some(dy.clone()), Some(dy.clone())]] {
        let e = grad(others).unwrap_err().to_string();
        assert!(e.contains("only the first output of multiples is differentiable"), "{e}");
    }
}

/// Subtracts the first image from each, but says that images are independent.
#[derive(Clone, Copy, Debug)]
struct MinusFirst;

impl Op for MinusFirst {
    fn name(&self) -> &'static str {
        "minus_first"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        Ok([x].into_iter().collect())
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, row) = (inputs[0].data(), inputs[0].shape().row());
        outputs[0].data_mut().iter_mut().enumerate().for_each(|(i, y)| *y = x[i] - x[i % row]);
    }
    fn cpu(&self, _inputs: &[View<'_, f32>], _outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {}
    fn opencl(&self, _call: &Call<'_>) -> Result<()> {
        no_gradient(self)
    }
    fn split_batch(&self, _inputs: &[Shape], _batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        Some(Arc::new(*self))
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

#[test]
fn images_that_depend_on_one_another_are_noticed() {
    let e = check_split_batch(&Case::new("", MinusFirst, [CaseInput::uniform([3, 2])])).unwrap_err();
    assert!(e.to_string().contains("1 of 3 images of the inputs [0]: output 0 of part 1 differs"), "{e}");
    let splits = |op, inputs: [CaseInput; 2]| check_split_batch(&Case::new("", op, inputs)).unwrap();
    // Both batched, into 1, 2 and 3 of 6 images; a bias of 6 is not batched.
    assert_eq!(splits(Add, [CaseInput::uniform([6, 2]), CaseInput::uniform([6, 2])]), 3);
    assert_eq!(splits(Add, [CaseInput::uniform([6, 6]), CaseInput::uniform([6])]), 3);
    assert_eq!(splits(Add, [CaseInput::uniform([6]), CaseInput::uniform([6, 6])]), 3);
}

#[test]
fn an_operation_without_cases_fails() {
    let summary = check_ops(&Device::Cpu, |name| name == "no_cases");
    assert_eq!((summary.ops, summary.cases), (1, 0));
    assert_eq!(summary.failures, ["no_cases (neocog-tensor): no case is registered"]);
    let summary = check_ops(&Device::Cpu, |name| name == "multiples");
    assert_eq!((summary.cases, summary.gradients, summary.failures.len()), (1, 1, 0), "{summary}");
}

/// The check costs a look-up for each operation: release builds do without.
#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "the operation multiplse is not registered")]
fn an_operation_that_is_not_registered_fails() {
    let x = Tensor::zeros([2], &Device::Cpu).unwrap();
    let _ = run(&Multiples { name: "multiplse", second: Second::Right }, &[&x]);
}

//! Operations whose gradient is wrong are errors that name the operation.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var};
use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::op::{expect_inputs, no_gradient};
use neocog_tensor::opencl::Call;
use neocog_tensor::ops::CrossEntropy;
use neocog_tensor::{
    Device, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, Tensor, View, ViewMut,
    register_op,
};

/// The identity of its first input, whose gradient is what `grads` returns.
#[derive(Clone, Copy, Debug)]
struct First {
    grads: fn(&Tensor) -> Vec<Option<Tensor>>,
}

impl Op for First {
    fn name(&self) -> &'static str {
        "first"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x, _] = expect_inputs(self, inputs)?;
        Ok([x].into_iter().collect())
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data_mut().copy_from_slice(inputs[0].data());
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        outputs[0].data_mut().copy_from_slice(inputs[0].data());
    }
    fn opencl(&self, _call: &Call<'_>) -> Result<()> {
        no_gradient(self)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok((self.grads)(node.output_grad()).into())
    }
}

register_op!("first", || {
    let op = First { grads: |dy| vec![Some(dy.clone()), None] };
    vec![Case::new("two rows", op, [CaseInput::uniform([4]), CaseInput::uniform([4]).constant()])]
});

/// The error of the backward pass from `first(x, x)`.
fn error(grads: fn(&Tensor) -> Vec<Option<Tensor>>) -> String {
    let tape = Tape::new();
    let x = tape.leaf(Tensor::full([1], 2.0, &Device::Cpu).unwrap());
    let y = tape.apply_single(First { grads }, &[&x, &x]).unwrap();
    tape.backward(&y).unwrap_err().to_string()
}

#[test]
fn a_wrong_gradient_is_an_error_that_names_the_operation() {
    let none = error(|_| vec![]);
    assert_eq!(none, "first has 2 inputs, but its gradient returned 0 tensors");
    let many = error(|dy| vec![Some(dy.clone()); 3]);
    assert_eq!(many, "first has 2 inputs, but its gradient returned 3 tensors");
    let shape = error(|dy| vec![None, Some(Tensor::zeros([2], &dy.device()).unwrap())]);
    assert_eq!(shape, "input 1 of first has shape [1], but its gradient has shape [2]");
    let device = error(|dy| vec![None, Some(Tensor::zeros(*dy.shape(), &Device::Reference).unwrap())]);
    assert_eq!(device, "input 1 of first is on cpu, but its gradient is on reference");
}

/// They are not differentiable: their gradient would be lost.
#[test]
fn a_loss_of_the_probabilities_of_cross_entropy_is_an_error() {
    let tape = Tape::new();
    let logits = tape.leaf(Tensor::from_f32([1, 2], &[0.5, 1.0], &Device::Cpu).unwrap());
    let target = Var::constant(Tensor::zeros([1], &Device::Cpu).unwrap());
    let outputs = tape.apply(CrossEntropy::default(), &[&logits, &target]).unwrap();
    let ones = [0, 1].map(|k| Tensor::full(*outputs[k].shape(), 1.0, &Device::Cpu).unwrap());
    let [loss, probabilities] = ones;
    let both = [(&outputs[0], loss), (&outputs[1], probabilities)];
    let e = tape.backward_from(&both).unwrap_err().to_string();
    assert!(e.contains("the probabilities of cross_entropy are not differentiable; use softmax"), "{e}");
}

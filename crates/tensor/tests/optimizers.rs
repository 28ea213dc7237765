//! The formulas of the optimizers: three steps against `torch.optim` in double precision.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_tensor::ops::{AdamStep, AdamWStep, RmsPropStep, SgdStep};
use neocog_tensor::{Device, Op, Tensor, update};

const PARAM: [f32; 3] = [0.5, -1.25, 3.0];
const GRADS: [[f32; 3]; 3] = [[0.1, -0.3, 2.0], [-0.2, 0.25, 1.5], [0.4, 0.05, -0.5]];

/// Makes three steps and compares the parameter with PyTorch's. The rounding of the gradients to single precision is the largest
/// error.
#[track_caller]
fn check(step: impl Fn(u64) -> Box<dyn Op>, expected: [f64; 3]) {
    let tensors = step(1).state_outputs();
    let new = |values: &[f32]| Tensor::from_f32([3], values, &Device::Reference).unwrap();
    let mut state: Vec<Tensor> = (0..tensors).map(|i| new(if i == 0 { &PARAM } else { &[0.0; 3] })).collect();
    for (number, grad) in (1..).zip(&GRADS) {
        update(&*step(number), &[&new(grad)], &mut state.iter_mut().collect::<Vec<_>>()).unwrap();
    }
    let got = state[0].to_f64().unwrap();
    for (g, e) in got.iter().zip(&expected) {
        assert!((g - e).abs() < 2e-7, "{got:?} should be {expected:?}");
    }
}

/// `SGD(lr=.1, momentum=.9, dampening=.2, weight_decay=.01)`, and with `nesterov=True` in place of dampening.
#[test]
fn sgd() {
    let step = |dampening, nesterov| {
        move |number| -> Box<dyn Op> {
            let first = number == 1;
            let step =
                SgdStep { momentum: 0.9, dampening, nesterov, weight_decay: 0.01, ..SgdStep::new(0.1) };
            Box::new(SgdStep { first, ..step })
        }
    };
    check(step(0.2, false), [0.46880443328, -1.20449228, 2.25562491008]);
    check(step(0.0, true), [0.439823161981, -1.214254610656, 1.979194431623]);
}

/// `Adam(lr=.05, betas=(.8, .95), eps=1e-3, weight_decay=.01)`, `Adam(lr=.05, betas=(.8, .6), eps=1e-3, amsgrad=True)`, and
/// `AdamW(lr=.05, betas=(.8, .95), eps=1e-3, weight_decay=.1)`.
#[test]
fn adam() {
    check(
        |step| {
            let adam = AdamStep::new(0.05, step);
            Box::new(AdamStep { betas: [0.8, 0.95], eps: 1e-3, weight_decay: 0.01, ..adam })
        },
        [0.446209529888, -1.201544454311, 2.872555043328],
    );
    check(
        |step| {
            let adam = AdamStep::new(0.05, step);
            Box::new(AdamStep { betas: [0.8, 0.6], eps: 1e-3, weight_decay: 0.0, amsgrad: true, ..adam })
        },
        [0.449967952138, -1.206046807098, 2.873218016935],
    );
    check(
        |step| {
            let adam = AdamWStep::new(0.05, step);
            Box::new(AdamWStep { betas: [0.8, 0.95], eps: 1e-3, weight_decay: 0.1, ..adam })
        },
        [0.441175309793, -1.188289244687, 2.829170191618],
    );
}

/// `RMSprop(lr=.05, alpha=.9, eps=1e-3, weight_decay=.01, momentum=.5, centered=True)`.
#[test]
fn rms_prop() {
    let step = RmsPropStep {
        alpha: 0.9,
        eps: 1e-3,
        weight_decay: 0.01,
        momentum: 0.5,
        centered: true,
        ..RmsPropStep::new(0.05)
    };
    check(move |_| Box::new(step), [0.285297368685, -1.125999547731, 2.578993460695]);
}

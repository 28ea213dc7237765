//! Cross-entropy of logits, and counting right answers.
//!
//! `loss = -Σ_k q_k ln p_k` for each row, with `p = softmax(logits)` and, for label smoothing ε of K classes,
//! `q_k = (1 - ε) [k = target] + ε / K`.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use crate::cases::{Case, CaseInput};
use crate::error::{Error, Result};
use crate::memory::Scratch;
use crate::op::{Gradient, InputGrads, Keeps, Op, expect_inputs, no_gradient};
use crate::register_op;
use crate::run::run1;
use crate::shape::{Shape, Shapes};
use crate::view::{View, ViewMut};

/// How the losses of the rows become the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// All of them.
    None,
}

/// Mean, sum or all of the cross-entropies of `logits [n, classes]` and `target [n]`, class numbers from 0.
///
/// Outputs: the loss, `[]` or for [`Reduction::None`] `[n]`; and the softmax of the logits, for the gradient. A target
/// that is no class number makes the loss NaN: loaders of data check their labels. The mean of no rows is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// How the losses of the rows become the result.
    pub reduction: Reduction,
    /// The share of the target that is spread over all classes, from 0 to 1.
    pub label_smoothing: f64,
}

/// The gradient of [`CrossEntropy`] by the logits: inputs `softmax [n, classes]`, `target [n]` and the gradient of the
/// loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropyGrad {
    /// The operation that it belongs to.
    pub of: CrossEntropy,
}

/// How many rows of `logits [n, classes]` have their (first) largest number at `target [n]`; a scalar.
#[derive(Clone, Copy, Debug)]
pub struct CountCorrect;

fn check_rows(logits: &Shape, target: &Shape) -> Result<[usize; 2]> {
    let [n, classes] = <[usize; 2]>::try_from(logits.extents())
        .map_err(|_| Error::shape(format!("expected logits [n, classes], found {logits}")))?;
    if classes == 0 {
        return Err(Error::shape(format!("there are no classes in logits {logits}")));
    }
    if target.extents() != [n] {
        return Err(Error::shape(format!("expected a target [{n}] for logits {logits}, found {target}")));
    }
    Ok([n, classes])
}

impl CrossEntropy {
    fn result_shape(&self, rows: usize) -> Shape {
        if self.reduction == Reduction::None { Shape::from([rows]) } else { Shape::scalar() }
    }
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [logits, target] = expect_inputs(self, inputs)?;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::argument(format!(
                "label_smoothing is a share from 0 to 1, not {}",
                self.label_smoothing
            )));
        }
        let [n, _] = check_rows(&logits, &target)?;
        Ok(smallvec![self.result_shape(n), logits])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let classes = inputs[0].shape[1];
        let n = inputs[0].shape[0];
        let mut losses = vec![0.0; n];
        for i in 0..n {
            let logits = &inputs[0].data[i * classes..][..classes];
            let largest = logits.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let sum: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
            let log_softmax = |k: usize| logits[k] - largest - sum.ln();
            for k in 0..classes {
                outputs[1].data[i * classes + k] = log_softmax(k).exp();
            }
            let right = class(inputs[1].data[i], classes).map_or(f64::NAN, log_softmax);
            let all: f64 = (0..classes).map(log_softmax).sum();
            losses[i] = -(1.0 - self.label_smoothing) * right;
            if self.label_smoothing > 0.0 {
                losses[i] -= self.label_smoothing / classes as f64 * all;
            }
        }
        match self.reduction {
            Reduction::None => outputs[0].data.copy_from_slice(&losses),
            Reduction::Sum => outputs[0].data[0] = losses.iter().sum(),
            Reduction::Mean => outputs[0].data[0] = losses.iter().sum::<f64>() / n as f64,
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        // A few numbers for each image: in double precision, one thread.
        let classes = inputs[0].shape[1];
        let n = inputs[0].shape[0];
        let [loss, softmax] = outputs else { unreachable!("two outputs") };
        let mut total = 0.0;
        for i in 0..n {
            let logits = &inputs[0].data[i * classes..][..classes];
            let softmax = &mut softmax.data[i * classes..][..classes];
            let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let mut sum = 0.0;
            for (p, &l) in softmax.iter_mut().zip(logits) {
                *p = (l - largest).exp();
                sum += f64::from(*p);
            }
            softmax.iter_mut().for_each(|p| *p = (f64::from(*p) / sum) as f32);
            let log_sum = f64::from(largest) + sum.ln();
            let right = class(f64::from(inputs[1].data[i]), classes)
                .map_or(f64::NAN, |k| f64::from(logits[k]) - log_sum);
            let mut row = -(1.0 - self.label_smoothing) * right;
            if self.label_smoothing > 0.0 {
                let all: f64 = logits.iter().map(|&l| f64::from(l) - log_sum).sum();
                row -= self.label_smoothing / classes as f64 * all;
            }
            match self.reduction {
                Reduction::None => loss.data[i] = row as f32,
                Reduction::Sum | Reduction::Mean => total += row,
            }
        }
        match self.reduction {
            Reduction::None => {}
            Reduction::Sum => loss.data[0] = total as f32,
            Reduction::Mean => loss.data[0] = (total / n as f64) as f32,
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING.inputs(&[1]).outputs(&[1])
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let inputs = [node.output(1), node.input(1), node.output_grad()];
        Ok(smallvec![node.if_needed(0, || run1(&CrossEntropyGrad { of: *self }, &inputs))?, None])
    }
}

impl CrossEntropyGrad {
    /// The factor of row `i`'s gradient.
    fn scale(&self, dy: impl Fn(usize) -> f64, i: usize, n: usize) -> f64 {
        match self.of.reduction {
            Reduction::None => dy(i),
            Reduction::Sum => dy(0),
            Reduction::Mean => dy(0) / n as f64,
        }
    }

    fn wanted(&self, k: usize, target: Option<usize>, classes: usize) -> f64 {
        let hit = if target == Some(k) { 1.0 - self.of.label_smoothing } else { 0.0 };
        hit + self.of.label_smoothing / classes as f64
    }
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [softmax, target, dy] = expect_inputs(self, inputs)?;
        let [n, _] = check_rows(&softmax, &target)?;
        let expected = self.of.result_shape(n);
        if dy != expected {
            return Err(Error::shape(format!("expected a gradient {expected} of the loss, found {dy}")));
        }
        Ok(smallvec![softmax])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (n, classes) = (inputs[0].shape[0], inputs[0].shape[1]);
        for i in 0..n {
            let target = class(inputs[1].data[i], classes);
            let scale = self.scale(|i| inputs[2].data[i], i, n);
            for k in 0..classes {
                let at = i * classes + k;
                outputs[0].data[at] = scale * (inputs[0].data[at] - self.wanted(k, target, classes));
            }
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (n, classes) = (inputs[0].shape[0], inputs[0].shape[1]);
        for i in 0..n {
            let target = class(f64::from(inputs[1].data[i]), classes);
            let scale = self.scale(|i| f64::from(inputs[2].data[i]), i, n);
            for k in 0..classes {
                let at = i * classes + k;
                let difference = f64::from(inputs[0].data[at]) - self.wanted(k, target, classes);
                outputs[0].data[at] = (scale * difference) as f32;
            }
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

impl Op for CountCorrect {
    fn name(&self) -> &'static str {
        "count_correct"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [logits, target] = expect_inputs(self, inputs)?;
        check_rows(&logits, &target)?;
        Ok(smallvec![Shape::scalar()])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let classes = inputs[0].shape[1];
        let mut right = 0;
        for (logits, &target) in inputs[0].data.chunks(classes).zip(inputs[1].data) {
            let mut best = 0;
            for k in 1..classes {
                if logits[k] > logits[best] {
                    best = k;
                }
            }
            right += usize::from(best as f64 == target);
        }
        outputs[0].data[0] = right as f64;
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let classes = inputs[0].shape[1];
        let rows = inputs[0].data.chunks(classes).zip(inputs[1].data);
        let right = rows.filter(|(logits, target)| {
            let mut best = (0, logits[0]);
            for (k, &l) in logits.iter().enumerate().skip(1) {
                if l > best.1 {
                    best = (k, l);
                }
            }
            best.0 as f32 == **target
        });
        outputs[0].data[0] = right.count() as f32;
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

/// The class that a number names.
fn class(target: f64, classes: usize) -> Option<usize> {
    (target >= 0.0 && target < classes as f64 && target.fract() == 0.0).then_some(target as usize)
}

fn reductions() -> impl Iterator<Item = CrossEntropy> {
    [Reduction::Mean, Reduction::Sum, Reduction::None]
        .into_iter()
        .flat_map(|reduction| [0.0, 0.1].map(|label_smoothing| CrossEntropy { reduction, label_smoothing }))
}

register_op!("cross_entropy", || {
    let mut cases: Vec<Case> = reductions()
        .map(|op| {
            Case::new(
                format!("{op:?}"),
                op,
                [CaseInput::between([5, 7], -3.0, 3.0), CaseInput::index([5], 7)],
            )
        })
        .collect();
    let mean = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
    let large = CaseInput::between([6, 10], -1e4, 1e4);
    cases.push(Case::new("huge logits", mean, [large, CaseInput::index([6], 10)]).without_gradient());
    cases.push(Case::new("one class", mean, [CaseInput::uniform([2, 1]), CaseInput::index([2], 1)]));
    cases.push(
        Case::new("no rows", mean, [CaseInput::uniform([0, 3]), CaseInput::index([0], 3)]).without_gradient(),
    );
    cases.push(
        Case::new("a batch", mean, [CaseInput::uniform([256, 10]), CaseInput::index([256], 10)]).timed(),
    );
    cases
});

register_op!("cross_entropy_grad", || {
    let softmax = || CaseInput::between([5, 7], 0.0, 0.3);
    reductions()
        .map(|of| {
            let dy = CaseInput::uniform(of.result_shape(5));
            let case = Case::new(
                format!("{of:?}"),
                CrossEntropyGrad { of },
                [softmax(), CaseInput::index([5], 7), dy],
            );
            case.without_gradient()
        })
        .collect()
});

register_op!("count_correct", || {
    let inputs = [CaseInput::between([64, 3], -1.0, 1.0), CaseInput::index([64], 3)];
    let ties = [CaseInput::index([64, 3], 2), CaseInput::index([64], 3)];
    vec![
        Case::new("random", CountCorrect, inputs).without_gradient(),
        Case::new("ties", CountCorrect, ties).without_gradient(),
    ]
});

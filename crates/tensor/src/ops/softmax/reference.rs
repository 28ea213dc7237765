//! Reference implementation.

use super::rule::{Rule, around};
use crate::core::view::{View, ViewMut};

/// Computes any of the functions. The forward functions get their input twice.
pub(super) fn run(rule: Rule, dim: isize, [a, b]: [View<'_, f64>; 2], out: &mut ViewMut<'_, f64>) {
    let [outer, len, inner] = around(dim, out.shape);
    for line in 0..outer * inner {
        let at = |k: usize| line / inner * len * inner + k * inner + line % inner;
        let max = (0..len).fold(f64::NEG_INFINITY, |m, k| m.max(a.data[at(k)]));
        let sum = |f: &dyn Fn(usize) -> f64| (0..len).map(|k| f(at(k))).sum::<f64>();
        let exps = sum(&|i| (a.data[i] - max).exp());
        let products = sum(&|i| a.data[i] * b.data[i]);
        let grads = sum(&|i| b.data[i]);
        for i in (0..len).map(at) {
            let (x, dy) = (a.data[i], b.data[i]);
            out.data[i] = match rule {
                Rule::Softmax => (x - max).exp() / exps,
                Rule::LogSoftmax => x - max - exps.ln(),
                Rule::SoftmaxGrad => x * (dy - products),
                Rule::LogSoftmaxGrad => dy - x.exp() * grads,
            };
        }
    }
}

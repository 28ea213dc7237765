//! Softmax and its logarithm along an axis, and their gradients.
//!
//! With `m = max x` and `s = Σ e^(x - m)` along the axis, so that nothing overflows:
//!
//! ```text
//! softmax      y = e^(x - m) / s        dx = y (dy - Σ y dy)
//! log_softmax  y = x - m - ln s         dx = dy - e^y Σ dy
//! ```

use std::ops::Range;

use smallvec::smallvec;

use super::axis_of;
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs, no_gradient};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Real, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::{Call, Grid, Source};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::{Error, Result};

/// Makes the operations of a rule and its gradient.
macro_rules! softmaxes {
    ($($(#[$doc:meta])* $op:ident $name:literal, $grad:ident $grad_name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $op {
            /// The axis; negative numbers count from the last.
            pub dim: isize,
        }

        #[doc = concat!("The gradient of [`", stringify!($op), "`]: inputs `y`, its output, and `dy`, of the same shape.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $grad {
            /// The axis; negative numbers count from the last.
            pub dim: isize,
        }

        impl Op for $op {
            fn name(&self) -> &'static str {
                $name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let [x] = expect_inputs(self, inputs)?;
                axis_of(self.dim, &x)?;
                Ok(smallvec![x])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                reference(Rule::$op, self.dim, [inputs[0], inputs[0]], &mut outputs[0]);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                cpu(Rule::$op, self.dim, [inputs[0], inputs[0]], &mut outputs[0]);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                opencl(Rule::$op, self.dim, call)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE.outputs(&[0])
            }
            fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
                let grad = $grad { dim: self.dim };
                Ok(smallvec![node.if_needed(0, || run_single(&grad, &[node.output(0), node.output_grad()]))?])
            }
        }

        impl Op for $grad {
            fn name(&self) -> &'static str {
                $grad_name
            }
            fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
                let [y, dy] = expect_inputs(self, inputs)?;
                axis_of(self.dim, &y)?;
                if y != dy {
                    return Err(Error::shape(format!("the output is {y}, but its gradient {dy}")));
                }
                Ok(smallvec![y])
            }
            fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
                reference(Rule::$grad, self.dim, [inputs[0], inputs[1]], &mut outputs[0]);
            }
            fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
                cpu(Rule::$grad, self.dim, [inputs[0], inputs[1]], &mut outputs[0]);
            }
            fn opencl(&self, call: &Call<'_>) -> Result<()> {
                opencl(Rule::$grad, self.dim, call)
            }
            fn saves(&self) -> SavedTensors {
                SavedTensors::NONE
            }
            fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
                no_gradient(self)
            }
        }

        register_op!($name, || cases(|dim| $op { dim }));
        register_op!($grad_name, || grad_cases(|dim| $grad { dim }, Rule::$op));
    )*};
}

softmaxes! {
    /// `e^x / Σ e^x` along an axis.
    Softmax "softmax", SoftmaxGrad "softmax_grad";
    /// `x - ln Σ e^x` along an axis.
    LogSoftmax "log_softmax", LogSoftmaxGrad "log_softmax_grad";
}

#[derive(Clone, Copy)]
enum Rule {
    Softmax,
    LogSoftmax,
    SoftmaxGrad,
    LogSoftmaxGrad,
}

/// The extents around an axis: outer, the axis's own, inner.
fn around(dim: isize, shape: &Shape) -> [usize; 3] {
    let axis = axis_of(dim, shape).expect("checked by infer");
    [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()]
}

/// The definition. The forward rules take their input twice.
fn reference(rule: Rule, dim: isize, [a, b]: [View<'_, f64>; 2], out: &mut ViewMut<'_, f64>) {
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

/// The kernel: outer positions are split over the threads.
fn cpu(rule: Rule, dim: isize, inputs: [View<'_, f32>; 2], out: &mut ViewMut<'_, f32>) {
    if out.data.is_empty() {
        return;
    }
    let [_, len, inner] = around(dim, out.shape);
    let block = len * inner;
    for_each_chunk(out.data, (CHUNK / block).max(1) * block, |start, out| {
        let [a, b] = inputs.map(|v| &v.data[start..start + out.len()]);
        dispatch(Lines { rule, len, inner, a, b, out });
    });
}

/// The kernel of OpenCL devices.
fn opencl(rule: Rule, dim: isize, call: &Call<'_>) -> Result<()> {
    let (a, b, out) = (call.input(0), call.inputs()[call.inputs().len() - 1], call.output(0));
    let [outer, len, inner] = around(dim, out.shape);
    let text = include_str!("softmax/kernels.cl");
    if inner == 1 {
        let (source, grid) = row_program(call, "softmax", text, outer, len);
        let args = [a.into(), b.into(), out.into(), outer.into(), len.into()];
        call.launch(&source.define("RULE", rule as u8), "softmax_rows", &args, grid)
    } else {
        // Neighbouring work-items read neighbouring floats on graphics cards.
        let width = if call.on_cpu() { 8 } else { 1 };
        let source = Source::new("softmax", text).define("RULE", rule as u8).define("TEAM", 0);
        let args = [a.into(), b.into(), out.into(), outer.into(), len.into(), inner.into()];
        let grid = Grid::line(outer * inner.div_ceil(width));
        call.launch(&source.define("WIDTH", width), "softmax_columns", &args, grid)
    }
}

/// A program that works row by row, and the grid for rows of `len` numbers: `softmax/rows.cl` comes before `text`.
pub(super) fn row_program(
    call: &Call<'_>,
    name: &'static str,
    text: &'static str,
    rows: usize,
    len: usize,
) -> (Source, Grid) {
    // Short rows have not enough for many work-items.
    let team = if call.on_cpu() || len <= 64 { 1 } else { 64 };
    let group = if call.on_cpu() { 16 } else { 64 };
    let source = Source::new(name, text).define("TEAM", team).define("GROUP", group);
    (source.insert(include_str!("softmax/rows.cl")), Grid::new([rows * team], [group]))
}

struct Lines<'a> {
    rule: Rule,
    len: usize,
    inner: usize,
    a: &'a [f32],
    b: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Lines<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self) {
        let Lines { rule, len, inner, a, b, out } = self;
        let block = len * inner;
        let blocks = a.chunks_exact(block).zip(b.chunks_exact(block)).zip(out.chunks_exact_mut(block));
        for ((a, b), out) in blocks {
            if inner == 1 {
                row::<S>(rule, a, b, out);
            } else {
                // The lanes are lines side by side.
                for start in (0..inner).step_by(S::LANES) {
                    columns::<S>(
                        rule,
                        Columns { a, b, inner, start, count: S::LANES.min(inner - start) },
                        out,
                    );
                }
            }
        }
    }
}

/// A line whose elements lie side by side.
#[inline(always)]
fn row<S: Simd>(rule: Rule, a: &[f32], b: &[f32], out: &mut [f32]) {
    match rule {
        Rule::Softmax => {
            let sum = exps::<S>(a, largest::<S>(a), out);
            scale::<S>(out, 1.0 / sum);
        }
        Rule::LogSoftmax => {
            let max = largest::<S>(a);
            let ln_sum = S::splat(f64::from(exps::<S>(a, max, out)).ln() as f32);
            for (to, x) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)) {
                (S::from_short_slice(x) - S::splat(max) - ln_sum).to_short_slice(to);
            }
        }
        Rule::SoftmaxGrad => {
            let mut sum = S::splat(0.0);
            for (y, dy) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
                sum = S::from_short_slice(y).mul_add(S::from_short_slice(dy), sum);
            }
            let sum = S::splat(sum.sum());
            for ((to, y), dy) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)).zip(b.chunks(S::LANES)) {
                (S::from_short_slice(y) * (S::from_short_slice(dy) - sum)).to_short_slice(to);
            }
        }
        Rule::LogSoftmaxGrad => {
            let mut sum = S::splat(0.0);
            for dy in b.chunks(S::LANES) {
                sum = sum + S::from_short_slice(dy);
            }
            let sum = S::splat(sum.sum());
            for ((to, y), dy) in out.chunks_mut(S::LANES).zip(a.chunks(S::LANES)).zip(b.chunks(S::LANES)) {
                let share = Real::exp(S::from_short_slice(y)) * sum;
                (S::from_short_slice(dy) - share).to_short_slice(to);
            }
        }
    }
}

/// Up to `LANES` lines side by side, `inner` elements from one of their elements to the next.
#[derive(Clone, Copy)]
struct Columns<'a> {
    a: &'a [f32],
    b: &'a [f32],
    inner: usize,
    start: usize,
    count: usize,
}

impl Columns<'_> {
    #[inline(always)]
    fn at(&self, k: usize) -> Range<usize> {
        k * self.inner + self.start..k * self.inner + self.start + self.count
    }
    #[inline(always)]
    fn a<S: Simd>(&self, k: usize) -> S {
        S::from_short_slice(&self.a[self.at(k)])
    }
    #[inline(always)]
    fn b<S: Simd>(&self, k: usize) -> S {
        S::from_short_slice(&self.b[self.at(k)])
    }
}

#[inline(always)]
fn columns<S: Simd>(rule: Rule, c: Columns<'_>, out: &mut [f32]) {
    let len = out.len() / c.inner;
    let mut sum = S::splat(0.0);
    match rule {
        Rule::Softmax | Rule::LogSoftmax => {
            let mut max = S::splat(f32::NEG_INFINITY);
            for k in 0..len {
                max = Simd::max(c.a::<S>(k), max);
            }
            for k in 0..len {
                let e = Real::exp(c.a::<S>(k) - max);
                sum = sum + e;
                e.to_short_slice(&mut out[c.at(k)]);
            }
            if let Rule::Softmax = rule {
                let share = S::splat(1.0) / sum;
                for k in 0..len {
                    (S::from_short_slice(&out[c.at(k)]) * share).to_short_slice(&mut out[c.at(k)]);
                }
                return;
            }
            let mut sums = [0.0; MOST_LANES];
            sum.to_slice(&mut sums);
            let ln_sum = S::from_slice(&sums.map(|s| f64::from(s).ln() as f32));
            for k in 0..len {
                (c.a::<S>(k) - max - ln_sum).to_short_slice(&mut out[c.at(k)]);
            }
        }
        Rule::SoftmaxGrad => {
            for k in 0..len {
                sum = c.a::<S>(k).mul_add(c.b::<S>(k), sum);
            }
            for k in 0..len {
                (c.a::<S>(k) * (c.b::<S>(k) - sum)).to_short_slice(&mut out[c.at(k)]);
            }
        }
        Rule::LogSoftmaxGrad => {
            for k in 0..len {
                sum = sum + c.b::<S>(k);
            }
            for k in 0..len {
                (c.b::<S>(k) - Real::exp(c.a::<S>(k)) * sum).to_short_slice(&mut out[c.at(k)]);
            }
        }
    }
}

/// The lanes of the widest vectors.
const MOST_LANES: usize = 16;

/// The numbers of the lanes.
const LANE: [f32; MOST_LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// The slice's floats, at most `LANES`, and minus infinity in the lanes beyond.
#[inline(always)]
fn or_minus_infinity<S: Simd>(slice: &[f32]) -> S {
    if slice.len() >= S::LANES {
        return S::from_slice(slice);
    }
    let count = S::splat(slice.len() as f32);
    S::select_gt(count, S::from_slice(&LANE), S::from_short_slice(slice), S::splat(f32::NEG_INFINITY))
}

/// The largest number of a row; minus infinity where there is none.
#[inline(always)]
pub(super) fn largest<S: Simd>(row: &[f32]) -> f32 {
    let mut max = S::splat(f32::NEG_INFINITY);
    for x in row.chunks(S::LANES) {
        max = Simd::max(or_minus_infinity::<S>(x), max);
    }
    max.max_lane()
}

/// `out = e^(row - max)`, and its sum.
#[inline(always)]
pub(super) fn exps<S: Simd>(row: &[f32], max: f32, out: &mut [f32]) -> f32 {
    let mut sum = S::splat(0.0);
    for (to, x) in out.chunks_mut(S::LANES).zip(row.chunks(S::LANES)) {
        let e = Real::exp(or_minus_infinity::<S>(x) - S::splat(max));
        sum = sum + e;
        e.to_short_slice(to);
    }
    sum.sum()
}

/// `row *= factor`.
#[inline(always)]
pub(super) fn scale<S: Simd>(row: &mut [f32], factor: f32) {
    for x in row.chunks_mut(S::LANES) {
        (S::from_short_slice(x) * S::splat(factor)).to_short_slice(x);
    }
}

fn inputs() -> Vec<(&'static str, isize, CaseInput)> {
    let large = [1e4, -1e4, 0.0, -1e4, 1e4, 1e4, 0.0, 0.0, 0.0];
    let large = CaseInput::values([3, 3], &large).expect("nine values").constant();
    vec![
        ("rows", 1, CaseInput::between([4, 10], -3.0, 3.0)),
        ("last axis", -1, CaseInput::between([2, 3, 17], -3.0, 3.0)),
        ("first axis", 0, CaseInput::between([5, 7], -3.0, 3.0)),
        ("channels", 1, CaseInput::between([2, 3, 4, 5], -3.0, 3.0)),
        ("channels, many pixels", -3, CaseInput::between([3, 19, 20, 30], -3.0, 3.0).constant()),
        ("a vector", 0, CaseInput::uniform([33])),
        ("one element", 1, CaseInput::uniform([3, 1])),
        ("large", 1, large.clone()),
        ("large, first axis", 0, large),
        ("no rows", 1, CaseInput::uniform([0, 4])),
        ("no elements", 1, CaseInput::uniform([4, 0])),
        ("many rows", 1, CaseInput::between([700, 100], -3.0, 3.0).constant()),
    ]
}

fn cases<T: Op>(op: impl Fn(isize) -> T) -> Vec<Case> {
    let case = |(name, dim, x): (&'static str, isize, CaseInput)| {
        let differentiable = x.differentiable;
        let case = Case::new(name, op(dim), [x]);
        if differentiable { case } else { case.without_gradient() }
    };
    let mut all: Vec<Case> = inputs().into_iter().map(case).collect();
    all.push(Case::new("classes", op(1), [CaseInput::between([256, 1000], -3.0, 3.0)]).timed());
    all
}

fn grad_cases<T: Op>(op: impl Fn(isize) -> T, rule: Rule) -> Vec<Case> {
    let y = |shape: Shape| match rule {
        Rule::LogSoftmax => CaseInput::between(shape, -4.0, 0.0),
        _ => CaseInput::between(shape, 0.0, 1.0),
    };
    let case = |(name, dim, x): (&'static str, isize, CaseInput)| {
        Case::new(name, op(dim), [y(x.shape), CaseInput::uniform(x.shape)]).without_gradient()
    };
    let mut all: Vec<Case> = inputs().into_iter().map(case).collect();
    let shape = Shape::from([256, 1000]);
    all.push(Case::new("classes", op(1), [y(shape), CaseInput::uniform(shape)]).timed());
    all
}

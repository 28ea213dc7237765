//! Sums over axes, and their counterpart, repetition along axes.

pub(super) mod opencl;

use smallvec::smallvec;

use super::Scale;
use super::broadcast::{self, Strided, expect_broadcasts};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::{CHUNK, for_each_chunk};
use crate::cpu::simd::{Kernel, Simd, dispatch};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::opencl::formula::{self, Symbol};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// The sum of all elements, a scalar.
#[derive(Clone, Copy, Debug)]
pub struct Sum;

/// The mean of all elements, a scalar; NaN for a tensor without elements.
#[derive(Clone, Copy, Debug)]
pub struct Mean;

/// Sums along the axes that broadcasting from `shape` to the input's shape would repeat: the gradient of
/// [`Expand`].
#[derive(Clone, Copy, Debug)]
pub struct SumTo {
    /// The result's shape, which must broadcast to the input's.
    pub shape: Shape,
}

/// Repeats the input to `shape`, to which it must broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Expand {
    /// The result's shape.
    pub shape: Shape,
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        expect_inputs::<1>(self, inputs)?;
        Ok(smallvec![Shape::scalar()])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data[0] = inputs[0].data.iter().sum();
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        outputs[0].data[0] = sum(inputs[0].data) as f32;
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        opencl::sum(call, call.input(0), call.output(0), 1.0)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let expand = Expand { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&expand, &[node.output_grad()]))?])
    }
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        expect_inputs::<1>(self, inputs)?;
        Ok(smallvec![Shape::scalar()])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data[0] = inputs[0].data.iter().sum::<f64>() / inputs[0].data.len() as f64;
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        outputs[0].data[0] = (sum(inputs[0].data) / inputs[0].data.len() as f64) as f32;
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        let n = call.input(0).buffer.len();
        if n == 0 {
            return call.fill(call.output(0).buffer, f32::NAN);
        }
        opencl::sum(call, call.input(0), call.output(0), 1.0 / n as f32)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let shape = node.input_shapes[0];
        Ok(smallvec![node.if_needed(0, || {
            let part = run_single(&Scale { factor: 1.0 / shape.elements() as f64 }, &[node.output_grad()])?;
            run_single(&Expand { shape }, &[&part])
        })?])
    }
}

impl Op for SumTo {
    fn name(&self) -> &'static str {
        "sum_to"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        expect_broadcasts(&self.shape, &x)?;
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        out.data.fill(0.0);
        for (i, value) in x.data.iter().enumerate() {
            out.data[repeated_position(out.shape, &x.shape.unravel(i))] += value;
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        sum_to(inputs[0], &mut outputs[0]);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        opencl::sum(call, call.input(0), call.output(0), 1.0)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let expand = Expand { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&expand, &[node.output_grad()]))?])
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        expect_broadcasts(&x, &self.shape)?;
        Ok(smallvec![self.shape])
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        for i in 0..out.data.len() {
            out.data[i] = x.data[repeated_position(x.shape, &out.shape.unravel(i))];
        }
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        let (x, out) = (inputs[0], &mut outputs[0]);
        if out.data.is_empty() {
            return;
        }
        let walk = Strided::new(out.shape, [x.shape]);
        let inner = walk.inner();
        for_each_chunk(out.data, (CHUNK / inner).max(1) * inner, |start, part| {
            for (r, row) in part.chunks_exact_mut(inner).enumerate() {
                let [from] = walk.starts(start / inner + r);
                match walk.inner_steps() {
                    [0] => row.fill(x.data[from]),
                    _ => row.copy_from_slice(&x.data[from..from + inner]),
                }
            }
        });
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        broadcast::opencl::<1>(call, "expand", &formula::function("formula", |[x]: [Symbol; 1]| x))
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let sum_to = SumTo { shape: node.input_shapes[0] };
        Ok(smallvec![node.if_needed(0, || run_single(&sum_to, &[node.output_grad()]))?])
    }
}

/// The position in `shape` of an element of the shape that it broadcasts to.
fn repeated_position(shape: &Shape, index: &[usize]) -> usize {
    let own = &index[index.len() - shape.rank()..];
    shape.iter().zip(own).fold(0, |flat, (&e, &i)| flat * e + if e == 1 { 0 } else { i })
}

/// The sum of all, in at most 64 parts of a size that depends on the length alone.
fn sum(x: &[f32]) -> f64 {
    const PARTS: usize = 64;
    if x.is_empty() {
        return 0.0;
    }
    let part = x.len().div_ceil(PARTS).max(CHUNK);
    let mut sums = [0.0; PARTS];
    let count = x.len().div_ceil(part);
    for_each_chunk(&mut sums[..count], 1, |k, out| {
        out[0] = sum_slice(&x[k * part..x.len().min((k + 1) * part)]);
    });
    sums[..count].iter().sum()
}

/// The sum of a slice: short runs in single precision, their sums in double.
pub(super) fn sum_slice(x: &[f32]) -> f64 {
    dispatch(SumKernel(x))
}

struct SumKernel<'a>(&'a [f32]);

impl Kernel for SumKernel<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self) -> f64 {
        // Sixteen additions in each of four vectors, then the lanes: few enough that rounding stays below 1e-6.
        let mut total = 0.0;
        let mut runs = self.0.chunks_exact(64 * S::LANES);
        for run in &mut runs {
            let mut sums = [S::splat(0.0); 4];
            for four in run.chunks_exact(4 * S::LANES) {
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = *sum + S::from_slice(&four[k * S::LANES..]);
                }
            }
            total += f64::from(((sums[0] + sums[1]) + (sums[2] + sums[3])).sum());
        }
        let mut sum = S::splat(0.0);
        for some in runs.remainder().chunks(S::LANES) {
            sum = sum + S::from_short_slice(some);
        }
        total + f64::from(sum.sum())
    }
}

fn sum_to(x: View<'_, f32>, out: &mut ViewMut<'_, f32>) {
    if out.shape.elements() == 1 {
        out.data[0] = sum(x.data) as f32;
        return;
    }
    if x.data.is_empty() {
        out.data.fill(0.0);
        return;
    }
    // Walk over the input with the steps of both; axes of step 0 in the output are summed along.
    let walk = Strided::new(x.shape, [x.shape, out.shape]);
    let split = |kept: bool| -> Strided<2> {
        let mut part = Strided { extents: Default::default(), steps: Default::default() };
        for (&extent, &step) in walk.extents.iter().zip(&walk.steps) {
            if (step[1] != 0) == kept {
                part.extents.push(extent);
                part.steps.push(step);
            }
        }
        // The innermost loop is a loop of its own below.
        part.extents.push(1);
        part.steps.push([0; 2]);
        part
    };
    let inner = walk.inner();
    let summed = split(false);
    let kept = split(true);
    if walk.inner_steps()[1] == 0 {
        // Rows of the input are summed whole: every output is a sum over rows.
        let rows = summed.rows() / inner;
        let chunk = (CHUNK / (rows * inner)).max(1);
        for_each_chunk(out.data, chunk, |start, part| {
            for (k, out) in part.iter_mut().enumerate() {
                let [base, _] = kept.starts(start + k);
                let sum: f64 = (0..rows)
                    .map(|r| {
                        let from = base + summed.starts(r * inner)[0];
                        sum_slice(&x.data[from..from + inner])
                    })
                    .sum();
                *out = sum as f32;
            }
        });
    } else {
        // Rows of the input are added to rows of the output, a piece that stays in the cache at a time.
        const PIECE: usize = 256;
        let summed_rows = summed.rows();
        for_each_chunk(out.data, inner, |start, row| {
            let base = kept.starts(start)[0];
            for_each_chunk(row, PIECE, |at, piece| {
                let mut sums = [0.0f64; PIECE];
                for s in 0..summed_rows {
                    let from = base + at + summed.starts(s)[0];
                    for (sum, value) in sums.iter_mut().zip(&x.data[from..from + piece.len()]) {
                        *sum += f64::from(*value);
                    }
                }
                piece.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
            });
        });
    }
}

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).expect("a small shape")
}

fn whole_cases<T: Op + Copy>(op: T) -> Vec<Case> {
    let mut cases: Vec<Case> = [&[][..], &[1], &[3, 7], &[2, 3, 5, 4]]
        .into_iter()
        .map(|s| Case::new(shape(s).to_string(), op, [CaseInput::uniform(shape(s))]))
        .collect();
    for s in [&[5 * CHUNK + 3][..], &[300, 6, 24, 24]] {
        cases.push(
            Case::new(shape(s).to_string(), op, [CaseInput::between(shape(s), -1.0, 2.0)]).without_gradient(),
        );
    }
    cases.push(Case::new("empty", op, [CaseInput::uniform([0, 3])]).without_gradient());
    cases
}

register_op!("sum", || whole_cases(Sum));
register_op!("mean", || whole_cases(Mean));

const BROADCASTS: [(&[usize], &[usize]); 12] = [
    (&[], &[]),
    (&[], &[2, 3, 5, 4]),
    (&[1], &[7]),
    (&[3, 1, 1], &[2, 3, 5, 4]),
    (&[4], &[2, 3, 5, 4]),
    (&[1, 3, 5, 4], &[2, 3, 5, 4]),
    (&[2, 1, 5, 1], &[2, 3, 5, 4]),
    (&[1, 3, 1, 4], &[2, 3, 5, 4]),
    (&[5], &[0, 5]),
    (&[1, 0], &[4, 0]),
    (&[CHUNK, 1], &[CHUNK, 3]),
    (&[1, CHUNK], &[3, CHUNK]),
];

register_op!("sum_to", || {
    let mut cases: Vec<Case> = BROADCASTS
        .into_iter()
        .map(|(small, large)| {
            let (small, large) = (shape(small), shape(large));
            let case =
                Case::new(format!("{large} to {small}"), SumTo { shape: small }, [CaseInput::uniform(large)]);
            if large.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect();
    let lenet = Case::new(
        "bias of LeNet",
        SumTo { shape: shape(&[6, 1, 1]) },
        [CaseInput::uniform([256, 6, 24, 24])],
    );
    cases.push(lenet.timed());
    cases
});

register_op!("expand", || {
    BROADCASTS
        .into_iter()
        .map(|(small, large)| {
            let (small, large) = (shape(small), shape(large));
            let case = Case::new(
                format!("{small} to {large}"),
                Expand { shape: large },
                [CaseInput::uniform(small)],
            );
            if large.elements() > 1000 { case.without_gradient() } else { case }
        })
        .collect()
});

//! Dropout.

mod cases;
mod cpu;

use std::sync::Arc;

use smallvec::smallvec;

use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::memory::Scratch;
use crate::opencl::{Arg, Call, Grid, Source};
use neocog_base::random::philox;
use neocog_base::{Error, Result};

/// `y[i] = 0` with probability `p`, else `x[i] / (1 - p)`. The output has the shape of `x`. N. Srivastava et al., "Dropout",
/// JMLR 15 (2014).
///
/// Element `i` in row-major order is dropped if word `i % 4` of the Philox block with key `seed` and counter
/// `offset * 2^64 + i / 4` is below `p * 2^32`. The mask is thus the same on every device and for any number of threads. The
/// gradient is the same operation on `dy`, so nothing is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, from 0 to 1.
    pub p: f64,
    /// Seed of the random number stream.
    pub seed: u64,
    /// Offset into the stream: a different one for each step and each layer.
    pub offset: u64,
}

impl Dropout {
    /// Returns the threshold, from 0 to 2^32: elements whose words are below it are dropped.
    fn threshold(&self) -> u64 {
        (self.p * (1u64 << 32) as f64).round() as u64
    }

    /// Whether element `i` is dropped.
    pub(super) fn drops(&self, i: usize) -> bool {
        let word = philox(self.seed, cpu::counter(self.offset, i / 4))[i % 4];
        u64::from(word) < self.threshold()
    }

    /// Returns the factor of the remaining elements.
    pub(super) fn scale(&self) -> f64 {
        1.0 / (1.0 - self.p)
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::invalid_argument(format!("p must be from 0 to 1, it is {}", self.p)));
        }
        Ok(smallvec![x])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        for (i, (x, y)) in inputs[0].data.iter().zip(outputs[0].data.iter_mut()).enumerate() {
            *y = if self.drops(i) { 0.0 } else { x * self.scale() };
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let threshold = u32::try_from(self.threshold()).ok();
        let stream = [self.seed, self.offset];
        cpu::dropout(stream, threshold, self.scale() as f32, inputs[0].data, outputs[0].data);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let Ok(threshold) = u32::try_from(self.threshold()) else {
            return call.fill(y.buffer, 0.0);
        };
        let n = y.buffer.len();
        let args = [
            x.into(),
            y.into(),
            n.into(),
            Arg::Ulong(self.seed),
            Arg::Ulong(self.offset),
            Arg::Uint(threshold),
            Arg::Float(if threshold == 0 { 1.0 } else { self.scale() as f32 }),
        ];
        let source = Source::new("dropout", include_str!("kernels.cl"));
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&source, "dropout", &args, Grid::line(n.div_ceil(4 * call.width()))) }
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(self, &[node.output_grad()]))?])
    }

    fn reseeded(&self, seed: u64) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Dropout { seed, ..*self }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Tensor};

    fn on_ones(op: Dropout, count: usize) -> Vec<f32> {
        let ones = Tensor::from_f32([count], &vec![1.0; count], &Device::Cpu).unwrap();
        run_single(&op, &[&ones]).unwrap().to_f32().unwrap()
    }

    #[test]
    fn rates_and_means_are_within_five_sigma() {
        let count = 1_000_000;
        for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let y = on_ones(Dropout { p, seed: 42, offset: 7 }, count);
            let kept = (1.0 / (1.0 - p)) as f32;
            assert!(y.iter().all(|&v| v == 0.0 || v == kept), "{p}");
            let zeros = y.iter().filter(|&&v| v == 0.0).count() as f64 / count as f64;
            let sigma = (p * (1.0 - p) / count as f64).sqrt();
            assert!((zeros - p).abs() <= 5.0 * sigma, "{p}: {zeros} are zero");
            let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64;
            let expected = if p < 1.0 { 1.0 } else { 0.0 };
            let sigma = if p < 1.0 { (p / (1.0 - p) / count as f64).sqrt() } else { 0.0 };
            assert!((mean - expected).abs() <= 5.0 * sigma + 1e-7, "{p}: the mean is {mean}");
        }
    }

    #[test]
    fn masks_depend_on_seed_and_offset() {
        let masks =
            [(1, 1), (1, 2), (2, 1)].map(|(seed, offset)| on_ones(Dropout { p: 0.5, seed, offset }, 400));
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let equal = masks[a].iter().zip(&masks[b]).filter(|(x, y)| x == y).count();
            assert!((150..=250).contains(&equal), "{equal} of 400 are equal");
        }
        assert_eq!(masks[0], on_ones(Dropout { p: 0.5, seed: 1, offset: 1 }, 400));
        // The mask does not depend on the number of elements.
        assert_eq!(masks[0][..7], on_ones(Dropout { p: 0.5, seed: 1, offset: 1 }, 7));
    }

    #[test]
    fn invalid_probabilities_are_errors() {
        for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let error = Dropout { p, seed: 0, offset: 0 }.infer(&[Shape::from([2])]).unwrap_err();
            assert!(error.to_string().contains("from 0 to 1"), "{error}");
        }
    }
}

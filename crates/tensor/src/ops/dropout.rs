//! Dropout with counter-based random numbers: the mask is a function of seed, offset and position, the same on every
//! device and for any number of threads.

use smallvec::smallvec;

use crate::cases::{Case, CaseInput};
use crate::error::{Error, Result};
use crate::memory::Scratch;
use crate::op::{Gradient, InputGrads, Keeps, Op, expect_inputs};
use crate::parallel::{CHUNK, for_each_chunk};
use crate::random::{philox, philox_block};
use crate::register_op;
use crate::run::run1;
use crate::shape::{Shape, Shapes};
use crate::view::{View, ViewMut};

/// Each number becomes 0 with probability `p`; the others are divided by `1 - p`. The gradient is the same operation
/// on `dy`.
///
/// The number at position `i` is dropped where word `i % 4` of Philox block `(i / 4, offset)` of the key `seed` is
/// below `p · 2^32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability, from 0 to 1.
    pub p: f64,
    /// Which stream of random numbers.
    pub seed: u64,
    /// Which part of it: one for each dropout of a pass.
    pub offset: u64,
}

impl Dropout {
    /// Random words below this drop their number; 2^32 drops all.
    fn threshold(&self) -> u64 {
        (self.p * 4_294_967_296.0).round() as u64
    }

    fn counter(&self, block: usize) -> u128 {
        u128::from(self.offset) << 64 | block as u128
    }

    fn scale(&self) -> f64 {
        if self.p < 1.0 { 1.0 / (1.0 - self.p) } else { 0.0 }
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs(self, inputs)?;
        if !(0.0..=1.0).contains(&self.p) {
            return Err(Error::argument(format!("p is a probability from 0 to 1, not {}", self.p)));
        }
        Ok(smallvec![x])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        for (i, (y, x)) in outputs[0].data.iter_mut().zip(inputs[0].data).enumerate() {
            let word = philox(self.seed, self.counter(i / 4))[i % 4];
            *y = if u64::from(word) < self.threshold() { 0.0 } else { x * self.scale() };
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        const BLOCKS: usize = 8;
        let (threshold, scale) = (self.threshold(), self.scale() as f32);
        for_each_chunk(outputs[0].data, CHUNK, |start, y| {
            let x = &inputs[0].data[start..][..y.len()];
            for (group, (y, x)) in y.chunks_mut(4 * BLOCKS).zip(x.chunks(4 * BLOCKS)).enumerate() {
                // Eight blocks side by side, so that the compiler can use vectors.
                let words = philox_block::<BLOCKS>(self.seed, self.counter(start / 4 + group * BLOCKS));
                for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    let word = words[i % 4][i / 4];
                    *y = if u64::from(word) < threshold { 0.0 } else { x * scale };
                }
            }
        });
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run1(self, &[node.output_grad()]))?])
    }
}

register_op!("dropout", || {
    let mut cases = Vec::new();
    for p in [0.0, 0.1, 0.5, 1.0] {
        for shape in [Shape::from([3, 7]), Shape::from([2, 3, 5, 9]), Shape::from([0, 4])] {
            let op = Dropout { p, seed: 7, offset: 3 };
            cases.push(Case::new(format!("{shape} p {p}"), op, [CaseInput::distinct(shape)]));
        }
    }
    let op = Dropout { p: 0.5, seed: u64::MAX, offset: 1 };
    cases.push(Case::new("many", op, [CaseInput::distinct([CHUNK * 2 + 5])]).without_gradient());
    cases.push(Case::new("fully connected", op, [CaseInput::uniform([128, 4096])]).timed());
    cases
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Tensor};

    #[test]
    fn the_share_of_zeros_is_p_and_the_rest_is_scaled() {
        const N: usize = 1_000_000;
        let ones = Tensor::full([N], 1.0, &Device::Cpu);
        for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let y = run1(&Dropout { p, seed: 1, offset: 2 }, &[&ones]).unwrap().to_f32().unwrap();
            let zeros = y.iter().filter(|v| **v == 0.0).count() as f64 / N as f64;
            let sigma = (p * (1.0 - p) / N as f64).sqrt();
            assert!((zeros - p).abs() <= 5.0 * sigma, "p {p}: {zeros}");
            assert!(y.iter().all(|&v| v == 0.0 || v == (1.0 / (1.0 - p)) as f32), "p {p}");
        }
    }

    #[test]
    fn other_offsets_and_seeds_give_other_masks() {
        let ones = Tensor::full([1000], 1.0, &Device::Cpu);
        let mask =
            |seed, offset| run1(&Dropout { p: 0.5, seed, offset }, &[&ones]).unwrap().to_f32().unwrap();
        assert_eq!(mask(1, 1), mask(1, 1));
        assert_ne!(mask(1, 1), mask(1, 2));
        assert_ne!(mask(1, 1), mask(2, 1));
        let bad = Dropout { p: f64::NAN, seed: 0, offset: 0 };
        assert!(run1(&bad, &[&ones]).is_err());
    }
}

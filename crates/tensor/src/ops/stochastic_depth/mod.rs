//! Stochastic depth: dropout of whole images.

use std::sync::Arc;

use smallvec::smallvec;

use super::{Dropout, Mul};
use crate::core::call;
use crate::core::check::{check_call, check_views};
use crate::core::op::{Gradient, InputGrads, Op, SavedTensors, expect_inputs};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::view::{View, ViewMut};
use crate::cpu::parallel::for_each_chunk;
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};
use neocog_base::Result;

/// Stochastic depth: sets each image to 0 with probability `p`, or all images together, and divides the others by `1 - p`.
/// G. Huang et al., "Deep networks with stochastic depth", ECCV 2016.
///
/// Input and output: `[n, ..]`. Image `i` is dropped if word `i % 4` of the block `i / 4` of [`Dropout`]'s random numbers is below
/// `p · 2^32`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StochasticDepth {
    /// Probability of dropping, seed and offset of the random numbers.
    pub dropout: Dropout,
    /// Whether the images are dropped one by one; if not, the first word decides on all.
    pub each_image: bool,
}

impl StochasticDepth {
    /// Returns the factor of image `i`.
    fn factor(&self, i: usize) -> f64 {
        if self.dropout.drops(if self.each_image { i } else { 0 }) { 0.0 } else { self.dropout.scale() }
    }
}

impl Op for StochasticDepth {
    fn name(&self) -> &'static str {
        "stochastic_depth"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let [x] = expect_inputs::<1>(self, inputs)?;
        x.axis(0)?;
        self.dropout.infer(inputs)
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let row = inputs[0].shape.row();
        for (i, (x, y)) in inputs[0].data.iter().zip(outputs[0].data.iter_mut()).enumerate() {
            *y = x * self.factor(i / row);
        }
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (x, row) = (inputs[0].data, inputs[0].shape.row());
        if outputs[0].data.is_empty() {
            return;
        }
        for_each_chunk(outputs[0].data, row, |start, part| {
            for (r, part) in part.chunks_exact_mut(row).enumerate() {
                let factor = self.factor(start / row + r) as f32;
                let x = &x[start + r * row..][..row];
                part.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
            }
        });
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, y) = (call.input(0), call.output(0));
        let images = x.shape[0];
        let mut extents = [1; Shape::MAX_RANK];
        extents[0] = images;
        let shape = Shape::new(&extents[..x.shape.rank()])?;
        let factors = call.scratch(images)?;
        factors.write((0..images).map(|i| self.factor(i) as f32).collect())?;
        let inputs = [x, call::View { shape: &shape, buffer: &factors }];
        Mul.opencl(&call.part("mul", &inputs, &[y]))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        Ok(smallvec![node.if_needed(0, || run_single(self, &[node.output_grad()]))?])
    }

    fn reseeded(&self, seed: u64) -> Option<Arc<dyn Op>> {
        Some(Arc::new(StochasticDepth { dropout: Dropout { seed, ..self.dropout }, ..*self }))
    }
}

register_op!("stochastic_depth", || {
    let case = |name: &str, p, each_image, shape: &[usize]| {
        let shape = Shape::new(shape).expect("a small shape");
        let dropout = Dropout { p, seed: 3, offset: 5 };
        Case::new(name, StochasticDepth { dropout, each_image }, [CaseInput::uniform(shape)])
    };
    vec![
        case("each image", 0.5, true, &[9, 2, 3, 3]),
        case("all images", 0.5, false, &[5, 2, 3]),
        case("nothing dropped", 0.0, true, &[3, 4]),
        case("everything dropped", 1.0, true, &[3, 4]),
        case("empty", 0.5, true, &[0, 4]),
        case("EfficientNet", 0.2, true, &[32, 24, 56, 56]).timed(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Tensor};

    #[test]
    fn images_are_dropped_as_a_whole() {
        let ones = Tensor::full([1000, 2, 3], 1.0, &Device::Cpu).unwrap();
        for (p, each_image) in [(0.25, true), (0.5, true), (0.5, false)] {
            let dropout = Dropout { p, seed: 1, offset: 2 };
            let y = run_single(&StochasticDepth { dropout, each_image }, &[&ones]).unwrap().to_f32().unwrap();
            let kept = (1.0 / (1.0 - p)) as f32;
            let images: Vec<f32> = y
                .chunks(6)
                .map(|image| {
                    assert!(image.iter().all(|v| *v == image[0] && (*v == 0.0 || *v == kept)));
                    image[0]
                })
                .collect();
            let dropped = images.iter().filter(|v| **v == 0.0).count();
            if each_image {
                assert!((dropped as f64 - 1000.0 * p).abs() < 80.0, "{p}: {dropped}");
            } else {
                assert!(dropped == 0 || dropped == 1000);
            }
        }
    }
}

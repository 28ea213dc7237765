//! The fully connected layer.

mod cases;

use std::sync::Arc;

use rayon::prelude::*;
use smallvec::smallvec;

use super::bias_activation_grad::Fused;
use super::{Activation, MatMul};
use crate::core::batch::only_first_is_batched;
use crate::core::check::{check_call, check_views};
use crate::core::fusion::{self, ChannelAffine, Pass};
use crate::core::op::{AbsorbedAffine, Gradient, InputGrads, Op, SavedTensors};
use crate::core::run::run_single;
use crate::core::shape::{Shape, Shapes};
use crate::core::tensor::Tensor;
use crate::core::view::{View, ViewMut};
use crate::cpu::{Matrix, product};
use crate::memory::Scratch;
use crate::opencl::Call;
use crate::ops::product::{Gather, LeftMatrix, Product, Target, transposed};
use neocog_base::text::count;
use neocog_base::{Error, Result};

/// `y = activation(x weight^T + bias)`.
///
/// Inputs: `x [.., in]` with any leading axes, `weight [out, in]` and optionally `bias [out]`. Output: `[.., out]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Linear {
    /// Activation that is applied to the result.
    pub activation: Option<Activation>,
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        let (x, weight) = match inputs {
            [x, weight] | [x, weight, _] => (x, weight),
            _ => {
                return Err(Error::invalid_argument(format!(
                    "linear expects an input, a weight and an optional bias, found {}: {inputs:?}",
                    count(inputs.len(), "input")
                )));
            }
        };
        let [out, features] = weight.extents() else {
            return Err(Error::shape(format!("expected a weight [out, in], found {weight}")));
        };
        match x.extents().last() {
            None => return Err(Error::shape("the input is a scalar, expected [.., in]")),
            Some(last) if last != features => {
                return Err(Error::shape(format!(
                    "the input has {last} features, the weight expects {features}; input {x}, weight {weight}"
                )));
            }
            Some(_) => {}
        }
        if let Some(bias) = inputs.get(2)
            && bias.extents() != [*out]
        {
            return Err(Error::shape(format!("expected a bias [{out}], found {bias}")));
        }
        let mut extents = x.to_vec();
        extents[x.rank() - 1] = *out;
        Ok(smallvec![Shape::new(&extents)?])
    }

    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        let (out, features) = (inputs[1].shape[0], inputs[1].shape[1]);
        outputs[0].data.par_iter_mut().with_min_len(16).enumerate().for_each(|(i, y)| {
            let (row, o) = (i / out, i % out);
            *y = (0..features)
                .map(|k| inputs[0].data[row * features + k] * inputs[1].data[o * features + k])
                .sum::<f64>()
                + inputs.get(2).map_or(0.0, |bias| bias.data[o]);
            if let Some(activation) = self.activation {
                *y = activation.apply(*y);
            }
        });
    }

    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        check_views(self, inputs, outputs);
        let (out, features) = (inputs[1].shape[0], inputs[1].shape[1]);
        if outputs[0].data.is_empty() {
            return;
        }
        let x = Matrix::rows(inputs[0].data, outputs[0].data.len() / out, features);
        let weight = Matrix::rows(inputs[1].data, out, features).transposed();
        product(x, weight, inputs.get(2).map(|b| b.data), self.activation, outputs[0].data, scratch);
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        check_call(self, call)?;
        let (x, weight, y) = (call.input(0), call.input(1), call.output(0));
        let (out, features) = (weight.shape[0], weight.shape[1]);
        let rows = y.buffer.len() / out;
        // Computes the transposed result, so that the weight is read in place.
        let columns = transposed(call, x.buffer, 1, [rows, features])?;
        let product = Product {
            groups: 1,
            a: LeftMatrix { buffer: weight.buffer, count: out, group: 0, row: features, number: 1, first: 0 },
            b: Gather::matrix(columns.as_ref().unwrap_or(x.buffer), features, rows),
            bias: call.inputs().get(2).map(|view| view.buffer),
            activation: self.activation,
            c: Target { buffer: y.buffer, group: 0, row: 1, image: 0, line: 0, pixel: out, first: 0 },
        };
        product.run(call)
    }

    fn split_batch(&self, inputs: &[Shape], batched: &[bool], _images: usize) -> Option<Arc<dyn Op>> {
        (only_first_is_batched(batched) && inputs[0].rank() > 1).then(|| Arc::new(*self) as Arc<dyn Op>)
    }

    fn saves(&self) -> SavedTensors {
        let saved = SavedTensors::NONE.inputs(&[0, 1]);
        if self.activation.is_some() { saved.outputs(&[0]) } else { saved }
    }

    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        let (out, features) = (node.input_shapes[1][0], node.input_shapes[1][1]);
        let shape = node.input_shapes[0];
        let rows: usize = shape[..shape.rank() - 1].iter().product();
        let Fused { dy, bias } = Fused::grad(self.activation, node, [rows, out].into())?;
        let to_weight = MatMul { transpose_a: true, transpose_b: false };
        let mut grads: InputGrads = smallvec![
            node.if_needed(0, || run_single(&MatMul::default(), &[&dy, node.input(1)])?.reshape(shape))?,
            node.if_needed(1, || run_single(&to_weight, &[&dy, &node.input(0).reshape([rows, features])?]))?,
        ];
        if node.needs.len() == 3 {
            grads.push(bias);
        }
        Ok(grads)
    }

    fn multiply_adds(&self, inputs: &[Shape], _outputs: &[Shape]) -> u64 {
        (inputs[0].elements() as u64).saturating_mul(inputs[1][0] as u64)
    }

    fn absorb(&self, next: &dyn Op, pass: Pass) -> Option<Arc<dyn Op>> {
        let activation = fusion::fusible(self.activation, next.activation(), pass)?;
        Some(Arc::new(Linear { activation: Some(activation) }))
    }

    fn absorb_affine(
        &self,
        map: &ChannelAffine,
        inputs: &[Shape],
        constants: &[Option<&Tensor>],
    ) -> Result<Option<AbsorbedAffine>> {
        // With more axes, axis 1 is not the features.
        if inputs[0].rank() != 2 {
            return Ok(None);
        }
        let folded = fusion::fold_into_product(map, self.activation, constants)?;
        Ok(folded.map(|constants| (Arc::new(*self) as Arc<dyn Op>, constants)))
    }
}

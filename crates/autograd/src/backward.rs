//! The backward pass over what a tape has recorded, and the gradients that it computes.

use std::collections::{HashMap, HashSet};

use neocog_tensor::ops::Accumulate;
use neocog_tensor::{Context as _, Device, Error, Gradient, Result, Tensor, update};
use smallvec::SmallVec;

use crate::param::ParamId;
use crate::tape::{Inner, Node, Tape, Var};

impl Tape {
    /// Computes the gradients of `loss`, which has one element, with respect to all leaves and parameters.
    ///
    /// # Errors
    /// When the loss does not have exactly one element, is not on this tape, or a device fails.
    pub fn backward(self, loss: &Var) -> Result<Grads> {
        let one = one(loss)?;
        self.backward_from(&[(loss, one)])
    }

    /// Computes the vector-Jacobian product: the gradients of the sum of all `outputs`, each multiplied elementwise with the
    /// given tensor.
    ///
    /// # Errors
    /// When shapes differ, an output is not on this tape, or a device fails.
    pub fn backward_from(self, outputs: &[(&Var, Tensor)]) -> Result<Grads> {
        self.backward_and(outputs, None)
    }

    /// Computes the gradient of the sum of all `outputs`, each multiplied elementwise with the given tensor, with respect to one value of the
    /// tape. Only operations on this value, and on what is computed from it, need a gradient. `None` if no output depends on it.
    ///
    /// # Errors
    /// As [`Tape::backward_from`].
    pub fn gradient_of(self, value: &Var, outputs: &[(&Var, Tensor)]) -> Result<Option<Tensor>> {
        let Some(id) = value.id.filter(|id| id.tape == self.recorder.id) else { return Ok(None) };
        self.retain_grad(value);
        let mut dependent = HashSet::from([id.slot]);
        self.recorder.lock().nodes.retain_mut(|node| {
            for slot in &mut node.input_slots {
                *slot = slot.filter(|slot| dependent.contains(slot));
            }
            let depends = node.input_slots.iter().any(Option::is_some);
            if depends {
                dependent.extend(node.first_output_slot..node.first_output_slot + node.output_shapes.len());
            }
            depends
        });
        Ok(self.backward_from(outputs)?.get(value).cloned())
    }

    /// As [`Tape::backward`], and passes the gradient of each parameter to `on_final` as soon as nothing more is added to it: the
    /// backward pass goes on meanwhile. A parameter that does not contribute to the loss has none.
    ///
    /// # Errors
    /// As [`Tape::backward`], and those of `on_final`, which end the pass.
    pub fn backward_with(
        self,
        loss: &Var,
        mut on_final: impl FnMut(ParamId, Option<&Tensor>) -> Result<()>,
    ) -> Result<Grads> {
        let one = one(loss)?;
        self.backward_and(&[(loss, one)], Some(&mut on_final))
    }

    fn backward_and(self, outputs: &[(&Var, Tensor)], mut on_final: Option<OnFinal<'_>>) -> Result<Grads> {
        let Inner { mut nodes, slots, params, retained, .. } = self.finish();
        // The parameters whose gradient is final after the backward pass of a node: the first that uses them.
        let mut final_after = on_final.is_some().then(|| first_uses(&nodes, &params));
        let mut grads: Vec<Option<Tensor>> = vec![None; slots];
        for (var, grad) in outputs {
            match var.id {
                Some(id) if id.tape == self.recorder.id => {
                    if grad.shape() != var.shape() {
                        return Err(Error::shape(format!(
                            "the output has shape {}, but its gradient has shape {}",
                            var.shape(),
                            grad.shape()
                        )));
                    }
                    add_to(&mut grads[id.slot], grad.clone())?;
                }
                _ => {
                    return Err(Error::invalid_argument(
                        "backward of a value that does not depend on any leaf or parameter of this tape",
                    ));
                }
            }
        }
        if let (Some(on_final), Some(final_after)) = (&mut on_final, &mut final_after) {
            for (id, slot) in final_after.remove(&None).unwrap_or_default() {
                on_final(id, grads[slot].as_ref())?;
            }
        }
        // Nodes are popped, so that their saved tensors are freed as soon as possible.
        while let Some(node) = nodes.pop() {
            let outputs = node.first_output_slot..node.first_output_slot + node.output_shapes.len();
            let output_grads: SmallVec<[Option<Tensor>; 2]> = outputs
                .map(|slot| if retained.contains(&slot) { grads[slot].clone() } else { grads[slot].take() })
                .collect();
            if output_grads.iter().any(Option::is_some) {
                add_input_grads(&node, output_grads, &mut grads)?;
            }
            if let (Some(on_final), Some(final_after)) = (&mut on_final, &mut final_after) {
                for (id, slot) in final_after.remove(&Some(nodes.len())).unwrap_or_default() {
                    on_final(id, grads[slot].as_ref())?;
                }
            }
        }
        // Slots only: a reference to the parameter's memory would make the optimizer's update copy it.
        let params = params.into_iter().map(|(id, (slot, _))| (id, slot)).collect();
        Ok(Grads { tape: self.recorder.id, grads, params })
    }
}

/// The gradient of a loss with respect to itself.
fn one(loss: &Var) -> Result<Tensor> {
    if loss.shape().elements() != 1 {
        return Err(Error::shape(format!(
            "backward needs a loss of one element, but its shape is {}; use its sum or mean, or backward_from",
            loss.shape()
        )));
    }
    Tensor::full(*loss.shape(), 1.0, &loss.tensor().device())
}

/// Is called with a parameter and its gradient.
type OnFinal<'a> = &'a mut dyn FnMut(ParamId, Option<&Tensor>) -> Result<()>;

/// Returns the parameters, with their slots, by the number of the first node that uses them; `None` if none does.
fn first_uses(
    nodes: &[Node],
    params: &HashMap<ParamId, (usize, Tensor)>,
) -> HashMap<Option<usize>, Vec<(ParamId, usize)>> {
    let mut unused: HashMap<usize, ParamId> = params.iter().map(|(id, (slot, _))| (*slot, *id)).collect();
    let mut first: HashMap<Option<usize>, Vec<(ParamId, usize)>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for slot in node.input_slots.iter().flatten() {
            if let Some(id) = unused.remove(slot) {
                first.entry(Some(i)).or_default().push((id, *slot));
            }
        }
    }
    first.insert(None, unused.into_iter().map(|(slot, id)| (id, slot)).collect());
    first
}

/// Computes the gradients of the inputs of a node, and adds them to what is in their slots.
fn add_input_grads(
    node: &Node,
    output_grads: SmallVec<[Option<Tensor>; 2]>,
    grads: &mut [Option<Tensor>],
) -> Result<()> {
    let _scope = node.scope.enter();
    let needs: SmallVec<[bool; 4]> = node.input_slots.iter().map(Option::is_some).collect();
    let input_grads = node.op.grad(&Gradient {
        input_shapes: &node.input_shapes,
        output_shapes: &node.output_shapes,
        inputs: &node.saved_inputs,
        outputs: &node.saved_outputs,
        output_grads: &output_grads,
        needs: &needs,
    })?;
    let device = output_grads.iter().flatten().next().map(Tensor::device);
    drop(output_grads);
    check_grads(node, device, &input_grads)?;
    for (slot, grad) in node.input_slots.iter().zip(input_grads) {
        if let (Some(slot), Some(grad)) = (slot, grad) {
            add_to(&mut grads[*slot], grad).context(|| node.op.name())?;
        }
    }
    Ok(())
}

/// Checks the gradients that an operation returned.
fn check_grads(node: &Node, device: Option<Device>, grads: &[Option<Tensor>]) -> Result<()> {
    let name = node.op.name();
    if grads.len() != node.input_shapes.len() {
        return Err(Error::shape(format!(
            "{name} has {} inputs, but its gradient returned {} tensors",
            node.input_shapes.len(),
            grads.len()
        )));
    }
    for (i, (grad, shape)) in grads.iter().zip(&node.input_shapes).enumerate() {
        if let Some(grad) = grad
            && grad.shape() != shape
        {
            return Err(Error::shape(format!(
                "input {i} of {name} has shape {shape}, but its gradient has shape {}",
                grad.shape()
            )));
        }
        if let (Some(grad), Some(device)) = (grad, device)
            && grad.device() != device
        {
            return Err(Error::device(format!(
                "input {i} of {name} is on {device}, but its gradient is on {}",
                grad.device()
            )));
        }
    }
    Ok(())
}

/// The gradients computed by [`Tape::backward`].
#[derive(Debug)]
pub struct Grads {
    pub(crate) tape: u64,
    pub(crate) grads: Vec<Option<Tensor>>,
    pub(crate) params: HashMap<ParamId, usize>,
}

impl Default for Grads {
    /// No gradients.
    fn default() -> Self {
        // No tape has this number.
        Grads { tape: u64::MAX, grads: Vec::new(), params: HashMap::new() }
    }
}

impl Grads {
    /// Returns the gradient of a leaf, or of a value whose gradient was [retained](Tape::retain_grad); `None` if it did not
    /// contribute to the loss.
    pub fn get(&self, var: &Var) -> Option<&Tensor> {
        let id = var.id.filter(|id| id.tape == self.tape)?;
        self.grads[id.slot].as_ref()
    }
}

/// Adds a gradient to what is in a slot.
pub(crate) fn add_to(slot: &mut Option<Tensor>, grad: Tensor) -> Result<()> {
    match slot {
        None => *slot = Some(grad),
        Some(sum) => {
            update(&Accumulate, &[&grad], &mut [sum])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use neocog_tensor::ops::{Add, Mul};

    use super::*;
    use crate::param::Param;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_f32([values.len()], values, &Device::Reference).unwrap()
    }

    #[test]
    fn gradients_of_an_input_used_twice_are_summed() {
        let tape = Tape::new();
        let x = tape.leaf(tensor(&[3.0]));
        let square = tape.apply_single(Mul, &[&x, &x]).unwrap();
        let y = tape.apply_single(Add, &[&square, &x]).unwrap();
        let grads = tape.backward(&y).unwrap();
        assert_eq!(grads.get(&x).unwrap().item().unwrap(), 7.0);
    }

    #[test]
    fn gradients_of_computed_values_are_kept_if_asked_for() {
        let tape = Tape::new();
        let x = tape.leaf(tensor(&[3.0]));
        let square = tape.apply_single(Mul, &[&x, &x]).unwrap();
        let cube = tape.apply_single(Mul, &[&square, &x]).unwrap();
        let y = tape.apply_single(Mul, &[&cube, &square]).unwrap();
        tape.retain_grad(&square);
        let grads = tape.backward(&y).unwrap();
        // y = s^2 x: 2 s x.
        assert_eq!(grads.get(&square).unwrap().item().unwrap(), 54.0);
        assert!(grads.get(&cube).is_none());
        assert_eq!(grads.get(&x).unwrap().item().unwrap(), 405.0);
    }

    #[test]
    fn gradients_are_passed_on_as_soon_as_they_are_final() {
        let [p, q, unused] = [5.0, 2.0, 1.0].map(|value| Param::new(tensor(&[value])));
        let tape = Tape::new();
        tape.param(&unused);
        let x = tape.apply_single(Mul, &[&tape.param(&p), &tape.param(&p)]).unwrap();
        let x = tape.apply_single(Mul, &[&x, &tape.param(&q)]).unwrap();
        let x = tape.apply_single(Mul, &[&x, &tape.param(&p)]).unwrap();
        let mut passed = Vec::new();
        let grads = tape.backward_with(&x, |id, grad| {
            passed.push((id, grad.map(|grad| grad.item().unwrap())));
            Ok(())
        });
        // p^3 q.
        assert_eq!(passed, [(unused.id(), None), (q.id(), Some(125.0)), (p.id(), Some(150.0))]);
        assert_eq!(grads.unwrap().param(&p).unwrap().item().unwrap(), 150.0);
        let tape = Tape::new();
        let x = tape.apply_single(Mul, &[&tape.param(&p), &tape.param(&p)]).unwrap();
        let stopped = tape.backward_with(&x, |_, _| Err(Error::invalid_argument("enough")));
        assert!(stopped.unwrap_err().to_string().contains("enough"));
    }

    #[test]
    fn a_parameter_used_twice_is_one_leaf() {
        let p = Param::new(tensor(&[5.0]));
        let tape = Tape::new();
        let y = tape.apply_single(Mul, &[&tape.param(&p), &tape.param(&p)]).unwrap();
        let grads = tape.backward(&y).unwrap();
        assert_eq!(grads.param(&p).unwrap().item().unwrap(), 10.0);
        assert!(grads.param(&Param::new(tensor(&[1.0]))).is_none());
    }

    #[test]
    fn a_frozen_parameter_is_a_constant() {
        let (p, q) = (Param::new(tensor(&[5.0])), Param::new(tensor(&[2.0])));
        p.set_frozen(true);
        let tape = Tape::new();
        let square = tape.apply_single(Mul, &[&tape.param(&p), &tape.param(&p)]).unwrap();
        assert!(tape.is_empty());
        let y = tape.apply_single(Mul, &[&square, &tape.param(&q)]).unwrap();
        let grads = tape.backward(&y).unwrap();
        assert!(grads.param(&p).is_none());
        assert_eq!(grads.param(&q).unwrap().item().unwrap(), 25.0);
    }
}

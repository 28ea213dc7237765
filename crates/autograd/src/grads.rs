//! What can be done with gradients before they are used.

use neocog_tensor::ops::{Add, Clamp, Mul, Pow, Scale, Sqrt, Sum};
use neocog_tensor::{Error, Result, Tensor, run_single};

use crate::backward::{Grads, add_to};
use crate::param::{Param, ParamId};

impl Grads {
    /// Returns the gradient of a parameter; `None` if it did not contribute to the loss.
    pub fn param(&self, param: &Param) -> Option<&Tensor> {
        self.of(param.id())
    }

    /// Returns the gradient of the parameter with this identity; `None` if it did not contribute to the loss.
    pub fn of(&self, id: ParamId) -> Option<&Tensor> {
        self.grads[*self.params.get(&id)?].as_ref()
    }

    /// Creates gradients of parameters; [`Grads::norm`] adds them in this order.
    pub fn from_params(grads: impl IntoIterator<Item = (ParamId, Tensor)>) -> Self {
        let mut all = Grads::default();
        for (id, grad) in grads {
            all.params.insert(id, all.grads.len());
            all.grads.push(Some(grad));
        }
        all
    }

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        self.map(|grad| run_single(&Scale { factor }, &[grad]))
    }

    /// Limits each element of the gradients of parameters to the range from `-limit` to `limit`, as PyTorch's `clip_grad_value_`.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit that is negative or NaN; when the device fails.
    pub fn clip_value(&mut self, limit: f64) -> Result<()> {
        check_limit(limit)?;
        self.map_params(|grad| run_single(&Clamp { min: -limit, max: limit }, &[grad]))
    }

    /// Scales the gradients of parameters such that their norm is at most `limit`, as PyTorch's `clip_grad_norm_`; returns the norm
    /// before, a scalar on the device.
    ///
    /// # Errors
    /// `InvalidArgument` for a limit that is negative or NaN; when the device fails.
    pub fn clip_norm(&mut self, limit: f64) -> Result<Option<Tensor>> {
        check_limit(limit)?;
        let Some(norm) = self.norm()? else { return Ok(None) };
        // limit / (norm + 1e-6), at most 1.
        let one = Tensor::full([], 1e-6, &norm.device())?;
        let inverse = run_single(&Pow { exponent: -1.0 }, &[&run_single(&Add, &[&norm, &one])?])?;
        let factor = run_single(&Scale { factor: limit }, &[&inverse])?;
        let factor = run_single(&Clamp { min: f64::NEG_INFINITY, max: 1.0 }, &[&factor])?;
        self.map_params(|grad| run_single(&Mul, &[grad, &factor]))?;
        Ok(Some(norm))
    }

    /// Returns the Euclidean norm of the gradients of all parameters, a scalar on the device; `None` if there are none.
    ///
    /// # Errors
    /// When the device fails.
    pub fn norm(&self) -> Result<Option<Tensor>> {
        let mut sum: Option<Tensor> = None;
        for slot in self.param_slots() {
            if let Some(grad) = &self.grads[slot] {
                add_to(&mut sum, run_single(&Sum, &[&run_single(&Mul, &[grad, grad])?])?)?;
            }
        }
        sum.map(|sum| run_single(&Sqrt, &[&sum])).transpose()
    }

    /// Adds the gradients of parameters of another backward pass.
    ///
    /// # Errors
    /// When shapes or devices differ.
    pub fn add(&mut self, other: &Grads) -> Result<()> {
        let mut theirs: Vec<(ParamId, usize)> = other.params.iter().map(|(id, slot)| (*id, *slot)).collect();
        theirs.sort_by_key(|(_, slot)| *slot);
        for (id, slot) in theirs {
            let Some(grad) = &other.grads[slot] else { continue };
            let next = self.grads.len();
            let own = *self.params.entry(id).or_insert(next);
            if own == next {
                self.grads.push(None);
            }
            add_to(&mut self.grads[own], grad.clone())?;
        }
        Ok(())
    }

    /// The slots of the parameters, in the order in which they were used: sums do not depend on anything else.
    fn param_slots(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = self.params.values().copied().collect();
        slots.sort_unstable();
        slots
    }

    fn map_params(&mut self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        for slot in self.param_slots() {
            if let Some(grad) = &mut self.grads[slot] {
                *grad = f(grad)?;
            }
        }
        Ok(())
    }

    fn map(&mut self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
        self.grads.iter_mut().flatten().try_for_each(|grad| {
            *grad = f(grad)?;
            Ok(())
        })
    }
}

fn check_limit(limit: f64) -> Result<()> {
    if limit >= 0.0 {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("the limit of gradients must be at least 0, not {limit}")))
}

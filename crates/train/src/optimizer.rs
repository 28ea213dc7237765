//! Optimizers: update the parameters of a network from their gradients.
//!
//! The algorithms are those of `torch.optim`. The update of all parameters is one operation on the device, in place; the
//! state tensors stay on the device too.

mod composed;

use neocog_autograd::{Grads, Param, ParamId};
use neocog_base::text::count;
use neocog_layers::freeze::Selector;
use neocog_layers::{Layer, state};
use neocog_models::Factors;
use neocog_tensor::ops::{AdamStep, AdamWStep, LionStep, OptimizerSteps, RmsPropStep, SgdStep};
use neocog_tensor::{Context as _, Error, Op, Result, Tensor, update};

pub use neocog_models::optimizer::{OptimizerConfig, OptimizerKind, ParamGroup};

/// An optimizer for the parameters of one network.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// One for each parameter, in the order of the network.
    states: Vec<OptimizerState>,
    /// The identities of the parameters.
    ids: Vec<ParamId>,
    settings: Vec<ParamSettings>,
    /// Whether each parameter is updated here, with its state; `None` for all.
    kept: Option<Vec<bool>>,
}

/// What differs between parameters.
#[derive(Clone, Copy, Debug, Default)]
struct ParamSettings {
    /// The base learning rate, if it is not that of the configuration.
    lr: Option<f64>,
    /// The weight decay, if it is not that of the algorithm.
    weight_decay: Option<f64>,
}

/// The state of an optimizer for one parameter.
#[derive(Clone, Debug)]
pub struct OptimizerState {
    /// Dotted name of the parameter; the first of its names if several layers share it.
    pub name: String,
    /// Number of steps made.
    pub steps: u64,
    /// The state tensors, named by [`OptimizerKind::state_tensors`], in the shape of the parameter.
    pub tensors: Vec<Tensor>,
}

impl Optimizer {
    /// Creates an optimizer for the parameters of `network`, with its state initialized to zeros.
    ///
    /// # Errors
    /// When `config` is invalid, or memory cannot be allocated.
    pub fn new(config: OptimizerConfig, network: &dyn Layer) -> Result<Self> {
        Self::with_groups(config, &[], false, network)
    }

    /// As [`Optimizer::new`], with other learning rates and weight decays for some parameters: of several groups that select a
    /// parameter, the first counts. With `decay_weights_only`, biases and the parameters of norms, that is, all with at most one
    /// axis, have no weight decay, whatever their group says. Frozen parameters have no state.
    ///
    /// # Errors
    /// As [`Optimizer::new`]; when a group is invalid, or selects no parameter that is trained and in no group before it.
    pub fn with_groups(
        config: OptimizerConfig,
        groups: &[ParamGroup],
        decay_weights_only: bool,
        network: &dyn Layer,
    ) -> Result<Self> {
        config.check()?;
        let params = state::params(network);
        let settings = settings(&params, groups, decay_weights_only, network)?;
        let ids = params.iter().map(|(_, param)| param.id()).collect();
        let states = params
            .into_iter()
            .map(|(name, param)| {
                let value = param.value();
                let kind = config.kind.for_rank(value.shape().rank());
                let names = if param.is_frozen() { &[] } else { kind.state_tensors() };
                let tensors = names
                    .iter()
                    .map(|_| Tensor::zeros(*value.shape(), &value.device()))
                    .collect::<Result<_>>()?;
                Ok(OptimizerState { name, steps: 0, tensors })
            })
            .collect::<Result<_>>()?;
        Ok(Optimizer { config, states, ids, settings, kept: None })
    }

    /// Returns the algorithm and the base learning rate.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// Returns the state for each parameter, in the order of the network.
    pub fn state(&self) -> &[OptimizerState] {
        &self.states
    }

    /// Drops the state of all parameters but those for which `kept` is true, which alone are updated from then on.
    pub(crate) fn keep(&mut self, kept: Vec<bool>) {
        let dropped = self.states.iter_mut().zip(&kept).filter(|(_, kept)| !**kept);
        dropped.for_each(|(state, _)| state.tensors.clear());
        self.kept = Some(kept);
    }

    /// Replaces the state, as when a run is resumed.
    ///
    /// # Errors
    /// `Format` when it is the state of other parameters or of another algorithm.
    pub fn set_state(&mut self, states: Vec<OptimizerState>) -> Result<()> {
        if states.len() != self.states.len() {
            return Err(Error::format(format!(
                "the optimizer state has {}, the network has {}",
                count(states.len(), "parameter"),
                self.states.len()
            )));
        }
        for (old, new) in self.states.iter().zip(&states) {
            let shapes = |s: &OptimizerState| s.tensors.iter().map(|t| *t.shape()).collect::<Vec<_>>();
            if old.name != new.name || shapes(old) != shapes(new) {
                return Err(Error::format(format!(
                    "the optimizer state of {} has the shapes {:?}, but {} expects {:?} for {}",
                    new.name,
                    shapes(new),
                    self.config.kind.name(),
                    shapes(old),
                    old.name
                )));
            }
        }
        self.states = states;
        Ok(())
    }

    /// Makes one step with the learning rate `lr`; learning rates of groups change in proportion to that of the configuration. A
    /// parameter without a gradient is not changed. A step that fails is not counted.
    ///
    /// # Errors
    /// `InvalidArgument` when `network` is not the one that the optimizer was created for; when the device fails.
    pub fn step(&mut self, network: &dyn Layer, grads: &Grads, lr: f64) -> Result<()> {
        let factor = if self.config.lr > 0.0 { lr / self.config.lr } else { 1.0 };
        self.step_by(network, grads, None, |base| base.map_or(lr, |base| base * factor))
    }

    /// Makes one step with all learning rates multiplied by `factor`, as a schedule does.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scaled(&mut self, network: &dyn Layer, grads: &Grads, factor: f64) -> Result<()> {
        self.step_scheduled(network, grads, factor.into())
    }

    /// As [`Optimizer::step_scaled`], also with the momentum that a schedule sets.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    pub fn step_scheduled(&mut self, network: &dyn Layer, grads: &Grads, factors: Factors) -> Result<()> {
        let lr = self.config.lr;
        self.step_by(network, grads, factors.momentum, |base| base.unwrap_or(lr) * factors.lr)
    }

    /// Makes one step; `lr` returns the learning rate for the base learning rate of a group.
    fn step_by(
        &mut self,
        network: &dyn Layer,
        grads: &Grads,
        momentum: Option<f64>,
        lr: impl Fn(Option<f64>) -> f64,
    ) -> Result<()> {
        let params = state::params(network);
        self.check_network(&params)?;
        let (mut steps, mut updated) = (Vec::with_capacity(params.len()), Vec::with_capacity(params.len()));
        let (mut gradients, mut counters) =
            (Vec::with_capacity(params.len()), Vec::with_capacity(params.len()));
        let mut composed = Vec::new();
        let of_param = params.iter().zip(&mut self.states).zip(&self.settings).enumerate();
        for (i, (((name, param), state), settings)) in of_param {
            let Some(grad) = grads.param(param) else { continue };
            if self.kept.as_ref().is_some_and(|kept| !kept[i]) {
                continue;
            }
            let value = param.write().context(|| name.as_str())?;
            let mut kind = self.config.kind.for_rank(value.shape().rank());
            if let Some(weight_decay) = settings.weight_decay {
                kind = kind.with_weight_decay(weight_decay);
            }
            if let Some(momentum) = momentum {
                kind = kind.with_scheduled_momentum(momentum);
            }
            let lr = lr(settings.lr);
            let Some(op) = step_op(&kind, lr, state.steps + 1) else {
                // On copies, so that a failure, here or later, changes nothing.
                let (mut new_value, mut tensors) = (value.clone(), state.tensors.clone());
                composed::step(&kind, lr, state.steps + 1, &mut new_value, grad, &mut tensors)
                    .context(|| name.as_str())?;
                composed.push((value, new_value, state, tensors));
                continue;
            };
            steps.push(op);
            gradients.push(grad);
            updated.push((value, &mut state.tensors));
            counters.push(&mut state.steps);
        }
        if !steps.is_empty() {
            let mut state: Vec<&mut Tensor> = Vec::new();
            for (value, tensors) in &mut updated {
                state.push(value);
                state.extend(tensors.iter_mut());
            }
            update(&OptimizerSteps { steps }, &gradients, &mut state)?;
        }
        counters.into_iter().for_each(|steps| *steps += 1);
        for (mut value, new_value, state, tensors) in composed {
            *value = new_value;
            state.tensors = tensors;
            state.steps += 1;
        }
        Ok(())
    }

    fn check_network(&self, params: &[(String, &Param)]) -> Result<()> {
        let other = |what: String| {
            Err(Error::invalid_argument(format!("the optimizer was created for another network: {what}")))
        };
        if params.len() != self.states.len() {
            return other(format!(
                "it has {}, this one has {}",
                count(self.states.len(), "parameter"),
                params.len()
            ));
        }
        for (((name, param), state), id) in params.iter().zip(&self.states).zip(&self.ids) {
            if *name != state.name {
                return other(format!("its parameter {} is called {name} here", state.name));
            }
            if param.id() != *id {
                return other(format!("the parameter {name} is not the same"));
            }
        }
        Ok(())
    }
}

/// Returns what differs between the parameters of a network.
fn settings(
    params: &[(String, &Param)],
    groups: &[ParamGroup],
    decay_weights_only: bool,
    network: &dyn Layer,
) -> Result<Vec<ParamSettings>> {
    let mut settings: Vec<ParamSettings> = params
        .iter()
        .map(|(_, param)| {
            let weight_decay = (decay_weights_only && param.shape().rank() <= 1).then_some(0.0);
            ParamSettings { lr: None, weight_decay }
        })
        .collect();
    for group in groups {
        group.check().context(|| format!("the group {:?}", group.pattern))?;
        let selector = Selector::new(network, &group.pattern)?;
        let (mut trained, mut applies) = (false, false);
        for ((name, param), settings) in params.iter().zip(&mut settings) {
            if !selector.selects(name) {
                continue;
            }
            trained |= !param.is_frozen();
            if settings.lr.is_none() {
                applies |= !param.is_frozen();
                settings.lr = Some(group.lr);
                settings.weight_decay = settings.weight_decay.or(group.weight_decay);
            }
        }
        if !trained {
            return Err(Error::invalid_argument(format!(
                "all parameters of the group {:?} are frozen",
                group.pattern
            )));
        }
        if !applies {
            return Err(Error::invalid_argument(format!(
                "the group {:?} comes after groups that have all of its parameters: the first group counts, so put it before them",
                group.pattern
            )));
        }
    }
    Ok(settings)
}

fn step_op(kind: &OptimizerKind, lr: f64, step: u64) -> Option<Box<dyn Op>> {
    Some(match *kind {
        OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay, maximize } => {
            Box::new(SgdStep { lr, momentum, dampening, nesterov, weight_decay, maximize, first: step == 1 })
        }
        OptimizerKind::Adam { betas, eps, weight_decay, amsgrad, maximize } => {
            Box::new(AdamStep { lr, betas, eps, weight_decay, amsgrad, maximize, step })
        }
        OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad, maximize } => {
            Box::new(AdamWStep { lr, betas, eps, weight_decay, amsgrad, maximize, step })
        }
        OptimizerKind::RmsProp { alpha, eps, weight_decay, momentum, centered, maximize } => {
            Box::new(RmsPropStep { lr, alpha, eps, weight_decay, momentum, centered, maximize })
        }
        OptimizerKind::Lion { betas, weight_decay } => Box::new(LionStep { lr, betas, weight_decay }),
        OptimizerKind::Lamb { .. } | OptimizerKind::Muon { .. } => return None,
    })
}

//! Inference with execution plans, traced once and rewritten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArrayD, ArrayViewD};
use neocog_autograd::{Tape, Var};
use neocog_graph::Plan;
use neocog_tensor::{Device, Result, Shape, Tensor};

use crate::activation_memory::live_bytes;
use crate::layer::{Context, Layer};
use crate::state::{param_count, params};
use crate::trace::{self, Untraceable};

/// Plans by shape and device of the input, for one version of the state.
#[derive(Debug, Default)]
struct Plans {
    version: u64,
    plans: HashMap<(Shape, Device), Result<Arc<Plan>, Untraceable>>,
}

/// Runs a network in evaluation mode with execution plans: one for each input shape, created at its first use and kept until
/// a parameter, a buffer or a counter of the network changes. A network that cannot be traced runs layer by layer;
/// [`Predictor::reason`] tells why. What else a layer computes with, such as an attribute of an operation, must stay the same:
/// for another one, create another predictor.
///
/// The `forward` of the network is traced with an input on [`Device::Meta`], so a layer that computes without the tape, or
/// reads values of its input, cannot be traced. A predictor can be used by several threads at once.
#[derive(Debug)]
pub struct Predictor {
    network: Arc<dyn Layer>,
    plans: Mutex<Plans>,
}

impl Predictor {
    /// Creates a predictor for a network.
    pub fn new(network: impl Into<Arc<dyn Layer>>) -> Self {
        Predictor { network: network.into(), plans: Mutex::default() }
    }

    /// Returns the network.
    pub fn network(&self) -> &dyn Layer {
        &*self.network
    }

    /// Returns the network, shared: for another pass or predictor.
    pub fn shared_network(&self) -> Arc<dyn Layer> {
        self.network.clone()
    }

    /// Computes the output of the network.
    ///
    /// # Errors
    /// When the network does not accept the input, or the device fails.
    pub fn run(&self, input: &Tensor) -> Result<Tensor> {
        match self.planned(input.shape(), &input.device())? {
            Ok(plan) => plan.run(input),
            Err(_) => {
                let tape = Tape::no_grad();
                let output = Context::eval(&tape).run(&*self.network, &Var::constant(input.clone()))?;
                Ok(output.tensor().clone())
            }
        }
    }

    /// Computes the output of the network for an array of any memory layout, on the device of the network's parameters, without any
    /// preprocessing.
    ///
    /// ```
    /// use neocog_layers::{Builder, Linear, Predictor, Sequential};
    /// use neocog_tensor::Device;
    ///
    /// let spec = Sequential::new().then(Linear::new(3, 2)).into();
    /// let predictor = Predictor::new(Builder::new(&Device::Cpu, 0).build(&spec, &[1, 3].into())?);
    /// let images = ndarray::ArrayD::<f32>::zeros(vec![5, 3]);
    /// assert_eq!(predictor.run_ndarray(images.view())?.shape(), [5, 2]);
    /// # Ok::<(), neocog_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Predictor::run`].
    pub fn run_ndarray(&self, input: ArrayViewD<'_, f32>) -> Result<ArrayD<f32>> {
        let state = trace::tensors(&*self.network);
        let device = state.first().map_or(Device::Cpu, |tensor| tensor.param().value().device());
        self.run(&Tensor::from_ndarray(input, &device)?)?.to_ndarray()
    }

    /// Returns the plan for inputs of a shape; `None` if the network cannot be traced.
    ///
    /// # Errors
    /// When the network does not accept such an input, or its parameters are on another device.
    pub fn plan(&self, input: &Shape, device: &Device) -> Result<Option<Arc<Plan>>> {
        Ok(self.planned(input, device)?.ok())
    }

    /// Returns the reason why the network cannot be traced for inputs of a shape and runs layer by layer, if that is so.
    ///
    /// # Errors
    /// As [`Predictor::plan`].
    pub fn reason(&self, input: &Shape, device: &Device) -> Result<Option<Untraceable>> {
        Ok(self.planned(input, device)?.err())
    }

    /// Estimates the bytes that inference on inputs of a shape needs at the same time, in single precision: the parameters, their
    /// packed copies, the input and the values of the plan; without scratch memory of kernels. Plans are not created.
    ///
    /// # Errors
    /// When the network does not accept such an input.
    pub fn inference_bytes(&self, input: &Shape) -> Result<usize> {
        let tape = Tape::new();
        let x = tape.leaf(Tensor::zeros(*input, &Device::Meta)?);
        let y = Context::eval(&tape).run(&*self.network, &x)?;
        let live = live_bytes(&tape, x.slot().map(|slot| (slot, input)), y.slot());
        let parameters = param_count(&*self.network).saturating_add(packed_count(&*self.network));
        let parameters = parameters.saturating_mul(size_of::<f32>());
        Ok(live.into_iter().max().unwrap_or(0).saturating_add(parameters))
    }

    /// Estimates the bytes of the packed weights of a plan, in single precision.
    pub fn packed_bytes(&self) -> usize {
        packed_count(&*self.network).saturating_mul(size_of::<f32>())
    }

    fn planned(&self, input: &Shape, device: &Device) -> Result<Result<Arc<Plan>, Untraceable>> {
        let key = (*input, *device);
        // Versions only increase. They are read before the values, which are thus at least that new.
        let version = trace::version(&*self.network);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.version != version {
            *plans = Plans { version, plans: HashMap::new() };
        }
        if let Some(plan) = plans.plans.get(&key) {
            return Ok(plan.clone());
        }
        drop(plans);
        let plan = match trace::inference(&*self.network, input, device)? {
            Ok(graph) => Ok(Arc::new(graph.plan(device)?)),
            Err(reason) => Err(reason),
        };
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.version == version {
            plans.plans.insert(key, plan.clone());
        }
        Ok(plan)
    }
}

/// The floats of the packed weights of a plan, at most: the Winograd algorithm stores 36 for the 9 of a 3x3 kernel.
fn packed_count(network: &dyn Layer) -> usize {
    let packed = |shape: Shape| match shape[..] {
        [_, _, 3, 3] => shape.elements().saturating_mul(4),
        _ => shape.elements(),
    };
    params(network).iter().fold(0, |sum: usize, (_, param)| sum.saturating_add(packed(param.shape())))
}

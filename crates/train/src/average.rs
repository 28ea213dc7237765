//! An average of the parameters and running statistics of a network over steps or epochs.

use std::sync::Arc;

use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Layer, LayerSpec};
use neocog_tensor::ops::{Lerp, OptimizerSteps};
use neocog_tensor::{Context as _, Device, Error, ErrorKind, Op, Result, Tensor, update};

/// A network with averaged parameters and running statistics. As PyTorch's `AveragedModel` with `use_buffers`: the first update is a
/// copy.
#[derive(Debug)]
pub(crate) struct Average {
    network: Arc<dyn Layer>,
    /// Number of updates.
    updates: u64,
}

impl Average {
    pub(crate) fn new(spec: &LayerSpec, [c, h, w]: [usize; 3], device: &Device) -> Result<Self> {
        let network = Builder::to_load(device).build(spec, &[1, c, h, w].into())?.into();
        Ok(Average { network, updates: 0 })
    }

    /// Continues an average.
    pub(crate) fn resume(network: Arc<dyn Layer>, updates: u64) -> Self {
        Average { network, updates }
    }

    pub(crate) fn network(&self) -> &Arc<dyn Layer> {
        &self.network
    }

    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// Moves the average toward `network` by the share `weight` of the difference.
    pub(crate) fn update(&mut self, network: &dyn Layer, weight: f64) -> Result<()> {
        let (from, to) = (state::entries(network), state::entries(&*self.network));
        if from.len() != to.len() {
            return Err(Error::new(ErrorKind::Internal, "an average of another network"));
        }
        let weight = if self.updates == 0 { 1.0 } else { weight };
        let (mut values, mut guards) = (Vec::new(), Vec::new());
        for ((name, from), (_, to)) in from.iter().zip(&to) {
            match (from, to) {
                (Entry::Counter(from), Entry::Counter(to)) => to.set(from.get()),
                _ => {
                    let (Some(from), Some(to)) = (from.tensor(), to.tensor()) else { continue };
                    if weight == 1.0 {
                        to.set(&from.value()).context(|| name.as_str())?;
                    } else {
                        values.push(from.value());
                        guards.push(to.write().context(|| name.as_str())?);
                    }
                }
            }
        }
        if !values.is_empty() {
            let steps = values.iter().map(|_| Box::new(Lerp { weight }) as Box<dyn Op>).collect();
            let inputs: Vec<&Tensor> = values.iter().collect();
            let mut state: Vec<&mut Tensor> = guards.iter_mut().map(|guard| &mut **guard).collect();
            update(&OptimizerSteps { steps }, &inputs, &mut state)?;
        }
        self.updates += 1;
        Ok(())
    }
}

//! Building layers from specs, with errors that have the path to the layer.

use neocog_base::memory::{self, readable_bytes};
use neocog_tensor::{Context as _, Device, Error, Result, Shape};

use crate::builder::{Builder, output_shape};
use crate::layer::{Layer, path_element};
use crate::spec::LayerSpec;
use crate::state::param_count;

impl Builder {
    /// Builds a network for inputs of shape `input`, and checks that it accepts such an input.
    ///
    /// # Errors
    /// When the spec does not fit the input; the error has the path to the layer. When the parameters are more
    /// than the system's memory, before any is made.
    pub fn build(&mut self, spec: &LayerSpec, input: &Shape) -> Result<Box<dyn Layer>> {
        if self.device != Device::Meta {
            let (layer, _) = Builder::to_load(&Device::Meta).build_with_output(None, spec, input)?;
            check_memory(&*layer, &self.device)?;
        }
        Ok(self.build_with_output(None, spec, input)?.0)
    }

    /// Builds a layer within another one; returns it and the shape of its output. Without a name, its parameters
    /// are named as if they belonged to the outer layer.
    ///
    /// # Errors
    /// As [`Builder::build`], with the name added to the path of the error.
    pub fn child(
        &mut self,
        name: Option<&str>,
        spec: &LayerSpec,
        input: &Shape,
    ) -> Result<(Box<dyn Layer>, Shape)> {
        self.path.extend(name.map(str::to_string));
        let built = self.build_with_output(name, spec, input);
        if name.is_some() {
            self.path.pop();
        }
        built
    }

    fn build_with_output(
        &mut self,
        name: Option<&str>,
        spec: &LayerSpec,
        input: &Shape,
    ) -> Result<(Box<dyn Layer>, Shape)> {
        let layer = spec.build(self, input);
        // The network itself has no name: the path of an error starts with its first layer.
        let layer = if self.path.is_empty() && name.is_none() {
            layer
        } else {
            layer.context(|| path_element(name, spec.kind()))
        }?;
        let output = output_shape(&*layer, input);
        let output =
            if name.is_some() { output.context(|| path_element(name, layer.label())) } else { output }?;
        Ok((layer, output))
    }
}

/// Checks that the parameters of a network fit into the system's memory.
fn check_memory(network: &dyn Layer, device: &Device) -> Result<()> {
    let size = match device {
        Device::Cpu => size_of::<f32>(),
        Device::Reference => size_of::<f64>(),
        // A device with its own memory says itself what it cannot allocate.
        _ => return Ok(()),
    };
    let bytes = (param_count(network) as u64).saturating_mul(size as u64);
    match memory::limit_bytes() {
        Some(limit) if bytes > limit => Err(Error::invalid_argument(format!(
            "the parameters of the network take {}{}, and this process can have {} at most; use a smaller network",
            if bytes == u64::MAX { "more than " } else { "" },
            readable_bytes(bytes),
            readable_bytes(limit)
        ))),
        _ => Ok(()),
    }
}

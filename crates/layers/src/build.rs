//! Building layers from specs, with errors that have the path to the layer.

use neocog_tensor::{Context as _, Result, Shape};

use crate::builder::{Builder, output_shape};
use crate::layer::{Layer, path_element};
use crate::spec::LayerSpec;

impl Builder {
    /// Builds a network for inputs of shape `input`, and checks that it accepts such an input.
    ///
    /// # Errors
    /// When the spec does not fit the input; the error has the path to the layer.
    pub fn build(&mut self, spec: &LayerSpec, input: &Shape) -> Result<Box<dyn Layer>> {
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

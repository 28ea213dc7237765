//! Import: an ONNX model as a computation that runs on any device.
//!
//! A model is converted for inputs of given shapes: each node becomes operations of a graph, by its registered converter
//! (`register_onnx!`). What depends on shapes and constants only is computed at once. Inputs whose values the shapes of others
//! depend on, as the new shape of a `Reshape`, are constants of the graph, which is converted again for other values.

mod constant;
mod converted;
mod functions;
mod layers;
mod model;
mod names;
mod network;
mod node;
mod ops;
mod session;
mod value;

pub use layers::OnnxLayers;
pub use model::{ModelInput, OnnxModel};
pub use network::{OnnxNetwork, OnnxRow};
pub use node::{Converter, Node, find, operators};
pub use session::{OnnxOutput, OnnxSession};
pub use value::Value;

pub use constant::tensor_of;

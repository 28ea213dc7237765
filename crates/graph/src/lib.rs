//! Recorded computations.
//!
//! A [`Graph`] is a list of operations on values, from inputs to outputs: the forward pass of a network, whether it is run for
//! its outputs or for training. Operations are known by the trait [`Op`](neocog_tensor::Op) only.
//!
//! * [`rewrite()`] simplifies a graph with the registered [`Rewrite`]s, in their order. They ask operations what can be fused,
//!   so operations of other crates take part, and other crates can register rewrites with [`register_rewrite!`].
//! * A [`Plan`] runs an inference graph many times. On the CPU its values share one buffer; on other devices each value has
//!   memory of the device's pool while it is used.
//!
//! ```
//! use neocog_graph::{Graph, Source};
//! use neocog_tensor::profile::Scope;
//! use neocog_tensor::{Device, Tensor, ops};
//!
//! let weight = Tensor::full([2, 3], 1.0, &Device::Cpu)?;
//! let mut graph = Graph::new([[4, 3].into()]);
//! let y = graph.push(ops::Linear::default(), [Source::Value(0), Source::Constant(weight)], Scope::default())?;
//! let z = graph.push(ops::Relu, [Source::Value(y)], Scope::default())?;
//! graph.set_outputs([z])?;
//! let plan = graph.plan(&Device::Cpu)?;
//! assert_eq!(plan.operations().collect::<Vec<_>>(), ["linear"]);
//! let output = plan.run(&Tensor::full([4, 3], 2.0, &Device::Cpu)?)?;
//! assert_eq!(output.to_f32()?, [6.0; 8]);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

pub mod check;
mod graph;
mod layout;
mod plan;
pub mod rewrite;
mod rewrites;

#[doc(hidden)]
pub use inventory;

pub use graph::{Graph, Node, Source};
pub use plan::Plan;
pub use rewrite::{Case, Rewrite, Target, registered_rewrites, rewrite};

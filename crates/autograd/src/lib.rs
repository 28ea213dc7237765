//! Reverse-mode automatic differentiation.
//!
//! A [`Tape`] records the operations that are applied to [`Var`]s; [`Tape::backward`] replays them from the end and
//! returns the [`Grads`]. There is no hidden gradient on a tensor and nothing to zero. This crate names no operation
//! but the one that adds gradients up: it knows [`Op`](neocog_tensor::Op) only, so the operations of other crates
//! are differentiated like ours.
//!
//! ```
//! use neocog_autograd::Tape;
//! use neocog_tensor::{Device, Tensor, ops::Sigmoid};
//!
//! let tape = Tape::new();
//! let x = tape.leaf(Tensor::zeros([1], &Device::Cpu)?);
//! let y = tape.apply_single(Sigmoid, &[&x])?;
//! let grads = tape.backward(&y)?;
//! assert_eq!(grads.get(&x).unwrap().item()?, 0.25);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

pub mod check;
mod param;
mod tape;

pub use param::{Param, ParamId};
pub use tape::{Grads, OwnedStep, Step, Tape, Var};

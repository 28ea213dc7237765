//! Reverse-mode automatic differentiation.
//!
//! A [`Tape`] records the operations that are applied to [`Var`]s; [`Tape::backward`] traverses them in reverse and returns the
//! [`Grads`]. Gradients are not stored in tensors, so there is nothing to reset. Operations are known by the trait
//! [`Op`](neocog_tensor::Op) only, so those of other crates are differentiated in the same way.
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
mod replay;
mod tape;

pub use param::{Param, ParamId};
pub use tape::{Grads, OwnedTapeEntry, Tape, TapeEntry, Var, Vars};

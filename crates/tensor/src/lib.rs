//! Tensors, devices, memory and operations.
//!
//! A [`Tensor`] is a [`Shape`] and a share in a [`Device`]'s memory. An [`Op`] is a computation with its kernels
//! and its gradient rule; [`run`] runs it on the device of its inputs. The operations are in [`ops`].
//!
//! ```
//! use neocog_tensor::{Device, Tensor, ops::Relu, run_single};
//!
//! let x = Tensor::from_f32([2, 2], &[-1.0, 2.0, -3.0, 4.0], &Device::Cpu)?;
//! let y = run_single(&Relu, &[&x])?;
//! assert_eq!(y.to_f32()?, [0.0, 2.0, 0.0, 4.0]);
//! # Ok::<(), neocog_tensor::Error>(())
//! ```

mod autotune;
pub mod core;
pub(crate) mod cpu;
pub mod memory;
pub mod opencl;
pub mod ops;
pub mod testing;

#[doc(hidden)]
pub use inventory;

pub use neocog_base::{Context, Error, ErrorKind, Result};

pub use core::device::{self, Device};
pub use core::fusion::{ChannelAffine, Pass};
pub use core::op::{self, Gradient, InputGrads, Op, SavedTensors, Tensors, Window};
pub use core::profile;
pub use core::program::{self, Program};
pub use core::run::{run, run_single, update};
pub use core::shape::{self, Shape, Shapes};
pub use core::tensor::{self, Tensor};
pub use core::view::{self, View, ViewMut};
pub use cpu::fma_peak_gflops;
pub use cpu::simd::instruction_set;
pub use memory::{MemoryReport, Scratch, memory_report, release_cached_memory};
pub use testing::{cases, conformance};

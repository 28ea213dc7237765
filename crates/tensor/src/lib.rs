#![doc = include_str!("../README.md")]

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

pub use core::batch;
pub use core::check::{check_call, check_views};
pub use core::device::{self, Device};
pub use core::fusion::{ChannelAffine, Pass};
pub use core::op::{
    self, AbsorbedAffine, BlockForm, Gradient, InputGrads, Op, SavedTensors, Tensors, Window,
};
pub use core::profile;
pub use core::program::{self, Program};
pub use core::run::{run, run_single, update};
pub use core::shape::{self, IntoShape, Shape, Shapes};
pub use core::tensor::{self, Tensor};
pub use core::view::{self, View, ViewMut};
pub use cpu::fma_peak_gflops;
pub use cpu::simd::{check_instruction_set, instruction_set};
pub use memory::{MemoryReport, Scratch, memory_report, release_cached_memory};
pub use testing::{cases, conformance};

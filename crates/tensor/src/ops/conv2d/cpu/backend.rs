//! The types of the CPU's algorithms.

use crate::cpu::simd::instruction_set;
use crate::memory::{Buffer, Scratch};
use crate::ops::conv2d::algorithm::{Algorithm, Backend};

/// The CPU.
pub struct Cpu;

impl Backend for Cpu {
    type Device = InstructionSet;
    type Context<'a> = &'a Scratch;
    type Input<'a> = &'a [f32];
    type Output<'a> = &'a mut [f32];
    type Buffer = Buffer;
    type Outcome<T> = T;
}

/// What the cost on the CPU depends on besides the shape.
#[derive(Clone, Copy, Debug)]
pub struct InstructionSet {
    /// Number of floats of a vector.
    pub lanes: usize,
}

impl InstructionSet {
    /// Returns the instruction set that the kernels use on this machine.
    pub fn current() -> Self {
        InstructionSet { lanes: instruction_set().1 }
    }
}

/// A weight in the layout of the algorithm that packed it.
pub struct Packed {
    pub algorithm: Algorithm<Cpu>,
    pub weight: Option<Buffer>,
}

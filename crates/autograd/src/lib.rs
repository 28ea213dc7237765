#![doc = include_str!("../README.md")]

pub mod check;
mod grads;
mod math;
mod param;
mod replay;
mod tape;

pub use param::{Param, ParamGuard, ParamId};
pub use tape::{Grads, OwnedTapeEntry, Tape, TapeEntry, Var, Vars};

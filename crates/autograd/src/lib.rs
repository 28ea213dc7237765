#![doc = include_str!("../README.md")]

pub mod check;
mod param;
mod tape;

pub use param::{Param, ParamId};
pub use tape::{Grads, OwnedTapeEntry, Tape, TapeEntry, Var};

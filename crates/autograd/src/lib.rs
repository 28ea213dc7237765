#![doc = include_str!("../README.md")]

mod backward;
pub mod check;
mod grads;
mod math;
mod param;
mod replay;
mod tape;

pub use backward::Grads;
pub use param::{Param, ParamGuard, ParamId};
pub use tape::{OwnedTapeEntry, Tape, TapeEntry, Var, Vars};

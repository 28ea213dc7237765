//! Feature maps in blocks of channels (oneDNN's nChw16c): `[n, blocks, h, w, lanes]` in place of `[n, c, h, w]`.
//!
//! A vector of the CPU then holds one pixel of `lanes` neighboring channels. Convolutions compute with such vectors in any case: a
//! network whose values stay in blocks is not transposed before and after each. A rewrite of `neocog-graph` brings graphs into
//! blocks; it asks operations by [`Op::in_channel_blocks`](crate::Op::in_channel_blocks).
//!
//! The last block may have fewer channels than lanes. [`ToChannelBlocks`] and [`InChannelBlocks`] set its other lanes to 0, elementwise
//! operations compute something in them, and no operation depends on them.

mod blockwise;
mod cases;
mod cpu;
mod layout;
mod wrapper;

pub(crate) use blockwise::{BlockMap, for_each_block};
pub use layout::{FromChannelBlocks, ToChannelBlocks};
pub use wrapper::InChannelBlocks;
pub(crate) use wrapper::{BlockKernel, BlockLayout, block_form};

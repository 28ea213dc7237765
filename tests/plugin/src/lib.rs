//! An operation, two layers and a network for neocog, in a crate of their own. The README is the guide.
//!
//! * [`PixelUnshuffle`](ops::PixelUnshuffle) is an operation with its kernels and its gradient; [`layers::PixelUnshuffle`]
//!   makes a layer of it.
//! * [`layers::SqueezeExcitation`] is a layer with parameters, composed of neocog's own layers and operations.
//! * [`network`] is a network that uses both.

pub mod layers;
pub mod network;
pub mod ops;

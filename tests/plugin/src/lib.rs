//! An example plugin for neocog: an operation, two layers, a network and a data set in a separate crate. The README is the guide.
//!
//! * [`PixelUnshuffle`](ops::PixelUnshuffle) is an operation with kernels and gradient; [`layers::PixelUnshuffle`] is the layer.
//! * [`layers::SqueezeExcitation`] is a layer with parameters, composed of layers and operations of neocog.
//! * [`rewrites`] has a rewrite of graphs, for inference and training.
//! * [`network`] is a network of both layers.
//! * [`dataset`] is a data set.

pub mod dataset;
pub mod layers;
pub mod network;
pub mod ops;
pub mod rewrites;

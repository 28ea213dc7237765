#![doc = include_str!("../README.md")]

mod activations;
mod batch_norm;
mod channels;
mod convolution;
mod dense;
mod dropout;
mod edges;
mod feature_maps;
mod helpers;
mod lesson;
mod page;
mod pooling;
mod receptive_field;
mod residual;
mod shapes;

#[doc(hidden)]
pub use inventory;
pub use lesson::{Lesson, find, lessons};
pub use page::{LessonOptions, Page};

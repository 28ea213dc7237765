//! Lessons about convolutional networks: short programs that explain, compute, draw, and check what they say.
//!
//! Each lesson is one file, to be read next to its output (`neocog lesson NAME`), and uses the neocog crates as any other
//! program would. Every statement is verified with [`Page::check`], [`Page::check_equal`] or [`Page::check_close`]: a lesson
//! whose statement is wrong ends with an error, so testing the lessons means running them.
//!
//! # Running a lesson
//!
//! ```
//! use neocog_lessons::{LessonOptions, Page, find};
//! use neocog_tensor::Device;
//!
//! let mut text = String::new();
//! let mut page = Page::new(LessonOptions::new(Device::Cpu), |line| {
//!     text += line;
//!     text += "\n";
//!     Ok(())
//! });
//! find("convolution")?.run(&mut page)?;
//! assert!(page.checks() > 0);
//! drop(page);
//! assert!(text.contains("cross-correlation"));
//! # Ok::<(), neocog_tensor::Error>(())
//! ```
//!
//! # Adding a lesson
//!
//! Write a function that takes a [`Page`], and register it with [`register_lesson!`]. [`lessons`], [`find`] and
//! `neocog lesson` then include it, also if it is defined in another crate.

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

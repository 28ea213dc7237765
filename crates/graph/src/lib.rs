#![doc = include_str!("../README.md")]

pub mod check;
mod graph;
mod layout;
mod plan;
pub mod rewrite;
mod rewrites;
mod stages;

#[doc(hidden)]
pub use inventory;

pub use graph::{Graph, Node, Source};
pub use plan::Plan;
pub use rewrite::{Case, LAYOUT_ORDER, Rewrite, Target, registered_rewrites, rewrite};

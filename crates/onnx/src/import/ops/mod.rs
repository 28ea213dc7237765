//! The converters of the standard operators.

mod conv;
mod elementwise;
mod indexing;
mod norm;
mod pool;
mod product;
mod reduce;
mod resize;
mod shape;

pub(super) use self::spatial::Spatial;

mod spatial;

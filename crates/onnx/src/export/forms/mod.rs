//! The forms of the operations of `neocog-tensor`.

mod elementwise;
mod norm;
mod pool;
mod product;
mod shape;

//! Cases of channel sums.

use super::ChannelSum;
use crate::core::shape::Shape;
use crate::register_op;
use crate::testing::cases::{Case, CaseInput};

/// Shapes with channels: rank 2, empty, without channels, and large enough for several threads.
pub(in crate::ops) const SHAPES: [&[usize]; 10] = [
    &[3, 5],
    &[1, 1],
    &[4, 3, 7],
    &[2, 3, 4, 5],
    &[2, 3, 0, 5],
    &[0, 4, 3, 3],
    &[3, 0],
    &[2, 0, 3, 3],
    &[33, 100],
    &[64, 16, 24, 24],
];

register_op!("channel_sum", || {
    let mut cases: Vec<Case> = SHAPES
        .into_iter()
        .chain([&[2, 3, 11, 17][..]])
        .map(|shape| {
            let shape = Shape::new(shape).expect("a small shape");
            Case::new(shape.to_string(), ChannelSum, [CaseInput::uniform(shape)]).without_gradient()
        })
        .collect();
    cases.push(Case::new("lenet", ChannelSum, [CaseInput::uniform([256, 6, 24, 24])]).timed());
    cases
});

//! The choice by cost is the one of the rules that it replaced, among the algorithms that these rules knew.

use super::backend::RegisterTiles;
use super::batch_vectorized::{BatchVectorizedConv, MEMORY};
use super::*;
use crate::ops::conv2d::shape_samples::for_each_shape;

/// Returns the algorithm of the rules, which asked the algorithms one after the other whether they are the fastest.
fn choose_by_rules(conv: &ConvShape, pass: Pass, limits: &Limits) -> &'static str {
    let Some(tiles) = limits.tiles else { return "implicit_gemm" };
    let large_padding = pass == Pass::InputGrad && (conv.padding[0] >= conv.kh || conv.padding[1] >= conv.kw);
    let winograd = !large_padding
        && winograd::estimated_cost(conv, pass, limits)
            .is_some_and(|cost| cost < cost::implicit_gemm(conv, pass, limits));
    let batch_vectorized = conv.groups == 1
        && conv.n > 0
        && conv.dilation == [1, 1]
        && conv.in_per_group.min(conv.out_per_group) <= 8
        && conv.in_per_group.max(conv.out_per_group) <= 32
        && conv.n * 4 >= conv.n.next_multiple_of(tiles.width) * 3
        && match pass {
            Pass::Forward => true,
            Pass::InputGrad => conv.stride == [1, 1] && !large_padding,
            Pass::WeightGrad => conv.kw <= 8,
        }
        && BatchVectorizedConv::new(conv, pass, limits).is_some_and(|c| c.bytes() <= MEMORY);
    let few_outputs = match pass {
        Pass::Forward => 2 * conv.out_per_group <= tiles.width,
        Pass::InputGrad => 2 * conv.in_per_group <= tiles.width,
        Pass::WeightGrad => false,
    };
    if winograd && !(batch_vectorized && few_outputs) {
        "winograd"
    } else if batch_vectorized {
        "batch_vectorized"
    } else {
        "implicit_gemm"
    }
}

#[test]
fn the_cheapest_algorithm_is_the_one_of_the_rules() {
    let tiles = |width, rows| Some(RegisterTiles { width, rows });
    let mut counts = std::collections::BTreeMap::new();
    let known = ["batch_vectorized", "implicit_gemm", "winograd"];
    let known: Vec<Algorithm<OpenCl>> =
        ALGORITHMS.iter().copied().filter(|algorithm| known.contains(&algorithm.name())).collect();
    for (tiles, local_memory) in
        [(tiles(16, 12), 1 << 20), (tiles(8, 6), 8 << 20), (tiles(8, 4), 256 << 10), (None, 48 << 10)]
    {
        let limits = Limits { tiles, local_memory, compute_units: 2 };
        for_each_shape(|conv| {
            for pass in [Pass::Forward, Pass::InputGrad, Pass::WeightGrad] {
                if conv.h * conv.w * conv.n == 0 {
                    // Nothing runs, or no algorithm does.
                    continue;
                }
                let chosen = algorithm::cheapest(&known, conv, pass, &limits).name();
                assert_eq!(chosen, choose_by_rules(conv, pass, &limits), "{limits:?}, {pass:?} of {conv:?}");
                *counts.entry((chosen, pass)).or_insert(0) += 1;
            }
        });
    }
    assert_eq!(counts.len(), 9, "not every algorithm was chosen for every pass: {counts:?}");
}

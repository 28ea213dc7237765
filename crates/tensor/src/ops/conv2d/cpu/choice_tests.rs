//! The choice by cost is the one of the rules that it replaced, among the algorithms that these rules knew.

use super::*;
use crate::ops::conv2d::shape_samples::for_each_shape;
use crate::ops::conv2d::winograd as tiles;

/// The rules, which asked the algorithms one after the other whether they are the fastest.
struct Rules {
    lanes: usize,
}

impl Rules {
    fn winograd(&self, conv: &ConvShape, pass: Pass) -> bool {
        let positions = if self.is_channel_blocked_possible(conv) {
            1.25 * (conv.n * conv.inside_taps()) as f64
        } else {
            1.3 * (conv.n * conv.out_pixels() * conv.kh * conv.kw) as f64
        };
        let direct = positions * conv.vector_steps(pass, self.lanes);
        let large_padding = conv.padding[0] >= conv.kh || conv.padding[1] >= conv.kw;
        !(pass == Pass::InputGrad && large_padding)
            && tiles::choose(conv, pass, self.lanes).is_some_and(|(_, cost)| cost < direct)
    }

    fn is_channel_blocked_possible(&self, conv: &ConvShape) -> bool {
        let small = conv.n > 0 && conv.out_pixels().max(conv.h * conv.w) <= 256;
        conv.groups == 1
            && (small || conv.n >= 6)
            && conv.kh * conv.kw <= 32
            && conv.in_per_group.min(conv.out_per_group) > 8
    }

    fn batch_vectorized(&self, conv: &ConvShape) -> bool {
        conv.groups == 1
            && conv.n > 0
            && conv.dilation == [1, 1]
            && conv.in_per_group.min(conv.out_per_group) <= 8
            && conv.n * 4 >= conv.n.div_ceil(self.lanes) * self.lanes * 3
            && conv.out_pixels() > 0
    }

    fn choose(&self, conv: &ConvShape, pass: Pass) -> &'static str {
        if self.winograd(conv, pass) {
            return "winograd";
        }
        let several_taps = conv.kh * conv.kw > 1;
        let small_padding = conv.padding[0] < conv.kh && conv.padding[1] < conv.kw;
        match pass {
            Pass::Forward if self.batch_vectorized(conv) => "batch_vectorized",
            Pass::Forward if self.is_channel_blocked_possible(conv) && several_taps => "channel_blocked",
            Pass::WeightGrad
                if !several_taps
                    && conv.padding == [0, 0]
                    && conv.n * conv.out_pixels() >= 128
                    && conv.out_per_group.min(conv.in_per_group) >= 8 =>
            {
                "conv1x1"
            }
            Pass::WeightGrad if self.batch_vectorized(conv) => "batch_vectorized",
            Pass::WeightGrad if self.is_channel_blocked_possible(conv) => "channel_blocked",
            Pass::InputGrad if self.batch_vectorized(conv) && conv.stride == [1, 1] && small_padding => {
                "batch_vectorized"
            }
            Pass::InputGrad
                if self.is_channel_blocked_possible(conv) && (several_taps || conv.stride != [1, 1]) =>
            {
                "channel_blocked"
            }
            Pass::InputGrad
                if conv.groups == 1
                    && conv.in_per_group <= 8
                    && conv.filter_len() >= 16
                    && conv.out_pixels() > 0 =>
            {
                "col2im"
            }
            _ => "implicit_gemm",
        }
    }
}

#[test]
fn the_cheapest_algorithm_is_the_one_of_the_rules() {
    let mut counts = std::collections::BTreeMap::new();
    let known = ["winograd", "batch_vectorized", "channel_blocked", "conv1x1", "col2im", "implicit_gemm"];
    let known: Vec<Algorithm<Cpu>> =
        ALGORITHMS.iter().copied().filter(|algorithm| known.contains(&algorithm.name())).collect();
    // AVX-512; AVX2, NEON and portable vectors.
    for lanes in [16, 8] {
        let rules = Rules { lanes };
        for_each_shape(|conv| {
            for pass in [Pass::Forward, Pass::InputGrad, Pass::WeightGrad] {
                let chosen = algorithm::cheapest(&known, conv, pass, &InstructionSet { lanes }).name();
                if pass == Pass::InputGrad && conv.h * conv.w * conv.n == 0 {
                    // The output is empty: nothing runs.
                    continue;
                }
                assert_eq!(chosen, rules.choose(conv, pass), "{lanes} lanes, {pass:?} of {conv:?}");
                *counts.entry((chosen, pass)).or_insert(0) += 1;
            }
        });
    }
    assert_eq!(counts.len(), 4 + 5 + 5, "not every algorithm was chosen for every pass: {counts:?}");
    assert!(counts.values().all(|&count| count > 50), "{counts:?}");
}

#[test]
fn the_number_of_inside_taps_is_that_of_a_count() {
    let count = |conv: &ConvShape| {
        let on_axis = |outputs: usize, taps: usize, inside: &dyn Fn(usize, usize) -> bool| {
            (0..outputs).map(|o| (0..taps).filter(|&t| inside(o, t)).count()).sum::<usize>()
        };
        let inside = |axis: usize, o: usize, t: usize| {
            let pixel = (o * conv.stride[axis] + t * conv.dilation[axis]).wrapping_sub(conv.padding[axis]);
            pixel < [conv.h, conv.w][axis]
        };
        on_axis(conv.oh, conv.kh, &|o, t| inside(0, o, t))
            * on_axis(conv.ow, conv.kw, &|o, t| inside(1, o, t))
    };
    for_each_shape(|conv| {
        if conv.n == 1 {
            assert_eq!(conv.inside_taps(), count(conv), "{conv:?}");
        }
    });
}

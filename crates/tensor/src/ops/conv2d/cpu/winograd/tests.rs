//! The error of each tile size against the reference, for several shapes; `cargo test -p neocog-tensor
//! winograd -- --nocapture` prints it.

use super::*;
use crate::ops::conv2d::cpu::error_tests::{Sample, wide};
use crate::ops::conv2d::reference;
use crate::testing::cases::CaseInput;

/// Returns the errors of the output and of both gradients.
fn errors(sample: &Sample, tile_size: TileSize) -> [f64; 3] {
    let Sample { conv, x, weight, dy, .. } = sample;
    let bias = vec![0.0; conv.out_per_group];
    let scratch = Scratch::new();
    let passes = [Pass::Forward, Pass::InputGrad, Pass::WeightGrad];
    let [mut y, mut dx, mut dw] = passes.map(|pass| sample.empty(pass));
    let u = pack(conv, tile_size, weight, &scratch);
    forward(conv, tile_size, x, &u, (Some(&bias), None), &mut y, &scratch);
    input_grad(conv, tile_size, dy, weight, &mut dx, &scratch);
    weight_grad(conv, tile_size, x, dy, &mut dw, &scratch);
    [(Pass::Forward, y), (Pass::InputGrad, dx), (Pass::WeightGrad, dw)]
        .map(|(pass, result)| sample.error(pass, &result))
}

#[test]
#[allow(clippy::print_stdout, reason = "the report")]
fn errors_are_small_on_every_shape() {
    let shapes = [
        ([2, 1, 5, 7], 1, [0, 0]),
        ([1, 3, 6, 6], 5, [2, 1]),
        ([3, 8, 9, 12], 17, [1, 1]),
        ([1, 16, 5, 150], 33, [2, 2]),
        ([2, 64, 24, 24], 64, [1, 1]),
        ([2, 128, 12, 12], 128, [1, 1]),
        ([2, 256, 6, 6], 200, [1, 1]),
        ([3, 512, 7, 7], 40, [1, 1]),
    ];
    println!("{:32} {:10}  {:>8} {:>8} {:>8}", "shape", "size", "y", "dx", "dw");
    for (x, out, padding) in shapes {
        for tile_size in [TileSize::F4x3, TileSize::F3x3, TileSize::F2x5] {
            let kernel = if tile_size == TileSize::F2x5 { 5 } else { 3 };
            let sample = Sample::new(x, out, kernel, padding, out == 17);
            let errors = errors(&sample, tile_size);
            let name = format!("{x:?} to {out}, {kernel}x{kernel}");
            println!("{name:32} {tile_size:10?}  {:8.1e} {:8.1e} {:8.1e}", errors[0], errors[1], errors[2]);
            for (error, pass) in errors.iter().zip([Pass::Forward, Pass::InputGrad, Pass::WeightGrad]) {
                let allowed = sample.allowed(pass);
                assert!(*error < allowed, "{name} {tile_size:?}: {errors:?}, allowed {allowed:e}");
            }
        }
    }
}

#[test]
fn errors_are_not_systematic() {
    // Inexact coefficients would cause a systematic error, rounding errors cancel. The bound is a third of
    // the rounding error of one float (without fused multiply-adds the measured error was 1.1e-8).
    let Sample { conv, .. } = Sample::new([2, 32, 48, 48], 16, 3, [1, 1], false);
    let x = CaseInput::between([2, 32, 48, 48], 0.0, 1.0).make(1);
    let weight = CaseInput::between([16, 32, 3, 3], 0.0, 0.1).make(2);
    let mut y64 = vec![0.0; 2 * 16 * 48 * 48];
    reference::forward(&conv, &wide(&x), &wide(&weight), &mut y64);
    let exact: f64 = y64.iter().sum();
    for tile_size in [TileSize::F4x3, TileSize::F3x3] {
        let mut y = vec![f32::NAN; y64.len()];
        let u = pack(&conv, tile_size, &weight, &Scratch::new());
        forward(&conv, tile_size, &x, &u, (None, None), &mut y, &Scratch::new());
        let sum: f64 = wide(&y).iter().sum();
        assert!((sum - exact).abs() < 2e-8 * exact, "{tile_size:?}: {sum} {exact}");
    }
}

#[test]
fn an_outlier_impairs_its_tile_only() {
    // As documented at the algorithm: the error of an output is relative to the largest pixel of its tile.
    let sample = Sample::new([1, 16, 24, 24], 16, 3, [1, 1], false);
    let scratch = Scratch::new();
    let u = pack(&sample.conv, TileSize::F4x3, &sample.weight, &scratch);
    let run = |pixel: f32| {
        let mut x = sample.x.clone();
        x[12 * 24 + 12] = pixel;
        let mut y = sample.empty(Pass::Forward);
        forward(&sample.conv, TileSize::F4x3, &x, &u, (None, None), &mut y, &scratch);
        y
    };
    let usual = run(0.5);
    // Tiles of four outputs that start at 8 and 12 have the pixel among their inputs.
    let is_near = |at: usize| (8..16).contains(&(at / 24 % 24)) && (8..16).contains(&(at % 24));
    let is_under = |at: usize| (11..14).contains(&(at / 24 % 24)) && (11..14).contains(&(at % 24));
    for (pixel, allowed) in [(1e4, 1e-2), (1e6, 1.0)] {
        for (at, (got, usual)) in run(pixel).iter().zip(&usual).enumerate() {
            let off = f64::from((got - usual).abs());
            if !is_near(at) {
                assert_eq!(got, usual, "output {at} with a pixel of {pixel}");
            } else if !is_under(at) {
                assert!(off < allowed, "output {at} with a pixel of {pixel}: off by {off}");
            }
        }
    }
}

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
    forward(conv, tile_size, x, [&u, weight], (Some(&bias), None), &mut y, &scratch);
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
        forward(&conv, tile_size, &x, [&u, &weight], (None, None), &mut y, &Scratch::new());
        let sum: f64 = wide(&y).iter().sum();
        assert!((sum - exact).abs() < 2e-8 * exact, "{tile_size:?}: {sum} {exact}");
    }
}

/// Returns the error of the sum of an output relative to its norm, for inputs with a mean as behind a ReLU.
fn error_of_sum([c, out]: [usize; 2], size: usize, seed: u64) -> f64 {
    let x_shape = [2, c, size, size];
    let Sample { conv, .. } = Sample::new([2, c, 8, 8], out, 3, [1, 1], false);
    let [h, w, pixels] = [size, size, size * size];
    let (batch_strides, n) = ([c * pixels, out * pixels], 2);
    let [x_batch_stride, y_batch_stride] = batch_strides;
    let conv = ConvShape { n, h, w, oh: h, ow: w, x_batch_stride, y_batch_stride, ..conv };
    let x = CaseInput::between(x_shape, 0.8, 1.2).make(seed);
    let bound = (6.0 / (9.0 * c as f32)).sqrt();
    let weight = CaseInput::between([out, c, 3, 3], -bound, bound).make(seed + 1);
    let mut y64 = vec![0.0; 2 * out * pixels];
    reference::forward(&conv, &wide(&x), &wide(&weight), &mut y64);
    let mut y = vec![f32::NAN; y64.len()];
    let u = pack(&conv, TileSize::F4x3, &weight, &Scratch::new());
    forward(&conv, TileSize::F4x3, &x, [&u, &weight], (None, None), &mut y, &Scratch::new());
    let norm = y64.iter().map(|v| v * v).sum::<f64>().sqrt();
    let off: f64 = y.iter().zip(&y64).map(|(&got, exact)| f64::from(got) - exact).sum();
    off.abs() / norm
}

#[test]
#[allow(clippy::print_stdout, reason = "the report")]
fn sums_over_many_tiles_have_small_errors() {
    // Without the correction of the constant response the errors are up to 1.1e-5.
    for seed in [1, 3, 5, 7] {
        let error = error_of_sum([8, 16], 112, seed);
        println!("error of a sum {error:.1e}");
        assert!(error < 5e-6, "{seed}: {error:e}");
    }
}

#[test]
fn one_far_pixel_changes_no_other_output() {
    // Ones in the first channel; outputs away from the far pixel are 9 · 1e-3, or less at the border.
    let conv = Sample::new([1, 64, 32, 32], 64, 3, [1, 1], false).conv;
    let weight = vec![1e-3f32; 64 * 64 * 9];
    let scratch = Scratch::new();
    let u = pack(&conv, TileSize::F4x3, &weight, &scratch);
    for far in [1e2, 1e4, 1e6, 1e8, 1e20, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let mut x = vec![0.0f32; 64 * 1024];
        x[..1024].fill(1.0);
        x[13 * 32 + 18] = far;
        let mut y = vec![f32::NAN; 64 * 1024];
        forward(&conv, TileSize::F4x3, &x, [&u, &weight], (None, None), &mut y, &scratch);
        for (at, &got) in y.iter().enumerate() {
            let (row, column) = (at / 32 % 32, at % 32);
            if (12..15).contains(&row) && (17..20).contains(&column) {
                continue;
            }
            let inside = |at: usize| if at == 0 || at == 31 { 2.0 } else { 3.0 };
            let exact = 1e-3 * inside(row) * inside(column);
            assert!((got - exact).abs() < 1e-8, "{far}: output {row}, {column} is {got}, not {exact}");
        }
    }
}

/// Behind a ReLU all of few terms may be 0, which the transforms do not compute exactly.
#[test]
fn weight_gradients_of_few_terms_are_not_computed() {
    let conv = |images| Sample::new([images, 16, 6, 6], 16, 3, [1, 1], false).conv;
    assert!(tiles::choose(&conv(7), Pass::WeightGrad, 8).is_none(), "252 terms");
    assert!(tiles::choose(&conv(8), Pass::WeightGrad, 8).is_some(), "288 terms");
    assert!(tiles::choose(&conv(1), Pass::Forward, 8).is_some());
}

struct AreSimilar<'a> {
    energies: &'a Energies<'a>,
    ratio: f32,
}

impl Kernel for AreSimilar<'_> {
    type Output = bool;
    fn run<S: Simd>(self) -> bool {
        self.energies.are_similar::<S, 6, 4>(self.ratio)
    }
}

#[test]
fn only_tiles_with_far_values_are_computed_directly() {
    let conv = Sample::new([2, 16, 24, 24], 16, 3, [1, 1], false).conv;
    let mut x = CaseInput::uniform([2, 16, 24, 24]).make(1);
    let count = |x: &[f32], ratio: f32| {
        let source = TileSource { map: conv.feature_maps()[0], data: x, shift: [-1, -1] };
        let tiling = Tiling::new(2, [6, 6], 28, 1);
        let lanes = instruction_set().1;
        let step = TileSource::energy_step::<6, 4>(&tiling, lanes);
        let mut values = vec![0.0; tiling.units * step];
        for unit in 0..tiling.units {
            let region = source.region::<6, 4>(&tiling.unit(unit));
            let [rows, columns] = region.inside();
            let first = [region.row + rows.start as isize, region.column + columns.start as isize];
            for (i, value) in values[unit * step..][..rows.len() * columns.len()].iter_mut().enumerate() {
                let [row, column] =
                    [first[0] as usize + i / columns.len(), first[1] as usize + i % columns.len()];
                let image = tiling.unit(unit).image * 16 * 576;
                *value = (0..16).map(|c| x[image + c * 576 + row * 24 + column].powi(2)).sum();
            }
        }
        let energies =
            Energies { values: &values, step, source: &source, tiling: &tiling, units: 0..tiling.units };
        let mut buffers = window_floats::<6, 4>(&tiling).map(|len| vec![0.0; len]);
        let [padded, windows] = &mut buffers;
        let found = energies.direct_tiles::<6, 4>([24, 24], ratio, [padded, windows]);
        let similar = dispatch(AreSimilar { energies: &energies, ratio });
        assert!(!similar || found.is_empty(), "the short check misses {found:?}");
        found
    };
    assert_eq!(count(&x, WINDOW_RATIO), []);
    // The tiles that start at 8 and 12 have pixel 12, 12 among their inputs; 576 is the second channel of the first image.
    x[576 + 12 * 24 + 12] = 1e3;
    let found = count(&x, WINDOW_RATIO);
    let expected = [(2, 2), (2, 3), (3, 2), (3, 3)];
    assert_eq!(
        found.iter().map(|t| (t.image, t.row, t.column)).collect::<Vec<_>>(),
        expected.map(|(r, c)| (0, r, c))
    );
    assert_eq!(count(&x, 1e4), []);
    x[12 * 24 + 12] = f32::NAN;
    assert_eq!(count(&x, 1e4).len(), 4);
}

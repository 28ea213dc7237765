//! The error of each tile size against the reference, for several shapes; `cargo test -p neocog-tensor
//! winograd -- --nocapture` prints it.

use super::*;
use crate::ops::conv2d::Conv2dGeometry;
use crate::ops::conv2d::reference;
use crate::testing::cases::CaseInput;

/// Returns the maximum absolute error relative to the largest absolute value.
fn deviation(got: &[f32], exact: &[f64]) -> f64 {
    let largest = exact.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let off = got.iter().zip(exact).map(|(g, e)| (f64::from(*g) - e).abs());
    off.fold(0.0, |a, v| if v.is_nan() { f64::INFINITY } else { a.max(v) }) / largest
}

/// Returns the errors of the output and of both gradients.
fn errors(conv: &ConvShape, tile_size: TileSize) -> [f64; 3] {
    let values = |shape: [usize; 4], stream| CaseInput::uniform(shape).make(stream);
    let x = values([conv.n, conv.in_per_group, conv.h, conv.w], 1);
    let weight = values([conv.out_per_group, conv.in_per_group, conv.kh, conv.kw], 2);
    let dy = values([conv.n, conv.out_per_group, conv.oh, conv.ow], 3);
    let bias = vec![0.0; conv.out_per_group];
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let scratch = Scratch::new();
    let (mut y, mut dx, mut dw) =
        (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()], vec![f32::NAN; weight.len()]);
    let u = pack(conv, tile_size, &weight, &scratch);
    forward(conv, tile_size, &x, &u, (Some(&bias), None), &mut y, &scratch);
    input_grad(conv, tile_size, &dy, &weight, &mut dx, &scratch);
    weight_grad(conv, tile_size, &x, &dy, &mut dw, &scratch);
    let (x, weight, dy) = (wide(&x), wide(&weight), wide(&dy));
    let (mut y64, mut dx64, mut dw64) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; weight.len()]);
    reference::forward(conv, &x, &weight, &mut y64);
    reference::input_grad(conv, &dy, &weight, &mut dx64);
    reference::weight_grad(conv, &x, &dy, &mut dw64);
    [deviation(&y, &y64), deviation(&dx, &dx64), deviation(&dw, &dw64)]
}

fn conv_shape(
    [n, c, h, w]: [usize; 4],
    out: usize,
    kernel: usize,
    padding: [usize; 2],
    flip: bool,
) -> ConvShape {
    let geometry = Conv2dGeometry { padding, flip, ..Conv2dGeometry::default() };
    let [oh, ow] = geometry.output_size([h, w], [kernel; 2]).unwrap();
    geometry.conv_shape(&[n, c, h, w], &[out, c, kernel, kernel], &[n, out, oh, ow])
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
            let conv = conv_shape(x, out, kernel, padding, out == 17);
            let errors = errors(&conv, tile_size);
            let name = format!("{x:?} to {out}, {kernel}x{kernel}");
            println!("{name:32} {tile_size:10?}  {:8.1e} {:8.1e} {:8.1e}", errors[0], errors[1], errors[2]);
            for (error, terms) in errors.iter().zip([x[1], out, x[0] * conv.oh * conv.ow]) {
                // Rounding errors grow with the root of the number of terms.
                let allowed = 1e-6 + 2e-7 * (terms as f64).sqrt();
                assert!(*error < allowed, "{name} {tile_size:?}: {errors:?}, allowed {allowed:e}");
            }
        }
    }
}

#[test]
fn errors_are_not_systematic() {
    // Inexact coefficients would cause a systematic error, rounding errors cancel. The bound is a third of
    // the rounding error of one float (without fused multiply-adds the measured error was 1.1e-8).
    let conv = conv_shape([2, 32, 48, 48], 16, 3, [1, 1], false);
    let x = CaseInput::between([2, 32, 48, 48], 0.0, 1.0).make(1);
    let weight = CaseInput::between([16, 32, 3, 3], 0.0, 0.1).make(2);
    let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
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

//! Numbers of a summary that do not fit into 64 bits are errors, not other numbers.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_layers::summary::{Summary, summarize};
use neocog_layers::{Builder, Conv2d, FlattenLayer, LayerSpec, Linear, Sequential, Sigmoid};
use neocog_tensor::{Device, Result, Shape};

fn summary(spec: impl Into<LayerSpec>, input: [usize; 4]) -> Result<Summary> {
    let input = Shape::from(input);
    let network = Builder::new(&Device::Meta, 0).build(&spec.into(), &input)?;
    summarize(&*network, &input)
}

#[test]
fn counts_are_exact_or_errors() {
    const N: usize = 1 << 30;
    let conv = |inputs, outputs, kernel, padding| Conv2d {
        padding: [padding; 2],
        ..Conv2d::new(inputs, outputs, kernel)
    };
    // 2^30 · 2^30 · 9 · 64 · 64 = 42,501,298,345,826,806,923,264 multiply-adds, and 2^42 more.
    let wide = || Sequential::new().then(conv(1, N, 1, 0)).then(conv(N, N, 3, 1));
    let e = summary(wide(), [1, 1, 64, 64]).unwrap_err().to_string();
    assert!(e.contains("its number of multiply-adds does not fit into 64 bits"), "{e}");
    // One pixel: 9 · 2^60 + 2^30.
    let narrow = summary(wide(), [1, 1, 1, 1]).unwrap();
    assert_eq!(narrow.multiply_adds, 9 * (1 << 60) + (1 << 30));
    assert_eq!(narrow.parameters, 9 * (1 << 60) + 3 * (1 << 30));
    // The sum of two layers that fit.
    let two = Sequential::new().then(conv(1, N, 1, 0)).then(conv(N, N, 3, 1)).then(conv(N, N, 3, 1));
    let e = summary(two, [1, 1, 1, 1]).unwrap_err().to_string();
    assert!(e.contains("its number of parameters does not fit"), "{e}");
    // 2^61 activations, of which training saves two images.
    let activations = Sequential::new().then(conv(1, 1 << 41, 1, 0)).then(Sigmoid {});
    let e = summary(activations, [1, 1, 1 << 10, 1 << 10]).unwrap_err().to_string();
    assert!(e.contains("size of the activations in training"), "{e}");
    let linear = Sequential::new().then(FlattenLayer {}).then(Linear::new(1 << 40, 1 << 20));
    assert_eq!(summary(linear.clone(), [8, 1, 1 << 20, 1 << 20]).unwrap().multiply_adds, 1 << 63);
    let e = summary(linear, [16, 1, 1 << 20, 1 << 20]).unwrap_err().to_string();
    assert!(e.contains("its number of multiply-adds does not fit"), "{e}");
}

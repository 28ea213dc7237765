//! Random numbers of layers: each layer of a pass draws its own, and they follow from the seed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_autograd::{Tape, Var};
use neocog_layers::{Builder, Context, Dropout, LayerSpec, Sequential, StochasticDepth};
use neocog_tensor::{Device, Tensor};

/// The output in training for ones `[n, 1]`.
fn on_ones(spec: &LayerSpec, n: usize, seed: u64) -> Vec<f32> {
    let x = Tensor::full([n, 1], 1.0, &Device::Cpu).unwrap();
    let layer = Builder::new(&Device::Cpu, 0).build(spec, x.shape()).unwrap();
    let tape = Tape::new();
    let y = Context::train(&tape, seed).run(&*layer, &Var::constant(x)).unwrap();
    y.tensor().to_f32().unwrap()
}

/// Two layers with the same mask would keep half of the elements.
#[test]
fn each_layer_of_a_pass_has_its_own_mask() {
    let dropouts = Sequential::new().then(Dropout { p: 0.5 }).then(Dropout { p: 0.5 });
    let depth = || StochasticDepth { p: 0.5, mode: Default::default() };
    let depths = Sequential::new().then(depth()).then(depth());
    for spec in [LayerSpec::from(dropouts), depths.into()] {
        let y = on_ones(&spec, 4000, 7);
        let kept = y.iter().filter(|v| **v != 0.0).count();
        // Five standard deviations are 137.
        assert!(kept.abs_diff(1000) < 137, "{kept} of 4000 are kept: {spec:?}");
        assert!(y.iter().all(|v| *v == 0.0 || *v == 4.0));
        assert_eq!(on_ones(&spec, 4000, 7), y);
        assert_ne!(on_ones(&spec, 4000, 8), y);
    }
}

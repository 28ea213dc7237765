//! A training loop of one's own: regression with a mean squared error, clipped gradients and a group with its own learning rate.

use neocog_autograd::{Tape, Var};
use neocog_layers::{Builder, Context, Linear, Sequential, Tanh};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::optimizer::{OptimizerConfig, OptimizerKind, ParamGroup};
use neocog_train::{Optimizer, loss};

fn main() -> Result<()> {
    let device = Device::Cpu;
    // y = sin(3 x), at 64 points.
    let points: Vec<f32> = (0..64).map(|i| i as f32 / 32.0 - 1.0).collect();
    let values: Vec<f32> = points.iter().map(|x| (3.0 * x).sin()).collect();
    let x = Var::constant(Tensor::from_f32([64, 1], &points, &device)?);
    let y = Var::constant(Tensor::from_f32([64, 1], &values, &device)?);

    let spec = Sequential::new().then(Linear::new(1, 32)).then(Tanh {}).then(Linear::new(32, 1));
    let network = Builder::new(&device, 0).build(&spec.into(), &[1, 1].into())?;
    let config = OptimizerConfig { lr: 0.01, kind: OptimizerKind::adam() };
    let mut optimizer = Optimizer::with_groups(config, &[ParamGroup::new("head", 0.003)], false, &*network)?;
    for step in 0..300 {
        let tape = Tape::new();
        let loss = loss::mse(&Context::train(&tape, step).run(&*network, &x)?, &y)?;
        let value = loss.tensor().item()?;
        let mut grads = tape.backward(&loss)?;
        grads.clip_norm(1.0)?;
        optimizer.step(&*network, &grads, 0.01)?;
        if step % 100 == 99 {
            println!("step {}: loss {value:.5}", step + 1);
        }
    }
    Ok(())
}

//! Tied weights: an autoencoder whose decoder is the transposed encoder. A parameter that is used twice is one leaf of the tape.

use neocog_autograd::{Param, Tape, Var};
use neocog_base::random::Random;
use neocog_tensor::{Device, Result, Tensor};

fn main() -> Result<()> {
    let mut random = Random::new(1);
    let mut normal =
        |count: usize| -> Vec<f32> { (0..count).map(|_| random.next_uniform(-1.0, 1.0)).collect() };
    // 256 points of 8 numbers that depend on 3.
    let (hidden, map) = (normal(256 * 3), normal(3 * 8));
    let points = Tensor::from_f32([256, 3], &hidden, &Device::Cpu)?.matmul(&Tensor::from_f32(
        [3, 8],
        &map,
        &Device::Cpu,
    )?)?;
    let x = Var::constant(points);
    let weight = Param::new((&Tensor::from_f32([8, 3], &normal(24), &Device::Cpu)? * 0.3)?);
    for step in 0..400 {
        let tape = Tape::new();
        let w = tape.param(&weight);
        let decoded = x.matmul(&w)?.matmul(&w.transpose(0, 1)?)?;
        let loss = (&decoded - &x)?.square()?.mean()?;
        if step % 100 == 0 {
            println!("step {step}: loss {:.5}", loss.tensor().item()?);
        }
        let grads = tape.backward(&loss)?;
        if let Some(grad) = grads.param(&weight) {
            weight.set(&(&weight.value() - &(grad * 0.2)?)?)?;
        }
    }
    Ok(())
}

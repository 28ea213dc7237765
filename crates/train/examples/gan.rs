//! A generative adversarial network: a generator learns the numbers of a normal distribution around 2, a discriminator to tell them from
//! real ones.

use neocog_autograd::{Tape, Var};
use neocog_base::random::Random;
use neocog_layers::{Builder, Context, Layer, Linear, Sequential, Tanh};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::optimizer::{OptimizerConfig, OptimizerKind};
use neocog_train::{Optimizer, loss};

const BATCH: usize = 128;

fn network(seed: u64) -> Result<Box<dyn Layer>> {
    let spec = Sequential::new().then(Linear::new(1, 16)).then(Tanh {}).then(Linear::new(16, 1));
    Builder::new(&Device::Cpu, seed).build(&spec.into(), &[1, 1].into())
}

/// Sums of uniform numbers, which are nearly normal.
fn normal(random: &mut Random, mean: f32) -> Result<Var> {
    let mut number = || mean + (0..3).map(|_| random.next_uniform(-1.0, 1.0)).sum::<f32>();
    let numbers: Vec<f32> = (0..BATCH).map(|_| number()).collect();
    Ok(Var::constant(Tensor::from_f32([BATCH, 1], &numbers, &Device::Cpu)?))
}

fn main() -> Result<()> {
    let (generator, discriminator) = (network(1)?, network(2)?);
    let config = OptimizerConfig { lr: 0.01, kind: OptimizerKind::adam() };
    let mut of_generator = Optimizer::new(config, &*generator)?;
    let mut of_discriminator = Optimizer::new(config, &*discriminator)?;
    let mut random = Random::new(3);
    let label = |value| Tensor::full([BATCH, 1], value, &Device::Cpu).map(Var::constant);
    let (real_label, fake_label) = (label(1.0)?, label(0.0)?);
    for step in 0..600 {
        let (real, noise) = (normal(&mut random, 2.0)?, normal(&mut random, 0.0)?);
        // The discriminator: its gradients stop at the generated numbers.
        let tape = Tape::new();
        let context = Context::train(&tape, step);
        let fake = context.run(&*generator, &noise)?;
        let of_real = loss::bce_with_logits(&context.run(&*discriminator, &real)?, &real_label)?;
        let of_fake = loss::bce_with_logits(&context.run(&*discriminator, &fake.detach())?, &fake_label)?;
        of_discriminator.step(&*discriminator, &tape.backward(&(&of_real + &of_fake)?)?, 0.01)?;
        // The generator: its numbers should pass for real ones.
        let tape = Tape::new();
        let context = Context::train(&tape, step);
        let fake = context.run(&*generator, &noise)?;
        let mean = fake.tensor().mean()?.item()?;
        let loss = loss::bce_with_logits(&context.run(&*discriminator, &fake)?, &real_label)?;
        of_generator.step(&*generator, &tape.backward(&loss)?, 0.01)?;
        if step % 200 == 199 {
            println!("step {}: mean of the generated numbers {mean:.2}", step + 1);
        }
    }
    Ok(())
}

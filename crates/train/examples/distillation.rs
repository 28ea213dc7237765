//! Distillation: a small network learns from the probabilities of a larger one. G. Hinton et al., "Distilling the knowledge in a neural
//! network", 2015.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use neocog_autograd::{Tape, Var};
use neocog_data::{Loader, LoaderOptions};
use neocog_layers::{Builder, Context, FlattenLayer, Linear, Predictor, Sequential};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::optimizer::{OptimizerConfig, OptimizerKind};
use neocog_train::{NoProgress, Optimizer, TrainConfig, Trainer, evaluate, loss};

const TEMPERATURE: f64 = 3.0;

fn main() -> Result<()> {
    let device = Device::Cpu;
    let config = TrainConfig::for_network("lenet", "digits")?.with_epochs(3);
    let data = config.load_data(Path::new("data"))?;
    let mut trainer = Trainer::new(config, &*data.train, &device)?;
    trainer.fit(&data, None, &mut NoProgress, &AtomicBool::new(false))?;
    let teacher = Predictor::new(trainer.shared_network());

    let student = Sequential::new().then(FlattenLayer {}).then(Linear::new(784, 10));
    let student = Builder::new(&device, 1).build(&student.into(), &[1, 1, 28, 28].into())?;
    let mut optimizer = Optimizer::new(OptimizerConfig { lr: 0.01, kind: OptimizerKind::adam() }, &*student)?;
    let options = LoaderOptions::new().batch_size(64).image_size((28, 28));
    let train = Loader::new(data.train.clone(), options.clone().shuffle(Some(0)))?;
    for epoch in 0..3 {
        for batch in train.epoch(epoch)? {
            let batch = batch?;
            let x = Tensor::from_f32(batch.shape(), &batch.pixels, &device)?;
            let soft = (&Var::constant(teacher.run(&x)?) / TEMPERATURE)?.softmax(1)?;
            let tape = Tape::new();
            let logits = Context::train(&tape, epoch).run(&*student, &Var::constant(x))?;
            let loss = loss::kl_div(&(&logits / TEMPERATURE)?.log_softmax(1)?, &soft)?;
            optimizer.step(&*student, &tape.backward(&loss)?, 0.01)?;
        }
    }
    let test = Loader::new(data.test()?.clone(), options)?;
    let result = evaluate(&Predictor::new(student), &test, &device)?;
    println!("accuracy of the student on the test images: {:.3}", result.accuracy);
    Ok(())
}

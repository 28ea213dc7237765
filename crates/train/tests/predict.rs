//! Classification with trained networks; predictions that are not finite are errors.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use neocog_data::ByteImage;
use neocog_layers::{Builder, LayerSpec, Linear, Predictor, state};
use neocog_models::SavedNetwork;
use neocog_tensor::{Device, ErrorKind, Tensor};
use neocog_train::checkpoint::{SavedAverage, SavedFeedback};
use neocog_train::{Checkpoint, Classifier, NoProgress, TrainConfig, Trainer, predict};

/// Finite weights whose outputs overflow, and weights that do not.
#[test]
fn outputs_that_are_not_finite_are_errors() {
    let spec = LayerSpec::from(Linear::new(2, 2));
    let network = Builder::new(&Device::Cpu, 0).build(&spec, &[1, 2].into()).unwrap();
    let new = |values: &[f32]| Tensor::from_f32([2, 2], values, &Device::Cpu).unwrap();
    let params = state::params(&*network);
    params[0].1.set(&new(&[3e38, 3e38, -3e38, 3e38])).unwrap();
    params[1].1.set(&Tensor::zeros([2], &Device::Cpu).unwrap()).unwrap();
    drop(params);
    let predictor = Predictor::new(network);
    let fine = predict(&predictor, &new(&[0.0, 0.0, 1.0, 0.0])).unwrap();
    assert_eq!(fine[0].classes, [(0, 0.5), (1, 0.5)]);
    let e = predict(&predictor, &new(&[1.0, 0.0, 1.0, 1.0])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Diverged);
    assert!(e.to_string().contains("the outputs of the network for image 2 of 2 are not finite"), "{e}");
}

#[test]
fn a_checkpoint_classifies_files() {
    let config = TrainConfig::for_network("lenet", "digits").unwrap().with_epochs(3).with_limit(400);
    let data = config.load_data(Path::new("data")).unwrap();
    let mut trainer = Trainer::new(config, &*data.train, &Device::Cpu).unwrap();
    trainer.fit(&data, None, &mut NoProgress, &false.into()).unwrap();
    let checkpoint = trainer.checkpoint().unwrap();
    let classifier = checkpoint.classifier(&Device::Cpu).unwrap();
    assert_eq!(classifier.class_names().len(), 10);

    let mut image = ByteImage::default();
    data.train.read(0, &mut image).unwrap();
    let in_memory = classifier.classify_image(image.clone()).unwrap();
    assert_eq!(in_memory.classes().len(), 10);
    let sum: f64 = in_memory.classes().iter().map(|class| class.probability).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");

    // A PGM file of the same pixels, and a checkpoint file of the same network.
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("a.pgm"), folder.path().join("a.ckpt"));
    let header = format!("P5 {} {} 255\n", image.width(), image.height());
    std::fs::write(&path, [header.as_bytes(), image.pixels()].concat()).unwrap();
    checkpoint.write(&file).unwrap();
    assert_eq!(Classifier::open(&file).unwrap().classify(&path).unwrap(), in_memory);
    let missing = classifier.classify(folder.path().join("none.png")).unwrap_err().to_string();
    assert!(missing.contains("none.png"), "{missing}");
}

/// The network of a checkpoint file is that of the checkpoint, in all versions of the format.
#[test]
fn the_network_of_a_checkpoint_is_read_by_itself() {
    let version1 = Checkpoint::read(Path::new("tests/golden/version1.ckpt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.ckpt");
    let average = Some(SavedAverage { updates: 1, state: version1.state.clone(), counters: Vec::new() });
    let version2 = Checkpoint { average: None, feedback: Vec::new(), ..version1.clone() };
    let version3 = Checkpoint { average, ..version1.clone() };
    let feedback = vec![SavedFeedback { sum: 1, gradients: version1.state.clone() }];
    let version4 = Checkpoint { feedback, ..version3.clone() };
    let check = |file: &Path, version: u8, expected: &Checkpoint| {
        assert_eq!(std::fs::read(file).unwrap()[8], version);
        let saved = SavedNetwork::read(file).unwrap();
        assert_eq!((&saved.name, &saved.data), (&expected.config.network, &expected.config.data));
        assert_eq!((&saved.state, &saved.counters), (&expected.state, &expected.counters));
        assert_eq!((&saved.class_names, &saved.spec), (&expected.class_names, &expected.spec));
        assert_eq!(saved.preprocessing(), expected.preprocessing());
    };
    check(Path::new("tests/golden/version1.ckpt"), 1, &version1);
    for (version, checkpoint) in (2..).zip([version2, version3, version4]) {
        checkpoint.write(&file).unwrap();
        check(&file, version, &checkpoint);
    }
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let e = SavedNetwork::read(&file).unwrap_err().to_string();
    assert!(e.contains("a.ckpt") && e.contains("checksum mismatch"), "{e}");
}

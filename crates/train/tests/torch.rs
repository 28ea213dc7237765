//! Optimizers, clipping, losses and averages against PyTorch, in double precision on the reference device; the Python part is
//! `peer/training.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use neocog_autograd::{Param, Tape, Var};
use neocog_base::random::Random;
use neocog_base::testing::{self, require};
use neocog_layers::{Context, Layer, Visitor};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Device, Result, Tensor};
use neocog_train::{Optimizer, OptimizerConfig, OptimizerKind, loss};
use serde_json::{Value, json};

/// What PyTorch computes for some requests.
fn torch(requests: &[Value]) -> std::result::Result<Vec<Value>, String> {
    let python = testing::python("import torch", "torch")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer/training.py");
    let output = testing::python_output(&python, &script, &json!(requests).to_string());
    Ok(serde_json::from_slice(&output).unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Largest difference, relative to the largest number.
fn difference(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(1e-300, |a: f64, v| a.max(v.abs()));
    got.iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) })
        / largest
}

/// Parameters without a network.
#[derive(Debug)]
struct Params(Vec<Param>);

impl Layer for Params {
    fn label(&self) -> &str {
        "Params"
    }
    fn forward(&self, _context: &Context<'_>, input: &Var) -> Result<Var> {
        Ok(input.clone())
    }
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        for (i, param) in self.0.iter().enumerate() {
            visitor.param(["a", "b", "c", "d"][i], param);
        }
    }
}

const SHAPES: [&[usize]; 4] = [&[3, 2, 2, 2], &[2, 9], &[5], &[7, 3]];

struct OptimizerCase {
    kind: OptimizerKind,
    options: Value,
    clip: [Option<f64>; 2],
}

fn optimizer_cases() -> Vec<OptimizerCase> {
    let sgd = |momentum, dampening, nesterov, weight_decay, maximize| OptimizerCase {
        kind: OptimizerKind::Sgd { momentum, dampening, nesterov, weight_decay, maximize },
        options: json!({"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": weight_decay,
            "maximize": maximize}),
        clip: [None; 2],
    };
    let adam = |decoupled: bool, betas: [f64; 2], eps, weight_decay, amsgrad, maximize| OptimizerCase {
        kind: if decoupled {
            OptimizerKind::AdamW { betas, eps, weight_decay, amsgrad, maximize }
        } else {
            OptimizerKind::Adam { betas, eps, weight_decay, amsgrad, maximize }
        },
        options: json!({"betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize}),
        clip: [None; 2],
    };
    let rms = |alpha, momentum, centered, weight_decay, maximize| OptimizerCase {
        kind: OptimizerKind::RmsProp { alpha, eps: 1e-6, weight_decay, momentum, centered, maximize },
        options: json!({"alpha": alpha, "eps": 1e-6, "weight_decay": weight_decay, "momentum": momentum, "centered": centered,
            "maximize": maximize}),
        clip: [None; 2],
    };
    let muon = |momentum, nesterov, weight_decay| OptimizerCase {
        kind: OptimizerKind::Muon { momentum, nesterov, weight_decay },
        options: json!({"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}),
        clip: [None; 2],
    };
    let betas = [0.8, 0.95];
    let mut cases = vec![
        sgd(0.0, 0.0, false, 0.0, false),
        sgd(0.9, 0.0, true, 0.01, false),
        sgd(0.9, 0.3, false, 0.01, true),
        adam(false, betas, 1e-6, 0.1, false, false),
        adam(false, [0.9, 0.999], 1e-8, 0.0, true, true),
        adam(true, betas, 1e-6, 0.1, true, false),
        adam(true, [0.9, 0.999], 1e-8, 0.01, false, true),
        rms(0.9, 0.0, false, 0.0, false),
        rms(0.95, 0.8, true, 0.1, true),
        OptimizerCase {
            kind: OptimizerKind::Lamb { betas, eps: 1e-6, weight_decay: 0.1 },
            options: json!({"betas": betas, "eps": 1e-6, "weight_decay": 0.1}),
            clip: [None; 2],
        },
        OptimizerCase {
            kind: OptimizerKind::Lamb { betas, eps: 1e-6, weight_decay: 0.0 },
            options: json!({"betas": betas, "eps": 1e-6, "weight_decay": 0.0}),
            clip: [None; 2],
        },
        OptimizerCase {
            kind: OptimizerKind::Lion { betas, weight_decay: 0.1 },
            options: json!({"betas": betas, "weight_decay": 0.1}),
            clip: [None; 2],
        },
        muon(0.95, true, 0.1),
        muon(0.8, false, 0.0),
    ];
    for clip in [[Some(0.7), None], [None, Some(0.4)], [Some(1e9), None], [Some(0.5), Some(0.3)]] {
        cases.push(OptimizerCase { clip, ..sgd(0.9, 0.0, false, 0.0, false) });
    }
    cases
}

const STEPS: usize = 30;
const LR: f64 = 0.02;
const SCALE: f64 = 1.3;

#[test]
fn optimizers_and_clipping_equal_pytorch() {
    let mut random = Random::new(11);
    let values: Vec<Vec<f64>> = SHAPES
        .iter()
        .map(|shape| (0..shape.iter().product()).map(|_| f64::from(random.next_uniform(-1.0, 1.0))).collect())
        .collect();
    let params: Vec<Value> =
        SHAPES.iter().zip(&values).map(|(shape, values)| json!({"shape": shape, "values": values})).collect();
    let cases = optimizer_cases();
    let requests: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({"what": "optimizer", "kind": case.kind.name(), "lr": LR, "options": case.options, "params": params,
                "steps": STEPS, "scale": SCALE, "clip_norm": case.clip[0], "clip_value": case.clip[1]})
        })
        .collect();
    let Some(expected) = require("python", torch(&requests)) else { return };
    for (case, expected) in cases.iter().zip(expected) {
        let network = Params(
            SHAPES
                .iter()
                .zip(&values)
                .map(|(shape, values)| {
                    Param::new(Tensor::from_f64(*shape, values, &Device::Reference).unwrap())
                })
                .collect(),
        );
        let mut optimizer = Optimizer::new(OptimizerConfig { lr: LR, kind: case.kind }, &network).unwrap();
        let mut norms = Vec::new();
        for step in 0..STEPS {
            let tape = Tape::new();
            let vars: Vec<Var> = network.0.iter().map(|param| tape.param(param)).collect();
            let outputs: Vec<(&Var, Tensor)> = vars
                .iter()
                .enumerate()
                .map(|(i, var)| {
                    let grad = |v: f64| (v * (i as f64 + 1.0) + step as f64).cos() * SCALE;
                    let grad: Vec<f64> = var.tensor().to_f64().unwrap().into_iter().map(grad).collect();
                    (var, Tensor::from_f64(*var.shape(), &grad, &Device::Reference).unwrap())
                })
                .collect();
            let mut grads = tape.backward_from(&outputs).unwrap();
            drop(outputs);
            drop(vars);
            if let Some(limit) = case.clip[1] {
                grads.clip_value(limit).unwrap();
            }
            if let Some(limit) = case.clip[0] {
                norms.push(grads.clip_norm(limit).unwrap().unwrap().item().unwrap());
            }
            optimizer.step(&network, &grads, LR).unwrap();
        }
        assert!(difference(&norms, &numbers(&expected["norms"])) <= 1e-14, "{:?}", case.clip);
        for (param, expected) in network.0.iter().zip(expected["params"].as_array().unwrap()) {
            let off = difference(&param.value().to_f64().unwrap(), &numbers(expected));
            assert!(off <= 1e-12, "{:?} {:?}: off by {off:e}", case.kind, case.clip);
        }
    }
}

type Loss = fn(&Tape, &Var, &Inputs) -> Result<Var>;

struct Inputs {
    labels: Tensor,
    soft: Var,
    other: Var,
    weights: Var,
    one_hot: Var,
}

const LOSSES: [(&str, Loss); 12] = [
    ("F.cross_entropy(logits, labels, label_smoothing=0.1)", |tape, logits, of| {
        let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.1 };
        Ok(tape.apply(op, &[logits, &Var::constant(of.labels.clone())])?.swap_remove(0))
    }),
    // The same in plain operations, with the weight of each sample.
    ("(F.cross_entropy(logits, labels, reduction='none') * weights).sum()", |_, logits, of| {
        let log_p = (&logits.log_softmax(1)? * &of.one_hot)?.sum_over(&[1], false)?;
        -&(&log_p * &of.weights)?.sum()?
    }),
    ("F.cross_entropy(logits, soft)", |_, logits, of| loss::soft_cross_entropy(logits, &of.soft)),
    ("focal(2.0)", |_, logits, of| loss::focal(logits, &of.labels, 2.0)),
    ("focal(0.7)", |_, logits, of| loss::focal(logits, &of.labels, 0.7)),
    ("F.binary_cross_entropy_with_logits(logits, one_hot)", |_, logits, of| {
        loss::bce_with_logits(logits, &of.one_hot)
    }),
    ("F.binary_cross_entropy_with_logits(logits, soft)", |_, logits, of| {
        loss::bce_with_logits(logits, &of.soft)
    }),
    ("F.mse_loss(logits, other)", |_, logits, of| loss::mse(logits, &of.other)),
    ("F.l1_loss(logits, other)", |_, logits, of| loss::l1(logits, &of.other)),
    ("F.huber_loss(logits, other, delta=0.6)", |_, logits, of| loss::huber(logits, &of.other, 0.6)),
    ("F.kl_div(F.log_softmax(logits, 1), soft, reduction='batchmean')", |_, logits, of| {
        loss::kl_div(&logits.log_softmax(1)?, &of.soft)
    }),
    ("((logits @ other.T) / 3).softmax(1).clamp(0.05, 0.9).log().mean(0).abs().sum()", |_, logits, of| {
        let product = (&logits.matmul(&of.other.transpose(0, 1)?)? / 3.0)?;
        product.softmax(1)?.clamp(0.05, 0.9)?.log()?.mean_over(&[0], false)?.abs()?.sum()
    }),
];

#[test]
fn losses_and_their_gradients_equal_pytorch() {
    let (n, classes) = (6, 5);
    let mut random = Random::new(3);
    let mut table = |low, high| -> Vec<Vec<f64>> {
        (0..n).map(|_| (0..classes).map(|_| f64::from(random.next_uniform(low, high))).collect()).collect()
    };
    let (logits, other) = (table(-3.0, 3.0), table(-3.0, 3.0));
    let mut soft = table(0.1, 1.0);
    for row in &mut soft {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|x| *x /= sum);
    }
    let labels: Vec<usize> = (0..n).map(|i| i * 3 % classes).collect();
    let weights: Vec<f64> = (0..n).map(|i| 0.1 + i as f64).collect();
    let requests: Vec<Value> = LOSSES
        .iter()
        .map(|(torch, _)| {
            json!({"what": "loss", "torch": torch, "logits": logits, "labels": labels, "soft": soft, "other": other,
                "weights": weights})
        })
        .collect();
    let Some(expected) = require("python", torch(&requests)) else { return };
    let matrix =
        |rows: &[Vec<f64>]| Tensor::from_f64([n, classes], &rows.concat(), &Device::Reference).unwrap();
    let one_hot: Vec<Vec<f64>> =
        labels.iter().map(|label| (0..classes).map(|j| f64::from(u8::from(j == *label))).collect()).collect();
    let labels: Vec<f64> = labels.iter().map(|label| *label as f64).collect();
    let inputs = Inputs {
        labels: Tensor::from_f64([n], &labels, &Device::Reference).unwrap(),
        soft: Var::constant(matrix(&soft)),
        other: Var::constant(matrix(&other)),
        weights: Var::constant(Tensor::from_f64([n], &weights, &Device::Reference).unwrap()),
        one_hot: Var::constant(matrix(&one_hot)),
    };
    for ((name, loss), expected) in LOSSES.iter().zip(expected) {
        let tape = Tape::new();
        let x = tape.leaf(matrix(&logits));
        let value = loss(&tape, &x, &inputs).unwrap();
        let off = difference(&[value.tensor().item().unwrap()], &[expected["value"].as_f64().unwrap()]);
        let grads = tape.backward(&value).unwrap();
        let off_grad = difference(&grads.get(&x).unwrap().to_f64().unwrap(), &numbers(&expected["grad"]));
        println!("{name}: {off:.1e}, gradient {off_grad:.1e}");
        assert!(off <= 1e-10 && off_grad <= 1e-10, "{name}: off by {off:e}, the gradient by {off_grad:e}");
    }
}

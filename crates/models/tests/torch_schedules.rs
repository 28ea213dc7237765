//! Schedules against `torch.optim.lr_scheduler`, over 1,000 steps; the Python part is `peer/schedules.py`.
//!
//! Requires `python3`, or the interpreter in `NEOCOG_PYTHON`, with torch.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use neocog_base::testing::{self, require};
use neocog_models::{Decay, EpochMetrics, Schedule, ScheduleStep};
use serde_json::{Value, json};

const STEPS: u64 = 1000;
const LR: f64 = 0.3;

struct Case {
    schedule: &'static str,
    warm_up: u64,
    /// Steps between two calls of PyTorch's `step`.
    every: u64,
    steps_per_epoch: u64,
    torch: String,
    momentum: bool,
    metrics: Vec<f64>,
}

fn case(schedule: &'static str, every: u64, steps_per_epoch: u64, torch: &str) -> Case {
    let torch = torch.to_string();
    Case { schedule, warm_up: 0, every, steps_per_epoch, torch, momentum: false, metrics: Vec::new() }
}

/// A loss that falls, rises and stays, with noise.
fn metrics(count: u64) -> Vec<f64> {
    let noise = |i: u64| (i * 7919 % 101) as f64 / 101.0;
    (0..count)
        .map(|i| 1.0 + 3.0 / (1.0 + i as f64) + 0.02 * noise(i) + if i > 40 { 0.1 } else { 0.0 })
        .collect()
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("constant", 1, 50, "s.LambdaLR(o, lambda t: 1.0)"),
        case("step:epochs=3,factor=0.7", 50, 50, "s.StepLR(o, 3, 0.7)"),
        case("step:epochs=90,factor=0.7", 1, 1, "s.StepLR(o, 90, 0.7)"),
        case("multi-step:epochs=4/9/15,factor=0.3", 50, 50, "s.MultiStepLR(o, [4, 9, 15], 0.3)"),
        case("multi-step:epochs=40/500/501,factor=0.3", 1, 1, "s.MultiStepLR(o, [40, 500, 501], 0.3)"),
        case("linear:start=0.2,end=0.9,epochs=13", 1, 50, "s.LinearLR(o, 0.2, 0.9, 650)"),
        case("linear:start=0.9,end=0.1", 1, 50, "s.LinearLR(o, 0.9, 0.1, 1000)"),
        case("exponential:factor=0.996", 1, 1, "s.ExponentialLR(o, 0.996)"),
        case("exponential:factor=0.8", 50, 50, "s.ExponentialLR(o, 0.8)"),
        case("polynomial:power=1.7,epochs=15", 1, 50, "s.PolynomialLR(o, 750, 1.7)"),
        case("polynomial", 1, 50, "s.PolynomialLR(o, 1000, 1.0)"),
        case("cosine:floor=0.1", 1, 50, "s.CosineAnnealingLR(o, 1000, 0.03)"),
        case("cosine-restarts:epochs=3,floor=0.1", 1, 50, "s.CosineAnnealingWarmRestarts(o, 150, 1, 0.03)"),
        case("cosine-restarts:epochs=1,multiplier=2", 1, 50, "s.CosineAnnealingWarmRestarts(o, 50, 2, 0.0)"),
        case(
            "linear:start=0.1,end=1,epochs=4 * exponential:factor=0.9 * multi-step:epochs=10/15,factor=0.2",
            1,
            1,
            "s.ChainedScheduler([s.LinearLR(o, 0.1, 1.0, 4), s.ExponentialLR(o, 0.9), s.MultiStepLR(o, [10, 15], 0.2)])",
        ),
        case(
            "constant for 5 then cosine for 10 then exponential:factor=0.999",
            1,
            1,
            "s.SequentialLR(o, [s.LambdaLR(o, lambda t: 1.0), s.CosineAnnealingLR(o, 10), s.ExponentialLR(o, 0.999)], [5, 15])",
        ),
        case(
            "polynomial:power=2 for 7 then step:epochs=2,factor=0.5",
            1,
            50,
            "s.SequentialLR(o, [s.PolynomialLR(o, 350, 2.0), s.StepLR(o, 100, 0.5)], [350])",
        ),
    ];
    for (options, torch) in [
        ("", ""),
        (
            ":linear=true,rise=0.2,div=10,final-div=50",
            ", anneal_strategy='linear', pct_start=0.2, div_factor=10, final_div_factor=50",
        ),
        (
            ":three-phase=true,rise=0.4,momentum=0.8/0.9",
            ", three_phase=True, pct_start=0.4, base_momentum=0.8, max_momentum=0.9",
        ),
    ] {
        let schedule = format!("one-cycle{options}").leak();
        // PyTorch refuses to compute what would follow the last step.
        let torch = format!(
            "type('S', (s.OneCycleLR,), {{'step': lambda t: s.OneCycleLR.step(t) if t.last_epoch < 999 else None}})\
             (o, 0.3, total_steps=1000{torch})"
        );
        cases.push(Case { momentum: true, ..case(schedule, 1, 50, &torch) });
    }
    for (options, torch) in [
        ("", "patience=10"),
        (
            ":factor=0.5,patience=1,cooldown=2,floor=0.01,threshold=0.001",
            "factor=0.5, patience=1, cooldown=2, min_lr=0.003, threshold=0.001",
        ),
        (
            ":factor=0.7,patience=3,absolute=true,threshold=0.01",
            "factor=0.7, patience=3, threshold_mode='abs', threshold=0.01",
        ),
        (":factor=0.1,patience=0,metric=accuracy", "factor=0.1, patience=0, mode='max'"),
        (
            ":factor=0.7,patience=3,absolute=true,metric=accuracy",
            "factor=0.7, patience=3, threshold_mode='abs', mode='max'",
        ),
    ] {
        let schedule = format!("plateau{options}").leak();
        let torch = format!("s.ReduceLROnPlateau(o, {torch})");
        cases.push(Case { metrics: metrics(200), ..case(schedule, 5, 5, &torch) });
    }
    for (schedule, torch) in [
        ("constant", "s.LambdaLR(o, lambda t: 1.0)"),
        ("cosine", "s.CosineAnnealingLR(o, 960)"),
        ("polynomial:power=2", "s.PolynomialLR(o, 960, 2)"),
        ("linear:start=1,end=0.5", "s.LinearLR(o, 1.0, 0.5, 960)"),
        ("cosine-restarts:epochs=3", "s.CosineAnnealingWarmRestarts(o, 150)"),
    ] {
        let torch = format!("s.SequentialLR(o, [s.LinearLR(o, 1 / 40, 1.0, 39), {torch}], [40])");
        cases.push(Case { warm_up: 40, ..case(schedule, 1, 50, &torch) });
    }
    cases
}

/// What PyTorch computes.
fn torch(cases: &[Case]) -> Result<Vec<Value>, String> {
    let python = testing::python("import torch", "torch")?;
    let request: Vec<Value> = cases
        .iter()
        .map(|case| {
            json!({"steps_per_epoch": case.every, "steps": STEPS, "lr": LR, "make": case.torch, "metrics": case.metrics})
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peer/schedules.py");
    let output = testing::python_output(&python, &script, &json!(request).to_string());
    Ok(serde_json::from_slice(&output).unwrap())
}

#[test]
fn schedules_have_the_values_of_pytorch() {
    let cases = cases();
    let Some(expected) = require("python", torch(&cases)) else { return };
    for (case, expected) in cases.iter().zip(expected) {
        let epochs = STEPS / case.steps_per_epoch;
        let schedule =
            Schedule { warm_up: case.warm_up, decay: Decay::parse(case.schedule, epochs).unwrap() };
        schedule.check().unwrap();
        let history: Vec<EpochMetrics> =
            case.metrics.iter().map(|&m| EpochMetrics { loss: m, accuracy: m }).collect();
        let mut worst: f64 = 0.0;
        for step in 0..STEPS {
            let now = ScheduleStep { step, steps_per_epoch: case.steps_per_epoch, epochs };
            let factors = schedule.factors(now, LR, &history);
            let off = (LR * factors.lr - expected["lr"][step as usize].as_f64().unwrap()).abs();
            assert!(off <= 1e-12, "{} step {step}: off by {off:e}", case.schedule);
            worst = worst.max(off);
            assert_eq!(factors.momentum.is_some(), case.momentum);
            if let Some(momentum) = factors.momentum {
                let off = (momentum - expected["momentum"][step as usize].as_f64().unwrap()).abs();
                assert!(off <= 1e-12, "{} step {step}: momentum off by {off:e}", case.schedule);
            }
        }
        println!("{}, {} warm-up steps: {worst:.1e}", case.schedule, case.warm_up);
    }
}

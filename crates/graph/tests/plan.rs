//! Plans compute the same as the operations of a graph one after the other.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::random::Random;
use neocog_graph::{Graph, Plan, Source, check, registered_rewrites};
use neocog_tensor::cases::{Case, CaseInput};
use neocog_tensor::op::{expect_inputs, no_gradient};
use neocog_tensor::opencl::Call;
use neocog_tensor::ops::{
    Activation, Add, BatchNormEval, Concat, Conv2d, Flatten, Linear, MaxPool2d, Mul, Relu, Scale, Sigmoid,
};
use neocog_tensor::profile::Scope;
use neocog_tensor::{
    Device, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, Tensor, View, ViewMut,
    register_op,
};

/// Each rewrite, on its cases.
#[test]
fn graphs_before_and_after_a_rewrite_give_the_same_numbers() {
    for device in [Device::Reference, Device::Cpu] {
        let compared = check::check_rewrites(&device).unwrap();
        println!("{device}: {compared} cases");
        assert!(compared > 20, "{compared}");
    }
}

/// All rewrites, in their order, listed explicitly to detect one that is no longer linked or registered.
#[test]
fn the_list_of_rewrites_is_complete() {
    let names: Vec<&str> = registered_rewrites().iter().map(|rewrite| rewrite.name).collect();
    let expected = [
        "fold_constants",
        "prune",
        "fold_batch_norm",
        "activation_behind_pooling",
        "self_gate",
        "fuse_activation",
        "channel_blocks",
        "pack_weights",
        "join_concat",
    ];
    assert_eq!(names, expected);
    assert!(registered_rewrites().iter().all(|rewrite| !(rewrite.cases)().is_empty()));
}

fn tensor(shape: impl Into<Shape>, seed: u64) -> Tensor {
    let (shape, mut random) = (shape.into(), Random::new(seed));
    let values: Vec<f32> = (0..shape.elements()).map(|_| random.next_uniform(0.5, 1.5)).collect();
    Tensor::from_f32(shape, &values, &Device::Cpu).unwrap()
}

fn push(graph: &mut Graph, op: impl Op, inputs: &[usize], constants: &[Tensor]) -> usize {
    let constants = constants.iter().cloned().map(Source::Constant);
    let inputs = inputs.iter().map(|v| Source::Value(*v)).chain(constants);
    graph.push(op, inputs, Scope::default()).unwrap()
}

/// Returns the plan of a graph, and the outputs with and without it.
fn outputs(graph: impl Fn() -> (Graph, usize), x: &Tensor) -> (Plan, [Vec<f32>; 2]) {
    let make = || {
        let (mut graph, output) = graph();
        graph.set_outputs([output]).unwrap();
        graph
    };
    let plan = make().plan(&Device::Cpu).unwrap();
    let plain = make();
    let plain = plain.run(std::slice::from_ref(x)).unwrap().remove(0);
    let values = [plan.run(x).unwrap(), plain].map(|y| y.to_f32().unwrap());
    (plan, values)
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0))
}

/// Random graphs: no layout overwrites a live value.
#[test]
fn live_values_do_not_overlap() {
    let x = tensor([3, 4, 5, 6], 0);
    let (mut shared, mut in_place) = (0, 0);
    for seed in 0..200 {
        let graph = || {
            let mut random = Random::new(seed);
            let mut graph = Graph::new([*x.shape()]);
            let mut values = vec![0];
            for _ in 0..14 {
                let mut pick = |recent: usize| {
                    let from = values.len().saturating_sub(recent);
                    values[from + random.next_u32() as usize % (values.len() - from)]
                };
                let (a, b) = (pick(2), pick(6));
                let [shape_a, shape_b] = [a, b].map(|v| *graph.shape(v));
                let value = match random.next_u32() % 9 {
                    0 if shape_a == shape_b => push(&mut graph, Add, &[a, b], &[]),
                    1 if shape_a.rank() == 4 && shape_b.rank() == 4 && shape_a[2..] == shape_b[2..] => {
                        push(&mut graph, Concat { dim: 1 }, &[a, b], &[])
                    }
                    5 if shape_a.rank() == 4 && shape_b.rank() == 4 && shape_a[2..] == shape_b[2..] => {
                        // Nested concatenation, as in a dense block.
                        let weight = tensor([2, shape_a[1], 1, 1], seed);
                        let part = push(&mut graph, Conv2d::default(), &[a], &[weight]);
                        values.push(part);
                        push(&mut graph, Concat { dim: 1 }, &[b, part], &[])
                    }
                    6 | 7 if shape_a.rank() == 4 => {
                        let weight = tensor([3, shape_a[1], 1, 1], seed);
                        push(&mut graph, Conv2d::default(), &[a], &[weight])
                    }
                    8 if shape_a.rank() == 4 => {
                        let statistics = [1, 2].map(|i| tensor([shape_a[1]], i));
                        let norm = BatchNormEval { eps: 1.0, activation: Some(Activation::Relu) };
                        push(&mut graph, norm, &[a], &statistics)
                    }
                    2 => push(&mut graph, Flatten { start_dim: 1, end_dim: -1 }, &[a], &[]),
                    3 => push(&mut graph, Scale { factor: -0.5 }, &[a], &[]),
                    4 if shape_a.rank() == 4 && shape_a[2] > 1 && shape_a[3] > 1 => {
                        let pool = MaxPool2d {
                            kernel_size: [2, 2],
                            stride: [1, 1],
                            padding: [0, 0],
                            dilation: [1, 1],
                            ceil_mode: false,
                            return_indices: true,
                        };
                        let first = push(&mut graph, pool, &[a], &[]);
                        values.push(first + 1);
                        first
                    }
                    _ => push(&mut graph, Sigmoid, &[a], &[]),
                };
                values.push(value);
            }
            let output = values[values.len() - 1 - random.next_u32() as usize % 2];
            (graph, output)
        };
        let (plan, [planned, plain]) = outputs(graph, &x);
        assert!(close(&planned, &plain), "graph {seed}: {plan:?}");
        let values = |graph: &Graph, copies: bool| -> Vec<usize> {
            let nodes = graph.nodes().iter().filter(|node| copies || node.op.name() != "concat");
            nodes.flat_map(|node| node.outputs.iter().copied()).collect()
        };
        let elements = |graph: &Graph| -> usize {
            values(graph, true).iter().map(|value| graph.shape(*value).elements()).sum()
        };
        let needed = plan.graphs().map(elements).max().unwrap();
        for graph in plan.graphs() {
            in_place += values(graph, false).iter().filter(|value| graph.is_part(**value)).count();
        }
        shared += usize::from(plan.buffer_bytes().unwrap() < 2 * needed);
    }
    assert!(shared > 50, "{shared} of 200 graphs share memory");
    assert!(in_place > 50, "{in_place} values are computed in place");
}

#[test]
fn batch_norms_and_activations_are_fused() {
    let (x, w, b) = (tensor([5, 3, 5, 5], 1), tensor([4, 3, 3, 3], 2), tensor([4], 3));
    let statistics = [tensor([4], 4), tensor([4], 5), tensor([4], 6), tensor([4], 7)];
    let norm = BatchNormEval { eps: 1e-3, activation: None };
    for bias in [true, false] {
        for count in [2, 4] {
            let (plan, [planned, plain]) = outputs(
                || {
                    let mut graph = Graph::new([*x.shape()]);
                    let weights = if bias { vec![w.clone(), b.clone()] } else { vec![w.clone()] };
                    let y = push(&mut graph, Conv2d::default(), &[0], &weights);
                    let z = push(&mut graph, norm, &[y], &statistics[..count]);
                    let output = push(&mut graph, Relu, &[z], &[]);
                    // Unused.
                    push(&mut graph, Sigmoid, &[y], &[]);
                    (graph, output)
                },
                &x,
            );
            assert!(close(&planned, &plain));
            assert_eq!(plan.operations().collect::<Vec<_>>(), ["packed_conv2d"]);
        }
    }
    let x = tensor([2, 6], 8);
    let (plan, [planned, plain]) = outputs(
        || {
            let mut graph = Graph::new([*x.shape()]);
            let y = push(&mut graph, Linear::default(), &[0], &[tensor([4, 6], 9)]);
            let y = push(&mut graph, norm, &[y], &statistics);
            (graph, y)
        },
        &x,
    );
    assert!(close(&planned, &plain));
    assert_eq!(plan.operations().collect::<Vec<_>>(), ["linear"]);
    // Here the channels of the batch norm, axis 1, are not the features.
    let x = tensor([2, 4, 6], 8);
    let (plan, [planned, plain]) = outputs(
        || {
            let mut graph = Graph::new([*x.shape()]);
            let y = push(&mut graph, Linear::default(), &[0], &[tensor([5, 6], 9)]);
            let y = push(&mut graph, norm, &[y], &statistics);
            (graph, y)
        },
        &x,
    );
    assert!(close(&planned, &plain));
    assert_eq!(plan.operations().count(), 2);
}

#[test]
fn values_with_two_uses_are_not_fused() {
    let x = tensor([2, 3], 1);
    let (plan, [planned, plain]) = outputs(
        || {
            let mut graph = Graph::new([*x.shape()]);
            let y = push(&mut graph, Linear::default(), &[0], &[tensor([3, 3], 2)]);
            let z = push(&mut graph, Relu, &[y], &[]);
            let output = push(&mut graph, Mul, &[y, z], &[]);
            (graph, output)
        },
        &x,
    );
    assert!(close(&planned, &plain));
    assert_eq!(plan.operations().collect::<Vec<_>>(), ["linear", "relu", "mul"]);
}

/// An operation unknown to plans.
#[derive(Debug)]
struct Reverse;

impl Op for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        expect_inputs::<1>(self, inputs).map(|shapes| shapes.into_iter().collect())
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        outputs[0].data_mut().iter_mut().zip(inputs[0].data().iter().rev()).for_each(|(y, x)| *y = *x);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {
        outputs[0].data_mut().iter_mut().zip(inputs[0].data().iter().rev()).for_each(|(y, x)| *y = *x);
    }
    fn opencl(&self, _call: &Call<'_>) -> Result<()> {
        no_gradient(self)
    }
    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }
    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

register_op!("reverse", || vec![Case::new("a row", Reverse, [CaseInput::uniform([4])]).without_gradient()]);

#[test]
fn unknown_operations_run_unchanged() {
    let x = tensor([2, 3], 1);
    let graph = || {
        let mut graph = Graph::new([*x.shape()]);
        let y = push(&mut graph, Linear::default(), &[0], &[tensor([3, 3], 2)]);
        let y = push(&mut graph, Reverse, &[y], &[]);
        let y = push(&mut graph, Relu, &[y], &[]);
        (graph, y)
    };
    let (plan, [planned, plain]) = outputs(graph, &x);
    assert_eq!(planned, plain);
    assert_eq!(plan.operations().collect::<Vec<_>>(), ["linear", "reverse", "relu"]);
}

#[test]
fn the_output_may_be_the_input() {
    let x = tensor([2, 3, 1], 1);
    let (plan, [planned, plain]) = outputs(|| (Graph::new([*x.shape()]), 0), &x);
    assert_eq!((planned, plan.buffer_bytes()), (plain, Some(0)));
    let graph = || {
        let mut graph = Graph::new([*x.shape()]);
        let y = push(&mut graph, Flatten { start_dim: 1, end_dim: -1 }, &[0], &[]);
        (graph, y)
    };
    let (plan, [planned, plain]) = outputs(graph, &x);
    assert_eq!((planned, plan.output().extents()), (plain, &[2, 3][..]));
}

#[test]
fn invalid_graphs_are_errors() {
    let mut graph = Graph::new([[2, 3].into()]);
    let missing = graph.push(Relu, [Source::Value(7)], Scope::default()).unwrap_err().to_string();
    assert!(missing.contains("no value 7"), "{missing}");
    let elsewhere = Source::Constant(Tensor::zeros([2, 3], &Device::Reference).unwrap());
    graph.push(Add, [Source::Value(0), elsewhere], Scope::default()).unwrap();
    graph.set_outputs([1]).unwrap();
    let error = graph.plan(&Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("an input of add is on reference"), "{error}");
}

/// Outputs that are used by other operations, are another one in another shape, are an input, or are the same twice.
#[test]
fn plans_have_several_inputs_and_outputs() {
    let mut graph = Graph::new([[2, 3].into(), [2, 3].into()]);
    let sum = push(&mut graph, Add, &[0, 1], &[]);
    let bent = push(&mut graph, Sigmoid, &[sum], &[]);
    let product = push(&mut graph, Mul, &[bent, 0], &[]);
    let flat = push(&mut graph, Flatten { start_dim: 0, end_dim: -1 }, &[bent], &[]);
    let input = push(&mut graph, Flatten { start_dim: 0, end_dim: -1 }, &[1], &[]);
    let all = [product, bent, flat, input, 0, product];
    graph.set_outputs(all).unwrap();
    let inputs = [tensor([2, 3], 1), tensor([2, 3], 2)];
    let expected = graph.run(&inputs).unwrap();
    let plan = graph.plan(&Device::Cpu).unwrap();
    let found = plan.run_all(&inputs).unwrap();
    assert_eq!(found.len(), all.len());
    for (k, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(expected.shape(), found.shape(), "output {k}");
        check::compare(expected, found, 1e-6).unwrap();
    }
    let error = plan.run_all(&inputs[..1]).unwrap_err().to_string();
    assert!(error.contains("the plan has 2 inputs, 1 were given"), "{error}");
    let error = plan.run_all(&[inputs[0].clone(), tensor([3, 2], 2)]).unwrap_err().to_string();
    assert!(error.contains("the plan is for an input [2, 3]"), "{error}");
}

#[test]
fn a_reshaped_constant_may_be_an_output() {
    for device in [Device::Reference, Device::Cpu] {
        let mut graph = Graph::new([Shape::from([2, 3])]);
        let constant = Tensor::full([2, 3], 1.5, &device).unwrap();
        let reshape = Flatten { start_dim: 0, end_dim: -1 };
        let reshaped = graph.push(reshape, [Source::Constant(constant)], Scope::default()).unwrap();
        let relu = graph.push(Relu, [Source::Value(0)], Scope::default()).unwrap();
        graph.set_outputs([relu, reshaped]).unwrap();
        let outputs =
            graph.plan(&device).unwrap().run_all(&[Tensor::zeros([2, 3], &device).unwrap()]).unwrap();
        assert_eq!(outputs[0].to_f32().unwrap(), [0.0; 6], "{device}");
        assert_eq!((outputs[1].shape().rank(), outputs[1].to_f32().unwrap()), (1, vec![1.5; 6]), "{device}");
    }
}

//! Replaces the product of a value and its own gate, `x · sigmoid(x)`, by one operation, which others can absorb: files of networks
//! have the sigmoid linear unit and hard swish in two parts.

use neocog_base::Result;
use neocog_tensor::ops::{Hardsigmoid, Mul, Sigmoid};
use neocog_tensor::profile::Scope;
use neocog_tensor::{Device, Pass};
use smallvec::smallvec;

use super::push;
use crate::graph::{Graph, Source};
use crate::register_rewrite;
use crate::rewrite::{Case, Target};

register_rewrite!("self_gate", order 350, |target| target.pass == Pass::Inference, join, cases);

fn join(graph: &mut Graph, _target: &Target<'_>) -> Result<()> {
    let uses = graph.uses();
    let mut nodes = graph.take_nodes();
    let mut gates: Vec<Option<usize>> = vec![None; graph.value_count()];
    let mut is_left = vec![true; nodes.len()];
    for at in 0..nodes.len() {
        let node = &nodes[at];
        if node.op.times_input().is_some() && uses[node.outputs[0]] == 1 {
            gates[node.outputs[0]] = Some(at);
        }
        let [Source::Value(a), Source::Value(b)] = node.inputs[..] else { continue };
        if !node.op.multiplies() {
            continue;
        }
        let of = |gate: usize, x: usize| gates[gate].filter(|gate| nodes[*gate].values().eq([x]));
        let Some((gate, x)) = of(a, b).map(|gate| (gate, b)).or_else(|| of(b, a).map(|gate| (gate, a)))
        else {
            continue;
        };
        if let Some(op) = nodes[gate].op.times_input() {
            is_left[gate] = false;
            nodes[at].op = op;
            nodes[at].inputs = smallvec![Source::Value(x)];
        }
    }
    let left = nodes.into_iter().zip(is_left).filter_map(|(node, is_left)| is_left.then_some(node));
    graph.set_nodes(left.collect())
}

fn cases() -> Vec<Case> {
    let product = |hard: bool, order: [usize; 2], outputs: &'static [usize]| {
        move |_: &Device| {
            let mut graph = Graph::new([[2, 3, 4, 5].into()]);
            let gate = if hard {
                push(&mut graph, Hardsigmoid, 0, &[])?
            } else {
                push(&mut graph, Sigmoid, 0, &[])?
            };
            let values = order.map(|i| Source::Value([0, gate][i]));
            graph.push(Mul, values, Scope::default())?;
            graph.set_outputs(outputs.iter().copied())?;
            Ok(graph)
        }
    };
    let other = |_: &Device| {
        let mut graph = Graph::new([[2, 3].into()]);
        let a = push(&mut graph, Sigmoid, 0, &[])?;
        let b = push(&mut graph, Sigmoid, a, &[])?;
        let y = graph.push(Mul, [Source::Value(0), Source::Value(b)], Scope::default())?;
        graph.set_outputs([y])?;
        Ok(graph)
    };
    vec![
        Case::new("a sigmoid", product(false, [0, 1], &[2]), ["silu"]),
        Case::new("a sigmoid on the left", product(false, [1, 0], &[2]), ["silu"]),
        Case::new("a hard sigmoid", product(true, [0, 1], &[2]), ["hardswish"]),
        Case::new("the gate is an output, too", product(false, [0, 1], &[1, 2]), ["sigmoid", "mul"]),
        Case::new("the gate of another value", other, ["sigmoid", "sigmoid", "mul"]),
    ]
}

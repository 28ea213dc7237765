//! Cases: layouts with full and with incomplete blocks; every case of an operation that has a form in blocks, in that form.

use super::layout::{FromChannelBlocks, Positions, ToChannelBlocks, to_blocks};
use super::wrapper::InChannelBlocks;
use crate::core::shape::{Shape, Shapes};
use crate::register_op;
use crate::testing::cases::{Case, CaseInput, Fill, registered_ops};

const MAPS: [[usize; 4]; 5] = [[2, 3, 4, 5], [1, 16, 3, 3], [2, 20, 1, 1], [3, 17, 5, 7], [0, 8, 2, 2]];

register_op!("to_channel_blocks", || {
    layouts(|shape, lanes| {
        Case::new(format!("{shape:?} to {lanes}"), ToChannelBlocks { lanes }, [CaseInput::uniform(shape)])
    })
});

register_op!("from_channel_blocks", || {
    layouts(|shape, lanes| {
        let x = to_blocks(&Shape::from(shape), lanes).expect("a feature map");
        let op = FromChannelBlocks { channels: shape[1] };
        let input = CaseInput { shape: x, ..CaseInput::uniform(shape) };
        Case::new(format!("{shape:?} from {lanes}"), op, [input])
    })
});

/// Returns cases of small feature maps, in blocks of vectors and in others, and of large ones.
fn layouts(case: impl Fn([usize; 4], usize) -> Case) -> Vec<Case> {
    let own = ToChannelBlocks::default().lanes;
    let mut cases: Vec<Case> =
        MAPS.into_iter().flat_map(|map| [3, own].map(|lanes| case(map, lanes))).collect();
    cases.push(case([4, 20, 40, 41], own).without_gradient());
    cases.push(case([32, 64, 56, 56], own).timed());
    cases
}

register_op!("in_channel_blocks", || {
    let names = ["avg_pool2d", "batch_norm_eval", "conv2d", "global_avg_pool2d", "max_pool2d"];
    let ops = registered_ops()
        .into_iter()
        .filter(|entry| entry.crate_name == env!("CARGO_PKG_NAME") && names.contains(&entry.name));
    ops.flat_map(|entry| (entry.cases)().into_iter().filter_map(|case| in_blocks(entry.name, case))).collect()
});

/// Returns a case in blocks, if its operation has such a form. Large cases, for benchmarks, are left out.
fn in_blocks(name: &str, case: Case) -> Option<Case> {
    if case.bench {
        return None;
    }
    let shapes: Shapes = case.inputs.iter().map(|input| input.shape).collect();
    let form = case.op.in_channel_blocks(&shapes)?;
    (&*form.op as &dyn std::any::Any).downcast_ref::<InChannelBlocks>()?;
    let inputs = case.inputs.iter().zip(&form.inputs).enumerate().map(|(i, (input, in_blocks))| {
        if *in_blocks { bring_into_blocks(input, i) } else { Some(input.clone()) }
    });
    let inputs = inputs.collect::<Option<Vec<CaseInput>>>()?;
    Some(Case { name: format!("{name}, {}", case.name), op: form.op, inputs, ..case })
}

/// Returns the input at a position of a case in blocks, with the same values. No output may depend on what is behind the last channel.
fn bring_into_blocks(input: &CaseInput, position: usize) -> Option<CaseInput> {
    const BEHIND: f32 = 7.0;
    let lanes = ToChannelBlocks::default().lanes;
    let shape = to_blocks(&input.shape, lanes).ok()?;
    let positions = Positions::of(&input.shape, lanes);
    let mut values = vec![BEHIND; shape.elements()];
    // As the checks number them.
    let plain = input.make(position as u64 + 1);
    plain.into_iter().enumerate().for_each(|(at, value)| values[positions.in_blocks(at)] = value);
    Some(CaseInput { shape, fill: Fill::Values(values.into()), ..input.clone() })
}

//! Stochastic depth for the residual blocks of a whole network.

use neocog_tensor::{Error, Result};
use serde_json::{Value, json};

use crate::layers::{Residual, StochasticDepth};
use crate::spec::{LayerSpec, Spec as _};

/// Returns a network that drops the branch of each of its residual blocks in training, images by themselves: that of block `i` of `n`
/// with probability `p i / n`, so that the last one has `p`. Names of parameters stay the same. G. Huang et al., "Deep networks with
/// stochastic depth", ECCV 2016.
///
/// # Errors
/// `InvalidArgument` for a `p` that is not from 0 to 1, and for a network without residual blocks, or that drops some already; `Format`
/// when the spec cannot be written as JSON.
pub fn drop_branches(spec: &LayerSpec, p: f64) -> Result<LayerSpec> {
    if !(0.0..=1.0).contains(&p) {
        return Err(Error::invalid_argument(format!("the probability must be from 0 to 1, not {p}")));
    }
    let damaged = |e| Error::format("cannot change the spec of the network").with_source(e);
    let mut network: Value = serde_json::from_str(&spec.to_json()?).map_err(damaged)?;
    let (mut count, mut drops) = (0_u32, false);
    for_each_branch(&mut network, &mut |branch| {
        count += 1;
        drops |= branch.iter().any(|child| child["layer"]["kind"] == StochasticDepth::KIND);
    });
    if count == 0 {
        return Err(Error::invalid_argument(
            "the network has no residual blocks (layers of the kind Residual)",
        ));
    }
    if drops {
        return Err(Error::invalid_argument("the network drops branches of residual blocks already"));
    }
    let mut number = 0_u32;
    for_each_branch(&mut network, &mut |branch| {
        number += 1;
        let p = p * f64::from(number) / f64::from(count);
        branch.push(json!({ "layer": { "kind": StochasticDepth::KIND, "p": p } }));
    });
    serde_json::from_value(network).map_err(damaged)
}

/// Calls `f` with the layers of the branch of each residual block, in the order of the network. Blocks within a branch are a part of it.
fn for_each_branch(value: &mut Value, f: &mut dyn FnMut(&mut Vec<Value>)) {
    match value {
        Value::Object(object) => {
            let is_block = object.get("kind").is_some_and(|kind| kind == Residual::KIND);
            match object.get_mut("body") {
                Some(Value::Array(branch)) if is_block => f(branch),
                _ => object.values_mut().for_each(|value| for_each_branch(value, f)),
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| for_each_branch(value, f)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use neocog_tensor::Device;

    use super::*;
    use crate::layers::{Child, Linear, Sequential};
    use crate::{Builder, state};

    fn block() -> Residual {
        let body = vec![Child::named("fc", Linear::new(3, 3))];
        Residual { label: None, body, shortcut: Vec::new(), activation: None, order: Vec::new() }
    }

    #[test]
    fn later_blocks_are_dropped_more_often() {
        let stage = Sequential::new().then(block()).then(block());
        let spec: LayerSpec = Sequential::new().then(stage).with("last", block()).into();
        let changed = drop_branches(&spec, 0.75).unwrap();
        let text = changed.to_json().unwrap();
        for p in ["0.25", "0.5", "0.75"] {
            assert!(text.contains(&format!("\"p\": {p}")), "{text}");
        }
        let names = |spec: &LayerSpec| {
            let network = Builder::new(&Device::Cpu, 0).build(spec, &[2, 3].into()).unwrap();
            state::params(&*network).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(&spec), names(&changed));
        let error = |spec: &LayerSpec, p| drop_branches(spec, p).unwrap_err().to_string();
        assert!(error(&changed, 0.1).contains("already"));
        assert!(error(&Linear::new(3, 3).into(), 0.1).contains("no residual blocks"));
        assert!(error(&spec, 1.5).contains("from 0 to 1, not 1.5"));
    }
}

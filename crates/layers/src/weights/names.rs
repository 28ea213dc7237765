//! Names of stored tensors.

use std::collections::HashSet;

use super::stored::StoredTensor;
use crate::state::Entry;

/// What wrappers of networks put before all names: `DataParallel`, `torch.compile`, Lightning.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Returns the names of stored tensors as the network has them: without the prefixes of wrappers, which are removed if all names
/// have them and no name of the network does, and with today's names in place of old ones.
pub(super) fn of_network(stored: &[StoredTensor], network: &[(String, Entry<'_>)]) -> Vec<String> {
    let mut names: Vec<&str> = stored.iter().map(|tensor| tensor.name.as_str()).collect();
    let own: HashSet<&str> = network.iter().map(|(name, _)| name.as_str()).collect();
    let in_network = |prefix: &str| own.iter().any(|name| name.starts_with(prefix));
    while let Some(prefix) = PREFIXES.into_iter().find(|prefix| {
        !names.is_empty() && names.iter().all(|name| name.starts_with(prefix)) && !in_network(prefix)
    }) {
        names.iter_mut().for_each(|name| *name = &name[prefix.len()..]);
    }
    let today = |name: &str| renamed(name).filter(|new| !own.contains(name) && own.contains(new.as_str()));
    names.into_iter().map(|name| today(name).unwrap_or_else(|| name.to_string())).collect()
}

/// Returns today's name of a tensor in torchvision's published weights of DenseNet, which are older than the names of its layers:
/// `denselayer1.norm1.weight` is called `denselayer1.norm.1.weight` there.
fn renamed(name: &str) -> Option<String> {
    let (start, rest) = ["norm.1.", "norm.2.", "conv.1.", "conv.2."].into_iter().find_map(|old| {
        let (start, rest) = name.split_once(&format!(".{old}"))?;
        Some((format!("{start}.{}", old.replace('.', "")), rest))
    })?;
    Some(format!("{start}.{rest}"))
}

//! Names of stored tensors.

use std::collections::HashSet;

use super::stored::StoredTensor;
use crate::state::Entry;

/// What wrappers of networks put before all names: `DataParallel`, `torch.compile`, Lightning.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Returns the names of stored tensors without the prefixes of wrappers. A prefix is removed if all names have it, and no name of
/// the network does.
pub(super) fn without_prefixes(stored: &[StoredTensor], network: &[(String, Entry<'_>)]) -> Vec<String> {
    let mut names: Vec<&str> = stored.iter().map(|tensor| tensor.name.as_str()).collect();
    let own: HashSet<&str> = network.iter().map(|(name, _)| name.as_str()).collect();
    let in_network = |prefix: &str| own.iter().any(|name| name.starts_with(prefix));
    while let Some(prefix) = PREFIXES.into_iter().find(|prefix| {
        !names.is_empty() && names.iter().all(|name| name.starts_with(prefix)) && !in_network(prefix)
    }) {
        names.iter_mut().for_each(|name| *name = &name[prefix.len()..]);
    }
    names.into_iter().map(String::from).collect()
}

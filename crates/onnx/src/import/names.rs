//! The names of nodes and domains.

use crate::proto::NodeProto;

/// Whether a domain is that of the standard operators.
pub(super) fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Returns the name of a node, or that of its first output if it has none.
pub(super) fn name_of(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

/// Returns a node as messages name it.
pub(super) fn describe(node: &NodeProto) -> String {
    let name = name_of(node);
    let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
    format!("{name} ({domain}{})", node.op_type)
}

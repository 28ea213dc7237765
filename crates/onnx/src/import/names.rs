//! The names of nodes and domains.

use crate::proto::NodeProto;

/// Returns the name of a domain; that of the standard operators, which has two, is empty.
pub(super) fn domain_of(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
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

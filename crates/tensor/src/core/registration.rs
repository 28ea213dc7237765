//! The names of registered operations.

#[cfg(debug_assertions)]
use crate::core::op::Op;

/// The name of a registered operation; [`register_op!`](crate::register_op) submits it.
#[doc(hidden)]
#[derive(Debug)]
pub struct RegisteredName(pub &'static str);

inventory::collect!(RegisteredName);

/// Asserts that an operation is registered: what is not registered is not tested.
#[cfg(debug_assertions)]
pub(crate) fn check(op: &dyn Op) {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static NAMES: LazyLock<HashSet<&str>> =
        LazyLock::new(|| inventory::iter::<RegisteredName>.into_iter().map(|name| name.0).collect());
    assert!(
        NAMES.contains(op.name()),
        "the operation {} is not registered: register its cases with register_op!",
        op.name()
    );
}

//! What the formats of weight files have in common.

use std::collections::BTreeMap;

use neocog_tensor::Result;

use super::element::ElementType;

/// A tensor in a file.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<usize>,
}

/// An open file of tensors.
pub(super) trait TensorFile {
    /// Returns all tensors.
    fn stored(&self) -> &[StoredTensor];

    /// Returns the texts of the file by name; empty if it has none.
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Reads the elements of a tensor, in row-major order and little-endian.
    ///
    /// # Errors
    /// `Io` when the file cannot be read; `Format` when it is damaged.
    fn bytes(&mut self, index: usize) -> Result<Vec<u8>>;
}

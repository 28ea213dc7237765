//! Tensors as they stand in a checkpoint.

use neocog_tensor::{Context as _, Device, Error, ErrorKind, Result, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// What the error of a decoder starts with if memory cannot be allocated.
pub(super) const NO_MEMORY: &str = "cannot allocate";

/// A tensor with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedTensor {
    /// Dotted name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub values: Values,
}

/// The elements of a tensor, in the precision of the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Values {
    /// Single precision.
    F32(#[serde(deserialize_with = "numbers::deserialize")] Vec<f32>),
    /// Double precision, of the reference device.
    F64(#[serde(deserialize_with = "numbers::deserialize")] Vec<f64>),
}

impl Values {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of the elements, in the order of this machine.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice(values),
            Values::F64(values) => bytemuck::cast_slice(values),
        }
    }

    /// Returns the bytes of the elements, in the order of this machine.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Values::F32(values) => bytemuck::cast_slice_mut(values),
            Values::F64(values) => bytemuck::cast_slice_mut(values),
        }
    }
}

impl NamedTensor {
    /// Copies `tensor`.
    ///
    /// # Errors
    /// `Diverged` if an element is not finite; when the device fails.
    pub fn new(name: impl Into<String>, tensor: &Tensor) -> Result<Self> {
        let name = name.into();
        let values = match tensor.device() {
            Device::Reference => Values::F64(tensor.to_f64()?),
            _ => Values::F32(tensor.to_f32()?),
        };
        let finite = match &values {
            Values::F32(values) => values.iter().all(|v| v.is_finite()),
            Values::F64(values) => values.iter().all(|v| v.is_finite()),
        };
        if !finite {
            let what = format!("{name} has elements that are not finite");
            return Err(Error::new(ErrorKind::Diverged, what));
        }
        Ok(NamedTensor { name, shape: tensor.shape().to_vec(), values })
    }

    /// Creates the tensor on `device`.
    ///
    /// # Errors
    /// When the shape does not fit the number of values, or the device fails.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = Shape::new(&self.shape)?;
        match &self.values {
            Values::F32(values) => Tensor::from_f32(shape, values, device),
            Values::F64(values) => Tensor::from_f64(shape, values, device),
        }
        .context(|| self.name.as_str())
    }

    /// Checks that the shape is valid and has as many elements as there are values.
    ///
    /// # Errors
    /// `Format` or `Shape` when it has not.
    pub fn check(&self) -> Result<()> {
        let elements = Shape::new(&self.shape).context(|| self.name.as_str())?.elements();
        let count = self.values.len();
        if elements != count {
            return Err(Error::format(format!(
                "{} of shape {:?} has {elements} elements, found {count} values",
                self.name, self.shape
            )));
        }
        Ok(())
    }
}

/// Numbers, for which memory may be lacking: that is an error.
mod numbers {
    use std::fmt;
    use std::marker::PhantomData;

    use neocog_base::memory::{no_memory, try_with_capacity};
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserialize, Deserializer};

    /// Numbers that are allocated before the first is read.
    const CAPACITY: usize = 1 << 16;

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(Numbers(PhantomData))
    }

    struct Numbers<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Numbers<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("numbers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<T>, A::Error> {
            // The length is not checked yet: memory grows with the numbers that are there.
            let len = access.size_hint().unwrap_or(0);
            let mut all = try_with_capacity(len.min(CAPACITY), "numbers").map_err(A::Error::custom)?;
            while let Some(value) = access.next_element()? {
                if all.len() == all.capacity() {
                    let more = all.try_reserve(1);
                    more.map_err(|_| A::Error::custom(no_memory::<T>(len, format_args!("{len} numbers"))))?;
                }
                all.push(value);
            }
            Ok(all)
        }
    }
}

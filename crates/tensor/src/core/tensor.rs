//! A tensor: a shape and a share in a device's memory.

use std::fmt;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::core::device::Device;
use crate::core::shape::Shape;
use crate::memory::Buffer;
use crate::opencl;
use neocog_base::{Error, Result};

/// A shape and a share in a device's memory; contiguous, in row-major order.
///
/// Cloning shares the memory. Nothing changes a tensor that is shared: what works in place
/// ([`crate::update`]) copies first where it must.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    /// The first element's position in the memory: a slice along the first axis shares its parent's.
    offset: usize,
    storage: Storage,
}

#[derive(Clone)]
pub(crate) enum Storage {
    Reference(Arc<Vec<f64>>),
    Cpu(Arc<Buffer>),
    OpenCl(Arc<opencl::Buffer>),
    Meta,
}

impl Tensor {
    /// Zeros.
    ///
    /// # Errors
    /// When the device is not there or has no memory left.
    pub fn zeros(shape: impl Into<Shape>, device: &Device) -> Result<Self> {
        Self::full(shape, 0.0, device)
    }

    /// `value` everywhere.
    ///
    /// # Errors
    /// When the device is not there or has no memory left.
    pub fn full(shape: impl Into<Shape>, value: f64, device: &Device) -> Result<Self> {
        let shape = shape.into();
        let storage = match device {
            Device::Reference => Storage::Reference(Arc::new(vec![value; shape.elements()])),
            Device::Cpu => {
                let mut buffer = Buffer::new(shape.elements());
                buffer.fill(value as f32);
                Storage::Cpu(Arc::new(buffer))
            }
            Device::OpenCl(id) => {
                let buffer = opencl::open(*id)?.allocate(shape.elements())?;
                buffer.fill(value as f32)?;
                Storage::OpenCl(Arc::new(buffer))
            }
            Device::Meta => Storage::Meta,
        };
        Ok(Tensor { shape, offset: 0, storage })
    }

    /// Copies `values`, given in row-major order, to `device`.
    ///
    /// # Errors
    /// When the number of values is not the shape's, or the device is not there or has no memory left.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32], device: &Device) -> Result<Self> {
        let shape = shape.into();
        check_count(&shape, values.len())?;
        let storage = match device {
            Device::Reference => Storage::Reference(Arc::new(values.iter().map(|&v| f64::from(v)).collect())),
            Device::Cpu => {
                let mut buffer = Buffer::new(values.len());
                buffer.copy_from_slice(values);
                Storage::Cpu(Arc::new(buffer))
            }
            Device::OpenCl(id) => upload(*id, values.to_vec())?,
            Device::Meta => Storage::Meta,
        };
        Ok(Tensor { shape, offset: 0, storage })
    }

    /// Copies `values`, given in row-major order, to `device`, rounded to what the device holds.
    ///
    /// # Errors
    /// When the number of values is not the shape's, or the device is not there or has no memory left.
    pub fn from_f64(shape: impl Into<Shape>, values: &[f64], device: &Device) -> Result<Self> {
        let shape = shape.into();
        check_count(&shape, values.len())?;
        let storage = match device {
            Device::Reference => Storage::Reference(Arc::new(values.to_vec())),
            Device::Cpu => {
                let mut buffer = Buffer::new(values.len());
                buffer.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
                Storage::Cpu(Arc::new(buffer))
            }
            Device::OpenCl(id) => upload(*id, values.iter().map(|&v| v as f32).collect())?,
            Device::Meta => Storage::Meta,
        };
        Ok(Tensor { shape, offset: 0, storage })
    }

    /// Copies an ndarray, of any layout, to `device`.
    ///
    /// # Errors
    /// When it has more than six axes.
    pub fn from_ndarray(array: ArrayViewD<'_, f32>, device: &Device) -> Result<Self> {
        let shape = Shape::new(array.shape())?;
        match array.as_slice() {
            Some(values) => Self::from_f32(shape, values, device),
            None => Self::from_f32(shape, &array.iter().copied().collect::<Vec<f32>>(), device),
        }
    }

    /// A copy as an ndarray.
    ///
    /// # Errors
    /// When the tensor is on [`Device::Meta`], or the device fails.
    pub fn to_ndarray(&self) -> Result<ArrayD<f32>> {
        let values = self.to_f32()?;
        Ok(ArrayD::from_shape_vec(IxDyn(&self.shape), values)
            .expect("a tensor has as many values as its shape"))
    }

    /// A copy of the elements in row-major order, in single precision.
    ///
    /// # Errors
    /// When the tensor is on [`Device::Meta`], or the device fails.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match &self.storage {
            Storage::Reference(v) => Ok(v[self.range()].iter().map(|&x| x as f32).collect()),
            Storage::Cpu(v) => Ok(v[self.range()].to_vec()),
            Storage::OpenCl(v) => v.read(self.range()),
            Storage::Meta => Err(no_data()),
        }
    }

    /// A copy of the elements in row-major order, in double precision.
    ///
    /// # Errors
    /// When the tensor is on [`Device::Meta`], or the device fails.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        match &self.storage {
            Storage::Reference(v) => Ok(v[self.range()].to_vec()),
            Storage::Cpu(v) => Ok(v[self.range()].iter().map(|&x| f64::from(x)).collect()),
            Storage::OpenCl(v) => Ok(v.read(self.range())?.into_iter().map(f64::from).collect()),
            Storage::Meta => Err(no_data()),
        }
    }

    /// The value of a tensor with one element.
    ///
    /// # Errors
    /// When there is not exactly one element, or it cannot be read.
    pub fn item(&self) -> Result<f64> {
        if self.shape.elements() != 1 {
            return Err(Error::shape(format!(
                "item() needs exactly one element, the shape is {}",
                self.shape
            )));
        }
        Ok(self.to_f64()?[0])
    }

    /// This tensor on `device`; shared where it is there already.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn to_device(&self, device: &Device) -> Result<Tensor> {
        match (&self.storage, device) {
            (_, Device::Meta) => Ok(Tensor { shape: self.shape, offset: 0, storage: Storage::Meta }),
            _ if self.device() == *device => Ok(self.clone()),
            (Storage::Reference(v), _) => Self::from_f64(self.shape, &v[self.range()], device),
            (Storage::Cpu(v), _) => Self::from_f32(self.shape, &v[self.range()], device),
            (Storage::OpenCl(v), _) => Self::from_f32(self.shape, &v.read(self.range())?, device),
            (Storage::Meta, _) => Err(no_data()),
        }
    }

    /// The same elements in another shape; free.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        if shape.elements() != self.shape.elements() {
            return Err(Error::shape(format!(
                "a tensor of shape {} has {} elements and cannot become {shape}, which has {}",
                self.shape,
                self.shape.elements(),
                shape.elements()
            )));
        }
        Ok(Tensor { shape, ..self.clone() })
    }

    /// The part `start .. start + len` along the first axis; free.
    ///
    /// # Errors
    /// When the part is not within the first axis.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Tensor> {
        let first = self.shape.first().copied().unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > first) {
            return Err(Error::shape(format!(
                "cannot take {len} from position {start} of the first axis of {}",
                self.shape
            )));
        }
        let row = self.shape.elements() / first.max(1);
        let shape = self.shape.with_extent(0, len);
        Ok(Tensor { shape, offset: self.offset + start * row, storage: self.storage.clone() })
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Reference(_) => Device::Reference,
            Storage::Cpu(_) => Device::Cpu,
            Storage::OpenCl(v) => Device::OpenCl(v.device()),
            Storage::Meta => Device::Meta,
        }
    }

    /// Whether two tensors have the same shape and are the same memory.
    pub fn is_same(&self, other: &Tensor) -> bool {
        let same_storage = match (&self.storage, &other.storage) {
            (Storage::Reference(a), Storage::Reference(b)) => Arc::ptr_eq(a, b),
            (Storage::Cpu(a), Storage::Cpu(b)) => Arc::ptr_eq(a, b),
            (Storage::OpenCl(a), Storage::OpenCl(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same_storage && self.offset == other.offset && self.shape == other.shape
    }

    pub(crate) fn new(shape: Shape, storage: Storage) -> Self {
        Tensor { shape, offset: 0, storage }
    }

    pub(crate) fn reference(&self) -> &[f64] {
        match &self.storage {
            Storage::Reference(v) => &v[self.range()],
            _ => unreachable!("the runner has checked the device"),
        }
    }

    pub(crate) fn cpu(&self) -> &[f32] {
        match &self.storage {
            Storage::Cpu(v) => &v[self.range()],
            _ => unreachable!("the runner has checked the device"),
        }
    }

    /// The elements for writing; copied first if anyone else shares them.
    pub(crate) fn reference_mut(&mut self) -> &mut [f64] {
        let range = self.range();
        let Storage::Reference(v) = &mut self.storage else {
            unreachable!("the runner has checked the device")
        };
        &mut Arc::make_mut(v)[range]
    }

    /// The elements for writing; copied first if anyone else shares them.
    pub(crate) fn cpu_mut(&mut self) -> &mut [f32] {
        let Storage::Cpu(v) = &mut self.storage else { unreachable!("the runner has checked the device") };
        if Arc::get_mut(v).is_none() {
            let from = self.offset;
            let mut copy = Buffer::new(self.shape.elements());
            copy.copy_from_slice(&v[from..from + self.shape.elements()]);
            *v = Arc::new(copy);
            self.offset = 0;
        }
        let range = self.offset..self.offset + self.shape.elements();
        let Storage::Cpu(v) = &mut self.storage else { unreachable!("as above") };
        &mut Arc::get_mut(v).expect("made unique above")[range]
    }

    /// The elements as a buffer of its own, for reading: shared where they are a whole one.
    pub(crate) fn opencl(&self) -> Result<Arc<opencl::Buffer>> {
        match &self.storage {
            Storage::OpenCl(v) if v.len() == self.shape.elements() => Ok(v.clone()),
            Storage::OpenCl(v) => Ok(Arc::new(v.part(self.range())?)),
            _ => unreachable!("the runner has checked the device"),
        }
    }

    /// The elements as a buffer of its own, for writing; copied first if anyone else shares them.
    pub(crate) fn opencl_mut(&mut self) -> Result<&opencl::Buffer> {
        let range = self.range();
        let Storage::OpenCl(v) = &mut self.storage else { unreachable!("the runner has checked the device") };
        if Arc::get_mut(v).is_none() || v.len() != range.len() {
            *v = Arc::new(v.copy(range)?);
            self.offset = 0;
        }
        Ok(v)
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.shape.elements()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {})", self.shape, self.device())
    }
}

fn upload(id: opencl::DeviceId, values: Vec<f32>) -> Result<Storage> {
    let buffer = opencl::open(id)?.allocate(values.len())?;
    buffer.write(values)?;
    Ok(Storage::OpenCl(Arc::new(buffer)))
}

fn check_count(shape: &Shape, count: usize) -> Result<()> {
    if shape.elements() != count {
        return Err(Error::shape(format!(
            "the shape {shape} has {} elements, but {count} values were given",
            shape.elements()
        )));
    }
    Ok(())
}

#[cold]
fn no_data() -> Error {
    Error::device("a tensor on the meta device has a shape but no data to read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_go_to_ndarray_and_back() {
        for device in [Device::Cpu, Device::Reference] {
            let a = ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| (i[0] * 3 + i[1]) as f32);
            let t = Tensor::from_ndarray(a.view(), &device).unwrap();
            assert_eq!(t.to_ndarray().unwrap(), a);
            let transposed = Tensor::from_ndarray(a.t(), &device).unwrap();
            assert_eq!(transposed.to_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        }
    }

    #[test]
    fn a_slice_shares_memory_and_writing_copies() {
        let t = Tensor::from_f32([3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &Device::Cpu).unwrap();
        let mut row = t.narrow(1, 2).unwrap();
        assert_eq!(row.to_f32().unwrap(), [2.0, 3.0, 4.0, 5.0]);
        row.cpu_mut()[0] = 9.0;
        assert_eq!(row.to_f32().unwrap(), [9.0, 3.0, 4.0, 5.0]);
        assert_eq!(t.to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(t.narrow(2, 2).is_err());
    }

    #[test]
    fn counts_are_checked() {
        assert!(Tensor::from_f32([2, 2], &[1.0], &Device::Cpu).is_err());
        assert!(Tensor::zeros([2, 2], &Device::Cpu).unwrap().reshape([3]).is_err());
        assert!(Tensor::zeros([2, 2], &Device::Meta).unwrap().to_f32().is_err());
    }
}

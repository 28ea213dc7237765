//! Tensors.

use std::fmt;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use crate::core::device::Device;
use crate::core::shape::{IntoShape, Shape};
use crate::cpu::simd::check_instruction_set;
use crate::memory::{Buffer, release_cached_memory};
use crate::opencl;
use neocog_base::{Error, Result, text};

/// A tensor: a shape and elements in the memory of a device, contiguous in row-major order.
///
/// Clones share memory. Tensors are immutable while they share memory: operations in place ([`crate::update`]) copy first if
/// necessary.
#[derive(Clone)]
pub struct Tensor {
    shape: Shape,
    /// Position of the first element in the storage; slices along the first axis share storage.
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
    /// Creates a tensor of zeros.
    ///
    /// # Errors
    /// If the shape is invalid, or the device is not available or out of memory.
    pub fn zeros(shape: impl IntoShape, device: &Device) -> Result<Self> {
        Self::full(shape, 0.0, device)
    }

    /// Creates a tensor with all elements equal to `value`.
    ///
    /// # Errors
    /// If the shape is invalid, or the device is not available or out of memory.
    pub fn full(shape: impl IntoShape, value: f64, device: &Device) -> Result<Self> {
        let shape = shape.into_shape()?;
        let storage = match device {
            Device::Reference => {
                Storage::Reference(Arc::new(collect(&shape, std::iter::repeat_n(value, shape.elements()))?))
            }
            Device::Cpu => {
                let mut buffer = allocate(&shape)?;
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

    /// Creates a tensor from values in row-major order.
    ///
    /// # Errors
    /// If the number of values differs from the shape's, or the device is not available or out of memory.
    pub fn from_f32(shape: impl IntoShape, values: &[f32], device: &Device) -> Result<Self> {
        let shape = shape.into_shape()?;
        check_count(&shape, values.len())?;
        let storage = match device {
            Device::Reference => {
                Storage::Reference(Arc::new(collect(&shape, values.iter().map(|&v| f64::from(v)))?))
            }
            Device::Cpu => {
                let mut buffer = allocate(&shape)?;
                buffer.copy_from_slice(values);
                Storage::Cpu(Arc::new(buffer))
            }
            Device::OpenCl(id) => upload(*id, collect(&shape, values.iter().copied())?)?,
            Device::Meta => Storage::Meta,
        };
        Ok(Tensor { shape, offset: 0, storage })
    }

    /// Creates a tensor from values in row-major order, rounded to the precision of the device.
    ///
    /// # Errors
    /// If the number of values differs from the shape's, or the device is not available or out of memory.
    pub fn from_f64(shape: impl IntoShape, values: &[f64], device: &Device) -> Result<Self> {
        let shape = shape.into_shape()?;
        check_count(&shape, values.len())?;
        let storage = match device {
            Device::Reference => Storage::Reference(Arc::new(collect(&shape, values.iter().copied())?)),
            Device::Cpu => {
                let mut buffer = allocate(&shape)?;
                buffer.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
                Storage::Cpu(Arc::new(buffer))
            }
            Device::OpenCl(id) => upload(*id, collect(&shape, values.iter().map(|&v| v as f32))?)?,
            Device::Meta => Storage::Meta,
        };
        Ok(Tensor { shape, offset: 0, storage })
    }

    /// Creates a tensor from an ndarray of any layout.
    ///
    /// # Errors
    /// If it has more than six axes, or the device is not available or out of memory.
    pub fn from_ndarray(array: ArrayViewD<'_, f32>, device: &Device) -> Result<Self> {
        let shape = Shape::new(array.shape())?;
        match array.as_slice() {
            Some(values) => Self::from_f32(shape, values, device),
            None => Self::from_f32(shape, &collect(&shape, array.iter().copied())?, device),
        }
    }

    /// Copies the elements into an ndarray.
    ///
    /// # Errors
    /// If the tensor is on [`Device::Meta`], the device fails, or memory cannot be allocated.
    pub fn to_ndarray(&self) -> Result<ArrayD<f32>> {
        let values = self.to_f32()?;
        Ok(ArrayD::from_shape_vec(IxDyn(&self.shape), values)
            .expect("one value for each element of the shape"))
    }

    /// Copies the elements in row-major order, in single precision.
    ///
    /// # Errors
    /// If the tensor is on [`Device::Meta`], the device fails, or memory cannot be allocated.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match &self.storage {
            Storage::Reference(v) => collect(&self.shape, v[self.range()].iter().map(|&x| x as f32)),
            Storage::Cpu(v) => collect(&self.shape, v[self.range()].iter().copied()),
            Storage::OpenCl(v) => v.read(self.range()),
            Storage::Meta => Err(no_data()),
        }
    }

    /// Copies the elements in row-major order, in double precision.
    ///
    /// # Errors
    /// If the tensor is on [`Device::Meta`], the device fails, or memory cannot be allocated.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        match &self.storage {
            Storage::Reference(v) => collect(&self.shape, v[self.range()].iter().copied()),
            Storage::Cpu(v) => collect(&self.shape, v[self.range()].iter().map(|&x| f64::from(x))),
            Storage::OpenCl(v) => collect(&self.shape, v.read(self.range())?.into_iter().map(f64::from)),
            Storage::Meta => Err(no_data()),
        }
    }

    /// Returns the value of a tensor with one element.
    ///
    /// # Errors
    /// If there is not exactly one element, or it cannot be read.
    pub fn item(&self) -> Result<f64> {
        if self.shape.elements() != 1 {
            return Err(Error::shape(format!(
                "item() expects exactly one element, the shape is {}",
                self.shape
            )));
        }
        Ok(self.to_f64()?[0])
    }

    /// Copies the tensor to `device`; shares memory if it is on that device already.
    ///
    /// # Errors
    /// If the elements cannot be read or written.
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

    /// Returns the same elements in another shape, sharing memory.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: impl IntoShape) -> Result<Tensor> {
        let shape = shape.into_shape()?;
        if shape.elements() != self.shape.elements() {
            return Err(Error::shape(format!(
                "a tensor of shape {} has {} and cannot become {shape}, which has {}",
                self.shape,
                text::count(self.shape.elements(), "element"),
                shape.elements()
            )));
        }
        Ok(Tensor { shape, ..self.clone() })
    }

    /// Returns the slice `start .. start + len` of the first axis, sharing memory.
    ///
    /// # Errors
    /// If the slice exceeds the first axis.
    pub fn narrow(&self, start: usize, len: usize) -> Result<Tensor> {
        let first = self.shape.first().copied().unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > first) {
            return Err(Error::shape(format!(
                "the slice {start}..{start} + {len} exceeds the first axis of {}",
                self.shape
            )));
        }
        let row = self.shape.elements() / first.max(1);
        let shape = self.shape.with_extent(0, len)?;
        Ok(Tensor { shape, offset: self.offset + start * row, storage: self.storage.clone() })
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Returns the device of the elements.
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

    /// Copies the elements, if other tensors have the same memory.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub fn unshare(&mut self) -> Result<()> {
        match self.storage {
            Storage::Reference(_) => self.reference_mut().map(drop),
            Storage::Cpu(_) => self.cpu_mut().map(drop),
            Storage::OpenCl(_) => self.opencl_mut().map(drop),
            Storage::Meta => Ok(()),
        }
    }

    pub(crate) fn new(shape: Shape, storage: Storage) -> Self {
        Tensor { shape, offset: 0, storage }
    }

    pub(crate) fn reference(&self) -> &[f64] {
        match &self.storage {
            Storage::Reference(v) => &v[self.range()],
            _ => unreachable!("the caller has checked the device"),
        }
    }

    pub(crate) fn cpu(&self) -> &[f32] {
        match &self.storage {
            Storage::Cpu(v) => &v[self.range()],
            _ => unreachable!("the caller has checked the device"),
        }
    }

    /// Returns the elements for writing; copied first if they are shared.
    pub(crate) fn reference_mut(&mut self) -> Result<&mut [f64]> {
        let Storage::Reference(v) = &mut self.storage else {
            unreachable!("the caller has checked the device")
        };
        if Arc::get_mut(v).is_none() {
            let from = self.offset;
            let copy = collect(&self.shape, v[from..from + self.shape.elements()].iter().copied())?;
            *v = Arc::new(copy);
            self.offset = 0;
        }
        let range = self.offset..self.offset + self.shape.elements();
        Ok(&mut Arc::get_mut(v).expect("made unique above")[range])
    }

    /// Returns the elements for writing; copied first if they are shared.
    pub(crate) fn cpu_mut(&mut self) -> Result<&mut [f32]> {
        let Storage::Cpu(v) = &mut self.storage else { unreachable!("the caller has checked the device") };
        if Arc::get_mut(v).is_none() {
            let from = self.offset;
            let mut copy = allocate(&self.shape)?;
            copy.copy_from_slice(&v[from..from + self.shape.elements()]);
            *v = Arc::new(copy);
            self.offset = 0;
        }
        let range = self.offset..self.offset + self.shape.elements();
        Ok(&mut Arc::get_mut(v).expect("made unique above")[range])
    }

    /// Returns a buffer of exactly these elements, for reading.
    pub(crate) fn opencl(&self) -> Result<Arc<opencl::Buffer>> {
        match &self.storage {
            Storage::OpenCl(v) if v.len() == self.shape.elements() => Ok(v.clone()),
            Storage::OpenCl(v) => Ok(Arc::new(v.part(self.range())?)),
            _ => unreachable!("the caller has checked the device"),
        }
    }

    /// Returns a buffer of exactly these elements, for writing; copied first if they are shared.
    pub(crate) fn opencl_mut(&mut self) -> Result<&opencl::Buffer> {
        let range = self.range();
        let Storage::OpenCl(v) = &mut self.storage else { unreachable!("the caller has checked the device") };
        if Arc::get_mut(v).is_none() || v.len() != range.len() {
            *v = Arc::new(v.copy(range)?);
            self.offset = 0;
        }
        Ok(v)
    }

    /// Copies the first `count` elements.
    fn prefix(&self, count: usize) -> Result<Vec<f64>> {
        let range = self.offset..self.offset + count;
        match &self.storage {
            Storage::Reference(v) => Ok(v[range].to_vec()),
            Storage::Cpu(v) => Ok(v[range].iter().map(|&x| f64::from(x)).collect()),
            Storage::OpenCl(v) => Ok(v.read(range)?.into_iter().map(f64::from).collect()),
            Storage::Meta => Err(no_data()),
        }
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.shape.elements()
    }
}

/// Shape, device and the first elements; elements that cannot be read are left out.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor({}, {}", self.shape, self.device())?;
        let elements = self.shape.elements();
        let shown = elements.min(SHOWN);
        if let Ok(values) = self.prefix(shown) {
            let more = if elements > shown { ", …" } else { "" };
            let values: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            write!(f, ", [{}{more}]", values.join(", "))?;
        }
        f.write_str(")")
    }
}

/// Allocates a buffer for the elements of a tensor, with unspecified contents.
pub(crate) fn allocate(shape: &Shape) -> Result<Buffer> {
    // Everything on the CPU starts with a tensor.
    check_instruction_set()?;
    Buffer::new(shape.elements()).map_err(|_| no_memory::<f32>(shape))
}

/// Allocates zeros for the elements of a tensor in double precision.
pub(crate) fn allocate_reference(shape: &Shape) -> Result<Vec<f64>> {
    let allocate = || bytemuck::allocation::try_zeroed_vec(shape.elements());
    allocate()
        .or_else(|()| {
            release_cached_memory();
            allocate()
        })
        .map_err(|()| no_memory::<f64>(shape))
}

/// Collects the elements of a tensor.
fn collect<T>(shape: &Shape, values: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut reserve = || all.try_reserve_exact(shape.elements());
    reserve()
        .or_else(|_| {
            release_cached_memory();
            reserve()
        })
        .map_err(|_| no_memory::<T>(shape))?;
    all.extend(values);
    Ok(all)
}

#[cold]
fn no_memory<T>(shape: &Shape) -> Error {
    let bytes = shape.elements() as u128 * size_of::<T>() as u128;
    Error::out_of_memory(format!("cannot allocate a tensor of shape {shape} ({bytes} bytes)"))
}

fn upload(id: opencl::DeviceId, values: Vec<f32>) -> Result<Storage> {
    let buffer = opencl::open(id)?.allocate(values.len())?;
    buffer.write(values)?;
    Ok(Storage::OpenCl(Arc::new(buffer)))
}

fn check_count(shape: &Shape, count: usize) -> Result<()> {
    if shape.elements() != count {
        return Err(Error::shape(format!(
            "the shape {shape} has {}, found {}",
            text::count(shape.elements(), "element"),
            text::count(count, "value")
        )));
    }
    Ok(())
}

#[cold]
fn no_data() -> Error {
    Error::device("a tensor on the meta device has no data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndarrays_round_trip() {
        for device in [Device::Cpu, Device::Reference] {
            let a = ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| (i[0] * 3 + i[1]) as f32);
            let t = Tensor::from_ndarray(a.view(), &device).unwrap();
            assert_eq!(t.to_ndarray().unwrap(), a);
            let transposed = Tensor::from_ndarray(a.t(), &device).unwrap();
            assert_eq!(transposed.to_f32().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        }
    }

    #[test]
    fn slices_share_memory_until_written() {
        let t = Tensor::from_f32([3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &Device::Cpu).unwrap();
        let mut row = t.narrow(1, 2).unwrap();
        assert_eq!(row.to_f32().unwrap(), [2.0, 3.0, 4.0, 5.0]);
        row.cpu_mut().unwrap()[0] = 9.0;
        assert_eq!(row.to_f32().unwrap(), [9.0, 3.0, 4.0, 5.0]);
        assert_eq!(t.to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(t.narrow(2, 2).is_err());
    }

    #[test]
    fn debug_output_is_bounded() {
        let t = Tensor::from_f32([2, 2], &[0.0, 1.5, -2.0, f32::NAN], &Device::Cpu).unwrap();
        assert_eq!(format!("{t:?}"), "Tensor([2, 2], cpu, [0.0, 1.5, -2.0, NaN])");
        let t = Tensor::zeros([100], &Device::Reference).unwrap();
        assert_eq!(format!("{t:?}"), "Tensor([100], reference, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, …])");
        assert_eq!(format!("{:?}", Tensor::zeros([3], &Device::Meta).unwrap()), "Tensor([3], meta)");
    }

    #[test]
    fn invalid_shapes_are_errors() {
        for device in [Device::Cpu, Device::Reference, Device::Meta] {
            assert!(Tensor::zeros([usize::MAX, 2], &device).is_err());
            assert!(Tensor::zeros([1; 7], &device).is_err());
            assert!(Tensor::zeros([2], &device).unwrap().reshape([1, 1, 1, 1, 1, 1, 2]).is_err());
            let huge = Tensor::zeros([usize::MAX / 16], &device);
            assert_eq!(huge.is_ok(), device == Device::Meta);
        }
    }

    #[test]
    fn numbers_of_elements_are_checked() {
        assert!(Tensor::from_f32([2, 2], &[1.0], &Device::Cpu).is_err());
        assert!(Tensor::zeros([2, 2], &Device::Cpu).unwrap().reshape([3]).is_err());
        assert!(Tensor::zeros([2, 2], &Device::Meta).unwrap().to_f32().is_err());
    }
}

//! OpenCL devices: memory, errors, programs and kernels. The tests require a device.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use neocog_base::testing::require;
use neocog_tensor::op::no_gradient;
use neocog_tensor::opencl::{Call, DeviceId, devices};
use neocog_tensor::ops::{Accumulate, Add, MatMul, Relu, Scale, Sigmoid, Sum};
use neocog_tensor::{
    Device, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, Tensor, View, ViewMut,
    register_op, run_single, update,
};

fn device() -> Option<(Device, DeviceId)> {
    let device = require("opencl", "opencl".parse::<Device>())?;
    let Device::OpenCl(id) = device else { panic!("{device}") };
    Some((device, id))
}

#[test]
fn device_names_round_trip() {
    let Some((device, id)) = device() else { return };
    assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
    let all = devices().unwrap();
    let info = all.iter().find(|info| info.id == id).unwrap();
    assert!(format!("opencl:{}", info.name.to_uppercase()).parse::<Device>().is_ok());
    assert!(info.compute_units > 0 && info.max_group > 0 && info.max_allocation > 0, "{info:?}");
    let error = "opencl:no such name".parse::<Device>().unwrap_err().to_string();
    assert!(error.contains(&info.name), "{error}");
}

#[test]
fn tensors_round_trip() {
    let Some((device, _)) = device() else { return };
    for count in [0, 1, 31, 1000, 100_000] {
        let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let t = Tensor::from_f32([count], &values, &device).unwrap();
        assert_eq!(t.device(), device);
        assert_eq!(t.to_f32().unwrap(), values);
        assert_eq!(t.to_device(&Device::Cpu).unwrap().to_f32().unwrap(), values);
        let wide: Vec<f64> = values.iter().map(|&v| v.into()).collect();
        assert_eq!(Tensor::from_f64([count], &wide, &device).unwrap().to_f64().unwrap(), wide);
        assert_eq!(Tensor::full([count], 2.5, &device).unwrap().to_f32().unwrap(), vec![2.5; count]);
        let round_trip = Tensor::from_f32([count], &values, &Device::Cpu).unwrap().to_device(&device);
        assert_eq!(round_trip.unwrap().reshape([count, 1]).unwrap().to_f32().unwrap(), values);
    }
}

#[test]
fn uploads_are_executed_in_order() {
    let Some((device, _)) = device() else { return };
    let mut sum = Tensor::zeros([1000], &device).unwrap();
    for i in 0..50 {
        let t = Tensor::from_f32([1000], &vec![i as f32; 1000], &device).unwrap();
        update(&Accumulate, &[&t], &mut [&mut sum]).unwrap();
    }
    assert_eq!(sum.to_f32().unwrap(), vec![1225.0; 1000]);
}

/// Slices with and without the alignment of sub-buffers.
#[test]
fn slices_are_immutable_while_shared() {
    let Some((device, _)) = device() else { return };
    for row in [32, 7] {
        let values: Vec<f32> = (0..4 * row).map(|i| i as f32 - 20.0).collect();
        let t = Tensor::from_f32([4, row], &values, &device).unwrap();
        for (start, len) in [(0, 4), (1, 2), (3, 1), (2, 0)] {
            let slice = t.narrow(start, len).unwrap();
            let expected: Vec<f32> = values[start * row..(start + len) * row].to_vec();
            assert_eq!(slice.to_f32().unwrap(), expected);
            let doubled = run_single(&Scale { factor: 2.0 }, &[&slice]).unwrap();
            assert_eq!(doubled.to_f32().unwrap(), expected.iter().map(|v| v * 2.0).collect::<Vec<_>>());

            let mut own = slice.clone();
            let ones = Tensor::full([len, row], 1.0, &device).unwrap();
            update(&Accumulate, &[&ones], &mut [&mut own]).unwrap();
            assert_eq!(own.to_f32().unwrap(), expected.iter().map(|v| v + 1.0).collect::<Vec<_>>());
            assert_eq!(slice.to_f32().unwrap(), expected);
        }
        assert_eq!(t.to_f32().unwrap(), values);
    }
}

#[test]
fn kernels_run_and_are_counted() {
    let Some((device, id)) = device() else { return };
    let count = |name| id.launches().unwrap().get(name).copied().unwrap_or(0);
    let x = Tensor::full([5, 7], -1.0, &device).unwrap();
    let before = count("sigmoid_elements");
    for _ in 0..3 {
        run_single(&Sigmoid, &[&x]).unwrap();
    }
    assert_eq!(count("sigmoid_elements"), before + 3);
    let empty = Tensor::zeros([0, 7], &device).unwrap();
    assert!(run_single(&Sigmoid, &[&empty]).unwrap().to_f32().unwrap().is_empty());
    assert_eq!(count("sigmoid_elements"), before + 3);
    assert_eq!(run_single(&Sum, &[&empty]).unwrap().item().unwrap(), 0.0);
}

#[test]
fn sums_are_deterministic() {
    let Some((device, _)) = device() else { return };
    let values: Vec<f32> = (0..300_000).map(|i| (i as f32 * 0.37).sin()).collect();
    let x = Tensor::from_f32([300_000], &values, &device).unwrap();
    let sum = || run_single(&Sum, &[&x]).unwrap().to_f32().unwrap()[0].to_bits();
    let first = sum();
    assert!((0..20).all(|_| sum() == first));
}

#[test]
fn sums_preserve_nan_and_infinities() {
    let Some((device, _)) = device() else { return };
    let sum_with = |special: f32| -> Result<f64> {
        let mut values = vec![1.0; 100_000];
        values[5] = special;
        run_single(&Sum, &[&Tensor::from_f32([100_000], &values, &device)?])?.item()
    };
    assert_eq!(sum_with(f32::INFINITY).unwrap(), f64::INFINITY);
    assert_eq!(sum_with(f32::NEG_INFINITY).unwrap(), f64::NEG_INFINITY);
    assert!(sum_with(f32::NAN).unwrap().is_nan());
    assert_eq!(
        run_single(&Relu, &[&Tensor::full([9], f64::NAN, &device).unwrap()]).unwrap().to_f32().unwrap().len(),
        9
    );
}

#[test]
fn errors_name_the_operation_and_the_sizes() {
    let Some((device, id)) = device() else { return };
    let x = Tensor::zeros([2, 3], &device).unwrap();
    let error =
        run_single(&MatMul { transpose_a: false, transpose_b: false }, &[&x, &x]).unwrap_err().to_string();
    assert!(error.contains("matmul"), "{error}");
    let error =
        run_single(&Add, &[&x, &Tensor::zeros([2, 3], &Device::Cpu).unwrap()]).unwrap_err().to_string();
    assert!(error.contains(&device.to_string()) && error.contains("cpu"), "{error}");

    // Larger than any buffer: rejected before the driver is called.
    let error = Tensor::zeros([1 << 20, 1 << 20], &device).unwrap_err().to_string();
    assert!(error.contains("MiB") && error.contains(&id.to_string()), "{error}");
    let tall = Tensor::zeros([1 << 20, 1], &device).unwrap();
    let wide = Tensor::zeros([1, 1 << 20], &device).unwrap();
    let error = run_single(&Add, &[&tall, &wide]).unwrap_err().to_string();
    assert!(error.contains("add of [[1048576, 1], [1, 1048576]] to [[1048576, 1048576]]"), "{error}");
    assert_eq!(run_single(&Add, &[&x, &x]).unwrap().to_f32().unwrap(), [0.0; 6]);

    let missing = Device::OpenCl(DeviceId { platform: 99, device: 0 });
    let error = Tensor::zeros([1], &missing).unwrap_err().to_string();
    assert!(error.contains("opencl:99:0"), "{error}");
}

#[test]
fn sizes_beyond_all_memory_are_errors() {
    let Some((device, _)) = device() else { return };
    for count in [1_usize << 40, 1 << 61, 1 << 62] {
        let error = Tensor::zeros([count], &device).unwrap_err().to_string();
        assert!(error.contains("are needed"), "{error}");
    }
}

/// Writes to its input.
#[derive(Debug)]
struct Overwrite;

register_op!("overwrite", Vec::new);

impl Op for Overwrite {
    fn name(&self) -> &'static str {
        "overwrite"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        Ok(inputs.iter().copied().collect())
    }

    fn reference(&self, _inputs: &[View<'_, f64>], _outputs: &mut [ViewMut<'_, f64>]) {}

    fn cpu(&self, _inputs: &[View<'_, f32>], _outputs: &mut [ViewMut<'_, f32>], _scratch: &Scratch) {}

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        call.fill(call.output(0).buffer, 1.0)?;
        call.copy(call.output(0).buffer, call.input(0).buffer)
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        no_gradient(self)
    }
}

#[test]
fn an_operation_cannot_write_to_its_inputs() {
    let Some((device, _)) = device() else { return };
    let x = Tensor::zeros([4], &device).unwrap();
    let error = run_single(&Overwrite, &[&x]).unwrap_err().to_string();
    assert!(error.contains("overwrite writes to one of its inputs"), "{error}");
    assert_eq!(x.to_f32().unwrap(), [0.0; 4]);
}

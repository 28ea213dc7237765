//! Misuse of neocog by the safe code of another crate. Each attempt must end in an error or a panic, or be valid; none may access
//! memory that is not its own. CONTRIBUTING.md says how to run it under AddressSanitizer.
//!
//! ```text
//! ASAN_OPTIONS=allocator_may_return_null=1 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
//!     cargo run --target x86_64-unknown-linux-gnu --manifest-path tests/plugin/Cargo.toml --example misuse
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a failure ends the program")]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use neocog_autograd::{Param, Tape, Var};
use neocog_layers::{Context, Layer, Visitor, state};
use neocog_tensor::cases::{Case, registered_ops};
use neocog_tensor::opencl::Call;
use neocog_tensor::ops::{Add, BatchNormTrain, ChannelSum, Conv2d, Relu, Sum};
use neocog_tensor::{
    Device, Gradient, InputGrads, Op, Result, SavedTensors, Scratch, Shape, Shapes, Tensor, View, ViewMut,
    memory_report, run, run_single,
};
use neocog_train::optimizer::{Optimizer, OptimizerConfig, OptimizerKind};

/// What an operation does in its CPU kernel.
type Action = Box<dyn Fn(&Scratch) + Send + Sync>;

/// An operation on `[1]` whose kernels call those of other operations, and whose gradient is wrong.
struct Misuse {
    cpu: Option<Action>,
    /// The operation whose OpenCL kernel is called with the views of this one.
    opencl: Option<Box<dyn Op>>,
    gradient: Vec<Shape>,
}

impl Misuse {
    fn new() -> Self {
        Misuse { cpu: None, opencl: None, gradient: Vec::new() }
    }
}

// Operations that run must be registered; this one has no cases.
neocog_tensor::register_op!("misuse", Vec::new);

impl fmt::Debug for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Misuse")
    }
}

impl Op for Misuse {
    fn name(&self) -> &'static str {
        "misuse"
    }

    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        Ok(inputs[..1].iter().copied().collect())
    }

    fn reference(&self, _inputs: &[View<'_, f64>], _outputs: &mut [ViewMut<'_, f64>]) {}

    fn cpu(&self, _inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        outputs[0].data_mut().fill(0.0);
        if let Some(action) = &self.cpu {
            action(scratch);
        }
    }

    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        self.opencl.as_ref().map_or(Ok(()), |op| op.opencl(call))
    }

    fn saves(&self) -> SavedTensors {
        SavedTensors::NONE.inputs(&(0..200).collect::<Vec<_>>())
    }

    fn grad(&self, _node: &Gradient<'_>) -> Result<InputGrads> {
        self.gradient.iter().map(|shape| Tensor::zeros(*shape, &Device::Cpu).map(Some)).collect()
    }
}

/// Attempts of one kind, and how many of them were refused.
#[derive(Default)]
struct Attempts {
    refused: usize,
    all: usize,
}

impl Attempts {
    /// Makes an attempt, which may be valid.
    fn attempt<T>(&mut self, attempt: impl FnOnce() -> Result<T>) -> bool {
        let refused = !matches!(catch_unwind(AssertUnwindSafe(attempt)), Ok(Ok(_)));
        self.refused += usize::from(refused);
        self.all += 1;
        refused
    }

    /// Makes an attempt that must be refused.
    fn refuse<T>(&mut self, what: &str, attempt: impl FnOnce() -> Result<T>) {
        assert!(self.attempt(attempt), "{what} was not refused");
    }

    fn report(&self, kind: &str) {
        println!("{kind}: {} of {} attempts refused", self.refused, self.all);
    }
}

/// Runs `work` with scratch memory, as the kernel of an operation.
fn in_kernel(work: impl FnOnce(&Scratch) + Send + 'static) -> Result<()> {
    let work = Mutex::new(Some(work));
    let action: Action = Box::new(move |scratch| (work.lock().unwrap().take().unwrap())(scratch));
    let x = Tensor::zeros([1], &Device::Cpu)?;
    run(&Misuse { cpu: Some(action), ..Misuse::new() }, &[&x]).map(drop)
}

/// Calls the kernel of `case` with views of these shapes, whose memory ends where they end.
fn call(case: &Case, inputs: Vec<Shape>, outputs: Vec<Shape>, stride: Option<(usize, usize)>) -> Result<()> {
    let op = case.op.clone();
    in_kernel(move |scratch| {
        let (view, extra) = stride.unwrap_or((usize::MAX, 0));
        let row = |shape: &Shape| shape.iter().skip(1).product::<usize>();
        let length = |i: usize, shape: &Shape| match (i == view, shape.elements()) {
            (true, 1..) => shape.elements() + (shape.first().copied().unwrap_or(1) - 1) * extra,
            (_, elements) => elements,
        };
        let read: Vec<Vec<f32>> =
            inputs.iter().enumerate().map(|(i, shape)| vec![0.5; length(i, shape)]).collect();
        let mut written: Vec<Vec<f32>> =
            outputs.iter().enumerate().map(|(i, shape)| vec![0.5; length(inputs.len() + i, shape)]).collect();
        let views: Vec<View<'_, f32>> = inputs
            .iter()
            .zip(&read)
            .enumerate()
            .map(|(i, (shape, data))| match i == view {
                true => View::strided(shape, data, row(shape) + extra).unwrap(),
                false => View::new(shape, data),
            })
            .collect();
        let mut views_mut: Vec<ViewMut<'_, f32>> = outputs
            .iter()
            .zip(&mut written)
            .enumerate()
            .map(|(i, (shape, data))| match inputs.len() + i == view {
                true => ViewMut::strided(shape, data, row(shape) + extra).unwrap(),
                false => ViewMut::new(shape, data),
            })
            .collect();
        op.cpu(&views, &mut views_mut, scratch);
    })
}

/// Every kernel of every registered operation, with other shapes than it infers.
fn kernels_with_wrong_views() {
    let (mut outputs_refused, mut others) = (Attempts::default(), Attempts::default());
    for entry in registered_ops() {
        let small = |case: &Case| case.inputs.iter().all(|input| input.shape.elements() <= 1 << 14);
        for case in (entry.cases)().iter().filter(|case| !case.bench && small(case)) {
            let inputs: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
            let outputs = case.op.infer(&inputs).unwrap().to_vec();
            let changed = |shapes: &[Shape], i: usize, axis: usize, extent: usize| {
                let mut shapes = shapes.to_vec();
                // An extent with which the number of elements overflows is refused.
                if let Ok(shape) = shapes[i].with_extent(axis, extent) {
                    shapes[i] = shape;
                }
                shapes
            };
            for (k, shape) in outputs.iter().enumerate() {
                for axis in 0..shape.rank() {
                    for extent in [shape[axis] / 2, shape[axis] + 1] {
                        if extent != shape[axis] {
                            let other = changed(&outputs, k, axis, extent);
                            outputs_refused
                                .refuse(case.op.name(), || call(case, inputs.clone(), other, None));
                        }
                    }
                }
            }
            outputs_refused.refuse(case.op.name(), || call(case, inputs.clone(), Vec::new(), None));
            for (i, shape) in inputs.iter().enumerate() {
                for axis in 0..shape.rank() {
                    for extent in [0, shape[axis] / 2, shape[axis] + 1] {
                        let other = changed(&inputs, i, axis, extent);
                        others.attempt(|| call(case, other, outputs.clone(), None));
                    }
                }
            }
            others.attempt(|| call(case, Vec::new(), outputs.clone(), None));
            for view in 0..inputs.len() + outputs.len() {
                for extra in [1, 7, 64] {
                    others.attempt(|| call(case, inputs.clone(), outputs.clone(), Some((view, extra))));
                }
            }
        }
    }
    outputs_refused.report("kernels with wrong outputs");
    others.report("kernels with wrong inputs or strides");
}

fn views_of_wrong_lengths() {
    let mut attempts = Attempts::default();
    let shape = Shape::from([4, 3, 2, 2]);
    for len in [0, 1, 47, 49, 1000] {
        let mut data = vec![0.0_f32; len];
        attempts.refuse("a view", || Ok(View::new(&shape, &data).data().len()));
        attempts.refuse("a view", || Ok(ViewMut::new(&shape, &mut data).data_mut().len()));
    }
    for stride in [0, 1, 11, 13, 1 << 20, usize::MAX / 2, usize::MAX] {
        let mut data = vec![0.0_f32; 48];
        attempts.refuse("a batch stride", || View::strided(&shape, &data, stride).map(drop));
        attempts.refuse("a batch stride", || ViewMut::strided(&shape, &mut data, stride).map(drop));
    }
    attempts.report("views of wrong lengths");
}

fn opencl_kernels_with_wrong_views() {
    let Ok(device) = "opencl".parse::<Device>() else {
        println!("OpenCL kernels with wrong views: not run, there is no device");
        return;
    };
    let mut attempts = Attempts::default();
    let x = Tensor::zeros([1], &device).unwrap();
    // Operations that accept one input of this shape are used as they should be.
    let is_misuse = |case: &Case| case.inputs.len() > 1 && case.op.infer(&[*x.shape()]).is_err();
    for entry in registered_ops() {
        for case in (entry.cases)().into_iter().filter(is_misuse).take(1) {
            let op: Box<dyn Op> = Box::new(Forward(case.op));
            attempts.refuse(entry.name, || run(&Misuse { opencl: Some(op), ..Misuse::new() }, &[&x]));
        }
    }
    attempts.report("OpenCL kernels with wrong views");
}

/// An operation of the registry in a box.
#[derive(Debug)]
struct Forward(std::sync::Arc<dyn Op>);

impl Op for Forward {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn infer(&self, inputs: &[Shape]) -> Result<Shapes> {
        self.0.infer(inputs)
    }
    fn reference(&self, inputs: &[View<'_, f64>], outputs: &mut [ViewMut<'_, f64>]) {
        self.0.reference(inputs, outputs);
    }
    fn cpu(&self, inputs: &[View<'_, f32>], outputs: &mut [ViewMut<'_, f32>], scratch: &Scratch) {
        self.0.cpu(inputs, outputs, scratch);
    }
    fn opencl(&self, call: &Call<'_>) -> Result<()> {
        self.0.opencl(call)
    }
    fn saves(&self) -> SavedTensors {
        self.0.saves()
    }
    fn grad(&self, node: &Gradient<'_>) -> Result<InputGrads> {
        self.0.grad(node)
    }
}

fn shapes_and_memory() {
    let mut attempts = Attempts::default();
    for device in [Device::Cpu, Device::Reference] {
        attempts.refuse("an overflowing shape", || Tensor::zeros([usize::MAX, 2], &device));
        attempts.refuse("a shape of rank 7", || Tensor::zeros([1; 7], &device));
        let before = memory_report().in_use;
        attempts.refuse("a petabyte", || Tensor::zeros([1 << 50], &device));
        let e = Tensor::zeros([1 << 50], &device).unwrap_err().to_string();
        assert!(e.contains("cannot allocate a tensor of shape [1125899906842624]"), "{e}");
        assert_eq!(memory_report().in_use, before);
    }
    attempts.refuse("scratch", || in_kernel(|scratch| drop(scratch.take(1 << 50))));
    attempts.report("shapes and memory");
}

/// A network whose only parameter has two names.
#[derive(Debug)]
struct Tied(Param);

impl Layer for Tied {
    fn label(&self) -> &str {
        "Tied"
    }
    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let weight = context.tape().param(&self.0);
        let y = context.tape().apply_single(Add, &[input, &weight])?;
        context.tape().apply_single(Add, &[&y, &weight])
    }
    fn visit<'a>(&'a self, visitor: &mut dyn Visitor<'a>) {
        visitor.param("a", &self.0);
        visitor.param("b", &self.0);
    }
}

fn parameters() {
    let mut attempts = Attempts::default();
    let network = || Tied(Param::new(Tensor::zeros([1], &Device::Cpu).unwrap()));
    let (tied, other) = (network(), network());
    let config = OptimizerConfig { lr: 0.5, kind: OptimizerKind::sgd() };
    let mut optimizer = Optimizer::new(config, &tied).unwrap();
    let tape = Tape::new();
    let x = Var::constant(Tensor::zeros([1], &Device::Cpu).unwrap());
    let y = Context::train(&tape, 0).run(&tied, &x).unwrap();
    let grads = tape.backward(&y).unwrap();
    optimizer.step(&tied, &grads, 0.5).unwrap();
    assert_eq!((tied.0.value().item().unwrap(), state::param_count(&tied)), (-1.0, 1));
    attempts.refuse("another network", || optimizer.step(&other, &grads, 0.5));
    let guard = tied.0.write().unwrap();
    attempts.refuse("a second lock", || tied.0.write().map(drop));
    attempts.refuse("a read of a locked parameter", || Ok(tied.0.value()));
    drop(guard);
    attempts.report("parameters");
}

fn operations() {
    let mut attempts = Attempts::default();
    let empty = Tensor::zeros([0, 3, 2, 2], &Device::Cpu).unwrap();
    let op = BatchNormTrain { eps: 1e-5, activation: None };
    attempts.refuse("an empty training batch", || run(&op, &[&empty]));
    let x = Tensor::zeros([1], &Device::Cpu).unwrap();
    let meta = Tensor::zeros([1], &Device::Meta).unwrap();
    attempts.refuse("data and no data", || run_single(&Add, &[&x, &meta]));
    attempts.refuse("two outputs as one", || run_single(&Conv2d::default(), &[&x, &x]));
    for gradient in [vec![], vec![Shape::from([2])], vec![Shape::from([1]); 2]] {
        let tape = Tape::new();
        let x = tape.leaf(x.clone());
        let y = tape.apply_single(Misuse { gradient, ..Misuse::new() }, &[&x]).unwrap();
        let loss = tape.apply_single(Sum, &[&y]).unwrap();
        let e = tape.backward(&loss).unwrap_err().to_string();
        assert!(e.contains("misuse"), "{e}");
    }
    // Valid: no channels, and a gradient that saves more inputs than there are bits.
    let none = Tensor::zeros([3, 0], &Device::Cpu).unwrap();
    assert_eq!(run_single(&ChannelSum, &[&none]).unwrap().shape().extents(), [0]);
    let tape = Tape::new();
    let inputs: Vec<Var> = (0..100).map(|_| tape.leaf(x.clone())).collect();
    let y = tape.apply_single(Misuse::new(), &inputs.iter().collect::<Vec<_>>()).unwrap();
    tape.for_each_entry(|entry| assert!(entry.saved_inputs.iter().all(Option::is_some)));
    tape.apply_single(Relu, &[&y]).unwrap();
    attempts.report("operations");
}

pub fn main() {
    // The attempts panic on purpose.
    let show = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let done = catch_unwind(|| {
        views_of_wrong_lengths();
        kernels_with_wrong_views();
        opencl_kernels_with_wrong_views();
        shapes_and_memory();
        parameters();
        operations();
    });
    std::panic::set_hook(show);
    if let Err(payload) = done {
        let text = payload.downcast_ref::<String>().map_or("a failure without a text", String::as_str);
        eprintln!("{text}");
        std::process::exit(1);
    }
    println!("no attempt reached undefined behavior");
}

//! The tape, which records operations for the backward pass.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neocog_tensor::profile::Scope;
use neocog_tensor::{Device, Error, Op, Result, Shape, Shapes, Tensor, Tensors, run};
use smallvec::SmallVec;

use crate::param::{Param, ParamId};

/// A tensor, and if it is not a constant, its slot on the tape that recorded it.
///
/// Methods and operators on values, such as `(&a - &b)?.square()?.mean()?`, record on the tape that they belong to.
#[derive(Clone, Debug)]
pub struct Var {
    pub(crate) tensor: Tensor,
    pub(crate) id: Option<VarId>,
    /// Where its tape records; absent for constants that do not know their tape.
    recorder: Option<Arc<Recorder>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VarId {
    pub(crate) tape: u64,
    pub(crate) slot: usize,
}

/// A list of values, stored inline for up to two.
pub type Vars = SmallVec<[Var; 2]>;

impl Var {
    /// Creates a constant: no gradient is computed for it.
    pub fn constant(tensor: Tensor) -> Self {
        Var { tensor, id: None, recorder: None }
    }

    /// Returns the tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Returns the shape.
    pub fn shape(&self) -> &Shape {
        self.tensor.shape()
    }

    /// Returns its index among the values of its tape; `None` for a constant. Each [`TapeEntry`] has the slots of its inputs and
    /// outputs.
    pub fn slot(&self) -> Option<usize> {
        self.id.map(|id| id.slot)
    }

    /// Runs an operation with one output on values, and records it on the tape that one of them belongs to.
    ///
    /// # Errors
    /// As [`Tape::apply`]; when the tape of an input was used up by a backward pass.
    pub fn apply(op: impl Op, inputs: &[&Var]) -> Result<Var> {
        // A constant may know another tape, which has gone.
        let of_value = inputs.iter().filter(|var| var.id.is_some()).find_map(|var| var.recorder.as_ref());
        let recorder = of_value.or_else(|| inputs.iter().find_map(|var| var.recorder.as_ref()));
        let outputs = run_on(&op, inputs, recorder.map(|recorder| &**recorder))?;
        let output = single(&op, outputs)?;
        match recorder {
            Some(recorder) if recorder.records(inputs) => {
                let outputs = std::iter::once(output).collect();
                Ok(recorder.record(Arc::new(op), inputs, outputs)?.remove(0))
            }
            _ => Ok(Var { tensor: output, id: None, recorder: recorder.cloned() }),
        }
    }

    /// Returns the same tensor as a constant: the backward pass stops there.
    #[must_use]
    pub fn detach(&self) -> Self {
        Var::constant(self.tensor.clone())
    }
}

/// Runs an operation. If an input is on [`Device::Meta`], all are taken for it: the outputs have shapes only.
fn run_on(op: &dyn Op, inputs: &[&Var], recorder: Option<&Recorder>) -> Result<Tensors> {
    let is_meta = |var: &&Var| var.tensor.device() == Device::Meta;
    let outputs = if inputs.iter().any(is_meta) && !inputs.iter().all(is_meta) {
        let shapes = inputs.iter().map(|var| Tensor::zeros(*var.shape(), &Device::Meta));
        let shapes: SmallVec<[Tensor; 6]> = shapes.collect::<Result<_>>()?;
        run(op, &shapes.iter().collect::<SmallVec<[&Tensor; 6]>>())?
    } else {
        run(op, &inputs.iter().map(|v| &v.tensor).collect::<SmallVec<[&Tensor; 6]>>())?
    };
    if let Some(recorder) = recorder {
        let input_shapes: Shapes = inputs.iter().map(|v| *v.shape()).collect();
        let output_shapes: Shapes = outputs.iter().map(|t| *t.shape()).collect();
        let more = op.multiply_adds(&input_shapes, &output_shapes);
        let add = |sum: u64| Some(sum.saturating_add(more));
        // It always has a sum.
        let _ = recorder.multiply_adds.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
    Ok(outputs)
}

/// Returns the only output of an operation.
fn single(op: &dyn Op, mut outputs: Tensors) -> Result<Tensor> {
    match outputs.pop() {
        Some(output) if outputs.is_empty() => Ok(output),
        _ => Err(Error::invalid_argument(format!("{} has not one output", op.name()))),
    }
}

/// Records the operations of one forward pass, for one backward pass.
#[derive(Debug)]
pub struct Tape {
    recording: bool,
    /// Whether the recorded operations are meant for a backward pass.
    for_gradients: bool,
    pub(crate) recorder: Arc<Recorder>,
}

/// What a tape has recorded; its values know it, too.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) id: u64,
    saves_all: AtomicBool,
    /// Whether operations on constants are recorded, too.
    records_constants: bool,
    multiply_adds: AtomicU64,
    inner: Mutex<Inner>,
}

impl Recorder {
    fn new(records_constants: bool) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Recorder {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            saves_all: AtomicBool::new(false),
            records_constants,
            multiply_adds: AtomicU64::new(0),
            inner: Mutex::default(),
        })
    }

    /// Whether an operation on these inputs is recorded.
    fn records(&self, inputs: &[&Var]) -> bool {
        self.records_constants || inputs.iter().any(|v| v.id.is_some())
    }

    /// The value in a slot.
    fn var(self: &Arc<Self>, tensor: Tensor, slot: usize) -> Var {
        Var { tensor, id: Some(VarId { tape: self.id, slot }), recorder: Some(self.clone()) }
    }

    fn record(self: &Arc<Self>, op: Arc<dyn Op>, inputs: &[&Var], outputs: Tensors) -> Result<Vars> {
        let mut input_slots = SmallVec::new();
        for var in inputs {
            match var.id {
                Some(id) if id.tape != self.id => {
                    return Err(Error::invalid_argument(format!(
                        "an input of {} belongs to another tape",
                        op.name()
                    )));
                }
                id => input_slots.push(id.map(|id| id.slot)),
            }
        }
        let saves = op.saves();
        let saves_all = self.saves_all.load(Ordering::Relaxed);
        let mut inner = self.lock();
        if inner.is_finished {
            return Err(Error::invalid_argument(format!(
                "an input of {} belongs to a tape that a backward pass has used up; use a new tape, or detach it",
                op.name()
            )));
        }
        let first_output_slot = inner.slots;
        inner.slots += outputs.len();
        inner.nodes.push(Node {
            input_shapes: inputs.iter().map(|v| *v.shape()).collect(),
            output_shapes: outputs.iter().map(|t| *t.shape()).collect(),
            input_slots,
            first_output_slot,
            saved_inputs: saved(inputs.iter().map(|v| &v.tensor), |i| saves_all || saves.saves_input(i)),
            saved_outputs: saved(outputs.iter(), |i| saves_all || saves.saves_output(i)),
            scope: Scope::current(),
            op,
        });
        let slots = first_output_slot..;
        Ok(outputs.into_iter().zip(slots).map(|(tensor, slot)| self.var(tensor, slot)).collect())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) nodes: Vec<Node>,
    pub(crate) slots: usize,
    /// The slots of the leaves of parameters, with their tensors.
    pub(crate) params: HashMap<ParamId, (usize, Tensor)>,
    /// The frozen parameters that were used.
    pub(crate) frozen: HashSet<ParamId>,
    /// Whether the tape is used up: a backward pass has begun, or its operations were moved out.
    pub(crate) is_finished: bool,
    /// Slots whose gradients the backward pass keeps.
    pub(crate) retained: Vec<usize>,
}

/// A recorded operation with the tensors saved for its gradient.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) op: Arc<dyn Op>,
    pub(crate) input_shapes: Shapes,
    pub(crate) output_shapes: Shapes,
    /// Slot of each input, `None` for constants.
    pub(crate) input_slots: SmallVec<[Option<usize>; 4]>,
    /// Slot of the first output; the others follow.
    pub(crate) first_output_slot: usize,
    pub(crate) saved_inputs: SmallVec<[Option<Tensor>; 4]>,
    pub(crate) saved_outputs: SmallVec<[Option<Tensor>; 2]>,
    /// The layer whose profile it counts for.
    pub(crate) scope: Scope,
}

/// A recorded operation, borrowed from its tape. Values are identified by their [slots](Var::slot).
#[derive(Clone, Copy, Debug)]
pub struct TapeEntry<'a> {
    /// The operation.
    pub op: &'a dyn Op,
    /// Shapes of the inputs.
    pub input_shapes: &'a [Shape],
    /// Shapes of the outputs.
    pub output_shapes: &'a [Shape],
    /// Slots of the inputs; `None` for constants.
    pub inputs: &'a [Option<usize>],
    /// Slot of the first output; the others follow.
    pub first_output: usize,
    /// The saved inputs: those that the gradient needs, or all.
    pub saved_inputs: &'a [Option<Tensor>],
    /// The saved outputs: those that the gradient needs, or all.
    pub saved_outputs: &'a [Option<Tensor>],
}

/// A recorded operation, moved out of its tape. Values are identified by their [slots](Var::slot).
#[derive(Debug)]
pub struct OwnedTapeEntry {
    /// The operation.
    pub op: Arc<dyn Op>,
    /// Slots of the inputs; `None` for constants.
    pub inputs: SmallVec<[Option<usize>; 4]>,
    /// The saved inputs; all of them on a tape that saves all.
    pub saved_inputs: SmallVec<[Option<Tensor>; 4]>,
    /// Slot of the first output; the others follow.
    pub first_output: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// The layer that applied it, if that was recorded.
    pub scope: Scope,
}

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Tape {
    /// Creates a tape that records operations for a backward pass.
    pub fn new() -> Self {
        Self::with_recording(true)
    }

    /// Creates a tape that records nothing, for inference.
    pub fn no_grad() -> Self {
        Self::with_recording(false)
    }

    /// Creates a tape that traces a pass with gradients: layers apply the same operations as on [`Tape::new`], those on constants
    /// are recorded, too, all inputs are saved, and [`Tape::into_entries`] returns the operations.
    pub fn tracing_gradients() -> Self {
        Tape { recorder: Recorder::new(true), ..Self::new() }.saving_all()
    }

    /// Creates a tape that traces inference: layers apply the same operations as on [`Tape::no_grad`], all inputs are saved,
    /// and [`Tape::into_entries`] returns the operations.
    pub fn tracing() -> Self {
        Tape { for_gradients: false, ..Self::new().saving_all() }
    }

    /// Saves all inputs and outputs of all operations, for [`Tape::for_each_entry`].
    #[must_use]
    pub fn saving_all(self) -> Self {
        self.recorder.saves_all.store(true, Ordering::Relaxed);
        self
    }

    fn with_recording(recording: bool) -> Self {
        Tape { recording, for_gradients: recording, recorder: Recorder::new(false) }
    }

    /// Whether operations are recorded for a backward pass.
    pub fn is_recording(&self) -> bool {
        self.for_gradients
    }

    /// Returns the number of multiply-adds of all operations so far; `u64::MAX` if they are that many or more. Methods and operators of
    /// values count if one of their values knows the tape.
    pub fn multiply_adds(&self) -> u64 {
        self.recorder.multiply_adds.load(Ordering::Relaxed)
    }

    /// Creates a leaf: a value whose gradient is computed.
    pub fn leaf(&self, tensor: Tensor) -> Var {
        if !self.recording {
            return Var::constant(tensor);
        }
        let mut inner = self.recorder.lock();
        let slot = inner.slots;
        inner.slots += 1;
        self.recorder.var(tensor, slot)
    }

    /// Creates a constant that knows this tape: a trace records what methods and operators compute from it, as from a buffer of a layer.
    pub fn constant(&self, tensor: Tensor) -> Var {
        Var { tensor, id: None, recorder: self.recording.then(|| self.recorder.clone()) }
    }

    /// Returns the leaf of a parameter, or a constant if it is [frozen](Param::set_frozen). Repeated calls return the same leaf, so the
    /// gradients of all uses are summed.
    pub fn param(&self, param: &Param) -> Var {
        if !self.recording {
            return Var::constant(param.value());
        }
        let mut inner = self.recorder.lock();
        if param.is_frozen() {
            inner.frozen.insert(param.id());
            drop(inner);
            return self.constant(param.value());
        }
        if let Some((slot, tensor)) = inner.params.get(&param.id()) {
            return self.recorder.var(tensor.clone(), *slot);
        }
        let (slot, tensor) = (inner.slots, param.value());
        inner.slots += 1;
        inner.params.insert(param.id(), (slot, tensor.clone()));
        self.recorder.var(tensor, slot)
    }

    /// Runs an operation, and records it if any input requires a gradient.
    ///
    /// Where an input is on [`Device::Meta`], all are taken for it: the outputs have shapes only.
    ///
    /// # Errors
    /// When shapes or devices do not match, a device fails, or an input belongs to another tape.
    pub fn apply(&self, op: impl Op, inputs: &[&Var]) -> Result<Vars> {
        let outputs = self.run(&op, inputs)?;
        if !self.records(inputs) {
            return Ok(outputs.into_iter().map(Var::constant).collect());
        }
        self.recorder.record(Arc::new(op), inputs, outputs)
    }

    /// As [`Tape::apply`], for a shared operation: of a graph that is run many times.
    ///
    /// # Errors
    /// As [`Tape::apply`].
    pub fn apply_shared(&self, op: &Arc<dyn Op>, inputs: &[&Var]) -> Result<Vars> {
        let outputs = self.run(&**op, inputs)?;
        if !self.records(inputs) {
            return Ok(outputs.into_iter().map(Var::constant).collect());
        }
        self.recorder.record(op.clone(), inputs, outputs)
    }

    /// Whether an operation on these inputs is recorded.
    fn records(&self, inputs: &[&Var]) -> bool {
        self.recording && self.recorder.records(inputs)
    }

    fn run(&self, op: &dyn Op, inputs: &[&Var]) -> Result<Tensors> {
        run_on(op, inputs, Some(&self.recorder))
    }

    /// Runs an operation with one output, as [`Tape::apply`].
    ///
    /// # Errors
    /// As [`Tape::apply`], and when the operation does not have exactly one output.
    pub fn apply_single(&self, op: impl Op, inputs: &[&Var]) -> Result<Var> {
        let name = op.name();
        let mut outputs = self.apply(op, inputs)?;
        match outputs.pop() {
            Some(output) if outputs.is_empty() => Ok(output),
            _ => Err(Error::invalid_argument(format!("{name} has not one output"))),
        }
    }

    /// Calls `f` for all recorded operations, in the order in which they were applied. `f` must not use this tape, which is locked.
    pub fn for_each_entry(&self, mut f: impl FnMut(TapeEntry<'_>)) {
        for node in &self.recorder.lock().nodes {
            f(TapeEntry {
                op: &*node.op,
                input_shapes: &node.input_shapes,
                output_shapes: &node.output_shapes,
                inputs: &node.input_slots,
                first_output: node.first_output_slot,
                saved_inputs: &node.saved_inputs,
                saved_outputs: &node.saved_outputs,
            });
        }
    }

    /// Returns the recorded operations, in the order in which they were applied.
    pub fn into_entries(self) -> impl Iterator<Item = OwnedTapeEntry> {
        self.finish().nodes.into_iter().map(|node| OwnedTapeEntry {
            op: node.op,
            inputs: node.input_slots,
            saved_inputs: node.saved_inputs,
            first_output: node.first_output_slot,
            outputs: node.output_shapes.len(),
            scope: node.scope,
        })
    }

    /// Returns the slots of all parameters that were used.
    pub fn param_slots(&self) -> Vec<(ParamId, usize)> {
        let inner = self.recorder.lock();
        let mut slots: Vec<_> = inner.params.iter().map(|(id, (slot, _))| (*id, *slot)).collect();
        slots.sort_by_key(|(_, slot)| *slot);
        slots
    }

    /// Returns the frozen parameters that were used.
    pub fn frozen_params(&self) -> Vec<ParamId> {
        self.recorder.lock().frozen.iter().copied().collect()
    }

    /// Returns the number of recorded operations.
    pub fn len(&self) -> usize {
        self.recorder.lock().nodes.len()
    }

    /// Whether no operation is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the backward pass keep the gradient of a value that operations have computed, for [`Grads::get`](crate::Grads::get); PyTorch's
    /// `retain_grad`. Without, only the gradients of leaves and parameters are kept.
    pub fn retain_grad(&self, var: &Var) {
        if let Some(id) = var.id.filter(|id| id.tape == self.recorder.id) {
            self.recorder.lock().retained.push(id.slot);
        }
    }

    /// Moves out what was recorded; values of the tape can no longer be used in operations that are recorded.
    pub(crate) fn finish(&self) -> Inner {
        let finished = Inner { is_finished: true, ..Inner::default() };
        std::mem::replace(&mut *self.recorder.lock(), finished)
    }
}

fn saved<'a, const N: usize>(
    tensors: impl Iterator<Item = &'a Tensor>,
    is_saved: impl Fn(usize) -> bool,
) -> SmallVec<[Option<Tensor>; N]>
where
    [Option<Tensor>; N]: smallvec::Array<Item = Option<Tensor>>,
{
    tensors.enumerate().map(|(i, t)| is_saved(i).then(|| t.clone())).collect()
}

#[cfg(test)]
mod tests {
    use neocog_tensor::Device;
    use neocog_tensor::ops::{Add, Relu};

    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_f32([values.len()], values, &Device::Reference).unwrap()
    }

    #[test]
    fn nothing_is_recorded_for_inference_or_constants() {
        let tape = Tape::no_grad();
        let x = tape.leaf(tensor(&[3.0]));
        let y = tape.apply_single(Relu, &[&x]).unwrap();
        assert!(tape.is_empty());
        assert!(tape.backward(&y).is_err());

        let tape = Tape::new();
        tape.apply_single(Relu, &[&Var::constant(tensor(&[3.0]))]).unwrap();
        let x = tape.leaf(tensor(&[3.0]));
        tape.apply_single(Relu, &[&x.detach()]).unwrap();
        assert!(tape.is_empty());
    }

    #[test]
    fn misuse_is_an_error() {
        let (a, b) = (Tape::new(), Tape::new());
        let (x, y) = (a.leaf(tensor(&[1.0])), b.leaf(tensor(&[1.0])));
        assert!(a.apply_single(Add, &[&x, &y]).unwrap_err().to_string().contains("another tape"));
        // Slot 0 of another tape is not slot 0 of this one.
        let other = Tape::new();
        other.leaf(tensor(&[1.0]));
        assert!(other.backward(&y).unwrap_err().to_string().contains("of this tape"));
        let wide = a.leaf(tensor(&[1.0, 2.0]));
        assert!(a.backward(&wide).unwrap_err().to_string().contains("one element"));
    }
}

//! What the ranks of a run agree on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use neocog_autograd::Param;
use neocog_data::{Batch, Loader, Split};
use neocog_layers::{Predictor, state};
use neocog_tensor::{Device, Error, ErrorKind, Result, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Trainer;
use super::step::{ShardCounts, SharedBatch};
use crate::checkpoint::{Checkpoint, NamedTensor, SavedOptimizerState, Values};
use crate::environment::{Environment, hexadecimal};
use crate::evaluate::{Evaluation, evaluate_batches};
use crate::meter::Totals;
use crate::predictions::Predictions;
use crate::ranks::{Ranks, Receivers};

/// What a rank says before a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BeforeStep {
    /// Whether the run is to stop.
    stops: bool,
    /// Whether its time is over.
    is_over: bool,
    /// Whether a checkpoint is due; that of the first rank counts.
    is_save_due: bool,
    counts: ShardCounts,
}

/// What all ranks do before a step.
pub(super) struct Agreed<'a> {
    pub stops: bool,
    pub is_save_due: bool,
    pub batch: SharedBatch<'a>,
}

impl Trainer {
    /// Makes this process one of several that train together. Each computes some of the [shards](crate::TrainConfig::shards), with the
    /// same result on all of them; the first writes checkpoints. Call it before [`Trainer::fit`], with the same configuration, data and
    /// network on all ranks.
    ///
    /// # Errors
    /// `InvalidArgument` if the shards cannot be divided among the ranks.
    pub fn set_ranks(&mut self, ranks: Ranks) -> Result<()> {
        ranks.check_shards(self.config.shards)?;
        if let Some(compressed) = &mut self.compressed {
            compressed.divide(&ranks);
        }
        self.ranks = ranks;
        Ok(())
    }

    /// Returns the ranks of the run.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Divides the state of the optimizer among the ranks: each keeps, and updates, the state of some parameters. The result is the same.
    /// Call it after [`Trainer::set_ranks`].
    pub fn shard_optimizer(&mut self) {
        let sizes: Vec<usize> =
            state::params(self.pass.network()).iter().map(|(_, param)| param.shape().elements()).collect();
        let owners = owners(&sizes, self.ranks.size());
        let own = owners.iter().map(|owner| *owner == self.ranks.rank()).collect();
        self.optimizer.keep(own);
        self.owners = Some(owners);
    }

    /// Checks that all ranks train the same network with the same data in the same way. [`Trainer::fit`] does so, too.
    ///
    /// # Errors
    /// `Mismatch` with what differs, on all ranks.
    pub fn check_ranks(&self, data: &Split) -> Result<()> {
        if self.ranks.size() == 1 {
            return Ok(());
        }
        // First, so that what another version sends need not be read.
        let version = env!("CARGO_PKG_VERSION");
        let versions = self.ranks.collect_bytes(version.into())?;
        let others: Vec<String> = versions
            .iter()
            .enumerate()
            .filter(|(_, other)| **other != versions[0])
            .map(|(rank, other)| {
                let [other, first] = [other, &versions[0]].map(|version| String::from_utf8_lossy(version));
                format!("process {rank}: version of neocog: {other} here, {first} there")
            })
            .collect();
        if !others.is_empty() {
            return Err(unlike(&others));
        }
        let now = Environment::of(data, &self.device)?;
        let own = Introduction {
            host: self.ranks.host().map(str::to_string),
            environment: json(&now)?,
            divides_optimizer: self.owners.is_some(),
            config: json(&self.config)?,
            network: self.spec.to_json()?,
            values: checksum(&Checkpoint::state_of(self.network())?),
            position: (self.position.epoch, self.position.step),
        };
        let all = self.ranks.collect(own)?;
        let lines: Vec<String> = all
            .iter()
            .enumerate()
            .skip(1)
            .flat_map(|(rank, other)| {
                let host = other.host.as_ref().map_or(String::new(), |host| format!(" on {host}"));
                other
                    .differences(&all[0])
                    .into_iter()
                    .map(move |line| format!("process {rank}{host}: {line}"))
            })
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(unlike(&lines)) }
    }

    /// Agrees with the other ranks on what happens before the step of a batch: of `images` in the batches of all ranks.
    pub(super) fn agree<'a>(
        &self,
        batch: Batch,
        images: usize,
        class_weights: Option<&'a [f64]>,
        stop: &AtomicBool,
        is_save_due: bool,
    ) -> Result<Agreed<'a>> {
        let (own, counts) = self.own_shards(&batch, images, class_weights);
        let (stops, is_over) = (stop.load(Ordering::Relaxed), self.is_out_of_time());
        let all = self.ranks.collect(BeforeStep { stops, is_over, is_save_due, counts })?;
        if all.iter().any(|said| said.stops) {
            // What follows stops here, too.
            stop.store(true, Ordering::Relaxed);
        }
        Ok(Agreed {
            stops: all.iter().any(|said| said.stops || said.is_over),
            is_save_due: all[0].is_save_due,
            batch: SharedBatch {
                batch,
                own,
                counts: all.into_iter().flat_map(|said| said.counts).collect(),
                class_weights,
            },
        })
    }

    /// Passes the parameters on that this rank alone has updated, and gets those of the others.
    pub(super) fn share_parameters(&self) -> Result<()> {
        let Some(owners) = self.owners.as_ref().filter(|_| self.ranks.size() > 1) else { return Ok(()) };
        let params = state::params(self.pass.network());
        let mut streams: Vec<ParamStream<'_>> =
            (0..self.ranks.size()).map(|_| ParamStream::new(&self.device)).collect();
        for ((_, param), owner) in params.iter().zip(owners) {
            streams[*owner].params.push_back(param);
        }
        let lengths: Vec<usize> = streams.iter().map(ParamStream::len).collect();
        let mut own = std::mem::replace(&mut streams[self.ranks.rank()], ParamStream::new(&self.device));
        self.ranks.pass_on_all(&lengths, |length| own.read(length), |rank, bytes| streams[rank].write(bytes))
    }

    /// Returns the state of the optimizer for a checkpoint; if it is divided among the ranks, whole on the receivers only.
    fn optimizer_state(&self, receivers: Receivers) -> Result<Vec<SavedOptimizerState>> {
        let Some(owners) = self.owners.as_ref().filter(|_| self.ranks.size() > 1) else {
            return Checkpoint::optimizer_state_of(&self.optimizer);
        };
        let mut all = Vec::new();
        for (state, &owner) in self.optimizer.state().iter().zip(owners) {
            // A tensor at a time: a message is a copy.
            let count = self.ranks.pass_on(owner, receivers, || Ok(state.tensors.len()))?;
            let is_owner = self.ranks.rank() == owner;
            let mut tensors = Vec::new();
            for i in 0..if is_owner { state.tensors.len() } else { count.unwrap_or(0) } {
                tensors.extend(self.ranks.pass_on(owner, receivers, || {
                    Checkpoint::saved_optimizer_tensor(self.optimizer.config(), state, i)
                })?);
            }
            let steps = self.ranks.pass_on(owner, receivers, || Ok(state.steps))?;
            all.extend(steps.map(|steps| SavedOptimizerState { param: state.name.clone(), steps, tensors }));
        }
        Ok(all)
    }

    /// Returns a checkpoint of the run on the ranks that receive it. All must call it.
    pub(super) fn checkpoint_on(&mut self, receivers: Receivers) -> Result<Option<Checkpoint>> {
        let sums = self.meter.flush()?;
        if !self.checkpoints_together() && !self.ranks.is_among(receivers) {
            return Ok(None);
        }
        let optimizer = self.optimizer_state(receivers)?;
        let feedback = self.saved_feedback(receivers)?;
        if !self.ranks.is_among(receivers) {
            return Ok(None);
        }
        Ok(Some(Checkpoint {
            config: self.config.clone(),
            spec: self.spec.to_json()?,
            input: self.input,
            class_names: self.class_names.clone(),
            state: Checkpoint::state_of(self.network())?,
            counters: Checkpoint::counters_of(self.network()),
            optimizer,
            position: self.position,
            sums: Totals { seconds: 0.0, untimed: 0, ..sums },
            history: self.history.iter().map(|report| report.without_times()).collect(),
            average: self.saved_average()?,
            feedback,
        }))
    }

    /// Evaluates a network on the batches of all ranks.
    pub(super) fn evaluate(
        &self,
        predictor: &Predictor,
        loader: &Loader,
        stop: &dyn Fn() -> bool,
        predictions: Option<&mut Predictions>,
    ) -> Result<Option<Evaluation>> {
        evaluate_batches(&self.ranks, predictor, loader, &self.device, stop, predictions)
    }

    /// Whether a checkpoint needs what other ranks have, so that all must take part.
    pub(super) fn checkpoints_together(&self) -> bool {
        (self.owners.is_some() || self.compressed.is_some()) && self.ranks.size() > 1
    }
}

/// The elements of parameters, one after the other, as bytes.
struct ParamStream<'a> {
    device: &'a Device,
    /// Those whose elements are not all read or written yet.
    params: VecDeque<&'a Param>,
    /// The elements of the first one that are received.
    values: Option<Values>,
    /// The number of its bytes that are read or written.
    done: usize,
}

impl<'a> ParamStream<'a> {
    fn new(device: &'a Device) -> Self {
        ParamStream { device, params: VecDeque::new(), values: None, done: 0 }
    }

    fn element_size(&self) -> usize {
        if *self.device == Device::Reference { size_of::<f64>() } else { size_of::<f32>() }
    }

    fn len(&self) -> usize {
        self.params.iter().map(|param| param.shape().elements() * self.element_size()).sum()
    }

    /// Returns the next bytes, of whole elements.
    fn read(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut read = Vec::with_capacity(length);
        let size = self.element_size();
        while read.len() < length {
            let Some(param) = self.params.front() else { break };
            let all = param.shape().elements();
            let (start, wanted) = (self.done / size, (length - read.len()) / size);
            let count = wanted.min(all - start);
            let elements = param.value().reshape([all])?.narrow(start, count)?;
            match self.device {
                Device::Reference => read.extend_from_slice(bytemuck::cast_slice(&elements.to_f64()?)),
                _ => read.extend_from_slice(bytemuck::cast_slice(&elements.to_f32()?)),
            }
            self.done += count * size;
            if start + count == all {
                self.params.pop_front();
                self.done = 0;
            }
        }
        Ok(read)
    }

    /// Sets the parameters whose elements are complete with the next bytes.
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(param) = self.params.front() {
            let shape = param.shape();
            let values = self.values.get_or_insert_with(|| match self.device {
                Device::Reference => Values::F64(vec![0.0; shape.elements()]),
                _ => Values::F32(vec![0.0; shape.elements()]),
            });
            let missing = &mut values.as_bytes_mut()[self.done..];
            let count = missing.len().min(bytes.len());
            missing[..count].copy_from_slice(&bytes[..count]);
            self.done += count;
            bytes = &bytes[count..];
            if count < missing.len() {
                break;
            }
            param.set(&match values {
                Values::F32(values) => Tensor::from_f32(shape, values, self.device),
                Values::F64(values) => Tensor::from_f64(shape, values, self.device),
            }?)?;
            self.params.pop_front();
            (self.values, self.done) = (None, 0);
        }
        Ok(())
    }
}

/// Returns the rank that updates each parameter: consecutive ones, with about as many elements on each rank.
fn owners(sizes: &[usize], ranks: usize) -> Vec<usize> {
    let total = sizes.iter().sum::<usize>().max(1);
    let mut before = 0;
    sizes
        .iter()
        .map(|size| {
            let middle = before + size / 2;
            before += size;
            (middle * ranks / total).min(ranks - 1)
        })
        .collect()
}

fn unlike(lines: &[String]) -> Error {
    let lines = lines.join("\n  ");
    Error::new(
        ErrorKind::Mismatch,
        format!("the processes cannot train together, they differ from process 0:\n  {lines}"),
    )
}

/// Adds a line for each value in which two JSON values differ.
fn differing(name: &str, own: Option<&Value>, theirs: Option<&Value>, lines: &mut Vec<String>) {
    if own == theirs {
        return;
    }
    if let (Some(Value::Object(a)), Some(Value::Object(b))) = (own, theirs) {
        for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            differing(&name, a.get(key), b.get(key), lines);
        }
        return;
    }
    let [own, theirs] =
        [own, theirs].map(|value| value.map_or("the default".to_string(), ToString::to_string));
    lines.push(format!("{name}: {own} here, {theirs} there"));
}

/// What a rank says of itself before the first step.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Introduction {
    /// The machine.
    host: Option<String>,
    /// JSON.
    environment: String,
    divides_optimizer: bool,
    /// JSON.
    config: String,
    /// JSON.
    network: String,
    /// SHA-256 of the parameters and buffers.
    values: String,
    position: (u64, u64),
}

impl Introduction {
    /// Returns a line for each thing in which this rank differs from the first.
    fn differences(&self, first: &Introduction) -> Vec<String> {
        let [own, theirs] = [&self.environment, &first.environment]
            .map(|text| serde_json::from_str::<Environment>(text).unwrap_or_default());
        let mut lines = own.differences_between(&theirs, "here", "there");
        let [own, theirs] = [&self.config, &first.config].map(|text| {
            let mut config = serde_json::from_str::<serde_json::Map<_, _>>(text).unwrap_or_default();
            config.remove("environment");
            Value::Object(config)
        });
        differing("", Some(&own), Some(&theirs), &mut lines);
        let others = [
            ("--shard-optimizer", self.divides_optimizer != first.divides_optimizer),
            ("network", self.network != first.network),
            ("initial values of the network", self.network == first.network && self.values != first.values),
            ("position of the resumed run", self.position != first.position),
        ];
        lines.extend(others.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_string()));
        lines
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::format("cannot write JSON").with_source(e))
}

/// SHA-256 of the names and elements of tensors.
fn checksum(tensors: &[NamedTensor]) -> String {
    let mut sum = Sha256::new();
    for tensor in tensors {
        sum.update(tensor.name.as_bytes());
        sum.update(tensor.values.as_bytes());
    }
    hexadecimal(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_same_names_and_sizes_with_other_content_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let sample = |parent: &str, value: u8| {
            for class in ["cat", "dog"] {
                let folder = dir.path().join(parent).join("set").join(class);
                std::fs::create_dir_all(&folder).unwrap();
                for i in 0..3 {
                    let pixels = [b"P5 8 8 255\n".to_vec(), vec![value + i; 64]].concat();
                    std::fs::write(folder.join(format!("{i}.pgm")), pixels).unwrap();
                }
            }
            let split = neocog_data::folder::open(&dir.path().join(parent).join("set"), false).unwrap();
            let environment = Environment::of(&split, &Device::Cpu).unwrap();
            (environment.data, environment.content)
        };
        let (a, b, same) = (sample("a", 7), sample("b", 9), sample("c", 7));
        assert_eq!(a.0, b.0);
        assert!(a.1.is_some() && a.1 != b.1);
        assert_eq!(a, same);
    }

    #[test]
    fn values_that_differ_are_named() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let own = value(r#"{"a":1,"options":{"clip":2,"ema":null},"only":[1]}"#);
        let theirs = value(r#"{"a":1,"options":{"clip":3,"ema":null}}"#);
        let mut lines = Vec::new();
        differing("", Some(&own), Some(&theirs), &mut lines);
        assert_eq!(lines, ["options.clip: 2 here, 3 there", "only: [1] here, the default there"]);
    }

    #[test]
    fn parameters_are_divided_by_their_elements() {
        assert_eq!(owners(&[4, 4, 4, 4], 2), [0, 0, 1, 1]);
        assert_eq!(owners(&[1, 1, 100], 4), [0, 0, 2]);
        assert_eq!(owners(&[5], 1), [0]);
        assert_eq!(owners(&[0, 0], 2), [0, 0]);
    }
}

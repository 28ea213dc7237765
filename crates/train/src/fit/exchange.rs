//! The exchange of gradients between ranks, while the backward pass goes on.

use std::collections::HashMap;
use std::ops::AddAssign;

use bytemuck::Pod;
use neocog_autograd::{Grads, Param, ParamId};
use neocog_layers::{Layer, state};
use neocog_tensor::{Device, Error, ErrorKind, Result, Shape, Tensor};

use crate::ranks::{Compressed, Exact, Part, Pending, Ranks, Summed, reduce};
use crate::shard::ShardSum;

/// The size of a bucket: parameters whose gradients are exchanged in one message, unless one alone is larger.
const BUCKET_BYTES: usize = 4 << 20;

/// The parameters of a network, in buckets: the last ones of the network first, as the backward pass computes their gradients.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Each parameter once, in the order of the network.
    params: Vec<ParamId>,
    /// Of each parameter, its bucket.
    of_param: HashMap<ParamId, usize>,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    params: Vec<(ParamId, Shape)>,
}

impl Bucket {
    fn len(&self) -> usize {
        self.params.iter().map(|(_, shape)| shape.elements()).sum()
    }
}

impl Buckets {
    pub(super) fn of(network: &dyn Layer) -> Self {
        let mut params: Vec<&Param> = Vec::new();
        for (_, param) in state::params(network) {
            if !param.is_frozen() && !params.iter().any(|other| other.id() == param.id()) {
                params.push(param);
            }
        }
        let (mut buckets, mut of_param) = (Vec::<Bucket>::new(), HashMap::new());
        let mut bytes = usize::MAX;
        for param in params.iter().rev() {
            let shape = param.shape();
            let more = shape.elements().saturating_mul(size_of::<f32>());
            bytes = bytes.saturating_add(more);
            if bytes > BUCKET_BYTES {
                buckets.push(Bucket::default());
                bytes = more;
            }
            let last = buckets.len() - 1;
            buckets[last].params.push((param.id(), shape));
            of_param.insert(param.id(), last);
        }
        Buckets { params: params.iter().map(|param| param.id()).collect(), of_param, buckets }
    }

    /// Returns each parameter, in the order of the network.
    pub(super) fn ids(&self) -> impl Iterator<Item = ParamId> {
        self.params.iter().copied()
    }

    /// Returns the number of elements of each bucket.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().map(Bucket::len)
    }

    /// Returns the parameters of each bucket, with their shapes.
    pub(super) fn params(&self) -> impl Iterator<Item = &[(ParamId, Shape)]> {
        self.buckets.iter().map(|bucket| bucket.params.as_slice())
    }

    /// Returns the same gradients, in the order of the network, in which the norm adds them.
    pub(super) fn in_order(&self, mut gradient: impl FnMut(ParamId) -> Option<Tensor>) -> Grads {
        Grads::from_params(self.params.iter().filter_map(|&id| Some((id, gradient(id)?))))
    }
}

/// Tensors whose sums over all ranks are being computed.
#[derive(Debug)]
struct Sums {
    shapes: Vec<Shape>,
    pending: PendingSums,
}

/// The elements of all tensors, and which of them are whose.
type Added<T> = (Vec<T>, Vec<Part>);

#[derive(Debug)]
enum PendingSums {
    F32(Pending<Added<f32>>),
    /// In the precision of the reference device.
    F64(Pending<Added<f64>>),
    /// The gradients of a bucket, in bf16.
    Compressed(Pending<Summed>),
}

impl Sums {
    /// Starts to add `tensors`, of these shapes, on all ranks.
    fn start(ranks: &Ranks, tensors: &[(Shape, Option<Tensor>)], device: &Device) -> Result<Self> {
        let pending = match device {
            Device::Reference => PendingSums::F64(start(ranks, flatten(tensors, Tensor::to_f64)?)),
            _ => PendingSums::F32(start(ranks, flatten(tensors, Tensor::to_f32)?)),
        };
        Ok(Sums { shapes: tensors.iter().map(|(shape, _)| *shape).collect(), pending })
    }

    /// Waits for the sums; `None` where no rank has a tensor. `compressed` has those of a bucket in bf16.
    fn wait(
        self,
        device: &Device,
        compressed: Option<(&mut Compressed, usize)>,
    ) -> Result<Vec<Option<Tensor>>> {
        let single = |shape: Shape, values: &[f32]| Tensor::from_f32(shape, values, device);
        match self.pending {
            PendingSums::F32(pending) => finish(&self.shapes, pending.wait()?, single),
            PendingSums::F64(pending) => {
                finish(&self.shapes, pending.wait()?, |shape, values| Tensor::from_f64(shape, values, device))
            }
            PendingSums::Compressed(pending) => {
                let (values, parts, rounding) = pending.wait()?;
                if let Some((compressed, bucket)) = compressed {
                    compressed.finish(bucket, rounding);
                }
                finish(&self.shapes, (values, parts), single)
            }
        }
    }
}

fn flatten<T: Pod>(
    tensors: &[(Shape, Option<Tensor>)],
    read: impl Fn(&Tensor) -> Result<Vec<T>>,
) -> Result<Added<T>> {
    let mut values = Vec::with_capacity(tensors.iter().map(|(shape, _)| shape.elements()).sum());
    let mut parts = Vec::with_capacity(tensors.len());
    for (shape, tensor) in tensors {
        let start = values.len();
        match tensor {
            Some(tensor) => values.extend(read(tensor)?),
            None => values.resize(start + shape.elements(), T::zeroed()),
        }
        parts.push(Part { range: start..values.len(), is_present: tensor.is_some() });
    }
    Ok((values, parts))
}

fn start<T: Pod + AddAssign + Send>(ranks: &Ranks, (mut values, mut parts): Added<T>) -> Pending<Added<T>> {
    ranks.submit(move |transport| {
        reduce(transport, &mut values, &mut parts, &mut Exact)?;
        Ok((values, parts))
    })
}

fn finish<T>(
    shapes: &[Shape],
    (values, parts): Added<T>,
    tensor: impl Fn(Shape, &[T]) -> Result<Tensor>,
) -> Result<Vec<Option<Tensor>>> {
    let tensors = shapes.iter().zip(parts);
    tensors
        .map(|(shape, part)| part.is_present.then(|| tensor(*shape, &values[part.range])).transpose())
        .collect()
}

/// The exchange of one step.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    ranks: &'a Ranks,
    buckets: &'a Buckets,
    device: Device,
    /// Adds the gradients in bf16, if the run does so, of the shards up to the number.
    compressed: Option<(&'a mut Compressed, usize)>,
    /// Gradients that are final.
    ready: HashMap<ParamId, Option<Tensor>>,
    /// Number of gradients that each bucket waits for.
    missing: Vec<usize>,
    /// Sums of the first buckets: all ranks exchange them in the same order.
    started: Vec<Sums>,
}

impl<'a> Exchange<'a> {
    /// Creates the exchange of a step; `last` is the last shard of this rank.
    pub(super) fn new(
        ranks: &'a Ranks,
        buckets: &'a Buckets,
        device: Device,
        compressed: Option<&'a mut Compressed>,
        last: usize,
    ) -> Self {
        let missing = buckets.buckets.iter().map(|bucket| bucket.params.len()).collect();
        let compressed = compressed.map(|compressed| (compressed, last));
        Exchange { ranks, buckets, device, compressed, ready: HashMap::new(), missing, started: Vec::new() }
    }

    /// Takes the gradients of a shard before the last one, if they are added in bf16. Otherwise they are summed elsewhere.
    pub(super) fn take(&mut self, shard: usize, grads: &mut Grads) -> Result<()> {
        if let Some((compressed, _)) = &mut self.compressed {
            let grads = std::mem::take(grads);
            for (number, bucket) in self.buckets.buckets.iter().enumerate() {
                let tensors: Vec<_> =
                    bucket.params.iter().map(|(id, shape)| (*shape, grads.of(*id).cloned())).collect();
                let (values, parts) = flatten(&tensors, Tensor::to_f32)?;
                compressed.push(number, shard, values, parts);
            }
        }
        Ok(())
    }

    /// Adds the final gradient of this rank for a parameter, and starts to exchange the buckets that are complete.
    pub(super) fn add(&mut self, id: ParamId, gradient: Option<Tensor>) -> Result<()> {
        let Some(&bucket) = self.buckets.of_param.get(&id) else { return Ok(()) };
        if self.ready.insert(id, gradient).is_none() {
            self.missing[bucket] -= 1;
        }
        while let Some(0) = self.missing.get(self.started.len()) {
            let number = self.started.len();
            let bucket = &self.buckets.buckets[number];
            let mut take = |id: &ParamId| self.ready.get_mut(id).and_then(Option::take);
            let tensors: Vec<_> = bucket.params.iter().map(|(id, shape)| (*shape, take(id))).collect();
            self.started.push(match &mut self.compressed {
                None => Sums::start(self.ranks, &tensors, &self.device)?,
                Some((compressed, last)) => {
                    let (values, parts) = flatten(&tensors, Tensor::to_f32)?;
                    compressed.push(number, *last, values, parts);
                    Sums {
                        shapes: tensors.iter().map(|(shape, _)| *shape).collect(),
                        pending: PendingSums::Compressed(compressed.start(number, self.ranks)?),
                    }
                }
            });
        }
        Ok(())
    }

    /// Waits for the sums over all ranks: of the gradients, and of what else `own`, without its gradients, has. `running` are the
    /// shapes of the running statistics.
    pub(super) fn finish(mut self, own: Option<ShardSum>, running: &[Shape]) -> Result<ShardSum> {
        for id in &self.buckets.params {
            if !self.ready.contains_key(id) {
                self.add(*id, None)?;
            }
        }
        let scalar = Shape::new(&[])?;
        let (loss, correct, updated) = match own {
            None => (None, None, vec![None; running.len()]),
            Some(sum) => (Some(sum.loss), Some(sum.correct), sum.running),
        };
        let mut others = vec![(scalar, loss), (scalar, correct)];
        others.extend(running.iter().copied().zip(updated));
        let others = Sums::start(self.ranks, &others, &self.device)?;

        let mut gradients: HashMap<ParamId, Tensor> = HashMap::new();
        for (number, (bucket, sums)) in self.buckets.buckets.iter().zip(self.started).enumerate() {
            let compressed = self.compressed.as_mut().map(|(compressed, _)| (&mut **compressed, number));
            for ((id, _), sum) in bucket.params.iter().zip(sums.wait(&self.device, compressed)?) {
                gradients.extend(sum.map(|sum| (*id, sum)));
            }
        }
        let mut others = others.wait(&self.device, None)?.into_iter();
        match (others.next().flatten(), others.next().flatten()) {
            (Some(loss), Some(correct)) => Ok(ShardSum {
                grads: self.buckets.in_order(|id| gradients.remove(&id)),
                loss,
                correct,
                running: others.collect(),
            }),
            _ => Err(Error::new(ErrorKind::Internal, "no process has computed a shard of the step")),
        }
    }
}

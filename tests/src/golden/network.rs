//! Runs networks: evaluation, a training pass, and steps of optimizers, each from the same initial state.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use neocog_autograd::{Param, Tape, Var};
use neocog_layers::state::{self, Entry};
use neocog_layers::{Builder, Context, Layer, LayerSpec, Observer, Seen};
use neocog_tensor::ops::{CrossEntropy, Reduction};
use neocog_tensor::{Context as _, Device, Error, Result, Shape, Tensor};
use neocog_train::Optimizer;
use serde_json::Value;

use super::attrs::Attrs;
use super::choices::{self, Choices, NEAR, NEAR_AFTER_ADAM};
use super::compare::{Checked, Tally, largest, median};
use super::files::{Network, Tensors};
use super::hash::{Stream, images};
use super::rules::{Allowed, Rules};
use super::stats::{Rows, Stats};

/// Runs the golden file of a network.
///
/// # Errors
/// When there is no such network, or it cannot be built with the state of the file.
pub fn run_network(file: &Network, tensors: &Tensors, device: &Device) -> Result<Tally> {
    let mut run = Run::new(file, tensors, device)?;
    let mut tally = Tally::default();
    run.state(&mut tally)?;
    if let Err(e) = run.eval(&mut tally) {
        tally.add_error("eval", e);
    }
    for part in std::iter::once("train").chain(file.optimisers.keys().map(String::as_str)) {
        tally.add_all(run.part(part));
    }
    Ok(tally)
}

struct Run<'a> {
    file: &'a Network,
    tensors: &'a Tensors,
    device: &'a Device,
    spec: LayerSpec,
    shape: Shape,
    input: Tensor,
    labels: Tensor,
    rules: Rules<'a>,
    /// Stream of each entry of the state.
    streams: BTreeMap<&'a str, u64>,
    /// Norms of gradients whose exact value is 0, the maximum of neocog and PyTorch.
    noise: BTreeMap<&'a str, f64>,
}

impl<'a> Run<'a> {
    fn new(file: &'a Network, tensors: &'a Tensors, device: &'a Device) -> Result<Self> {
        let spec = without_dropout(&neocog_models::find(&file.net)?.spec()?)?;
        let shape = Shape::from(file.input_shape);
        let stream = |s| Stream::new(file.seed, s);
        if file.input.cell == 0 || file.labels.modulus == 0 {
            return Err(Error::format("the input's cell and the labels' mod must be at least 1"));
        }
        let (fine, coarse) = (stream(file.input.fine_stream), stream(file.input.coarse_stream));
        let input = images(file.input_shape, fine, coarse, file.input.cell);
        let labels: Vec<f32> = (0..file.input_shape[0] as u64)
            .map(|i| stream(file.labels.stream).integer(i, file.labels.modulus) as f32)
            .collect();
        Ok(Run {
            file,
            tensors,
            device,
            spec,
            shape,
            input: Tensor::from_f32(shape, &input, device)?,
            labels: Tensor::from_f32([labels.len()], &labels, device)?,
            rules: Rules::new(file, device),
            streams: file.state.iter().map(|e| (e.name.as_str(), e.stream)).collect(),
            noise: BTreeMap::new(),
        })
    }

    /// Runs a training pass ("train") or steps of an optimizer. In single precision, failures are checked for choices at ties, and
    /// the part is run again with their tolerances.
    fn part(&mut self, name: &str) -> Tally {
        let mut tally = self.part_once(name);
        if tally.failures.is_empty() || *self.device == Device::Reference {
            return tally;
        }
        match self.choices(name) {
            Ok((choices, near)) if choices.are_rounding(near) => {
                let rules = std::mem::replace(&mut self.rules, Rules::new(self.file, self.device).at_ties());
                let mut again = self.part_once(name);
                self.rules = rules;
                again.notes.push(format!(
                    "{name}: different choices of ReLUs and maxima: {}, at most {:.0e} from a tie",
                    choices.different, choices.widest
                ));
                again
            }
            Ok((choices, near)) => {
                tally.notes.push(format!(
                    "{name}: different choices of ReLUs and maxima: {}, up to {:.0e} from a tie, of which {near:.0e} is rounding",
                    choices.different, choices.widest
                ));
                tally
            }
            Err(_) => tally,
        }
    }

    fn part_once(&mut self, name: &str) -> Tally {
        let mut tally = Tally::default();
        let result = match name {
            "train" => self.train(&mut tally),
            _ => self.optimizer(name, &mut tally),
        };
        if let Err(e) = result {
            tally.add_error(name, e);
        }
        tally
    }

    /// Returns the choices of the first pass of a part that differ from double precision, and the maximum distance from a tie.
    fn choices(&self, part: &str) -> Result<(Choices, f64)> {
        let double = Run::new(self.file, self.tensors, &Device::Reference)?;
        let mut both = [Stepper::new(&double, part)?, Stepper::new(self, part)?];
        loop {
            let [a, b] = &mut both;
            let (a_pass, b_pass) =
                (a.forward(Tape::new().saving_all())?, b.forward(Tape::new().saving_all())?);
            let found = choices::compare(&a_pass.0, &b_pass.0)?;
            if found.different > 0 || a.step >= a.count {
                let adam = part.starts_with("adam") && a.step > 0;
                return Ok((found, if adam { NEAR_AFTER_ADAM } else { NEAR }));
            }
            a.back(a_pass)?;
            b.back(b_pass)?;
        }
    }

    /// Builds the network in its initial state.
    fn network(&self) -> Result<Box<dyn Layer>> {
        let network = Builder::to_load(self.device).build(&self.spec, &self.shape)?;
        let entries: BTreeMap<String, Entry<'_>> = state::entries(&*network).into_iter().collect();
        for wanted in &self.file.state {
            let entry = entries
                .get(&wanted.name)
                .ok_or_else(|| Error::format(format!("the network has no {}", wanted.name)))?;
            match (entry, wanted.scale, wanted.offset) {
                (Entry::Counter(counter), ..) => counter.set(0),
                (_, Some(scale), Some(offset)) => {
                    let stream = Stream::new(self.file.seed, wanted.stream);
                    let shape = Shape::new(&wanted.shape)?;
                    let values: Vec<f32> =
                        (0..shape.elements() as u64).map(|i| stream.value(i, scale, offset)).collect();
                    let value = Tensor::from_f32(shape, &values, self.device)?;
                    let tensor = entry.tensor().expect("not a counter");
                    tensor.set(&value).context(|| wanted.name.as_str())?;
                }
                _ => return Err(Error::format(format!("{} has no scale and offset", wanted.name))),
            }
        }
        Ok(network)
    }

    /// Compares names, order, shapes and first values of the state and the input with the file.
    fn state(&self, tally: &mut Tally) -> Result<()> {
        let network = self.network()?;
        let entries = state::entries(&*network);
        let mut checked = Checked::new("state");
        let names: Vec<&str> =
            entries.iter().filter(|(_, e)| persistent(e)).map(|(n, _)| n.as_str()).collect();
        let wanted: Vec<&str> = self.file.state.iter().map(|e| e.name.as_str()).collect();
        checked.require(names == wanted, || format!("the state is {names:?}, expected {wanted:?}"));
        for (name, entry) in &entries {
            let Some(wanted) = self.file.state.iter().find(|w| w.name == *name) else { continue };
            let Some(tensor) = entry.tensor() else { continue };
            let first: Vec<f64> = tensor.value().to_f64()?.into_iter().take(wanted.first4.len()).collect();
            checked.compare(name, &first, &wanted.first4, |_| 0.0);
        }
        let first: Vec<f64> = self.input.to_f64()?.into_iter().take(self.file.input.first8.len()).collect();
        checked.compare("input", &first, &self.file.input.first8, |_| 0.0);
        let labels: Vec<f64> = self.file.labels.values.iter().map(|&v| v as f64).collect();
        checked.compare("labels", &self.labels.to_f64()?, &labels, |_| 0.0);
        tally.add(checked);
        Ok(())
    }

    fn eval(&self, tally: &mut Tally) -> Result<()> {
        let network = self.network()?;
        self.compare_prediction("eval/logits", "eval/loss", &*network, tally)
    }

    /// Runs the network in evaluation mode and compares logits and loss.
    fn compare_prediction(
        &self,
        logits: &str,
        loss: &str,
        network: &dyn Layer,
        tally: &mut Tally,
    ) -> Result<()> {
        let tape = Tape::no_grad();
        let y = Context::eval(&tape).run(network, &Var::constant(self.input.clone()))?;
        let l = self.loss(&tape, &y)?;
        self.compare_whole(logits, &y.tensor().to_f64()?, tally)?;
        self.compare_whole(loss, &[l.tensor().item()?], tally)
    }

    fn loss(&self, tape: &Tape, logits: &Var) -> Result<Var> {
        let op = CrossEntropy { reduction: Reduction::Mean, label_smoothing: 0.0 };
        Ok(tape.apply(op, &[logits, &Var::constant(self.labels.clone())])?.remove(0))
    }

    /// Compares values, with a tolerance relative to the largest.
    fn compare_whole(&self, key: &str, got: &[f64], tally: &mut Tally) -> Result<()> {
        let expected = &self.tensors.get(&format!("f64/{key}"))?.values;
        let allowed = self.rules.of(key).single * largest(expected);
        let mut checked = Checked::new(key);
        checked.compare(key, got, expected, |_| allowed);
        tally.add(checked);
        Ok(())
    }

    fn train(&mut self, tally: &mut Tally) -> Result<()> {
        let network = self.network()?;
        let tape = Tape::new();
        let x = tape.leaf(self.input.clone());
        let outputs = Outputs::new(self.file);
        let y = Context::train(&tape, 0).observed(&outputs).run(&*network, &x)?;
        let loss = self.loss(&tape, &y)?;
        self.compare_whole("train/logits", &y.tensor().to_f64()?, tally)?;
        self.compare_whole("train/loss", &[loss.tensor().item()?], tally)?;
        self.compare_outputs(outputs, tally)?;

        let grads = tape.backward(&loss)?;
        let grad_of = |param: &Param| match grads.param(param) {
            Some(grad) => Ok(grad.clone()),
            None => Tensor::zeros(param.shape(), self.device),
        };
        let params: BTreeMap<String, &Param> = state::params(&*network).into_iter().collect();
        let got = self.stats_of(&self.file.params, |name| params.get(name).map(|p| grad_of(p)))?;
        self.compare_gradients(&got, tally)?;
        let input_grad = grads.get(&x).ok_or_else(|| Error::format("the input has no gradient"))?;
        let input = Stats::of(&input_grad.to_f64()?, self.dot(self.file.input.fine_stream));
        self.compare_rows("train/input_grad", &["input".to_string()], &[Some(input)], tally)?;
        self.compare_buffers("train", &*network, 1, tally)
    }

    fn dot(&self, stream: u64) -> Stream {
        Stream::new(self.file.dot_seed, stream)
    }

    /// Returns the statistics of tensors of the state; `None` for those that are missing.
    fn stats_of(
        &self,
        names: &[String],
        tensor: impl Fn(&str) -> Option<Result<Tensor>>,
    ) -> Result<Vec<Option<Stats>>> {
        names
            .iter()
            .map(|name| {
                let stream = self
                    .streams
                    .get(name.as_str())
                    .ok_or_else(|| Error::format(format!("{name} is not in the file's state")))?;
                match tensor(name) {
                    None => Ok(None),
                    Some(tensor) => Ok(Some(Stats::of(&tensor?.to_f64()?, self.dot(*stream)))),
                }
            })
            .collect()
    }

    fn compare_outputs(&self, outputs: Outputs<'_>, tally: &mut Tally) -> Result<()> {
        let names: Vec<String> = self.file.modules.iter().map(|m| m.name.clone()).collect();
        let (stats, problems) = outputs.finish();
        self.compare_rows("train/act", &names, &stats, tally)?;
        for (name, problem) in problems {
            tally.add_error(format!("train/act {name}"), problem);
        }
        Ok(())
    }

    /// Compares rows, with tolerances relative to their norms.
    fn compare_rows(
        &self,
        key: &str,
        names: &[String],
        got: &[Option<Stats>],
        tally: &mut Tally,
    ) -> Result<()> {
        let all: BTreeSet<usize> = (0..names.len()).collect();
        self.compare_some_rows(key, names, got, &all, tally)
    }

    fn compare_some_rows(
        &self,
        key: &str,
        names: &[String],
        got: &[Option<Stats>],
        rows: &BTreeSet<usize>,
        tally: &mut Tally,
    ) -> Result<()> {
        let expected = Rows::read(self.tensors, &format!("f64/{key}"), names.len())?;
        let allowed = self.rules.of(key);
        let mut deviations = Vec::new();
        for &row in rows {
            let mut checked = Checked::new(format!("{key} {}", names[row]));
            match &got[row] {
                None => checked.fail("missing in the network"),
                Some(got) => {
                    deviations.push(got.deviation(&expected.row(row), &allowed));
                    got.compare(&expected.row(row), &allowed, &mut checked);
                }
            }
            tally.add(checked);
        }
        self.compare_median(key, &deviations, allowed, tally);
        Ok(())
    }

    fn compare_median(&self, key: &str, deviations: &[f64], allowed: Allowed, tally: &mut Tally) {
        if let Some(limit) = allowed.median
            && deviations.len() > 1
        {
            let mut checked = Checked::new(format!("{key} median deviation"));
            checked.compare("median", &[median(deviations)], &[0.0], |_| limit);
            tally.add(checked);
        }
    }

    /// Returns the rows of parameters whose exact gradient is not 0.
    fn ordinary_rows(&self) -> BTreeSet<usize> {
        let zero = |name: &String| self.file.zero_gradient_params.contains(name);
        (0..self.file.params.len()).filter(|&row| !zero(&self.file.params[row])).collect()
    }

    /// Compares gradients; those whose exact value is 0 must be small relative to the largest.
    fn compare_gradients(&mut self, got: &[Option<Stats>], tally: &mut Tally) -> Result<()> {
        let file = self.file;
        let ordinary = self.ordinary_rows();
        self.compare_some_rows("train/grad", &file.params, got, &ordinary, tally)?;
        let expected = Rows::read(self.tensors, "f64/train/grad", file.params.len())?;
        let size = (0..file.params.len()).fold(0.0f64, |a, row| a.max(expected.row(row).norm));
        for row in (0..file.params.len()).filter(|row| !ordinary.contains(row)) {
            let name = file.params[row].as_str();
            let mut checked = Checked::new(format!("train/grad {name} (exactly 0)"));
            match &got[row] {
                None => checked.fail("missing in the network"),
                Some(got) => {
                    checked.compare("norm", &[got.norm], &[0.0], |_| self.rules.zero_gradient() * size);
                    self.noise.insert(name, got.norm.max(expected.row(row).norm));
                }
            }
            tally.add(checked);
        }
        Ok(())
    }

    fn compare_buffers(&self, part: &str, network: &dyn Layer, passes: u64, tally: &mut Tally) -> Result<()> {
        let entries: BTreeMap<String, Entry<'_>> = state::entries(network).into_iter().collect();
        if !self.file.buffers.is_empty() {
            let got = self.stats_of(&self.file.buffers, |name| {
                entries.get(name).and_then(Entry::tensor).map(|tensor| Ok(tensor.value()))
            })?;
            self.compare_rows(&format!("{part}/buffer"), &self.file.buffers, &got, tally)?;
        }
        for (name, entry) in &entries {
            if let Entry::Counter(counter) = entry {
                let mut checked = Checked::new(format!("{part}/{name}"));
                checked.compare("count", &[counter.get() as f64], &[passes as f64], |_| 0.0);
                tally.add(checked);
            }
        }
        Ok(())
    }

    /// Runs steps of an optimizer; compares the losses before each step and after the last, the state, and a prediction.
    fn optimizer(&self, name: &str, tally: &mut Tally) -> Result<()> {
        let mut stepper = Stepper::new(self, name)?;
        let mut losses = Vec::new();
        while stepper.step < stepper.count {
            let pass = stepper.forward(Tape::new())?;
            losses.push(pass.1.tensor().item()?);
            stepper.back(pass)?;
        }
        let Stepper { network, count, lr, .. } = stepper;
        let params = state::params(&*network);
        let by_name: BTreeMap<&str, &Param> = params.iter().map(|(n, p)| (n.as_str(), *p)).collect();
        let got = self.stats_of(&self.file.params, |name| by_name.get(name).map(|p| Ok(p.value())))?;
        self.compare_params(name, &got, count as f64 * lr, tally)?;
        self.compare_buffers(name, &*network, count, tally)?;
        let (logits, loss) = (format!("{name}/eval_logits"), format!("{name}/eval_loss"));
        self.compare_prediction(&logits, &loss, &*network, tally)?;
        // Last, because a training pass changes the running statistics.
        let tape = Tape::no_grad();
        let y = Context::train(&tape, count).run(&*network, &Var::constant(self.input.clone()))?;
        losses.push(self.loss(&tape, &y)?.tensor().item()?);
        self.compare_whole(&format!("{name}/losses"), &losses, tally)
    }

    /// Compares parameters after the steps. Adam normalizes gradients: one that is exactly 0 is computed as noise, and changes its
    /// parameter by up to `reach` in any direction.
    fn compare_params(&self, name: &str, got: &[Option<Stats>], reach: f64, tally: &mut Tally) -> Result<()> {
        let key = format!("{name}/param");
        let names = &self.file.params;
        if !name.starts_with("adam") {
            return self.compare_rows(&key, names, got, tally);
        }
        let ordinary = self.ordinary_rows();
        self.compare_some_rows(&key, names, got, &ordinary, tally)?;
        let expected = Rows::read(self.tensors, &format!("f64/{key}"), names.len())?;
        for row in (0..names.len()).filter(|row| !ordinary.contains(row)) {
            let mut checked = Checked::new(format!("{key} {} (exact gradient 0)", names[row]));
            let expected = expected.row(row);
            match &got[row] {
                None => checked.fail("missing in the network"),
                Some(got) => {
                    let noise = self.noise.get(names[row].as_str()).copied().unwrap_or(f64::INFINITY);
                    let elements = got.elements as f64;
                    // Both can have changed by `reach`, less if the noise is below Adam's epsilon.
                    let each = 2.0 * reach * (10.0 * noise / 1e-8).min(1.0);
                    let rounding = self.rules.of(&key).rounding * expected.norm;
                    let whole = |factor: f64| each * factor + rounding;
                    checked.compare("sum", &[got.sum], &[expected.sum], |_| whole(elements));
                    checked.compare("dot", &[got.dot], &[expected.dot], |_| whole(elements));
                    checked.compare("norm", &[got.norm], &[expected.norm], |_| whole(elements.sqrt()));
                    checked.compare("first16", &got.first, &expected.first, |_| whole(1.0));
                }
            }
            tally.add(checked);
        }
        Ok(())
    }
}

/// Training passes from the initial state, with optimizer steps between them.
struct Stepper<'a> {
    run: &'a Run<'a>,
    network: Box<dyn Layer>,
    optimizer: Option<Optimizer>,
    lr: f64,
    /// Number of steps.
    count: u64,
    /// Number of steps made.
    step: u64,
}

impl<'a> Stepper<'a> {
    /// Creates a stepper for an optimizer of the file; with any other name, there is one pass and no step.
    fn new(run: &'a Run<'a>, name: &str) -> Result<Self> {
        let network = run.network()?;
        let (mut optimizer, mut lr, mut count) = (None, 0.0, 0);
        if let Some(values) = run.file.optimisers.get(name) {
            let attrs = Attrs::new(values);
            (count, lr) = (attrs.get("steps")?, attrs.get("lr")?);
            optimizer = Some(super::optim::optimizer(name, &attrs, &*network)?);
            attrs.finish()?;
        }
        Ok(Stepper { run, network, optimizer, lr, count, step: 0 })
    }

    /// Runs a forward pass; returns the tape and the loss.
    fn forward(&self, tape: Tape) -> Result<(Tape, Var)> {
        let x = Var::constant(self.run.input.clone());
        let y = Context::train(&tape, self.step).run(&*self.network, &x)?;
        let loss = self.run.loss(&tape, &y)?;
        Ok((tape, loss))
    }

    /// Runs the backward pass and makes a step.
    fn back(&mut self, (tape, loss): (Tape, Var)) -> Result<()> {
        let grads = tape.backward(&loss)?;
        if let Some(optimizer) = &mut self.optimizer {
            optimizer.step(&*self.network, &grads, self.lr)?;
        }
        self.step += 1;
        Ok(())
    }
}

/// Whether an entry is part of the `state_dict`.
fn persistent(entry: &Entry<'_>) -> bool {
    match entry {
        Entry::Buffer(buffer) => buffer.is_persistent(),
        Entry::Param(_) | Entry::Counter(_) => true,
    }
}

/// Returns the network with the probability of every dropout set to 0.
fn without_dropout(spec: &LayerSpec) -> Result<LayerSpec> {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.get("kind").is_some_and(|kind| kind == "Dropout") {
                    fields.insert("p".into(), 0.0.into());
                }
                fields.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    let wrong = |e| Error::format("cannot rewrite the spec").with_source(e);
    let mut value = serde_json::to_value(spec).map_err(wrong)?;
    walk(&mut value);
    serde_json::from_value(value).map_err(wrong)
}

/// Observes the outputs of all modules of a file.
struct Outputs<'a> {
    file: &'a Network,
    /// The remaining rows of each name, in order.
    waiting: RefCell<BTreeMap<&'a str, VecDeque<usize>>>,
    stats: RefCell<Vec<Option<Stats>>>,
    problems: RefCell<Vec<(String, String)>>,
}

impl<'a> Outputs<'a> {
    fn new(file: &'a Network) -> Self {
        let mut waiting = BTreeMap::<&str, VecDeque<usize>>::new();
        for (row, module) in file.modules.iter().enumerate() {
            waiting.entry(&module.name).or_default().push_back(row);
        }
        Outputs {
            file,
            waiting: RefCell::new(waiting),
            stats: RefCell::new(vec![None; file.modules.len()]),
            problems: RefCell::default(),
        }
    }

    fn finish(self) -> (Vec<Option<Stats>>, Vec<(String, String)>) {
        (self.stats.into_inner(), self.problems.into_inner())
    }
}

impl Observer for Outputs<'_> {
    fn output(&self, seen: &Seen<'_>) {
        let Seen { path, is_named: true, output, .. } = *seen else { return };
        let Some(row) = self.waiting.borrow_mut().get_mut(path).and_then(VecDeque::pop_front) else { return };
        let module = &self.file.modules[row];
        let problem = |text: String| self.problems.borrow_mut().push((path.to_string(), text));
        if output.shape().extents() != module.shape {
            problem(format!("the output is {}, expected {:?}", output.shape(), module.shape));
        }
        match output.tensor().to_f64() {
            Ok(values) => {
                let stream = Stream::new(self.file.dot_seed, module.stream);
                self.stats.borrow_mut()[row] = Some(Stats::of(&values, stream));
            }
            Err(e) => problem(e.to_string()),
        }
    }
}

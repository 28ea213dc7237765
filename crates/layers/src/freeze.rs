//! Selecting parameters by name, and freezing them for fine-tuning.

use neocog_tensor::{Error, Result};
use regex::Regex;

use crate::layer::Layer;
use crate::state::{self, Entry};

/// The word that stands for the last layer in a pattern, if no name contains it.
pub const HEAD: &str = "head";

/// What [`freeze`] has frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Dotted names of the parameters.
    pub params: Vec<String>,
    /// Number of elements of these parameters.
    pub elements: usize,
    /// Dotted names of the buffers, as running statistics.
    pub buffers: Vec<String>,
}

/// Freezes the parameters and buffers whose dotted names match the regular expression `pattern` anywhere: training does not change
/// them, and computes no gradient for them. A batch norm with frozen running statistics uses these in training, as in evaluation.
///
/// ```
/// use neocog_layers::freeze::freeze;
/// use neocog_layers::{Builder, Linear, ReLU, Sequential};
/// use neocog_tensor::Device;
///
/// let spec = Sequential::new().with("features", Linear::new(3, 4)).then(ReLU {}).with("fc", Linear::new(4, 2));
/// let network = Builder::new(&Device::Cpu, 0).build(&spec.into(), &[1, 3].into())?;
/// assert_eq!(freeze(&*network, "features")?.params, ["features.weight", "features.bias"]);
/// assert!(freeze(&*network, "layer1").is_err());
/// # Ok::<(), neocog_tensor::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` when `pattern` is not a regular expression, matches no parameter, or leaves none to train. Nothing is frozen
/// then.
pub fn freeze(network: &dyn Layer, pattern: &str) -> Result<Frozen> {
    let matches = Selector::new(network, pattern)?;
    let mut frozen = Frozen::default();
    for (name, param) in state::params(network).into_iter().filter(|(name, _)| matches.selects(name)) {
        frozen.elements += param.shape().elements();
        frozen.params.push(name);
    }
    let all = state::params(network).iter().all(|(name, param)| param.is_frozen() || matches.selects(name));
    if all {
        return Err(Error::invalid_argument(format!(
            "the pattern {pattern:?} freezes all parameters, which leaves none to train"
        )));
    }
    for (name, entry) in state::entries(network).into_iter().filter(|(name, _)| matches.selects(name)) {
        match entry {
            Entry::Param(param) => param.set_frozen(true),
            Entry::Buffer(buffer) => {
                buffer.value().set_frozen(true);
                frozen.buffers.push(name);
            }
            Entry::Counter(_) => {}
        }
    }
    Ok(frozen)
}

/// Selects the parameters of a network whose names match a pattern.
#[derive(Clone, Debug)]
pub struct Selector(Regex);

impl Selector {
    /// Creates a selector for the regular expression `pattern`, which may match anywhere in a dotted name. The word [`HEAD`] in
    /// it stands for the last layer of the network, unless a name contains it.
    ///
    /// # Errors
    /// `InvalidArgument` when `pattern` is not a regular expression, or matches no parameter.
    pub fn new(network: &dyn Layer, pattern: &str) -> Result<Self> {
        let regex = |text: &str| {
            Regex::new(text).map_err(|e| {
                Error::invalid_argument(format!("{pattern:?} is not a regular expression")).with_source(e)
            })
        };
        let params = state::params(network);
        let matches = |regex: &Regex| params.iter().any(|(name, _)| regex.is_match(name));
        let mut own = regex(pattern)?;
        let is_name = params.iter().any(|(name, _)| name.contains(HEAD));
        if let Some(head) = state::head(network).filter(|_| !is_name) {
            let word = regex(&format!(r"\b{HEAD}\b"))?;
            let head = format!(r"(?:^{}\b)", regex::escape(&head));
            own = regex(&word.replace_all(pattern, regex::NoExpand(&head)))?;
        }
        if matches(&own) {
            return Ok(Selector(own));
        }
        let mut layers: Vec<&str> = params.iter().filter_map(|(name, _)| name.split('.').next()).collect();
        layers.dedup();
        Err(Error::invalid_argument(format!(
            "no parameter matches the pattern {pattern:?}; the names start with {}",
            layers.join(", ")
        )))
    }

    /// Whether the pattern matches a name.
    pub fn selects(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

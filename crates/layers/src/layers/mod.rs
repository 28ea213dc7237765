//! The layers of this crate.

mod activation;
mod adaptive_pool;
mod chain;
mod combine;
mod conv;
mod conv_transpose;
mod declared;
mod dropout;
mod gate;
mod linear;
mod norm;
mod permute;
mod pool;
mod prelu;
mod row_norm;
mod shape;
mod stochastic_depth;
mod upsample;

pub use activation::*;
pub use adaptive_pool::{AdaptiveAvgPool2d, OutputSize};
pub use chain::Child;
pub use combine::{Concat, Residual, Sequential};
pub use conv::Conv2d;
pub use conv_transpose::ConvTranspose2d;
pub use declared::{InPlace, Unused};
pub use dropout::Dropout;
pub use gate::Gate;
pub use linear::Linear;
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d};
pub use permute::{ChannelShuffle, Narrow, Permute};
pub use pool::{AvgPool2d, GlobalAvgPool2d, MaxPool2d};
pub use prelu::{LayerScale, PReLU};
pub use row_norm::{GroupNorm, LayerNorm, LayerNorm2d};
pub use shape::{Flatten, FlattenLayer, Identity};
pub use stochastic_depth::{StochasticDepth, StochasticDepthMode};
pub use upsample::{Upsample, UpsampleMode};

/// Serialization of a pair `[height, width]`: one number if both are equal.
mod pair {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a non-negative integer or a pair of them")]
    enum OneOrTwo {
        One(usize),
        Two([usize; 2]),
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[usize; 2], D::Error> {
        Ok(match OneOrTwo::deserialize(deserializer)? {
            OneOrTwo::One(both) => [both, both],
            OneOrTwo::Two(pair) => pair,
        })
    }

    pub(super) fn serialize<S: Serializer>(pair: &[usize; 2], serializer: S) -> Result<S::Ok, S::Error> {
        if pair[0] == pair[1] { pair[0].serialize(serializer) } else { pair.serialize(serializer) }
    }

    /// The same for optional fields.
    pub(super) mod option {
        use super::{Deserialize, Deserializer, OneOrTwo, Serialize, Serializer};

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<[usize; 2]>, D::Error> {
            Ok(Option::<OneOrTwo>::deserialize(deserializer)?.map(|v| match v {
                OneOrTwo::One(both) => [both, both],
                OneOrTwo::Two(pair) => pair,
            }))
        }

        pub(in super::super) fn serialize<S: Serializer>(
            pair: &Option<[usize; 2]>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match pair {
                Some(pair) => super::serialize(pair, serializer),
                None => None::<usize>.serialize(serializer),
            }
        }
    }

    /// Formats a pair as PyTorch does for arguments that can be one number or a pair.
    pub(super) fn short(pair: [usize; 2]) -> String {
        if pair[0] == pair[1] { pair[0].to_string() } else { long(pair) }
    }

    /// Formats a pair as PyTorch does: `(3, 3)`.
    pub(super) fn long(pair: [usize; 2]) -> String {
        format!("({}, {})", pair[0], pair[1])
    }
}

/// Formats a boolean as Python does.
fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// Formats a number as Python does: `1e-05`.
fn python_float(value: f64) -> String {
    let text = format!("{value:e}");
    match text.split_once("e-") {
        Some((mantissa, exponent)) if value < 1e-4 && value > 0.0 => format!("{mantissa}e-{exponent:0>2}"),
        _ => format!("{value:?}"),
    }
}

//! Upsampling.

use neocog_autograd::Var;
use neocog_tensor::{Error, Result, Shape, ops};
use serde::{Deserialize, Serialize};

use super::pair;
use crate::builder::Builder;
use crate::layer::{Context, Layer, Visitor};
use crate::register_layer;
use crate::spec::{Example, Spec};

/// Resizes images, `[n, c, h, w]` to `[n, c, oh, ow]`, as PyTorch's `Upsample`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// Height and width of the output; either this or `scale_factor`.
    #[serde(with = "pair::option", default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// Factor of height and width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_factor: Option<f64>,
    /// Interpolation.
    #[serde(default)]
    pub mode: UpsampleMode,
    /// Whether the centers of the corner pixels coincide, and not the borders of the images; for `bilinear`.
    #[serde(default)]
    pub align_corners: bool,
}

/// The interpolation of [`Upsample`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleMode {
    /// The nearest pixel above and to the left.
    #[default]
    Nearest,
    /// Linear along both axes.
    Bilinear,
}

impl Upsample {
    /// Creates a spec for a factor.
    pub fn by(scale_factor: f64, mode: UpsampleMode) -> Self {
        Upsample { size: None, scale_factor: Some(scale_factor), mode, align_corners: false }
    }

    /// Creates a spec for a size `[height, width]`.
    pub fn to(size: [usize; 2], mode: UpsampleMode) -> Self {
        Upsample { size: Some(size), scale_factor: None, mode, align_corners: false }
    }
}

impl Spec for Upsample {
    const KIND: &'static str = "Upsample";

    fn build(&self, _builder: &mut Builder, _input: &Shape) -> Result<Box<dyn Layer>> {
        if self.size.is_some() == self.scale_factor.is_some() {
            return Err(Error::invalid_argument("give either size or scale_factor"));
        }
        if self.scale_factor.is_some_and(|factor| !(factor > 0.0 && factor.is_finite())) {
            return Err(Error::invalid_argument("scale_factor must be positive and finite"));
        }
        if self.align_corners && self.mode == UpsampleMode::Nearest {
            return Err(Error::invalid_argument("align_corners is for the mode bilinear"));
        }
        Ok(Box::new(self.clone()))
    }

    fn examples() -> Vec<Example> {
        vec![
            Example::new(Self::by(2.0, UpsampleMode::Nearest), [2, 2, 3, 4]),
            Example::new(Self::by(1.7, UpsampleMode::Bilinear), [1, 2, 4, 3]),
            Example::new(
                Upsample { align_corners: true, ..Self::to([5, 7], UpsampleMode::Bilinear) },
                [1, 2, 3, 4],
            ),
            Example::new(Self::to([2, 5], UpsampleMode::Nearest), [1, 2, 3, 4]),
        ]
    }
}

register_layer!(Upsample);

impl Layer for Upsample {
    fn label(&self) -> &str {
        Self::KIND
    }

    fn arguments(&self) -> String {
        let mode = match self.mode {
            UpsampleMode::Nearest => "nearest",
            UpsampleMode::Bilinear => "bilinear",
        };
        let size = match (self.size, self.scale_factor) {
            (Some(size), _) => format!("size={}", pair::long(size)),
            (None, factor) => format!("scale_factor={:?}", factor.unwrap_or(1.0)),
        };
        format!("{size}, mode='{mode}'")
    }

    fn forward(&self, context: &Context<'_>, input: &Var) -> Result<Var> {
        let [_, _, h, w] = input.shape().nchw()?;
        let mut value = input.clone();
        for (axis, from) in [h, w].into_iter().enumerate() {
            let to = match (self.size, self.scale_factor) {
                (Some(size), _) => size[axis],
                (None, factor) => (from as f64 * factor.unwrap_or(1.0)) as usize,
            };
            // As PyTorch: positions come from the factor, not from the rounded size.
            let scale = self.scale_factor.map(|factor| 1.0 / factor);
            let map = match self.mode {
                UpsampleMode::Nearest => ops::AxisMap::nearest(from, to, scale)?,
                UpsampleMode::Bilinear => ops::AxisMap::linear(from, to, self.align_corners, scale)?,
            };
            let op = ops::Resample { dim: axis as isize + 2, map, transposed: false };
            if !op.map.is_identity() {
                value = context.tape().apply_single(op, &[&value])?;
            }
        }
        Ok(value)
    }

    fn visit<'a>(&'a self, _visitor: &mut dyn Visitor<'a>) {}
}

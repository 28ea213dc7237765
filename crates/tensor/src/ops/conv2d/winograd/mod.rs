//! What all devices need for convolutions of 3x3 and 5x5 windows, stride 1, by fewer multiplications: the transforms, the
//! sizes that there are, when they pay, and how pictures are cut into tiles.

mod tiling;
pub mod transform;

pub use tiling::{Tiling, part};

use super::Problem;

/// The sizes that there are kernels for: points, outputs and taps along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 4 outputs, 3 taps.
    Four,
    /// 3 outputs, 3 taps.
    Three,
    /// 2 outputs, 5 taps.
    TwoOfFive,
}

impl Sizes {
    /// Points along an axis.
    pub fn points(self) -> usize {
        if self == Sizes::Three { 5 } else { 6 }
    }

    /// Outputs along an axis.
    pub fn outputs(self) -> usize {
        match self {
            Sizes::Four => 4,
            Sizes::Three => 3,
            Sizes::TwoOfFive => 2,
        }
    }
}

/// Which of a convolution's three computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    InputGrad,
    WeightGrad,
}

/// Steps of the innermost loop, a multiply-add of a vector each, for each pair of a pixel and a tap.
pub fn products(p: &Problem, pass: Pass, lanes: usize) -> f64 {
    let [depth, wide] = if pass == Pass::InputGrad { [p.og, p.cg] } else { [p.cg, p.og] };
    (depth * wide.div_ceil(lanes)) as f64
}

/// The sizes to use for a convolution on vectors of `lanes` floats, if this way is faster than the direct one, which takes
/// `direct` steps. A rule on shapes alone.
pub fn choose(p: &Problem, pass: Pass, lanes: usize, direct: f64) -> Option<Sizes> {
    let window = [p.kh, p.kw];
    if p.groups != 1 || p.stride != [1, 1] || p.dilation != [1, 1] || p.n == 0 {
        return None;
    }
    let sizes: &[Sizes] = match window {
        [3, 3] => &[Sizes::Four, Sizes::Three],
        [5, 5] => &[Sizes::TwoOfFive],
        _ => return None,
    };
    if pass == Pass::InputGrad && (p.padding[0] >= p.kh || p.padding[1] >= p.kw) {
        return None;
    }
    let [rows, columns] = if pass == Pass::InputGrad { [p.h, p.w] } else { [p.oh, p.ow] };
    let blocks = |channels: usize| channels.div_ceil(lanes) as f64;
    let products = products(p, pass, lanes);
    let cost = |s: &Sizes| {
        let (points, m) = ((s.points() * s.points()) as f64, s.outputs());
        let tiles = (p.n * rows.div_ceil(m) * columns.div_ceil(m)) as f64;
        let transforms = 8.0 * (blocks(p.cg) + blocks(p.og));
        // Their values are written to memory and read from there, those of their gradients more than once.
        let filters = if pass == Pass::WeightGrad { 48.0 } else { 20.0 } * products;
        points * (tiles * (1.15 * products + transforms) + filters)
    };
    let best = sizes.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    (cost(best) < direct).then_some(*best)
}

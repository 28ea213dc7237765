//! Convolutions with few channels and many pictures on OpenCL devices that are processors: the lanes of all vectors are
//! pictures, as [on the CPU](super::super::cpu), so nothing is gathered and no lane is wasted.
//!
//! A group turns a band of rows of a vector of pictures round, and does all that there is to do with it.

use crate::opencl::TileConfig;
use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::conv2d::Problem;
use crate::ops::conv2d::winograd::Pass;
use crate::ops::product::{activation_number, shared};
use neocog_base::Result;

/// The most channels of the side that has fewer.
const FEW: usize = 8;
/// The most of the other side: with more outputs the direct product's tiles are full, and here each is written to as many
/// places as there are lanes.
const OTHERS: usize = 32;
/// Pixels of the output to aim at in a band.
const BAND: usize = 128;
/// Bands to aim at, where the pictures alone do not give them.
const TASKS: usize = 16;
/// The most parts of the batch whose gradients are summed apart.
const PARTS: usize = 16;
/// The most columns of a window whose gradient has its tile in registers.
const TAPS: usize = 8;
/// The most bytes of local memory: what a thread's second cache surely holds.
const MEMORY: usize = 512 << 10;

/// How one convolution is done.
pub(super) struct Way {
    pass: Pass,
    width: usize,
    /// Channels, rows and columns, from what and to what.
    from: [usize; 3],
    to: [usize; 3],
    bands: usize,
    /// Outputs of a tile, and its pixels or taps.
    tile: [usize; 2],
    /// Floats of local memory: weights or their sums, pixels of the input, and of the output.
    memory: [usize; 3],
}

/// This way, if it is the faster one: a rule on shapes and on the device's memory.
pub(super) fn choose(call: &Call<'_>, p: &Problem, pass: Pass) -> Option<Way> {
    let TileConfig::Cpu(blocks) = call.tile_config() else { return None };
    let width = blocks.width;
    let fits = p.groups == 1
        && p.n > 0
        && p.dilation == [1, 1]
        && p.cg.min(p.og) <= FEW
        && p.cg.max(p.og) <= OTHERS
        // Three quarters of the lanes at least.
        && p.n * 4 >= p.n.next_multiple_of(width) * 3;
    let fits = fits
        && match pass {
            Pass::Forward => true,
            Pass::InputGrad => p.stride == [1, 1] && p.padding[0] < p.kh && p.padding[1] < p.kw,
            Pass::WeightGrad => p.kw <= TAPS,
        };
    let way = fits.then(|| Way::new(p, pass, width))?;
    (way.bytes() <= call.device().local_memory.min(MEMORY)).then_some(way)
}

impl Way {
    fn new(p: &Problem, pass: Pass, width: usize) -> Self {
        let (x, y) = ([p.cg, p.h, p.w], [p.og, p.oh, p.ow]);
        let (from, to) = if pass == Pass::InputGrad { (y, x) } else { (x, y) };
        // Vectors of sixteen come with 32 registers.
        let (most, wide) = match (pass, width) {
            (Pass::WeightGrad, 16) => (24 / p.kw, p.kw),
            (Pass::WeightGrad, _) => ((9 / p.kw).max(1), p.kw),
            (_, 16) => (8, 3),
            _ => (5, 2),
        };
        let outputs = to[0].div_ceil(to[0].div_ceil(most));
        let tile = [outputs, if pass == Pass::WeightGrad { wide } else { wide.min(to[2]) }];
        // Many small bands rather than idle threads, but each reads its window's rows again.
        let few = TASKS.div_ceil(p.n.div_ceil(width)).min(to[1].div_ceil(2));
        let bands = to[1].div_ceil((BAND / to[2]).max(1)).max(few);
        let rows = to[1].div_ceil(bands);
        let pixels = ((rows - 1) * p.stride[0] + p.kh) * ((to[2] - 1) * p.stride[1] + p.kw);
        let (weights, planes) = match pass {
            Pass::WeightGrad => (p.og * p.depth() * width, to[0]),
            _ => (from[0] * p.kh * p.kw * outputs, outputs),
        };
        let memory =
            [weights.next_multiple_of(width), from[0] * pixels * width, planes * rows * to[2] * width];
        Way { pass, width, from, to, bands, tile, memory }
    }

    /// Winograd's vectors are channels, and half empty with few outputs.
    pub fn is_better_than_winograd(&self) -> bool {
        2 * self.to[0] <= self.width
    }

    fn bytes(&self) -> usize {
        self.memory.iter().sum::<usize>() * size_of::<f32>()
    }

    /// The output, with the bias and the activation of `finish`.
    pub fn forward(
        &self,
        call: &Call<'_>,
        p: &Problem,
        x: &Buffer,
        weight: &Buffer,
        finish: (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let shift = p.padding.map(|padding| -int(padding));
        self.convolve(call, p, [x, weight, y], [p.kh * p.kw, p.depth()], p.flip, shift, finish)
    }

    /// A convolution with the filters turned round, from outputs to channels.
    pub fn input_grad(
        &self,
        call: &Call<'_>,
        p: &Problem,
        dy: &Buffer,
        weight: &Buffer,
        dx: &Buffer,
    ) -> Result<()> {
        let shift = [int(p.padding[0]) - int(p.kh - 1), int(p.padding[1]) - int(p.kw - 1)];
        self.convolve(call, p, [dy, weight, dx], [p.depth(), p.kh * p.kw], !p.flip, shift, (None, None))
    }

    /// `steps` are those of the weight, of a channel and of an output.
    #[allow(clippy::too_many_arguments, reason = "all that a convolution has")]
    fn convolve(
        &self,
        call: &Call<'_>,
        p: &Problem,
        [x, weight, y]: [&Buffer; 3],
        steps: [usize; 2],
        reverse: bool,
        shift: [i32; 2],
        (bias, activation): (Option<&Buffer>, Option<Activation>),
    ) -> Result<()> {
        let [kh, kw, down, right, bands, pictures] =
            [p.kh, p.kw, p.stride[0], p.stride[1], self.bands, p.n].map(int);
        let ways = [
            int(steps[0]),
            int(steps[1]),
            i32::from(reverse),
            i32::from(bias.is_some()),
            activation_number(activation),
            int(self.memory[0]),
            int(self.memory[1]),
            0,
        ];
        let args = [
            x.into(),
            weight.into(),
            bias.unwrap_or(weight).into(),
            y.into(),
            self.sides([x.len(), 0]),
            Arg::Int8([kh, kw, down, right, shift[0], shift[1], bands, pictures]),
            Arg::Int8(ways),
            Arg::Local(self.bytes()),
        ];
        let tasks = self.bands * p.n.div_ceil(self.width);
        call.launch(&self.source(), "convolve", &args, Grid::new([tasks], [1]))
    }

    /// Sums `[part, (channel, tap), output]`, and how many parts there are: the shapes decide that.
    pub fn weight_grad_sums(
        &self,
        call: &Call<'_>,
        p: &Problem,
        x: &Buffer,
        dy: &Buffer,
    ) -> Result<(Buffer, usize)> {
        let parts = PARTS.min(self.bands * p.n.div_ceil(self.width));
        let sums = call.scratch(parts * p.og * p.depth())?;
        let [kh, down, right, bands, pictures, count] =
            [p.kh, p.stride[0], p.stride[1], self.bands, p.n, parts].map(int);
        let [row, column] = p.padding.map(|padding| -int(padding));
        let args = [
            x.into(),
            dy.into(),
            (&sums).into(),
            self.sides([x.len(), dy.len()]),
            Arg::Int8([kh, down, right, row, column, bands, pictures, count]),
            self.memory[1].into(),
            Arg::Local(self.bytes()),
        ];
        call.launch(&self.source(), "weight_grad", &args, Grid::new([parts], [1]))?;
        Ok((sums, parts))
    }

    fn sides(&self, lengths: [usize; 2]) -> Arg<'static> {
        let ([c, h, w], [o, oh, ow]) = (self.from, self.to);
        Arg::Int8([c, h, w, o, oh, ow, lengths[0], lengths[1]].map(int))
    }

    fn source(&self) -> Source {
        let (source, wide) = match self.pass {
            Pass::WeightGrad => {
                (Source::new("abreast_weight_grad", include_str!("abreast_weight_grad.cl")), "TAPS")
            }
            _ => (Source::new("abreast", include_str!("abreast.cl")).insert(shared()), "PIXELS"),
        };
        source
            .define("WIDTH", self.width)
            .define("OUTPUTS", self.tile[0])
            .define(wide, self.tile[1])
            .insert(include_str!("strip.cl"))
    }
}

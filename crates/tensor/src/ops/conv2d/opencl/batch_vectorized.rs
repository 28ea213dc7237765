//! Batch-vectorized convolution for OpenCL devices that are processors, for few channels and many images: a
//! vector holds one pixel of several images, as in the [CPU's kernels](super::super::cpu), so nothing is
//! gathered and no lanes are wasted.
//!
//! A work-group transposes a band of rows of a vector of images in local memory and computes all outputs of
//! the band.

use super::backend::{Limits, OpenCl};
use super::{cost, weights, winograd};
use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, NOT_FASTER, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use crate::ops::product::{activation_number, shared};
use neocog_base::Result;

/// Maximum of the smaller of the numbers of input and output channels.
const MAX_CHANNELS: usize = 8;
/// Maximum of the larger: with more outputs the tiles of the implicit GEMM are full, and here a vector of
/// outputs is scattered to as many images as it has lanes.
const MAX_OTHER_CHANNELS: usize = 32;
/// Target number of output pixels of a band.
const BAND_PIXELS: usize = 128;
/// Target number of tasks, if there are fewer vectors of images.
const TASKS: usize = 16;
/// Maximum number of partial sums over parts of the batch.
const PARTS: usize = 16;
/// Maximum number of kernel columns whose weight gradient fits into a register tile.
const MAX_TAPS: usize = 8;
/// Maximum bytes of local memory for which it is fast: the L2 cache of a core is at least as large.
pub(super) const MEMORY: usize = 512 << 10;

/// The algorithm; see the module's documentation.
///
/// It cannot compute several groups and dilations, as its tiles hold neighboring pixels of all channels, input
/// gradients with a stride, which are no convolutions of the output gradient, and weight gradients of kernels more than
/// 8 columns wide, whose sums do not fit into registers. A band must fit into the local memory of a processor.
///
/// It is exact enough for all inputs: an output is the sum of its terms in single precision, one chain of all of them.
pub(super) struct BatchVectorized;

impl ConvAlgorithm<OpenCl> for BatchVectorized {
    fn name(&self) -> &'static str {
        "batch_vectorized"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<f64> {
        let parameters = BatchVectorizedConv::new(conv, pass, limits)?;
        let general = cost::implicit_gemm(conv, pass, limits);
        if !parameters.is_fastest(conv) {
            return Some(NOT_FASTER * general);
        }
        match winograd::estimated_cost(conv, pass, limits) {
            Some(cost) if parameters.is_faster_than_winograd() => Some(cost.min(general)),
            _ => Some(general),
        }
    }

    fn pack(&self, _call: &Call<'_>, _conv: &ConvShape, _weight: &Buffer) -> Result<Option<Buffer>> {
        Ok(None)
    }

    fn run(&self, call: &Call<'_>, conv: &ConvShape, operands: Operands<'_, OpenCl>) -> Result<()> {
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                let algorithm = BatchVectorizedConv::of(call, conv, Pass::Forward);
                algorithm.forward(call, conv, x, weight, (bias, activation), y)
            }
            Operands::InputGrad { dy, weight, dx } => {
                let algorithm = BatchVectorizedConv::of(call, conv, Pass::InputGrad);
                algorithm.input_grad(call, conv, dy, weight, dx)
            }
            Operands::WeightGrad { x, dy, dw } => {
                let algorithm = BatchVectorizedConv::of(call, conv, Pass::WeightGrad);
                let (sums, parts) = algorithm.weight_grad_sums(call, conv, x, dy)?;
                weights::reduce_grad(call, conv, &sums, parts, dw)
            }
        }
    }
}

/// The parameters of a batch-vectorized convolution.
pub(super) struct BatchVectorizedConv {
    pass: Pass,
    width: usize,
    /// Channels, rows and columns of the source.
    from: [usize; 3],
    /// Channels, rows and columns of the result; of `dy` for the weight gradient.
    to: [usize; 3],
    bands: usize,
    /// Outputs of a register tile, and its pixels or taps.
    tile: [usize; 2],
    /// Floats of local memory: weights or their sums, pixels of the source, pixels of the result.
    memory: [usize; 3],
}

impl BatchVectorizedConv {
    /// Returns the parameters of a pass that has a cost.
    fn of(call: &Call<'_>, conv: &ConvShape, pass: Pass) -> Self {
        BatchVectorizedConv::new(conv, pass, &Limits::of(call)).expect("a convolution that has a cost")
    }

    /// Returns the parameters, or `None` if the algorithm cannot compute the pass. Depends on the shapes and the
    /// device's local memory alone.
    pub(super) fn new(conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<Self> {
        let width = limits.tiles?.width;
        let [rows, columns] = if pass == Pass::InputGrad { [conv.h, conv.w] } else { [conv.oh, conv.ow] };
        let fits = conv.groups == 1
            && conv.n > 0
            && rows > 0
            && columns > 0
            && conv.dilation == [1, 1]
            && (pass != Pass::InputGrad || conv.stride == [1, 1])
            && (pass != Pass::WeightGrad || conv.kw <= MAX_TAPS);
        let parameters = fits.then(|| BatchVectorizedConv::with_width(conv, pass, width))?;
        (parameters.bytes() <= limits.local_memory).then_some(parameters)
    }

    /// Whether it is faster than the implicit GEMM.
    fn is_fastest(&self, conv: &ConvShape) -> bool {
        conv.in_per_group.min(conv.out_per_group) <= MAX_CHANNELS
            && conv.in_per_group.max(conv.out_per_group) <= MAX_OTHER_CHANNELS
            // At least three quarters of the lanes hold an image.
            && conv.n * 4 >= conv.n.next_multiple_of(self.width) * 3
            && (self.pass != Pass::InputGrad || conv.padding[0] < conv.kh && conv.padding[1] < conv.kw)
            && self.bytes() <= MEMORY
    }

    fn with_width(conv: &ConvShape, pass: Pass, width: usize) -> Self {
        let (x, y) = ([conv.in_per_group, conv.h, conv.w], [conv.out_per_group, conv.oh, conv.ow]);
        let (from, to) = if pass == Pass::InputGrad { (y, x) } else { (x, y) };
        // AVX-512, with vectors of 16 floats, has 32 registers.
        let (max_outputs, wide) = match (pass, width) {
            (Pass::WeightGrad, 16) => (24 / conv.kw, conv.kw),
            (Pass::WeightGrad, _) => ((9 / conv.kw).max(1), conv.kw),
            (_, 16) => (8, 3),
            _ => (5, 2),
        };
        let outputs = to[0].div_ceil(to[0].div_ceil(max_outputs));
        let tile = [outputs, if pass == Pass::WeightGrad { wide } else { wide.min(to[2]) }];
        // More bands give more tasks, but neighboring bands read the rows that both depend on twice.
        let min_bands = TASKS.div_ceil(conv.n.div_ceil(width)).min(to[1].div_ceil(2));
        let bands = to[1].div_ceil((BAND_PIXELS / to[2]).max(1)).max(min_bands);
        let rows = to[1].div_ceil(bands);
        let pixels = ((rows - 1) * conv.stride[0] + conv.kh) * ((to[2] - 1) * conv.stride[1] + conv.kw);
        let (weights, planes) = match pass {
            Pass::WeightGrad => (conv.out_per_group * conv.filter_len() * width, to[0]),
            _ => (from[0] * conv.kh * conv.kw * outputs, outputs),
        };
        let memory =
            [weights.next_multiple_of(width), from[0] * pixels * width, planes * rows * to[2] * width];
        BatchVectorizedConv { pass, width, from, to, bands, tile, memory }
    }

    /// Whether this is faster than the Winograd algorithm, whose vectors of channels are at most half full
    /// with few outputs. The weight gradient computes with all pairs of channels.
    fn is_faster_than_winograd(&self) -> bool {
        self.pass != Pass::WeightGrad && 2 * self.to[0] <= self.width
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.iter().sum::<usize>() * size_of::<f32>()
    }

    /// Computes the output, with the bias and activation of `epilogue`.
    fn forward(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        x: &Buffer,
        weight: &Buffer,
        epilogue: (Option<&Buffer>, Option<Activation>),
        y: &Buffer,
    ) -> Result<()> {
        let shift = conv.padding.map(|padding| -int(padding));
        self.convolve(
            call,
            conv,
            [x, weight, y],
            [conv.kh * conv.kw, conv.filter_len()],
            conv.flip,
            shift,
            epilogue,
        )
    }

    /// Computes the gradient of the input: a convolution of `dy` with the rotated filters.
    fn input_grad(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        dy: &Buffer,
        weight: &Buffer,
        dx: &Buffer,
    ) -> Result<()> {
        let shift = conv.input_grad_shift().map(|shift| shift as i32);
        self.convolve(
            call,
            conv,
            [dy, weight, dx],
            [conv.filter_len(), conv.kh * conv.kw],
            !conv.flip,
            shift,
            (None, None),
        )
    }

    /// Launches the convolution; `strides` are those of the weight, from one source channel and from one
    /// output to the next.
    #[allow(clippy::too_many_arguments, reason = "the operands of a convolution")]
    fn convolve(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        [x, weight, y]: [&Buffer; 3],
        strides: [usize; 2],
        reverse: bool,
        shift: [i32; 2],
        (bias, activation): (Option<&Buffer>, Option<Activation>),
    ) -> Result<()> {
        let [kh, kw, down, right, bands, images] =
            [conv.kh, conv.kw, conv.stride[0], conv.stride[1], self.bands, conv.n].map(int);
        let options = [
            int(strides[0]),
            int(strides[1]),
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
            Arg::Int8([kh, kw, down, right, shift[0], shift[1], bands, images]),
            Arg::Int8(options),
            Arg::Local(self.bytes()),
        ];
        let tasks = self.bands * conv.n.div_ceil(self.width);
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "convolve", &args, Grid::new([tasks], [1])) }
    }

    /// Computes the weight gradient as partial sums `[part, (channel, tap), output]`, and returns them with
    /// the number of parts, which depends on the shapes alone.
    fn weight_grad_sums(
        &self,
        call: &Call<'_>,
        conv: &ConvShape,
        x: &Buffer,
        dy: &Buffer,
    ) -> Result<(Buffer, usize)> {
        let parts = PARTS.min(self.bands * conv.n.div_ceil(self.width));
        let sums = call.scratch(parts * conv.out_per_group * conv.filter_len())?;
        let [kh, down, right, bands, images, count] =
            [conv.kh, conv.stride[0], conv.stride[1], self.bands, conv.n, parts].map(int);
        let [row, column] = conv.padding.map(|padding| -int(padding));
        let args = [
            x.into(),
            dy.into(),
            (&sums).into(),
            self.sides([x.len(), dy.len()]),
            Arg::Int8([kh, down, right, row, column, bands, images, count]),
            self.memory[1].into(),
            Arg::Local(self.bytes()),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "weight_grad", &args, Grid::new([parts], [1])) }?;
        Ok((sums, parts))
    }

    fn sides(&self, lengths: [usize; 2]) -> Arg<'static> {
        let ([c, h, w], [o, oh, ow]) = (self.from, self.to);
        Arg::Int8([c, h, w, o, oh, ow, lengths[0], lengths[1]].map(int))
    }

    fn source(&self) -> Source {
        let (source, wide) = match self.pass {
            Pass::WeightGrad => {
                let text = include_str!("batch_vectorized_weight_grad.cl");
                (Source::new("batch_vectorized_weight_grad", text), "TAPS")
            }
            _ => {
                let text = include_str!("batch_vectorized.cl");
                (Source::new("batch_vectorized", text).insert(shared()), "PIXELS")
            }
        };
        source
            .define("WIDTH", self.width)
            .define("OUTPUTS", self.tile[0])
            .define(wide, self.tile[1])
            .insert(include_str!("transposed_tile.cl"))
    }
}

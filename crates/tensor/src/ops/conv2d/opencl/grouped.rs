//! Convolution of groups of few channels on OpenCL devices that are processors (`grouped.cl`); with one input channel each it is
//! depthwise. It is like [the CPU's](super::super::cpu) algorithms `depthwise` and `grouped`.

use super::backend::{Limits, OpenCl};
use super::{cost, weights};
use crate::opencl::{Arg, Buffer, Call, Grid, Source, int};
use crate::ops::Activation;
use crate::ops::conv2d::algorithm::{ConvAlgorithm, Operands};
use crate::ops::conv2d::shape::{ConvShape, Pass};
use crate::ops::product::{activation_number, shared};
use neocog_base::Result;

/// Number of multiply-adds of a task, about.
const TASK_MULTIPLY_ADDS: usize = 1 << 18;
/// Number of rows that are computed before the next columns are: they are neighbors in memory, too.
const BAND: usize = 16;
/// Maximum number of input or output channels of a group. With more, the tiles of the implicit GEMM are full.
const MAX_CHANNELS: usize = 8;

/// The algorithm; see the module's documentation.
///
/// It computes square kernels of 3, 5 and 7 without dilation, with strides of 1 and 2. The planes of a group must fit into local memory.
/// It is exact enough for all inputs: an output is the sum of its taps in one chain, and a weight's gradient the sum over images of
/// chains over one image.
pub(super) struct Grouped;

impl ConvAlgorithm<OpenCl> for Grouped {
    fn name(&self) -> &'static str {
        "grouped"
    }

    fn cost(&self, conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<f64> {
        Planes::new(conv, pass, limits)?;
        // The others compute with rows of several outputs, of which only one is used.
        Some(0.5 * cost::implicit_gemm(conv, pass, limits))
    }

    fn pack(&self, _call: &Call<'_>, _conv: &ConvShape, _weight: &Buffer) -> Result<Option<Buffer>> {
        Ok(None)
    }

    fn run(&self, call: &Call<'_>, conv: &ConvShape, operands: Operands<'_, OpenCl>) -> Result<()> {
        let planes = |pass| Planes::new(conv, pass, &Limits::of(call)).expect("it has a cost");
        match operands {
            Operands::Forward { x, weight, bias, activation, y, .. } => {
                planes(Pass::Forward).convolve(call, [x, weight, y], (bias, activation))
            }
            Operands::InputGrad { dy, weight, dx } if conv.stride == [1, 1] => {
                planes(Pass::InputGrad).convolve(call, [dy, weight, dx], (None, None))
            }
            Operands::InputGrad { dy, weight, dx } => {
                planes(Pass::InputGrad).strided_input_grad(call, [dy, weight, dx])
            }
            Operands::WeightGrad { x, dy, dw } => {
                planes(Pass::WeightGrad).weight_grad(call, conv, [x, dy, dw])
            }
        }
    }
}

/// The planes of a pass, and the copy of one.
struct Planes {
    images: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
    /// Planes of the source and of the result in a group.
    planes: [usize; 2],
    /// Floats of the weight from one plane of the result, and of the source, to the next.
    weight_steps: [usize; 2],
    /// The padding above and at the left of the plane that is copied.
    padding: [usize; 2],
    /// Height and width of the source of the pass: of `dy` for the input gradient, else of `x`.
    from: [usize; 2],
    /// Height and width of the result of the pass; of `dy` for the weight gradient.
    to: [usize; 2],
    /// Whether the taps are read backwards.
    reverse: bool,
    width: usize,
    /// Rows of the copy, and columns of a phase.
    copy: [usize; 2],
    /// Floats of local memory.
    memory: usize,
    /// See [`ConvShape::weight_grad_blocks`].
    blocks: [usize; 2],
}

impl Planes {
    /// Returns the planes, or `None` if the algorithm cannot compute the pass.
    fn new(conv: &ConvShape, pass: Pass, limits: &Limits) -> Option<Self> {
        let (kernel, stride) = (conv.kh, conv.stride[0]);
        let (x, y) = ([conv.h, conv.w], [conv.oh, conv.ow]);
        let fits = conv.n > 0
            && conv.groups > 1
            && conv.in_per_group.max(conv.out_per_group) <= MAX_CHANNELS
            && [3, 5, 7].contains(&kernel)
            && conv.kw == kernel
            && conv.dilation == [1, 1]
            && (conv.stride == [1, 1] || conv.stride == [2, 2])
            && conv.padding.iter().all(|&padding| padding < kernel)
            && x.iter().chain(&y).all(|&size| size > 0);
        if !fits {
            return None;
        }
        let is_correlation = pass == Pass::InputGrad && stride == 1;
        let (from, to) = if pass == Pass::InputGrad { (y, x) } else { (x, y) };
        let padding = if is_correlation { conv.padding.map(|p| kernel - 1 - p) } else { conv.padding };
        let is_strided_input_grad = pass == Pass::InputGrad && stride == 2;
        let io = [conv.in_per_group, conv.out_per_group];
        let [sources, results] = if pass == Pass::InputGrad { [io[1], io[0]] } else { io };
        let taps = kernel * kernel;
        let weight_steps = [io[0] * taps, taps];
        // The vectors of a strided input gradient are those of its even and of its odd columns.
        let columns = if is_strided_input_grad { to[1].div_ceil(2) } else { to[1] };
        let width = limits.tiles?.width.min(columns.next_power_of_two());
        let copy = if is_strided_input_grad {
            // Zeros for half a kernel on each side, and behind the last vector.
            let ends = [to[0].div_ceil(2), columns.next_multiple_of(width)];
            [0, 1].map(|axis| kernel / 2 + (ends[axis] + kernel / 2).max(from[axis]) + 1)
        } else {
            [(to[0] + (kernel - 1) / stride) * stride, to[1] + (kernel - 1) / stride]
        };
        let [block, parts] = conv.weight_grad_blocks();
        let behind = match pass {
            Pass::WeightGrad => to[0] * to[1] + width + block * results * sources * taps * width,
            _ if is_strided_input_grad => 2 * to[1].div_ceil(2) + 2 * width + sources * taps,
            // A short row is read as a vector.
            _ => width + sources * taps,
        };
        let phases = if is_strided_input_grad { 1 } else { stride };
        let planes = Planes {
            images: conv.n,
            groups: conv.groups,
            kernel,
            stride,
            planes: [sources, results],
            weight_steps: if pass == Pass::InputGrad {
                [weight_steps[1], weight_steps[0]]
            } else {
                weight_steps
            },
            padding,
            from,
            to,
            reverse: conv.flip != is_correlation,
            width,
            copy,
            memory: sources * phases * copy[0] * copy[1] + behind,
            blocks: [block, parts],
        };
        (planes.memory * size_of::<f32>() <= limits.local_memory).then_some(planes)
    }

    fn source(&self) -> Source {
        let (width, row) = (self.width, self.to[1]);
        let source = Source::new("grouped", include_str!("grouped.cl"))
            .define("WIDTH", width)
            .define("KERNEL", self.kernel)
            .define("STRIDE", self.stride)
            .define("SOURCES", self.planes[0])
            .define("BEFORE", if self.stride == 2 { self.padding[1] % 2 } else { 0 })
            .define("IS_SHORT", i32::from(row < width))
            .insert(shared());
        if row >= width {
            return source;
        }
        // The lanes of the last half vector of a row.
        let lanes: String = (row.saturating_sub(width / 2)..row)
            .filter_map(|lane| char::from_digit(lane as u32, 16))
            .collect();
        source.define("SHORT_WIDTH", row).define("UPPER(v)", format_args!("((v).s{lanes})"))
    }

    /// Returns the size of the plane that is copied and of the copy, for `copy_plane`.
    fn size(&self) -> Arg<'static> {
        let ([h, w], [top, left], [rows, columns]) = (self.from, self.padding, self.copy);
        Arg::Int8([h, w, top, left, rows, columns, 0, 0].map(int))
    }

    /// Returns the number of tasks for the groups of all images.
    fn tasks(&self) -> usize {
        let pixels = self.to[0] * self.to[1] * self.planes[0] * self.planes[1];
        let each = pixels * self.kernel * self.kernel / (self.stride * self.stride);
        (self.images * self.groups).div_ceil((TASK_MULTIPLY_ADDS / each.max(1)).max(1))
    }

    /// Returns the size of the result, for the kernels.
    fn result(&self, tasks: usize) -> Arg<'static> {
        let [height, width] = self.to;
        let groups = [self.images * self.groups, self.groups];
        Arg::Int8([height, width, groups[0], groups[1], tasks, BAND, self.planes[1], 0].map(int))
    }

    fn local(&self) -> Arg<'static> {
        Arg::Local(self.memory * size_of::<f32>())
    }

    /// Computes a correlation, with the bias and activation of an epilogue.
    fn convolve(
        &self,
        call: &Call<'_>,
        [x, weight, y]: [&Buffer; 3],
        (bias, activation): (Option<&Buffer>, Option<Activation>),
    ) -> Result<()> {
        let tasks = self.tasks();
        let [reverse, has_bias] = [self.reverse, bias.is_some()].map(i32::from);
        let steps = self.weight_steps.map(int);
        let args = [
            x.into(),
            weight.into(),
            bias.unwrap_or(weight).into(),
            y.into(),
            self.size(),
            self.result(tasks),
            Arg::Int8([reverse, has_bias, activation_number(activation), steps[0], steps[1], 0, 0, 0]),
            self.local(),
        ];
        // SAFETY: `check_call` has compared shapes and buffers, within which the kernel stays.
        unsafe { call.launch(&self.source(), "convolve", &args, Grid::new([tasks], [1])) }
    }

    /// Computes the gradient of the input with a stride of 2.
    fn strided_input_grad(&self, call: &Call<'_>, [dy, weight, dx]: [&Buffer; 3]) -> Result<()> {
        let tasks = self.tasks();
        let source = [self.from[0], self.from[1], self.copy[0], self.copy[1], self.kernel / 2, 0, 0, 0];
        let ([result_step, source_step], [top, left]) = (self.weight_steps, self.padding);
        let options = [usize::from(self.reverse), 0, 0, result_step, source_step, top, left, 0];
        let args = [
            dy.into(),
            weight.into(),
            dx.into(),
            Arg::Int8(source.map(int)),
            self.result(tasks),
            Arg::Int8(options.map(int)),
            self.local(),
        ];
        // SAFETY: as above.
        unsafe { call.launch(&self.source(), "input_grad", &args, Grid::new([tasks], [1])) }
    }

    /// Computes the weight gradient. Several parts of the batch, whose number depends on the shapes alone, are added afterwards.
    fn weight_grad(&self, call: &Call<'_>, conv: &ConvShape, [x, dy, dw]: [&Buffer; 3]) -> Result<()> {
        let ([block, parts], [sources, results]) = (self.blocks, self.planes);
        let tasks = self.groups.div_ceil(block);
        let sums = (parts > 1).then(|| call.scratch(parts * dw.len())).transpose()?;
        let [height, width] = self.to;
        let result = [height, width, self.images, self.groups, parts, BAND, block, tasks];
        let options = [results, usize::from(parts == 1), usize::from(self.reverse), 0, 0, 0, 0, 0];
        debug_assert_eq!(dw.len(), self.groups * results * sources * self.kernel * self.kernel);
        let args = [
            x.into(),
            dy.into(),
            sums.as_ref().unwrap_or(dw).into(),
            self.size(),
            Arg::Int8(result.map(int)),
            Arg::Int8(options.map(int)),
            self.local(),
        ];
        // SAFETY: as above.
        unsafe { call.launch(&self.source(), "weight_grad", &args, Grid::new([parts * tasks], [1])) }?;
        sums.map_or(Ok(()), |sums| weights::reduce_grad(call, conv, &sums, parts, dw))
    }
}

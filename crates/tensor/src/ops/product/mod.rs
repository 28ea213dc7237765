//! Matrix products on OpenCL devices, `c = activation(a b + bias)`: the basis of matmul, linear layers and convolutions.
//!
//! `a` is read in place. `b` is gathered (implicit GEMM): its rows are channels and kernel taps, its columns are pixels of
//! images, so a convolution never stores an im2col buffer. Gathering requires that the pixels of a row are contiguous and that
//! all taps of all pixels are within the image: [`PadAndSplit`] pads images with zeros, and groups their columns by phases of the
//! stride. A plain matrix is one image of one row, with a channel for each of its rows.
//!
//! There are kernels for processors (`cpu.cl`) and for GPUs (`gpu.cl`); `gather.cl` is shared.

use std::sync::OnceLock;

use crate::core::call::Call;
use crate::cpu::Activation;
use crate::opencl::formula::function;
use crate::opencl::{Arg, Buffer, CpuTiles, Grid, Source, TileConfig, WORK_GROUP_SIDE, int};
use neocog_base::{Error, Result};

/// The left matrix `a[group, row, k]`, given by its strides.
#[derive(Clone, Copy)]
pub(crate) struct LeftMatrix<'a> {
    pub buffer: &'a Buffer,
    /// Number of rows of a group.
    pub count: usize,
    pub group: usize,
    pub row: usize,
    /// Stride of `k`; negative to read backwards.
    pub number: i32,
    pub first: usize,
}

/// The right matrix, gathered from images.
#[derive(Clone, Copy)]
pub(crate) struct Gather<'a> {
    pub buffer: &'a Buffer,
    pub images: usize,
    /// Rows of an image, and columns of a row.
    pub size: [usize; 2],
    pub channels: usize,
    pub taps: [usize; 2],
    /// Strides.
    pub group: usize,
    pub image: usize,
    pub row: usize,
    pub channel: i32,
    /// Stride of taps; of columns in the image before it was split into phases.
    pub tap: [i32; 2],
    /// Number of phases of the columns, and their stride.
    pub phases: [usize; 2],
    pub first: usize,
}

/// The result `c[group, row, image, line, pixel]`, given by its strides.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub buffer: &'a Buffer,
    pub group: usize,
    pub row: usize,
    pub image: usize,
    pub line: usize,
    pub pixel: usize,
    pub first: usize,
}

/// A product of `groups` pairs of matrices.
pub(crate) struct Product<'a> {
    pub groups: usize,
    pub a: LeftMatrix<'a>,
    pub b: Gather<'a>,
    /// One number for each row of each group.
    pub bias: Option<&'a Buffer>,
    pub activation: Option<Activation>,
    pub c: Target<'a>,
}

impl<'a> Gather<'a> {
    /// A row-major matrix.
    pub fn matrix(buffer: &'a Buffer, rows: usize, columns: usize) -> Self {
        Gather {
            buffer,
            images: 1,
            size: [1, columns],
            channels: rows,
            taps: [1; 2],
            group: 0,
            image: 0,
            row: 0,
            channel: int(columns),
            tap: [0; 2],
            phases: [1, 0],
            first: 0,
        }
    }

    fn columns(&self) -> usize {
        self.images * self.size[0] * self.size[1]
    }

    fn depth(&self) -> usize {
        self.channels * self.taps[0] * self.taps[1]
    }

    /// Returns the kernel arguments.
    ///
    /// # Errors
    /// If a step or position, as those of huge strides and dilations, does not fit into 31 bits.
    fn args(&self) -> Result<[Arg<'a>; 3]> {
        let [rows, pixels] = self.size;
        let sizes = [self.columns(), rows, pixels, self.channels, self.taps[0], self.taps[1], 0, 0];
        let steps = [self.image, self.row, 0, 0, 0, self.phases[0], 0, 0];
        let start = [self.buffer.len(), self.first, self.group, self.phases[1], 0, 0, 0, 0];
        let all = [sizes, steps, start];
        if let Some(value) = all.iter().flatten().find(|&&value| i32::try_from(value).is_err()) {
            return Err(Error::shape(format!(
                "sizes are too large for an OpenCL device, which computes positions with 31 bits: a step of {value} elements"
            )));
        }
        let [sizes, mut steps, start] = all.map(|values| values.map(int));
        [steps[2], steps[3], steps[4]] = [self.channel, self.tap[0], self.tap[1]];
        Ok([Arg::Int8(sizes), Arg::Int8(steps), Arg::Int8(start)])
    }
}

impl Product<'_> {
    /// Checks that the strides stay within the buffers; the kernels themselves check the gathered matrix.
    ///
    /// # Panics
    /// If they do not.
    fn check(&self) {
        let (a, b, c) = (&self.a, &self.b, &self.c);
        let last = |count: usize, step: usize| count.saturating_sub(1) * step;
        if self.groups * a.count * b.columns() == 0 {
            return;
        }
        let to = last(self.groups, c.group) + last(a.count, c.row) + c.first;
        let to = to + last(b.images, c.image) + last(b.size[0], c.line) + last(b.size[1], c.pixel);
        assert!(to < c.buffer.len(), "the result of a product exceeds its buffer");
        let rows = last(self.groups, a.group) + last(a.count, a.row) + a.first;
        let depth = last(b.depth(), a.number.unsigned_abs() as usize);
        let inside = if a.number < 0 {
            depth <= a.first && rows < a.buffer.len()
        } else {
            rows + depth < a.buffer.len()
        };
        assert!(inside || b.depth() == 0, "the left matrix of a product exceeds its buffer");
        let biases = self.bias.map(Buffer::len);
        assert!(biases.is_none_or(|len| len >= self.groups * a.count), "the bias of a product is too short");
    }

    /// Computes the product.
    pub fn run(&self, call: &Call<'_>) -> Result<()> {
        self.check();
        let LeftMatrix { count, group, row, number, first, .. } = self.a;
        let a_steps = [int(count), int(group), int(row), number, int(first), 0, 0, 0];
        let Target { buffer: c, .. } = self.c;
        let c_steps = [
            self.c.group,
            self.c.row,
            self.c.image,
            self.c.line,
            self.c.pixel,
            self.c.first,
            usize::from(self.bias.is_some()),
            0,
        ];
        let [sizes, steps, start] = self.b.args()?;
        let mut args = vec![
            self.a.buffer.into(),
            Arg::Int8(a_steps),
            self.b.buffer.into(),
            sizes,
            steps,
            start,
            self.bias.unwrap_or(self.a.buffer).into(),
            c.into(),
            Arg::Int8(c_steps.map(int)),
            Arg::Int(activation_number(self.activation)),
        ];
        let columns = self.b.columns();
        let tiles = call.tile_config();
        let source = program(&tiles);
        match tiles {
            TileConfig::Cpu(tiles) => {
                let tiles = tiles.for_product(call.device(), count, columns, self.b.depth(), self.groups);
                args.extend([
                    tiles.rows.into(),
                    tiles.panels.into(),
                    tiles.depth.into(),
                    Arg::Local(tiles.product_memory() * size_of::<f32>()),
                ]);
                let across = columns.div_ceil(tiles.panels * tiles.panel());
                let grid = Grid::new([across, count.div_ceil(tiles.rows), self.groups], [1, 1, 1]);
                // SAFETY: `check` has compared the strides with the buffers, within which the kernel stays.
                unsafe { call.launch(&source, "product", &args, grid) }
            }
            TileConfig::Gpu(tiles) => {
                let groups = [columns, count].map(|n| n.div_ceil(tiles.tile()) * WORK_GROUP_SIDE);
                let grid =
                    Grid::new([groups[0], groups[1], self.groups], [WORK_GROUP_SIDE, WORK_GROUP_SIDE, 1]);
                // SAFETY: `check` has compared the strides with the buffers, within which the kernel stays.
                unsafe { call.launch(&source, "product", &args, grid) }
            }
        }
    }
}

/// Computes the gradient of a convolution's weight as partial sums `sums[part, group, (channel, tap), o]` over the pixels of
/// `b` and of `dy [pixel, group, o]`. Returns them and the number of parts, which depends on shapes only.
pub(crate) fn weight_grad_sums(
    call: &Call<'_>,
    groups: usize,
    outputs: usize,
    b: &Gather<'_>,
    dy: &Buffer,
) -> Result<(Buffer, usize)> {
    let (pixels, depth) = (b.columns(), b.depth());
    assert!(dy.len() >= pixels * groups * outputs, "the gradient is shorter than its pixels");
    let tiles = call.tile_config();
    let source = program(&tiles);
    let [sizes, steps, start] = b.args()?;
    match tiles {
        TileConfig::Cpu(tiles) => {
            let tiles = tiles.for_weight_grad(call.device(), depth, outputs, pixels);
            let tasks = depth.div_ceil(tiles.rows) * outputs.div_ceil(tiles.panels * tiles.panel());
            let (parts, part) = parts_of(pixels, tasks * groups, 16, tiles.depth);
            let sums = call.scratch(parts * groups * depth * outputs)?;
            let args = [
                b.buffer.into(),
                sizes,
                steps,
                start,
                dy.into(),
                (&sums).into(),
                outputs.into(),
                groups.into(),
                part.into(),
                tiles.rows.into(),
                tiles.panels.into(),
                tiles.depth.into(),
                Arg::Local(tiles.weight_grad_memory() * size_of::<f32>()),
            ];
            // SAFETY: the sizes were checked above; the kernel stays within them.
            unsafe {
                call.launch(&source, "weight_grad", &args, Grid::new([tasks, parts, groups], [1, 1, 1]))
            }?;
            Ok((sums, parts))
        }
        TileConfig::Gpu(tiles) => {
            let squares = [outputs, depth].map(|n| n.div_ceil(tiles.tile()));
            let (parts, part) = parts_of(pixels, squares[0] * squares[1] * groups, 512, 256);
            let sums = call.scratch(parts * groups * depth * outputs)?;
            let args = [
                b.buffer.into(),
                sizes,
                steps,
                start,
                dy.into(),
                (&sums).into(),
                outputs.into(),
                groups.into(),
                part.into(),
            ];
            let side = WORK_GROUP_SIDE;
            let grid = Grid::new([squares[0] * side, squares[1] * side, groups * parts], [side, side, 1]);
            // SAFETY: the sizes were checked above; the kernel stays within them.
            unsafe { call.launch(&source, "weight_grad", &args, grid) }?;
            Ok((sums, parts))
        }
    }
}

/// Returns the number of parts of a sum over `pixels` such that `tasks` become `enough`, and the size of a part, a multiple of
/// `block`.
fn parts_of(pixels: usize, tasks: usize, enough: usize, block: usize) -> (usize, usize) {
    let parts = enough.div_ceil(tasks).min(pixels.div_ceil(block)).max(1);
    let part = pixels.div_ceil(parts).next_multiple_of(block);
    (pixels.div_ceil(part), part)
}

/// Pads channel planes with zeros and splits their columns by phases of the stride, so that they can be gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PadAndSplit {
    /// Number of channel planes.
    pub planes: usize,
    /// Rows and columns of the input.
    pub size: [usize; 2],
    /// Rows and columns of each phase.
    pub padded: [usize; 2],
    /// Number of phases of the columns; others are omitted.
    pub phases: usize,
    /// Stride of the rows, and of the columns within a phase.
    pub stride: [usize; 2],
    /// Rows of zeros above, and columns of zeros to the left.
    pub padding: [usize; 2],
}

impl PadAndSplit {
    /// Whether the output equals the input.
    pub fn is_identity(&self) -> bool {
        let [rows, columns] = self.padded;
        self.stride == [1, 1] && self.padding == [0, 0] && rows <= self.size[0] && columns <= self.size[1]
    }

    /// Returns the number of elements of an output plane.
    pub fn plane_len(&self) -> usize {
        self.phases * self.padded[0] * self.padded[1]
    }

    /// Computes the output.
    ///
    /// # Errors
    /// If a size or the number of elements does not fit into 31 bits, or memory cannot be allocated.
    pub fn run(&self, call: &Call<'_>, x: &Buffer) -> Result<Buffer> {
        assert!(x.len() >= self.planes * self.size[0] * self.size[1], "the input is shorter than its planes");
        let [rows, columns] = self.padded;
        let factors = [self.planes, self.phases, rows, columns];
        let len = factors.iter().try_fold(1usize, |len, &factor| len.checked_mul(factor.max(1)));
        let sizes = self.size.iter().chain(&self.stride).chain(&self.padding);
        if len.into_iter().chain(sizes.copied()).any(|size| i32::try_from(size).is_err()) || len.is_none() {
            return Err(Error::shape(format!(
                "sizes are too large for an OpenCL device, which computes positions with 31 bits: {} planes of {rows} x {columns} \
                 for each of {} phases of the stride {:?}, with padding {:?}",
                self.planes, self.phases, self.stride, self.padding
            )));
        }
        let out = call.scratch(self.planes * self.plane_len())?;
        let sizes = [self.planes, self.phases, rows, columns, self.size[0], self.size[1], 0, 0].map(int);
        let layout = [self.stride[0], self.stride[1], self.padding[0], self.padding[1], 0, 0, 0, 0].map(int);
        let args = [x.into(), (&out).into(), Arg::Int8(sizes), Arg::Int8(layout)];
        let items = if call.on_cpu() { self.planes * self.phases * rows } else { out.len() };
        // SAFETY: the sizes were checked above; the kernel stays within them.
        unsafe {
            call.launch(&program(&call.tile_config()), "pad_and_split_phases", &args, Grid::line(items))
        }?;
        Ok(out)
    }
}

/// Transposes the last two axes of `[batches, rows, columns]`; `None` if the elements are in the same order.
pub(crate) fn transposed(
    call: &Call<'_>,
    from: &Buffer,
    batches: usize,
    [rows, columns]: [usize; 2],
) -> Result<Option<Buffer>> {
    if rows <= 1 || columns <= 1 || batches == 0 {
        return Ok(None);
    }
    assert_eq!(from.len(), batches * rows * columns, "the matrices have these sizes");
    let to = call.scratch(from.len())?;
    let args = [from.into(), (&to).into(), batches.into(), rows.into(), columns.into()];
    let tiles = call.tile_config();
    let grid = match tiles {
        TileConfig::Cpu(tiles) => {
            Grid::line(batches * rows.div_ceil(tiles.width) * columns.div_ceil(tiles.width))
        }
        TileConfig::Gpu(_) => Grid::new([columns, rows, batches], [WORK_GROUP_SIDE, WORK_GROUP_SIDE, 1]),
    };
    // SAFETY: the sizes were checked above; the kernel stays within them.
    unsafe { call.launch(&program(&tiles), "transpose", &args, grid) }?;
    Ok(Some(to))
}

/// Returns the number of an activation in the function `activated` of the kernels.
pub(crate) fn activation_number(activation: Option<Activation>) -> i32 {
    i32::from(Activation::number(activation))
}

/// Returns the program of all kernels.
fn program(tiles: &TileConfig) -> Source {
    match tiles {
        TileConfig::Cpu(CpuTiles { width, tile_rows, vectors, .. }) => {
            let lanes: Vec<String> = (0..*width).map(|i| i.to_string()).collect();
            Source::new("product", include_str!("cpu.cl"))
                .define("WIDTH", width)
                .define("LANES", format_args!("(int{width})({})", lanes.join(", ")))
                .define("ROWS", tile_rows)
                .define("VECTORS", vectors)
                .insert(shared())
        }
        TileConfig::Gpu(tiles) => Source::new("product", include_str!("gpu.cl"))
            .define("WIDTH", 1)
            .define("ITEM", tiles.item)
            .insert(shared()),
    }
}

/// Returns the code that is inserted before the kernels: activations and `gather.cl`.
pub(crate) fn shared() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = String::new();
        let mut choice =
            String::from("real activated(real x, int activation) {\n    switch (activation) {\n");
        for activation in Activation::ALL {
            let number = activation_number(Some(*activation));
            text += &function(&format!("activation{number}"), |[x]| activation.apply(x));
            choice += &format!("    case {number}:\n        return activation{number}(x);\n");
        }
        text += &choice;
        text += "    default:\n        return x;\n    }\n}\n\n";
        text.push_str(include_str!("gather.cl"));
        text
    })
}

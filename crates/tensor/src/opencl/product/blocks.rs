//! How the work of a product is cut on a device.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::shared;
use crate::opencl::{DeviceInfo, Kind, Source};

/// Items along each side of a graphics card's work-groups.
pub(super) const SIDE: usize = 16;

/// So many floats surely fit into a processor's first cache.
const IN_FIRST_CACHE: usize = 6 << 10;

/// The sizes that decide how fast products are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TileConfig {
    Cpu(CpuBlocks),
    Gpu(GpuBlocks),
}

/// Those of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuBlocks {
    /// Floats of a vector.
    pub width: usize,
    /// Rows of a tile in registers.
    pub tile_rows: usize,
    /// Vectors of a tile: 2 or 3.
    pub vectors: usize,
    /// Rows, panels and depth that a task keeps in the cache.
    pub rows: usize,
    pub panels: usize,
    pub depth: usize,
}

/// Those of graphics cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GpuBlocks {
    /// Results along each side of an item's square.
    pub item: usize,
}

impl TileConfig {
    /// How many sizes are tuned, one after the other.
    pub const TUNED_SIZES: usize = 4;

    /// Those of a device that was not tuned.
    pub fn untuned(info: &DeviceInfo) -> Self {
        match info.kind {
            Kind::Cpu => TileConfig::Cpu(CpuBlocks::of(info)),
            Kind::Gpu | Kind::Other => TileConfig::Gpu(GpuBlocks { item: 4 }),
        }
    }

    /// Choices for size `step`, this one among them.
    pub fn variants(self, step: usize, info: &DeviceInfo) -> Vec<Self> {
        let blocks = match self {
            TileConfig::Gpu(_) if step == 0 => {
                return [4, 8, 2].map(|item| TileConfig::Gpu(GpuBlocks { item })).to_vec();
            }
            TileConfig::Gpu(_) => return vec![self],
            TileConfig::Cpu(blocks) => blocks,
        };
        let choices = match step {
            0 => {
                let mut tiles = vec![(blocks.width, blocks.tile_rows, blocks.vectors)];
                if info.vector_width >= 16 {
                    tiles.extend([(16, 8, 3), (16, 12, 2), (16, 14, 2)]);
                }
                tiles.extend([(8, 4, 3), (8, 6, 2)]);
                tiles
                    .iter()
                    .map(|&(width, tile_rows, vectors)| CpuBlocks { width, tile_rows, vectors, ..blocks })
                    .collect::<Vec<_>>()
            }
            1 => [256, 128, 384, 512].map(|depth| CpuBlocks { depth, ..blocks }).to_vec(),
            2 => [2, 1, 4].map(|panels| CpuBlocks { panels, ..blocks }).to_vec(),
            _ => [256, 128, 512].map(|rows| CpuBlocks { rows, ..blocks }).to_vec(),
        };
        choices.into_iter().map(TileConfig::Cpu).collect()
    }

    /// Whether these can be those of a device of this kind: what was read from a file may be anything.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only devices are asked"))]
    pub fn is_sound(&self, info: &DeviceInfo) -> bool {
        match self {
            TileConfig::Cpu(b) => {
                let most = 1 << 14;
                info.kind == Kind::Cpu
                    && [4, 8, 16].contains(&b.width)
                    && (1..=32).contains(&b.tile_rows)
                    && (2..=3).contains(&b.vectors)
                    && [b.rows, b.panels, b.depth].iter().all(|n| (1..=most).contains(n))
            }
            TileConfig::Gpu(b) => info.kind != Kind::Cpu && [2, 4, 8].contains(&b.item),
        }
    }

    /// The program.
    pub fn source(&self) -> Source {
        match self {
            TileConfig::Cpu(CpuBlocks { width, tile_rows, vectors, .. }) => {
                let lanes: Vec<String> = (0..*width).map(|i| i.to_string()).collect();
                Source::new("product", include_str!("cpu.cl"))
                    .define("WIDTH", width)
                    .define("LANES", format_args!("(int{width})({})", lanes.join(", ")))
                    .define("ROWS", tile_rows)
                    .define("VECTORS", vectors)
                    .insert(shared())
            }
            TileConfig::Gpu(GpuBlocks { item }) => Source::new("product", include_str!("gpu.cl"))
                .define("WIDTH", 1)
                .define("ITEM", item)
                .insert(shared()),
        }
    }
}

impl fmt::Display for TileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileConfig::Cpu(CpuBlocks { width, tile_rows, vectors, rows, panels, depth }) => write!(
                f,
                "tiles of {tile_rows} rows and {vectors} vectors of {width}, blocks of {rows} rows, {panels} panels, depth {depth}"
            ),
            TileConfig::Gpu(GpuBlocks { item }) => write!(f, "{item} x {item} results for each work-item"),
        }
    }
}

impl GpuBlocks {
    /// Results along each side of a group's square.
    pub fn tile(&self) -> usize {
        SIDE * self.item
    }
}

impl CpuBlocks {
    fn of(info: &DeviceInfo) -> Self {
        let width = info.vector_width.next_power_of_two().clamp(4, 16);
        // Vectors of sixteen come with 32 registers, else there are sixteen.
        let tile_rows = if width == 16 { 8 } else { 4 };
        CpuBlocks { width, tile_rows, vectors: 3, rows: 256, panels: 2, depth: 256 }
    }

    /// Columns of a panel.
    pub fn panel(&self) -> usize {
        self.width * self.vectors
    }

    /// Fitted to a product's sizes: as much as fits into the device's local memory, and tasks for all of its threads.
    pub fn for_product(
        mut self,
        info: &DeviceInfo,
        rows: usize,
        columns: usize,
        depth: usize,
        groups: usize,
    ) -> Self {
        self.rows = self.rows.min(rows).next_multiple_of(self.tile_rows);
        self.depth = self.depth.min(depth.max(1));
        let wanted = 4 * info.compute_units;
        let tasks = |b: &Self| columns.div_ceil(b.panels * b.panel()) * rows.div_ceil(b.rows) * groups;
        if tasks(&self) < wanted {
            self.panels = 1;
        }
        // A short product is cut into fewer tasks: each costs as much as some thousand multiply-adds to begin.
        let twice = |b: &Self| CpuBlocks { panels: 2 * b.panels, ..*b };
        while tasks(&self) > 8 * wanted && twice(&self).product_memory() <= IN_FIRST_CACHE {
            self.panels *= 2;
        }
        while tasks(&self) < wanted && self.rows > 4 * self.tile_rows {
            self.rows = (self.rows / 2).next_multiple_of(self.tile_rows);
        }
        while self.product_memory() * size_of::<f32>() > info.local_memory && self.shrink() {}
        self
    }

    /// The floats of local memory that a task of a product needs.
    pub fn product_memory(&self) -> usize {
        self.panels * self.panel() * (self.depth + self.rows) + self.depth
    }

    /// Fitted to a weight gradient's sizes: `depth` counts pixels.
    pub fn for_weight_grad(mut self, info: &DeviceInfo, depth: usize, outputs: usize, pixels: usize) -> Self {
        self.rows = 96.min(depth).next_multiple_of(self.tile_rows);
        self.depth = self.depth.min(pixels).next_multiple_of(self.width);
        self.panels = (2 * self.panels).min(outputs.div_ceil(self.panel()));
        while self.weight_grad_memory() * size_of::<f32>() > info.local_memory && self.shrink() {
            self.depth = self.depth.next_multiple_of(self.width);
        }
        self
    }

    /// The floats of local memory that a task of a weight gradient needs.
    pub fn weight_grad_memory(&self) -> usize {
        self.rows * (self.depth + self.width)
            + self.depth * self.panel()
            + self.panels * self.rows * self.panel()
            + self.rows
    }

    /// Makes the largest extent smaller; whether that was possible.
    fn shrink(&mut self) -> bool {
        if self.panels > 1 {
            self.panels = 1;
        } else if self.depth >= self.rows && self.depth > 2 * self.width {
            self.depth = self.depth.div_ceil(2);
        } else if self.rows > self.tile_rows {
            self.rows = (self.rows / 2).next_multiple_of(self.tile_rows);
        } else {
            return false;
        }
        true
    }
}

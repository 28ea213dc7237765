//! Tile and block sizes of matrix products.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::info::{DeviceInfo, Kind};

/// Work-items along each side of a GPU's work-groups.
pub(crate) const WORK_GROUP_SIDE: usize = 16;

/// Number of floats that fit into the L1 cache of any processor.
const L1_FLOATS: usize = 6 << 10;

/// Tile and block sizes of matrix products on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TileConfig {
    Cpu(CpuTiles),
    Gpu(GpuTiles),
}

/// Sizes for processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuTiles {
    /// Width of a vector in floats.
    pub width: usize,
    /// Rows of a register tile.
    pub tile_rows: usize,
    /// Vectors per row of a register tile: 2 or 3.
    pub vectors: usize,
    /// Rows of a cache block.
    pub rows: usize,
    /// Panels of a cache block; a panel is as wide as a tile.
    pub panels: usize,
    /// Depth of a cache block: terms of each sum.
    pub depth: usize,
}

/// Sizes for GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GpuTiles {
    /// Results along each side of the square computed by a work-item.
    pub item: usize,
}

impl TileConfig {
    /// Number of tuning steps; each varies one size.
    pub const TUNED_SIZES: usize = 4;

    /// Returns the default sizes for a device.
    pub fn untuned(info: &DeviceInfo) -> Self {
        match info.kind {
            Kind::Cpu => TileConfig::Cpu(CpuTiles::of(info)),
            Kind::Gpu | Kind::Other => TileConfig::Gpu(GpuTiles { item: 4 }),
        }
    }

    /// Returns the candidates of tuning step `step`, including these sizes.
    pub fn variants(self, step: usize, info: &DeviceInfo) -> Vec<Self> {
        let tiles = match self {
            TileConfig::Gpu(_) if step == 0 => {
                return [4, 8, 2].map(|item| TileConfig::Gpu(GpuTiles { item })).to_vec();
            }
            TileConfig::Gpu(_) => return vec![self],
            TileConfig::Cpu(tiles) => tiles,
        };
        let choices = match step {
            0 => {
                let mut shapes = vec![(tiles.width, tiles.tile_rows, tiles.vectors)];
                if info.vector_width >= 16 {
                    shapes.extend([(16, 8, 3), (16, 12, 2), (16, 14, 2)]);
                }
                shapes.extend([(8, 4, 3), (8, 6, 2)]);
                shapes
                    .iter()
                    .map(|&(width, tile_rows, vectors)| CpuTiles { width, tile_rows, vectors, ..tiles })
                    .collect::<Vec<_>>()
            }
            1 => [256, 128, 384, 512].map(|depth| CpuTiles { depth, ..tiles }).to_vec(),
            2 => [2, 1, 4].map(|panels| CpuTiles { panels, ..tiles }).to_vec(),
            _ => [256, 128, 512].map(|rows| CpuTiles { rows, ..tiles }).to_vec(),
        };
        choices.into_iter().map(TileConfig::Cpu).collect()
    }

    /// Whether the sizes are valid for a device; sizes from a file may be anything.
    #[cfg_attr(not(feature = "opencl"), allow(dead_code, reason = "only the runtime reads files"))]
    pub fn is_valid(&self, info: &DeviceInfo) -> bool {
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
}

impl fmt::Display for TileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TileConfig::Cpu(CpuTiles { width, tile_rows, vectors, rows, panels, depth }) => write!(
                f,
                "tiles of {tile_rows} rows and {vectors} vectors of {width}, blocks of {rows} rows, {panels} panels, depth {depth}"
            ),
            TileConfig::Gpu(GpuTiles { item }) => write!(f, "{item} x {item} results for each work-item"),
        }
    }
}

impl GpuTiles {
    /// Results along each side of the square computed by a work-group.
    pub fn tile(&self) -> usize {
        WORK_GROUP_SIDE * self.item
    }
}

impl CpuTiles {
    fn of(info: &DeviceInfo) -> Self {
        let width = info.vector_width.next_power_of_two().clamp(4, 16);
        // Devices with vectors of 16 floats have 32 registers, others have 16.
        let tile_rows = if width == 16 { 8 } else { 4 };
        CpuTiles { width, tile_rows, vectors: 3, rows: 256, panels: 2, depth: 256 }
    }

    /// Width of a panel in columns.
    pub fn panel(&self) -> usize {
        self.width * self.vectors
    }

    /// Adapts the sizes to a product: tiles fit into local memory, and there are tasks for all threads.
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
        // Fewer tasks for products of small depth: starting a task costs as much as some thousand multiply-adds.
        let twice = |b: &Self| CpuTiles { panels: 2 * b.panels, ..*b };
        while tasks(&self) > 8 * wanted && twice(&self).product_memory() <= L1_FLOATS {
            self.panels *= 2;
        }
        while tasks(&self) < wanted && self.rows > 4 * self.tile_rows {
            self.rows = (self.rows / 2).next_multiple_of(self.tile_rows);
        }
        while self.product_memory() * size_of::<f32>() > info.local_memory && self.shrink() {}
        self
    }

    /// Local memory of a product task in floats.
    pub fn product_memory(&self) -> usize {
        self.panels * self.panel() * (self.depth + self.rows) + self.depth
    }

    /// Adapts the sizes to a weight gradient, where `self.depth` counts pixels.
    pub fn for_weight_grad(mut self, info: &DeviceInfo, depth: usize, outputs: usize, pixels: usize) -> Self {
        self.rows = 96.min(depth).next_multiple_of(self.tile_rows);
        self.depth = self.depth.min(pixels).next_multiple_of(self.width);
        self.panels = (2 * self.panels).min(outputs.div_ceil(self.panel()));
        while self.weight_grad_memory() * size_of::<f32>() > info.local_memory && self.shrink() {
            self.depth = self.depth.next_multiple_of(self.width);
        }
        self
    }

    /// Local memory of a weight gradient task in floats.
    pub fn weight_grad_memory(&self) -> usize {
        self.rows * (self.depth + self.width)
            + self.depth * self.panel()
            + self.panels * self.rows * self.panel()
            + self.rows
    }

    /// Reduces the largest extent; returns whether that was possible.
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

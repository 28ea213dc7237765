//! The division of images into tiles, units and tasks.

use crate::cpu::parallel::part;

/// Maximum number of tiles in a row of a unit.
const UNIT_COLUMNS: usize = 32;
/// Target number of tiles of a unit.
const UNIT_TILES: usize = 14;
/// Minimum number of tiles of a task, unless there are fewer in all.
const MIN_TASK_TILES: usize = 12;

/// The division of the outputs of all images into tiles, units (rectangles of tiles) and tasks (consecutive
/// units).
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Rows of tiles of an image.
    pub rows: usize,
    /// Columns of tiles of an image.
    pub columns: usize,
    /// Rows of units of an image.
    pub unit_rows: usize,
    /// Columns of units of an image.
    pub unit_columns: usize,
    /// Number of units of all images.
    pub units: usize,
    /// Number of tasks.
    pub tasks: usize,
}

/// The tiles of one unit.
pub struct Unit {
    pub image: usize,
    pub rows: std::ops::Range<usize>,
    pub columns: std::ops::Range<usize>,
}

impl Tiling {
    /// Divides `n` images of `rows` by `columns` tiles, for about `tiles` tiles in a task and at least about
    /// `tasks` tasks.
    pub fn new(n: usize, [rows, columns]: [usize; 2], tiles: usize, tasks: usize) -> Self {
        let unit_columns = columns.div_ceil(UNIT_COLUMNS.min(tiles));
        let wide = columns.div_ceil(unit_columns);
        let unit_rows = rows.div_ceil((UNIT_TILES.min(tiles) / wide).max(1));
        let units = n * unit_rows * unit_columns;
        let each = rows * columns * n / units;
        let whole = (rows * columns * n).max(1);
        let target = whole.div_ceil(tiles).max(tasks.min(whole / MIN_TASK_TILES));
        let tasks = units.div_ceil((units / target.max(1)).max(1));
        debug_assert!(each > 0);
        Tiling { rows, columns, unit_rows, unit_columns, units, tasks }
    }

    /// Returns unit `i` of all.
    pub fn unit(&self, i: usize) -> Unit {
        let (column, i) = (i % self.unit_columns, i / self.unit_columns);
        let (row, image) = (i % self.unit_rows, i / self.unit_rows);
        Unit {
            image,
            rows: part(self.rows, self.unit_rows, row),
            columns: part(self.columns, self.unit_columns, column),
        }
    }

    /// Returns the units of a task.
    pub fn units_of(&self, task: usize) -> std::ops::Range<usize> {
        part(self.units, self.tasks, task)
    }

    /// Returns the number of tiles of all images.
    pub fn tiles(&self) -> usize {
        let images = self.units / (self.unit_rows * self.unit_columns);
        images * self.rows * self.columns
    }

    /// Returns the maximum number of tiles of a unit, and of a task.
    pub fn max_tiles(&self) -> [usize; 2] {
        let unit = self.rows.div_ceil(self.unit_rows) * self.columns.div_ceil(self.unit_columns);
        [unit, unit * self.units.div_ceil(self.tasks)]
    }
}

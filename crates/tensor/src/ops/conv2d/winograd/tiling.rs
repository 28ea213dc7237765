//! How pictures are cut into tiles, units and tasks.

/// The most tiles of a unit's row, and the tiles to aim at in a unit.
const UNIT_COLUMNS: usize = 32;
const UNIT_TILES: usize = 14;
/// The least tiles of a task, unless all have fewer.
const FEW_TILES: usize = 12;

/// How the outputs of all pictures are cut into tiles, units and tasks.
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Tiles of a picture.
    pub rows: usize,
    pub columns: usize,
    /// Units of a picture.
    pub unit_rows: usize,
    pub unit_columns: usize,
    pub units: usize,
    pub tasks: usize,
}

/// Tiles of one unit.
pub struct Unit {
    pub picture: usize,
    pub rows: std::ops::Range<usize>,
    pub columns: std::ops::Range<usize>,
}

/// Part `i` of `count` of `whole`, as even as possible.
pub fn part(whole: usize, count: usize, i: usize) -> std::ops::Range<usize> {
    whole * i / count..whole * (i + 1) / count
}

impl Tiling {
    /// `tiles` are those to aim at in a task, `tasks` the tasks.
    pub fn new(n: usize, [rows, columns]: [usize; 2], tiles: usize, tasks: usize) -> Self {
        let unit_columns = columns.div_ceil(UNIT_COLUMNS.min(tiles));
        let wide = columns.div_ceil(unit_columns);
        let unit_rows = rows.div_ceil((UNIT_TILES.min(tiles) / wide).max(1));
        let units = n * unit_rows * unit_columns;
        let each = rows * columns * n / units;
        let whole = (rows * columns * n).max(1);
        let wish = whole.div_ceil(tiles).max(tasks.min(whole / FEW_TILES));
        let tasks = units.div_ceil((units / wish.max(1)).max(1));
        debug_assert!(each > 0);
        Tiling { rows, columns, unit_rows, unit_columns, units, tasks }
    }

    /// Unit `i` of all.
    pub fn unit(&self, i: usize) -> Unit {
        let (column, i) = (i % self.unit_columns, i / self.unit_columns);
        let (row, picture) = (i % self.unit_rows, i / self.unit_rows);
        Unit {
            picture,
            rows: part(self.rows, self.unit_rows, row),
            columns: part(self.columns, self.unit_columns, column),
        }
    }

    /// The units of a task.
    pub fn units_of(&self, task: usize) -> std::ops::Range<usize> {
        part(self.units, self.tasks, task)
    }

    /// The most tiles of a unit, and of a task.
    pub fn most(&self) -> [usize; 2] {
        let unit = self.rows.div_ceil(self.unit_rows) * self.columns.div_ceil(self.unit_columns);
        [unit, unit * self.units.div_ceil(self.tasks)]
    }
}

// Transposed tiles in local memory, for processors: a vector holds one pixel of WIDTH channels or of WIDTH
// images.

#define UNROLL _Pragma("unroll")

#define VLOAD PASTE(vload, WIDTH)
#define VSTORE PASTE(vstore, WIDTH)

// Transposes a block of WIDTH by WIDTH floats. Every round interleaves the first half of the vectors with the
// second.
void transpose_block(real *block) {
    UNROLL for (int round = 1; round < WIDTH; round *= 2) {
        real mixed[WIDTH];
        UNROLL for (int i = 0; i < WIDTH / 2; i++) {
            mixed[2 * i].even = block[i].lo;
            mixed[2 * i].odd = block[i + WIDTH / 2].lo;
            mixed[2 * i + 1].even = block[i].hi;
            mixed[2 * i + 1].odd = block[i + WIDTH / 2].hi;
        }
        UNROLL for (int i = 0; i < WIDTH; i++) {
            block[i] = mixed[i];
        }
    }
}

// Loads WIDTH vectors from `at` on, `step` floats apart. Rows from `rows` on, and floats behind the end of
// the array, are 0.
void load_block(global const float *from, int length, int at, int step, int rows, real *block) {
    if (at + (rows - 1) * step <= length - WIDTH) {
        UNROLL for (int i = 0; i < WIDTH; i++) {
            block[i] = 0.0f;
            if (i < rows) {
                block[i] = VLOAD(0, from + at + i * step);
            }
        }
    } else {
        float part[WIDTH * WIDTH];
        for (int i = 0; i < WIDTH; i++) {
            for (int j = 0; j < WIDTH; j++) {
                const int offset = at + i * step + j;
                part[i * WIDTH + j] = i < rows && offset < length ? from[offset] : 0.0f;
            }
        }
        UNROLL for (int i = 0; i < WIDTH; i++) {
            block[i] = VLOAD(i, part);
        }
    }
}

// A feature map: its size, the length of the array, the first pixel that is read, and the floats from the
// plane of one lane to the next.
typedef struct {
    int channels, h, w, length, row, column, step;
} FeatureMap;

// A rectangle of pixels, which may extend beyond the edges of the image: `top`, `left` and `right` bound the
// pixels inside. They form `runs` runs of `count` contiguous pixels; full rows form one run.
typedef struct {
    int columns, top, left, right, runs, count, start;
} TransposedTile;

TransposedTile transposed_tile(const FeatureMap *map, int row, int column, int rows, int columns) {
    TransposedTile tile;
    tile.columns = columns;
    tile.top = clamp(-row, 0, rows);
    tile.left = clamp(-column, 0, columns);
    tile.right = clamp(map->w - column, tile.left, columns);
    const int high = clamp(map->h - row, tile.top, rows) - tile.top;
    const int wide = tile.right - tile.left;
    const int whole = wide == map->w;
    tile.runs = wide == 0 ? 0 : whole ? min(high, 1) : high;
    tile.count = whole ? high * wide : wide;
    tile.start = (row + tile.top) * map->w + column + tile.left;
    return tile;
}

// Returns the number of rows of a tile with pixels inside of the image.
int rows_inside(const TransposedTile *tile) {
    return tile->runs > 0 ? tile->count / (tile->right - tile->left) * tile->runs : 0;
}

// Returns the first pixel of a vector of a run: the last vector overlaps the one before, so that it is full.
int vector_start(const TransposedTile *tile, int done) {
    return max(0, min(done, tile->count - WIDTH));
}

// Stores the energies of `count` pixels, at most WIDTH: the sums of their squares over the planes of a block. Where `more`, the
// larger of these and of those that are there; NaN stays.
void store_energies(const real *block, int count, int more, local float *to) {
    real energies = 0.0f;
    UNROLL for (int i = 0; i < WIDTH; i++) {
        energies = fma(block[i], block[i], energies);
    }
    if (count >= WIDTH) {
        if (more) {
            const real old = VLOAD(0, to);
            energies = select(energies, old, (old >= energies) | (old != old));
        }
        VSTORE(energies, 0, to);
    } else {
        float part[WIDTH];
        VSTORE(energies, 0, part);
        for (int i = 0; i < count; i++) {
            to[i] = more && (to[i] >= part[i] || isnan(to[i])) ? to[i] : part[i];
        }
    }
}

// Reads a tile of `planes` planes that start at `at`, and transposes it. Pixels outside of the image become
// 0. If `energies` is not null, the energies of those inside are stored there, run after run (store_energies).
void read_transposed(
    global const float *x,
    const FeatureMap *map,
    int at,
    int planes,
    int row,
    int column,
    int rows,
    int columns,
    local float *to,
    local float *energies,
    int more
) {
    const TransposedTile tile = transposed_tile(map, row, column, rows, columns);
    const real zero = 0.0f;
    const int inside = rows_inside(&tile);
    for (int r = 0; r < rows; r++) {
        const int outside = r < tile.top || r >= tile.top + inside;
        for (int c = 0; c < (outside ? columns : tile.left); c++) {
            VSTORE(zero, r * columns + c, to);
        }
        for (int c = outside ? columns : tile.right; c < columns; c++) {
            VSTORE(zero, r * columns + c, to);
        }
    }
    const int wide = tile.right - tile.left;
    for (int run = 0; run < tile.runs; run++) {
        for (int done = 0; done < tile.count; done += WIDTH) {
            const int first = vector_start(&tile, done);
            real block[WIDTH];
            load_block(x, map->length, at + tile.start + run * map->w + first, map->step, planes, block);
            if (energies) {
                store_energies(block, tile.count, more, energies + run * tile.count + first);
            }
            transpose_block(block);
            const int line = first / wide;
            int c = first - line * wide;
            int offset = (tile.top + run + line) * columns + tile.left + c;
            UNROLL for (int i = 0; i < WIDTH; i++) {
                if (first + i < tile.count) {
                    VSTORE(block[i], offset, to);
                }
                offset++;
                c++;
                if (c == wide) {
                    c = 0;
                    offset += columns - wide;
                }
            }
        }
    }
}

// Transposes a tile back and writes the pixels inside of the image.
void write_transposed(
    local const float *from,
    const FeatureMap *map,
    int at,
    int planes,
    int row,
    int column,
    int rows,
    int columns,
    global float *y
) {
    const TransposedTile tile = transposed_tile(map, row, column, rows, columns);
    const int wide = tile.right - tile.left;
    for (int run = 0; run < tile.runs; run++) {
        for (int done = 0; done < tile.count; done += WIDTH) {
            const int first = vector_start(&tile, done);
            const int line = first / wide;
            int c = first - line * wide;
            int offset = (tile.top + run + line) * columns + tile.left + c;
            real block[WIDTH];
            UNROLL for (int i = 0; i < WIDTH; i++) {
                block[i] = 0.0f;
                if (first + i < tile.count) {
                    block[i] = VLOAD(offset, from);
                }
                offset++;
                c++;
                if (c == wide) {
                    c = 0;
                    offset += columns - wide;
                }
            }
            transpose_block(block);
            global float *to = y + at + tile.start + run * map->w + first;
            const int plane = map->step;
            if (tile.count >= WIDTH) {
                UNROLL for (int i = 0; i < WIDTH; i++) {
                    if (i < planes) {
                        VSTORE(block[i], 0, to + i * plane);
                    }
                }
            } else {
                float part[WIDTH * WIDTH];
                UNROLL for (int i = 0; i < WIDTH; i++) {
                    VSTORE(block[i], i, part);
                }
                for (int i = 0; i < planes; i++) {
                    for (int j = 0; j < tile.count; j++) {
                        to[i * plane + j] = part[i * WIDTH + j];
                    }
                }
            }
        }
    }
}

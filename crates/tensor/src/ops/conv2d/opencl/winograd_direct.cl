// Tiles that the transforms of winograd.cl cannot compute with, because their values differ too much or are not finite, and their
// direct computation. The rule is that of the CPU (conv2d/cpu/winograd/range.rs): a transform adds all pixels of a tile, so the
// error of an output is relative to the largest of them. The energy of a pixel is the largest sum of its squares over a block of
// channels, that of a window the largest of its pixels. A tile is far if the largest energy of its windows is more than the square
// of a limit times the least above 0.
//
// Inserted before this text: transposed_tile.cl; WINDOW_RATIO and WEIGHT_RATIO, the limits of outputs and of the weight gradient.

#define POINTS (A * A)
#define TAPS (R * R)

// Largest sum of energies: far below an overflow in the transforms and in sums of their products.
#define LARGEST 1e30f

// The tiles of all images; a unit is a rectangle of tiles (tiling.rs).
typedef struct {
    int rows, columns, unit_rows, unit_columns, units, tasks;
} Tiling;

typedef struct {
    int image, row, column, rows, columns;
} Unit;

Tiling tiling_of(int8 s) {
    Tiling tiling = {s.s0, s.s1, s.s2, s.s3, s.s4, s.s5};
    return tiling;
}

Unit unit_of(const Tiling *t, int i) {
    Unit unit;
    const int column = i % t->unit_columns;
    i /= t->unit_columns;
    const int row = i % t->unit_rows;
    unit.image = i / t->unit_rows;
    unit.row = part(t->rows, t->unit_rows, row);
    unit.rows = part(t->rows, t->unit_rows, row + 1) - unit.row;
    unit.column = part(t->columns, t->unit_columns, column);
    unit.columns = part(t->columns, t->unit_columns, column + 1) - unit.column;
    return unit;
}

// Returns the pixels of a unit whose tiles have `size` by `size` pixels.
TransposedTile pixels_of(const FeatureMap *map, const Unit *unit, int size) {
    const int rows = unit->rows * M + size - M, columns = unit->columns * M + size - M;
    return transposed_tile(map, unit->row * M + map->row, unit->column * M + map->column, rows, columns);
}

// The least energy above 0 (infinity if there is none), the largest, and the sum, which is NaN if one is.
typedef struct {
    float least, largest, sum;
} Spread;

Spread spread_of(local const float *energies, int count) {
    real least = INFINITY, largest = 0.0f, sum = 0.0f;
    for (int first = 0; first < count; first += WIDTH) {
        const int left = count - first;
        real v = 0.0f;
        if (left >= WIDTH) {
            v = VLOAD(0, energies + first);
        } else {
            float part[WIDTH];
            for (int i = 0; i < WIDTH; i++) {
                part[i] = i < left ? energies[first + i] : 0.0f;
            }
            v = VLOAD(0, part);
        }
        least = fmin(least, select((real)(INFINITY), v, v > 0.0f));
        largest = fmax(largest, v);
        sum += v;
    }
    float parts[3 * WIDTH];
    VSTORE(least, 0, parts);
    VSTORE(largest, 1, parts);
    VSTORE(sum, 2, parts);
    Spread spread = {INFINITY, 0.0f, 0.0f};
    for (int i = 0; i < WIDTH; i++) {
        spread.least = fmin(spread.least, parts[i]);
        spread.largest = fmax(spread.largest, parts[WIDTH + i]);
        spread.sum += parts[2 * WIDTH + i];
    }
    return spread;
}

// Whether all pixels of some units, whose tiles have `size` by `size` pixels, are finite and not huge.
int are_moderate(
    const FeatureMap *map, const Tiling *tiling, int first, int last, int size, local const float *energies, int energy_step
) {
    float sum = 0.0f;
    for (int i = first; i < last; i++) {
        const Unit unit = unit_of(tiling, i);
        const TransposedTile pixels = pixels_of(map, &unit, size);
        sum += spread_of(energies + (i - first) * energy_step, pixels.runs * pixels.count).sum;
    }
    return sum <= LARGEST;
}

// Whether a tile of a unit is far; `pixels` are those of the unit, with their energies. Windows of outputs from `rows` and
// `columns` on, counted from the tile's first, do not count; those in the padding and those of zeros neither.
int is_far(
    const TransposedTile *pixels, local const float *energies, int row, int column, int rows, int columns, float ratio
) {
    const int wide = pixels->right - pixels->left, high = rows_inside(pixels);
    float across[A][M];
    for (int i = 0; i < A; i++) {
        const int y = row * M + i - pixels->top;
        for (int c = 0; c < M; c++) {
            across[i][c] = -1.0f;
            for (int tap = 0; tap < R; tap++) {
                const int x = column * M + c + tap - pixels->left;
                if (y >= 0 && y < high && x >= 0 && x < wide) {
                    const float energy = energies[y * wide + x];
                    // Also for NaN.
                    across[i][c] = fmax(across[i][c], energy <= LARGEST ? energy : INFINITY);
                }
            }
        }
    }
    float least = INFINITY, largest = 0.0f;
    for (int r = 0; r < M; r++) {
        for (int c = 0; c < M; c++) {
            float energy = -1.0f;
            for (int tap = 0; tap < R; tap++) {
                energy = fmax(energy, across[r + tap][c]);
            }
            largest = fmax(largest, energy);
            least = energy > 0.0f && r < rows && c < columns ? fmin(least, energy) : least;
        }
    }
    return largest > LARGEST || largest > ratio * ratio * least;
}

// Finds the far tiles of some units, in their order, and returns their number. `dst` is the feature map of the outputs.
int find_far_tiles(
    const FeatureMap *src,
    const FeatureMap *dst,
    const Tiling *tiling,
    int first,
    int last,
    local const float *energies,
    int energy_step,
    float ratio,
    local int *far
) {
    int tile = 0, count = 0;
    for (int i = first; i < last; i++) {
        const Unit unit = unit_of(tiling, i);
        const TransposedTile pixels = pixels_of(src, &unit, A);
        local const float *values = energies + (i - first) * energy_step;
        const Spread spread = spread_of(values, pixels.runs * pixels.count);
        const int similar = spread.sum <= LARGEST && spread.largest <= ratio * ratio * spread.least;
        for (int row = 0; row < unit.rows; row++) {
            for (int column = 0; column < unit.columns; column++) {
                const int rows = dst->h - (unit.row + row) * M, columns = dst->w - (unit.column + column) * M;
                far[tile] = !similar && is_far(&pixels, values, row, column, rows, columns, ratio);
                count += far[tile];
                tile++;
            }
        }
    }
    return count;
}

// The weight as the convolution reads it: its length, the floats from one channel and from one output to the next, and whether the
// taps are in reverse order.
typedef struct {
    int length, channel_step, output_step, reverse;
} Filters;

// Reads the taps of a channel for a block of outputs.
void read_taps(global const float *weight, const Filters *filters, int channel, int output, int outputs, real *taps) {
    UNROLL for (int t = 0; t < TAPS; t += WIDTH) {
        const int at = channel * filters->channel_step + output * filters->output_step + t;
        load_block(weight, filters->length, at, filters->output_step, min(WIDTH, outputs), taps + t);
        transpose_block(taps + t);
    }
}

// sums[output] += the products of a tile's pixels of one channel, at `plane`, and the taps. The tile's first pixel is that of
// row `row` and column `column`, which may be outside of the image.
void add_tile(
    global const float *plane, const FeatureMap *src, int row, int column, const real *taps, int reverse, local float *sums
) {
    for (int r = 0; r < M; r++) {
        for (int c = 0; c < M; c++) {
            real sum = VLOAD(r * M + c, sums);
            for (int tap = 0; tap < TAPS; tap++) {
                const int y = row + r + tap / R, x = column + c + tap % R;
                if (y >= 0 && y < src->h && x >= 0 && x < src->w) {
                    sum = fma((real)(plane[y * src->w + x]), taps[reverse ? TAPS - 1 - tap : tap], sum);
                }
            }
            VSTORE(sum, r * M + c, sums);
        }
    }
}

// Computes the outputs of the far tiles for the block of outputs that starts at `output`. `sums` has room for M by M vectors for
// each tile.
void compute_far_tiles(
    global const float *x,
    const FeatureMap *src,
    global const float *weight,
    const Filters *filters,
    const FeatureMap *dst,
    const Tiling *tiling,
    int first,
    int last,
    local const int *far,
    int output,
    real bias,
    int activation,
    local float *sums,
    global float *y
) {
    const int lanes = min(WIDTH, dst->channels - output);
    real taps[(TAPS + WIDTH - 1) / WIDTH * WIDTH];
    for (int channel = 0; channel < src->channels; channel++) {
        read_taps(weight, filters, channel, output, lanes, taps);
        int tile = 0;
        for (int i = first; i < last; i++) {
            const Unit unit = unit_of(tiling, i);
            global const float *plane = x + (unit.image * src->channels + channel) * src->step;
            for (int t = 0; t < unit.rows * unit.columns; t++, tile++) {
                if (far[tile]) {
                    const int row = unit.row + t / unit.columns, column = unit.column + t % unit.columns;
                    local float *to = sums + tile * M * M * WIDTH;
                    for (int output = 0; channel == 0 && output < M * M; output++) {
                        VSTORE((real)(0.0f), output, to);
                    }
                    add_tile(plane, src, row * M + src->row, column * M + src->column, taps, filters->reverse, to);
                }
            }
        }
    }
    int tile = 0;
    for (int i = first; i < last; i++) {
        const Unit unit = unit_of(tiling, i);
        global float *plane = y + (unit.image * dst->channels + output) * dst->step;
        for (int t = 0; t < unit.rows * unit.columns; t++, tile++) {
            if (!far[tile]) {
                continue;
            }
            const int row = (unit.row + t / unit.columns) * M, column = (unit.column + t % unit.columns) * M;
            for (int r = 0; r < min(M, dst->h - row); r++) {
                for (int c = 0; c < min(M, dst->w - column); c++) {
                    float values[WIDTH];
                    const real sum = VLOAD((tile * M + r) * M + c, sums) + bias;
                    VSTORE(activated(sum, activation), 0, values);
                    for (int lane = 0; lane < lanes; lane++) {
                        plane[lane * dst->step + (row + r) * dst->w + column + c] = values[lane];
                    }
                }
            }
        }
    }
}

// Returns the floats of a row of `length` pixels from `at` on; those outside of the row, and from `count` on, are 0.
real load_row(global const float *row, int length, int at, int count) {
    if (count >= WIDTH && at >= 0 && at <= length - WIDTH) {
        return VLOAD(0, row + at);
    }
    float part[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        part[i] = i < count && at + i >= 0 && at + i < length ? row[at + i] : 0.0f;
    }
    return VLOAD(0, part);
}

// Adds the products of one image, of the planes `x` and `dy`, to the sums of each tap.
void add_image(global const float *x, const FeatureMap *src, global const float *dy, const FeatureMap *dst, real *sums) {
    real image[TAPS];
    for (int tap = 0; tap < TAPS; tap++) {
        image[tap] = 0.0f;
    }
    for (int row = 0; row < dst->h; row++) {
        for (int column = 0; column < dst->w; column += WIDTH) {
            const int count = dst->w - column;
            const real grad = load_row(dy + row * dst->w, dst->w, column, count);
            for (int u = 0; u < R; u++) {
                const int y = row + src->row + u;
                for (int v = 0; v < R && y >= 0 && y < src->h; v++) {
                    const real pixels = load_row(x + y * src->w, src->w, column + src->column + v, count);
                    image[u * R + v] = fma(pixels, grad, image[u * R + v]);
                }
            }
        }
    }
    for (int tap = 0; tap < TAPS; tap++) {
        sums[tap] += image[tap];
    }
}

// Computes the gradient of the weight anew if any of the `groups` work-groups of filter_grad found a far tile. One work-item for
// each output. sides: as in winograd.cl. options: the first pixel of tile 0, the images, the work-groups, and whether the taps are
// in reverse order.
kernel void direct_filter_grad(
    global const float *x,
    global const float *dy,
    global const float *far,
    global float *to,
    const int8 sides,
    const int8 options
) {
    const FeatureMap src = {sides.s0, sides.s1, sides.s2, sides.s6, options.s0, options.s1, sides.s1 * sides.s2};
    const FeatureMap dst = {sides.s3, sides.s4, sides.s5, sides.s7, 0, 0, sides.s4 * sides.s5};
    const int output = get_global_id(0);
    int any = 0;
    for (int i = 0; i < options.s3; i++) {
        any |= far[i] != 0.0f;
    }
    if (!any || output >= dst.channels) {
        return;
    }
    for (int channel = 0; channel < src.channels; channel++) {
        real sums[TAPS];
        for (int tap = 0; tap < TAPS; tap++) {
            sums[tap] = 0.0f;
        }
        for (int image = 0; image < options.s2; image++) {
            global const float *plane = x + (image * src.channels + channel) * src.step;
            add_image(plane, &src, dy + (image * dst.channels + output) * dst.step, &dst, sums);
        }
        for (int tap = 0; tap < TAPS; tap++) {
            float lanes[WIDTH];
            VSTORE(sums[tap], 0, lanes);
            float sum = 0.0f;
            for (int lane = 0; lane < WIDTH; lane++) {
                sum += lanes[lane];
            }
            to[(output * src.channels + channel) * TAPS + (options.s4 ? TAPS - 1 - tap : tap)] = sum;
        }
    }
}

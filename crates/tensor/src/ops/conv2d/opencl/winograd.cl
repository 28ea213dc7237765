// Convolutions of R by R taps, stride 1, in tiles of M by M outputs, for which A by A pixels are taken to as many points
// (winograd.rs). For processors: a group is one work-item, and local memory is memory in its thread's own cache.
//
// Lanes are channels. What stands before this text: strip.cl, and `input`, `evaluate_filter`, `evaluate_tile`, `fold_tile` and
// `fold_filter`, the transforms along one axis; WEIGHTS and RESTS, by which a point's product is scaled.

#define POINTS (A * A)
#define TAPS (R * R)

// Rows of the last tiles of a product in registers.
#define FEW_ROWS (ROWS / 3)

// Tiles of pictures; a unit is a rectangle of them (tiling.rs).
typedef struct {
    int rows, columns, unit_rows, unit_columns, units, tasks;
} Tiling;

typedef struct {
    int picture, row, column, rows, columns;
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
    unit.picture = i / t->unit_rows;
    unit.row = part(t->rows, t->unit_rows, row);
    unit.rows = part(t->rows, t->unit_rows, row + 1) - unit.row;
    unit.column = part(t->columns, t->unit_columns, column);
    unit.columns = part(t->columns, t->unit_columns, column + 1) - unit.column;
    return unit;
}

// What a tile of SIZE by SIZE pixels has at the points, by `axis` along both axes.
#define POINT_VALUES(name, SIZE, axis) \
    void name(local const float *from, int columns, local float *to, int point_step) { \
        real lines[A][SIZE]; \
        UNROLL for (int j = 0; j < SIZE; j++) { \
            real pixels[SIZE], values[A]; \
            UNROLL for (int i = 0; i < SIZE; i++) { \
                pixels[i] = VLOAD(i * columns + j, from); \
            } \
            axis(pixels, values); \
            UNROLL for (int i = 0; i < A; i++) { \
                lines[i][j] = values[i]; \
            } \
        } \
        UNROLL for (int i = 0; i < A; i++) { \
            real values[A]; \
            axis(lines[i], values); \
            UNROLL for (int j = 0; j < A; j++) { \
                VSTORE(values[j], 0, to + (i * A + j) * point_step); \
            } \
        } \
    }

POINT_VALUES(picture_values, A, input)
POINT_VALUES(gradient_values, M, evaluate_tile)

// v[point, block, tile] of blocks of channels and all tiles of some units; returns how many tiles there are. A tile sees
// `size` by `size` pixels.
#define UNIT_VALUES(name, values, SIZE) \
    int name( \
        global const float *x, \
        const Side *side, \
        const Tiling *tiling, \
        int first_unit, \
        int last_unit, \
        int first_block, \
        int last_block, \
        local float *strip, \
        local float *v, \
        int block_step, \
        int point_step \
    ) { \
        int tiles = 0; \
        for (int block = first_block; block < last_block; block++) { \
            local float *to = v + (block - first_block) * block_step; \
            const int channel = block * WIDTH; \
            tiles = 0; \
            for (int i = first_unit; i < last_unit; i++) { \
                const Unit unit = unit_of(tiling, i); \
                const int columns = unit.columns * M + SIZE - M; \
                read_strip( \
                    x, \
                    side, \
                    (unit.picture * side->channels + channel) * side->h * side->w, \
                    min(WIDTH, side->channels - channel), \
                    unit.row * M + side->row, \
                    unit.column * M + side->column, \
                    unit.rows * M + SIZE - M, \
                    columns, \
                    strip \
                ); \
                for (int row = 0; row < unit.rows; row++) { \
                    for (int column = 0; column < unit.columns; column++) { \
                        local const float *from = strip + (row * columns + column) * M * WIDTH; \
                        values(from, columns, to + tiles * WIDTH, point_step); \
                        tiles++; \
                    } \
                } \
            } \
        } \
        return tiles; \
    }

UNIT_VALUES(values_of_pictures, picture_values, A)
UNIT_VALUES(values_of_gradients, gradient_values, M)

// A M-sided or R-sided square of results of the products at all points, by `axis` along both axes.
#define RESULTS(name, space, SIZE, axis) \
    void name(space const float *from, int point_step, real (*to)[SIZE]) { \
        real lines[SIZE][A]; \
        UNROLL for (int j = 0; j < A; j++) { \
            real products[A], sums[SIZE]; \
            UNROLL for (int i = 0; i < A; i++) { \
                products[i] = VLOAD(0, from + (i * A + j) * point_step); \
            } \
            axis(products, sums); \
            UNROLL for (int i = 0; i < SIZE; i++) { \
                lines[i][j] = sums[i]; \
            } \
        } \
        UNROLL for (int i = 0; i < SIZE; i++) { \
            axis(lines[i], to[i]); \
        } \
    }

RESULTS(tile_of, local, M, fold_tile)
RESULTS(filter_of, private, R, fold_filter)

// m[row, vector] = sum over the channels of v[block, row, channel] u[channel, vector], of `rows` tiles.
#define PRODUCT(name, rows, vectors) \
    void name(int depth, local const float *v, int block_step, global const float *u, local float *m) { \
        real sum[rows][vectors]; \
        UNROLL for (int i = 0; i < rows; i++) { \
            UNROLL for (int j = 0; j < vectors; j++) { \
                sum[i][j] = 0.0f; \
            } \
        } \
        for (int left = depth; left > 0; left -= WIDTH) { \
            const int count = min(left, WIDTH); \
            for (int k = 0; k < count; k++) { \
                real panel[vectors]; \
                UNROLL for (int j = 0; j < vectors; j++) { \
                    panel[j] = VLOAD(j, u); \
                } \
                UNROLL for (int i = 0; i < rows; i++) { \
                    const real x = (real)(v[i * WIDTH + k]); \
                    UNROLL for (int j = 0; j < vectors; j++) { \
                        sum[i][j] = fma(x, panel[j], sum[i][j]); \
                    } \
                } \
                u += vectors * WIDTH; \
            } \
            v += block_step; \
        } \
        UNROLL for (int i = 0; i < rows; i++) { \
            UNROLL for (int j = 0; j < vectors; j++) { \
                VSTORE(sum[i][j], 2 * i + j, m); \
            } \
        } \
    }

// A panel of one or two vectors, of all tiles; behind the last some more rows of `v` are read and of `m` are written.
#define PRODUCTS(vectors) \
    PRODUCT(product_of_many_##vectors, ROWS, vectors) \
    PRODUCT(product_of_some_##vectors, (2 * FEW_ROWS), vectors) \
    PRODUCT(product_of_few_##vectors, FEW_ROWS, vectors) \
    void products_##vectors( \
        int tiles, int depth, local const float *v, int block_step, global const float *u, local float *m \
    ) { \
        for (int tile = 0; tile < tiles; tile += ROWS) { \
            local const float *from = v + tile * WIDTH; \
            local float *to = m + tile * 2 * WIDTH; \
            if (tiles - tile > 2 * FEW_ROWS) { \
                product_of_many_##vectors(depth, from, block_step, u, to); \
            } else if (tiles - tile > FEW_ROWS) { \
                product_of_some_##vectors(depth, from, block_step, u, to); \
            } else { \
                product_of_few_##vectors(depth, from, block_step, u, to); \
            } \
        } \
    }

PRODUCTS(1)
PRODUCTS(2)

// A group for each task and some panels of outputs. `sides` has the channels and the size of `x`, then of `y`, and the length
// of `x`; `ways` the pixel that tile 0 sees first, panels of a group, floats from one block of `v` to the next and from one
// point of `m` to the next, whether there is a bias, the activation, and the length of the strip.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void convolve(
    global const float *x,
    global const float *u,
    global const float *bias,
    global float *y,
    const int8 sides,
    const int8 ways,
    const int8 tiles_of,
    local float *strip
) {
    const Tiling tiling = tiling_of(tiles_of);
    const Side side = {sides.s0, sides.s1, sides.s2, sides.s6, ways.s0, ways.s1, sides.s1 * sides.s2};
    const Side out = {sides.s3, sides.s4, sides.s5, 0, 0, 0, sides.s4 * sides.s5};
    const int depth = (side.channels + WIDTH - 1) / WIDTH, wide = (out.channels + WIDTH - 1) / WIDTH;
    const int block_step = ways.s3, m_step = ways.s4;
    const int v_step = depth * block_step + WIDTH;
    const int task = get_global_id(0);
    const int first = part(tiling.units, tiling.tasks, task), last = part(tiling.units, tiling.tasks, task + 1);
    local float *m = strip + ways.s7;
    local float *v = m + POINTS * m_step;
    const int tiles =
        values_of_pictures(x, &side, &tiling, first, last, 0, depth, strip, v, block_step, v_step);
    const int panels = (wide + 1) / 2;
    const int last_panel = min(panels, (int)(get_global_id(1) + 1) * ways.s2);
    for (int panel = get_global_id(1) * ways.s2; panel < last_panel; panel++) {
        const int vectors = min(2, wide - 2 * panel);
        global const float *values = u + panel * POINTS * (2 * side.channels + 1) * WIDTH;
        for (int point = 0; point < POINTS; point++) {
            if (vectors == 2) {
                products_2(tiles, side.channels, v + point * v_step, block_step, values, m + point * m_step);
            } else {
                products_1(tiles, side.channels, v + point * v_step, block_step, values, m + point * m_step);
            }
            values += (side.channels * vectors + 1) * WIDTH;
        }
        for (int vector = 0; vector < vectors; vector++) {
            const int channel = (2 * panel + vector) * WIDTH;
            real plus = 0.0f;
            if (ways.s5) {
                plus = load(bias + channel, out.channels - channel);
            }
            int tile = 0;
            for (int i = first; i < last; i++) {
                const Unit unit = unit_of(&tiling, i);
                const int columns = unit.columns * M;
                for (int row = 0; row < unit.rows; row++) {
                    for (int column = 0; column < unit.columns; column++) {
                        real square[M][M];
                        tile_of(m + (2 * tile + vector) * WIDTH, m_step, square);
                        UNROLL for (int r = 0; r < M; r++) {
                            UNROLL for (int c = 0; c < M; c++) {
                                const int place = (row * M + r) * columns + column * M + c;
                                VSTORE(square[r][c] + plus, place, strip);
                            }
                        }
                        tile++;
                    }
                }
                if (ways.s6 != 0) {
                    for (int pixel = 0; pixel < unit.rows * M * columns; pixel++) {
                        VSTORE(activated(VLOAD(pixel, strip), ways.s6), pixel, strip);
                    }
                }
                write_strip(
                    strip,
                    &out,
                    (unit.picture * out.channels + channel) * out.h * out.w,
                    min(WIDTH, out.channels - channel),
                    unit.row * M,
                    unit.column * M,
                    unit.rows * M,
                    columns,
                    y
                );
            }
        }
    }
}

// u[panel, point, channel, output of the panel]: the filters at the points, between which a vector is left out, as powers of
// two would all fall into the same lines of the cache. `from` has its taps of (channel, output)
// `channel_step` and `output_step` apart. A work-item for each block of outputs of WIDTH channels.
kernel void filters(
    global const float *from,
    global float *u,
    const int length,
    const int channels,
    const int outputs,
    const int channel_step,
    const int output_step,
    const int reverse
) {
    const int parts = (channels + WIDTH - 1) / WIDTH, blocks = (outputs + WIDTH - 1) / WIDTH;
    const int item = get_global_id(0);
    if (item >= parts * blocks) {
        return;
    }
    const int block = item / parts;
    const int first = (item - block * parts) * WIDTH, last = min(channels, first + WIDTH);
    const int vectors = block % 2 == 1 || block + 1 < blocks ? 2 : 1;
    for (int channel = first; channel < last; channel++) {
        real taps[(TAPS + WIDTH - 1) / WIDTH * WIDTH];
        UNROLL for (int t = 0; t < TAPS; t += WIDTH) {
            const int at = channel * channel_step + block * WIDTH * output_step + t;
            load_square(from, length, at, output_step, min(WIDTH, outputs - block * WIDTH), taps + t);
            turn(taps + t);
        }
        real lines[A][R];
        UNROLL for (int i = 0; i < R; i++) {
            real line[R], values[A];
            UNROLL for (int j = 0; j < R; j++) {
                line[j] = reverse ? taps[TAPS - 1 - i * R - j] : taps[i * R + j];
            }
            evaluate_filter(line, values);
            UNROLL for (int j = 0; j < A; j++) {
                lines[j][i] = values[j];
            }
        }
        global float *to = u + (block / 2 * POINTS * (2 * channels + 1) + channel * vectors + block % 2) * WIDTH;
        UNROLL for (int j = 0; j < A; j++) {
            real values[A];
            evaluate_filter(lines[j], values);
            UNROLL for (int i = 0; i < A; i++) {
                const int point = i * A + j;
                const real value = fma(values[i], (real)(WEIGHTS[point]), values[i] * RESTS[point]);
                VSTORE(value, point * (channels * vectors + 1), to);
            }
        }
    }
}

// sums[row, vector] (+)= sum over the tiles of d[tile, row] v[tile, vector].
#define OUTER_ROWS (WIDTH / 2)
#define OUTER(name, vectors) \
    void name( \
        int tiles, local const float *d, local const float *v, int block_step, global float *sums, int row_step, int add \
    ) { \
        real sum[OUTER_ROWS][vectors]; \
        UNROLL for (int i = 0; i < OUTER_ROWS; i++) { \
            UNROLL for (int j = 0; j < vectors; j++) { \
                sum[i][j] = 0.0f; \
            } \
        } \
        for (int tile = 0; tile < tiles; tile++) { \
            real panel[vectors]; \
            UNROLL for (int j = 0; j < vectors; j++) { \
                panel[j] = VLOAD(0, v + j * block_step); \
            } \
            UNROLL for (int i = 0; i < OUTER_ROWS; i++) { \
                const real x = (real)(d[i]); \
                UNROLL for (int j = 0; j < vectors; j++) { \
                    sum[i][j] = fma(x, panel[j], sum[i][j]); \
                } \
            } \
            d += WIDTH; \
            v += WIDTH; \
        } \
        UNROLL for (int i = 0; i < OUTER_ROWS; i++) { \
            UNROLL for (int j = 0; j < vectors; j++) { \
                global float *to = sums + i * row_step + j * WIDTH; \
                VSTORE(add ? VLOAD(0, to) + sum[i][j] : sum[i][j], 0, to); \
            } \
        } \
    }

OUTER(outer_1, 1)
OUTER(outer_2, 2)

// sums[part, point, output, channel] = sum over the part's tiles of dy[point, tile, output] x[point, tile, channel]; outputs
// and channels are filled up to whole vectors, and behind each point is a vector more. A group for each split of the outputs,
// part of the tasks, and split of the channels. `sides` is as above, with the length of `dy` behind that of `x`; `ways` has the
// pixel that tile 0 sees first, splits, parts, splits, floats from one block of values to the next, and the length of the strip.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void filter_grad(
    global const float *x,
    global const float *dy,
    global float *sums,
    const int8 sides,
    const int8 ways,
    const int8 tiles_of,
    local float *strip
) {
    const Tiling tiling = tiling_of(tiles_of);
    const Side side = {sides.s0, sides.s1, sides.s2, sides.s6, ways.s0, ways.s1, sides.s1 * sides.s2};
    const Side out = {sides.s3, sides.s4, sides.s5, sides.s7, 0, 0, sides.s4 * sides.s5};
    const int depth = (side.channels + WIDTH - 1) / WIDTH, wide = (out.channels + WIDTH - 1) / WIDTH;
    const int split = get_global_id(0), this_part = get_global_id(1);
    const int block_step = ways.s5;
    const int first_block = part(wide, ways.s2, split), last_block = part(wide, ways.s2, split + 1);
    const int across = get_global_id(2);
    const int first_channels = part(depth, ways.s4, across), last_channels = part(depth, ways.s4, across + 1);
    const int v_step = (last_channels - first_channels) * block_step + WIDTH;
    const int d_step = (last_block - first_block) * block_step + WIDTH;
    const int first = part(tiling.tasks, ways.s3, this_part), last = part(tiling.tasks, ways.s3, this_part + 1);
    local float *d = strip + ways.s6;
    local float *v = d + POINTS * d_step;
    const int sums_step = (wide * WIDTH * depth + 1) * WIDTH;
    sums += this_part * POINTS * sums_step;
    for (int task = first; task < last; task++) {
        const int begin = part(tiling.units, tiling.tasks, task), end = part(tiling.units, tiling.tasks, task + 1);
        const int tiles = values_of_pictures(
            x, &side, &tiling, begin, end, first_channels, last_channels, strip, v, block_step, v_step
        );
        values_of_gradients(dy, &out, &tiling, begin, end, first_block, last_block, strip, d, block_step, d_step);
        for (int point = 0; point < POINTS; point++) {
            for (int panel = first_channels; panel < last_channels; panel += 2) {
                local const float *right = v + point * v_step + (panel - first_channels) * block_step;
                for (int block = first_block; block < last_block; block++) {
                    for (int row = 0; row < WIDTH; row += OUTER_ROWS) {
                        local const float *left = d + point * d_step + (block - first_block) * block_step + row;
                        const int line = block * WIDTH + row;
                        global float *to = sums + point * sums_step + (line * depth + panel) * WIDTH;
                        if (last_channels - panel >= 2) {
                            outer_2(tiles, left, right, block_step, to, depth * WIDTH, task > first);
                        } else {
                            outer_1(tiles, left, right, block_step, to, depth * WIDTH, task > first);
                        }
                    }
                }
            }
        }
    }
}

// The taps of the sums of all parts. A work-item for each output of WIDTH channels.
kernel void collect_filters(
    global const float *sums,
    global float *to,
    const int parts,
    const int channels,
    const int outputs,
    const int reverse
) {
    const int depth = (channels + WIDTH - 1) / WIDTH, rows = (outputs + WIDTH - 1) / WIDTH * WIDTH;
    const int item = get_global_id(0);
    if (item >= outputs * depth) {
        return;
    }
    const int output = item / depth;
    const int block = item - output * depth;
    float products[POINTS * WIDTH];
    for (int point = 0; point < POINTS; point++) {
        real sum = 0.0f;
        for (int p = 0; p < parts; p++) {
            sum += VLOAD((p * POINTS + point) * (rows * depth + 1) + output * depth + block, sums);
        }
        VSTORE(fma(sum, (real)(WEIGHTS[point]), sum * RESTS[point]), point, products);
    }
    real filter[R][R];
    filter_of(products, WIDTH, filter);
    float taps[TAPS * WIDTH];
    UNROLL for (int i = 0; i < R; i++) {
        UNROLL for (int j = 0; j < R; j++) {
            const int tap = i * R + j;
            VSTORE(filter[i][j], reverse ? TAPS - 1 - tap : tap, taps);
        }
    }
    const int lanes = min(WIDTH, channels - block * WIDTH);
    to += (output * channels + block * WIDTH) * TAPS;
    for (int lane = 0; lane < lanes; lane++) {
        for (int tap = 0; tap < TAPS; tap++) {
            to[lane * TAPS + tap] = taps[tap * WIDTH + lane];
        }
    }
}

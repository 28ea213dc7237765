// The Winograd algorithm for kernels of R by R taps and stride 1 (winograd.rs), in tiles of M by M outputs,
// each of which depends on A by A pixels. For processors: a work-group is one work-item, and local memory is
// memory in the cache of its core. A vector holds one pixel of WIDTH channels.
//
// Inserted before this text: transposed_tile.cl; winograd_direct.cl; the transforms along one axis, `input_transform`,
// `filter_transform`, `gradient_transform`, `output_transform` and `filter_grad_transform`; SCALES and
// REMAINDERS, whose sums scale the products; RESPONSE and RESPONSE_REMAINDERS, whose sums are the factors of a
// filter's values in its response to a constant input, and CORRECTED, the point with the largest of them.

// The last register tiles of a product have one or two thirds of the rows.
#define THIRD_ROWS (ROWS / 3)

// Transforms a tile of SIZE by SIZE pixels to its values at the points, by `axis` along both axes.
#define TRANSFORM_TILE(name, SIZE, axis) \
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

TRANSFORM_TILE(transform_input_tile, A, input_transform)
TRANSFORM_TILE(transform_gradient_tile, M, gradient_transform)

// Computes v[point, block, tile] for some blocks of channels and all tiles of some units, and the energies of
// the units' pixels, and returns the number of tiles. A tile has SIZE by SIZE pixels.
#define TRANSFORM_UNITS(name, transform, SIZE) \
    int name( \
        global const float *x, \
        const FeatureMap *map, \
        const Tiling *tiling, \
        int first_unit, \
        int last_unit, \
        int first_block, \
        int last_block, \
        local float *pixels, \
        local float *v, \
        int block_step, \
        int point_step, \
        local float *energies, \
        int energy_step \
    ) { \
        int tiles = 0; \
        for (int block = first_block; block < last_block; block++) { \
            local float *to = v + (block - first_block) * block_step; \
            const int channel = block * WIDTH; \
            tiles = 0; \
            for (int i = first_unit; i < last_unit; i++) { \
                const Unit unit = unit_of(tiling, i); \
                const int columns = unit.columns * M + SIZE - M; \
                read_transposed( \
                    x, \
                    map, \
                    (unit.image * map->channels + channel) * map->h * map->w, \
                    min(WIDTH, map->channels - channel), \
                    unit.row * M + map->row, \
                    unit.column * M + map->column, \
                    unit.rows * M + SIZE - M, \
                    columns, \
                    pixels, \
                    energies + (i - first_unit) * energy_step, \
                    block > first_block \
                ); \
                for (int row = 0; row < unit.rows; row++) { \
                    for (int column = 0; column < unit.columns; column++) { \
                        local const float *from = pixels + (row * columns + column) * M * WIDTH; \
                        transform(from, columns, to + tiles * WIDTH, point_step); \
                        tiles++; \
                    } \
                } \
            } \
        } \
        return tiles; \
    }

TRANSFORM_UNITS(transform_inputs, transform_input_tile, A)
TRANSFORM_UNITS(transform_gradients, transform_gradient_tile, M)

// Transforms the products at all points to SIZE by SIZE results, by `axis` along both axes.
#define TRANSFORM_PRODUCTS(name, space, SIZE, axis) \
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

TRANSFORM_PRODUCTS(output_tile, local, M, output_transform)
TRANSFORM_PRODUCTS(filter_grad_tile, private, R, filter_grad_transform)

// m[row, vector] = sum over the channels of v[block, row, channel] u[channel, vector], for `rows` tiles.
#define MULTIPLY(name, rows, vectors) \
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

// Multiplies all tiles by a panel of one or two vectors. The last register tile may read rows of `v` and
// write rows of `m` behind the last tile.
#define MULTIPLY_ALL(vectors) \
    MULTIPLY(multiply_full_##vectors, ROWS, vectors) \
    MULTIPLY(multiply_two_thirds_##vectors, (2 * THIRD_ROWS), vectors) \
    MULTIPLY(multiply_one_third_##vectors, THIRD_ROWS, vectors) \
    void multiply_##vectors( \
        int tiles, int depth, local const float *v, int block_step, global const float *u, local float *m \
    ) { \
        for (int tile = 0; tile < tiles; tile += ROWS) { \
            local const float *from = v + tile * WIDTH; \
            local float *to = m + tile * 2 * WIDTH; \
            if (tiles - tile > 2 * THIRD_ROWS) { \
                multiply_full_##vectors(depth, from, block_step, u, to); \
            } else if (tiles - tile > THIRD_ROWS) { \
                multiply_two_thirds_##vectors(depth, from, block_step, u, to); \
            } else { \
                multiply_one_third_##vectors(depth, from, block_step, u, to); \
            } \
        } \
    }

MULTIPLY_ALL(1)
MULTIPLY_ALL(2)

// One work-group for each task and some panels of outputs. sides: channels and size of `x`, those of `y`, and
// the length of `x`. options: the first pixel of tile 0, panels per work-group, floats from one block of `v`
// and from one point of `m` to the next, whether there is a bias, the activation, and the floats of the
// pixels of a unit. filters: see Filters. Outputs of far tiles are computed directly, from `weight`.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void convolve(
    global const float *x,
    global const float *u,
    global const float *bias,
    global float *y,
    global const float *weight,
    const int8 sides,
    const int8 options,
    const int8 filters_of,
    const int8 tiles_of,
    local float *pixels
) {
    const Tiling tiling = tiling_of(tiles_of);
    const Filters filters = {filters_of.s0, filters_of.s1, filters_of.s2, filters_of.s3};
    const FeatureMap src = {sides.s0, sides.s1, sides.s2, sides.s6, options.s0, options.s1, sides.s1 * sides.s2};
    const FeatureMap dst = {sides.s3, sides.s4, sides.s5, 0, 0, 0, sides.s4 * sides.s5};
    const int depth = (src.channels + WIDTH - 1) / WIDTH, wide = (dst.channels + WIDTH - 1) / WIDTH;
    const int block_step = options.s3, m_step = options.s4;
    const int v_step = depth * block_step + WIDTH;
    const int task = get_global_id(0);
    const int first = part(tiling.units, tiling.tasks, task), last = part(tiling.units, tiling.tasks, task + 1);
    local float *m = pixels + options.s7;
    local float *v = m + POINTS * m_step;
    // The last register tile of a point may read ROWS rows behind the last tile.
    local float *energies = v + POINTS * v_step + ROWS * WIDTH;
    const int energy_step = options.s7 / WIDTH;
    const int tiles = transform_inputs(
        x, &src, &tiling, first, last, 0, depth, pixels, v, block_step, v_step, energies, energy_step
    );
    local int *far = (local int *)(energies + (last - first) * energy_step);
    const int far_count =
        find_far_tiles(&src, &dst, &tiling, first, last, energies, energy_step, WINDOW_RATIO, far);
    const int panels = (wide + 1) / 2;
    const int last_panel = min(panels, (int)(get_global_id(1) + 1) * options.s2);
    for (int panel = get_global_id(1) * options.s2; panel < last_panel; panel++) {
        const int vectors = min(2, wide - 2 * panel);
        global const float *values = u + panel * POINTS * (2 * src.channels + 1) * WIDTH;
        for (int point = 0; point < POINTS; point++) {
            if (vectors == 2) {
                multiply_2(tiles, src.channels, v + point * v_step, block_step, values, m + point * m_step);
            } else {
                multiply_1(tiles, src.channels, v + point * v_step, block_step, values, m + point * m_step);
            }
            values += (src.channels * vectors + 1) * WIDTH;
        }
        for (int vector = 0; vector < vectors; vector++) {
            const int channel = (2 * panel + vector) * WIDTH;
            real plus = 0.0f;
            if (options.s5) {
                plus = load(bias + channel, dst.channels - channel);
            }
            int tile = 0;
            for (int i = first; i < last; i++) {
                const Unit unit = unit_of(&tiling, i);
                const int columns = unit.columns * M;
                for (int row = 0; row < unit.rows; row++) {
                    for (int column = 0; column < unit.columns; column++) {
                        real square[M][M];
                        output_tile(m + (2 * tile + vector) * WIDTH, m_step, square);
                        UNROLL for (int r = 0; r < M; r++) {
                            UNROLL for (int c = 0; c < M; c++) {
                                const int offset = (row * M + r) * columns + column * M + c;
                                VSTORE(square[r][c] + plus, offset, pixels);
                            }
                        }
                        tile++;
                    }
                }
                if (options.s6 != 0) {
                    for (int pixel = 0; pixel < unit.rows * M * columns; pixel++) {
                        VSTORE(activated(VLOAD(pixel, pixels), options.s6), pixel, pixels);
                    }
                }
                write_transposed(
                    pixels,
                    &dst,
                    (unit.image * dst.channels + channel) * dst.h * dst.w,
                    min(WIDTH, dst.channels - channel),
                    unit.row * M,
                    unit.column * M,
                    unit.rows * M,
                    columns,
                    y
                );
            }
        }
        // The products are stored: their memory has room for the sums of all tiles.
        for (int vector = 0; far_count > 0 && vector < vectors; vector++) {
            const int channel = (2 * panel + vector) * WIDTH;
            real plus = 0.0f;
            if (options.s5) {
                plus = load(bias + channel, dst.channels - channel);
            }
            compute_far_tiles(
                x, &src, weight, &filters, &dst, &tiling, first, last, far, channel, plus, options.s6, m, y
            );
        }
    }
}

// A sum whose rounding errors are summed as well.
typedef struct {
    real sum, rest;
} ExactSum;

// Adds a product with a factor that is given as a float and the remainder.
ExactSum add_product(ExactSum to, real value, float factor, float remainder) {
    const real product = value * factor;
    const real lost = fma(value, (real)(factor), -product);
    const real sum = to.sum + product;
    const real back = sum - to.sum;
    const real rest = (to.sum - (sum - back)) + (product - back);
    to.sum = sum;
    to.rest += rest + (lost + value * remainder);
    return to;
}

// Corrects a filter's values, `step` vectors apart, so that their response to a constant input is that of the taps: rounding
// errors there are the same in every tile.
void correct_response(const real *taps, global float *values, int step) {
    ExactSum off = {(real)(0.0f), (real)(0.0f)};
    for (int tap = 0; tap < TAPS; tap++) {
        off = add_product(off, taps[tap], (float)(M * M), 0.0f);
    }
    for (int point = 0; point < POINTS; point++) {
        off = add_product(off, VLOAD(point * step, values), -RESPONSE[point], -RESPONSE_REMAINDERS[point]);
    }
    const real value = VLOAD(CORRECTED * step, values);
    VSTORE(value + (off.sum + off.rest) / RESPONSE[CORRECTED], CORRECTED * step, values);
}

// u[panel, point, channel, output of the panel]: the transformed filters, with one extra vector per point,
// because with a stride of a power of two all points would map to the same cache sets. The taps of (channel,
// output) are `channel_step` and `output_step` apart in `from`. If `corrects` is 1, their response to a constant input is
// corrected. One work-item for each block of outputs and WIDTH channels.
kernel void transform_filters(
    global const float *from,
    global float *u,
    const int length,
    const int channels,
    const int outputs,
    const int channel_step,
    const int output_step,
    const int reverse,
    const int corrects
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
            load_block(from, length, at, output_step, min(WIDTH, outputs - block * WIDTH), taps + t);
            transpose_block(taps + t);
        }
        real lines[A][R];
        UNROLL for (int i = 0; i < R; i++) {
            real line[R], values[A];
            UNROLL for (int j = 0; j < R; j++) {
                line[j] = reverse ? taps[TAPS - 1 - i * R - j] : taps[i * R + j];
            }
            filter_transform(line, values);
            UNROLL for (int j = 0; j < A; j++) {
                lines[j][i] = values[j];
            }
        }
        global float *to = u + (block / 2 * POINTS * (2 * channels + 1) + channel * vectors + block % 2) * WIDTH;
        UNROLL for (int j = 0; j < A; j++) {
            real values[A];
            filter_transform(lines[j], values);
            UNROLL for (int i = 0; i < A; i++) {
                const int point = i * A + j;
                const real value = fma(values[i], (real)(SCALES[point]), values[i] * REMAINDERS[point]);
                VSTORE(value, point * (channels * vectors + 1), to);
            }
        }
        if (corrects) {
            correct_response(taps, to, channels * vectors + 1);
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

// sums[part, point, output, channel] = sum over the part's tiles of dy[point, tile, output] x[point, tile,
// channel]. Outputs and channels are padded to whole vectors, and each point has one extra vector. One
// work-group for each split of the outputs, part of the tasks, and split of the channels. sides: as above,
// with the length of `dy` after that of `x`. options: the first pixel of tile 0, splits of the outputs,
// parts, splits of the channels, floats from one block of transformed tiles to the next, and the floats of
// the pixels of a unit. found_far[work-group] = whether it has a tile that the transforms cannot compute with.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void filter_grad(
    global const float *x,
    global const float *dy,
    global float *sums,
    global float *found_far,
    const int8 sides,
    const int8 options,
    const int8 tiles_of,
    local float *pixels
) {
    const Tiling tiling = tiling_of(tiles_of);
    const FeatureMap src = {sides.s0, sides.s1, sides.s2, sides.s6, options.s0, options.s1, sides.s1 * sides.s2};
    const FeatureMap dst = {sides.s3, sides.s4, sides.s5, sides.s7, 0, 0, sides.s4 * sides.s5};
    const int depth = (src.channels + WIDTH - 1) / WIDTH, wide = (dst.channels + WIDTH - 1) / WIDTH;
    const int split = get_global_id(0), this_part = get_global_id(1);
    const int block_step = options.s5;
    const int first_block = part(wide, options.s2, split), last_block = part(wide, options.s2, split + 1);
    const int across = get_global_id(2);
    const int first_channels = part(depth, options.s4, across), last_channels = part(depth, options.s4, across + 1);
    const int v_step = (last_channels - first_channels) * block_step + WIDTH;
    const int d_step = (last_block - first_block) * block_step + WIDTH;
    const int first = part(tiling.tasks, options.s3, this_part), last = part(tiling.tasks, options.s3, this_part + 1);
    local float *d = pixels + options.s6;
    local float *v = d + POINTS * d_step;
    local float *energies = v + POINTS * v_step + ROWS * WIDTH;
    const int energy_step = options.s6 / WIDTH;
    int any_far = 0;
    const int sums_step = (wide * WIDTH * depth + 1) * WIDTH;
    sums += this_part * POINTS * sums_step;
    for (int task = first; task < last; task++) {
        const int begin = part(tiling.units, tiling.tasks, task), end = part(tiling.units, tiling.tasks, task + 1);
        const int tiles = transform_inputs(
            x,
            &src,
            &tiling,
            begin,
            end,
            first_channels,
            last_channels,
            pixels,
            v,
            block_step,
            v_step,
            energies,
            energy_step
        );
        local int *far = (local int *)(energies + (end - begin) * energy_step);
        any_far |=
            find_far_tiles(&src, &dst, &tiling, begin, end, energies, energy_step, WEIGHT_RATIO, far) > 0;
        transform_gradients(
            dy,
            &dst,
            &tiling,
            begin,
            end,
            first_block,
            last_block,
            pixels,
            d,
            block_step,
            d_step,
            energies,
            energy_step
        );
        any_far |= !are_moderate(&dst, &tiling, begin, end, M, energies, energy_step);
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
    const int group = (split * options.s3 + this_part) * options.s4 + across;
    found_far[group] = any_far ? 1.0f : 0.0f;
}

// Adds the sums of all parts and transforms them to taps. One work-item for each output and WIDTH channels.
kernel void reduce_filter_grad(
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
        VSTORE(fma(sum, (real)(SCALES[point]), sum * REMAINDERS[point]), point, products);
    }
    real filter[R][R];
    filter_grad_tile(products, WIDTH, filter);
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

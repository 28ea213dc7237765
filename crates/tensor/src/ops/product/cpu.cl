// Products and convolutions on processors; see product/mod.rs.
//
// A work-item computes a block of results. It packs a block of the gathered matrix into local memory, which on processors is
// cached memory, and computes register tiles of ROWS rows and VECTORS vectors. A work-group is one work-item.

#define PANEL (VECTORS * WIDTH)

#define UNROLL _Pragma("unroll")

#define VLOAD PASTE(vload, WIDTH)
#define VSTORE PASTE(vstore, WIDTH)

// Loads the vector at `at`; lanes outside of the array are 0.
real fetch(global const float *b, int at, int length) {
    if (at >= 0 && at <= length - WIDTH) {
        return VLOAD(0, b + at);
    }
    float part[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        part[i] = at + i >= 0 && at + i < length ? b[at + i] : 0.0f;
    }
    return VLOAD(0, part);
}

// A vector of columns as runs of contiguous pixels. Run i starts at lane lane[i]; at[i] is the position of its lane 0.
typedef struct {
    int count;
    int at[WIDTH];
    int lane[WIDTH];
} Runs;

Runs runs_of(const Gather *g, int column) {
    Runs runs;
    runs.count = 0;
    const int left = min(WIDTH, g->columns - column);
    int row = column / g->pixels;
    int pixel = column - row * g->pixels;
    int image = row / g->rows;
    row -= image * g->rows;
    int lane = 0;
    while (lane < left) {
        runs.at[runs.count] = g->first + image * g->image + row * g->row + pixel - lane;
        runs.lane[runs.count] = lane;
        runs.count++;
        lane += g->pixels - pixel;
        pixel = 0;
        row++;
        if (row == g->rows) {
            row = 0;
            image++;
        }
    }
    return runs;
}

// to[i] = the offset of row k + i of the gathered matrix from row 0, for rows before `end`. Returns the minimum and the maximum of
// the offsets and 0.
int2 measure_rows(const Gather *g, int k, int end, local int *to) {
    const int taps = max(1, g->tap_rows * g->tap_columns);
    int channel = k / taps;
    int u = (k - channel * taps) / max(1, g->tap_columns);
    int v = k - channel * taps - u * g->tap_columns;
    int start = channel * g->channel + u * g->tap_row;
    int2 reach = 0;
    for (; k < end; k++) {
        const int distance = start + tap_column(g, v);
        reach = (int2)(min(reach.x, distance), max(reach.y, distance));
        *to = distance;
        to++;
        v++;
        if (v == g->tap_columns) {
            v = 0;
            u++;
            start += g->tap_row;
            if (u == g->tap_rows) {
                u = 0;
                channel++;
                start = channel * g->channel;
            }
        }
    }
    return reach;
}

// to[i * step] = the columns `runs` of the row at offset distances[i], for `count` rows; `reach` is the result of measure_rows.
void pack(
    global const float *b,
    int length,
    const Runs *runs,
    local const int *distances,
    int2 reach,
    int count,
    local float *to,
    int step
) {
    const PASTE(int, WIDTH) lane = LANES;
    int inside = 1;
    for (int i = 0; i < runs->count; i++) {
        inside &= runs->at[i] + reach.x >= 0 && runs->at[i] + reach.y <= length - WIDTH;
    }
    if (inside && runs->count == 1) {
        b += runs->at[0];
        for (int i = 0; i < count; i++) {
            VSTORE(VLOAD(0, b + distances[i]), 0, to + i * step);
        }
    } else if (inside && runs->count == 2) {
        const PASTE(int, WIDTH) second = lane >= runs->lane[1];
        global const float *other = b + runs->at[1];
        b += runs->at[0];
        for (int i = 0; i < count; i++) {
            VSTORE(select(VLOAD(0, b + distances[i]), VLOAD(0, other + distances[i]), second), 0, to + i * step);
        }
    } else {
        for (int i = 0; i < count; i++) {
            real x = 0.0f;
            for (int r = 0; r < runs->count; r++) {
                x = select(x, fetch(b, runs->at[r] + distances[i], length), lane >= runs->lane[r]);
            }
            VSTORE(x, 0, to + i * step);
        }
    }
}

// c (+)= a b for a tile: `steps` elements of each row of `a`, with the strides `row` and `number`, and a panel. Beyond the last row,
// it is computed again.
#define TILE(name, space, vectors) \
    void name( \
        int steps, \
        space const float *a, \
        int row, \
        int number, \
        int rows, \
        local const float *b, \
        local float *c, \
        int add \
    ) { \
        real sum[ROWS][vectors]; \
        space const float *from[ROWS]; \
        UNROLL for (int i = 0; i < ROWS; i++) { \
            from[i] = a + min(i, rows - 1) * row; \
            UNROLL for (int v = 0; v < vectors; v++) { \
                sum[i][v] = 0.0f; \
            } \
        } \
        int at = 0; \
        for (int k = 0; k < steps; k++) { \
            real panel[vectors]; \
            UNROLL for (int v = 0; v < vectors; v++) { \
                panel[v] = VLOAD(v, b); \
            } \
            UNROLL for (int i = 0; i < ROWS; i++) { \
                const real x = (real)(from[i][at]); \
                UNROLL for (int v = 0; v < vectors; v++) { \
                    sum[i][v] = fma(x, panel[v], sum[i][v]); \
                } \
            } \
            b += PANEL; \
            at += number; \
        } \
        UNROLL for (int i = 0; i < ROWS; i++) { \
            UNROLL for (int v = 0; v < vectors; v++) { \
                local float *to = c + i * PANEL + v * WIDTH; \
                VSTORE(add ? sum[i][v] + VLOAD(0, to) : sum[i][v], 0, to); \
            } \
        } \
    }

// One function for each number of vectors, because panels at the edge are narrower.
#if VECTORS > 2
#define WIDEST_TILE(name, space) TILE(name##_3, space, 3)
#define WIDEST(name) if (vectors > 2) { name##_3(steps, a, row, number, rows, b, c, add); } else
#else
#define WIDEST_TILE(name, space)
#define WIDEST(name)
#endif
#define TILES(name, space) \
    TILE(name##_1, space, 1) \
    TILE(name##_2, space, 2) \
    WIDEST_TILE(name, space) \
    void name( \
        int vectors, \
        int steps, \
        space const float *a, \
        int row, \
        int number, \
        int rows, \
        local const float *b, \
        local float *c, \
        int add \
    ) { \
        WIDEST(name) \
        if (vectors > 1) { \
            name##_2(steps, a, row, number, rows, b, c, add); \
        } else { \
            name##_1(steps, a, row, number, rows, b, c, add); \
        } \
    }

TILES(tile, global)
TILES(tile_of_packed, local)

// One work-group for each block of `block_panels` panels and `block_rows` rows, and for each group of the convolution. Iterates
// over `k` in blocks of `block_depth`.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void product(
    global const float *a,
    const int8 a_steps,
    global const float *b,
    const int8 sizes,
    const int8 steps,
    const int8 start,
    global const float *bias,
    global float *c,
    const int8 c_steps,
    const int activation,
    const int block_rows,
    const int block_panels,
    const int block_depth,
    local float *memory
) {
    const int group = get_global_id(2);
    const Gather g = gather(sizes, steps, start, group);
    const LeftMatrix left = left_matrix(a_steps);
    const int row = get_global_id(1) * block_rows;
    const int rows = min(block_rows, left.rows - row);
    const int vector = get_global_id(0) * block_panels * VECTORS;
    const int vectors = min(block_panels * VECTORS, (g.columns + WIDTH - 1) / WIDTH - vector);
    const int panels = (vectors + VECTORS - 1) / VECTORS;
    const int tiles = (rows + ROWS - 1) / ROWS;
    const int depth = g.channels * g.tap_rows * g.tap_columns;
    const int panel_size = block_depth * PANEL;
    local float *sums = memory + block_panels * panel_size;
    local int *distances = (local int *)(sums + block_panels * block_rows * PANEL);
    a += left.first + group * left.group + row * left.row;

    int k = 0;
    do {
        const int end = min(depth, k + block_depth);
        const int2 reach = measure_rows(&g, k, end, distances);
        for (int v = 0; v < vectors; v++) {
            const Runs runs = runs_of(&g, (vector + v) * WIDTH);
            local float *to = memory + v / VECTORS * panel_size + v % VECTORS * WIDTH;
            pack(b, start.s0, &runs, distances, reach, end - k, to, PANEL);
        }
        for (int t = 0; t < tiles; t++) {
            global const float *from = a + t * ROWS * left.row + k * left.number;
            for (int p = 0; p < panels; p++) {
                tile(
                    min(VECTORS, vectors - p * VECTORS),
                    end - k,
                    from,
                    left.row,
                    left.number,
                    rows - t * ROWS,
                    memory + p * panel_size,
                    sums + (t * panels + p) * ROWS * PANEL,
                    k > 0
                );
            }
        }
        k = end;
    } while (k < depth);

    const Target target = target_of(c_steps);
    c += target.first + group * target.group + row * target.row;
    bias += group * left.rows + row;
    for (int v = 0; v < vectors; v++) {
        const int column = (vector + v) * WIDTH;
        const int count = min(WIDTH, g.columns - column);
        int line = column / g.pixels;
        int pixel = column - line * g.pixels;
        int image = line / g.rows;
        line -= image * g.rows;
        // Whether the results are contiguous: within a line, or in contiguous lines.
        const int whole = count == WIDTH && target.pixel == 1
            && (pixel + WIDTH <= g.pixels
                || (target.line == g.pixels && line * g.pixels + pixel + WIDTH <= g.rows * g.pixels));
        int to[WIDTH];
        for (int i = 0; i < (whole ? 1 : count); i++) {
            to[i] = image * target.image + line * target.line + pixel * target.pixel;
            pixel++;
            if (pixel == g.pixels) {
                pixel = 0;
                line++;
                if (line == g.rows) {
                    line = 0;
                    image++;
                }
            }
        }
        for (int m = 0; m < rows; m++) {
            const int t = m / ROWS;
            const int at = ((t * panels + v / VECTORS) * ROWS + m - t * ROWS) * PANEL + v % VECTORS * WIDTH;
            real x = VLOAD(0, sums + at);
            if (target.biased) {
                x += bias[m];
            }
            x = activated(x, activation);
            global float *out = c + m * target.row;
            if (whole) {
                VSTORE(x, 0, out + to[0]);
            } else {
                float part[WIDTH];
                VSTORE(x, 0, part);
                for (int i = 0; i < count; i++) {
                    out[to[i]] = part[i];
                }
            }
        }
    }
}

// sums[part, group, (channel, tap), o] = sum over the pixels of a part of b[(channel, tap), pixel] * dy[pixel, o], where dy has the
// layout [pixel, group, o]. One work-group for each block of `block_rows` (channel, tap) and `block_panels` panels of `o`, each part
// and each group of the convolution; pixels are packed in blocks of `block_pixels`, a multiple of WIDTH.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void weight_grad(
    global const float *b,
    const int8 sizes,
    const int8 steps,
    const int8 start,
    global const float *dy,
    global float *sums,
    const int outputs,
    const int groups,
    const int part_pixels,
    const int block_rows,
    const int block_panels,
    const int block_pixels,
    local float *memory
) {
    const int group = get_global_id(2);
    const int part = get_global_id(1);
    const Gather g = gather(sizes, steps, start, group);
    const int depth = g.channels * g.tap_rows * g.tap_columns;
    const int across = (outputs + block_panels * PANEL - 1) / (block_panels * PANEL);
    const int row = get_global_id(0) / across * block_rows;
    const int rows = min(block_rows, depth - row);
    const int vector = get_global_id(0) % across * block_panels * VECTORS;
    const int vectors = min(block_panels * VECTORS, (outputs + WIDTH - 1) / WIDTH - vector);
    const int panels = (vectors + VECTORS - 1) / VECTORS;
    const int tiles = (rows + ROWS - 1) / ROWS;
    // Padded by a vector, so that rows do not map to the same cache lines.
    const int line = block_pixels + WIDTH;
    local float *packed = memory + block_rows * line;
    local float *totals = packed + block_pixels * PANEL;
    local int *distances = (local int *)(totals + block_panels * block_rows * PANEL);
    const int2 reach = measure_rows(&g, row, row + rows, distances);
    // Stride of the pixels of `dy`.
    const int next = groups * outputs;

    const int first = part * part_pixels;
    const int last = min(g.columns, first + part_pixels);
    for (int pixel = first; pixel < last; pixel += block_pixels) {
        const int count = min(block_pixels, last - pixel);
        for (int i = 0; i < count; i += WIDTH) {
            const Runs runs = runs_of(&g, pixel + i);
            pack(b, start.s0, &runs, distances, reach, rows, memory + i, line);
        }
        for (int p = 0; p < panels; p++) {
            const int wide = min(VECTORS, vectors - p * VECTORS);
            for (int v = 0; v < wide; v++) {
                // Values read beyond the last output are not stored.
                const int o = group * outputs + (vector + p * VECTORS + v) * WIDTH;
                for (int i = 0; i < count; i++) {
                    const real x = fetch(dy, (pixel + i) * next + o, g.columns * next);
                    VSTORE(x, 0, packed + i * PANEL + v * WIDTH);
                }
            }
            for (int t = 0; t < tiles; t++) {
                local float *to = totals + (p * tiles + t) * ROWS * PANEL;
                tile_of_packed(
                    wide, count, memory + t * ROWS * line, line, 1, rows - t * ROWS, packed, to, pixel > first
                );
            }
        }
    }

    sums += ((part * groups + group) * depth + row) * outputs;
    for (int v = 0; v < vectors; v++) {
        const int o = (vector + v) * WIDTH;
        for (int m = 0; m < rows; m++) {
            const int at = (v / VECTORS * tiles * ROWS + m) * PANEL + v % VECTORS * WIDTH;
            store(VLOAD(0, totals + at), sums + m * outputs + o, outputs - o);
        }
    }
}

// out[plane, phase, r, q] = x[plane, r * line_step - top, q * step + phase - side], zeros outside of the image. One work-item for
// each row of `out`.
kernel void pad_and_split_phases(
    global const float *x,
    global float *out,
    const int8 sizes,
    const int8 layout
) {
    const int planes = sizes.s0, phases = sizes.s1, rows = sizes.s2, columns = sizes.s3, h = sizes.s4, w = sizes.s5;
    const int line_step = layout.s0, step = layout.s1, top = layout.s2, side = layout.s3;
    const int item = get_global_id(0);
    if (item >= planes * phases * rows) {
        return;
    }
    const int block = item / rows;
    const int plane = block / phases;
    const int line = (item - block * rows) * line_step - top;
    const int shift = block - plane * phases - side;
    out += item * columns;
    // Columns first .. last are within the image.
    int first = columns, last = columns;
    if (line >= 0 && line < h) {
        first = clamp(shift >= 0 ? 0 : (step - 1 - shift) / step, 0, columns);
        last = clamp((w - shift + step - 1) / step, first, columns);
    }
    x += (plane * h + line) * w + shift;
    for (int q = 0; q < first; q++) {
        out[q] = 0.0f;
    }
    if (step == 1) {
        int q = first;
        for (; q + WIDTH <= last; q += WIDTH) {
            VSTORE(VLOAD(0, x + q), 0, out + q);
        }
        for (; q < last; q++) {
            out[q] = x[q];
        }
    } else {
        for (int q = first; q < last; q++) {
            out[q] = x[q * step];
        }
    }
    for (int q = last; q < columns; q++) {
        out[q] = 0.0f;
    }
}

// to[batch, column, row] = from[batch, row, column]. One work-item for each block of WIDTH rows and columns.
kernel void transpose(global const float *from, global float *to, const int batches, const int rows, const int columns) {
    const int across = (columns + WIDTH - 1) / WIDTH;
    const int down = (rows + WIDTH - 1) / WIDTH;
    const int item = get_global_id(0);
    const int batch = item / (across * down);
    if (batch >= batches) {
        return;
    }
    const int square = item - batch * across * down;
    const int row = square / across * WIDTH;
    const int column = (square - square / across * across) * WIDTH;
    from += (batch * rows + row) * columns + column;
    to += (batch * columns + column) * rows + row;
    real square_rows[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        square_rows[i] = row + i < rows ? load(from + i * columns, columns - column) : (real)(0.0f);
    }
    // Each round interleaves the first half of the vectors with the second.
    UNROLL for (int round = 1; round < WIDTH; round *= 2) {
        real mixed[WIDTH];
        UNROLL for (int i = 0; i < WIDTH / 2; i++) {
            mixed[2 * i].even = square_rows[i].lo;
            mixed[2 * i].odd = square_rows[i + WIDTH / 2].lo;
            mixed[2 * i + 1].even = square_rows[i].hi;
            mixed[2 * i + 1].odd = square_rows[i + WIDTH / 2].hi;
        }
        UNROLL for (int i = 0; i < WIDTH; i++) {
            square_rows[i] = mixed[i];
        }
    }
    for (int i = 0; i < WIDTH && column + i < columns; i++) {
        store(square_rows[i], to + i * rows, rows - row);
    }
}

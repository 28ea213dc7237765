// Products and convolutions on GPUs; see product/mod.rs.
//
// A work-group of SIDE by SIDE work-items computes TILE by TILE results, each work-item ITEM by ITEM of them. It iterates over
// `k` in steps of SIDE, and first copies a block of each matrix to local memory.

#define SIDE 16
#define ITEMS (SIDE * SIDE)
#define TILE (SIDE * ITEM)

// Number of steps of a short sum; long sums are sums of short ones.
#define SHORT_SUM 32

#define GROUP_SHAPE __attribute__((reqd_work_group_size(SIDE, SIDE, 1)))

// sum[i][j] += the product of a block of the left matrix and one of the right.
void add_products(local float (*left)[TILE + 1], local float (*right)[TILE], float (*sum)[ITEM]) {
    const int x = get_local_id(0), y = get_local_id(1);
    for (int k = 0; k < SIDE; k++) {
        float l[ITEM], r[ITEM];
        for (int i = 0; i < ITEM; i++) {
            l[i] = left[k][y + i * SIDE];
            r[i] = right[k][x + i * SIDE];
        }
        for (int i = 0; i < ITEM; i++) {
            for (int j = 0; j < ITEM; j++) {
                sum[i][j] = fma(l[i], r[j], sum[i][j]);
            }
        }
    }
}

// Adds the short sums to the long ones, and resets them.
void flush_sums(float (*total)[ITEM], float (*sum)[ITEM]) {
    for (int i = 0; i < ITEM; i++) {
        for (int j = 0; j < ITEM; j++) {
            total[i][j] += sum[i][j];
            sum[i][j] = 0.0f;
        }
    }
}

// The position of the first row of a column of the right matrix.
int column_start(const Gather *g, int column) {
    const int row = column / g->pixels;
    const int image = row / g->rows;
    return g->first + image * g->image + (row - image * g->rows) * g->row + column - row * g->pixels;
}

// The offset of row `k` of the right matrix within a column.
int row_distance(const Gather *g, int k) {
    const int taps = g->tap_rows * g->tap_columns;
    const int channel = k / taps;
    const int tap = k - channel * taps;
    const int u = tap / g->tap_columns;
    return channel * g->channel + u * g->tap_row + tap_column(g, tap - u * g->tap_columns);
}

kernel GROUP_SHAPE void product(
    global const float *a,
    const int8 a_steps,
    global const float *b,
    const int8 sizes,
    const int8 steps,
    const int8 start,
    global const float *bias,
    global float *c,
    const int8 c_steps,
    const int activation
) {
    local float left[SIDE][TILE + 1];
    local float right[SIDE][TILE];
    const int group = get_global_id(2);
    const Gather g = gather(sizes, steps, start, group);
    const LeftMatrix rows = left_matrix(a_steps);
    const int depth = g.channels * g.tap_rows * g.tap_columns;
    const int x = get_local_id(0), y = get_local_id(1);
    const int item = y * SIDE + x;
    const int column0 = get_group_id(0) * TILE, row0 = get_group_id(1) * TILE;
    a += rows.first + group * rows.group;
    // The column that this work-item copies.
    const int column = column0 + item % TILE;
    const int from = column < g.columns ? column_start(&g, column) : 0;

    float total[ITEM][ITEM] = {{0.0f}}, sum[ITEM][ITEM] = {{0.0f}};
    int steps_done = 0;
    for (int k0 = 0; k0 < depth; k0 += SIDE) {
        for (int i = 0; i < ITEM; i++) {
            const int row = row0 + y + i * SIDE, k = k0 + x;
            left[x][y + i * SIDE] = row < rows.rows && k < depth ? a[row * rows.row + k * rows.number] : 0.0f;
        }
        for (int i = 0; i < ITEM; i++) {
            const int at = item / TILE + i * (ITEMS / TILE), k = k0 + at;
            right[at][item % TILE] = column < g.columns && k < depth ? b[from + row_distance(&g, k)] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        add_products(left, right, sum);
        barrier(CLK_LOCAL_MEM_FENCE);
        steps_done++;
        if (steps_done % SHORT_SUM == 0) {
            flush_sums(total, sum);
        }
    }
    flush_sums(total, sum);

    const Target target = target_of(c_steps);
    c += target.first + group * target.group;
    for (int j = 0; j < ITEM; j++) {
        const int to = column0 + x + j * SIDE;
        if (to >= g.columns) {
            break;
        }
        const int line = to / g.pixels;
        const int image = line / g.rows;
        global float *out = c + image * target.image + (line - image * g.rows) * target.line
            + (to - line * g.pixels) * target.pixel;
        for (int i = 0; i < ITEM; i++) {
            const int row = row0 + y + i * SIDE;
            if (row < rows.rows) {
                const float plus = target.biased ? bias[group * rows.rows + row] : 0.0f;
                out[row * target.row] = activated(total[i][j] + plus, activation);
            }
        }
    }
}

// sums[part, group, (channel, tap), o] = sum over the pixels of a part of b[(channel, tap), pixel] * dy[pixel, o], where dy has the
// layout [pixel, group, o]. The third axis of the grid are the parts of each group.
kernel GROUP_SHAPE void weight_grad(
    global const float *b,
    const int8 sizes,
    const int8 steps,
    const int8 start,
    global const float *dy,
    global float *sums,
    const int outputs,
    const int groups,
    const int part_pixels
) {
    local float left[SIDE][TILE + 1];
    local float right[SIDE][TILE];
    const int group = get_global_id(2) % groups;
    const int part = get_global_id(2) / groups;
    const Gather g = gather(sizes, steps, start, group);
    const int depth = g.channels * g.tap_rows * g.tap_columns;
    const int x = get_local_id(0), y = get_local_id(1);
    const int item = y * SIDE + x;
    const int o0 = get_group_id(0) * TILE, row0 = get_group_id(1) * TILE;
    const int last = min(g.columns, (part + 1) * part_pixels);
    int distances[ITEM];
    for (int i = 0; i < ITEM; i++) {
        const int row = row0 + y + i * SIDE;
        distances[i] = row < depth ? row_distance(&g, row) : 0;
    }
    const int o = o0 + item % TILE;
    dy += group * outputs + o;

    float total[ITEM][ITEM] = {{0.0f}}, sum[ITEM][ITEM] = {{0.0f}};
    int steps_done = 0;
    for (int p0 = part * part_pixels; p0 < last; p0 += SIDE) {
        const int from = p0 + x < last ? column_start(&g, p0 + x) : 0;
        for (int i = 0; i < ITEM; i++) {
            const int inside = p0 + x < last && row0 + y + i * SIDE < depth;
            left[x][y + i * SIDE] = inside ? b[from + distances[i]] : 0.0f;
        }
        for (int i = 0; i < ITEM; i++) {
            const int at = item / TILE + i * (ITEMS / TILE), pixel = p0 + at;
            right[at][item % TILE] = o < outputs && pixel < last ? dy[pixel * groups * outputs] : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        add_products(left, right, sum);
        barrier(CLK_LOCAL_MEM_FENCE);
        steps_done++;
        if (steps_done % SHORT_SUM == 0) {
            flush_sums(total, sum);
        }
    }
    flush_sums(total, sum);

    sums += (part * groups + group) * depth * outputs;
    for (int i = 0; i < ITEM; i++) {
        const int row = row0 + y + i * SIDE;
        for (int j = 0; j < ITEM; j++) {
            const int to = o0 + x + j * SIDE;
            if (row < depth && to < outputs) {
                sums[row * outputs + to] = total[i][j];
            }
        }
    }
}

// out[plane, phase, r, q] = x[plane, r * line_step - top, q * step + phase - side], zeros outside of the image. One work-item for
// each number.
kernel void pad_and_split_phases(global const float *x, global float *out, const int8 sizes, const int8 layout) {
    const int planes = sizes.s0, phases = sizes.s1, rows = sizes.s2, columns = sizes.s3, h = sizes.s4, w = sizes.s5;
    const int line_step = layout.s0, step = layout.s1, top = layout.s2, side = layout.s3;
    const int at = get_global_id(0);
    if (at >= planes * phases * rows * columns) {
        return;
    }
    const int item = at / columns;
    const int block = item / rows;
    const int plane = block / phases;
    const int line = (item - block * rows) * line_step - top;
    const int column = (at - item * columns) * step + block - plane * phases - side;
    const int inside = line >= 0 && line < h && column >= 0 && column < w;
    out[at] = inside ? x[(plane * h + line) * w + column] : 0.0f;
}

// to[batch, column, row] = from[batch, row, column]. One work-group for each square block; the third axis is the batch.
kernel GROUP_SHAPE void transpose(
    global const float *from,
    global float *to,
    const int batches,
    const int rows,
    const int columns
) {
    local float square[SIDE][SIDE + 1];
    const int batch = get_global_id(2);
    const int x = get_local_id(0), y = get_local_id(1);
    const int row0 = get_group_id(1) * SIDE, column0 = get_group_id(0) * SIDE;
    from += batch * rows * columns;
    to += batch * rows * columns;
    if (row0 + y < rows && column0 + x < columns) {
        square[y][x] = from[(row0 + y) * columns + column0 + x];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (column0 + y < columns && row0 + x < rows) {
        to[(column0 + y) * rows + row0 + x] = square[x][y];
    }
}

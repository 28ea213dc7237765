// Sums along axes. The summed rows of an output are split into blocks of BLOCK floats, which are distributed over `parts` teams; a
// second launch adds the parts. Sums are compensated (Total), in a fixed order.
//
// On processors a team is one work-item, which sums consecutive blocks; on GPUs it is a work-group of TEAM work-items that read
// neighboring vectors, and blocks are distributed round-robin.

#define BLOCK 2048

#if TEAM > 1
// Sums over the work-items of a group; the result is valid in the first work-item.
float team_sum(float value, local float *shared) {
    const int lane = get_local_id(0);
    shared[lane] = value;
    for (int apart = TEAM / 2; apart > 0; apart /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < apart) {
            shared[lane] += shared[lane + apart];
        }
    }
    return shared[0];
}
#endif

// out[o * parts + p] = factor * the sum of part p of output o, over whole rows of `inner` floats.
kernel __attribute__((reqd_work_group_size(TEAM, 1, 1))) void sum_rows(
    global const float *x,
    global float *out,
    const int inner,
    const int rows,
    const int8 row_extents,
    const int8 row_strides,
    const int outputs,
    const int8 extents,
    const int8 strides,
    const int parts,
    const float factor
) {
    // The grid has exactly outputs * parts teams.
    const int team = get_group_id(0);
    const int output = team / parts;
    const int part = team - output * parts;
    const int lane = get_local_id(0);
    const int blocks = (inner + BLOCK - 1) / BLOCK;
    const int units = rows * blocks;
#if TEAM > 1
    const int first = part, last = units, next = parts;
#else
    const int each = (units + parts - 1) / parts;
    const int first = part * each, last = min(units, first + each), next = 1;
#endif
    x += walk(output, extents, strides);
    Total total = {(real)(0.0f), (real)(0.0f)};
    for (int unit = first; unit < last; unit += next) {
        const int row = unit / blocks;
        const int start = (unit - row * blocks) * BLOCK;
        const int end = min(inner, start + BLOCK);
        global const float *from = x + walk(row, row_extents, row_strides);
        // Sixteen plain additions, then a compensated one.
        int at = start + lane * WIDTH;
        while (at < end) {
            real run = load(from + at, end - at);
            at += TEAM * WIDTH;
            for (int i = 1; i < 16 && at < end; i++) {
                run += load(from + at, end - at);
                at += TEAM * WIDTH;
            }
            total = total_add(total, run);
        }
    }
#if TEAM > 1
    local float shared[TEAM];
    const float sum = team_sum(total_value(total), shared);
#else
    const float sum = total_value(total);
#endif
    if (lane == 0) {
        out[team] = sum * factor;
    }
}

// out[(p * outputs + o) * inner + i] = the sum of column i over the rows of part p of output o. One work-item for each vector of
// columns of each output and part.
kernel void sum_columns(
    global const float *x,
    global float *out,
    const int inner,
    const int rows,
    const int8 row_extents,
    const int8 row_strides,
    const int outputs,
    const int8 extents,
    const int8 strides,
    const int parts,
    const float factor
) {
    const int vectors = (inner + WIDTH - 1) / WIDTH;
    const int target = get_global_id(0) / vectors;
    if (target >= outputs * parts) {
        return;
    }
    const int at = (get_global_id(0) - target * vectors) * WIDTH;
    const int count = inner - at;
    const int part = target / outputs;
    const int output = target - part * outputs;
    const int each = (rows + parts - 1) / parts;
    const int last = min(rows, (part + 1) * each);
    x += walk(output, extents, strides) + at;
    Total total = {(real)(0.0f), (real)(0.0f)};
    for (int row = part * each; row < last; row++) {
        total = total_add(total, load(x + walk(row, row_extents, row_strides), count));
    }
    store((total.sum - total.rest) * factor, out + target * inner + at, count);
}

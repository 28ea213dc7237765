// Sums along axes. The summed rows of an output are cut into PIECEs, and these are dealt out to `parts` teams; a second
// launch adds the parts. Sums are long sums (Total), always in the same order.
//
// On processors a team is one work-item, which takes consecutive pieces; on graphics cards it is a work-group of TEAM
// work-items, which read neighbouring vectors, and teams take pieces in turn.

#define PIECE 2048

#if TEAM > 1
// The sum over the work-items of a group, for its first work-item.
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

// out[o * parts + p] = factor * sum of part p of output o: rows of `inner` floats, which are summed whole.
kernel __attribute__((reqd_work_group_size(TEAM, 1, 1))) void sum_rows(
    global const float *x,
    global float *out,
    const int inner,
    const int rows,
    const int8 row_extents,
    const int8 row_steps,
    const int outputs,
    const int8 extents,
    const int8 steps,
    const int parts,
    const float factor
) {
    // The grid has exactly outputs * parts teams.
    const int team = get_group_id(0);
    const int output = team / parts;
    const int part = team - output * parts;
    const int lane = get_local_id(0);
    const int pieces = (inner + PIECE - 1) / PIECE;
    const int units = rows * pieces;
#if TEAM > 1
    const int first = part, last = units, next = parts;
#else
    const int each = (units + parts - 1) / parts;
    const int first = part * each, last = min(units, first + each), next = 1;
#endif
    x += walk(output, extents, steps);
    Total total = {(real)(0.0f), (real)(0.0f)};
    for (int unit = first; unit < last; unit += next) {
        const int row = unit / pieces;
        const int start = (unit - row * pieces) * PIECE;
        const int end = min(inner, start + PIECE);
        global const float *from = x + walk(row, row_extents, row_steps);
        // Sixteen additions at a time, then one that keeps what is rounded off.
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

// out[(p * outputs + o) * inner + i] = sum over the rows of part p of x at column i of output o. One work-item for
// each vector of columns of each output and part.
kernel void sum_columns(
    global const float *x,
    global float *out,
    const int inner,
    const int rows,
    const int8 row_extents,
    const int8 row_steps,
    const int outputs,
    const int8 extents,
    const int8 steps,
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
    x += walk(output, extents, steps) + at;
    Total total = {(real)(0.0f), (real)(0.0f)};
    for (int row = part * each; row < last; row++) {
        total = total_add(total, load(x + walk(row, row_extents, row_steps), count));
    }
    store((total.sum - total.rest) * factor, out + target * inner + at, count);
}

// Max pooling; with the indices `row * w + column` of the maxima if INDICES is 1.

// The maximum of window (r, s) of the channel plane `x`; stores its index to `at`.
float largest(global const float *x, const int8 rows, const int8 columns, int2 us, int r, int s, int *at) {
    const int2 vs = inside_taps(s, columns);
    float best = -INFINITY;
    *at = pixel_of(r, us.x, rows) * columns.INPUT + pixel_of(s, vs.x, columns);
    for (int u = us.x; u < us.y; u++) {
        const int row = pixel_of(r, u, rows) * columns.INPUT;
        for (int v = vs.x; v < vs.y; v++) {
            const int here = row + pixel_of(s, v, columns);
            const float value = x[here];
            if (value > best || value != value) {
                best = value;
                *at = here;
            }
        }
    }
    return best;
}

// `lines` is the number of output rows of all channel planes. A work-item computes `each` rows on processors, and one output on GPUs.
kernel void max_pool2d(
    global const float *x,
    global float *y,
#if INDICES
    global float *indices,
#endif
    const int8 rows,
    const int8 columns,
    const int lines,
    const int each
) {
    const int width = columns.OUTPUT;
    const int plane = rows.INPUT * columns.INPUT;
    int at;
#if !ON_CPU
    const int line = get_global_id(0) / width;
    if (line < lines) {
        const int p = line / rows.OUTPUT;
        const int r = line - p * rows.OUTPUT;
        y[get_global_id(0)] = largest(
            x + p * plane, rows, columns, inside_taps(r, rows), r, get_global_id(0) - line * width, &at
        );
#if INDICES
        indices[get_global_id(0)] = at;
#endif
    }
#else
    const int last = min(lines, ((int)get_global_id(0) + 1) * each);
    for (int line = get_global_id(0) * each; line < last; line++) {
        const int p = line / rows.OUTPUT;
        const int r = line - p * rows.OUTPUT;
        const int2 us = inside_taps(r, rows);
        global const float *from = x + p * plane;
        int s = 0;
        while (s < width) {
#if STRIDE > 0
            if (s >= columns.FIRST_INSIDE && s < columns.END_INSIDE) {
                // The last vector is full; some outputs are computed twice.
                const int t = min(s, max(columns.FIRST_INSIDE, columns.END_INSIDE - WIDTH));
                const int count = min(WIDTH, columns.END_INSIDE - t);
                const int start = pixel_of(t, 0, columns);
                const int end = p * plane + pixel_of(r, us.y - 1, rows) * columns.INPUT
                    + pixel_of(t, columns.TAPS - 1, columns) + REACH;
                if (end <= lines / rows.OUTPUT * plane) {
                    real best = (real)(-INFINITY);
                    real index = (real)(pixel_of(r, us.x, rows) * columns.INPUT + start);
                    for (int u = us.x; u < us.y; u++) {
                        int here = pixel_of(r, u, rows) * columns.INPUT + start;
                        for (int v = 0; v < columns.TAPS; v++) {
                            const real value = pixels(from + here);
                            const int8 better = (value > best) | (value != value);
                            best = select(best, value, better);
#if INDICES
                            index = select(index, (real)(here), better);
#endif
                            here += columns.DILATION;
                        }
                    }
                    store(best, y + line * width + t, count);
#if INDICES
                    index += (real)(0, 1, 2, 3, 4, 5, 6, 7) * (real)(STRIDE);
                    store(index, indices + line * width + t, count);
#endif
                    s = t + count;
                    continue;
                }
            }
#endif
            y[line * width + s] = largest(from, rows, columns, us, r, s, &at);
#if INDICES
            indices[line * width + s] = at;
#endif
            s++;
        }
    }
#endif
}

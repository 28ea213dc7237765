// Average pooling and its gradient. DIVISOR selects the divisor: 0 for `fixed`, 1 for the number of window elements within the padded
// image, 2 for those within the image.

// The factor of the divisor of window `o` along one axis.
float divisor_along(int o, int8 axis) {
#if DIVISOR == 1
    return padded_taps(o, axis);
#elif DIVISOR == 2
    const int2 taps = inside_taps(o, axis);
    return taps.y - taps.x;
#else
    return 1.0f;
#endif
}

// The mean of window (r, s) of the channel plane `x`; the divisor is `divisor` times the factor of the columns.
float mean(
    global const float *x, const int8 rows, const int8 columns, const int2 us, float divisor, int r, int s
) {
    const int2 vs = inside_taps(s, columns);
    float sum = 0.0f;
    for (int u = us.x; u < us.y; u++) {
        const int row = pixel_of(r, u, rows) * columns.INPUT;
        for (int v = vs.x; v < vs.y; v++) {
            sum += x[row + pixel_of(s, v, columns)];
        }
    }
    return sum / (divisor * divisor_along(s, columns));
}

// `lines` is the number of output rows of all channel planes. A work-item computes `each` rows on processors, and one output on GPUs.
kernel void avg_pool2d(
    global const float *x,
    global float *y,
    const int8 rows,
    const int8 columns,
    const float fixed,
    const int lines,
    const int each
) {
    const int width = columns.OUTPUT;
    const int plane = rows.INPUT * columns.INPUT;
#if !ON_CPU
    const int line = get_global_id(0) / width;
    if (line < lines) {
        const int p = line / rows.OUTPUT;
        const int r = line - p * rows.OUTPUT;
        const float divisor = fixed * divisor_along(r, rows);
        const int s = get_global_id(0) - line * width;
        y[get_global_id(0)] = mean(x + p * plane, rows, columns, inside_taps(r, rows), divisor, r, s);
    }
#else
    const int last = min(lines, ((int)get_global_id(0) + 1) * each);
    for (int line = get_global_id(0) * each; line < last; line++) {
        const int p = line / rows.OUTPUT;
        const int r = line - p * rows.OUTPUT;
        const int2 us = inside_taps(r, rows);
        const float divisor = fixed * divisor_along(r, rows);
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
                    real sum = (real)(0.0f);
                    for (int u = us.x; u < us.y; u++) {
                        global const float *row = from + pixel_of(r, u, rows) * columns.INPUT + start;
                        for (int v = 0; v < columns.TAPS; v++) {
                            sum += pixels(row + v);
                        }
                    }
                    store(sum / (divisor * divisor_along(t, columns)), y + line * width + t, count);
                    s = t + count;
                    continue;
                }
            }
#endif
            y[line * width + s] = mean(from, rows, columns, us, divisor, r, s);
            s++;
        }
    }
#endif
}

// The windows that contain pixel `i`: [x, y).
int2 windows_of(int i, int8 axis) {
    const int place = i + axis.PADDING;
    const int before = place - axis.TAPS;
    return (int2)(before < 0 ? 0 : before / axis.STEP + 1, min(axis.OUTPUT, place / axis.STEP + 1));
}

// The gradient of pixel (i, j) from the gradients `dy` of a channel plane and the rows `rs` of windows.
float gathered(
    global const float *dy, const int8 rows, const int8 columns, float fixed, int2 rs, int j
) {
    const int2 ss = windows_of(j, columns);
    float sum = 0.0f;
    for (int r = rs.x; r < rs.y; r++) {
        const float divisor = fixed * divisor_along(r, rows);
        for (int s = ss.x; s < ss.y; s++) {
            sum += dy[r * columns.OUTPUT + s] / (divisor * divisor_along(s, columns));
        }
    }
    return sum;
}

// `lines` is the number of pixel rows of all channel planes. A work-item computes `each` rows on processors, and one pixel on GPUs. Each
// pixel is summed over the windows that contain it.
//
// With a stride of 2, in numbers that count the padding, pixels 2 t and 2 t + 1 see the same windows but for one: those
// that begin at 2 t, 2 t - 2, ..  So a vector of windows makes a vector of even and one of odd pixels.
kernel void avg_pool2d_grad(
    global const float *dy,
    global float *dx,
    const int8 rows,
    const int8 columns,
    const float fixed,
    const int lines,
    const int each
) {
    const int width = columns.INPUT;
    const int plane = rows.OUTPUT * columns.OUTPUT;
#if !ON_CPU
    const int line = get_global_id(0) / width;
    if (line < lines) {
        const int p = line / rows.INPUT;
        const int2 rs = windows_of(line - p * rows.INPUT, rows);
        const int j = get_global_id(0) - line * width;
        dx[get_global_id(0)] = gathered(dy + p * plane, rows, columns, fixed, rs, j);
    }
#else
    const int last = min(lines, ((int)get_global_id(0) + 1) * each);
    for (int line = get_global_id(0) * each; line < last; line++) {
        const int p = line / rows.INPUT;
        const int2 rs = windows_of(line - p * rows.INPUT, rows);
        global const float *from = dy + p * plane;
        global float *to = dx + line * width;
        int j = 0;
#if STRIDE > 0
        // Vectors of windows from t - (TAPS - 1) / STRIDE on, which are within the image.
        const int behind = (columns.TAPS - 1) / STRIDE;
        const int begin = columns.FIRST_INSIDE + behind;
        const float along = fixed * divisor_along(columns.FIRST_INSIDE, columns);
        int t = rs.x < rs.y ? begin : columns.END_INSIDE;
        if (t < columns.END_INSIDE) {
            for (; j < begin * STRIDE - columns.PADDING; j++) {
                to[j] = gathered(from, rows, columns, fixed, rs, j);
            }
        }
        while (t < columns.END_INSIDE) {
            // The last vector is full; some windows are read twice.
            if (t + WIDTH > columns.END_INSIDE) {
                t = max(begin, columns.END_INSIDE - WIDTH);
            }
            const int count = min(WIDTH, columns.END_INSIDE - t);
            const int end = p * plane + (rs.y - 1) * columns.OUTPUT + t + WIDTH;
            if (end > lines / rows.INPUT * plane) {
                break;
            }
            real even = (real)(0.0f);
            real odd = (real)(0.0f);
            for (int r = rs.x; r < rs.y; r++) {
                const float factor = 1.0f / (along * divisor_along(r, rows));
                global const float *row = from + r * columns.OUTPUT + t;
                for (int k = 0; k <= behind; k++) {
                    const real d = vload8(0, row - k) * factor;
                    even += d;
                    // The last window of an odd number of elements ends with an even pixel.
                    if (2 * k + 1 < columns.TAPS) {
                        odd += d;
                    }
                }
            }
            j = t * STRIDE - columns.PADDING;
            // The last odd pixel may be beyond the image.
            const int made = min(count * STRIDE, width - j);
#if STRIDE == 1
            store(even, to + j, made);
#else
            float16 both;
            both.even = even;
            both.odd = odd;
            store(both.lo, to + j, made);
            store(both.hi, to + j + WIDTH, made - WIDTH);
#endif
            j += made;
            t += count;
        }
#endif
        for (; j < width; j++) {
            to[j] = gathered(from, rows, columns, fixed, rs, j);
        }
    }
#endif
}

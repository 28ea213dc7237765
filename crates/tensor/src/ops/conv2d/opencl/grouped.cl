// Convolution of groups of few channels on processors, and its gradients (grouped.rs). A work-group is one work-item, and local memory
// is memory in the cache of its core. A vector holds WIDTH neighboring pixels of a row; a row may be shorter than one vector,
// but not than half of it.
//
// The SOURCES planes of a group are copied with their padding, which stays zero. With a STRIDE of 2 the even and the odd columns are
// copied apart from each other, so that the taps of neighboring outputs are neighbors:
//
//   rows of (phase 0) columns 0, 2, 4, …, then rows of (phase 1) columns 1, 3, 5, …
//
// The rows of the copy pass one after the other, and each is read once for all output rows that it belongs to: LAST + 1 of them.

#define UNROLL _Pragma("unroll")
#define TAPS (KERNEL * KERNEL)
#define LAST ((KERNEL - 1) / STRIDE)

#if WIDTH == 1
#define VLOAD(at, p) ((p)[at])
#define VSTORE(v, at, p) ((p)[at] = (v))
#define EVEN(a, b) (a)
#define ODD(a, b) (b)
#else
#define VLOAD PASTE(vload, WIDTH)
#define VSTORE PASTE(vstore, WIDTH)
#if WIDTH == 16
#define HALF_LOAD vload8
#define HALF_STORE vstore8
#elif WIDTH == 8
#define HALF_LOAD vload4
#define HALF_STORE vstore4
#elif WIDTH == 4
#define HALF_LOAD vload2
#define HALF_STORE vstore2
#endif
#define EVEN(a, b) ((real)((a).even, (b).even))
#define ODD(a, b) ((real)((a).odd, (b).odd))
#endif

// Asks for a cache line before it is needed.
#if defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
#define ASK(p) __builtin_prefetch((const void *)(uintptr_t)(p))
#endif
#endif
#ifndef ASK
#define ASK(p) prefetch(p, 16)
#endif

// Moves each value to the next place. A loop would be compiled to a copy in memory.
#define MOVE(v, from, to) \
    if (to <= LAST) { \
        v[min(to, LAST)] = v[min(from, LAST)]; \
    }
#define SHIFT(v) MOVE(v, 5, 6) MOVE(v, 4, 5) MOVE(v, 3, 4) MOVE(v, 2, 3) MOVE(v, 1, 2) MOVE(v, 0, 1)

// Copies a row. Its last vector overlaps the one before, so that it is full.
#define COPY_ROW(from, width, to) \
    if ((width) >= WIDTH) { \
        for (int c_ = 0; c_ < (width); c_ += WIDTH) { \
            const int at_ = min(c_, (width) - WIDTH); \
            VSTORE(VLOAD(0, (from) + at_), 0, (to) + at_); \
        } \
    } else { \
        COPY_SHORT_ROW(from, width, to) \
    }

// Copies a row of less than WIDTH floats.
#if WIDTH >= 4
#define COPY_SHORT_ROW(from, width, to) \
    if ((width) >= WIDTH / 2) { \
        HALF_STORE(HALF_LOAD(0, from), 0, to); \
        HALF_STORE(HALF_LOAD(0, (from) + (width) - WIDTH / 2), 0, (to) + (width) - WIDTH / 2); \
    } else { \
        COPY_FLOATS(from, width, to) \
    }
#else
#define COPY_SHORT_ROW COPY_FLOATS
#endif

#define COPY_FLOATS(from, width, to) \
    for (int c_ = 0; c_ < (width); c_++) { \
        (to)[c_] = (from)[c_]; \
    }

// Copies the even columns of a row of `width` floats, counted from column -`left`, to `to`, and the odd ones `odd` floats behind.
void split_row(global const float *from, int width, int left, int odd, local float *to) {
    int c = left & 1;
    if (c == 1) {
        to[odd + left / 2] = from[0];
    }
    if (width >= c + 2 * WIDTH) {
        // The last pair of vectors overlaps the one before; a column may be left.
        const int last = width - 2 * WIDTH - ((width - c) & 1);
        for (; c < last + 2 * WIDTH; c += 2 * WIDTH) {
            const int at = min(c, last);
            const real low = VLOAD(0, from + at);
            const real high = VLOAD(0, from + at + WIDTH);
            VSTORE(EVEN(low, high), 0, to + (at + left) / 2);
            VSTORE(ODD(low, high), 0, to + odd + (at + left) / 2);
        }
        c = last + 2 * WIDTH;
    }
    for (; c < width; c++) {
        to[((c + left) & 1) * odd + (c + left) / 2] = from[c];
    }
}

// Copies a plane. `size`: its height and width, the pixels of padding above and at the left, rows of the copy, columns of one phase.
void copy_plane(global const float *plane, const int8 size, local float *to) {
    const int rows = min(size.s0, size.s4 - size.s2);
    for (int row = 0; row < rows; row++) {
        global const float *from = plane + row * size.s1;
        local float *at = to + (row + size.s2) * size.s5;
#if STRIDE == 1
        const int width = min(size.s1, size.s5 - size.s3);
        COPY_ROW(from, width, at + size.s3)
#else
        split_row(from, min(size.s1, 2 * size.s5 - size.s3), size.s3, size.s4 * size.s5, at);
#endif
    }
}

// Copies the planes of a group.
void copy_planes(global const float *planes, const int8 size, local float *to) {
    for (int plane = 0; plane < SOURCES; plane++) {
        copy_plane(planes + plane * size.s0 * size.s1, size, to + plane * STRIDE * size.s4 * size.s5);
    }
}

// Copies the weights of a plane of the result. `options`: see `convolve`.
void copy_weights(global const float *weight, const int8 options, local float *to) {
    for (int plane = 0; plane < SOURCES; plane++) {
        for (int tap = 0; tap < TAPS; tap++) {
            to[plane * TAPS + tap] = weight[plane * options.s4 + (options.s0 ? TAPS - 1 - tap : tap)];
        }
    }
}

void clear(local float *to, int length) {
    for (int i = 0; i < length; i++) {
        to[i] = 0.0f;
    }
}

// Loads the pixels under the taps in a row of the copy; `odd` is the distance of the odd columns from the even ones.
#define LOAD_TAPS(x, row, odd) \
    UNROLL for (int j = 0; j < KERNEL; j++) { \
        x[j] = VLOAD(0, (row) + j % STRIDE * (odd) + j / STRIDE); \
    }

// Stores the results of a block, which starts at column `start` of a row. UPPER is the half of it that ends with a short row.
#if IS_SHORT
#define STORE_BLOCK(v, start, row) \
    HALF_STORE((v).lo, 0, row); \
    HALF_STORE(UPPER(v), 0, (row) + SHORT_WIDTH - WIDTH / 2)
#else
#define STORE_BLOCK(v, start, row) VSTORE(v, 0, (row) + (start))
#endif

// y = activation(x * weight + bias).
//
// size: see `copy_plane`. result: height and width of the result, groups of all images, groups of an image, tasks, rows of a band,
// planes of the result of a group. options: whether the taps of the weight are read backwards, whether there is a bias, the
// activation, and floats of the weight from one plane of the result, and of the source, to the next.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void convolve(
    global const float *x,
    global const float *weight,
    global const float *bias,
    global float *y,
    const int8 size,
    const int8 result,
    const int8 options,
    local float *copy
) {
    const int height = result.s0, width = result.s1, all = result.s2, groups = result.s3, tasks = result.s4;
    const int outputs = result.s6;
    const int pitch = size.s5, odd = size.s4 * size.s5, copied = STRIDE * odd;
    const int source = size.s0 * size.s1;
    const int id = get_global_id(0);
    local float *weights = copy + SOURCES * copied;
    clear(copy, SOURCES * copied);
    for (int index = part(all, tasks, id); index < part(all, tasks, id + 1); index++) {
        const int group = index % groups;
        copy_planes(x + index * SOURCES * source, size, copy);
        for (int output = 0; output < outputs; output++) {
            copy_weights(weight + group * SOURCES * outputs * TAPS + output * options.s3, options, weights);
#if SOURCES == 1
            real taps[TAPS];
            UNROLL for (int tap = 0; tap < TAPS; tap++) {
                taps[tap] = weights[tap];
            }
#endif
            const real plus = options.s1 ? bias[group * outputs + output] : 0.0f;
            global float *to = y + (index * outputs + output) * height * width;
            for (int top = 0; top < height; top += result.s5) {
                const int bottom = min(top + result.s5, height);
                for (int column = 0; column < width; column += WIDTH) {
                    // The last vector overlaps the one before, so that it is full.
                    const int start = max(min(column, width - WIDTH), 0);
                    // Sum k is that of output row `step - k`; those of rows above the band are dropped.
                    real sum[LAST + 1];
                    UNROLL for (int k = 0; k <= LAST; k++) {
                        sum[k] = plus;
                    }
                    for (int step = top; step < bottom + LAST; step++) {
                        UNROLL for (int phase = 0; phase < STRIDE; phase++) {
                            for (int plane = 0; plane < SOURCES; plane++) {
#if SOURCES > 1
                                local const float *taps = weights + plane * TAPS;
#endif
                                real pixels[KERNEL];
                                LOAD_TAPS(pixels, copy + plane * copied + (step * STRIDE + phase) * pitch + start, odd)
                                UNROLL for (int k = 0; k <= LAST; k++) {
                                    if (k * STRIDE + phase < KERNEL) {
                                        UNROLL for (int j = 0; j < KERNEL; j++) {
                                            const real tap = taps[(k * STRIDE + phase) * KERNEL + j];
                                            sum[k] = fma(tap, pixels[j], sum[k]);
                                        }
                                    }
                                }
                            }
                            if (phase == 0 && step >= top + LAST) {
                                const real value = activated(sum[LAST], options.s2);
                                STORE_BLOCK(value, start, to + (step - LAST) * width);
                            }
                        }
                        SHIFT(sum)
                        sum[0] = plus;
                    }
                }
            }
        }
    }
}

// to[part, group, (plane, tap), output] = the weight gradient over a part of the images.
//
// size: see `copy_plane`. result: height and width of dy, images, groups, parts, rows of a band, groups of a task, and tasks of a
// part. options: planes of dy of a group; whether `to` is the weight gradient, [group, output, plane, tap], with one part, and
// whether its taps are written backwards.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void weight_grad(
    global const float *x,
    global const float *dy,
    global float *to,
    const int8 size,
    const int8 result,
    const int8 options,
    local float *copy
) {
    const int height = result.s0, width = result.s1, images = result.s2, groups = result.s3, parts = result.s4;
    const int outputs = options.s0;
    const int pitch = size.s5, odd = size.s4 * size.s5, copied = STRIDE * odd;
    const int source = size.s0 * size.s1;
    const int this_part = get_global_id(0) / result.s7;
    const int first = get_global_id(0) % result.s7 * result.s6;
    const int count = min(result.s6, groups - first);
    local float *totals = copy + SOURCES * copied;
    clear(copy, SOURCES * copied);
    clear(totals, count * outputs * SOURCES * TAPS * WIDTH);
#if IS_SHORT
    local float *grad = totals + count * outputs * SOURCES * TAPS * WIDTH;
    clear(grad, height * width + WIDTH);
#endif
    float lanes[WIDTH];
    UNROLL for (int i = 0; i < WIDTH; i++) {
        lanes[i] = i + 0.5f;
    }
    const real lane = VLOAD(0, lanes);
    const real zero = 0.0f;
    for (int image = part(images, parts, this_part); image < part(images, parts, this_part + 1); image++) {
        for (int group = 0; group < count; group++) {
            const int index = image * groups + first + group;
            copy_planes(x + index * SOURCES * source, size, copy);
            for (int pair = 0; pair < outputs * SOURCES; pair++) {
                const int plane = pair % SOURCES;
                global const float *from = dy + (index * outputs + pair / SOURCES) * height * width;
#if IS_SHORT
                if (plane == 0) {
                    COPY_ROW(from, height * width, grad)
                }
#else
                global const float *grad = from;
#endif
                real sum[TAPS];
                UNROLL for (int tap = 0; tap < TAPS; tap++) {
                    sum[tap] = zero;
                }
                for (int top = 0; top < height; top += result.s5) {
                    const int bottom = min(top + result.s5, height);
                    for (int column = 0; column < width; column += WIDTH) {
                        // The last vector overlaps the one before, or is longer than the row: those lanes are 0.
                        const int start = max(min(column, width - WIDTH), 0);
                        const int partial = start < column || width < WIDTH;
                        const real low = (real)(column - start);
                        const real high = (real)(width - start);
                        // Vector k is that of output row `step - k`.
                        real grads[LAST + 1];
                        UNROLL for (int k = 0; k <= LAST; k++) {
                            grads[k] = zero;
                        }
                        for (int step = top; step < bottom + LAST; step++) {
                            if (SOURCES == 1) {
                                ASK(from + height * width + column * height + step * WIDTH);
                            }
                            SHIFT(grads)
                            if (step < bottom) {
                                grads[0] = VLOAD(0, grad + step * width + start);
                                if (partial) {
                                    grads[0] = select_gt(lane, low, select_gt(high, lane, grads[0], zero), zero);
                                }
                            }
                            UNROLL for (int phase = 0; phase < STRIDE; phase++) {
                                real pixels[KERNEL];
                                LOAD_TAPS(pixels, copy + plane * copied + (step * STRIDE + phase) * pitch + start, odd)
                                if (partial) {
                                    UNROLL for (int j = 0; j < KERNEL; j++) {
                                        pixels[j] = select_gt(lane, low, select_gt(high, lane, pixels[j], zero), zero);
                                    }
                                }
                                UNROLL for (int k = 0; k <= LAST; k++) {
                                    // Rows that a tap does not meet are no factors, not even of 0: they may be infinite.
                                    if (k * STRIDE + phase < KERNEL && step - k >= top && step - k < bottom) {
                                        UNROLL for (int j = 0; j < KERNEL; j++) {
                                            const int tap = (k * STRIDE + phase) * KERNEL + j;
                                            sum[tap] = fma(grads[k], pixels[j], sum[tap]);
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                local float *total = totals + (group * outputs * SOURCES + pair) * TAPS * WIDTH;
                UNROLL for (int tap = 0; tap < TAPS; tap++) {
                    VSTORE(VLOAD(0, total + tap * WIDTH) + sum[tap], 0, total + tap * WIDTH);
                }
            }
        }
    }
    const int depth = SOURCES * TAPS;
    for (int i = 0; i < count * outputs * depth; i++) {
        const float sum = sum_lanes(VLOAD(0, totals + i * WIDTH));
        const int row = first * outputs + i / depth, k = i % depth;
        if (options.s1) {
            const int tap = k % TAPS;
            to[row * depth + k - tap + (options.s2 ? TAPS - 1 - tap : tap)] = sum;
        } else {
            to[((this_part * groups + row / outputs) * depth + k) * outputs + row % outputs] = sum;
        }
    }
}

#if STRIDE == 2
// The gradient of the input with a stride of 2: dx[r, c] = sum of dy[(r + pad - i) / 2, (c + pad - j) / 2] weight[i, j] over the taps
// (i, j) for which both are whole numbers. BEFORE is the padding at the left modulo 2.
//
// source: height and width of dy, rows and columns of the copy, pixels of zeros above and at the left of it. result and options: see
// `convolve`; in options, behind these, the padding above and at the left.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void input_grad(
    global const float *dy,
    global const float *weight,
    global float *dx,
    const int8 source,
    const int8 result,
    const int8 options,
    local float *copy
) {
    const int height = result.s0, width = result.s1, all = result.s2, groups = result.s3, tasks = result.s4;
    const int outputs = result.s6, top = options.s5, left = options.s6;
    const int pitch = source.s3, border = source.s4, copied = source.s2 * source.s3;
    const int id = get_global_id(0);
    local float *line = copy + SOURCES * copied;
    local float *taps = line + (width + 1) / 2 * 2 + 2 * WIDTH;
    clear(copy, SOURCES * copied);
    for (int index = part(all, tasks, id); index < part(all, tasks, id + 1); index++) {
        for (int row = 0; row < SOURCES * source.s0; row++) {
            global const float *from = dy + (index * SOURCES * source.s0 + row) * source.s1;
            local float *at = copy + row / source.s0 * copied + (row % source.s0 + border) * pitch + border;
            COPY_ROW(from, source.s1, at)
        }
        for (int output = 0; output < outputs; output++) {
            copy_weights(weight + index % groups * SOURCES * outputs * TAPS + output * options.s3, options, taps);
            for (int row = 0; row < height; row++) {
                for (int pair = 0; 2 * pair < width; pair += WIDTH) {
                    real even = 0.0f, odd = 0.0f;
                    for (int plane = 0; plane < SOURCES; plane++) {
                        for (int i = (row + top) & 1; i < KERNEL; i += 2) {
                            // Of tap BEFORE and pixel 2 * pair.
                            local const float *from = copy + plane * copied
                                + ((row + top - i) / 2 + border) * pitch + border + pair + (left - BEFORE) / 2;
                            UNROLL for (int j = 0; j < KERNEL; j++) {
                                const real tap = taps[plane * TAPS + i * KERNEL + j];
                                if ((j & 1) == BEFORE) {
                                    even = fma(tap, VLOAD(0, from - (j - BEFORE) / 2), even);
                                } else {
                                    odd = fma(tap, VLOAD(0, from + BEFORE - (j - 1 + BEFORE) / 2), odd);
                                }
                            }
                        }
                    }
                    real low, high;
#if WIDTH == 1
                    low = even;
                    high = odd;
#else
                    low.even = even.lo;
                    low.odd = odd.lo;
                    high.even = even.hi;
                    high.odd = odd.hi;
#endif
                    VSTORE(low, 0, line + 2 * pair);
                    VSTORE(high, 0, line + 2 * pair + WIDTH);
                }
                global float *to = dx + ((index * outputs + output) * height + row) * width;
                COPY_ROW(line, width, to)
            }
        }
    }
}
#endif

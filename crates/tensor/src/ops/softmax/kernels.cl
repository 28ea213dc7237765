// Softmax, log-softmax and their gradients, selected by RULE:
#define SOFTMAX 0
#define LOG_SOFTMAX 1
#define SOFTMAX_GRAD 2
#define LOG_SOFTMAX_GRAD 3
// `a` is x, or y for a gradient; `b` is x, or dy for a gradient.

#if TEAM > 0
// Contiguous rows.
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void softmax_rows(
    global const float *a,
    global const float *b,
    global float *out,
    const int rows,
    const int len
) {
    const int row = get_global_id(0) / TEAM;
    const int lane = get_global_id(0) % TEAM;
    SHARED
#if TEAM == 1
    if (row >= rows) {
        return;
    }
#endif
    a += row * len;
    b += row * len;
    out += row * len;
#if RULE == SOFTMAX || RULE == LOG_SOFTMAX
    const float max = team_max(largest(a, len, lane));
    const float sum = team_sum(exps(a, out, len, lane, max));
    const float factor = RULE == SOFTMAX ? 1.0f / sum : log(sum);
#else
    real part = (real)(0.0f);
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        const real dy = load(b + at, len - at);
        part += RULE == SOFTMAX_GRAD ? load(a + at, len - at) * dy : dy;
    }
    const float sum = team_sum(sum_lanes(part));
#endif
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        const int count = len - at;
#if RULE == SOFTMAX
        store(load(out + at, count) * factor, out + at, count);
#elif RULE == LOG_SOFTMAX
        store(load(a + at, count) - max - factor, out + at, count);
#elif RULE == SOFTMAX_GRAD
        store(load(a + at, count) * (load(b + at, count) - sum), out + at, count);
#else
        store(load(b + at, count) - exp(load(a + at, count)) * sum, out + at, count);
#endif
    }
}
#else
// Lines whose elements have the stride `inner`. One work-item for each vector of adjacent lines.
kernel void softmax_columns(
    global const float *a,
    global const float *b,
    global float *out,
    const int outer,
    const int len,
    const int inner
) {
    const int vectors = (inner + WIDTH - 1) / WIDTH;
    const int block = get_global_id(0) / vectors;
    if (block >= outer) {
        return;
    }
    const int start = (get_global_id(0) - block * vectors) * WIDTH;
    const int count = inner - start;
    a += block * len * inner + start;
    b += block * len * inner + start;
    out += block * len * inner + start;
    const int end = len * inner;
    real sum = (real)(0.0f);
#if RULE == SOFTMAX || RULE == LOG_SOFTMAX
    real max = (real)(-INFINITY);
    for (int at = 0; at < end; at += inner) {
        max = larger(load(a + at, count), max);
    }
    for (int at = 0; at < end; at += inner) {
        sum += exp(load(a + at, count) - max);
    }
    const real last = RULE == SOFTMAX ? 1.0f / sum : log(sum);
#else
    for (int at = 0; at < end; at += inner) {
        const real dy = load(b + at, count);
        sum += RULE == SOFTMAX_GRAD ? load(a + at, count) * dy : dy;
    }
#endif
    for (int at = 0; at < end; at += inner) {
        const real x = load(a + at, count);
#if RULE == SOFTMAX
        store(exp(x - max) * last, out + at, count);
#elif RULE == LOG_SOFTMAX
        store(x - max - last, out + at, count);
#elif RULE == SOFTMAX_GRAD
        store(x * (load(b + at, count) - sum), out + at, count);
#else
        store(load(b + at, count) - exp(x) * sum, out + at, count);
#endif
    }
}
#endif

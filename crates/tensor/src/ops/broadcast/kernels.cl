// out[i] = formula(a[i], b[i]) with broadcasting. INPUTS is 1 or 2; KERNEL is the name of the kernel.

// Loads the vector at column `at` of row `row` of a broadcast array; the stride of the innermost axis, 0 or 1, is in s7.
real load_broadcast(global const float *from, int8 extents, int8 strides, int row, int at, int count) {
    from += walk(row, extents, strides);
    return strides.s7 ? load(from + at, count) : (real)(*from);
}

// One work-item for each vector of each row.
kernel void KERNEL(
    global const float *a,
    const int8 a_strides,
#if INPUTS == 2
    global const float *b,
    const int8 b_strides,
#endif
    global float *out,
    const int8 extents,
    const int rows,
    const int inner
) {
    const int vectors = (inner + WIDTH - 1) / WIDTH;
    const int row = get_global_id(0) / vectors;
    if (row >= rows) {
        return;
    }
    const int at = (get_global_id(0) - row * vectors) * WIDTH;
    const int count = inner - at;
    const real x0 = load_broadcast(a, extents, a_strides, row, at, count);
#if INPUTS == 2
    const real x1 = load_broadcast(b, extents, b_strides, row, at, count);
    store(formula(x0, x1), out + row * inner + at, count);
#else
    store(formula(x0), out + row * inner + at, count);
#endif
}

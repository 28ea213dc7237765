// out[i] = formula(a[i], b[i]), where a and b repeat along some axes. INPUTS is 1 or 2; KERNEL is the kernel's name.

// The vector at column `at` of row `row` of an array that repeats along the axes of step 0; the step of the innermost
// axis, 0 or 1, is in s7.
real repeated(global const float *from, int8 extents, int8 steps, int row, int at, int count) {
    from += walk(row, extents, steps);
    return steps.s7 ? load(from + at, count) : (real)(*from);
}

// One work-item for each vector of each row.
kernel void KERNEL(
    global const float *a,
    const int8 a_steps,
#if INPUTS == 2
    global const float *b,
    const int8 b_steps,
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
    const real x0 = repeated(a, extents, a_steps, row, at, count);
#if INPUTS == 2
    const real x1 = repeated(b, extents, b_steps, row, at, count);
    store(formula(x0, x1), out + row * inner + at, count);
#else
    store(formula(x0), out + row * inner + at, count);
#endif
}

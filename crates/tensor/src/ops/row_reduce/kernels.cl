// One work-item for each row of `n` elements. KIND: 0 maximum, 1 minimum, 2 product, 3 and 4 the position of the first and of the
// last maximum, 5 and 6 those of minima.
kernel void row_reduce(global const float *x, global float *out, const int n, const int rows) {
    const int row = get_global_id(0);
    if (row >= rows) {
        return;
    }
    global const float *from = x + (size_t)row * n;
    float best = from[0];
    int at = 0;
    for (int i = 1; i < n; i++) {
        const float value = from[i];
#if KIND == 2
        best *= value;
#else
        const float a = KIND == 1 || KIND >= 5 ? -value : value;
        const float b = KIND == 1 || KIND >= 5 ? -best : best;
        const bool takes = KIND == 4 || KIND == 6 ? a >= b : a > b;
        if (takes || (value != value && best == best)) {
            best = value;
            at = i;
        }
#endif
    }
    out[row] = KIND >= 3 ? (float)at : best;
}

// Gathers the rows of the output: elements of a row are `stride` apart in the input. One work-item for WIDTH elements of a row.
kernel void permute(
    global const float *x,
    global float *out,
    const int8 extents,
    const int8 strides,
    const int rows,
    const int inner,
    const int stride
) {
    const int vectors = (inner + WIDTH - 1) / WIDTH;
    const int row = get_global_id(0) / vectors;
    if (row >= rows) {
        return;
    }
    const int first = (get_global_id(0) - row * vectors) * WIDTH;
    const int end = min(inner, first + WIDTH);
    global const float *from = x + walk(row, extents, strides);
    for (int i = first; i < end; i++) {
        out[row * inner + i] = from[i * stride];
    }
}

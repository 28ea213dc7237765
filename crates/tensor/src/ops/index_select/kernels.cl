// out[.., o, k] = x[.., indices[o], k]. One work-item for each element of the output.
kernel void index_select(
    global const float *x,
    global const float *indices,
    global float *out,
    const int extent,
    const int outputs,
    const int inner,
    const int elements
) {
    const int i = get_global_id(0);
    if (i >= elements) {
        return;
    }
    const int row = i / inner;
    const int index = (int)indices[row % outputs];
    out[i] = x[(row / outputs * extent + index) * inner + (i - row * inner)];
}

// out[.., o, k] = sum over t of weights[o, t] * x[.., starts[o] + t, k]. One work-item for each element of the output.
kernel void resample(
    global const float *x,
    global const float *starts,
    global const float *weights,
    global float *out,
    const int extent,
    const int outputs,
    const int inner,
    const int width,
    const int elements
) {
    const int i = get_global_id(0);
    if (i >= elements) {
        return;
    }
    const int row = i / inner;
    const int o = row % outputs;
    const int start = (int)starts[o];
    const int count = min(width, extent - start);
    global const float *from = x + (row / outputs * extent + start) * inner + (i - row * inner);
    float sum = 0.0f;
    for (int t = 0; t < count; t++) {
        const float weight = weights[o * width + t];
        if (weight != 0.0f) {
            sum += weight * from[t * inner];
        }
    }
    out[i] = sum;
}

// Reordering of convolution weights, and reduction of their gradients.

// to[group, i, o, u, v] = weight[group, o, i, tap row taps.s2 + u * taps.s3, tap column taps.s4 + v *
// taps.s5]; taps are counted from the end if the kernel is flipped. One work-item for each `o` of BLOCK `i`.
kernel void transpose_weight(
    global const float *weight,
    global float *to,
    const int8 sizes,
    const int8 taps
) {
    const int groups = sizes.s0, outputs = sizes.s1, channels = sizes.s2, kh = sizes.s3, kw = sizes.s4, flip = sizes.s5;
    const int rows = taps.s0, columns = taps.s1;
    const int blocks = (channels + BLOCK - 1) / BLOCK;
    const int item = get_global_id(0);
    const int group = item / (blocks * outputs);
    if (group >= groups) {
        return;
    }
    const int block = (item - group * blocks * outputs) / outputs;
    const int o = item % outputs;
    const int end = min(channels, (block + 1) * BLOCK);
    for (int i = block * BLOCK; i < end; i++) {
        global const float *from = weight + ((group * outputs + o) * channels + i) * kh * kw;
        global float *out = to + ((group * channels + i) * outputs + o) * rows * columns;
        for (int u = 0; u < rows; u++) {
            for (int v = 0; v < columns; v++) {
                const int tap = (taps.s2 + u * taps.s3) * kw + taps.s4 + v * taps.s5;
                out[u * columns + v] = from[flip ? kh * kw - 1 - tap : tap];
            }
        }
    }
}

// weight[group, o, i, tap] = sum over the parts of sums[part, group, (i, tap), o]. One work-item for each `o`
// of BLOCK (i, tap).
kernel void reduce_weight_grad(
    global const float *sums,
    global float *weight,
    const int parts,
    const int groups,
    const int outputs,
    const int depth,
    const int taps,
    const int flip
) {
    const int blocks = (depth + BLOCK - 1) / BLOCK;
    const int item = get_global_id(0);
    const int group = item / (blocks * outputs);
    if (group >= groups) {
        return;
    }
    const int block = (item - group * blocks * outputs) / outputs;
    const int o = item % outputs;
    const int end = min(depth, (block + 1) * BLOCK);
    for (int k = block * BLOCK; k < end; k++) {
        float sum = 0.0f;
        for (int part = 0; part < parts; part++) {
            sum += sums[((part * groups + group) * depth + k) * outputs + o];
        }
        const int channel = k / taps;
        const int tap = k - channel * taps;
        weight[(group * outputs + o) * depth + channel * taps + (flip ? taps - 1 - tap : tap)] = sum;
    }
}

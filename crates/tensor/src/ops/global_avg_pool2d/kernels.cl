// y[p] = the mean of channel plane p. One work-item for each plane.
kernel void global_avg_pool2d(global const float *x, global float *y, const int planes, const int pixels) {
    const int plane = get_global_id(0);
    if (plane >= planes) {
        return;
    }
    x += plane * pixels;
    Total total = {(real)(0.0f), (real)(0.0f)};
    for (int at = 0; at < pixels;) {
        real run = (real)(0.0f);
        for (int i = 0; i < 16 && at < pixels; i++) {
            run += load(x + at, pixels - at);
            at += WIDTH;
        }
        total = total_add(total, run);
    }
    y[plane] = total_value(total) / pixels;
}

// dx[p, i] = dy[p] / pixels. One work-item for each `block` of pixels of each channel plane.
kernel void global_avg_pool2d_grad(
    global const float *dy,
    global float *dx,
    const int planes,
    const int pixels,
    const int block
) {
    const int blocks = (pixels + block - 1) / block;
    const int plane = get_global_id(0) / blocks;
    if (plane >= planes) {
        return;
    }
    const real value = (real)(dy[plane] / pixels);
    const int start = (get_global_id(0) - plane * blocks) * block;
    const int end = min(pixels, start + block);
    for (int at = start; at < end; at += WIDTH) {
        store(value, dx + plane * pixels + at, end - at);
    }
}

// One work-item for each element of the output; `count` is their number.

kernel void to_channel_blocks(global const float *x, global float *y, const int count, const int channels, const int pixels,
                              const int lanes) {
    const int at = get_global_id(0);
    if (at < count) {
        const int blocks = (channels + lanes - 1) / lanes;
        const int pixel = at / lanes % pixels;
        const int block = at / lanes / pixels % blocks;
        const int image = at / lanes / pixels / blocks;
        const int channel = block * lanes + at % lanes;
        y[at] = channel < channels ? x[(image * channels + channel) * pixels + pixel] : 0.0f;
    }
}

kernel void from_channel_blocks(global const float *x, global float *y, const int count, const int channels, const int pixels,
                                const int lanes) {
    const int at = get_global_id(0);
    if (at < count) {
        const int blocks = (channels + lanes - 1) / lanes;
        const int pixel = at % pixels;
        const int channel = at / pixels % channels;
        const int image = at / pixels / channels;
        y[at] = x[((image * blocks + channel / lanes) * pixels + pixel) * lanes + channel % lanes];
    }
}

// Moves the pixels of blocks, [n, c, h r, w r], to small pictures, [n, c r r, h, w], where `to_small` is 1, else back.
// One work-item for each number.
kernel void shuffle_pixels(
    global const float *from,
    global float *to,
    const int to_small,
    const int count,
    const int r,
    const int channels,
    const int h,
    const int w
) {
    // A place among the small pixels, whose channels are `channels` in all.
    int rest = get_global_id(0);
    if (rest >= count) {
        return;
    }
    const int small = rest;
    const int q = rest % w;
    rest /= w;
    const int p = rest % h;
    rest /= h;
    const int channel = rest % channels;
    const int n = rest / channels;
    const int picture = n * (channels / (r * r)) + channel / (r * r);
    const int blocks = (picture * h * r + p * r + channel / r % r) * w * r + q * r + channel % r;
    if (to_small) {
        to[small] = from[blocks];
    } else {
        to[blocks] = from[small];
    }
}

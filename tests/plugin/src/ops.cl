// Rearranges [n, c, h r, w r] to [n, c r r, h, w] if `unshuffle` is 1, or back. One work-item per element.
kernel void shuffle_pixels(
    global const float *from,
    global float *to,
    const int unshuffle,
    const int count,
    const int r,
    const int channels,
    const int h,
    const int w
) {
    // The index in the unshuffled image, which has `channels` channels.
    int rest = get_global_id(0);
    if (rest >= count) {
        return;
    }
    const int unshuffled = rest;
    const int q = rest % w;
    rest /= w;
    const int p = rest % h;
    rest /= h;
    const int channel = rest % channels;
    const int n = rest / channels;
    const int plane = n * (channels / (r * r)) + channel / (r * r);
    const int shuffled = (plane * h * r + p * r + channel / r % r) * w * r + q * r + channel % r;
    if (unshuffle) {
        to[unshuffled] = from[shuffled];
    } else {
        to[shuffled] = from[unshuffled];
    }
}

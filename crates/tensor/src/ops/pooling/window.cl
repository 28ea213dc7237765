// Sliding windows of pooling kernels. STRIDE is the stride of the columns if that is 1 or 2, else 0.

// The components of an axis, an int8.
#define INPUT s0
#define OUTPUT s1
#define TAPS s2
#define STEP s3
#define PADDING s4
#define DILATION s5
// Windows FIRST_INSIDE .. END_INSIDE are completely within the image.
#define FIRST_INSIDE s6
#define END_INSIDE s7

// The number of window elements on the first `pixels` pixels.
int taps_on(int pixels, int8 axis) {
    if (pixels <= 0) {
        return 0;
    }
    return min(axis.TAPS, axis.DILATION == 1 ? pixels : (pixels + axis.DILATION - 1) / axis.DILATION);
}

// The elements of window `o` within the image: [x, y).
int2 inside_taps(int o, int8 axis) {
    const int start = axis.PADDING - o * axis.STEP;
    return (int2)(taps_on(start, axis), taps_on(start + axis.INPUT, axis));
}

// The pixel at element `tap` of window `o`.
int pixel_of(int o, int tap, int8 axis) {
    return o * axis.STEP + tap * axis.DILATION - axis.PADDING;
}

// The number of elements of window `o` within the padded image.
int padded_taps(int o, int8 axis) {
    return taps_on(axis.INPUT + 2 * axis.PADDING - o * axis.STEP, axis);
}

#if ON_CPU && STRIDE > 0
// The number of floats read by `pixels`.
#define REACH (WIDTH * STRIDE)

// Loads WIDTH pixels with stride STRIDE.
real pixels(global const float *p) {
#if STRIDE == 1
    return vload8(0, p);
#else
    return vload16(0, p).even;
#endif
}
#endif

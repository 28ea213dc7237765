// What the kernels of all poolings share; STRIDE, the stride along the columns, is 0 where it is neither 1 nor 2.

// One direction of a window over a picture, as int8.
#define INPUT s0
#define OUTPUT s1
#define TAPS s2
#define STEP s3
#define PADDING s4
#define DILATION s5
// The windows from FIRST_INSIDE on to before END_INSIDE lie inside of the picture as a whole.
#define FIRST_INSIDE s6
#define END_INSIDE s7

// How many elements of a window lie on its first `pixels` pixels.
int taps_on(int pixels, int8 axis) {
    if (pixels <= 0) {
        return 0;
    }
    return min(axis.TAPS, axis.DILATION == 1 ? pixels : (pixels + axis.DILATION - 1) / axis.DILATION);
}

// The elements of window `o` that lie inside of the picture: from x on to before y.
int2 inside_taps(int o, int8 axis) {
    const int start = axis.PADDING - o * axis.STEP;
    return (int2)(taps_on(start, axis), taps_on(start + axis.INPUT, axis));
}

// The pixel under element `tap` of window `o`.
int pixel_of(int o, int tap, int8 axis) {
    return o * axis.STEP + tap * axis.DILATION - axis.PADDING;
}

// How many elements of window `o` lie inside of the padded picture.
int padded_taps(int o, int8 axis) {
    return taps_on(axis.INPUT + 2 * axis.PADDING - o * axis.STEP, axis);
}

#if ON_CPU && STRIDE > 0
// How far vectors of pixels reach.
#define REACH (WIDTH * STRIDE)

// WIDTH pixels, STRIDE apart.
real pixels(global const float *p) {
#if STRIDE == 1
    return vload8(0, p);
#else
    return vload16(0, p).even;
#endif
}
#endif

// Dropout by Philox 4x32: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Element i
// uses word i % 4 of block i / 4, as on all devices.

typedef PASTE(uint, WIDTH) words;

// The high halves of products. Compilers for processors vectorize this, but not mul_hi.
words high(words a, uint b) {
#if ON_CPU
    return PASTE(convert_uint, WIDTH)((PASTE(convert_ulong, WIDTH)(a) * (ulong)b) >> (ulong)32);
#else
    return mul_hi(a, (words)(b));
#endif
}

// The words of WIDTH elements in order. w0 to w3 are the words of each block; `a` and `b` select two blocks.
#if WIDTH == 8
#define VECTOR(a, b) (uint8)(w0.a, w1.a, w2.a, w3.a, w0.b, w1.b, w2.b, w3.b)
#else
#define VECTOR(a, b) (uint4)(w0.a, w1.a, w2.a, w3.a)
#endif

// Scales the elements from `at` on whose words are at least the threshold, and drops the others. (Not by a product with 0: dropped
// elements may be infinite.)
void keep(words w, global const float *x, global float *y, int at, int n, uint threshold, float scale) {
    if (at < n) {
        const real kept = load(x + at, n - at) * scale;
        store(w < threshold ? (real)(0.0f) : kept, y + at, n - at);
    }
}

// One work-item for each WIDTH blocks of four elements.
kernel void dropout(
    global const float *x,
    global float *y,
    const int n,
    const ulong seed,
    const ulong offset,
    const uint threshold,
    const float scale
) {
    const int at = get_global_id(0) * (4 * WIDTH);
    if (at >= n) {
        return;
    }
#if WIDTH == 8
    words w0 = (uint)(at / 4) + (uint8)(0, 1, 2, 3, 4, 5, 6, 7);
#else
    words w0 = (uint)(at / 4) + (uint4)(0, 1, 2, 3);
#endif
    words w1 = 0;
    words w2 = (uint)offset;
    words w3 = (uint)(offset >> 32);
    uint k0 = (uint)seed;
    uint k1 = (uint)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const words a = high(w0, 0xD2511F53u);
        const words b = high(w2, 0xCD9E8D57u);
        const words low = w0 * 0xD2511F53u;
        w0 = b ^ w1 ^ k0;
        w1 = w2 * 0xCD9E8D57u;
        w2 = a ^ w3 ^ k1;
        w3 = low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
#if WIDTH == 8
    keep(VECTOR(s0, s1), x, y, at, n, threshold, scale);
    keep(VECTOR(s2, s3), x, y, at + 8, n, threshold, scale);
    keep(VECTOR(s4, s5), x, y, at + 16, n, threshold, scale);
    keep(VECTOR(s6, s7), x, y, at + 24, n, threshold, scale);
#else
    keep(VECTOR(s0, s0), x, y, at, n, threshold, scale);
    keep(VECTOR(s1, s1), x, y, at + 4, n, threshold, scale);
    keep(VECTOR(s2, s2), x, y, at + 8, n, threshold, scale);
    keep(VECTOR(s3, s3), x, y, at + 12, n, threshold, scale);
#endif
}

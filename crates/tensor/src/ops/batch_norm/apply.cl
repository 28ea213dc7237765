// The elementwise pass. The functions `activate(z)` and `before(y, dy)`, the gradient before the activation, are inserted.
//
// COLUMNS is 0 if work-items process channel planes, or blocks of them, with the constants of one channel. It is 1 if [n, c, h, w] is
// processed as a matrix of n rows and c h w columns with constants for each column.

// to[c, i] = from[c]: repeats the number of each channel for its columns. One work-item for each result.
kernel void repeat(global const float *from, global float *to, const int channels, const int times) {
    const int at = get_global_id(0);
    if (at < channels * times) {
        to[at] = from[at / times];
    }
}

// The constants of y = activate((x - mean) scale + bias), [3][c][times]: mean, scale, bias. `affine` says whether
// there is a weight and a bias. One work-item for each column.
kernel void constants(
    global const float *mean,
    global const float *var,
    global const float *weight,
    global const float *bias,
    const int affine,
    global float *out,
    const int channels,
    const int times,
    const float eps
) {
    const int at = get_global_id(0);
    const int width = channels * times;
    if (at >= width) {
        return;
    }
    const int c = at / times;
    out[at] = mean[c];
    // A variance beyond single precision: no number, as the results are.
    out[width + at] = isinf(var[c]) ? NAN : (affine ? weight[c] : 1.0f) / sqrt(var[c] + eps);
    out[2 * width + at] = affine ? bias[c] : 0.0f;
}

// The constants of dx = p (dz - q (x - mean) - r), [4][c][times]: mean, p, q, r; and dweight and dbias.
// `sums` is [2][c]; `count` is the number of elements of a channel, infinite for given statistics.
kernel void grad_constants(
    global const float *mean,
    global const float *var,
    global const float *weight,
    const int affine,
    global const float *sums,
    global float *out,
    global float *dweight,
    global float *dbias,
    const int channels,
    const int times,
    const float eps,
    const float count
) {
    const int at = get_global_id(0);
    const int width = channels * times;
    if (at >= width) {
        return;
    }
    const int c = at / times;
    const float deviation = sqrt(var[c] + eps);
    const float dot = sums[c] / deviation;
    if (at % times == 0) {
        dweight[c] = dot;
        dbias[c] = sums[channels + c];
    }
    out[at] = mean[c];
    out[width + at] = (affine ? weight[c] : 1.0f) / deviation;
    out[2 * width + at] = dot / deviation / count;
    out[3 * width + at] = sums[channels + c] / count;
}

// The constants of a channel, or of a vector of columns.
typedef struct {
    real mean;
    real a;
    real b;
    real c;
} Constants;

Constants constants_at(global const float *from, int width, int at, int count) {
    Constants k;
#if COLUMNS
    k.mean = load(from + at, count);
    k.a = load(from + width + at, count);
    k.b = load(from + 2 * width + at, count);
#if GRADIENT
    k.c = load(from + 3 * width + at, count);
#endif
#else
    k.mean = (real)(from[at]);
    k.a = (real)(from[width + at]);
    k.b = (real)(from[2 * width + at]);
#if GRADIENT
    k.c = (real)(from[3 * width + at]);
#endif
#endif
    return k;
}

#if GRADIENT
#define INPUTS x, dy, y
#define INPUT_PARAMETERS global const float *x, global const float *dy, global const float *y
#else
#define INPUTS x
#define INPUT_PARAMETERS global const float *x
#endif

void compute(INPUT_PARAMETERS, global float *out, Constants k, int at, int count) {
    const real d = load(x + at, count) - k.mean;
#if GRADIENT
    const real dz = before(load(y + at, count), load(dy + at, count));
    store(k.a * (dz - k.c - d * k.b), out + at, count);
#else
    store(activate(d * k.a + k.b), out + at, count);
#endif
}

// Computes y, or dx if GRADIENT is 1. `width` is the number of channels or columns, `rows` the number of planes or rows, and `len`
// their length. One work-item for each `block` of a row, a multiple of WIDTH.
kernel void apply(
    INPUT_PARAMETERS,
    global const float *constants,
    global float *out,
    const int width,
    const int rows,
    const int len,
    const int block
) {
    const int blocks = (len + block - 1) / block;
    const int row = get_global_id(0) / blocks;
    if (row >= rows) {
        return;
    }
    const int start = (get_global_id(0) - row * blocks) * block;
    const int end = min(len, start + block);
#if COLUMNS
    for (int at = start; at < end; at += WIDTH) {
        const Constants k = constants_at(constants, width, at, end - at);
        compute(INPUTS, out, k, row * len + at, end - at);
    }
#else
    const Constants k = constants_at(constants, width, row % width, 1);
    for (int at = start; at < end; at += WIDTH) {
        compute(INPUTS, out, k, row * len + at, end - at);
    }
#endif
}

// Functions for all programs, inserted before the text of each.
//
// ON_CPU is 1 on processors, else 0. `real` is the vector type of elementwise code, with WIDTH floats: eight on processors and
// four on GPUs, unless the program defines WIDTH itself.

#ifndef WIDTH
#if ON_CPU
#define WIDTH 8
#else
#define WIDTH 4
#endif
#endif

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)

#if WIDTH == 1
typedef float real;
#else
typedef PASTE(float, WIDTH) real;
#endif

// Loads `count` floats, at most three, and zeros.
float4 up_to_3(global const float *p, int count) {
    float4 v = (float4)(0.0f);
    if (count >= 2) {
        v.lo = vload2(0, p);
    }
    if (count & 1 && count > 0) {
        const float last = p[count - 1];
        v.x = count == 1 ? last : v.x;
        v.z = count == 3 ? last : v.z;
    }
    return v;
}

// Loads `count` floats, at most WIDTH, and zeros.
real load(global const float *p, int count) {
#if WIDTH == 1
    return count > 0 ? *p : 0.0f;
#else
    if (count >= WIDTH) {
        return PASTE(vload, WIDTH)(0, p);
    }
#if WIDTH == 8
    // Not element by element: many channel planes end with a partial vector.
    if (count >= 4) {
        return (real)(vload4(0, p), up_to_3(p + 4, count - 4));
    }
    return (real)(up_to_3(p, count), (float4)(0.0f));
#elif WIDTH == 4
    return up_to_3(p, count);
#else
    float part[WIDTH];
    for (int i = 0; i < WIDTH; i++) {
        part[i] = i < count ? p[i] : 0.0f;
    }
    return PASTE(vload, WIDTH)(0, part);
#endif
#endif
}

// Stores the first `count` floats of `v`, at most three.
void store_up_to_3(float4 v, global float *p, int count) {
    if (count >= 2) {
        vstore2(v.lo, 0, p);
    }
    if (count & 1 && count > 0) {
        p[count - 1] = count == 1 ? v.x : v.z;
    }
}

// Stores the first `count` floats of `v`, at most WIDTH.
void store(real v, global float *p, int count) {
#if WIDTH == 1
    if (count > 0) {
        *p = v;
    }
#else
    if (count >= WIDTH) {
        PASTE(vstore, WIDTH)(v, 0, p);
        return;
    }
#if WIDTH == 8
    float4 rest = v.lo;
    if (count >= 4) {
        vstore4(v.lo, 0, p);
        rest = v.hi;
        p += 4;
        count -= 4;
    }
    store_up_to_3(rest, p, count);
#elif WIDTH == 4
    store_up_to_3(v, p, count);
#else
    float part[WIDTH];
    PASTE(vstore, WIDTH)(v, 0, part);
    for (int i = 0; i < count; i++) {
        p[i] = part[i];
    }
#endif
#endif
}

// The larger number; `b` if either is NaN (for which OpenCL's max is unspecified).
real larger(real a, real b) {
    return a > b ? a : b;
}

// `x` where `a > b`, else `y`.
real select_gt(real a, real b, real x, real y) {
    return a > b ? x : y;
}

// Sums the lanes of a vector.
float sum_lanes(real v) {
#if WIDTH == 1
    return v;
#elif WIDTH == 2
    return v.x + v.y;
#else
#if WIDTH == 16
    float8 eight = v.lo + v.hi;
    float4 four = eight.lo + eight.hi;
#elif WIDTH == 8
    float4 four = v.lo + v.hi;
#else
    float4 four = v;
#endif
    float2 two = four.lo + four.hi;
    return two.x + two.y;
#endif
}

// A compensated sum: `rest` is the rounding error of `sum` (W. Kahan, 1965).
typedef struct {
    real sum;
    real rest;
} Total;

Total total_add(Total total, real v) {
    real y = v - total.rest;
    real sum = total.sum + y;
    real rest = (sum - total.sum) - y;
    total.sum = sum;
    // An infinite sum stays infinite.
    total.rest = rest == rest ? rest : (real)(0.0f);
    return total;
}

float total_value(Total total) {
    return sum_lanes(total.sum) - sum_lanes(total.rest);
}

// Returns the start of part `i` of `count` of `whole`; it ends where the next part starts.
int part(int whole, int count, int i) {
    return (long)whole * i / count;
}

// The position of row `row` of an array, given the extents and strides of its axes, the innermost in s0; unused extents are 1.
int walk(int row, int8 extents, int8 strides) {
    int at = 0;
#define WALK_AXIS(s) \
    if (extents.s > 1) { \
        at += row % extents.s * strides.s; \
        row /= extents.s; \
    }
    WALK_AXIS(s0)
    WALK_AXIS(s1)
    WALK_AXIS(s2)
    WALK_AXIS(s3)
    WALK_AXIS(s4)
    return at;
}

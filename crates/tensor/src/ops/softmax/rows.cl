// Row-wise primitives. TEAM work-items process a row, each every TEAM-th vector; on processors TEAM is 1.

#if WIDTH == 8
#define LANES ((int8)(0, 1, 2, 3, 4, 5, 6, 7))
#else
#define LANES ((int4)(0, 1, 2, 3))
#endif

// The first `count` floats of `v`, and `other` in the lanes beyond.
real or_else(real v, int count, float other) {
    return LANES < count ? v : (real)(other);
}

// The largest float of a vector.
float largest_lane(real v) {
#if WIDTH == 8
    const float4 four = fmax(v.lo, v.hi);
#else
    const float4 four = v;
#endif
    const float2 two = fmax(four.lo, four.hi);
    return fmax(two.x, two.y);
}

#if TEAM == 1
#define SHARED
#define team_max(value) (value)
#define team_sum(value) (value)
#else
#define SHARED local float shared[TEAM];
#define team_max(value) team_reduce(value, 1, shared)
#define team_sum(value) team_reduce(value, 0, shared)

// The sum or the maximum over the work-items of a team.
float team_reduce(float value, int largest, local float *shared) {
    const int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    shared[lane] = value;
    for (int apart = TEAM / 2; apart > 0; apart /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < apart) {
            const float other = shared[lane + apart];
            shared[lane] = largest ? fmax(shared[lane], other) : shared[lane] + other;
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return shared[0];
}
#endif

// out = e^(x - max); returns the sum over the vectors of the work-item.
float exps(global const float *x, global float *out, int len, int lane, float max) {
    real sum = (real)(0.0f);
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        const real e = or_else(exp(load(x + at, len - at) - max), len - at, 0.0f);
        store(e, out + at, len - at);
        sum += e;
    }
    return sum_lanes(sum);
}

// The maximum over the vectors of the work-item; minus infinity if there is none.
float largest(global const float *x, int len, int lane) {
    real max = (real)(-INFINITY);
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        max = larger(or_else(load(x + at, len - at), len - at, -INFINITY), max);
    }
    return largest_lane(max);
}

// Sums of rows and columns. TEAM work-items process a row, each every TEAM-th vector; on processors TEAM is 1.

#if TEAM == 1
#define SHARED
#define team_sum(value) (value)
#else
#define SHARED local float shared[TEAM];
#define team_sum(value) team_reduce(value, shared)

float team_reduce(float value, local float *shared) {
    const int lane = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    shared[lane] = value;
    for (int apart = TEAM / 2; apart > 0; apart /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < apart) {
            shared[lane] += shared[lane + apart];
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return shared[0];
}
#endif

#if WIDTH == 8
#define LANES ((int8)(0, 1, 2, 3, 4, 5, 6, 7))
#define or_zero(v, count) (LANES < (count) ? (v) : (real)(0.0f))
#else
// Vectors of one lane are never partial.
#define or_zero(v, count) (v)
#endif

// A long sum: sixteen plain additions, then a compensated one.
typedef struct {
    real run;
    int terms;
    Total total;
} Sum;

Sum empty_sum() {
    Sum sum;
    sum.run = (real)(0.0f);
    sum.terms = 0;
    sum.total.sum = (real)(0.0f);
    sum.total.rest = (real)(0.0f);
    return sum;
}

Sum sum_add(Sum sum, real v) {
    sum.run += v;
    sum.terms++;
    if (sum.terms == 16) {
        sum.total = total_add(sum.total, sum.run);
        sum.run = (real)(0.0f);
        sum.terms = 0;
    }
    return sum;
}

real sum_lane_values(Sum sum) {
    const Total total = total_add(sum.total, sum.run);
    return total.sum - total.rest;
}

float sum_value(Sum sum) {
    return total_value(total_add(sum.total, sum.run));
}

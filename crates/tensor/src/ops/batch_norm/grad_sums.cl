// Sums for the gradients. The function `before(y, dy)` is inserted, which computes dz, the gradient before the activation.

// sums[plane] = Σ dz (x - mean) and sums[planes + plane] = Σ dz for each channel plane of `len` elements.
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void grad_sums_of_planes(
    global const float *x,
    global const float *dy,
    global const float *y,
    global const float *mean,
    global float *sums,
    const int planes,
    const int channels,
    const int len
) {
    const int plane = get_global_id(0) / TEAM;
    const int lane = get_global_id(0) % TEAM;
    SHARED
#if TEAM == 1
    if (plane >= planes) {
        return;
    }
#endif
    const float shift = mean[plane % channels];
    Sum dots = empty_sum();
    Sum plain = empty_sum();
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        const int place = plane * len + at;
        const int count = len - at;
        const real dz = or_zero(before(load(y + place, count), load(dy + place, count)), count);
        dots = sum_add(dots, dz * (load(x + place, count) - shift));
        plain = sum_add(plain, dz);
    }
    const float dot = team_sum(sum_value(dots));
    const float sum = team_sum(sum_value(plain));
    if (lane == 0) {
        sums[plane] = dot;
        sums[planes + plane] = sum;
    }
}

// The same for each column; `mean` is that of each column. One work-item for each vector of columns.
kernel void grad_sums_of_columns(
    global const float *x,
    global const float *dy,
    global const float *y,
    global const float *mean,
    global float *sums,
    const int rows,
    const int width
) {
    const int column = get_global_id(0) * WIDTH;
    const int count = width - column;
    if (count <= 0) {
        return;
    }
    const real shift = load(mean + column, count);
    Sum dots = empty_sum();
    Sum plain = empty_sum();
    for (int row = 0; row < rows; row++) {
        const int place = row * width + column;
        const real dz = before(load(y + place, count), load(dy + place, count));
        dots = sum_add(dots, dz * (load(x + place, count) - shift));
        plain = sum_add(plain, dz);
    }
    store(sum_lane_values(dots), sums + column, count);
    store(sum_lane_values(plain), sums + width + column, count);
}

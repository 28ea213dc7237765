// Means and variances.

// The mean and the biased variance of rows of `len` numbers. If `are_means` is 1, the numbers are means of equally many numbers, whose
// variances are in `x_variances`, and what their rounding has lost in `x_rests`. If `keeps_rests` is 1, what the rounding of the means
// loses is written to `rests`.
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void moments_of_rows(
    global const float *x,
    global const float *x_variances,
    global const float *x_rests,
    const int are_means,
    const int keeps_rests,
    global float *means,
    global float *variances,
    global float *rests,
    const int rows,
    const int len
) {
    const int row = get_global_id(0) / TEAM;
    const int lane = get_global_id(0) % TEAM;
    SHARED
#if TEAM == 1
    if (row >= rows) {
        return;
    }
#endif
    x += row * len;
    Sum sum = empty_sum();
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        sum = sum_add(sum, load(x + at, len - at));
    }
    // The variance is corrected for the rounding of the mean.
    const float mean = team_sum(sum_value(sum)) / len;
    Sum squares = empty_sum();
    Sum left = empty_sum();
    for (int at = lane * WIDTH; at < len; at += TEAM * WIDTH) {
        real d = or_zero(load(x + at, len - at) - mean, len - at);
        real more = (real)(0.0f);
        if (are_means) {
            d += load(x_rests + row * len + at, len - at);
            more = load(x_variances + row * len + at, len - at);
        }
        squares = sum_add(squares, d * d + more);
        left = sum_add(left, d);
    }
    const float square = team_sum(sum_value(squares)) / len;
    const float rest = team_sum(sum_value(left)) / len;
    if (lane == 0) {
        means[row] = mean;
        if (keeps_rests) {
            rests[row] = rest;
        }
        // Preserves NaN.
        const float variance = square - rest * rest;
        variances[row] = variance < 0.0f ? 0.0f : variance;
    }
}

// The same for each column of a matrix. One work-item for each vector of columns.
kernel void moments_of_columns(
    global const float *x,
    global const float *x_variances,
    global const float *x_rests,
    const int are_means,
    const int keeps_rests,
    global float *means,
    global float *variances,
    global float *rests,
    const int rows,
    const int width
) {
    const int column = get_global_id(0) * WIDTH;
    const int count = width - column;
    if (count <= 0) {
        return;
    }
    x += column;
    Sum sum = empty_sum();
    for (int row = 0; row < rows; row++) {
        sum = sum_add(sum, load(x + row * width, count));
    }
    const real mean = sum_lane_values(sum) / rows;
    Sum squares = empty_sum();
    Sum left = empty_sum();
    for (int row = 0; row < rows; row++) {
        real d = load(x + row * width, count) - mean;
        real more = (real)(0.0f);
        if (are_means) {
            d += load(x_rests + column + row * width, count);
            more = load(x_variances + column + row * width, count);
        }
        squares = sum_add(squares, d * d + more);
        left = sum_add(left, d);
    }
    const real rest = sum_lane_values(left) / rows;
    if (keeps_rests) {
        store(rest, rests + column, count);
    }
    const real variance = sum_lane_values(squares) / rows - rest * rest;
    store(mean, means + column, count);
    store(variance < 0.0f ? (real)(0.0f) : variance, variances + column, count);
}

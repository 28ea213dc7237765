// Cross entropy of rows of logits; `softmax/rows.cl` has what it shares with softmax.

// Whether a target is the number of a class.
int is_class(float target, int classes) {
    return target >= 0.0f && target < classes && target == floor(target);
}

// The losses and the probabilities of the rows.
kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void cross_entropy(
    global const float *x,
    global const float *targets,
    global float *losses,
    global float *probabilities,
    const int rows,
    const int classes,
    const float smoothing
) {
    const int row = get_global_id(0) / TEAM;
    const int lane = get_global_id(0) % TEAM;
    SHARED
#if TEAM == 1
    if (row >= rows) {
        return;
    }
#endif
    x += row * classes;
    probabilities += row * classes;
    const float max = team_max(largest(x, classes, lane));
    const float sum = team_sum(exps(x, probabilities, classes, lane, max));
    const float factor = 1.0f / sum;
    // The maximum goes first: its difference from a logit is exact, or nearly so.
    real differences = (real)(0.0f);
    for (int at = lane * WIDTH; at < classes; at += TEAM * WIDTH) {
        const int count = classes - at;
        store(load(probabilities + at, count) * factor, probabilities + at, count);
        if (smoothing != 0.0f) {
            differences += or_else(max - load(x + at, count), count, 0.0f);
        }
    }
    const float all = team_sum(sum_lanes(differences));
    if (lane == 0) {
        const float target = targets[row];
        float loss = NAN;
        if (is_class(target, classes)) {
            const float log_sum = log(sum);
            loss = max - x[(int)target] + log_sum;
            if (smoothing != 0.0f) {
                loss = (1.0f - smoothing) * loss + smoothing * (all / classes + log_sum);
            }
        }
        losses[row] = loss;
    }
}

// dx[i] = (p[i] - hit [i = target] - everywhere) dloss / share. One work-item for each `piece` classes of each row;
// `step` is 1 if each row has a dloss of its own, else 0.
kernel void cross_entropy_grad(
    global const float *p,
    global const float *targets,
    global const float *dloss,
    global float *dx,
    const int rows,
    const int classes,
    const int piece,
    const int step,
    const float share,
    const float hit,
    const float everywhere
) {
    const int pieces = (classes + piece - 1) / piece;
    const int row = get_global_id(0) / pieces;
    if (row >= rows) {
        return;
    }
    const int start = (get_global_id(0) - row * pieces) * piece;
    const int end = min(classes, start + piece);
    const float target = targets[row];
    const float factor = is_class(target, classes) ? dloss[row * step] / share : NAN;
    const int class = is_class(target, classes) ? (int)target : 0;
    for (int at = start; at < end; at += WIDTH) {
        const int place = row * classes + at;
        const real here = LANES + at == class ? (real)(hit) : (real)(0.0f);
        store((load(p + place, end - at) - here - everywhere) * factor, dx + place, end - at);
    }
}

// right[row] = 1 where the first largest number of the row is at the target, else 0; NaN is larger than any number.
// One work-item for each row.
kernel void count_correct(
    global const float *x,
    global const float *targets,
    global float *right,
    const int rows,
    const int classes
) {
    const int row = get_global_id(0);
    if (row >= rows) {
        return;
    }
    x += row * classes;
    float best = x[0];
    int place = 0;
    for (int i = 1; i < classes && best == best; i++) {
        if (!(x[i] <= best)) {
            best = x[i];
            place = i;
        }
    }
    right[row] = targets[row] == place ? 1.0f : 0.0f;
}

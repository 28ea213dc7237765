// Cross entropy of rows of logits; `softmax/rows.cl` is inserted.

// Whether a target is a class index.
int is_class(float target, int classes) {
    return target >= 0.0f && target < classes && target == floor(target);
}

// Computes the losses and the probabilities of the rows.
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
    // Subtract from the maximum first: that difference has almost no rounding error.
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

// dx[i] = (p[i] - hit [i = target] - smooth) dloss / divisor. One work-item for each `block` of classes of each row; `stride` is 1 if
// each row has its own dloss, else 0.
kernel void cross_entropy_grad(
    global const float *p,
    global const float *targets,
    global const float *dloss,
    global float *dx,
    const int rows,
    const int classes,
    const int block,
    const int stride,
    const float divisor,
    const float hit,
    const float smooth
) {
    const int blocks = (classes + block - 1) / block;
    const int row = get_global_id(0) / blocks;
    if (row >= rows) {
        return;
    }
    const int start = (get_global_id(0) - row * blocks) * block;
    const int end = min(classes, start + block);
    const float target = targets[row];
    const float factor = is_class(target, classes) ? dloss[row * stride] / divisor : NAN;
    const int class = is_class(target, classes) ? (int)target : 0;
    for (int at = start; at < end; at += WIDTH) {
        const int place = row * classes + at;
        const real here = LANES + at == class ? (real)(hit) : (real)(0.0f);
        store((load(p + place, end - at) - here - smooth) * factor, dx + place, end - at);
    }
}

// correct[row] = 1 if the first largest number of the row is at the target, else 0; NaN is larger than any number. One work-item for
// each row.
kernel void count_correct(
    global const float *x,
    global const float *targets,
    global float *correct,
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
    correct[row] = targets[row] == place ? 1.0f : 0.0f;
}

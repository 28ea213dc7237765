// Gathering along an axis of `extent` elements, each of `inner` floats.

// The position that a number stands for, or -1.
int position(const float index, const int extent) {
    const int found = index >= 0.0f && index < (float)extent ? (int)index : -1;
    return found >= 0 && found < extent && (float)found == index ? found : -1;
}

kernel void gather(global const float *x, global const float *index, global float *y, const int n, const int extent,
                   const int taken, const int inner) {
    const int at = get_global_id(0);
    if (at >= n) {
        return;
    }
    const int found = position(index[at], extent);
    const int row = at / (taken * inner);
    y[at] = found < 0 ? NAN : x[(row * extent + found) * inner + at % inner];
}

kernel void gather_grad(global const float *index, global const float *dy, global float *dx, const int n,
                        const int extent, const int taken, const int inner) {
    const int item = get_global_id(0);
    if (item >= n) {
        return;
    }
    const int row = item / inner;
    const int column = item % inner;
    global float *to = dx + row * extent * inner + column;
    for (int i = 0; i < extent; i++) {
        to[i * inner] = 0.0f;
    }
    for (int i = 0; i < taken; i++) {
        const int at = (row * taken + i) * inner + column;
        const int found = position(index[at], extent);
        if (found >= 0) {
            to[found * inner] += dy[at];
        }
    }
}

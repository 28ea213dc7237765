// dx[index[i]] += dy[i] in each channel plane. TEAM work-items process a plane: work-item i owns the pixels with index i modulo TEAM,
// and reads all outputs in order. So no two work-items add to the same pixel, and the order of additions is fixed. On processors
// TEAM is 1.

kernel __attribute__((reqd_work_group_size(TEAM, 1, 1))) void max_pool2d_grad(
    global const float *dy,
    global const float *indices,
    global float *dx,
    const int outputs,
    const int pixels
) {
    // The grid has exactly one work-group for each plane.
    const int plane = get_group_id(0);
    const int lane = get_local_id(0);
    dy += plane * outputs;
    indices += plane * outputs;
    dx += plane * pixels;
#if TEAM == 1
    for (int i = 0; i < pixels; i += WIDTH) {
        store((real)(0.0f), dx + i, pixels - i);
    }
#else
    for (int i = lane; i < pixels; i += TEAM) {
        dx[i] = 0.0f;
    }
#endif
    for (int i = 0; i < outputs; i++) {
        const float index = indices[i];
        if (index >= 0.0f && index < pixels) {
            const int at = (int)index;
            if (TEAM == 1 || at % TEAM == lane) {
                dx[at] += dy[i];
            }
        }
    }
}

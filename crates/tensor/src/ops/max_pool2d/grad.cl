// dx[index[i]] += dy[i] in each plane. TEAM work-items do a plane; each owns the pixels whose number leaves its own
// when divided by TEAM, and sees all outputs in their order. So no two add to the same pixel, and sums are always in
// the same order. On processors TEAM is 1.

kernel __attribute__((reqd_work_group_size(TEAM, 1, 1))) void max_pool2d_grad(
    global const float *dy,
    global const float *indices,
    global float *dx,
    const int outputs,
    const int pixels
) {
    // The grid has exactly one team for each plane.
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

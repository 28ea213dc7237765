// Copies `rows` rows of `len` floats; `from_row` and `to_row` are the strides of the rows. One work-item for each vector of each
// row.
kernel void copy_rows(
    global const float *from,
    const int from_start,
    const int from_row,
    global float *to,
    const int to_start,
    const int to_row,
    const int rows,
    const int len
) {
    const int vectors = (len + WIDTH - 1) / WIDTH;
    const int row = get_global_id(0) / vectors;
    if (row >= rows) {
        return;
    }
    const int at = (get_global_id(0) - row * vectors) * WIDTH;
    const real v = load(from + from_start + row * from_row + at, len - at);
    store(v, to + to_start + row * to_row + at, len - at);
}

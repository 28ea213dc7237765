// The matrices of products and convolutions, `c = activation(a b + bias)`; see product/mod.rs.

// The left matrix a[group, row, k]: its number of rows, and strides.
typedef struct {
    int rows, group, row, number, first;
} LeftMatrix;

LeftMatrix left_matrix(int8 s) {
    LeftMatrix rows = {s.s0, s.s1, s.s2, s.s3, s.s4};
    return rows;
}

// The right matrix: a row is a (channel, tap row, tap column), a column an (image, row, pixel). The pixels of a row are
// contiguous.
typedef struct {
    int columns, rows, pixels, channels, tap_rows, tap_columns;
    int image, row, channel, tap_row, tap_column, phases, phase, first;
} Gather;

// start: the length of the array, the first position, and the strides of groups and phases.
Gather gather(int8 sizes, int8 strides, int8 start, int group) {
    Gather g;
    g.columns = sizes.s0;
    g.rows = sizes.s1;
    g.pixels = sizes.s2;
    g.channels = sizes.s3;
    g.tap_rows = sizes.s4;
    g.tap_columns = sizes.s5;
    g.image = strides.s0;
    g.row = strides.s1;
    g.channel = strides.s2;
    g.tap_row = strides.s3;
    g.tap_column = strides.s4;
    g.phases = strides.s5;
    g.phase = start.s3;
    g.first = start.s1 + group * start.s2;
    return g;
}

// The offset of a tap's column.
int tap_column(const Gather *g, int v) {
    const int t = v * g->tap_column;
    return g->phases > 1 ? t % g->phases * g->phase + t / g->phases : t;
}

// The result c[group, row, column]: strides, and whether there is a bias.
typedef struct {
    int group, row, image, line, pixel, first, biased;
} Target;

Target target_of(int8 s) {
    Target target = {s.s0, s.s1, s.s2, s.s3, s.s4, s.s5, s.s6};
    return target;
}

real activated(real x, int activation) {
    switch (activation) {
    case 1:
        return relu(x);
    case 2:
        return sigmoid(x);
    case 3:
        return hyperbolic(x);
    default:
        return x;
    }
}

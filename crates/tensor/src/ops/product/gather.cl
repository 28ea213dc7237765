// The matrices of products and convolutions, as product/mod.rs describes them: `c = activation(a b + bias)`.

// The left matrix, a[group, row, number]: its rows, and steps.
typedef struct {
    int rows, group, row, number, first;
} Rows;

Rows rows_of(int8 s) {
    Rows rows = {s.s0, s.s1, s.s2, s.s3, s.s4};
    return rows;
}

// The right matrix: a row is a (channel, tap row, tap column), a column a (picture, row, pixel). Pixels of a row lie one
// behind the other.
typedef struct {
    int columns, rows, pixels, channels, tap_rows, tap_columns;
    int picture, row, channel, tap_row, tap_column, phases, phase, first;
} Gather;

// start: the array's length, the first number, and steps of groups and phases.
Gather gather(int8 sizes, int8 steps, int8 start, int group) {
    Gather g;
    g.columns = sizes.s0;
    g.rows = sizes.s1;
    g.pixels = sizes.s2;
    g.channels = sizes.s3;
    g.tap_rows = sizes.s4;
    g.tap_columns = sizes.s5;
    g.picture = steps.s0;
    g.row = steps.s1;
    g.channel = steps.s2;
    g.tap_row = steps.s3;
    g.tap_column = steps.s4;
    g.phases = steps.s5;
    g.phase = start.s3;
    g.first = start.s1 + group * start.s2;
    return g;
}

// How far a tap's column is from the first.
int tap_column(const Gather *g, int v) {
    const int t = v * g->tap_column;
    return g->phases > 1 ? t % g->phases * g->phase + t / g->phases : t;
}

// The result, c[group, row, column]: steps, and whether there is a bias.
typedef struct {
    int group, row, picture, line, pixel, first, biased;
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

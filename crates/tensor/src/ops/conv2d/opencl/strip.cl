// Strips of pictures, in which a pixel is a vector, for processors: its lanes are channels, or pictures.

#define UNROLL _Pragma("unroll")

#define VLOAD PASTE(vload, WIDTH)
#define VSTORE PASTE(vstore, WIDTH)

// Swaps the lanes and the vectors of a square. Every round interleaves the first half of the vectors with the second.
void turn(real *square) {
    UNROLL for (int round = 1; round < WIDTH; round *= 2) {
        real mixed[WIDTH];
        UNROLL for (int i = 0; i < WIDTH / 2; i++) {
            mixed[2 * i].even = square[i].lo;
            mixed[2 * i].odd = square[i + WIDTH / 2].lo;
            mixed[2 * i + 1].even = square[i].hi;
            mixed[2 * i + 1].odd = square[i + WIDTH / 2].hi;
        }
        UNROLL for (int i = 0; i < WIDTH; i++) {
            square[i] = mixed[i];
        }
    }
}

// WIDTH vectors, `step` apart from `at` on; of those above `rows`, and outside of the array, zeros.
void load_square(global const float *from, int length, int at, int step, int rows, real *square) {
    if (at + (rows - 1) * step <= length - WIDTH) {
        UNROLL for (int i = 0; i < WIDTH; i++) {
            square[i] = 0.0f;
            if (i < rows) {
                square[i] = VLOAD(0, from + at + i * step);
            }
        }
    } else {
        float part[WIDTH * WIDTH];
        for (int i = 0; i < WIDTH; i++) {
            for (int j = 0; j < WIDTH; j++) {
                const int place = at + i * step + j;
                part[i * WIDTH + j] = i < rows && place < length ? from[place] : 0.0f;
            }
        }
        UNROLL for (int i = 0; i < WIDTH; i++) {
            square[i] = VLOAD(i, part);
        }
    }
}

// Part `i` of `count` of `whole` begins here, and ends where the next begins.
int part(int whole, int count, int i) {
    return (long)whole * i / count;
}

// Pictures: the array's length, the pixel that is seen first, and the step from a lane's plane to the next.
typedef struct {
    int channels, h, w, length, row, column, step;
} Side;

// A rectangle of pixels, some of which may lie outside of the picture: those inside are from `top` and `left` on. Where
// rows of the picture are inside as a whole, all are one run of pixels.
typedef struct {
    int columns, top, left, right, runs, count, start;
} Strip;

Strip strip_of(const Side *side, int row, int column, int rows, int columns) {
    Strip strip;
    strip.columns = columns;
    strip.top = clamp(-row, 0, rows);
    strip.left = clamp(-column, 0, columns);
    strip.right = clamp(side->w - column, strip.left, columns);
    const int high = clamp(side->h - row, strip.top, rows) - strip.top;
    const int wide = strip.right - strip.left;
    const int whole = wide == side->w;
    strip.runs = wide == 0 ? 0 : whole ? min(high, 1) : high;
    strip.count = whole ? high * wide : wide;
    strip.start = (row + strip.top) * side->w + column + strip.left;
    return strip;
}

// Where a run's vector of pixels begins: the last one is moved back so that it is full, if there is one before it.
int vector_start(const Strip *strip, int done) {
    return max(0, min(done, strip->count - WIDTH));
}

// Reads `planes` planes, from `at` on, so that pixels become vectors.
void read_strip(
    global const float *x,
    const Side *side,
    int at,
    int planes,
    int row,
    int column,
    int rows,
    int columns,
    local float *to
) {
    const Strip strip = strip_of(side, row, column, rows, columns);
    const real zero = 0.0f;
    const int inside = strip.runs > 0 ? strip.count / (strip.right - strip.left) * strip.runs : 0;
    for (int r = 0; r < rows; r++) {
        const int none = r < strip.top || r >= strip.top + inside;
        for (int c = 0; c < (none ? columns : strip.left); c++) {
            VSTORE(zero, r * columns + c, to);
        }
        for (int c = none ? columns : strip.right; c < columns; c++) {
            VSTORE(zero, r * columns + c, to);
        }
    }
    const int wide = strip.right - strip.left;
    for (int run = 0; run < strip.runs; run++) {
        for (int done = 0; done < strip.count; done += WIDTH) {
            const int first = vector_start(&strip, done);
            real square[WIDTH];
            load_square(x, side->length, at + strip.start + run * side->w + first, side->step, planes, square);
            turn(square);
            const int line = first / wide;
            int c = first - line * wide;
            int place = (strip.top + run + line) * columns + strip.left + c;
            UNROLL for (int i = 0; i < WIDTH; i++) {
                if (first + i < strip.count) {
                    VSTORE(square[i], place, to);
                }
                place++;
                c++;
                if (c == wide) {
                    c = 0;
                    place += columns - wide;
                }
            }
        }
    }
}

// The way back: only what lies inside is written.
void write_strip(
    local const float *from,
    const Side *side,
    int at,
    int planes,
    int row,
    int column,
    int rows,
    int columns,
    global float *y
) {
    const Strip strip = strip_of(side, row, column, rows, columns);
    const int wide = strip.right - strip.left;
    for (int run = 0; run < strip.runs; run++) {
        for (int done = 0; done < strip.count; done += WIDTH) {
            const int first = vector_start(&strip, done);
            const int line = first / wide;
            int c = first - line * wide;
            int place = (strip.top + run + line) * columns + strip.left + c;
            real square[WIDTH];
            UNROLL for (int i = 0; i < WIDTH; i++) {
                square[i] = 0.0f;
                if (first + i < strip.count) {
                    square[i] = VLOAD(place, from);
                }
                place++;
                c++;
                if (c == wide) {
                    c = 0;
                    place += columns - wide;
                }
            }
            turn(square);
            global float *to = y + at + strip.start + run * side->w + first;
            const int plane = side->step;
            if (strip.count >= WIDTH) {
                UNROLL for (int i = 0; i < WIDTH; i++) {
                    if (i < planes) {
                        VSTORE(square[i], 0, to + i * plane);
                    }
                }
            } else {
                float part[WIDTH * WIDTH];
                UNROLL for (int i = 0; i < WIDTH; i++) {
                    VSTORE(square[i], i, part);
                }
                for (int i = 0; i < planes; i++) {
                    for (int j = 0; j < strip.count; j++) {
                        to[i * plane + j] = part[i * WIDTH + j];
                    }
                }
            }
        }
    }
}

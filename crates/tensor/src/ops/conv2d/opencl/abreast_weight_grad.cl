// The gradient of the weight of convolutions with few channels (abreast.rs), for processors: a group is one work-item, and
// local memory is memory in its thread's own cache.
//
// Lanes are pictures. What stands before this text: strip.cl; a tile in registers is OUTPUTS by all TAPS of a row.

// sum[i][j] = sum over rows and columns of dy[output i, row, column] x[row, column + j]; x moves by `row` and `pixel`.
void tile(
    local const float *x,
    int row,
    int pixel,
    local const float *dy[OUTPUTS],
    int rows,
    int columns,
    real sum[OUTPUTS][TAPS]
) {
    UNROLL for (int i = 0; i < OUTPUTS; i++) {
        UNROLL for (int j = 0; j < TAPS; j++) {
            sum[i][j] = 0.0f;
        }
    }
    for (int r = 0; r < rows; r++) {
        local const float *pixels = x + r * row;
        for (int c = 0; c < columns; c++) {
            real grads[OUTPUTS];
            UNROLL for (int i = 0; i < OUTPUTS; i++) {
                grads[i] = VLOAD(r * columns + c, dy[i]);
            }
            UNROLL for (int j = 0; j < TAPS; j++) {
                const real value = VLOAD(j, pixels);
                UNROLL for (int i = 0; i < OUTPUTS; i++) {
                    sum[i][j] = fma(grads[i], value, sum[i][j]);
                }
            }
            pixels += pixel;
        }
    }
}

// sums[part, (channel, tap), output] of a part of all bands of rows of all groups of pictures.
//
// sides: channels, rows and columns of x, those of y, and the arrays' lengths. window: rows of the window, strides, the pixel
// under the first tap of output 0, bands, pictures and parts. `pixels_length`: floats of the pixels in local memory.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void weight_grad(
    global const float *x,
    global const float *dy,
    global float *sums,
    const int8 sides,
    const int8 window,
    const int pixels_length,
    local float *memory
) {
    const Side side = {sides.s0, sides.s1, sides.s2, sides.s6, window.s3, window.s4, sides.s0 * sides.s1 * sides.s2};
    const Side out = {sides.s3, sides.s4, sides.s5, sides.s7, 0, 0, sides.s3 * sides.s4 * sides.s5};
    const int kh = window.s0, bands = window.s5, parts = window.s7;
    const int depth = side.channels * kh * TAPS;
    const int columns = (out.w - 1) * window.s2 + TAPS;
    const int tasks = (window.s6 + WIDTH - 1) / WIDTH * bands;
    const int id = get_global_id(0);
    local float *totals = memory;
    local float *pixels = totals + out.channels * depth * WIDTH;
    local float *grads = pixels + pixels_length;
    const real zero = 0.0f;
    for (int i = 0; i < out.channels * depth; i++) {
        VSTORE(zero, i, totals);
    }
    for (int task = part(tasks, parts, id); task < part(tasks, parts, id + 1); task++) {
        const int picture = task / bands * WIDTH;
        const int pictures = min(WIDTH, window.s6 - picture);
        const int top = part(out.h, bands, task % bands);
        const int rows = part(out.h, bands, task % bands + 1) - top;
        const int in_rows = (rows - 1) * window.s1 + kh;
        const int plane = in_rows * columns * WIDTH;
        for (int channel = 0; channel < side.channels; channel++) {
            const int at = picture * side.step + channel * side.h * side.w;
            local float *to = pixels + channel * plane;
            read_strip(x, &side, at, pictures, top * window.s1 + side.row, side.column, in_rows, columns, to);
        }
        for (int output = 0; output < out.channels; output++) {
            const int at = picture * out.step + output * out.h * out.w;
            read_strip(dy, &out, at, pictures, top, 0, rows, out.w, grads + output * rows * out.w * WIDTH);
        }
        for (int first = 0; first < out.channels; first += OUTPUTS) {
            // Of a tile at the edge the last output is computed again.
            local const float *of_outputs[OUTPUTS];
            UNROLL for (int i = 0; i < OUTPUTS; i++) {
                of_outputs[i] = grads + min(first + i, out.channels - 1) * rows * out.w * WIDTH;
            }
            for (int line = 0; line < side.channels * kh; line++) {
                local const float *from = pixels + line / kh * plane + line % kh * columns * WIDTH;
                real sum[OUTPUTS][TAPS];
                tile(from, window.s1 * columns * WIDTH, window.s2 * WIDTH, of_outputs, rows, out.w, sum);
                UNROLL for (int i = 0; i < OUTPUTS; i++) {
                    if (first + i < out.channels) {
                        UNROLL for (int j = 0; j < TAPS; j++) {
                            const int to = (first + i) * depth + line * TAPS + j;
                            VSTORE(VLOAD(to, totals) + sum[i][j], to, totals);
                        }
                    }
                }
            }
        }
    }
    for (int k = 0; k < depth; k++) {
        for (int output = 0; output < out.channels; output++) {
            sums[(id * depth + k) * out.channels + output] = sum_lanes(VLOAD(output * depth + k, totals));
        }
    }
}

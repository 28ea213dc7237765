// Convolutions with few channels (abreast.rs), for processors: a group is one work-item, and local memory is memory in its
// thread's own cache.
//
// Lanes are pictures. What stands before this text: strip.cl and `activated`; a tile in registers is OUTPUTS by PIXELS.

// sum[i][j] = sum over channels, tap rows and tap columns of w[channel, tap, i] x[channel, row, column + j]. Steps of x and w
// are those of a channel; `row` and `pixel` are steps of x.
void tile(
    local const float *x,
    int channel_step,
    int row,
    int pixel,
    local const float *w,
    int w_step,
    int channels,
    int tap_rows,
    int tap_columns,
    real sum[OUTPUTS][PIXELS]
) {
    UNROLL for (int i = 0; i < OUTPUTS; i++) {
        UNROLL for (int j = 0; j < PIXELS; j++) {
            sum[i][j] = 0.0f;
        }
    }
    for (int channel = 0; channel < channels; channel++) {
        local const float *weights = w + channel * w_step;
        for (int u = 0; u < tap_rows; u++) {
            local const float *pixels = x + channel * channel_step + u * row;
            for (int v = 0; v < tap_columns; v++) {
                UNROLL for (int j = 0; j < PIXELS; j++) {
                    const real value = VLOAD(0, pixels + j * pixel);
                    UNROLL for (int i = 0; i < OUTPUTS; i++) {
                        sum[i][j] = fma((real)(weights[i]), value, sum[i][j]);
                    }
                }
                pixels += WIDTH;
                weights += OUTPUTS;
            }
        }
    }
}

// sides: channels, rows and columns of x, those of y, and the length of x. window: rows and columns, strides, the pixel under
// the first tap of output 0, bands of rows, and pictures. ways: steps of the weight, of a channel and of an output, whether
// it is read backwards, whether there is a bias, the activation, and floats of the weights and of the pixels in local memory.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void convolve(
    global const float *x,
    global const float *weight,
    global const float *bias,
    global float *y,
    const int8 sides,
    const int8 window,
    const int8 ways,
    local float *memory
) {
    const Side side = {sides.s0, sides.s1, sides.s2, sides.s6, window.s4, window.s5, sides.s0 * sides.s1 * sides.s2};
    const Side out = {sides.s3, sides.s4, sides.s5, 0, 0, 0, sides.s3 * sides.s4 * sides.s5};
    const int kh = window.s0, kw = window.s1, taps = kh * kw;
    const int bands = window.s6;
    const int band = get_global_id(0) % bands;
    const int picture = get_global_id(0) / bands * WIDTH;
    const int pictures = min(WIDTH, window.s7 - picture);
    const int top = part(out.h, bands, band);
    const int rows = part(out.h, bands, band + 1) - top;
    const int first_row = top * window.s2 + side.row;
    const int columns = (out.w - 1) * window.s3 + kw;
    const int plane = ((rows - 1) * window.s2 + kh) * columns * WIDTH;
    local float *weights = memory;
    local float *pixels = weights + ways.s5;
    local float *results = pixels + ways.s6;
    for (int channel = 0; channel < side.channels; channel++) {
        const int at = picture * side.step + channel * side.h * side.w;
        local float *to = pixels + channel * plane;
        read_strip(x, &side, at, pictures, first_row, side.column, plane / (columns * WIDTH), columns, to);
    }
    for (int first = 0; first < out.channels; first += OUTPUTS) {
        for (int i = 0; i < OUTPUTS; i++) {
            // Of a tile at the edge the last output is computed again.
            global const float *from = weight + min(first + i, out.channels - 1) * ways.s1;
            for (int channel = 0; channel < side.channels; channel++) {
                for (int tap = 0; tap < taps; tap++) {
                    weights[(channel * taps + tap) * OUTPUTS + i] =
                        from[channel * ways.s0 + (ways.s2 ? taps - 1 - tap : tap)];
                }
            }
        }
        for (int row = 0; row < rows; row++) {
            // Rows of the window that lie outside have nothing to add.
            const int under = first_row + row * window.s2;
            const int low = clamp(-under, 0, kh);
            const int high = clamp(side.h - under, low, kh);
            for (int column = 0; column < out.w; column += PIXELS) {
                // Rather some pixels twice than a tile that is not full.
                const int c = min(column, out.w - PIXELS);
                real sum[OUTPUTS][PIXELS];
                tile(
                    pixels + ((row * window.s2 + low) * columns + c * window.s3) * WIDTH,
                    plane,
                    columns * WIDTH,
                    window.s3 * WIDTH,
                    weights + low * kw * OUTPUTS,
                    taps * OUTPUTS,
                    side.channels,
                    high - low,
                    kw,
                    sum
                );
                UNROLL for (int i = 0; i < OUTPUTS; i++) {
                    UNROLL for (int j = 0; j < PIXELS; j++) {
                        VSTORE(sum[i][j], (i * rows + row) * out.w + c + j, results);
                    }
                }
            }
        }
        for (int output = first; output < min(first + OUTPUTS, out.channels); output++) {
            local float *from = results + (output - first) * rows * out.w * WIDTH;
            const float more = ways.s3 ? bias[output] : 0.0f;
            if (ways.s3 || ways.s4) {
                for (int pixel = 0; pixel < rows * out.w; pixel++) {
                    VSTORE(activated(VLOAD(pixel, from) + more, ways.s4), pixel, from);
                }
            }
            const int at = picture * out.step + output * out.h * out.w;
            write_strip(from, &out, at, pictures, top, 0, rows, out.w, y);
        }
    }
}

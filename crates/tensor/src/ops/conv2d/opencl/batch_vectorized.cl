// Batch-vectorized convolution (batch_vectorized.rs), for processors: a work-group is one work-item, and
// local memory is memory in the cache of its core. A vector holds one pixel of WIDTH images; a register tile
// is OUTPUTS by PIXELS.
//
// Inserted before this text: transposed_tile.cl, and `activated` of the products.

// sum[i][j] = sum over channels, kernel rows and kernel columns of w[channel, tap, i] x[channel, row, column
// + j]. `channel_step` and `w_step` are the floats from one channel to the next in x and w, `row` and `pixel`
// those from one row and pixel to the next in x.
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

// sides: channels, rows and columns of x, those of y, and the length of x. window: kernel rows and columns,
// strides, the pixel under the first tap of output 0, number of bands of rows, and number of images. options:
// floats from one channel and from one output to the next in the weight, whether its taps are read backwards,
// whether there is a bias, the activation, and floats of the weights and of the pixels in local memory.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void convolve(
    global const float *x,
    global const float *weight,
    global const float *bias,
    global float *y,
    const int8 sides,
    const int8 window,
    const int8 options,
    local float *memory
) {
    const FeatureMap src = {sides.s0, sides.s1, sides.s2, sides.s6, window.s4, window.s5, sides.s0 * sides.s1 * sides.s2};
    const FeatureMap dst = {sides.s3, sides.s4, sides.s5, 0, 0, 0, sides.s3 * sides.s4 * sides.s5};
    const int kh = window.s0, kw = window.s1, taps = kh * kw;
    const int bands = window.s6;
    const int band = get_global_id(0) % bands;
    const int image = get_global_id(0) / bands * WIDTH;
    const int images = min(WIDTH, window.s7 - image);
    const int top = part(dst.h, bands, band);
    const int rows = part(dst.h, bands, band + 1) - top;
    const int first_row = top * window.s2 + src.row;
    const int columns = (dst.w - 1) * window.s3 + kw;
    const int plane = ((rows - 1) * window.s2 + kh) * columns * WIDTH;
    local float *weights = memory;
    local float *pixels = weights + options.s5;
    local float *results = pixels + options.s6;
    for (int channel = 0; channel < src.channels; channel++) {
        const int at = image * src.step + channel * src.h * src.w;
        local float *to = pixels + channel * plane;
        read_transposed(x, &src, at, images, first_row, src.column, plane / (columns * WIDTH), columns, to, 0, 0);
    }
    for (int first = 0; first < dst.channels; first += OUTPUTS) {
        for (int i = 0; i < OUTPUTS; i++) {
            // In a tile at the edge the last output is repeated.
            global const float *from = weight + min(first + i, dst.channels - 1) * options.s1;
            for (int channel = 0; channel < src.channels; channel++) {
                for (int tap = 0; tap < taps; tap++) {
                    weights[(channel * taps + tap) * OUTPUTS + i] =
                        from[channel * options.s0 + (options.s2 ? taps - 1 - tap : tap)];
                }
            }
        }
        for (int row = 0; row < rows; row++) {
            // Rows of the kernel over the padding are skipped.
            const int under = first_row + row * window.s2;
            const int low = clamp(-under, 0, kh);
            const int high = clamp(src.h - under, low, kh);
            for (int column = 0; column < dst.w; column += PIXELS) {
                // The last tile overlaps the one before, so that it is full.
                const int c = min(column, dst.w - PIXELS);
                real sum[OUTPUTS][PIXELS];
                tile(
                    pixels + ((row * window.s2 + low) * columns + c * window.s3) * WIDTH,
                    plane,
                    columns * WIDTH,
                    window.s3 * WIDTH,
                    weights + low * kw * OUTPUTS,
                    taps * OUTPUTS,
                    src.channels,
                    high - low,
                    kw,
                    sum
                );
                UNROLL for (int i = 0; i < OUTPUTS; i++) {
                    UNROLL for (int j = 0; j < PIXELS; j++) {
                        VSTORE(sum[i][j], (i * rows + row) * dst.w + c + j, results);
                    }
                }
            }
        }
        for (int output = first; output < min(first + OUTPUTS, dst.channels); output++) {
            local float *from = results + (output - first) * rows * dst.w * WIDTH;
            const float plus = options.s3 ? bias[output] : 0.0f;
            if (options.s3 || options.s4) {
                for (int pixel = 0; pixel < rows * dst.w; pixel++) {
                    VSTORE(activated(VLOAD(pixel, from) + plus, options.s4), pixel, from);
                }
            }
            const int at = image * dst.step + output * dst.h * dst.w;
            write_transposed(from, &dst, at, images, top, 0, rows, dst.w, y);
        }
    }
}

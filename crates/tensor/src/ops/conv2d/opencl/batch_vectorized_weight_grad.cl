// The weight gradient of the batch-vectorized convolution (batch_vectorized.rs), for processors: a work-group
// is one work-item, and local memory is memory in the cache of its core. A vector holds one pixel of WIDTH
// images; a register tile is OUTPUTS by the TAPS of a kernel row.
//
// Inserted before this text: transposed_tile.cl.

// sum[i][j] = sum over rows and columns of dy[output i, row, column] x[row, column + j]. `row` and `pixel`
// are the floats from one row and pixel to the next in x.
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

// Computes sums[part, (channel, tap), output] over a part of the bands of all images.
//
// sides: channels, rows and columns of x, those of y, and the lengths of both arrays. window: kernel rows,
// strides, the pixel under the first tap of output 0, number of bands, of images and of parts.
// `pixels_length`: floats of the pixels in local memory.
kernel __attribute__((reqd_work_group_size(1, 1, 1))) void weight_grad(
    global const float *x,
    global const float *dy,
    global float *sums,
    const int8 sides,
    const int8 window,
    const int pixels_length,
    local float *memory
) {
    const FeatureMap src = {sides.s0, sides.s1, sides.s2, sides.s6, window.s3, window.s4, sides.s0 * sides.s1 * sides.s2};
    const FeatureMap dst = {sides.s3, sides.s4, sides.s5, sides.s7, 0, 0, sides.s3 * sides.s4 * sides.s5};
    const int kh = window.s0, bands = window.s5, parts = window.s7;
    const int depth = src.channels * kh * TAPS;
    const int columns = (dst.w - 1) * window.s2 + TAPS;
    const int tasks = (window.s6 + WIDTH - 1) / WIDTH * bands;
    const int id = get_global_id(0);
    local float *totals = memory;
    local float *pixels = totals + dst.channels * depth * WIDTH;
    local float *grads = pixels + pixels_length;
    const real zero = 0.0f;
    for (int i = 0; i < dst.channels * depth; i++) {
        VSTORE(zero, i, totals);
    }
    for (int task = part(tasks, parts, id); task < part(tasks, parts, id + 1); task++) {
        const int image = task / bands * WIDTH;
        const int images = min(WIDTH, window.s6 - image);
        const int top = part(dst.h, bands, task % bands);
        const int rows = part(dst.h, bands, task % bands + 1) - top;
        const int in_rows = (rows - 1) * window.s1 + kh;
        const int plane = in_rows * columns * WIDTH;
        for (int channel = 0; channel < src.channels; channel++) {
            const int at = image * src.step + channel * src.h * src.w;
            local float *to = pixels + channel * plane;
            read_transposed(x, &src, at, images, top * window.s1 + src.row, src.column, in_rows, columns, to, 0, 0);
        }
        for (int output = 0; output < dst.channels; output++) {
            const int at = image * dst.step + output * dst.h * dst.w;
            read_transposed(dy, &dst, at, images, top, 0, rows, dst.w, grads + output * rows * dst.w * WIDTH, 0, 0);
        }
        for (int first = 0; first < dst.channels; first += OUTPUTS) {
            // In a tile at the edge the last output is repeated.
            local const float *dy_of[OUTPUTS];
            UNROLL for (int i = 0; i < OUTPUTS; i++) {
                dy_of[i] = grads + min(first + i, dst.channels - 1) * rows * dst.w * WIDTH;
            }
            for (int line = 0; line < src.channels * kh; line++) {
                local const float *from = pixels + line / kh * plane + line % kh * columns * WIDTH;
                real sum[OUTPUTS][TAPS];
                tile(from, window.s1 * columns * WIDTH, window.s2 * WIDTH, dy_of, rows, dst.w, sum);
                UNROLL for (int i = 0; i < OUTPUTS; i++) {
                    if (first + i < dst.channels) {
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
        for (int output = 0; output < dst.channels; output++) {
            sums[(id * depth + k) * dst.channels + output] = sum_lanes(VLOAD(output * depth + k, totals));
        }
    }
}

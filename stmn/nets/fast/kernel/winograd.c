/* The transforms of Winograd convolutions (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
 * 2016): F(4x4, 3x3) for a 3x3 convolution, and F(4x4, 3x3) and F(3x3, 4x4) for the gradient of its kernel. The caller
 * does the batched matrix products between them.
 *
 * Images are (N, H, W, C), dense, and C is a multiple of 8. A tile is 6 x 6 pixels of the input, or side x side pixels
 * of the output, with side 4 or 3. It starts 5 - side rows and columns earlier in the input than in the output. Pixels
 * outside the image are zero. Tiles are numbered along a row, then down, then from image to image. */

#include <stdint.h>

enum {
    TILE = 6,  /* pixels along a tile of the input */
    SIDE = 4,  /* most pixels along a tile of the output */
    LANES = 8, /* channels in a vector */
    MAX_CHANNELS = 4096,
};

typedef float f32x8 __attribute__((vector_size(4 * LANES)));
typedef int32_t i32x8 __attribute__((vector_size(4 * LANES)));
typedef float f32x8_unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Inlined functions get their size as a constant, so their loops are unrolled. */
#define INLINE static inline __attribute__((always_inline))

static const float ZEROS[MAX_CHANNELS];

INLINE f32x8 load(const float *from) { return *(const f32x8_unaligned *)from; }
INLINE void store(float *to, f32x8 vector) { *(f32x8_unaligned *)to = vector; }

/* B^T d along one axis: six values from six values, `step` apart. */
INLINE void transform_input(const f32x8 *d, f32x8 *v, int step) {
    f32x8 a = d[4 * step] - 4.0f * d[2 * step], b = d[3 * step] - 4.0f * d[step];
    f32x8 c = d[4 * step] - d[2 * step], e = 2.0f * (d[3 * step] - d[step]);
    v[0] = 4.0f * d[0] - 5.0f * d[2 * step] + d[4 * step];
    v[step] = a + b;
    v[2 * step] = a - b;
    v[3 * step] = c + e;
    v[4 * step] = c - e;
    v[5 * step] = 4.0f * d[step] - 5.0f * d[3 * step] + d[5 * step];
}

/* A^T m along one axis: four values, `to` apart, from six values, `from` apart. */
INLINE void transform_output(const f32x8 *m, int from, f32x8 *y, int to) {
    f32x8 a = m[from] + m[2 * from], b = m[from] - m[2 * from];
    f32x8 c = m[3 * from] + m[4 * from], d = m[3 * from] - m[4 * from];
    y[0] = m[0] + a + c;
    y[to] = b + 2.0f * d;
    y[2 * to] = a + 4.0f * c;
    y[3 * to] = b + 8.0f * d + m[5 * from];
}

/* A y along one axis: six values, `to` apart, from `side` values, `from` apart. The transpose of `transform_output` if
 * `side` is 4. */
INLINE void transform_gradient(int side, const f32x8 *y, f32x8 *z, int from, int to) {
    f32x8 a = y[0] + y[2 * from], b = y[from], c = y[0] + 4.0f * y[2 * from], d = 2.0f * y[from];
    if (side == 4) b += y[3 * from], d += 8.0f * y[3 * from];
    z[0] = y[0];
    z[to] = a + b;
    z[2 * to] = a - b;
    z[3 * to] = c + d;
    z[4 * to] = c - d;
    z[5 * to] = y[(side - 1) * from];
}

/* An image, and a tile's first row and column in its output. */
typedef struct {
    int64_t image, top, left;
} Place;

INLINE Place locate_tile(int64_t tile, int64_t side, int64_t height, int64_t width) {
    const int64_t down = (height + side - 1) / side, across = (width + side - 1) / side;
    return (Place){tile / (down * across), tile / across % down * side, tile % across * side};
}

/* Finds the addresses of size x size pixels, row by row, starting `before` rows and columns before a place. Pixels
 * outside the image get the address of zeros. */
INLINE void find_pixels(const float **from, const float *x, Place at, int64_t before, int64_t size, int64_t height,
                        int64_t width, int64_t channels) {
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < size; j++) {
            const int64_t row = at.top - before + i, column = at.left - before + j;
            const int inside = row >= 0 && row < height && column >= 0 && column < width;
            from[i * size + j] = inside ? x + ((at.image * height + row) * width + column) * channels : ZEROS;
        }
}

/* Transforms tiles first .. first + count - 1 of the input `x` into v[36][stride]; tile t is row t - base, of C
 * floats. */
void stmn_winograd_input(const float *x, float *v, int64_t side, int64_t height, int64_t width, int64_t channels,
                         int64_t first, int64_t count, int64_t base, int64_t stride) {
    for (int64_t t = first; t < first + count; t++) {
        const float *from[TILE * TILE];
        find_pixels(from, x, locate_tile(t, side, height, width), 5 - side, TILE, height, width, channels);
        float *to = v + (t - base) * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            f32x8 d[TILE * TILE], e[TILE * TILE];
            for (int k = 0; k < TILE * TILE; k++) d[k] = load(from[k] + c);
            for (int k = 0; k < TILE; k++) transform_input(d + k, e + k, TILE);
            for (int k = 0; k < TILE; k++) transform_input(e + k * TILE, d + k * TILE, 1);
            for (int k = 0; k < TILE * TILE; k++) store(to + k * stride + c, d[k]);
        }
    }
}

/* Transforms m[36][stride] back into tiles of the output `y`, of side 4, and adds `bias`; with `relu`, negative values
 * become zero. */
void stmn_winograd_output(const float *m, float *y, const float *bias, int64_t relu, int64_t height, int64_t width,
                          int64_t channels, int64_t first, int64_t count, int64_t base, int64_t stride) {
    for (int64_t t = first; t < first + count; t++) {
        const Place at = locate_tile(t, SIDE, height, width);
        const int64_t rows = height - at.top < SIDE ? height - at.top : SIDE;
        const int64_t columns = width - at.left < SIDE ? width - at.left : SIDE;
        const float *from = m + (t - base) * channels;
        float *to = y + ((at.image * height + at.top) * width + at.left) * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            f32x8 d[TILE * TILE], e[SIDE * TILE], f[SIDE * SIDE];
            const f32x8 b = load(bias + c);
            for (int k = 0; k < TILE * TILE; k++) d[k] = load(from + k * stride + c);
            for (int k = 0; k < TILE; k++) transform_output(d + k, TILE, e + k, TILE);
            for (int k = 0; k < SIDE; k++) transform_output(e + k * TILE, 1, f + k * SIDE, 1);
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < columns; j++) {
                    f32x8 value = f[i * SIDE + j] + b;
                    if (relu) value = (f32x8)(~(value < 0.0f) & (i32x8)value); /* NaN stays NaN */
                    store(to + (i * width + j) * channels + c, value);
                }
        }
    }
}

/* `stmn_winograd_gradient` for a constant side. */
INLINE void transform_tiles_of_gradient(int side, const float *y, float *z, int64_t height, int64_t width,
                                        int64_t channels, int64_t first, int64_t count, int64_t base, int64_t stride) {
    for (int64_t t = first; t < first + count; t++) {
        const float *from[SIDE * SIDE];
        find_pixels(from, y, locate_tile(t, side, height, width), 0, side, height, width, channels);
        float *to = z + (t - base) * channels;
        for (int64_t c = 0; c < channels; c += LANES) {
            f32x8 d[SIDE * SIDE], e[TILE * SIDE], f[TILE * TILE];
            for (int k = 0; k < side * side; k++) d[k] = load(from[k] + c);
            for (int k = 0; k < side; k++) transform_gradient(side, d + k, e + k, side, side);
            for (int k = 0; k < TILE; k++) transform_gradient(side, e + k * side, f + k * TILE, 1, 1);
            for (int k = 0; k < TILE * TILE; k++) store(to + k * stride + c, f[k]);
        }
    }
}

/* Transforms tiles of the gradient of the output, `y`, into z[36][stride]: A y A^T; tile t is row t - base. */
void stmn_winograd_gradient(const float *y, float *z, int64_t side, int64_t height, int64_t width, int64_t channels,
                            int64_t first, int64_t count, int64_t base, int64_t stride) {
    if (side == 4)
        transform_tiles_of_gradient(4, y, z, height, width, channels, first, count, base, stride);
    else
        transform_tiles_of_gradient(3, y, z, height, width, channels, first, count, base, stride);
}

/* Cuts a box out of an 8-bit picture, resizes it and normalises it, in one pass from bytes to floats.
 *
 * Rows are filtered first, eight output rows at a time: that loop runs along the picture and needs no shuffles. The
 * eight rows are then transposed, so that each of their columns is one vector. Columns are filtered on whole vectors
 * and transposed back. Everything in between fits the first-level cache.
 *
 * The order of every sum is fixed here, and no two operations are fused (-ffp-contract=off). So all CPUs give the same
 * bits, and so does the NumPy version in resample.py. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 8 };

typedef float f32x8 __attribute__((vector_size(4 * LANES)));
typedef int32_t i32x8 __attribute__((vector_size(4 * LANES)));
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i32x8){__VA_ARGS__})
#endif

/* Resamples one axis: output i is the sum over k < taps of weights[i * taps + k] * input[start[i] + k].
 * Must match `Taps` in resample.py. */
typedef struct {
    int32_t size, taps;
    const int32_t *start;
    const float *weights;
} Axis;

static inline f32x8 load(const float *from) {
    f32x8 vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline void store(float *to, f32x8 vector) { memcpy(to, &vector, sizeof vector); }

/* Transposes eight vectors of eight. */
static inline void transpose(f32x8 r[8]) {
    f32x8 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = SHUFFLE(pairs[i + j], pairs[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
            fours[i + 2 * j + 1] = SHUFFLE(pairs[i + j], pairs[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = SHUFFLE(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = SHUFFLE(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* Filters rows: `to` becomes the weighted sum of `taps` input rows of `count` bytes, `stride` bytes apart. */
static void blend_rows(const uint8_t *restrict rows, ptrdiff_t stride, const float *w, int taps, int count,
                       float *restrict to) {
    const uint8_t *second = rows + stride, *third = second + stride;
    switch (taps) {
    case 1:
        for (int x = 0; x < count; x++) to[x] = w[0] * rows[x];
        return;
    case 2:
        for (int x = 0; x < count; x++) to[x] = w[0] * rows[x] + w[1] * second[x];
        return;
    case 3:
        for (int x = 0; x < count; x++) to[x] = w[0] * rows[x] + w[1] * second[x] + w[2] * third[x];
        return;
    default:
        for (int x = 0; x < count; x++) to[x] = w[0] * rows[x];
        for (int k = 1; k < taps; k++) {
            const uint8_t *row = rows + k * stride;
            for (int x = 0; x < count; x++) to[x] += w[k] * row[x];
        }
    }
}

/* Cuts one plane of interleaved `channels` into that many planes of floats; arguments as of `stmn_cut`. `blended` and
 * `transposed` are memory for eight rows of `padded` floats each. */
static void cut_plane(const uint8_t *box, ptrdiff_t stride, int count, int channels, const Axis *rows,
                      const Axis *columns, const float *mean, const float *scale, float *restrict blended,
                      float *restrict transposed, int padded, float *restrict out) {
    const int taps = columns->taps, size = columns->size;
    const size_t step = LANES * (size_t)channels;
    for (int top = 0; top < rows->size; top += LANES) {
        const int height = rows->size - top < LANES ? rows->size - top : LANES;
        for (int r = 0; r < height; r++)
            blend_rows(box + rows->start[top + r] * stride, stride, rows->weights + (size_t)(top + r) * rows->taps,
                       rows->taps, count, blended + (size_t)r * padded);
        for (int x = 0; x < padded; x += LANES) {
            f32x8 block[LANES];
            for (int r = 0; r < LANES; r++) block[r] = load(blended + (size_t)r * padded + x);
            transpose(block);
            for (int r = 0; r < LANES; r++) store(transposed + (size_t)(x + r) * LANES, block[r]);
        }
        for (int c = 0; c < channels; c++) {
            const float centre = mean[c], by = scale[c];
            for (int x = 0; x < size; x += LANES) {
                const int wide = size - x < LANES ? size - x : LANES;
                f32x8 block[LANES];
                for (int i = 0; i < LANES; i++) {
                    const int at = i < wide ? x + i : x;
                    const float *w = columns->weights + (size_t)at * taps;
                    const float *from = transposed + ((size_t)columns->start[at] * channels + c) * LANES;
                    f32x8 sum = w[0] * load(from);
                    if (taps == 2) {
                        sum += w[1] * load(from + step);
                    } else if (taps == 3) {
                        sum += w[1] * load(from + step);
                        sum += w[2] * load(from + 2 * step);
                    } else {
                        for (int k = 1; k < taps; k++) sum += w[k] * load(from + k * step);
                    }
                    block[i] = (sum - centre) * by;
                }
                transpose(block);
                float *to = out + ((size_t)c * rows->size + top) * size + x;
                for (int r = 0; r < height; r++)
                    if (wide == LANES)
                        store(to + (size_t)r * size, block[r]);
                    else
                        memcpy(to + (size_t)r * size, &block[r], wide * sizeof(float));
            }
        }
    }
}

/* Cuts a box out of every plane of a picture.
 * box: the box's first byte in the first of `planes` planes, which are `plane` bytes apart. Rows are `stride` bytes
 * apart; the box is `width` pixels wide, of `channels` interleaved bytes.
 * rows, columns: how the box is resampled.
 * mean, scale: (planes * channels,).
 * out: (planes * channels, rows->size, columns->size), written: (level - mean[c]) * scale[c].
 * Returns 0, or 1 if memory ran out. */
int stmn_cut(const uint8_t *box, int planes, ptrdiff_t plane, ptrdiff_t stride, int width, int channels,
             const Axis *rows, const Axis *columns, const float *mean, const float *scale, float *out) {
    const int count = width * channels, padded = (count + LANES - 1) & ~(LANES - 1);
    float *buffers = calloc(2 * LANES * (size_t)padded, sizeof *buffers);
    if (!buffers) return 1;
    for (int p = 0; p < planes; p++)
        cut_plane(box + p * plane, stride, count, channels, rows, columns, mean + p * channels, scale + p * channels,
                  buffers, buffers + LANES * (size_t)padded, padded,
                  out + (size_t)p * channels * rows->size * columns->size);
    free(buffers);
    return 0;
}

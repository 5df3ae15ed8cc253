/* Cut a box out of an 8-bit picture, resize it and normalise it, in one pass from bytes to floats.
 *
 * Rows are filtered first, eight output rows at a time: their loop runs along the picture and needs no shuffling. The
 * eight rows are then turned so that each of their columns is one vector; columns are filtered on whole vectors, and
 * turned back into rows. All between lies in the first cache.
 *
 * The order of every sum is written down here and no two operations are fused (-ffp-contract=off), so the bits are the
 * same on every CPU, and the same as those of the NumPy version in resample.py.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i8){__VA_ARGS__})
#endif

/* The taps of one axis: output i is the sum over k < taps of weights[i * taps + k] * input[start[i] + k]. */
typedef struct {
    int32_t size, taps;
    const int32_t *start;
    const float *weights;
} axis;

static inline v8 load(const float *from) {
    v8 vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

static inline void store(float *to, v8 vector) { memcpy(to, &vector, sizeof vector); }

/* Eight vectors of eight: rows become columns. */
static inline void turn(v8 r[8]) {
    v8 pairs[8], fours[8];
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

/* One output row before its columns are filtered: a weighted sum of input rows. */
static void blend(const uint8_t *restrict rows, ptrdiff_t stride, const float *w, int taps, int count,
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

/* One plane of `channels` interleaved bytes a pixel, to `channels` planes of floats; see stmn_cut. */
static void cut_plane(const uint8_t *box, ptrdiff_t stride, int count, int channels, const axis *rows,
                      const axis *columns, const float *mean, const float *scale, float *restrict blended,
                      float *restrict turned, int padded, float *restrict out) {
    const int taps = columns->taps, size = columns->size;
    const size_t step = 8 * (size_t)channels;
    for (int top = 0; top < rows->size; top += 8) {
        const int height = rows->size - top < 8 ? rows->size - top : 8;
        for (int r = 0; r < height; r++)
            blend(box + rows->start[top + r] * stride, stride, rows->weights + (size_t)(top + r) * rows->taps,
                  rows->taps, count, blended + (size_t)r * padded);
        for (int x = 0; x < padded; x += 8) {
            v8 block[8];
            for (int r = 0; r < 8; r++) block[r] = load(blended + (size_t)r * padded + x);
            turn(block);
            for (int r = 0; r < 8; r++) store(turned + (size_t)(x + r) * 8, block[r]);
        }
        for (int c = 0; c < channels; c++) {
            const float centre = mean[c], by = scale[c];
            for (int x = 0; x < size; x += 8) {
                const int wide = size - x < 8 ? size - x : 8;
                v8 block[8];
                for (int i = 0; i < 8; i++) {
                    const int at = i < wide ? x + i : x;
                    const float *w = columns->weights + (size_t)at * taps;
                    const float *from = turned + ((size_t)columns->start[at] * channels + c) * 8;
                    v8 sum = w[0] * load(from);
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
                turn(block);
                float *to = out + ((size_t)c * rows->size + top) * size + x;
                for (int r = 0; r < height; r++)
                    if (wide == 8)
                        store(to + (size_t)r * size, block[r]);
                    else
                        memcpy(to + (size_t)r * size, &block[r], wide * sizeof(float));
            }
        }
    }
}

/* box: first byte of the box in the first of `planes` planes, `plane` bytes apart; `stride` bytes between rows, `width`
 * pixels of `channels` interleaved bytes.
 * out: (planes * channels, rows->size, columns->size) floats, (level - mean[c]) * scale[c].
 * Returns 0, or 1 without memory for its scratch. */
int stmn_cut(const uint8_t *box, int planes, ptrdiff_t plane, ptrdiff_t stride, int width, int channels,
             const axis *rows, const axis *columns, const float *mean, const float *scale, float *out) {
    const int count = width * channels, padded = (count + 7) & ~7;
    float *scratch = calloc(16 * (size_t)padded, sizeof *scratch);
    if (!scratch) return 1;
    for (int p = 0; p < planes; p++)
        cut_plane(box + p * plane, stride, count, channels, rows, columns, mean + p * channels, scale + p * channels,
                  scratch, scratch + 8 * (size_t)padded, padded,
                  out + (size_t)p * channels * rows->size * columns->size);
    free(scratch);
    return 0;
}

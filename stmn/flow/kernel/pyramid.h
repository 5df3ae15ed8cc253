/* Steps from one pyramid level to the next, with the tables of _pyramid.py; derivatives and splines of a level. */
#pragma once

#include "planes.h"

/* Samples a level from the finer image, first along columns, then along rows. `line` holds a row of the finer image
 * with its margins. */
static void shrink(const float *source, ptrdiff_t source_stride, int source_width, const Plane *to, const Axis *rows,
                   const Axis *columns, float *line) {
    for (int y = 0; y < to->height; y++) {
        float *restrict out = row(to, y);
        memset(line, 0, source_width * sizeof(float));
        for (int k = 0; k < rows->taps; k++) {
            const float *restrict in = source + (rows->start[y] + k) * source_stride;
            float *restrict sum = line;
            float w = rows->weights[k * rows->size + y];
            INDEPENDENT
            for (int x = 0; x < source_width; x++) sum[x] += w * in[x];
        }
        INDEPENDENT
        for (int x = 0; x < to->width; x++) out[x] = 0;
        for (int k = 0; k < columns->taps; k++) {
            const float *restrict in = line + k, *restrict w = columns->weights + k * columns->size;
            const int32_t *restrict start = columns->start;
            if (source_width == to->width) { /* smoothing only: except at the ends, taps start at x - from */
                int from = columns->taps / 2, until = to->width - from;
                for (int x = 0; x < clampi(from, 0, to->width); x++) out[x] += w[x] * in[start[x]];
                INDEPENDENT
                for (int x = from; x < until; x++) out[x] += w[x] * in[x - from];
                INDEPENDENT
                for (int x = until > from ? until : from; x < to->width; x++) out[x] += w[x] * in[start[x]];
            } else {
                INDEPENDENT
                for (int x = 0; x < to->width; x++) out[x] += w[x] * in[start[x]];
            }
        }
    }
    pad_plane(to);
}

/* Samples a plane of a level from the coarser one, bilinearly, times `factor`: displacements are in the level's pixels.
 */
static void enlarge(const Plane *from, const Plane *to, const Axis *rows, const Axis *columns, float factor,
                    float *line) {
    for (int y = 0; y < to->height; y++) {
        const float *restrict upper = row(from, rows->below[y]), *restrict lower = row(from, rows->below[y] + 1);
        float *restrict mixed = line, *restrict out = row(to, y);
        float t = rows->fraction[y];
        INDEPENDENT
        for (int x = 0; x < from->width; x++) mixed[x] = factor * (upper[x] + t * (lower[x] - upper[x]));
        INDEPENDENT
        for (int x = 0; x < to->width; x++) {
            const float *pair = mixed + columns->below[x];
            out[x] = pair[0] + columns->fraction[x] * (pair[1] - pair[0]);
        }
    }
}

/* Five-point derivatives of a padded image. */
static void differentiate(const Plane *image, const Plane *dx, const Plane *dy) {
    ptrdiff_t s = image->stride;
    for (int y = 0; y < image->height; y++) {
        const float *restrict i = row(image, y);
        float *restrict ix = row(dx, y), *restrict iy = row(dy, y);
        INDEPENDENT
        for (int x = 0; x < padded(image->width); x++) {
            ix[x] = (8 * (i[x + 1] - i[x - 1]) - (i[x + 2] - i[x - 2])) * (1 / 12.0f);
            iy[x] = (8 * (i[x + s] - i[x - s]) - (i[x + 2 * s] - i[x - 2 * s])) * (1 / 12.0f);
        }
    }
}

/* The pixel at position i of a row mirrored at pixels 0 and size - 1. */
static int mirrored(int i, int size) {
    int period = size > 1 ? 2 * size - 2 : 1;
    i = ((i % period) + period) % period;
    return i < size ? i : period - i;
}

/* Coefficients of the cubic B-spline through all pixels of an image mirrored at its borders. The inverse of the sampled
 * spline (1, 4, 1) / 6 is sqrt(3) z^|k| with z = sqrt(3) - 2; beyond SPLINE_REACH it is below 1e-5. */
static void fit_spline(const Plane *image, const Plane *to, float *line) {
    float *restrict mixed = line + SIDE, filter[SPLINE_REACH + 1], total = 0;
    int width = image->width, height = image->height;
    for (int k = 0; k <= SPLINE_REACH; k++) {
        filter[k] = powf(sqrtf(3) - 2, k);
        total += (k ? 2 : 1) * filter[k];
    }
    for (int k = 0; k <= SPLINE_REACH; k++) filter[k] /= total;
    for (int y = 0; y < height; y++) {
        float *restrict out = row(to, y);
        const float *restrict centre = row(image, y);
        INDEPENDENT
        for (int x = 0; x < width; x++) mixed[x] = filter[0] * centre[x];
        for (int k = 1; k <= SPLINE_REACH; k++) {
            const float *restrict above = row(image, mirrored(y - k, height));
            const float *restrict below = row(image, mirrored(y + k, height));
            INDEPENDENT
            for (int x = 0; x < width; x++) mixed[x] += filter[k] * (above[x] + below[x]);
        }
        for (int k = 1; k <= SPLINE_REACH; k++) {
            mixed[-k] = mixed[mirrored(-k, width)];
            mixed[width - 1 + k] = mixed[mirrored(width - 1 + k, width)];
        }
        INDEPENDENT
        for (int x = 0; x < width; x++) {
            float sum = filter[0] * mixed[x];
            for (int k = 1; k <= SPLINE_REACH; k++) sum += filter[k] * (mixed[x - k] + mixed[x + k]);
            out[x] = sum;
        }
        out[-1] = out[mirrored(-1, width)];
        out[width] = out[mirrored(width, width)];
        out[width + 1] = 0; /* under a tap of weight 0 */
    }
    size_t bytes = row_floats(width) * sizeof(float);
    memcpy(row(to, -1) - SIDE, row(to, mirrored(-1, height)) - SIDE, bytes);
    memcpy(row(to, height) - SIDE, row(to, mirrored(height, height)) - SIDE, bytes);
}

/* The data term of one warp: the second frame, sampled where the flow points to. */
#pragma once

#include "planes.h"

/* Cubic B-spline: at distance t past the second of four neighbours, their weights are sum_k CUBIC[k] t^k. */
static const f32x4 CUBIC[4] = {
    {1 / 6.0f, 4 / 6.0f, 1 / 6.0f, 0},
    {-0.5f, 0, 0.5f, 0},
    {0.5f, -1, 0.5f, 0},
    {-1 / 6.0f, 0.5f, -0.5f, 1 / 6.0f},
};

/* The sum of the elements of each of four vectors, as one vector: the last additions of four dot products at once. */
static f32x4 sum_elements(const f32x4 *a) {
    f32x4 ab = INTERLEAVE_LOW(a[0], a[1]) + INTERLEAVE_HIGH(a[0], a[1]);
    f32x4 cd = INTERLEAVE_LOW(a[2], a[3]) + INTERLEAVE_HIGH(a[2], a[3]);
    return JOIN_LOW(ab, cd) + JOIN_HIGH(ab, cd);
}

/* Value and gradient of a spline where the flow takes the pixels of one row. `at`: offset of the second neighbour from
 * the origin; `tx`, `ty`: distance past it; `weights`: 8 row buffers. */
static void sample_row(const Plane *spline, const int32_t *restrict at, const float *restrict tx,
                       const float *restrict ty, float *restrict weights, ptrdiff_t length, float *restrict value,
                       float *restrict slope_x, float *restrict slope_y, int width) {
    for (int j = 0; j < 4; j++) {
        float c0 = CUBIC[0][j], c1 = CUBIC[1][j], c2 = CUBIC[2][j], c3 = CUBIC[3][j];
        float *restrict w = weights + j * length, *restrict e = weights + (4 + j) * length;
        INDEPENDENT
        for (int x = 0; x < padded(width); x++) {
            w[x] = c0 + ty[x] * (c1 + ty[x] * (c2 + ty[x] * c3));
            e[x] = c1 + ty[x] * (2 * c2 + ty[x] * (3 * c3));
        }
    }
    for (int x = 0; x < width; x += 4) {
        f32x4 values[4], slopes_x[4], slopes_y[4];
        for (int k = 0; k < 4; k++) {
            const float *tap = spline->origin + at[x + k] - spline->stride - 1, *w = weights + x + k;
            float t = tx[x + k];
            f32x4 wx = CUBIC[0] + t * (CUBIC[1] + t * (CUBIC[2] + t * CUBIC[3]));
            f32x4 ex = CUBIC[1] + t * (2 * CUBIC[2] + t * (3 * CUBIC[3]));
            f32x4 across = {0}, down = {0};
            for (int j = 0; j < 4; j++) {
                f32x4 line = *(const f32x4 *)(tap + j * spline->stride);
                across += w[j * length] * line;
                down += w[(4 + j) * length] * line;
            }
            values[k] = wx * across;
            slopes_x[k] = ex * across;
            slopes_y[k] = wx * down;
        }
        *(f32x4 *)(value + x) = sum_elements(values);
        *(f32x4 *)(slope_x + x) = sum_elements(slopes_x);
        *(f32x4 *)(slope_y + x) = sum_elements(slopes_y);
    }
}

/* Linearises the brightness difference around the flow, equation (2): fills GX, GY, INVERSE and RHO. `lines`: 15 row
 * buffers. */
static void linearise(const Plane *first, const Plane *derivative, const Plane *spline, const Plane *flow,
                      const Plane *solver, float *lines, ptrdiff_t length) {
    int width = first->width, stride = (int)spline->stride;
    float right = width - 1, bottom = first->height - 1;
    float *restrict tx = lines, *restrict ty = tx + length, *restrict inside = ty + length;
    float *restrict value = inside + length, *restrict slope_x = value + length, *restrict slope_y = slope_x + length;
    int32_t *restrict at = (int32_t *)(slope_y + length);
    for (int y = 0; y < first->height; y++) {
        const float *restrict u = row(&flow[0], y), *restrict v = row(&flow[1], y);
        INDEPENDENT
        for (int x = 0; x < padded(width); x++) {
            float px = (float)x + u[x], py = (float)y + v[x];
            inside[x] = (px >= 0) & (px <= right) & (py >= 0) & (py <= bottom) ? 1.0f : 0.0f;
            px = minf(maxf(px, 0.0f), right);
            py = minf(maxf(py, 0.0f), bottom);
            int ix = clampi((int)px, 0, (int)right), iy = clampi((int)py, 0, (int)bottom); /* in range even for NaN */
            tx[x] = px - (float)ix;
            ty[x] = py - (float)iy;
            at[x] = iy * stride + ix;
        }
        sample_row(spline, at, tx, ty, lines + 7 * length, length, value, slope_x, slope_y, width);
        const float *restrict i = row(first, y);
        const float *restrict ix = row(&derivative[0], y), *restrict iy = row(&derivative[1], y);
        float *restrict gx = row(&solver[GX], y), *restrict gy = row(&solver[GY], y);
        float *restrict inverse = row(&solver[INVERSE], y), *restrict rho = row(&solver[RHO], y);
        INDEPENDENT
        for (int x = 0; x < padded(width); x++) {
            float a = inside[x] * 0.5f * (slope_x[x] + ix[x]), b = inside[x] * 0.5f * (slope_y[x] + iy[x]);
            gx[x] = a;
            gy[x] = b;
            inverse[x] = 1 / maxf(a * a + b * b, 1e-6f);
            rho[x] = inside[x] * (value[x] - i[x]) - a * u[x] - b * v[x];
        }
    }
}

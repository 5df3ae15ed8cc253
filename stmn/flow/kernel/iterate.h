/* The primal-dual iterations of one warp. Equations as numbered in _tvl1_torch.py. */
#pragma once

#include "planes.h"

/* One row of the primal step, equations (4) and (5). Repeats the last value once, so that the forward difference there
 * is zero. */
static void primal_row(const Plane *s, int y, float bound, float theta, int width) {
    float *restrict u = row(&s[U], y), *restrict v = row(&s[V], y);
    const float *restrict ux = row(&s[PUX], y), *restrict uy = row(&s[PUY], y), *restrict uy_up = row(&s[PUY], y - 1);
    const float *restrict vx = row(&s[PVX], y), *restrict vy = row(&s[PVY], y), *restrict vy_up = row(&s[PVY], y - 1);
    const float *restrict gx = row(&s[GX], y), *restrict gy = row(&s[GY], y);
    const float *restrict inverse = row(&s[INVERSE], y), *restrict rho = row(&s[RHO], y);
    INDEPENDENT
    for (int x = 0; x < padded(width); x++) {
        float step = (rho[x] + gx[x] * u[x] + gy[x] * v[x]) * inverse[x]; /* (2), (4) */
        step = minf(maxf(step, -bound), bound);
        u[x] = u[x] - step * gx[x] + theta * (ux[x] - ux[x - 1] + uy[x] - uy_up[x]); /* (5) */
        v[x] = v[x] - step * gy[x] + theta * (vx[x] - vx[x - 1] + vy[x] - vy_up[x]);
    }
    u[width] = u[width - 1];
    v[width] = v[width - 1];
}

/* One row of the dual step, equation (6). `below` is the next row, or y itself at the bottom, where the difference is
 * zero. Must follow `primal_row` of both rows. */
static void dual_row(const Plane *s, int y, int below, float rate, int width) {
    const float *restrict u = row(&s[U], y), *restrict u_below = row(&s[U], below);
    const float *restrict v = row(&s[V], y), *restrict v_below = row(&s[V], below);
    float *restrict ux = row(&s[PUX], y), *restrict uy = row(&s[PUY], y);
    float *restrict vx = row(&s[PVX], y), *restrict vy = row(&s[PVY], y);
    INDEPENDENT
    for (int x = 0; x < padded(width); x++) {
        float a = ux[x] + rate * (u[x + 1] - u[x]), b = uy[x] + rate * (u_below[x] - u[x]); /* (6) */
        float c = vx[x] + rate * (v[x + 1] - v[x]), d = vy[x] + rate * (v_below[x] - v[x]);
        float scale_u = 1 / sqrtf(maxf(a * a + b * b, 1.0f)), scale_v = 1 / sqrtf(maxf(c * c + d * d, 1.0f));
        ux[x] = a * scale_u;
        uy[x] = b * scale_u;
        vx[x] = c * scale_v;
        vy[x] = d * scale_v;
    }
}

/* Runs all inner iterations in one sweep over the rows: while iteration 0 works on row `front`, iteration k works k
 * rows behind it. This is safe in place: primal step k of row y reads the dual of step k - 1 of rows y and y - 1; dual
 * step k of row y reads the primal of step k of rows y and y + 1; neither has been overwritten by then. If the rows in
 * flight do not fit the cache, it takes several sweeps. */
static void iterate(const Plane *s, const Parameters *parameters) {
    int width = s->width, height = s->height;
    float bound = parameters->lambda * parameters->theta, rate = parameters->tau / parameters->theta;
    int fit = CACHE_BYTES / (int)(s->stride * sizeof(float)) - 2, done = 0;
    while (done < parameters->iterations) {
        int fused = clampi(fit, 2, parameters->iterations - done);
        for (int front = 0; front < height + fused; front++) {
            for (int k = 0; k < fused; k++) {
                int y = front - k;
                if (y >= 0 && y < height) primal_row(s, y, bound, parameters->theta, width);
                if (y > 0 && y <= height) dual_row(s, y - 1, y < height ? y : y - 1, rate, width);
            }
        }
        done += fused;
    }
}

/* Median filters as networks of minima and maxima, and the last step of a warp. `lines` are row buffers, `length`
 * floats apart. */
#pragma once

#include "planes.h"

#define SORT2(a, b) \
    do { \
        float low_ = minf(a, b), high_ = maxf(a, b); \
        a = low_; \
        b = high_; \
    } while (0)

/* Sorting networks, whole layers per line. */
/* clang-format off */
#define SORT5(a, b, c, d, e) \
    SORT2(a, b); SORT2(d, e); SORT2(c, e); SORT2(c, d); SORT2(b, e); SORT2(a, d); SORT2(a, c); SORT2(b, d); SORT2(b, c)

/* ENDSn moves the least of n values to the first place and the greatest to the last. */
#define ENDS3(a, b, c) SORT2(b, c); SORT2(a, b); SORT2(b, c)
#define ENDS4(a, b, c, d) SORT2(a, b); SORT2(c, d); SORT2(a, c); SORT2(b, d)
#define ENDS5(a, b, c, d, e) SORT2(a, b); SORT2(c, d); SORT2(a, c); SORT2(a, e); SORT2(d, e); SORT2(b, e)
#define ENDS6(a, b, c, d, e, f) \
    SORT2(a, d); SORT2(b, e); SORT2(c, f); SORT2(a, b); SORT2(a, c); SORT2(d, f); SORT2(e, f)
#define ENDS7(a, b, c, d, e, f, g) \
    SORT2(a, e); SORT2(b, f); SORT2(c, g); SORT2(a, b); SORT2(c, d); SORT2(a, c); SORT2(e, f); SORT2(d, g); SORT2(f, g)
#define ENDS8(a, b, c, d, e, f, g, h) \
    SORT2(a, e); SORT2(b, f); SORT2(c, g); SORT2(d, h); SORT2(a, b); SORT2(c, d); SORT2(a, c); \
    SORT2(e, f); SORT2(g, h); SORT2(f, h)
/* clang-format on */

/* Median of 3 x 3. Sorts each column once, then takes the median of the largest low, the middle mid, and the smallest
 * high. */
static void median3_row(const Plane *p, int y, float *lines, ptrdiff_t length, float *restrict out) {
    const float *restrict a = row(p, clampi(y - 1, 0, p->height - 1)), *restrict b = row(p, y);
    const float *restrict c = row(p, clampi(y + 1, 0, p->height - 1));
    float *restrict low = lines + SIDE, *restrict mid = low + length, *restrict high = mid + length;
    INDEPENDENT
    for (int x = -LANES; x < padded(p->width) + LANES; x++) {
        float i = a[x], j = b[x], k = c[x];
        SORT2(i, j);
        SORT2(j, k);
        SORT2(i, j);
        low[x] = i;
        mid[x] = j;
        high[x] = k;
    }
    INDEPENDENT
    for (int x = 0; x < padded(p->width); x++) {
        float i = maxf(maxf(low[x - 1], low[x]), low[x + 1]), k = minf(minf(high[x - 1], high[x]), high[x + 1]);
        float j = maxf(minf(mid[x - 1], mid[x]), minf(maxf(mid[x - 1], mid[x]), mid[x + 1]));
        out[x] = maxf(minf(i, j), minf(maxf(i, j), k));
    }
}

/* Median of 5 x 5. Sorts each column once for all windows that contain it, then the five values of each rank. Counting
 * from 1, the i-th smallest of the values of rank j is no less than i * j - 1 others and no greater than
 * (6 - i) * (6 - j) - 1 others, which leaves 13 candidates for the median. Of eight candidates, the least and the
 * greatest are not the median; they make room for the next ones. */
static void median5_row(const Plane *p, int y, float *lines, ptrdiff_t length, float *restrict out) {
    const float *restrict line[5];
    float *restrict rank[5];
    for (int k = 0; k < 5; k++) {
        line[k] = row(p, clampi(y + k - 2, 0, p->height - 1));
        rank[k] = lines + SIDE + k * length;
    }
    INDEPENDENT
    for (int x = -LANES; x < padded(p->width) + LANES; x++) {
        float a = line[0][x], b = line[1][x], c = line[2][x], d = line[3][x], e = line[4][x];
        SORT5(a, b, c, d, e);
        rank[0][x] = a;
        rank[1][x] = b;
        rank[2][x] = c;
        rank[3][x] = d;
        rank[4][x] = e;
    }
#define RANK(k, a, b, c, d, e) \
    float a = rank[k][x - 2], b = rank[k][x - 1], c = rank[k][x], d = rank[k][x + 1], e = rank[k][x + 2]; \
    SORT5(a, b, c, d, e)
    INDEPENDENT
    for (int x = 0; x < padded(p->width); x++) {
        RANK(0, a1, a2, a3, a4, a5);
        RANK(1, b1, b2, b3, b4, b5);
        RANK(2, c1, c2, c3, c4, c5);
        RANK(3, d1, d2, d3, d4, d5);
        RANK(4, e1, e2, e3, e4, e5);
        ENDS8(a4, a5, b3, b4, d2, d3, e1, e2);
        ENDS7(a5, b3, b4, d2, d3, e1, b5);
        ENDS6(b3, b4, d2, d3, e1, d1);
        ENDS5(b4, d2, d3, e1, c2);
        ENDS4(d2, d3, e1, c4);
        ENDS3(d3, e1, c3);
        out[x] = e1;
    }
#undef RANK
}

/* Median-filters the solution into `flow`. Returns the sum over pixels of the squared change. */
static double update_flow(const Plane *solution, const Plane *flow, int median, float *lines, ptrdiff_t length) {
    double change = 0;
    float *restrict filtered = lines + 5 * length + LANES;
    if (median > 1)
        for (int y = 0; y < flow->height; y++) pad_row(row(solution, y), flow->width);
    for (int y = 0; y < flow->height; y++) {
        float *restrict old = row(flow, y), sums[LANES] = {0};
        if (median == 3) median3_row(solution, y, lines, length, filtered);
        if (median == 5) median5_row(solution, y, lines, length, filtered);
        const float *restrict fresh = median > 1 ? filtered : row(solution, y);
        /* makes the padding add nothing to the sums */
        INDEPENDENT
        for (int x = flow->width; x < padded(flow->width); x++) old[x] = fresh[x];
        for (int x = 0; x < padded(flow->width); x += LANES)
            for (int l = 0; l < LANES; l++) {
                float d = fresh[x + l] - old[x + l];
                sums[l] += d * d;
                old[x + l] = fresh[x + l];
            }
        for (int l = 0; l < LANES; l++) change += sums[l];
    }
    return change;
}

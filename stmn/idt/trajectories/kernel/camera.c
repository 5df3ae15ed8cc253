/* Corners, matches of local features, and flow without camera motion. */

#include "vectors.h"

/* A corner and its place, for sorting. */
typedef struct {
    float strength;
    int32_t at;
} Corner;

/* The stronger corner first; of equal ones the one that comes first in the image. */
static int compare_corners(const void *a, const void *b) {
    const Corner *one = a, *two = b;
    if (one->strength != two->strength) return one->strength > two->strength ? -1 : 1;
    return one->at < two->at ? -1 : 1;
}

/* Finds local maxima of a measure of corners that keep their distance from stronger ones.
 * strength: (H, W); least: what a corner must exceed; distance: pixels; most: corners to find.
 * found: (most, 2) x and y, written. Returns their number, or -1 if memory ran out. */
int64_t stmn_corners(const float *strength, int32_t height, int32_t width, float least, int32_t distance, int64_t most,
                     float *found) {
    Corner *corners = malloc((size_t)height * width * (sizeof(Corner) + 1) + 1);
    if (!corners) return -1;
    uint8_t *taken = (uint8_t *)(corners + (size_t)height * width);
    memset(taken, 0, (size_t)height * width);
    int64_t count = 0, kept = 0;
    for (int y = 1; y < height - 1; y++)
        for (int x = 1; x < width - 1; x++) {
            const float *s = strength + (size_t)y * width + x;
            if (*s <= least) continue;
            const float *a = s - width, *b = s + width;
            float around = maxf(maxf(maxf(a[-1], a[0]), maxf(a[1], s[-1])), maxf(maxf(s[1], b[-1]), maxf(b[0], b[1])));
            if (*s >= around) corners[count++] = (Corner){*s, y * width + x};
        }
    qsort(corners, count, sizeof *corners, compare_corners);
    for (int64_t i = 0; i < count && kept < most; i++) {
        int y = corners[i].at / width, x = corners[i].at % width;
        if (taken[corners[i].at]) continue;
        found[2 * kept] = (float)x;
        found[2 * kept++ + 1] = (float)y;
        for (int v = maxi(y - distance, 0); v <= mini(y + distance, height - 1); v++)
            for (int u = maxi(x - distance, 0); u <= mini(x + distance, width - 1); u++)
                if ((u - x) * (u - x) + (v - y) * (v - y) < distance * distance) taken[(size_t)v * width + u] = 1;
    }
    free(corners);
    return kept;
}

/* How many bits of two descriptors differ. */
static float count_bits(const uint8_t *a, const uint8_t *b, int64_t bytes) {
    int64_t bits = 0, k = 0;
    for (; k + 8 <= bytes; k += 8) {
        uint64_t one, two;
        memcpy(&one, a + k, 8);
        memcpy(&two, b + k, 8);
        bits += __builtin_popcountll(one ^ two);
    }
    for (; k < bytes; k++) bits += __builtin_popcount(a[k] ^ b[k]);
    return (float)bits;
}

/* The squared distance of two descriptors. */
static float square_distance(const float *a, const float *b, int64_t count) {
    float sum = 0;
    for (int64_t k = 0; k < count; k++) sum += (a[k] - b[k]) * (a[k] - b[k]);
    return sum;
}

/* For each feature of the first frame the nearest one of the second, if it is in the window and each is the other's
 * nearest; else -1.
 * one, two: (N, 2) and (M, 2) places; a, b: descriptors of `bytes` bytes, of floats if `floats`.
 * best: (N,), written. Returns 0, or 1 if memory ran out. */
int stmn_match(const float *one, const float *two, int64_t n, int64_t m, const uint8_t *a, const uint8_t *b,
               int64_t bytes, int32_t floats, float window, int64_t *best) {
    int64_t padded = (m + 7) / 8 * 8;
    int64_t *back = calloc(1, padded * (sizeof(int64_t) + 3 * sizeof(float) + 1) + 1);
    if (!back) return 1;
    float *nearest = (float *)(back + padded), *xs = nearest + padded, *ys = xs + padded;
    uint8_t *near = (uint8_t *)(ys + padded);
    for (int64_t j = 0; j < m; j++) {
        nearest[j] = INFINITY;
        back[j] = -1;
        xs[j] = two[2 * j];
        ys[j] = two[2 * j + 1];
    }
    for (int64_t i = 0; i < n; i++) {
        float x = one[2 * i], y = one[2 * i + 1], least = INFINITY;
        best[i] = -1;
        INDEPENDENT
        for (int64_t j = 0; j < m; j++) near[j] = (fabsf(x - xs[j]) <= window) & (fabsf(y - ys[j]) <= window);
        for (int64_t j = 0; j < m; j++) {
            uint64_t eight;
            if (j % 8 == 0) {
                memcpy(&eight, near + j, 8);
                if (!eight) {
                    j += 7;
                    continue;
                }
            }
            if (!near[j]) continue;
            float distance = floats ? square_distance((const float *)(a + i * bytes), (const float *)(b + j * bytes),
                                                      bytes / (int64_t)sizeof(float))
                                    : count_bits(a + i * bytes, b + j * bytes, bytes);
            if (distance < least) {
                least = distance;
                best[i] = j;
            }
            if (distance < nearest[j]) {
                nearest[j] = distance;
                back[j] = i;
            }
        }
    }
    for (int64_t i = 0; i < n; i++)
        if (best[i] >= 0 && back[best[i]] != i) best[i] = -1;
    free(back);
    return 0;
}

/* Frees flow of camera motion.
 * flow, out: (2, H, W) pixels; forth: the homography from the first frame to the second, by rows; back: its inverse. */
void stmn_stabilise(const float *flow, int32_t height, int32_t width, const float *forth, const float *back,
                    float *out) {
    size_t plane = (size_t)height * width;
    float right = (float)(width - 1), bottom = (float)(height - 1);
    const float a = forth[0], b = forth[1], c = forth[3], d = forth[4], e = forth[6];
    const float i = back[0], j = back[1], k = back[2], l = back[3], m = back[4], n = back[5];
    const float o = back[6], p = back[7], q = back[8];
    for (int row = 0; row < height; row++) {
        const float *restrict u = flow + (size_t)row * width, *restrict v = u + plane;
        float *restrict to_u = out + (size_t)row * width, *restrict to_v = to_u + plane;
        float y = (float)row, bx = b * y + forth[2], dy = d * y + forth[5], fy = forth[7] * y + forth[8];
        INDEPENDENT
        for (int column = 0; column < width; column++) {
            float x = (float)column, px = x + u[column], py = y + v[column];
            float w = e * x + fy, sx = a * x + bx, sy = c * x + dy;
            float t = 1 / (o * px + p * py + q);
            int seen = (sx * w >= 0) & (sx * w <= right * w * w) & (sy * w >= 0) & (sy * w <= bottom * w * w);
            to_u[column] = seen ? (i * px + j * py + k) * t - x : 0;
            to_v[column] = seen ? (l * px + m * py + n) * t - y : 0;
        }
    }
}

/* The smaller eigenvalue of the gradients' products, averaged over 3 x 3 pixels: a measure of corners.
 * grey, out: (H, W). Returns 0, or 1 if memory ran out. */
int stmn_strength(const uint8_t *grey, int32_t height, int32_t width, float *out) {
    ptrdiff_t line = width + 2 + 16;
    float *memory = calloc((size_t)line * (3 + 9 + 3), sizeof(float));
    if (!memory) return 1;
    float *rows[3], *products[3][3], *sums[3];
    for (int k = 0; k < 3; k++) {
        rows[k] = memory + k * line + 1;
        sums[k] = memory + (12 + k) * line + 1;
        for (int i = 0; i < 3; i++) products[k][i] = memory + (3 + 3 * k + i) * line + 1;
    }
    /* beyond the border lies the mirrored image, as in OpenCV, and the products there are those of the border's mirror
     */
    for (int y = -1; y <= height; y++) {
        int middle = y < 0 ? mini(1, height - 1) : y == height ? maxi(height - 2, 0) : y;
        for (int k = -1; k <= 1; k++) {
            int from = middle + k;
            from = from < 0 ? mini(1, height - 1) : from == height ? maxi(height - 2, 0) : from;
            const uint8_t *restrict source = grey + (ptrdiff_t)from * width;
            float *restrict to = rows[k + 1];
            INDEPENDENT
            for (int x = 0; x < width; x++) to[x] = source[x];
            to[-1] = to[mini(1, width - 1)];
            to[width] = to[maxi(width - 2, 0)];
        }
        float *restrict xx = products[(y + 3) % 3][0], *restrict xy = products[(y + 3) % 3][1];
        float *restrict yy = products[(y + 3) % 3][2];
        const float *restrict up = rows[0], *restrict mid = rows[1], *restrict down = rows[2];
        const float unit = 1.0f / (4 * 3 * 255); /* OpenCV's, for 8 bits */
        INDEPENDENT
        for (int x = 0; x < width; x++) {
            float dx = up[x + 1] - up[x - 1] + 2 * (mid[x + 1] - mid[x - 1]) + down[x + 1] - down[x - 1];
            float dy = down[x - 1] - up[x - 1] + 2 * (down[x] - up[x]) + down[x + 1] - up[x + 1];
            dx *= unit;
            dy *= unit;
            xx[x] = dx * dx;
            xy[x] = dx * dy;
            yy[x] = dy * dy;
        }
        if (y < 1) continue;
        for (int k = 0; k < 3; k++) {
            float *restrict sum = sums[k];
            const float *restrict a = products[0][k], *restrict b = products[1][k], *restrict c = products[2][k];
            INDEPENDENT
            for (int x = 0; x < width; x++) sum[x] = a[x] + b[x] + c[x];
            sum[-1] = sum[mini(1, width - 1)];
            sum[width] = sum[maxi(width - 2, 0)];
        }
        const float *restrict a = sums[0], *restrict b = sums[1], *restrict c = sums[2];
        float *restrict to = out + (ptrdiff_t)(y - 1) * width;
        INDEPENDENT
        for (int x = 0; x < width; x++) {
            float sxx = 0.5f * (a[x - 1] + a[x] + a[x + 1]), sxy = b[x - 1] + b[x] + b[x + 1];
            float syy = 0.5f * (c[x - 1] + c[x] + c[x + 1]);
            to[x] = sxx + syy - sqrtf((sxx - syy) * (sxx - syy) + sxy * sxy);
        }
    }
    free(memory);
    return 0;
}

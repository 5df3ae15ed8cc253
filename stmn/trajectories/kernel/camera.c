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
    float *nearest = malloc(m * (sizeof(float) + sizeof(int64_t)) + 1);
    if (!nearest) return 1;
    int64_t *back = (int64_t *)malloc(m * sizeof(int64_t) + 1);
    if (!back) {
        free(nearest);
        return 1;
    }
    for (int64_t j = 0; j < m; j++) {
        nearest[j] = INFINITY;
        back[j] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        float x = one[2 * i], y = one[2 * i + 1], least = INFINITY;
        best[i] = -1;
        for (int64_t j = 0; j < m; j++) {
            if (fabsf(x - two[2 * j]) > window || fabsf(y - two[2 * j + 1]) > window) continue;
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
    free(nearest);
    free(back);
    return 0;
}

/* Frees flow of camera motion.
 * flow, out: (2, H, W) pixels; forth: the homography from the first frame to the second, by rows; back: its inverse. */
void stmn_stabilise(const float *flow, int32_t height, int32_t width, const float *forth, const float *back,
                    float *out) {
    size_t plane = (size_t)height * width;
    float right = (float)(width - 1), bottom = (float)(height - 1);
    for (int row = 0; row < height; row++) {
        const float *restrict u = flow + (size_t)row * width, *restrict v = u + plane;
        float *restrict to_u = out + (size_t)row * width, *restrict to_v = to_u + plane;
        float y = (float)row;
        INDEPENDENT
        for (int column = 0; column < width; column++) {
            float x = (float)column, px = x + u[column], py = y + v[column];
            float w = 1 / (forth[6] * x + forth[7] * y + forth[8]);
            float sx = (forth[0] * x + forth[1] * y + forth[2]) * w, sy = (forth[3] * x + forth[4] * y + forth[5]) * w;
            float k = 1 / (back[6] * px + back[7] * py + back[8]);
            float bx = (back[0] * px + back[1] * py + back[2]) * k - x;
            float by = (back[3] * px + back[4] * py + back[5]) * k - y;
            int seen = (sx >= 0) & (sx <= right) & (sy >= 0) & (sy <= bottom);
            to_u[column] = seen ? bx : 0;
            to_v[column] = seen ? by : 0;
        }
    }
}

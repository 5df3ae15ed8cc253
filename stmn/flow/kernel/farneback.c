/* Optical flow by polynomial expansion at one scale (Farneback, SCIA 2003), which starts from the flow of a coarser
 * one.
 *
 * It is fast because an image is expanded once for the two pairs that it belongs to, and because rows of the products
 * that are averaged over a window are made just before they are needed, and kept only while they are. */

#include "median.h"

/* An expansion has EIGHT floats per pixel, the last three unused, because it is read where the flow points to. */
enum { EIGHT = 8, PRODUCTS = 5, WIDE = 16, REACH = 16, BORDER = 5 };

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x8 __attribute__((vector_size(32), aligned(4)));
#define SHUFFLE8(v, a, b, c, d) ((f32x4){v[a], v[b], v[c], v[d]})

/* Must match `_Expansion` in _farneback_c.py. The weights at distances 0 to `reach`: g, x g, x^2 g. */
typedef struct {
    int32_t reach;
    float weights[3][REACH], inverse[4];
} Expansion;

static int wide(int width) { return (width + WIDE - 1) / WIDE * WIDE; }

/* Repeats the ends of a row in `margin` pixels on either side. */
static void extend(float *line, int width, int margin) {
    for (int k = 1; k <= margin; k++) {
        line[-k] = line[0];
        line[width - 1 + k] = line[width - 1];
    }
}

/* Swaps rows and columns of four vectors. */
static void transpose(f32x4 *v) {
    f32x4 a = INTERLEAVE_LOW(v[0], v[2]), b = INTERLEAVE_LOW(v[1], v[3]);
    f32x4 c = INTERLEAVE_HIGH(v[0], v[2]), d = INTERLEAVE_HIGH(v[1], v[3]);
    v[0] = INTERLEAVE_LOW(a, b);
    v[1] = INTERLEAVE_HIGH(a, b);
    v[2] = INTERLEAVE_LOW(c, d);
    v[3] = INTERLEAVE_HIGH(c, d);
}

/* Converts rows of coefficients, `line` apart and padded, to EIGHT floats per pixel. */
static void interleave(const float *rows, ptrdiff_t line, float *out, int count) {
    for (int x = 0; x < count; x += 4) {
        f32x4 low[4], high[4] = {{0}};
        for (int k = 0; k < 4; k++) low[k] = *(const f32x4 *)(rows + k * line + x);
        high[0] = *(const f32x4 *)(rows + 4 * line + x);
        transpose(low);
        transpose(high);
        for (int k = 0; k < 4 && x + k < count; k++) {
            *(f32x4 *)(out + (x + k) * EIGHT) = low[k];
            *(f32x4 *)(out + (x + k) * EIGHT + 4) = high[k];
        }
    }
}

/* Fits f(x) = c + b.x + x.A x around each pixel of an image.
 * grey: (H, W); out: (H, W, 8): b of x and of y, A of xx, of yy, and twice that of xy.
 * Returns 0, or 1 if memory ran out. */
int stmn_farneback_expand(const uint8_t *grey, int32_t height, int32_t width, const Expansion *fit, float *out) {
    ptrdiff_t stride = wide(width), plane = stride * height, line = stride + 2 * REACH;
    float *memory = calloc((size_t)(plane + 3 * line + PRODUCTS * stride), sizeof(float));
    if (!memory) return 1;
    float *image = memory, *sums[3];
    for (int k = 0; k < 3; k++) sums[k] = memory + plane + k * line + REACH;
    float *to = memory + plane + 3 * line;
    for (int y = 0; y < height; y++) {
        float *restrict copy = image + y * stride;
        const uint8_t *restrict from = grey + (size_t)y * width;
        INDEPENDENT
        for (int x = 0; x < width; x++) copy[x] = from[x];
    }
    const float (*w)[REACH] = fit->weights;
    const float *inverse = fit->inverse;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < stride; x += WIDE) {
            f32x16 here = *(const f32x16 *)(image + y * stride + x);
            f32x16 a = w[0][0] * here, b = {0}, c = {0};
            for (int k = 1; k <= fit->reach; k++) {
                f32x16 up = *(const f32x16 *)(image + clampi(y - k, 0, height - 1) * stride + x);
                f32x16 down = *(const f32x16 *)(image + clampi(y + k, 0, height - 1) * stride + x);
                f32x16 both = up + down;
                a += w[0][k] * both;
                b += w[1][k] * (down - up);
                c += w[2][k] * both;
            }
            *(f32x16 *)(sums[0] + x) = a;
            *(f32x16 *)(sums[1] + x) = b;
            *(f32x16 *)(sums[2] + x) = c;
        }
        for (int k = 0; k < 3; k++) extend(sums[k], width, fit->reach);
        for (int x = 0; x < stride; x += WIDE) {
            f32x16 one = w[0][0] * *(f32x16 *)(sums[0] + x), in_y = w[0][0] * *(f32x16 *)(sums[1] + x);
            f32x16 in_yy = w[0][0] * *(f32x16 *)(sums[2] + x), in_x = {0}, in_xx = {0}, in_xy = {0};
            for (int k = 1; k <= fit->reach; k++) {
                f32x16 left = *(f32x16 *)(sums[0] + x - k), right = *(f32x16 *)(sums[0] + x + k);
                f32x16 both = left + right;
                one += w[0][k] * both;
                in_x += w[1][k] * (right - left);
                in_xx += w[2][k] * both;
                left = *(f32x16 *)(sums[1] + x - k);
                right = *(f32x16 *)(sums[1] + x + k);
                in_y += w[0][k] * (left + right);
                in_xy += w[1][k] * (right - left);
                in_yy += w[0][k] * (*(f32x16 *)(sums[2] + x - k) + *(f32x16 *)(sums[2] + x + k));
            }
            *(f32x16 *)(to + x) = in_x * inverse[0];
            *(f32x16 *)(to + stride + x) = in_y * inverse[0];
            *(f32x16 *)(to + 2 * stride + x) = one * inverse[1] + in_xx * inverse[2];
            *(f32x16 *)(to + 3 * stride + x) = one * inverse[1] + in_yy * inverse[2];
            *(f32x16 *)(to + 4 * stride + x) = in_xy * inverse[3];
        }
        interleave(to, stride, out + (ptrdiff_t)y * width * EIGHT, width);
    }
    free(memory);
    return 0;
}

/* The weight of a pixel by its distance from the border: near it, the fit saw repeated border pixels. */
static float certainty(int x, int size) {
    static const float NEAR[BORDER] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};
    return (x < BORDER ? NEAR[x] : 1) * (size - 1 - x < BORDER ? NEAR[size - 1 - x] : 1);
}

/* Computes one row of the products whose averages give the flow: A.A (xx, xy, yy) and A.db (x, y).
 * first, second: expansions; u, v: the flow so far; trust: certainty by column; row: PRODUCTS rows, `line` apart.
 * lines: 3 + PRODUCTS row buffers. */
static void multiply_row(const float *first, const float *second, const float *restrict u, const float *restrict v,
                         int y, int width, int height, const float *restrict trust, float *restrict row, ptrdiff_t line,
                         float *lines) {
    /* weights of the first and the second expansion: half each, and half of A's xy; only the first where the flow
     * points out of the image */
    static const f32x8 SHARE[2][2] = {{{0.5f, 0.5f, 1, 1, 0.5f}, {0}},
                                      {{0.5f, 0.5f, 0.5f, 0.5f, 0.25f}, {-0.5f, -0.5f, 0.5f, 0.5f, 0.25f}}};
    float *restrict past_x = lines, *restrict past_y = lines + line;
    int32_t *restrict place = (int32_t *)(lines + 2 * line);
    float *mean = lines + 3 * line;
    INDEPENDENT
    for (int x = 0; x < width; x++) {
        float px = (float)x + u[x], py = (float)y + v[x];
        int ix = (int)floorf(px), iy = (int)floorf(py);
        int inside = (ix >= 0) & (ix < width - 1) & (iy >= 0) & (iy < height - 1);
        past_x[x] = px - (float)ix;
        past_y[x] = py - (float)iy;
        place[x] = inside ? iy * width + ix : -1;
    }
    const float *here = first + (ptrdiff_t)y * width * EIGHT;
    ptrdiff_t down = (ptrdiff_t)width * EIGHT;
    for (int x = 0; x < width; x += 4) {
        f32x4 low[4], high[4];
        for (int k = 0; k < 4; k++) {
            int pixel = x + k < width ? x + k : width - 1;
            f32x8 one = *(const f32x8 *)(here + pixel * EIGHT), mixed = one * SHARE[0][0];
            if (place[pixel] >= 0) {
                const float *at = second + (ptrdiff_t)place[pixel] * EIGHT;
                f32x8 a = *(const f32x8 *)at, b = *(const f32x8 *)(at + EIGHT);
                f32x8 c = *(const f32x8 *)(at + down), d = *(const f32x8 *)(at + down + EIGHT);
                a += past_x[pixel] * (b - a);
                c += past_x[pixel] * (d - c);
                a += past_y[pixel] * (c - a);
                mixed = one * SHARE[1][0] + a * SHARE[1][1];
            }
            low[k] = SHUFFLE8(mixed, 0, 1, 2, 3);
            high[k] = SHUFFLE8(mixed, 4, 5, 6, 7);
        }
        transpose(low);
        transpose(high);
        for (int k = 0; k < 4; k++) *(f32x4 *)(mean + k * line + x) = low[k];
        *(f32x4 *)(mean + 4 * line + x) = high[0];
    }
    float trust_y = certainty(y, height);
    INDEPENDENT
    for (int x = 0; x < width; x++) {
        float xx = mean[x + 2 * line], yy = mean[x + 3 * line], xy = mean[x + 4 * line];
        float bx = mean[x] + xx * u[x] + xy * v[x], by = mean[x + line] + xy * u[x] + yy * v[x];
        float weight = trust[x] * trust_y;
        weight *= weight;
        row[x] = weight * (xx * xx + xy * xy);
        row[x + line] = weight * (xy * (xx + yy));
        row[x + 2 * line] = weight * (yy * yy + xy * xy);
        row[x + 3 * line] = weight * (xx * bx + xy * by);
        row[x + 4 * line] = weight * (xy * bx + yy * by);
    }
}

/* Replaces the flow by the best fit to the averages over a window. `rows`: 2 reach + 2 rows of products. */
static void iterate(const float *first, const float *second, float *flow, int width, int height, int reach, float norm,
                    const float *trust, float *rows, float *sums, float *boxes, float *lines, ptrdiff_t line) {
    int keep = 2 * reach + 2;
    ptrdiff_t set = PRODUCTS * line, plane = (ptrdiff_t)width * height;
    memset(sums, 0, set * sizeof(float));
    for (int y = -reach; y < height; y++) {
        /* the row that enters the window, and the row that leaves it; rows outside the image repeat its border */
        int next = y + reach;
        if (next < height)
            multiply_row(first, second, flow + (ptrdiff_t)next * width, flow + plane + (ptrdiff_t)next * width, next,
                         width, height, trust, rows + (next % keep) * set + REACH, line, lines);
        const float *restrict in = rows + (clampi(next, 0, height - 1) % keep) * set;
        const float *restrict gone = rows + (clampi(y - reach - 1, 0, height - 1) % keep) * set;
        float *restrict sum = sums;
        if (y == -reach) {
            for (ptrdiff_t x = 0; x < set; x++) sum[x] = (float)(reach + 1) * in[x]; /* the rows above the image */
            continue;
        }
        if (y <= 0) {
            INDEPENDENT
            for (ptrdiff_t x = 0; x < set; x++) sum[x] += in[x];
            if (y < 0) continue;
        } else {
            INDEPENDENT
            for (ptrdiff_t x = 0; x < set; x++) sum[x] += in[x] - gone[x];
        }
        float *u = flow + (ptrdiff_t)y * width, *v = u + plane;
        for (int k = 0; k < PRODUCTS; k++) extend(sums + k * line + REACH, width, reach);
        for (int x = 0; x < wide(width); x += WIDE) {
            f32x16 box[PRODUCTS];
            for (int k = 0; k < PRODUCTS; k++) {
                const float *at = sums + k * line + REACH + x;
                box[k] = *(const f32x16 *)at;
                for (int i = 1; i <= reach; i++) box[k] += *(const f32x16 *)(at - i) + *(const f32x16 *)(at + i);
                box[k] *= norm;
            }
            f32x16 inverse = 1 / (box[0] * box[2] - box[1] * box[1] + 1e-3f);
            *(f32x16 *)(boxes + x) = (box[2] * box[3] - box[1] * box[4]) * inverse;
            *(f32x16 *)(boxes + line + x) = (box[0] * box[4] - box[1] * box[3]) * inverse;
        }
        memcpy(u, boxes, width * sizeof(float));
        memcpy(v, boxes + line, width * sizeof(float));
    }
}

/* Enlarges a plane by bilinear interpolation and multiplies it. */
static void enlarge(const float *from, int from_height, int from_width, float *to, int height, int width, float by,
                    int32_t *left, float *past) {
    float ratio_x = (float)from_width / width, ratio_y = (float)from_height / height;
    for (int x = 0; x < width; x++) {
        float at = minf(maxf((x + 0.5f) * ratio_x - 0.5f, 0), from_width - 1);
        left[x] = clampi((int)at, 0, from_width - 2);
        past[x] = at - left[x];
    }
    for (int y = 0; y < height; y++) {
        float at = minf(maxf((y + 0.5f) * ratio_y - 0.5f, 0), from_height - 1);
        int top = clampi((int)at, 0, from_height - 2);
        float below = (at - top) * by, above = by - below;
        const float *restrict a = from + (ptrdiff_t)top * from_width, *restrict b = a + from_width;
        float *restrict out = to + (ptrdiff_t)y * width;
        INDEPENDENT
        for (int x = 0; x < width; x++) {
            int i = left[x];
            float l = above * a[i] + below * b[i], r = above * a[i + 1] + below * b[i + 1];
            out[x] = l + past[x] * (r - l);
        }
    }
}

/* Median-filters a plane in place. */
static void smooth(float *plane, int height, int width, int side, Plane *copy, float *lines, ptrdiff_t length) {
    float *filtered = lines + 5 * length + LANES;
    for (int y = 0; y < height; y++) {
        memcpy(row(copy, y), plane + (ptrdiff_t)y * width, width * sizeof(float));
        pad_row(row(copy, y), width);
    }
    for (int y = 0; y < height; y++) {
        if (side == 3)
            median3_row(copy, y, lines, length, filtered);
        else
            median5_row(copy, y, lines, length, filtered);
        memcpy(plane + (ptrdiff_t)y * width, filtered, width * sizeof(float));
    }
}

/* Estimates the flow between two images at one scale.
 * first, second: their expansions; coarse: (2, coarse_height, coarse_width) the flow at a coarser scale, or NULL.
 * window: side of the window; median: side of the filter over the flow, 0, 3 or 5.
 * flow: (2, H, W), written, in pixels. Returns 0, or 1 if memory ran out. */
int stmn_farneback_flow(const float *first, const float *second, const float *coarse, int32_t coarse_height,
                        int32_t coarse_width, int32_t height, int32_t width, int32_t window, int32_t iterations,
                        int32_t median, float *flow) {
    int reach = window / 2;
    ptrdiff_t line = wide(width) + 2 * REACH, length = row_floats(width), plane = (ptrdiff_t)width * height;
    size_t floats = (size_t)(2 * reach + 2 + 1) * PRODUCTS * line + (4 + 3 + PRODUCTS) * line + 8 * length;
    char *memory = calloc(1, floats * sizeof(float) + planes_bytes(width, height, 1) + 2 * ALIGNMENT);
    if (!memory) return 1;
    Arena arena = {(char *)(((uintptr_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)};
    Plane copy;
    make_planes(&arena, &copy, 1, width, height);
    float *rows = (float *)arena.next, *sums = rows + (size_t)(2 * reach + 2) * PRODUCTS * line;
    float *boxes = sums + PRODUCTS * line, *trust = boxes + 2 * line, *past = trust + line;
    float *expanded = past + line, *lines = expanded + (3 + PRODUCTS) * line;
    for (int x = 0; x < width; x++) trust[x] = certainty(x, width);
    if (coarse)
        for (int c = 0; c < 2; c++)
            enlarge(coarse + (ptrdiff_t)c * coarse_height * coarse_width, coarse_height, coarse_width, flow + c * plane,
                    height, width, c ? (float)height / coarse_height : (float)width / coarse_width, (int32_t *)boxes,
                    past);
    else
        memset(flow, 0, 2 * plane * sizeof(float));
    for (int k = 0; k < iterations; k++)
        iterate(first, second, flow, width, height, reach, 1 / (float)(window * window), trust, rows, sums, boxes,
                expanded, line);
    if (median)
        for (int c = 0; c < 2; c++) smooth(flow + c * plane, height, width, median, &copy, lines, length);
    free(memory);
    return 0;
}

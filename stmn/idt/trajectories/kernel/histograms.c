/* Histograms of the patches around tracks. The arithmetic is that of _histograms_numpy.py; read that first.
 *
 * The integral image of all bins of a frame would not fit the cache. But a patch needs no more than the rows that it
 * covers, so the integral image is made row by row, `patch` + 1 rows are kept, and each patch is described when its
 * last row is there. */

#include "vectors.h"

enum { DIRECTIONS = 8, KINDS = 4, BINS = KINDS * DIRECTIONS, CELL = BINS + 1, MAX_CELLS = 8 };

/* Must match `_Layout` in _histograms_c.py. */
typedef struct {
    int32_t patch, cells;
    float still, epsilon, units[KINDS], limits[KINDS];
} Layout;

/* Row buffers of whole numbers: the bin before each pixel's direction, and what the pixel adds to it and to the next.
 */
typedef struct {
    int32_t *bin[KINDS], *here[KINDS], *next[KINDS], *still;
} Lines;

typedef int32_t i32x8 __attribute__((vector_size(32), aligned(4)));

/* Differences of neighbours along a row, zero at its ends. */
static void along(const float *restrict row, float *restrict out, int width) {
    INDEPENDENT
    for (int x = 1; x < width - 1; x++) out[x] = row[x + 1] - row[x - 1];
    out[0] = out[width - 1] = 0;
}

/* Differences of two rows, zero if they are the same one. */
static void across(const float *restrict above, const float *restrict below, float *restrict out, int width) {
    INDEPENDENT
    for (int x = 0; x < width; x++) out[x] = below[x] - above[x];
}

/* Shares the lengths of a row of vectors between the two nearest of 8 directions. */
static void share(const float *restrict xs, const float *restrict ys, float limit, float unit, int32_t *restrict bin,
                  int32_t *restrict here, int32_t *restrict next, int width) {
    INDEPENDENT
    for (int i = 0; i < width; i++) {
        float x = xs[i], y = ys[i], wide = fabsf(x), high = fabsf(y);
        float t = minf(wide, high) / maxf(maxf(wide, high), 1e-30f), square = t * t;
        float angle = -0.01492116f;
        angle = angle * square + 0.06703242f;
        angle = angle * square + -0.14823855f;
        angle = angle * square + 0.24642316f;
        angle = angle * square + -0.42350852f;
        angle = angle * square + 1.2732105f;
        angle = angle * t;
        angle = high > wide ? 2 - angle : angle;
        angle = x < 0 ? 4 - angle : angle;
        angle = y < 0 ? 8 - angle : angle;
        float length = minf(sqrtf(x * x + y * y), limit) * unit;
        int32_t before = (int32_t)angle;
        float past = angle - (float)before;
        bin[i] = before & (DIRECTIONS - 1);
        here[i] = (int32_t)(length * (1 - past) + 0.5f);
        next[i] = (int32_t)(length * past + 0.5f);
    }
}

/* Fills the row buffers of row y. `grey`: the rows before, at and after it; `scratch`: two rows. */
static void share_row(float *const grey[3], const float *flow, int y, int width, int height, const Layout *layout,
                      const Lines *lines, float *restrict scratch) {
    size_t plane = (size_t)width * height, here = (size_t)y * width;
    int inside = y > 0 && y < height - 1;
    const float *u = flow + here, *v = u + plane;
    const float *above[KINDS] = {grey[0], NULL, u - width, v - width}, *row[KINDS] = {grey[1], u, u, v};
    const float *below[KINDS] = {grey[2], NULL, u + width, v + width};
    for (int k = 0; k < KINDS; k++) {
        const float *x = u, *yy = v;
        if (k != 1) {
            along(row[k], scratch, width);
            if (inside)
                across(above[k], below[k], scratch + width, width);
            else
                memset(scratch + width, 0, width * sizeof(float));
            x = scratch;
            yy = scratch + width;
        }
        share(x, yy, layout->limits[k], layout->units[k], lines->bin[k], lines->here[k], lines->next[k], width);
    }
    int32_t *restrict still = lines->still, *restrict hof = lines->here[1], *restrict hof_next = lines->next[1];
    float most = layout->still;
    INDEPENDENT
    for (int i = 0; i < width; i++) {
        int32_t moves = sqrtf(u[i] * u[i] + v[i] * v[i]) > most ? -1 : 0;
        still[i] = 1 + moves;
        hof[i] &= moves;
        hof_next[i] &= moves;
    }
}

/* One row of the integral image from the one above it. Whole numbers may overflow: differences stay exact. */
static void integrate_row(const Lines *lines, const uint32_t *above, uint32_t *row, int width) {
    static const i32x8 BIN = {0, 1, 2, 3, 4, 5, 6, 7}, BIN_BEFORE = {7, 0, 1, 2, 3, 4, 5, 6};
    i32x8 run[KINDS] = {{0}};
    memset(row, 0, BINS * sizeof *row);
    for (int x = 0; x < width; x++) {
        const i32x8 *up = (const i32x8 *)(above + (size_t)(x + 1) * BINS);
        i32x8 *out = (i32x8 *)(row + (size_t)(x + 1) * BINS);
        for (int k = 0; k < KINDS; k++) {
            int32_t bin = lines->bin[k][x];
            run[k] += (BIN == bin) & lines->here[k][x];
            run[k] += (BIN_BEFORE == bin) & lines->next[k][x];
            out[k] = up[k] + run[k];
        }
    }
}

/* Adds the descriptor of one patch to `out`. `rows`, `still`: the integral images' rows at the cells' borders. */
static void describe_patch(uint32_t *const *rows, uint32_t *const *still, int left, const Layout *layout, float *out) {
    float values[MAX_CELLS * MAX_CELLS][CELL], sums[BINS] = {0}, part[KINDS] = {0};
    int side = layout->patch / layout->cells, n = 0;
    for (int column = 0; column < layout->cells; column++)
        for (int row = 0; row < layout->cells; row++, n++) {
            size_t x0 = left + column * side, x1 = x0 + side;
            const uint32_t *restrict a = rows[row] + x0 * BINS, *restrict b = rows[row] + x1 * BINS;
            const uint32_t *restrict c = rows[row + 1] + x0 * BINS, *restrict d = rows[row + 1] + x1 * BINS;
            for (int k = 0; k < KINDS; k++) {
                float per_unit = 1 / layout->units[k];
                for (int i = k * DIRECTIONS; i < (k + 1) * DIRECTIONS; i++) {
                    values[n][i] = (float)(int32_t)(d[i] - b[i] - c[i] + a[i]) * per_unit + layout->epsilon;
                    sums[i] += values[n][i];
                }
            }
            uint32_t count = still[row + 1][x1] - still[row][x1] - still[row + 1][x0] + still[row][x0];
            values[n][BINS] = (float)count + layout->epsilon;
            part[1] += values[n][BINS];
        }
    for (int i = 0; i < BINS; i++) part[i / DIRECTIONS] += sums[i];
    float inverse[CELL];
    for (int i = 0; i < BINS; i++) inverse[i] = 1 / part[i / DIRECTIONS];
    inverse[BINS] = 1 / part[1];
    for (int k = 0; k < n; k++)
        for (int i = 0; i < CELL; i++) out[k * CELL + i] += sqrtf(values[k][i] * inverse[i]);
}

/* Takes memory for `count` numbers of 32 bits. */
static void *take(char **next, size_t count) {
    void *taken = *next;
    *next += count * 4;
    return taken;
}

/* Describes patches in one frame and adds the descriptors to sums.
 * grey: (H, W); flow: (2, H, W) pixels.
 * corners: (count, 2) x and y of the upper left pixel of each patch, which is inside the frame.
 * rows: (count,) of `sums`, where each descriptor is added; sums: (..., cells * cells * CELL).
 * Returns 0, or 1 if memory ran out. */
int stmn_describe(const uint8_t *grey, const float *flow, int32_t height, int32_t width, const int32_t *corners,
                  const int32_t *rows, int64_t count, const Layout *layout, float *sums) {
    int keep = layout->patch + 1, side = layout->patch / layout->cells;
    size_t numbers = (size_t)layout->cells * layout->cells * CELL;
    size_t length = (size_t)(width + 1) * BINS;
    size_t bytes = (keep * (length + width + 1) + (size_t)width * (3 + 2 + 3 * KINDS + 1) + height + 2 + count) * 4;
    char *memory = malloc(bytes + 64);
    if (!memory) return 1;
    char *next = (char *)(((uintptr_t)memory + 63) / 64 * 64);
    uint32_t *integral = take(&next, keep * length), *still = take(&next, keep * (width + 1));
    float *grey_rows[3], *scratch = take(&next, width * 2);
    Lines lines;
    for (int k = 0; k < 3; k++) grey_rows[k] = take(&next, width);
    for (int k = 0; k < KINDS; k++) {
        lines.bin[k] = take(&next, width);
        lines.here[k] = take(&next, width);
        lines.next[k] = take(&next, width);
    }
    lines.still = take(&next, width);
    int32_t *first = take(&next, height + 2), *order = take(&next, count);

    /* the patches by their upper row */
    memset(first, 0, (height + 2) * sizeof *first);
    for (int64_t i = 0; i < count; i++) first[corners[2 * i + 1] + 2]++;
    for (int y = 1; y < height + 2; y++) first[y] += first[y - 1];
    for (int64_t i = 0; i < count; i++) order[first[corners[2 * i + 1] + 1]++] = (int32_t)i;

    memset(integral, 0, length * 4);
    memset(still, 0, (width + 1) * 4);
    for (int y = 0; y < height; y++) {
        for (int k = -1; k <= 1; k++) {
            int from = y + k;
            if (from < 0 || from >= height || (y && k < 1)) continue;
            const uint8_t *restrict source = grey + (size_t)from * width;
            float *restrict target = grey_rows[from % 3];
            INDEPENDENT
            for (int x = 0; x < width; x++) target[x] = source[x];
        }
        float *const around[3] = {grey_rows[(y + 2) % 3], grey_rows[y % 3], grey_rows[(y + 1) % 3]};
        share_row(around, flow, y, width, height, layout, &lines, scratch);
        int above = y % keep, here = (y + 1) % keep;
        integrate_row(&lines, integral + above * length, integral + here * length, width);
        uint32_t run = 0, *up = still + (size_t)above * (width + 1), *out = still + (size_t)here * (width + 1);
        out[0] = 0;
        for (int x = 0; x < width; x++) out[x + 1] = up[x + 1] + (run += lines.still[x]);
        int top = y + 1 - layout->patch;
        if (top < 0) continue;
        uint32_t *borders[MAX_CELLS + 1], *still_borders[MAX_CELLS + 1];
        for (int k = 0; k <= layout->cells; k++) {
            int at = (top + k * side) % keep;
            borders[k] = integral + at * length;
            still_borders[k] = still + (size_t)at * (width + 1);
        }
        for (int32_t i = first[top]; i < first[top + 1]; i++) {
            int32_t patch = order[i];
            describe_patch(borders, still_borders, corners[2 * patch], layout, sums + (size_t)rows[patch] * numbers);
        }
    }
    free(memory);
    return 0;
}

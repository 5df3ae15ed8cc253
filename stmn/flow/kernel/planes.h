/* Images in memory: planes with margins, so that neighbours are read without asking where the border is, and rows
 * padded to whole vectors, so that loops have no scalar tails. What is computed in the padding is never used. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Before loops whose pointers never overlap, which compilers cannot see through a local `restrict`. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

enum {
    SIDE = 16,                /* columns of margin */
    TOP = 3,                  /* rows of margin: `derive` needs 2 */
    LANES = 8,                /* rows are padded to a multiple of this */
    SPLINE_REACH = 10,        /* pixels to either side that a spline coefficient depends on */
    ALIGNMENT = 64,           /* bytes */
    LINES = 16,               /* row buffers of a thread: 15 for `linearise`, even for alignment */
    CACHE_BYTES = 256 * 1024, /* what `iterate` may count on in a core's own cache */
};

typedef float v4 __attribute__((vector_size(16), aligned(4)));
#if defined(__clang__)
#define SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t i4 __attribute__((vector_size(16)));
#define SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (i4){i, j, k, l})
#endif
#define INTERLEAVE_LOW(a, b) SHUFFLE(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define JOIN_LOW(a, b) SHUFFLE(a, b, 0, 1, 4, 5)
#define JOIN_HIGH(a, b) SHUFFLE(a, b, 2, 3, 6, 7)

/* One axis of one pyramid level: how it is sampled from the finer level, and the coarser level from it. */
typedef struct {
    int32_t size, taps;
    const int32_t *start;  /* (size,) first finer pixel under the taps */
    const float *weights;  /* (taps, size) */
    const int32_t *below;  /* (size,) coarser pixel before this one */
    const float *fraction; /* (size,) distance from it, 0..1 */
} Axis;

typedef struct {
    float lambda, theta, tau, epsilon;
    int32_t warps, iterations, median, levels;
} Knobs; /* as `_Knobs` of `_tvl1_c.py`, and `Axis` as `_Axis` there */

typedef struct {
    int width, height;
    ptrdiff_t stride; /* floats from one row to the next */
    float *origin;    /* pixel (0, 0) */
} Plane;

/* Planes of the inner loop: the flow sought, its duals, the linearised data term. */
enum { U, V, PUX, PUY, PVX, PVY, GX, GY, INVERSE, RHO, SOLVER_PLANES };

typedef struct {
    char *next;
} Arena; /* memory handed out from front to back, never returned */

static ptrdiff_t padded(int width) { return (width + LANES - 1) / LANES * LANES; }
static ptrdiff_t row_floats(int width) { return padded(width) + 2 * SIDE; }
static float *row(const Plane *p, int y) { return p->origin + y * p->stride; }
static int clampi(int value, int low, int high) { return value < low ? low : value > high ? high : value; }
static float minf(float a, float b) { return a < b ? a : b; }
static float maxf(float a, float b) { return a > b ? a : b; }

/* An odd multiple of the alignment, so that planes of one size do not fall on the same cache sets. */
static size_t planes_bytes(int width, int height, int count) {
    size_t bytes = (size_t)row_floats(width) * (height + 2 * TOP) * count * sizeof(float);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + 5 * ALIGNMENT;
}

/* `count` planes whose rows alternate in memory, all zero. */
static void make_planes(Arena *arena, Plane *planes, int count, int width, int height) {
    ptrdiff_t length = row_floats(width);
    float *base = (float *)arena->next;
    memset(base, 0, planes_bytes(width, height, count));
    arena->next += planes_bytes(width, height, count);
    for (int k = 0; k < count; k++)
        planes[k] = (Plane){width, height, length * count, base + TOP * length * count + k * length + SIDE};
}

/* Repeats the outermost pixels of a row into its margins. */
static void pad_row(float *line, int width) {
    for (int k = 1; k <= TOP; k++) {
        line[-k] = line[0];
        line[width - 1 + k] = line[width - 1];
    }
}

static void pad(const Plane *p) {
    size_t bytes = (size_t)row_floats(p->width) * sizeof(float);
    for (int y = 0; y < p->height; y++) pad_row(row(p, y), p->width);
    for (int k = 1; k <= TOP; k++) {
        memcpy(row(p, -k) - SIDE, row(p, 0) - SIDE, bytes);
        memcpy(row(p, p->height - 1 + k) - SIDE, row(p, p->height - 1) - SIDE, bytes);
    }
}

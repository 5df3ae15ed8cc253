/* Planes: images in memory, one float per pixel. They have margins, so that code can read neighbours without checking
 * for borders, and rows padded to whole vectors, so that loops need no scalar tail. Values computed in the padding are
 * never used. */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Before a loop: its pointers never overlap. Compilers ignore the `restrict` of local variables. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

enum {
    SIDE = 16,                /* columns of margin on either side */
    TOP = 3,                  /* rows of margin above and below; `differentiate` needs 2 */
    LANES = 8,                /* rows are padded to a multiple of this */
    SPLINE_REACH = 10,        /* pixels on either side that a spline coefficient depends on */
    ALIGNMENT = 64,           /* bytes */
    LINES = 16,               /* row buffers: `linearise` needs 15; an even number keeps the alignment */
    CACHE_BYTES = 256 * 1024, /* size of a core's own cache that `iterate` assumes */
    MAX_LEVELS = 32,
};

typedef float f32x4 __attribute__((vector_size(16), aligned(4)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (i32x4){__VA_ARGS__})
#endif
#define INTERLEAVE_LOW(a, b)  SHUFFLE(a, b, 0, 4, 1, 5)
#define INTERLEAVE_HIGH(a, b) SHUFFLE(a, b, 2, 6, 3, 7)
#define JOIN_LOW(a, b)        SHUFFLE(a, b, 0, 1, 4, 5)
#define JOIN_HIGH(a, b)       SHUFFLE(a, b, 2, 3, 6, 7)

/* Rows or columns of a pyramid level: how to sample them from the finer level, and the coarser level at them.
 * Must match `_Axis` in _tvl1_c.py. */
typedef struct {
    int32_t size, taps;
    const int32_t *start;  /* (size,) first finer pixel under the taps */
    const float *weights;  /* (taps, size) */
    const int32_t *below;  /* (size,) coarser pixel before this one */
    const float *fraction; /* (size,) distance from it, 0..1 */
} Axis;

/* Must match `_Parameters` in _tvl1_c.py. */
typedef struct {
    float lambda, theta, tau, epsilon;
    int32_t warps, iterations, median, levels;
} Parameters;

typedef struct {
    int width, height;
    ptrdiff_t stride; /* floats from one row to the next */
    float *origin;    /* pixel (0, 0) */
} Plane;

/* Planes of the inner loop: the flow, its dual variables, the linearised data term. */
enum { U, V, PUX, PUY, PVX, PVY, GX, GY, INVERSE, RHO, SOLVER_PLANES };

/* Memory that is handed out from front to back and never returned. */
typedef struct {
    char *next;
} Arena;

static ptrdiff_t padded(int width) { return (width + LANES - 1) / LANES * LANES; }
static ptrdiff_t row_floats(int width) { return padded(width) + 2 * SIDE; }
static float *row(const Plane *p, int y) { return p->origin + y * p->stride; }
static int clampi(int value, int low, int high) { return value < low ? low : value > high ? high : value; }
static float minf(float a, float b) { return a < b ? a : b; }
static float maxf(float a, float b) { return a > b ? a : b; }

/* An odd multiple of the alignment, so that planes of equal size do not share cache sets. */
static size_t planes_bytes(int width, int height, int count) {
    size_t bytes = (size_t)row_floats(width) * (height + 2 * TOP) * count * sizeof(float);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + 5 * ALIGNMENT;
}

/* Makes `count` planes, all zero, whose rows alternate in memory. */
static void make_planes(Arena *arena, Plane *planes, int count, int width, int height) {
    ptrdiff_t length = row_floats(width);
    float *base = (float *)arena->next;
    memset(base, 0, planes_bytes(width, height, count));
    arena->next += planes_bytes(width, height, count);
    for (int k = 0; k < count; k++)
        planes[k] = (Plane){width, height, length * count, base + TOP * length * count + k * length + SIDE};
}

/* Repeats the first and the last pixel of a row in its margins. */
static void pad_row(float *line, int width) {
    for (int k = 1; k <= TOP; k++) {
        line[-k] = line[0];
        line[width - 1 + k] = line[width - 1];
    }
}

/* Repeats the outermost pixels of a plane in its margins. */
static void pad_plane(const Plane *p) {
    size_t bytes = (size_t)row_floats(p->width) * sizeof(float);
    for (int y = 0; y < p->height; y++) pad_row(row(p, y), p->width);
    for (int k = 1; k <= TOP; k++) {
        memcpy(row(p, -k) - SIDE, row(p, 0) - SIDE, bytes);
        memcpy(row(p, p->height - 1 + k) - SIDE, row(p, p->height - 1) - SIDE, bytes);
    }
}

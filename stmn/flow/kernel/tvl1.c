/* TV-L1 optical flow of pairs of grey frames, one pair after another, in one thread.
 *
 * The arithmetic is that of _tvl1_torch.py; read that first, it has the equations and the reasons. It is fast through:
 *   - plain loops over rows, which any compiler vectorises (planes.h);
 *   - all inner iterations in one sweep over the rows, so that a row stays in the cache from its first iteration to its
 *     last (iterate.h);
 *   - alternating rows of the ten planes of the inner loop: a single stream of memory for the prefetcher. */

#include "iterate.h"
#include "median.h"
#include "planes.h"
#include "pyramid.h"
#include "warp.h"

/* The planes of one pyramid level. */
typedef struct {
    Plane flow[2], derivative[2], spline, solver[SOLVER_PLANES];
} Level;

static size_t level_bytes(const Axis *axes) {
    return 5 * planes_bytes(axes[1].size, axes[0].size, 1) + planes_bytes(axes[1].size, axes[0].size, SOLVER_PLANES);
}

/* Estimates the flow of one pair, from the coarsest level to the finest. Two levels are in memory at a time. */
static void solve_pair(const float *first, const float *second, float *out, const Parameters *parameters,
                       const Axis *axes, char *memory) {
    int finest_width = axes[1].size, finest_height = axes[0].size;
    ptrdiff_t length = row_floats(finest_width);
    float *lines = (float *)memory;
    memset(lines, 0, LINES * length * sizeof(float)); /* even unused padding must not be NaN */
    Arena arena = {memory + LINES * length * sizeof(float)};
    Plane frames[2][MAX_LEVELS];
    for (int l = 0; l < parameters->levels; l++)
        for (int f = 0; f < 2; f++) {
            const Axis *rows = &axes[2 * l], *columns = rows + 1;
            make_planes(&arena, &frames[f][l], 1, columns->size, rows->size);
            if (l == 0)
                shrink(f ? second : first, finest_width, finest_width, &frames[f][0], rows, columns, lines);
            else
                shrink(frames[f][l - 1].origin, frames[f][l - 1].stride, frames[f][l - 1].width, &frames[f][l], rows,
                       columns, lines);
        }
    Arena halves[2] = {arena, {arena.next + level_bytes(axes)}};
    Level levels[2];
    for (int l = parameters->levels - 1; l >= 0; l--) {
        const Axis *rows = &axes[2 * l], *columns = rows + 1;
        Level *level = &levels[l & 1], *coarser = &levels[1 - (l & 1)];
        int width = columns->size, height = rows->size;
        arena = halves[l & 1];
        for (int c = 0; c < 2; c++) {
            make_planes(&arena, &level->flow[c], 1, width, height);
            make_planes(&arena, &level->derivative[c], 1, width, height);
        }
        make_planes(&arena, &level->spline, 1, width, height);
        make_planes(&arena, level->solver, SOLVER_PLANES, width, height);
        if (l < parameters->levels - 1) {
            enlarge(&coarser->flow[0], &level->flow[0], rows, columns, (float)width / columns[2].size, lines);
            enlarge(&coarser->flow[1], &level->flow[1], rows, columns, (float)height / rows[2].size, lines);
            for (int k = PUX; k <= PVY; k++) enlarge(&coarser->solver[k], &level->solver[k], rows, columns, 1, lines);
        }
        fit_spline(&frames[1][l], &level->spline, lines);
        differentiate(&frames[0][l], &level->derivative[0], &level->derivative[1]);
        for (int w = 0; w < parameters->warps; w++) {
            double change = 0;
            linearise(&frames[0][l], level->derivative, &level->spline, level->flow, level->solver, lines, length);
            for (int c = 0; c < 2; c++)
                for (int y = 0; y < height; y++)
                    memcpy(row(&level->solver[c], y), row(&level->flow[c], y), width * sizeof(float));
            iterate(level->solver, parameters);
            for (int c = 0; c < 2; c++)
                change += update_flow(&level->solver[c], &level->flow[c], parameters->median, lines, length);
            if (change < (double)parameters->epsilon * parameters->epsilon * width * height) break;
        }
    }
    for (int c = 0; c < 2; c++)
        for (int y = 0; y < finest_height; y++)
            memcpy(out + ((size_t)c * finest_height + y) * finest_width, row(&levels[0].flow[c], y),
                   finest_width * sizeof(float));
}

/* Estimates the flow from each first frame to its second.
 * first, second: (pairs, H, W) grey, 0..255; flow: (pairs, 2, H, W), written, in pixels.
 * axes: (levels, 2), rows and columns of each pyramid level, the finest first.
 * Returns 0, or 1 if memory ran out. */
int stmn_tvl1(const float *first, const float *second, float *flow, int64_t pairs, const Parameters *parameters,
              const Axis *axes) {
    size_t pixels = (size_t)axes[0].size * axes[1].size, bytes = LINES * row_floats(axes[1].size) * sizeof(float);
    for (int l = 0; l < parameters->levels; l++) bytes += 2 * planes_bytes(axes[2 * l + 1].size, axes[2 * l].size, 1);
    bytes += 2 * level_bytes(axes) + 2 * ALIGNMENT;
    char *memory = malloc(bytes);
    if (!memory) return 1;
#if defined(__SSE__)
    /* flush denormals to zero: where the flow fades to zero, each would cost 100 cycles */
    unsigned int saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040);
#endif
    for (int64_t k = 0; k < pairs; k++)
        solve_pair(first + k * pixels, second + k * pixels, flow + 2 * k * pixels, parameters, axes,
                   (char *)(((uintptr_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
#if defined(__SSE__)
    _mm_setcsr(saved);
#endif
    free(memory);
    return 0;
}

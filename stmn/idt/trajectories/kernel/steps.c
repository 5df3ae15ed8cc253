/* One step of the tracks of a scale. The arithmetic is that of _steps_numpy.py. */

#include "vectors.h"

/* Tracks in progress: arrays with a slot per track. Must match `_Tracks` in _steps_c.py. */
typedef struct {
    const int32_t *live; /* (count,) their slots */
    int32_t *age;
    float *points, *moves; /* (slots, length + 1, 2), (slots, length, 2) */
    int64_t count;
    int32_t length, spans;
} Tracks;

static float *head_of(const Tracks *tracks, int32_t slot) {
    return tracks->points + ((size_t)slot * (tracks->length + 1) + tracks->age[slot]) * 2;
}

/* Moves tracks with the flow at their rounded places.
 * flow, still: (2, H, W) pixels, as it is and without camera motion.
 * keep: (count,), written: 1 for a track that stays inside the frame.
 * corners, rows: (count, 2) and (count,), written for those tracks: the patch that they left, and their row of sums.
 * Returns the number of tracks that are kept. */
int64_t stmn_advance(const Tracks *tracks, const float *flow, const float *still, int32_t height, int32_t width,
                     int32_t patch, uint8_t *keep, int32_t *corners, int32_t *rows) {
    size_t plane = (size_t)height * width;
    int64_t kept = 0;
    for (int64_t i = 0; i < tracks->count; i++) {
        int32_t slot = tracks->live[i], age = tracks->age[slot];
        float *head = head_of(tracks, slot);
        int x = mini(maxi((int)lrintf(head[0]), 0), width - 1), y = mini(maxi((int)lrintf(head[1]), 0), height - 1);
        size_t at = (size_t)y * width + x;
        float to_x = head[0] + flow[at], to_y = head[1] + flow[at + plane];
        keep[i] = to_x > 0 && to_x < (float)width && to_y > 0 && to_y < (float)height;
        if (!keep[i]) continue;
        head[2] = to_x;
        head[3] = to_y;
        float *move = tracks->moves + ((size_t)slot * tracks->length + age) * 2;
        move[0] = still[at];
        move[1] = still[at + plane];
        corners[2 * kept] = mini(maxi(x - patch / 2, 0), width - patch);
        corners[2 * kept + 1] = mini(maxi(y - patch / 2, 0), height - patch);
        rows[kept++] = slot * tracks->spans + age * tracks->spans / tracks->length;
        tracks->age[slot] = age + 1;
    }
    return kept;
}

/* Finds where tracks may start: the centres of the cells of a grid that hold no track.
 * strength: (H, W), of corners; quality: the part of its maximum that a centre must exceed.
 * taken: (H / step, W / step), zero; found: (as many, 2) x and y, written. Returns their number. */
int64_t stmn_starts(const Tracks *tracks, const float *strength, int32_t height, int32_t width, int32_t step,
                    float quality, uint8_t *taken, float *found) {
    int rows = height / step, columns = width / step;
    for (int64_t i = 0; i < tracks->count; i++) {
        const float *head = head_of(tracks, tracks->live[i]);
        int column = (int)head[0] / step, row = (int)head[1] / step;
        if (column < columns && row < rows) taken[(size_t)row * columns + column] = 1;
    }
    float most = 0;
    for (size_t i = 0; i < (size_t)height * width; i++) most = maxf(most, strength[i]);
    float least = most * quality;
    int64_t count = 0;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            int x = column * step + step / 2, y = row * step + step / 2;
            if (taken[(size_t)row * columns + column] || strength[(size_t)y * width + x] <= least) continue;
            found[2 * count] = (float)x;
            found[2 * count++ + 1] = (float)y;
        }
    return count;
}

"""The inner iterations, several in one launch."""

import triton
import triton.language as tl


@triton.jit
def iterate(
    flow, dual, linear, flow_out, dual_out, moving, steps, height, width, bound, theta, rate,
    HALO: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Run up to HALO inner iterations, (4) to (6), on a tile that stays in registers.

    After k iterations the outer k pixels of a tile are wrong, because they depend on pixels outside of it. So pixels
    within HALO of the edge are not written, and tiles overlap accordingly.

    Args:
        flow: (B, 2, H, W).
        dual: (B, 4, H, W): dual of u along x and y, of v along x and y.
        linear: (B, 3, H, W), from `linearise`.
        flow_out: As `flow`, in other memory; written.
        dual_out: As `dual`, in other memory; written.
        moving: (B,) int32.
        steps: Iterations, at most HALO.
        bound: lambda theta.
        rate: tau / theta.
        ROWS: Rows of a tile with its halo.
        COLUMNS: Columns of a tile with its halo.
    """
    pair = tl.program_id(1).to(tl.int64)
    if tl.load(moving + pair) == 0:
        return
    across = tl.cdiv(width, COLUMNS - 2 * HALO)
    tile = tl.program_id(0)
    j, i = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    y, x = (tile // across) * (ROWS - 2 * HALO) - HALO + j, (tile % across) * (COLUMNS - 2 * HALO) - HALO + i
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = height * width
    at = y * width + x
    flow, flow_out = flow + pair * 2 * pixels + at, flow_out + pair * 2 * pixels + at
    dual, dual_out = dual + pair * 4 * pixels + at, dual_out + pair * 4 * pixels + at
    linear += pair * 3 * pixels + at
    u, v = tl.load(flow, inside, other=0), tl.load(flow + pixels, inside, other=0)
    ux, uy = tl.load(dual, inside, other=0), tl.load(dual + pixels, inside, other=0)
    vx, vy = tl.load(dual + 2 * pixels, inside, other=0), tl.load(dual + 3 * pixels, inside, other=0)
    gx, gy = tl.load(linear, inside, other=0), tl.load(linear + pixels, inside, other=0)
    constant = tl.load(linear + 2 * pixels, inside, other=0)
    inverse = 1 / tl.maximum(gx * gx + gy * gy, 1e-6)

    whole = tl.zeros((ROWS, COLUMNS), tl.int32)
    left, right = whole + tl.maximum(i - 1, 0), whole + tl.minimum(i + 1, COLUMNS - 1)
    up, down = whole + tl.maximum(j - 1, 0), whole + tl.minimum(j + 1, ROWS - 1)
    has_left, has_right, has_up, has_down = x > 0, x < width - 1, y > 0, y < height - 1
    for _ in range(steps):
        step = (constant + gx * u + gy * v) * inverse  # (2), (4)
        step = tl.minimum(tl.maximum(step, -bound), bound)
        flow_u = ux - tl.where(has_left, tl.gather(ux, left, 1), 0.0) + uy - tl.where(has_up, tl.gather(uy, up, 0), 0.0)
        flow_v = vx - tl.where(has_left, tl.gather(vx, left, 1), 0.0) + vy - tl.where(has_up, tl.gather(vy, up, 0), 0.0)
        u, v = u - step * gx + theta * flow_u, v - step * gy + theta * flow_v  # (5)
        a = ux + rate * tl.where(has_right, tl.gather(u, right, 1) - u, 0.0)  # (6)
        b = uy + rate * tl.where(has_down, tl.gather(u, down, 0) - u, 0.0)
        c = vx + rate * tl.where(has_right, tl.gather(v, right, 1) - v, 0.0)
        d = vy + rate * tl.where(has_down, tl.gather(v, down, 0) - v, 0.0)
        of_u, of_v = tl.rsqrt(tl.maximum(a * a + b * b, 1.0)), tl.rsqrt(tl.maximum(c * c + d * d, 1.0))
        ux, uy, vx, vy = a * of_u, b * of_u, c * of_v, d * of_v

    kept = inside & (j >= HALO) & (j < ROWS - HALO) & (i >= HALO) & (i < COLUMNS - HALO)
    tl.store(flow_out, u, kept)
    tl.store(flow_out + pixels, v, kept)
    tl.store(dual_out, ux, kept)
    tl.store(dual_out + pixels, uy, kept)
    tl.store(dual_out + 2 * pixels, vx, kept)
    tl.store(dual_out + 3 * pixels, vy, kept)

"""TV-L1 optical flow in plain torch, on any device: the reference for the C kernel.

The method is that of Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, with
refinements of Wedel et al., "An Improved Algorithm for TV-L1 Optical Flow", 2009 (projected dual ascent, median), and
of Sun, Roth, Black, "Secrets of Optical Flow Estimation and Their Principles", CVPR 2010 (five-point derivatives,
gradients of both frames, spline interpolation, no data term where the flow leaves the frame). For each pair:

    (1)  minimise over f = (u, v):  sum |grad u| + |grad v| + lambda |second(x + f) - first(x)|
    (2)  around f0 the difference is linear:  rho(f) = second(x + f0) - first(x) + <g, f - f0>,  g the image gradient
    (3)  a copy w of f splits the sum:  |grad u| + |grad v| + |f - w|^2 / (2 theta) + lambda |rho(w)|
    (4)  best w for given f:  f - s g,  s = rho(f) / |g|^2 clamped to [-lambda theta, lambda theta]
    (5)  best f for given w, each component with its dual p:  w + theta div p,  |p| <= 1
    (6)  ascent in the dual:  p <- p + tau / theta grad u,  then p <- p / max(1, |p|)

(4), (5) and (6) make one inner iteration. (2) is computed once per warp; a pyramid level has a few warps.
A pair's flow does not depend on the other pairs of its batch: no operation mixes pairs, and a pair that has converged
at a level stays as it is while others continue. On a GPU the host never waits for a result, so a CUDA graph can hold
everything; there a level always runs all its warps.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stmn.flow._parameters import Parameters
from stmn.flow._pyramid import Level
from stmn.flow._tables import Taps, spline_weights, tables_of


@dataclass(frozen=True)
class Steps:
    """The functions that a warp calls; torch can compile them.

    Attributes:
        linearise: (2), once per warp.
        iterate: (4) to (6), an inner iteration.
        median: The filter after a warp.
    """

    linearise: Callable[..., tuple[Tensor, Tensor]]
    iterate: Callable[..., tuple[Tensor, Tensor]]
    median: Callable[[Tensor, int], Tensor]

    def compiled(self) -> "Steps":
        """Return the same steps, each compiled once for all sizes when it is first called."""
        made = [torch.compile(step, dynamic=True, fullgraph=True) for step in vars(self).values()]
        return Steps(*made)


@torch.no_grad()
def solve(
    first: Tensor, second: Tensor, levels: tuple[Level, ...], parameters: Parameters, steps: Steps | None = None
) -> Tensor:
    """Estimate flow.

    Args:
        first: (B, H, W) grey frames, float32 in 0..255.
        second: (B, H, W), as `first`.
        levels: The pyramid, finest level first.
        parameters: Parameters of the method.
        steps: The functions of a warp; `EAGER` by default.

    Returns:
        (B, 2, H, W) float32: u and v in pixels.
    """
    frames = []
    image = torch.stack([first, second])
    for level in levels:
        rows, columns = (tables_of(axis, image.device).shrink for axis in (level.rows, level.columns))
        image = _shrink(_shrink(image, rows, dim=-2), columns, dim=-1)
        frames.append(image)

    flow = first.new_zeros(len(first), 2, *levels[-1].shape)  # u, v
    dual = first.new_zeros(len(first), 2, 2, *levels[-1].shape)  # of u and of v: along x, along y
    for level, (image1, image2) in zip(reversed(levels), reversed(frames), strict=True):
        if level.shape != flow.shape[-2:]:
            height, width = flow.shape[-2:]
            pixels = [flow[:, 0] * (level.columns.size / width), flow[:, 1] * (level.rows.size / height)]
            flow = _enlarge(torch.stack(pixels, dim=1), level)
            # Zach et al. start the dual from zero, which is worse even with twice the iterations
            dual = _enlarge(dual, level)
        flow, dual = _solve_level(image1, image2, flow, dual, parameters, steps or EAGER)
    return flow


def _solve_level(
    first: Tensor, second: Tensor, flow: Tensor, dual: Tensor, parameters: Parameters, steps: Steps
) -> tuple[Tensor, Tensor]:
    """Run the warps of one level: images (B, H, W) to flow (B, 2, H, W) and dual (B, 2, 2, H, W)."""
    gradient, spline = _differentiate(first), _fit_spline(second)
    moving = torch.ones(len(first), dtype=torch.bool, device=first.device)
    weights = parameters.lambda_ * parameters.theta, parameters.theta, parameters.tau / parameters.theta
    for _ in range(parameters.warps):
        slope, constant = steps.linearise(first, gradient, spline, flow)
        inverse = 1 / slope.square().sum(dim=1).clamp(min=1e-6)
        fresh, fresh_dual = flow, dual
        for _ in range(parameters.iterations):
            fresh, fresh_dual = steps.iterate(fresh, fresh_dual, slope, constant, inverse, *weights)
        fresh = steps.median(fresh, parameters.median)  # removes outliers before the next linearisation
        change = (fresh - flow).double().square().sum(dim=(1, 2, 3)) / first[0].numel()
        flow = torch.where(moving[:, None, None, None], fresh, flow)
        dual = torch.where(moving[:, None, None, None, None], fresh_dual, dual)
        moving = moving & (change >= parameters.epsilon**2)
        if first.device.type == "cpu" and not moving.any():
            break
    return flow, dual


def _linearise(first: Tensor, gradient: Tensor, spline: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient (B, 2, H, W) and constant (B, H, W) of (2): `rho(f) = constant + <gradient, f>`.

    The gradient is the mean of the first frame's and the warped second frame's. Both results are zero where the flow
    leaves the frame: there is no data there, and only smoothness decides.
    """
    warped, slope = _sample(spline, flow)
    height, width = first.shape[-2:]
    x, y = _positions(flow)
    inside = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()
    gradient = inside[:, None] * 0.5 * (slope + gradient)
    constant = inside * (warped - first) - (gradient * flow).sum(dim=1)  # (2) at f = 0
    return gradient, constant


def _iterate(
    flow: Tensor, dual: Tensor, gradient: Tensor, constant: Tensor, inverse: Tensor,
    bound: float, theta: float, rate: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run an inner iteration: return flow (B, 2, H, W) and dual (B, 2, 2, H, W) after it.

    `inverse` is 1 / |g|^2, `bound` lambda theta, `rate` tau / theta.
    """
    rho = constant + (gradient * flow).sum(dim=1)  # (2)
    step = (rho * inverse).clamp(-bound, bound)  # (4)
    copy = flow - step[:, None] * gradient
    flow = copy + theta * _divergence(dual)  # (5)
    dual = dual + rate * _forward_differences(flow)  # (6)
    return flow, dual / dual.square().sum(dim=2, keepdim=True).clamp(min=1).sqrt()


def _forward_differences(field: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2, H, W): along x, along y; zero at the far border."""
    along_x = F.pad(field[..., :, 1:] - field[..., :, :-1], (0, 1, 0, 0))
    along_y = F.pad(field[..., 1:, :] - field[..., :-1, :], (0, 0, 0, 1))
    return torch.stack([along_x, along_y], dim=2)


def _divergence(dual: Tensor) -> Tensor:
    """(B, C, 2, H, W) -> (B, C, H, W): minus the adjoint of the forward differences."""
    along_x, along_y = dual.unbind(dim=2)
    return along_x - F.pad(along_x, (1, 0))[..., :-1] + along_y - F.pad(along_y, (0, 0, 1, 0))[..., :-1, :]


def _differentiate(image: Tensor) -> Tensor:
    """(B, H, W) -> (B, 2, H, W): five-point derivatives along x and y, border repeated."""
    wide = F.pad(image[:, None], (2, 2, 2, 2), mode="replicate")[:, 0]
    row, column = wide[:, 2:-2, :], wide[:, :, 2:-2]
    along_x = 8 * (row[..., 3:-1] - row[..., 1:-3]) - (row[..., 4:] - row[..., :-4])
    along_y = 8 * (column[..., 3:-1, :] - column[..., 1:-3, :]) - (column[..., 4:, :] - column[..., :-4, :])
    return torch.stack([along_x, along_y], dim=1) / 12


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the flow takes each pixel: x and y (B, H, W), in pixels of the second frame."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    return x + flow[:, 0], y + flow[:, 1]


def _fit_spline(image: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, W): coefficients of the cubic B-spline through every pixel, mirrored at the borders.

    The usual cubic convolution (a = -0.75) is as fast, but it shifts a ramp, and so the flow, by up to 0.05 pixels.
    """
    weights = spline_weights()
    for dim in (-2, -1):
        place = torch.arange(image.shape[dim], device=image.device)
        coefficients = weights[0] * image
        for k, weight in enumerate(weights[1:], start=1):
            before, after = (image.index_select(dim, _mirrored(place + step, len(place))) for step in (-k, k))
            coefficients = coefficients + weight * (before + after)
        image = coefficients
    return image


def _mirrored(place: Tensor, size: int) -> Tensor:
    """Map places to pixels, 0..size-1, mirrored at the first and the last pixel."""
    period = max(2 * size - 2, 1)
    place = place % period
    return torch.where(place < size, place, period - place)


def _sample(spline: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Return value (B, H, W) and gradient (B, 2, H, W) of the spline at x + flow, clamped to the frame."""
    height, width = spline.shape[-2:]
    x, y = _positions(flow)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    weight_x, slope_x = _cubic(x - left)
    weight_y, slope_y = _cubic(y - top)
    flat = spline.flatten(1)
    value, along_x, along_y = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    for j in range(4):
        line = _mirrored(top.long() + j - 1, height) * width
        inner, inner_slope = torch.zeros_like(x), torch.zeros_like(x)
        for i in range(4):
            place = line + _mirrored(left.long() + i - 1, width)
            coefficient = flat.gather(1, place.flatten(1)).view_as(x)
            inner = inner + weight_x[i] * coefficient
            inner_slope = inner_slope + slope_x[i] * coefficient
        value = value + weight_y[j] * inner
        along_x = along_x + weight_y[j] * inner_slope
        along_y = along_y + slope_y[j] * inner
    return value, torch.stack([along_x, along_y], dim=1)


def _cubic(t: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the cubic B-spline's weights of four neighbours at distance t past the second, and their t-derivatives."""
    s = 1 - t
    weights = [s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6]
    slopes = [-(s**2) / 2, 1.5 * t**2 - 2 * t, 2 * s - 1.5 * s**2, t**2 / 2]
    return weights, slopes


def _median(flow: Tensor, side: int) -> Tensor:
    """Median over side x side pixels of each component, border repeated; none if `side` is 0 or 1.

    A network of minima and maxima, as kernel/median.h explains: columns are sorted once for all windows that contain
    them, then the values of each rank. The remaining candidates have the same median as the window.
    """
    if side <= 1:
        return flow
    height, width = flow.shape[-2:]
    wide = F.pad(flow, (side // 2,) * 4, mode="replicate")
    ranks = _sort([wide[..., j : j + height, :] for j in range(side)])
    table = [_sort([rank[..., i : i + width] for i in range(side)]) for rank in ranks]
    half = side * side // 2
    candidates = [
        table[i - 1][j - 1]
        for i in range(1, side + 1)
        for j in range(1, side + 1)
        if i * j - 1 <= half and (side + 1 - i) * (side + 1 - j) - 1 <= half
    ]
    return _sort(candidates)[len(candidates) // 2]


def _sort(values: list[Tensor]) -> list[Tensor]:
    """Sort equally shaped tensors element by element, by a network that swaps neighbours."""
    values = list(values)
    for turn in range(len(values)):
        for k in range(turn % 2, len(values) - 1, 2):
            one, other = values[k], values[k + 1]
            values[k], values[k + 1] = torch.minimum(one, other), torch.maximum(one, other)
    return values


def _shrink(image: Tensor, taps: Taps, dim: int) -> Tensor:
    """Sample one axis of the finer level as a sum of shifted copies; a matrix product would depend on the batch."""
    weights = taps.weights if dim == -1 else taps.weights[:, :, None]
    terms = [image.index_select(dim, place) * weight for place, weight in zip(taps.places, weights, strict=True)]
    total: Tensor = terms[0]
    for term in terms[1:]:  # in this order; `torch.sum` may use another order for another shape
        total = total + term
    return total


def _enlarge(field: Tensor, level: Level) -> Tensor:
    """Sample (..., h, w) of the coarser level at the pixels of `level`, bilinearly: (..., H, W)."""
    for axis, dim in ((level.rows, -2), (level.columns, -1)):
        taps = tables_of(axis, field.device).enlarge
        low, high = (field.index_select(dim, place) for place in taps.places)
        fraction = taps.weights[1]
        field = low + (fraction if dim == -1 else fraction[:, None]) * (high - low)
    return field


EAGER = Steps(_linearise, _iterate, _median)

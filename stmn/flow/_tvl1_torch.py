"""TV-L1 optical flow in plain torch, on any device: the text the C kernel is held against.

The method is Zach, Pock, Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, with the
refinements of Wedel et al., "An Improved Algorithm for TV-L1 Optical Flow", 2009 (projected dual ascent, median), and
of Sun, Roth, Black, "Secrets of Optical Flow Estimation and Their Principles", CVPR 2010 (five-point derivatives,
gradient of both frames, spline interpolation, data term off where the flow leaves the frame). For each pair:

    (1)  minimise over f = (u, v):  sum |grad u| + |grad v| + lambda |second(x + f) - first(x)|
    (2)  around f0 the difference is linear:  rho(f) = second(x + f0) - first(x) + <g, f - f0>,  g the image gradient
    (3)  a copy w of f splits the sum:  |grad u| + |grad v| + |f - w|^2 / (2 theta) + lambda |rho(w)|
    (4)  best w for given f:  f - s g,  s = rho(f) / |g|^2 clamped to [-lambda theta, lambda theta]
    (5)  best f for given w, each component with its dual p:  w + theta div p,  |p| <= 1
    (6)  ascent in the dual:  p <- p + tau / theta grad u,  then p <- p / max(1, |p|)

(4), (5), (6) make one inner iteration; (2) is renewed once a warp, some warps a pyramid level.
A pair's flow does not depend on the others of its batch: no operation mixes pairs, and a pair that has converged
at a level is left alone while others go on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stmn.flow._knobs import Knobs
from stmn.flow._pyramid import Axis, Level

SPLINE_REACH = 10
"""Pixels to either side that a spline coefficient is computed from."""


@torch.no_grad()
def solve(first: Tensor, second: Tensor, levels: tuple[Level, ...], knobs: Knobs) -> Tensor:
    """Flow (B, 2, H, W) of frames (B, H, W), float32 in 0..255; `levels` from the finest down."""
    frames = []
    image = torch.stack([first, second])
    for level in levels:
        image = _shrink(_shrink(image, level.rows, dim=-2), level.columns, dim=-1)
        frames.append(image)

    flow = first.new_zeros(len(first), 2, *levels[-1].shape)  # u, v
    dual = first.new_zeros(len(first), 2, 2, *levels[-1].shape)  # of u and of v: along x, along y
    for level, (image1, image2) in zip(reversed(levels), reversed(frames), strict=True):
        if level.shape != flow.shape[-2:]:
            height, width = flow.shape[-2:]
            pixels = flow.new_tensor([level.columns.size / width, level.rows.size / height])
            flow = _enlarge(flow * pixels[:, None, None], level)
            dual = _enlarge(dual, level)  # from zero, as Zach et al., twice the iterations do worse
        flow, dual = _solve_level(image1, image2, flow, dual, knobs)
    return flow


def _solve_level(first: Tensor, second: Tensor, flow: Tensor, dual: Tensor, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """The warps of one level; images (B, H, W), flow (B, 2, H, W), dual (B, 2, 2, H, W)."""
    gradient, spline = _derivatives(first), _spline(second)
    moving = torch.ones(len(first), dtype=torch.bool, device=first.device)
    for _ in range(knobs.warps):
        linear = _linearise(first, gradient, spline, flow)
        fresh, fresh_dual = _iterate(flow, dual, *linear, knobs)
        fresh = _median(fresh, knobs.median)  # outliers go before they are linearised around
        change = (fresh - flow).double().square().sum(dim=(1, 2, 3)) / first[0].numel()
        flow = torch.where(moving[:, None, None, None], fresh, flow)
        dual = torch.where(moving[:, None, None, None, None], fresh_dual, dual)
        moving = moving & (change >= knobs.epsilon**2)
        if not moving.any():
            break
    return flow, dual


def _linearise(first: Tensor, gradient: Tensor, spline: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (B, 2, H, W) and constant (B, H, W) of (2): `rho(f) = constant + <gradient, f>`.

    The gradient is the mean of the first frame's and the warped second frame's. Where the flow leaves the frame both
    are zero: nothing is known there, and smoothness alone fills in.
    """
    warped, slope = _sample(spline, flow)
    height, width = first.shape[-2:]
    x, y = _positions(flow)
    inside = ((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).float()
    gradient = inside[:, None] * 0.5 * (slope + gradient)
    constant = inside * (warped - first) - (gradient * flow).sum(dim=1)
    return gradient, constant


def _iterate(flow: Tensor, dual: Tensor, gradient: Tensor, constant: Tensor, knobs: Knobs) -> tuple[Tensor, Tensor]:
    """The inner iterations of one warp: flow (B, 2, H, W) and dual (B, 2, 2, H, W), one step after the other."""
    bound, rate = knobs.lambda_ * knobs.theta, knobs.tau / knobs.theta
    inverse = 1 / gradient.square().sum(dim=1).clamp(min=1e-6)
    for _ in range(knobs.iterations):
        rho = constant + (gradient * flow).sum(dim=1)  # (2)
        step = (rho * inverse).clamp(-bound, bound)  # (4)
        copy = flow - step[:, None] * gradient
        flow = copy + knobs.theta * _divergence(dual)  # (5)
        dual = dual + rate * _forward_differences(flow)  # (6)
        dual = dual / dual.square().sum(dim=2, keepdim=True).clamp(min=1).sqrt()
    return flow, dual


def _forward_differences(field: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2, H, W): along x, along y; zero at the far border."""
    along_x = F.pad(field[..., :, 1:] - field[..., :, :-1], (0, 1, 0, 0))
    along_y = F.pad(field[..., 1:, :] - field[..., :-1, :], (0, 0, 0, 1))
    return torch.stack([along_x, along_y], dim=2)


def _divergence(dual: Tensor) -> Tensor:
    """(B, C, 2, H, W) -> (B, C, H, W): minus the adjoint of the forward differences."""
    along_x, along_y = dual.unbind(dim=2)
    return along_x - F.pad(along_x, (1, 0))[..., :-1] + along_y - F.pad(along_y, (0, 0, 1, 0))[..., :-1, :]


def _derivatives(image: Tensor) -> Tensor:
    """(B, H, W) -> (B, 2, H, W): five-point derivatives along x and y, border repeated."""
    wide = F.pad(image[:, None], (2, 2, 2, 2), mode="replicate")[:, 0]
    row, column = wide[:, 2:-2, :], wide[:, :, 2:-2]
    along_x = 8 * (row[..., 3:-1] - row[..., 1:-3]) - (row[..., 4:] - row[..., :-4])
    along_y = 8 * (column[..., 3:-1, :] - column[..., 1:-3, :]) - (column[..., 4:, :] - column[..., :-4, :])
    return torch.stack([along_x, along_y], dim=1) / 12


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel has gone, x and y (B, H, W), in pixels of the second frame."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    return x + flow[:, 0], y + flow[:, 1]


def _spline(image: Tensor) -> Tensor:
    """(B, H, W) -> (B, H, W): coefficients of the cubic B-spline through every pixel, mirrored at the borders.

    Unser, "Splines: A Perfect Fit for Signal and Image Processing", 1999: the inverse of the sampled spline
    (1, 4, 1) / 6 is sqrt(3) z^|k| with z = sqrt(3) - 2; beyond `SPLINE_REACH` pixels that is less than 1e-5.
    The common cubic convolution (a = -0.75) is as fast but moves a ramp by up to 0.05 pixel, and the flow with it.
    """
    powers = torch.arange(SPLINE_REACH + 1, dtype=torch.float64)
    inverse = (3**0.5 - 2) ** powers
    weights: list[float] = (inverse / (inverse[0] + 2 * inverse[1:].sum())).tolist()
    for dim in (-2, -1):
        place = torch.arange(image.shape[dim], device=image.device)
        coefficients = weights[0] * image
        for k, weight in enumerate(weights[1:], start=1):
            before, after = (image.index_select(dim, _mirrored(place + step, len(place))) for step in (-k, k))
            coefficients = coefficients + weight * (before + after)
        image = coefficients
    return image


def _mirrored(place: Tensor, size: int) -> Tensor:
    """Pixels 0..size-1 that mirrors at the first and the last pixel show at these places."""
    period = max(2 * size - 2, 1)
    place = place % period
    return torch.where(place < size, place, period - place)


def _sample(spline: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Value (B, H, W) and gradient (B, 2, H, W) of the spline at x + flow, clamped to the frame."""
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
    """The cubic B-spline's weights of the four neighbours at distance t past the second, and their derivatives."""
    s = 1 - t
    weights = [s**3 / 6, (4 - 6 * t**2 + 3 * t**3) / 6, (4 - 6 * s**2 + 3 * s**3) / 6, t**3 / 6]
    slopes = [-(s**2) / 2, 1.5 * t**2 - 2 * t, 2 * s - 1.5 * s**2, t**2 / 2]
    return weights, slopes


def _median(flow: Tensor, side: int) -> Tensor:
    """Median over side x side pixels of each component, border repeated; 1 or less leaves the flow alone."""
    if side <= 1:
        return flow
    height, width = flow.shape[-2:]
    wide = F.pad(flow, (side // 2,) * 4, mode="replicate")
    windows = [wide[..., j : j + height, i : i + width] for j in range(side) for i in range(side)]
    return torch.stack(windows).median(dim=0).values


def _shrink(image: Tensor, axis: Axis, dim: int) -> Tensor:
    """Samples one axis of the finer level. A sum of shifted copies: a matrix product would depend on the batch."""
    start = torch.from_numpy(axis.start).long().to(image.device)
    weights = torch.from_numpy(axis.weights).to(image.device)
    if dim == -2:
        weights = weights[:, :, None]
    terms = [image.index_select(dim, start + k) * weight for k, weight in enumerate(weights)]
    return sum(terms[1:], terms[0])  # term by term: `torch.sum` may choose its order by the shape


def _enlarge(field: Tensor, level: Level) -> Tensor:
    """(..., h, w) of the coarser level -> (..., H, W) of `level`, bilinear."""
    for axis, dim in ((level.rows, -2), (level.columns, -1)):
        below = torch.from_numpy(axis.below).long().to(field.device)
        fraction = torch.from_numpy(axis.fraction).to(field.device)
        low, high = field.index_select(dim, below), field.index_select(dim, below + 1)
        field = low + (fraction if dim == -1 else fraction[:, None]) * (high - low)
    return field

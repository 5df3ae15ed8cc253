"""Flow as pictures in the colours of the Middlebury benchmark: hue is direction, strength is speed, white is still."""

import torch
from torch import Tensor
from torchvision.utils import flow_to_image

#: pixels faster than this, in pixels per frame, are moving
_MOVING = 0.5
#: fraction of the moving pixels that are slower than the speed shown in full strength
_SLOWER = 0.95
#: smallest speed shown in full strength, in pixels per frame, so that the noise of a still video stays pale
_LEAST_SCALE = 2.0
#: if there are more speeds than this, a sample is used
_MOST_SPEEDS = 1_000_000


def colour_scale(flow: Tensor) -> float:
    """Choose the speed to paint in full strength, so that a small subject on a still background shows well.

    Only moving pixels count, except the fastest few, so that outliers don't make everything else pale.

    Args:
        flow: (..., 2, H, W) pixels.

    Returns:
        Pixels per frame, at least 2.
    """
    speed = torch.linalg.vector_norm(flow.float(), dim=-3).flatten()
    moving = speed[speed > _MOVING]
    if not len(moving):
        return _LEAST_SCALE
    moving = moving[:: max(1, len(moving) // _MOST_SPEEDS)]
    return max(float(moving.kthvalue(max(1, round(_SLOWER * len(moving)))).values), _LEAST_SCALE)


def paint_flow(flow: Tensor, full: float | None = None) -> Tensor:
    """Paint flow fields, all on one scale.

    Args:
        flow: (N, 2, H, W) pixels.
        full: The speed, in pixels per frame, that is painted in full strength; faster pixels look the same. By default
            `colour_scale(flow)`.

    Returns:
        (N, 3, H, W) uint8 RGB.
    """
    full = colour_scale(flow) if full is None else full
    speed = torch.linalg.vector_norm(flow, dim=1, keepdim=True)
    slowed = flow * (full / speed.clamp(min=full))
    reference = torch.full_like(flow[:1], full / 2**0.5)  # flow_to_image scales by the fastest pixel of its input
    painted: Tensor = flow_to_image(torch.cat([slowed, reference]))
    return painted[:-1]


def colour_wheel(size: int) -> Tensor:
    """Paint a disc whose pixels have the colours of motion away from its centre: (3, size, size) uint8 RGB."""
    line = torch.linspace(-1, 1, size)
    v, u = torch.meshgrid(line, line, indexing="ij")
    inside = torch.hypot(u, v) <= 1
    wheel: Tensor = flow_to_image(torch.stack([u, v]) * inside)
    return wheel

"""Flow as pictures: direction as hue, speed as strength, in the colours of the Middlebury benchmark."""

import torch
from torch import Tensor
from torchvision.utils import flow_to_image

#: the share of pixels below the speed that is paint_flow in full strength
FULL_STRENGTH = 0.995
#: and the least such speed, pixels a frame, so that the noise of a still video stays pale
LEAST_SCALE = 0.5
#: speeds beyond this many are sampled before their quantile is taken
MOST_SPEEDS = 1_000_000


def colour_scale(flow: Tensor) -> float:
    """The speed (pixels a frame) to paint in full strength, so that few pixels are faster: of flow (..., 2, H, W)."""
    speed = flow.norm(dim=-3).flatten().float()
    speed = speed[:: max(1, len(speed) // MOST_SPEEDS)]
    return max(float(speed.kthvalue(max(1, round(FULL_STRENGTH * len(speed)))).values), LEAST_SCALE)


def paint_flow(flow: Tensor, full: float | None = None) -> Tensor:
    """(N, 2, H, W) pixels to (N, 3, H, W) uint8 RGB, on one scale for all fields.

    `full` is the speed in pixels that gets full strength, as does all that is faster; `colour_scale(flow)` by default.
    """
    full = colour_scale(flow) if full is None else full
    speed = flow.norm(dim=1, keepdim=True)
    slowed = flow * (full / speed.clamp(min=full))  # a few wild pixels must not fade all others
    reference = torch.full_like(flow[:1], full / 2**0.5)  # sets flow_to_image's scale, which is its input's maximum
    return flow_to_image(torch.cat([slowed, reference]))[:-1]


def colour_wheel(size: int) -> Tensor:
    """(3, size, size) uint8 RGB: a disc whose pixels are paint_flow by the way they lead from its centre."""
    line = torch.linspace(-1, 1, size)
    v, u = torch.meshgrid(line, line, indexing="ij")
    inside = torch.hypot(u, v) <= 1
    return flow_to_image(torch.stack([u, v]) * inside)

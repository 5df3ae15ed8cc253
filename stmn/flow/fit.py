"""Check whether flow matches its frames: frame t + 1, sampled along the flow field at t, should look like frame t.

If u and v are swapped, a sign is wrong, or fields are numbered differently from frames, undoing the mistake improves
the match. So each such mistake is tried as another reading of the stored fields.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

#: only pixels that move faster than this (pixels per frame), at t - 1, t or t + 1, are compared
_LEAST_SPEED = 0.5
#: only fields with at least this fraction of such pixels are compared
_LEAST_MOVING = 0.002
#: fields needed for a judgement
_LEAST_FIELDS = 5
#: another reading is better if its error is at most this fraction of the stored one's
_CLEARLY_BETTER = 0.95

_STORED, _STILL = "stored", "still"
#: each reading maps (N, 3, 2, H, W), the stored fields at t - 1, t and t + 1, to the flow at t, (N, 2, H, W)
_READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    _STORED: lambda f: f[:, 1],
    _STILL: lambda f: torch.zeros_like(f[:, 1]),
    "u and v are swapped": lambda f: f[:, 1].flip(1),
    "u and v have the wrong sign": lambda f: -f[:, 1],
    "u has the wrong sign": lambda f: f[:, 1] * torch.tensor([-1.0, 1.0])[:, None, None],
    "v has the wrong sign": lambda f: f[:, 1] * torch.tensor([1.0, -1.0])[:, None, None],
    "flow is numbered one too high": lambda f: f[:, 2],
    "flow is numbered one too low": lambda f: f[:, 0],
}


@dataclass
class Fit:
    """How well each reading fits, summed over fields.

    Attributes:
        error: Per reading, the sum over moving pixels of the difference in grey levels (0..255).
        better: Per reading, the number of fields where it fits better than the stored one.
        pixels: Number of moving pixels.
        fields: Number of fields with enough moving pixels.
    """

    error: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_READINGS, 0.0))
    better: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_READINGS, 0))
    pixels: float = 0.0
    fields: int = 0

    def __add__(self, other: "Fit") -> "Fit":
        """Add up two fits."""
        return Fit(
            {name: self.error[name] + other.error[name] for name in _READINGS},
            {name: self.better[name] + other.better[name] for name in _READINGS},
            self.pixels + other.pixels,
            self.fields + other.fields,
        )

    @property
    def judged(self) -> bool:
        """True if there is enough motion for a judgement."""
        return self.fields >= _LEAST_FIELDS

    @property
    def mistake(self) -> str:
        """The reading that fits clearly better than the stored flow; "" if there is none."""
        if not self.judged:
            return ""
        best = min(_READINGS, key=lambda name: self.error[name])
        # a single cut in a video can outweigh everything else, so most fields must agree
        agreed = self.better[best] > self.fields / 2
        return best if self.error[best] < _CLEARLY_BETTER * self.error[_STORED] and agreed else ""

    @property
    def words(self) -> str:
        """The mistake, for a message."""
        return "flow fits the frames worse than no flow" if self.mistake == _STILL else self.mistake

    @property
    def evidence(self) -> str:
        """The numbers behind the mistake, for a message."""
        undone = "without flow" if self.mistake == _STILL else "with that undone"
        return (
            f"where it moves, frame t + 1 seen along the flow differs from frame t by {self._mean(_STORED):.1f} grey "
            f"levels, {undone} by {self._mean(self.mistake):.1f}"
        )

    def _mean(self, reading: str) -> float:
        """Return the mean error of a moving pixel, in grey levels."""
        return self.error[reading] / max(self.pixels, 1.0)


def measure_fit(first: Tensor, second: Tensor, flow: Tensor, still_camera_only: bool = False) -> Fit:
    """Measure how well flow fits its frames under each reading.

    Args:
        first: (N, H, W) grey in 0..255, frames t.
        second: (N, H, W), frames t + 1.
        flow: (N, 3, 2, H, W) pixels, the fields at t - 1, t and t + 1.
        still_camera_only: Leave out pairs between which most of the picture changes; for flow from which camera motion
            was subtracted.
    """
    moving = (torch.linalg.vector_norm(flow, dim=2) > _LEAST_SPEED).any(dim=1)
    used = moving.flatten(1).float().mean(dim=1) >= _LEAST_MOVING
    if still_camera_only:
        used &= (first - second).abs().flatten(1).median(dim=1).values <= 2
    first, second, flow, moving = first[used], second[used], flow[used], moving[used]
    found = Fit(pixels=float(moving.sum()), fields=len(flow))
    if not len(flow):
        return found
    errors = {
        name: ((_warp(second, reading(flow)) - first).abs() * moving).flatten(1).sum(dim=1)
        for name, reading in _READINGS.items()
    }
    found.error = {name: float(error.sum()) for name, error in errors.items()}
    found.better = {name: int((error < errors[_STORED]).sum()) for name, error in errors.items()}
    return found


def _warp(frames: Tensor, flow: Tensor) -> Tensor:
    """Sample (N, H, W) frames bilinearly at each pixel plus its flow, (N, 2, H, W) pixels; edges are repeated."""
    height, width = frames.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # grid_sample counts from -1, the centre of the first pixel, to 1, the centre of the last
    places = torch.stack(
        [2 * (x + flow[:, 0]) / max(width - 1, 1) - 1, 2 * (y + flow[:, 1]) / max(height - 1, 1) - 1], dim=-1
    )
    return grid_sample(frames[:, None], places, padding_mode="border", align_corners=True)[:, 0]

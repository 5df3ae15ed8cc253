"""Does flow fit its frames? What frame t + 1 looks like, seen along flow field t, tells.

If the field is right, it is frame t again. If u and v were swapped, a sign turned, or fields and frames numbered apart,
the picture gets better when that is undone: so each such mistake is tried as a reading of the stored field.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

#: pixels slower than this, in the field and its neighbours in time, say nothing
LEAST_SPEED = 0.5
#: nor does a field with a smaller share of faster ones
LEAST_SHARE = 0.002
#: fields needed for a judgement
LEAST_FIELDS = 5
#: another reading is better when its error is at most this share of the stored one's ...
CLEARLY = 0.95

#: the readings: how the flow at t is got from (N, 3, 2, H, W), the stored fields at t - 1, t, t + 1
STORED, STILL = "stored", "still"
READINGS = {
    STORED: lambda f: f[:, 1],
    STILL: lambda f: torch.zeros_like(f[:, 1]),
    "u and v are swapped": lambda f: f[:, 1].flip(1),
    "u and v have the wrong sign": lambda f: -f[:, 1],
    "u has the wrong sign": lambda f: f[:, 1] * torch.tensor([-1.0, 1.0])[:, None, None],
    "v has the wrong sign": lambda f: f[:, 1] * torch.tensor([1.0, -1.0])[:, None, None],
    "flow is numbered one too high": lambda f: f[:, 2],
    "flow is numbered one too low": lambda f: f[:, 0],
}


@dataclass
class Fit:
    """The errors of each reading, added up over fields.

    `error`: grey levels (0..255) times moving pixels; `better`: fields where a reading beats the stored one; `pixels`:
    moving pixels; `fields`: fields with enough of them.
    """

    error: dict[str, float] = field(default_factory=lambda: dict.fromkeys(READINGS, 0.0))
    better: dict[str, int] = field(default_factory=lambda: dict.fromkeys(READINGS, 0))
    pixels: float = 0.0
    fields: int = 0

    def __add__(self, other: "Fit") -> "Fit":
        """Both together."""
        return Fit(
            {name: self.error[name] + other.error[name] for name in READINGS},
            {name: self.better[name] + other.better[name] for name in READINGS},
            self.pixels + other.pixels,
            self.fields + other.fields,
        )

    def mean(self, reading: str) -> float:
        """The mean error of a moving pixel, grey levels."""
        return self.error[reading] / max(self.pixels, 1.0)

    @property
    def judged(self) -> bool:
        """True when enough moved for a judgement."""
        return self.fields >= LEAST_FIELDS

    @property
    def mistake(self) -> str:
        """The reading under which the flow fits clearly better than as it is stored; "" when there is none."""
        if not self.judged:
            return ""
        best = min(READINGS, key=lambda name: self.error[name])
        # a single cut in the video can outweigh all the rest: most fields must agree
        agreed = self.better[best] > self.fields / 2
        return best if self.error[best] < CLEARLY * self.error[STORED] and agreed else ""

    @property
    def words(self) -> str:
        """The mistake for a person."""
        return "flow fits the frames worse than none" if self.mistake == STILL else self.mistake

    @property
    def evidence(self) -> str:
        """What speaks for the mistake."""
        undone = "without flow" if self.mistake == STILL else "with that undone"
        return (
            f"where it moves, frame t + 1 seen along the flow differs from frame t by {self.mean(STORED):.1f} grey "
            f"levels, {undone} by {self.mean(self.mistake):.1f}"
        )


def measure_fit(first: Tensor, second: Tensor, flow: Tensor, still_camera_only: bool = False) -> Fit:
    """How well flow fits its frames under each reading.

    `first`, `second`: (N, H, W) grey in 0..255, frames t and t + 1; `flow`: (N, 3, 2, H, W) pixels, the fields at
    t - 1, t, t + 1. With `still_camera_only` (the camera's motion was taken out of the flow) pairs between which most
    of the picture changes are left out.
    """
    moving = (flow.norm(dim=2) > LEAST_SPEED).any(dim=1)
    told = moving.flatten(1).float().mean(dim=1) >= LEAST_SHARE
    if still_camera_only:
        told &= (first - second).abs().flatten(1).median(dim=1).values <= 2
    first, second, flow, moving = first[told], second[told], flow[told], moving[told]
    found = Fit(pixels=float(moving.sum()), fields=len(flow))
    if not len(flow):
        return found
    errors = {
        name: ((seen_along(second, reading(flow)) - first).abs() * moving).flatten(1).sum(dim=1)
        for name, reading in READINGS.items()
    }
    found.error = {name: float(error.sum()) for name, error in errors.items()}
    found.better = {name: int((error < errors[STORED]).sum()) for name, error in errors.items()}
    return found


def seen_along(frames: Tensor, flow: Tensor) -> Tensor:
    """(N, H, W) frames sampled at every pixel's place plus its flow (N, 2, H, W) pixels, bilinear; edges go on."""
    height, width = frames.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # grid_sample counts from -1, the middle of the first pixel, to 1, the middle of the last
    places = torch.stack(
        [2 * (x + flow[:, 0]) / max(width - 1, 1) - 1, 2 * (y + flow[:, 1]) / max(height - 1, 1) - 1], dim=-1
    )
    return grid_sample(frames[:, None], places, padding_mode="border", align_corners=True)[:, 0]

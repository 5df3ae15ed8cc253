"""Colour jitter: the same change of brightness, contrast, saturation and hue in all frames of a video."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor

from stmn.sampling.resample import Bytes


@dataclass(frozen=True)
class ColourJitter:
    """How far colours may change, as in torchvision's `ColorJitter`.

    Attributes:
        brightness: x; the factor is drawn from 1 - x to 1 + x, never below 0. The next two are alike.
        contrast: x; the factor of differences from the mean grey level of the frame.
        saturation: x; the factor of differences from the grey level of the pixel.
        hue: x, 0 to 0.5; the rotation of the colour circle is drawn from -x to x.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, rng: Generator) -> "Colours":
        """Draw the changes of a video, and their order."""
        order = rng.permutation(4)
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        amounts = [float(rng.uniform(low, high)) for low, high in [*ranges, (-self.hue, self.hue)]]
        given = (self.brightness, self.contrast, self.saturation, self.hue)
        return Colours(tuple((_NAMES[i], amounts[i]) for i in order if given[i]))


#: in the order of the options
_NAMES = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Colours:
    """The changes of a video's colours: name and amount, in the order in which they are applied."""

    changes: tuple[tuple[str, float], ...]

    def apply(self, frame: Bytes) -> Bytes:
        """Change the colours of a frame.

        Args:
            frame: (H, W, 3) uint8; left as it is.

        Returns:
            (H, W, 3) uint8, contiguous.
        """
        changed: Bytes = self.change(torch.from_numpy(frame.copy())).contiguous().numpy()
        return changed

    def change(self, frames: Tensor) -> Tensor:
        """Change the colours of (..., H, W, 3) uint8 frames on any device; returns the same shape, not contiguous."""
        from torchvision.transforms.v2 import functional  # takes a second to import

        pictures = frames.movedim(-1, -3)
        for name, amount in self.changes:
            adjust: Callable[..., Any] = getattr(functional, f"adjust_{name}")
            pictures = adjust(pictures, amount)
        return pictures.movedim(-3, -1)

"""Crops, flips and normalisation: drawn once for all frames of a video and both modalities (section 4.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Literal

import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from stmn.flow.quantise import ZERO_LEVEL
from stmn.sampling.colour import Colours
from stmn.sampling.resample import Bytes, Floats, Levels, cut_into, make_taps

#: `multi_scale`: corners and centre at four sizes (motion stream). `jitter`: sides +-25 % (appearance stream, fused
#: network). `random_resized`: any position, the strongest, for little data. `centre`: not random
Augmentation = Literal["multi_scale", "jitter", "random_resized", "centre"]

#: the paper's sizes are for frames of short side 256; here they are fractions of the short side
_PAPER_SIDE = 256
_PAPER_CROP = 224
#: sides of multi_scale crops, as fractions of the short side
_MULTI_SCALE = tuple(side / _PAPER_SIDE for side in (256, 224, 192, 168))
#: smallest area of random_resized crops, as a fraction of the frame's
_SMALLEST_AREA = 0.35
#: range of aspects of random_resized crops, width over height
_ASPECTS = (3 / 4, 4 / 3)

RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STD = (0.229, 0.224, 0.225)
#: flow levels are scaled like RGB levels, because the motion stream may start from conv1 weights trained on these
FLOW_STD = 255 * sum(RGB_STD) / 3

#: conversion of levels to a network's input; in a mirrored field the sign of u changes
RGB_TO_INPUT = Levels([255 * mean for mean in RGB_MEAN], [1 / (255 * std) for std in RGB_STD])
FLOW_TO_INPUT = Levels([ZERO_LEVEL] * 2, [1 / FLOW_STD, 1 / FLOW_STD])
MIRRORED_FLOW_TO_INPUT = Levels([ZERO_LEVEL] * 2, [-1 / FLOW_STD, 1 / FLOW_STD])


@dataclass(frozen=True)
class Crop:
    """A box in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirror: bool = False


def draw_crop(height: int, width: int, augmentation: Augmentation, keeps: Iterable[str], rng: Generator | None) -> Crop:
    """Draw a crop of a frame.

    Args:
        height: height of the frame, pixels.
        width: width of the frame, pixels.
        augmentation: the kind of crop.
        keeps: augmentations that don't change the class of the data set's videos. Without "crop" the crop is the
            largest centred square; without "mirror" it is never mirrored.
        rng: draws the crop; None for the centre crop.
    """
    side = min(height, width)
    if rng is None or augmentation == "centre":
        box = round(side * _PAPER_CROP / _PAPER_SIDE) if "crop" in keeps else side
        return Crop((height - box) // 2, (width - box) // 2, box, box)
    mirror = "mirror" in keeps and bool(rng.random() < 0.5)
    if "crop" not in keeps:
        return Crop((height - side) // 2, (width - side) // 2, side, side, mirror)
    if augmentation == "multi_scale":
        h, w = (round(side * float(fraction)) for fraction in rng.choice(_MULTI_SCALE, 2))
        place = int(rng.integers(5))
        if place == 4:
            return Crop((height - h) // 2, (width - w) // 2, h, w, mirror)
        return Crop((height - h) * (place // 2), (width - w) * (place % 2), h, w, mirror)
    if augmentation == "random_resized":
        area = height * width * rng.uniform(_SMALLEST_AREA, 1)
        aspect = exp(rng.uniform(log(_ASPECTS[0]), log(_ASPECTS[1])))
        h, w = min(height, round(sqrt(area / aspect))), min(width, round(sqrt(area * aspect)))
        return Crop(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w, mirror)
    # jitter: sides within 25 % of the paper's crop, offsets within a quarter of the free space from a border
    base = side * _PAPER_CROP / _PAPER_SIDE
    h = min(height, round(base * rng.uniform(0.75, 1.25)))
    w = min(width, round(base * rng.uniform(0.75, 1.25)))
    return Crop(_draw_border_offset(height - h, rng), _draw_border_offset(width - w, rng), h, w, mirror)


def _draw_border_offset(space: int, rng: Generator) -> int:
    """Draw an offset in 0..space within a quarter of `space` from either end."""
    offset = rng.uniform(0, 0.25)
    return round(space * (offset if rng.random() < 0.5 else 1 - offset))


def cut_frame(frame: Bytes, crop: Crop, out: Floats, colours: Colours | None = None) -> None:
    """Cut, resize and normalise a frame.

    Args:
        frame: (H, W, 3) uint8, contiguous.
        crop: the box to cut out.
        out: (3, H', W') float32, contiguous; written.
        colours: how colours change between cutting and resizing.
    """
    if colours is not None:
        frame = colours.apply(frame[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width])
        crop = replace(crop, top=0, left=0)
    rows, columns = make_taps(crop.height, out.shape[1]), make_taps(crop.width, out.shape[2], crop.mirror)
    cut_into(frame[None], crop.top, crop.left, rows, columns, RGB_TO_INPUT, out)


def cut_field(levels: Bytes, crop: Crop, out: Floats) -> None:
    """Cut, resize and normalise a flow field; in a mirrored field the sign of u changes.

    Flow values are not rescaled with the crop, as in the authors' code.

    Args:
        levels: (2, H, W) uint8 flow levels u and v, contiguous.
        crop: the box to cut out.
        out: (2, H', W') float32, contiguous; written.
    """
    rows, columns = make_taps(crop.height, out.shape[1]), make_taps(crop.width, out.shape[2], crop.mirror)
    scale = MIRRORED_FLOW_TO_INPUT if crop.mirror else FLOW_TO_INPUT
    cut_into(levels[..., None], crop.top, crop.left, rows, columns, scale, out)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, channels, H, W) pictures to `size`, (height, width), bilinear, anti-aliased; no copy if equal."""
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True, align_corners=False)


def mirror_order(classes: Sequence[str], pairs: Mapping[str, str]) -> list[int]:
    """Return for each class the number of the class that its mirrored videos show; its own unless `pairs` names one."""
    numbers = {name: number for number, name in enumerate(classes)}
    return [numbers[pairs.get(name, name)] for name in classes]


def mirrored(pictures: Tensor, mirror: bool = True) -> Tensor:
    """Return (..., H, W) pictures, mirrored left to right if `mirror`."""
    return pictures.flip(-1) if mirror else pictures


def normalise_rgb(frames: Tensor) -> Tensor:
    """Map (..., 3, H, W) levels 0..255 to network input: ImageNet's levels get zero mean and unit deviation."""
    mean, std = (255 * _channels(values, frames) for values in (RGB_MEAN, RGB_STD))
    return (frames - mean) / std


def normalise_flow(fields: Tensor, mirror: bool = False) -> Tensor:
    """Map (..., 2, H, W) levels 0..255 to network input: level 128 becomes 0; mirroring changes the sign of u."""
    centred = (fields - ZERO_LEVEL) / FLOW_STD
    return centred * _channels((-1.0, 1.0), fields) if mirror else centred


def _channels(values: Sequence[float], pictures: Tensor) -> Tensor:
    """Return values as (channels, 1, 1) on the pictures' device, without waiting for it."""
    return torch.tensor(values).view(-1, 1, 1).to(pictures.device, non_blocking=True)

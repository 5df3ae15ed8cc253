"""Pictures of what the gates of a network let through: a frame, and maps that are bright where it is much."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from stmn.evaluation.inside.maps import GateMaps
from stmn.report.samples import encode_picture
from stmn.store.format.read import Store

#: height of a picture, pixels
_HEIGHT = 120
_WHITE = torch.tensor([255, 255, 255], dtype=torch.uint8)[:, None]


@dataclass(frozen=True)
class GatePictures:
    """A video's pictures as data URIs, each with its caption."""

    id: str
    class_name: str
    pictures: list[tuple[str, str]]


def draw_gates(maps: Sequence[GateMaps], store: Store) -> list[GatePictures]:
    """Draw a frame of each video, with its target outlined, and the maps of the first gate.

    Raises:
        DataError: a picture can't be read.
    """
    found = []
    for item in maps:
        video = store.video(item.clip.id)
        frame = store.frames(item.clip.id, [item.clip.times[item.chunk]])[0]
        size = (_HEIGHT, max(1, round(_HEIGHT * frame.shape[2] / frame.shape[1])))
        shown = interpolate(frame[None].float(), size, mode="bilinear", antialias=True)[0]
        picture = shown.round().clamp(0, 255).to(torch.uint8)
        if (target := item.clip.masks.get("target")) is not None:
            outline = _find_outline(target[item.chunk], size)
            picture[:, outline] = _WHITE
        sender = item.unit.sender
        captions = [
            (f"what {item.unit.receiver} brings", item.receiving),
            (f"what {sender} sends", item.sent),
            ("what the unit reads", item.read),
        ]
        about = "frame, target outlined" if target is not None else "frame"
        pictures = [(about, encode_picture(picture)), *((words, _draw_heat(x, size)) for words, x in captions)]
        found.append(GatePictures(item.clip.id, video.class_name, pictures))
    return found


def _find_outline(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels just outside a (H, W) mask, in a picture of another size."""
    inside = interpolate(mask[None, None], size, mode="nearest")
    grown = torch.nn.functional.max_pool2d(inside, 3, stride=1, padding=1)
    outline: Tensor = (grown > inside)[0, 0]
    return outline


def _draw_heat(values: Tensor, size: tuple[int, int]) -> str:
    """Draw a map as a picture, from black for 0 to yellow for its largest value."""
    from matplotlib import colormaps

    shown = interpolate(values[None, None] / values.max().clamp(min=1e-12), size, mode="nearest")[0, 0]
    colours: Any = colormaps["inferno"](shown.numpy(), bytes=True)
    return encode_picture(torch.from_numpy(colours[..., :3].copy()).permute(2, 0, 1))

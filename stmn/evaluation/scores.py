"""Scores: class outputs of videos, keyed by video id, with the class list and the protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors.torch import load_file
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.protocol import upgrade_protocol
from stmn.nets.checkpoint import read_about, save_tensors


@dataclass(frozen=True)
class Scores:
    """`streams` maps a stream's name to (N, classes) scores; row i belongs to video `ids[i]`, whose class is
    `classes[labels[i]]` and which is of group `groups[i]` (its own id where it has none). `protocol` says how they were
    measured."""

    ids: list[str]
    classes: list[str]
    labels: list[int]
    streams: dict[str, Tensor]
    protocol: dict[str, Any]
    groups: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", list(self.ids))

    def mean(self, weights: Sequence[float] | None = None) -> Tensor:
        """(N, classes): the weighted mean over streams, 1:1 by default."""
        tensors = list(self.streams.values())
        weights = list(weights) if weights else [1.0] * len(tensors)
        total = torch.stack([w * t for w, t in zip(weights, tensors, strict=True)]).sum(dim=0)
        return total / sum(weights)

    def table(self) -> dict[str, list[Any]]:
        """Column -> values, a row a video: id, group, class, prediction, each stream's score of each class."""
        names = self.classes
        columns: dict[str, list[Any]] = {"video": self.ids, "group": self.groups}
        columns["class"] = [names[i] for i in self.labels]
        columns["predicted"] = [names[i] for i in self.mean().argmax(dim=1).tolist()]
        for stream, tensor in self.streams.items():
            columns |= {f"{stream}: {name}": tensor[:, number].tolist() for number, name in enumerate(names)}
        return columns

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all."""
        about = {
            "ids": self.ids,
            "classes": self.classes,
            "labels": self.labels,
            "protocol": self.protocol,
            "groups": self.groups,
        }
        save_tensors(path, self.streams, {"scores": about})

    def rows(self, ids: Sequence[str], classes: Sequence[str], where: str) -> dict[str, Tensor]:
        """The streams' rows in the order of `ids`. Raises `DataError` when classes or videos differ."""
        if list(classes) != self.classes:
            raise DataError(f"{where}: scores of other classes ({len(self.classes)} instead of {len(classes)})")
        place = {video_id: row for row, video_id in enumerate(self.ids)}
        missing = [video_id for video_id in ids if video_id not in place]
        if missing or len(place) != len(self.ids) or len(ids) != len(self.ids):
            what = f"no scores of {missing[0]!r}" if missing else f"{len(self.ids)} rows for {len(ids)} videos"
            raise DataError(f"{where}: does not score the same videos: {what}")
        order = torch.tensor([place[video_id] for video_id in ids])
        return {name: tensor[order] for name, tensor in self.streams.items()}


class About(BaseModel):
    """What a scores file says of its rows and columns."""

    ids: list[str]
    classes: list[str]
    labels: list[int]
    protocol: dict[str, Any]
    groups: list[str] = []


def load_scores(path: Path) -> Scores:
    """Read a scores file.

    Raises `DataError` when it is something else or contradicts itself, `CheckpointError` when it is damaged.
    """
    about = read_about(path).get("scores")
    if about is None:
        raise DataError(f"{path}: holds no scores")
    try:
        said = About.model_validate(about)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc'])) or 'scores'}: {first['msg']}") from error
    streams = load_file(path)
    shape = (len(said.ids), len(said.classes))
    mistakes = [f"{name} is {tuple(t.shape)}, not {shape}" for name, t in streams.items() if tuple(t.shape) != shape]
    mistakes += [f"{name} holds no floating point numbers" for name, t in streams.items() if not t.is_floating_point()]
    if len(said.labels) != len(said.ids) or not all(0 <= label < len(said.classes) for label in said.labels):
        mistakes.append(f"its labels are not those of {len(said.ids)} videos of {len(said.classes)} classes")
    if said.groups and len(said.groups) != len(said.ids):
        mistakes.append(f"it names {len(said.groups)} groups for {len(said.ids)} videos")
    if len(set(said.ids)) != len(said.ids):
        mistakes.append("it scores a video twice")
    if mistakes:
        raise DataError(f"{path}: {mistakes[0]}")
    return Scores(said.ids, said.classes, said.labels, streams, upgrade_protocol(said.protocol), said.groups)


def fuse_late(parts: Sequence[Scores], weights: Sequence[float] | None, names: Sequence[str]) -> Scores:
    """Late fusion: each part's mean becomes a stream of the result, scaled by its weight. Rows are matched by id.

    Raises `DataError` when the parts score other videos or classes, or weights don't fit.
    """
    weights = list(weights) if weights else [1.0] * len(parts)
    if len(weights) != len(parts):
        raise DataError(f"late fusion of {len(parts)} scores with {len(weights)} weights")
    if sum(weights) <= 0:
        raise DataError(f"late fusion: the weights {', '.join(f'{w:g}' for w in weights)} add up to no positive number")
    first = parts[0]
    streams: dict[str, Tensor] = {}
    scale = len(parts) / sum(weights)
    for part, weight, name in zip(parts, weights, names, strict=True):
        rows = part.rows(first.ids, first.classes, name)
        stream = "+".join(rows) if "+".join(rows) not in streams else name
        streams[stream] = torch.stack(list(rows.values())).mean(dim=0) * (weight * scale)
    about = first.protocol | {
        "late_fusion_weights": weights,
        "parts": [part.protocol for part in parts],
        "seen_in_training": max(part.protocol.get("seen_in_training", 0) for part in parts),
    }
    return Scores(first.ids, first.classes, first.labels, streams, about, first.groups)

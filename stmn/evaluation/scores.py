"""Scores files: the logits of videos, keyed by video id, with the class list and the protocol."""

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
from stmn.nets.tensor_files import read_metadata, save_tensors


@dataclass(frozen=True)
class Scores:
    """The scores of N videos.

    Attributes:
        ids: The videos.
        classes: The class names, in the order of the columns.
        labels: For each video the index of its true class.
        streams: Stream name -> (N, classes) scores: a network's logits, or an SVM's signed distances.
        protocol: How they were measured.
        groups: For each video its group, such as the recording that it was cut from; its own id if it has none.
    """

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
        """(N, classes) weighted mean over streams; equal weights by default."""
        tensors = list(self.streams.values())
        weights = list(weights) if weights else [1.0] * len(tensors)
        total = torch.stack([w * t for w, t in zip(weights, tensors, strict=True)]).sum(dim=0)
        return total / sum(weights)

    def to_columns(self) -> dict[str, list[Any]]:
        """Column name -> values, one row per video: id, group, class, prediction, each stream's score of each class."""
        names = self.classes
        columns: dict[str, list[Any]] = {"video": self.ids, "group": self.groups}
        columns["class"] = [names[i] for i in self.labels]
        columns["predicted"] = [names[i] for i in self.mean().argmax(dim=1).tolist()]
        for stream, tensor in self.streams.items():
            columns |= {f"{stream}: {name}": tensor[:, number].tolist() for number, name in enumerate(names)}
        return columns

    def save(self, path: Path) -> None:
        """Write a safetensors file, all of it or nothing.

        Raises:
            StmnError: The file can't be written.
        """
        about = {
            "ids": self.ids,
            "classes": self.classes,
            "labels": self.labels,
            "protocol": self.protocol,
            "groups": self.groups,
        }
        save_tensors(path, self.streams, {"scores": about})

    def align(self, ids: Sequence[str], classes: Sequence[str], name: str) -> dict[str, Tensor]:
        """The streams with their rows in the order of `ids`.

        Args:
            ids: The same videos in another order.
            classes: The class names, which must be the same in the same order.
            name: What error messages call these scores.

        Raises:
            DataError: The classes or the videos differ.
        """
        if list(classes) != self.classes:
            raise DataError(f"{name}: scores of other classes ({len(self.classes)} instead of {len(classes)})")
        row_of = {video_id: row for row, video_id in enumerate(self.ids)}
        missing = [video_id for video_id in ids if video_id not in row_of]
        if missing or len(row_of) != len(self.ids) or len(ids) != len(self.ids):
            what = f"no scores of {missing[0]!r}" if missing else f"{len(self.ids)} rows for {len(ids)} videos"
            raise DataError(f"{name}: does not score the same videos: {what}")
        order = torch.tensor([row_of[video_id] for video_id in ids])
        return {stream: tensor[order] for stream, tensor in self.streams.items()}


class _Metadata(BaseModel):
    """What a scores file says about its rows and columns."""

    ids: list[str]
    classes: list[str]
    labels: list[int]
    protocol: dict[str, Any]
    groups: list[str] = []


def load_scores(path: Path) -> Scores:
    """Read a scores file.

    Raises:
        DataError: The file holds no scores or contradicts itself.
        CheckpointError: The file is damaged.
    """
    about = read_metadata(path).get("scores")
    if about is None:
        raise DataError(f"{path}: holds no scores")
    try:
        metadata = _Metadata.model_validate(about)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc'])) or 'scores'}: {first['msg']}") from error
    streams = load_file(path)
    if mistake := _find_mistake(metadata, streams):
        raise DataError(f"{path}: {mistake}")
    protocol = upgrade_protocol(metadata.protocol)
    return Scores(metadata.ids, metadata.classes, metadata.labels, streams, protocol, metadata.groups)


def _find_mistake(metadata: _Metadata, streams: dict[str, Tensor]) -> str:
    """The first contradiction within a scores file; empty if there is none."""
    videos, classes = len(metadata.ids), len(metadata.classes)
    for name, tensor in streams.items():
        if tuple(tensor.shape) != (videos, classes):
            return f"{name} is {tuple(tensor.shape)}, not {(videos, classes)}"
        if not tensor.is_floating_point():
            return f"{name} is not in floating point"
    if len(metadata.labels) != videos or not all(0 <= label < classes for label in metadata.labels):
        return f"its labels are not those of {videos} videos of {classes} classes"
    if metadata.groups and len(metadata.groups) != videos:
        return f"it names {len(metadata.groups)} groups for {videos} videos"
    if len(set(metadata.ids)) != videos:
        return "it scores a video twice"
    return ""


def fuse_late(parts: Sequence[Scores], weights: Sequence[float] | None, names: Sequence[str]) -> Scores:
    """Average scores of the same videos (late fusion). Rows are matched by video id.

    Args:
        parts: The scores to fuse. The mean of each becomes a stream of the result, scaled by its weight.
        weights: One per part; equal by default.
        names: What error messages call the parts.

    Raises:
        DataError: The parts score different videos or classes, or the weights don't fit.
    """
    weights = list(weights) if weights else [1.0] * len(parts)
    if len(weights) != len(parts):
        raise DataError(f"late fusion of {len(parts)} scores with {len(weights)} weights")
    if sum(weights) <= 0:
        raise DataError(f"late fusion: the sum of the weights {', '.join(f'{w:g}' for w in weights)} is not positive")
    first = parts[0]
    streams: dict[str, Tensor] = {}
    scale = len(parts) / sum(weights)
    for part, weight, name in zip(parts, weights, names, strict=True):
        aligned = part.align(first.ids, first.classes, name)
        stream = "+".join(aligned) if "+".join(aligned) not in streams else name
        streams[stream] = torch.stack(list(aligned.values())).mean(dim=0) * (weight * scale)
    about = first.protocol | {
        "late_fusion_weights": weights,
        "parts": [part.protocol for part in parts],
        "seen_in_training": max(part.protocol.get("seen_in_training", 0) for part in parts),
    }
    return Scores(first.ids, first.classes, first.labels, streams, about, first.groups)

"""Scores files: the logits of videos, keyed by video id, with the class list and the protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from torch import Tensor

from stmn.errors import DataError, count_of, describe_mistake
from stmn.evaluation.agreement import align_scores
from stmn.evaluation.protocol import Average, upgrade_protocol
from stmn.runtime.tensor_files import read_metadata, read_tensors, save_tensors

#: prefixes of protocol keys that hold for one model's scores only
_OF_ONE = ("stream_weights", "temperature")


@dataclass(frozen=True)
class Scores:
    """The scores of N videos.

    Attributes:
        ids: The videos.
        classes: The class names, in the order of the columns.
        labels: For each video the index of its true class.
        streams: Stream name -> (N, classes) scores: a network's logits, or an SVM's signed distances. If probabilities
            were averaged, the logarithms of the averaged probabilities.
        protocol: How they were measured. `average` and `stream_weights` say how the streams are averaged.
        groups: For each video its group, such as the recording it was cut from; its own id if it has none.
        hashes: For each video a hash of its file's content; empty where that is unknown.
    """

    ids: list[str]
    classes: list[str]
    labels: list[int]
    streams: dict[str, Tensor]
    protocol: dict[str, Any]
    groups: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", list(self.ids))
        if not self.hashes:
            object.__setattr__(self, "hashes", [""] * len(self.ids))

    @property
    def average(self) -> Average:
        """What is averaged over the streams: logits, or probabilities."""
        return "softmax" if self.protocol.get("average") == "softmax" else "logits"

    def mean(self, weights: Sequence[float] | None = None) -> Tensor:
        """Average the streams.

        Args:
            weights: One per stream; the protocol's by default, or equal ones if it has none.

        Returns:
            (N, classes) weighted mean of the streams' scores; if the protocol averages probabilities, the logarithm of
                their weighted mean.
        """
        own = self.protocol.get("stream_weights") or {}
        weights = list(weights) if weights else [own.get(name, 1.0) for name in self.streams]
        return average_scores(list(self.streams.values()), weights, self.average)

    def probabilities(self) -> Tensor:
        """Return (N, classes) float64: the softmax of the mean, after division by the model's temperature, if any."""
        return (self.mean().double() / (self.protocol.get("temperature") or 1.0)).softmax(dim=1)

    def take(self, rows: Sequence[int]) -> "Scores":
        """Return the scores of the given rows, in that order."""
        ids, groups, hashes = ([column[row] for row in rows] for column in (self.ids, self.groups, self.hashes))
        streams = {name: tensor[list(rows)] for name, tensor in self.streams.items()}
        labels = [self.labels[row] for row in rows]
        return Scores(ids, self.classes, labels, streams, self.protocol, groups, hashes)

    def to_columns(self) -> dict[str, list[Any]]:
        """Return column name -> values, one row per video: id, group, class, prediction, scores by stream and class."""
        names = self.classes
        columns: dict[str, list[Any]] = {"video": self.ids, "group": self.groups}
        columns["class"] = [names[i] for i in self.labels]
        columns["predicted"] = [names[i] for i in self.mean().argmax(dim=1).tolist()]
        for stream, tensor in self.streams.items():
            columns |= {f"{stream}: {name}": tensor[:, number].tolist() for number, name in enumerate(names)}
        return columns

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all.

        Raises:
            StmnError: The file can't be written.
        """
        about = {
            "ids": self.ids,
            "classes": self.classes,
            "labels": self.labels,
            "protocol": self.protocol,
            "groups": self.groups,
            "hashes": self.hashes,
        }
        save_tensors(path, self.streams, {"scores": about})


class _Protocol(BaseModel):
    """The types of the protocol keys that are read; other keys are allowed."""

    words: str = ""
    seen_in_training: int = 0
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    parts: list[dict[str, Any]] = []


class _Metadata(BaseModel):
    """The metadata of a scores file about its rows and columns."""

    ids: list[str]
    classes: list[str]
    labels: list[int]
    protocol: dict[str, Any]
    groups: list[str] = []
    hashes: list[str] = []


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
        _Protocol.model_validate(metadata.protocol)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "scores"
        raise DataError(f"{path}: damaged: {where} {describe_mistake(first)}") from error
    streams = read_tensors(path)
    if mistake := _find_mistake(metadata, streams):
        raise DataError(f"{path}: {mistake}")
    protocol = upgrade_protocol(metadata.protocol)
    return Scores(metadata.ids, metadata.classes, metadata.labels, streams, protocol, metadata.groups, metadata.hashes)


def _find_mistake(metadata: _Metadata, streams: dict[str, Tensor]) -> str:
    """The first contradiction within a scores file; empty if there is none."""
    videos, classes = len(metadata.ids), len(metadata.classes)
    if not videos:
        return "it scores no video"
    for name, tensor in streams.items():
        if tuple(tensor.shape) != (videos, classes):
            return f"{name} is {tuple(tensor.shape)}, not {(videos, classes)}"
        if not tensor.is_floating_point():
            return f"{name} is not in floating point"
        if not tensor.isfinite().all():
            return f"{name} has scores that are NaN or infinite"
    if len(metadata.labels) != videos or not all(0 <= label < classes for label in metadata.labels):
        return f"its labels are not those of {count_of(videos, 'video')} of {count_of(classes, 'class', 'classes')}"
    if metadata.groups and len(metadata.groups) != videos:
        return f"it names {count_of(len(metadata.groups), 'group')} for {count_of(videos, 'video')}"
    if metadata.hashes and len(metadata.hashes) != videos:
        return f"it has {count_of(len(metadata.hashes), 'hash', 'hashes')} for {count_of(videos, 'video')}"
    if len(set(metadata.ids)) != videos:
        return "it scores a video twice"
    return _find_wrong_weights(metadata.protocol.get("stream_weights"), streams)


def _find_wrong_weights(weights: Any, streams: dict[str, Tensor]) -> str:
    """Return the mistake in a file's stream weights; empty if there is none."""
    if weights is None:
        return ""
    numbers = weights.values() if isinstance(weights, dict) else []
    if not numbers or set(weights) != set(streams) or not all(isinstance(w, int | float) for w in numbers):
        return f"its stream_weights are not one number for each of {', '.join(streams)}"
    return "" if sum(numbers) > 0 else "the sum of its stream_weights is not positive"


def average_scores(tensors: Sequence[Tensor], weights: Sequence[float], average: Average) -> Tensor:
    """Return the weighted mean of scores.

    Args:
        tensors: (N, classes) scores.
        weights: One per tensor, with a positive sum.
        average: "logits" for the mean of the scores as they are; "softmax" for the logarithm of the mean of their
            probabilities, computed in the log domain so that no probability becomes 0.

    Returns:
        (N, classes).
    """
    stacked = torch.stack(list(tensors))
    shares = torch.tensor(weights, dtype=stacked.dtype).view(-1, 1, 1) / sum(weights)
    if average == "logits":
        return (shares * stacked).sum(dim=0)
    return (stacked.log_softmax(dim=-1) + shares.log()).logsumexp(dim=0)


def fuse_late(
    parts: Sequence[Scores], weights: Sequence[float] | None, names: Sequence[str], average: Average = "logits"
) -> Scores:
    """Average scores of the same videos (late fusion). Rows are matched by video id.

    Args:
        parts: The scores to fuse. The mean of each becomes a stream of the result.
        weights: One per part; equal by default.
        names: What error messages call the parts.
        average: Average the parts' scores, or their probabilities.

    Raises:
        DataError: The parts are of different videos, classes, data sets, splits or parts, or the weights don't fit.
    """
    check_average(parts, names, average)
    weights = check_weights(weights, len(parts), average) if weights else [1.0] * len(parts)
    first = parts[0]
    streams: dict[str, Tensor] = {}
    for part, name in zip(parts, names, strict=True):
        mean = align_scores(first, part, name, names[0]).mean()
        streams[_new_name(["+".join(part.streams), name], streams)] = (
            mean if average == "logits" else mean.log_softmax(dim=-1)
        )
    about = {key: value for key, value in first.protocol.items() if not key.startswith(_OF_ONE)} | {
        "average": average,
        "late_fusion_weights": weights,
        "parts": [part.protocol for part in parts],
        "seen_in_training": max(part.protocol.get("seen_in_training", 0) for part in parts),
    }
    if average == "softmax" and "words" in about:
        about["words"] += ", late fusion of probabilities"
    fused = Scores(first.ids, first.classes, first.labels, streams, about, first.groups, first.hashes)
    return weight_streams(fused, weights) if len(set(weights)) > 1 else fused


def weight_streams(scores: Scores, weights: Sequence[float], chosen_on: str = "") -> Scores:
    """Return the same scores with other stream weights, stated in the protocol and its words.

    Args:
        scores: Scores of one or more streams.
        weights: One per stream, in their order.
        chosen_on: The videos that the weights were chosen on, in words; empty if they were given.

    Raises:
        DataError: The weights don't fit.
    """
    weights = check_weights(weights, len(scores.streams), scores.average)
    kept = {key: value for key, value in scores.protocol.items() if key != "temperature"}  # fitted with equal weights
    about = kept | {"stream_weights": dict(zip(scores.streams, weights, strict=True))}
    if chosen_on:
        about["stream_weights_chosen_on"] = chosen_on
    if "words" in about:
        ratio = ":".join(f"{weight:g}" for weight in weights)
        about["words"] += f", streams {ratio}{f' chosen on {chosen_on}' if chosen_on else ''}"
    return replace(scores, protocol=about)


def check_average(parts: Sequence[Scores], names: Sequence[str], average: Average) -> None:
    """Raise `DataError` if logits are to be averaged but scores hold averaged probabilities, whose logits are lost."""
    for part, name in zip(parts, names, strict=True):
        if average == "logits" and part.average == "softmax":
            raise DataError(f"{name}: holds averaged probabilities, not logits; pass --average softmax, or test again")


def check_weights(weights: Sequence[float], count: int, average: Average) -> list[float]:
    """Check the weights of a late fusion and return them.

    Raises:
        DataError: There are too few or too many, their sum is not positive, or one is negative with probabilities.
    """
    said = ", ".join(f"{weight:g}" for weight in weights)
    if len(weights) != count:
        raise DataError(f"late fusion of {count} scores with {count_of(len(weights), 'weight')}: {said}")
    if not sum(weights) > 0:
        raise DataError(f"late fusion: the sum of the weights {said} is not positive")
    if average == "softmax" and min(weights) < 0:
        raise DataError(f"late fusion: probabilities can't be averaged with the negative weights {said}")
    return [float(weight) for weight in weights]


def _new_name(wanted: Sequence[str], taken: dict[str, Tensor]) -> str:
    """Return the first wanted name that is not taken, or the last one with a number."""
    free = [name for name in wanted if name not in taken]
    return free[0] if free else next(n for i in range(2, len(taken) + 3) if (n := f"{wanted[-1]} {i}") not in taken)

"""Classify a video file with nothing but a model file: `stmn.load("model.safetensors").predict("video.mp4")`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stmn.device import Device, choose
from stmn.errors import DataError
from stmn.evaluation.inference import Pictures, fit, score_pictures
from stmn.evaluation.protocol import Protocol
from stmn.flow.estimator import flow_estimator
from stmn.flow.pairs import frames_and_flow
from stmn.nets.checkpoint import Description, load_checkpoint
from stmn.nets.network import Network
from stmn.sampling.augment import test_short_side
from stmn.sampling.positions import stack_times, test_positions
from stmn.video.decode import decode


@dataclass(frozen=True)
class Prediction:
    """A class and its score, the soft-max of the mean over streams: 0..1."""

    class_name: str
    score: float


class Model:
    """A network with all that a checkpoint says of how its input is made."""

    def __init__(self, network: Network, description: Description, device: Device) -> None:
        self.network = network
        self.description = description
        self.device = device
        device.place(network).eval()

    @property
    def classes(self) -> list[str]:
        """The class names, in the order of the scores."""
        return self.description.network.classes

    def predict(self, video: str | Path, frames: int = 25, flips: bool = True) -> list[Prediction]:
        """All classes with their scores, best first. Mirrors are used where the training data allowed them.

        Raises `DataError` when the video can't be read.
        """
        scores = torch.stack(self.scores(video, frames, flips)).mean(dim=0)
        values = scores.softmax(dim=0)
        order = values.argsort(descending=True).tolist()
        return [Prediction(self.classes[i], float(values[i])) for i in order]

    def scores(self, video: str | Path, frames: int = 25, flips: bool = True) -> list[Tensor]:
        """(classes,) class scores of each stream, before the soft-max."""
        config, keeps = self.description.network, self.description.keeps
        protocol = Protocol(
            frames=frames, flips=flips and "mirror" in keeps, short_side=test_short_side(config.size, keeps),
            crop=config.size,
        )  # fmt: skip
        pictures = self.pictures(video, protocol)
        return [s[0] for s in score_pictures(self.network, [pictures], protocol, self.device)]

    def pictures(self, video: str | Path, protocol: Protocol) -> Pictures:
        """Decode the video and compute its flow as the training data was prepared."""
        how, names = self.description.preparation, self.network.names
        flow = flow_estimator(how.flow, how.flow_options) if "motion" in names else no_flow
        frames, fields = [], []
        for pictures, levels in frames_and_flow(decode(video, how.short_side), flow, how.bound, how.camera_motion):
            frames.append(pictures.permute(0, 3, 1, 2))
            fields.append(levels)
        if not frames:
            raise DataError(f"{video}: holds no frames")
        rgb, levels = torch.cat(frames), torch.cat(fields)
        stack_length = self.description.network.stack_length
        times = test_positions(len(rgb), stack_length, protocol.frames)
        if "motion" in names and len(levels) == 0:
            raise DataError(f"{video}: one frame has no motion, and this model reads flow")
        stacks = torch.tensor([stack_times(t, len(rgb), stack_length) for t in times])
        return Pictures(
            fit(rgb[times], protocol) if "appearance" in names else None,
            fit(levels, protocol) if "motion" in names else None,
            stacks,
        )


def no_flow(first: Tensor, second: Tensor) -> Tensor:
    """Stands in for the flow where no stream reads it."""
    return torch.zeros(len(first), 2, *first.shape[1:])


def load(path: str | Path, device: str = "auto") -> Model:
    """Load a model file that stmn wrote. Raises `CheckpointError` when it is missing, damaged or something else."""
    network, description = load_checkpoint(Path(path))
    return Model(network, description, choose(device))


def find_videos(paths: list[Path]) -> Iterator[Path]:
    """Files as they are, folders as the videos below them, sorted. Raises `DataError` for what is not there."""
    from stmn.datasets.base import VIDEO_ENDINGS

    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_ENDINGS)
            if not found:
                raise DataError(f"{path}: no videos in this folder")
            yield from found
        else:
            yield path

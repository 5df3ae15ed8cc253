"""Classify a video with nothing but a model file: `stmn.load("model.safetensors").predict("video.mp4")`."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from stmn.errors import CheckpointError, DataError
from stmn.nets.checkpoint import load_checkpoint
from stmn.prediction.model import Prediction, Scorer
from stmn.prediction.whole import whole_video
from stmn.prediction.windows import Window, moments, score_spans, slide
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Progress, Silent
from stmn.video.decode import frames_of
from stmn.video.source import Source, source

__all__ = ["Model", "Prediction", "Window", "find_videos", "load"]

#: chunks of a whole video (section 4.2), and of a window, as of a training sample
CHUNKS, WINDOW_CHUNKS = 25, 5


class Model(Scorer):
    """A model for videos: files, addresses, cameras (their numbers), or `-` for standard input."""

    def predict(self, video: str | Path | Source, frames: int = CHUNKS, flips: bool = True) -> list[Prediction]:
        """All classes with their scores, best first. Mirrors are used where the training data allowed them.

        Raises `DataError` when the video can't be read.
        """
        return self.ranked(torch.stack(self.scores(video, frames, flips)).mean(dim=0))

    def scores(
        self, video: str | Path | Source, frames: int = CHUNKS, flips: bool = True, progress: Progress | None = None
    ) -> list[Tensor]:
        """(classes,) class scores of each output, before the soft-max, from `frames` chunks of the whole video."""
        protocol = self.protocol(frames, flips)
        return self.outputs(whole_video(self, _as_source(video), protocol, progress or Silent()), protocol)

    def windows(
        self, video: str | Path | Source, length: float = 2.0, step: float = 0.5, frames: int = WINDOW_CHUNKS,
        flips: bool = True,
    ) -> Iterator[Window]:  # fmt: skip
        """What is said of each `length` seconds, every `step` seconds, from `frames` chunks; a stream need not end.

        The last window ends with the video. Raises `DataError` when the video can't be read.
        """
        given = _as_source(video)
        spans = slide(moments(self, frames_of(given), given.name), length, step)
        return score_spans(self, spans, self.protocol(frames, flips), given.name, Silent())


def _as_source(video: str | Path | Source) -> Source:
    """Where a video comes from."""
    return video if isinstance(video, Source) else source(video)


def load(path: str | Path, device: str = "auto", stream: str | None = None) -> Model:
    """Load a model file that stmn wrote; `stream` names the one whose scores count, by default their mean counts.

    Raises `CheckpointError` when the file is missing, damaged or something else, or has no such stream.
    """
    network, description = load_checkpoint(Path(path))
    if stream not in (None, *network.outputs):
        raise CheckpointError(f"{path}: predicts no '{stream}'; it has: {', '.join(network.outputs)}")
    return Model(network, description, choose_device(device), stream)


def find_videos(arguments: list[str]) -> Iterator[Source]:
    """Folders as the videos below them, sorted, all else as it is. Raises `DataError` for folders without videos."""
    from stmn.datasets.base import VIDEO_SUFFIXES

    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            if not found:
                raise DataError(f"{path}: no videos in this folder")
            yield from map(source, found)
        else:
            yield source(argument)

"""Pooled features of videos, window by window, and the file that holds the features of many videos."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stmn.evaluation.protocol import Protocol
from stmn.prediction.classifier import Classifier
from stmn.prediction.whole_video import WholeVideo
from stmn.prediction.windows import Span, read_spans
from stmn.runtime.files import atomic_write
from stmn.runtime.progress import Progress
from stmn.runtime.tensor_files import save_tensors

#: suffixes of the files that can be written
FEATURE_SUFFIXES = (".safetensors", ".npz")
#: name of the array with each window's start and end, beside those of the streams; of the description in an `.npz`
TIMES, ABOUT = "times", "about"


@dataclass(frozen=True)
class WindowFeatures:
    """The features of a window of a video.

    Attributes:
        start: Where it begins, seconds.
        end: Where it ends, seconds.
        streams: Stream -> (C,) float32, the features that its classifier reads.
    """

    start: float
    end: float
    streams: dict[str, Tensor]


def features_of_spans(
    model: Classifier, spans: Iterator[Span], protocol: Protocol, name: str, progress: Progress
) -> Iterator[WindowFeatures]:
    """Compute the features of each span as if it were a video. Raises as `read_spans` does."""
    for span, given in read_spans(model, spans, protocol, name, progress):
        yield WindowFeatures(span.start, span.end, model.compute_features(given, protocol, name))


def features_of_whole(model: Classifier, whole: WholeVideo, protocol: Protocol, name: str) -> WindowFeatures:
    """Compute the features of a whole video."""
    return WindowFeatures(0.0, whole.seconds, model.compute_features(whole.given, protocol, name))


class FeatureFile:
    """Collects features of one video after another in files on disk; those of a video that fails can be removed.

    Args:
        folder: Where rows are kept until all are there.
        stack: Closes the files that are opened there.

    Attributes:
        videos: Video -> start and end of its windows, seconds.
        failed: Video -> why it has no features.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._files: dict[str, Any] = {}
        self._widths: dict[str, int] = {}
        self._times: list[tuple[float, float]] = []
        self.videos: dict[str, list[tuple[float, float]]] = {}
        self.failed: dict[str, str] = {}

    def add(self, window: WindowFeatures) -> None:
        """Add a window of the current video."""
        for name, row in window.streams.items():
            if name not in self._files:
                self._files[name] = self._stack.enter_context(open(self._folder / name, "w+b"))  # noqa: SIM115
                self._widths[name] = len(row)
            self._files[name].write(np.ascontiguousarray(row.numpy(), np.float32).tobytes())
        self._times.append((window.start, window.end))

    def commit(self, video: str) -> None:
        """Keep the windows added since the last video, as those of this one."""
        self.videos[video], self._times = self._times, []

    def fail(self, video: str, error: str) -> None:
        """Remove the windows added since the last video, and note why this one has none."""
        self.failed[video], self._times = error, []
        rows = sum(map(len, self.videos.values()))
        for name, file in self._files.items():
            file.seek(4 * self._widths[name] * rows)
            file.truncate()

    @property
    def count(self) -> int:
        """The number of windows of all videos."""
        return sum(map(len, self.videos.values()))

    @property
    def widths(self) -> dict[str, int]:
        """Stream -> C."""
        return dict(self._widths)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`VIDEO/STREAM` -> (N, C) float32 and `VIDEO/times` -> (N, 2) float64, for N windows; rows stay on disk."""
        found: dict[str, NDArray[Any]] = {}
        whole: dict[str, NDArray[Any]] = {}
        for name, file in self._files.items():
            file.flush()
            if self.count:
                shape = (self.count, self._widths[name])
                whole[name] = np.memmap(file, np.float32, "c", shape=shape)
        first = 0
        for video, times in self.videos.items():
            last = first + len(times)
            found |= {f"{video}/{name}": rows[first:last] for name, rows in whole.items()}
            found[f"{video}/{TIMES}"] = np.array(times, np.float64)
            first = last
        return found


@contextmanager
def write_features(path: Path, about: Mapping[str, Any]) -> Iterator[FeatureFile]:
    """Open a file of features, which appears at `path` if the block ends without an error and it has a video.

    Args:
        path: Where it is written; its suffix, one of `FEATURE_SUFFIXES`, decides the format.
        about: How the features were made: JSON.

    Raises:
        StmnError: The file can't be written.
    """
    with atomic_write(path) as temporary, ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix=".features-", dir=path.parent)))
        file = FeatureFile(folder, stack)
        yield file
        described = {"features": {**about, "videos": list(file.videos), "failed": file.failed}}
        _save(temporary, file, described, path.suffix.lower() == ".npz")


def _save(path: Path, file: FeatureFile, described: dict[str, Any], as_npz: bool) -> None:
    """Write all rows, and then hold none of them: Windows can't remove a file that is mapped."""
    if as_npz:
        with open(path, "wb") as target:
            arrays: dict[str, Any] = {ABOUT: np.array(json.dumps(described)), **file.arrays()}
            np.savez(target, **arrays)
    else:
        save_tensors(path, {key: torch.from_numpy(rows) for key, rows in file.arrays().items()}, described)

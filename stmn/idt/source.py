"""The source of a video's tracks: its file, its stored frames, or a text file of the original program."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stmn.datasets.base import Dataset, VideoEntry
from stmn.errors import DataError
from stmn.idt.trajectories.boxes import Boxes, read_boxes
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.tracks import Tracks
from stmn.registry.options import build
from stmn.store.format.read import Store
from stmn.store.format.shard import FLOW, RGB

#: the short side of frames read from files, unless the video's own is smaller
SHORT_SIDE = 256


@dataclass(frozen=True)
class TrackSource:
    """Reads or computes the tracks of the videos of a prepared set.

    Attributes:
        data: Folder of the set.
        kind: Track in the video files ("videos") or in stored frames ("store"), or read tracks from text files.
        parameters: Parameters of the tracks.
        dataset: Name of the data set plugin, which knows where the files are.
        root: The data set's root.
        dataset_options: Options of the plugin.
        short_side: Short side of the frames in pixels. None keeps the video's own; for files it is then at most 256.
        boxes: Folder of files with boxes around people, if there is one.
        tracks: Folder of text files, if the tracks are read from text.
        fps: Frames per second to take from a file; None: all.
    """

    data: Path
    kind: Literal["videos", "store", "text"]
    parameters: TrackParameters
    dataset: str
    root: Path
    dataset_options: dict[str, Any] = field(default_factory=dict)
    short_side: int | None = None
    boxes: Path | None = None
    tracks: Path | None = None
    fps: float | None = None

    def read(self, entry: VideoEntry) -> Iterator[Tracks]:
        """Yield the tracks of a video in the order in which they end.

        Raises:
            DataError: A file is missing or damaged.
            MissingExtra: OpenCV is not installed.
        """
        if self.kind == "text":
            from stmn.idt.trajectories.tracks import read_tracks

            yield read_tracks(find_text(self.tracks or Path(), entry.id))
            return
        from stmn.idt.trajectories.extract import extract_tracks

        frames, fields, factor = self._from_store(entry) if self.kind == "store" else self._from_file(entry)
        yield from extract_tracks(frames, self.parameters, fields=fields, boxes=self._boxes_of(entry, factor))

    def _from_file(self, entry: VideoEntry) -> tuple[Iterator[NDArray[np.uint8]], None, float]:
        """Frames of the video's file, and their scale relative to the file's own."""
        from stmn.video.decode import iter_frames

        # any damage is allowed: prepare has accepted the file
        frames = iter_frames(self._dataset.fetch(entry), self.fps, 1.0, until=entry.end)
        shown = (frame for frame in frames if frame.seconds >= entry.start)
        first = next(shown, None)
        if first is None:
            return iter(()), None, 1.0
        own = min(first.size)
        side = self.short_side or min(own, SHORT_SIDE)
        scaled = None if side == own else side
        return (frame.picture(scaled) for frame in chain([first], shown)), None, side / own

    def _from_store(self, entry: VideoEntry) -> tuple[Iterator[NDArray[np.uint8]], Iterator[Any] | None, float]:
        """Stored frames, stored flow if the tracks follow that, and the frames' scale relative to the source."""
        video = self._store.video(entry.id)
        if self.short_side not in (None, min(video.width, video.height)):
            raise DataError(
                f"{self.data}: its frames have a short side of {min(video.width, video.height)} pixels; "
                f"--short-side {self.short_side} needs --from videos"
            )
        frames = (picture for _, picture in self._store.pictures(entry.id, RGB, range(video.frames)))
        fields = self._read_flow(entry, video.frames - 1) if self.parameters.flow == "stored" else None
        return frames, fields, video.width / max(video.source_width, 1)

    def _read_flow(self, entry: VideoEntry, count: int) -> Iterator[NDArray[np.float32]]:
        """Stored flow fields, (2, H, W) pixels."""
        import torch

        from stmn.flow.quantise import dequantise

        bound = self._store.header.preparation.bound
        with Store(self.data) as store:  # a store of its own: two readers of one store would share a picture's memory
            for _, levels in store.pictures(entry.id, FLOW, range(count)):
                yield dequantise(torch.from_numpy(levels), bound).numpy()

    def _boxes_of(self, entry: VideoEntry, factor: float) -> Boxes | None:
        """The boxes of a video, in pixels of the tracked frames."""
        if self.boxes is None:
            return None
        path = self.boxes / f"{entry.id}.txt"
        without = self.boxes / f"{Path(entry.id).with_suffix('')}.txt"
        found = read_boxes(path if path.is_file() else without)
        return {frame: boxes * np.float32(factor) for frame, boxes in found.items()}

    @cached_property
    def _dataset(self) -> Dataset:
        """The data set, built in this process."""
        dataset: Dataset = build("dataset", self.dataset, self.dataset_options, self.root)
        return dataset

    @cached_property
    def _store(self) -> Store:
        """The prepared set, open in this process."""
        return Store(self.data)


def find_text(folder: Path, video_id: str) -> Path:
    """Return the text file with a video's tracks: `VIDEO.txt`, `VIDEO.txt.gz` or `VIDEO.features`.

    VIDEO is the video's id or its file name, with or without its ending.

    Raises:
        DataError: There is none.
    """
    names = [video_id, str(Path(video_id).with_suffix("")), Path(video_id).name, Path(video_id).stem]
    for name in dict.fromkeys(names):
        for ending in (".txt", ".txt.gz", ".features", ".gz", ".bin.gz"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    raise DataError(f"{folder / names[1]}.txt: no such file of tracks")


def stack_descriptors(tracks: Tracks) -> NDArray[np.float32]:
    """(N, 396) descriptors of tracks: HOG, HOF, MBHx and MBHy, side by side."""
    return np.concatenate([tracks.hog, tracks.hof, tracks.mbhx, tracks.mbhy], axis=1)

"""Look at a folder of clips before anything is prepared: numbers, sizes, rates, lengths, groups, motion."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stmn.errors import DataError, UsageError, count_of
from stmn.options.prepare import PrepareOptions
from stmn.runtime.progress import Progress
from stmn.stages.prepare import create_dataset, root_of

if TYPE_CHECKING:
    from stmn.datasets.base import Splits, VideoEntry
    from stmn.video.decode import VideoInfo

#: the most clips whose headers are read; in a longer list, this many, evenly spaced
_MOST_HEADERS = 400
#: the most clips whose motion is measured; frames decoded of each, and pairs of them whose flow is computed
_MOST_MEASURED, _FRAMES, _PAIRS = 12, 60, 6
#: the most seconds to read a header, and to decode the frames of a clip
_HEADER_SECONDS, _FRAMES_SECONDS = 10.0, 60.0
#: flow components that are kept per clip
_COMPONENTS = 20_000


@dataclass(frozen=True)
class Clips:
    """The clips of a folder or a list.

    Attributes:
        entries: all clips.
        splits: the splits that they come with; empty if they have none.
        notes: how the folder or list was understood, and what looks wrong, one line each.
        mirrored: classes that change places in a mirror, such as ("turn left", "turn right").
        looked_at: how many headers were read.
        unreadable: those of these clips that can't be opened.
        sizes: (width, height) and how many clips have it, the most common first.
        rates: frames per second and how many clips have it, the most common first.
        lengths: the number of frames of each clip whose header has it, sorted.
    """

    entries: "list[VideoEntry]"
    splits: "Splits"
    notes: list[str]
    mirrored: list[tuple[str, str]]
    looked_at: int
    unreadable: list[str]
    sizes: list[tuple[tuple[int, int], int]]
    rates: list[tuple[float, int]]
    lengths: list[int]

    @property
    def classes(self) -> Counter[str]:
        """How many clips each class has."""
        return Counter(entry.class_name for entry in self.entries)

    @property
    def groups(self) -> list[str]:
        """The groups, sorted by name."""
        from stmn.datasets.groups import natural

        return sorted({entry.group for entry in self.entries if entry.group}, key=natural)

    @property
    def can_hold_out_groups(self) -> bool:
        """True if folds can be made of whole groups."""
        from stmn.datasets.folds import can_hold_out_groups

        return can_hold_out_groups(self.entries)

    @property
    def short_sides(self) -> list[int]:
        """The short side of each clip whose header was read, sorted."""
        return sorted(min(size) for size, count in self.sizes for _ in range(count))

    @property
    def median_length(self) -> int:
        """The median number of frames; 0 if it is known of no clip."""
        return self.lengths[len(self.lengths) // 2] if self.lengths else 0

    @property
    def readable(self) -> int:
        """How many clips can be opened, judging by those whose headers were read."""
        return round(len(self.entries) * (1 - len(self.unreadable) / max(self.looked_at, 1)))


@dataclass(frozen=True)
class Motion:
    """How fast things move in some clips, at the size and rate of a prepared set.

    Attributes:
        clips: how many were measured.
        largest: pixels per frame that 99.9 % of |u| and |v| stay below.
        seconds: seconds that one core takes to decode a frame and compute its flow.
    """

    clips: int
    largest: float
    seconds: float


def look_at_clips(options: PrepareOptions, progress: Progress) -> Clips:
    """List the clips of a folder or a list, and read the headers of some of them.

    Args:
        options: options of `prepare`; `videos` names the folder or the list.

    Raises:
        UsageError: there are clips of one class only, or none can be opened.
        DataError: there is no such folder, or there are no videos in class folders.
    """
    from stmn.datasets.base import hashed_split
    from stmn.datasets.doubts import find_doubts, find_mirror_pairs
    from stmn.datasets.scan import describe_left_out
    from stmn.runtime.bounded import BoundedCall

    dataset = create_dataset(options, root_of(options, Path()))
    every = list(dataset.videos())
    entries = [entry for entry in every if not dataset.lacks(entry)]
    classes = sorted({entry.class_name for entry in entries})
    if len(classes) < 2:
        what = f"has {count_of(len(entries), 'clip')} of the class '{classes[0]}' alone" if classes else "has no clips"
        raise UsageError(f"{options.videos}: {what}; training needs at least two classes, a folder each")
    splits = dataset.splits()
    own = splits if splits != hashed_split(every, 0.3) else {}  # a data set without splits makes these
    first = dict(list(own.items())[:1])  # training uses one split at a time
    said = [*dataset.notes(entries), *dataset.split_notes()]
    notes = [describe_left_out(dataset.left_out()), *said, *find_doubts(entries, first, mirror=False)]
    some = entries[:: -(-len(entries) // _MOST_HEADERS)]
    found: list[VideoInfo] = []
    unreadable: list[str] = []
    with BoundedCall(_look, _HEADER_SECONDS) as look, progress.task("clips", len(some), "clips") as task:
        for entry in some:
            info = look(entry.path)
            if info is None:
                unreadable.append(entry.id)
            else:
                found.append(_cut(info, entry))
            task.advance()
    if not found:
        raise UsageError(f"{options.videos}: none of {count_of(len(some), 'clip')} can be opened as a video")
    return Clips(
        entries, first, [note for note in notes if note], find_mirror_pairs(classes), len(some), unreadable,
        Counter((info.width, info.height) for info in found).most_common(),
        Counter(round(info.fps, 2) for info in found if info.fps > 0).most_common(),
        sorted(info.frames for info in found if info.frames > 0),
    )  # fmt: skip


def measure_motion(clips: Clips, options: PrepareOptions, progress: Progress) -> Motion:
    """Decode the beginnings of some clips, and compute flow between some of their frames.

    Args:
        options: options of `prepare`, for short side, rate and flow.

    Raises:
        UsageError: the flow plugin doesn't take its options.
        MissingExtra: it needs a package that is not installed.
        DataError: none of the clips can be decoded.
    """
    import numpy as np

    from stmn.flow.estimator import check_estimator
    from stmn.flow.quantise import COVERED
    from stmn.runtime.bounded import BoundedCall

    check_estimator(options.flow, options.flow_options)  # in the workers, its errors would be taken for errors of clips
    how = options.short_side, options.fps, options.flow, options.flow_options
    unreadable = set(clips.unreadable)
    there = [entry for entry in clips.entries if entry.id not in unreadable]
    some = there[:: -(-len(there) // _MOST_MEASURED)]
    found = []
    with BoundedCall(_measure, _FRAMES_SECONDS) as measure, progress.task("motion", len(some), "clips") as task:
        measure(("", *how))  # imports, and compiles kernels
        for entry in some:
            if result := measure((str(entry.path), *how)):
                found.append(result)
            task.advance()
    if not found:
        raise DataError(f"{options.videos}: none of {count_of(len(some), 'clip')} can be decoded")
    components = np.concatenate([parts for parts, _ in found])
    seconds = sum(seconds for _, seconds in found) / len(found)
    largest = float(np.quantile(np.abs(components), COVERED)) if len(components) else 0.0
    return Motion(len(found), largest, seconds)


def bound_for(motion: Motion) -> float:
    """The bound, pixels, that suits some motion: the smallest usual one that is large enough."""
    from stmn.flow.quantise import next_bound

    return next_bound(motion.largest) or motion.largest


def common_rate(clips: Clips) -> float | None:
    """The frames per second at which to prepare clips whose rates differ a lot; None if they don't."""
    from stmn.store.inspect.rates import find_common_rate

    return find_common_rate(clips.rates)


def mirror_words(clips: Clips) -> dict[str, str]:
    """The words in class names that change places in a mirror: {"left": "right"}; empty if none do."""
    from stmn.datasets.doubts import MIRRORED, find_mirror_pairs

    classes = list(clips.classes)
    return {one: other for one, other in MIRRORED.items() if one < other and find_mirror_pairs(classes, {one: other})}


def find_dataset(videos: Path) -> str:
    """The data set plugin that reads a list or a folder: `ucf101` if that data set's lists are in it.

    Raises:
        DataError: a list can't be read.
    """
    from stmn.datasets.base import first_folder
    from stmn.datasets.table import dataset_of

    if videos.is_file():
        return dataset_of(videos)
    lists = first_folder(videos, "ucfTrainTestlist", "splits")
    return "ucf101" if any(lists.glob("trainlist*.txt")) else "folder"


def divide(clips: Clips, folds: int) -> "Splits":
    """Splits of clips: folds of groups, or of clips if they have none; for 1, their own split, or 30 % to test."""
    from stmn.datasets.base import hashed_split
    from stmn.datasets.folds import choose_folds, make_folds

    if folds == 1:
        return clips.splits or hashed_split(clips.entries, 0.3)
    return make_folds(clips.entries, *choose_folds(clips.entries, folds))


def _look(path: Path) -> "VideoInfo":
    """The header of a clip. Frames are counted in a folder of pictures, or if the header lacks their number."""
    from dataclasses import replace

    from stmn.video.decode import count_frames, probe_video
    from stmn.video.pictures import list_pictures

    info = probe_video(path)
    if path.is_dir():
        return replace(info, frames=len(list_pictures(path)))
    return info if info.frames else replace(info, frames=count_frames(path))


def _cut(info: "VideoInfo", entry: "VideoEntry") -> "VideoInfo":
    """The header of a clip's file; if the clip is a segment, with the number of frames of the segment."""
    from dataclasses import replace

    if not entry.segment:
        return info
    seconds = info.frames / info.fps if info.fps else 0.0
    end = seconds if entry.end is None else min(entry.end, seconds or entry.end)
    return replace(info, frames=max(round((end - entry.start) * info.fps), 0))


def _measure(what: tuple[str, int, float | None, str, dict[str, object]]) -> "tuple[Sequence[float], float]":
    """Components (u, v, u, v, ...) of flow in a clip, and seconds per frame on one core; for no clip, none."""
    from itertools import islice

    import numpy as np
    import torch

    from stmn.flow.estimator import check_estimator, load_estimator
    from stmn.flow.grey import to_grey
    from stmn.video.decode import iter_frames

    torch.set_num_threads(1)
    path, short_side, fps, flow, flow_options = what
    if not path:
        check_estimator(flow, flow_options)
        return [], 0.0
    started = time.perf_counter()
    frames = [frame.picture(short_side) for frame in islice(iter_frames(path, fps), _FRAMES)]
    decoding = (time.perf_counter() - started) / max(len(frames), 1)
    if len(frames) < 2:
        return [], decoding
    places = sorted({round(place) for place in np.linspace(0, len(frames) - 2, _PAIRS)})
    first, second = (to_grey(torch.from_numpy(np.stack([frames[i + k] for i in places]))) for k in (0, 1))
    started = time.perf_counter()
    pixels = load_estimator(flow, flow_options)(first, second)
    seconds = decoding + (time.perf_counter() - started) / len(places)
    components = pixels.permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    return components[:: max(2 * len(components) // _COMPONENTS, 1)].ravel(), seconds

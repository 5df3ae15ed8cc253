"""One video's records: all there, readable, of one size, and flow that fits the frames."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.flow.fit import Fit, fit
from stmn.flow.grey import grey
from stmn.flow.quantise import dequantise
from stmn.store.format.jpeg import decode_fields, decode_frames
from stmn.store.format.reader import WHAT, Store, StoredVideo
from stmn.store.format.writer import FLOW, RGB, checksum, picture_key
from stmn.store.inspect.lookup import quoted

#: fields of a video that are held against the frames, spread over it
FIELDS = 16
#: rows read at once
BLOCK = 64
#: frames differ when a share of their pixels does by so many grey levels (codecs' noise is below)
DIFFERENT_LEVELS, DIFFERENT_SHARE = 20, 0.002


@dataclass
class VideoFindings:
    """What was found in a video: readable pictures, how flow fits, and a line for every problem."""

    id: str
    frames: int = 0
    fields: int = 0
    fit: Fit = field(default_factory=Fit)
    problems: list[str] = field(default_factory=list)


def check_video(store: Store, video_id: str) -> VideoFindings:
    """Decode every record of a video, count them, and hold some flow against the frames."""
    video, found = store.video(video_id), VideoFindings(video_id)
    times = sample_times(video.frames)
    try:
        frames = Readable(store, video, RGB, {t + k for t in times for k in (0, 1)})
        fields = Readable(store, video, FLOW, {t + k for t in times for k in (-1, 0, 1)})
    except DataError as error:
        found.problems.append(f"video {quoted(video_id)}: {error}")
        return found
    found.frames, found.fields = frames.count, fields.count
    found.problems = [f"video {quoted(video_id)}: {words}" for words in [*frames.problems(), *fields.problems()]]
    if not found.problems and frames.checksum + fields.checksum != stored_checksum(store, video):
        found.problems.append(f"video {quoted(video_id)}: its pictures are not those that prepare wrote (checksum)")
    times = [
        t for t in times if {t, t + 1} <= frames.kept.keys() and {t - 1, t, t + 1} <= fields.kept.keys()
    ]  # fmt: skip
    if times:
        how = store.header.preparation
        first, second = (grey(frames.stacked([t + k for t in times]).permute(0, 2, 3, 1)) for k in (0, 1))
        levels = torch.stack([fields.stacked([t + k for t in times]) for k in (-1, 0, 1)], dim=1)
        found.fit = fit(first, second, dequantise(levels, how.bound), how.camera_motion == "subtract")
        if is_constant(levels) and (found.fit.mistake or not found.fit.judged) and differ(first, second):
            found.fit = Fit()
            level_u, level_v = levels[0, 1, :, 0, 0].tolist()
            found.problems.append(
                f"video {quoted(video_id)}: flow is constant (level {level_u} for u, {level_v} for v) though the "
                "frames change"
            )
    return found


def stored_checksum(store: Store, video: StoredVideo) -> int:
    """The sum over a video's pictures that was recorded when they were written."""
    [(recorded,)] = store.query(video.shard, "SELECT checksum FROM videos WHERE number = ?", [video.number])
    return int(recorded)


def sample_times(frames: int) -> list[int]:
    """Times of fields, spread over a video, that have fields on both sides."""
    last = frames - 3
    return sorted({round(t) for t in torch.linspace(1, last, FIELDS).tolist()}) if last >= 1 else []


def is_constant(levels: Tensor) -> bool:
    """True when u and v of fields (..., 2, H, W) never change, over the picture or in time."""
    planes = levels.movedim(-3, 0).flatten(1)
    return bool((planes.amin(dim=1) == planes.amax(dim=1)).all())


def differ(first: Tensor, second: Tensor) -> bool:
    """True when most pairs of grey frames (N, H, W) differ by more than noise."""
    shares = ((first - second).abs() > DIFFERENT_LEVELS).flatten(1).float().mean(dim=1)
    return bool((shares > DIFFERENT_SHARE).float().mean() > 0.5)


class Readable:
    """The pictures of one kind that can be decoded and have the right size; those at `keep` stay in memory."""

    def __init__(self, store: Store, video: StoredVideo, kind: int, keep: set[int]) -> None:
        self.kind, self.size = kind, (video.height, video.width)
        self.expected = video.frames - (kind == FLOW)
        self.there: list[int] = []
        self.damaged: list[int] = []
        self.wrong: list[tuple[int, tuple[int, int]]] = []
        self.kept: dict[int, Tensor] = {}
        self.count = self.checksum = 0
        decode = decode_frames if kind == RGB else decode_fields
        for t, blob in rows(store, video, kind):
            self.there.append(t)
            self.checksum += checksum(kind, t, blob)
            picture = decoded(decode, blob)
            if picture is None:
                self.damaged.append(t)
            elif tuple(picture.shape[-2:]) != self.size:
                self.wrong.append((t, (picture.shape[-2], picture.shape[-1])))
            else:
                self.count += 1
                if t in keep:
                    self.kept[t] = picture

    def stacked(self, times: Sequence[int]) -> Tensor:
        """The kept pictures at `times`: (N, planes, H, W) uint8."""
        return torch.stack([self.kept[t] for t in times])

    def problems(self) -> Iterator[str]:
        """A line for what is missing, too much, damaged, or of another size."""
        what = WHAT[self.kind]
        there, wanted = set(self.there), set(range(self.expected))
        if missing := sorted(wanted - there):
            yield f"lacks {len(missing)} of {self.expected} {what}s, the first: {missing[0]}"
        if extra := sorted(there - wanted):
            yield f"has {len(extra)} {what}s beyond its {self.expected}, the first: {extra[0]}"
        if self.damaged:
            yield f"{len(self.damaged)} {what}s are no readable JPEG, the first: {self.damaged[0]}"
        if self.wrong:
            (t, (height, width)), (right_height, right_width) = self.wrong[0], self.size
            yield (
                f"{len(self.wrong)} {what}s are not {right_width} x {right_height}, the first: {t} ({width} x {height})"
            )


def rows(store: Store, video: StoredVideo, kind: int) -> Iterator[tuple[int, bytes]]:
    """(t, JPEG) of every stored picture of a kind, in order; memory holds a block of them."""
    first, last = picture_key(video.number, kind, 0), picture_key(video.number, kind, 2**32 - 1)
    while True:
        block = store.query(
            video.shard,
            "SELECT key, jpeg FROM pictures WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
            [first, last, BLOCK],
        )
        for key, blob in block:
            yield key - picture_key(video.number, kind, 0), blob
        if len(block) < BLOCK:
            return
        first = block[-1][0] + 1


def decoded(decode: Callable[[Sequence[bytes]], Tensor], blob: bytes) -> Tensor | None:
    """One picture, or None when it is no readable JPEG."""
    try:
        return decode([blob])[0]
    except (RuntimeError, ValueError):
        return None

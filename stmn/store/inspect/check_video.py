"""Check one video: whether its pictures are complete, readable and of one size, and its flow matches its frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stmn.errors import DataError, count_of
from stmn.flow.fit import Fit, measure_fit
from stmn.flow.grey import to_grey
from stmn.flow.quantise import dequantise
from stmn.store.format.jpeg import decode_fields, decode_frames
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, KIND_NAMES, RGB, picture_checksum, picture_key
from stmn.store.inspect.lookup import quote_id
from stmn.store.inspect.near_copies import look_at, look_times

#: flow fields per video that are compared with the frames
_FIELDS = 16
#: rows read at a time
_BLOCK = 64
#: frames differ if this fraction of pixels differs by this many grey levels; codec noise stays below
_DIFFERENT_LEVELS, _DIFFERENT_FRACTION = 20, 0.002


@dataclass
class VideoFindings:
    """Findings about a video: numbers of readable pictures, the fit of its flow, its look, and a line per problem."""

    id: str
    frames: int = 0
    fields: int = 0
    fit: Fit = field(default_factory=Fit)
    look: Tensor | None = None
    problems: list[str] = field(default_factory=list)


def check_video(store: Store, video_id: str) -> VideoFindings:
    """Decode all pictures of a video, count them, and compare some of its flow with the frames."""
    video, found = store.video(video_id), VideoFindings(video_id)
    times, look = _sample_times(video.frames), look_times(video.frames)
    try:
        frames = _StoredPictures(store, video, RGB, {t + k for t in times for k in (0, 1)} | set(look))
        fields = _StoredPictures(store, video, FLOW, {t + k for t in times for k in (-1, 0, 1)})
    except DataError as error:
        found.problems.append(f"video {quote_id(video_id)}: {error}")
        return found
    found.frames, found.fields = frames.readable, fields.readable
    problems = [*frames.problems(), *fields.problems()]
    if not problems and frames.checksum + fields.checksum != _stored_checksum(store, video):
        problems.append("its pictures are not the ones that prepare wrote (checksum)")
    if frames.kept.keys() >= set(look):
        found.look = look_at(frames.stack(look))
    times = [
        t for t in times if {t, t + 1} <= frames.kept.keys() and {t - 1, t, t + 1} <= fields.kept.keys()
    ]  # fmt: skip
    if times:
        how = store.header.preparation
        first, second = (to_grey(frames.stack([t + k for t in times]).permute(0, 2, 3, 1)) for k in (0, 1))
        levels = torch.stack([fields.stack([t + k for t in times]) for k in (-1, 0, 1)], dim=1)
        found.fit = measure_fit(first, second, dequantise(levels, how.bound), how.camera_motion == "subtract")
        if _is_constant(levels) and (found.fit.mistake or not found.fit.judged) and _differ(first, second):
            found.fit = Fit()
            u, v = levels[0, 1, :, 0, 0].tolist()
            problems.append(f"flow is constant (level {u} for u, {v} for v) although the frames change")
    found.problems = [f"video {quote_id(video_id)}: {words}" for words in problems]
    return found


class _StoredPictures:
    """The stored pictures of one kind of a video. Those at the times `keep` stay in memory if they are readable."""

    def __init__(self, store: Store, video: StoredVideo, kind: int, keep: set[int]) -> None:
        self.kind, self.size = kind, (video.height, video.width)
        self.expected = video.frames - (kind == FLOW)
        self.times: list[int] = []
        self.damaged: list[int] = []
        self.wrong_size: list[tuple[int, tuple[int, int]]] = []
        self.kept: dict[int, Tensor] = {}
        self.readable = self.checksum = 0
        for t, jpeg in _read_rows(store, video, kind):
            self.times.append(t)
            self.checksum += picture_checksum(kind, t, jpeg)
            try:
                [picture] = decode_frames([jpeg]) if kind == RGB else decode_fields([jpeg])
            except (RuntimeError, ValueError):
                self.damaged.append(t)
                continue
            if tuple(picture.shape[-2:]) != self.size:
                self.wrong_size.append((t, (picture.shape[-2], picture.shape[-1])))
                continue
            self.readable += 1
            if t in keep:
                self.kept[t] = picture

    def stack(self, times: Sequence[int]) -> Tensor:
        """Return the kept pictures at `times`: (N, channels, H, W) uint8."""
        return torch.stack([self.kept[t] for t in times])

    def problems(self) -> Iterator[str]:
        """Yield a line each for pictures that are missing, extra, damaged, or of another size."""
        name = KIND_NAMES[self.kind]
        stored, expected = set(self.times), set(range(self.expected))
        if missing := sorted(expected - stored):
            yield f"lacks {len(missing)} of {self.expected} {name}s, the first: {missing[0]}"
        if extra := sorted(stored - expected):
            yield f"has {len(extra)} {name}s beyond its {self.expected}, the first: {extra[0]}"
        if self.damaged:
            yield f"{count_of(len(self.damaged), name)} can't be read as JPEG, the first: {self.damaged[0]}"
        if self.wrong_size:
            (t, (height, width)), (right_height, right_width) = self.wrong_size[0], self.size
            yield (
                f"{count_of(len(self.wrong_size), f'{name} is', f'{name}s are')} not {right_width} x {right_height}, "
                f"the first: {t} ({width} x {height})"
            )


def _read_rows(store: Store, video: StoredVideo, kind: int) -> Iterator[tuple[int, bytes]]:
    """Yield (t, JPEG) of every stored picture of a kind, in order; one block of them is in memory at a time."""
    first, last = picture_key(video.number, kind, 0), picture_key(video.number, kind, 2**32 - 1)
    while True:
        block = store.query(
            video.shard,
            "SELECT key, jpeg FROM pictures WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
            [first, last, _BLOCK],
        )
        for key, jpeg in block:
            yield key - picture_key(video.number, kind, 0), jpeg
        if len(block) < _BLOCK:
            return
        first = block[-1][0] + 1


def _stored_checksum(store: Store, video: StoredVideo) -> int:
    """Return the checksum of a video's pictures that was recorded when they were written."""
    [(recorded,)] = store.query(video.shard, "SELECT checksum FROM videos WHERE number = ?", [video.number])
    return int(recorded)


def _sample_times(frames: int) -> list[int]:
    """Return times of flow fields, spread over a video, that have fields before and after them."""
    last = frames - 3
    return sorted({round(t) for t in torch.linspace(1, last, _FIELDS).tolist()}) if last >= 1 else []


def _is_constant(levels: Tensor) -> bool:
    """True if u and v of fields (..., 2, H, W) are constant in space and time."""
    components = levels.movedim(-3, 0).flatten(1)
    return bool((components.amin(dim=1) == components.amax(dim=1)).all())


def _differ(first: Tensor, second: Tensor) -> bool:
    """True if most pairs of grey frames (N, H, W) differ by more than noise."""
    fractions = ((first - second).abs() > _DIFFERENT_LEVELS).flatten(1).float().mean(dim=1)
    return bool((fractions > _DIFFERENT_FRACTION).float().mean() > 0.5)

"""Write frames and flow of a prepared set back to files.

A folder gets its final name once all the video's pictures are in it, and an MP4 once it is complete.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stmn.datasets.base import without_suffix
from stmn.errors import StmnError, UsageError
from stmn.flow.colour import colour_scale, paint_flow
from stmn.flow.quantise import dequantise_for_display
from stmn.runtime.files import digest
from stmn.runtime.names import MOST_BYTES, cut_bytes, portable
from stmn.runtime.progress import Progress
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import RGB
from stmn.video.write import write_video

#: "jpeg": the layout of the paper's authors, "tsn": that of TSN, "mp4": a video of the frames, "colour": flow as PNGs
Form = Literal["jpeg", "tsn", "mp4", "colour"]

#: paths of a video in each form
_PLACES: dict[Form, tuple[str, ...]] = {
    "jpeg": ("jpegs_256/{}", "tvl1_flow/u/{}", "tvl1_flow/v/{}"),
    "tsn": ("{}",),
    "mp4": ("{}.mp4",),
    "colour": ("{}",),
}

#: pictures in memory at a time
_BLOCK = 64
#: flow fields per video from which its colour scale is measured
_SCALE_FIELDS = 32


@dataclass(frozen=True)
class Extraction:
    """A video and the paths it is written to: folders or, as an MP4, one file."""

    video: StoredVideo
    paths: tuple[Path, ...]

    @property
    def done(self) -> bool:
        """True if all paths exist."""
        return all(map(os.path.lexists, self.paths))


def plan_extractions(
    store: Store, videos: Iterable[StoredVideo], out: Path, form: Form, by_class: bool = False
) -> list[Extraction]:
    """Decide where each video goes in the folder `out`.

    A name is the video's file name without its suffix. The folders above it are included only if two videos of the set
    have the same file name. `by_class` adds a folder per class.
    """
    names = _unique_names(store)

    def place(video: StoredVideo) -> str:
        return f"{_flatten(video.class_name)}/{names[video.id]}" if by_class else names[video.id]

    return [Extraction(video, tuple(out / path.format(place(video)) for path in _PLACES[form])) for video in videos]


def file_name(video_id: str) -> str:
    """Return a video's id as a file name without a suffix; it never leads out of its folder."""
    return _flatten(without_suffix(video_id))


def extract_videos(
    store: Store,
    extractions: Sequence[Extraction],
    form: Form,
    progress: Progress,
    overwrite: bool = False,
    full_colour: float | None = None,
) -> int:
    """Write videos to files.

    Args:
        store: The prepared set.
        extractions: The videos to write, from `plan_extractions`.
        form: As given there.
        progress: Where each video is reported.
        overwrite: Replace existing files.
        full_colour: Speed, in pixels per frame, that is shown in full colour; by default each video's own scale.

    Returns:
        The number of frames in these videos.

    Raises:
        UsageError: Something exists and `overwrite` is false; nothing has been written.
        DataError: The store lacks a picture.
        StmnError: A file can't be written.
    """
    existing = [path for extraction in extractions for path in extraction.paths if os.path.lexists(path)]
    if existing and not overwrite:
        raise UsageError(
            f"{existing[0]}: already exists ({len(existing)} in all); use --force to overwrite, --missing to keep"
        )
    frames = 0
    with progress.task("extracting", len(extractions), "videos") as task:
        for extraction in extractions:
            video, paths = extraction.video, extraction.paths
            if form == "mp4":
                _write_mp4(store, video, paths[0])
            else:
                with _new_folders(paths) as folders:
                    if form == "colour":
                        _write_colours(store, video, folders[0], full_colour)
                    elif form == "tsn":
                        templates = ("img_{:05d}.jpg", "flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg")
                        _write_jpegs(store, video, folders * 3, templates)
                    else:
                        _write_jpegs(store, video, folders, ("frame{:06d}.jpg",) * 3)
            frames += video.frames
            task.advance(frames=frames)
    return frames


def _unique_names(store: Store) -> dict[str, str]:
    """Return video id -> a file name that is unique in the set."""
    names = {i: i.rpartition("/")[2] for i in store.videos}
    if max(Counter(map(without_suffix, names.values())).values(), default=0) > 1:
        names = {i: i for i in store.videos}
    made = {i: file_name(name) for i, name in names.items()}
    counts = Counter(name.casefold() for name in made.values())  # some file systems ignore case
    return {i: name if counts[name.casefold()] == 1 else _number(name, i) for i, name in made.items()}


def _flatten(name: str) -> str:
    """Return a name that stays in its folder, is not hidden, and is short enough and allowed everywhere."""
    flat = portable(name)
    return flat if len(os.fsencode(flat)) <= MOST_BYTES else _number(flat, name)


def _number(name: str, whole: str) -> str:
    """Return a unique name: the beginning of `name`, and a hash of `whole`."""
    return f"{cut_bytes(name, MOST_BYTES - 9)}-{digest(whole)[:8]}"


@contextmanager
def _new_folders(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield an empty folder per path; it gets the path's name when the block succeeds, else it is removed."""
    try:
        with ExitStack() as stack:
            folders = []
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                private = stack.enter_context(TemporaryDirectory(prefix=".stmn-", dir=path.parent))
                folders.append(Path(private, "folder"))  # with the user's permissions, unlike the folder around it
                folders[-1].mkdir()
            yield folders
            for folder, path in zip(folders, paths, strict=True):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
                folder.rename(path)
    except OSError as error:
        raise StmnError(f"{error.filename or paths[0]}: can't be written: {error.strerror or error}") from error


def _write_jpegs(store: Store, video: StoredVideo, folders: Sequence[Path], templates: Sequence[str]) -> None:
    """Write the stored frames byte for byte, and u and v as separate pictures, encoded at the set's quality.

    `folders` and `templates` are those of frames, u and v; pictures are numbered from 1.
    """
    quality = store.header.preparation.quality
    for times in _blocks(video.frames):
        for t, jpeg in zip(times, store.jpegs(video.id, RGB, times), strict=True):
            (folders[0] / templates[0].format(t + 1)).write_bytes(jpeg)
    for times in _blocks(video.frames - 1):
        for t, field in zip(times, store.fields(video.id, times), strict=True):
            for folder, template, levels in zip(folders[1:], templates[1:], field, strict=True):
                Image.fromarray(levels.numpy()).save(folder / template.format(t + 1), "JPEG", quality=quality)


def _write_mp4(store: Store, video: StoredVideo, path: Path) -> None:
    """Write the frames as H.264 at the source's frame rate, or 25 per second if that is unknown."""

    def frames() -> Iterator[NDArray[np.uint8]]:
        for times in _blocks(video.frames):
            for frame in store.frames(video.id, times).permute(0, 2, 3, 1).numpy():
                yield _pad_to_even(frame)

    write_video(path, frames(), Fraction(video.fps or 25).limit_denominator(1001))


def _pad_to_even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pad a frame (H, W, 3) to an even size, as H.264 needs, by repeating the last row or column."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _write_colours(store: Store, video: StoredVideo, folder: Path, full_colour: float | None) -> None:
    """Write the flow fields as PNGs in the Middlebury colours, on one scale for the whole video."""
    bound = store.header.preparation.bound
    if full_colour is None and video.frames > 1:
        some = sorted({round(t) for t in torch.linspace(0, video.frames - 2, _SCALE_FIELDS).tolist()})
        full_colour = colour_scale(dequantise_for_display(store.fields(video.id, some), bound))
    for times in _blocks(video.frames - 1):
        pictures = paint_flow(dequantise_for_display(store.fields(video.id, times), bound), full_colour)
        for t, picture in zip(times, pictures, strict=True):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"flow{t + 1:06d}.png")


def _blocks(count: int) -> Iterator[range]:
    """Yield 0..count-1 in ranges that fit in memory."""
    for start in range(0, count, _BLOCK):
        yield range(start, min(start + _BLOCK, count))

"""Out of the packed set again: frames and flow as files.

A video's folder gets its final name when all its pictures are in it; an MP4 when it is whole.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stmn.datasets.base import VIDEO_ENDINGS
from stmn.errors import StmnError, UsageError
from stmn.flow.colour import full_speed, painted
from stmn.flow.quantise import dequantise
from stmn.runtime.files import digest
from stmn.runtime.progress import Progress
from stmn.store.format.reader import Store, StoredVideo
from stmn.store.format.writer import RGB
from stmn.video.write import write_video

#: the authors' files (`jpegs_256/VIDEO/frame000001.jpg`, `tvl1_flow/{u,v}/VIDEO/...`), those of TSN
#: (`VIDEO/img_00001.jpg`, `VIDEO/flow_x_00001.jpg`, ...), a video of the frames, pictures of the flow in colours
Form = Literal["jpeg", "tsn", "mp4", "colour"]

#: pictures in memory at once
BLOCK = 64
#: fields that tell how fast a video's flow gets
SCALE_FIELDS = 32


@dataclass(frozen=True)
class Target:
    """A video and what is made of it: the folders (or, of an MP4, the file) that appear."""

    video: StoredVideo
    paths: tuple[Path, ...]


def targets(store: Store, videos: Iterable[StoredVideo], out: Path, form: Form, by_class: bool = False) -> list[Target]:
    """What extracting `videos` would make in the folder `out`.

    Names are the files' names without ending, with the folders before them only where two of the set's are the same;
    `by_class` puts a folder for each class above them.
    """
    names = unique_names(store)

    def place(video: StoredVideo) -> str:
        return f"{safe(video.class_name)}/{names[video.id]}" if by_class else names[video.id]

    roots = {
        "jpeg": ("jpegs_256/{}", "tvl1_flow/u/{}", "tvl1_flow/v/{}"),
        "tsn": ("{}",),
        "mp4": ("{}.mp4",),
        "colour": ("{}",),
    }[form]
    return [Target(video, tuple(out / root.format(place(video)) for root in roots)) for video in videos]


def unique_names(store: Store) -> dict[str, str]:
    """Video id -> a name for files; no two of the set's videos have the same."""
    names = {i: without_ending(i.rpartition("/")[2]) for i in store.videos}
    if max(Counter(names.values()).values(), default=0) > 1:
        names = {i: without_ending(i) for i in store.videos}
    counts = Counter(map(safe, names.values()))
    return {i: safe(name) if counts[safe(name)] == 1 else f"{safe(name)}-{digest(i)[:8]}" for i, name in names.items()}


def without_ending(name: str) -> str:
    """A name without a video's ending."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in VIDEO_ENDINGS else name


def safe(name: str) -> str:
    """A name that stays in its folder."""
    flat = name.strip("/").replace("/", "_").replace("\0", "_")
    return f"_{flat}" if flat.startswith(".") or not flat else flat


def extract(
    store: Store, wanted: list[Target], form: Form, progress: Progress, replace: bool = False, full: float | None = None
) -> int:
    """Make every target; returns how many frames their videos have.

    `full`: the speed (pixels) that colours show in full strength; by default each video's own.
    Raises `UsageError`, before anything is written, when a target is there and `replace` is not given.
    """
    there = [path for target in wanted for path in target.paths if present(path)]
    if there and not replace:
        raise UsageError(
            f"{there[0]}: is there already ({len(there)} in all); --force replaces them, --missing leaves them"
        )
    frames = 0
    with progress.task("extracting", len(wanted), "videos") as task:
        for target in wanted:
            if form == "mp4":
                write_mp4(store, target.video, target.paths[0])
            else:
                with new_folders(target.paths) as folders:
                    if form == "colour":
                        write_colour(store, target.video, folders[0], full)
                    else:
                        write_jpegs(store, target.video, *jpeg_names(form, folders))
            frames += target.video.frames
            task.advance(frames=frames)
    return frames


def present(path: Path) -> bool:
    """True when something has this name."""
    return path.exists() or path.is_symlink()


@contextmanager
def new_folders(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give an empty folder for each path; on success they get the paths' names, on any error they vanish.

    Raises `StmnError` in one line when they can't be written.
    """
    made: list[Path] = []
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(Path(tempfile.mkdtemp(prefix=".stmn-", dir=path.parent)))
        yield made
        umask = os.umask(0)
        os.umask(umask)
        for temporary, path in zip(made, paths, strict=True):
            temporary.chmod(0o777 & ~umask)  # mkdtemp makes private folders; these are the user's
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif present(path):
                path.unlink()
            temporary.rename(path)
    except OSError as error:
        raise StmnError(f"{error.filename or paths[0]}: can't be written: {error.strerror or error}") from error
    finally:
        for temporary in made:
            shutil.rmtree(temporary, ignore_errors=True)


def jpeg_names(form: Form, folders: Sequence[Path]) -> tuple[str, str, str]:
    """Patterns of the files of frames, u and v; pictures are numbered from 1."""
    if form == "tsn":
        folder = literal(folders[0])
        return f"{folder}/img_%05d.jpg", f"{folder}/flow_x_%05d.jpg", f"{folder}/flow_y_%05d.jpg"
    frames, u, v = (f"{literal(folder)}/frame%06d.jpg" for folder in folders)
    return frames, u, v


def literal(folder: Path) -> str:
    """A folder's name in a pattern."""
    return str(folder).replace("%", "%%")


def write_jpegs(store: Store, video: StoredVideo, frame: str, u: str, v: str) -> None:
    """The stored frames as they are; u and v, which share a stored picture, each encoded anew at the set's quality."""
    quality = store.header.preparation.quality
    for times in blocks(video.frames):
        for t, blob in zip(times, store.blobs(video.id, RGB, times), strict=True):
            Path(frame % (t + 1)).write_bytes(blob)
    for times in blocks(video.frames - 1):
        for t, planes in zip(times, store.fields(video.id, times), strict=True):
            for name, plane in zip((u, v), planes, strict=True):
                Image.fromarray(plane.numpy()).save(name % (t + 1), "JPEG", quality=quality)


def write_mp4(store: Store, video: StoredVideo, path: Path) -> None:
    """The frames as H.264 at the source's rate (25 a second where it is unknown)."""

    def frames() -> Iterator[NDArray[np.uint8]]:
        for times in blocks(video.frames):
            for frame in store.frames(video.id, times).permute(0, 2, 3, 1).numpy():
                yield even(frame)

    write_video(path, frames(), Fraction(video.fps or 25).limit_denominator(1001))


def even(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 3) of even size, which H.264 wants: the last row or column comes twice where it has to."""
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def write_colour(store: Store, video: StoredVideo, folder: Path, full: float | None) -> None:
    """The flow fields as PNG pictures in the Middlebury colours, on one scale for the video."""
    bound = store.header.preparation.bound
    if full is None and video.frames > 1:
        some = sorted({round(t) for t in torch.linspace(0, video.frames - 2, SCALE_FIELDS).tolist()})
        full = full_speed(dequantise(store.fields(video.id, some), bound))
    for times in blocks(video.frames - 1):
        pictures = painted(dequantise(store.fields(video.id, times), bound), full)
        for t, picture in zip(times, pictures, strict=True):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"flow{t + 1:06d}.png")


def blocks(count: int) -> Iterator[range]:
    """0..count-1 in ranges that fit in memory."""
    for start in range(0, count, BLOCK):
        yield range(start, min(start + BLOCK, count))

"""How programs lay out extracted frames and flow in folders, and what of it is there.

Two layouts are known by their names, both also with a folder per class above the videos:

- two-stream (Feichtenhofer et al.): `jpegs_256/VIDEO/frame000001.jpg`, `tvl1_flow/{u,v}/VIDEO/frame000001.jpg`;
- TSN (Wang et al.; denseflow): `VIDEO/img_00001.jpg`, `VIDEO/flow_x_00001.jpg`, `VIDEO/flow_y_00001.jpg`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stmn.datasets.base import first_folder
from stmn.errors import DataError


@dataclass(frozen=True)
class Layout:
    """Where the pictures of a video lie: a root folder and the beginning of the names, for frames, u and v."""

    name: str
    roots: tuple[Path, Path, Path]
    prefixes: tuple[str, str, str]


def find_layout(root: Path) -> Layout:
    """The layout of the pictures in a folder. Raises `DataError` when it is none that is known."""
    flow = root / "tvl1_flow"
    frames = next((root / name for name in ("jpegs_256", "jpegs") if (root / name).is_dir()), None)
    if frames and flow.is_dir():
        return Layout("two-stream", (frames, flow / "u", flow / "v"), ("frame", "frame", "frame"))
    if frames:
        raise DataError(f"{flow}: missing beside {frames.name}; it holds u/VIDEO and v/VIDEO")
    here = first_folder(root, "rawframes")
    for place in video_folders(here):
        if any(entry.name.startswith(("img_", "flow_x_")) for entry in os.scandir(here / place)):
            return Layout("TSN", (here, here, here), ("img_", "flow_x_", "flow_y_"))
    raise DataError(
        f"{root}: no frames and flow that are known: neither jpegs_256/VIDEO/frame000001.jpg with "
        "tvl1_flow/u/VIDEO/frame000001.jpg nor VIDEO/img_00001.jpg with flow_x_00001.jpg"
    )


def video_folders(root: Path) -> list[str]:
    """The videos in a folder, as `VIDEO` or `CLASS/VIDEO`, sorted: a folder that holds folders is a class."""
    found = []
    for folder in subfolders(root):
        inner = [f"{folder}/{name}" for name in subfolders(root / folder)]
        found += inner or [folder]
    return found


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones; none when it is not there."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())


def numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Number -> picture, of the files `PREFIXnumber.jpg` of a folder."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.jpe?g", re.IGNORECASE)
    return {int(match[1]): folder / match[0] for name in file_names(folder) if (match := pattern.fullmatch(name))}


def file_names(folder: Path) -> Iterator[str]:
    """The names of a folder's entries; none when it is not there."""
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from [entry.name for entry in entries]


def check_numbers(where: Path, what: str, files: dict[int, Path]) -> None:
    """Raise `DataError` when numbers don't run from 0 or 1 without a gap."""
    if not files:
        return
    first, last = min(files), max(files)
    if first > 1:
        raise DataError(f"{where}: the first {what} has number {first}, not 0 or 1")
    gaps = [number for number in range(first, last + 1) if number not in files]
    if gaps:
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise DataError(f"{where}: {what} {gaps[0]}{more} of {first} to {last} is missing")


def in_order(files: dict[int, Path]) -> list[Path]:
    """The files by number."""
    return [files[number] for number in sorted(files)]


def jpeg_short_side(path: Path) -> int | None:
    """The short side of a JPEG file in pixels; None when it can't be read."""
    import av
    from av.error import FFmpegError

    try:
        # by its content: FFmpeg would read a pattern in a name like 50%d
        with open(path, "rb") as file, av.open(file, format="jpeg_pipe") as picture:
            codec = picture.streams.video[0].codec_context
            return min(codec.width, codec.height) or None
    except (FFmpegError, OSError, ValueError):
        return None

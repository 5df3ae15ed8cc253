"""How extraction programs arrange frames and flow in folders. Two layouts are recognised by their file names.

- two-stream (Feichtenhofer et al.): `jpegs_256/VIDEO/frame000001.jpg`, `tvl1_flow/{u,v}/VIDEO/frame000001.jpg`;
- TSN (Wang et al.; denseflow): `VIDEO/img_00001.jpg`, `VIDEO/flow_x_00001.jpg`, `VIDEO/flow_y_00001.jpg`.

In both, the videos may be in a folder per class.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from stmn.datasets.base import first_folder
from stmn.errors import DataError
from stmn.video.pictures import open_picture


@dataclass(frozen=True)
class JpegLayout:
    """Where the files of frames, u and v are: a root folder and a file name prefix for each."""

    name: str
    roots: tuple[Path, Path, Path]
    prefixes: tuple[str, str, str]


def find_layout(root: Path) -> JpegLayout:
    """Recognise the layout of a folder. Raises `DataError` if it has neither of them."""
    flow = root / "tvl1_flow"
    frames = next((root / name for name in ("jpegs_256", "jpegs") if (root / name).is_dir()), None)
    if frames and flow.is_dir():
        return JpegLayout("two-stream", (frames, flow / "u", flow / "v"), ("frame", "frame", "frame"))
    if frames:
        raise DataError(f"{flow}: missing beside {frames.name}; it should hold u/VIDEO and v/VIDEO")
    base = first_folder(root, "rawframes")
    for folder in list_video_folders(base):
        if any(name.startswith(("img_", "flow_x_")) for name in os.listdir(base / folder)):
            return JpegLayout("TSN", (base, base, base), ("img_", "flow_x_", "flow_y_"))
    raise DataError(
        f"{root}: no known layout of frames and flow: neither jpegs_256/VIDEO/frame000001.jpg with "
        "tvl1_flow/u/VIDEO/frame000001.jpg nor VIDEO/img_00001.jpg with flow_x_00001.jpg"
    )


def list_video_folders(root: Path) -> list[str]:
    """List the videos in a folder as `VIDEO` or `CLASS/VIDEO`, sorted: a folder that holds folders is a class."""
    found = []
    for folder in _list_folders(root):
        inner = [f"{folder}/{name}" for name in _list_folders(root / folder)]
        found += inner or [folder]
    return found


def find_numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Return number -> path of the files `PREFIXnumber.jpg` in a folder; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.jpe?g", re.IGNORECASE)
    return {int(match[1]): folder / match[0] for name in os.listdir(folder) if (match := pattern.fullmatch(name))}


def check_numbers(folder: Path, kind: str, files: dict[int, Path]) -> None:
    """Raise `DataError` unless files are numbered from 0 or 1 without a gap; an empty list is allowed."""
    if not files:
        return
    first, last = min(files), max(files)
    if first > 1:
        raise DataError(f"{folder}: the first {kind} has number {first}, not 0 or 1")
    gaps = [number for number in range(first, last + 1) if number not in files]
    if gaps:
        more = f" and {len(gaps) - 1} more" if len(gaps) > 1 else ""
        raise DataError(f"{folder}: {kind} {gaps[0]}{more} of {first} to {last} is missing")


def jpeg_short_side(path: Path) -> int | None:
    """Return the short side of a JPEG file in pixels; None if it can't be read."""
    try:
        with open_picture(path) as picture:
            return min(picture.size)
    except OSError:
        return None


def _list_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, except hidden ones; none if it doesn't exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())

"""Find the videos under a folder, and account for every other file."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stmn.datasets.base import LeftOut, VideoEntry, as_id
from stmn.errors import DataError, count_of
from stmn.runtime.bounded import BoundedCall
from stmn.video.content import holds_video
from stmn.video.pictures import PICTURE_SUFFIXES, list_pictures
from stmn.video.source import VIDEO_SUFFIXES

#: files that file managers, archivers and file servers leave in folders; they are ignored and not counted
_LITTER = frozenset({
    "thumbs.db", "desktop.ini", "@eadir", "__macosx", "$recycle.bin", "#recycle", "#snapshot", "lost+found",
    "system volume information", "icon\r",
})  # fmt: skip
#: suffixes of files that are certainly not videos, so that FFmpeg need not read thousands of them
_OTHERS = """
.txt .md .rst .csv .tsv .json .jsonl .xml .yaml .yml .toml .html .htm .log .pdf .doc .docx .xls .xlsx .ods .ini .cfg
.url .srt .vtt .ass .ssa .sub .idx .lrc .nfo .py .sh .m .ipynb .mat .npy .npz .pkl .pickle .pt .pth .h5 .hdf5 .parquet
.lmdb .mdb .db .sqlite .zip .tar .gz .tgz .7z .rar .xz .bz2 .zst .jpg .jpeg .png .bmp .tif .tiff .ppm .pgm .svg .heic
.mp3 .wav .flac .aac .m4a .opus .wma .torrent .part .crdownload .download .tmp .md5 .sha1 .sha256 .lnk
"""
_OTHER_SUFFIXES = frozenset(_OTHERS.split())
_NO_VIDEO = "(no video)"
#: time limit of FFmpeg for a file with an unknown suffix, in seconds
_LOOK_SECONDS = 10.0
#: largest number of kinds of files named in a line
_MOST_KINDS = 6


@dataclass
class Scan:
    """The contents of a folder, without hidden files and litter. Paths are sorted.

    Attributes:
        root: The folder.
        files: The video files, readable or not: `prepare` reports the result for each.
        folders: The folders.
        left_out: All other files, broken links, and folders that can't be read.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def by_stem(self) -> dict[str, Path]:
        """Return name without suffix -> the first video file of that name."""
        return {path.stem: path for path in reversed(self.files)}

    def under(self, folder: Path) -> "Scan":
        """Return the part of the scan that lies under one of the folders."""
        files, folders = ([path for path in paths if folder in path.parents] for paths in (self.files, self.folders))
        return Scan(folder, files, folders, [item for item in self.left_out if folder in item.path.parents])


def is_litter(name: str) -> bool:
    """True for the name of a hidden file or folder, or of one that programs leave behind."""
    return name.startswith(".") or name.lower() in _LITTER


def scan_folder(root: Path, sequences_below: int = 2) -> Scan:
    """Scan everything under a folder. Links to folders are followed, but not in circles.

    A file is a video if it has a video's suffix, or if FFmpeg finds a video in it. A folder of numbered pictures
    without a video beside them is also a video.

    Args:
        root: The folder.
        sequences_below: Fewest levels below the root at which such folders count: 2 if the first level is classes.

    Raises:
        DataError: The folder itself can't be read.
    """
    found = Scan(root)
    with BoundedCall(holds_video, _LOOK_SECONDS) as look:
        _scan(root, found, (), sequences_below, look)
    found.files.sort()
    return found


def _scan(
    folder: Path, found: Scan, above: tuple[tuple[int, int], ...], sequences_below: int, look: BoundedCall[bool]
) -> None:
    """Add the contents of a folder to `found`; `above` are device and inode of the folders that contain it."""
    try:
        here = folder.stat()
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        if not above:
            raise DataError(f"{as_id(folder)}: can't be read: {error.strerror or error}") from error
        found.left_out.append(LeftOut(folder, "folder that can't be read"))
        return
    if (here.st_dev, here.st_ino) in above:
        found.left_out.append(LeftOut(folder, "link to a folder that holds it"))
        return
    if above:
        found.folders.append(folder)
    before, pictures = len(found.files), []
    for entry in entries:
        path = folder / entry.name
        if is_litter(entry.name):
            continue
        if entry.is_dir():
            _scan(path, found, (*above, (here.st_dev, here.st_ino)), sequences_below, look)
        elif not entry.is_file():
            found.left_out.append(LeftOut(path, "broken link" if entry.is_symlink() else "no file (a pipe, a device)"))
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            pictures.append(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            found.files.append(path)
        elif path.suffix.lower() in _OTHER_SUFFIXES:
            found.left_out.append(_no_video(path))
        elif seen := look(path):
            found.files.append(path)
        else:
            found.left_out.append(
                _no_video(path) if seen is False else LeftOut(path, "on which FFmpeg hangs or crashes")
            )
    if len(above) >= sequences_below and len(found.files) == before and list_pictures(folder):
        found.files.append(folder)
    else:
        found.left_out += map(_no_video, pictures)


def _no_video(path: Path) -> LeftOut:
    """Return a file to be counted by its suffix."""
    return LeftOut(path, f"{path.suffix.lower() or 'without an ending'} {_NO_VIDEO}")


class ClassFolders:
    """The videos of a folder that has a folder per class. The class is the top folder, however deep a video lies.

    Args:
        scan: The contents of the folder.
        ignore: Names of folders in it that are not classes, such as those of lists.

    Attributes:
        videos: Sorted by path; their ids are paths relative to the folder.
        left_out: Everything else. Files beside the class folders that are not videos are not counted.
        empty: Class folders without a video.
    """

    def __init__(self, scan: Scan, ignore: Collection[str] = ()) -> None:
        self.videos: list[VideoEntry] = []
        self.left_out: list[LeftOut] = []
        for path in scan.files:
            parts = path.relative_to(scan.root).parts
            if len(parts) == 1:
                self.left_out.append(LeftOut(path, "in no class folder"))
            elif parts[0] not in ignore:
                self.videos.append(VideoEntry(as_id("/".join(parts)), path, as_id(parts[0])))
        for item in scan.left_out:
            parts = item.path.relative_to(scan.root).parts
            if parts[0] not in ignore and not (len(parts) == 1 and item.reason.endswith(_NO_VIDEO)):
                self.left_out.append(item)
        classes = {video.class_name for video in self.videos} | set(ignore)
        self._tops = [path for path in scan.folders if path.parent == scan.root]
        self.empty = [name for path in self._tops if (name := as_id(path.name)) not in classes]

    def check(self, root: Path) -> None:
        """Raise `DataError` if there are no videos in class folders."""
        if not self.videos:
            loose = sum(item.reason == "in no class folder" for item in self.left_out)
            beside = f"; {loose} {'lies' if loose == 1 else 'lie'} in no folder" if loose else ""
            if any(list_pictures(path) for path in self._tops):
                beside = "; its folders hold numbered pictures: list them in a CSV file with the columns path, class"
            raise DataError(f"{root}: no videos in folders named after classes (CLASS/VIDEO.mp4){beside}")

    def notes(self) -> Iterator[str]:
        """Say which class nested videos have, and which folders are not classes."""
        nested = [video for video in self.videos if video.id.count("/") > 1]
        if nested:
            yield (
                f"deeper than CLASS/VIDEO: {len(nested):,} of {count_of(len(self.videos), 'video')}, such as "
                f"'{nested[0].id}'; the class is the top folder"
            )
        if sequences := [video for video in self.videos if video.path.is_dir()]:
            count = count_of(len(sequences), "video is a folder", "videos are folders")
            yield f"{count} of numbered pictures, such as '{sequences[0].id}'"
        if self.empty:
            some = ", ".join(self.empty[:_MOST_KINDS]) + (", ..." if len(self.empty) > _MOST_KINDS else "")
            yield f"folders without a video are not classes: {len(self.empty)} ({some})"


def describe_left_out(left_out: Iterable[LeftOut]) -> str:
    """Count what was left out in one line, such as "12 files left out: 9 .txt (no video), 3 in no class folder"."""
    counts = Counter(item.reason for item in left_out).most_common()
    if not counts:
        return ""
    named = [f"{count:,} {reason}" for reason, count in counts[:_MOST_KINDS]]
    if others := sum(count for _, count in counts[_MOST_KINDS:]):
        named.append(f"{others} others")
    return f"{count_of(sum(count for _, count in counts), 'file')} left out: {', '.join(named)}"

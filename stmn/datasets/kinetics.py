"""`kinetics`: the lists of Kinetics-400/600/700 and what was downloaded of their clips.

Lists: CSV files with the columns label, youtube_id, time_start, time_end, split. Clips: `ID_000001_000011.mp4` (times
in seconds, six digits), in one folder or in folders of it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from stmn.datasets.base import VIDEO_SUFFIXES, Dataset, Splits, VideoEntry, as_id, no_file
from stmn.datasets.table import Mistakes, Row, columns_of, read_table
from stmn.errors import DataError

#: what the lists call their parts -> what we do
PARTS = {
    "train": "train", "val": "validate", "validate": "validate", "validation": "validate", "test": "test",
    "holdout": "test",
}  # fmt: skip


class Kinetics(Dataset):
    """Every row of the lists is a video, whether or not its clip is there: `prepare` says which are not.

    `root` is a CSV file, or a folder whose CSV files (there or in `annotations/`) are taken together; `lists` names
    others, relative to that folder. `clips` is the folder of the clips (else `videos/` or the folder itself); folders
    in it don't matter, but where a clip is there twice, the one in the folder of its label is taken. Rows without a
    label (Kinetics' test list) are listed as skipped.

    The one split, "1", has the train rows for training. For testing it has the test rows with a label, or, where
    there are none, as in the field, the validation rows; in the first case validation rows are in neither part.
    """

    def __init__(self, root: Path, lists: str | Sequence[str] = (), clips: str = "") -> None:
        self.root = root
        folder = root.parent if root.suffix.lower() == ".csv" else root
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        named = [item.strip() for item in lists.split(",")] if isinstance(lists, str) else lists
        self.lists = [folder / name for name in named if name]
        if not self.lists:
            self.lists = [root] if root.suffix.lower() == ".csv" else find_lists(folder)
        self.clips = folder / clips if clips else folder / "videos" if (folder / "videos").is_dir() else folder
        if not self.clips.is_dir():
            raise DataError(f"{self.clips}: no such folder of clips; name it with clips=FOLDER")
        self.rows = [(row, part) for path in self.lists for row, part in read_list(path)]
        self.check_twice()

    def check_twice(self) -> None:
        """Raise `DataError` when two rows are one clip of one label."""
        seen: set[str] = set()
        for row, _ in self.rows:
            video_id = id_of(row)
            if video_id in seen:
                raise DataError(f"{self.root}: {video_id} is listed twice (line {row.line} of one list)")
            seen.add(video_id)

    def videos(self) -> list[VideoEntry]:
        """One video a row, the lists one after the other; the group is the YouTube video that a clip was cut from."""
        there = find_clips(self.clips)
        entries = []
        for row, _ in self.rows:
            name, label = clip_name(row), row["label"]
            found = there.get(name, [self.clips / f"{name}.mp4"])
            best = next((path for path in found if path.parent.name in (label, label.replace(" ", "_"))), found[0])
            entries.append(VideoEntry(id_of(row), best, as_id(label), as_id(row["youtube_id"])))
        return entries

    def splits(self) -> Splits:
        """The split "1"."""
        parts: dict[str, list[str]] = {"train": [], "validate": [], "test": []}
        for row, part in self.rows:
            if row["label"]:
                parts[part].append(id_of(row))
        return {"1": {"train": parts["train"], "test": parts["test"] or parts["validate"]}}

    def lacks(self, video: VideoEntry) -> str:
        """Says when the list has no label, or the clip is not there."""
        return no_file(video.path) if video.class_name else f"{video.id}: the list has no label for it"


def find_lists(folder: Path) -> list[Path]:
    """The folder's CSV files that are lists of Kinetics."""
    found = [
        path
        for pattern in ("*.csv", "annotations/*.csv")
        for path in sorted(folder.glob(pattern))
        if "youtube_id" in columns_of(path)
    ]
    if not found:
        raise DataError(f"{folder}: no CSV with the columns label, youtube_id, time_start, time_end, split")
    return found


def read_list(path: Path) -> list[tuple[Row, str]]:
    """The rows of a list, and the part that each is of: by its `split`, or by the file's name where it has none.

    Raises `DataError` naming the line that is wrong.
    """
    table = read_table(path)
    table.require(("youtube_id", "time_start", "time_end"), ("label", "split"))
    wrong, rows = Mistakes(path), []
    for row in table.rows:
        part = PARTS.get((row["split"] or path.stem.split("_")[-1]).lower(), "")
        if not row["youtube_id"]:
            wrong.add(row.line, "no youtube_id")
        elif not all(is_time(row[name]) for name in ("time_start", "time_end")):
            wrong.add(row.line, f"times '{row['time_start']}' and '{row['time_end']}' are no seconds")
        elif not part:
            wrong.add(row.line, f"split '{row['split']}' is none of {', '.join(PARTS)}")
        else:
            rows.append((row, part))
    wrong.check()
    return rows


def is_time(text: str) -> bool:
    """True for seconds, whole or not."""
    try:
        return 0 <= float(text) < 1e6
    except ValueError:
        return False


def clip_name(row: Row) -> str:
    """The clip's file without ending: `ID_000001_000011`."""
    return f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"


def id_of(row: Row) -> str:
    """`LABEL/ID_000001_000011`."""
    return as_id(f"{row['label']}/{clip_name(row)}" if row["label"] else clip_name(row))


def find_clips(folder: Path) -> dict[str, list[Path]]:
    """Name without ending -> the video files of that name, anywhere under a folder."""
    found: dict[str, list[Path]] = {}
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            stem, ending = os.path.splitext(name)
            if ending.lower() in VIDEO_SUFFIXES:
                found.setdefault(stem, []).append(Path(here, name))
    return found

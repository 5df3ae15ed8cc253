"""`kinetics`: the lists of Kinetics-400, 600 and 700, and the downloaded clips.

Lists: CSV files with the columns label, youtube_id, time_start, time_end, split. Clips: `ID_000001_000011.mp4` (times
in seconds, six digits), in one folder or in subfolders.
"""

from collections.abc import Sequence
from pathlib import Path

from stmn.datasets.base import Dataset, Splits, VideoEntry, as_id, first_folder, missing_file
from stmn.datasets.scan import scan_folder
from stmn.datasets.table import TableErrors, TableRow, read_columns, read_table
from stmn.errors import DataError

#: name of a part in lists -> its name here
_PARTS = {
    "train": "train", "val": "validation", "validate": "validation", "validation": "validation", "test": "test",
    "holdout": "test",
}  # fmt: skip


class Kinetics(Dataset):
    """Every row of the lists is a video, whether or not its clip exists: `prepare` reports those that are missing.

    The only split, "1", trains on the train rows. It tests on the test rows that have a label; then validation rows are
    in neither part. If there are none, as in the published lists, it tests on the validation rows.

    Args:
        root: A CSV file, or a folder; all CSV files in the folder and in its `annotations/` are used.
        lists: CSV files to use instead, relative to that folder, separated by commas.
        clips: The folder of clips; by default `videos/` in that folder, or the folder itself. Its subfolders don't
            matter, but if a clip exists twice, the one in the folder of its label is used.

    Raises:
        DataError: A folder is missing, a list is wrong, or a clip is listed twice with one label.
    """

    def __init__(self, root: Path, lists: str | Sequence[str] = (), clips: str = "") -> None:
        self.root = root
        folder = root.parent if root.suffix.lower() == ".csv" else root
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        named = [item.strip() for item in lists.split(",")] if isinstance(lists, str) else lists
        paths = [folder / name for name in named if name]
        if not paths:
            paths = [root] if root.suffix.lower() == ".csv" else _find_lists(folder)
        self._clips = folder / clips if clips else first_folder(folder, "videos")
        if not self._clips.is_dir():
            raise DataError(f"{self._clips}: no such folder of clips; name it with clips=FOLDER")
        self._rows = [(row, part) for path in paths for row, part in _read_list(path)]
        seen: set[str] = set()
        for row, _ in self._rows:
            video_id = _id_of(row)
            if video_id in seen:
                raise DataError(f"{self.root}: {video_id} is listed twice (line {row.line} of one list)")
            seen.add(video_id)

    def videos(self) -> list[VideoEntry]:
        """List one video per row, list after list; the group is the YouTube video that a clip was cut from."""
        clips = _find_clips(self._clips)
        entries = []
        for row, _ in self._rows:
            name, label = _clip_name(row), row["label"]
            found = clips.get(name, [self._clips / f"{name}.mp4"])
            best = next((path for path in found if path.parent.name in (label, label.replace(" ", "_"))), found[0])
            entries.append(VideoEntry(_id_of(row), best, as_id(label), as_id(row["youtube_id"])))
        return entries

    def splits(self) -> Splits:
        """Return the only split, "1"."""
        parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        for row, part in self._rows:
            if row["label"]:
                parts[part].append(_id_of(row))
        return {"1": {"train": parts["train"], "test": parts["test"] or parts["validation"]}}

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable: its row has no label, as in Kinetics' test list, or it has no clip."""
        return missing_file(video.path) if video.class_name else f"{video.id}: the list has no label for it"


def _find_lists(folder: Path) -> list[Path]:
    """Return the folder's CSV files that are lists of Kinetics."""
    found = [
        path
        for pattern in ("*.csv", "annotations/*.csv")
        for path in sorted(folder.glob(pattern))
        if "youtube_id" in read_columns(path)
    ]
    if not found:
        raise DataError(f"{folder}: no CSV with the columns label, youtube_id, time_start, time_end, split")
    return found


def _read_list(path: Path) -> list[tuple[TableRow, str]]:
    """Return the rows of a list, each with its part: from the column `split`, else from the file's name."""
    table = read_table(path)
    table.require(("youtube_id", "time_start", "time_end"), ("label", "split"))
    errors, rows = TableErrors(path), []
    for row in table.rows:
        part = _PARTS.get((row["split"] or path.stem.split("_")[-1]).lower(), "")
        if not row["youtube_id"]:
            errors.add(row.line, "no youtube_id")
        elif not all(_is_time(row[name]) for name in ("time_start", "time_end")):
            errors.add(row.line, f"times '{row['time_start']}' and '{row['time_end']}' are not seconds")
        elif not part:
            errors.add(row.line, f"split is '{row['split']}'; it must be one of {', '.join(_PARTS)}")
        else:
            rows.append((row, part))
    errors.check()
    return rows


def _is_time(text: str) -> bool:
    """True for a time in seconds."""
    try:
        return 0 <= float(text) < 1e6
    except ValueError:
        return False


def _clip_name(row: TableRow) -> str:
    """Return the clip's file name without suffix: `ID_000001_000011`."""
    return f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"


def _id_of(row: TableRow) -> str:
    """Return the id: `LABEL/ID_000001_000011`, or `ID_000001_000011` without a label."""
    return as_id(f"{row['label']}/{_clip_name(row)}" if row["label"] else _clip_name(row))


def _find_clips(folder: Path) -> dict[str, list[Path]]:
    """Return name without suffix -> the video files of that name, anywhere under a folder."""
    found: dict[str, list[Path]] = {}
    for path in scan_folder(folder).files:
        found.setdefault(path.stem, []).append(path)
    return found

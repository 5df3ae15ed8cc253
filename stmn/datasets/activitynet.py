"""`activitynet`: annotations in the JSON format of ActivityNet, also used by THUMOS and others.

    {"database": {"ID": {"subset": "training", "annotations": [{"segment": [2.5, 7.1], "label": "Surfing"}]}}}

Videos: `ID.mp4` or `v_ID.mp4`, with any suffix, anywhere under the folder of the JSON file.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from stmn.datasets.base import PARTS, Dataset, Splits, VideoEntry, as_id, first_folder, missing_file, split_of
from stmn.datasets.list_text import read_list
from stmn.datasets.scan import scan_folder
from stmn.errors import DataError, count_of
from stmn.runtime.json_files import parse_json


class ActivityNet(Dataset):
    """Every annotated segment is a video, whether or not its file exists; its group is the file.

    The only split, "1", trains on the subset `training`. It tests on `testing` or, if that has no annotations (as
    published), on `validation`.

    Args:
        root: The JSON file.
        videos: The folder of videos; by default `videos/` beside the file, or the file's folder.

    Raises:
        DataError: The file can't be read, or an annotation is wrong; or there is no such folder.
    """

    def __init__(self, root: Path, videos: str = "") -> None:
        self.root = root
        self._folder = root.parent / videos if videos else first_folder(root.parent, "videos")
        if not self._folder.is_dir():
            raise DataError(f"{self._folder}: no such folder of videos")
        self._database = _read_database(root)
        self._unlabelled = sum(not video.get("annotations") for video in self._database.values())

    def videos(self) -> list[VideoEntry]:
        """List one video per annotation, in the order of the file."""
        return [video for video, _ in self._entries]

    def splits(self) -> Splits:
        """Return the only split, "1"."""
        parts: dict[str, list[str]] = {}
        for video, part in self._entries:
            parts.setdefault(part, []).append(video.id)
        return {"1": split_of(parts)}

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Report how many files have no annotation."""
        if self._unlabelled:
            yield f"{self._unlabelled:,} of {count_of(len(self._database), 'file')} left out: no annotation"

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable: it has no file."""
        return missing_file(video.path)

    @cached_property
    def _entries(self) -> list[tuple[VideoEntry, str]]:
        """Each annotation once, with its part."""
        files = scan_folder(self._folder).by_stem()
        found: dict[str, tuple[VideoEntry, str]] = {}
        for name, video in self._database.items():
            path = files.get(name) or files.get(f"v_{name}") or self._folder / f"{name}.mp4"
            part = PARTS.get(str(video.get("subset", "")).lower(), "")
            for annotation in video.get("annotations") or ():
                start, end, label = _read_annotation(self.root, name, annotation)
                entry = VideoEntry("", path, as_id(label), as_id(name), start, end)
                video_id = as_id(f"{label}/{name}#{entry.segment}")
                if not part:
                    raise DataError(
                        f"{self.root}: '{name}': subset is '{video.get('subset')}'; it must be training, validation or "
                        "testing"
                    )
                found[video_id] = (VideoEntry(video_id, path, as_id(label), as_id(name), start, end), part)
        if not found:
            raise DataError(f"{self.root}: has no annotations")
        return list(found.values())


def _read_database(path: Path) -> dict[str, dict[str, Any]]:
    """Read video -> its entry in the file. Raises `DataError`."""
    try:
        content = parse_json(read_list(path))
    except ValueError as error:
        raise DataError(f"{path}: can't be used: {error}") from error
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not all(isinstance(video, dict) for video in database.values()):
        raise DataError(f'{path}: not in the format of ActivityNet: {{"database": {{"ID": {{"annotations": [...]}}}}}}')
    return database


def _read_annotation(path: Path, name: str, annotation: Any) -> tuple[float, float, str]:
    """Return start and end, in seconds, and class of an annotation. Raises `DataError`."""
    try:
        start, end = map(float, annotation["segment"])
        label = annotation["label"]
        if not isinstance(label, str) or not label.strip() or not 0 <= start < end:
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: '{name}': annotation {json.dumps(annotation)}: needs segment [start, end] and label"
        ) from error
    return start, end, label.strip()

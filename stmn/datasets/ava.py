"""`ava`: lists in the format of AVA: actions of persons at moments of a film.

    VIDEO_ID,0902,0.077,0.151,0.283,0.811,80,1

A row is a person at a time stamp (seconds), in a box (x1, y1, x2, y2), with one of their actions. A `.pbtxt` beside the
list names the classes. Videos: `VIDEO_ID.mp4`, with any suffix, anywhere under the folder of the list.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from stmn.datasets.base import PARTS, Dataset, Splits, VideoEntry, as_id, first_folder, hashed_split, missing_file
from stmn.datasets.list_text import read_list
from stmn.datasets.scan import scan_folder
from stmn.datasets.table import TableErrors, read_table
from stmn.errors import DataError, count_of

#: an entry of a class list, as published for AVA and the ActivityNet challenge
_ITEM = re.compile(r"(?:item|label)\s*\{(.*?)\n?\s*\}", re.DOTALL)
_NAME, _NUMBER = re.compile(r'\bname\s*:\s*"((?:[^"\\]|\\.)*)"'), re.compile(r"\b(?:label_)?id\s*:\s*(\d+)")
#: a part of a split in the name of a list: `ava_train_v2.2.csv`
_PART = re.compile(rf"(?<![a-z])({'|'.join(PARTS)})(?![a-z])", re.IGNORECASE)
#: seconds on each side of a time stamp, as shown to AVA's annotators
_SECONDS = 1.5
_CHOICES = ("leave_out", "each")


@dataclass
class _Moment:
    """A time stamp of a video, and the actions of its persons."""

    video: str
    seconds: float
    part: str
    actions: dict[str, None] = field(default_factory=dict)  # in the order of the list


class Ava(Dataset):
    """Segments of a second and a half on each side of a time stamp; the group is the film.

    Here a video has one class, but most moments of AVA have several actions. These moments are left out, and counted.
    With `several=each`, each of their actions is a video, so the same pictures are in several classes. Boxes are not
    used: a segment shows the whole frame.

    The only split, "1", trains on a list with `train` in its name and tests on the list beside it with `val` or `test`
    instead. With a single list, films are divided.

    Args:
        root: The CSV file.
        classes: The class list, a `.pbtxt` file, relative to the list's folder; by default the one beside the list.
            Without one, classes are named by their numbers.
        videos: The folder of videos; by default `videos/` beside the list, or the list's folder.
        several: What to do with moments with several actions: `leave_out` or `each`.
        seconds: Length of the segment on each side of a time stamp.
        offset: The time stamp at which the files begin: 900 if they contain only the 15 minutes that AVA annotates.
        test_share: With a single list, about this fraction of the segments, in whole films, is for testing.

    Raises:
        DataError: A file can't be read or a row is wrong; or there is no such folder.
        ValueError: `several` is neither, or a number is out of range.
    """

    renames = frozenset({"test_share"})

    def __init__(
        self, root: Path, classes: str = "", videos: str = "", several: str = "leave_out", seconds: float = _SECONDS,
        offset: float = 0.0, test_share: float = 0.3,
    ) -> None:  # fmt: skip
        self.root = root
        if several not in _CHOICES:
            raise ValueError(f"several is '{several}'; it must be {' or '.join(_CHOICES)}")
        if not 0 < float(seconds) < 1e6 or not 0 <= float(offset) < 1e6:
            raise ValueError("seconds must be above 0, and offset 0 or more")
        self.several, self.test_share = several, float(test_share)
        self._seconds, self._offset = float(seconds), float(offset)
        self._folder = root.parent / videos if videos else first_folder(root.parent, "videos")
        if not self._folder.is_dir():
            raise DataError(f"{self._folder}: no such folder of videos")
        self._names = _read_classes(root.parent / classes) if classes else _find_classes(root.parent)
        self._lists = _find_lists(root)
        self._moments = [moment for path, part in self._lists for moment in self._read(path, part)]
        self._taken = [m for m in self._moments if len(m.actions) == 1 or (m.actions and several == "each")]
        if not self._taken:
            how = "; --dataset-options several=each takes each action" if self._ambiguous else ""
            raise DataError(f"{root}: no moment has a single action{how}")

    def videos(self) -> list[VideoEntry]:
        """List one video per moment and action, in the order of the lists."""
        return [video for video, _ in self._entries]

    def splits(self) -> Splits:
        """Return the only split, "1"."""
        if len(self._lists) == 1:
            return hashed_split(self.videos(), self.test_share)
        train, test = ([video.id for video, part in self._entries if part == name] for name in ("train", "test"))
        return {"1": {"train": train, "test": test}}

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say how segments are cut, and what was done with moments with several actions, or none."""
        yield (
            f"segments: {self._seconds:g} s on each side of a time stamp, the whole frame; boxes of persons don't count"
        )
        total = count_of(len(self._moments), "moment")
        if self._ambiguous and self.several == "each":
            yield f"{self._ambiguous:,} of {total} have several actions: each is a video, of the same pictures"
        elif self._ambiguous:
            yield f"{self._ambiguous:,} of {total} left out: several actions; --dataset-options several=each takes each"
        if none := sum(not moment.actions for moment in self._moments):
            yield f"{none:,} of {total} left out: no action"
        if not self._names and all(name.isdecimal() for moment in self._taken for name in moment.actions):
            yield "no .pbtxt beside the list: classes are called by their numbers"
        if len(self._lists) > 1:
            yield f"split 1: trains on {self._lists[0][0].name}, tests on {self._lists[1][0].name}"

    def lacks(self, video: VideoEntry) -> str:
        """Return why a video is unavailable: it has no file."""
        return missing_file(video.path)

    @property
    def _ambiguous(self) -> int:
        """Number of moments with several actions."""
        return sum(len(moment.actions) > 1 for moment in self._moments)

    @cached_property
    def _entries(self) -> list[tuple[VideoEntry, str]]:
        """The video of each moment and action, with its part."""
        files = scan_folder(self._folder).by_stem()
        found: dict[str, tuple[VideoEntry, str]] = {}
        for moment in self._taken:
            path = files.get(moment.video, self._folder / f"{moment.video}.mp4")
            middle = moment.seconds - self._offset
            start, end = max(middle - self._seconds, 0.0), middle + self._seconds
            for name in moment.actions:
                entry = VideoEntry("", path, as_id(name), as_id(moment.video), start, end)
                video_id = as_id(f"{name}/{moment.video}#{entry.segment}")
                found[video_id] = (
                    VideoEntry(video_id, path, as_id(name), as_id(moment.video), start, end),
                    moment.part,
                )
        return list(found.values())

    def _read(self, path: Path, part: str) -> list[_Moment]:
        """Read the moments of a list. Raises `DataError`, which names the first wrong line."""
        table, errors = read_table(path), TableErrors(path)
        table.require(("video_id", "middle_time", "action_id"))
        moments: dict[tuple[str, float], _Moment] = {}
        for row in table.rows:
            video, action = row["video_id"], row["action_id"]
            try:
                seconds = float(row["middle_time"])
                if not self._offset <= seconds < 1e6:
                    raise ValueError
            except ValueError:
                errors.add(row.line, f"time stamp '{row['middle_time']}' must be seconds, {self._offset:g} or more")
                continue
            if not video:
                errors.add(row.line, "no video_id")
            name = self._names.get(int(action)) if self._names and action.isdecimal() else action
            if name is None:
                errors.add(row.line, f"action {action} is not in the class list")
            moment = moments.setdefault((video, seconds), _Moment(video, seconds, part))
            if name:
                moment.actions[name] = None
        errors.check()
        return list(moments.values())


def _find_lists(root: Path) -> list[tuple[Path, str]]:
    """Return the list and its part, together with the list of the other part beside it, if there is one."""
    match = _PART.search(root.stem)
    if match is None:
        return [(root, "train")]
    parts = sorted(PARTS, key=lambda name: PARTS[name] != "validation")  # AVA's test list has no actions
    others = [name for name in parts if PARTS[name] != "train"] if PARTS[match[1].lower()] == "train" else ["train"]
    for name in others:
        other = root.with_name(f"{root.stem[: match.start()]}{name}{root.stem[match.end() :]}{root.suffix}")
        if other.is_file():
            return [(root, "train"), (other, "test")] if others != ["train"] else [(other, "train"), (root, "test")]
    return [(root, "train")]


def _find_classes(folder: Path) -> dict[int, str]:
    """Read the class lists in a folder, by number; empty if there is none. Raises `DataError` if they disagree."""
    found: dict[int, str] = {}
    for path in sorted(folder.glob("*.pbtxt")):
        for number, name in _read_classes(path).items():
            if found.setdefault(number, name) != name:
                raise DataError(
                    f"{path}: calls class {number} '{name}', and another list '{found[number]}'; name one with "
                    "--dataset-options classes=FILE"
                )
    return found


def _read_classes(path: Path) -> dict[int, str]:
    """Read the names of a class list by number. Raises `DataError`."""
    found = {}
    for item in _ITEM.findall(read_list(path)):
        name, number = _NAME.search(item), _NUMBER.search(item)
        if not name or not number:
            raise DataError(f"{path}: an entry has no name or no id: {' '.join(item.split())}")
        found[int(number[1])] = re.sub(r"\\(.)", r"\1", name[1])
    if not found:
        raise DataError(f'{path}: no class list: it has no entry such as item {{ name: "walk" id: 14 }}')
    return found

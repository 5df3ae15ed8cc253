"""Match names in lists to videos: they often differ from those on disk in case, suffix, slashes or top folders."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from stmn.datasets.base import Splits, without_suffix
from stmn.errors import count_of

#: the drive letter before a path on Windows
_DRIVE = re.compile(r"^[A-Za-z]:")


class NameMatcher:
    """Matches names in a list to existing ids. A name that fits several ids is not matched.

    Args:
        ids: The ids of all videos.

    Attributes:
        corrected: Name in the list -> the id that it was matched to, where they differ.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = set(ids)
        self._by_key: dict[str, set[str]] = {}
        for video_id in self._ids:
            for name in (video_id, "*/" + video_id.rpartition("/")[2]):  # a list may leave out the folder
                for key in (_key(name), _key(without_suffix(name))):
                    self._by_key.setdefault(key, set()).add(video_id)
        self.corrected: dict[str, str] = {}

    def find(self, name: str) -> str:
        """Return the id of a name: the same, or the only one that fits; else the name itself.

        Case, suffix, the direction of slashes and folders above `CLASS/VIDEO` are ignored.
        """
        if name in self._ids:
            return name
        parts = _plain_parts(name)
        tails = ["/".join(parts[start:]) for start in range(len(parts) - 1)] or [f"*/{parts[0]}"] if parts else []
        for tail in tails:
            for key in (_key(tail), _key(without_suffix(tail))):
                found = self._by_key.get(key, set())
                if len(found) == 1:
                    [self.corrected[name]] = found
                    return self.corrected[name]
        return name

    def correct(self, splits: Splits) -> Splits:
        """Return splits with their names replaced by the matching ids."""
        return {
            split: {part: list(map(self.find, names)) for part, names in parts.items()}
            for split, parts in splits.items()
        }


def describe_corrections(corrected: dict[str, str]) -> str:
    """Return a line with the number of names of a list that were matched to others, and the first."""
    if not corrected:
        return ""
    name, found = next(iter(corrected.items()))
    names = count_of(len(corrected), "name of the list is", "names of the list are")
    return f"{names} spelled differently on disk, such as '{name}', which is '{found}'"


class FileMatcher:
    """Matches paths in a list to files. A path that fits several files is not matched.

    Args:
        folder: The folder of the list.

    Attributes:
        corrected: Path in the list -> the file that it was matched to, relative to the folder, where they differ.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[Path, dict[str, list[str]]] = {}
        self.corrected: dict[str, str] = {}

    def find(self, name: str) -> Path:
        r"""Return the file that a path in the list matches; if there is none, the path in the folder.

        Slashes may be backslashes, case may differ, the suffix may be missing, and the top folders may be those of
        another machine: `C:\data\clips\a.mp4` matches `clips/a.mp4` in the folder.
        """
        path = self._folder / name
        if path.exists():
            return path
        parts = _plain_parts(name)
        foreign = name[:1] in "/\\" or _DRIVE.match(name)  # its top folders may be those of another machine
        for start in range(len(parts)):
            if start and not foreign and start == len(parts) - 1:
                break  # the file name alone may be that of another video
            if parts[start] != ".." and (found := self._descend(parts[start:])):
                self.corrected[name] = found.relative_to(self._folder).as_posix()
                return found
        return path

    def _descend(self, parts: list[str]) -> Path | None:
        """Return the file that path components lead to, if exactly one name fits in each folder."""
        path = self._folder
        for number, part in enumerate(parts):
            names = self._names_in(path)
            fitting = names.get(_key(part), [])
            if part in fitting:
                fitting = [part]
            if number == len(parts) - 1 and not fitting:  # the suffix is missing or different
                stem = _key(without_suffix(part))
                fitting = [name for same in names.values() for name in same if _key(without_suffix(name)) == stem]
            if len(fitting) != 1:
                return None
            path = path / fitting[0]
        return path if path.exists() else None

    def _names_in(self, folder: Path) -> dict[str, list[str]]:
        """Return the names in a folder by key; none if it can't be read."""
        if folder not in self._names:
            found: dict[str, list[str]] = {}
            try:
                for name in os.listdir(folder):
                    found.setdefault(_key(name), []).append(name)
            except OSError:
                found = {}
            self._names[folder] = found
        return self._names[folder]


def _plain_parts(name: str) -> list[str]:
    """Return the components of a path of any system, without quotes, drive, root and dots."""
    plain = _DRIVE.sub("", name.strip("'\"").replace("\\", "/"))
    return [part for part in PurePosixPath(posixpath.normpath(plain)).parts if part not in ("/", "//", ".")]


def _key(name: str) -> str:
    """Return a key for comparing names: it ignores case and the encoding of accents."""
    return unicodedata.normalize("NFC", name).casefold()

"""`jpegs`: frames and flow that other programs have extracted as JPEG files. Nothing is computed again.

The layouts are those of `jpeg_layouts`. The programs of both clip flow to +-bound pixels and store
round(255 (f + bound) / (2 bound)), as this package does.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from stmn.datasets import hmdb51, ucf101
from stmn.datasets.base import (
    Dataset,
    JpegFiles,
    Splits,
    VideoEntry,
    as_id,
    first_folder,
    hashed_split,
    without_suffix,
)
from stmn.datasets.csv_list import CsvList
from stmn.datasets.groups import GroupNames
from stmn.datasets.jpeg_layouts import (
    check_numbers,
    find_layout,
    find_numbered,
    jpeg_short_side,
    list_video_folders,
)
from stmn.datasets.matching import NameMatcher, describe_corrections
from stmn.errors import DataError, UsageError, count_of

#: videos that are read to find the size of the frames
_SAMPLE = 32


class Jpegs(Dataset):
    """Videos as folders of frames and flow.

    Classes and splits come from `lists` or `csv`. A video that is in neither has the class of its folder, or else the
    one in its name, if the name is `v_CLASS_gNN_cMM`.

    The options `--bound` and `--flow` of `stmn prepare` state how the flow was made; new videos are treated the same
    way. The short side is that of the frames.

    Args:
        root: The folder of frames and flow.
        lists: A folder of lists of UCF101 or HMDB51, relative to the root; by default it is searched under the root.
        csv: A file that the data set `csv` can read, relative to the root; its paths name the videos, with or without a
            suffix.
        groups: Meaning of the `gNN` of a name `v_CLASS_gNN_cMM`, as for the data set `ucf101`; a `csv` has its own.
        test_share: Without lists, about this fraction of the videos is for testing.

    Raises:
        DataError: The layout of the root is not known, or the lists can't be read.
        UsageError: Both `lists` and `csv` are given.
        ValueError: `groups` is neither `per_class` nor `shared`.
    """

    renames = frozenset({"groups", "test_share"})
    has_pictures = True

    def __init__(
        self, root: Path, lists: str = "", csv: str = "", test_share: float = 0.3, groups: str | None = None
    ) -> None:
        super().__init__(root)
        self._groups = GroupNames(scope=groups)
        self.test_share = float(test_share)
        self._layout = find_layout(root)
        if lists and csv:
            raise UsageError("jpegs: lists and csv both give classes and splits; use one of them")
        self._csv = CsvList(root / csv) if csv else None
        self._lists = None if csv else _find_lists(root, lists)
        self._matcher = NameMatcher(())
        self._places = {
            place for folder in dict.fromkeys(self._layout.roots) for place in list_video_folders(folder)
        }  # fmt: skip

    def videos(self) -> list[VideoEntry]:
        """List a video per folder of frames or flow, and per row of `csv`, whether or not its folder exists.

        Raises:
            DataError: There are no videos, the class of one is unknown, or two folders are of the same video.
        """
        listed = self._listed_videos()
        entries: dict[str, VideoEntry] = {}
        unknown: list[str] = []
        for place in sorted(self._places):
            name = place.split("/")[-1]
            path = self._layout.roots[0] / place
            known = listed.pop(name, None)
            class_name = known.class_name if known else place.split("/")[0] if "/" in place else _class_in(name)
            if not class_name:
                unknown.append(place)
                continue
            video_id = known.id if known else as_id(f"{class_name}/{name}")
            if video_id in entries:
                raise DataError(
                    f"{path}: a second folder of the video {video_id!r}; the other one is {entries[video_id].path}"
                )
            entries[video_id] = VideoEntry(video_id, path, as_id(class_name), known.group if known else "")
        if unknown:
            raise DataError(
                f"{self.root}: no class for {count_of(len(unknown), 'video')}, the first: {unknown[0]!r}; put "
                "them in folders "
                "named after classes, or give --dataset-options lists=FOLDER or csv=FILE"
            )
        if self._csv:
            for video in listed.values():
                path = self._layout.roots[0] / _folder_name(video.id)
                entries[video.id] = VideoEntry(video.id, path, video.class_name, video.group)
        if not entries:
            raise DataError(f"{self.root}: no folders of pictures")
        found = sorted(entries.values(), key=lambda video: video.id)
        return found if self._csv else self._groups.name(found)

    def notes(self, videos: Sequence[VideoEntry]) -> Iterator[str]:
        """Say which names in the lists differ from those on disk, and whether `gNN` is one group in all classes."""
        if self._csv:
            yield from self._csv.notes(videos)
        else:
            yield from filter(None, [describe_corrections(self._matcher.corrected), self._groups.describe(videos)])

    def splits(self) -> Splits:
        """Return the splits of the lists, else one made here."""
        if self._csv:
            return self._csv.splits()
        if self._lists is None:
            return hashed_split(self.videos(), self.test_share)
        read_splits = hmdb51.read_splits if any(self._lists.glob("*_test_split*.txt")) else ucf101.read_splits
        self._matcher = NameMatcher(video.id for video in self.videos())
        return self._matcher.correct(read_splits(self._lists))

    def sources(self, video: VideoEntry) -> list[Path]:
        """Return the folders of the video's pictures. They do not show if a file was overwritten in place."""
        return list(dict.fromkeys(self._folders(video)))

    def pictures(self, video: VideoEntry) -> JpegFiles:
        """Return the files of a video: n frames and n - 1 flow fields.

        TSN's first tool stores each field together with the frame that it leads to, so there are n fields; the first
        one starts before the first stored frame and is left out.

        Raises:
            DataError: Files are missing or wrongly numbered.
        """
        frames, u, v = (
            find_numbered(folder, prefix)
            for folder, prefix in zip(self._folders(video), self._layout.prefixes, strict=True)
        )
        where = video.path
        if not frames:
            raise DataError(f"{where}: no frames {self._layout.prefixes[0]}NNNNN.jpg")
        for name, files in (("u", u), ("v", v)):
            if not files and len(frames) > 1:
                raise DataError(
                    f"{where}: {count_of(len(frames), 'frame')}, but no flow {name}; --dataset folder computes it"
                )
        for name, files in (("frame", frames), ("flow u", u), ("flow v", v)):
            check_numbers(where, name, files)
        if len(u) != len(v):
            raise DataError(f"{where}: {len(u)} fields of flow u, but {len(v)} of flow v")
        paired_with_targets = self._layout.name == "TSN" and len(u) == len(frames) and 1 in frames
        if len(u) != len(frames) - 1 and not paired_with_targets:
            raise DataError(f"{where}: {len(frames)} frames need {len(frames) - 1} flow fields, not {len(u)}")
        if u and min(u) != min(frames):
            raise DataError(f"{where}: frames start at number {min(frames)}, but flow at {min(u)}")
        ordered = [[files[number] for number in sorted(files)] for files in (frames, u, v)]
        first = 1 if paired_with_targets else 0
        return JpegFiles(ordered[0], ordered[1][first:], ordered[2][first:])

    def short_side(self) -> int:
        """Return the most common short side of frames in the first videos. Raises `DataError` if none can be read."""
        sides: Counter[int] = Counter()
        for video in self.videos()[:_SAMPLE]:
            files = find_numbered(self._folders(video)[0], self._layout.prefixes[0])
            side = jpeg_short_side(files[min(files)]) if files else None
            if side:
                sides[side] += 1
        if not sides:
            raise DataError(f"{self.root}: no readable frame in its first videos")
        return sides.most_common(1)[0][0]

    def _listed_videos(self) -> dict[str, VideoEntry]:
        """Return name of a video's folder -> the video in the lists."""
        if self._csv:
            return {_folder_name(video.id): video for video in self._csv.videos()}
        if self._lists is None:
            return {}
        entries = {}
        for name, class_name in hmdb51.read_classes(self._lists).items():
            group = hmdb51.group_of(name, class_name)
            entries[_folder_name(name)] = VideoEntry(f"{class_name}/{name}", Path(), class_name, group)
        if not entries:
            ids = {i for parts in ucf101.read_splits(self._lists).values() for part in parts.values() for i in part}
            for video_id in ids:
                entries[_folder_name(video_id)] = VideoEntry(video_id, Path(), video_id.split("/")[0])
        return entries

    def _folders(self, video: VideoEntry) -> tuple[Path, Path, Path]:
        """Return the folders of frames, u and v; some of them may be in class folders and others not."""
        place = video.path.relative_to(self._layout.roots[0]).as_posix()
        name = place.split("/")[-1]
        found = []
        for root in self._layout.roots:
            choices = (place, f"{video.class_name}/{name}", name)
            found.append(next((root / choice for choice in choices if (root / choice).is_dir()), root / place))
        return found[0], found[1], found[2]


def _find_lists(root: Path, given: str) -> Path | None:
    """Return the folder of lists, as given or under the root; None if there is none."""
    if given:
        if not (root / given).is_dir():
            raise DataError(f"{root / given}: no such folder of lists")
        return root / given
    folder = first_folder(root, "ucfTrainTestlist", "testTrainMulti_7030_splits", "splits")
    return folder if folder != root else None


def _class_in(name: str) -> str:
    """Return the class in a name like UCF101's, `v_CLASS_gNN_cMM`; "" for other names."""
    match = re.fullmatch(r"v_(.+)_g\d+_c\d+", name)
    return match[1] if match else ""


def _folder_name(video_id: str) -> str:
    """Return the name of a video's folder: the last part of its id, without suffix."""
    return without_suffix(video_id.split("/")[-1])

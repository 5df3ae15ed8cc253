"""`jpegs`: frames and flow that other programs have extracted as JPEG files; nothing is computed anew.

The layouts are those of `jpeg_layouts`. Both clip flow to +-bound pixels and store round(255 (f + bound) / (2 bound)),
as this program does.
"""

import re
from collections import Counter
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
from stmn.datasets.jpeg_layouts import check_numbers, find_layout, in_order, jpeg_short_side, numbered, video_folders
from stmn.errors import DataError, UsageError

#: how many videos are looked at to find the pictures' size
SAMPLE = 32


class Jpegs(Dataset):
    """Videos as folders of frames and flow.

    Classes and splits come from `lists` (a folder of UCF101's or HMDB51's lists; by default looked for beside the
    pictures) or `csv` (a file as the data set `csv` reads it; its paths name the videos with or without ending); a
    video that is in neither has the class of its folder, or of its name where that is `v_CLASS_gNN_cMM`. Without
    lists, about `test_share` of the videos are for testing.

    `stmn prepare` is told what the files were made with: `--bound` (20), `--flow` (tvl1: what new videos are treated
    with). The short side is the pictures' own.
    """

    has_pictures = True

    def __init__(self, root: Path, lists: str = "", csv: str = "", test_share: float = 0.3) -> None:
        super().__init__(root)
        self.test_share = float(test_share)
        self.layout = find_layout(root)
        if lists and csv:
            raise UsageError("jpegs: lists and csv both say classes and splits; give one of them")
        self.csv = CsvList(root / csv) if csv else None
        self.lists = None if csv else find_lists(root, lists)
        self.places = [video_folders(folder) for folder in dict.fromkeys(self.layout.roots)]

    def videos(self) -> list[VideoEntry]:
        """A video for each folder of frames or flow, and for each row of `csv`, whether or not its folder is there.

        Raises `DataError` when the class of a video is not known.
        """
        listed = self.listed()
        entries: dict[str, VideoEntry] = {}
        unknown: list[str] = []
        for place in sorted({place for places in self.places for place in places}):
            name = place.split("/")[-1]
            path = self.layout.roots[0] / place
            known = listed.pop(name, None)
            class_name = known.class_name if known else place.split("/")[0] if "/" in place else class_in(name)
            if not class_name:
                unknown.append(place)
                continue
            video_id = known.id if known else as_id(f"{class_name}/{name}")
            if video_id in entries:
                raise DataError(
                    f"{path}: a second folder of the video {video_id!r}; the other: {entries[video_id].path}"
                )
            group = known.group if known else ucf101.group_of(name)
            entries[video_id] = VideoEntry(video_id, path, as_id(class_name), group)
        if unknown:
            raise DataError(
                f"{self.root}: no class for {len(unknown)} videos, the first: {unknown[0]!r}; put them in folders "
                "named after classes, or give --dataset-options lists=FOLDER or csv=FILE"
            )
        if self.csv:
            for video in listed.values():
                entries[video.id] = VideoEntry(
                    video.id, self.layout.roots[0] / name_in(video.id), video.class_name, video.group
                )
        if not entries:
            raise DataError(f"{self.root}: no folders of pictures")
        return sorted(entries.values(), key=lambda video: video.id)

    def listed(self) -> dict[str, VideoEntry]:
        """Name of a video's folder -> what the lists say of it."""
        if self.csv:
            return {name_in(video.id): video for video in self.csv.videos()}
        if self.lists is None:
            return {}
        entries = {}
        for name, class_name in hmdb51.listed_classes(self.lists).items():
            video_id = f"{class_name}/{name}"
            entries[name_in(name)] = VideoEntry(video_id, Path(), class_name, hmdb51.group_of(name, class_name))
        if not entries:
            ids = {i for parts in ucf101.read_splits(self.lists).values() for part in parts.values() for i in part}
            for video_id in ids:
                class_name = video_id.split("/")[0]
                entries[name_in(video_id)] = VideoEntry(video_id, Path(), class_name, ucf101.group_of(video_id))
        return entries

    def splits(self) -> Splits:
        """The splits of the lists, else one that is made here."""
        if self.csv:
            return self.csv.splits()
        if self.lists is None:
            return hashed_split(self.videos(), self.test_share)
        reader = hmdb51 if any(self.lists.glob("*_test_split*.txt")) else ucf101
        return reader.read_splits(self.lists)

    def sources(self, video: VideoEntry) -> list[Path]:
        """The folders of the video's pictures; a picture that is overwritten in its place does not show in them."""
        return list(dict.fromkeys(self.folders(video)))

    def folders(self, video: VideoEntry) -> tuple[Path, Path, Path]:
        """The folders of frames, u and v, which may stand under class folders in one and not in the other."""
        place = video.path.relative_to(self.layout.roots[0]).as_posix()
        name = place.split("/")[-1]
        found = []
        for root in self.layout.roots:
            choices = (place, f"{video.class_name}/{name}", name)
            found.append(next((root / choice for choice in choices if (root / choice).is_dir()), root / place))
        return found[0], found[1], found[2]

    def pictures(self, video: VideoEntry) -> JpegFiles:
        """The files in order. n frames have n - 1 flow fields.

        TSN's first tool stores with each field the frame that it leads to, so n of each: its first field begins before
        the first stored frame and is left out. Raises `DataError` when anything is missing or numbered otherwise.
        """
        frames, u, v = (
            numbered(folder, prefix) for folder, prefix in zip(self.folders(video), self.layout.prefixes, strict=True)
        )
        where = video.path
        if not frames:
            raise DataError(f"{where}: no frames {self.layout.prefixes[0]}NNNNN.jpg")
        for what, files in (("u", u), ("v", v)):
            if not files and len(frames) > 1:
                raise DataError(f"{where}: {len(frames)} frames, but no flow {what}")
        for what, files in (("frame", frames), ("flow u", u), ("flow v", v)):
            check_numbers(where, what, files)
        if len(u) != len(v):
            raise DataError(f"{where}: {len(u)} fields of flow u, but {len(v)} of flow v")
        paired_with_targets = self.layout.name == "TSN" and len(u) == len(frames) and 1 in frames
        if len(u) != len(frames) - 1 and not paired_with_targets:
            raise DataError(f"{where}: {len(frames)} frames need {len(frames) - 1} flow fields, not {len(u)}")
        if u and min(u) != min(frames):
            raise DataError(f"{where}: frames begin with number {min(frames)}, flow with {min(u)}")
        first = 1 if paired_with_targets else 0
        return JpegFiles(in_order(frames), in_order(u)[first:], in_order(v)[first:])

    def short_side(self) -> int:
        """The short side that most of the first videos' frames have. Raises `DataError` when no frame can be read."""
        sides: Counter[int] = Counter()
        for video in self.videos()[:SAMPLE]:
            files = numbered(self.folders(video)[0], self.layout.prefixes[0])
            side = jpeg_short_side(files[min(files)]) if files else None
            if side:
                sides[side] += 1
        if not sides:
            raise DataError(f"{self.root}: no readable frame in its first videos")
        return sides.most_common(1)[0][0]


def find_lists(root: Path, given: str) -> Path | None:
    """The folder of lists, given or beside the pictures; None when there is none. Raises `DataError`."""
    if given:
        if not (root / given).is_dir():
            raise DataError(f"{root / given}: no such folder of lists")
        return root / given
    folder = first_folder(root, "ucfTrainTestlist", "testTrainMulti_7030_splits", "splits")
    return folder if folder != root else None


def class_in(name: str) -> str:
    """The class in a name as UCF101's, `v_CLASS_gNN_cMM`; empty when it is no such name."""
    match = re.fullmatch(r"v_(.+)_g\d+_c\d+", name)
    return match[1] if match else ""


def name_in(video_id: str) -> str:
    """The name that a video's folder has: the last part of an id, without a video's ending."""
    return without_suffix(video_id.split("/")[-1])

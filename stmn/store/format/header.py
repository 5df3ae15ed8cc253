"""The header of a prepared set, `dataset.json`: its contents and how it was made."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from stmn.errors import DataError, describe_mistake, near_match
from stmn.runtime.json_files import read_record, write_record

HEADER = "dataset.json"
FORMAT = 2  # 2: a checksum per video
#: the split that holds out no video
NO_SPLIT = "none"
#: what to do about a damaged header
_REMEDY = "delete that file and prepare again with the same options: pictures stay"

#: upper limits; a preparation may come from a model file, which may be untrusted
MAX_SHORT_SIDE, MAX_BOUND, MAX_FPS = 2048, 1000, 1000


class Preparation(BaseModel):
    """How frames and flow were made: everything needed to treat a new video in the same way.

    `short_side` and `bound` are in pixels; `quality` is JPEG quality, 1..100. `fps` is the common rate in frames per
    second, if all videos were converted to one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    short_side: int = Field(ge=1, le=MAX_SHORT_SIDE)
    flow: str = Field(pattern=r"^[\w.:+ -]{1,200}$")
    flow_options: dict[str, Any] = {}
    bound: float = Field(gt=0, le=MAX_BOUND)
    quality: int = Field(ge=1, le=100)
    camera_motion: Literal["keep", "subtract"]
    fps: float | None = Field(default=None, gt=0, le=MAX_FPS)

    @model_serializer(mode="wrap")
    def _leave_out_no_fps(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a missing `fps`, as older sets do, so that trainings on them stay up to date."""
        values: dict[str, Any] = dump(self)
        return {key: value for key, value in values.items() if key != "fps" or value is not None}


class Folds(BaseModel):
    """How splits were made if not by the data set: `count` folds of groups or videos; None: one fold per group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["group", "video"]
    count: int | None


class Header(BaseModel):
    """`dataset.json` of a prepared set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    name: str
    dataset: dict[str, str]
    dataset_options: dict[str, Any]
    classes: list[str]
    keeps: list[str]
    #: classes that mirroring exchanges, both ways
    mirror_pairs: dict[str, str] = {}
    preparation: Preparation
    splits: dict[str, dict[str, list[str]]]
    folds: Folds | None = None
    #: prepared videos that the data set no longer lists
    gone: list[str] = []

    def part(self, split: str, part: str) -> list[str]:
        """Return the video ids of a part ("train" or "test") of a split.

        The split "none" holds out no video: all videos of all splits are training videos.

        Raises:
            DataError: There is no such split; the message names the existing ones.
        """
        if split == NO_SPLIT and split not in self.splits:
            every = dict.fromkeys(video for parts in self.splits.values() for ids in parts.values() for video in ids)
            return list(every) if part == "train" else []
        if split not in self.splits:
            raise DataError(
                f"data set {self.name} has no split '{split}'{near_match(split, self.splits)}; "
                f"it has: {', '.join(self.splits)}"
            )
        return self.splits[split][part]

    def listed(self, split: str, part: str) -> list[str]:
        """Return the video ids of a part of a split or, for "all", of this part of every split, without duplicates.

        Raises:
            DataError: There is no such split.
        """
        splits = self.splits if split == "all" else [split]
        return list(dict.fromkeys(video for one in splits for video in self.part(one, part)))

    @property
    def has_folds(self) -> bool:
        """True if the splits are folds: several splits that together test every video once."""
        tested = [video for parts in self.splits.values() for video in parts["test"]]
        listed = {video for parts in self.splits.values() for part in parts.values() for video in part}
        return len(self.splits) > 1 and len(tested) == len(listed) == len(set(tested))

    def write(self, folder: Path) -> None:
        """Write the header, whole or not at all."""
        write_record(folder / HEADER, self.model_dump(mode="json"))


def read_header(folder: Path) -> Header:
    """Read the header of a prepared set.

    Raises:
        DataError: The header is missing, damaged, or of another format.
    """
    path = folder / HEADER
    try:
        content = read_record(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder}: no prepared data set here (no {HEADER})") from error
    except DataError as error:
        raise DataError(f"{error}; {_REMEDY}") from error
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: format {content.get('format')}, but this program reads {FORMAT}; prepare it again")
    try:
        return Header.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path}: is damaged: {where} {describe_mistake(first)}; {_REMEDY}") from error

"""The header of a prepared set, `dataset.json`: what the set holds and how it was made."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from stmn.errors import DataError, describe_mistake, near_match
from stmn.runtime.json_files import read_record, write_record

HEADER = "dataset.json"
FORMAT = 2  # 2: a checksum per video
#: the split that holds no video out
NO_SPLIT = "none"
#: what to do about a damaged header
_REMEDY = "delete that file and prepare again with the same options: pictures stay"

#: the most of each that is prepared; a model file, which says how it was trained, may be a stranger's
MAX_SHORT_SIDE, MAX_BOUND, MAX_FPS = 2048, 1000, 1000


class Preparation(BaseModel):
    """How frames and flow were made: everything needed to treat a new video in the same way.

    `short_side` and `bound` are in pixels; `quality` is that of the JPEGs, 1..100. `fps` is frames per second, if they
    were made the same for all videos.
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
        """As sets were written before there was `fps`, so that what was trained on them is not trained again."""
        values: dict[str, Any] = dump(self)
        return {key: value for key, value in values.items() if key != "fps" or value is not None}


class Folds(BaseModel):
    """How splits were made if they are not the data set's own: `count` folds of groups or videos; None: one a group."""

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
    #: classes that change places in a mirror, both ways
    mirror_pairs: dict[str, str] = {}
    preparation: Preparation
    splits: dict[str, dict[str, list[str]]]
    folds: Folds | None = None
    #: prepared videos that the data set does not list any more
    gone: list[str] = []

    def part(self, split: str, part: str) -> list[str]:
        """Return the video ids of a part ("train" or "test") of a split.

        The split "none" holds no video out: all videos of all splits are training videos.

        Raises:
            DataError: There is no such split; the message names the splits there are.
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
        """Return the video ids of a part of a split or, for "all", of that part of every split, each once.

        Raises:
            DataError: There is no such split.
        """
        splits = self.splits if split == "all" else [split]
        return list(dict.fromkeys(video for one in splits for video in self.part(one, part)))

    @property
    def has_folds(self) -> bool:
        """True if the splits are folds: several, which together test every video, and each once."""
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

"""The options of prepare."""

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from stmn.options.base import StageOptions, option
from stmn.runtime.files import real_path

#: suffixes of files that list videos
_LISTS = (".csv", ".tsv", ".txt", ".json")


class PrepareOptions(StageOptions):
    """Pack videos into a data set of frames and optical flow."""

    videos: Path | None = option(
        None,
        "folder of videos, or file that lists them (CSV, JSON); not needed if the data set renders its own",
        "Data",
        argument=True,
        flagged=False,
    )
    out: str | None = option(
        None, "name of the prepared set [default: the folder's name]", "Data", argument=True, flagged=False, makes=True
    )
    dataset: str = option(
        "folder",
        "plugin that finds videos, classes and splits; a list is known by its header",
        "Data",
        plugin="dataset",
    )
    dataset_options: dict[str, Any] = option({}, "options of the data set plugin", "Data", options_of="dataset")
    split_by: Literal["group", "video", "auto"] | None = option(
        None,
        "make splits that test each group, or each video, once; auto: groups if there are any [default: the data set's "
        "own splits]",
        "Data",
    )
    folds: int | None = option(
        None, "with --split-by: number of splits [default for groups: one per group; for auto: 5]", "Data", ge=2
    )
    mirror: bool = option(True, "let training and testing mirror videos, if the data set allows it", "Data")
    mirror_pairs: dict[str, str] = option(
        {},
        "words to swap in class names when a video is mirrored: left=right",
        "Data",
    )
    short_side: int = option(256, "short side of stored frames, pixels", "Data", ge=16, le=2048)
    fps: float | None = option(
        None,
        "resample to this many frames per second, by the nearest in time [default: each video's own]",
        "Data",
        gt=0,
        le=1000,
    )
    quality: int = option(95, "JPEG quality of frames and flow", "Data", ge=1, le=100)
    flow: str = option("tvl1", "optical flow estimator: a plugin", "Data", plugin="flow")
    flow_options: dict[str, Any] = option(
        {}, "options of the flow plugin (of tvl1: lambda, theta, tau, ...)", "Data", options_of="flow"
    )
    bound: float = option(20.0, "clip flow at this many pixels per frame, either way", "Data", gt=0, le=1000)
    camera_motion: Literal["keep", "subtract"] = option(
        "keep", "keep the median motion of each flow field, or subtract it", "Data"
    )
    allow_damage: float = option(
        0.05, "skip a video if damage costs more than this fraction of its frames", "Data", ge=0, le=1
    )
    workers: int = option(
        0, "worker processes if there is no --cluster; 0: one per core", "Run", ge=0, le=1024, execution=True
    )
    cluster: str | None = option(
        None,
        "Dask scheduler, tcp:// or tls://HOST:PORT; its workers must see the same folders",
        "Run",
        execution=True,
        command_line_only=True,
    )
    video_timeout: float = option(
        600.0, "skip a video that makes no progress for this many seconds", "Run", gt=0, execution=True
    )
    retry_skipped: bool = option(False, "try all skipped videos again, not only changed ones", "Run", execution=True)
    drop_gone: bool = option(
        False, "delete what is prepared of videos that are not in the data set any more", "Run", execution=True
    )
    allow_failures: int = option(0, "fail only if more than this many videos are skipped", "Run", ge=0, execution=True)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Refuse folds without `split_by`, folds of videos without a number, and mirror pairs without mirroring."""
        if self.folds and not self.split_by:
            raise ValueError("folds: needs split_by = group (--split-by group), video or auto")
        if self.split_by == "video" and not self.folds:
            raise ValueError("split_by = video: say how many folds, such as folds = 5 (--folds 5)")
        if not all(one and other for one, other in self.mirror_pairs.items()):
            raise ValueError("mirror_pairs: a word is empty; write pairs such as left=right")
        if self.mirror_pairs and not self.mirror:
            raise ValueError(
                "mirror_pairs is what a mirror does, and mirror = false (--no-mirror) forbids it; drop one"
            )
        return self

    @property
    def is_list(self) -> bool:
        """True if `videos` is a file that lists them: CSV, text, or ActivityNet's JSON."""
        return self.videos is not None and self.videos.suffix.lower() in _LISTS

    @property
    def set_name(self) -> str:
        """The name of the prepared set."""
        if self.out:
            return Path(os.path.normpath(self.out)).name
        if self.videos is None:
            return self.dataset
        return self.videos.stem if self.is_list else real_path(self.videos).name

"""The options of prepare."""

from pathlib import Path
from typing import Any, Literal

from stmn.options.base import StageOptions, option


class PrepareOptions(StageOptions):
    """Pack videos into a data set of frames and optical flow."""

    videos: Path | None = option(
        None,
        "folder of videos, or a CSV file that lists them; not for data sets that render their own",
        "Data",
        argument=True,
        flagged=False,
    )
    out: str | None = option(
        None, "name of the prepared set [default: that of the folder]", "Data", argument=True, flagged=False
    )
    dataset: str = option(
        "folder",
        "how videos, classes and splits are found: a plugin; for a CSV file its header decides",
        "Data",
        plugin="dataset",
    )
    dataset_options: dict[str, Any] = option({}, "options of the data set plugin, KEY=VALUE", "Data")
    short_side: int = option(256, "short side of the stored frames, pixels", "Data", ge=16)
    quality: int = option(95, "JPEG quality of frames and flow", "Data", ge=1, le=100)
    flow: str = option("tvl1", "optical flow: a plugin", "Data", plugin="flow")
    flow_options: dict[str, Any] = option(
        {}, "options of the flow plugin, KEY=VALUE (tvl1: lambda, theta, tau, ...)", "Data"
    )
    bound: float = option(20.0, "flow is clipped to +- this many pixels", "Data", gt=0)
    camera_motion: Literal["keep", "subtract"] = option(
        "keep", "keep the median motion of each flow field, or subtract it", "Data"
    )
    workers: int = option(0, "worker processes without --cluster (0: one per core)", "Run", ge=0, execution=True)
    cluster: str | None = option(
        None,
        "address of a Dask scheduler, tcp://HOST:PORT; its workers must see the same folders",
        "Run",
        execution=True,
    )
    video_timeout: float = option(600.0, "seconds that one video may take", "Run", gt=0, execution=True)
    retry_skipped: bool = option(
        False, "try all skipped videos again, not only those that changed", "Run", execution=True
    )
    allow_failures: int = option(0, "fail only if more than this many videos are skipped", "Run", ge=0, execution=True)

    @property
    def is_list(self) -> bool:
        """True if a CSV file lists the videos."""
        return self.videos is not None and self.videos.suffix.lower() == ".csv"

    @property
    def set_name(self) -> str:
        """The name of the prepared set."""
        if self.out:
            return Path(self.out).name
        if self.videos is None:
            return self.dataset
        return self.videos.stem if self.is_list else self.videos.resolve().name

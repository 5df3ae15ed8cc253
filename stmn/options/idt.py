"""The options of the steps of improved dense trajectories; each step also has those of the steps before it."""

from pathlib import Path
from typing import Any, Literal

from stmn.options.base import DataOptions, SetOptions, option


class IdtExtractOptions(SetOptions):
    """Track points through the videos of a prepared set and describe the tracks (Wang and Schmid, ICCV 2013)."""

    from_: Literal["videos", "store"] | None = option(
        None,
        "track in the video files or in the stored frames [default: videos; store, if flow is stored or the set was "
        "imported as pictures]",
        "Data",
    )
    tracks: Path | None = option(
        None, "folder of tracks that the original program wrote, VIDEO.txt or VIDEO.txt.gz, to use instead", "Data"
    )
    boxes: Path | None = option(
        None, "folder of files with boxes around people, VIDEO.txt: their motion is not taken for the camera's", "Data"
    )
    short_side: int | None = option(
        None, "short side of the frames, pixels [default: the video's own, 256 at most]", "Features", ge=32
    )
    flow: str = option("farneback", "optical flow: farneback, dis, tvl1, another plugin, or stored", "Features")
    flow_options: dict[str, Any] = option({}, "options of the flow", "Features")
    scale: float = option(1.0, "resize frames by this factor first", "Features", gt=0, le=4)
    camera: bool = option(True, "remove the camera's motion from flow and tracks", "Features")
    warp: Literal["analytic", "recompute"] = option(
        "analytic",
        "how it is removed from flow: by arithmetic, or by computing flow again on the moved frame",
        "Features",
    )
    local_features: Literal["orb", "sift", "akaze"] = option(
        "orb", "local features that find the camera's motion", "Features"
    )
    keep: float = option(
        4.0,
        "keep descriptors of up to this many GB; of a larger set each video keeps a random sample, and encoding tracks "
        "again",
        "Features",
        gt=0,
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
    video_timeout: float = option(3600.0, "seconds allowed per video", "Run", gt=0, execution=True)
    retry_skipped: bool = option(False, "try all skipped videos again", "Run", execution=True)
    allow_failures: int = option(0, "fail only if more than this many videos are skipped", "Run", ge=0, execution=True)


class IdtFitOptions(IdtExtractOptions, DataOptions):
    """Fit PCA and Gaussians to the descriptors of a split's training videos."""

    split: str | None = option(  # type: ignore[assignment]
        None, "train/test split of the data set [default: 1, or that of the scores]", "Data"
    )
    scores: str | None = option(
        None,
        "scores of the videos that must not be learned from [default: the split's test videos are left out]",
        "Data",
        inputs=("scores",),
    )
    gaussians: int = option(
        0, "K, Gaussians per descriptor; 0: by the number of training videos, 8 to 256", "Features", ge=0, le=4096
    )
    samples: int = option(
        0, "descriptors that PCA and Gaussians are fitted to; 0: 1,000 per Gaussian", "Features", ge=0
    )


class IdtEncodeOptions(IdtFitOptions):
    """Encode each video as a Fisher vector."""


class IdtScoreOptions(IdtEncodeOptions):
    """Train linear SVMs on the Fisher vectors of a split's training videos and score the others."""

    split: str | None = option(  # type: ignore[assignment]
        None,
        "train/test split of the data set, or all: each split in turn, and all their test videos together "
        "[default: 1, or that of the scores]",
        "Data",
    )
    penalty: float = option(100.0, "C of the SVMs", "Features", gt=0)

"""Make prepared sets, in this process, from pictures that a test chooses."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from stmn.datasets.base import VideoEntry
from stmn.store.format.header import Header, Preparation
from stmn.store.format.jpeg import encode_field, encode_frame
from stmn.store.format.shard import FLOW, RGB, shard_path
from stmn.store.format.write import ShardWriter, VideoFacts


@dataclass(frozen=True)
class MadeVideo:
    """A video: (N, H, W, 3) uint8 frames and (N - 1, 2, H, W) uint8 flow levels.

    Without a `group` it is its own; `content` stands for the hash of its file, its id by default.
    """

    id: str
    class_name: str
    frames: Tensor
    levels: Tensor
    part: str = "train"
    group: str = ""
    content: str = ""


def make_set(
    folder: Path, videos: Iterable[MadeVideo], keeps: Iterable[str] = ("mirror", "crop"), bound: float = 20.0
) -> Path:
    """Write a prepared set with one split, "1", as `stmn prepare` would."""
    videos = list(videos)
    how = Preparation(
        short_side=min(videos[0].frames.shape[1:3]), flow="tvl1", bound=bound, quality=100, camera_motion="keep"
    )
    with ShardWriter(shard_path(folder, 0)) as shard:
        for video in videos:
            count, height, width, _ = video.frames.shape
            with shard.add_video(
                VideoEntry(video.id, Path(video.id), video.class_name, video.group or video.id)
            ) as writer:
                for t, frame in enumerate(video.frames):
                    writer.add(RGB, t, encode_frame(frame, how.quality))
                for t, field in enumerate(video.levels):
                    writer.add(FLOW, t, encode_field(field, how.quality))
                source = video.content or video.id
                writer.facts = VideoFacts(count, width, height, width, height, 25.0, source, how.flow, bound)
    identity = {"kind": "dataset", "name": "folder", "package": "stmn", "version": "0"}
    Header(
        name=folder.name,
        dataset=identity,
        dataset_options={},
        classes=sorted({video.class_name for video in videos}),
        keeps=sorted(keeps),
        preparation=how,
        splits={"1": {part: [v.id for v in videos if v.part == part] for part in ("train", "test")}},
    ).write(folder)
    return folder

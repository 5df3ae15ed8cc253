"""UCF101 and HMDB51 with their published lists, as prepared sets that know every video and hold no pictures."""

import sqlite3
from pathlib import Path

from stmn.datasets.hmdb51 import HMDB51
from stmn.datasets.ucf101 import UCF101
from stmn.store.format.header import Header, Preparation
from stmn.store.format.shard import SCHEMA, shard_path
from stmn.workspace import Workspace

NAMES = {"ucf101": "UCF101", "hmdb51": "HMDB51"}
#: frames of every video, and its size
FRAMES, WIDTH, HEIGHT = 180, 340, 256


def make_official_set(workspace: Workspace, dataset: str, shared_data: Path) -> Path:
    """Write the prepared set of a data set, in a second."""
    folder, lists = workspace.data_dir(NAMES[dataset]), shared_data / "splits" / dataset
    plugin = {"ucf101": UCF101, "hmdb51": HMDB51}[dataset](lists, lists=str(lists))
    splits = plugin.splits()
    ids = sorted({video for parts in splits.values() for videos in parts.values() for video in videos})
    rows = []
    for number, video in enumerate(ids, 1):
        name = video.split("/")[0]
        group = name + video.partition("_g")[2][:2] if dataset == "ucf101" else video
        rows.append((number, video, name, group, "ok", FRAMES, WIDTH, HEIGHT, WIDTH, HEIGHT, 25.0, str(number)))
    shard_path(folder, 0).parent.mkdir(parents=True)
    with sqlite3.connect(shard_path(folder, 0)) as connection:
        connection.executescript(SCHEMA)
        columns = "number, id, class, grp, status, frames, width, height, source_width, source_height, fps, source_hash"
        connection.executemany(f"INSERT INTO videos ({columns}) VALUES ({', '.join('?' * 12)})", rows)
    connection.close()
    Header(
        name=folder.name,
        dataset={"kind": "dataset", "name": dataset, "package": "stmn", "version": "0"},
        dataset_options={},
        classes=sorted({row[2] for row in rows}),
        keeps=["crop", "mirror"],
        preparation=Preparation(short_side=256, flow="tvl1", bound=20.0, quality=95, camera_motion="keep"),
        splits=splits,
    ).write(folder)
    return folder

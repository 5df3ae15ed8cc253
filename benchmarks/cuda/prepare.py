"""Frames per second of `stmn prepare` on a GPU as a whole, beside what its parts could do. The least limits it.

What a call costs whatever it prepares, such as its start and its first videos, is left out: it is the difference
between many and few videos that counts. Both are multiples of the cores, so that all cores end together.
"""

import os
import shutil
import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.cuda._gpu import beside_limit, seconds_of
from benchmarks.cuda.flow import moving_frames
from benchmarks.frame import STMN
from stmn.flow.pairs import compute_levels
from stmn.flow.tvl1 import tvl1
from stmn.runtime.cores import count_cores
from stmn.runtime.device import Device
from stmn.store.format.jpeg import encode_field, encode_frame
from stmn.video.decode import iter_frames
from stmn.video.write import write_video

#: about the most videos of the smaller set, and the most for each core
FEW, EACH = 64, 4


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Frames per second: all of `prepare`, its start left out; decoding and encoding on all cores; flow on the GPU."""
    cores = count_cores()
    few, frames, (height, width) = cores * max(1, min(EACH, FEW // cores)), 300, (256, 340)
    if quick:
        few, frames, (height, width) = 1, 6, (32, 48)
    pictures = moving_frames(frames, height, width, torch.device("cpu")).round().to(torch.uint8)
    colour = pictures[..., None].expand(-1, -1, -1, 3).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        video = root / "video.mp4"
        write_video(video, iter(colour.numpy()))
        sets = [link_videos(root / str(count), count, video) for count in (few, 2 * few)]
        turns = range(1 if quick else 3)
        some, all_ = (
            median(prepare_seconds(videos, root / f"{videos.name} turn {turn}", device, height) for turn in turns)
            for videos in sets
        )
        cpu = worker_seconds(video, height, quick)
    batch = colour[: 2 if quick else 129].to(device.device)
    rounds = {"warm_up": 1, "rounds": 1} if quick else {}
    flow = seconds_of(lambda: compute_levels(batch, tvl1, 20.0, "keep"), device.device, **rounds)
    limits = {
        f"decoding and encoding on {cores} cores": cores / cpu,
        f"flow on {device.device}": (len(batch) - 1) / flow,
    }
    least = min(limits, key=lambda name: limits[name])
    speed = few * frames / max(all_ - some, 1e-3)
    return beside_limit(speed, limits[least], "frames/s", least) | {
        "limits": {name: round(limit, 1) for name, limit in limits.items()},
        "videos": [few, 2 * few],
        "seconds": [round(some, 2), round(all_, 2)],
    }


def link_videos(folder: Path, count: int, video: Path) -> Path:
    """Make a folder of one class with a video `count` times, without encoding it again."""
    (folder / "any").mkdir(parents=True)
    for number in range(count):
        os.link(video, folder / "any" / f"{number}.mp4")
    return folder


def prepare_seconds(videos: Path, work: Path, device: Device, short_side: int) -> float:
    """Seconds of the command; what it makes is removed."""
    command = [STMN, "prepare", videos, "mine", "--workspace", work, "--short-side", str(short_side)]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--device", str(device.device)], check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "STMN_FLOW_OWNER": "1"},  # on a CPU too, to try this benchmark
    )  # fmt: skip
    seconds = time.perf_counter() - began
    shutil.rmtree(work)
    return seconds


def worker_seconds(video: Path, short_side: int, quick: bool) -> float:
    """Seconds of one core for a frame, without its flow: decode, resize, encode the frame and a field."""
    count = 4 if quick else 100
    began = time.perf_counter()
    for frame in islice(iter_frames(video, None, 0.0, print), count):
        picture = torch.from_numpy(frame.picture(short_side))
        encode_frame(picture, 95)
        encode_field(picture.permute(2, 0, 1)[:2].contiguous(), 95)
    return (time.perf_counter() - began) / count

"""Frames per second of `stmn prepare` on a GPU as a whole, beside what its parts could do. The least limits it."""

import os
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


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Frames per second: all of `prepare`, its start left out; decoding and encoding on all cores; flow on the GPU."""
    videos, frames, (height, width) = (2, 6, (32, 48)) if quick else (4 * count_cores(), 300, (256, 340))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pictures = moving_frames(frames, height, width, torch.device("cpu")).round().to(torch.uint8)
        colour = pictures[..., None].expand(-1, -1, -1, 3).contiguous()
        for number in range(videos):
            write_video(root / "v" / "any" / f"{number}.mp4", iter(colour.numpy()))
        single = root / "one" / "any"
        single.mkdir(parents=True)
        os.link(root / "v" / "any" / "0.mp4", single / "0.mp4")
        turns = range(1 if quick else 3)
        start = median(prepare_seconds(root / "one", root / f"start {turn}", device, height) for turn in turns)
        whole = median(prepare_seconds(root / "v", root / f"work {turn}", device, height) for turn in turns)
        cpu = worker_seconds(single / "0.mp4", height, quick)
    batch = colour[: 2 if quick else 129].to(device.device)
    rounds = {"warm_up": 1, "rounds": 1} if quick else {}
    flow = seconds_of(lambda: compute_levels(batch, tvl1, 20.0, "keep"), device.device, **rounds)
    limits = {
        f"decoding and encoding on {count_cores()} cores": count_cores() / cpu,
        f"flow on {device.device}": (len(batch) - 1) / flow,
    }
    least = min(limits, key=lambda name: limits[name])
    speed = (videos - 1) * frames / max(whole - start, 1e-3)
    return beside_limit(speed, limits[least], "frames/s", least) | {
        "limits": {name: round(limit, 1) for name, limit in limits.items()},
        "start_seconds": round(start, 2),
    }


def prepare_seconds(videos: Path, work: Path, device: Device, short_side: int) -> float:
    """Seconds of the command."""
    command = [STMN, "prepare", videos, "mine", "--workspace", work, "--short-side", str(short_side)]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--device", str(device.device)], check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "STMN_FLOW_OWNER": "1"},  # on a CPU too, to try this benchmark
    )  # fmt: skip
    return time.perf_counter() - began


def worker_seconds(video: Path, short_side: int, quick: bool) -> float:
    """Seconds of one core for a frame, without its flow: decode, resize, encode the frame and a field."""
    count = 4 if quick else 100
    began = time.perf_counter()
    for frame in islice(iter_frames(video, None, 0.0, print), count):
        picture = torch.from_numpy(frame.picture(short_side))
        encode_frame(picture, 95)
        encode_field(picture.permute(2, 0, 1)[:2].contiguous(), 95)
    return (time.perf_counter() - began) / count

"""Does the memory of `stmn prepare` grow with a video's length, or with the number of videos?

    python -m benchmarks.memory --json FILE

It makes a clip of 10 seconds and one of 10 minutes, a set of few videos and one of many, prepares each with one worker,
and writes the peaks of the worker's and of the main process's resident memory in MB.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.frame import STMN, run
from stmn.video.write import write_video

FPS = 25
SIZE = (64, 96)  # height, width


def noise(frames: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of a texture that moves by a pixel per frame."""
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for t in range(frames):
        yield np.roll(picture, t, axis=1)


def marked(mark: str) -> dict[int, Path]:
    """The processes with a mark in their environment: number -> folder in /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = folder
        except OSError:  # ended, or another user's
            continue
    return found


def status(folder: Path) -> dict[str, str]:
    """The system's status of a process; empty if it has ended."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def peaks(process: "subprocess.Popen[bytes]", mark: str) -> dict[str, float]:
    """Wait for the process; the peaks of resident memory, MB, of it and of its workers."""
    roles: dict[int, str | None] = {}  # as first seen: a process that outlives its parent gets another one
    most = {"main_mb": 0.0, "worker_mb": 0.0}
    while process.poll() is None:
        for number, folder in marked(mark).items():
            now = status(folder)
            if number == process.pid:
                roles[number] = "main_mb"
            elif number not in roles:  # children of the main process are the fork server and the resource tracker
                roles[number] = None if now.get("PPid") == str(process.pid) else "worker_mb"
            if role := roles[number]:
                most[role] = max(most[role], int(now.get("VmHWM", "0").split()[0]) / 1024)
        time.sleep(0.05)
    return {role: round(peak, 1) for role, peak in most.items()}


def prepare(videos: Path, work: Path, flow: str) -> dict[str, float]:
    """Prepare a folder with one worker; the peaks of main process and worker, MB, and seconds."""
    command = [
        STMN, "prepare", videos, "set", "--workspace", work, "--short-side", min(SIZE), "--workers", 1, "--flow", flow,
        "--video-timeout", 36000,
    ]  # fmt: skip
    mark = f"stmn-memory-{uuid.uuid4()}"
    started = time.perf_counter()
    with open(work / "log", "w+") as log:
        environment = {**os.environ, "STMN_MEMORY_MARK": mark}
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=environment)
        result = peaks(process, mark)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"prepare failed: {log.read()[-2000:]}")
    return {**result, "seconds": round(time.perf_counter() - started, 1)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    result: dict[str, Any] = {"flow": options.flow, "size": SIZE, "fps": FPS}
    for name, seconds, count in (
        ("short_clip", options.short, 1), ("long_clip", options.long, 1), ("few_clips", 0.2, options.few),
        ("many_clips", 0.2, options.many),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "videos" / "noise"
            folder.mkdir(parents=True)
            write_video(folder / "00000.mp4", noise(round(seconds * FPS)), FPS)
            for number in range(1, count):
                shutil.copy(folder / "00000.mp4", folder / f"{number:05d}.mp4")
            (Path(scratch) / "work").mkdir()
            peak = prepare(folder.parent, Path(scratch) / "work", options.flow)
        result[name] = {"clip_seconds": seconds, "clips": count, **peak}
        print(name, result[name], flush=True)
    for axis, less, more in (("length", "short_clip", "long_clip"), ("number", "few_clips", "many_clips")):
        for role in ("main_mb", "worker_mb"):
            result[f"growth_with_{axis}_{role}"] = round(result[more][role] - result[less][role], 1)
    return result


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--short", type=float, default=10, help="seconds of the short clip")
    parser.add_argument("--long", type=float, default=600, help="seconds of the long clip")
    parser.add_argument("--few", type=int, default=20, help="videos of the small set")
    parser.add_argument("--many", type=int, default=2000, help="videos of the large set")
    parser.add_argument("--flow", default="dis", help="a flow plugin")


if __name__ == "__main__":
    run(__doc__, add_options, measure)

"""Does the memory of `stmn predict` grow with a video's length?

    python -m benchmarks.predict_memory --json FILE

It makes a video of one minute and one of ten, and a gated network with random weights. It classifies each video as a
whole, in windows, through a pipe, and with an overlay, each in a process of its own, and writes the peak of that
process's resident memory in MB.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av

from benchmarks.frame import STMN, run
from benchmarks.memory import FPS, SIZE, noise
from stmn.nets.build import build_network
from stmn.nets.checkpoint import Description, TrainedOn, save_checkpoint
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig
from stmn.store.format.header import Preparation

#: arguments of each command; "-" reads the video from a pipe
WAYS: dict[str, list[str]] = {
    "whole": ["VIDEO"],
    "timeline": ["VIDEO", "--timeline", "OUT.csv", "--step", "2"],
    "pipe": ["-", "--timeline", "OUT.csv", "--step", "2"],
    "overlay": ["VIDEO", "--overlay", "OUT.mp4", "--step", "2"],
}


def make_model(path: Path, flow: str) -> None:
    """Write a gated network of two ResNet-18 of a quarter of the width."""
    config = NetworkConfig(
        classes=["a", "b", "c"], size=56, stack_length=10, gate=GateConfig(),
        streams=[StreamConfig(modality=m, arch="resnet18", width=0.25) for m in ("rgb", "flow")],
    )  # fmt: skip
    how = Preparation(short_side=min(SIZE), flow=flow, bound=5, quality=95, camera_motion="keep")
    about = Description(config, how, TrainedOn(data="none", split="1", videos=[]), ["mirror", "crop"])
    save_checkpoint(path, build_network(config), about)


def make_video(path: Path, frames: int) -> None:
    """Write a video in a container that can be read from a pipe."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for picture in noise(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def peak(model: Path, video: Path, way: str, folder: Path) -> dict[str, float]:
    """Classify a video in a process of its own; its peak of resident memory, MB, and seconds."""
    words = [str(video) if word == "VIDEO" else word.replace("OUT", str(folder / way)) for word in WAYS[way]]
    started = time.perf_counter()
    with open(video, "rb") as given, open(folder / "log", "w+") as log:
        feeder = subprocess.Popen(["cat"], stdin=given, stdout=subprocess.PIPE)
        process = subprocess.Popen([STMN, "predict", model, *words], stdin=feeder.stdout, stdout=log, stderr=log)
        assert feeder.stdout is not None
        feeder.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        feeder.kill()
        feeder.wait()
        if status:
            log.seek(0)
            raise RuntimeError(f"predict failed: {log.read()[-2000:]}")
    megabytes = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return {"peak_mb": round(megabytes, 1), "seconds": round(time.perf_counter() - started, 1)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    lengths = {"short": options.short, "long": options.long}
    result: dict[str, Any] = {"flow": options.flow, "size": SIZE, "fps": FPS, **lengths}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_model(folder / "model.safetensors", options.flow)
        for name, seconds in lengths.items():
            make_video(folder / f"{name}.mkv", round(seconds * FPS))
        for way in options.ways:
            found = {name: peak(folder / "model.safetensors", folder / f"{name}.mkv", way, folder) for name in lengths}
            result[way] = found | {"growth_mb": round(found["long"]["peak_mb"] - found["short"]["peak_mb"], 1)}
            print(way, result[way], flush=True)
    return result


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--short", type=float, default=60, help="seconds of the short video")
    parser.add_argument("--long", type=float, default=600, help="seconds of the long video")
    parser.add_argument("--flow", default="dis", help="a flow plugin")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), help="how to classify the videos")


if __name__ == "__main__":
    run(__doc__, add_options, measure)

"""Does the memory of `stmn predict` grow with a video's length?

    python -m benchmarks.predict_memory --json FILE

It makes videos of 20 seconds, 5 minutes and 20 minutes, and a gated network with random weights. It classifies each
video as a whole, in windows, through a pipe, and with an overlay, each in a process of its own, and writes the peak of
that process's resident memory in MB.
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
import numpy as np
from PIL import Image

from benchmarks.frame import STMN, describe_machine, run
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


def make_model(path: Path, flow: str, flow_options: dict[str, Any], short_side: int) -> None:
    """Write a gated network of two ResNet-18 of a quarter of the width."""
    config = NetworkConfig(
        classes=["a", "b", "c"], size=56, stack_length=10, gate=GateConfig(),
        streams=[StreamConfig(modality=m, arch="resnet18", width=0.25) for m in ("rgb", "flow")],
    )  # fmt: skip
    how = Preparation(
        short_side=short_side, flow=flow, flow_options=flow_options, bound=5, quality=95, camera_motion="keep"
    )
    about = Description(config, how, TrainedOn(data="none", split="1", videos=[]), ["mirror", "crop"])
    save_checkpoint(path, build_network(config), about)


def make_video(path: Path, frames: int, width: int, height: int, fps: int) -> None:
    """Write a video of a texture that moves by a pixel per frame, in a container that can be read from a pipe."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for t in range(frames):
            moved = np.roll(picture, t, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())


def peak(model: Path, video: Path, way: str, folder: Path) -> dict[str, float]:
    """Classify a video in a process of its own; its peak of resident memory, MB, and seconds."""
    words = [
        str(video) if word == "VIDEO" else word.replace("OUT", str(folder / f"{way}-{video.stem}"))
        for word in WAYS[way]
    ]
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
    """The content of the JSON file: way -> seconds of video -> peak and time; the growth from the first to the last."""
    width, height = map(int, options.size.split("x"))
    result: dict[str, Any] = {"flow": options.flow, "size": options.size, "fps": options.fps, **describe_machine()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / "model.safetensors"
        make_model(model, options.flow, {"preset": options.preset} if options.flow == "dis" else {}, min(width, height))
        for seconds in options.seconds:
            make_video(folder / f"{seconds:g}.mkv", round(seconds * options.fps), width, height, options.fps)
        for way in options.ways:
            found = {
                f"{seconds:g}": peak(model, folder / f"{seconds:g}.mkv", way, folder) for seconds in options.seconds
            }
            peaks = [one["peak_mb"] for one in found.values()]
            result[way] = found | {"growth_mb": round(peaks[-1] - peaks[0], 1)}
            print(way, result[way], flush=True)
    return result


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--seconds", type=float, nargs="+", default=[20, 300, 1200], help="lengths of the videos")
    parser.add_argument("--size", default="320x240", help="width and height of the videos, pixels")
    parser.add_argument("--fps", type=int, default=10, help="frames per second of the videos")
    parser.add_argument("--flow", default="dis", help="a flow plugin")
    parser.add_argument("--preset", default="ultrafast", help="of dis: ultrafast, fast or medium")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), help="how to classify the videos")


if __name__ == "__main__":
    run(__doc__, add_options, measure)

"""Speed of extracting improved dense trajectories on one core, by flow and by how camera motion is removed.

    python -m benchmarks.idt --json FILE [--clip FILE]

`--clip`: a video; its first `--frames` frames are resized to 320x240, the size of UCF101. Without it, a texture that
pans, with a square that moves against the pan. Decoding is not measured.

OpenCV and torch have one thread. Seconds are processor time; the fastest of `--rounds` rounds counts, so that other
work on the machine matters little. `flow_ms_a_frame` is the time of the flow alone, and `fraction_of_flow_floor` that
time divided by the whole: 1 would be tracks at no cost. With `recompute` flow is computed twice, and the floor is that
of once. Stored flow has no floor.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.frame import describe_machine, run
from stmn.flow.estimator import load_estimator
from stmn.flow.polynomial import kernel_problem
from stmn.idt.trajectories.extract import extract_tracks
from stmn.idt.trajectories.motion import make_motion
from stmn.idt.trajectories.parameters import TrackParameters
from stmn.idt.trajectories.pyramid import build_pyramid, scale_shapes
from stmn.video.decode import decode_video

SIZE = (320, 240)  # width, height
Frames = list[NDArray[np.uint8]]

ROWS: dict[str, dict[str, Any]] = {
    "farneback + recompute": {"warp": "recompute"},
    "farneback + analytic": {},
    "dis + analytic": {"flow": "dis"},
    "tvl1 + analytic": {"flow": "tvl1"},
    "tvl1 (warps 2, iterations 8) + analytic": {"flow": "tvl1", "flow_options": {"warps": 2, "iterations": 8}},
    "stored + analytic": {"flow": "stored"},
    "farneback + analytic, scale 0.5": {"scale": 0.5},
    "farneback, camera motion kept": {"camera": False},
}


def clip_frames(path: Path, count: int) -> Frames:
    """The first frames of a video."""
    frames = []
    for frame in decode_video(path):
        frames.append(np.asarray(cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA), np.uint8))
        if len(frames) == count:
            break
    return frames


def made_frames(count: int) -> Frames:
    """A texture that pans by 2 pixels per frame, and a square of 80 pixels that moves the other way."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.normal(size=(SIZE[1], SIZE[0] + 2 * count)), (0, 0), 2)
    square = cv2.GaussianBlur(rng.normal(size=(80, 80)), (0, 0), 2)
    frames = []
    for t in range(count):
        grey = wide[:, 2 * t : 2 * t + SIZE[0]].copy()
        left = 40 + 2 * t % 160
        grey[80:160, left : left + 80] = square
        grey = np.clip(128 + 40 * grey / wide.std(), 0, 255).astype(np.uint8)
        frames.append(np.repeat(grey[..., None], 3, axis=2))
    return frames


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of a piece of work in its fastest round."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def stored_fields(frames: Frames) -> list[NDArray[np.float32]]:
    """TV-L1 flow between the frames, (2, H, W) pixels, for the row of stored flow."""
    estimate = load_estimator("tvl1", {})
    greys = torch.from_numpy(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]))
    return [estimate(greys[k : k + 1], greys[k + 1 : k + 2])[0].numpy() for k in range(len(frames) - 1)]


def flow_seconds(frames: Frames, parameters: TrackParameters, rounds: int) -> float | None:
    """Processor seconds of the flow alone, at all scales that it is computed at."""
    if parameters.flow == "stored":
        return None
    scaled = [cv2.resize(frame, None, fx=parameters.scale, fy=parameters.scale) for frame in frames]
    greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8) for frame in scaled]
    height, width = greys[0].shape[:2]
    shapes = scale_shapes(height, width, parameters.scales, parameters.patch)
    if parameters.flow != "farneback":
        shapes = shapes[:1]
    levels = [build_pyramid(cv2, grey, shapes) for grey in greys]

    def work() -> None:
        motion = make_motion(cv2, parameters, shapes, None)
        for first, second in pairwise(levels):
            motion.between(first, second)

    return fastest(work, rounds)


def opencv_milliseconds(frames: Frames, rounds: int) -> float:
    """Processor milliseconds of OpenCV's flow with the parameters and scales of `farneback`, to compare."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]

    def work() -> None:
        for first, second in pairwise(greys):
            cv2.calcOpticalFlowFarneback(first, second, None, 0.5**0.5, 6, 10, 2, 7, 1.5, 0)  # type: ignore[call-overload]

    return round(1e3 * fastest(work, rounds) / len(frames), 2)


def measure_row(
    frames: Frames, fields: Iterable[NDArray[np.float32]], options: dict[str, Any], rounds: int
) -> dict[str, Any]:
    """One row of the result."""
    parameters = TrackParameters(**options)
    tracks = 0

    def work() -> None:
        nonlocal tracks
        given = fields if parameters.flow == "stored" else None
        tracks = sum(len(found) for found in extract_tracks(frames, parameters, fields=given))

    seconds = fastest(work, rounds)
    floor = flow_seconds(frames, parameters, rounds)
    return {
        "frames_a_second": round(len(frames) / seconds, 1),
        "ms_a_frame": round(1e3 * seconds / len(frames), 2),
        "flow_ms_a_frame": None if floor is None else round(1e3 * floor / len(frames), 2),
        "fraction_of_flow_floor": None if floor is None else round(floor / seconds, 3),
        "tracks": tracks,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    frames = clip_frames(options.clip, options.frames) if options.clip else made_frames(options.frames)
    fields = stored_fields(frames)
    return {
        "clip": options.clip.name if options.clip else "made",
        "frames": len(frames),
        "size": SIZE,
        **describe_machine(),
        "opencv": cv2.__version__,
        "kernel_problem": kernel_problem(),
        "opencv_farneback_ms_a_frame": opencv_milliseconds(frames, options.rounds),
        "rows": {name: measure_row(frames, fields, row, options.rounds) for name, row in ROWS.items()},
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--clip", type=Path, help="a video file")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)


if __name__ == "__main__":
    run(__doc__, add_options, measure)

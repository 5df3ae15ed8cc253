"""Speed and accuracy of this TV-L1 beside OpenCV's TV-L1 and DIS, and the speed of all of `prepare`.

    python -m benchmarks.flow --json FILE [--clips DIR] [--pairs DIR]

`--clips`: a folder of video files; pairs of consecutive frames are resized to 340x256, the size of prepared UCF101.
`--pairs`: a folder of Middlebury pairs, `<pair>/{frame10.png,frame11.png,flow10.flo}`.

Every estimator has the same number of threads (`--threads`): OpenCV uses them within a pair, this TV-L1 for the pairs
of a batch. The estimators take turns on the same frames, `--rounds` times. The fastest round of each group counts, so
that other work on the machine matters little. `prepare` and the plain loop of `prepare_loop.py` get the first
`--frames` frames of every clip.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.frame import describe_machine, run
from benchmarks.prepare_loop import frames_a_second
from stmn.flow.kernels import kernel_name, kernel_problem
from stmn.flow.opencv import dis
from stmn.flow.tvl1 import tvl1

SIZE = (340, 256)  # width, height
Estimator = Callable[[Tensor, Tensor], Tensor]
Group = tuple[Tensor, Tensor]  # first and second frames, (B, H, W) uint8


def opencv_tvl1(first: Tensor, second: Tensor) -> Tensor:
    """OpenCV's DualTVL1 with its defaults."""
    cv2.setNumThreads(torch.get_num_threads())
    estimator = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    flows = [estimator.calc(one.numpy(), two.numpy(), None) for one, two in zip(first, second, strict=True)]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2)


ESTIMATORS: dict[str, Estimator] = {"tvl1": tvl1, "opencv_tvl1": opencv_tvl1, "dis": dis}


def clip_groups(folder: Path, batch: int) -> list[Group]:
    """One batch of consecutive pairs from the middle of each video."""
    groups = []
    for path in sorted(folder.iterdir()):
        video, frames = cv2.VideoCapture(str(path)), []
        while True:
            read, frame = video.read()
            if not read:
                break
            frames.append(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), SIZE, interpolation=cv2.INTER_AREA))
        if len(frames) > 1:
            start = max(0, (len(frames) - batch) // 2)
            grey = torch.from_numpy(np.stack(frames[start : start + batch + 1]))
            groups.append((grey[:-1].contiguous(), grey[1:].contiguous()))
    return groups


def middlebury(folder: Path) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Name -> first and second frame, (H, W) uint8, and true flow, (2, H, W), NaN where it is unknown."""
    pairs = {}
    for path in sorted(folder.iterdir()):
        first, second = (
            torch.from_numpy(cv2.imread(str(path / f"frame{n}.png"), cv2.IMREAD_GRAYSCALE)) for n in (10, 11)
        )
        raw = np.fromfile(path / "flow10.flo", dtype="<f4")
        truth = torch.from_numpy(raw[3:].reshape(*first.shape, 2)).permute(2, 0, 1)
        pairs[path.name] = (first, second, truth.where(truth.abs() < 1e9, torch.nan))
    return pairs


def pair_groups(pairs: dict[str, tuple[Tensor, Tensor, Tensor]]) -> list[Group]:
    """Pairs of the same size together, as in a batch."""
    shapes = sorted({first.shape for first, _, _ in pairs.values()})
    alike = [[pair for pair in pairs.values() if pair[0].shape == shape] for shape in shapes]
    return [(torch.stack([p[0] for p in group]), torch.stack([p[1] for p in group])) for group in alike]


def seconds_a_pair(groups: list[Group], rounds: int, estimators: dict[str, Estimator]) -> dict[str, float]:
    """Seconds per pair of each estimator over all groups, from the fastest round of each group."""
    total = dict.fromkeys(estimators, 0.0)
    for first, second in groups:
        fastest = dict.fromkeys(estimators, float("inf"))
        for _ in range(rounds):
            for name, estimate in estimators.items():
                start = time.perf_counter()
                estimate(first, second)
                fastest[name] = min(fastest[name], time.perf_counter() - start)
        for name in estimators:
            total[name] += fastest[name]
    pairs = sum(len(first) for first, _ in groups)
    return {name: seconds / pairs for name, seconds in total.items()}


def endpoint_errors(pairs: dict[str, tuple[Tensor, Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """Mean endpoint error in pixels of each estimator on each pair."""

    def error(estimate: Estimator, first: Tensor, second: Tensor, truth: Tensor) -> float:
        distance = (estimate(first[None], second[None])[0] - truth).square().sum(dim=0).sqrt()
        return round(distance.nanmean().item(), 4)

    return {name: {pair: error(f, *frames) for pair, frames in pairs.items()} for name, f in ESTIMATORS.items()}


def first_call_seconds() -> float:
    """Seconds of the first call on a machine, which compiles the kernel."""
    code = "import time; from stmn.flow.kernels import *; s = time.time(); kernel_name(); print(time.time() - s)"
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "kernel": kernel_name(),
        "kernel_problem": kernel_problem(),
        "first_call_seconds": round(first_call_seconds(), 2),
        "threads": torch.get_num_threads(),
        "batch": options.batch,
        **describe_machine(),
        "opencv": cv2.__version__,
    }
    generator = torch.Generator().manual_seed(0)
    tiny = torch.randint(0, 256, (15, 40, 40), dtype=torch.uint8, generator=generator)
    for estimate in ESTIMATORS.values():
        estimate(tiny, tiny)
    if options.clips:
        groups = clip_groups(options.clips, options.batch)
        seconds = seconds_a_pair(groups, options.rounds, ESTIMATORS)
        result["clips"] = {"pairs": sum(len(first) for first, _ in groups), "size": SIZE, "seconds_a_pair": seconds}
        result["ratio_vs_opencv"] = round(seconds["opencv_tvl1"] / seconds["tvl1"], 1)
        result["prepare"] = frames_a_second(sorted(options.clips.iterdir()), options.frames, torch.get_num_threads())
    if options.pairs:
        known = middlebury(options.pairs)
        seconds = seconds_a_pair(pair_groups(known), options.rounds, ESTIMATORS)
        result["pairs"] = {"seconds_a_pair": seconds, "endpoint_error": endpoint_errors(known)}
        result["ratio_vs_opencv_pairs"] = round(seconds["opencv_tvl1"] / seconds["tvl1"], 1)
    torch.set_num_threads(1)
    one_thread: dict[str, Estimator] = {"tvl1": tvl1, "dis": dis}
    if options.clips:
        result["clips"]["seconds_a_pair_one_thread"] = seconds_a_pair(groups, options.rounds, one_thread)
    moved = (tiny, tiny.roll(1, dims=2))
    result["tiny_batch_ms_one_thread"] = 15e3 * seconds_a_pair([moved], 20, {"tvl1": tvl1})["tvl1"]
    return result


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--clips", type=Path, help="folder of video files")
    parser.add_argument("--pairs", type=Path, help="folder of Middlebury pairs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8, help="pairs of each clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=40, help="frames of each clip for prepare")


if __name__ == "__main__":
    run(__doc__, add_options, measure)

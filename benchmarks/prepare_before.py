"""Frames per second of `stmn prepare` beside those of an earlier checkout, on the same videos.

    python -m benchmarks.prepare_before --json FILE --before CHECKOUT FOLDER...

Both prepare each folder with one worker, from start to exit, into a workspace of their own, in turns; the one that went
first goes second in the next round. The fastest of the rounds counts. `start_seconds` is a run in which all is prepared
already.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.frame import describe_machine, run

CHECKOUT = Path(__file__).parents[1]


def prepare(checkout: Path, videos: Path, work: Path, flags: list[str]) -> tuple[float, int]:
    """Seconds of a `stmn prepare` by the code of a checkout, and the frames of the videos that it prepared."""
    command = [sys.executable, "-m", "stmn", "prepare", videos, "set", "-w", work, "--workers", "1", "--json", *flags]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    started = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr}{done.stdout[-500:]}")
    events = map(json.loads, done.stdout.splitlines())
    return seconds, sum(event["frames"] for event in events if "video" in event)


def compare(before: Path, videos: Path, rounds: int, flags: list[str]) -> dict[str, Any]:
    """What both did with a folder."""
    sides = {"before": before, "after": CHECKOUT}
    best = dict.fromkeys(sides, float("inf"))
    start, frames = dict(best), dict.fromkeys(sides, 0)
    for number in range(rounds):
        for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as work:
                seconds, frames[side] = prepare(sides[side], videos, Path(work), flags)
                best[side] = min(best[side], seconds)
                start[side] = min(start[side], prepare(sides[side], videos, Path(work), flags)[0])
    rates = {side: frames[side] / best[side] for side in sides}
    running = {side: frames[side] / (best[side] - start[side]) for side in sides}
    return {
        "videos": videos.name, "frames": frames,
        "seconds": {side: round(best[side], 2) for side in sides},
        "start_seconds": {side: round(start[side], 2) for side in sides},
        "frames_a_second": {side: round(rates[side], 1) for side in sides},
        "ratio": round(rates["after"] / rates["before"], 3),
        "ratio_without_start": round(running["after"] / running["before"], 3),
    }  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    flags = ["--flow", options.flow, "--short-side", str(options.short_side)]
    with tempfile.TemporaryDirectory() as work:  # kernels are compiled, files are in memory
        for checkout in (options.before, CHECKOUT):
            prepare(checkout, options.videos[0], Path(work) / checkout.name, flags)
    load = os.getloadavg()[0]
    rows = [compare(options.before.resolve(), videos.resolve(), options.rounds, flags) for videos in options.videos]
    about = {
        "flow": options.flow,
        "short_side": options.short_side,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    return describe_machine() | about | {"folders": rows}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flow", default="dis")
    parser.add_argument("--short-side", type=int, default=128)


if __name__ == "__main__":
    run(__doc__, add_options, measure)

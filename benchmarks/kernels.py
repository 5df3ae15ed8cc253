"""What C kernels are worth: compiled for this CPU, as a wheel brings them, and what is computed without any.

    python -m benchmarks.kernels --json FILE

Seconds are processor time on one thread; the fastest of `--rounds` rounds counts. `native` is compiled on this machine;
`x86-64-v4`, `x86-64-v3` or `armv8-a` is what a wheel has; `without` is a machine without a compiler. `times` says how
many times as long as with `native` it takes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.frame import describe_machine, run, run_apart, take_time
from stmn.runtime.kernel_files import KernelFiles, list_levels

CHECKOUT = Path(__file__).parents[1]
#: ATEN_CPU_CAPABILITY for a level below the CPU's own, so that the kernels of that level are loaded
CAPABILITY = {"x86-64-v3": "avx2"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own options."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", nargs="*", help="names of jobs; all by default")
    parser.add_argument("--here", action="store_true", help="measure what this process loads, alone")


def make_jobs() -> dict[str, Callable[[], object]]:
    """One piece of work for each kernel, or for several that are used together."""
    from benchmarks.idt import made_frames
    from stmn.flow.polynomial import expand, flow_between
    from stmn.flow.tvl1 import tvl1
    from stmn.idt.trajectories.extract import extract_tracks
    from stmn.idt.trajectories.parameters import TrackParameters
    from stmn.nets.fast.convolutions import Conv3x3, use_fast_convolutions
    from stmn.sampling.resample import Levels, cut_into, make_taps

    frames = made_frames(16)
    greys = torch.from_numpy(np.stack([frame[..., 0] for frame in frames[:3]]))
    picture = frames[0][None]
    out = np.empty((3, 224, 224), np.float32)
    levels = Levels([120.0] * 3, [0.02] * 3)
    convolutions = torch.nn.Sequential(*[torch.nn.Conv2d(256, 256, 3, padding=1) for _ in range(4)])
    use_fast_convolutions(convolutions)
    for convolution in convolutions:
        if isinstance(convolution, Conv3x3):
            convolution.freeze(relu=False)
    maps = torch.randn(25, 256, 16, 21).contiguous(memory_format=torch.channels_last)

    def cut() -> None:
        for _ in range(50):
            cut_into(picture, 20, 30, make_taps(200, 224), make_taps(200, 224), levels, out)

    def convolve() -> None:
        with torch.inference_mode():
            convolutions(maps)

    def expand_and_match() -> None:
        first, second = (expand(grey.numpy(), 7, 1.5) for grey in greys[:2])
        flow_between(first, second, None, 10, 2, 5)

    return {
        "tvl1": lambda: tvl1(greys[:2], greys[1:]),
        "farneback": expand_and_match,
        "tracks": lambda: sum(len(found) for found in extract_tracks(frames, TrackParameters())),
        "cut": cut,
        "winograd": convolve,
    }


def measure_here(rounds: int, jobs: list[str] | None) -> dict[str, float]:
    """Processor seconds of each job in this process."""
    torch.set_num_threads(1)
    seconds = {}
    for name, work in make_jobs().items():
        if jobs and name not in jobs:
            continue
        work()  # compiles, and fills caches
        seconds[name] = min(take_time(work)[1] for _ in range(rounds))
    return seconds


def measure(options: argparse.Namespace) -> Any:
    """Seconds of each job by what it is computed with, and how many times as long as with the native kernels."""
    if options.here:
        return measure_here(options.rounds, options.jobs)
    with tempfile.TemporaryDirectory() as folder:
        found = {"native": _measure_apart({}, options.rounds, options.jobs)}
        package = Path(shutil.copytree(CHECKOUT / "stmn", Path(folder) / "stmn"))
        shutil.copytree(CHECKOUT / "benchmarks", Path(folder) / "benchmarks")
        for march in list_levels():
            for path in package.glob("**/kernel/kernels.toml"):
                for name in tomllib.loads(path.read_text(encoding="utf-8")):
                    files = KernelFiles.read(path.parent, name)
                    files.built(march).parent.mkdir(exist_ok=True)
                    subprocess.run(files.make_command(["cc"], march, files.built(march)), check=True)
            environment = {"PYTHONPATH": folder, "CC": "no-compiler"}
            if march in CAPABILITY:
                environment["ATEN_CPU_CAPABILITY"] = CAPABILITY[march]
            found[march] = _measure_apart(environment, options.rounds, options.jobs)
        found["without"] = _measure_apart({"CC": "no-compiler"}, 2, options.jobs)
    times = {kind: {job: round(found[kind][job] / found["native"][job], 2) for job in found[kind]} for kind in found}
    return {"machine": describe_machine(), "python": sys.version.split()[0], "seconds": found, "times": times}


def _measure_apart(environment: dict[str, str], rounds: int, jobs: list[str] | None) -> dict[str, float]:
    """The result of a process of its own."""
    chosen = ["--jobs", *jobs] if jobs else []
    before, folder = dict(os.environ), Path.cwd()
    os.environ.update(environment)
    os.chdir(environment.get("PYTHONPATH", CHECKOUT))  # `python -m` looks here first
    try:
        found: dict[str, float] = run_apart("benchmarks.kernels", "--here", "--rounds", rounds, *chosen)
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir(folder)
    return found


if __name__ == "__main__":
    run(__doc__, add_options, measure)

"""Frames per second of decoding a video to pictures, beside a new scaler for each frame.

    python -m benchmarks.decode --json FILE VIDEO...

Each video is decoded in both ways, one after the other, `--repeats` times; the fastest counts.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import describe_machine, run, take_time
from stmn.video.decode import decode_video, iter_frames


def new_scaler_per_frame(path: Path, short_side: int) -> int:
    """Decode with PyAV's own `reformat`, which makes a scaler, with as many threads as cores, for each frame."""
    count = 0
    for frame in iter_frames(path):
        decoded = frame.decoded
        scale = short_side / min(decoded.width, decoded.height)
        width, height = round(decoded.width * scale), round(decoded.height * scale)
        scaled = decoded.reformat(width, height, format="rgb24", interpolation="BICUBIC")
        np.ascontiguousarray(scaled.to_ndarray())
        count += 1
    return count


def as_prepared(path: Path, short_side: int) -> int:
    """Decode as `prepare` and `predict` do."""
    return sum(1 for _ in decode_video(path, short_side))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    rows = []
    for path in options.videos:
        best = {"new scaler per frame": np.full(2, np.inf), "as prepared": np.full(2, np.inf)}
        for _ in range(options.repeats):
            for name, work in (("new scaler per frame", new_scaler_per_frame), ("as prepared", as_prepared)):
                best[name] = np.minimum(best[name], take_time(partial(work, path, options.short_side)))
        frames = as_prepared(path, options.short_side)
        rows.append({
            "video": path.name,
            "frames": frames,
            **{name: {"frames_per_second": round(frames / clock), "cpu_ms_per_frame": round(1000 * cpu / frames, 2)}
               for name, (clock, cpu) in best.items()},
        })  # fmt: skip
    return describe_machine() | {"short_side": options.short_side, "videos": rows}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--short-side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)


if __name__ == "__main__":
    run(__doc__, add_options, measure)

"""All of `stmn prepare` beside a plain loop on the same clips; part of `benchmarks.flow`.

The plain loop: OpenCV decodes and resizes, DualTVL1 with its defaults estimates one pair at a time, and frame, u and v
become a JPEG file each. The two run one after the other, with the same number of cores.
"""

import subprocess
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.frame import STMN
from stmn.video.decode import decode_video
from stmn.video.write import write_video

SHORT_SIDE, BOUND, QUALITY = 256, 20.0, 95


def shortened(clips: list[Path], frames: int, into: Path) -> list[Path]:
    """Write the first frames of each clip as a clip."""
    made = []
    for clip in clips:
        target = into / "clips" / f"{clip.stem}.mp4"
        # H.264 needs even sizes
        pictures = (frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in decode_video(clip))
        write_video(target, islice(pictures, frames))
        made.append(target)
    return made


def levels(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Flow within +- `BOUND` pixels as 8-bit levels."""
    clipped: NDArray[np.float32] = np.clip(plane, -BOUND, BOUND)
    return np.round((clipped + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def loop(clips: list[Path], out: Path) -> int:
    """The plain loop; returns the number of frames."""
    estimator = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    count = 0
    for clip in clips:
        folder = out / clip.stem
        folder.mkdir(parents=True)
        video, last, t = cv2.VideoCapture(str(clip)), None, 0
        while True:
            read, frame = video.read()
            if not read:
                break
            scale = SHORT_SIDE / min(frame.shape[:2])
            frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            cv2.imwrite(str(folder / f"frame{t:06d}.jpg"), frame, quality)
            if last is not None:
                flow = estimator.calc(last, grey, None)
                for name, plane in (("u", flow[..., 0]), ("v", flow[..., 1])):
                    cv2.imwrite(str(folder / f"{name}{t:06d}.jpg"), levels(plane), quality)
            last, t = grey, t + 1
        count += t
    return count


def prepare(videos: Path, work: Path, workers: int) -> float:
    """Seconds of a `stmn prepare` from start to exit."""
    command = [STMN, "prepare", videos, "set", "-w", work, "--short-side", SHORT_SIDE, "--workers", workers]
    started = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return time.perf_counter() - started


def frames_a_second(clips: list[Path], frames: int, threads: int) -> dict[str, Any]:
    """Frames per second of both on the first `frames` frames of the clips, with `threads` cores each.

    `start_seconds` is what `prepare` takes for two frames, most of its time for a few clips. `ratio` includes it,
    `ratio_without_start` does not, as for a data set of hours.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        short = shortened(clips, frames, folder / "videos")
        shortened(clips[:1], 2, folder / "two")
        start = prepare(folder / "two", folder / "work of two", threads)
        seconds = prepare(folder / "videos", folder / "work", threads)
        cv2.setNumThreads(threads)
        started = time.perf_counter()
        count = loop(short, folder / "files")
        loop_seconds = time.perf_counter() - started
    ours, theirs = count / seconds, count / loop_seconds
    return {
        "clips": len(short), "frames": count, "workers": threads, "start_seconds": round(start, 2),
        "frames_a_second": {"prepare": round(ours, 2), "opencv_loop": round(theirs, 2)},
        "ratio": round(ours / theirs, 1),
        "ratio_without_start": round(count / max(seconds - start, 1e-9) / theirs, 1),
    }  # fmt: skip

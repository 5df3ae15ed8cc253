"""Damaged videos through `stmn prepare`: does anything crash, hang, get lost, or leave a store that is not whole?

    python -m benchmarks.fuzz_prepare --json FILE --clips DIR [--clips DIR ...]

The first packets of every clip are copied into a file of the same kind and into one of MP4, Matroska or MPEG-TS. From
these short clips `--variants` damaged ones are made: bits flipped, ends cut off, parts replaced, inserted, removed or
zeroed; a seed decides everything. One `stmn prepare` gets them all. Then each must be in the store as ok or as skipped
with a reason, the counts must add up, and `stmn data check` must find no problem. Exits with 1 if something is wrong.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.attacks.damage import DAMAGES
from benchmarks.frame import STMN, run
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store
from stmn.store.format.write import RecordedVideo, recover_videos
from stmn.store.inspect.check import check_set
from stmn.video.decode import count_frames
from stmn.video.source import VIDEO_SUFFIXES

CONTAINERS = ("mp4", "mkv", "ts")
SHORT_SIDE = 24
VIDEO_TIMEOUT = 60


def shorten(source: Path, target: Path, packets: int) -> None:
    """Copy the first packets of a clip's video into a container of the target's kind."""
    with av.open(str(source), metadata_errors="replace") as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for number, packet in enumerate(reader.demux(stream)):
            if packet.size == 0 or number == packets:
                break
            if packet.dts is None:  # some AVI files have none; MP4 needs one
                packet.dts = packet.pts = number
            packet.stream = copy
            writer.mux(packet)


def short_clips(folders: list[Path], packets: int, limit: int, into: Path) -> list[Path]:
    """Short copies of at most `limit` clips of each folder, each in its own container and in one more."""
    made = []
    for folder in folders:
        clips = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        for number, clip in enumerate(clips[:: max(1, -(-len(clips) // limit))]):
            for container in {clip.suffix[1:].lower(), CONTAINERS[number % len(CONTAINERS)]}:
                made.append(into / f"{clip.stem}.{container}")
                shorten(clip, made[-1], packets)
    return sorted(made)


def damaged(clips: list[Path], variants: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name (`DAMAGE/NUMBER CLIP`) and bytes of each variant; the same for the same clips and seed."""
    contents = [clip.read_bytes() for clip in clips]
    for number in range(variants):
        rng = np.random.default_rng([seed, number])
        damage, which = DAMAGES[number % len(DAMAGES)], int(rng.integers(len(clips)))
        data = damage(bytearray(contents[which]), contents[int(rng.integers(len(clips)))], rng)
        yield f"{damage.__name__}/{number:05d} {clips[which].name}", bytes(data)


def prepare(videos: Path, work: Path, count: int, workers: int) -> subprocess.CompletedProcess[str]:
    """One `stmn prepare` of them all, which may skip any of them."""
    command = [
        STMN, "prepare", videos, "fuzz", "--workspace", work, "--short-side", SHORT_SIDE, "--workers", workers,
        "--video-timeout", VIDEO_TIMEOUT, "--allow-failures", count, "--json",
    ]  # fmt: skip
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def kind_of(reason: str) -> str:
    """A reason without the path and the numbers of one file."""
    return re.sub(r"\d+", "N", re.sub(r"^/.*?\.(avi|mp4|mkv|ts): ", "", reason))


def judge(
    found: dict[str, RecordedVideo], names: list[str], notes: dict[str, str], whole: dict[str, int]
) -> dict[str, Any]:
    """Counts of what became of the variants; `whole` has the frames of each clip before it was damaged."""
    by_damage = {damage.__name__: Counter[str]() for damage in DAMAGES}
    for name in names:
        by_damage[name.split("/")[0]][found[name].status if name in found else "lost"] += 1
    reasons = [finished.reason for finished in found.values() if finished.status == "skipped"]
    return {
        "ok": sum(finished.status == "ok" for finished in found.values()),
        "skipped": len(reasons),
        "ok_with_a_note": sum(name in notes for name, finished in found.items() if finished.status == "ok"),
        "ok_and_short_without_a_note": sum(
            finished.status == "ok" and name not in notes and finished.frames < whole[name.split(" ", 1)[1]]
            for name, finished in found.items()
        ),
        "lost": sum(name not in found for name in names),
        "skipped_without_reason": sum(not reason for reason in reasons),
        "crashes": [name for name, f in found.items() if f.reason.startswith("its worker process died")],
        "hangs": [name for name, f in found.items() if f.reason.startswith("no progress for")],
        # an error that is not a `StmnError` begins with its type
        "unforeseen": [name for name, f in found.items() if re.match(r"\w+(Error|Exception): ", f.reason)],
        "by_damage": {damage: dict(counts) for damage, counts in by_damage.items()},
        "reasons": dict(Counter(map(kind_of, reasons)).most_common()),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(options, Path(folder))


def fuzz(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Damage, prepare, judge."""
    (folder / "short").mkdir()
    clips = short_clips(options.clips, options.frames, options.limit, folder / "short")
    names = []
    for name, data in damaged(clips, options.variants, options.seed):
        path = folder / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        names.append(name)
    started = time.perf_counter()
    done = prepare(folder / "videos", folder / "work", len(names), options.workers)
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {
        "variants": len(names), "clips": len(clips), "seed": options.seed, "frames_of_a_clip": options.frames,
        "seconds": round(seconds, 1), "exit_code": done.returncode,
    }  # fmt: skip
    if done.returncode:
        return result | {"stderr": done.stderr[-2000:], "wrong": ["prepare failed"]}
    store = folder / "work" / "data" / "fuzz"
    with Store(store) as opened:
        notes = opened.notes()
    result |= judge(recover_videos(store), names, notes, {clip.name: count_frames(clip) for clip in clips})
    checked = check_set(store, Silent(), options.workers)
    # variants of one clip do look alike
    problems = [line for line in checked.problems if "look like videos of" not in line]
    result |= {"frames": checked.frames, "fields": checked.fields, "check_problems": problems}
    counts = json.loads(done.stdout.splitlines()[-1])["results"]
    wrong = [
        key
        for key in ("lost", "skipped_without_reason", "crashes", "hangs", "unforeseen", "check_problems")
        if result[key]
    ]
    if counts["ok"] + counts["skipped"] != len(names) or counts["ok"] != result["ok"]:
        wrong.append("counts")
    if "Traceback" in done.stderr:
        wrong.append("traceback")
    return result | {"counts": counts, "wrong": wrong}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--clips", type=Path, action="append", required=True, help="folder of video files; repeatable")
    parser.add_argument("--variants", type=int, default=2100)
    parser.add_argument("--limit", type=int, default=8, help="clips of each folder, spread over it")
    parser.add_argument("--frames", type=int, default=8, help="frames of the short clips")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)


if __name__ == "__main__":
    sys.exit(1 if run(__doc__, add_options, measure)["wrong"] else 0)

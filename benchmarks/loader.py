"""Chunks per second from the store, beside a plain loop: one JPEG file per channel, cv2, a torch DataLoader.

    python -m benchmarks.loader --json FILE [--clips DIR] [--workers N]

`--clips`: a folder of video files and of folders with more; without it, moving textures are rendered. Their frames and
flow (DIS) are written twice, from the same pictures and with the same encoder: as a store, and as files, one per
channel of flow. Both sides draw the same chunks and crops (L = 10, multi-scale crops to 224) and make the same batches,
which are compared. They take turns, and the median of the rounds counts. Processor time is also measured, because other
work on the machine disturbs it less.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.frame import describe_machine, run
from stmn.datasets.base import VideoEntry
from stmn.flow.opencv import dis
from stmn.flow.pairs import LocalFields, frames_and_flow
from stmn.sampling.augment import FLOW_STD, RGB_MEAN, RGB_STD, Crop, draw_crop
from stmn.sampling.buffers import BufferPool
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.loader import BUFFERS, load_batches
from stmn.sampling.positions import draw_positions, stack_times
from stmn.sampling.resample import kernel_problem
from stmn.store.format.header import Header, Preparation
from stmn.store.format.jpeg import encode_field, encode_frame
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB, shard_path
from stmn.store.format.write import ShardWriter, VideoFacts
from stmn.video.decode import decode_video

ENDINGS = {".avi", ".mp4", ".mov", ".mkv", ".webm", ".mpg"}
QUALITY = 95
BOUND = 20.0
Index = tuple[int, int]
Batch = dict[str, Tensor]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--clips", type=Path, help="folder of video files")
    parser.add_argument("--workers", type=int, default=2, help="processes of the DataLoader, threads of the store")
    parser.add_argument("--videos", type=int, default=12, help="how many of the clips")
    parser.add_argument("--batch", type=int, default=8, help="videos per batch")
    parser.add_argument("--batches", type=int, default=12, help="batches per round, with one chunk per video")
    parser.add_argument("--rounds", type=int, default=5)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        return measure_in(Path(folder), options)


def measure_in(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write store and files in a folder, and measure."""
    prepare(folder, 256, clips(options.clips, options.videos, 256))
    store = Store(folder / "store")
    result: dict[str, Any] = {
        "clips": str(options.clips or "rendered"),
        "videos": len(store.videos),
        "workers": options.workers,
        "kernel_problem": kernel_problem(),
        **describe_machine(),
        "opencv": cv2.__version__,
        "store_bytes_over_payload": round(bytes_over_payload(store), 4),
        "plane_bytes": round(mean_bytes(store, FLOW) / 2),
        "frame_bytes": round(mean_bytes(store, RGB)),
    }
    for chunks in (1, 5):
        result[f"chunks_{chunks}"] = compare(store, folder / "files", chunks, options)
    result["ratio_vs_jpeg_files"] = min(result[f"chunks_{chunks}"]["ratio"] for chunks in (1, 5))
    prepare(folder / "small", 128, clips(options.clips, options.videos, 128))
    result["small_crops"] = small_crops(folder / "small" / "store")
    return result


def clips(folder: Path | None, count: int, short_side: int) -> Iterator[tuple[str, Iterable[NDArray[np.uint8]]]]:
    """Name and frames of each clip."""
    if folder is None:
        for number in range(count):
            yield f"rendered{number:02d}", texture(number, short_side)
        return
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    for path in paths[:: max(1, len(paths) // count)][:count]:
        yield path.stem, decode_video(path, short_side)


def texture(seed: int, short_side: int) -> Iterator[NDArray[np.uint8]]:
    """Blurred coloured noise that drifts."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.uniform(0, 1, (short_side, short_side * 4 // 3, 3)), (0, 0), short_side / 40)
    noise -= noise.min()
    picture = (noise * (255 / noise.max())).astype(np.uint8)
    for t in range(60):
        yield np.ascontiguousarray(np.roll(picture, (t * int(rng.integers(1, 3)), 2 * t), axis=(0, 1)))


def prepare(folder: Path, short_side: int, films: Iterable[tuple[str, Iterable[NDArray[np.uint8]]]]) -> None:
    """Write `folder/store`, and `folder/files/VIDEO/{frame,u,v}_00000.jpg`, from one decoding and one flow."""
    names = []
    with ShardWriter(shard_path(folder / "store", 0)) as shard:
        for name, frames in films:
            names.append(name)
            files = folder / "files" / name
            files.mkdir(parents=True)
            with shard.add_video(VideoEntry(name, Path(name), "any", name)) as writer:
                seen = fields = height = width = 0
                for pictures, levels in frames_and_flow(frames, LocalFields(dis, BOUND, "keep")):
                    for picture in pictures:
                        blob = encode_frame(picture, QUALITY)
                        writer.add(RGB, seen, blob)
                        (files / f"frame_{seen:05d}.jpg").write_bytes(blob)
                        seen += 1
                    for field in levels:
                        writer.add(FLOW, fields, encode_field(field, QUALITY))
                        for plane, level in zip("uv", field, strict=True):
                            (files / f"{plane}_{fields:05d}.jpg").write_bytes(encode_field(level[None], QUALITY))
                        fields += 1
                    height, width = pictures.shape[1:3]
                writer.facts = VideoFacts(seen, width, height, width, height, 25.0, name, "dis", BOUND)
    Header(
        name="benchmark",
        dataset={"kind": "dataset", "name": "folder", "package": "stmn", "version": "0"},
        dataset_options={},
        classes=["any"],
        keeps=["mirror", "crop"],
        preparation=Preparation(short_side=short_side, flow="dis", bound=BOUND, quality=QUALITY, camera_motion="keep"),
        splits={"1": {"train": names, "test": []}},
    ).write(folder / "store")


class PlainDataset(Dataset[Batch]):
    """The plain loop, as it is usually written: decode, crop, resize, stack, normalise."""

    def __init__(self, root: Path, videos: list[StoredVideo], sampling: Sampling) -> None:
        self.root, self.videos, self.sampling = root, videos, sampling

    def __getitem__(self, index: Index) -> Batch:
        epoch, number = index
        video, sampling = self.videos[number], self.sampling
        rng = np.random.default_rng([sampling.seed, epoch, number])
        times = draw_positions(video.frames, sampling.stack_length, sampling.chunks, sampling.stride, rng)
        crop = draw_crop(video.height, video.width, sampling.augmentation, ("mirror", "crop"), rng)

        def read(name: str, flags: int) -> NDArray[np.uint8]:
            picture = cv2.imread(str(self.root / video.id / name), flags)
            assert picture is not None
            box = picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
            box = cv2.resize(box, (sampling.size, sampling.size), interpolation=cv2.INTER_LINEAR)
            return np.asarray(cv2.flip(box, 1) if crop.mirror else box, np.uint8)

        frames, stacks = [], []
        for t in times:
            frames.append(cv2.cvtColor(read(f"frame_{t:05d}.jpg", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
            planes = [
                read(f"{plane}_{i:05d}.jpg", cv2.IMREAD_GRAYSCALE)
                for i in stack_times(t, video.frames, sampling.stack_length)
                for plane in "uv"
            ]
            stacks.append(np.stack(planes))
        rgb = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
        flow = torch.from_numpy(np.stack(stacks)).float()
        rgb = (rgb / 255 - torch.tensor(RGB_MEAN).view(3, 1, 1)) / torch.tensor(RGB_STD).view(3, 1, 1)
        flow = (flow - 128) / FLOW_STD
        if crop.mirror:
            flow[:, 0::2] *= -1
        return {"rgb": rgb, "flow": flow, "label": torch.tensor(0)}


def compare(store: Store, files: Path, chunks: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both loaders on the same batches, in turns, after a round that fills caches and compares the batches."""
    sampling = Sampling(("rgb", "flow"), 224, 10, chunks, (5, 35), "multi_scale")
    videos = store.part("1", "train")
    ours = Clips(store, videos, sampling)
    order = [(epoch, number) for epoch in range(1000) for number in range(len(videos))]
    count = max(3, options.batches // chunks)
    batches = [order[i * options.batch : (i + 1) * options.batch] for i in range(count)]
    theirs = DataLoader(
        PlainDataset(files, videos, sampling),
        batch_sampler=batches,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    buffers = BufferPool(BUFFERS)  # kept over the rounds, as it is over the thousands of batches of a training run
    sides: dict[str, Callable[[], Iterable[Batch]]] = {
        "store": lambda: load_batches(ours, batches, options.workers, buffers),
        "jpeg_files": lambda: theirs,
    }
    differences = [difference(one, other) for one, other in zip(sides["store"](), sides["jpeg_files"](), strict=True)]
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, batches_of in sides.items():
            started, used = time.perf_counter(), cpu_seconds()
            for _batch in batches_of():
                pass
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(cpu_seconds() - used)
    made = count * options.batch * chunks
    return {
        "ratio": round(statistics.median(b / a for a, b in zip(*wall.values(), strict=True)), 2),
        "ratio_cpu": round(statistics.median(b / a for a, b in zip(*cpu.values(), strict=True)), 2),
        "chunks_a_second": {name: round(made / statistics.median(times), 1) for name, times in wall.items()},
        "cpu_ms_a_chunk": {name: round(1e3 * statistics.median(times) / made, 2) for name, times in cpu.items()},
        "chunks_a_round": made,
        "difference_in_levels": {
            name: {
                "max": max(d[name][0] for d in differences),
                "mean": statistics.mean(d[name][1] for d in differences),
            }
            for name in ("rgb", "flow")
        },
        "difference_from_float_resize": from_float(ours, batches[0]),
    }


def cpu_seconds() -> float:
    """Processor time of this process and of the DataLoader's processes."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def difference(one: Batch, other: Batch) -> dict[str, tuple[float, float]]:
    """Largest and mean difference of two batches, in 8-bit levels."""
    scales = {"rgb": 255 * torch.tensor(RGB_STD).view(3, 1, 1), "flow": torch.tensor(FLOW_STD)}
    apart = {name: (one[name] - other[name]).abs() * scale for name, scale in scales.items()}
    return {name: (round(float(values.max()), 4), round(float(values.mean()), 4)) for name, values in apart.items()}


def from_float(ours: Clips, batch: list[Index]) -> dict[str, dict[str, float]]:
    """Largest and mean difference, in levels, from the stored pictures cut by torch's float anti-aliased resize."""
    found = []
    for epoch, number in batch:
        video, sampling = ours.videos[number], ours.sampling
        rng = np.random.default_rng([sampling.seed, epoch, number])
        times = draw_positions(video.frames, sampling.stack_length, sampling.chunks, sampling.stride, rng)
        crop = draw_crop(video.height, video.width, sampling.augmentation, ("mirror", "crop"), rng)
        stacks = [i for t in times for i in stack_times(t, video.frames, sampling.stack_length)]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB_MEAN, RGB_STD))
        sign = torch.tensor([-1.0 if crop.mirror else 1.0, 1.0]).view(2, 1, 1)
        frames = float_cut(ours.store.frames(video.id, times), crop, sampling.size)
        fields = float_cut(ours.store.fields(video.id, stacks), crop, sampling.size)
        flow = ((fields - 128) / FLOW_STD * sign).reshape(len(times), -1, sampling.size, sampling.size)
        found.append(difference(ours[epoch, number], {"rgb": (frames / 255 - mean) / std, "flow": flow}))
    return {
        name: {"max": max(d[name][0] for d in found), "mean": max(d[name][1] for d in found)}
        for name in ("rgb", "flow")
    }


def float_cut(pictures: Tensor, crop: Crop, size: int) -> Tensor:
    """(N, channels, H, W) uint8 to (N, channels, size, size) levels."""
    box = pictures[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width].float()
    box = F.interpolate(box, size=(size, size), mode="bilinear", antialias=True)
    return box.flip(-1) if crop.mirror else box


def small_crops(folder: Path) -> dict[str, float]:
    """Processor time, ms, of a sample of 4 chunks, L = 10, flow, 64-pixel crops of frames of short side 128."""
    result = {}
    for name, cache in (("decoding", 0), ("cached", 1 << 30)):
        store = Store(folder, cache)
        videos = store.part("1", "train")
        samples = Clips(store, videos, Sampling(("flow",), 64, 10, 4, (3, 20), "jitter"))
        for number in range(len(videos)):
            store.fields(videos[number].id, range(videos[number].frames - 1))
        started = time.process_time()
        for epoch in range(10):
            for number in range(len(videos)):
                samples[epoch, number]
        result[f"{name}_ms_a_sample"] = round(1e3 * (time.process_time() - started) / (10 * len(videos)), 3)
    return result


def bytes_over_payload(store: Store) -> float:
    """Size of the store's files, divided by that of the JPEGs in them."""
    files = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    return files / float(sum(store.query(shard, "SELECT sum(length(jpeg)) FROM pictures")[0][0] for shard in range(1)))


def mean_bytes(store: Store, kind: int) -> float:
    """Mean size of the JPEGs of a kind, bytes."""
    return float(store.query(0, "SELECT avg(length(jpeg)) FROM pictures WHERE (key >> 32) & 1 = ?", (kind,))[0][0])


if __name__ == "__main__":
    run(__doc__, add_options, measure)

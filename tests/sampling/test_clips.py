"""What a training step sees: a function of seed, epoch and video, the same crop in frames and flow."""

import pickle
import shutil
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.made_sets import MadeVideo, make_set
from torch import Tensor

from stmn.errors import DataError
from stmn.sampling.augment import FLOW_STD, RGB_MEAN, RGB_STD
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches, sample_order
from stmn.sampling.positions import valid_positions
from stmn.store.format.read import Store

HEIGHT, WIDTH, FRAMES = 96, 120, 30


def coordinates(count: int) -> Tensor:
    """(count, HEIGHT, WIDTH, 2) levels 2 x and 2 y."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([2 * x, 2 * y], dim=-1).to(torch.uint8).expand(count, -1, -1, -1)


def clock(count: int) -> Tensor:
    """(count, HEIGHT, WIDTH, 1) levels 8 t."""
    return (8 * torch.arange(count)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, HEIGHT, WIDTH, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos whose levels encode place (2 x in red and u, 2 y in green and v) and time (8 t in blue; in u and v)."""
    frames = torch.cat([coordinates(FRAMES), clock(FRAMES)], dim=-1)
    where = coordinates(FRAMES - 1).permute(0, 3, 1, 2)
    when = clock(FRAMES - 1).permute(0, 3, 1, 2)
    videos = [
        MadeVideo("where", "a", frames, where),
        MadeVideo("when", "b", frames, torch.cat([when, when + 1], dim=1)),
    ]
    return make_set(tmp_path_factory.mktemp("sets") / "coordinates", videos)


def clips(folder: Path, keeps: tuple[str, ...] = ("mirror", "crop"), **sampling: object) -> Clips:
    store = Store(folder)
    store.header = store.header.model_copy(update={"keeps": list(keeps)})
    values = {"modalities": ("rgb", "flow"), "size": 48, "stack_length": 10, "chunks": 3, "stride": (1, 4)}
    return Clips(store, store.part("1", "train"), Sampling(**(values | sampling)))


def levels(sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A sample's frames (T, 3, H, W) and fields (T, L, 2, H, W), back in levels."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (RGB_MEAN, RGB_STD))
    return (sample["rgb"] * std + mean) * 255, sample["flow"].unflatten(1, (-1, 2)) * FLOW_STD + 128


@pytest.mark.parametrize("augmentation", ["multi_scale", "jitter", "random_resized", "centre"])
def test_frames_and_flow_of_all_chunks_share_one_crop_and_flip(folder, augmentation):
    where = clips(folder, augmentation=augmentation)
    boxes, flips = set(), Counter()
    for epoch in range(12):
        sample = where[epoch, 0]
        assert sample["rgb"].shape == (3, 3, 48, 48) and sample["flow"].shape == (3, 20, 48, 48)
        frames, fields = levels(sample)
        x, y = frames[:, 0], frames[:, 1]
        mirror = bool(x[0, 0, 0] > x[0, 0, -1])
        u, v = (256 - fields[:, :, 0] if mirror else fields[:, :, 0]), fields[:, :, 1]
        for field in range(10):
            assert (u[:, field] - x).abs().max() < 6  # the same place in all chunks and both modalities
            assert (v[:, field] - y).abs().max() < 6
        assert (x - x[0]).abs().max() < 6
        flips[mirror] += 1
        boxes.add((round(float(x[0].min()) / 8), round(float(x[0].max()) / 8), round(float(y[0].min()) / 8)))
    if augmentation == "centre":
        assert len(boxes) == 1 and flips[True] == 0
    else:
        assert len(boxes) > 5 and flips[True] and flips[False]


def test_chunk_has_frame_t_and_fields_around_it_as_u_v_u_v(folder):
    when = clips(folder, keeps=())
    for epoch in range(10):
        frames, _ = levels(when[epoch, 1])
        for chunk, t in enumerate((frames[:, 2].mean(dim=(1, 2)) / 8).round().long().tolist()):
            assert t in valid_positions(FRAMES, 10)
            planes = when[epoch, 1]["flow"][chunk].mean(dim=(1, 2)) * FLOW_STD + 128
            expected = [level for i in range(t - 5, t + 5) for level in (8 * i, 8 * i + 1)]
            assert planes.tolist() == pytest.approx(expected, abs=0.5)


def test_label_is_the_index_of_the_class_name(folder):
    samples = clips(folder)
    assert [int(samples[0, number]["label"]) for number in range(2)] == [0, 1]
    assert samples.store.header.classes == ["a", "b"]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_sample_is_a_function_of_seed_epoch_and_video(folder):
    first = clips(folder, seed=5)
    wanted = {(epoch, number): first[epoch, number] for epoch in (0, 1, 7) for number in (0, 1)}
    torch.manual_seed(99)
    np.random.seed(99)
    again = clips(folder, seed=5)
    again.store.cache_bytes = 1 << 20
    for key in reversed(wanted):  # in another order, from another store, with a cache
        assert same(again[key], wanted[key])
        assert same(again[key], wanted[key])
    elsewhere = pickle.loads(pickle.dumps(first))  # as another process would get it
    assert same(elsewhere[7, 1], wanted[7, 1])
    assert not same(wanted[0, 0], wanted[1, 0])
    assert not same(clips(folder, seed=6)[0, 0], wanted[0, 0])


def test_epoch_minus_one_is_the_plain_centre_sample(folder):
    plain = clips(folder, chunks=1)[-1, 0]
    assert same(plain, clips(folder, chunks=1, seed=8)[-1, 0])
    frames, _ = levels(plain)
    assert float(frames[0, 2].mean()) / 8 == pytest.approx(FRAMES / 2, abs=1)  # the middle of the video
    assert float(frames[0, 0].mean()) == pytest.approx(WIDTH, abs=2)  # and the middle of the frame: 2 x
    assert float(frames[0, 1].mean()) == pytest.approx(HEIGHT, abs=2)
    assert clips(folder, chunks=40)[-1, 0]["rgb"].shape[0] == 40  # more chunks than the video has positions


def test_unused_modalities_are_not_read(folder):
    assert set(clips(folder, modalities=("rgb",))[0, 0]) == {"rgb", "label"}
    assert set(clips(folder, modalities=("flow",))[0, 0]) == {"flow", "label"}


def test_loader_stacks_samples_into_batches(folder):
    samples = clips(folder)
    (batch,) = load_batches(samples, [[(0, 0), (3, 1)]], threads=0)
    assert batch["rgb"].shape == (2, 3, 3, 48, 48) and batch["label"].tolist() == [0, 1]
    assert torch.equal(batch["flow"][1], samples[3, 1]["flow"])


def test_batches_are_the_same_with_and_without_threads(folder):
    batches = [[(epoch, number) for number in (epoch % 2, 1, 0)] for epoch in range(9)]
    for cache in (0, 1 << 20):
        samples = clips(folder)
        samples.store.cache_bytes = cache
        for alone, threaded in zip(load_batches(samples, batches, 0), load_batches(samples, batches, 3), strict=True):
            assert same(alone, threaded)


@pytest.mark.parametrize("threads", [0, 2])
def test_batch_in_use_is_never_overwritten(folder, threads):
    samples = clips(folder)
    batches = [[(epoch, 0), (epoch, 1)] for epoch in range(16)]
    parts, copies, places = [], [], set()
    for number, batch in enumerate(load_batches(samples, batches, threads)):
        places.add(batch["flow"].data_ptr())
        if number < 3:
            parts.append(batch["flow"][1, :, ::7])
            copies.append(parts[-1].clone())
    assert all(torch.equal(part, copy) for part, copy in zip(parts, copies, strict=True))
    assert len(places) < 10  # freed memory is used again


@pytest.mark.parametrize("threads", [0, 2])
def test_errors_in_loader_threads_reach_the_caller(folder, threads, tmp_path):
    shutil.copytree(folder, tmp_path / "set")
    samples = clips(tmp_path / "set")
    shard = sqlite3.connect(samples.store.shards[0])
    shard.execute("UPDATE pictures SET jpeg = substr(jpeg, 1, 300) WHERE key >> 33 = 2")
    shard.commit()
    shard.close()
    good, bad = [(0, 0)], [(0, 1)]
    batches = load_batches(samples, [good, good, bad, good], threads)
    assert next(batches)["label"].tolist() == next(batches)["label"].tolist() == [0]
    with pytest.raises(DataError, match=r"video 'when': frame \d+ is not what prepare wrote"):
        next(batches)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_each_pass_sees_every_video_once_in_its_own_order():
    order = sample_order(count=7, seed=1, first=0, length=35)
    passes = [order[start : start + 7] for start in range(0, 35, 7)]
    for epoch, items in enumerate(passes):
        assert sorted(items) == [(epoch, number) for number in range(7)]
    assert len({tuple(number for _, number in items) for items in passes}) == 5
    assert sample_order(7, seed=2, first=0, length=35) != order


def test_any_stretch_of_the_order_can_be_computed_alone():
    order = sample_order(count=5, seed=3, first=0, length=60)
    for first in range(0, 50, 3):
        for length in (1, 4, 10):
            assert sample_order(5, 3, first, length) == order[first : first + length]


def test_micro_batches_follow_the_order_and_start_anywhere():
    steps = [MicroBatches(count=11, batch=8, micro_batch=3, seed=1, start=s, steps=s + 1) for s in range(6)]
    parts = [list(step) for step in steps]
    assert all([len(micro) for micro in part] == [3, 3, 2] for part in parts)
    joined = [item for part in parts for micro in part for item in micro]
    assert joined == sample_order(11, 1, 0, 48)
    assert list(MicroBatches(11, 8, 3, 1, start=2, steps=6)) == [micro for part in parts[2:] for micro in part]


def test_mirrored_sample_has_the_class_that_its_mirror_shows(folder):
    """Frames say where they were cut: x runs backwards in a mirrored sample."""
    pairs = {"a": "b", "b": "a"}
    found = clips(folder)
    found.store.header = found.store.header.model_copy(update={"mirror_pairs": pairs})
    found = Clips(found.store, found.videos, found.sampling)
    seen = set()
    for epoch in range(12):
        for number, own in enumerate(found.labels):
            sample = found[(epoch, number)]
            row = levels(sample)[0][0, 0, 0]
            mirrored = bool(row[0] > row[-1])
            assert int(sample["label"]) == (1 - own if mirrored else own)
            seen.add((own, mirrored))
    assert len(seen) == 4

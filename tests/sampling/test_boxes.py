"""Batches that a device cuts of 8-bit pictures have the draws of the CPU's, and its pixels to a thousandth of a level.

A CPU stands in for the device: everything except streams and pinned memory is the same there.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.devices import LeadingDimensions
from helpers.made_sets import MadeVideo, make_set
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stmn.runtime.device import Device, choose_device
from stmn.runtime.memory import find_shortage
from stmn.sampling.augment import FLOW_STD, RGB_STD
from stmn.sampling.boxes import BoxBatch
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.colour import ColourJitter
from stmn.sampling.loader import load_batches
from stmn.sampling.noise import Noise
from stmn.sampling.order import MicroBatches
from stmn.sampling.products import make_matrix
from stmn.store.format.read import Store

CUTTING = replace(choose_device("cpu"), cuts_pictures=True)
#: levels 0..255 from the CPU's: both sum in float32, in another order
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Videos of several sizes, some odd, with noise in every pixel; the last one is too short for its chunks."""
    sizes = [(24, 71, 97), (24, 64, 64), (30, 97, 71), (20, 65, 130), (8, 64, 86)]
    videos = []
    for number, (frames, height, width) in enumerate(sizes):
        rng = np.random.default_rng(number)
        pictures, levels = (
            torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
            for shape in ((frames, height, width, 3), (frames - 1, 2, height, width))
        )
        videos.append(MadeVideo(f"v{number}", f"class{number % 2}", pictures, levels))
    return Store(make_set(tmp_path_factory.mktemp("sets") / "noisy", videos))


def clips(store: Store, **sampling: object) -> Clips:
    values = {"modalities": ("rgb", "flow"), "size": 48, "stack_length": 4, "chunks": 3, "stride": (1, 4)}
    return Clips(store, store.part("1", "train"), Sampling(**(values | sampling)))


def assert_same_batches(
    samples: Clips, threads: int = 0, levels: float = TOLERANCE, device: Device = CUTTING
) -> list[dict[str, Tensor]]:
    """Three epochs and the plain centre samples: those that a device cuts, compared with the CPU's."""
    order = [(epoch, number) for epoch in (0, 1, 2, -1) for number in range(len(samples))]
    batches = [order[first : first + 4] for first in range(0, len(order), 4)]
    theirs = list(load_batches(samples, batches, threads, device=device))
    scale = {"rgb": 255 * torch.tensor(RGB_STD).view(3, 1, 1), "flow": torch.tensor(FLOW_STD)}
    for ours, found in zip(load_batches(samples, batches, 0), theirs, strict=True):
        assert all(value.device.type == device.device.type for value in found.values())
        found = {name: value.cpu() for name, value in found.items()}
        assert ours.keys() == found.keys() and torch.equal(ours["label"], found["label"])
        for name in samples.sampling.modalities:
            assert found[name].shape == ours[name].shape and found[name].dtype == torch.float32
            assert found[name].is_contiguous()
            assert float(((found[name] - ours[name]) * scale[name]).abs().max()) < levels
    return theirs


@pytest.mark.parametrize("augmentation", ["multi_scale", "jitter", "random_resized", "centre"])
@pytest.mark.parametrize("size", [33, 64])
def test_every_augmentation_has_the_cpus_pixels(store, augmentation, size):
    assert_same_batches(clips(store, augmentation=augmentation, size=size))


@pytest.mark.parametrize("modality", ["rgb", "flow"])
@pytest.mark.parametrize("chunks_by", ["stride", "segments"])
def test_each_modality_alone(store, modality, chunks_by):
    found = assert_same_batches(clips(store, modalities=(modality,), chunks_by=chunks_by, chunks=5))
    assert set(found[0]) == {modality, "label"}


def test_mirrors_that_change_the_class(store):
    own = Store(store.folder)
    own.header = own.header.model_copy(update={"mirror_pairs": {"class0": "class1", "class1": "class0"}})
    samples = clips(own)
    labels = torch.cat([batch["label"] for batch in assert_same_batches(samples)]).tolist()
    assert labels != samples.labels * 4  # some are mirrored


def test_colours_change_as_on_the_cpu(store):
    """To one level: colours are rounded to levels on the way."""
    samples = clips(store, colour=ColourJitter(0.4, 0.4, 0.4, 0.1))
    plain, changed = (next(load_batches(clips_, [[(0, 0)]], 0))["rgb"] for clips_ in (clips(store), samples))
    assert not torch.allclose(plain, changed, atol=0.1)
    assert_same_batches(samples, levels=1.001)


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_noise_of_a_blank_stream_is_the_same(store, stream):
    channels = 3 if stream == "appearance" else 2
    assert_same_batches(clips(store, noise=Noise(stream, (128.0,) * channels, (20.0,) * channels)))


def test_threads_make_the_same_batches(store):
    alone, threaded = (assert_same_batches(clips(store), threads) for threads in (0, 3))
    for one, other in zip(alone, threaded, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_products_have_aligned_rows(store, modality):
    """cuBLAS has its fastest kernels for TF32 where rows start at multiples of 16 bytes, and those of 32 are safe."""
    with LeadingDimensions() as rows:
        list(load_batches(clips(store, modalities=(modality,)), [[(0, 0), (0, 2)], [(1, 1)]], 0, device=CUTTING))
    assert rows.found and not [length for length in rows.found if length % 8]


def test_pinned_memory_that_runs_out_is_not_the_gpus(store, monkeypatch):
    """CUDA gives out pinned memory, and its errors name CUDA."""

    def fail(*_: object, **__: object) -> Tensor:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(MemoryError) as caught:
        next(load_batches(clips(store), [[(0, 0)]], 0, device=CUTTING))
    assert str(find_shortage(caught.value)) == "a batch's pictures in pinned memory: out of memory"


def tf32(x: Tensor) -> Tensor:
    """What a product in TF32 reads: fractions of 10 bits."""
    return ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("crop", [(281, 263), (169, 231), (97, 71)])
def test_tf32_moves_a_pixel_by_less_than_half_a_level(crop):
    """Reckoned here, because a CPU has no TF32: levels are exact, and weights and what lies between are rounded."""
    rows, columns = (make_matrix(length, 224) for length in crop)
    for levels in (torch.full(crop, 255.0), torch.randint(0, 256, crop).float()):
        exact = rows.double() @ levels.double() @ columns.double().T
        coarse = tf32((tf32(rows).double() @ tf32(levels).double()).float()).double() @ tf32(columns).double().T
        assert 0 < float((coarse - exact).abs().max()) < 0.5


class NoAnswers(TorchDispatchMode):
    """Fails where a value is asked for, which a program would have to wait for the device to give."""

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        assert function is not torch.ops.aten._local_scalar_dense.default
        return function(*given, **(named or {}))


def test_cutting_never_waits_for_the_device(store):
    batch = BoxBatch(clips(store, colour=ColourJitter(0.4, 0.4, 0.4, 0.1)), [(0, 0), (0, 1)], pin=False)
    for job in batch.jobs:
        job()
    with NoAnswers():
        assert set(batch.cut(CUTTING)) == {"rgb", "flow", "label"}
        with pytest.raises(AssertionError):
            torch.ones(()).item()


def test_nothing_is_left_on_the_cpu(store, monkeypatch):
    """On a device whose tensors have no values: work that mixes devices fails there as on a GPU."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    batch = BoxBatch(clips(store, colour=ColourJitter(0.4, 0.4, 0.4, 0.1)), [(0, 0), (0, 1)], pin=False)
    cut = batch.cut(Device(torch.device("meta")))
    assert {name: tuple(value.shape) for name, value in cut.items() if value.is_meta} == {
        "rgb": (2, 3, 3, 48, 48), "flow": (2, 3, 8, 48, 48), "label": (2,),
    }  # fmt: skip


def test_half_precision_around_it_changes_no_pixel(store):
    samples = clips(store)
    [plain] = load_batches(samples, [[(0, 0), (0, 1)]], 0, device=CUTTING)
    with torch.autocast("cpu", torch.bfloat16):
        [within] = load_batches(samples, [[(0, 0), (0, 1)]], 0, device=CUTTING)
    assert all(torch.equal(plain[name], within[name]) for name in plain)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gpu_has_the_cpus_pixels(store, precision):
    """Exactly in float32, whatever a program lets float32 be; to half a level where the network is coarser."""
    levels = TOLERANCE if precision == "float32" else 0.5
    torch.set_float32_matmul_precision("high")
    try:
        for more in ({}, {"augmentation": "random_resized", "size": 33}, {"chunks": 5, "chunks_by": "segments"}):
            assert_same_batches(clips(store, **more), 3, levels, choose_device("cuda", precision))
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.cuda
def test_whatever_goes_to_a_gpu_is_pinned(store, monkeypatch):
    """So no copy makes the host wait: pictures, matrices and labels."""
    given: list[Tensor] = []
    move = Device.move
    monkeypatch.setattr(Device, "move", lambda self, tensor: given.append(tensor) or move(self, tensor))
    [batch] = load_batches(clips(store), MicroBatches(4, 4, 4, 0, 0, 1), 0, device=choose_device("cuda"))
    assert given and all(tensor.is_pinned() for tensor in given if not tensor.is_cuda)
    assert all(tensor.is_cuda for tensor in batch.values())


@pytest.mark.cuda
def test_gpu_changes_colours_as_the_cpu_does(store):
    """Except for single pixels whose level is rounded the other way."""
    samples = clips(store, colour=ColourJitter(0.4, 0.4, 0.4, 0.1))
    assert_same_batches(samples, levels=3.0, device=choose_device("cuda"))

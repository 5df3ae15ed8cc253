"""Estimate the work of a stage: the videos on its lists, the cost of its network, and the speed of this machine."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stmn import registry
from stmn.errors import StmnError
from stmn.options.evaluate import EvaluateOptions
from stmn.options.training import TrainingOptions

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig

#: a training step costs three forward passes: one forward, two in the backward pass (of weights and of features)
TRAINING_PASSES = 3
#: seconds over which the rate is measured
_MEASURED_SECONDS = 1.0
#: steps on a GPU are doubled while that makes the rate larger than this many times the one before
_GAIN = 1.1


def count_classes(folder: Path) -> int:
    """The number of classes of a prepared set. Raises `DataError`."""
    from stmn.store.format.header import read_header

    return len(read_header(folder).classes)


def list_splits(folder: Path, asked: Sequence[str] | None) -> tuple[list[str], bool]:
    """The splits of a prepared set, and whether they are folds.

    Args:
        folder: the prepared set.
        asked: the splits wanted; None for all.

    Raises:
        DataError: the set can't be read, or has no such split.
    """
    from stmn.store.format.header import read_header

    header = read_header(folder)
    for split in asked or ():
        header.part(split, "test")
    return list(asked or header.splits), header.has_folds


def count_training_videos(folder: Path, options: TrainingOptions) -> tuple[int, int]:
    """The numbers of videos that a training learns from and holds out. Raises `DataError`."""
    from stmn.sampling.validation import hold_out
    from stmn.store.format.read import Store

    with Store(folder) as store:
        lists = hold_out(store.part(options.split, "train"), options.validation, options.validation_seed)
    return len(lists.kept), len(lists.held_out)


def count_test_pixels(
    folder: Path, options: EvaluateOptions, split: str, size: int, stack_length: int
) -> tuple[int, float]:
    """The number of videos that an evaluation scores, and the pixels of all their chunks.

    Args:
        folder: the prepared set.
        options: the evaluation's options.
        split: the split, or "all".
        size: side of the network's training crop, pixels.
        stack_length: L, flow fields per chunk.

    Raises:
        DataError: the set can't be read, or has no such split.
    """
    from stmn.sampling.positions import spread_positions
    from stmn.store.format.read import Store

    videos, pixels = 0, 0.0
    crops = 10 if options.ten_crop else 2 if options.flips else 1
    short_side = round(size * 256 / 224)
    with Store(folder) as store:
        for one in store.header.splits if split == "all" else [split]:
            for video in store.part(one, options.part or "test"):
                videos += 1
                whole = options.fully_conv and not options.ten_crop and not options.centre_crop
                aspect = max(video.width, video.height) / min(video.width, video.height)
                area = short_side**2 * aspect if whole else size**2
                pixels += len(spread_positions(video.frames, stack_length, options.chunks)) * area * crops
    return videos, pixels


def count_cost(config: "NetworkConfig") -> tuple[int, int]:
    """Parameters of a network, and its multiply-adds for one chunk of its training size."""
    return _count_cost(config.model_dump_json())


@lru_cache(maxsize=64)
def _count_cost(config: str) -> tuple[int, int]:
    from stmn.nets.build import sketch_network
    from stmn.nets.config import NetworkConfig
    from stmn.nets.show.cost import count_costs, sum_costs

    network = NetworkConfig.model_validate_json(config)
    return sum_costs(count_costs(sketch_network(network), network.size))


def measure_rate(device: str) -> tuple[float, str]:
    """Measure the multiply-adds per second of training; also return the device's name.

    A ResNet-18 runs forward and backward on eight random frames of 112 pixels for about a second, in the default
    precision of training. A step counts as three forward passes. A GPU takes most of such a step to launch kernels, so
    there the frames are doubled, a second each, until that gains no more than a tenth or they don't fit.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: there is no such device.
    """
    from stmn.nets.config import NetworkConfig, StreamConfig
    from stmn.runtime.memory import find_shortage

    stream = StreamConfig(modality="rgb", arch="resnet18", width=1.0, dropout=0.0)
    config = NetworkConfig(classes=["a", "b"], size=112, stack_length=1, streams=[stream])
    work = TRAINING_PASSES * count_cost(config)[1]
    name, is_gpu = name_device(device)
    videos, rate = 8, 0.0
    while True:
        try:
            seconds = measure_step(config, videos, 1, device)
        except (MemoryError, RuntimeError) as error:
            if not rate or find_shortage(error) is None:
                raise
            return rate, name
        before, rate = rate, max(rate, work * videos / seconds)
        if not is_gpu or rate <= _GAIN * before or seconds >= _MEASURED_SECONDS:
            return rate, name
        videos *= 2


def measure_step(config: "NetworkConfig", videos: int, chunks: int, device: str) -> float:
    """Measure the seconds of a training step on random pictures, for about a second.

    The step includes forward pass, loss and backward pass, but not reading and augmentation.

    Args:
        config: the network.
        videos: videos per step.
        chunks: T, the chunks of each video.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    from stmn.nets.build import build_network
    from stmn.nets.config import STREAMS
    from stmn.runtime.device import choose_device
    from stmn.training.learner import Learner

    chosen = choose_device(device, "auto")
    network = build_network(config).train()
    chosen.place(network)
    learner = Learner(network, chosen)
    channels = {"rgb": 3, "flow": 2 * config.stack_length}
    inputs = [
        torch.randn(videos, chunks, channels[modality], config.size, config.size, device=chosen.device)
        for modality, name in STREAMS.items()
        if name in network.names  # in the order of the streams
    ]
    labels = torch.arange(videos, device=chosen.device) % len(config.classes)

    def step() -> None:
        loss, _ = learner(inputs, labels)
        loss.backward()
        if chosen.is_cuda:
            torch.cuda.synchronize()

    step()  # compiles kernels and chooses algorithms, once
    steps, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < _MEASURED_SECONDS or not steps:
        step()
        steps += 1
    return seconds / steps


def name_device(device: str) -> tuple[str, bool]:
    """A device's name in messages, and whether it is a GPU. Raises `UsageError` if there is no such device."""
    import torch

    from stmn.runtime.device import choose_device

    chosen = choose_device(device)
    return (torch.cuda.get_device_name(chosen.device) if chosen.is_cuda else "this CPU"), chosen.is_cuda


def list_installed() -> dict[str, tuple[str, float]]:
    """Name -> backbone and width, for starting weights from packages that have an stmn model for both streams."""
    from stmn.nets.checkpoint import read_description
    from stmn.nets.config import MODALITIES
    from stmn.nets.weights.installed import find_installed

    found = {}
    for name in registry.names("weights"):
        with suppress(StmnError):  # skip broken ones, and those of one modality
            paths = [find_installed(name, modality)[0] for modality in MODALITIES.values()]
            streams = [stream for path in paths for stream in read_description(path).network.streams]
            if len(sizes := {(stream.arch, stream.width) for stream in streams}) == 1:
                found[name] = sizes.pop()
    return found


def list_imagenet(archs: Sequence[str]) -> frozenset[str]:
    """The architectures whose ImageNet weights are on this machine."""
    from stmn.nets.weights.pretrained import resolve_weights

    return frozenset(arch for arch in archs if resolve_weights("auto", arch) == "imagenet")

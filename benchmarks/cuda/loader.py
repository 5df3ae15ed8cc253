"""Chunks per second that the loader brings to the GPU, beside what the networks take in training.

A pair of ResNet-50 and ResNet-152, L = 10, crops by jitter to 224 pixels. The loader makes micro-batches of 4 videos of
5 chunks; the networks take 32 videos at once, with which they are faster.
"""

import time
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.cuda._gpu import beside_limit, finish, seconds_of
from benchmarks.cuda._pair import QUICK_SIDES, SIDES, L, build_pair, rendered_set
from stmn.runtime.device import Device
from stmn.runtime.precision import training_numbers
from stmn.sampling.boxes import BoxBatch
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches
from stmn.store.format.read import Store
from stmn.training.learner import Learner, select_inputs

VIDEOS, CHUNKS = 4, 5
#: micro-batches that the networks take at once
TOGETHER = 8
#: micro-batches that are asked for before those that are timed, and after them: more than the loader works at
WARM_UP, AHEAD = 5, 10
#: share of what the networks take that the loader has to reach
GOAL = 1.2


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Chunks per second: from JPEGs, from kept pictures, of copying and cutting alone; and those of the networks."""
    device = replace(device, cuts_pictures=True)  # as on a GPU, where this runs on a CPU
    folder = rendered_set(quick)
    size = (QUICK_SIDES if quick else SIDES)[1]
    samples, kept = (
        Clips(store, store.part("1", "train"), Sampling(("rgb", "flow"), size, L, CHUNKS, (5, 35), "jitter"))
        for store in (Store(folder), Store(folder, cache_bytes=2**34))
    )
    [batch] = load_batches(samples, _order(samples, 1), 0, device=device)
    together = 1 if quick else TOGETHER
    batch = {name: torch.cat([tensor] * together) for name, tensor in batch.items()}
    eaten = together * VIDEOS * CHUNKS / _step_seconds(batch, device, quick)
    boxes = BoxBatch(samples, next(iter(_order(samples, 1))), pin=device.overlaps_copies)
    for job in boxes.jobs:
        job()
    alone = VIDEOS * CHUNKS / seconds_of(lambda: boxes.cut(device), device.device)
    count = 3 if quick else 60
    _chunks_a_second(kept, count, device)  # decodes what is kept
    what = f"what the networks take: forward and backward pass of {together * VIDEOS} videos"
    return {
        "threads": device.loader_threads,
        "precision": device.precision_name,
        "goal": GOAL,
        "from_jpegs": beside_limit(_chunks_a_second(samples, count, device), eaten, "chunks/s", what),
        "from_kept_pictures": beside_limit(_chunks_a_second(kept, count, device), eaten, "chunks/s", what),
        "copying_and_cutting": beside_limit(alone, eaten, "chunks/s", what),
        "bytes_a_chunk": boxes.nbytes // (VIDEOS * CHUNKS),
        "float_bytes_a_chunk": sum(batch[name].nbytes for name in ("rgb", "flow")) // (together * VIDEOS * CHUNKS),
    }


def _order(samples: Clips, count: int) -> MicroBatches:
    """The micro-batches of `count` steps."""
    return MicroBatches(len(samples), VIDEOS, VIDEOS, 0, 0, count)


def _chunks_a_second(samples: Clips, count: int, device: Device) -> float:
    """What the loader brings when nothing else is done, the median of three; the first batches start its threads."""
    return median(measure_once(samples, count, device) for _ in range(3))


def measure_once(samples: Clips, count: int, device: Device) -> float:
    """Chunks per second of one run of the loader; its first and last batches don't count.

    When the clock starts, batches are partly decoded already. As many have to be when it stops.
    """
    order = _order(samples, WARM_UP + count + AHEAD)
    batches = load_batches(samples, order, device.loader_threads, device=device)
    for _ in islice(batches, WARM_UP):
        pass
    finish(device.device)
    started = time.perf_counter()
    for _ in islice(batches, count):
        pass
    finish(device.device)
    return count * VIDEOS * CHUNKS / (time.perf_counter() - started)


def _step_seconds(batch: dict[str, Tensor], device: Device, quick: bool) -> float:
    """How long the networks take for a batch that lies on the GPU."""
    network = build_pair(quick)
    device.place(network)
    learner = Learner(network, device)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        loss, _ = learner(select_inputs(network, batch), batch["label"])
        loss.backward()

    with torch.enable_grad(), training_numbers(device):
        return seconds_of(step, device.device, *((1, 1) if quick else (3, 10)))

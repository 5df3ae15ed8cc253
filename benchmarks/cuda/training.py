"""Training steps of `train` from a prepared set, beside the bare networks' forward pass, backward pass and SGD.

ResNet-50 appearance alone, and the paper's pair: ResNet-50 gated by ResNet-152 with temporal filters, 5 chunks, in
groups of 4 videos for batch normalisation. The pair trains in micro-batches of one group and of eight, and compiled.
Beside it timm's networks get tensors that lie on the GPU, in the micro-batches in which they are fastest.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
import torch.nn.functional as F

from benchmarks.cuda._gpu import attempt, beside_limit, finish, free_memory, seconds_of
from benchmarks.cuda._pair import QUICK_SIDES, SIDES, L, build_pair, rendered_set
from stmn.errors import is_out_of_memory
from stmn.nets.build import build_network
from stmn.nets.config import NetworkConfig
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import training_numbers
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips, Sampling
from stmn.store.format.read import Store
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule

CHANNELS = {"rgb": 3, "flow": 2 * L}
#: share of the bare networks' speed that the pair has to reach
GOAL = 0.9


@dataclass(frozen=True)
class Case:
    """What is trained: streams, videos per step, per micro-batch and per group, chunks, and how it is compiled."""

    modalities: tuple[str, ...]
    batch: int
    micro_batch: int
    group: int
    chunks: int
    compiled: str = ""


_PAIR = Case(("rgb", "flow"), batch=64, micro_batch=4, group=4, chunks=5)
CASES = {
    "appearance": Case(("rgb",), batch=128, micro_batch=32, group=32, chunks=1),
    "pair": _PAIR,
    "pair_groups": replace(_PAIR, micro_batch=32),
    "pair_groups_compiled": replace(_PAIR, micro_batch=32, compiled="default"),
    "pair_groups_graphs": replace(_PAIR, micro_batch=32, compiled="reduce-overhead"),
}


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """For each case chunks per second, those of the bare networks, the share, the wait for data and the memory.

    A case that fails, or that doesn't fit into a smaller GPU, has the reason.
    """
    cases, folder = choose_cases(device, quick), rendered_set(quick)
    bare: dict[tuple[str, ...], float] = {}

    def row(case: Case) -> dict[str, Any]:
        if case.modalities not in bare:
            sizes = {c.micro_batch for c in cases.values() if c.modalities == case.modalities}
            bare[case.modalities] = _best_bare_speed(case, sorted(sizes), device, quick)
        return _measure_case(case, folder, device, quick, bare[case.modalities])

    result: dict[str, Any] = {"precision": device.precision_name, "goal": GOAL}
    for name, case in cases.items():
        result[name] = attempt(partial(row, case), device.device)
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)  # some cases take minutes
    return result


def choose_cases(device: Device, quick: bool) -> dict[str, Case]:
    """The cases by name. A quick look at a GPU compiles too, graphs included; one at a CPU doesn't."""
    if not quick:
        return CASES
    graphs = device.is_cuda
    cases = {name: case for name, case in CASES.items() if case.compiled in ("", "reduce-overhead" if graphs else "")}
    return {name: replace(case, batch=4, micro_batch=4, group=2, chunks=2) for name, case in cases.items()}


def _measure_case(case: Case, folder: Path, device: Device, quick: bool, bare: float) -> dict[str, Any]:
    """A row of the result, with what is of interest beside the speed."""
    if device.is_cuda:
        torch.cuda.reset_peak_memory_stats(device.device)
    speed, wait = _train_speed(case, folder, device, quick)
    limit_is = "timm's networks: forward pass, backward pass and SGD; no gates, filters or data"
    row = beside_limit(speed, bare, "chunks/s", limit_is)
    peak = torch.cuda.max_memory_allocated(device.device) / 2**30 if device.is_cuda else None
    return row | {
        "micro_batch": case.micro_batch, "group": case.group, "compile_mode": case.compiled or None,
        "data_wait": wait, "peak_gib": peak and round(peak, 2),
    }  # fmt: skip


class Clock(Silent):
    """Notes how long windows of steps take; only at their ends it waits for the GPU."""

    def __init__(self, device: torch.device, warm_up: int, window: int) -> None:
        self.device, self.warm_up, self.window = device, warm_up, window
        self.steps, self.ends = 0, list[float]()

    def advance(self, count: int = 1, **fields: object) -> None:
        """Steps have ended, unless `count` is 0."""
        self.steps += count
        if count and self.steps >= self.warm_up and (self.steps - self.warm_up) % self.window == 0:
            finish(self.device)
            self.ends.append(time.perf_counter())

    def seconds_a_step(self) -> float:
        """The median over the windows."""
        return median(b - a for a, b in zip(self.ends, self.ends[1:], strict=False)) / self.window


def _train_speed(case: Case, folder: Path, device: Device, quick: bool) -> tuple[float, float]:
    """Chunks per second of `train` with pictures that are kept decoded, and the share of the time it waits for them."""
    size = (QUICK_SIDES if quick else SIDES)[1]
    store = Store(folder, cache_bytes=2**34)
    sampling = Sampling(case.modalities, size, L, case.chunks, (5, 35), "jitter")
    clips = Clips(store, store.part("1", "train"), sampling)
    warm_up, window, windows = (1, 1, 2) if quick else (6, 4, 5)
    steps = warm_up + window * windows
    plan = Plan(
        steps, case.batch, case.micro_batch, Schedule("steps", 1e-3, steps), seed=0, log_every=window, bn_passes=0,
        bn_group=case.group, compile="inductor" if case.compiled else "",
        compile_mode=None if case.compiled == "default" else case.compiled or None,
    )  # fmt: skip
    clock = Clock(device.device, warm_up, window)
    with tempfile.TemporaryDirectory() as out, training_numbers(device):
        state = train(_network_of(case, quick), clips, None, plan, device, Path(out), clock)
    waits = [row["data_wait"] for row in state.history if row["step"] - window >= warm_up]
    return case.batch * case.chunks / clock.seconds_a_step(), median(waits)


def _network_of(case: Case, quick: bool) -> Network:
    """The pair, or its appearance stream alone."""
    pair = build_pair(quick)
    if len(case.modalities) == 2:
        return pair
    values = pair.config.model_dump() | {"streams": pair.config.streams[:1], "gate": None, "temporal": {}}
    return build_network(NetworkConfig.model_validate(values))


def _best_bare_speed(case: Case, micro_batches: list[int], device: Device, quick: bool) -> float:
    """The best of `_bare_speed` over micro-batches that fit into the memory; the first has to."""
    best = _bare_speed(case, micro_batches[0], device, quick)
    for size in micro_batches[1:]:
        try:
            best = max(best, _bare_speed(case, size, device, quick))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        free_memory(device.device)
    return best


def _bare_speed(case: Case, micro_batch: int, device: Device, quick: bool) -> float:
    """Chunks per second of timm's networks in micro-batches of so many videos, on tensors that lie on the GPU."""
    archs = {"rgb": "resnet18" if quick else "resnet50", "flow": "resnet18" if quick else "resnet152"}
    size, count = (QUICK_SIDES if quick else SIDES)[1], micro_batch * case.chunks
    nets = [timm.create_model(archs[m], in_chans=CHANNELS[m], num_classes=101).train() for m in case.modalities]
    nets = [net.to(device.device, memory_format=torch.channels_last) for net in nets]
    data = [
        torch.randn(count, CHANNELS[m], size, size, device=device.device).contiguous(memory_format=torch.channels_last)
        for m in case.modalities
    ]
    label = torch.zeros(count, dtype=torch.long, device=device.device)
    sgd = torch.optim.SGD([p for net in nets for p in net.parameters()], lr=1e-3, momentum=0.9, fused=True)

    def step() -> None:
        sgd.zero_grad()
        for _ in range(case.batch // micro_batch):
            with device.autocast():
                logits = [net(x) for net, x in zip(nets, data, strict=True)]
            torch.stack([F.cross_entropy(x.float(), label) for x in logits]).sum().backward()
        sgd.step()

    with training_numbers(device):
        seconds = seconds_of(step, device.device, *((1, 1) if quick else (3, 10)))
    return case.batch * case.chunks / seconds

"""A training step from the store, beside the bare forward, backward and SGD of the same timm networks.

    python -m benchmarks.train_step --json FILE [--size 112 --size 224]

`train` itself runs: decoding, crops, gates, temporal filters, losses, checks, log. Beside it two ResNet-18 of timm (one
for a single stream) get tensors that are in memory already, with as many chunks, micro-batches and updates. The bare
networks run in both memory layouts, and the faster one counts. All take turns, and the median step of all rounds
counts. Processor time is also measured, because other work on the machine disturbs it less. Peak memory is that of a
process that runs one side alone.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F

from benchmarks.frame import Seconds, describe_machine, peak_mb, run, run_apart
from benchmarks.loader import clips as rendered
from benchmarks.loader import prepare
from stmn.nets.build import build_network, sketch_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.show.cost import count_costs, sum_costs
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips, Sampling
from stmn.store.format.header import read_header
from stmn.store.format.read import Store
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule

CLASSES = ["any", *(f"class {number}" for number in range(100))]
ARCH = "resnet18"
L = 10
#: steps of a round, and those at its ends that don't count: the loader fills up, and later has nothing left to do
STEPS, FIRST, LAST = 7, 1, 2


@dataclass(frozen=True)
class Case:
    """What is trained: videos per micro-batch, micro-batches per step, chunks per video, temporal filters."""

    name: str
    modalities: tuple[str, ...]
    micro_batch: int
    chunks: int
    micro_batches: int = 2
    injector: str = "none"


CASES = {
    "fused": Case("fused", ("rgb", "flow"), micro_batch=2, chunks=5, injector="residual"),
    "gated": Case("gated", ("rgb", "flow"), micro_batch=2, chunks=5),
    "motion": Case("motion", ("flow",), micro_batch=10, chunks=1),
}
CHANNELS = {"rgb": 3, "flow": 2 * L}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--size", type=int, action="append", help="side of the crop (default: 112 and 224)")
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cache-mb",
        type=int,
        default=0,
        help="memory for decoded pictures (default: none)",
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(options.threads)
    if options.memory_of:
        return {"peak_mb": peak_of_side(options)}
    result: dict[str, Any] = describe_machine() | {
        "arch": ARCH, "threads": options.threads, "cache_mb": options.cache_mb,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for size in options.size or [112, 224]:
            store = make_store(Path(folder) / str(size), size)
            for name in options.case or CASES:
                result[f"{name}_{size}"] = compare(CASES[name], size, store, options)
                print(f"{name}_{size}", json.dumps(result[f"{name}_{size}"]), file=sys.stderr, flush=True)
    cases = {name: value for name, value in result.items() if isinstance(value, dict)}
    # the bare networks have no temporal filters, so they do as much work as the pair that is tied by gates alone
    alike = [c["fraction_of_bare_compute"] for c in cases.values() if c["multiply_adds_over_bare"] == 1]
    result["fraction_of_bare_compute"] = min(alike, default=None)
    result["fraction_with_temporal_filters"] = min(
        (c["fraction_of_bare_compute"] for c in cases.values() if c["multiply_adds_over_bare"] > 1), default=None
    )
    return result


def make_store(folder: Path, size: int) -> Path:
    """A rendered set whose short side is 256 for a crop of 224, in proportion for other crops."""
    prepare(folder, size * 256 // 224, rendered(None, 12, size * 256 // 224))
    store = folder / "store"
    read_header(store).model_copy(update={"classes": CLASSES}).write(store)
    return store


def compare(case: Case, size: int, store: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Time all sides in turns, then measure the memory of each in a process of its own."""
    sides: dict[str, Callable[[], list[Seconds]]] = {
        "contiguous": make_bare_round(case, size, torch.contiguous_format),
        "channels_last": make_bare_round(case, size, torch.channels_last),
    }
    waits: list[float] = []
    ours = make_train_round(case, size, store, options.cache_mb, waits)
    times: dict[str, list[Seconds]] = {"train": [], **{name: [] for name in sides}}
    for _ in range(options.rounds):
        times["train"] += ours()
        for name, side in sides.items():
            times[name] += side()
    medians = {name: statistics.median(clock for clock, _ in values) for name, values in times.items()}
    processor = {name: statistics.median(used for _, used in values) for name, values in times.items()}
    fastest = min(sides, key=medians.__getitem__)
    memory = {
        side: run_apart(
            "benchmarks.train_step", "--memory-of", side, "--case", case.name, "--size", size, "--store", store,
            "--threads", options.threads, "--cache-mb", options.cache_mb,
        )["peak_mb"]
        for side in ("train", fastest)
    }  # fmt: skip
    return {
        "multiply_adds_over_bare": work_over_bare(case, size),
        "chunks_a_step": case.micro_batch * case.chunks * case.micro_batches,
        "seconds_a_step": {name: round(value, 4) for name, value in medians.items()},
        "processor_seconds_a_step": {name: round(value, 4) for name, value in processor.items()},
        "fraction_of_bare_compute": round(medians[fastest] / medians["train"], 3),
        "fraction_by_processor_time": round(min(processor[name] for name in sides) / processor["train"], 3),
        "data_wait": round(statistics.median(waits), 3),
        "peak_mb": {"train": memory["train"], "bare": memory[fastest]},
        "steps_timed": len(times["train"]),
    }


class Clock(Silent):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[Seconds] = []

    def advance(self, count: int = 1, **fields: object) -> None:
        """A step has ended, unless `count` is 0: then only the numbers beside the bar have changed."""
        if count:
            self.ends.append((time.perf_counter(), time.process_time()))


def config_of(case: Case, size: int) -> NetworkConfig:
    """The network of a case."""
    streams = [StreamConfig(modality=m, arch=ARCH) for m in case.modalities]  # type: ignore[arg-type]
    both = len(streams) == 2
    return NetworkConfig(
        classes=CLASSES,
        size=size,
        stack_length=L,
        streams=streams,
        gate=GateConfig() if both else None,
        temporal=TemporalConfig(injector=case.injector, pool="max") if both else TemporalConfig(),
    )


def work_over_bare(case: Case, size: int) -> float:
    """Multiply-adds of the network, divided by those without temporal filters."""
    ours, plain = (
        sum_costs(count_costs(sketch_network(config_of(c, size)), size))[1]
        for c in (case, replace(case, injector="none"))
    )
    return round(ours / plain, 3)


def make_train_round(
    case: Case, size: int, store: Path, cache_mb: int, waits: list[float]
) -> Callable[[], list[Seconds]]:
    """A function that runs a round of `train` and returns the seconds of its steps."""
    config = config_of(case, size)
    both = config.gate is not None
    sampling = Sampling(case.modalities, size, L, case.chunks, (5, 10), "jitter" if both else "multi_scale")
    opened = Store(store, cache_bytes=cache_mb << 20)
    clips = Clips(opened, opened.part("1", "train"), sampling)
    batch = case.micro_batch * case.micro_batches
    plan = Plan(STEPS, batch, case.micro_batch, Schedule("steps", 1e-3, STEPS), seed=0, log_every=STEPS, bn_passes=0)

    def run() -> list[Seconds]:
        clock = Clock()
        with tempfile.TemporaryDirectory() as out:
            state = train(build_network(config), clips, None, plan, choose_device("cpu"), Path(out), clock)
        waits.append(state.history[-1]["data_wait"])
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(clock.ends, clock.ends[1:], strict=False)]
        return steps[FIRST - 1 : len(steps) - LAST]

    return run


def make_bare_round(case: Case, size: int, layout: torch.memory_format) -> Callable[[], list[Seconds]]:
    """A function that runs a round of timm's networks on tensors in memory and returns the seconds of its steps."""
    nets = [timm.create_model(ARCH, in_chans=CHANNELS[m], num_classes=len(CLASSES)) for m in case.modalities]
    nets = [net.to(memory_format=layout).train() for net in nets]
    count = case.micro_batch * case.chunks
    data = [torch.randn(count, CHANNELS[m], size, size).contiguous(memory_format=layout) for m in case.modalities]
    label = torch.zeros(count, dtype=torch.long)
    parameters = [p for net in nets for p in net.parameters()]
    sgd = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def run() -> list[Seconds]:
        times = []
        for _ in range(STEPS - FIRST - LAST):
            started, used = time.perf_counter(), time.process_time()
            sgd.zero_grad()
            for _ in range(case.micro_batches):
                losses = [F.cross_entropy(net(x), label) for net, x in zip(nets, data, strict=True)]
                (sum(losses) / case.micro_batches).backward()  # type: ignore[union-attr]
            sgd.step()
            times.append((time.perf_counter() - started, time.process_time() - used))
        return times

    run()  # the first steps allocate
    return run


def peak_of_side(options: argparse.Namespace) -> int:
    """Run one side once; the peak of this process, MB."""
    case, size = CASES[options.case[0]], options.size[0]
    if options.memory_of == "train":
        make_train_round(case, size, options.store, options.cache_mb, [])()
    else:
        make_bare_round(case, size, getattr(torch, options.memory_of.replace("contiguous", "contiguous_format")))
    return int(peak_mb())


if __name__ == "__main__":
    run(__doc__, add_options, measure)

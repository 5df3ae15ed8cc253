"""Time a network in every runtime: PyTorch, this package's own convolutions, and the files of exporters."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stmn import registry
from stmn.errors import DataError, PluginError, StmnError
from stmn.registry.options import build
from stmn.runtime.progress import Progress
from stmn.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

    from stmn.exporting.base import Runner
    from stmn.nets.checkpoint import Description
    from stmn.nets.network import Network

#: the exporter whose files this package's own network runs
_SAME = "safetensors"
#: the runtime that only takes the timed size: each other size would be compiled again, for a minute or more
_COMPILED = "compiled"
#: training videos on which int8 measures the ranges of features
_CALIBRATION = 32


@dataclass
class Timing:
    """How fast one runtime computes the network.

    Attributes:
        name: The runtime: "eager", "compiled", "onnx", "onnx int8".
        problem: Why it can't run here; the other values are then unset.
        seconds: Seconds of each timed pass.
        ready: Seconds until it could run: compiling, exporting and loading.
        difference: Largest difference from the eager network's logits on the timed input, relative to the largest
            logit.
        bytes: Size of its files; None if it has none.
        accuracy: Accuracy on test videos, percent; None for "compiled", which only takes the timed size.
    """

    name: str
    problem: str = ""
    seconds: list[float] = field(default_factory=list)
    ready: float = 0.0
    difference: float = 0.0
    bytes: int | None = None
    accuracy: float | None = None

    @property
    def milliseconds(self) -> float | None:
        """The median of the timed passes; None if there are none."""
        return 1000 * median(self.seconds) if self.seconds else None


@dataclass(frozen=True)
class Benchmark:
    """The timings, the shape of each stream's input, CPU threads, and how many videos the accuracies are over."""

    timings: list[Timing]
    shapes: dict[str, list[int]]
    threads: int
    videos: int


def time_runtimes(
    model: Path, workspace: Workspace, chunks: int, repeats: int, videos: int, progress: Progress
) -> Benchmark:
    """Time a model in every runtime on this machine's CPU, on one 4:3 video at the size of testing.

    Args:
        model: The model file.
        workspace: Where its data set may be, for accuracies and int8.
        chunks: T.
        repeats: Timed passes of each runtime, after one that is not timed.
        videos: Test videos to classify for the accuracy, at most; 0 for none.
        progress: Where progress is reported.

    Raises:
        CheckpointError: It is not a model file, or damaged.
    """
    import torch

    from stmn.exporting.base import example_inputs
    from stmn.nets.checkpoint import load_checkpoint
    from stmn.stages.export_accuracy import measure_accuracies

    network, description = load_checkpoint(model)
    wider = round(description.test_short_side / 3)
    given = example_inputs(network, description, 1, chunks, wider)
    with TemporaryDirectory() as folder:
        runners: dict[str, Runner] = {}
        timings = []
        for timing, run in _make_runners(network.eval(), description, workspace, Path(folder), given):
            timings.append(timing)
            if run is None:
                progress.say(f"{timing.name}: {timing.problem}")
            else:
                runners[timing.name] = run
        running = [timing for timing in timings if not timing.problem]
        with progress.task("timing", repeats * len(running), "passes") as task:
            for _ in range(repeats):
                for timing in running:  # in turn, so that other load on the machine slows all of them alike
                    begin = perf_counter()
                    runners[timing.name](given)
                    timing.seconds.append(perf_counter() - begin)
                    task.advance(1)
        of_any_size = {name: run for name, run in runners.items() if name != _COMPILED}
        found = measure_accuracies(description, workspace, of_any_size, progress, videos) if videos else None
    for timing in running:
        timing.accuracy = found.percent.get(timing.name) if found else None
    shapes = {str(stream.modality): list(x.shape) for stream, x in zip(description.network.streams, given, strict=True)}
    return Benchmark(timings, shapes, torch.get_num_threads(), found.videos if found else 0)


def _make_runners(
    network: "Network", description: "Description", workspace: Workspace, folder: Path, given: "list[Tensor]"
) -> "Iterator[tuple[Timing, Runner | None]]":
    """Each runtime with its first pass done, or None if it can't run here."""
    from stmn.exporting.parity import network_runner

    expected = network_runner(network)(given)
    for name, make in _find_runtimes(network, description, workspace, folder):
        timing, begin = Timing(name), perf_counter()
        try:
            run, timing.bytes = make()
            got = run(given)
        except Exception as error:  # runtimes and compilers raise their own errors
            lines = str(error).strip().splitlines() or [type(error).__name__]
            timing.problem = (lines[0] if isinstance(error, StmnError) else f"can't run here: {lines[0]}")[:300]
            yield timing, None
            continue
        timing.ready = perf_counter() - begin
        timing.difference = max(
            float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-6))
            for ours, theirs in zip(expected, got, strict=True)
        )
        yield timing, run


def _find_runtimes(
    network: "Network", description: "Description", workspace: Workspace, folder: Path
) -> Iterator[tuple[str, Any]]:
    """Name of each runtime, and a function that returns its runner and the size of its files, bytes."""
    import torch

    from stmn.evaluation.inference import for_inference
    from stmn.exporting.parity import network_runner
    from stmn.runtime.device import choose_device

    yield "eager", lambda: (network_runner(network), None)
    yield "predict", lambda: (network_runner(for_inference(network, choose_device("cpu"))), None)

    def compile_it() -> "tuple[Runner, None]":
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
        compiled = torch.compile(network, dynamic=False)

        @torch.no_grad()
        def run(given: Any) -> "list[Tensor]":
            return list(compiled(*given))

        return run, None

    yield _COMPILED, compile_it
    for plugin in registry.plugins("exporter"):
        if (plugin.package, plugin.name) == (registry.BUILT_IN, _SAME):
            continue
        for precision in ("float32", "int8"):
            if precision == "float32" or precision in _find_precisions(plugin):
                name = registry.name_of(plugin)
                label = name if precision == "float32" else f"{name} {precision}"

                def export(name: str = name, precision: str = precision) -> "tuple[Runner, int]":
                    return _export(name, precision, network, description, workspace, folder)

                yield label, export


def _find_precisions(plugin: registry.Plugin) -> tuple[str, ...]:
    """The precisions that an exporter lists; empty if it is broken, which its first export reports."""
    try:
        return tuple(getattr(plugin.load(), "precisions", ()))
    except PluginError:
        return ()


def _export(
    name: str, precision: str, network: "Network", description: "Description", workspace: Workspace, folder: Path
) -> "tuple[Runner, int]":
    """Export into a folder of its own. Return the file's runner, and the size of the folder's files, bytes."""
    from stmn.exporting.base import example_inputs
    from stmn.stages.export_clips import read_clips

    more: dict[str, Any] = {}
    if precision == "int8":
        clips = read_clips(description, workspace, _CALIBRATION)
        if clips.drawn:
            raise DataError(f"needs training videos, and the set '{description.trained_on.data}' is not here")
        more = {"precision": precision, "clips": clips.inputs}
    exporter = build("exporter", name, {})
    path = folder / f"{name.replace(':', '-')}-{precision}" / f"model{exporter.suffix}"
    path.parent.mkdir()
    exporter.write(network, description, example_inputs(network, description, 2, 3, 32), path, **more)
    return exporter.runner(path), sum(file.stat().st_size for file in path.parent.iterdir())

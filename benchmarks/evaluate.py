"""Videos per second of `evaluate`, beside ten crops, the bare forward pass, and plain PyTorch.

    python -m benchmarks.evaluate --json FILE [--arch resnet18] [--frames 25] [--videos 2] [--rounds 3]

A rendered set of 341x256 is scored from the store: whole frames and their mirrors (`evaluate`), and ten crops of the
same videos and chunks (`ten_crop`). Two more networks get tensors of the whole frames' shape that are in memory
already: `bare` is the network in inference mode, in the memory layout of `evaluate`; `eager` is the module as it was
built, NCHW, under no_grad. All take turns, after one round that doesn't count, and the medians of the rounds count.
Ratios are of wall time; `processor` has those of processor time, which other work on the machine disturbs less. Memory
is the peak of a process that tests a number of videos.
"""

import argparse
import copy
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.frame import Seconds, describe_machine, peak_mb, run, run_apart, take_time
from benchmarks.loader import clips, prepare
from stmn.evaluation.inference import for_inference, score_videos, set_pooling
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import read_stored_video
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store, StoredVideo

L = 10
SIDE, CROP = 256, 224


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--arch", default="resnet18", help="of both streams")
    parser.add_argument("--injector", default="last_unit", help="temporal filters")
    parser.add_argument("--frames", type=int, default=25, help="chunks per video")
    parser.add_argument("--videos", type=int, default=2, help="videos per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-videos", type=int, nargs=2, default=[10, 60], help="videos of the two memory runs")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(options.threads)
    if options.memory_of:
        return {"peak_mb": peak_of_videos(options)}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), SIDE, clips(None, max(options.videos, 2), SIDE))
        speed = measure_speed(Path(folder) / "store", options)
        return speed | {"memory": measure_memory(Path(folder), options)}


def make_network(arch: str, injector: str) -> Network:
    """A fused network with batch normalisation as after training, not the identity; its logits stay small."""
    streams = [StreamConfig(modality=modality, arch=arch) for modality in ("rgb", "flow")]
    network = build_network(
        NetworkConfig(
            classes=[f"class {number}" for number in range(101)], size=CROP, stack_length=L, streams=streams,
            gate=GateConfig(), temporal=TemporalConfig(injector=injector, pool="max"),
        )
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.1, 0.4), (module.bias, -0.2, 0.2), (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return network.eval()


def measure_speed(store: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything except memory."""
    device, network = choose_device("cpu"), make_network(options.arch, options.injector)
    whole, crops = (
        Protocol(chunks=options.frames, spatial=spatial, short_side=SIDE, crop=CROP)
        for spatial in ("fully_conv", "ten_crop")
    )
    set_pooling(network, whole)
    with Store(store) as opened:
        videos = opened.part("1", "train")[: options.videos]
        given = inputs(opened, videos[0], network, whole)
        plain = copy.deepcopy(network)
        bare = device.place(copy.deepcopy(network))
        times = in_turns(
            {
                "evaluate": lambda: score_videos(network, opened, videos, whole, device, Silent()),
                "ten_crop": lambda: score_videos(network, opened, videos, crops, device, Silent()),
                "bare": lambda: forward(bare, given, len(videos), torch.inference_mode()),
                "eager": lambda: forward(plain, given, len(videos), torch.no_grad()),
            },
            options.rounds,
        )
        made = statistics.median(take_time(lambda: for_inference(network, device))[0] for _ in range(3))
        found = score_videos(network, opened, videos[:1], whole, device, Silent())
    apart = difference(found, plain, given)
    wall, processor = ({name: side[i] for name, side in times.items()} for i in (0, 1))
    return {
        "arch": options.arch,
        "injector": options.injector,
        "frames": options.frames,
        "size": list(given[0][0].shape[-2:]),
        "videos": len(videos),
        "rounds": options.rounds,
        "threads": options.threads,
        "winograd": winograd.problem() or "used",
        **describe_machine(),
        "seconds_a_video": {name: round(seconds / len(videos), 3) for name, seconds in wall.items()},
        "videos_a_second": round(len(videos) / wall["evaluate"], 4),
        "seconds_to_make_the_network_for_testing": round(made, 3),
        **ratios(wall),
        "processor": ratios(processor),
        "logits": apart,
    }


def inputs(store: Store, video: StoredVideo, network: Network, protocol: Protocol) -> list[list[Tensor]]:
    """The network's input of a video, (1, T, channels, H, W) for each stream: plain and mirrored."""
    device = choose_device("cpu")
    pictures = read_stored_video(store, video, network.names, L, protocol, device)
    views = protocol.views(*pictures.size)
    return [[x[None] for x in pictures.network_inputs(network.names, view, device)] for view in views]


def forward(network: torch.nn.Module, given: list[list[Tensor]], videos: int, mode: Any) -> None:
    """Run the network on tensors in memory, as often as the videos need."""
    with mode:
        for _ in range(videos):
            for views in given:
                network(*views)


def difference(found: dict[str, Tensor], plain: Network, given: list[list[Tensor]]) -> dict[str, float]:
    """The largest difference of `evaluate`'s logits from plain PyTorch's, and the largest of these."""
    with torch.no_grad():
        views = [plain(*view) for view in given]
    expected = {name: sum(view[i][0] for view in views) / len(views) for i, name in enumerate(plain.outputs)}
    return {
        "largest_difference": max(float((found[name][0] - expected[name]).abs().max()) for name in found),
        "largest": max(float(scores.abs().max()) for scores in expected.values()),
    }


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """The median of the rounds of each way, after one that does not count."""
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            seconds = take_time(way)
            if number:
                taken[name].append(seconds)
        print({name: [round(a, 1) for a, _ in times] for name, times in taken.items()}, file=sys.stderr, flush=True)
    return {
        name: (statistics.median(a for a, _ in times), statistics.median(b for _, b in times))
        for name, times in taken.items()
    }


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """How many times as fast as the others `evaluate` is."""
    ours = seconds["evaluate"]
    names = {"speedup_vs_ten_crop": "ten_crop", "fraction_of_bare_forward": "bare", "speedup_vs_eager": "eager"}
    return {name: round(seconds[of] / ours, 3) for name, of in names.items()}


def measure_memory(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Peaks of resident memory, MB, of processes that score few and many videos of a small set."""
    few, many = options.memory_videos
    prepare(folder / "small", 64, clips(None, 2, 64))
    peaks = {}
    for count in (few, many):
        peaks[count] = run_apart(
            "benchmarks.evaluate", "--memory-of", count, "--store", folder / "small" / "store", "--arch", options.arch,
            "--injector", options.injector, "--threads", options.threads,
        )["peak_mb"]  # fmt: skip
    return {
        f"peak_mb_{few}_videos": peaks[few],
        f"peak_mb_{many}_videos": peaks[many],
        "growth_mb": peaks[many] - peaks[few],
    }


def peak_of_videos(options: argparse.Namespace) -> float:
    """Score `memory_of` videos of a set, some more than once; the peak of this process, MB."""
    network = make_network(options.arch, options.injector)
    with Store(options.store) as store:
        videos = store.part("1", "train")
        many = [videos[number % len(videos)] for number in range(options.memory_of)]
        protocol = Protocol(chunks=5, short_side=64, crop=56)
        score_videos(network, store, many, protocol, choose_device("cpu"), Silent())
    return round(peak_mb(), 1)


if __name__ == "__main__":
    run(__doc__, add_options, measure)

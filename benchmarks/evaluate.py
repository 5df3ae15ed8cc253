"""Videos a second of `evaluate`, beside ten crops, the bare networks' forward, and plain PyTorch.

    python -m benchmarks.evaluate --json FILE [--arch resnet18] [--frames 25] [--videos 2] [--rounds 3]

A rendered set of 341x256 is scored from the store to the scores: whole frames and mirrors, and ten crops, same videos
and chunks. Beside them two networks see tensors of the whole frames' shape that are in memory already: `bare` is the
network in evaluation mode in inference mode, in the memory layout that `evaluate` would choose; `eager` is the module
as it was built, NCHW, under no_grad. All take turns after one that warms them up; the medians of the rounds count,
ratios are those of wall time, and `processor` has the same of processor time, which other work on the machine disturbs
less. Memory is the peak of one process a number of videos.
"""

import argparse
import copy
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.loader import clips, prepare
from stmn.evaluation.inference import for_inference, read_stored_video, score_videos, set_pooling
from stmn.evaluation.protocol import Protocol
from stmn.nets.build import build_network
from stmn.nets.config import GateConfig, NetworkConfig, StreamConfig, TemporalConfig
from stmn.nets.fast import winograd
from stmn.nets.network import Network
from stmn.runtime.device import choose_device
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store, StoredVideo

L = 10
SIDE, CROP = 256, 224
#: seconds of the clock and of the processor
Seconds = tuple[float, float]


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--arch", default="resnet18", help="of both streams")
    parser.add_argument("--injector", default="last_unit", help="temporal filters")
    parser.add_argument("--frames", type=int, default=25, help="chunks a video")
    parser.add_argument("--videos", type=int, default=2, help="videos a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-videos", type=int, nargs=2, default=[10, 60], help="videos of the two memory runs")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(memory(options)))
        return
    if options.json is None:
        parser.error("--json says where to write the result")
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), SIDE, clips(None, max(options.videos, 2), SIDE))
        result = measure(Path(folder) / "store", options)
        result["memory"] = grown(Path(folder), options)
    text = json.dumps(result, indent=2)
    options.json.write_text(text + "\n")
    print(text)


def network_of(arch: str, injector: str) -> Network:
    """A fused pair whose normalisations and filters are no identities, as after training; its scores stay small."""
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


def measure(store: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All but memory."""
    device, network = choose_device("cpu"), network_of(options.arch, options.injector)
    whole, crops = (Protocol(chunks=options.frames, spatial=s, short_side=SIDE, crop=CROP) for s in ("fully_conv", "ten_crop"))  # fmt: skip  # noqa: E501
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
        made = median(timed(lambda: for_inference(network, device)) for _ in range(3))
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
        "torch": torch.__version__,
        "cpu": platform.processor() or platform.machine(),
        "seconds_a_video": {name: round(seconds / len(videos), 3) for name, seconds in wall.items()},
        "videos_a_second": round(len(videos) / wall["evaluate"], 4),
        "seconds_to_make_the_network_for_testing": round(made, 3),
        **ratios(wall),
        "processor": ratios(processor),
        "logits": apart,
    }


def inputs(store: Store, video: StoredVideo, network: Network, protocol: Protocol) -> list[list[Tensor]]:
    """What the network sees of a video, (1, T, planes, H, W) for each stream: plain and mirrored."""
    pictures = read_stored_video(store, video, network.names, L, protocol)
    return [[x[None] for x in pictures.network_inputs(network.names, view)] for view in protocol.views(*pictures.size)]


def forward(network: Network, given: list[list[Tensor]], videos: int, mode: Any) -> None:
    """The network on tensors in memory, as often as the videos' passes."""
    with mode:
        for _ in range(videos):
            for views in given:
                network(*views)


def difference(found: dict[str, Tensor], plain: Network, given: list[list[Tensor]]) -> dict[str, float]:
    """How far the scores of `evaluate` are from plain PyTorch's, and how large these are."""
    with torch.no_grad():
        views = [plain(*view) for view in given]
    expected = {name: sum(view[i][0] for view in views) / len(views) for i, name in enumerate(plain.outputs)}
    return {
        "largest_difference": max(float((found[name][0] - expected[name]).abs().max()) for name in found),
        "largest": max(float(scores.abs().max()) for scores in expected.values()),
    }


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """The medians of the rounds of each way, after one that does not count."""
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way()
            if number:
                taken[name].append((time.perf_counter() - clock, time.process_time() - processor))
        print({name: [round(a, 1) for a, _ in times] for name, times in taken.items()}, file=sys.stderr, flush=True)
    return {name: (median(a for a, _ in times), median(b for _, b in times)) for name, times in taken.items()}


def timed(work: Callable[[], object]) -> float:
    """Seconds of the clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(values: Iterator[float]) -> float:
    """Of some numbers."""
    return statistics.median(values)


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """How many times as fast `evaluate` is."""
    ours = seconds["evaluate"]
    names = {"speedup_vs_ten_crop": "ten_crop", "fraction_of_bare_forward": "bare", "speedup_vs_eager": "eager"}
    return {name: round(seconds[of] / ours, 3) for name, of in names.items()}


def grown(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Peaks of resident memory, in MB, of processes that score few and many videos of a small set."""
    few, many = options.memory_videos
    prepare(folder / "small", 64, clips(None, 2, 64))
    peaks = {}
    for count in (few, many):
        command = [
            sys.executable, "-m", "benchmarks.evaluate", "--memory-of", str(count), "--store",
            str(folder / "small" / "store"), "--arch", options.arch, "--injector", options.injector, "--threads",
            str(options.threads),
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[count] = json.loads(answer.stdout)["peak_mb"]
    return {f"peak_mb_{few}_videos": peaks[few], f"peak_mb_{many}_videos": peaks[many], "growth_mb": peaks[many] - peaks[few]}  # fmt: skip  # noqa: E501


def memory(options: argparse.Namespace) -> dict[str, float]:
    """Score a set's videos over and over, `memory_of` of them, and tell this process's peak."""
    network = network_of(options.arch, options.injector)
    with Store(options.store) as store:
        videos = store.part("1", "train")
        many = [videos[number % len(videos)] for number in range(options.memory_of)]
        score_videos(network, store, many, Protocol(chunks=5, short_side=64, crop=56), choose_device("cpu"), Silent())
    status = Path("/proc/self/status").read_text()  # getrusage would tell the peak of whoever started this process
    return {"peak_mb": round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)}


if __name__ == "__main__":
    main()

"""Videos per second of `evaluate`, beside the bare forward pass: 25 chunks of 256 x 341 and their mirrors.

Both test the same pair of ResNet-50 and ResNet-152, in inference mode and in groups of one size. `evaluate` reads and
decodes the videos; the bare network finds its input on the GPU. What a call costs whatever it tests, such as making
the network for inference, is left out: it is the difference between many and few videos that counts.

In float32 the bare pass is also measured in contiguous layout, to show whether channels_last, which half precision
needs, costs float32 anything.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cuda._gpu import attempt, beside_limit, seconds_of
from benchmarks.cuda._pair import QUICK_SIDES, SIDES, L, build_pair, rendered_set
from stmn.evaluation.batching import group_by_shape, read_ahead
from stmn.evaluation.inference import for_inference, score_videos
from stmn.evaluation.passes import PassLimit
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput, read_stored_video
from stmn.nets.network import Network
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32
from stmn.runtime.progress import Silent
from stmn.store.format.read import Store, StoredVideo

#: share of the bare forward pass that `evaluate` has to reach
GOAL = 0.8
#: videos that each thread reads at least, so that few of them are idle at the end
READS = 8


def measure(device: Device, quick: bool) -> dict[str, Any]:
    """Videos per second in each precision, and of reading alone."""
    side, crop = QUICK_SIDES if quick else SIDES
    network, protocol = build_pair(quick).eval(), Protocol(chunks=3 if quick else 25, short_side=side, crop=crop)
    precisions = [torch.float32, torch.bfloat16] if device.is_cuda else [torch.float32]
    result: dict[str, Any] = {"threads": device.loader_threads, "goal": GOAL}
    with Store(rendered_set(quick)) as store:
        videos = store.part("1", "train")[: 2 if quick else 8]
        cutting = replace(device, cuts_pictures=True)  # as on a GPU, also on a CPU
        for precision in precisions:
            chosen = replace(cutting, precision=precision)
            row = partial(_measure_precision, network, store, videos, protocol, chosen, quick)
            result[chosen.precision_name] = attempt(row, device.device)
        rounds = (0, 1) if quick else (1, 3)
        result["reading_videos_a_second"] = round(reading_speed(store, videos, protocol, cutting, rounds), 2)
    return result


def _measure_precision(
    network: Network, store: Store, videos: list[StoredVideo], protocol: Protocol, device: Device, quick: bool
) -> dict[str, Any]:
    """One precision."""
    protocol = protocol.model_copy(update={"precision": device.precision_name})
    few, many = (videos, videos * 2) if quick else (videos * 4, videos * 16)
    rounds = (0, 1) if quick else (1, 3)

    def test(listed: list[StoredVideo]) -> float:
        return seconds_of(
            lambda: score_videos(network, store, listed, protocol, device, Silent()), device.device, *rounds
        )

    speed = (len(many) - len(few)) / max(test(many) - test(few), 1e-9)
    size = len(group_by_shape(many, L, protocol, PassLimit(device, Silent()).shared)[0])
    group = [read_stored_video(store, videos[0], network.names, L, protocol, device).on(device)] * size
    given = _inputs(network, group, protocol, device)
    fast = for_inference(network, device)
    bare = size / seconds_of(lambda: _forward(fast, given, device), device.device, *rounds)
    row = {"videos_in_a_pass": size} | beside_limit(speed, bare, "videos/s", "the bare forward pass")
    if device.precision == torch.float32:
        row["contiguous"] = attempt(lambda: _measure_contiguous(fast, given, device, bare, rounds), device.device)
    return row


def _measure_contiguous(
    fast: Network, given: list[list[Tensor]], device: Device, bare: float, rounds: tuple[int, int]
) -> dict[str, Any]:
    """The bare pass with weights and input in contiguous layout; the network is changed in place."""
    fast.to(memory_format=torch.contiguous_format)
    given = [[tensor.contiguous() for tensor in inputs] for inputs in given]
    speed = len(given[0][0]) / seconds_of(lambda: _forward(fast, given, device), device.device, *rounds)
    return beside_limit(speed, bare, "videos/s", "the bare forward pass in channels_last")


def _inputs(network: Network, group: list[VideoInput], protocol: Protocol, device: Device) -> list[list[Tensor]]:
    """The network's input of a group of videos, for each view, on the device."""
    found = []
    for view in protocol.views(*group[0].size):
        columns = zip(*(given.network_inputs(network.names, view, device) for given in group), strict=True)
        found.append([torch.stack(column) for column in columns])
    return found


@torch.inference_mode()
def _forward(network: Network, given: list[list[Tensor]], device: Device) -> None:
    """The network on input that is there."""
    with exact_float32(), device.autocast():
        for inputs in given:
            network(*inputs)


def reading_speed(
    store: Store, videos: list[StoredVideo], protocol: Protocol, device: Device, rounds: tuple[int, int]
) -> float:
    """Videos per second that threads read, decode and pin as `evaluate` does, without testing them."""
    listed = videos * -(-READS * device.loader_threads // len(videos))

    def read(video: StoredVideo) -> VideoInput:
        given = read_stored_video(store, video, ("appearance", "motion"), L, protocol, device)
        return given.pinned() if device.overlaps_copies else given

    def read_all() -> None:
        for _ in read_ahead(read, [[video] for video in listed], device.loader_threads):
            pass

    return len(listed) / seconds_of(read_all, device.device, *rounds)

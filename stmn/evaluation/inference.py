"""Score videos fully convolutionally in space and time: one forward pass per video and mirror (section 4.2)."""

from collections.abc import Sequence
from functools import partial
from math import log
from typing import cast

import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.batching import Waiting, group_by_shape, read_ahead
from stmn.evaluation.passes import MAX_PASS_PIXELS, PassLimit, compute_last_maps, temporal_reach
from stmn.evaluation.protocol import Protocol
from stmn.evaluation.video_input import VideoInput, read_stored_video
from stmn.nets.config import TemporalConfig
from stmn.nets.fast.folding import fold_batch_norms, freeze_convolutions
from stmn.nets.network import Network
from stmn.nets.outside import OutsideNetwork
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32
from stmn.runtime.progress import Progress
from stmn.runtime.sending import send_ahead
from stmn.sampling.augment import Crop
from stmn.store.format.read import Store, StoredVideo

#: a pooling window that no feature map exceeds
_WHOLE_MAP = 2**20


@torch.inference_mode()
def compute_logits(
    network: Network, batch: Sequence[VideoInput], protocol: Protocol, device: Device, max_pixels: int = MAX_PASS_PIXELS
) -> list[Tensor]:
    """Classify a batch of videos of one size and number of chunks.

    Args:
        network: A network on the device, in evaluation mode.
        batch: B videos.
        protocol: Gives the views to average over.
        device: Where the network is.
        max_pixels: About the largest forward pass, in pixels of all chunks. Larger batches are split in time.

    Returns:
        For each output (B, classes) logits, averaged over windows, chunks and views. If the protocol averages
        probabilities, the logarithms of the mean probabilities.
    """
    totals: list[Tensor] = []
    views, chunks, soft = protocol.views(*batch[0].size), batch[0].chunks, protocol.average == "softmax"
    add = torch.logaddexp if soft else torch.add
    for view in views:

        def inputs(first: int, last: int, view: Crop = view) -> list[Tensor]:
            cut = [video.network_inputs(network.names, view, device, first, last) for video in batch]
            columns = zip(*cut, strict=True)
            return [column[0][None] if len(column) == 1 else torch.stack(column) for column in columns]

        with exact_float32(), device.autocast():
            most = max(1, max_pixels // (len(batch) * view.height * view.width))
            maps = compute_last_maps(network, inputs, chunks, most)
            outputs = network.classify(maps, chunks, per_window=soft)
        if view.mirror and protocol.mirror_order:  # what looks like "left" in the mirror is "right"
            order = device.move(torch.tensor(protocol.mirror_order))  # a list as an index would make the host wait
            outputs = tuple(output[..., order] for output in outputs)
        means = [_mean_softmax(output.float()) if soft else output.float().mean(dim=1) for output in outputs]
        totals = [add(total, mean) for total, mean in zip(totals, means, strict=True)] if totals else means
    return [total.cpu() - log(len(views)) if soft else total.cpu() / len(views) for total in totals]


def _mean_softmax(logits: Tensor) -> Tensor:
    """Map logits (B, P, W, classes) to the logarithm of their mean probabilities, (B, classes)."""
    places = logits.flatten(1, 2)
    return places.log_softmax(dim=-1).logsumexp(dim=1) - log(places.shape[1])


def compute_in_memory(
    network: Network, batch: Sequence[VideoInput], protocol: Protocol, device: Device, limit: PassLimit
) -> list[Tensor]:
    """`compute_logits` in passes as large as memory allows: of fewer videos, then of parts of one.

    Args:
        limit: The largest pass so far; lowered if it does not fit. The other arguments are those of `compute_logits`.

    Raises:
        StmnError: There is not enough memory for the smallest pass.
    """
    view, chunks = protocol.views(*batch[0].size)[0], batch[0].chunks
    chunk = view.height * view.width

    def compute(pixels: int) -> list[Tensor]:
        size = max(1, pixels // (chunks * chunk))
        groups = [batch[first : first + size] for first in range(0, len(batch), size)]
        results = [compute_logits(network, group, protocol, device, pixels) for group in groups]
        return [torch.cat(column) for column in zip(*results, strict=True)]

    if temporal_reach(network) is None:  # videos can't be split
        return limit.fit(compute, chunks * chunk, len(batch))
    return limit.fit(compute, chunk, len(batch) * chunks)


def for_inference(network: Network, device: Device) -> Network:
    """Return a copy on the device that gives the same logits faster but can't be trained; an exported file as it is.

    docs/decisions/inference-network.md explains how.
    """
    if isinstance(network, OutsideNetwork):
        return network
    fast = cast(Network, device.place(fold_batch_norms(network)))
    if device.has_own_convolutions:
        freeze_convolutions(fast)
    return fast


def set_pooling(network: Network, protocol: Protocol) -> None:
    """Make a network pool over space and time as the protocol says. The network is changed in place.

    An exported file pools as it was trained.
    """
    if isinstance(network, OutsideNetwork):
        return
    temporal = network.config.temporal
    if protocol.temporal_pool is not None:
        given = {"pool": protocol.temporal_pool, "window": protocol.temporal_window}
        temporal = TemporalConfig.model_validate(temporal.model_dump() | given)
    for name in network.names:
        stream = network.stream(name)
        stream.temporal = temporal
        stream.window = _WHOLE_MAP if protocol.pool == "global" else network.config.window


def score_videos(
    network: Network,
    store: Store,
    videos: Sequence[StoredVideo],
    protocol: Protocol,
    device: Device,
    progress: Progress,
    task_name: str = "testing",
) -> dict[str, Tensor]:
    """Score stored videos with a fast copy of the network that pools as the protocol says.

    Args:
        network: The network. Its pooling is set to the protocol's.
        store: The prepared data set.
        videos: N videos of the store.
        protocol: How they are tested.
        device: Where to compute.
        progress: Where progress is reported.
        task_name: Title of the progress bar.

    Returns:
        Output name -> (N, classes) logits, in the order of the videos.

    Raises:
        DataError: There are no videos, or a logit is NaN or infinite.
    """
    if not videos:
        raise DataError("no videos to score: this part of the split is empty")
    set_pooling(network, protocol)
    fast = for_inference(network, device)
    length = network.config.stack_length

    def read(video: StoredVideo) -> tuple[StoredVideo, VideoInput]:
        given = read_stored_video(store, video, network.names, length, protocol, device)
        return video, given.pinned() if device.overlaps_copies else given

    limit = PassLimit(device, progress)
    groups = group_by_shape(videos, length, protocol, limit.shared)
    found: dict[str, list[Tensor]] = {}
    waiting = Waiting()
    with progress.task(task_name, len(videos), "videos") as task:
        sent = send_ahead(read_ahead(read, groups, device.loader_threads), partial(_send, device), _tensors_of, device)
        for group in waiting.watch(sent):
            computed = compute_in_memory(fast, [given for _, given in group], protocol, device, limit)
            for row, (video, _) in enumerate(group):
                found[video.id] = [logits[row] for logits in computed]
                for name, logits in zip(network.outputs, found[video.id], strict=True):
                    check_finite(logits, f"video '{video.id}': the network's {name} scores", protocol.precision)
            task.advance(len(group))
    if notice := waiting.describe():
        progress.say(notice)
    rows = [found[video.id] for video in videos]
    return {name: torch.stack(column) for name, column in zip(network.outputs, zip(*rows, strict=True), strict=True)}


_Read = list[tuple[StoredVideo, VideoInput]]


def _send(device: Device, group: _Read) -> _Read:
    """Return the videos with their pictures on a device."""
    return [(video, given.on(device)) for video, given in group]


def _tensors_of(group: _Read) -> list[Tensor]:
    """Return those pictures of the videos that are on a GPU."""
    return [levels for _, given in group for levels in given.pictures if levels.is_cuda]


def check_finite(logits: Tensor, what: str, precision: str) -> None:
    """Make sure that logits are finite.

    Args:
        logits: The logits of a video.
        what: What error messages call them: "video 'a': the network's motion scores".
        precision: The precision of the network's convolutions.

    Raises:
        DataError: One is NaN or infinite.
    """
    if logits.isfinite().all():
        return
    if precision == "float16":
        raise DataError(
            f"{what} are NaN or infinite in float16, whose largest number is 65504: use bfloat16 or float32 "
            "(--precision)"
        )
    raise DataError(
        f"{what} are NaN or infinite; its training diverged or the model file is damaged: test an earlier model, or "
        f"train with a lower learning rate"
    )

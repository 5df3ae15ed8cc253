"""Score videos fully convolutionally in space and time: one forward pass per video and mirror (section 4.2)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import log
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.passes import MAX_PASS_PIXELS, PassLimit, compute_last_maps, temporal_reach
from stmn.evaluation.protocol import Protocol
from stmn.nets.config import TemporalConfig
from stmn.nets.fast.folding import fold_batch_norms, freeze_convolutions
from stmn.nets.network import Network
from stmn.nets.outside import OutsideNetwork
from stmn.runtime.device import Device
from stmn.runtime.files import digest
from stmn.runtime.precision import exact_float32
from stmn.runtime.progress import Progress
from stmn.sampling.augment import Crop, mirrored, normalise_flow, normalise_rgb, resize
from stmn.sampling.positions import spread_positions, stack_times
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB

#: small videos share a forward pass of up to this many pixels over all chunks; a larger video has its own
_SHARED_PASS_PIXELS = 2**18
#: a pooling window that no feature map exceeds
_WHOLE_MAP = 2**20
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class VideoInput:
    """What a network reads of a video, as 8-bit levels 0..255. A modality that it does not read is None.

    Attributes:
        frames: (T, 3, H, W) RGB, one frame per chunk.
        fields: (n, 2, H, W) flow levels.
        stacks: (T, L) rows of `fields` that make up each chunk's stack.
    """

    frames: Tensor | None
    fields: Tensor | None
    stacks: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels."""
        height, width = (self.frames if self.frames is not None else self.fields).shape[-2:]  # type: ignore[union-attr]
        return height, width

    @property
    def chunks(self) -> int:
        """T, the number of chunks."""
        return len(self.frames) if self.frames is not None else len(self.stacks)  # type: ignore[arg-type]

    def network_inputs(
        self, names: Sequence[str], view: Crop, first: int = 0, last: int | None = None
    ) -> list[Tensor]:  # fmt: skip
        """Cut out, mirror and normalise a view.

        Args:
            names: The network's streams, "appearance" and "motion".
            view: The box to cut out, and whether it is mirrored.
            first: The first chunk.
            last: The chunk to stop before; None for all.

        Returns:
            For each stream (T, channels, H, W).
        """
        tensors = []
        for name in names:
            if name == "appearance":
                tensors.append(normalise_rgb(_cut(self.frames[first:last], view).float()))  # type: ignore[index]
            else:
                rows: Tensor = self.stacks[first:last]  # type: ignore[index]
                low, high = int(rows.min()), int(rows.max()) + 1
                fields = normalise_flow(_cut(self.fields[low:high], view).float(), view.mirror)  # type: ignore[index]
                tensors.append(fields[rows - low].flatten(1, 2))
        return tensors


def _cut(frames: Tensor, view: Crop) -> Tensor:
    """The box of a view in (..., H, W) frames, mirrored if the view is."""
    box = frames[..., view.top : view.top + view.height, view.left : view.left + view.width]
    return mirrored(box, view.mirror)


def resize_to_protocol(frames: Tensor, protocol: Protocol) -> Tensor:
    """Resize (N, channels, H, W) levels to the protocol's short side.

    Levels of that size are returned as they are: uint8 takes a quarter of the memory of float32.
    """
    height, width = frames.shape[-2:]
    scale = protocol.short_side / min(height, width)
    size = (round(height * scale), round(width * scale))
    return frames if (height, width) == size else resize(frames.float(), size)


def read_stored_video(
    store: Store, video: StoredVideo, names: Sequence[str], stack_length: int, protocol: Protocol
) -> VideoInput:
    """Read what a network needs of a stored video.

    Args:
        store: The prepared data set.
        video: One of its videos.
        names: The network's streams.
        stack_length: L, the flow fields in a stack.
        protocol: Gives the number of chunks and the short side.

    Raises:
        DataError: The store is damaged.
    """
    times = spread_positions(video.frames, stack_length, protocol.chunks)
    frames = fields = stacks = None
    if "appearance" in names:
        frames = _read_pictures(store, video, RGB, times, protocol)
    if "motion" in names:
        wanted = [stack_times(t, video.frames, stack_length) for t in times]
        needed = sorted({i for stack in wanted for i in stack})
        fields = _read_pictures(store, video, FLOW, needed, protocol)
        stacks = torch.tensor([[needed.index(i) for i in stack] for stack in wanted])
    return VideoInput(frames, fields, stacks)


def _read_pictures(store: Store, video: StoredVideo, kind: int, times: Sequence[int], protocol: Protocol) -> Tensor:
    """Frames (N, 3, H, W) or fields (N, 2, H, W) in levels, at the protocol's size; noise where it asks for that."""
    noise = protocol.noise
    if noise is None or noise.kind != kind:
        return resize_to_protocol((store.frames if kind == RGB else store.fields)(video.id, times), protocol)
    scale = protocol.short_side / min(video.height, video.width)
    size = (round(video.height * scale), round(video.width * scale))
    rng = np.random.default_rng([noise.seed, int(digest(video.id)[:8], 16)])
    return torch.from_numpy(noise.draw((len(times), len(noise.mean), *size), rng))


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
        soft-maxes, the logarithms of the mean probabilities.
    """
    totals: list[Tensor] = []
    views, chunks, soft = protocol.views(*batch[0].size), batch[0].chunks, protocol.average == "softmax"
    add = torch.logaddexp if soft else torch.add
    for view in views:

        def inputs(first: int, last: int, view: Crop = view) -> list[Tensor]:
            columns = zip(*(video.network_inputs(network.names, view, first, last) for video in batch), strict=True)
            return [device.move(column[0][None] if len(column) == 1 else torch.stack(column)) for column in columns]

        with exact_float32(), device.autocast():
            most = max(1, max_pixels // (len(batch) * view.height * view.width))
            maps = compute_last_maps(network, inputs, chunks, most)
            outputs = network.classify(maps, chunks, per_window=soft)
        if view.mirror and protocol.mirror_order:  # what looks like "left" in the mirror is "right"
            outputs = tuple(output[..., protocol.mirror_order] for output in outputs)
        means = [_mean_soft_max(output.float()) if soft else output.float().mean(dim=1) for output in outputs]
        totals = [add(total, mean) for total, mean in zip(totals, means, strict=True)] if totals else means
    return [total.cpu() - log(len(views)) if soft else total.cpu() / len(views) for total in totals]


def _mean_soft_max(logits: Tensor) -> Tensor:
    """Logits (B, P, W, classes) to the logarithm of the mean of their soft-maxes, (B, classes)."""
    places = logits.flatten(1, 2)
    return places.log_softmax(dim=-1).logsumexp(dim=1) - log(places.shape[1])


def compute_in_memory(
    network: Network, batch: Sequence[VideoInput], protocol: Protocol, device: Device, limit: PassLimit
) -> list[Tensor]:
    """`compute_logits` in passes as large as memory allows.

    Args:
        limit: The largest pass so far; lowered where it does not fit. The others are those of `compute_logits`.

    Raises:
        StmnError: Memory does not suffice for the smallest pass.
    """
    view, chunks = protocol.views(*batch[0].size)[0], batch[0].chunks
    chunk = view.height * view.width

    def compute(pixels: int) -> list[Tensor]:
        groups = [batch] if pixels >= len(batch) * chunks * chunk else [[video] for video in batch]
        results = [compute_logits(network, group, protocol, device, pixels) for group in groups]
        return [torch.cat(column) for column in zip(*results, strict=True)]

    if temporal_reach(network) is None:  # videos can't be split
        return limit.fit(compute, chunks * chunk, len(batch))
    return limit.fit(compute, chunk, len(batch) * chunks)


def for_inference(network: Network, device: Device) -> Network:
    """A copy on the device that gives the same logits in less time and can't be trained; an exported file as it is.

    docs/decisions/inference-network.md says how.
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
) -> dict[str, Tensor]:
    """Score stored videos with a fast copy of the network that pools as the protocol says.

    Args:
        network: The network. Its pooling is set to the protocol's.
        store: The prepared data set.
        videos: N videos of the store.
        protocol: How they are tested.
        device: Where to compute.
        progress: Where progress is reported.

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

    def read(group: list[StoredVideo]) -> tuple[list[StoredVideo], list[VideoInput]]:
        return group, [read_stored_video(store, video, network.names, length, protocol) for video in group]

    limit = PassLimit(device, progress)
    rows: dict[str, list[Tensor]] = {name: [] for name in network.outputs}
    with progress.task("testing", len(videos), "videos") as task:
        for group, batch in _prefetch(read, _group_alike(videos, length, protocol), device.loader_threads):
            computed = compute_in_memory(fast, batch, protocol, device, limit)
            for name, logits in zip(network.outputs, computed, strict=True):
                for row, video in zip(logits, group, strict=True):
                    check_finite(row, f"video '{video.id}': the network's {name} scores", protocol.precision)
                rows[name].append(logits)
            task.advance(len(group))
    return {name: torch.cat(parts) for name, parts in rows.items()}


def check_finite(logits: Tensor, what: str, precision: str) -> None:
    """Make sure that logits are numbers.

    Args:
        logits: Of a video.
        what: Whose they are: "video 'a': the network's motion scores".
        precision: That of the network's convolutions.

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


def _prefetch(make: Callable[[_Given], _Result], given: Iterable[_Given], threads: int) -> Iterator[_Result]:
    """The results of `make`, in order; threads compute the next ones while the caller works on the current one."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads, "reader") as pool:
        try:
            for item in given:
                waiting.append(pool.submit(make, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _group_alike(videos: Sequence[StoredVideo], stack_length: int, protocol: Protocol) -> Iterator[list[StoredVideo]]:
    """Runs of consecutive videos of one shape that share a small pass; large videos come alone."""
    group: list[StoredVideo] = []
    for video in videos:
        if group and (
            _shape(video, stack_length, protocol) != _shape(group[0], stack_length, protocol)
            or _is_full(group, stack_length, protocol)
        ):
            yield group
            group = []
        group.append(video)
    if group:
        yield group


def _shape(video: StoredVideo, stack_length: int, protocol: Protocol) -> tuple[int, int, int]:
    """What the videos of a pass have in common: chunks, height, width."""
    return len(spread_positions(video.frames, stack_length, protocol.chunks)), video.height, video.width


def _is_full(group: Sequence[StoredVideo], stack_length: int, protocol: Protocol) -> bool:
    """True if one more video would make the pass too large."""
    chunks, height, width = _shape(group[0], stack_length, protocol)
    scale = protocol.short_side / min(height, width)
    return (len(group) + 1) * chunks * height * width * scale**2 > _SHARED_PASS_PIXELS

"""Score videos fully convolutionally in space and time: one forward pass a video and mirror (section 4.2)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor

from stmn.errors import DataError
from stmn.evaluation.passes import LARGEST_PASS, last_maps
from stmn.evaluation.protocol import Protocol
from stmn.nets.config import MODALITIES, TemporalConfig
from stmn.nets.fast.folding import folded, with_winograd
from stmn.nets.network import Network, over_time
from stmn.runtime.device import Device
from stmn.runtime.progress import Progress
from stmn.sampling.augment import Crop, mirrored, normalise_flow, normalise_rgb, resize
from stmn.sampling.positions import spread_positions, stack_times
from stmn.store.format.read import Store, StoredVideo

#: pixels of all chunks that small videos may share a forward pass for; larger videos have one each
PASS_PIXELS = 2**18
#: a window that no feature map exceeds
WHOLE = 2**20
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Pictures:
    """What a video gives a network: (T, 3, H, W) frames and (n, 2, H, W) flow levels with the rows of each stack."""

    frames: Tensor | None
    fields: Tensor | None
    stacks: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = (self.frames if self.frames is not None else self.fields).shape[-2:]  # type: ignore[union-attr]
        return height, width

    @property
    def chunks(self) -> int:
        """T."""
        return len(self.frames) if self.frames is not None else len(self.stacks)  # type: ignore[arg-type]

    def inputs(self, names: Sequence[str], view: Crop, first: int = 0, last: int | None = None) -> list[Tensor]:
        """(T, planes, H, W) of a view for each stream name; of chunks `first` ... `last` - 1 where they are given."""
        tensors = []
        for name in names:
            if MODALITIES[name] == "rgb":
                tensors.append(normalise_rgb(seen(self.frames[first:last], view).float()))  # type: ignore[index]
            else:
                rows: Tensor = self.stacks[first:last]  # type: ignore[index]
                low, high = int(rows.min()), int(rows.max()) + 1
                fields = normalise_flow(seen(self.fields[low:high], view).float(), view.mirror)  # type: ignore[index]
                tensors.append(fields[rows - low].flatten(1, 2))
        return tensors


def seen(pictures: Tensor, view: Crop) -> Tensor:
    """The box of a view in (..., H, W) pictures, mirrored where it is."""
    box = pictures[..., view.top : view.top + view.height, view.left : view.left + view.width]
    return mirrored(box, view.mirror)


def fit(pictures: Tensor, protocol: Protocol) -> Tensor:
    """(N, planes, H, W) levels to the protocol's short side; uint8 where they have it: a quarter of the memory."""
    height, width = pictures.shape[-2:]
    scale = protocol.short_side / min(height, width)
    size = (round(height * scale), round(width * scale))
    return pictures if (height, width) == size else resize(pictures.float(), size)


def stored_pictures(
    store: Store, video: StoredVideo, names: Sequence[str], stack_length: int, protocol: Protocol
) -> Pictures:
    """Read what a network needs of a stored video."""
    times = spread_positions(video.frames, stack_length, protocol.chunks)
    frames = fields = stacks = None
    if "appearance" in names:
        frames = fit(store.frames(video.id, times), protocol)
    if "motion" in names:
        wanted = [stack_times(t, video.frames, stack_length) for t in times]
        needed = sorted({i for stack in wanted for i in stack})
        fields = fit(store.fields(video.id, needed), protocol)
        stacks = torch.tensor([[needed.index(i) for i in stack] for stack in wanted])
    return Pictures(frames, fields, stacks)


@torch.inference_mode()
def score_pictures(
    network: Network, batch: Sequence[Pictures], protocol: Protocol, device: Device, largest: int = LARGEST_PASS
) -> list[Tensor]:
    """(B, classes) for each output, averaged over views; the pictures of a batch have one size and T.

    A forward pass has about `largest` pixels, counted over chunks; what has more is split in time.
    """
    totals: list[Tensor] = []
    views, chunks = protocol.views(*batch[0].size), batch[0].chunks
    for view in views:

        def inputs(first: int, last: int, view: Crop = view) -> list[Tensor]:
            columns = zip(*(pictures.inputs(network.names, view, first, last) for pictures in batch), strict=True)
            return [device.move(column[0][None] if len(column) == 1 else torch.stack(column)) for column in columns]

        with device.autocast():
            maps = last_maps(network, inputs, chunks, max(1, largest // (len(batch) * view.height * view.width)))
            outputs = over_time(network.classify(maps, chunks))
        totals = (
            [t + o.float() for t, o in zip(totals, outputs, strict=True)] if totals else [o.float() for o in outputs]
        )
    return [total.cpu() / len(views) for total in totals]


def for_inference(network: Network, device: Device) -> Network:
    """A copy on the device that gives the same scores in less time (docs/evaluation.md)."""
    ready = device.place(folded(network))
    return cast(Network, with_winograd(cast(Network, ready)) if device.has_own_convolutions else ready)


def pool_as(network: Network, protocol: Protocol) -> None:
    """Let a network pool over space and time as the protocol says."""
    temporal = network.config.temporal
    if protocol.temporal_pool is not None:
        given = {"pool": protocol.temporal_pool, "window": protocol.temporal_window}
        temporal = TemporalConfig.model_validate(temporal.model_dump() | given)
    for name in network.names:
        stream = network.stream(name)
        stream.temporal = temporal
        stream.window = WHOLE if protocol.pool == "global" else network.config.window


def score_videos(
    network: Network,
    store: Store,
    videos: Sequence[StoredVideo],
    protocol: Protocol,
    device: Device,
    progress: Progress,
) -> dict[str, Tensor]:
    """Output name -> (N, classes) scores of stored videos, in their order.

    The network is scored as a copy made for testing, with the protocol's pooling. Raises `DataError` when there are no
    videos, or a score is no number.
    """
    if not videos:
        raise DataError("there are no videos to score: the part of the split is empty")
    pool_as(network, protocol)
    ready = for_inference(network, device)
    length = network.config.stack_length

    def read(group: list[StoredVideo]) -> tuple[list[StoredVideo], list[Pictures]]:
        return group, [stored_pictures(store, video, network.names, length, protocol) for video in group]

    rows: dict[str, list[Tensor]] = {name: [] for name in network.outputs}
    with progress.task("testing", len(videos), "videos") as task:
        for group, batch in made_ahead(read, alike(videos, length, protocol), device.loader_threads):
            for name, scores in zip(network.outputs, score_pictures(ready, batch, protocol, device), strict=True):
                check(scores, name, group)
                rows[name].append(scores)
            task.advance(len(group))
    return {name: torch.cat(parts) for name, parts in rows.items()}


def check(scores: Tensor, name: str, videos: Sequence[StoredVideo]) -> None:
    """Raise `DataError` naming the first video whose scores are no numbers."""
    for row, video in zip(scores, videos, strict=True):
        if not row.isfinite().all():
            raise DataError(
                f"video '{video.id}': the network's {name} scores are NaN or infinite; its training diverged or the "
                f"model file is damaged: test an earlier model, or train with a lower learning rate"
            )


def made_ahead(make: Callable[[Given], Result], given: Iterable[Given], threads: int) -> Iterator[Result]:
    """What `make` makes of each, in order; threads make the next `threads` while the caller works on one."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "pictures") as pool:
        try:
            for item in given:
                waiting.append(pool.submit(make, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def alike(videos: Sequence[StoredVideo], stack_length: int, protocol: Protocol) -> Iterator[list[StoredVideo]]:
    """Runs of consecutive videos of one size and T that small passes can share; big videos come alone."""
    group: list[StoredVideo] = []
    for video in videos:
        if group and (
            shape(video, stack_length, protocol) != shape(group[0], stack_length, protocol)
            or full(group, stack_length, protocol)
        ):
            yield group
            group = []
        group.append(video)
    if group:
        yield group


def shape(video: StoredVideo, stack_length: int, protocol: Protocol) -> tuple[int, int, int]:
    """What must agree within a pass: T, height, width."""
    return len(spread_positions(video.frames, stack_length, protocol.chunks)), video.height, video.width


def full(group: Sequence[StoredVideo], stack_length: int, protocol: Protocol) -> bool:
    """True when one more video would make the pass too large."""
    chunks, height, width = shape(group[0], stack_length, protocol)
    scale = protocol.short_side / min(height, width)
    return (len(group) + 1) * chunks * height * width * scale**2 > PASS_PIXELS

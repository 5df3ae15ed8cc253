"""Score videos fully convolutionally in space and time: one forward pass a video and mirror (section 4.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stmn.device import Device
from stmn.evaluation.protocol import Protocol
from stmn.nets.config import TemporalConfig
from stmn.nets.network import Network
from stmn.progress import Progress
from stmn.sampling.augment import Crop, mirrored, normalise_flow, normalise_rgb, resize
from stmn.sampling.positions import stack_times, test_positions
from stmn.store.reader import Store, StoredVideo

#: modality that each stream reads
INPUTS = {"appearance": "rgb", "motion": "flow"}
#: pixels of all chunks that small videos may share a forward pass for; larger videos have one each
PASS_PIXELS = 2**18
#: a window that no feature map exceeds
WHOLE = 2**20


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

    def inputs(self, names: Sequence[str], view: Crop) -> list[Tensor]:
        """(T, planes, H, W) of a view for each stream name."""
        tensors = []
        for name in names:
            if INPUTS[name] == "rgb":
                tensors.append(normalise_rgb(seen(self.frames, view)))  # type: ignore[arg-type]
            else:
                fields = normalise_flow(seen(self.fields, view), view.mirror)  # type: ignore[arg-type]
                tensors.append(fields[self.stacks].flatten(1, 2))
        return tensors


def seen(pictures: Tensor, view: Crop) -> Tensor:
    """The box of a view in (..., H, W) pictures, mirrored where it is."""
    box = pictures[..., view.top : view.top + view.height, view.left : view.left + view.width]
    return mirrored(box, view.mirror)


def fit(pictures: Tensor, protocol: Protocol) -> Tensor:
    """(N, planes, H, W) levels to the protocol's short side."""
    height, width = pictures.shape[-2:]
    scale = protocol.short_side / min(height, width)
    return resize(pictures.float(), (round(height * scale), round(width * scale)))


def stored_pictures(
    store: Store, video: StoredVideo, names: Sequence[str], stack_length: int, protocol: Protocol
) -> Pictures:
    """Read what a network needs of a stored video."""
    times = test_positions(video.frames, stack_length, protocol.frames)
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
def score_pictures(network: Network, batch: Sequence[Pictures], protocol: Protocol, device: Device) -> list[Tensor]:
    """(B, classes) for each output, averaged over views; the pictures of a batch have one size and T."""
    totals: list[Tensor] = []
    views = protocol.views(*batch[0].size)
    for view in views:
        columns = zip(*(pictures.inputs(network.names, view) for pictures in batch), strict=True)
        with device.autocast():
            outputs = network(*(device.move(torch.stack(column)) for column in columns))
        totals = (
            [t + o.float() for t, o in zip(totals, outputs, strict=True)] if totals else [o.float() for o in outputs]
        )
    return [total.cpu() / len(views) for total in totals]


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
    """Output name -> (N, classes) scores of stored videos, in their order."""
    device.place(network).eval()
    pool_as(network, protocol)
    rows: dict[str, list[Tensor]] = {name: [] for name in network.outputs}
    with progress.task("testing", len(videos), "videos") as task:
        for group in alike(videos, network.config.stack_length, protocol):
            batch = [stored_pictures(store, v, network.names, network.config.stack_length, protocol) for v in group]
            outputs = score_pictures(network, batch, protocol, device)
            for name, scores in zip(network.outputs, outputs, strict=True):
                rows[name].append(scores)
            task.advance(len(group))
    return {name: torch.cat(parts) for name, parts in rows.items()}


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
    return len(test_positions(video.frames, stack_length, protocol.frames)), video.height, video.width


def full(group: Sequence[StoredVideo], stack_length: int, protocol: Protocol) -> bool:
    """True when one more video would make the pass too large."""
    chunks, height, width = shape(group[0], stack_length, protocol)
    scale = protocol.short_side / min(height, width)
    return (len(group) + 1) * chunks * height * width * scale**2 > PASS_PIXELS

"""A network's input from a video in testing, from a prepared set or elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stmn.evaluation.protocol import Protocol
from stmn.runtime.device import Device
from stmn.runtime.files import digest
from stmn.runtime.memory import find_shortage, pinning
from stmn.sampling.augment import Crop, mirrored, normalise_flow, normalise_rgb, resize
from stmn.sampling.positions import spread_positions, stack_times
from stmn.sampling.products import align, make_matrix, resize_by_products
from stmn.store.format.read import Store, StoredVideo
from stmn.store.format.shard import FLOW, RGB


@dataclass(frozen=True)
class VideoInput:
    """A network's input from a video, as levels 0..255. A modality that it does not read is None.

    Attributes:
        frames: (T, 3, H, W) RGB, one frame per chunk.
        fields: (n, 2, H, W) flow levels.
        stacks: (T, L) rows of `fields` that make up each chunk's stack; in host memory, wherever the pictures are.
        resized: Height and width to which pictures are resized when they are cut; None if they keep their size.
    """

    frames: Tensor | None
    fields: Tensor | None
    stacks: Tensor | None
    resized: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, of what views are cut from."""
        if self.resized:
            return self.resized
        height, width = (self.frames if self.frames is not None else self.fields).shape[-2:]  # type: ignore[union-attr]
        return height, width

    @property
    def chunks(self) -> int:
        """T, the number of chunks."""
        return len(self.frames) if self.frames is not None else len(self.stacks)  # type: ignore[arg-type]

    @property
    def pictures(self) -> list[Tensor]:
        """The tensors of levels that are not None."""
        return [levels for levels in (self.frames, self.fields) if levels is not None]

    def pinned(self) -> "VideoInput":
        """A copy in pinned memory. Raises `MemoryError` if that runs out."""
        with pinning("a video's pictures"):
            frames, fields = (None if levels is None else levels.pin_memory() for levels in (self.frames, self.fields))
        return replace(self, frames=frames, fields=fields)

    def on(self, device: Device) -> "VideoInput":
        """Return a copy with its pictures on a device; itself if they don't fit there, to be sent pass by pass."""
        try:
            frames, fields = (None if levels is None else device.move(levels) for levels in (self.frames, self.fields))
        except (MemoryError, RuntimeError) as error:
            if find_shortage(error) is None:
                raise
            return self
        return replace(self, frames=frames, fields=fields)

    def network_inputs(
        self, names: Sequence[str], view: Crop, device: Device, first: int = 0, last: int | None = None
    ) -> list[Tensor]:
        """Cut out, mirror and normalise a view on a device. Pictures that are not there yet are sent as levels.

        Args:
            names: The network's streams, "appearance" and "motion".
            view: The box to cut out, and whether it is mirrored.
            device: Where to work.
            first: The first chunk.
            last: The chunk to stop before; None for all.

        Returns:
            For each stream (T, channels, H, W), on the device.
        """
        tensors = []
        for name in names:
            if name == "appearance":
                frames = device.move(self.frames[first:last])  # type: ignore[index]
                tensors.append(normalise_rgb(self._cut(frames, view, device)))
            else:
                rows: Tensor = self.stacks[first:last]  # type: ignore[index]
                low, high = int(rows.min()), int(rows.max()) + 1
                levels = device.move(self.fields[low:high])  # type: ignore[index]
                fields = normalise_flow(self._cut(levels, view, device), view.mirror)
                tensors.append(fields[device.move(rows - low)].flatten(1, 2))
        return tensors

    def _cut(self, pictures: Tensor, view: Crop, device: Device) -> Tensor:
        """Return a view's box of (N, channels, H, W) pictures as float32, resized if they have another size."""
        if pictures.shape[-2:] == self.size:
            box = pictures[..., view.top : view.top + view.height, view.left : view.left + view.width]
            return mirrored(box, view.mirror).float()
        height, width = pictures.shape[-2:]
        rows = make_matrix(height, self.size[0])[view.top : view.top + view.height]
        columns = make_matrix(width, self.size[1])[view.left : view.left + view.width]
        columns = columns.flip(0) if view.mirror else columns
        high, wide, out = align(height), align(width), align(view.width)  # padded with zeros, which change no pixel
        lines = torch.zeros(high, *pictures.shape[:2], wide, device=pictures.device)
        lines[:height, ..., :width] = pictures.permute(2, 0, 1, 3)  # row by row
        rows = device.move(F.pad(rows, (0, high - height))[None])
        columns = device.move(F.pad(columns, (0, wide - width, 0, out - view.width))[None])
        resized = resize_by_products(lines.flatten(1, 2)[None], rows, columns, device)[0, ..., : view.width]
        cut: Tensor = resized.unflatten(1, pictures.shape[:2])
        return cut.permute(1, 2, 0, 3).contiguous()


def make_input(
    frames: Tensor | None, fields: Tensor | None, stacks: Tensor | None, protocol: Protocol, device: Device
) -> VideoInput:
    """Make a network's input from pictures of one size, resized to the protocol's short side.

    A device that cuts pictures also resizes them, when it cuts them. Levels of the right size stay uint8, which takes a
    quarter of the memory of float32.

    Args:
        frames: (T, 3, H, W) levels.
        fields: (n, 2, H, W) levels.
        stacks: (T, L) rows of `fields`.
        protocol: Gives the short side.
        device: Where they are cut.
    """
    pictures = frames if frames is not None else fields
    assert pictures is not None
    size = protocol.resized(*pictures.shape[-2:])
    if not device.cuts_pictures:
        frames, fields = (None if levels is None else _resize(levels, size) for levels in (frames, fields))
    return VideoInput(frames, fields, stacks, size)


def _resize(levels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize levels to a height and width; return them unchanged if they have it."""
    return levels if levels.shape[-2:] == size else resize(levels.float(), size)


def read_stored_video(
    store: Store, video: StoredVideo, names: Sequence[str], stack_length: int, protocol: Protocol, device: Device
) -> VideoInput:
    """Read what a network needs of a stored video.

    Args:
        store: The prepared data set.
        video: One of its videos.
        names: The network's streams.
        stack_length: L, the flow fields in a stack.
        protocol: Gives the number of chunks and the short side.
        device: Where its pictures are cut.

    Raises:
        DataError: The store is damaged.
    """
    times = spread_positions(video.frames, stack_length, protocol.chunks)
    size = protocol.resized(video.height, video.width)
    frames = fields = stacks = None

    def read(kind: int, times: Sequence[int]) -> Tensor:
        """Return frames (N, 3, H, W) or fields (N, 2, H, W) in levels, or noise of the protocol's size."""
        noise = protocol.noise
        if noise and noise.kind == kind:
            rng = np.random.default_rng([noise.seed, int(digest(video.id)[:8], 16)])
            return torch.from_numpy(noise.draw((len(times), len(noise.mean), *size), rng))
        levels = (store.frames if kind == RGB else store.fields)(video.id, times)
        return levels if device.cuts_pictures else _resize(levels, size)

    if "appearance" in names:
        frames = read(RGB, times)
    if "motion" in names:
        wanted = [stack_times(t, video.frames, stack_length) for t in times]
        needed = sorted({i for stack in wanted for i in stack})
        fields = read(FLOW, needed)
        stacks = torch.tensor([[needed.index(i) for i in stack] for stack in wanted])
    return VideoInput(frames, fields, stacks, size)

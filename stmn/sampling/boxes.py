"""Batches made on a device from 8-bit pictures: threads decode them; the device cuts, resizes and normalises them.

Only the boxes of the pictures are sent, as bytes: about a quarter of the size of the network's float input. Two matrix
products resize all pictures of a batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from math import prod

import numpy as np
import torch
from torch import Tensor

from stmn.runtime.device import Device
from stmn.sampling.augment import FLOW_TO_INPUT, MIRRORED_FLOW_TO_INPUT, RGB_TO_INPUT, Crop
from stmn.sampling.clips import Clips, Draw
from stmn.sampling.order import Index
from stmn.sampling.products import align, resize_by_products
from stmn.sampling.resample import Bytes, make_taps
from stmn.store.format.read import Store
from stmn.store.format.shard import FLOW, RGB


class BoxBatch:
    """A batch of samples to be sent to the device that cuts it.

    Args:
        clips: where samples come from.
        indices: the samples.
        pin: use pinned memory, which copies to CUDA without waiting.
    """

    def __init__(self, clips: Clips, indices: Sequence[Index], pin: bool) -> None:
        self._clips = clips
        self._draws = [clips.draw(index) for index in indices]
        self._label = torch.empty(len(indices), dtype=torch.long, pin_memory=pin)
        self._label.copy_(torch.tensor([draw.label for draw in self._draws]))
        self._rows, self._columns = _make_matrices([draw.crop for draw in self._draws], clips.sampling.size, pin)
        self._parts: dict[str, _Boxes | Tensor] = {}
        for modality in clips.sampling.modalities:
            kind = RGB if modality == "rgb" else FLOW
            if clips.sampling.noise and clips.sampling.noise.kind == kind:  # drawn as floats, with nothing to cut
                self._parts[modality] = torch.empty((len(indices), *clips.shape(modality)), pin_memory=pin)
            else:
                self._parts[modality] = _Boxes(self._draws, modality, pin)

    @property
    def jobs(self) -> list[Callable[[], None]]:
        """Calls that fill the batch, one for each sample. They may run in threads, and raise `DataError`."""
        return [partial(self._fill, row) for row in range(len(self._draws))]

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures, without the matrices that cut them."""
        return sum(part.nbytes for part in self._parts.values())

    def _fill(self, row: int) -> None:
        """Decode the pictures of a sample."""
        for modality, part in self._parts.items():
            if isinstance(part, Tensor):
                self._clips.fill(self._draws[row], modality, part[row])
            else:
                part.fill(row, self._clips.store)

    def cut(self, device: Device) -> dict[str, Tensor]:
        """Copy the batch to a device and cut it there.

        Returns:
            A batch as `load_batches` yields it, on the device.
        """
        batch = {"label": device.move(self._label)}
        rows, columns = device.move(self._rows), device.move(self._columns)
        for modality, part in self._parts.items():
            values = device.move(part) if isinstance(part, Tensor) else part.cut(rows, columns, device)
            batch[modality] = values.view(-1, *self._clips.shape(modality))
        return batch


def _make_matrices(crops: Sequence[Crop], size: int, pin: bool) -> tuple[Tensor, Tensor]:
    """Make the matrices that resize B crops: rows (B, size, H) and columns (B, size, W), padded with zeros.

    H and W are those of the largest crop, aligned.
    """
    height, width = max(crop.height for crop in crops), max(crop.width for crop in crops)
    rows, columns = (torch.zeros(len(crops), size, align(length), pin_memory=pin) for length in (height, width))
    for crop, row, column in zip(crops, rows, columns, strict=True):
        make_taps(crop.height, size).write_matrix(row.numpy())
        make_taps(crop.width, size, crop.mirror).write_matrix(column.numpy())
    return rows, columns


class _Boxes:
    """The boxes of all samples of a batch in one modality.

    Args:
        draws: the samples, B of them.
        modality: "rgb" or "flow".
        pin: use pinned memory.
    """

    def __init__(self, draws: Sequence[Draw], modality: str, pin: bool) -> None:
        self._draws, self._kind = draws, RGB if modality == "rgb" else FLOW
        self._channels = 3 if self._kind == RGB else 2
        self._times = [sorted(set(draw.times[modality])) for draw in draws]  # each distinct picture once
        self._shapes = [
            (len(times), draw.crop.height, draw.crop.width, 3)
            if self._kind == RGB
            else (len(times), 2, draw.crop.height, draw.crop.width)
            for times, draw in zip(self._times, draws, strict=True)
        ]
        ends = list(accumulate(map(prod, self._shapes)))
        self._places = list(pairwise([0, *ends]))
        self._levels = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=pin)
        self._to_input = torch.empty(2, len(draws), self._channels, pin_memory=pin)
        self._which = torch.empty(len(draws), len(draws[0].times[modality]), dtype=torch.long, pin_memory=pin)
        for number, (times, draw) in enumerate(zip(self._times, draws, strict=True)):
            levels = (
                RGB_TO_INPUT if self._kind == RGB else MIRRORED_FLOW_TO_INPUT if draw.crop.mirror else FLOW_TO_INPUT
            )
            self._to_input[:, number] = torch.from_numpy(np.stack([levels.mean, levels.scale]))
            self._which[number] = torch.from_numpy(np.searchsorted(times, draw.times[modality]))

    @property
    def nbytes(self) -> int:
        """Bytes of the boxes."""
        return self._levels.nbytes

    def fill(self, number: int, store: Store) -> None:
        """Decode the pictures of a sample and keep their boxes. Raises `DataError`."""
        draw, (start, end), times = self._draws[number], self._places[number], self._times[number]
        boxes: Bytes = self._levels[start:end].numpy().reshape(self._shapes[number])
        rows = slice(draw.crop.top, draw.crop.top + draw.crop.height)
        columns = slice(draw.crop.left, draw.crop.left + draw.crop.width)
        for box, (_, picture) in zip(boxes, store.pictures(draw.video.id, self._kind, times), strict=True):
            box[...] = picture[rows, columns] if self._kind == RGB else picture[:, rows, columns]

    def cut(self, rows: Tensor, columns: Tensor, device: Device) -> Tensor:
        """Cut the boxes on the device into the network's input.

        Args:
            rows: (B, S, H) on the device.
            columns: (B, S, W).
            device: the device.

        Returns:
            (B, pictures, channels, S, S), the pictures of each sample in its own order.
        """
        levels, to_input, which = map(device.move, (self._levels, self._to_input, self._which))
        count, most = len(self._draws), max(map(len, self._times))
        padded = rows.new_zeros(count, rows.shape[2], most, self._channels, columns.shape[2])
        for number, (draw, shape, (start, end)) in enumerate(zip(self._draws, self._shapes, self._places, strict=True)):
            boxes = levels[start:end].view(shape)
            if self._kind == RGB and draw.colours:
                boxes = draw.colours.change(boxes)
            boxes = boxes.permute(1, 0, 3, 2) if self._kind == RGB else boxes.permute(2, 0, 1, 3)
            padded[number, : boxes.shape[0], : boxes.shape[1], :, : boxes.shape[3]] = boxes
        resized = resize_by_products(padded.flatten(2, 3), rows, columns, device)
        mean, scale = to_input.view(2, count, 1, 1, self._channels, 1)
        cut: Tensor = resized.unflatten(2, (most, self._channels)).sub_(mean).mul_(scale).permute(0, 2, 3, 1, 4)
        return cut[torch.arange(count, device=cut.device)[:, None], which].contiguous()

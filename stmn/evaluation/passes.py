"""Forward passes of a bounded size: a video too large for one is split in time without changing its logits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from stmn.nets.network import Network
from stmn.nets.outside import OutsideNetwork
from stmn.nets.temporal import TemporalFilter
from stmn.nets.units import BasicUnit, BottleneckUnit
from stmn.runtime.device import Device
from stmn.runtime.memory import Shortage, find_shortage, report_shortage
from stmn.runtime.progress import Progress

#: pixels of all chunks in the largest pass on a CPU: 48 chunks of 256 x 341
MAX_PASS_PIXELS = 2**22
#: small videos share a pass of up to this many pixels on a CPU; a larger video has its own
_SHARED_PASS_PIXELS = 2**18
#: the same on a GPU: 192 chunks of 256 x 341 keep it busy, and more gains nothing
_MAX_GPU_PIXELS = 2**24
#: bytes of GPU memory per pixel of a pass and per byte of its precision: about twice what a pair of ResNets of 50 and
#: 152 layers holds at a time, because libraries need working memory too
_GPU_BYTES_PER_PIXEL = 256
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Pass:
    """Chunks `first` to `last` - 1 of a video, which go through the network together.

    Only the maps of the chunks `kept`, counted from `first`, are used. The others lie so close to a cut that their
    temporal filters would see zeros beyond it.
    """

    first: int
    last: int
    kept: slice


def temporal_reach(network: Network) -> int | None:
    """Return on how many chunks before and after its own a last feature map depends.

    The reaches of a stream's filters add up. Gates connect the streams, so the longer filter counts at each place.

    Returns:
        The number of chunks, or None if a plugin's modules or an exported file make it unknown.
    """
    if isinstance(network, OutsideNetwork):
        return None
    lengths: dict[str, int] = {}
    for name in network.names:
        backbone = network.stream(name).backbone
        filters: dict[str, nn.Module | None] = dict(backbone.skip_temporal.items())
        for part, units in backbone.parts.items():
            if any(type(unit) not in (BasicUnit, BottleneckUnit) for unit in units):
                return None
            filters |= {f"{part}.{number}": unit.temporal for number, unit in enumerate(units)}
        for place, module in filters.items():
            if module is None:
                continue
            if type(module) is not TemporalFilter:
                return None
            lengths[place] = max(lengths.get(place, 0), module.conv.kernel_size[0] // 2)
    return sum(lengths.values())


def split_in_time(chunks: int, most: int, margin: int | None) -> Iterator[Pass]:
    """Split `chunks` chunks into passes of about `most`; each map depends on `margin` chunks on either side.

    A pass has at least one chunk whose map is kept, plus its margins. With an unknown margin (None) nothing is split.
    """
    if margin is None or chunks <= most:
        yield Pass(0, chunks, slice(0, chunks))
        return
    step = max(1, most - 2 * margin)
    for start in range(0, chunks, step):
        stop = min(start + step, chunks)
        first, last = max(start - margin, 0), min(stop + margin, chunks)
        yield Pass(first, last, slice(start - first, stop - first))


def compute_last_maps(
    network: Network, inputs: Callable[[int, int], Sequence[Tensor]], chunks: int, most: int
) -> list[Tensor]:
    """Compute each stream's last feature maps of all chunks, in passes of about `most` chunks.

    The inputs and inner maps of only one pass are in memory. The last maps take a hundredth of that.

    Args:
        network: The network.
        inputs: `inputs(first, last)` gives each stream's tensor of these chunks, (B, last - first, channels, H, W).
        chunks: The number of chunks.
        most: About the largest number of chunks in a pass.

    Returns:
        For each stream (B * chunks, C, h, w).
    """
    parts = []
    for part in split_in_time(chunks, most, temporal_reach(network)):
        maps = network.feature_maps(*inputs(part.first, part.last))
        parts.append([m.reshape(-1, part.last - part.first, *m.shape[1:])[:, part.kept] for m in maps])
    return [torch.cat(column, dim=1).flatten(0, 1) for column in zip(*parts, strict=True)]


class PassLimit:
    """The largest forward pass: on a GPU as large as free memory allows, and halved each time it does not fit.

    On a GPU it is a power of two, so a little more or less free memory changes no score.

    Args:
        device: Where passes run.
        progress: Where a lower limit is reported.

    Attributes:
        pixels: Pixels of all chunks in the largest pass.
        shared: Pixels of all chunks in the largest pass that several videos share.
    """

    def __init__(self, device: Device, progress: Progress) -> None:
        self.device, self.progress = device, progress
        self.pixels, self.shared = MAX_PASS_PIXELS, _SHARED_PASS_PIXELS
        if (free := device.free_memory()) is not None:
            most = free // (_GPU_BYTES_PER_PIXEL * device.precision.itemsize)
            self.pixels = self.shared = min(_MAX_GPU_PIXELS, 1 << max(0, most.bit_length() - 1))

    def fit(self, compute: Callable[[int], _Result], part: int, parts: int) -> _Result:
        """Call `compute` with smaller and smaller limits until its passes fit, and return its result.

        Args:
            compute: Takes the limit, in pixels.
            part: Pixels of the smallest part that a pass can be cut down to: a chunk, or a whole video.
            parts: The number of such parts in all.

        Raises:
            StmnError: Not even one part fits.
        """
        with report_shortage(self._advise):
            while True:
                try:
                    return compute(self.pixels)
                except (MemoryError, RuntimeError) as error:
                    shortage, tried = find_shortage(error), min(self.pixels, part * parts)
                    if shortage is None or tried <= part:
                        raise
                # only here, outside the except block, are the tensors in the error's traceback free
                self.pixels = max(tried // 2, part)
                how = f"passes of {self.pixels} pixels, which changes scores by rounding alone"
                self.progress.say(f"{shortage}: testing goes on in {how}")

    def _advise(self, shortage: Shortage) -> str:
        """Say what to try if not even the smallest pass fits."""
        tries = ["--precision bfloat16"] if self.device.precision == torch.float32 else []
        tries += ["fewer --chunks", *(["--device cpu"] if self.device.is_cuda else [])]
        return f"not even the smallest part of a video fits: try {' or '.join(tries)}"

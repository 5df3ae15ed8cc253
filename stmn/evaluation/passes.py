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
#: on a GPU: more gains nothing. 192 chunks of 256 x 341 keep it busy
_MAX_GPU_PIXELS = 2**24
#: bytes that a GPU needs for a pixel of a pass, for each byte of its precision: about twice what a pair of ResNets of
#: 50 and 152 layers keeps at a time, because libraries take working memory too
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
    """How many chunks before and after its own a last feature map depends on.

    The filters of a stream add up, and gates connect the streams, so the longer filter counts at each place.

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
    """Split `chunks` chunks into passes of about `most`, each map depending on `margin` chunks on either side.

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

    Memory holds the inputs and inner maps of one pass. The last maps take a hundredth of that.

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
    """The largest forward pass: on a GPU as large as its free memory allows, and half of what did not fit.

    On a GPU it is a power of two, so a little more or less free memory changes no score.

    Args:
        device: Where passes run.
        progress: Where a lower limit is reported.

    Attributes:
        pixels: Of all chunks in the largest pass.
        shared: Of all chunks in the largest pass that several videos share.
    """

    def __init__(self, device: Device, progress: Progress) -> None:
        self.device, self.progress = device, progress
        self.pixels, self.shared = MAX_PASS_PIXELS, _SHARED_PASS_PIXELS
        if (free := device.free_memory()) is not None:
            most = free // (_GPU_BYTES_PER_PIXEL * device.precision.itemsize)
            self.pixels = self.shared = min(_MAX_GPU_PIXELS, 1 << max(0, most.bit_length() - 1))

    def fit(self, compute: Callable[[int], _Result], part: int, parts: int) -> _Result:
        """What `compute` returns, called with smaller and smaller limits until its passes fit.

        Args:
            compute: Takes the limit, in pixels.
            part: Pixels of the smallest part that a pass can be cut down to: a chunk, or a whole video.
            parts: How many there are in a pass of everything.

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
                # only now has the error let go of the tensors that its traceback holds
                self.pixels = max(tried // 2, part)
                how = f"passes of {self.pixels} pixels, which changes scores by rounding alone"
                self.progress.say(f"{shortage}: testing goes on in {how}")

    def _advise(self, shortage: Shortage) -> str:
        """What to try when not even the smallest pass fits."""
        tries = ["--precision bfloat16"] if self.device.precision == torch.float32 else []
        tries += ["fewer --chunks", *(["--device cpu"] if self.device.is_cuda else [])]
        return f"not even the smallest part of a video fits: try {' or '.join(tries)}"

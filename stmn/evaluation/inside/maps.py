"""Maps of the signals at a gate, for pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stmn.evaluation.inside.clips import Clip
from stmn.evaluation.inside.probes import GatedUnit, list_gated_units, watch_gates
from stmn.nets.two_stream import TwoStream
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32


@dataclass(frozen=True)
class GateMaps:
    """The first gate of a network on one chunk of a video: means over channels of absolute values, (h, w) each.

    Attributes:
        clip: the video.
        chunk: number of the chunk, from 0.
        unit: the gated unit.
        sent: features from the sending stream, f(x_m).
        receiving: features of the receiving stream, x_a.
        read: the residual branch's input.
    """

    clip: Clip
    chunk: int
    unit: GatedUnit
    sent: Tensor
    receiving: Tensor
    read: Tensor


@torch.inference_mode()
def map_first_gate(network: TwoStream, clips: Sequence[Clip], device: Device) -> list[GateMaps]:
    """Map the first gate, whose maps are the finest, on the middle chunk of each clip."""
    unit = list_gated_units(network)[0]
    found = []
    with watch_gates(network) as probes, exact_float32(), device.autocast():
        for clip in clips:
            network.feature_maps(*(device.move(x[None]) for x in clip.inputs))
            probe, chunk = probes[unit.key], len(clip.times) // 2
            sent, receiving, read = (
                x[chunk].float().abs().mean(dim=0).cpu() for x in (probe.given, probe.receiving, probe.read)
            )
            found.append(GateMaps(clip, chunk, unit, sent, receiving, read))
    return found

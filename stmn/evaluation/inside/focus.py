"""Do the gates select the target? Shares of the signals at a gate that fall on the objects of a video."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stmn.evaluation.inside.clips import Clip, in_batches, stack_inputs
from stmn.evaluation.inside.estimate import Estimate, estimate
from stmn.evaluation.inside.probes import GatedUnit, NoGate, list_gated_units, watch_gates
from stmn.nets.two_stream import TwoStream
from stmn.runtime.device import Device
from stmn.runtime.precision import exact_float32

#: the object whose pixels are compared with the target's
_OTHER = "distractor"


@dataclass(frozen=True)
class Share:
    """The share of a signal that falls on each object.

    Attributes:
        objects: name -> the object's share, 0..1.
        lead: density on the target minus density on the distractor. A density is the share of the signal over the share
            of the frame that the object covers: 1 for a uniform signal. None without a distractor.
    """

    objects: dict[str, Estimate]
    lead: Estimate | None

    @property
    def picks(self) -> bool:
        """True if the signal is significantly denser on the target than on the distractor: the interval excludes 0."""
        return self.lead is not None and self.lead.low > 0


@dataclass(frozen=True)
class UnitFocus:
    """Shares of the signals at a gated unit that fall on objects. Signals are means over channels of absolute values.

    Attributes:
        unit: the unit.
        positions: rows and columns of its maps.
        area: name of an object -> its share of the frame, which is also its share of a uniform signal.
        sent: shares of the sending stream's signal, f(x_m).
        read: shares of the residual branch's input, x_a * f(x_m) for a multiplicative gate.
        ungated: shares of that input in the pair without gates, x_a; None if the pair is unavailable.
    """

    unit: GatedUnit
    positions: tuple[int, int]
    area: dict[str, Estimate]
    sent: Share
    read: Share
    ungated: Share | None


def measure_focus(
    network: TwoStream, clips: Sequence[Clip], device: Device, start: TwoStream | None = None
) -> list[UnitFocus]:
    """Measure where the signals at each gate fall.

    Args:
        network: the tied network, in evaluation mode on the device.
        clips: videos with masks.
        device: where to compute.
        start: the same network with the weights of its streams before they were tied. Its gates are not used.
    """
    groups = [clip.group for clip in clips]
    tied = _measure_shares(network, clips, device, gated=True)
    untied = _measure_shares(start, clips, device, gated=False) if start else {}
    return [
        UnitFocus(
            unit=unit,
            positions=tied[unit.key].size,
            area=_average(tied[unit.key].area, groups),
            sent=make_share(tied[unit.key].sent, tied[unit.key].area, groups),
            read=make_share(tied[unit.key].read, tied[unit.key].area, groups),
            ungated=make_share(untied[unit.key].read, untied[unit.key].area, groups) if untied else None,
        )
        for unit in list_gated_units(network)
    ]


@dataclass
class _Shares:
    """One value per video: object -> shares."""

    size: tuple[int, int]
    area: list[dict[str, float]]
    sent: list[dict[str, float]]
    read: list[dict[str, float]]


def share_on(map_: Tensor, cover: dict[str, Tensor]) -> dict[str, float]:
    """Return object -> the share of a (T, h, w) map of magnitudes that falls on it; NaN for a map of zeros."""
    total = float(map_.sum())
    return {name: float((map_ * on).sum()) / total if total > 0 else float("nan") for name, on in cover.items()}


def make_share(values: Sequence[dict[str, float]], areas: Sequence[dict[str, float]], groups: Sequence[str]) -> Share:
    """Average the shares of one signal over videos.

    Args:
        values: for each video object -> the share of the signal that falls on it.
        areas: for each video object -> the share of the frame that it covers.
        groups: the group of each video.
    """
    if not values or not {"target", _OTHER} <= values[0].keys():
        return Share(_average(values, groups), None)
    leads = [
        value["target"] / area["target"] - value[_OTHER] / area[_OTHER]
        for value, area in zip(values, areas, strict=True)
        if area["target"] > 0 and area[_OTHER] > 0
    ]
    seen = [group for group, area in zip(groups, areas, strict=True) if area["target"] > 0 and area[_OTHER] > 0]
    return Share(_average(values, groups), estimate(leads, seen))


def _measure_shares(network: TwoStream, clips: Sequence[Clip], device: Device, gated: bool) -> dict[str, _Shares]:
    """Return gate -> its shares, with the network's own gates or with none."""
    found: dict[str, _Shares] = {}
    with torch.inference_mode(), watch_gates(network, None if gated else lambda channels: NoGate()) as probes:
        for batch in in_batches(clips):
            with exact_float32(), device.autocast():
                network.feature_maps(*map(device.move, stack_inputs(batch)))
            for key, probe in probes.items():
                sent, read = (x.float().abs().mean(dim=1).cpu().unflatten(0, (len(batch), -1))
                              for x in (probe.given, probe.read))  # fmt: skip
                height, width = sent.shape[-2:]
                shares = found.setdefault(key, _Shares((height, width), [], [], []))
                for clip, one_sent, one_read in zip(batch, sent, read, strict=True):
                    cover = clip.cover((height, width))
                    shares.area.append({name: float(on.mean()) for name, on in cover.items()})
                    shares.sent.append(share_on(one_sent, cover))
                    shares.read.append(share_on(one_read, cover))
    return found


def _average(values: Sequence[dict[str, float]], groups: Sequence[str]) -> dict[str, Estimate]:
    """Return object -> the mean of its value over videos."""
    return {name: estimate([value[name] for value in values], groups) for name in (values[0] if values else ())}

"""A complete look inside a tied network: focus, gradients and temporal filters."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from stmn.evaluation.inside.clips import Clip
from stmn.evaluation.inside.estimate import Estimate
from stmn.evaluation.inside.filters import FilterChange, describe_filters
from stmn.evaluation.inside.focus import Share, UnitFocus, measure_focus
from stmn.evaluation.inside.gradients import Gradients, measure_gradients
from stmn.evaluation.inside.maps import GateMaps, map_first_gate
from stmn.nets.two_stream import TwoStream
from stmn.runtime.device import Device

#: videos whose gates are mapped
_SHOWN = 3


@dataclass(frozen=True)
class Inside:
    """The findings about a network.

    Attributes:
        fusion: the gate function that it was trained with.
        clips: the videos that were read.
        focus: where the signals at its gates fall; empty if the data set doesn't say where the objects are.
        gradients: the gradients with its own gate function, then with others.
        began: the same for the network before its streams were trained together; empty if that is unavailable.
        filters: its temporal filters.
        maps: maps of its first gate, on a few of the videos.
    """

    fusion: str
    clips: list[Clip]
    focus: list[UnitFocus]
    gradients: list[Gradients]
    began: list[Gradients]
    filters: list[FilterChange]
    maps: list[GateMaps]

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON: an estimate is an object of mean, low and high (its 95 % interval)."""
        return {
            "fusion": self.fusion,
            "videos": [clip.id for clip in self.clips],
            "chunks": [len(clip.times) for clip in self.clips],
            "focus": [_plain(unit) for unit in self.focus],
            "gradients": [_plain(item) for item in self.gradients],
            "gradients_before_training": [_plain(item) for item in self.began],
            "filters": [asdict(item) for item in self.filters],
        }


def look_inside(network: TwoStream, clips: Sequence[Clip], device: Device, start: TwoStream | None = None) -> Inside:
    """Look inside a network.

    Args:
        network: the tied network; it is moved to the device and set to evaluation mode.
        clips: videos of its data set, at least one.
        device: where to compute.
        start: the same network with the weights of its streams before they were trained together.
    """
    for each in (network, start):
        if each:
            device.place(each).eval()
    known = bool(clips) and all("target" in clip.masks for clip in clips)
    return Inside(
        fusion=network.gate.fusion,
        clips=list(clips),
        focus=measure_focus(network, clips, device, start) if known else [],
        gradients=measure_gradients(network, clips, device),
        began=measure_gradients(start, clips, device) if start else [],
        filters=describe_filters(network),
        maps=map_first_gate(network, clips[:_SHOWN], device),
    )


def _plain(value: Any) -> Any:
    """Convert dataclasses to dictionaries, at all levels."""
    if isinstance(value, Estimate):
        return value.as_json()
    if isinstance(value, Share):
        return {"objects": _plain(value.objects), "lead": _plain(value.lead), "picks": value.picks}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if is_dataclass(value):
        return {name: _plain(item) for name, item in vars(value).items()}
    return value

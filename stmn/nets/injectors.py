"""Injectors: where temporal filters enter a stream (section 3.3, Figure 4, Table 1).

An injector is called with a backbone, a filter length and an init, and puts `TemporalFilter`s at its units. The second
unit of a part is the one that is gated too.
"""

from stmn.errors import UsageError
from stmn.nets.backbones import Backbone
from stmn.nets.temporal import TemporalFilter, TemporalInit
from stmn.nets.units import Unit


def no_filters(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Leave the stream as it is."""


def last_unit(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """One filter, in the residual branch of the last part's second unit (the paper's section mark)."""
    unit = second(backbone.parts["conv5"])
    unit.temporal = TemporalFilter(unit.middle, length, init)


def residual(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """A filter in the residual branch of every part's second unit (Figure 4(b))."""
    for unit in map(second, backbone.parts.values()):
        unit.temporal = TemporalFilter(unit.middle, length, init)


def residual_conv2_conv5(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """As `residual`, in conv2_x and conv5_x alone: what the authors' code makes of a ResNet-152.

    It looks for layers by their names, and the names of a ResNet-152's second units in conv3_x and conv4_x are others.
    """
    for part in ("conv2", "conv5"):
        unit = second(backbone.parts[part])
        unit.temporal = TemporalFilter(unit.middle, length, init)


def residual_and_skip(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """As `residual`, and one in the skip path after every part's last ReLU (Figure 4(a) and (b))."""
    residual(backbone, length, init)
    for part, channels in backbone.channels.items():
        backbone.skip_temporal[part] = TemporalFilter(channels, length, init)


def second(units: list[Unit]) -> Unit:
    """The second unit of a part. Raises `UsageError` when there is one alone."""
    if len(units) < 2:
        raise UsageError("a part of one unit has no second, where temporal filters enter: take injector none")
    return units[1]

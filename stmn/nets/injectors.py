"""Injectors: where temporal filters enter a stream (section 3.3, Figure 4, Table 1).

An injector is a function of a backbone, the length of the filters in chunks, and their initial taps. It sets
`Unit.temporal` of some units and may fill `Backbone.skip_temporal`. Those that fill second units raise `UsageError` if
a part of the backbone has none.
"""

from stmn.errors import UsageError
from stmn.nets.backbones import Backbone
from stmn.nets.config import TemporalInit
from stmn.nets.temporal import TemporalFilter
from stmn.nets.units import Unit


def no_filters(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Leave the stream as it is."""


def last_unit(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject one filter, into the residual branch of conv5's second unit (the section mark in Table 1)."""
    unit = _second_unit(backbone.parts["conv5"])
    unit.temporal = TemporalFilter(unit.middle, length, init)


def residual(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject a filter into the residual branch of each part's second unit (Figure 4(b))."""
    for units in backbone.parts.values():
        unit = _second_unit(units)
        unit.temporal = TemporalFilter(unit.middle, length, init)


def residual_every_unit(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject a filter into the residual branch of every unit; in Table 1 only second units have one."""
    for units in backbone.parts.values():
        for unit in units:
            unit.temporal = TemporalFilter(unit.middle, length, init)


def residual_conv2_conv5(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject as `residual` does, but into conv2 and conv5 only, as the authors' code does in a ResNet-152.

    Their code finds layers by name, and the second units of conv3 and conv4 have other names in a ResNet-152.
    """
    for part in ("conv2", "conv5"):
        unit = _second_unit(backbone.parts[part])
        unit.temporal = TemporalFilter(unit.middle, length, init)


def skip(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject a filter into the skip path only, after each part's last ReLU (Figure 4(a)).

    This is literally section 4's "into the skip path of every conv block", and modes 4 and 5 of the authors' code.
    Everything after a part, shortcuts and branches alike, reads the filtered signal.
    """
    for part, channels in backbone.channels.items():
        backbone.skip_temporal[part] = TemporalFilter(channels, length, init)


def residual_and_skip(backbone: Backbone, length: int, init: TemporalInit) -> None:
    """Inject as `residual` and `skip` together do: the variant of Table 1 with filters "also" in the shortcut path."""
    residual(backbone, length, init)
    skip(backbone, length, init)


def _second_unit(units: list[Unit]) -> Unit:
    """Return the second unit of a part, which is also the gated one."""
    if len(units) < 2:
        raise UsageError("a part of one unit has no second unit for a temporal filter; use injector = none")
    return units[1]

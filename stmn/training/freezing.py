"""Parts of a two-stream network that training leaves as they are."""

from collections.abc import Collection
from typing import Literal

from torch import nn

from stmn.errors import UsageError
from stmn.nets.network import Network

#: a whole stream, the gates, or the temporal filters of both streams
FrozenPart = Literal["appearance", "motion", "gates", "temporal"]


def find_frozen(network: nn.Module, parts: Collection[FrozenPart]) -> list[nn.Module]:
    """Return the modules of a network that belong to the given parts."""
    if not parts:
        return []
    assert isinstance(network, Network)
    found: list[nn.Module] = [network.stream(name) for name in network.names if name in parts]
    if "gates" in parts:
        found += list(getattr(network, "gates", {}).values())
    if "temporal" in parts:
        for name in network.names:
            backbone = network.stream(name).backbone
            units = [unit for units in backbone.parts.values() for unit in units]
            found += [*backbone.skip_temporal.values(), *(unit.temporal for unit in units if unit.temporal is not None)]
    return found


def check_frozen(network: Network, parts: Collection[FrozenPart]) -> None:
    """Refuse to freeze gates without weights, or the whole network.

    Raises:
        UsageError: the message says what to do instead.
    """
    if "gates" in parts and not any(True for gate in find_frozen(network, ["gates"]) for _ in gate.parameters()):
        fusion = network.config.gate.fusion if network.config.gate else "none"
        raise UsageError(
            f"freeze = gates: the gates of fusion = {fusion} have no weights, so there is nothing to freeze; fusion = "
            f"none trains without gates"
        )
    frozen = {id(parameter) for module in find_frozen(network, parts) for parameter in module.parameters()}
    if all(id(parameter) in frozen for parameter in network.parameters()):
        raise UsageError(f"freeze = {', '.join(parts)}: leaves nothing to train; freeze less")

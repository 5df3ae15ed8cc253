"""Check networks without training: read that of a model file, and test whether a network can be built."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stmn.nets.config import NetworkConfig as NetworkConfig
    from stmn.nets.config import StreamConfig as StreamConfig


def is_model(path: Path) -> bool:
    """True for a model file of this project."""
    from stmn.nets.weights.transfer import is_model_file

    return is_model_file(path)


def read_network(path: Path) -> "NetworkConfig":
    """The network of a model file. Raises `CheckpointError`."""
    from stmn.nets.checkpoint import read_description

    return read_description(path).network


def check_network(config: "NetworkConfig") -> None:
    """Build a network without memory for its weights. Raises `UsageError` if its parts don't fit."""
    from stmn.nets.build import sketch_network

    sketch_network(config)

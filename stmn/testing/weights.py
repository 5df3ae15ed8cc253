"""The check of starting weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stmn.testing.checklist import Checklist

_MODALITIES: tuple[Literal["rgb", "flow"], ...] = ("rgb", "flow")


def check_weights(weights: Callable[..., Any]) -> None:
    """Check that starting weights keep their contract, and print what passed.

    There must be a file for at least one modality. If a file is an stmn model, a stream is started from it; any other
    file must be readable.

    Args:
        weights: the plugin, a function.

    Raises:
        PluginError: the contract is broken; the message says what its author must change.
    """
    checks = Checklist("weights", weights)
    found = {}
    for modality in _MODALITIES:
        with checks.part(modality, 'it must take "rgb" and "flow", and return a Path or None'):
            path = weights(modality)
            checks.require(path is None or isinstance(path, Path), f"returns a {type(path).__name__}", "return a Path")
        if path is not None:
            checks.require(path.is_file(), f"{modality}: no such file: {path}", "put the file into the package")
            found[modality] = path
    checks.require(bool(found), "has weights for no modality", "return the path of a file for one of them")
    for modality, path in found.items():
        with checks.part(path.name, "put a file there that train-stream --weights can start from"):
            _try_out(path, modality)
    checks.finish()


def _try_out(path: Path, modality: Literal["rgb", "flow"]) -> None:
    """Start a stream from an stmn model, or read another file. Raises `StmnError` if that fails."""
    from stmn.nets.build import build_network
    from stmn.nets.config import NetworkConfig
    from stmn.nets.weights.pretrained import read_state
    from stmn.nets.weights.transfer import is_model_file, read_trained_stream

    if not is_model_file(path):
        read_state(path)
        return
    start = read_trained_stream(path, path.name, modality)
    stream = start.stream.model_copy(update={"modality": modality})
    config = NetworkConfig(classes=["a", "b"], size=64, stack_length=10, streams=[stream])
    network = build_network(config, 0)
    start.fill(network.stream(network.names[0]), config)

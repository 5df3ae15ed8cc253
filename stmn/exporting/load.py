"""A file that an exporter wrote, as a network."""

from pathlib import Path
from typing import Any

from stmn import registry
from stmn.errors import CheckpointError, PluginError
from stmn.nets.checkpoint import Description
from stmn.nets.outside import OutsideNetwork

#: the ending of files that this package's own code runs
OWN_SUFFIX = ".safetensors"


def is_exported(path: Path) -> bool:
    """True for a file whose ending is that of an exporter's files."""
    return path.suffix != OWN_SUFFIX and _find_exporter(path) is not None


def load_exported(path: Path) -> tuple[OutsideNetwork, Description]:
    """Load a file that an exporter wrote.

    Raises:
        CheckpointError: It is missing or damaged, or says nothing of how its input is made.
        MissingExtra: A package that runs it is not installed.
    """
    exporter = _find_exporter(path)
    if exporter is None:
        raise CheckpointError(f"{path}: no exporter here writes files that end in '{path.suffix}'")
    description: Description = exporter.read(path)
    return OutsideNetwork(description.network, exporter.runner(path)), description


def _find_exporter(path: Path) -> Any:
    """The exporter that reads files with the ending of a path; None if there is none."""
    for name in registry.names("exporter"):
        try:
            exporter = registry.load("exporter", name)
        except PluginError:  # of a broken plugin, which is named where it is asked for
            continue
        if exporter.suffix == path.suffix.lower() and hasattr(exporter, "read"):
            return exporter()
    return None

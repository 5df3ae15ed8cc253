"""Load an exported file as a network."""

from pathlib import Path

from stmn import registry
from stmn.errors import CheckpointError, PluginError
from stmn.nets.checkpoint import Description
from stmn.nets.outside import OutsideNetwork
from stmn.registry.options import plugin_errors

#: the suffix of files that this package's own code runs
OWN_SUFFIX = ".safetensors"


def is_exported(path: Path) -> bool:
    """True if a file has the suffix of an exporter, other than this package's own."""
    return path.suffix != OWN_SUFFIX and _find_exporter(path) is not None


def load_exported(path: Path) -> tuple[OutsideNetwork, Description]:
    """Load a file that an exporter wrote.

    Raises:
        CheckpointError: It is missing or damaged, or lacks the description of its input.
        MissingExtra: A package that is needed to run it is not installed.
        PluginError: The exporter is broken.
    """
    plugin = _find_exporter(path)
    if plugin is None:
        raise CheckpointError(f"{path}: no exporter here writes files that end in '{path.suffix}'")
    make = plugin.load()
    with plugin_errors(plugin):
        exporter = make()
        description: Description = exporter.read(path)
        return OutsideNetwork(description.network, exporter.runner(path)), description


def _find_exporter(path: Path) -> registry.Plugin | None:
    """The exporter that reads files with a path's suffix, built-in ones first; None if there is none."""
    for plugin in sorted(registry.plugins("exporter"), key=lambda plugin: plugin.package != registry.BUILT_IN):
        try:
            exporter = plugin.load()
        except PluginError:  # a broken plugin is reported where it is named
            continue
        if getattr(exporter, "suffix", None) == path.suffix.lower() and hasattr(exporter, "read"):
            return plugin
    return None

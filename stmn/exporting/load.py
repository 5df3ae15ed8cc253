"""A file that an exporter wrote, as a network."""

from pathlib import Path

from stmn import registry
from stmn.errors import CheckpointError, PluginError
from stmn.nets.checkpoint import Description
from stmn.nets.outside import OutsideNetwork
from stmn.registry.options import plugin_errors

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
    """The exporter that reads files with the ending of a path, built-in ones first; None if there is none."""
    for plugin in sorted(registry.plugins("exporter"), key=lambda plugin: plugin.package != registry.BUILT_IN):
        try:
            exporter = plugin.load()
        except PluginError:  # of a broken plugin, which is named where it is asked for
            continue
        if getattr(exporter, "suffix", None) == path.suffix.lower() and hasattr(exporter, "read"):
            return plugin
    return None

"""Starting weights from installed packages: plugins of the kind `weights`."""

from pathlib import Path

from stmn import registry
from stmn.errors import PluginError, UsageError
from stmn.nets.config import Modality
from stmn.registry.options import build


def find_installed(name: str, modality: Modality) -> tuple[Path, str]:
    """Find a package's starting weights for a stream.

    Args:
        name: name of a plugin of the kind `weights`.
        modality: modality of the stream.

    Returns:
        The file, and its name in messages.

    Raises:
        UsageError: the plugin has no weights for this modality.
        PluginError: there is no such plugin, it is broken, or its file is missing.
    """
    plugin = registry.find("weights", name)
    path = build("weights", name, {}, modality)
    if path is None:
        raise UsageError(f"weights = {name}: {plugin.package} has none for modality {modality}; use other weights")
    if not isinstance(path, str | Path) or not Path(path).is_file():
        raise PluginError(f"{plugin.title} names no file for {modality}, but {path}: install the package again")
    return Path(path), f"{name} of {plugin.package} {plugin.version}"

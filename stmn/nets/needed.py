"""The plugins that a network needs: their identities in model files, and whether they are installed."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stmn import registry
from stmn.errors import CheckpointError, PluginError
from stmn.nets.config import NetworkConfig
from stmn.runtime.notices import notice

_PLUGINS = TypeAdapter(list[dict[str, str]])


def list_plugins(config: NetworkConfig) -> list[dict[str, str]]:
    """Return the identity of each plugin that a network needs."""
    needed = [backbone_identity(stream.arch) for stream in config.streams]
    injectors = dict.fromkeys(config.temporal.injector_of(stream.modality) for stream in config.streams)
    needed.extend(registry.find("injector", name).identity for name in injectors)
    if config.gate:
        needed.append(registry.find("fusion", config.gate.fusion).identity)
    return needed


def backbone_identity(name: str) -> dict[str, str]:
    """Return the identity of a backbone; if it is not a plugin, its package is timm."""
    try:
        return registry.find("backbone", name).identity
    except PluginError:
        return {"kind": "backbone", "name": name, "package": "timm", "version": version("timm")}


def read_needed(path: Path, description: dict[str, Any]) -> list[dict[str, str]]:
    """Return the identities of the other packages' plugins that a model file was made with.

    Args:
        path: the file, for messages.
        description: the description in the file.

    Raises:
        CheckpointError: the description is damaged.
    """
    try:
        known = _PLUGINS.validate_python(description.get("plugins", []))
    except ValidationError as error:
        raise CheckpointError(f"{path}: its description is damaged: plugins; make it again") from error
    return [plugin for plugin in known if plugin.get("package") not in (registry.BUILT_IN, "timm") and "kind" in plugin]


def check_needed(path: Path, needed: list[dict[str, str]]) -> None:
    """Make sure that the plugins of a model file are installed; print a notice for another version or changed code.

    Raises:
        PluginError: one is not installed, or written for another API; the message names its package and version.
    """
    for known in needed:
        try:
            lines = registry.find_change(known)
        except PluginError as error:
            raise PluginError(f"{path}: {error}") from error
        for line in lines:
            notice(f"{path}: {line}")


def name_packages(config: NetworkConfig, needed: list[dict[str, str]]) -> NetworkConfig:
    """Return the configuration with full names, `package:name`, where a plain name means another plugin here."""
    full = {}
    for known in needed:
        kind, name, package = (known.get(key, "") for key in ("kind", "name", "package"))
        try:
            meant = kind in registry.KINDS and registry.find(kind, name).package
        except PluginError:
            meant = ""
        if meant != package:
            full[kind, name] = f"{package}:{name}"
    if not full:
        return config
    gate, temporal = config.gate, config.temporal
    streams = [
        s.model_copy(update={"arch": full.get(("backbone", s.arch), s.arch)}) for s in config.streams
    ]  # fmt: skip
    temporal = temporal.model_copy(
        update={
            key: full.get(("injector", value), value)
            for key in ("injector", "motion_injector")
            if (value := getattr(temporal, key))
        }
    )
    if gate is not None:
        gate = gate.model_copy(update={"fusion": full.get(("fusion", gate.fusion), gate.fusion)})
    return config.model_copy(update={"streams": streams, "temporal": temporal, "gate": gate})

"""The plugin registry: plugins are found by entry points and imported when their name is used.

Looking for plugins reads the metadata of installed packages only, so a broken plugin breaks neither `stmn --help` nor
a recipe that doesn't name it. The built-in plugins are entry points of the `stmn` package itself, and no other package
can shadow them. If two packages offer the same name, the plain name is an error and `package:name` picks one.

`stmn.plugins` has the contract of each kind.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from typing import Any

from stmn.errors import PluginError, near_match

#: the package of the built-in plugins
BUILT_IN = "stmn"

#: endings of files that are code
_CODE = (".py", ".c", ".cc", ".cpp", ".cu", ".h", ".pyx", ".so")

#: kind -> entry-point group
KINDS: dict[str, str] = {
    "backbone": "stmn.backbones",
    "fusion": "stmn.fusions",
    "injector": "stmn.injectors",
    "flow": "stmn.flows",
    "dataset": "stmn.datasets",
    "exporter": "stmn.exporters",
}


@dataclass(frozen=True)
class Plugin:
    """A registered plugin, not yet imported.

    Attributes:
        kind: one of `KINDS`.
        name: what options and recipes call it.
        package: the package that offers it.
        version: the package's version.
        entry: its entry point.
    """

    kind: str
    name: str
    package: str
    version: str
    entry: EntryPoint

    @property
    def identity(self) -> dict[str, str]:
        """What checkpoints and run records say about it: kind, name, package, version.

        For a plugin of another package also `source`, a hash of its code: code under development changes, its version
        does not.
        """
        known = {"kind": self.kind, "name": self.name, "package": self.package, "version": self.version}
        return known if self.package == BUILT_IN else known | {"source": _hash_source(self.entry)}

    def load(self) -> Any:
        """Import it.

        Raises:
            PluginError: its code is broken; the message has the cause.
        """
        try:
            return self.entry.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # it may call `sys.exit`
            raise PluginError(
                f"{self.kind} '{self.name}' of package {self.package} {self.version} can't be imported: "
                f"{type(error).__name__}: {error}"
            ) from error


@cache
def plugins(kind: str) -> tuple[Plugin, ...]:
    """All plugins of a kind, sorted by name and package."""
    found = []
    for entry in entry_points(group=KINDS[kind]):
        package, version = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "0")
        found.append(Plugin(kind, entry.name, package, version, entry))
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.package)))


def describe_unexpected(error: BaseException) -> str:
    """A line about an error that nobody expected: what it is, and whose code it came from."""
    modules = {
        p.entry.module.split(".")[0]: p.package for kind in KINDS for p in plugins(kind) if p.package != BUILT_IN
    }
    frames = [str(frame.f_globals.get("__name__", "")).split(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    guilty = next((modules[name] for name in reversed(frames) if name in modules), None)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SystemExit):
        what = f"sys.exit({error.code!r}) was called"
    whose = f"a bug of the plugins of {guilty}" if guilty else "a bug of stmn"
    return f"{what}: {whose}; --debug shows where"


def without_own_version(identity: dict[str, str]) -> dict[str, str]:
    """An identity for fingerprints: built-in plugins have no version there, since the stage has a format."""
    if identity.get("package") != BUILT_IN:
        return identity
    return {key: value for key, value in identity.items() if key != "version"}


def _hash_source(entry: EntryPoint) -> str:
    """A hash of the code of the package that has an entry point: all that was installed with it, helpers too.

    Nothing of it is imported, except the parents of a package within a namespace.
    """
    found = hashlib.sha256()
    for name, path in sorted(dict(_list_sources(entry)).items()):
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
        with suppress(OSError):
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def _list_sources(entry: EntryPoint) -> Iterator[tuple[str, Path]]:
    """The files of its code: the name below where it is installed, and the path."""
    for file in (entry.dist.files if entry.dist else None) or ():
        if file.suffix in _CODE and not file.name.startswith("__editable__"):
            yield file.as_posix(), Path(str(file.locate()))
    parts = entry.module.split(".")
    for depth in range(1, len(parts) + 1):  # past namespaces, to the first package or module that has code
        try:
            spec = find_spec(".".join(parts[:depth]))
        except Exception:  # broken code of its parents: importing it will say so
            return
        if spec is not None and spec.origin is not None:
            for folder in map(Path, spec.submodule_search_locations or ()):
                for path in folder.rglob("*"):
                    if path.suffix in _CODE:
                        yield path.relative_to(folder.parent).as_posix(), path
            if not spec.submodule_search_locations:
                yield Path(spec.origin).name, Path(spec.origin)
            return


def names(kind: str) -> list[str]:
    """The names of a kind's plugins, sorted, each once."""
    return sorted({plugin.name for plugin in plugins(kind)})


def find(kind: str, name: str) -> Plugin:
    """The plugin that `name` or `package:name` refers to.

    Raises:
        PluginError: there is none, or there are several.
    """
    package, _, plain = name.rpartition(":")
    candidates = [p for p in plugins(kind) if p.name == plain and package in ("", p.package)]
    if not candidates:
        raise PluginError(f"unknown {kind} '{name}'{near_match(name, names(kind))}; known: {', '.join(names(kind))}")
    own = [p for p in candidates if p.package == BUILT_IN]
    if own and not package:
        return own[0]
    if len(candidates) > 1:
        choices = " or ".join(f"'{p.package}:{p.name}'" for p in candidates)
        raise PluginError(f"{kind} '{name}' is offered by several packages: write {choices}")
    return candidates[0]


def load(kind: str, name: str) -> Any:
    """Find and import a plugin: `load("fusion", "multiply")` is the class.

    Raises:
        PluginError: there is none, there are several, or its code is broken.
    """
    return find(kind, name).load()

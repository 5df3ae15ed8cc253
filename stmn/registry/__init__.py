"""The plugin registry: plugins are found by entry points and imported when their name is used.

Looking for plugins reads the metadata of installed packages only, so a broken plugin breaks neither `stmn --help` nor
a recipe that doesn't name it. The built-in plugins are entry points of the `stmn` package itself, and no other package
can shadow them. If two packages offer the same name, the plain name is an error and `package:name` picks one.

A package says for which version of the contracts it was written by an entry point of the group `stmn.api`, whose name
is the number. The environment variable STMN_PLUGINS limits whose plugins there are: `off`, or names of packages.

`stmn.plugins` has the contract of each kind.
"""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from traceback import walk_tb
from typing import Any

from stmn.errors import PluginError, UsageError, near_match
from stmn.registry.code import hash_source, module_of
from stmn.registry.importing import import_entry

#: the version of the contracts in `stmn.plugins`; it is raised when a plugin that kept them has to be changed
API_VERSION = 1

#: the package of the built-in plugins
BUILT_IN = "stmn"

#: kind -> entry-point group
KINDS: dict[str, str] = {
    "backbone": "stmn.backbones",
    "fusion": "stmn.fusions",
    "injector": "stmn.injectors",
    "flow": "stmn.flows",
    "dataset": "stmn.datasets",
    "exporter": "stmn.exporters",
    "logger": "stmn.loggers",
    "weights": "stmn.weights",
}

_API_GROUP, _VARIABLE = "stmn.api", "STMN_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """A registered plugin, not yet imported.

    Attributes:
        kind: one of `KINDS`.
        name: what options and recipes call it.
        package: the package that offers it.
        version: the package's version.
        entry: its entry point.
        api: the version of the contracts that the package was written for; 1 if it says nothing.
    """

    kind: str
    name: str
    package: str
    version: str
    entry: EntryPoint
    api: str

    @property
    def title(self) -> str:
        """What messages call it: `fusion 'blend' of package blends 1.0`."""
        return f"{self.kind} '{self.name}' of package {self.package} {self.version}"

    @property
    def identity(self) -> dict[str, str]:
        """What checkpoints and run records say about it: kind, name, package, version.

        For a plugin of another package also `api`, and `source`, a hash of its code: code under development changes,
        its version does not.
        """
        known = {"kind": self.kind, "name": self.name, "package": self.package, "version": self.version}
        return known if self.package == BUILT_IN else known | {"api": self.api, "source": hash_source(self.entry)}

    def check_api(self) -> None:
        """Raise `PluginError` if it was written for other contracts than those of this version of stmn."""
        if self.api != str(API_VERSION):
            raise PluginError(
                f"{self.title} is written for API {self.api} of stmn.plugins, and this stmn has API {API_VERSION}: "
                f"install a version of {self.package} for API {API_VERSION}, or a version of stmn that has {self.api}"
            )

    def load(self) -> Any:
        """Import it.

        Raises:
            PluginError: its code is broken, does not end, or is written for another API; the message has the cause.
        """
        self.check_api()
        found, problem = import_entry(self.entry, self.package)
        if problem:
            raise PluginError(f"{self.title} can't be imported: {problem}")
        return found


@cache
def _scan() -> dict[str, tuple[Plugin, ...]]:
    """All plugins by kind, in the order of their names and packages."""
    apis = {_package_of(entry)[0]: entry.name for entry in entry_points(group=_API_GROUP)}
    found = {}
    for kind, group in KINDS.items():
        entries = [(entry, *_package_of(entry)) for entry in entry_points(group=group)]
        listed = [Plugin(kind, e.name, package, version, e, apis.get(package, "1")) for e, package, version in entries]
        found[kind] = tuple(sorted(listed, key=lambda plugin: (plugin.name, plugin.package)))
    return found


def rescan() -> None:
    """Look for plugins again when they are asked for: a package was installed or removed in this process's time."""
    _scan.cache_clear()


def _package_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the package that has an entry point, as far as its metadata say."""
    return (entry.dist.name or "unknown", entry.dist.version or "0") if entry.dist else ("unknown", "0")


def installed(kind: str) -> tuple[Plugin, ...]:
    """All plugins of a kind, those that STMN_PLUGINS leaves out as well, sorted by name and package."""
    return _scan()[kind]


def plugins(kind: str) -> tuple[Plugin, ...]:
    """The plugins of a kind that may be used, sorted by name and package.

    Raises:
        UsageError: STMN_PLUGINS names a package that has none.
    """
    return tuple(plugin for plugin in installed(kind) if is_on(plugin))


def is_on(plugin: Plugin) -> bool:
    """False for a plugin that STMN_PLUGINS leaves out. Raises as `plugins` does."""
    text = os.environ.get(_VARIABLE, "").strip()
    if not text or plugin.package == BUILT_IN:
        return True
    if text.lower() == "off":
        return False
    packages = {_normalise(found.package): found.package for kind in KINDS for found in installed(kind)}
    wanted = [_normalise(name) for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in packages:
            known = [package for package in packages.values() if package != BUILT_IN]
            raise UsageError(
                f"{_VARIABLE}: no package '{name}' offers plugins{near_match(name, known)}; write off, or some of: "
                f"{', '.join(known)}"
            )
    return _normalise(plugin.package) in wanted


def _normalise(package: str) -> str:
    """A package's name as the index of packages compares it."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def _is_same(package: str, other: str) -> bool:
    """True for two spellings of one package's name."""
    return _normalise(package) == _normalise(other)


def describe_unexpected(error: BaseException) -> str:
    """A line about an error that nobody expected: what it is, and whose code it came from."""
    modules = {
        module_of(p.entry).split(".")[0]: p.package for kind in KINDS for p in installed(kind) if p.package != BUILT_IN
    }
    frames = [str(frame.f_globals.get("__name__", "")).split(".")[0] for frame, _ in walk_tb(error.__traceback__)]
    guilty = next((modules[name] for name in reversed(frames) if name and name in modules), None)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SystemExit):
        what = f"sys.exit({error.code!r}) was called"
    whose = f"a bug of the plugins of {guilty}" if guilty else "a bug of stmn"
    return f"{what}: {whose}; --debug shows where"


def for_fingerprint(identity: dict[str, str]) -> dict[str, str]:
    """What of an identity decides a result: not the API, and of a built-in plugin not the version.

    The stage has a format, which stands for the version.
    """
    without = {"api", "version"} if identity.get("package") == BUILT_IN else {"api"}
    return {key: value for key, value in identity.items() if key not in without}


def name_of(plugin: Plugin) -> str:
    """What options call a plugin: its name, or `package:name` if another package has that name too."""
    same = [other for other in plugins(plugin.kind) if other.name == plugin.name and other != plugin]
    return f"{plugin.package}:{plugin.name}" if same and plugin.package != BUILT_IN else plugin.name


def names(kind: str) -> list[str]:
    """The names of a kind's plugins, sorted, each once."""
    return sorted({plugin.name for plugin in plugins(kind)})


def offers(kind: str, name: str) -> bool:
    """True if `name`, plain or `PACKAGE:NAME`, is that of a plugin of a kind that may be used."""
    return any(plugin.name == name.rpartition(":")[2] for plugin in plugins(kind))


def find(kind: str, name: str) -> Plugin:
    """The plugin that `name` or `package:name` refers to.

    Raises:
        PluginError: there is none, or there are several.
    """
    package, _, plain = name.rpartition(":")
    candidates = [p for p in installed(kind) if p.name == plain and _is_same(package or p.package, p.package)]
    own = [p for p in candidates if p.package == BUILT_IN]
    if own and not package:
        return own[0]
    usable = [p for p in candidates if is_on(p)]
    if candidates and not usable:
        raise PluginError(f"{candidates[0].title} is left out by {_VARIABLE}={os.environ.get(_VARIABLE)}")
    if not usable:
        raise PluginError(f"unknown {kind} '{name}'{near_match(name, names(kind))}; known: {', '.join(names(kind))}")
    if len(usable) > 1:
        choices = " or ".join(f"'{p.package}:{p.name}'" for p in usable)
        raise PluginError(f"{kind} '{name}' is offered by several packages: write {choices}")
    return usable[0]


def find_recorded(known: Mapping[str, str]) -> Plugin:
    """The plugin of an identity that a model file or a run holds: of the same package, whatever its version.

    Raises:
        PluginError: it is not installed, or it was or is written for another API.
    """
    kind, name, package = known.get("kind", ""), known.get("name", ""), known.get("package", "")
    version, api = known.get("version", ""), known.get("api", "1")
    if kind not in KINDS:
        raise PluginError(f"unknown kind of plugin {kind[:100]!r}; known: {', '.join(KINDS)}")
    if package != BUILT_IN and api != str(API_VERSION):
        raise PluginError(
            f"{kind} {name[:100]!r} of package {package[:100]} {version[:100]} is written for API {api[:100]} of "
            f"stmn.plugins, and this stmn has API {API_VERSION}: use a version of stmn that has it"
        )
    if not any(plugin.name == name and _is_same(plugin.package, package) for plugin in installed(kind)):
        wanted = shlex.quote(f"{package[:100]}=={version[:100]}")
        raise PluginError(
            f"{kind} {name[:100]!r} of package {package[:100]} {version[:100]} is not installed: pip install {wanted}"
        )
    found = find(kind, f"{package}:{name}")
    found.check_api()
    return found


def find_change(known: Mapping[str, str]) -> list[str]:
    """A line if the plugin of an identity is of another version now, or has other code. Raises as `find_recorded`."""
    now = find_recorded(known).identity
    what = f"{known['kind']} {known['name']} of {known['package']}"
    if now["version"] != known.get("version"):
        return [f"was made with version {known.get('version')} of {what}, and {now['version']} is installed"]
    if "source" in known and now.get("source") != known["source"]:
        return [f"the code of {what} has changed since the model was made"]
    return []


def load(kind: str, name: str) -> Any:
    """Find and import a plugin: `load("fusion", "multiply")` is the class.

    Raises:
        PluginError: there is none, there are several, or its code is broken.
    """
    return find(kind, name).load()

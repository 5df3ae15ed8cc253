"""The plugin registry: plugins are found by entry points, and imported when their name is used.

Looking for plugins reads only the metadata of installed packages, so a broken plugin breaks neither `stmn --help` nor
a recipe that doesn't name it. The built-in plugins are entry points of the `stmn` package itself, and no other package
can shadow them. If two packages offer the same name, the plain name is an error, and `package:name` selects one.

A package declares the version of the contracts that it was written for by an entry point in the group `stmn.api`, whose
name is the number. The environment variable STMN_PLUGINS limits the packages whose plugins are used: `off`, or names.

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

#: the version of the contracts in `stmn.plugins`; it is raised when plugins that kept them have to change
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
        name: its name in options and recipes.
        package: the package that offers it.
        version: the package's version.
        entry: its entry point.
        api: the version of the contracts that the package was written for; 1 if it declares none.
    """

    kind: str
    name: str
    package: str
    version: str
    entry: EntryPoint
    api: str

    @property
    def title(self) -> str:
        """Its name in messages: `fusion 'blend' of package blends 1.0`."""
        return f"{self.kind} '{self.name}' of package {self.package} {self.version}"

    @property
    def identity(self) -> dict[str, str]:
        """Its identity in checkpoints and run records: kind, name, package, version.

        A plugin of another package also has `api`, and `source`, a hash of its code, because code under development
        changes while its version doesn't.
        """
        known = {"kind": self.kind, "name": self.name, "package": self.package, "version": self.version}
        return known if self.package == BUILT_IN else known | {"api": self.api, "source": hash_source(self.entry)}

    def check_api(self) -> None:
        """Raise `PluginError` if it was written for another version of the contracts than this stmn has."""
        if self.api != str(API_VERSION):
            raise PluginError(
                f"{self.title} is written for API {self.api} of stmn.plugins, and this stmn has API {API_VERSION}: "
                f"install a version of {self.package} for API {API_VERSION}, or a version of stmn that has {self.api}"
            )

    def load(self) -> Any:
        """Import it.

        Raises:
            PluginError: its code is broken, doesn't end, or is written for another API; the message has the cause.
        """
        self.check_api()
        found, problem = import_entry(self.entry, self.package)
        if problem:
            raise PluginError(f"{self.title} can't be imported: {problem}")
        return found


@cache
def _scan() -> dict[str, tuple[Plugin, ...]]:
    """Kind -> all plugins, sorted by name and package."""
    apis = {_package_of(entry)[0]: entry.name for entry in entry_points(group=_API_GROUP)}
    found = {}
    for kind, group in KINDS.items():
        entries = [(entry, *_package_of(entry)) for entry in entry_points(group=group)]
        listed = [Plugin(kind, e.name, package, version, e, apis.get(package, "1")) for e, package, version in entries]
        found[kind] = tuple(sorted(listed, key=lambda plugin: (plugin.name, plugin.package)))
    return found


def rescan() -> None:
    """Forget the plugins found, so that the next call looks again: a package was installed or removed meanwhile."""
    _scan.cache_clear()


def _package_of(entry: EntryPoint) -> tuple[str, str]:
    """Name and version of the package that has an entry point, as far as its metadata show."""
    return (entry.dist.name or "unknown", entry.dist.version or "0") if entry.dist else ("unknown", "0")


def installed(kind: str) -> tuple[Plugin, ...]:
    """All plugins of a kind, including those that STMN_PLUGINS excludes, sorted by name and package."""
    return _scan()[kind]


def plugins(kind: str) -> tuple[Plugin, ...]:
    """The plugins of a kind that may be used, sorted by name and package.

    Raises:
        UsageError: STMN_PLUGINS names a package without plugins.
    """
    return tuple(plugin for plugin in installed(kind) if is_on(plugin))


def is_on(plugin: Plugin) -> bool:
    """False for a plugin that STMN_PLUGINS excludes. Raises as `plugins` does."""
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
    """Normalise a package's name, as the package index does."""
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def _is_same(package: str, other: str) -> bool:
    """True if two spellings are the name of one package."""
    return _normalise(package) == _normalise(other)


def describe_unexpected(error: BaseException) -> str:
    """Describe an unexpected error in a line: what it is, and whose code raised it."""
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
    """The entries of an identity that decide a result: all but the API and, for a built-in plugin, the version.

    For built-in plugins, the stage's format stands in for the version.
    """
    without = {"api", "version"} if identity.get("package") == BUILT_IN else {"api"}
    return {key: value for key, value in identity.items() if key not in without}


def name_of(plugin: Plugin) -> str:
    """A plugin's name in options: its own, or `package:name` if another package has that name too."""
    same = [other for other in plugins(plugin.kind) if other.name == plugin.name and other != plugin]
    return f"{plugin.package}:{plugin.name}" if same and plugin.package != BUILT_IN else plugin.name


def names(kind: str) -> list[str]:
    """The names of a kind's plugins, sorted, each once."""
    return sorted({plugin.name for plugin in plugins(kind)})


def offers(kind: str, name: str) -> bool:
    """True if a usable plugin of a kind has this `name`, plain or `PACKAGE:NAME`."""
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
    """The plugin with an identity from a model file or a run: from the same package, in any version.

    Raises:
        PluginError: it is not installed, or it was written, then or now, for another API.
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
    """A line if the plugin with an identity now has another version or other code. Raises as `find_recorded` does."""
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

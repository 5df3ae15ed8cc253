"""The code of a plugin's package: its files, and a hash of them. The code itself is not imported."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

#: suffixes of files that are code
_CODE = (".py", ".c", ".cc", ".cpp", ".cu", ".h", ".pyx", ".so")


def module_of(entry: EntryPoint) -> str:
    """The module that an entry point names; "" if it names none."""
    module = entry.value.partition(":")[0].partition("[")[0].strip()
    return module if all(part.isidentifier() for part in module.split(".")) else ""


def hash_source(entry: EntryPoint) -> str:
    """Hash the code of the package that has an entry point: all that was installed with it, including helpers.

    Nothing of it is imported, except the parents of a package within a namespace.
    """
    found = hashlib.sha256()
    for name, path in sorted(dict(_list_sources(entry)).items()):
        found.update(name.encode("utf-8", "surrogateescape") + b"\0")
        with suppress(OSError):
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def _list_sources(entry: EntryPoint) -> Iterator[tuple[str, Path]]:
    """The files of the package's code: name relative to where it is installed, and path."""
    for file in (entry.dist.files if entry.dist else None) or ():
        if file.suffix in _CODE and not file.name.startswith("__editable__"):
            yield file.as_posix(), Path(str(file.locate()))
    parts = module_of(entry).split(".")
    for depth in range(1, len(parts) + 1):  # skip namespaces, down to the first package or module that has code
        try:
            spec = find_spec(".".join(parts[:depth]))
        except Exception:  # broken code of a parent: importing will report it
            return
        if spec is not None and spec.origin is not None:
            for folder in map(Path, spec.submodule_search_locations or ()):
                for path in folder.rglob("*"):
                    if path.suffix in _CODE:
                        yield path.relative_to(folder.parent).as_posix(), path
            if not spec.submodule_search_locations:
                yield Path(spec.origin).name, Path(spec.origin)
            return
